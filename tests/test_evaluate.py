"""The metrics against pycocotools, and by hand."""
import contextlib
import io

import numpy as np
import pytest
from conftest import coco, write_dataset
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detlib.data.coco import open_dataset
from detlib.evaluate.coco import Detections, evaluate, match_detections, metrics, table


def pycocotools_stats(content, results, limits):
    """COCOeval's twelve numbers with the data's size limits, and AP of each class."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**content, "info": {}}
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {**content, "info": {}, "annotations": []}
            found.createIndex()
        judge = COCOeval(truth, found, "bbox")
        low, high = limits
        judge.params.areaRng = [[0, 1e10], [0, low**2], [low**2, high**2], [high**2, 1e10]]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, 2]  # (T, 101, K)
    return judge.stats, [precision[:, :, k].mean() if (precision[:, :, k] > -1).any() else None for k in range(precision.shape[2])]


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
                results.append({"image_id": 10 + i, "category_id": int(rng.integers(1, classes + 1)) if rng.random() < 0.2 else objects[-1][1],
                                "bbox": [float(x + dx), float(y + dy), float(max(1, w + dw)), float(max(1, h + dh))], "score": round(float(rng.random()), 2)})
    content = coco(images, objects, [f"c{k}" for k in range(classes)])
    if crowd:
        for a in content["annotations"][::9]:
            a["iscrowd"] = 1
    return content, results


def as_detections(split, results):
    place = {f.image_id: i for i, f in enumerate(split.frames)}
    boxes = np.array([r["bbox"] for r in results], float).reshape(-1, 4)
    return Detections(np.array([place[r["image_id"]] for r in results], int), np.array([r["category_id"] for r in results], int),
                      np.array([r["score"] for r in results], float), np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]))


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(tmp_path, seed):
    content, results = scene(seed, crowd=seed % 2 == 0)
    data = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))
    ours = evaluate(as_detections(data["val"], results), data["val"], data)
    stats, per_class = pycocotools_stats(content, results, data.size_limits)
    values = [ours[k] for k in ("mAP", "AP50", "AP75")] + [v for k, v in ours.items() if k.startswith("AP ")] + [v for k, v in ours.items() if k.startswith("recall")]
    assert len(values) == 12
    np.testing.assert_allclose([-1 if v is None else v for v in values], stats, atol=1e-9, rtol=0)
    assert len(set(np.round(values, 6))) > 6, "a scene that separates the numbers"
    for mine, theirs in zip(ours["per_class"].values(), per_class, strict=True):
        assert (mine is None) == (theirs is None) and (mine is None or abs(mine - theirs) < 1e-9)
    assert ours["classes_with_objects"] == 3 and ours["per_class"]["c3"] is None


def test_no_detections_and_no_objects(tmp_path):
    content, _ = scene(1)
    data = open_dataset(write_dataset(tmp_path / "a", {"val": content}, pictures=False))
    stats, _ = pycocotools_stats(content, [], data.size_limits)
    ours = evaluate(as_detections(data["val"], []), data["val"], data)
    assert ours["mAP"] == stats[0] == 0
    empty = open_dataset(write_dataset(tmp_path / "b", {"val": coco([("a.png", 64, 64)], [])}, pictures=False))
    ours = evaluate(as_detections(empty["val"], []), empty["val"], empty)
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
    weighted = metrics(match_detections(as_detections(data["val"], results), data["val"], data.size_names), data.categories, data.size_names, weights)

    keep = [i for i, w in enumerate(weights) for _ in range(int(w))]
    images = [(f"a_{k}.png", 300, 128) for k in range(len(keep))]
    objects = [(k, a["category_id"], a["bbox"]) for k, i in enumerate(keep) for a in content["annotations"] if a["image_id"] == 10 + i]
    again = [{**r, "image_id": 10 + k} for k, i in enumerate(keep) for r in results if r["image_id"] == 10 + i]
    twice = open_dataset(write_dataset(tmp_path / "twice", {"val": coco(images, objects, data.categories)}, pictures=False))
    plain = evaluate(as_detections(twice["val"], again), twice["val"], twice)
    for key in ("mAP", "AP50", "AP75"):
        assert weighted[key] == pytest.approx(plain[key], abs=1e-12)


def test_coco_results_round_trip(tmp_path):
    content, results = scene(4)
    split = open_dataset(write_dataset(tmp_path, {"val": content}, pictures=False))["val"]
    found = as_detections(split, results)
    again = as_detections(split, found.to_coco(split))
    np.testing.assert_array_equal(found.boxes, again.boxes)
    np.testing.assert_array_equal(found.frame, again.frame)
