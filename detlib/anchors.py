"""Anchors: a specification (strides, shapes a level) and the grid of boxes that it makes on an image."""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .boxes import cxcywh_to_xyxy

Shape = tuple[float, float]  # (w, h) px


@dataclass(frozen=True)
class AnchorSpec:
    """Which anchors a detector has: one tuple of shapes (w, h) px for each level's stride px."""

    strides: tuple[int, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    name: str = ""

    def __post_init__(self):
        if len(self.strides) != len(self.shapes):
            raise ValueError(f"{len(self.strides)} strides and {len(self.shapes)} lists of shapes: give one list of shapes for each stride")
        if not all(w > 0 and h > 0 for level in self.shapes for w, h in level):
            raise ValueError("an anchor shape has no extent: widths and heights are pixels above 0")

    @property
    def per_cell(self) -> tuple[int, ...]:
        """Number of anchors A of a cell, for each level."""
        return tuple(len(level) for level in self.shapes)

    def padded(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The next larger image size whose sides are multiples of the largest stride."""
        step = self.strides[-1]
        return -(-image_hw[0] // step) * step, -(-image_hw[1] // step) * step

    def grid_hws(self, image_hw: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows and columns of each level's feature map; the image's sides must be multiples of the largest stride."""
        height, width = image_hw
        if height % self.strides[-1] or width % self.strides[-1]:
            raise ValueError(f"an image of {width} x {height} px does not divide into cells of {self.strides[-1]} px: "
                             "pad it first (detlib.data.loader.pad)")
        return [(height // stride, width // stride) for stride in self.strides]

    def count(self, image_hw: tuple[int, int]) -> int:
        """Number of anchors R on an image."""
        return sum(rows * columns * a for (rows, columns), a in zip(self.grid_hws(image_hw), self.per_cell, strict=True))

    def grid(self, image_hw: tuple[int, int]) -> Tensor:
        """All anchors on an image as (R, 4) cxcywh px, in the order (level, row, column, anchor), the only order of R there is.

        Sizes are clamped to the image's; edges may stick out of it.
        """
        height, width = image_hw
        levels = []
        for stride, shapes, (rows, columns) in zip(self.strides, self.shapes, self.grid_hws(image_hw), strict=True):
            cy = (torch.arange(rows) + 0.5) * stride
            cx = (torch.arange(columns) + 0.5) * stride
            wh = torch.tensor(shapes).clamp(max=torch.tensor([width, height]))  # (A, 2)
            level = torch.empty(rows, columns, len(shapes), 4)
            level[..., 0], level[..., 1], level[..., 2:] = cx[:, None], cy[:, None, None], wh
            levels.append(level.reshape(-1, 4))
        return torch.cat(levels)

    def grid_xyxy(self, image_hw: tuple[int, int]) -> Tensor:
        """The same grid as (R, 4) xyxy px."""
        return cxcywh_to_xyxy(self.grid(image_hw))

    def place(self, index: int, image_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Level, row, column and anchor of the R-th anchor: the inverse of the grid's order."""
        for level, ((rows, columns), a) in enumerate(zip(self.grid_hws(image_hw), self.per_cell, strict=True)):
            if index < rows * columns * a:
                cell, anchor = divmod(index, a)
                return level, *divmod(cell, columns), anchor
            index -= rows * columns * a
        raise IndexError(f"there are only {self.count(image_hw)} anchors")


def ssd_shapes(sizes_hw: Sequence[Sequence[float]], ratios: Sequence[Sequence[float]]) -> tuple[tuple[Shape, ...], ...]:
    """Shapes (w, h) px of each level from SSD's recipe: two squares and, for each ratio, a wide and a high box (Liu et al. 2016, sec. 2.2).

    `sizes_hw` has one entry (h, w) px more than there are levels: the second square of a level is the geometric mean of its size and the next.
    """
    levels = []
    for (h, w), (next_h, next_w), level_ratios in zip(sizes_hw[:-1], sizes_hw[1:], ratios, strict=True):
        shapes = [(w, h), (math.sqrt(w * next_w), math.sqrt(h * next_h))]
        for ratio in level_ratios:
            root = math.sqrt(ratio)
            shapes += [(w * root, h / root), (w / root, h * root)]
        levels.append(tuple(shapes))
    return tuple(levels)


STRIDES = (4, 8, 16, 32, 64, 128)
BASELINE = AnchorSpec(  # the report's first configuration; the last size is 128 high and 400 wide
    STRIDES,
    ssd_shapes([(16, 16), (32, 32), (48, 48), (64, 64), (86, 86), (128, 128), (128, 400)], [[2, 3]] * 4 + [[2]] * 2),
    "baseline",
)
REPORT = AnchorSpec(  # the report's hand-tuned set, section "Using knowledge from the Exploration"
    STRIDES,
    ssd_shapes([(6, 6), (16, 16), (32, 32), (48, 48), (64, 64), (128, 128), (200, 200)],
               [[2, 4], [1.3, 2], [1.3, 4], [1.5, 2, 4], [2, 3, 4], [2, 3, 4]]),
    "report",
)
SPECS = {spec.name: spec for spec in (BASELINE, REPORT)}


def spec_of(name: str) -> AnchorSpec:
    """An anchor set by the name that an experiment gives it."""
    if name not in SPECS:
        raise ValueError(f"no anchor set {name!r} here: there are {', '.join(map(repr, SPECS))}")
    return SPECS[name]
