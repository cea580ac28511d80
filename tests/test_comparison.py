"""The comparison browser: its numbers against Python's, and its controls in a real browser, in a page without Python and with one that answers."""
import base64
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import coco, write_dataset
from ipywidgets import Widget
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from detlib import offline, report
from detlib.data.coco import DataError
from detlib.data.folder import open_dataset
from detlib.evaluate.coco import Detections
from detlib.evaluate.errors import error_of
from detlib.evaluate.outcomes import FALSE_ALARM, outcome
from detlib.experiments import rung
from detlib.runs import Run, run_folder
from detlib.widgets.comparison import COLUMNS, KINDS, MODULE, MOST_DETECTIONS, ComparisonBrowser, compare_browser

URL = "data:text/javascript;base64," + base64.b64encode(MODULE.encode()).decode()
HOSTILE = "<b onmouseover=alert(1)>"
ROOT = "document.querySelector('.comparison-browser').shadowRoot"
SINGLE = {"object_boxes": "<f4", "object_labels": "<u2", "crowd": "u1", **COLUMNS}


@pytest.fixture(scope="module")
def module(browser):
    """A function that evaluates `(m, args) => ...` in the browser, `m` being the widget's module."""
    page = browser.new_page()
    yield lambda body, **args: page.evaluate(f"async ([url, args]) => ({body})(await import(url), args)", [URL, args])
    page.close()


def jittered(split, seed: int, spread: float = 3.0, extra: int = 4) -> Detections:
    """Most objects found, more or less exactly, some twice or under another name, and false alarms: rows in any order, scores on a coarse grid."""
    draw, rows = np.random.default_rng(seed), []
    for frame in range(len(split)):
        height, width = split.frames[frame].image_hw
        boxes, labels = (part.numpy() for part in split.targets(frame))
        for box, label in zip(boxes, labels, strict=True):
            for _ in range(draw.integers(0, 3)):
                named = label if draw.random() < 0.8 else draw.integers(1, len(split.categories) + 1)
                rows.append((frame, named, draw.integers(3, 20) / 20, *(box + draw.normal(0, spread, 4))))
        for _ in range(extra):
            x, y = draw.uniform(0, (width - 30, height - 30))
            rows.append((frame, draw.integers(1, len(split.categories) + 1), draw.integers(2, 16) / 20, x, y, x + 25, y + 20))
    table = np.array(rows, float).reshape(-1, 7)[draw.permutation(len(rows))]
    boxes = np.concatenate([np.minimum(table[:, 3:5], table[:, 5:] - 1), table[:, 5:]], 1)
    return Detections(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], boxes)


NONE = Detections(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros((0, 4)))


def street_of(root, frames=20, size=(512, 128), names=("car", HOSTILE, "rider"), pictures=True, objects=7, seed=0):
    """A split of clips of four frames, as train and as val, with a crowd on the third frame."""
    draw = np.random.default_rng(seed)
    images = [(f"images/val/trip_Video{i // 4:05d}_{i}.png", *size) for i in range(frames)]
    boxes = [(i, draw.integers(1, len(names) + 1).item(), [*draw.uniform(0, (size[0] - 60, size[1] - 50)).round(2).tolist(),
                                                          *draw.uniform(8, 48, 2).round(2).tolist()])
             for i in range(frames) for _ in range(objects)]
    content = coco(images, boxes, names)
    for annotation in content["annotations"]:
        if annotation["image_id"] == 12 and annotation["id"] % 5 == 0:
            annotation["iscrowd"] = 1
    return open_dataset(write_dataset(root, {"train": content, "val": content}, pictures))


@pytest.fixture
def street(tmp_path):
    return street_of(tmp_path / "street")


@pytest.fixture
def two(street):
    return {"fpn": jittered(street["val"], 1), "<b>mine</b>": jittered(street["val"], 2, 8.0, 9)}


def plain(pack: dict) -> dict:
    """A pack for the browser: columns as lists of bytes."""
    return {"columns": {key: list(pack[key]) for key in SINGLE}, "frames": pack["frames"], "edges": pack["edges"]}


UNPACK = """const columns = Object.entries(a.pack.columns).map(([name, bytes]) => [name, new DataView(new Uint8Array(bytes).buffer)]);
    const pack = m.unpacked({...a.pack, ...Object.fromEntries(columns)});"""


