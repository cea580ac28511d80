"""How well an anchor set covers objects: the best anchor of every box, and what matching gives to every object, without building all the pairs."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from .anchors import AnchorSpec
from .boxes import iou, xyxy_to_cxcywh
from .data.coco import Dataset, Split
from .matching import THRESHOLD

CHUNK = 8192  # boxes at a time: bounds the memory, and keeps a level's arrays in a core's cache
SLACK = 0.97  # windows reach down to this part of the IoU that matters: float32 errs by less, except on the boxes that FINEST sends to the whole grid
FRAMES = 32  # frames matched at a time
FINEST = 3e-5  # of the image's longer side: overlaps below this are near the rounding of a corner's coordinate


@dataclass(frozen=True)
class Coverage:
    """The best anchor of each of M boxes."""

    iou: Tensor  # (M,)
    level: Tensor  # (M,)
    shape: Tensor  # (M,) index among the level's shapes

    def recall(self, threshold: float = THRESHOLD) -> float:
        """Share of the boxes whose best anchor has at least this IoU; nan without boxes."""
        return float((self.iou >= threshold).double().mean())

    @property
    def mean(self) -> float:
        """Mean IoU of the boxes with their best anchors; nan without boxes."""
        return float(self.iou.double().mean())


def coverage(spec: AnchorSpec, boxes: Tensor, image_hw: tuple[int, int]) -> Coverage:
    """The best anchor of every box (M, 4) xyxy px on an image, padded as for the network: shapes x boxes IoUs instead of anchors x boxes.

    Nothing is left out: all cells of a level have the same shapes, so an anchor's overlap with a box only shrinks as their centres part, on each axis
    by itself, and the best anchor of a shape stands in the cell nearest to the box. Equal to the maximum over the whole grid up to rounding;
    of shapes that are equally good up to rounding it may name another one.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes of shape {tuple(boxes.shape)}: give (M, 4), the corners x1, y1, x2, y2 in px")
    image_hw = spec.padded(image_hw)
    best, index = torch.empty(len(boxes)), torch.empty(len(boxes), dtype=torch.long)
    for start in range(0, len(boxes), CHUNK):  # into arrays made before: small results kept between large temporaries fragment the heap
        part = slice(start, start + CHUNK)
        best[part], index[part] = best_by_shape(spec, boxes[part].float(), image_hw).max(dim=0)  # over (S, M)
    level, shape = torch.tensor([(k, a) for k, shapes in enumerate(spec.shapes) for a in range(len(shapes))]).T
    return Coverage(best, level[index], shape[index])


