"""What speaks for and against a box at a place: its shape, its object in the frames around, the picture under it, and what a model found."""
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from torch import from_numpy
from torchvision.ops import box_iou

from ..data.coco import Split
from ..data.planting import BOX
from ..evaluate.coco import Detections
from ..tracks import Motion, Track, expect, link, usual
from .crops import STATES, Look

FREE = 0.3  # IoU with every box below which another one is at a place of its own
SAME = 0.5  # IoU from which two boxes are of one object
SIDES = ("before", "after", "both")


@dataclass
class Places:
    """Annotated boxes, in the order of their table, and then places where one may be missing: P in all."""

    row: np.ndarray  # (P,) place in the table of boxes, -1: none
    frame: np.ndarray  # (P,)
    label: np.ndarray  # (P,) the annotated one, or the most likely
    boxes: np.ndarray  # (P, 4) xyxy px
    expected: np.ndarray  # (P, 4) where the frames around expect the box, NaN: nowhere
    usual: np.ndarray  # (P,) label in most of the frames around, 0: none
    beside: np.ndarray  # (P, 2) place in the table of its object's boxes in the frame before and the frame after, -1: none
    time: pd.DataFrame = field(repr=False)  # numbers on the frames around


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (n, m) of boxes (n, 4) and (m, 4) xyxy px."""
    return box_iou(*(from_numpy(np.array(boxes, float).reshape(-1, 4)) for boxes in (a, b))).numpy()


def places(split: Split, motion: Motion, detections: Detections | None) -> Places:
    """Every annotated box, every place where a track has no box in a frame between or next to its own, and every detection without a box."""
    spans = {index: stretch for stretch in motion.stretches for index in stretch}
    annotated, missing = [], []
    for track in link(motion):
        span = spans[track.frames[0]]
        annotated += [(row, *_around(motion, track, frame, row, span)) for row, frame in zip(track.rows, track.frames, strict=True)]
        first, last = span.index(track.frames[0]), span.index(track.frames[-1])
        missing += [(-1, *_around(motion, track, frame, -1, span)) for frame in span[max(first - 1, 0):last + 2] if frame not in track.frames]
    found = [*sorted(annotated, key=lambda one: one[0]), *missing]
    row, frame, most = (np.array([one[k] for one in found], int) for k in (0, 1, 3))
    expected = np.array([one[2] for one in found], float).reshape(-1, 4)
    boxes, label = expected.copy(), most.copy()
    boxes[row >= 0], label[row >= 0] = split.boxes[BOX].to_numpy(float), split.boxes["label"].to_numpy()
    keep = (row >= 0) | (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    beside, time = np.array([one[4] for one in found]), pd.DataFrame([one[5] for one in found])
    at = Places(*[*(column[keep] for column in (row, frame, label, boxes, expected, most, beside)), time[keep].reset_index(drop=True)])
    return at if detections is None else _with_detections(at, detections)


def _around(motion: Motion, track: Track, frame: int, row: int, span: list[int]) -> tuple:
    """The frame, the box (4,) that a track's other frames expect there, their label, its boxes beside, and numbers; `row` is its own, or -1."""
    before = [k for k, other in enumerate(track.frames) if other < frame]
    after = [k for k, other in enumerate(track.frames) if other > frame][::-1]
    labels = motion.labels[[track.rows[k] for k in before + after]]
    most = usual(labels) if len(labels) else 0
    numbers = {"before": len(before), "after": len(after), "since": span.index(frame), "until": len(span) - 1 - span.index(frame),
               "lag": min((abs(track.frames[side[-1]] - frame) for side in (before, after) if side), default=np.nan)}
    beside = [track.rows[track.frames.index(other)] if other in track.frames else -1 for other in (frame - 1, frame + 1)]
    if not len(labels):
        return frame, np.full(4, np.nan), most, beside, numbers
    numbers |= {"agree": (labels == (most if row < 0 else motion.labels[row])).mean(), "most": (labels == most).mean()}
    states = {name: expect(motion, [track.rows[k] for k in side], [track.frames[k] for k in side], frame)[0]
              for name, side in (("before", before), ("after", after)) if side}
    first, last = states[min(states, key=SIDES.index)], states[max(states, key=SIDES.index)]
    states["both"] = middle = first + motion.difference(first, last, frame) / 2
    numbers |= _offsets("gap", motion.difference(first, last, frame), middle) if len(states) == 3 else {}
    for name in states if row >= 0 else ():
        numbers |= _offsets(name, motion.difference(states[name], motion.states[row], frame), motion.states[row])
    height, width = motion.frames[frame].image_hw
    x, low, wide, tall = middle[0] % width if motion.panorama else middle[0], middle[1], *np.exp(middle[2:])
    return frame, np.clip([x - wide / 2, low - tall, x + wide / 2, low], 0, [width, height, width, height]), most, beside, numbers


