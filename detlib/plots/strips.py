"""The same frame through several models: what each found, missed and made up, below each other, and its crowded part drawn larger."""
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..data.coco import DataError, Split
from ..evaluate.coco import Detections
from ..evaluate.outcomes import IGNORED, IOU, Outcome, outcome
from .style import DPI, FAINT, INK, TALLEST, WIDTH, Sheet, class_colours, class_legend, draw_boxes, plain, style

WIDE = 3.0  # from this width / height on, a picture takes a row of the page
ABREAST = 3  # others, and windows of wide ones
GREY = 110  # where a picture is missing
GAP = 0.08  # inches, between pictures side by side


class Panel(NamedTuple):
    """One drawing of the frame: boxes (M, 4) xyxy px, and for each whether it is dashed (missed), crossed (a false alarm) and named."""

    name: str
    told: str
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None
    dashed: np.ndarray
    crossed: np.ndarray


class Block(NamedTuple):
    """Panels of the same part (x1, y1, x2, y2) px of the frame, so many side by side; `marked` is a part to be outlined."""

    panels: Sequence[Panel]
    part: tuple[float, float, float, float]
    columns: int
    marked: tuple[float, float, float, float] | None = None


def strips(split: Split, index: int, models: Mapping[str, Outcome | Detections], zoom: bool = False, title: str = "", more: str = "") -> Figure:
    """The frame, its objects, and what each model found, missed and made up: solid, dashed, and with a cross.

    Wide pictures lie below each other. `zoom` draws the same window for all, the one with most objects (`crowded_window`), several in a row.
    Detections are shown at the score of their best F1; outcomes that are made once are drawn more quickly. `more` is added to the note (seeds).
    """
    panels = [_frame(split, index), _truth(split, index), *_models(split, index, models)]
    part = crowded_window(split, index) if zoom else whole(split, index)
    return _page(split, index, [Block(panels, part, _columns(part))], title or "One frame: its objects, and what was found", more)


def through_rungs(split: Split, index: int, models: Mapping[str, Outcome | Detections], title: str = "", more: str = "") -> Figure:
    """One frame through all models on one page: its objects, and below them its most crowded window as each model saw it."""
    window, part = crowded_window(split, index), whole(split, index)
    truth = _truth(split, index)
    top = Block([truth], part, 1, window) if _columns(part) == 1 else Block([_frame(split, index), truth], part, 2, window)
    panels = [truth, *_models(split, index, models)]
    return _page(split, index, [top, Block(panels, window, ABREAST)], title or "One frame through all models", more)


def whole(split: Split, index: int) -> tuple[float, float, float, float]:
    """All of a frame, as x1, y1, x2, y2 px."""
    height, width = split.frames[index].image_hw
    return 0.0, 0.0, float(width), float(height)


def crowded_window(split: Split, index: int) -> tuple[float, float, float, float]:
    """The window 4 : 3, at most half as wide as the frame, that holds most objects' centres, the first of equal ones; x1, y1, x2, y2 px."""
    height, width = split.frames[index].image_hw
    extent = np.array([1.0, 0.75]) * min(width / 2, height * 4 / 3)
    boxes = split.targets(index)[0].double().numpy()
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    middle = np.array([width, height]) / 2
    best = 0
    for corner in np.stack(np.meshgrid(np.unique(centres[:, 0]), np.unique(centres[:, 1]), indexing="ij"), -1).reshape(-1, 2):
        inside = ((centres >= corner) & (centres <= corner + extent)).all(axis=1)
        if inside.sum() > best:
            best, middle = inside.sum(), (centres[inside].min(axis=0) + centres[inside].max(axis=0)) / 2
    x, y = np.clip(middle - extent / 2, 0, np.array([width, height]) - extent)
    return float(x), float(y), float(x + extent[0]), float(y + extent[1])


def _columns(part: tuple[float, float, float, float]) -> int:
    return 1 if part[2] - part[0] >= WIDE * (part[3] - part[1]) else ABREAST


def _frame(split: Split, index: int) -> Panel:
    none = np.zeros(0, bool)
    return Panel("frame", plain(split.frames[index].file_name, 60), np.zeros((0, 4)), np.zeros(0, int), None, none, none)


def _truth(split: Split, index: int) -> Panel:
    boxes, labels = (part.numpy() for part in split.targets(index))
    none = np.zeros(len(labels), bool)
    return Panel("ground truth", f"{len(labels)} object{'' if len(labels) == 1 else 's'}", boxes, labels, None, none, none)