# ---- numbers

def test_counts_at_any_score_are_those_of_the_outcomes(module, street, two):
    """One matching, cut by score in the browser, against a matching at each score in Python; on all frames, and a class left out."""
    widget = compare_browser(street, two)
    split = street["val"]
    scores = [0.05, 0.3, 0.5, 0.55, 0.7, 0.9, 1.0, widget.models[0]["best"], widget.models[1]["best"]]
    theirs = module(f"(m, a) => {{ {UNPACK} return a.scores.map(s => [0, 1].map(k => "
                    "[[1, 2, 3], [1, 3]].map(labels => m.countsOf(pack, k, Math.fround(s), new Set(labels))))) }",
                    pack=plain(widget.packed(range(len(split)))), scores=scores)
    table = split.boxes
    for score, models in zip(scores, theirs, strict=True):
        for detections, ways in zip(two.values(), models, strict=True):
            seen = outcome(Detections(detections.frame, detections.label, detections.score.astype("float32").astype(float), detections.boxes),
                           split, np.float32(score))
            for labels, counts in zip(([1, 2, 3], [1, 3]), ways, strict=True):
                objects = seen.objects[np.isin(table["label"].to_numpy()[seen.objects], labels)]
                alarms = seen.false_alarms[np.isin(seen.detections.label[seen.false_alarms], labels)]
                frame, found = table["frame"].to_numpy()[objects], seen.found[objects]
                expected = {"found": np.bincount(frame[found], minlength=len(split)), "missed": np.bincount(frame[~found], minlength=len(split)),
                            "wrong": np.bincount(seen.detections.frame[alarms], minlength=len(split))}
                for kind, values in expected.items():
                    assert [frame[kind] for frame in counts] == values.tolist(), (score, labels, kind)


def test_kinds_are_those_of_the_errors_at_every_score(module, street, two):
    """What a false alarm is called does not depend on the least score, and the browser has the same names in the same places."""
    assert module("m => m.KINDS") == list(KINDS)
    split = street["val"]
    for name, detections in two.items():
        widget = compare_browser(street, {name: detections})
        kinds = np.frombuffer(widget.packed(range(len(split)))["kinds"], "u1")
        for score in (0.05, 0.4, 0.65):
            seen = outcome(detections, split, score)
            named = [KINDS[k] for k in kinds[outcome(detections, split, 0.05).detections.score >= score]]
            assert named == error_of(seen).of_detection.tolist()
        assert {"right", "classification", "duplicate", "background"} <= set(np.take(KINDS, kinds))


HAND = {"frames": [{"objects": [0, 0]}, {"objects": [0, 1]}, {"objects": [1, 4]}], "edges": [[0, 1, 2, 5], [5, 5, 5, 6]],
        "object_boxes": [[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 8]], "object_labels": [1, 1, 2, 1], "crowd": [0, 0, 0, 1],
        "boxes": [[0, 0, 9, 9], [50, 0, 60, 10], [0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [20, 5, 30, 10]],
        "scores": [0.7, 0.6, 0.9, 0.8, 0.3, 0.5], "labels": [1, 1, 1, 1, 2, 2], "objects": [-1, -1, 1, -1, 2, 2],
        "kinds": [KINDS.index(k) for k in ("background", "background", "right", "duplicate", "right", "right")]}


def hand() -> dict:
    """Three frames with no, one and two objects, and a crowd; a false alarm on each by the first model, which finds both; the other, one."""
    return plain({key: np.array(value, SINGLE[key]).tobytes() if key in SINGLE else value for key, value in HAND.items()})


def test_frames_in_the_order_of_a_rule_by_hand(module):
    """F1 of both models together: 0 by one error, 0 by three, 6 / 8."""
    orders = module(f"(m, a) => {{ {UNPACK} return a.all.map(([rule, least, labels]) => "
                    "m.ordered(pack, rule, [least, least], new Set(labels))) }", pack=hand(),
                    all=[["in order", 0, [1, 2]], ["worst first", 0, [1, 2]], ["largest change first", 0, [1, 2]],
                         ["largest change first", 0.95, [1, 2]], ["worst first", 0.65, [2]]])
    assert orders == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [0, 1, 2], [2, 0, 1]]  # the last: frames with nothing of the class come last


