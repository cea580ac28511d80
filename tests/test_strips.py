"""One frame through several models: what the pictures say is what happened, and every kind of frame can be drawn."""
import numpy as np
import pytest
from conftest import coco, write_dataset

from detlib.data.folder import open_dataset
from detlib.evaluate.coco import Detections
from detlib.evaluate.outcomes import outcome
from detlib.plots.strips import _model, crowded_window, picture, strips, through_rungs


def found(rows):
    """Detections from (frame, label, score, x1, y1, x2, y2)."""
    table = np.array(rows, float).reshape(-1, 7)
    return Detections(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], table[:, 3:])


def dataset(folder, wide, high, boxes, names=("car", "person"), **options):
    content = coco([("images/a_0.png", wide, high), ("images/b_0.png", wide, high)], boxes, names)
    return open_dataset(write_dataset(folder / "d", {"train": content, "val": content}, **options))["val"]


BOXES = [(0, 1, [10, 10, 20, 20]), (0, 1, [60, 10, 20, 20]), (0, 2, [100, 10, 10, 30]), (1, 1, [10, 10, 20, 20])]
ROWS = [(0, 1, 0.8, 10, 10, 30, 30),  # the first car
        (0, 1, 0.7, 11, 10, 31, 30),  # it again: a false alarm
        (0, 2, 0.6, 60, 10, 80, 30),  # the second car, called a person
        (1, 1, 0.5, 10, 10, 30, 30)]


def test_a_model_is_told_as_found_missed_and_false(tmp_path):
    split = dataset(tmp_path, 512, 128, BOXES)
    panel = _model(split, 0, "fpn", outcome(found(ROWS), split, 0.55))
    assert panel.told == "1 found, 2 missed, 2 false alarms, score ≥ 0.55"
    assert panel.crossed.tolist() == [True, True, False, False, False] and panel.dashed.tolist() == [False, False, False, True, True]
    assert panel.boxes[:, 0].tolist() == [11, 60, 10, 60, 100] and panel.labels.tolist() == [1, 2, 1, 1, 2]
    assert _model(split, 1, "fpn", outcome(found(ROWS), split, 0.55)).told.startswith("0 found, 1 missed, 0 false alarms")


def test_a_detection_on_a_crowd_is_neither_found_nor_false_nor_a_crowd_missed(tmp_path):
    content = coco([("images/a_0.png", 512, 128)], [(0, 2, [50, 20, 100, 40])])
    content["annotations"][0]["iscrowd"] = 1
    split = open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}))["val"]
    panel = _model(split, 0, "fpn", outcome(found([(0, 2, 0.9, 60, 20, 100, 50)]), split, 0.0))
    assert panel.told.startswith("0 found, 0 missed, 0 false alarms") and not len(panel.boxes)


def test_lines_tell_found_missed_and_false_alarm_apart(tmp_path):
    split = dataset(tmp_path, 512, 128, BOXES)
    axes = strips(split, 0, {"fpn": outcome(found(ROWS), split, 0.55)}).axes[2]
    boxes = [patch for patch in axes.patches if not patch.get_fill()]
    solid = {patch.get_x() + 0.5: patch.get_linestyle() == "-" for patch in boxes if patch.get_x() in (9.5, 99.5)}
    assert solid == {10: True, 100: False}
    named = {text.get_text() for text in axes.texts}
    assert "person .60" in named and named <= {"car .70", "person .60", "car .80"}  # the missed ones have no name
    marks = axes.collections[0].get_offsets()
    assert marks.tolist() == [[20.5, 19.5], [69.5, 19.5]]  # in the middle of both false alarms


def test_all_models_stand_below_frame_and_truth(tmp_path):
    split = dataset(tmp_path, 512, 128, BOXES)
    figure = strips(split, 0, {"flip": found(ROWS), "fpn": outcome(found([]), split)}, title="best frame", more="seed 0")
    told = [text.get_text() for text in figure.texts]
    assert [name for name in told if name in ("frame", "ground truth", "flip", "fpn")] == ["frame", "ground truth", "flip", "fpn"]
    assert "3 objects" in told and "0 found, 3 missed, 0 false alarms, score ≥ 0.00" in told and any(text.endswith("seed 0") for text in told)
    tops = [axes.get_position().y1 for axes in figure.axes]
    assert tops == sorted(tops, reverse=True) and all(axes.get_position().x0 == 0 for axes in figure.axes)
    assert figure.get_suptitle() == "best frame"
    with pytest.raises(ValueError, match="at least one"):
        strips(split, 0, {})


