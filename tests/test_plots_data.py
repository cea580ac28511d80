import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import coco, write_dataset
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from detlib import plots
from detlib.data.folder import open_dataset
from detlib.experiments import LADDER
from detlib.plots import data as figures
from detlib.plots.style import label_places, note, pixel_ticks, plain, rung_label
from detlib.widgets.browser import annotated, frame_browser

KINDS = ("car", "<b>person</b>", "cost $5 or $6", "_hidden")


def hand_made(root, **about):
    """Train: two clips of two frames (one frame empty), 5 boxes; val: one clip of one frame, one box; extended: no frame at all."""
    train = coco([(f"images/train/{name}.png", 256, 64) for name in ("a_1", "a_2", "b_1", "b_2")],
                 [(0, 1, [0, 10, 20, 10]), (0, 1, [100, 10, 40, 10]), (0, 2, [60, 10, 5, 20]), (1, 1, [236, 20, 20, 40]),
                  (2, 3, [10, 10, 80, 50])], KINDS)
    val = coco([("images/val/c_1.png", 256, 64)], [(0, 2, [50, 10, 10, 40])], KINDS)
    return open_dataset(write_dataset(root, {"train": train, "val": val, "train_extended": coco([], [], KINDS)}, **about))


@pytest.fixture
def dataset(tmp_path):
    return hand_made(tmp_path / "hand", panorama=True, size_limits=(16, 32), channels=["intensity", "ambient", "range"])