def test_overlap_the_nearest_object_and_what_lies_below(module):
    values = module(f"""(m, a) => {{ {UNPACK}
        return [m.overlap(pack.boxes, 3, pack.object_boxes, 1), m.overlap(pack.boxes, 1, pack.object_boxes, 0), m.nearest(pack, 2, 3, true),
          m.nearest(pack, 2, 3, false), m.below(pack, 0, 2, 2), m.below(pack, 1, 2, 1) ?? null] }}""", pack=hand())
    assert values == [pytest.approx(0.8), 0, 1, -1, 4, None]


def test_labels_cover_no_box_and_no_label(module):
    draw = np.random.default_rng(0)
    boxes = np.concatenate([draw.uniform(0, (480, 120), (40, 2)), draw.uniform(4, 30, (40, 2))], 1)
    sizes = np.column_stack([draw.uniform(20, 60, 30), np.full(30, 14.0)])
    places = module("(m, a) => m.labelPlaces(a.boxes, a.sizes, [500, 150])", boxes=boxes.tolist(), sizes=sizes.tolist())
    shown = [(*place, *size) for place, size in zip(places, sizes, strict=True) if place]
    assert 5 < len(shown) < 30
    everything = [*map(tuple, boxes), *shown]
    for k, (x, y, w, h) in enumerate(shown):
        assert x >= 0 and y >= 0 and x + w <= 500 and y + h <= 150
        others = everything[:40 + k] + everything[41 + k:]
        assert not any(x < u + a - 1e-9 and u < x + w - 1e-9 and y < v + b - 1e-9 and v < y + h - 1e-9 for u, v, a, b in others)


def test_regions_stay_inside_and_keep_a_shape(module):
    draw = np.random.default_rng(1)
    for height, width in ((128, 1024), (150, 200), (300, 90)):
        corners = np.sort(draw.uniform(-50, 1.2 * np.array([width, height]), (50, 2, 2)), axis=1)
        for x1, y1, x2, y2 in module("(m, a) => a.all.map(r => m.fitted(r, a.hw))", all=corners.reshape(-1, 4).tolist(), hw=[height, width]):
            assert -1e-9 <= x1 < x2 <= width + 1e-9 and -1e-9 <= y1 < y2 <= height + 1e-9 and x2 - x1 >= 16 - 1e-9
            assert min(0.75, width / height) - 1e-9 <= (x2 - x1) / (y2 - y1) <= max(8, width / height) + 1e-9
    assert module("m => m.fitted([100, 20, 200, 80], [128, 1024])") == [100, 20, 200, 80]
    stack, grid = module("m => [m.layoutOf(1024, 8, 9), m.layoutOf(1024, 4 / 3, 9)]")
    assert stack == {"columns": 1, "width": 1024, "height": 128} and grid["columns"] == 3 and grid["width"] == 330


# ---- Python

def test_each_model_has_its_own_best_score(street, two):
    widget = compare_browser(street, two)
    for model, detections in zip(widget.models, two.values(), strict=True):
        seen = outcome(detections, street["val"])
        assert model["best"] == pytest.approx(seen.score_min, abs=1e-7) and model["f1"] == pytest.approx(seen.f1) and model["cut"] == 0
    assert widget.score is None and widget.classes == [1, 2, 3] and widget.models[0]["colour"] != widget.models[1]["colour"]


def test_what_is_packed_is_what_was_given(street, two):
    widget, split = compare_browser(street, two), street["val"]
    pack = widget.packed([7, 2])
    column = {key: np.frombuffer(pack[key], kind) for key, kind in SINGLE.items()}
    assert [frame["index"] for frame in pack["frames"]] == [7, 2] and pack["frames"][0]["name"] == split.frames[7].file_name
    start, stop = pack["frames"][1]["objects"]
    rows = split.boxes[split.boxes["frame"] == 2]
    assert np.allclose(column["object_boxes"].reshape(-1, 4)[start:stop], rows[["x1", "y1", "x2", "y2"]])
    assert column["crowd"][start:stop].tolist() == rows["crowd"].tolist() and rows["crowd"].any()
    for edges, detections in zip(pack["edges"], two.values(), strict=True):
        mine = detections.of_frame(7, 0.05)
        assert np.allclose(column["boxes"].reshape(-1, 4)[edges[0]:edges[1]], mine.boxes, atol=1e-3)
        assert column["scores"][edges[0]:edges[1]].tolist() == pytest.approx(mine.score)
        seen = outcome(detections, split, 0.05)
        place = column["objects"][edges[1]:edges[2]]
        expected = seen.object_of[seen.detections.frame == 2]
        assert np.array_equal(place >= 0, expected >= 0) and np.array_equal(rows.index.to_numpy()[place[place >= 0] - start], expected[expected >= 0])
    assert (column["kinds"] == 0).sum() == (column["objects"] >= 0).sum() and FALSE_ALARM < 0


