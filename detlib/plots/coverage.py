"""Figures of how well anchor sets cover objects."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..anchors import AnchorSpec
from ..coverage import Coverage, coverage, positives
from ..data.coco import Dataset, Split, objects
from ..evaluate.compare import pairs
from ..fitting import split_boxes
from ..matching import THRESHOLD
from ..runs import Run
from .anchors import LEVELS
from .strips import faded, picture
from .style import (
    FAINT,
    INK,
    TALLEST,
    WIDTH,
    class_colours,
    label_places,
    legend_above,
    log_limits,
    note,
    pixel_ticks,
    plain,
    rung_colour,
    sheet,
    style,
)

# The ladder's rows that brought the sets in, for their colours; others follow in these
ROWS = {"baseline": "baseline", "report": "report_anchors", "fitted": "fitted_anchors"}
OTHERS = ("#0072B2", "#C49A1A", "#AA4499", "#44AA99")
COVERED, MISSED = "#0072B2", "#D55E00"
MARGIN, FONT = 12, 7.5  # px above and below the objects that are shown; points


def set_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each anchor set: that of its row on the ladder, if it has one."""
    others = iter(OTHERS * len(names))
    return {name: rung_colour(ROWS[name]) if name in ROWS else next(others) for name in names}


def covered(spec: AnchorSpec, split: Split) -> Coverage:
    """The best anchors of a split's boxes."""
    return coverage(spec, split_boxes(split), split.image_hw)


@style()
def recall_curves(specs: Mapping[str, AnchorSpec], splits: Mapping[str, Split]) -> Figure:
    """The share of boxes whose best anchor reaches an IoU, against that IoU: a panel a split, a line a set; the value at matching's threshold."""
    figure, axes = sheet(1, len(splits), 4.4, "How many objects have an anchor that fits?", note(splits), sharey=True)
    thresholds = np.linspace(0.2, 1, 161)
    for axis, (name, split) in zip(axes[0], splits.items(), strict=True):
        for set_name, spec in specs.items():
            found, colour = covered(spec, split), set_colours(list(specs))[set_name]
            iou, anchors = np.sort(found.iou.numpy()), spec.count(spec.padded(split.image_hw))
            axis.plot(thresholds, 1 - np.searchsorted(iou, thresholds) / max(len(iou), 1), color=colour, linewidth=2,
                      label=f"{plain(set_name)}, {anchors:,} anchors: {found.recall():.3f} at {THRESHOLD:g}, mean IoU {found.mean:.3f}")
        axis.axvline(THRESHOLD, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axis.set(title=plain(name), xlabel="IoU of the best anchor, at least", xlim=(thresholds[0], 1), ylim=(0, 1.02))
        axis.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.17))
    axes[0][0].set_ylabel("share of the boxes")
    return figure


