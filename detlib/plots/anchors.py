"""Figures of anchors: on a toy, and on a frame."""
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.typing import ColorType
from pandas.io.formats.style import Styler
from torch import Tensor

from ..anchors import AnchorSpec
from ..boxes import area, iou
from ..data.coco import Split
from ..matching import THRESHOLD, match, objects_by_match
from .strips import picture
from .style import FAINT, class_colours, legend_above, plain, sheet, style

LEVELS = matplotlib.colormaps["viridis"]
MIDDLE = "#D55E00"  # the object of median size
CLOSEST = 3  # shapes that are shown from nearer


@style()
def toy_matching(spec: AnchorSpec, image_hw: tuple[int, int], boxes: Tensor, names: Sequence[str],
                 categories: Sequence[str] = ()) -> Figure:
    """A small grid, its objects (M, 4) xyxy px filled, and every anchor that matching gives to one of them, in the object's colour.

    Solid: its IoU is above the threshold. Dashed: below, taken only because an object has no better one. A name among `categories` has its colour.
    """
    height, width = image_hw
    grid = spec.grid_xyxy(image_hw)
    matched, overlap = match(grid, boxes), iou(grid, boxes)
    known = class_colours(list(dict.fromkeys([*categories, *names])))
    colours = [known[name] for name in names]
    counts = [int((matched == m).sum()) for m in range(len(boxes))]
    figure, axes = sheet(1, 1, 1.1 + 9.0 * height / width, f"{len(grid)} anchors, {int((matched >= 0).sum())} positive",
                         "filled: objects; outlines: their positive anchors, solid above IoU "
                         f"{THRESHOLD:g}, dashed only by force; dots: cell centres")
    axis = axes[0][0]
    for (x1, y1, x2, y2), colour, name, count in zip(boxes.tolist(), colours, names, counts, strict=True):
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, color=colour, alpha=0.35, linewidth=0))
        axis.text(x1, y1 - 0.6, f"{name}: {count} anchor{'s' * (count != 1)}", va="bottom", fontsize=9.5, zorder=5,
                  path_effects=[withStroke(linewidth=3, foreground="white")])
    for index in (matched >= 0).nonzero().flatten().tolist():
        x1, y1, x2, y2 = grid[index].tolist()
        m = int(matched[index])
        forced = overlap[index, m] <= THRESHOLD
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colours[m], linewidth=1.6, linestyle="--" if forced else "-"))
    centres = spec.grid(image_hw)[:, :2].unique(dim=0)
    axis.plot(*centres.T, ".", color=FAINT, markersize=4)
    axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="px", ylabel="px")
    axis.grid(visible=False)
    return figure


def toy_table(spec: AnchorSpec, image_hw: tuple[int, int], boxes: Tensor, names: Sequence[str]) -> pd.DataFrame:
    """Every positive anchor: where it lies, its IoU with each object, for which it stands, and by which half of the rule."""
    grid = spec.grid_xyxy(image_hw)
    overlap, matched = iou(grid, boxes), match(grid, boxes)
    rows = {index: {**dict(zip(("level", "row", "column", "shape"), spec.place(index, image_hw), strict=True)),
                    **{f"IoU with {name}": f"{value:.2f}" for name, value in zip(names, overlap[index].tolist(), strict=True)},
                    "stands for": names[int(matched[index])], "because": "IoU" if overlap[index, matched[index]] > THRESHOLD else "forced"}
            for index in (matched >= 0).nonzero().flatten().tolist()}
    return pd.DataFrame(rows).T