def _models(split: Split, index: int, models: Mapping[str, Outcome | Detections]) -> list[Panel]:
    if not models:
        raise ValueError("no model to show: name at least one")
    return [_model(split, index, name, seen if isinstance(seen, Outcome) else outcome(seen, split)) for name, seen in models.items()]


def _model(split: Split, index: int, name: str, seen: Outcome) -> Panel:
    """False alarms first: where names are short of room, they are explained by nothing else."""
    here = np.flatnonzero((seen.detections.frame == index) & (seen.object_of != IGNORED))
    here = here[np.argsort(seen.object_of[here] >= 0, kind="stable")]
    found, (boxes, labels) = seen.detections.rows(here), split.targets(index)
    rows = seen.objects[split.boxes["frame"].to_numpy()[seen.objects] == index]
    missed = ~seen.found[rows]
    crossed = np.concatenate([seen.object_of[here] < 0, np.zeros(missed.sum(), bool)])
    false = int(crossed.sum())
    told = (f"{int((~missed).sum())} found, {int(missed.sum())} missed, {false} false alarm{'' if false == 1 else 's'}, "
            f"score ≥ {seen.score_min:.2f}")
    return Panel(name, told, np.concatenate([found.boxes, boxes.numpy()[missed]]), np.concatenate([found.label, labels.numpy()[missed]]),
                 np.concatenate([found.score, np.zeros(missed.sum())]), np.arange(len(crossed)) >= len(here), crossed)


def picture(split: Split, index: int) -> tuple[np.ndarray, str]:
    """A frame's pixels (H, W, 3) uint8, and what is wrong with its picture: then they are grey."""
    try:
        return split.image(index).permute(1, 2, 0).numpy(), ""
    except DataError as error:
        return np.full((*split.frames[index].image_hw, 3), GREY, np.uint8), str(error).replace(f"{split.root}/", "")


def faded(image: np.ndarray) -> np.ndarray:
    """Pixels (H, W, 3) uint8 with less colour and light, so that the colours of boxes stand out."""
    grey = image.mean(axis=2, keepdims=True)
    return ((0.5 * image + 0.5 * grey) * 0.9).astype(np.uint8)


