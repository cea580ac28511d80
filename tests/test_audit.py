"""The label audit: tracks on tiny clips by hand, errors planted exactly, and the audit judged on a clip film whose errors are known."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import coco, write_dataset

from detlib.audit import FEWEST, SHAPE, findings, judge, outcomes
from detlib.audit import chances as chances_module
from detlib.audit.chances import FOLDS, chances, folds, truth
from detlib.audit.evidence import Places, iou, places
from detlib.data.coco import DataError
from detlib.data.planting import BOX, KINDS, SIMILAR, plant, similar_classes
from detlib.evaluate.coco import Detections
from detlib.plots.audit import findings_sheet, precision_by_rank
from detlib.runs import open_data
from detlib.tracks import Motion, link, stretches

NAMES = ("<b>car</b>", "per$on", "Straßenbahn")


def film(root, clips=6, frames=5, panorama=True, names=NAMES, pictures=True, objects=7):
    """Clips in which cars, persons and trams go their ways, each painted in its class's grey by `write_dataset`'s white on noise."""
    draws, images, boxes = np.random.default_rng(3), [], []
    for clip in range(clips):
        images += [(f"images/c{clip}_{k}.png", 512, 64) for k in range(frames)]
        for thing in range(objects):
            label = 1 + thing % len(names)
            w, h = ((24, 14), (8, 22), (44, 26))[label % 3]
            x, y, step = 28 + 60 * thing + draws.integers(8), draws.integers(20, 63 - h), draws.integers(-6, 7)
            boxes += [(clip * frames + k, label, [float(x + k * step), float(y), float(w), float(h)]) for k in range(frames)]
    return open_data(write_dataset(root, {"train": coco(images, boxes, names)}, pictures=pictures, panorama=panorama, name="film"))


def lane(root, shift, panorama=False, drop=(), extra=()):
    """One clip of five frames: nine objects that all move `shift` px a frame to the right."""
    xs = range(10, 220, 25)
    boxes = [(k, 1 + (n == 1), [float((x + shift * k) % 256 if panorama else x + shift * k), 40.0 + n, 12.0, 20.0])
             for k in range(5) for n, x in enumerate(xs) if (k, n) not in drop]
    images = [(f"images/trip_{k}.png", 256, 128) for k in range(5)]
    return open_data(write_dataset(root, {"train": coco(images, [*boxes, *extra])}, panorama=panorama, name="lane"))["train"]


def test_a_shared_motion_is_no_motion_of_its_own(tmp_path):
    """All objects move alike: each is one track, and the flow takes all of it."""
    split = lane(tmp_path, 3)
    tracks = link(Motion(split, False))
    assert sorted(len(track.rows) for track in tracks) == [5] * 9
    x = split.boxes["x1"].to_numpy()
    assert all(np.diff(x[track.rows]).tolist() == [3.0] * 4 for track in tracks)
    motion = Motion(split, False)
    moved = motion.carried(motion.states[motion.rows(0)], 0, 4)
    assert np.abs(moved - motion.states[motion.rows(4)]).max() < 0.2


def test_objects_cross_the_seam_of_a_panorama_only(tmp_path):
    boxes = [(k, 1, [float((236 + 6 * k) % 256), 40.0, 10.0, 20.0]) for k in range(5)]  # 236, 242, 248 (cut), 254 (cut), 4
    boxes = [box for box in boxes if box[2][0] + 10 <= 256]
    images = [(f"images/trip_{k}.png", 256, 128) for k in range(5)]
    for panorama, count in ((True, 1), (False, 2)):
        split = open_data(write_dataset(tmp_path / str(panorama), {"train": coco(images, boxes)}, panorama=panorama, name="seam"))["train"]
        assert len(link(Motion(split, panorama))) == count


def test_a_clip_is_torn_where_its_numbers_jump(tmp_path):
    split = lane(tmp_path, 3)
    numbers = (0, 2, 4, 40, 42)
    frames = tuple(replace(frame, number=number) for frame, number in zip(split.frames, numbers, strict=True))
    assert stretches(frames) == [[0, 1, 2], [3, 4]]
    assert stretches(split.frames) == [[0, 1, 2, 3, 4]]
    apart = tuple(replace(frame, number=25 * frame.number) for frame in split.frames)
    assert stretches(apart) == [[0], [1], [2], [3], [4]], "frames that far apart are no film"


def test_a_missing_box_is_expected_at_its_place(tmp_path):
    split = lane(tmp_path, 3, drop={(2, 3)})
    at = places(split, Motion(split, False), None)
    gone = np.flatnonzero((at.row < 0) & (at.frame == 2))
    assert len(gone) == 1 and split.categories[at.label[gone[0]] - 1] == "car"
    assert np.abs(at.boxes[gone[0]] - [91, 43, 103, 63]).max() < 0.5
    assert at.time.loc[gone[0], ["before", "after", "lag"]].tolist() == [2, 2, 1]


def test_a_shifted_box_is_off_by_what_it_was_shifted(tmp_path):
    split = lane(tmp_path, 3)
    row = int(np.flatnonzero((split.boxes["frame"] == 2) & (split.boxes["y1"] == 43))[0])
    boxes = split.boxes.copy()
    boxes.loc[row, ["x1", "x2"]] += 6.0
    split = replace(split, boxes=boxes)
    at = places(split, Motion(split, False), None)
    assert at.time.loc[row, "both_x"] == pytest.approx(0.5, abs=0.1)  # 6 of 12 px; the flow takes a little of it for its own
    assert np.abs(at.expected[row] - [91, 43, 103, 63]).max() < 1
    assert at.time["both_x"].abs().drop(row).max() < 0.35


def test_a_detection_without_a_box_is_a_place(tmp_path):
    split = lane(tmp_path, 3)
    found = Detections(np.array([1, 1]), np.array([2, 1]), np.array([0.9, 0.8]), np.array([[100.0, 90, 112, 110], [13.0, 40, 25, 60]]))
    at = places(split, Motion(split, False), found)
    fresh = np.flatnonzero((at.row < 0) & np.isnan(at.expected[:, 0]))
    assert at.boxes[fresh].tolist() == [[100.0, 90, 112, 110]] and at.label[fresh].tolist() == [2]  # the other one is on an annotated box


def test_planted_errors_are_what_the_table_says(tmp_path):
    clean = film(tmp_path, pictures=False)["train"]
    wrong, planted = plant(clean, 0.2, seed=3)
    assert len(clean.boxes) == 210 and planted["kind"].value_counts().to_dict() == {"shifted": 11, "missing": 11, "spurious": 10, "class": 10}
    assert len(wrong.boxes) == len(clean.boxes) - 11 + 10 and wrong.fingerprint != clean.fingerprint
    before, after = clean.boxes.set_index("annotation"), wrong.boxes.set_index("annotation")
    own = planted.set_index("annotation")
    for name, error in own[own["kind"] == "shifted"].iterrows():
        moved = (after.loc[name, BOX] - before.loc[name, BOX]).to_numpy(float)
        share = np.abs(moved[:2]) / before.loc[name, ["width", "height"]].to_numpy(float)
        assert moved[:2].tolist() == moved[2:].tolist() and min(share) == 0 and 0.3 <= max(share) <= 0.6 and moved[:2].sum() % 1 == 0
        assert error[BOX].tolist() == before.loc[name, BOX].tolist() and 1 / 4 - 1e-9 <= iou(error[BOX].to_numpy(float),
                                                                                           after.loc[name, BOX].to_numpy(float)).item() <= 0.7 / 1.3
    for name, error in own[own["kind"] == "class"].iterrows():
        assert error["category"] == before.loc[name, "category"] != after.loc[name, "category"]
        assert after.loc[name, "label"] == wrong.categories.index(after.loc[name, "category"]) + 1
    same = before.index.intersection(after.index).difference(own.index)
    assert before.loc[same].equals(after.loc[same]) and len(before.index.difference(after.index)) == 11
    assert (after["width"] == after["x2"] - after["x1"]).all() and (after.loc[after.index < 0, "x1"] % 1 == 0).all()
    again = plant(clean, 0.2, seed=3)[1]
    assert again.equals(planted) and not plant(clean, 0.2, seed=4)[1].equals(planted)


def test_classes_are_swapped_within_their_group():
    data = pd.DataFrame({"category": ["car", "bus", "person", "rider", "tree"], "size": [30.0, 60, 10, 12, 100]})
    swaps = similar_classes(type("Split", (), {"boxes": data, "categories": tuple(data["category"])}))
    assert swaps == {"car": ["bus"], "bus": ["car"], "person": ["rider"], "rider": ["person"], "tree": ["bus"]}
    assert ("person", "rider") in SIMILAR


def test_what_cannot_be_planted_is_refused(tmp_path):
    split = film(tmp_path / "a", pictures=False)["train"]
    with pytest.raises(DataError, match="use a larger share"):
        plant(split, 0.01)
    one = film(tmp_path / "b", names=("thing",), pictures=False)["train"]
    assert set(plant(one, 0.1)[1]["kind"]) == {"missing", "spurious", "shifted"}


def test_judge_counts_the_first_n_of_a_kind():
    """Two boxes are missing: of the first two findings one is right; the third finds the other; the fourth finds the first once more."""
    def row(frame, x, annotation=-1):
        return {"kind": "missing", "frame": frame, "annotation": annotation, "x1": x, "y1": 0.0, "x2": x + 10.0, "y2": 10.0}
    planted = pd.DataFrame([row(0, 0.0), row(1, 50.0)])
    found = pd.DataFrame([row(0, 3.0), row(0, 80.0), row(1, 50.0), row(0, 0.0)])  # IoU of the first 7 / 13
    told = outcomes(found, planted)
    assert told[["rank", "right", "first"]].values.tolist() == [[0, True, True], [1, False, True], [2, True, False], [3, False, False]]
    table = judge(told.assign(seed=0, clip=["a", "a", "b", "a"]))
    assert table[["kind", "planted", "right", "precision", "found"]].values.tolist() == [["missing", 2, 1, 0.5, 1.0], ["all", 2, 1, 0.5, 1.0]]
    assert judge(outcomes(found.iloc[:1], planted).assign(seed=0, clip="a"))["found"].tolist() == [0.5, 0.5]


def test_errors_of_a_film_come_first(tmp_path, monkeypatch):
    """One error of each kind, made by hand, is the first finding of its kind."""
    monkeypatch.setattr("detlib.audit.crops.STEPS", 100)
    monkeypatch.setattr("detlib.audit.crops.EPOCHS", (6, 12))
    monkeypatch.setattr(chances_module, "LESSONS", (3, 4))
    data = film(tmp_path)
    split = data["train"]
    boxes = split.boxes.copy()
    middle = boxes[boxes["frame"].isin(np.flatnonzero([frame.number == 2 for frame in split.frames]))]
    cars = {clip: rows[(rows["category"] == NAMES[0]) & rows["x1"].between(30, 440)].iloc[0] for clip, rows in middle.groupby("clip")}
    gone, moved, other, copied = (cars[split.clips[k]] for k in range(4))
    boxes.loc[moved.name, ["x1", "x2"]] += 4.0  # of 8 px
    boxes.loc[other.name, ["category", "label"]] = [NAMES[2], 3]
    more = boxes.loc[[copied.name]].assign(annotation=999, y1=0.0, y2=14.0, x1=copied["x1"] + 20, x2=copied["x2"] + 20)
    boxes = pd.concat([boxes.drop(gone.name), more]).sort_values("frame", kind="stable", ignore_index=True)
    found = findings(replace(split, boxes=boxes), data)
    first = found.drop_duplicates("kind").set_index("kind")
    assert first.loc["shifted", "annotation"] == moved["annotation"]
    assert first.loc["class", ["annotation", "category", "right_category"]].tolist() == [other["annotation"], NAMES[2], NAMES[0]]
    assert first.loc["spurious", "annotation"] == 999
    assert first.loc["missing", ["frame", "annotation", "category"]].tolist() == [gone["frame"], -1, NAMES[0]]
    assert iou(first.loc["missing", BOX].to_numpy(float), gone[BOX].to_numpy(float)).item() > 0.7
    assert found["score"].dropna().between(0, 1).all() and found["score"].dropna().is_monotonic_decreasing
    assert not found[found["annotation"] != -1]["annotation"].duplicated().any()  # one finding an error
    figure = findings_sheet(replace(split, boxes=boxes), found, 4, panorama=True)
    assert figure.png()[:4] == b"\x89PNG" and any("car" in text.get_text() for text in figure.texts)


def test_no_fold_learns_from_itself(tmp_path, monkeypatch):
    """The network and the trees of a fold never see a box of its clips, right or planted."""
    whole, seen = film(tmp_path, clips=FOLDS, frames=6, objects=6)["train"], []
    split = whole.subset([k for k, frame in enumerate(whole.frames) if frame.clip == whole.clips[1] or frame.number < 4])  # the others are shorter
    monkeypatch.setattr(chances_module, "learn", lambda crops, split, rows, seed: seen.append(set(split.boxes["clip"].iloc[rows])) or
                        (lambda frame, boxes: np.tile([0.3, 0.3, 0.3, 0.8, 0.1, 0.1, 0.0, 0.0], (len(frame), 1))))

    class Trees:
        def __init__(self, **options):
            pass

        def fit(self, table, kinds):
            self.most = table["until"].max()
            self.classes_ = np.array([-1, 0, 1, 2, 3])

        def predict_proba(self, table):
            return np.full((len(table), 5), self.most)
    monkeypatch.setattr(chances_module, "HistGradientBoostingClassifier", Trees)
    monkeypatch.setattr(chances_module, "KNOWN", 1)
    at, chance, _, _ = chances(split, True, None, 0)
    assert seen == [set(split.clips) - {clip} for clip in split.clips]
    fold = folds(split)[at.frame]
    assert (chance[fold != 1].max(axis=1) == 5).all() and (chance[fold == 1].max(axis=1) == 3).all()  # frames until the end of the longest clip
    counts = [[(split.boxes["label"][folds(split)[split.boxes["frame"]] != k] == label).sum() for label in (1, 2, 3)] for k in range(FOLDS)]
    monkeypatch.setattr(chances_module, "KNOWN", np.unique(counts)[1])  # now some class is too rare in the other clips to be judged
    at, chance, _, _ = chances(split, True, None, 0)
    assert ((chance.max(axis=1) > 0) == (np.array(counts)[folds(split)[at.frame], at.label - 1] >= np.unique(counts)[1])).all()


def test_truth_says_what_was_planted_where():
    boxes = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [2, 20, 12, 30], [90, 20, 99, 30]])
    one, beside = np.ones(5, int), np.full((5, 2), -1)
    at = Places(np.array([0, 1, 2, -1, -1]), 0 * one, one, boxes, boxes, one, beside, pd.DataFrame(index=range(5)))
    split = type("Split", (), {"boxes": pd.DataFrame({"annotation": [7, 8, -2]})})
    planted = pd.DataFrame({"kind": ["shifted", "spurious", "missing"], "frame": 0, "annotation": [8, -2, -1],
                            **dict(zip(BOX, (0.0, 20.0, 10.0, 30.0), strict=True))})
    assert [KINDS[k] if k >= 0 else "" for k in truth(at, split, planted)] == ["", "shifted", "spurious", "missing", ""]


def test_too_few_boxes_are_judged_by_their_sides_alone(tmp_path):
    """Twenty boxes of one size and one of five times its height: nothing can be learned, and it says so by having no probability."""
    images = [(f"images/p{k}.png", 256, 128) for k in range(7)]
    boxes = [(k, 1, [20.0 + 40 * n, 90.0 - k - 2 * n, 20.0, 20.0 + k]) for k in range(7) for n in range(3)]
    boxes[10] = (3, 1, [60.0, 10.0, 20.0, 110.0])
    data = open_data(write_dataset(tmp_path, {"train": coco(images, boxes)}, name="few"))
    found = findings(data["train"], data)
    assert found[["kind", "annotation"]].values.tolist() == [[SHAPE, 110]] and found["score"].isna().all() and len(boxes) < FEWEST
    assert "height is" in found["why"][0]
    assert findings_sheet(data["train"], found).png()
    none = replace(data["train"], boxes=data["train"].boxes.iloc[:0])
    assert findings(none, data).empty and findings_sheet(none, findings(none, data)).png()


def test_photographs_without_clips_or_pictures(tmp_path):
    """Neither clips nor pictures nor detections: what is left is geometry; nothing breaks, and no missing box is made up."""
    names = ("thing",)
    images = [(f"images/photo{'abcdefghij'[k % 10]}{k}x.png", 300 + 10 * (k % 4), 200) for k in range(60)]
    draws = np.random.default_rng(0)
    boxes = [(k, 1, [float(draws.integers(200)), float(draws.integers(100)), 30.0 + n, 40.0]) for k in range(60) for n in range(4)]
    data = open_data(write_dataset(tmp_path, {"train": coco(images, boxes, names)}, pictures=False, name="photos"))
    found = findings(data["train"], data)
    assert "missing" not in set(found["kind"]) and "class" not in set(found["kind"])


def test_the_curve_of_precision_has_a_panel_a_kind():
    told = pd.DataFrame({"kind": ["missing"] * 3 + ["class"] * 2, "frame": 0, "rank": [0, 1, -1, 0, 1], "right": [True, False, False, True, True],
                         "first": True, "seed": 0})
    figure = precision_by_rank(told, "a $ name")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["missing: 0.50 at N", "class: 1.00 at N"] and figure.png()