@style()
def shapes_on_frame(spec: AnchorSpec, split: Split, index: int, levels: int | None = None) -> Figure:
    """The part of a frame around its object of median size: left every anchor shape of the cells nearest to that object, right the closest three.

    Of the finest `levels` only, and then seen from nearer, where they are named. A frame without objects has the left panel alone.
    """
    boxes = split.targets(index)[0]
    height, width = split.frames[index].image_hw
    chosen = boxes[area(boxes).argsort()[len(boxes) // 2]][None] if len(boxes) else torch.tensor([[0.0, 0, width, height]])
    point = ((chosen[0, :2] + chosen[0, 2:]) / 2).numpy()
    shapes = _around(spec, point, (height, width), levels)
    tall = height if levels is None else min(height, 1.6 * max(h for level in spec.shapes[:levels] for _, h in level))
    shown = min(width, 2 * tall)
    columns = 1 + (len(boxes) > 0)
    figure, axes = sheet(1, columns, 0.6 + 0.6 * columns + 9.3 * tall / (shown + tall * (columns - 1)), f"The {spec.name} anchors around one object",
                         f"left: all shapes of the cells nearest to the cross{'' if levels is None else f', of the {levels} finest levels'}, "
                         "clamped to the image, a colour per level; right: the three that fit best, from nearer\n"
                         f"white: objects of {plain(split.frames[index].file_name, 80)}; the cross is on the one of median size, "
                         "outlined on the right", width_ratios=(shown / tall, 1)[:columns])
    image = picture(split, index)[0]
    _scene(axes[0][0], image, boxes, point, (shown, tall))
    for level, box in shapes:
        _shape(axes[0][0], box, _level_colour(spec, level), 0.9)
    if columns > 1:
        _closest(axes[0][1], image, spec, shapes, chosen, boxes, point)
    legend_above(figure, [Patch(fill=False, edgecolor=_level_colour(spec, level), linewidth=1.4, label=f"stride {stride}")
                          for level, stride in enumerate(spec.strides[:levels])])
    return figure


def _level_colour(spec: AnchorSpec, level: int) -> tuple[float, float, float, float]:
    return LEVELS(0.95 * level / len(spec.strides))


def _around(spec: AnchorSpec, point: np.ndarray, image_hw: tuple[int, int], levels: int | None) -> list[tuple[int, list[float]]]:
    """Level and box (xyxy px) of every shape of the cells nearest to a point."""
    found = []
    for level, (stride, shapes) in enumerate(zip(spec.strides[:levels], spec.shapes[:levels], strict=True)):
        cx, cy = (np.floor(point / stride) + 0.5) * stride
        for w, h in ((min(w, image_hw[1]), min(h, image_hw[0])) for w, h in shapes):
            found.append((level, [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
    return found


def _scene(axis: Axes, image: np.ndarray, boxes: Tensor, point: np.ndarray, wh: tuple[float, float]) -> None:
    """The part of a picture around a point, moved inside it, with its objects white and a cross on the point."""
    height, width = image.shape[:2]
    left, top = (float(np.clip(middle - side / 2, 0, max(whole - side, 0))) for middle, side, whole in zip(point, wh, (width, height), strict=True))
    axis.imshow(image, interpolation="nearest", alpha=0.4)
    for x1, y1, x2, y2 in boxes.tolist():
        axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, facecolor="#FFFFFFB0", edgecolor="black", linewidth=1.2))
    axis.plot(*point, "+", color=MIDDLE, markersize=14, markeredgewidth=2, zorder=5)
    axis.set(xlim=(left - 0.5, left + wh[0] - 0.5), ylim=(top + wh[1] - 0.5, top - 0.5), xticks=[], yticks=[])
    axis.set_anchor("N")
    axis.grid(visible=False)


def _shape(axis: Axes, box: Sequence[float], colour: ColorType, line: float) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=line))


def _closest(axis: Axes, image: np.ndarray, spec: AnchorSpec, shapes: Sequence[tuple[int, Sequence[float]]], chosen: Tensor, boxes: Tensor,
             point: np.ndarray) -> None:
    """The three shapes of highest IoU with the chosen object (1, 4), numbered, and below them their sizes and IoU."""
    every = torch.tensor([box for _, box in shapes], dtype=torch.float64)
    overlap = iou(every, chosen.double())[:, 0]
    best = overlap.argsort(descending=True, stable=True)[:CLOSEST].tolist()
    side = 1.5 * 2 * float((torch.cat([every[best], chosen.double()]).reshape(-1, 2, 2) - torch.tensor(point)).abs().max())
    _scene(axis, image, boxes, point, (side, side))
    _shape(axis, chosen[0].tolist(), MIDDLE, 2.2)
    told = []
    for rank, place in enumerate(best):
        level, (x1, y1, x2, y2) = shapes[place]
        colour = _level_colour(spec, level)
        _shape(axis, shapes[place][1], colour, 2.2)
        x, y = ((x1, y1), (x2, y1), (x1, y2))[rank]
        axis.text(x - 0.5, y - 0.5, str(rank + 1), fontsize=9, weight="bold", color="white", ha="center", va="center", zorder=6,
                  bbox={"boxstyle": "circle,pad=0.2", "facecolor": colour, "edgecolor": "white", "linewidth": 0.8})
        told.append(f"{rank + 1}: {x2 - x1:.0f} x {y2 - y1:.0f} px, stride {spec.strides[level]}: IoU {overlap[place]:.2f}")
    w, h = (chosen[0, 2:] - chosen[0, :2]).tolist()
    axis.set_xlabel("\n".join([f"object: {w:.0f} x {h:.0f} px", *told]), fontsize=9, loc="left", linespacing=1.4)


def matching_summary(spec: AnchorSpec, split: Split, most: int = 60) -> pd.DataFrame:
    """How the objects of a split are matched, over at most `most` frames spread evenly over it."""
    indices = split.spread(most)
    grid = spec.grid_xyxy(spec.padded(split.image_hw))
    counts = torch.cat([objects_by_match(grid, split.targets(i)[0]) for i in indices])
    above, every = counts.unbind(-1)
    rows = {f"above IoU {THRESHOLD:g}": above > 0, "only by force": (above == 0) & (every > 0), "no anchor left": every == 0}
    table = pd.DataFrame({"objects": {name: int(hit.sum()) for name, hit in rows.items()}})
    table["share"] = [f"{n / max(len(counts), 1):.1%}" for n in table["objects"]]
    table["anchors an object (median)"] = [f"{every[hit].median():g}" if hit.any() else "-" for hit in rows.values()]
    table.loc["all"] = [len(counts), f"in {len(indices)} {split.name} frames", ""]
    return table


def anchor_table(spec: AnchorSpec, image_hw: tuple[int, int]) -> Styler:
    """Each level's stride, map, shapes and number of anchors on an image (padded to the strides); the last row is their sum."""
    image_hw = spec.padded(image_hw)
    rows = [{"stride (px)": str(stride), "map (rows x columns)": f"{rows} x {columns}",
             "shapes (w x h, px)": ", ".join(f"{w:.0f} x {h:.0f}" for w, h in shapes), "anchors": rows * columns * len(shapes)}
            for stride, shapes, (rows, columns) in zip(spec.strides, spec.shapes, spec.grid_hws(image_hw), strict=True)]
    table = pd.DataFrame(rows, index=[f"level {k}" for k in range(len(rows))])
    table.loc["all"] = ["", "", "", table["anchors"].sum()]
    return table.style.set_properties(**{"text-align": "right"})
