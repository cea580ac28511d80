"""How pictures come to the network: as they are, scaled down (letterbox), or cut into tiles; chosen from the data, with the reason."""
import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from ..anchors import STRIDES
from .augment import LEAST_SHARE
from .coco import Dataset, Frame, Part, Split, derive_size_limits

STEP = STRIDES[-1]  # px; sides are padded to multiples of it
LEAST_SIZE = 2.0 * STRIDES[0]  # px, sqrt(area): two cells of the finest grid
SMALLEST = 0.1  # share of the objects that may be smaller
OVERLAP = 0.9  # share of the objects that fit into the overlap of two tiles
MERGE_IOU = 0.5  # of two tiles' boxes of one object, as the detector's own NMS
COORDINATES = ["x1", "y1", "x2", "y2", "width", "height"]


@dataclass(frozen=True)
class Plan:
    """What is done to every picture before the network sees it."""

    kind: str  # "letterbox": each scaled to fit the canvas, never up; "tiles": all scaled alike, then cut into canvases
    canvas_hw: tuple[int, int]  # px of the network's input
    scale: float  # network px a picture px; of a letterbox the largest
    overlap: int  # px by which neighbouring tiles overlap
    reason: str

    def parts(self, image_id: object, picture_hw: tuple[int, int]) -> list[tuple[Part, tuple[int, int]]]:
        """The parts that a picture of a size becomes, row by row, each with its size (height, width) in network px."""
        (height, width), (most_h, most_w) = picture_hw, self.canvas_hw
        scale = min(self.scale, most_h / height, most_w / width) if self.kind == "letterbox" else self.scale
        scaled = max(1, round(height * scale)), max(1, round(width * scale))
        hw = min(scaled[0], most_h), min(scaled[1], most_w)
        return [(Part(image_id, picture_hw, scaled, left, top), hw)
                for top in _starts(scaled[0], most_h, self.overlap) for left in _starts(scaled[1], most_w, self.overlap)]


