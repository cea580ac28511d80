"""Outcomes at one least score: the same hits as the metrics have, and what a reader would count by hand."""
import numpy as np
import pytest
from conftest import coco, write_dataset

from detlib.data.folder import open_dataset
from detlib.evaluate.coco import Detections, match_detections
from detlib.evaluate.outcomes import FALSE_ALARM, IGNORED, MISSED, outcome


@pytest.fixture
def split(tmp_path):
    """Two frames: two cars and a person; a crowd of persons and a car."""
    content = coco([("images/a_0.png", 256, 128), ("images/a_1.png", 256, 128)],
                   [(0, 1, [10, 10, 20, 20]), (0, 1, [60, 10, 20, 20]), (0, 2, [100, 10, 10, 30]),
                    (1, 2, [50, 20, 100, 40]), (1, 1, [10, 10, 20, 20])])
    content["annotations"][3]["iscrowd"] = 1
    return open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}))["val"]


def found(rows):
    """Detections from (frame, label, score, x1, y1, x2, y2)."""
    table = np.array(rows, float).reshape(-1, 7)
    return Detections(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], table[:, 3:])


ROWS = [(1, 2, 0.9, 60, 20, 100, 50),  # on the crowd
        (0, 1, 0.8, 10, 10, 30, 30),  # the first car
        (0, 1, 0.7, 11, 10, 31, 30),  # it again: a false alarm
        (0, 2, 0.6, 60, 10, 80, 30),  # the second car, called a person
        (0, 2, 0.5, 100, 10, 110, 40),  # the person
        (1, 1, 0.4, 10, 10, 22, 30)]  # the car of the second frame, IoU 0.6


def test_every_object_and_detection_has_its_outcome(split):
    seen = outcome(found(ROWS), split, 0.0)
    assert seen.detections.score.tolist() == [0.8, 0.7, 0.6, 0.5, 0.9, 0.4]
    assert seen.object_of.tolist() == [0, FALSE_ALARM, FALSE_ALARM, 2, IGNORED, 4]
    assert seen.detection_of.tolist() == [0, MISSED, 3, MISSED, 5]
    assert seen.objects.tolist() == [0, 1, 2, 4] and seen.false_alarms.tolist() == [1, 2]
    assert seen.f1 == pytest.approx(2 * 3 / (5 + 4))
    assert seen.f1_of_frames().tolist() == pytest.approx([2 * 2 / (4 + 3), 1.0])


def test_a_least_score_drops_detections_and_what_they_found(split):
    seen = outcome(found(ROWS), split, 0.55)
    assert seen.detections.score.tolist() == [0.8, 0.7, 0.6, 0.9]
    assert seen.object_of.tolist() == [0, FALSE_ALARM, FALSE_ALARM, IGNORED]
    assert seen.detection_of.tolist() == [0, MISSED, MISSED, MISSED, MISSED]


def test_the_best_score_is_that_of_the_highest_f1(split):
    by_hand = {score: outcome(found(ROWS), split, score).f1 for score in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}
    assert outcome(found(ROWS), split).score_min == max(by_hand, key=by_hand.get) == 0.4
    alike = found([(0, 1, 0.5, 10, 10, 30, 30), (0, 1, 0.5, 200, 10, 230, 30), (0, 1, 0.2, 0, 90, 9, 99)])
    assert outcome(alike, split).score_min == 0.5  # equal scores are in together: no threshold parts them


def test_without_detections_or_objects(split):
    nothing = outcome(found([]), split)
    assert nothing.f1 == 0 and nothing.detection_of.tolist() == [MISSED] * 5 and not len(nothing.object_of)
    assert np.isnan(outcome(found([]), split.subset([])).f1)


def test_a_class_beyond_a_hundred_on_a_frame_is_ignored(split):
    many = found([(0, 1, 1 - i / 1000, 10, 10, 30, 30) for i in range(103)])
    assert (outcome(many, split, 0.0).object_of == IGNORED).sum() == 3


def test_of_equal_overlaps_the_last_object_is_found_as_in_pycocotools(tmp_path):
    content = coco([("images/a_0.png", 256, 128)], [(0, 1, [10, 10, 20, 20]), (0, 1, [20, 10, 20, 20])])
    split = open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}))["val"]
    seen = outcome(found([(0, 1, 0.9, 15, 10, 35, 30), (0, 1, 0.8, 11, 10, 31, 30)]), split, 0.0)  # the first lies in the middle of both
    assert seen.object_of.tolist() == [1, 0] and sum(m.hit[0, 0].sum() for m in match_detections(seen.detections, split, {})) == 2


def test_hits_are_those_of_the_metrics(small):
    """Random boxes around objects, with equal scores among them: the same detections hit as in `match_detections`."""
    split, rng = open_dataset(small)["train"], np.random.default_rng(0)
    rows = []
    for frame in range(len(split)):
        for box in split.targets(frame)[0].numpy():
            rows += [(frame, rng.integers(1, 3), rng.integers(1, 9) / 10, *(box + rng.normal(0, 4, 4))) for _ in range(6)]
    detections = found(rows)
    seen = outcome(detections, split, 0.0)
    hits = sorted(zip(seen.detections.frame, seen.detections.label, seen.detections.score, seen.object_of >= 0, strict=True))
    expected = sorted((f, label, s, h) for label, m in enumerate(match_detections(detections, split, {}), 1)
                      for f, s, h in zip(m.frame, m.score, m.hit[0, 0], strict=True))
    assert [tuple(map(float, row)) for row in hits] == [tuple(map(float, row)) for row in expected] and sum(row[3] for row in hits) > 3
