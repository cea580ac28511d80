"""Figures of what one model gained and lost on another: bars for each class, and the objects themselves."""
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..boxes import iou
from ..data.coco import Dataset, Split
from ..evaluate.changes import KINDS, Changes, Tally, amount, called, headline, tallies
from ..evaluate.compare import FEWEST_CLIPS
from ..evaluate.intervals import LEVEL
from ..evaluate.outcomes import IOU, Outcome
from .strips import picture
from .style import DPI, FAINT, WIDTH, Sheet, class_legend, draw_boxes, on_colour, plain, sheet, style

COLOURS = ("#8C8C8C", "#0072B2", "#C49A1A", "#DEDEDE")  # of the first four KINDS: blue is for the better, ochre for the worse
HATCH = "////"  # of what was lost
UNCLEAR = "#B5B5B5"  # an interval that holds zero
ACROSS, DOWN = 6, 2  # crops of a kind
WIDE, HIGH, CAPTION, HEADING, GAP = 1.63, 1.22, 0.44, 0.34, 0.092  # inches
CONTEXT, LEAST = 1.6, 36.0  # a crop's sides are at least so many times the box's, and so many px high
TOUCHING = 0.1  # IoU from which a detection is told as the one beside an object


@style()
def gains(found: Sequence[Changes], dataset: Dataset) -> Figure:
    """For all objects, each class and each size: bars of what was found by both, gained, lost, missed by both; and both nets with intervals.

    An interval that holds zero is grey: no measurable difference.
    """
    counted = tallies(found, dataset)
    order = {"all": 0, "class": 1, "size": 2}
    rows = sorted(counted, key=lambda tally: (order[tally.kind], -tally.objects if tally.kind == "class" else 0))
    first, second = (plain(name, 30) for name in called(found))
    figure, axes = sheet(1, 3, 2.25 + 0.34 * len(rows), f"From {first} to {second}: objects gained and lost", _note(found, dataset), sharey=True,
                         width_ratios=(2.7, 1.3, 1.3))
    for place, tally in enumerate(rows):
        _bars(axes[0][0], place, tally)
        if tally.objects:
            _net(axes[0][1], place, tally, tally.net, tally.objects, (COLOURS[1], COLOURS[2]))
        _net(axes[0][2], place, tally, tally.net_false, 1, (COLOURS[2], COLOURS[1]))
    _dress(axes[0], rows)
    told = ("missed by both", f"lost: found by {first} only", f"gained: found by {second} only", "found by both")
    handles = [Patch(facecolor=COLOURS[place], hatch=HATCH if place == 2 else None, edgecolor="white", linewidth=0, label=text)
               for place, text in zip((3, 2, 1, 0), told, strict=True)]
    height = figure.get_size_inches()[1]
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.25 / height))  # type: ignore[union-attr, call-arg]  # room for the legend below the title
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.008, 1 - 0.33 / height), ncols=4, borderaxespad=0, columnspacing=1.6)
    return figure


def _dress(axes: Sequence[Axes], rows: Sequence[Tally]) -> None:
    """Titles, ticks and limits of the three panels, and lines between all, classes and sizes."""
    bars, net, false = axes
    bars.set(yticks=range(len(rows)), yticklabels=[f"{plain(tally.name)}: {tally.objects:,}" for tally in rows],
             ylim=(len(rows) - 0.4, -0.6), xlim=(-1, 1), xlabel="share of the objects")
    bars.set_title("not found after", loc="left")
    bars.set_title("found after", loc="right")
    bars.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0%}")
    net.set(title="gained - lost", xlabel="share of the objects")
    net.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%".replace("-", "\N{MINUS SIGN}"))
    false.set(title="false alarms: new - gone", xlabel="number")
    for axis in axes:
        axis.axvline(0, color=FAINT, linewidth=1.2, zorder=3)
        axis.grid(axis="y", visible=False)
        for place in np.flatnonzero([a.kind != b.kind for a, b in pairwise(rows)]):
            axis.axhline(place + 0.5, color="#B8B8B8", linewidth=0.8)
    for axis, most in ((net, 1.0), (false, np.inf)):
        ends = [abs(value) for line in axis.lines for value in np.ravel(line.get_xdata()) if line.get_gid() == "net"]
        end = 1.1 * min(most, max([1e-3, *ends]))
        axis.set_xlim(-end, end)
        steps = [digit * 10.0**power for power in range(-4, 7) for digit in (1, 1.5, 2, 3, 4, 5, 6, 8)]
        tick = max(step for step in steps if step <= max(0.85 * end, 1e-4))  # far enough from zero for its number to stand beside it
        axis.set_xticks((-tick, 0, tick))


