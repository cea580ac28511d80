"""Figures of anchors: on a toy, and on a frame."""
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from pandas.io.formats.style import Styler
from torch import Tensor

from ..anchors import AnchorSpec
from ..boxes import iou
from ..data.coco import Split
from ..matching import THRESHOLD, match
from .style import FAINT, class_colours, plain, sheet, style

LEVELS = matplotlib.colormaps["viridis"]


@style()
def toy_matching(spec: AnchorSpec, image_hw: tuple[int, int], boxes: Tensor, names: Sequence[str]) -> Figure:
    """A small grid, its objects (M, 4) xyxy px filled, and every anchor that matching gives to one of them, in the object's colour.

    Solid: its IoU is above the threshold. Dashed: below, taken only because an object has no better one.
    """
    height, width = image_hw
    grid = spec.grid_xyxy(image_hw)
    matched, overlap = match(grid, boxes), iou(grid, boxes)
    colours = list(class_colours(names).values())
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


def toy_table(spec: AnchorSpec, image_hw: tuple[int, int], boxes: Tensor, names: Sequence[str], most: int = 8) -> pd.DataFrame:
    """The anchors of highest IoU with any object: where they lie, their IoU with each object, and what matching makes of them."""
    grid = spec.grid_xyxy(image_hw)
    overlap, matched = iou(grid, boxes), match(grid, boxes)
    best = overlap.max(1).values.argsort(descending=True, stable=True)[:most].tolist()
    rows = [{"anchor": index, **dict(zip(("level", "row", "column", "shape"), spec.place(index, image_hw), strict=True)),
             **{f"IoU with {name}": f"{value:.2f}" for name, value in zip(names, overlap[index].tolist(), strict=True)},
             "stands for": names[int(matched[index])] if matched[index] >= 0 else "background"} for index in best]
    return pd.DataFrame(rows).set_index("anchor")


@style()
def shapes_on_frame(spec: AnchorSpec, split: Split, index: int, at: tuple[float, float] = (0.5, 0.62)) -> Figure:
    """One frame with its objects, and every anchor shape of the cells nearest to one point (share of width, height), a colour a level."""
    image = split.image(index)
    height, width = image.shape[-2:]
    figure, axes = sheet(1, 1, 1.25 + 9.8 * height / width, f"The anchors of one place, {spec.name} set",
                         "outlines: all shapes of the cells nearest to the cross, clamped to the image; a colour a level\n"
                         f"white: the frame's {len(split.targets(index)[1])} objects, {plain(split.frames[index].file_name, 80)}")
    axis = axes[0][0]
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", alpha=0.45)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    for x1, y1, x2, y2 in split.targets(index)[0].tolist():
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor="#FFFFFFB0", edgecolor="black", linewidth=0.8))
    point = np.array([at[0] * width, at[1] * height])
    for level, (stride, shapes) in enumerate(zip(spec.strides, spec.shapes, strict=True)):
        cx, cy = (np.floor(point / stride) + 0.5) * stride
        for n, (w, h) in enumerate(shapes):
            w, h = min(w, width), min(h, height)
            colour = LEVELS(0.15 + 0.8 * level / len(spec.strides))
            axis.add_patch(Rectangle((cx - w / 2, cy - h / 2), w, h, fill=False, edgecolor=colour, linewidth=1.3,
                                     label=f"stride {stride}" if n == 0 else None))
    axis.plot(*point, "+", color="black", markersize=10)
    figure.legend(loc="outside upper right", ncols=len(spec.strides), handlelength=1.2, columnspacing=1)
    axis.grid(visible=False)
    return figure


def anchor_table(spec: AnchorSpec, image_hw: tuple[int, int]) -> Styler:
    """Each level's stride, map, shapes and number of anchors on an image; the last row is their sum."""
    rows = [{"stride (px)": str(stride), "map (rows x columns)": f"{rows} x {columns}",
             "shapes (w x h, px)": ", ".join(f"{w:.0f} x {h:.0f}" for w, h in shapes), "anchors": rows * columns * len(shapes)}
            for stride, shapes, (rows, columns) in zip(spec.strides, spec.shapes, spec.grid_hws(image_hw), strict=True)]
    table = pd.DataFrame(rows, index=[f"level {k}" for k in range(len(rows))])
    table.loc["all"] = ["", "", "", table["anchors"].sum()]
    return table.style.set_properties(**{"text-align": "right"})
