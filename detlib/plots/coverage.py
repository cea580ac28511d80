"""Figures of how well anchor sets cover objects."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
from .style import FAINT, INK, class_colours, log_limits, note, pixel_ticks, plain, rung_colour, sheet, style

# The ladder's rows that brought the sets in, for their colours; others follow in these
ROWS = {"baseline": "baseline", "report": "report_anchors", "fitted": "fitted_anchors"}
OTHERS = ("#0072B2", "#C49A1A", "#AA4499", "#44AA99")
COVERED, MISSED = "#56B4E9", "#D55E00"


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
    figure, axes = sheet(rows, columns, 1.0 + 3.4 * rows, "Boxes, and shapes to fit them",
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
    figure.legend(loc="outside upper right", ncols=len(next(iter(specs.values())).strides), handletextpad=0.1, columnspacing=0.8)
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
                axis.plot([value], [place], "o", color=colours[set_name], markersize=8, markeredgecolor="white",
                          label=plain(set_name) if place == 0 else None)
            axis.annotate(f"{int(group.sum()):,}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=FAINT,
                          annotation_clip=False)
        axis.set(title=plain(name), xlabel="recall", xlim=(0, 1.02), ylim=(rows - 0.5, -0.5),
                 yticks=range(rows), yticklabels=["all", *(plain(c) for c in dataset.categories)])
        axis.grid(axis="y", visible=False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=len(specs), handletextpad=0.1)
    return figure


@style()
def covered_frame(specs: Mapping[str, AnchorSpec], split: Split, index: int) -> Figure:
    """A frame once for each set: objects with an anchor above matching's threshold solid, those without dashed, and the best anchor of these."""
    image, (boxes, _) = split.image(index), split.targets(index)
    height, width = image.shape[-2:]
    figure, axes = sheet(len(specs), 1, 0.9 + len(specs) * (10.0 * height / width + 0.32), "Which objects does a set cover?",
                         f"{plain(split.frames[index].file_name, 80)}; solid: an anchor overlaps the object by IoU {THRESHOLD:g} or more; "
                         "dashed: none does; white: the best that there is")
    for axis, (name, spec) in zip(axes[:, 0], specs.items(), strict=True):
        found = coverage(spec, boxes, split.image_hw)
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", alpha=0.75, aspect="auto")
        for box, overlap, level, shape in zip(boxes.tolist(), found.iou.tolist(), found.level.tolist(), found.shape.tolist(), strict=True):
            if overlap < THRESHOLD:
                _outline(axis, nearest_anchor(spec, box, level, shape, split.image_hw), "white", "-", 1.0)
        for box, overlap in zip(boxes.tolist(), found.iou.tolist(), strict=True):
            _outline(axis, box, COVERED if overlap >= THRESHOLD else MISSED, "-" if overlap >= THRESHOLD else (0, (3, 1.5)), 1.8)
        share = f"{int((found.iou >= THRESHOLD).sum())} of {len(boxes)} objects"
        axis.set(title=f"{plain(name)}: {share}", xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
        axis.grid(visible=False)
    return figure


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
                             path_effects=[withStroke(linewidth=width + 1.2, foreground=INK)]))


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
                         f"a dot per class, larger with more objects; bars: lowest and highest of {len(both)} pair{'s' * (len(both) > 1)} of seeds\n"
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
        axis.annotate(plain(name), (x, np.mean(gains)), xytext=(9, 5), textcoords="offset points", fontsize=9)
    axis.axhline(0, color=FAINT, linewidth=1)
    axis.axvline(0, color=FAINT, linewidth=1)
    axis.margins(0.12)
    axis.set(xlabel=f"change of recall at IoU {THRESHOLD:g}, anchors alone", ylabel="change of AP")
    return figure
