"""The table of findings: one for each place that is probably wrong, with the sentence that says why."""
from dataclasses import replace

import numpy as np
import pandas as pd

from ..data.coco import Dataset, Split
from ..data.planting import BOX, KINDS, similar_classes
from ..evaluate.coco import Detections
from ..runs import kept, state_of
from ..tracks import Motion
from .chances import chances
from .crops import STATES
from .evidence import FREE, Places, iou

SHAPE = "shape"  # the kind of a box whose sides its class does not have; nothing is planted of it
FEWEST = 200  # boxes from which errors can be learned
LOWEST = 0.02  # score of a finding that is shown
FAR = 4.0  # robust standard deviations of a side that its class does not have
RIGHT = [f"right_{name}" for name in BOX]
BESIDE = ["before_x", "before_y", "after_x", "after_y"]
COLUMNS = ["kind", "frame", "file", "annotation", *BOX, "category", *RIGHT, "right_category", "score", "why", *BESIDE]


def findings(split: Split, dataset: Dataset, detections: Detections | None = None, seed: int = 0) -> pd.DataFrame:
    """Suspicious annotations, most suspicious first: one row an error, with the box and class that would be right.

    `annotation` is -1 for a missing box, whose place is x1..y2; before_x..after_y say where the object is in the frames beside. `score` is the
    estimated probability that the finding is right, if the errors are of the kinds that `planting.plant` makes: it is learned from such errors,
    planted into the split. Fewer than FEWEST boxes cannot teach it, and then only sides are compared. Boxes with sides of no other of their class
    come last, as kind SHAPE, without a probability (NaN). Detections should be of a model that was trained on other clips; without them, and
    without clips, no box is found to be missing. Crowds are left out, and so are classes that hardly occur in other clips (`chances.KNOWN`).
    """
    def make() -> pd.DataFrame:
        return suspects(split, dataset, detections, seed)

    return kept("findings", [split.fingerprint, dataset.panorama, seed], make, state_of(split)) if detections is None else make()


def suspects(split: Split, dataset: Dataset, detections: Detections | None, seed: int) -> pd.DataFrame:
    """`findings`, made anew each time."""
    clean = replace(split, boxes=split.boxes[~split.boxes["crowd"]].reset_index(drop=True))
    shapes = _of_shape(clean)
    if len(clean.boxes) < FEWEST or len(clean) < 3:
        return shapes
    at, chance, seen, motion = chances(clean, dataset.panorama, detections, seed)
    rows = []
    for place in np.flatnonzero(chance.max(axis=1) >= LOWEST):
        kind = KINDS[int(chance[place].argmax())]
        row = _row(clean, at, int(place), kind, float(chance[place].max()), None if seen is None else seen[place])
        rows.append({**row, **dict(zip(BESIDE, _beside(clean, motion, at, int(place)), strict=True))})
    found = pd.DataFrame(rows, columns=COLUMNS).sort_values("score", ascending=False, kind="stable", ignore_index=True)
    found = found[_once(found)]
    known = found[found["annotation"] != -1]["annotation"]
    return pd.concat([found, shapes[~shapes["annotation"].isin(known)]] if len(shapes) else [found], ignore_index=True)


def _once(found: pd.DataFrame) -> np.ndarray:
    """Which findings stay: a missing box goes where a surer finding explains the place."""
    keep = np.ones(len(found), bool)
    boxes, better = found[BOX].to_numpy(float), found[RIGHT].to_numpy(float)
    for _, group in found.groupby("frame"):
        taken = np.zeros((0, 4))
        for place in group.index:
            if found["kind"][place] == "missing" and iou(boxes[place], taken).max(initial=0) >= FREE:
                keep[place] = False
            else:
                taken = np.concatenate([taken, boxes[place][None], better[place][None]])
    return keep


def _row(split: Split, at: Places, place: int, kind: str, score: float, seen: np.ndarray | None) -> dict:
    row, frame, label = int(at.row[place]), int(at.frame[place]), int(at.label[place])
    box, right, better = at.boxes[place], at.boxes[place], label
    if kind == "shifted":
        right = at.expected[place]
        if not np.isfinite(right).all():
            right = box if seen is None else box - np.tile(seen[-2:] * (box[2:] - box[:2]), 2)
    if kind == "class":
        better = _other_class(split, at, place, seen)
    category = split.categories[label - 1]
    return {"kind": kind, "frame": frame, "file": split.frames[frame].file_name, "annotation": -1 if row < 0 else split.boxes["annotation"].iloc[row],
            **dict(zip(BOX, box, strict=True)), "category": category, **dict(zip(RIGHT, right, strict=True)),
            "right_category": split.categories[better - 1], "score": score, "why": _why(split, at, place, kind, better)}


