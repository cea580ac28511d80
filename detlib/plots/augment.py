"""Figures of augmentation: what it does to a picture, to the statistics of the boxes, and what it costs."""
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..boxes import hw_of
from ..data.augment import LEAST_IOU, LEAST_PART, LEAST_SHARE, Sample, sampled_window, window
from ..data.coco import Split
from .style import DPI, FAINT, INK, WIDTH, Sheet, class_legend, draw_boxes, pictures, plain, sheet, style

GROUPS = {"reading": "#4D4D4D", "augmentation": "#D55E00", "batch": "#A6A6A6", "matching": "#0072B2"}
DASHES = (0, (5, 3))
QUANTITIES = {"width": "box width, px", "height": "box height, px", "x": "box centre / picture width", "objects": "objects a picture",
              "edge": "boxes at an edge"}


def varied(split: Split) -> int:
    """The frame that shows the most classes; of several, the one with the fewest boxes."""
    frames = split.boxes.groupby("frame")["label"].agg(["nunique", "size"])
    return int(frames.sort_values(["nunique", "size"], ascending=[False, True], kind="stable").index[0])


def before_after(before: Sample, after: Sample, categories: Sequence[str], title: str, frame: tuple[int, int, int, int] | None = None,
                 seam: int | None = None) -> Figure:
    """A sample above, what an augmentation made of it below, both with their boxes.

    `frame` (left, top, width, height) is drawn dashed into the upper picture; for a roll by `seam` px, the line along which it is cut open, and
    what that line cuts is filled white above and below.
    """
    panels = [_panel(sample, f"{name}: {sample[0].shape[-1]} x {sample[0].shape[-2]} px, {count(sample)}")
              for name, sample in (("before", before), ("after", after))]
    figure = pictures(panels, categories, title, strips=1)
    upper, lower = figure.axes
    if frame:
        _dashed(upper, frame, hw_of(before[0]))
    if seam is not None:
        place, width = -seam % before[0].shape[-1], after[0].shape[-1]
        upper.axvline(place - 0.5, color="white", linewidth=2, linestyle=DASHES, path_effects=[withStroke(linewidth=4, foreground="black")])
        old, new = before[1], after[1]
        cut = old[(old[:, 0] < place) & (old[:, 2] > place)]
        edge = new[((new[:, 0] <= 0) | (new[:, 2] >= width)) & torch.isin(new[:, 3], cut[:, 3])]
        for axes, boxes in ((upper, cut), (lower, edge)):
            for x1, y1, x2, y2 in boxes.tolist():
                axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, facecolor="white", edgecolor="none", alpha=0.35))
    return figure


def _dashed(axes: Axes, frame: tuple[int, int, int, int], image_hw: tuple[int, int], text: str = "") -> None:
    """A dashed frame, drawn inside the picture also where it runs along its edge."""
    left, top, width, height = frame
    inset = 0.008 * image_hw[0]
    x1, y1 = max(left - 0.5, inset - 0.5), max(top - 0.5, inset - 0.5)
    x2, y2 = min(left + width - 0.5, image_hw[1] - 0.5 - inset), min(top + height - 0.5, image_hw[0] - 0.5 - inset)
    halo = [withStroke(linewidth=4, foreground="black")]
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=2, linestyle=DASHES, path_effects=halo))
    if text:
        axes.text((x1 + x2) / 2, y1 + 0.03 * image_hw[0], text, color="white", fontsize=11, weight="bold", ha="center", va="top", path_effects=halo)