def _offsets(name: str, change: np.ndarray, state: np.ndarray) -> dict[str, float]:
    """A difference of states in shares of the box's sides, and logs."""
    sides = np.maximum(np.exp(state[2:]), 2)
    return {f"{name}_x": change[0] / sides[0], f"{name}_y": change[1] / sides[1], f"{name}_wide": change[2], f"{name}_tall": change[3]}


def _with_detections(at: Places, detections: Detections) -> Places:
    """With detections, the surest first and as many as there are boxes, that have no place yet; one at a missing place is the better box of it."""
    best = detections.rows(np.argsort(-detections.score, kind="stable")[:int((at.row >= 0).sum())])
    fresh = []
    for index in np.unique(best.frame):
        here, mine = best.of_frame(int(index)), np.flatnonzero(at.frame == index)
        taken = at.boxes[mine[at.row[mine] >= 0]]
        for box, label in zip(here.boxes, here.label, strict=True):
            if iou(box, taken).max(initial=0) >= FREE:
                continue
            taken = np.concatenate([taken, box[None]])
            near = mine[(at.row[mine] < 0) & (iou(at.boxes[mine], box)[:, 0] >= SAME)]
            at.boxes[near] = box
            fresh += [] if len(near) else [(index, label, box)]
    frame, label, boxes = (np.array([one[k] for one in fresh]) for k in range(3))
    nothing = np.full((len(fresh), 4), np.nan)
    time = pd.concat([at.time, pd.DataFrame(index=range(len(fresh)), columns=at.time.columns, dtype=float)], ignore_index=True)
    grown = ((at.row, np.full(len(fresh), -1)), (at.frame, frame), (at.label, label), (at.boxes, boxes.reshape(-1, 4)), (at.expected, nothing),
             (at.usual, np.zeros(len(fresh))), (at.beside, np.full((len(fresh), 2), -1)))
    return Places(*[*(np.concatenate([old, new]).astype(old.dtype) for old, new in grown), time])


def look_at(at: Places, looks: list[Look], fold: np.ndarray) -> np.ndarray:
    """What crops show, (P, K + 5), each seen by the network that did not learn from its fold; missing places move to where it sees the object."""
    seen = np.zeros((len(at.row), 0))
    for again in (False, True):
        rows = np.flatnonzero(at.row < 0) if again else np.arange(len(at.row))
        for k, look in enumerate(looks):
            mine = rows[fold[rows] == k]
            values = look(at.frame[mine], at.boxes[mine])
            seen = seen if seen.shape[1] else np.zeros((len(at.row), values.shape[1]))
            seen[mine] = values
        if not again:
            gone = at.row < 0
            at.boxes[gone] -= np.tile(seen[gone, -2:] * (at.boxes[gone, 2:] - at.boxes[gone, :2]), 2)
    return seen