def _starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin that cover a length, the last flush with its end, neighbours overlapping by at least `overlap`."""
    if length <= window:
        return [0]
    count = math.ceil((length - window) / (window - overlap)) + 1
    return [round(k * (length - window) / (count - 1)) for k in range(count)]


def choose(dataset: Dataset, pixels: int) -> Plan | None:
    """The plan for a data set when the network takes pictures of at most so many px; None where they fit as they are.

    Scaled down as a whole, unless more than SMALLEST of the train objects would end under LEAST_SIZE: then tiles, at the scale that keeps those
    above it, or at the full one where even that does not.
    """
    frames = [frame for split in dataset.splits.values() for frame in split.frames]
    sizes = np.array([frame.image_hw for frame in frames] or [(1, 1)], float)
    if (np.ceil(sizes.max(0) / STEP) * STEP).prod() <= pixels:
        return None
    canvases = np.array([(a * STEP, b * STEP) for a in range(1, pixels // STEP**2 + 1) for b in range(1, pixels // STEP**2 // a + 1)], float)
    scales = np.minimum((canvases[:, None] / sizes).min(-1), 1)  # (canvases, frames)
    best = max(range(len(canvases)), key=lambda k: (round(float(np.log(scales[k]).mean()), 4), -canvases[k].prod()))
    canvas, scale = (int(canvases[best][0]), int(canvases[best][1])), float(scales[best].max())
    objects = pd.concat([split.boxes for split in dataset.splits.values()])["size"].to_numpy()
    middle = float(np.median(scales[best]))
    small = float(np.quantile(objects, SMALLEST)) if len(objects) else math.inf
    largest = " x ".join(f"{side:,.0f}" for side in sizes.max(0)[::-1])
    if small * middle >= LEAST_SIZE:
        return Plan("letterbox", canvas, scale, 0, f"pictures of up to {largest} px are scaled to fit {canvas[1]} x {canvas[0]} px ({middle:.2f} of "
                    f"their size in the median): nine of ten objects are still larger than {small * middle:.0f}² px")
    scale = min(1.0, LEAST_SIZE / small)
    square = max(1, math.isqrt(pixels) // STEP) * STEP
    canvas = square, pixels // square // STEP * STEP
    overlap = min(int(np.quantile(objects, OVERLAP) * scale) + 1, min(canvas) // 2)
    return Plan("tiles", canvas, scale, overlap, f"pictures of up to {largest} px are cut into tiles of {canvas[1]} x {canvas[0]} px at {scale:.2f} "
                f"of their size, overlapping by {overlap} px: scaled down as a whole, a tenth of the objects were under {small * middle:.1f}² px, "
                f"and the finest grid has a cell every {STRIDES[0]} px")


def prepared(dataset: Dataset, plan: Plan | None) -> Dataset:
    """A data set as the network sees it: frames and boxes in network px, fingerprints of their own; without a plan the data set itself."""
    if plan is None:
        return dataset
    splits = {name: _prepared(split, plan) for name, split in dataset.splits.items()}
    shrunk = np.median([new.image_hw[0] / new.part.picture_hw[0] for split in splits.values() for new in split.frames if new.part] or [1.0])
    (small, medium), derived = dataset.size_limits, dataset.size_limits == derive_size_limits(dataset.splits)
    limits = derive_size_limits(splits) if derived else (float(small * shrunk), float(medium * shrunk))
    return replace(dataset, splits=splits, size_limits=limits, plan=asdict(plan), panorama=dataset.panorama and plan.kind == "letterbox")


def _prepared(split: Split, plan: Plan) -> Split:
    rows = {int(frame): group for frame, group in split.boxes.groupby("frame")}
    frames: list[Frame] = []
    tables = [split.boxes.iloc[:0]]
    for index, frame in enumerate(split.frames):
        for part, hw in plan.parts(frame.image_id, frame.image_hw):
            if index in rows:
                tables.append(_cut(rows[index], part, hw).assign(frame=len(frames), image_id=len(frames)))
            frames.append(replace(frame, image_id=len(frames), image_hw=hw, part=part))
    boxes = pd.concat(tables, ignore_index=True).astype({"frame": "int64", "image_id": "int64"})
    fingerprint = hashlib.sha256(f"{split.fingerprint}{plan.kind}{plan.canvas_hw}{plan.scale}{plan.overlap}".encode()).hexdigest()
    return replace(split, frames=tuple(frames), boxes=boxes, fingerprint=fingerprint)


def _cut(rows: pd.DataFrame, part: Part, hw: tuple[int, int]) -> pd.DataFrame:
    """A picture's boxes on one of its parts; one of which less than LEAST_SHARE is on it is marked as a crowd: neither learned nor judged."""
    sx, sy = part.scaled_hw[1] / part.picture_hw[1], part.scaled_hw[0] / part.picture_hw[0]
    whole = rows[["x1", "y1", "x2", "y2"]].to_numpy() * [sx, sy, sx, sy] - [part.left, part.top, part.left, part.top]
    inside = whole.clip(0, [hw[1], hw[0]] * 2)
    extent, full = inside[:, 2:] - inside[:, :2], whole[:, 2:] - whole[:, :2]
    share = extent.prod(1) / full.prod(1)
    here = pd.DataFrame(np.column_stack([inside, extent]), columns=COORDINATES, index=rows.index)
    table = rows.assign(**here, size=np.sqrt(extent.prod(1)), aspect=extent[:, 0] / np.maximum(extent[:, 1], 1e-9),
                        area=rows["area"].to_numpy() * sx * sy * share, crowd=rows["crowd"].to_numpy() | (share < LEAST_SHARE))
    return table[(extent > 0).all(1)]


def back(boxes: Tensor, part: Part) -> Tensor:
    """Boxes (D, 4) xyxy of a part, network px, on the picture, picture px."""
    scale = boxes.new_tensor([part.picture_hw[1] / part.scaled_hw[1], part.picture_hw[0] / part.scaled_hw[0]] * 2)
    return (boxes + boxes.new_tensor([part.left, part.top] * 2)) * scale


def merged(found: Sequence[tuple[Tensor, Tensor, Tensor]], parts: Sequence[Part]) -> tuple[Tensor, Tensor, Tensor]:
    """What was found on a picture's parts, on the picture, best first; of boxes that several tiles have of one object the best remains."""
    boxes = torch.cat([back(one[0], part) for one, part in zip(found, parts, strict=True)])
    labels, scores = (torch.cat([one[k] for one in found]) for k in (1, 2))
    keep = batched_nms(boxes, scores, labels, MERGE_IOU) if len(parts) > 1 else scores.argsort(descending=True, stable=True)
    return boxes[keep], labels[keep], scores[keep]


def plan_from(record: dict[str, Any] | None) -> Plan | None:
    """The plan in a run's config."""
    return Plan(**{**record, "canvas_hw": tuple(record["canvas_hw"])}) if record else None