def test_the_window_is_where_most_objects_are(tmp_path):
    scattered = [(0, 1, [40 + 180 * k, 50, 10, 10]) for k in range(4)]
    crowd = [(0, 1, [700 + 20 * k, 40 + 5 * k, 10, 30]) for k in range(6)]
    x1, y1, x2, y2 = crowded_window(dataset(tmp_path, 1024, 128, scattered + crowd), 0)
    assert (y1, y2) == (0, 128) and x2 - x1 == pytest.approx(128 * 4 / 3)
    # the six centres from 705 to 805, no scattered one (585 is more than the window's width away from 805)
    assert (x1 + x2) / 2 == pytest.approx(755)


@pytest.mark.parametrize(("wide", "high", "boxes", "window"), [
    (640, 480, [(0, 1, [600, 440, 30, 30])], (320, 240, 640, 480)),  # moved inside
    (200, 150, [], (50, 37.5, 150, 112.5)),  # nothing there: the middle
    (480, 640, [(0, 1, [0, 0, 480, 640])], (120, 230, 360, 410)),  # an object larger than the window
    (1024, 128, [(0, 1, [0, 0, 10, 10]), (0, 1, [1000, 0, 10, 10])], (0, 0, 512 / 3, 128))])  # equal: the first
def test_windows_by_hand(tmp_path, wide, high, boxes, window):
    assert crowded_window(dataset(tmp_path, wide, high, boxes, pictures=False), 0) == pytest.approx(window)


def test_the_window_is_the_same_for_all(tmp_path):
    split = dataset(tmp_path, 1024, 128, BOXES)
    x1, y1, x2, y2 = crowded_window(split, 0)
    models = {f"model {k}": outcome(found(ROWS), split, 0.0) for k in range(10)}
    zoomed, through = strips(split, 0, models, zoom=True), through_rungs(split, 0, models)
    assert len(zoomed.axes) == 12 and len(through.axes) == 12
    for axes in (*zoomed.axes, *through.axes[1:]):
        assert axes.get_xlim() == pytest.approx((x1 - 0.5, x2 - 0.5)) and axes.get_ylim() == pytest.approx((y2 - 0.5, y1 - 0.5))
    assert through.axes[0].get_xlim() == (-0.5, 1023.5)
    assert {round(axes.get_position().x0, 3) for axes in zoomed.axes} == {0.0, 0.336, 0.672}


def test_a_missing_picture_is_grey_and_said(tmp_path):
    split = dataset(tmp_path, 512, 128, BOXES, pictures=False)
    pixels, fault = picture(split, 0)
    assert pixels.shape == (128, 512, 3) and len(np.unique(pixels)) == 1
    assert fault.startswith("images/a_0.png: this picture is listed in val_annotations.json and is not there")
    figure = strips(split, 0, {"fpn": found(ROWS)})
    assert all("is not there" in " ".join(text.get_text() for text in axes.texts) for axes in figure.axes)


@pytest.mark.parametrize(("wide", "high", "names"), [
    (200, 150, ("<b>", "$x$")), (640, 480, tuple(f"class {k}" for k in range(20))), (480, 640, ("_",)), (3000, 20, ("car", "person"))])
def test_any_frame_can_be_drawn(tmp_path, wide, high, names):
    split = dataset(tmp_path, wide, high, [(0, len(names), [5, 2, 30, 12]), (0, 1, [60, 4, 12, 9])], names)
    models = {"$a$": outcome(found([(0, 1, 0.9, 60, 4, 72, 13), (0, len(names), 0.8, 100, 2, 120, 14)]), split, 0.0), "_": found([])}
    figures = strips(split, 0, models), strips(split, 1, models, zoom=True), through_rungs(split, 0, models)
    assert all(figure.png().startswith(b"\x89PNG") for figure in figures)