def test_twelve_frames_are_kept_by_rule(street, two):
    widget = compare_browser(street, two)
    indices, rules = [frame["index"] for frame in widget.kept["frames"]], widget.kept["rules"]
    assert len(indices) == 12 and indices == sorted(set(indices)) and widget.about["browsed"] == widget.about["frames"] == 20
    told = [rule.split()[0].lower() for rule in rules.values() if rule]
    assert told[:4] == ["median", "best", "worst", "largest"] and str(widget.frame) == next(iter(rules))
    assert all(entry["picture"][8:12] == b"WEBP" and not entry["why"] for entry in widget.kept["pictures"])
    few = compare_browser(street, two, frames=[9, 4, 9])
    assert [frame["index"] for frame in few.kept["frames"]] == [4, 9] and few.about["browsed"] == 2 and few.models == widget.models


def test_what_is_kept_is_bounded(street, two, monkeypatch):
    monkeypatch.setattr("detlib.widgets.comparison.KEPT_BYTES", 30_000)
    widget = compare_browser(street, two)
    assert 1 <= len(widget.kept["frames"]) < 6
    monkeypatch.setattr("detlib.widgets.comparison.MOST_FRAMES", 7)
    assert compare_browser(street, two).about["browsed"] == 7  # every third of 20
    crowd = {"fpn": Detections(np.zeros(150, int), np.ones(150, int), 0.95 - np.arange(150) / 200, np.tile([3.0, 3, 9, 9], (150, 1)))}
    widget = compare_browser(street, crowd)
    assert widget.packed([0])["edges"] == [[0, MOST_DETECTIONS]] and widget.models[0]["cut"] == pytest.approx(0.95 - 100 / 200)


def test_python_answers_with_frames_and_pictures(street, two):
    widget, sent = compare_browser(street, two), []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    widget._answer(widget, {"kind": "all"}, [])
    widget._answer(widget, {"kind": "picture", "frame": 3}, [])
    widget._answer(widget, {"kind": "picture", "frame": 99}, [])
    (everything, columns), (picture, data) = sent
    assert len(everything["frames"]) == 20 and dict(zip(everything["names"], columns, strict=True))["scores"] == widget.packed(range(20))["scores"]
    assert picture == {"kind": "picture", "frame": 3, "why": ""} and data[0][8:12] == b"WEBP"


def test_a_finished_run_is_read_and_another_is_refused(street, two, home):
    experiment = rung("fpn", "smoke")
    run = Run(run_folder(experiment, street), experiment)
    run.folder.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"fpn: this run is not finished; `detlib train fpn.* goes on"):
        compare_browser(street, {"fpn": run})
    (run.folder / "detections.json").write_text(json.dumps(two["fpn"].to_coco(street["val"])))
    (run.folder / "metrics.json").write_text("{}")
    (run.folder / "config.json").write_text(json.dumps({"data": {"val": street["val"].fingerprint}}))
    by_run, given = (compare_browser(street, {"fpn": one}) for one in (run, two["fpn"]))
    assert by_run.kept["scores"] == given.kept["scores"] and by_run.models[0]["seed"] == "seed 0" and given.models[0]["seed"] == ""
    with pytest.raises(ValueError, match="keeps its detections on val; for train"):
        compare_browser(street, {"fpn": run}, "train")
    with pytest.raises(ValueError, match="this run is on the data other-1, not on street"):
        compare_browser(street, {"fpn": Run(run_folder(experiment, "other-1"), experiment)})