@style()
def _page(split: Split, index: int, blocks: Sequence[Block], title: str, more: str) -> Figure:
    """Blocks of panels below each other under the title and the legends, above the note."""
    image, fault = picture(split, index)
    images = image, faded(image)
    figure = Sheet(figsize=(WIDTH, 1), dpi=DPI)
    figure.compression = 1
    foot = _note(split, index, more)
    heights = [[_height(block), _caption(block)] for block in blocks]
    rows = [-(-len(block.panels) // block.columns) for block in blocks]
    head, tail = _head(figure, split, blocks), 0.1 + 0.17 * (1 + foot.count("\n"))
    total = head + sum(n * sum(height) for n, height in zip(rows, heights, strict=True)) + tail
    figure.set_size_inches(WIDTH, total)
    figure.set_dpi(min(DPI, 60_000 / total))  # a PNG file's side ends at 65,535
    figure.suptitle(plain(title, 90), x=0.008, y=1 - 0.06 / total, ha="left", va="top")
    for legend, down in zip(figure.legends, (0.33, 0.58), strict=False):
        legend.set_bbox_to_anchor((0.008, 1 - down / total))
    figure.text(0.008, 0.05 / total, foot, fontsize=9, color=FAINT, va="bottom", linespacing=1.3)
    top = total - head
    for block, n, (tall, caption) in zip(blocks, rows, heights, strict=True):
        for place, panel in enumerate(block.panels):
            row, column = divmod(place, block.columns)
            wide, left = _width(block), column * (WIDTH + GAP) / block.columns
            base = top - (row + 1) * (tall + caption)
            _write(figure, panel, left, base + tall, wide, total, _narrow(block))
            axes = figure.add_axes((left / WIDTH, base / total, wide / WIDTH, tall / total))
            _draw(axes, images[len(panel.boxes) > 0], fault, panel, block, split.categories)
        top -= n * (tall + caption)
    return figure


def _head(figure: Figure, split: Split, blocks: Sequence[Block]) -> float:
    """Put in the legends, of lines and of classes, and return the room above the pictures in inches."""
    lines = [Line2D([], [], color=INK, linewidth=1.4, label=f"found (right class, IoU at least {IOU:g})"),
             Line2D([], [], color=INK, linewidth=1.4, linestyle=(0, (3, 1.5)), label="missed object"),
             Line2D([], [], color=INK, linewidth=1.4, marker="x", markersize=6, label="thin: false alarm (also a second box on a found object)")]
    figure.legend(handles=lines, loc="upper left", borderaxespad=0, ncols=3, columnspacing=1.8)
    present = {split.categories[label - 1] for block in blocks for panel in block.panels for label in panel.labels}
    return 0.63 + 0.21 * class_legend(figure, split.categories, present, loc="upper left", borderaxespad=0)


def _narrow(block: Block) -> bool:
    """Whether a caption needs two lines."""
    return block.columns > 1


def _caption(block: Block) -> float:
    return 0.42 if _narrow(block) else 0.27


def _width(block: Block) -> float:
    x1, y1, x2, y2 = block.part
    return min((WIDTH - GAP * (block.columns - 1)) / block.columns, TALLEST * (x2 - x1) / (y2 - y1))


def _height(block: Block) -> float:
    x1, y1, x2, y2 = block.part
    return _width(block) * (y2 - y1) / (x2 - x1)


def _write(figure: Figure, panel: Panel, left: float, base: float, wide: float, total: float, narrow: bool) -> None:
    """A panel's name and counts above it: side by side, or below each other where it is narrow."""
    start = max(left / WIDTH, 0.008)
    figure.text(start, (base + (0.22 if narrow else 0.05)) / total, plain(panel.name, 40), fontsize=9.5, weight="bold", va="bottom")
    figure.text(start if narrow else (left + wide) / WIDTH - 0.008, (base + 0.05) / total, panel.told, fontsize=8.5, color=FAINT, va="bottom",
                ha="left" if narrow else "right")


def _draw(axes: Axes, image: np.ndarray, fault: str, panel: Panel, block: Block, categories: Sequence[str]) -> None:
    """The part of the picture with the boxes that reach into it."""
    x1, y1, x2, y2 = block.part
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.set(xlim=(x1 - 0.5, x2 - 0.5), ylim=(y2 - 0.5, y1 - 0.5))
    axes.set_axis_off()
    if fault:
        axes.text(0.5, 0.03, textwrap.fill(plain(fault, 400), 130 // block.columns), transform=axes.transAxes, ha="center", va="bottom",
                  fontsize=8, color="white")
    seen = (panel.boxes[:, 0] < x2) & (panel.boxes[:, 2] > x1) & (panel.boxes[:, 1] < y2) & (panel.boxes[:, 3] > y1)
    scale = 72 * _width(block) / (x2 - x1)  # points of a pixel
    lines = np.where(panel.crossed[seen], 0.5, 1.0) * (0.9 if scale < 1 else 1.2)  # many false alarms would hide what was found
    draw_boxes(axes, panel.boxes[seen], panel.labels[seen], categories, None if panel.scores is None else panel.scores[seen],
               names=~panel.dashed[seen], line=lines, font=6.5, dashed=panel.dashed[seen])
    crossed = seen & panel.crossed
    crosses(axes, np.clip(panel.boxes[crossed], (x1, y1, x1, y1), (x2, y2, x2, y2)), panel.labels[crossed], categories, scale)
    if block.marked:
        mx1, my1, mx2, my2 = block.marked
        axes.add_patch(Rectangle((mx1 - 0.5, my1), mx2 - mx1, my2 - my1 - 1, fill=False, edgecolor="white", linewidth=1.2, linestyle=(0, (1, 1))))


def crosses(axes: Axes, boxes: np.ndarray, labels: np.ndarray, categories: Sequence[str], scale: float) -> None:
    """A cross in the middle of each box (M, 4) xyxy px, in its class's colour, no larger than the box; `scale` is points of a pixel."""
    if not len(boxes):
        return
    colours = list(class_colours(categories).values())
    sides = np.clip(0.7 * scale * (boxes[:, 2:] - boxes[:, :2]).min(axis=1), 3, 7)  # points
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2 - 0.5
    axes.scatter(x, y, s=sides**2, marker="x", c=[colours[label - 1] for label in labels], linewidths=1.0,
                 path_effects=[withStroke(linewidth=2.2, foreground="#000000CC")], zorder=2)


def _note(split: Split, index: int, more: str) -> str:
    """What the page rests on."""
    frame = split.frames[index]
    text = (f"data {plain(split.root.name, 40)}, {plain(split.name)}: frame {index} of {len(split):,}, {plain(frame.file_name, 60)}; "
            "counts are of the whole frame")
    return f"{text}\n{plain(more, 160)}" if more else text
