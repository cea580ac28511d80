"""The metrics against pycocotools, and by hand."""
import json

import numpy as np
import pytest
from conftest import coco, write_dataset
from trained import make_run

from detlib.data.folder import open_dataset
from detlib.evaluate.coco import Detections, evaluate, found_above, kept_detections, match_detections, metrics, table
from detlib.evaluate.crosscheck import cross_check, pycocotools_metrics
from detlib.evaluate.intervals import bootstrap, clip_weights, interval
from detlib.experiments import rung
from detlib.train import fit


def scene(seed, frames=30, classes=4, crowd=True):
    """Random objects and detections around them; whole pixels, equal scores, crowds, empty frames, a class without objects."""
    rng = np.random.default_rng(seed)
    images = [(f"images/val/a_Video{i // 10:05d}_{i}.png", 300, 128) for i in range(frames)]
    objects, results = [], []
    for i in range(frames):
        for _ in range(rng.integers(0, 9) if i % 7 else 0):
            x, y, w, h = (int(v) for v in (rng.integers(0, 240), rng.integers(0, 80), rng.integers(3, 60), rng.integers(3, 48)))
            objects.append((i, int(rng.integers(1, classes)), [x, y, w, h]))
            for _ in range(rng.integers(0, 4) if i % 5 else 0):
                dx, dy, dw, dh = rng.integers(-6, 7, 4)
                label = int(rng.integers(1, classes + 1)) if rng.random() < 0.2 else objects[-1][1]
                box = [float(x + dx), float(y + dy), float(max(1, w + dw)), float(max(1, h + dh))]
                results.append({"image_id": 10 + i, "category_id": label, "bbox": box, "score": round(float(rng.random()), 2)})
    content = coco(images, objects, [f"c{k}" for k in range(classes)])
    if crowd:
        for a in content["annotations"][::9]:
            a["iscrowd"] = 1
    return content, results


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(tmp_path, seed):
    content, results = scene(seed, crowd=seed % 2 == 0)
    data = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))
    ours = evaluate(Detections.from_coco(results, data["val"]), data["val"], data)
    stats, per_class = pycocotools_metrics(content, results, data.size_limits)
    values = [v for k, v in ours.items() if k.startswith(("mAP", "AP", "recall"))]
    assert len(values) == 12
    np.testing.assert_allclose([-1 if v is None else v for v in values], stats, atol=1e-9, rtol=0)
    assert len(set(np.round(values, 6))) > 6, "a scene that separates the numbers"
    for mine, theirs in zip(ours["per_class"].values(), per_class, strict=True):
        assert (mine is None) == (theirs is None) and (mine is None or abs(mine - theirs) < 1e-9)
    assert ours["classes_with_objects"] == 3 and ours["per_class"]["c3"] is None


def test_no_detections_and_no_objects(tmp_path):
    content, _ = scene(1)
    data = open_dataset(write_dataset(tmp_path / "a", {"val": content}, pictures=False))
    stats, _ = pycocotools_metrics(content, [], data.size_limits)
    ours = evaluate(Detections.from_coco([], data["val"]), data["val"], data)
    assert ours["mAP"] == stats[0] == 0
    empty = open_dataset(write_dataset(tmp_path / "b", {"val": coco([("a.png", 64, 64)], [])}, pictures=False))
    ours = evaluate(Detections.from_coco([], empty["val"]), empty["val"], empty)
    assert ours["mAP"] is None and ours["classes_with_objects"] == 0
    assert set(table(ours)["value"]) == {"no objects"}


def test_by_hand(tmp_path):
    """Two objects, one hit first, one false alarm between, one hit with IoU 0.6: AP50 = (51 * 1 + 50 * 2/3) / 101."""
    content = coco([("v_1.png", 100, 100)], [(0, 1, [0, 0, 10, 10]), (0, 1, [50, 50, 10, 10])])
    data = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))
    found = Detections(np.zeros(3, int), np.ones(3, int), np.array([0.9, 0.8, 0.7]),
                       np.array([[0, 0, 10, 10], [80, 80, 90, 90], [50, 50, 60, 56.0]]))
    result = evaluate(found, data["val"], data)
    assert result["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result["AP75"] == pytest.approx(51 / 101)


def test_weights_count_frames_as_often_as_they_say(tmp_path):
    """A weight of two is the frame twice, a weight of zero is without it."""
    content, results = scene(3, frames=6, crowd=False)
    for k, r in enumerate(results):
        r["score"] = 1 / (k + 2)  # no ties
    data = open_dataset(write_dataset(tmp_path / "once", {"val": content}, pictures=False))
    weights = np.array([2.0, 0, 1, 1, 2, 0])
    matches = match_detections(Detections.from_coco(results, data["val"]), data["val"], data.size_names)
    weighted = metrics(matches, data.categories, data.size_names, weights)

    keep = [i for i, w in enumerate(weights) for _ in range(int(w))]
    images = [(f"a_{k}.png", 300, 128) for k in range(len(keep))]
    objects = [(k, a["category_id"], a["bbox"]) for k, i in enumerate(keep) for a in content["annotations"] if a["image_id"] == 10 + i]
    again = [{**r, "image_id": 10 + k} for k, i in enumerate(keep) for r in results if r["image_id"] == 10 + i]
    twice = open_dataset(write_dataset(tmp_path / "twice", {"val": coco(images, objects, data.categories)}, pictures=False))
    plain = evaluate(Detections.from_coco(again, twice["val"]), twice["val"], twice)
    for key in ("mAP", "AP50", "AP75"):
        assert weighted[key] == pytest.approx(plain[key], abs=1e-12)


def test_coco_results_round_trip(tmp_path):
    content, results = scene(4)
    split = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))["val"]
    found = Detections.from_coco(results, split)
    again = Detections.from_coco(found.to_coco(split), split)
    np.testing.assert_array_equal(found.boxes, again.boxes)
    np.testing.assert_array_equal(found.frame, again.frame)


