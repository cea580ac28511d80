"""Where a model is right: by precision and recall, by class against class, by its own score, and by size, distance and visibility of the objects."""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from pycocotools.mask import iou as coco_iou

from ..data.coco import Dataset, Split
from .coco import RECALLS, THRESHOLDS, ClassMatches, precision_at_recalls
from .intervals import clip_weights, interval
from .outcomes import IGNORED, IOU, Outcome

CURVES = {"IoU 0.5": [0], "IoU 0.75": [5], "mean over IoU 0.5 to 0.95": list(range(len(THRESHOLDS)))}  # places in THRESHOLDS
MISSED_COLUMN, FALSE_ALARM_ROW = "missed", "false alarm"
SCORE_BINS = 10  # of equal width, as Kueppers et al. 2020
DISTANCES = (5.0, 10.0, 15.0, 20.0, 25.0)  # m, between bins
VISIBLE = (25.0, 50.0, 75.0, 95.0)  # %, between bins
GREY_BINS = 5
NEAR = 0.25  # quantile of a box's pixels: those of the object are nearer than what is behind it, and single stray ones are nearer still


def precision_curves(matches: Sequence[ClassMatches], categories: Sequence[str]) -> dict[str, pd.DataFrame | None]:
    """Interpolated precision of each class at 101 recalls (the index), a column for each of CURVES, whose mean is AP; None without objects."""
    curves = {}
    for name, of_class in zip(categories, matches, strict=True):
        found = precision_at_recalls(of_class)
        curves[name] = None if found is None else pd.DataFrame(
            {curve: found[0][places].mean(axis=0) for curve, places in CURVES.items()}, index=pd.Index(RECALLS, name="recall"))
    return curves


def confusion(seen: Outcome) -> pd.DataFrame:
    """Objects by their class (rows) and the class they were called (columns), (K + 1, K + 1): the last column missed, the last row false alarms.

    Unlike in AP, classes do not matter for the match: detections with the outcome's score, best first, each take the free object of highest IoU, from
    0.5 on. So a well placed wrong class is a confusion here even where a later detection of the right class finds the object too, which then is a
    false alarm. Crowds, and the detections that the outcome leaves out, do not count.
    """
    number, found, truth = len(seen.split.categories), seen.detections, seen.split.boxes
    called = np.full(len(truth), number)  # place of the class each object was called; `number` is missed
    table = truth[["x1", "y1", "width", "height"]].to_numpy(float)
    xywh = np.column_stack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
    kept, alarms = np.flatnonzero(seen.object_of != IGNORED), np.zeros(number, int)
    frames, frame_of = np.arange(len(seen.split) + 1), truth["frame"].to_numpy()[seen.objects]
    edges, starts = np.searchsorted(found.frame[kept], frames), np.searchsorted(frame_of, frames)
    for frame in frames[:-1]:
        mine, theirs = kept[edges[frame]:edges[frame + 1]], seen.objects[starts[frame]:starts[frame + 1]]
        overlap = coco_iou(xywh[mine], table[theirs], np.zeros(len(theirs), np.uint8)) if len(mine) and len(theirs) else np.zeros((len(mine), 1))
        for d, row in zip(mine, overlap, strict=True):
            best = row.argmax()
            if row[best] >= IOU:
                called[theirs[best]] = found.label[d] - 1
                overlap[:, best] = 0  # it is taken
            else:
                alarms[found.label[d] - 1] += 1
    counts = np.zeros((number + 1, number + 1), int)
    np.add.at(counts, (truth["label"].to_numpy()[seen.objects] - 1, called[seen.objects]), 1)
    counts[number, :number] = alarms
    return pd.DataFrame(counts, index=[*seen.split.categories, FALSE_ALARM_ROW], columns=[*seen.split.categories, MISSED_COLUMN])


def reliability(matches: Sequence[ClassMatches], bins: int = SCORE_BINS) -> pd.DataFrame:
    """How often detections of a score are right (class, IoU at least 0.5): a row for each bin of scores, with detections, mean score, share right.

    `attrs["error"]` is the expected calibration error in the form for detection, with precision for accuracy (Kueppers et al. 2020, eq. 7, of the
    score alone): the distance of mean score and share right, averaged over bins by their detections; NaN without any. A bin holds its lower edge.
    """
    score = np.concatenate([m.score[~m.ignored[0, 0]] for m in matches] or [np.zeros(0)])
    hit = np.concatenate([m.hit[0, 0][~m.ignored[0, 0]] for m in matches] or [np.zeros(0, bool)])
    if len(score) and not 0 <= score.min() <= score.max() <= 1:
        raise ValueError(f"scores reach from {score.min():g} to {score.max():g}: calibration is about probabilities, from 0 to 1")
    place, edges = np.minimum((score * bins).astype(int), bins - 1), np.arange(bins + 1) / bins
    number = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "detections": number, "mean score": np.bincount(place, score, bins) / number,
                              "share right": np.bincount(place, hit, bins) / number})
    gap = (table["mean score"] - table["share right"]).abs().fillna(0)
    table.attrs["error"] = float((gap * number).sum() / number.sum()) if number.any() else float("nan")
    return table


@dataclass(frozen=True)
class Property:
    """A number of each object, and bins of it."""

    name: str  # with its unit
    values: np.ndarray  # (M,) for each row of `split.boxes`; NaN where it is not known
    limits: tuple[float, ...]  # between bins, ascending; a value on a limit is in the upper bin
    bins: tuple[str, ...]  # names, one more than limits
    hard: int  # how many bins are hard, from the first on, or if negative from the last

    @property
    def bin_of(self) -> np.ndarray:
        """Each object's bin (M,), -1 where the value is not known."""
        return np.where(np.isnan(self.values), -1, np.digitize(self.values, self.limits))