def best_by_shape(spec: AnchorSpec, boxes: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """IoU (S, M) of every box with the best-placed anchor of each of the S shapes of all levels; `image_hw` is padded."""
    columns = xyxy_to_cxcywh(boxes).T.contiguous()
    return torch.cat([nearest_iou(columns, sizes, stride, image_hw) for stride, sizes in zip(spec.strides, clamped(spec, image_hw), strict=True)])


def clamped(spec: AnchorSpec, image_hw: tuple[int, int]) -> list[Tensor]:
    """Sizes (A, 2) px of every level's anchors, clamped to the image's as in the grid."""
    return [torch.tensor(shapes).clamp(max=torch.tensor(image_hw[::-1])) for shapes in spec.shapes]


def nearest_iou(boxes: Tensor, sizes: Tensor, stride: int | Tensor, image_hw: tuple[int, int]) -> Tensor:
    """IoU (A, M) of boxes with each size (A, 2) in their nearest cell; `boxes` is (4, M) cxcywh px, columns for speed. Differentiable in both.

    The stride is one for all, or each size's (A, 1).
    """
    cx, cy, w, h = boxes
    inter = nearest_overlap(cx, w, sizes[:, :1], stride, image_hw[1]) * nearest_overlap(cy, h, sizes[:, 1:], stride, image_hw[0])
    return inter / (w * h + sizes.prod(1, keepdim=True) - inter)


def nearest_overlap(centre: Tensor, extent: Tensor, size: Tensor, stride: int | Tensor, side: int) -> Tensor:
    """Overlap (A, M) px on one axis of boxes (M,) and anchors (A, 1) in the nearest cell of an image's side; a stride for all, or for each (A, 1)."""
    last = side // stride - 1
    cell = (centre / stride).floor().clamp(min=0)
    cell = cell.minimum(last) if isinstance(last, Tensor) else cell.clamp(max=last)
    away = (centre - (cell + 0.5) * stride).abs()
    return (torch.minimum(extent / 2 + away, size / 2) + torch.minimum(extent / 2 - away, size / 2)).clamp(min=0)


def coverage_table(spec: AnchorSpec, dataset: Dataset, split: str = "val") -> pd.DataFrame:
    """Boxes, recall at 0.5 and 0.7 and mean IoU of a split: of all boxes, of each class and of each of the data's size classes; without crowds."""
    table = dataset[split].boxes.query("~crowd")
    found = coverage(spec, torch.from_numpy(table[["x1", "y1", "x2", "y2"]].to_numpy("float32").copy()), dataset[split].image_hw)
    area = table["size"] ** 2
    groups = {"all": table["label"] > 0, **{name: table["category"] == name for name in dataset.categories},
              **{name: (area >= low) & (area < high) for name, (low, high) in dataset.size_names.items()}}
    rows = {}
    for name, group in groups.items():
        part = Coverage(*(column[torch.from_numpy(group.to_numpy().copy())] for column in (found.iou, found.level, found.shape)))
        figures = (part.recall(0.5), part.recall(0.7), part.mean) if group.any() else ("no objects",) * 3
        rows[name] = dict(zip(("boxes", "recall@0.5", "recall@0.7", "mean IoU"), (int(group.sum()), *figures), strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")


@dataclass(frozen=True)
class Positives:
    """What matching gives to M objects, numbered through all frames, and how often it uses each of R anchors."""

    above: Tensor  # (M,) anchors that stand for the object with an IoU above the threshold
    total: Tensor  # (M,) all anchors that stand for it, the forced one included
    uses: Tensor  # (R,) frames in which the anchor is positive

    @property
    def only_forced(self) -> Tensor:
        """Objects (M,) that have an anchor only because each claims its best one."""
        return (self.above == 0) & (self.total > 0)

    @property
    def none(self) -> Tensor:
        """Objects (M,) left without an anchor, theirs being claimed by a later object."""
        return self.total == 0


def positives(spec: AnchorSpec, boxes_by_frame: Sequence[Tensor], image_hw: tuple[int, int], threshold: float = THRESHOLD) -> Positives:
    """What `matching.match` does on every frame's boxes (M, 4) xyxy px, counted; the image is padded as for the network."""
    image_hw = spec.padded(image_hw)
    grid = _grid(spec, image_hw)
    above, total, uses = [], [], torch.zeros(len(grid), dtype=torch.long)
    for start in range(0, max(1, len(boxes_by_frame)), FRAMES):
        part = boxes_by_frame[start:start + FRAMES]
        boxes, frame = _joined(part)
        held, objects, strong = _match_frames(spec, grid, boxes, frame, image_hw, threshold)
        above.append(torch.bincount(objects[strong], minlength=len(boxes)))
        total.append(torch.bincount(objects, minlength=len(boxes)))
        uses += torch.bincount(held % len(grid), minlength=len(grid))
    return Positives(torch.cat(above), torch.cat(total), uses)


def sets_side_by_side(sets: Mapping[str, AnchorSpec], dataset: Dataset) -> pd.DataFrame:
    """What anchor sets offer, one row each: recall at two IoUs and mean IoU on val, and how many anchors teach an object of train."""
    train, val, rows = dataset["train"], dataset["val"], {}
    for name, spec in sets.items():
        found = coverage(spec, torch.cat([torch.zeros(0, 4), *(val.targets(i)[0] for i in range(len(val)))]), val.image_hw)
        taught = positives(spec, [train.targets(i)[0] for i in range(len(train))], train.image_hw)
        rows[name] = {"recall at 0.5": found.recall(0.5), "recall at 0.7": found.recall(0.7), "mean IoU": found.mean,
                      "positive anchors an object": taught.total.double().mean().item(),
                      "matched only by force": taught.only_forced.double().mean().item()}
    return pd.DataFrame.from_dict(rows, orient="index")


def match_local(spec: AnchorSpec, boxes_by_frame: Sequence[Tensor], image_hw: tuple[int, int], threshold: float = THRESHOLD) -> tuple[Tensor, Tensor]:
    """The positives of a batch, decided as `matching.match` decides on `spec.grid_xyxy(image_hw)`, number for number; on the CPU.

    Anchors (P,), numbered n * R + r through the batch and ascending, and the objects (P,) that they stand for, numbered through the batch: what
    `matching.targets` takes. It looks at the cells around each box alone, and at all frames at once.
    """
    boxes, frame = _joined(boxes_by_frame)
    return _match_frames(spec, _grid(spec, image_hw), boxes, frame, image_hw, threshold)[:2]


@lru_cache(maxsize=8)
def _grid(spec: AnchorSpec, image_hw: tuple[int, int]) -> Tensor:
    """The grid, made once; read only."""
    return spec.grid_xyxy(image_hw)


def anchor_use(spec: AnchorSpec, split: Split) -> pd.DataFrame:
    """One row a shape: its level, stride, size (w, h) px as clamped, how many anchors have it, how many are ever positive, and how often."""
    image_hw = spec.padded(split.image_hw)
    found = positives(spec, [split.targets(index)[0] for index in range(len(split))], image_hw)
    rows, start = [], 0
    for level, ((height, width), sizes) in enumerate(zip(spec.grid_hws(image_hw), clamped(spec, image_hw), strict=True)):
        stop = start + height * width * len(sizes)
        uses = found.uses[start:stop].view(-1, len(sizes))
        rows += [{"level": level, "stride": spec.strides[level], "w": round(w, 1), "h": round(h, 1), "anchors": height * width,
                  "ever positive": int((column > 0).sum()), "times positive": int(column.sum())}
                 for (w, h), column in zip(sizes.tolist(), uses.T, strict=True)]
        start = stop
    return pd.DataFrame(rows)


def _match_frames(spec: AnchorSpec, grid: Tensor, boxes: Tensor, frame: Tensor, image_hw: tuple[int, int],
                  threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Positive anchors (P,), ascending, numbered frame * R + r, their objects (P,), and whether their IoU is above the threshold (P,).

    `boxes` (M, 4) of all frames lie one after another, `frame` (M,) says which is whose. A pair's IoU comes from the function and the float32
    corners that `match` uses, so it is the same number to the last bit; only which pairs are looked at is an estimate, and a generous one.
    """
    boxes = boxes.float()
    anchor, m = _pairs(spec, boxes, image_hw, threshold)
    overlap = iou(grid[anchor, None], boxes[m, None])[:, 0, 0]
    anchors, anchor = (anchor + frame[m] * len(grid)).unique(return_inverse=True)  # from here numbered among those that are looked at

    highest = torch.zeros(len(anchors)).scatter_reduce_(0, anchor, overlap, "amax")
    mine = (overlap > threshold) & (overlap == highest[anchor])
    matched = torch.full((len(anchors),), -1)
    matched.scatter_reduce_(0, anchor[mine], m[mine], "amin", include_self=False)  # of equal objects the first
    top = overlap == torch.zeros(len(boxes)).scatter_reduce_(0, m, overlap, "amax")[m]
    claimed = torch.full((len(boxes),), len(anchors)).scatter_reduce_(0, m[top], anchor[top], "amin")  # of equal anchors the first
    matched.scatter_reduce_(0, claimed, torch.arange(len(boxes)), "amax", include_self=False)  # of objects that claim the same anchor the last
    strong = torch.zeros(len(anchors), dtype=torch.bool)
    strong[anchor[(overlap > threshold) & (matched[anchor] == m)]] = True
    (held,) = torch.where(matched >= 0)
    return anchors[held], matched[held], strong[held]


class _Layout(NamedTuple):
    """Every shape of every level, (S, 1) each: its size px, the stride px, rows and columns of its level's grid, and how its anchors are numbered."""

    w: Tensor
    h: Tensor
    stride: Tensor
    rows: Tensor
    cols: Tensor
    first: Tensor  # number of its anchor in the first cell
    step: Tensor  # from a cell to the next


@lru_cache(maxsize=8)
def _layout(spec: AnchorSpec, image_hw: tuple[int, int]) -> _Layout:
    lines, start = [], 0
    for sizes, stride, (rows, cols) in zip(clamped(spec, image_hw), spec.strides, spec.grid_hws(image_hw), strict=True):
        lines += [(w, h, stride, rows, cols, start + a, len(sizes)) for a, (w, h) in enumerate(sizes.tolist())]
        start += rows * cols * len(sizes)
    w, h, *counts = zip(*lines, strict=True)
    return _Layout(torch.tensor(w)[:, None], torch.tensor(h)[:, None], *(torch.tensor(column)[:, None] for column in counts))


def _pairs(spec: AnchorSpec, boxes: Tensor, image_hw: tuple[int, int], threshold: float) -> tuple[Tensor, Tensor]:
    """Every anchor (P,) and object (P,) whose IoU is above `threshold` or the object's highest, and some more: a window of cells for each shape.

    IoU >= f asks for an intersection of at least f / (1 + f) of both areas' sum. What the best row leaves to be found on x bounds the
    distance of the centres on x, and the best column that on y. Anchors are numbered as in the grid.
    """
    own, (cx, cy, w, h) = _layout(spec, image_hw), xyxy_to_cxcywh(boxes).T.contiguous()
    across = nearest_overlap(cx, w, own.w, own.stride, image_hw[1])  # (S, M)
    along = nearest_overlap(cy, h, own.h, own.stride, image_hw[0])
    inter, areas = across * along, w * h + own.w * own.h
    floor = SLACK * (inter / (areas - inter)).amax(0).clamp(max=threshold)
    everywhere = floor * (boxes[:, 2:] - boxes[:, :2]).amin(1) < FINEST * max(image_hw)  # touches no anchor, or is a splinter
    need = floor / (1 + floor) * areas
    s, m = torch.where((inter >= need) & ~everywhere)  # (Q,)
    of, need, across, along = _Layout(*(column[s, 0] for column in own)), need[s, m], across[s, m], along[s, m]
    x0, nx = _window(cx[m], (w[m] + of.w) / 2 - need / along, of.stride, of.cols)
    y0, ny = _window(cy[m], (h[m] + of.h) / 2 - need / across, of.stride, of.rows)
    number = nx * ny
    pair = torch.repeat_interleave(number)
    k = torch.arange(len(pair)) - (number.cumsum(0) - number)[pair]
    width = nx[pair]
    row = k // width
    cell = (y0[pair] + row) * of.cols[pair] + x0[pair] + k - row * width
    (wild,) = torch.where(everywhere)
    every = spec.count(image_hw)
    return (torch.cat([of.first[pair] + cell * of.step[pair], torch.arange(every).repeat(len(wild))]),
            torch.cat([m[pair], wild.repeat_interleave(every)]))


def _window(centre: Tensor, reach: Tensor, stride: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """First cell and number of cells whose centres lie within `reach` px of `centre`, on one axis."""
    first = ((centre - reach) / stride - 0.5).ceil().clamp(min=0)
    last = ((centre + reach) / stride - 0.5).floor().minimum(cells - 1)
    return first.long(), (last - first + 1).clamp(min=0).long()


def _joined(boxes_by_frame: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) of all frames, and which of the frames each is in (M,)."""
    counts = torch.tensor([len(boxes) for boxes in boxes_by_frame], dtype=torch.long)
    return torch.cat([torch.zeros(0, 4), *boxes_by_frame]), torch.repeat_interleave(counts)
