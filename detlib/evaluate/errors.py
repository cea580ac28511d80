"""Why detections are wrong: the error types of TIDE (Bolya et al. 2020), each as the AP50 that it costs.

The definitions are those of the paper's sec. 2, and where it leaves a choice, those of its authors' code (tidecv 1.0.1): a detection that is both a
poor box for an object of its class and a good one for an object of another is a localisation error; limits are inclusive, the earlier test wins; and
where several errors mean the same object, mending gives it to the best score of them all, of whichever type, and drops the others.

Three choices are COCO's instead, as in `metrics`, so that a cost belongs to the AP50 that is shown elsewhere: at most 100 detections of a class and
frame (tidecv: 100 of a frame), a mean over classes with objects (tidecv counts one with detections only, as 0), and detections on a crowd are left
out altogether (tidecv counts them as errors, and lets them mend). hotcoco 1.3.0, which the tests compare with, does the same, but takes a
crowd for an object that a detection is close to, where paper and tidecv do not, and neither do we.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pycocotools.mask import iou as coco_iou

from ..data.coco import Split
from .coco import RECALLS, Detections
from .outcomes import FALSE_ALARM, IGNORED, IOU, MISSED, Outcome, outcome

BACKGROUND_IOU = 0.1  # up to which a detection touches nothing (sec. 2.2, t_b); from `IOU` on it has found something (t_f)
TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
SPECIAL = ("false positives", "false negatives")
RIGHT, LEFT_OUT = "right", "left out"
NUMBER, MEAN = "number of errors", "mean over classes"


@dataclass(frozen=True)
class Errors:
    """The error of each detection and object of an outcome, by name."""

    outcome: Outcome
    of_detection: np.ndarray  # (D,) str: 'right', one of TYPES but 'missed', or 'left out' (on a crowd, or beyond 100)
    of_object: np.ndarray  # (M,) str: 'right', 'missed', the type of the error that would find it when mended, or 'left out' (a crowd)
    meant: np.ndarray  # (D,) the row of `split.boxes` that a classification or localisation error touches most, else MISSED
    mends: np.ndarray  # (D,) whether the detection finds that object when its error is mended: it is free, and no better one is after it


def error_of(seen: Outcome) -> Errors:
    """Say of every false alarm which error it is, and of every object that was not found whether an error is to blame, or it is missed."""
    of_detection = np.full(len(seen.object_of), RIGHT, dtype="<U14")
    of_detection[seen.object_of == IGNORED] = LEFT_OUT
    meant = np.full(len(seen.object_of), MISSED)
    for wrong, objects, overlap, same in _frames(seen):
        of_detection[wrong], meant[wrong] = _classify(overlap, same, objects)
    mends = _mending(seen, meant)
    of_object = np.where(seen.split.boxes["crowd"].to_numpy(bool), LEFT_OUT, np.where(seen.found, RIGHT, "missed")).astype("<U14")
    of_object[meant[mends]] = of_detection[mends]
    return Errors(seen, of_detection, of_object, meant, mends)


def _frames(seen: Outcome) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each frame with false alarms: them, its objects (rows of `split.boxes`), their IoU and whether the classes are the same, both (d, g)."""
    table = seen.split.boxes[["frame", "label", "x1", "y1", "width", "height"]].to_numpy(np.float64)[seen.objects]
    found, wrong = seen.detections, seen.false_alarms
    xywh = np.column_stack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
    frames = np.arange(len(seen.split) + 1)
    edges, starts = np.searchsorted(found.frame[wrong], frames), np.searchsorted(table[:, 0], frames)
    for frame in frames[:-1]:
        here, there = wrong[edges[frame]:edges[frame + 1]], slice(starts[frame], starts[frame + 1])
        if len(here):
            objects = table[there]
            overlap = coco_iou(xywh[here], objects[:, 2:], np.zeros(len(objects), np.uint8)) if len(objects) else np.zeros((len(here), 0))
            yield here, seen.objects[there], overlap, found.label[here, None] == objects[:, 1]