def test_clip_bootstrap(tmp_path):
    """Resamples draw whole clips, one less than there are."""
    content, results = scene(3, frames=30, crowd=False)
    split = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))["val"]
    weights = clip_weights(split, resamples=200, seed=1)
    assert weights.shape == (200, 30) and (weights.sum(1) == 20).all()
    assert all((w.reshape(3, 10) == w.reshape(3, 10)[:, :1]).all() for w in weights), "frames of a clip count alike"
    matches = match_detections(Detections.from_coco(results, split), split, {})
    values = bootstrap(matches, weights)
    every = metrics(matches, split.categories, {})["mAP"]
    value, low, high = interval(np.array([every]), values, 3)
    assert low < value == every < high and len(set(values.round(12))) <= 6, "two of three clips: six different resamples"
    np.testing.assert_allclose(bootstrap(matches, np.ones((2, 30))), every, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_bootstrap_at_once_is_the_metric_one_by_one(tmp_path, seed):
    """Also with crowds, classes that a resample lacks, and frames that count nought or several times."""
    content, results = scene(seed, frames=30, crowd=True)
    data = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))
    matches = match_detections(Detections.from_coco(results, data["val"]), data["val"], {})
    weights = np.concatenate([clip_weights(data["val"], resamples=10), np.eye(30)[:8]])
    expected = [metrics(matches, data.categories, {}, w)["mAP"] for w in weights]
    np.testing.assert_allclose(bootstrap(matches, weights), [np.nan if v is None else v for v in expected], atol=1e-12, rtol=0)


def test_a_trained_run_agrees_with_pycocotools(small):
    data = open_dataset(small)
    run = fit(rung("adam", "smoke"), data, progress=False)
    assert cross_check(run, data)["difference"].max() < 1e-9


def test_eagerness_by_hand(tmp_path):
    """Two frames, three detections: one right with 0.9, one right but too late for its object, one beside it with 0.3."""
    content = coco([("v_1.png", 100, 100), ("v_2.png", 100, 100)], [(0, 1, [0, 0, 10, 10])])
    split = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))["val"]
    found = Detections(np.zeros(3, int), np.ones(3, int), np.array([0.9, 0.6, 0.3]), np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60.0]]))
    table = found_above({"mine": found, "silent": Detections.collect([])}, split, (0.05, 0.5, 0.95))
    assert table.loc["mine"].tolist() == ["1.5, 33 of 100 right", "1.0, 50 of 100 right", "none"]
    assert table.loc["silent"].tolist() == ["none"] * 3


def test_detections_of_other_validation_boxes_are_refused(small, tmp_path):
    data = open_dataset(small)
    run = make_run(data)
    assert len(kept_detections(run, data).score) == len(run.detections())
    annotations = small / "val_annotations.json"
    content = json.loads(annotations.read_text())
    content["annotations"].pop()
    annotations.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="validated on other boxes"):
        kept_detections(run, open_dataset(small))


def test_kept_detections_follow_their_json(small):
    """They come from the arrays beside it while it is the same; a changed json, or arrays that cannot be read, are read anew."""
    data = open_dataset(small)
    run = fit(rung("adam", "smoke"), data, progress=False)
    first, arrays = kept_detections(run, data), run.folder / "detections.npz"
    assert arrays.is_file() and np.array_equal(first.boxes, Detections.from_coco(run.detections(), data["val"]).boxes)
    again = kept_detections(run, data)
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in ("frame", "label", "score", "boxes"))
    for spoil in (lambda: arrays.write_bytes(b"PK cut"), lambda: (run.folder / "detections.json").write_text(json.dumps(run.detections()[:1]))):
        spoil()
        assert len(kept_detections(run, data).score) == len(run.detections())
