"""Figures of anchors: on a toy, and on a frame."""
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from pandas.io.formats.style import Styler
from torch import Tensor

from ..anchors import AnchorSpec
from ..boxes import area, iou
from ..data.coco import Split
from ..matching import THRESHOLD, match, objects_by_match
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
    """The part of a frame around its object of median size, its objects, and every anchor shape of the cells nearest to that object's centre.

    Of the finest `levels` only, and then seen from nearer, where they are named.
    """
    image, boxes = split.image(index), split.targets(index)[0]
    height, width = image.shape[-2:]
    x1, y1, x2, y2 = boxes[area(boxes).argsort()[len(boxes) // 2]].tolist() if len(boxes) else (0, 0, width, height)
    point = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    tall = height if levels is None else min(height, 1.6 * max(h for shapes in spec.shapes[:levels] for _, h in shapes))
    shown = min(width, 3 * tall)
    left, top = (float(np.clip(middle - side / 2, 0, whole - side))
                 for middle, side, whole in ((point[0], shown, width), (point[1], tall, height)))
    figure, axes = sheet(1, 1, 1.25 + 9.8 * tall / shown, f"The {spec.name} anchors around one object",
                         f"outlines: all shapes of the cells nearest to the cross{'' if levels is None else f', of the {levels} finest levels'}, "
                         "clamped to the image; a colour per level\n"
                         f"white: objects of {plain(split.frames[index].file_name, 80)}; the cross is on the one of median size")
    axis = axes[0][0]
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", alpha=0.4)
    for x1, y1, x2, y2 in boxes.tolist():
        axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, facecolor="#FFFFFFB0", edgecolor="black", linewidth=1.2))
    for level, (stride, shapes) in enumerate(zip(spec.strides[:levels], spec.shapes[:levels], strict=True)):
        cx, cy = (np.floor(point / stride) + 0.5) * stride
        colour = LEVELS(0.95 * level / len(spec.strides))
        for n, (w, h) in enumerate(shapes):
            w, h = min(w, width), min(h, height)
            axis.add_patch(Rectangle((cx - w / 2 - 0.5, cy - h / 2 - 0.5), w, h, fill=False, edgecolor=colour, linewidth=1.4,
                                     label=f"stride {stride}" if n == 0 else None))
    axis.plot(*point, "+", color="#D55E00", markersize=14, markeredgewidth=2)
    axis.set(xlim=(left - 0.5, left + shown - 0.5), ylim=(top + tall - 0.5, top - 0.5), xticks=[], yticks=[])
    figure.legend(loc="outside upper right", ncols=len(spec.strides), handlelength=1.2, columnspacing=1)
    axis.grid(visible=False)
    return figure


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