def test_wrong_input_is_named(street, two):
    with pytest.raises(ValueError, match="no frame 20: val has frames 0 to 19"):
        compare_browser(street, two, frames=[0, 20])
    with pytest.raises(DataError, match="no test in this data"):
        compare_browser(street, two, "test")
    table = two["fpn"]
    with pytest.raises(ValueError, match=r"fpn: its detections name frames or classes that val of street-.* lacks"):
        compare_browser(street, {"fpn": Detections(table.frame, table.label + 1, table.score, table.boxes)})
    with pytest.raises(ValueError, match="not finite"):
        compare_browser(street, {"fpn": Detections(table.frame, table.label, table.score * np.nan, table.boxes)})


# ---- the page

def page_of(widget: ComparisonBrowser, folder: Path) -> Path:
    """The exported page of a notebook in which the widget was saved as it is."""
    saved = json.loads(json.dumps(Widget.get_manager_state(widgets=[widget])))
    output = new_output("display_data", data={offline.VIEW: {"model_id": widget.model_id}, "text/plain": "ComparisonBrowser()"})
    nbformat.write(new_notebook(cells=[new_code_cell("compare", outputs=[output])], metadata={"widgets": {offline.STATE: saved}}), folder / "n.ipynb")
    return report.export(folder / "n.ipynb", folder / "n.html")