@style()
def sampled_crops(sample: Sample, categories: Sequence[str], least: float = LEAST_IOU, number: int = 6, seed: int = 0) -> Figure:
    """SSD's sampled crop drawn several times: the patches on the picture, and below what each leaves, all at one scale."""
    draws = [sampled_window(sample, np.random.default_rng([seed, k]), least) for k in range(number)]
    height, width = sample[0].shape[-2:]
    shown, wides, talls = WIDTH * height / width, [found[2] if found else 0 for found in draws], [found[3] if found else 1 for found in draws]
    caption, gap, least_wide = 0.45, 0.1, 0.95  # inches; a caption takes the last
    scales = np.linspace(0.1, 1, 91) * min(2.4 / max(talls), 4 * WIDTH / width)  # inches a px
    fitting = [s for s in scales if sum(max(s * wide, least_wide) + gap for wide in wides) <= WIDTH + gap]
    scale = float(max(fitting, default=scales[0]))
    present = {categories[label - 1] for label in sample[2]}
    head = 0.69 + 0.21 * class_legend(Sheet(figsize=(WIDTH, 1)), categories, present)
    total = head + shown + caption + scale * max(talls) + 0.06
    figure = Sheet(figsize=(WIDTH, total), dpi=DPI)
    figure.suptitle(f"Random patches whose IoU with an object is at least {least:g}", x=0.008, y=1 - 0.06 / total, ha="left", va="top")
    class_legend(figure, categories, present, loc="upper left", borderaxespad=0, bbox_to_anchor=(0.008, 1 - 0.33 / total))

    def show(part: Sample, left: float, top: float, inches: float, text: str) -> Axes:
        tall, wide = (side * inches for side in part[0].shape[-2:])
        axes = figure.add_axes((left / WIDTH, (top - tall) / total, wide / WIDTH, tall / total))
        axes.imshow(part[0].permute(1, 2, 0).numpy(), interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        draw_boxes(axes, part[1].numpy(), part[2].numpy(), categories, names=False)
        figure.text(left / WIDTH + 0.002, (top + 0.06) / total, text, fontsize=9.5, va="bottom")
        return axes

    upper = show(sample, 0, total - head, WIDTH / width, f"before: {width} x {height} px, {count(sample)}")
    left = 0.0
    for k, (found, wide) in enumerate(zip(draws, wides, strict=True), start=1):
        at = left
        left += max(scale * wide, least_wide) + gap
        if not found:
            figure.text(at / WIDTH + 0.002, (total - head - caption - shown + 0.06) / total, f"{k}: none fits,\nunchanged", fontsize=9.5, va="bottom")
            continue
        result = window(sample, *found)
        size = f"{wide} x {found[3]} px\n{len(result[1])} box{'es' * (len(result[1]) != 1)}"
        show(result, at, total - head - caption - shown, scale, f"{k}: {size}")
        _dashed(upper, found, (height, width), str(k))
    return figure


def _panel(sample: Sample, caption: str) -> dict:
    image, boxes, labels = sample
    return {"caption": caption, "image": image.permute(1, 2, 0).numpy(), "boxes": boxes.numpy(), "labels": labels.numpy(), "scores": None}


def count(sample: Sample) -> str:
    """`15 boxes, 2 of them at the left or right edge`."""
    boxes, width = sample[1], sample[0].shape[-1]
    edge = int(((boxes[:, 0] <= 0.5) | (boxes[:, 2] >= width - 0.5)).sum())
    return f"{len(boxes)} box{'es' * (len(boxes) != 1)}" + (f", {edge} of them at the left or right edge" if edge else "")


@style()
def by_channel(before: Sample, after: Sample, channels: Sequence[str], categories: Sequence[str]) -> Figure:
    """Every channel of a sample, grey, left as it was and right as an augmentation left it, with its boxes and the means and spreads."""
    height, width = before[0].shape[-2:]
    tall = min(4.95 * height / width, 2.2)
    figure, axes = sheet(len(channels), 2, 0.45 + len(channels) * (0.33 + tall), "The same boxes, other pixels, channel by channel",
                         "mean ± standard deviation of the grey levels, 0 to 255")
    for row, name in enumerate(channels):
        for axis, (when, (image, boxes, labels)) in zip(axes[row], (("before", before), ("after", after)), strict=True):
            plane = image[row].numpy()
            axis.imshow(plane, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            same = when == "after" and bool((before[0][row] == image[row]).all())
            axis.set_title(f"{plain(name)}, {when}: {plane.mean():.0f} ± {plane.std():.0f}" + (", untouched" if same else ""), fontsize=9.5)
            axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            axis.set_axis_off()
            draw_boxes(axis, boxes.numpy(), labels.numpy(), categories, names=False, line=1.0)
    return figure


@style()
def box_statistics(table: pd.DataFrame) -> Figure:
    """How each augmentation changes the boxes, a row each: widths, heights, places, number a picture, and share at an edge; from `box_statistics`."""
    names = list(dict.fromkeys(table["augmentation"]))
    note = (f"{table['frame'].nunique()} frames, {table['draw'].nunique()} draws of each augmentation, applied always. Bars hold 50 %, lines 90 %, "
            "the dot is the median (of objects: the mean); grey line: as they are\n"
            f"a crop drops objects of which less than {LEAST_SHARE:.0%} is left; a roll drops parts narrower than {LEAST_PART:g} px")
    figure, axes = sheet(1, 5, 1.55 + 0.52 * len(names), "What augmentation does to the boxes", note, sharey=True, width_ratios=(3, 3, 3, 3, 2))
    rows = {name: table[table["augmentation"] == name] for name in names}
    for axis, quantity in zip(axes[0], QUANTITIES, strict=True):
        values = {name: part["x"].map(len).to_numpy(float) if quantity == "objects" else np.concatenate([*part[quantity]]).astype(float)
                  for name, part in rows.items()}
        draw = {"x": _density, "edge": _share}.get(quantity, _spread)
        middle = np.mean if quantity == "objects" else np.median
        for place, (name, value) in enumerate(values.items()):
            if len(value):
                draw(axis, place, value, GROUPS["augmentation" if name != "none" else "reading"], middle)
        if draw is _spread and len(values["none"]):
            axis.axvline(middle(values["none"]), color="#A6A6A6", linewidth=1, zorder=0.5)
        axis.set_title(QUANTITIES[quantity], fontsize=9.5)
        axis.grid(axis="y", visible=False)
        axis.set_xlim(left=0 if quantity == "edge" else -0.05 * axis.get_xlim()[1])
    axes[0][0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.6))
    axes[0][2].set(xlim=(0, 1), xticks=(0, 0.5, 1))
    axes[0][4].margins(x=0.45)
    axes[0][4].xaxis.set_major_formatter("{x:.0%}")
    return figure


def _spread(axis: Axes, place: int, values: np.ndarray, colour: str, middle: Callable[[np.ndarray], float]) -> None:
    low, first, third, high = np.quantile(values, (0.05, 0.25, 0.75, 0.95))
    axis.plot([low, high], [place, place], color=colour, linewidth=1.2)
    axis.plot([first, third], [place, place], color=colour, linewidth=6, alpha=0.4, solid_capstyle="butt")
    axis.plot(middle(values), place, "o", color=colour, markersize=6, markeredgecolor="white")
    axis.annotate(f"{middle(values):.3g}", (middle(values), place), xytext=(0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=8.5)


def _density(axis: Axes, place: int, values: np.ndarray, colour: str, _: object, bins: int = 16) -> None:
    counts, edges = np.histogram(values, bins=bins, range=(0, 1))
    tall = place + 0.38 - 0.35 * bins * counts / counts.sum()
    axis.stairs(np.maximum(tall, place - 0.55), edges, baseline=place + 0.38, fill=True, color=colour, alpha=0.45)
    axis.plot([0, 1], [place + 0.38 - 0.35] * 2, color=FAINT, linewidth=0.7, linestyle=(0, (2, 2)))  # an even spread


def _share(axis: Axes, place: int, values: np.ndarray, colour: str, _: object) -> None:
    axis.barh(place, values.mean(), height=0.4, color=colour, alpha=0.55)
    axis.annotate(f"{values.mean():.1%}", (values.mean(), place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)


@style()
def loader_costs(costs: pd.DataFrame) -> Figure:
    """What each part of the loader takes for an image, a bar each with its least and most; from `benchmark.loader_costs`."""
    figure, axes = sheet(1, 1, 1.3 + 0.31 * len(costs), "What an image costs the loader",
                         f"bar: median of {costs.attrs['rounds']} rounds over {costs.attrs['images']} train images, line: least to most; "
                         f"one thread, all parts in turn\nmatching: {costs.attrs['anchors']:,} anchors; augmentations on whole frames, always")
    axis, names = axes[0][0], list(costs.index)
    for place, (_, row) in enumerate(costs.iterrows()):
        axis.barh(place, row["ms"], height=0.62, color=GROUPS[row["group"]])
        axis.plot([row["least"], row["most"]], [place, place], color=INK, linewidth=1.2)
        axis.annotate(f"{row['ms']:.2g} ms   ({row['least']:.2g} to {row['most']:.2g})", (max(row["most"], row["ms"]), place), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=9)
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlim=(0, 1.3 * costs["most"].max()), xlabel="ms an image")
    for label, group in zip(axis.get_yticklabels(), costs["group"], strict=True):
        label.set_color(GROUPS[group] if group != "batch" else FAINT)
    axis.grid(axis="y", visible=False)
    return figure
