"""What became of every object and every detection at one least score: found, missed, false alarm."""
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.mask import iou as coco_iou

from ..data.coco import Split
from .coco import MAX_DETECTIONS, Detections

IOU = 0.5  # from which an object counts as found
FALSE_ALARM, IGNORED = -1, -2  # in `object_of`; ignored are those on a crowd, and a class's beyond 100 on a frame
MISSED = -1  # in `detection_of`


@dataclass(frozen=True)
class Outcome:
    """One model's detections with at least `score_min` on a split, matched to the objects: right class, IoU at least 0.5, best score first."""

    split: Split
    score_min: float
    detections: Detections  # D, by frame, in a frame best first
    detection_of: np.ndarray  # (M,) for each row of `split.boxes` the detection that found it, or MISSED; crowds are MISSED and do not count
    object_of: np.ndarray  # (D,) for each detection the row of `split.boxes` that it found, or FALSE_ALARM, or IGNORED

    @property
    def objects(self) -> np.ndarray:
        """Rows of `split.boxes` that count: all but crowds, (number,)."""
        return np.flatnonzero(~self.split.boxes["crowd"].to_numpy(bool))

    @property
    def found(self) -> np.ndarray:
        """Whether each row of `split.boxes` was found, (M,) bool."""
        return self.detection_of >= 0

    @property
    def false_alarms(self) -> np.ndarray:
        """Which detections hit no object, (number,)."""
        return np.flatnonzero(self.object_of == FALSE_ALARM)

    @property
    def f1(self) -> float:
        """2 found / (detections that count + objects), over all classes together; nan where there is neither."""
        return _f1(self.found.sum(), (self.object_of != IGNORED).sum(), len(self.objects))

    def f1_of_frames(self) -> np.ndarray:
        """The same of each frame, (frames,); nan for a frame with neither objects nor detections."""
        count = lambda frames: np.bincount(frames, minlength=len(self.split))  # noqa: E731
        frame = self.split.boxes["frame"].to_numpy()
        found, objects = count(frame[self.found]), count(frame[self.objects])
        return _f1(found, count(self.detections.frame[self.object_of != IGNORED]), objects)


def outcome(detections: Detections, split: Split, score_min: float | None = None) -> Outcome:
    """Match detections to objects at a least score; None is that of `best_score`."""
    whole = _matched(detections, split)
    return _above(whole, best_score(whole) if score_min is None else score_min)


def best_score(whole: Outcome) -> float:
    """The least score with the highest F1 over all classes together: where a model that must decide does best on these frames.

    Scores of different losses are not on one scale, so that one threshold for two models would compare their eagerness.
    """
    counts = whole.object_of != IGNORED
    score, hit = whole.detections.score[counts], (whole.object_of >= 0)[counts]
    if not len(score):
        return 0.0
    order = np.argsort(-score, kind="stable")
    f1 = _f1(np.cumsum(hit[order]), np.arange(1, len(order) + 1), len(whole.objects))
    last = np.append(np.diff(score[order]) != 0, True)  # of equal scores all are in or none
    return float(score[order][np.flatnonzero(last)[np.argmax(f1[last])]])


def _f1(found: np.ndarray, detections: np.ndarray, objects: np.ndarray | int) -> Any:
    total = np.asarray(detections + objects, float)
    return np.divide(2.0 * found, total, out=np.full_like(total, np.nan), where=total > 0)[()]


def _above(whole: Outcome, score_min: float) -> Outcome:
    """The same with fewer detections; what better ones matched does not depend on them."""
    kept = np.flatnonzero(whole.detections.score >= score_min)
    place = np.full(len(whole.object_of) + 1, MISSED)
    place[kept] = np.arange(len(kept))
    return Outcome(whole.split, score_min, whole.detections.rows(kept), place[whole.detection_of], whole.object_of[kept])


def _matched(detections: Detections, split: Split) -> Outcome:
    order = np.lexsort((-detections.score, detections.frame))
    detections = detections.rows(order)
    table = split.boxes[["frame", "label", "crowd", "x1", "y1", "width", "height"]].to_numpy(np.float64)
    xywh = np.column_stack([detections.boxes[:, :2], detections.boxes[:, 2:] - detections.boxes[:, :2]])
    detection_of, object_of = np.full(len(table), MISSED), np.full(len(order), FALSE_ALARM)
    edges, starts = (np.searchsorted(frame, np.arange(len(split) + 1)) for frame in (detections.frame, table[:, 0]))
    for frame in range(len(split)):
        here, there = (np.arange(ends[frame], ends[frame + 1]) for ends in (edges, starts))
        for label in np.unique(detections.label[here]):
            mine, theirs = here[detections.label[here] == label], there[table[there, 1] == label]
            object_of[mine[MAX_DETECTIONS:]], mine = IGNORED, mine[:MAX_DETECTIONS]
            if len(theirs):
                _match_greedily(mine, theirs, coco_iou(xywh[mine], table[theirs, 3:], table[theirs, 2].astype(np.uint8)),
                                table[theirs, 2] > 0, detection_of, object_of)
    return Outcome(split, 0.0, detections, detection_of, object_of)


def _match_greedily(mine: np.ndarray, theirs: np.ndarray, overlap: np.ndarray, crowd: np.ndarray, detection_of: np.ndarray,
                    object_of: np.ndarray) -> None:
    """Fill in what one class's detections, best first, find on a frame; a crowd takes any number of them, and only what hits nothing else."""
    for d, row in zip(mine, overlap, strict=True):
        free = np.where(crowd | (detection_of[theirs] >= 0), -1.0, row)
        if free.max() >= IOU:
            best = theirs[len(free) - 1 - free[::-1].argmax()]  # of equal IoU the last, as pycocotools has it
            detection_of[best], object_of[d] = d, best
        elif np.where(crowd, row, -1.0).max() >= IOU:
            object_of[d] = IGNORED