def numbers(split: Split, at: Places, seen: np.ndarray | None, detections: Detections | None) -> pd.DataFrame:
    """A row of numbers for each place, NaN where nothing can be said; `seen` is what crops show."""
    sides = np.maximum(at.boxes[:, 2:] - at.boxes[:, :2], 0.5)
    height, width = np.array([frame.image_hw for frame in split.frames], float).reshape(-1, 2)[at.frame].T
    shape = {"wide": np.log(sides[:, 0] / height), "tall": np.log(sides[:, 1] / height), "low": at.boxes[:, 3] / height,
             "high": at.boxes[:, 1] / height, "aspect": np.log(sides[:, 0] / sides[:, 1]), "label": at.label,
             "edge": np.minimum(at.boxes[:, 0], width - at.boxes[:, 2]) / height}
    time = at.time.assign(**{name: at.time[name].abs() for name in at.time if name.endswith(("_x", "_y"))}, **_alone(at, sides), **_slid(at.time))
    parts = [pd.DataFrame(shape), time, _neighbours(split, at)]
    if seen is not None:
        every, classes = np.arange(len(at.row)), seen[:, :-len(STATES) - 2].copy()
        own = classes[every, at.label - 1]
        classes[every, at.label - 1] = 0
        looked = {name: seen[:, k - len(STATES) - 2] for k, name in enumerate(STATES)}
        looked |= {"own": own, "other": classes.max(axis=1), "move_x": seen[:, -2], "move_y": seen[:, -1]}
        for name in (name for name in SIDES if f"{name}_x" in at.time):  # in this order always: trees break ties by the order of columns
            looked |= {f"{name}_left_{axis}": (at.time[f"{name}_{axis}"] - looked[f"move_{axis}"]).abs() for axis in "xy"}
        parts.append(pd.DataFrame(looked))
    return pd.concat([*parts, *([] if detections is None else [_found(at, detections)])], axis=1)


def _alone(at: Places, sides: np.ndarray) -> dict[str, pd.Series]:
    """What a box is off beyond what the frame's boxes are off in common, in sides: where the camera jolts, they all are."""
    found = {}
    for name, side in (("both_x", sides[:, 0]), ("both_y", sides[:, 1])):
        if name in at.time:
            off = at.time[name] * np.maximum(side, 2)
            found[f"alone_{name}"] = (off - off.groupby(at.frame).transform("median")).abs() / np.maximum(side, 2)
    return found


def _slid(time: pd.DataFrame) -> dict[str, pd.Series]:
    """How far both opposite edges are off the same way, in sides: a shift moves both, what hides a part of an object moves one."""
    found = {}
    for name in (name for name in SIDES if f"{name}_x" in time):
        for axis, side, middle in (("x", "wide", 0.5), ("y", "tall", 1.0)):
            grown = 1 - np.exp(-time[f"{name}_{side}"])
            near, far = time[f"{name}_{axis}"] - middle * grown, time[f"{name}_{axis}"] + (1 - middle) * grown
            found[f"{name}_slid_{axis}"] = np.where(near * far < 0, 0, np.minimum(near.abs(), far.abs())) + 0 * near
    return found


def _neighbours(split: Split, at: Places) -> pd.DataFrame:
    """IoU with another annotated box, the share of it within another, and within one that reaches lower, which is nearer and hides it."""
    corners, edges = split.boxes[BOX].to_numpy(float), np.searchsorted(split.boxes["frame"].to_numpy(), np.arange(len(split) + 1))
    touch, inside, hidden = np.zeros((3, len(at.row)))
    for index in np.unique(at.frame):
        mine, rows = np.flatnonzero(at.frame == index), np.arange(edges[index], edges[index + 1])
        other = at.row[mine, None] != rows
        a, b = at.boxes[mine, None], corners[None, rows]
        common = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=2)
        share = common / np.maximum((a[..., 2:] - a[..., :2]).prod(axis=2), 1e-6)
        touch[mine] = (iou(at.boxes[mine], corners[rows]) * other).max(axis=1, initial=0)
        inside[mine] = (share * other).max(axis=1, initial=0)
        hidden[mine] = (share * other * (b[..., 3] > a[..., 3])).max(axis=1, initial=0)
    return pd.DataFrame({"touch": touch, "inside": inside, "hidden": hidden})


def _found(at: Places, detections: Detections) -> pd.DataFrame:
    """Best score of the label's class and of any other at IoU >= SAME, and the best product of score and IoU."""
    own, other, worth = np.zeros((3, len(at.row)))
    for index in np.unique(at.frame):
        here, mine = detections.of_frame(int(index)), np.flatnonzero(at.frame == index)
        overlap = iou(at.boxes[mine], here.boxes)
        near, same = (overlap >= SAME) * here.score, at.label[mine, None] == here.label
        own[mine], other[mine] = (near * same).max(axis=1, initial=0), (near * ~same).max(axis=1, initial=0)
        worth[mine] = (overlap * here.score).max(axis=1, initial=0)
    return pd.DataFrame({"found_own": own, "found_other": other, "found_worth": worth})