def _classify(overlap: np.ndarray, same: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Types (d,) of false alarms by their IoU with all objects of a frame, (d, g), and the objects meant (d,); the first that holds."""
    if not len(objects):
        return np.full(len(overlap), "background"), np.full(len(overlap), MISSED)
    own, other = np.where(same, overlap, 0), np.where(same, 0, overlap)
    most, most_other = own.max(axis=1), other.max(axis=1)
    localisation = (most >= BACKGROUND_IOU) & (most <= IOU)
    classification = most_other >= IOU
    duplicate = most >= IOU  # a free one would have been found
    background = np.maximum(most, most_other) <= BACKGROUND_IOU
    kinds = np.select([localisation, classification, duplicate, background], ["localisation", "classification", "duplicate", "background"], "both")
    meant = np.select([localisation, classification], [objects[own.argmax(axis=1)], objects[other.argmax(axis=1)]], MISSED)
    return kinds, meant


def _mending(seen: Outcome, meant: np.ndarray) -> np.ndarray:
    """Which detection (D,) finds the object it means: it is not found yet, and of those that mean it this one has the best score."""
    after = np.flatnonzero(meant != MISSED)
    after = after[seen.detection_of[meant[after]] < 0]
    _, first = np.unique(meant[after], return_index=True)  # detections of a frame are best first
    mends = np.zeros(len(meant), bool)
    mends[after[first]] = True
    return mends


def error_types(detections: Detections, split: Split) -> pd.DataFrame:
    """How many errors of each type there are, and the AP50 each costs: what it rises by when all of that type alone are mended (sec. 2.3).

    Rows are TYPES, and the two SPECIAL ones of sec. 2.4, every false alarm and every object not found; columns NUMBER, MEAN, and one a class, NaN
    without objects. `attrs["AP50"]` has AP50 itself, the mean and then the classes. Costs do not add up to 1 - AP50: what is left when one type is
    mended depends on the others. Missed objects are mended by not counting them, and so a class of which nothing was found loses nothing by them.
    """
    errors = error_of(outcome(detections, split, 0.0))
    before = _ap50(errors, "")
    mended = np.stack([_ap50(errors, kind) for kind in (*TYPES, *SPECIAL)])
    counts = [*((errors.of_detection == kind).sum() for kind in TYPES[:-1]), (errors.of_object == "missed").sum(),
              len(errors.outcome.false_alarms), len(errors.outcome.objects) - errors.outcome.found.sum()]
    values = np.column_stack([_mean(mended - before), mended - before])
    table = pd.DataFrame(values, index=[*TYPES, *SPECIAL], columns=[MEAN, *split.categories])
    table.insert(0, NUMBER, np.array(counts, int))
    table.attrs["AP50"] = [_mean(before[None])[0].item(), *before.tolist()]
    return table


def _mean(by_class: np.ndarray) -> np.ndarray:
    present = np.isfinite(by_class)
    return np.where(present, by_class, 0).sum(axis=1) / np.where(present.any(axis=1), present.sum(axis=1), np.nan)


def _ap50(errors: Errors, kind: str) -> np.ndarray:
    """AP50 of each class (K,) when all errors of a type are mended; '' is none, NaN a class without objects."""
    seen, label = errors.outcome, errors.outcome.detections.label
    truth = seen.split.boxes["label"].to_numpy()
    hit, kept = seen.object_of >= 0, seen.object_of != IGNORED
    wrong = seen.object_of == FALSE_ALARM if kind == "false positives" else errors.of_detection == kind
    mended = wrong & errors.mends & (kind != "false positives")
    hit, kept = hit | mended, kept & (~wrong | mended)
    given = np.where(mended, truth[errors.meant], label) if len(truth) else label
    left = {"missed": errors.of_object != "missed", "false negatives": seen.found}.get(kind, np.ones(len(truth), bool))
    left = left & ~seen.split.boxes["crowd"].to_numpy(bool)
    order = np.lexsort((given != label, -seen.detections.score))  # of equal scores, those that changed their class come last
    order = order[kept[order]]
    result = []
    for k in range(1, len(seen.split.categories) + 1):
        rows, number = order[given[order] == k], (left & (truth == k)).sum()
        result.append(_average_precision(hit[rows], number) if (truth[seen.objects] == k).any() else np.nan)
    return np.array(result)


def _average_precision(hit: np.ndarray, objects: int) -> float:
    """COCO's AP at one threshold from hits (D,), best score first, and the number of objects; 0 when that is 0."""
    if not objects:
        return 0.0
    hits = np.cumsum(hit)
    envelope = np.maximum.accumulate((hits / np.arange(1, len(hit) + 1))[::-1])[::-1]
    return float(np.append(envelope, 0.0)[np.searchsorted(hits / objects, RECALLS, side="left")].mean())