class Opened:
    """A page without a network, the errors on it, and what the widget shows."""

    def __init__(self, browser: object, path: Path, width: int = 1280, serve: object = None):
        self.page, self.errors = browser.new_page(viewport={"width": width, "height": 900}), []
        self.page.route(re.compile("^https?:"), lambda route: (self.errors.append(route.request.url), route.abort()))
        for event in ("pageerror", "requestfailed"):
            self.page.on(event, lambda error: self.errors.append(error))
        self.page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))
        if serve:
            self.page.expose_function("ask", serve)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".comparison-browser[data-drawn]", timeout=20_000)
        self.page.wait_for_timeout(150)  # pictures are decoded
        self.rest()

    def rest(self) -> None:
        """Wait until what was changed is drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))")

    def text(self, selector: str) -> str:
        return self.page.locator(f".comparison-browser {selector}").first.inner_text()

    def captions(self) -> list[str]:
        return self.page.locator(".comparison-browser figcaption").all_inner_texts()

    def counts(self) -> list[list[int]]:
        """Found, missed and false alarms on this frame, and on all, for each model."""
        return [[int(n) for n in re.findall(r"(\d+) (?:found|missed|false)", text)] for text in self.captions()[1:]]

    def pictures(self) -> list[str]:
        return self.page.evaluate(f"[...{ROOT}.querySelectorAll('canvas')].map(c => c.toDataURL())")

    def button(self, name: str) -> object:
        return self.page.locator(".comparison-browser").get_by_role("button", name=name, exact=True)

    def press(self, key: str) -> None:
        self.page.locator(".comparison-browser canvas").first.focus()
        self.page.keyboard.press(key)
        self.rest()

    def changed(self, act: object) -> list[str]:
        """Do something that must change the pictures, and give the new ones."""
        before = self.pictures()
        act()
        self.rest()
        after = self.pictures()
        assert after != before
        return after

    def canvas(self, number: int) -> object:
        return self.page.locator(".comparison-browser canvas").nth(number)


def expected(dataset: object, runs: dict, frame: int, kept: list[int], score: float | None = None) -> list[list[int]]:
    result = []
    for detections in runs.values():
        seen = outcome(detections, dataset["val"], score)
        frames, numbers = dataset["val"].boxes["frame"].to_numpy()[seen.objects], []
        for these in ([frame], kept):
            mine = np.isin(frames, these)
            numbers += [(seen.found[seen.objects] & mine).sum(), (~seen.found[seen.objects] & mine).sum(),
                        np.isin(seen.detections.frame[seen.false_alarms], these).sum()]
        result.append([int(n) for n in numbers])
    return result


def test_the_page_lives_without_python(browser, street, two, tmp_path):
    widget = compare_browser(street, two)
    kept = [frame["index"] for frame in widget.kept["frames"]]
    widget.frame = kept[5]
    opened = Opened(browser, page_of(widget, tmp_path))
    assert opened.page.locator(".comparison-browser canvas").count() == 3 and "12 of the 20 frames" in opened.text(".note")
    assert opened.counts() == expected(street, two, kept[5], kept) and opened.text(".lead") == "6 of 12"
    assert f"(all 20: {outcome(two['fpn'], street['val']).f1:.2f})" in opened.captions()[1]
    assert "<b>mine</b>" in opened.captions()[2] and HOSTILE in opened.text(".chips")
    first = opened.pictures()
    opened.changed(lambda: opened.press("ArrowRight"))
    assert opened.counts() == expected(street, two, kept[6], kept)
    opened.changed(lambda: opened.button("‹ previous").click())
    assert opened.pictures() == first
    opened.changed(lambda: opened.press("-"))
    score = float(re.search(r"([\d.]+) for all", opened.text(".readout"))[1])
    assert opened.counts() == expected(street, two, kept[5], kept, score)
    opened.changed(lambda: opened.button("each at its best").click())
    assert opened.pictures() == first
    opened.changed(lambda: opened.page.locator(".comparison-browser input.score").fill("70"))
    assert opened.counts() == expected(street, two, kept[5], kept, 0.7)
    opened.changed(lambda: opened.press("e"))
    assert opened.button("only errors").get_attribute("aria-pressed") == "true"
    opened.changed(lambda: opened.press("2"))
    opened.changed(lambda: opened.press("0"))
    opened.changed(lambda: opened.press("Escape"))
    assert opened.pictures() == first and not opened.errors
    opened.page.close()


def test_the_order_moves_the_frames(browser, street, two, tmp_path):
    widget = compare_browser(street, two)
    kept = [frame["index"] for frame in widget.kept["frames"]]
    opened = Opened(browser, page_of(widget, tmp_path))
    slider = opened.page.locator(".comparison-browser input[aria-label=frame]")
    def shown():
        return int(re.search(r"frame (\d+) of val", opened.text(".what"))[1])
    assert shown() == widget.frame and "F1" in opened.text(".what")
    opened.page.locator(".comparison-browser select").select_option("worst first")
    opened.rest()
    assert shown() == widget.frame  # the frame stays, its place changes
    slider.fill("0")
    opened.rest()
    f1 = {}
    for frame in kept:
        found, missed, wrong = np.sum([row[:3] for row in expected(street, two, frame, kept)], axis=0)
        f1[frame] = 2 * found / (2 * found + missed + wrong)
    assert f1[shown()] == min(f1.values()) < max(f1.values())
    slider.focus()
    seen = [shown()]
    for _ in range(11):
        opened.page.keyboard.press("ArrowRight")
        opened.rest()
        seen.append(shown())
    assert sorted(seen) == kept and [f1[frame] for frame in seen] == sorted(f1.values())
    assert not opened.errors
    opened.page.close()


def test_a_box_says_what_it_is(browser, tmp_path):
    """By hand: an object that one model finds and the other misses below its best score, and a false alarm of each model."""
    content = coco([("images/a_0.png", 512, 128)], [(0, 1, [100, 40, 40, 40]), (0, 2, [300, 40, 40, 40])], ("car", HOSTILE))
    dataset = open_dataset(write_dataset(tmp_path / "d", {"val": content}))
    def found(*rows):
        label, score, boxes = map(np.array, zip(*rows, strict=True))
        return Detections(np.zeros(len(rows), int), label, score, boxes)
    runs = {"one": found((1, 0.9, [100.0, 40, 140, 80]), (1, 0.8, [100.0, 40, 140, 70]), (2, 0.7, [300.0, 40, 340, 80])),
            "other": found((2, 0.9, [300.0, 40, 340, 80]), (1, 0.2, [100.0, 40, 140, 80]), (2, 0.85, [400.0, 90, 430, 120]))}
    widget = compare_browser(dataset, runs)
    widget.score = 0.6
    opened = Opened(browser, page_of(widget, tmp_path))
    scale = opened.canvas(0).bounding_box()["width"] / 512

    def tip(picture, x, y, click=False):
        canvas = opened.canvas(picture)
        canvas.scroll_into_view_if_needed()
        (canvas.click if click else canvas.hover)(position={"x": x * scale, "y": y * scale})
        opened.rest()
        return opened.text(".tip") if opened.page.locator(".comparison-browser .tip").is_visible() else ""
    assert tip(0, 120, 78) == "car, 40.0 × 40.0 px\nfound by one\nmissed by other"
    assert tip(1, 120, 78) == "Found: car, score 0.90, 40.0 × 40.0 px\nIoU 1.00 with the object"
    before = opened.pictures()
    assert tip(1, 120, 60).startswith("False alarm: car, score 0.80") and "duplicate: IoU 0.75 with an object of class car" in opened.text(".tip")
    assert [a != b for a, b in zip(opened.pictures(), before, strict=True)] == [False, True, False]  # its object is marked already, on all
    assert tip(2, 120, 60) == "Missed: car, 40.0 × 40.0 px\nfound only at score 0.20, below the 0.60 of this picture"
    assert tip(2, 415, 100).endswith("background: it overlaps no object by an IoU of more than 0.1")
    assert HOSTILE in tip(0, 320, 60, click=True)
    assert HOSTILE in tip(1, 20, 20)  # what was clicked stays
    assert tip(1, 20, 20, click=True) == "" == tip(1, 22, 20)
    assert tip(2, 415, 100, click=True)
    opened.press("e")
    assert not opened.page.locator(".comparison-browser .tip").is_visible()  # another picture, and what was said is gone
    assert "missed" in opened.captions()[0] and tip(1, 120, 76) == ""  # what was found is left out
    assert not opened.errors
    opened.page.close()


def test_a_region_is_shown_on_all_pictures(browser, street, two, tmp_path):
    opened = Opened(browser, page_of(compare_browser(street, two), tmp_path))
    first, box = opened.pictures(), opened.canvas(1).bounding_box()

    def drag(keys=(), by=(160, 60)):
        opened.canvas(1).scroll_into_view_if_needed()
        box = opened.canvas(1).bounding_box()
        for key in keys:
            opened.page.keyboard.down(key)
        opened.page.mouse.move(box["x"] + 100, box["y"] + 30)
        opened.page.mouse.down()
        opened.page.mouse.move(box["x"] + 100 + by[0], box["y"] + 30 + by[1], steps=5)
        opened.page.mouse.up()
        for key in keys:
            opened.page.keyboard.up(key)
    zoomed = opened.changed(drag)
    assert len(set(map(len, [zoomed, first]))) == 1 and all(a != b for a, b in zip(zoomed, first, strict=True))
    assert opened.canvas(1).bounding_box()["height"] > box["height"]  # a region that is less wide is drawn higher
    opened.changed(lambda: drag(["Shift"], (-40, 10)))
    opened.changed(lambda: opened.canvas(0).dblclick(position={"x": 5, "y": 5}))
    opened.page.mouse.move(0, 0)
    opened.press("Escape")
    assert opened.pictures() == first

    def wheel(by):
        opened.canvas(1).hover(position={"x": 300, "y": 60})
        opened.page.keyboard.down("Control")
        opened.page.mouse.wheel(0, by)
        opened.page.keyboard.up("Control")
        opened.page.wait_for_timeout(50)
    opened.changed(lambda: wheel(-100))
    assert opened.button("whole picture").get_attribute("aria-disabled") == "false"
    wheel(100)
    wheel(100)
    opened.rest()
    assert opened.button("whole picture").get_attribute("aria-disabled") == "true" and not opened.errors
    opened.page.close()


STAND_IN = """<body><div id=el></div><script type=module>
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)), view = text => new DataView(bytes(text).buffer);
const state = %s, heard = {};
for (const [path, data] of %s) path.slice(0, -1).reduce((at, key) => at[key], state)[path.at(-1)] = view(data);
const model = {get: name => state[name], save_changes() {}, on(event, call) { (heard[event] ??= []).push(call); }, off() {},
  set(name, value) { state[name] = value; (heard["change:" + name] ?? []).forEach(call => call()); },
  async send(message) { for (const [content, buffers] of await ask(message))
    heard["msg:custom"].forEach(call => call(content, buffers.map(view))); }};
