"""Detections on pictures of any kind with a run's folder alone, and COCO results with a data set's own ids."""
import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coco, write_dataset
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from trained import make_run

from detlib import apply, experiments, predict
from detlib.data.coco import DataError
from detlib.data.folder import open_dataset
from detlib.evaluate.coco import Detections, evaluate
from detlib.models.detector import SCORE_MIN
from detlib.predict import coco_results, detect_each, load_trained, picture_files, predict_images, read_picture, read_results, run_detections


@pytest.fixture
def data(small):
    return open_dataset(small)


@pytest.fixture
def run(data):
    return make_run(data)


def order(found):
    return np.lexsort((found.boxes[:, 0], -found.score, found.frame))


def assert_same(a, b):
    a, b = a.rows(order(a)), b.rows(order(b))
    assert np.array_equal(a.frame, b.frame) and np.array_equal(a.label, b.label)
    assert np.allclose(a.score, b.score, atol=1e-5) and np.allclose(a.boxes, b.boxes, atol=1e-3)


def test_a_run_without_its_data_finds_what_its_validation_found(run, data, small, tmp_path):
    files = [small / frame.file_name for frame in data["val"].frames]
    copies = [Path(shutil.copy(file, tmp_path / f"copy_{k}.png")) for k, file in enumerate(files)]
    wanted = Detections.from_coco(run.detections(), data["val"])
    shutil.rmtree(small)
    trained = load_trained(run.folder)
    assert trained.categories == ("car", "person") and not trained.model.training and len(wanted.score) > 20
    assert_same(predict_images(trained, copies), wanted)