def texts(figure):
    figure.canvas.draw()
    return [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")) if t.get_text()]


def test_long_names_of_rungs():
    assert rung_label("fpn+anchors=fitted") == "fpn+anchors=fitted"
    assert rung_label("fpn+anchors=fitted+weights=simulated-27ab00-laptop-fpn") == "fpn (anchors, weights changed)"


@pytest.mark.parametrize(("limits", "ticks"), [((13, 40), [15, 20, 30, 40]), ((9, 200), [10, 20, 50, 100, 200]),
                                              ((0.9, 3000), [1, 3, 10, 30, 100, 300, 1000, 3000])])
def test_ticks_of_logarithmic_axes(limits, ticks):
    axis = Figure().subplots()
    pixel_ticks(axis.yaxis, limits)
    assert axis.yaxis.get_major_locator()() == pytest.approx(ticks)


def every_figure(dataset, splits):
    first = next(iter(splits.values()))
    side_by_side = (plots.occurrences, plots.aspect_ratios, plots.size_heatmap, plots.clip_classes, plots.box_map)
    yield from (figure(splits) for figure in side_by_side)
    yield plots.sizes_by_class(splits, dataset.size_limits)
    for split in splits.values():
        yield plots.size_scatter(split)
        yield plots.train_against_val(first, split, resamples=50)
        if len(split):
            yield plots.frames(split, range(len(split)))
            yield plots.frames(split, [0], channels=dataset.channels, strips=1)


def test_counts(dataset):
    splits = plots.counted(dataset)
    table = figures.class_counts(splits)
    assert list(table["train"]) == [3, 1, 1, 0] and list(table["val"]) == [0, 1, 0, 0] and list(table["train_extended"]) == [0] * 4
    table = plots.summary(dataset, splits)
    assert list(table["train"]) == ["4", "2", "5", "1.2", "3 of 4", "1", "2", "40.0 %", "40.0 %", "20.0 %"]  # areas 200 400 100 800 4000
    assert list(table["train_extended"][:4]) == ["0", "0", "0", "-"]
    assert table.index[6] == "boxes at the left or right edge (the seam)" and table.index[7] == "small (< 16² px)"


def test_full_annotations_are_counted_and_said(tmp_path):
    one = coco([("images/train/a_1.png", 64, 64)], [])
    two = coco([(f"images/train/a_{i}.png", 64, 64) for i in (1, 2)], [(1, 1, [1, 1, 9, 9])])
    root = write_dataset(tmp_path, {"train": one, "val": one})
    write_dataset(tmp_path, {"full_train": two}, pictures=False)
    data = open_dataset(root)
    assert {name: split.name for name, split in plots.counted(data).items()} == {"train": "full_train", "val": "val"}
    assert plots.counted_sentence(data) == ("Counting full_train as train (2 frames, 1 of their pictures here), val (1 frames); "
                                            "no train_extended in this data.")


def test_real_numbers(real):
    data = open_dataset(real)
    splits = plots.counted(data)
    counts = figures.class_counts(splits)
    assert dict(counts["train"]) == {"car": 9563, "truck": 123, "bus": 445, "motorcycle": 0, "bicycle": 1043, "scooter": 615,
                                     "person": 4910, "rider": 1588}
    assert {k: v for k, v in counts["val"].items() if v} == {"car": 1437, "bus": 93, "person": 3699, "rider": 315}
    table = plots.summary(data, splits)
    assert list(table.loc["frames"]) == ["1,604", "301"] and list(table.loc["clips"]) == ["16", "3"]
    assert [round(figures.objects(split)["aspect"].median(), 2) for split in splits.values()] == [0.65, 0.28]
    assert "none" in texts(plots.occurrences(splits))


def test_coverage_counts_boxes_over_pixels(dataset):
    cover = figures.coverage(dataset["train"])
    assert cover.shape == (64, 256)
    assert cover[15, 5] == 1 / 4 and cover[15, 15] == 2 / 4 and cover[9, 5] == 0 and cover[15, 110] == 1 / 4
    assert math.isclose(cover.sum() * 4, 200 + 400 + 100 + 800 + 4000)


def test_clip_table(dataset):
    table = figures.clip_table(dataset["train"])
    assert list(table.index) == ["a (2)", "b (2)"]
    assert table.to_numpy().tolist() == [[1.5, 0.5, 0, 0], [0, 0, 0.5, 0]]


def test_resampled_medians_are_numpys_lower_medians():
    rng = np.random.default_rng(0)
    values, clips = rng.lognormal(size=301), rng.integers(5, size=301)
    picks = rng.multinomial(5, np.full(5, 0.2), size=20)
    expected = [np.quantile(np.repeat(values, pick[clips]), 0.5, method="inverted_cdf") for pick in picks]
    np.testing.assert_allclose(figures.resampled_medians(values, clips, picks.astype(float)), expected)
    many, their = rng.lognormal(size=9000), rng.integers(5, size=9000)
    exact = [np.median(np.repeat(many, pick[their])) for pick in picks]
    np.testing.assert_allclose(figures.resampled_medians(many, their, picks.astype(float)), exact, rtol=0.02)
    assert np.isnan(figures.resampled_medians(np.zeros(0), np.zeros(0, int), picks.astype(float))).all()


def test_shares_of_resamples(dataset):
    value, drawn = figures.split_statistics(dataset["train"], resamples=200)["share"]["car"]
    assert value == 60 and set(np.round(drawn, 6)) == {0, 60, 75}  # both clips b; one of each; both clips a


def test_a_class_in_few_clips_gets_no_interval(dataset):
    figure = plots.train_against_val(dataset["train"], dataset["val"], resamples=50)
    markers = [line.get_marker() for ax in figure.axes for line in ax.get_lines()]
    assert markers.count("D") == 7 and "o" not in markers  # <b>person</b> four times, all boxes three times: its share says nothing


@pytest.mark.parametrize("kind", ["normal", "one class", "one split"])
@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_every_figure(tmp_path, dataset, kind):
    if kind == "one class":
        frames = [(f"pic{i}.png", 64, 48) for i in range(2)]
        dataset = open_dataset(write_dataset(tmp_path / "one", {"train": coco(frames, [(0, 1, [1, 1, 9, 9])], ["cell"])}))
    splits = {"train": dataset["train"]} if kind == "one split" else plots.counted(dataset)
    open_before = len(plt.get_fignums())
    for figure in every_figure(dataset, splits):
        bundle, about = figure._repr_mimebundle_()
        assert bundle["image/png"] and bundle["text/plain"].startswith("Figure: ") and about["image/png"]["width"] == 1024
        assert figure.get_suptitle()
    assert len(plt.get_fignums()) == open_before  # pyplot holds none, so none is shown a second time


def test_names_from_data_are_shown_letter_by_letter(dataset):
    shown = texts(plots.occurrences(plots.counted(dataset)))
    assert "<b>person</b>" in shown and r"cost \$5 or \$6" in shown and " _hidden" in shown
    assert plain("x" * 30) == "x" * 21 + "…"


def test_notes_say_n(dataset):
    assert "train: n = 5 boxes, 4 frames, 2 clips" in note(plots.counted(dataset))


def test_colours(dataset):
    many = plots.class_colours([str(i) for i in range(80)])
    assert len(set(many.values())) == 80 and plots.class_colours(["a"]) == {"a": many["0"]}
    assert len({plots.rung_colour(name) for name, _ in LADDER}) == len(LADDER)
    for name, row in (("fpn+weights=imagenet", "fpn"), ("fpn+anchors=report", "report_anchors")):  # half way to white
        assert np.allclose(to_rgb(plots.rung_colour(name)), [(1 + c) / 2 for c in to_rgb(plots.rung_colour(row))], atol=0.003)
    pale = {name: plots.rung_colour(name) for name in ("fpn+anchors=report", "resnet+anchors=report", "fpn+anchors=fitted", "fpn+loss=focal_paper")}
    assert len(set(pale.values())) == 3 and pale["fpn+anchors=report"] == pale["resnet+anchors=report"]
    with pytest.raises(ValueError, match="no rung 'nonsense'"):
        plots.rung_colour("nonsense")
    figure = plots.frames(dataset["train"], [0])
    colours = plots.class_colours(dataset.categories)
    entries = zip(figure.legends[0].texts, figure.legends[0].get_patches(), strict=True)
    legend = {text.get_text(): to_hex(patch.get_facecolor()) for text, patch in entries}
    assert legend == {"car": colours["car"].lower(), "<b>person</b>": colours["<b>person</b>"].lower()}  # those present alone


def test_labels_cover_no_box_and_no_label():
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 200, (60, 2))
    boxes = np.hstack([corner, corner + rng.uniform(3, 30, (60, 2))])
    places = label_places(boxes, [(25, 8)] * 60, (0, 0, 230, 230))
    put = [(*place, place[0] + 25, place[1] + 8) for place in places if place]
    assert 5 < len(put) < 60
    everything = [*put, *boxes]
    for i, a in enumerate(put):
        assert a[0] >= 0 and a[1] >= 0 and a[2] <= 230 and a[3] <= 230
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for j, b in enumerate(everything) if j != i)