def _note(found: Sequence[Changes], dataset: Dataset) -> str:
    """What the bars rest on."""
    split, several = found[0].split, len(found) > 1
    if len(split.clips) < FEWEST_CLIPS:
        over = "one clip gives no interval"
    else:
        over = f"{LEVEL:.0%} interval over {len(split.clips)} clips" + (f" and {len(found)} pairs of seeds" if several else "; one training each")
    return (f"{plain(headline(found), 120)}; data {plain(dataset.name, 40)}, {plain(split.name)}: {len(split):,} frames\n"
            f"{over}; grey: no measurable difference{'; numbers are means over the pairs' if several else ''}\n"
            "each interval is for its row alone: of twenty rows without a difference, one may well show some")


def _bars(axis: Axes, place: int, tally: Tally) -> None:
    """To the right of zero what was gained and what both found, to the left what was lost and what both missed; numbers where there is room."""
    if not tally.objects:
        axis.text(0, place, "no objects", ha="center", va="center", fontsize=9, color=FAINT, style="italic", zorder=4,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        return
    both, gained, lost, neither = (tally.counts[kind] / tally.objects for kind in KINDS[:4])
    parts = ((gained, both, 0), (0.0, gained, 1), (-lost, lost, 2), (-lost - neither, neither, 3))  # left end, length, place in KINDS
    for start, length, kind in parts:
        axis.barh(place, length, 0.72, left=start, color=COLOURS[kind], hatch=HATCH if kind == 2 else None, edgecolor="white", linewidth=0)
        text = amount(tally.counts[KINDS[kind]], sign=False)
        if length > 0.046 + 0.052 * len(text):
            axis.text(start + length / 2, place, text, ha="center", va="center", fontsize=8.5, color=on_colour(COLOURS[kind]),
                      bbox={"facecolor": COLOURS[kind], "edgecolor": "none", "pad": 1} if kind == 2 else None)


def _net(axis: Axes, place: int, tally: Tally, net: tuple[float, float, float], scale: float, colours: tuple[str, str]) -> None:
    """A dot with its interval, and beside the panel the numbers."""
    value, low, high = net
    colour = UNCLEAR if low <= 0 <= high or tally.clips < FEWEST_CLIPS else colours[0] if value > 0 else colours[1]
    axis.plot([low / scale, high / scale], [place, place], color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt", gid="net")
    axis.plot([value / scale], [place], "o", color=colour, markersize=5.5, markeredgecolor="white", gid="net")
    text = f"{amount(value)} [{amount(low)}, {amount(high)}]" if tally.clips >= FEWEST_CLIPS else amount(value)
    axis.annotate(text, (1.03, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, annotation_clip=False)


class Crop(NamedTuple):
    """A thing to show: its frame, the detection, the object that it overlaps if there is one (boxes xyxy px), and the lines below it."""

    frame: int
    label: int
    found: np.ndarray  # (4,)
    object_label: int
    box: np.ndarray | None  # (4,)
    told: tuple[str, ...]


@style()
def crops(seen: Changes, title: str = "") -> Figure:
    """The objects newly found and newly lost and the new false alarms themselves, largest first, a fixed number of each, the rest counted.

    Neighbouring frames repeat each other: of a clip's objects of one class the second is shown only where there are too few others.
    """
    first, second = (plain(name, 30) for name in called([seen]))
    sections = {f"Newly found by {second}": _objects(seen.gained, seen.after, seen.before, "before"),
                f"Newly lost by {second}; the solid box is what {first} had found": _objects(seen.lost, seen.before, seen.after, "after"),
                f"New false alarms of {second}": _alarms(seen)}
    heights = [HEADING + -(-len(shown) // ACROSS) * (HIGH + CAPTION) for shown, _ in sections.values()]
    labels = {label for shown, _ in sections.values() for crop in shown for label in (crop.label, crop.object_label) if label}
    categories = seen.split.categories
    figure = Sheet(figsize=(WIDTH, 1), dpi=DPI)
    figure.compression = 1
    head = 0.4 + 0.21 * class_legend(figure, categories, [categories[label - 1] for label in labels], loc="upper left", borderaxespad=0)
    total = head + sum(heights) + 0.65
    figure.set_size_inches(WIDTH, total)
    figure.suptitle(title or f"From {first} to {second}: the objects themselves", x=0.008, y=1 - 0.06 / total, ha="left", va="top")
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0.008, 1 - 0.33 / total))
    figure.text(0.008, 0.05 / total, _crops_note(seen), fontsize=9, color=FAINT, va="bottom", linespacing=1.3)
    top = total - head
    for (heading, (shown, count)), tall in zip(sections.items(), heights, strict=True):
        number = f"{len(shown)} of {count:,} shown" if len(shown) < count else f"all {count}" if count else "none"
        _section(figure, f"{heading}: {number}", shown, seen.split, top - HEADING, total)
        top -= tall
    return figure


def _section(figure: Figure, heading: str, shown: Sequence[Crop], split: Split, top: float, total: float) -> None:
    """Crops in rows below their heading, each with its lines below it."""
    figure.text(0.008, (top + 0.07) / total, heading, fontsize=10.5, weight="bold", va="bottom")
    for place, crop in enumerate(shown):
        row, column = divmod(place, ACROSS)
        left, base = column * (WIDE + GAP), top - row * (HIGH + CAPTION) - HIGH
        _draw(figure.add_axes((left / WIDTH, base / total, WIDE / WIDTH, HIGH / total)), split, crop)
        figure.text((left + 0.03) / WIDTH, (base - 0.03) / total, "\n".join(crop.told), fontsize=6.8, va="top", linespacing=1.25)


def _draw(axes: Axes, split: Split, crop: Crop) -> None:
    """The picture around a crop's boxes, moved inside the frame where it fits; the object dashed, the detection solid."""
    extent_wh = np.array(split.frames[crop.frame].image_hw[::-1], float)
    both = np.stack([crop.found, crop.found if crop.box is None else crop.box])
    low, high = both[:, :2].min(axis=0), both[:, 2:].max(axis=0)
    middle, box_wh = (low + high) / 2, high - low
    wh = np.array([WIDE / HIGH, 1]) * max(LEAST, CONTEXT * box_wh[1], CONTEXT * box_wh[0] * HIGH / WIDE)
    x, y = np.where(wh <= extent_wh, np.clip(middle - wh / 2, 0, np.maximum(extent_wh - wh, 0)), (extent_wh - wh) / 2)
    axes.imshow(picture(split, crop.frame)[0], interpolation="nearest", aspect="auto")
    axes.set(xlim=(x - 0.5, x + wh[0] - 0.5), ylim=(y + wh[1] - 0.5, y - 0.5), xticks=(), yticks=(), facecolor="#F2F2F2")
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    if crop.box is not None:
        draw_boxes(axes, crop.box[None], [crop.object_label], split.categories, names=False, line=1.1, dashed=True)
    draw_boxes(axes, crop.found[None], [crop.label], split.categories, names=False, line=1.1)


def _objects(rows: np.ndarray, finder: Outcome, other: Outcome, when: str) -> tuple[list[Crop], int]:
    """Some of these objects with what found them and what the other model had there, and how many there are."""
    split, table = finder.split, finder.split.boxes
    frames, labels, boxes = (table[name].to_numpy()[rows] for name in ("frame", "label", ["x1", "y1", "x2", "y2"]))
    shown = []
    for place in _picked(frames, labels, boxes, split):
        frame, box, hit = int(frames[place]), boxes[place], finder.detection_of[rows[place]]
        found, name = finder.detections.boxes[hit], plain(split.categories[labels[place] - 1], 16)
        there = np.flatnonzero(other.detections.frame == frame)
        told = (f"{name} {finder.detections.score[hit]:.2f}, IoU {_overlaps(found, box[None])[0]:.2f}",
                f"{when}: {_beside(box, other, there)}", _tail(split, frame))
        shown.append(Crop(frame, int(labels[place]), found, int(labels[place]), box, told))
    return shown, len(rows)


def _beside(box: np.ndarray, other: Outcome, there: np.ndarray) -> str:
    """Of a frame's detections the one that overlaps a box most, of any class, with its IoU, or that it counts for another object."""
    found, categories = other.detections.rows(there), other.split.categories
    overlaps = _overlaps(box, found.boxes)
    if not len(overlaps) or overlaps.max() < TOUCHING:
        return "nothing there"
    best = int(overlaps.argmax())
    where = "taken" if other.object_of[there[best]] >= 0 else f"IoU {overlaps[best]:.2f}"
    return f"{plain(categories[found.label[best] - 1], 8)} {found.score[best]:.2f}, {where}"


def _alarms(seen: Changes) -> tuple[list[Crop], int]:
    """Some of the new false alarms with the objects that they overlap most, and how many there are."""
    split, found = seen.split, seen.after.detections.rows(seen.new)
    table, shown = split.boxes.iloc[seen.after.objects], []
    for place in _picked(found.frame, found.label, found.boxes, split):
        frame = int(found.frame[place])
        there = table[table["frame"] == frame]
        overlaps = _overlaps(found.boxes[place], there[["x1", "y1", "x2", "y2"]].to_numpy())
        near = there.iloc[[int(overlaps.argmax())]] if len(overlaps) and overlaps.max() >= TOUCHING else there[:0]
        label, box = (int(near["label"].iloc[0]), near[["x1", "y1", "x2", "y2"]].to_numpy()[0]) if len(near) else (0, None)
        second = label == found.label[place] and overlaps.max() >= IOU  # a better one has found it
        beside = "a second box" if second else f"with {plain(split.categories[label - 1], 12)}"
        on = f"IoU {overlaps.max():.2f}, {beside}" if label else "on no object"
        name = plain(split.categories[found.label[place] - 1], 16)
        told = (f"{name} {found.score[place]:.2f}", on, _tail(split, frame))
        shown.append(Crop(frame, int(found.label[place]), found.boxes[place], label, box, told))
    return shown, len(seen.new)


def _picked(frames: np.ndarray, labels: np.ndarray, boxes: np.ndarray, split: Split, most: int = ACROSS * DOWN) -> np.ndarray:
    """Places of those to show, largest first: the largest of each clip and class, then the second largest of each, up to `most`."""
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    seen: Counter[tuple[str, int]] = Counter()
    turns = []
    for place in order:
        key = split.frames[frames[place]].clip, int(labels[place])
        turns.append(seen[key])
        seen[key] += 1
    return order[np.sort(np.argsort(turns, kind="stable")[:most])]


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of one box (4,) with others (M, 4), (M,)."""
    return iou(torch.tensor(box, dtype=torch.float64)[None], torch.tensor(boxes, dtype=torch.float64))[0].numpy()


def _tail(split: Split, frame: int) -> str:
    """A frame's file: the end of its name, which has clip and number."""
    name = Path(split.frames[frame].file_name).name
    return plain(name if len(name) <= 30 else "…" + name[-29:], 40)


def _crops_note(seen: Changes) -> str:
    """What the sheet rests on."""
    return (f"{plain(headline([seen]), 120)}; data {plain(seen.split.root.name, 40)}, {plain(seen.split.name)}: {len(seen.split):,} frames\n"
            "dashed: the object, solid: the detection; below: class, score, IoU; what the other model has there (taken: for another object); file\n"
            "a second object or false alarm of the same clip and class is shown only where there are too few others")