def properties(dataset: Dataset, split: str = "val", range_channel: str | None = None) -> list[Property]:
    """What a split knows of its objects: size always; distance and visible share where the annotations have them (simulated data).

    Where there is no distance, `range_channel` names the channel whose grey values stand for it; reads all pictures.
    """
    truth, (low, high) = dataset[split].boxes, dataset.size_limits
    known = [Property("size (√area, px)", np.sqrt(truth["area"].to_numpy(float)), (low, high), _names((low, high)), 1)]
    if np.isfinite(truth["distance"]).any():
        known.append(Property("distance (m)", truth["distance"].to_numpy(), DISTANCES, _names(DISTANCES), -1))
    elif range_channel is not None:
        if range_channel not in dataset.channels:
            raise ValueError(f"no channel {range_channel!r}: this data has {', '.join(dataset.channels)}")
        grey = range_from_channel(dataset[split], dataset.channels.index(range_channel))
        limits = _even_limits(grey[np.isfinite(grey)])
        known.append(Property(f"{range_channel}, grey value of 255", grey, limits, _names(limits), -1))
    if np.isfinite(truth["visible"]).any():
        known.append(Property("visible part (%)", 100 * truth["visible"].to_numpy(), VISIBLE, _names(VISIBLE), 2))
    return known


def _even_limits(grey: np.ndarray) -> tuple[float, ...]:
    """Whole grey values that part objects into GREY_BINS bins of about the same number, or fewer where values repeat."""
    if not len(grey):
        return ()
    limits = np.unique(np.round(np.quantile(grey, np.linspace(0, 1, GREY_BINS + 1)[1:-1])))
    return tuple(limits[limits > grey.min()].tolist())


def _names(limits: Sequence[float]) -> tuple[str, ...]:
    if not limits:
        return ("all",)
    return (f"< {limits[0]:g}", *(f"{a:g}-{b:g}" for a, b in pairwise(limits)), f"≥ {limits[-1]:g}")


def range_from_channel(split: Split, channel: int) -> np.ndarray:
    """How far each object is (M,), as the grey value 0..255 of a channel in its box: the lower quartile of the pixels that are not 0; else NaN.

    Not metres: how grey values stand for distance is the sensor's business. 0 is taken for "no echo".
    """
    table, grey = split.boxes[["frame", "x1", "y1", "x2", "y2"]].to_numpy(float), np.full(len(split.boxes), np.nan)
    for frame in np.unique(table[:, 0]).astype(int):
        pixels = split.image(frame)[channel].numpy()
        for row in np.flatnonzero(table[:, 0] == frame):
            (left, top), (right, bottom) = np.floor(table[row, 1:3]).astype(int), np.ceil(table[row, 3:]).astype(int)
            inside = pixels[top:bottom, left:right]
            if (echoes := inside[inside > 0]).size:
                grey[row] = np.quantile(echoes, NEAR)
    return grey


def found_by(seen: Sequence[Outcome], what: Property, label: int | None = None) -> pd.DataFrame:
    """The share of objects found in each bin of a property, with its interval over clips and, where there are several, trainings.

    `seen` are the outcomes of one row's trainings on the same split; `label` in 1..K is the one class that counts. Columns objects, found, low, high.
    """
    split, bins = seen[0].split, len(what.bins)
    frame, place = split.boxes["frame"].to_numpy(int), what.bin_of
    counts = (place >= 0) & ~split.boxes["crowd"].to_numpy(bool) & (True if label is None else split.boxes["label"].to_numpy() == label)

    def by_frame(rows: np.ndarray) -> np.ndarray:
        return np.bincount(frame[rows] * bins + place[rows], minlength=len(split) * bins).reshape(len(split), bins).astype(float)

    weights = np.concatenate([np.ones((1, len(split))), clip_weights(split)]) if len(split) else np.zeros((1, 0))
    objects = weights @ by_frame(counts)  # (1 + B, bins)
    with np.errstate(invalid="ignore"):
        shares = np.stack([weights @ by_frame(counts & one.found) / objects for one in seen])  # (S, 1 + B, bins)
    ends = [interval(shares[:, 0, k], shares[:, 1:, k].mean(axis=0), len(split.clips)) for k in range(bins)]
    table = pd.DataFrame(np.clip(ends, 0, 1), columns=["found", "low", "high"], index=pd.Index(what.bins, name=what.name))
    table.insert(0, "objects", objects[0].astype(int))
    return table


def miss_reasons(seen: Outcome, known: Sequence[Property]) -> pd.DataFrame:
    """What could excuse a miss, with how common it is: of the objects in a property's hard bins, their share of all and of the missed.

    Hard are the smallest, the furthest, and those less than half visible. Something is a reason only where its share of the missed is clearly above
    that of all. The last row is the objects that none of these holds for.
    """
    hard = {}
    for what in known:
        if what.limits:
            limit = what.limits[what.hard - 1 if what.hard > 0 else what.hard]
            hard[f"{what.name} {'<' if what.hard > 0 else '≥'} {limit:g}"] = what.values < limit if what.hard > 0 else what.values >= limit
    hard["none of these"] = ~np.any(list(hard.values()), axis=0)
    holds = pd.DataFrame(hard).iloc[seen.objects]
    found = pd.Series(seen.found[seen.objects], holds.index)
    return pd.DataFrame({"objects": holds.sum(), "share of all": holds.mean(), "share of the missed": holds[~found].mean(),
                         "share of them found": pd.Series({name: found[holds[name]].mean() for name in holds}, dtype=float)})