(await import("%s")).default.render({model, el: document.getElementById("el")});
</script>"""


def test_python_sends_the_other_frames(browser, street, two, tmp_path):
    """As in JupyterLab: all frames come by a message, and pictures one by one when their frames are shown."""
    widget, asked = compare_browser(street, two), []
    entry = Widget.get_manager_state(widgets=[widget])["state"][widget.model_id]
    state = {key: value for key, value in entry["state"].items() if not key.startswith("_")}
    buffers = [[buffer["path"], buffer["data"].replace("\n", "")] for buffer in entry["buffers"]]
    path = tmp_path / "lab.html"
    path.write_text(STAND_IN % (json.dumps(state).replace("<", "\\u003c"), json.dumps(buffers), URL), "utf-8")

    def serve(message):
        sent = []
        asked.append(message)
        widget.send = lambda content, buffers=None: sent.append([content, [base64.b64encode(b).decode() for b in buffers]])
        widget._answer(widget, message, [])
        return sent
    opened = Opened(browser, path, 1000, serve)
    opened.page.wait_for_function(f"{ROOT}.querySelector('.lead').textContent.includes('of 20')")
    opened.rest()
    kept = [frame["index"] for frame in widget.kept["frames"]]
    other = next(index for index in range(20) if index not in kept)
    assert asked == [{"kind": "all"}] and opened.text(".note") == ""
    opened.page.locator(".comparison-browser input[aria-label=frame]").fill(str(other))
    opened.page.wait_for_timeout(300)
    opened.rest()
    assert opened.counts() == expected(street, two, other, list(range(20)))
    assert asked[1:] == [{"kind": "picture", "frame": other}]
    pixel = opened.page.evaluate(f"new Set({ROOT}.querySelector('canvas').getContext('2d').getImageData(0, 0, 40, 40).data).size")
    assert pixel > 20 and not opened.errors  # noise, not grey
    opened.page.close()


CASES = ["photos", "portraits", "sizes differ", "one class", "twenty classes", "no pictures", "no models", "no detections", "no frames", "one frame",
         "narrow"]


@pytest.mark.parametrize("case", CASES)
def test_any_data_is_shown(browser, tmp_path, case):
    size = {"photos": (200, 150), "portraits": (150, 400)}.get(case, (512, 128))
    names = {"one class": ("$only$",), "twenty classes": tuple(f"class {k}" for k in range(20))}.get(case, ("car", HOSTILE))
    frames = {"no frames": 0, "one frame": 1}.get(case, 3)
    dataset = street_of(tmp_path / "d", frames, size, names, case != "no pictures", 30 if case == "twenty classes" else 5)
    if case == "sizes differ":
        content = coco([("images/a_0.png", 512, 128), ("images/b_0.png", 90, 300)], [(0, 1, [10, 10, 30, 30]), (1, 2, [10, 10, 30, 30])], names)
        dataset = open_dataset(write_dataset(tmp_path / "e", {"val": content}))
    runs = {} if case == "no models" else {name: NONE if case == "no detections" or not frames else jittered(dataset["val"], k)
                                           for k, name in enumerate(("fpn", "focal", "x" * 80))}
    opened = Opened(browser, page_of(compare_browser(dataset, runs), tmp_path), 420 if case == "narrow" else 1280)
    said = {"no models": "No model to compare", "no frames": "has no frames to show"}
    assert (case in said) == (opened.page.locator(".comparison-browser .empty").count() == 1)
    if case in said:
        assert said[case] in opened.text(".empty")
    if case == "no pictures":
        grey = opened.page.evaluate(f"[...{ROOT}.querySelector('canvas').getContext('2d').getImageData(1, 1, 1, 1).data]")
        assert grey[:3] == [0x5A, 0x60, 0x68]
    if case == "no detections":
        assert all("no detections" in text for text in opened.captions()[1:]) and opened.counts()[0][0] == 0
    for key in ("ArrowRight", "ArrowLeft", "1", "-", "e", "+", "0", "Escape"):
        if case == "no frames":
            opened.button("next ›").focus()
            opened.page.keyboard.press(key)
        else:
            opened.press(key)
    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert opened.page.evaluate(f"{ROOT}.host.scrollWidth - {ROOT}.host.clientWidth") <= 0
    assert not opened.errors
    opened.page.close()


def test_a_page_of_many_models_stays_small(street, tmp_path):
    """Eleven models with a hundred detections on every frame, and noisy pictures that compress badly."""
    noise = np.random.default_rng(0)
    for frame in street["val"].frames:
        Image.fromarray(noise.integers(0, 256, (128, 512, 3), dtype=np.uint8)).save(street["val"].root / frame.file_name)
    runs = {f"m{k}": jittered(street["val"], k, extra=100) for k in range(11)}
    widget = compare_browser(street, runs)
    assert len(widget.kept["frames"]) > 3 and page_of(widget, tmp_path).stat().st_size < 2e6