def test_a_box_is_drawn_where_it_is(dataset):
    png, fault = annotated(dataset["train"], 0)
    picture = np.array(Image.open(io.BytesIO(png)))
    assert fault == "" and picture.shape == (256, 1024, 3)  # 256 x 64 px, four times
    colour = [round(255 * c) for c in to_rgb(plots.class_colours(dataset.categories)["car"])]
    assert picture[60, 399].tolist() == colour and picture[60, 560].tolist() == colour  # left and right side of 100..140
    assert picture[60, 480].tolist() == [255, 255, 255]  # inside, the painted object


def test_frames_with_detections(dataset):
    torch = pytest.importorskip("torch")
    from detlib.evaluate.coco import Detections
    found = Detections.collect([(torch.tensor([[1.0, 1, 9, 9], [2, 2, 30, 30]]), torch.tensor([1, 2]), torch.tensor([0.9, 0.1]))])
    shown = texts(plots.frames(dataset["val"], [0], detections=found))
    assert "found: 1 with a score of at least 0.3" in shown and "car .90" in shown


def test_missing_picture(tmp_path):
    root = write_dataset(tmp_path, {"train": coco([("a_1.png", 64, 64)], [(0, 1, [1, 1, 9, 9])])}, pictures=False)
    data = open_dataset(root)
    assert any("a_1.png: this picture is listed in train_annotations.json and is not there" in text
               for text in texts(plots.frames(data["train"], [0])))
    browser = frame_browser(data)
    assert "is not there" in browser.parts["line"].value and browser.parts["picture"].value[:4].tobytes().startswith(b"\x89PNG")


def test_browser_follows_its_widgets(dataset):
    parts = frame_browser(dataset).parts
    seen = [bytes(parts["picture"].value)]
    assert "1 of 4" in parts["line"].value and "3 objects" in parts["line"].value

    def changed():
        seen.append(bytes(parts["picture"].value))
        return seen[-1].startswith(b"\x89PNG") and seen[-1] != seen[-2]

    parts["next"].click()
    assert changed() and "2 of 4" in parts["line"].value
    parts["view"].value = 2
    assert changed()
    parts["previous"].click()
    assert changed()
    parts["previous"].click()
    assert changed() and "4 of 4" in parts["line"].value and "0 objects" in parts["line"].value
    parts["category"].value = 2
    assert changed() and "1 of 1" in parts["line"].value and parts["next"].disabled
    assert "<b>person</b>" not in parts["line"].value and "&lt;b&gt;person&lt;/b&gt;" in parts["line"].value
    parts["split"].value = "val"
    assert changed() and "images/val/c_1.png" in parts["line"].value
    parts["split"].value = "train_extended"
    assert changed() and parts["line"].value == "No &lt;b&gt;person&lt;/b&gt; in train_extended."


def test_browser_says_and_raises_what_is_not_the_datas_fault(dataset, monkeypatch):
    parts = frame_browser(dataset, "val").parts
    assert parts["split"].value == "val"
    monkeypatch.setattr("detlib.widgets.browser.annotated", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        parts["view"].value = 1
    assert "cannot be shown: ZeroDivisionError" in parts["line"].value


def test_stacked_shares_add_up(dataset):
    axes = plots.aspect_ratios(plots.counted(dataset)).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["train", "val", "train_extended"]
    assert [round(sum(bar.get_height() for bar in ax.patches), 6) for ax in axes] == [100, 100, 0]