def _beside(split: Split, motion: Motion, at: Places, place: int) -> np.ndarray:
    """Where the object's middle is in the frame before and the frame after, (4,) px, or would be if it stood still; NaN without such a frame."""
    middles, frame = np.full((2, 2), np.nan), int(at.frame[place])
    x1, y1, x2, y2 = at.boxes[place]
    state = np.array([(x1 + x2) / 2, y2, np.log(max(x2 - x1, 1)), np.log(max(y2 - y1, 1))])
    for k, other in enumerate((frame - 1, frame + 1)):
        if at.beside[place, k] >= 0:
            corners = split.boxes.iloc[at.beside[place, k]][BOX].to_numpy(float)
            middles[k] = (corners[:2] + corners[2:]) / 2
        elif (frame, other) in motion.flows:
            x, low, _, tall = motion.carried(state[None], frame, other)[0]
            middles[k] = x, low - np.exp(tall) / 2
    return middles.ravel()


def _other_class(split: Split, at: Places, place: int, seen: np.ndarray | None) -> int:
    """The label that the other frames show, else the crop, else the class most like the annotated one."""
    label = int(at.label[place])
    if at.usual[place] not in (0, label):
        return int(at.usual[place])
    if seen is not None:
        classes = seen[:-len(STATES) - 2].copy()
        classes[label - 1] = -1
        return int(classes.argmax()) + 1
    return split.categories.index(similar_classes(split)[split.categories[label - 1]][0]) + 1


def _why(split: Split, at: Places, place: int, kind: str, better: int) -> str:
    name, time = split.categories[at.label[place] - 1], at.time.iloc[place]
    known = [word for word in ("before", "after") if time[word] > 0]
    around = f"the frames {' and '.join(known)}" if known else ""
    if kind == "missing":
        return f"{name} expected here from {around}" if around else f"a model finds {name} here"
    if kind == "spurious":
        if around:
            return f"the picture does not look like {name}"
        return f"no {name} near here in the frames around" if time["since"] + time["until"] > 0 else f"the picture does not look like {name}"
    if kind == "shifted":
        off = np.abs([time.get("both_x", np.nan), time.get("both_y", np.nan)]).max()
        return f"{off:.0%} of its side from where {around} expect it" if off > 0.1 else f"the picture under it shows {name} off its middle"
    other, count = split.categories[better - 1], time["before"] + time["after"]
    if at.usual[place] == better:
        return f"{name} here, {other} in {round(time['most'] * count):g} of its {count:g} other frames"
    return f"it looks like {other}"


def _of_shape(split: Split) -> pd.DataFrame:
    """Boxes whose width or height is far from what their class has at their row: the median line of its logarithm over the lower edge."""
    table = split.boxes
    rows = []
    height = np.array([frame.image_hw[0] for frame in split.frames], float)[table["frame"].to_numpy()] if len(table) else np.zeros(0)
    for name, group in table.groupby("category", observed=True):
        place, low = group.index.to_numpy(), group["y2"].to_numpy(float) / height[group.index]
        for side in ("width", "height"):
            value = np.log(group[side].to_numpy(float) / height[place])
            off = value - _median_line(low, value)
            spread = max(1.4826 * np.median(np.abs(off)), 0.1)
            rows += [(abs(off[k]) / spread, place[k], f"its {side} is {np.exp(off[k]):.2g} times what {name} has at this row") for k in
                     np.flatnonzero(np.abs(off) > FAR * spread)]
    best = {}
    for far, place, why in sorted(rows, key=lambda one: one[0]):
        best[place] = (far, why)
    order = sorted(best, key=lambda place: -best[place][0])
    found = table.loc[order, ["frame", "annotation", *BOX, "category"]].assign(kind=SHAPE, score=np.nan, why=[best[place][1] for place in order])
    found["category"] = found["right_category"] = found["category"].astype(object)
    found["file"] = [split.frames[frame].file_name for frame in found["frame"]]
    found[RIGHT] = found[BOX].to_numpy()
    return found.reindex(columns=COLUMNS).reset_index(drop=True)


def _median_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The line through (x, y) with the least absolute deviations, at each x, by reweighted least squares."""
    terms, weight = np.stack([np.ones_like(x), x - x.mean()], axis=1), np.ones_like(y)
    for _ in range(20):
        line = np.linalg.solve((terms * weight[:, None]).T @ terms + 1e-6 * np.eye(2), (terms * weight[:, None]).T @ y)
        weight = 1 / np.maximum(np.abs(y - terms @ line), 1e-3)
    return terms @ line