@pytest.mark.parametrize("width, height", [(200, 150), (1, 1), (129, 127), (1024, 128)])
def test_any_size_is_padded_and_never_resized(run, width, height, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    trained, seen = load_trained(run), []
    forward = trained.model.forward
    monkeypatch.setattr(trained.model, "forward", lambda images: seen.append(images.clone()) or forward(images))
    found = predict_images(trained, [tmp_path / "a.png"])
    (batch,) = seen
    assert batch.shape == (1, 3, -(-height // 128) * 128, -(-width // 128) * 128)
    assert np.array_equal(batch[0, :, :height, :width].permute(1, 2, 0).numpy(), pixels)
    assert not batch[..., height:, :].any() and not batch[..., width:].any()
    assert len(found.score) and (found.boxes >= 0).all() and (found.boxes <= [width, height, width, height]).all()


def test_pictures_of_several_sizes_keep_their_order(run, monkeypatch):
    sizes = [(150, 200), (150, 200), (128, 256), (150, 200), (40, 30), (40, 30), (40, 30), (40, 30), (40, 30)]
    pictures = [torch.from_numpy(np.random.default_rng(k).integers(0, 256, (3, *hw), dtype=np.uint8)) for k, hw in enumerate(sizes)]
    trained = load_trained(run)
    together = Detections.collect(list(detect_each(trained, iter(pictures))))
    alone = Detections.collect([next(detect_each(trained, [picture])) for picture in pictures])
    assert_same(together, alone)
    groups = []
    monkeypatch.setattr(predict, "_detect", lambda _, batch, __: groups.append(len(batch)) or [None] * len(batch))
    list(detect_each(trained, pictures))
    assert groups == [2, 1, 1, 4, 1]
    monkeypatch.setattr(predict, "PIXELS", 60_000)  # two of 150 x 200
    groups.clear()
    list(detect_each(trained, [pictures[0]] * 5))
    assert groups == [2, 2, 1]


def test_score_min_is_the_least_score(run, small):
    file = picture_files(small / "images" / "val")[0]
    trained = load_trained(run)
    few, many = (predict_images(trained, [file], score).score for score in (0.99, SCORE_MIN))
    assert few.min() > 0.99 > many.min() and len(few) == (many > 0.99).sum()


def test_every_kind_of_picture_is_read_as_it_looks(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9], [200, 100, 50], [255, 255, 255]]], np.uint8)
    picture = Image.fromarray(colours)
    alpha = picture.convert("RGBA")
    alpha.putalpha(128)
    palette = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=6)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned clockwise
    kinds = {"rgb.png": (picture, colours), "alpha.png": (alpha, colours), "palette.png": (palette, np.array(palette.convert("RGB"))),
             "grey.png": (picture.convert("L"), np.repeat(np.array(picture.convert("L"))[..., None], 3, 2)),
             "black_and_white.png": (Image.fromarray(np.eye(2, 3) > 0), 255 * np.repeat(np.eye(2, 3, dtype=np.uint8)[..., None], 3, 2))}
    for name, (made, wanted) in kinds.items():
        made.save(tmp_path / name)
        assert np.array_equal(read_picture(tmp_path / name).permute(1, 2, 0).numpy(), wanted), name
    picture.save(tmp_path / "turned.png", exif=exif)
    turned = read_picture(tmp_path / "turned.png").permute(1, 2, 0).numpy()
    assert turned.shape == (3, 2, 3) and np.array_equal(turned, np.rot90(colours, -1))


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "note.png").write_text("no picture")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(whole, "png")
    (tmp_path / "half.png").write_bytes(whole.getvalue()[:4000])
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "deep.tif")
    for name in ("note.png", "half.png", "deep.tif"):
        with pytest.raises(ValueError, match=name):
            read_picture(tmp_path / name)
    with pytest.raises(ValueError, match="16 bits"):
        read_picture(tmp_path / "deep.tif")
    with pytest.raises(FileNotFoundError, match="absent"):
        picture_files(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures"):
        picture_files(tmp_path / "empty")


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("clip_10.png", "clip_2.PNG", ".hidden.png", "notes.txt", "clip_1.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in picture_files(tmp_path)] == ["clip_1.jpg", "clip_2.PNG", "clip_10.png"]


def test_a_data_set_named_as_a_folder_of_pictures_says_what_to_do(small):
    with pytest.raises(FileNotFoundError, match="--split"):
        picture_files(small)


def test_a_folder_without_a_finished_run_is_refused_with_a_way_out(run, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no finished run there"):
        predict.finished_run("nowhere")
    with pytest.raises(FileNotFoundError, match="name one of its folders seed0"):
        predict.finished_run(run.folder.parent)
    changed = experiments.Profile(**{**vars(experiments.PROFILES["smoke"]), "width": 0.5})
    with monkeypatch.context() as patch:
        patch.setitem(experiments.PROFILES, "smoke", changed)
        with pytest.raises(ValueError, match="another width"):
            load_trained(run.folder)
    (run.folder / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        load_trained(run.folder)


def test_break_even_leaves_as_many_boxes_as_objects(run):
    scores = [0.9, 0.2, 0.7, 0.4, 0.6]
    (run.folder / "detections.json").write_text(json.dumps([{"score": score} for score in scores]))
    for objects, wanted in ((1, 0.9), (3, 0.6), (5, 0.2), (50, 0.2), (0, 0.5)):
        (run.folder / "metrics.json").write_text(json.dumps({"objects": {"car": objects, "person": 0}}))
        assert predict.break_even(run) == wanted
    (run.folder / "detections.json").write_text("[]")
    assert predict.break_even(run) == 0.5


# ---- COCO results

def other_ids(root):
    """A data set whose category ids are not 1..K in order, and whose val names a class less."""
    images = [(f"images/{{}}/a_{i}.png", 256, 128) for i in range(4)]
    boxes = [(i, 1 + i % 3, [20.0 + 30 * i, 40.0, 32.0, 24.0]) for i in range(4)] + [(0, 2, [150.5, 60.25, 16.1, 40.7])]
    splits = {}
    for split, ids in (("train", {1: 17, 2: 3, 3: 90}), ("val", {1: 90, 2: 44})):
        content = coco([(name.format(split), w, h) for name, w, h in images], [b for b in boxes if b[1] in ids], ("car", "person", "<b>$"))
        for entry in content["annotations"]:
            entry["category_id"] = ids[entry["category_id"]]
        content["categories"] = [{"id": ids[c["id"]], "name": c["name"]} for c in content["categories"] if c["id"] in ids]
        splits[split] = content
    return write_dataset(root, splits, size_limits=[16, 32])


def pycocotools_map(annotations, results):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.params.maxDets = [1, 10, 100]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats[0]


def near_truth(split, labels):
    """Detections around the objects and elsewhere, with those labels among them."""
    draw, frames = np.random.default_rng(3), np.repeat(split.boxes["frame"].to_numpy(), 3)
    boxes = np.repeat(split.boxes[["x1", "y1", "x2", "y2"]].to_numpy(), 3, 0) + draw.normal(0, 2, (len(frames), 4))
    return Detections(frames, draw.choice(labels, len(frames)), draw.uniform(0, 1, len(frames)), boxes)


def test_results_with_the_files_own_ids_read_back_to_the_same_map(tmp_path):
    root = other_ids(tmp_path / "ids")
    data = open_dataset(root)
    assert data.categories == ("person", "car", "<b>$")  # in the order of train's ids
    val, found = data["val"], near_truth(data["val"], [1, 1, 2, 3])
    results = json.loads(json.dumps(coco_results(found, val)))
    assert {entry["category_id"] for entry in results} == {44, 90} and len(results) == (found.label != 3).sum()
    wanted, again = evaluate(found, val, data), evaluate(read_results(results, val), val, data)
    assert wanted["mAP"] > 0.05 and again["mAP"] == pytest.approx(wanted["mAP"], abs=1e-9)
    assert again["per_class"] == pytest.approx(wanted["per_class"], abs=1e-9)
    assert pycocotools_map(root / "val_annotations.json", results) == pytest.approx(wanted["mAP"], abs=1e-9)


def test_results_of_another_split_are_refused(tmp_path):
    data = open_dataset(other_ids(tmp_path / "ids"))
    with pytest.raises(DataError, match="another split"):
        read_results([{"image_id": 10, "category_id": 17, "bbox": [0, 0, 1, 1], "score": 1.0}], data["val"])
    with pytest.raises(DataError, match="image 99"):
        read_results([{"image_id": 99, "category_id": 44, "bbox": [0, 0, 1, 1], "score": 1.0}], data["val"])
    assert predict.category_ids(data["train"]) == {"person": 3, "car": 17, "<b>$": 90}


def test_an_export_is_worth_what_the_run_is_worth(tmp_path):
    data = open_dataset(other_ids(tmp_path / "ids"))
    run = make_run(data)
    said = apply.export_results(run, data, "val", tmp_path / "out" / "results.json")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert said["detections"] == len(results) and len(results) + said["left out, their class has no id there"] == len(run.detections())
    found = evaluate(read_results(results, data["val"]), data["val"], data)
    assert found["mAP"] == pytest.approx(run.metrics["mAP"], abs=1e-9)
    assert pycocotools_map(tmp_path / "ids" / "val_annotations.json", results) == pytest.approx(run.metrics["mAP"], abs=1e-9)


def test_kept_detections_are_used_only_where_they_belong(run, data, small, monkeypatch):
    monkeypatch.setattr(predict, "load_trained", lambda _: pytest.fail("predicted again"))
    assert_same(run_detections(run, data), Detections.from_coco(run.detections(), data["val"]))
    monkeypatch.undo()
    assert run_detections(run, data, "train").frame.max() == 5
    content = json.loads((small / "val_annotations.json").read_text())
    content["annotations"].pop()
    (small / "val_annotations.json").write_text(json.dumps(content))
    (run.folder / "detections.json").write_text("[]")
    assert len(run_detections(run, open_dataset(small)).score)
    for file in small.glob("*_annotations.json"):
        file.write_text(file.read_text().replace('"person"', '"dog"'))
    with pytest.raises(ValueError, match=r"person.*dog"):
        run_detections(run, open_dataset(small))


# ---- what the verb writes

def test_a_folder_of_pictures_becomes_json_and_drawn_pictures(run, small, tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    for k, size in enumerate([(200, 150), (256, 128)]):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(folder / f"p_{k}.jpg")
    said = apply.predict_source(run, folder, tmp_path / "out", draw=True)
    text = (tmp_path / "out" / "detections.json").read_text()
    content = json.loads(text)
    assert str(tmp_path) not in text and content["classes"] == ["car", "person"]
    assert [(p["file"], p["width"], p["height"]) for p in content["pictures"]] == [("p_0.jpg", 200, 150), ("p_1.jpg", 256, 128)]
    trained = load_trained(run)
    for k, picture in enumerate(content["pictures"]):
        found = predict_images(trained, [folder / picture["file"]])
        assert [d["score"] for d in picture["detections"]] == pytest.approx(found.of_frame(0).score.tolist(), abs=1e-4)
        assert picture["detections"][0]["box"] == pytest.approx(found.of_frame(0).boxes[0].tolist(), abs=0.01)
        assert picture["detections"][0]["class"] == trained.categories[found.of_frame(0).label[0] - 1]
        assert Image.open(tmp_path / "out" / "pictures" / f"p_{k}.jpg.png").width == 200 * 5 if k == 0 else 1024
    assert said["pictures"] == 2 and said["detections"] == sum(len(p["detections"]) for p in content["pictures"])


def test_a_split_becomes_results_and_drawn_frames(run, data, tmp_path):
    said = apply.predict_split(run, data, "val", tmp_path / "out", draw=True)
    results = json.loads((tmp_path / "out" / "val_results.json").read_text())
    assert said["pictures"] == 3 and len(results) == said["detections"] == len(run.detections())
    assert len(list((tmp_path / "out" / "pictures").glob("*.png"))) == 3