@style()
def shape_cloud(specs: Mapping[str, AnchorSpec], split: Split) -> Figure:
    """Width against height of a split's boxes (darker: more), and on them the shapes of each set, a panel per set; both axes log."""
    boxes, image_hw = objects(split), split.image_hw
    sizes = {name: [[(min(w, image_hw[1]), min(h, image_hw[0])) for w, h in level] for level in spec.shapes] for name, spec in specs.items()}
    every = np.array([shape for levels in sizes.values() for level in levels for shape in level])
    limits = log_limits(np.concatenate([boxes[["width", "height"]].to_numpy().ravel(), every.ravel()]))
    columns = min(3, len(specs))
    rows = -(-len(specs) // columns)
    figure, axes = sheet(rows, columns, 1.4 + 3.4 * rows, "Boxes, and shapes to fit them",
                         note({split.name: split}, "grey: boxes, darker: more; dots: shapes, clamped to the image, a colour per level"),
                         sharex=True, sharey=True)
    low, high = np.log10(limits)
    bins = np.linspace(low, high, 48)
    for axis, (name, levels) in zip(axes.flat, sizes.items(), strict=False):
        axis.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
        if len(boxes):
            sns.histplot(boxes, x="width", y="height", bins=(bins, bins), cmap="Greys", ax=axis)
        for k, (stride, level) in enumerate(zip(specs[name].strides, levels, strict=True)):
            axis.plot(*zip(*level, strict=True), "o", color=LEVELS(0.95 * k / max(len(levels) - 1, 1)), markersize=7, markeredgecolor="white",
                      label=f"stride {stride}" if name == next(iter(sizes)) else None)
        anchors = specs[name].count(specs[name].padded(image_hw))
        axis.set(title=f"{plain(name)}: {anchors:,} anchors", xlabel="width, px", ylabel="height, px", aspect="equal")
        axis.label_outer()
        for side in (axis.xaxis, axis.yaxis):
            pixel_ticks(side, limits, most=6)
    for axis in axes.flat[len(sizes):]:
        axis.set_axis_off()
    legend_above(figure, axes.flat[0].get_legend_handles_labels()[0])
    return figure


@style()
def class_recall(specs: Mapping[str, AnchorSpec], dataset: Dataset, splits: Sequence[str] = ("train", "val")) -> Figure:
    """Recall at matching's threshold of each class, a panel a split, a dot a set; a class without objects says so."""
    splits = [name for name in splits if name in dataset]
    rows = len(dataset.categories) + 1
    figure, axes = sheet(1, len(splits), 1.35 + 0.34 * rows, f"Boxes whose best anchor reaches IoU {THRESHOLD:g}, class by class",
                         note({name: dataset[name] for name in splits}), sharey=True)
    colours = set_colours(list(specs))
    for axis, name in zip(axes[0], splits, strict=True):
        labels = torch.cat([torch.zeros(0, dtype=torch.long), *(dataset[name].targets(i)[1] for i in range(len(dataset[name])))])
        found = {set_name: covered(spec, dataset[name]).iou >= THRESHOLD for set_name, spec in specs.items()}
        for place in range(rows):
            group = labels > 0 if place == 0 else labels == place
            if not group.any():
                axis.text(0.02, place, "no objects", va="center", fontsize=9, color=FAINT, style="italic")
                continue
            values = {set_name: float(hit[group].double().mean()) for set_name, hit in found.items()}
            axis.plot([min(values.values()), max(values.values())], [place, place], color="#D0D0D0", linewidth=3, zorder=1)
            for set_name, value in values.items():
                axis.plot([value], [place], "o", color=colours[set_name], markersize=8, markeredgecolor="white")
            axis.annotate(f"{int(group.sum()):,}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=FAINT,
                          annotation_clip=False)
        axis.set(title=plain(name), xlabel="recall", xlim=(0, 1.02), ylim=(rows - 0.5, -0.5),
                 yticks=range(rows), yticklabels=["all", *(plain(c) for c in dataset.categories)])
        axis.grid(axis="y", visible=False)
    legend_above(figure, [Line2D([], [], color=colour, marker="o", linestyle="none", markersize=8, markeredgecolor="white", label=plain(name))
                          for name, colour in colours.items()])
    return figure


@style()
def covered_frame(specs: Mapping[str, AnchorSpec], split: Split, index: int) -> Figure:
    """A frame once for each set: objects with an anchor above matching's threshold solid, those without dashed and named, with their best anchor.

    Only the rows that hold objects are shown, and a wide frame is cut in strips below each other.
    """
    (boxes, labels), (height, width) = split.targets(index), split.frames[index].image_hw
    found = {name: coverage(spec, boxes, split.image_hw) for name, spec in specs.items()}
    top, bottom = (max(0.0, float(boxes[:, 1].min()) - MARGIN), min(float(height), float(boxes[:, 3].max()) + MARGIN)) if len(boxes) else (0, height)
    strips = max(1, round(width / height / 4))
    wide = min(WIDTH - 0.2, TALLEST * width / strips / (bottom - top))
    figure, axes = sheet(len(specs) * strips, 1, 0.9 + len(specs) * (0.32 + strips * (0.06 + wide * strips * (bottom - top) / width)),
                         "Which objects does a set cover?",
                         f"{plain(split.frames[index].file_name, 80)}, the rows with objects; solid blue: an anchor overlaps the object by IoU "
                         f"{THRESHOLD:g} or more;\ndashed orange, with the class: none does; thin black: the best anchor that such an object has")
    image = faded(picture(split, index)[0])
    for place, axis in enumerate(axes[:, 0]):
        (name, spec), (k, part) = list(specs.items())[place // strips], (place % strips, width / strips)
        axis.imshow(image, interpolation="nearest", aspect="auto", alpha=0.5)
        axis.set(xlim=(k * part - 0.5, (k + 1) * part - 0.5), ylim=(bottom - 0.5, top - 0.5), xticks=[], yticks=[])
        axis.grid(visible=False)
        if k == 0:
            axis.set_title(f"{plain(name)}: {int((found[name].iou >= THRESHOLD).sum())} of {len(boxes)} objects")
        _cover(axis, spec, split, boxes, [split.categories[label - 1] for label in labels], found[name])
    return figure


def _cover(axis: Axes, spec: AnchorSpec, split: Split, boxes: torch.Tensor, names: Sequence[str], found: Coverage) -> None:
    """The objects (M, 4) xyxy px of a frame as a set covers them; those in reach are drawn first, the others above them."""
    missed = (found.iou < THRESHOLD).tolist()
    for box, out in zip(boxes.tolist(), missed, strict=True):
        if not out:
            _outline(axis, box, COVERED, "-", 1.6)
    for box, out, level, shape in zip(boxes.tolist(), missed, found.level.tolist(), found.shape.tolist(), strict=True):
        if out:
            _outline(axis, nearest_anchor(spec, box, level, shape, split.image_hw), INK, "-", 0.8)
    for box, out in zip(boxes.tolist(), missed, strict=True):
        if out:
            _outline(axis, box, MISSED, (0, (2, 0.8)), 2.0)
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    point = (right - left) / 72 / (WIDTH - 0.2)  # px of a point, about
    texts = [plain(name, 14) if out else "" for name, out in zip(names, missed, strict=True)]
    sizes = [((0.6 * FONT * len(text) + 3) * point, (1.2 * FONT + 1) * point) if text else (0.0, 0.0) for text in texts]
    for text, spot, (w, h) in zip(texts, label_places(boxes.numpy(), sizes, (left, top, right, bottom)), sizes, strict=True):
        if text and spot:
            axis.add_patch(Rectangle(spot, w, h, facecolor=MISSED, edgecolor="none", alpha=0.9))
            axis.text(spot[0] + w / 2, spot[1] + h / 2, text, fontsize=FONT, color="white", va="center", ha="center", clip_on=True)


def nearest_anchor(spec: AnchorSpec, box: Sequence[float], level: int, shape: int, image_hw: tuple[int, int]) -> list[float]:
    """The anchor (xyxy px) of a level's shape that stands nearest to a box (xyxy px)."""
    stride, (w, h) = spec.strides[level], spec.shapes[level][shape]
    height, width = spec.padded(image_hw)
    w, h = min(w, width), min(h, height)
    cx, cy = ((np.clip((low + high) / 2 // stride, 0, side // stride - 1) + 0.5) * stride
              for low, high, side in ((box[0], box[2], width), (box[1], box[3], height)))
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def _outline(axis: Axes, box: Sequence[float], colour: str, line: object, width: float) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width, linestyle=line,
                             path_effects=[withStroke(linewidth=width + 1.2, foreground="white")]))


def matched(specs: Mapping[str, AnchorSpec], split: Split) -> pd.DataFrame:
    """What matching gives to the objects of a split, a column a set: above the threshold, only by force, none; and the anchors ever used."""
    frames, columns = [split.targets(i)[0] for i in range(len(split))], {}
    for name, spec in specs.items():
        found = positives(spec, frames, split.image_hw)
        number = max(len(found.total), 1)
        groups = {f"with an anchor above IoU {THRESHOLD:g}": found.above > 0, "only by force": found.only_forced, "with no anchor": found.none}
        shares = {group: f"{int(hit.sum()):,} ({int(hit.sum()) / number:.1%})" for group, hit in groups.items()}
        columns[name] = {"objects": f"{len(found.total):,}", **shares,
                         "anchors an object, mean": f"{float(found.total.double().mean()):.1f}" if len(found.total) else "-",
                         "anchors": f"{len(found.uses):,}", "of them ever positive": f"{float((found.uses > 0).double().mean()):.1%}"}
    return pd.DataFrame(columns)


@style()
def gain_against_coverage(dataset: Dataset, before: tuple[AnchorSpec, Sequence[Run]], after: tuple[AnchorSpec, Sequence[Run]]) -> Figure:
    """Each class once: how its recall of anchors changed on val, and how its AP did; runs of the same seeds, a bar from the lowest to the highest."""
    (old, first), (new, second) = before, after
    names = first[0].experiment.rung, second[0].experiment.rung
    both = pairs(first, second)
    figure, axes = sheet(1, 1, 4.4, f"Better covered, better found? {plain(names[1])} against {plain(names[0])}",
                         f"a dot per class, larger with more objects; "
                         f"{f'bars: lowest and highest of {len(both)} pairs of seeds' if len(both) > 1 else 'one pair of trainings'}\n"
                         + note({"val": dataset["val"]}))
    axis, split = axes[0][0], dataset["val"]
    labels = torch.cat([torch.zeros(0, dtype=torch.long), *(split.targets(i)[1] for i in range(len(split)))])
    hits = [covered(spec, split).iou >= THRESHOLD for spec in (old, new)]
    for place, (name, colour) in enumerate(class_colours(dataset.categories).items(), start=1):
        group = labels == place
        if not group.any():
            continue
        x = float(hits[1][group].double().mean() - hits[0][group].double().mean())
        gains = [b.metrics["per_class"][name] - a.metrics["per_class"][name] for a, b in both]
        axis.plot([x, x], [min(gains), max(gains)], color=colour, linewidth=2)
        axis.plot([x], [np.mean(gains)], "o", color=colour, markersize=5 + 1.2 * float(group.sum()) ** 0.33, markeredgecolor="#555555")
        axis.annotate(plain(name), (x, np.mean(gains)), xytext=(9, 5), textcoords="offset points", fontsize=9,
                      path_effects=[withStroke(linewidth=3, foreground="white")])
    axis.axhline(0, color=FAINT, linewidth=1)
    axis.axvline(0, color=FAINT, linewidth=1)
    axis.margins(0.12)
    axis.set(xlabel=f"change of recall at IoU {THRESHOLD:g}, anchors alone", ylabel="change of AP")
    return figure
