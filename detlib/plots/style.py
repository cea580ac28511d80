"""One place for looks: class and rung colours, the sheet that figures are drawn on, axes, and boxes on pictures."""
import base64
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.typing import ColorType

from ..data.coco import Split
from ..experiments import LADDER

# Okabe & Ito (2008), safe for colour-blind readers, with grey for their black, which dark pictures swallow;
# in an order that sets the street's frequent classes (car, bicycle, person, rider) far apart
CLASSES = ("#56B4E9", "#E69F00", "#0072B2", "#999999", "#009E73", "#F0E442", "#CC79A7", "#D55E00")
# Tol's muted scheme, with grey before and vermilion after it: distinct for eleven rungs
MUTED = ("#4D4D4D", "#0072B2", "#C49A1A", "#AA4499", "#44AA99", "#CC6677", "#999933", "#88CCEE", "#117733", "#D55E00", "#882255")
SPLITS = ("#4D4D4D", "#A6A6A6", "#DDDDDD")  # greys, since colours mean classes
INK, FAINT = "#222222", "#6B6B6B"
WIDTH = 10.24  # inches: a panorama of 1,024 px then takes whole screen pixels
TALLEST = 4.5  # inches, of one picture
SCREEN, DPI = 100, 200  # pixels of the page, and of the file, per inch: crisp where the screen has two for one
THEME: dict[Any, Any] = {
    "figure.dpi": DPI, "font.family": "DejaVu Sans", "font.size": 10, "figure.titlesize": 13, "figure.titleweight": "bold",
    "axes.titlesize": 10.5, "axes.titlelocation": "left", "axes.titlepad": 7, "axes.labelsize": 10, "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5, "legend.fontsize": 9.5, "legend.frameon": False, "axes.edgecolor": "#B8B8B8", "grid.color": "#E6E6E6",
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}


def _in_turn(names: Iterable[str], hues: Sequence[str]) -> dict[str, str]:
    """A colour for each name, by its place; after the last the same hues come back darker, then lighter."""
    colours = {}
    for place, name in enumerate(names):
        turn, hue = divmod(place, len(hues))
        towards, share = (1.0, 0.0)[turn % 2], 1 - 0.6 ** ((turn + 1) // 2)
        red, green, blue = (channel + (towards - channel) * share for channel in to_rgb(hues[hue]))
        colours[name] = to_hex((red, green, blue))
    return colours


RUNGS = _in_turn((name for name, _ in LADDER), MUTED)


def class_colours(categories: Sequence[str]) -> dict[str, str]:
    """A colour for each class, by its place; after the eighth the same hues come back darker, then lighter."""
    return _in_turn(categories, CLASSES)


def rung_colour(name: str) -> str:
    """The colour of a row of the ladder; one with changed fields has its row's, half as strong, or that of the row which makes the same change.

    `fpn+weights=imagenet` is pale as `fpn`, `fpn+anchors=report` as `report_anchors`.
    """
    row, *changes = name.split("+")
    if row not in RUNGS:
        raise ValueError(f"no rung {name!r}: the ladder has {', '.join(RUNGS)}")
    if not changes:
        return RUNGS[row]
    same = {f"{field}={value}": other for other, change in LADDER for field, value in change.items()}
    red, green, blue = (1 - (1 - channel) / 2 for channel in to_rgb(RUNGS[same.get(changes[-1], row)]))
    return to_hex((red, green, blue))


@contextmanager
def style() -> Iterator[None]:
    """Theme and fonts of every figure: put `@style()` above a function that draws."""
    with matplotlib.rc_context({**sns.axes_style("whitegrid"), **THEME}):
        yield


class Sheet(Figure):
    """A Figure outside pyplot: a notebook shows it once, where it is a cell's last value, in full width and at twice the resolution."""

    compression = 6  # of the PNG, 1 to 9; noisy pictures hardly get smaller above 1, but slower

    def png(self) -> bytes:
        """The figure as a PNG file."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=self.dpi, facecolor="white", pil_kwargs={"compress_level": self.compression})
        return buffer.getvalue()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        width, height = (round(side * SCREEN) for side in self.get_size_inches())
        return ({"image/png": base64.b64encode(self.png()).decode(), "text/plain": f"Figure: {self.get_suptitle()}"},
                {"image/png": {"width": width, "height": height}})


def sheet(rows: int = 1, columns: int = 1, height: float = 4.0, title: str = "", note: str = "",
          **options: Any) -> tuple[Sheet, np.ndarray]:
    """A figure of the page's width, `height` inches high, with its title and its note (what n is), and a (rows, columns) array of axes.

    `options` go to `Figure.subplots`, such as `sharex`, `width_ratios`. Call it in a function under `@style()`.
    """
    figure = Sheet(figsize=(WIDTH, height), dpi=DPI)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06, wspace=0.02, hspace=0.02)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    if title:
        figure.suptitle(title, x=0.008, ha="left")
    if note:
        figure.supxlabel(note, x=0.008, ha="left", fontsize=9, color=FAINT, linespacing=1.4)
    return figure, axes


def note(splits: Mapping[str, Split], *more: str) -> str:
    """The lines under a figure that say how much it rests on: `train: n = 18,287 boxes, 1,604 frames, 16 clips`, and `more`."""
    parts = []
    for name, split in splits.items():
        known = plain(name) if name == split.name else f"{plain(name)} ({plain(split.name)})"
        boxes = int((~split.boxes["crowd"].astype(bool)).sum())
        parts.append(f"{known}: n = {boxes:,} boxes, {len(split):,} frames, {len(split.clips):,} clips")
    scales = [frame.part.scaled_hw[0] / frame.part.picture_hw[0] for split in splits.values() for frame in split.frames if frame.part]
    if scales and not np.allclose(scales, 1):
        median = " in the median" if np.ptp(scales) > 0.005 else ""
        more = (*more, f"px as the network sees them: {np.median(scales):.2f} of the pictures' own{median}")
    pairs = ["   ·   ".join(parts[i:i + 2]) for i in range(0, len(parts), 2)]
    return "\n".join([*pairs, *(line for line in more if line)])


def plain(text: str, most: int = 22) -> str:
    """A name from data as matplotlib shows it letter by letter: no formula, no hidden legend entry, cut when it is too long."""
    text = " ".join(str(text).split())
    text = text if len(text) <= most else text[: most - 1] + "…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def rung_label(name: str, most: int = 40) -> str:
    """A rung's name as a label: `fpn+anchors=fitted`, or where that is too long the row and what it changes: `fpn (anchors, weights changed)`."""
    row, *changes = name.split("+")
    return plain(name if len(name) <= most or not changes else f"{row} ({', '.join(change.split('=')[0] for change in changes)} changed)", most)


def number(value: float) -> str:
    """A number with three figures, and no more zeros than it needs."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def log_limits(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Limits of a logarithmic axis that hold positive values with some room."""
    values = np.asarray(values, float)
    return (values.min() / 1.25, values.max() * 1.25) if values.size else (1.0, 100.0)


def pixel_ticks(axis: Axis, limits: tuple[float, float], most: int = 9) -> None:
    """Ticks of a logarithmic axis, at most so many, written as plain numbers: 2, 5, 10, 20, 50; closer ones where these are fewer than three."""
    fine, *choices = [[tick for e in range(-2, 6) for d in digits if limits[0] <= (tick := d * 10.0**e) <= limits[1]]
                      for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,))]
    choices = [fine, *choices] if len(choices[0]) < 3 else choices
    _ticks(axis, next((ticks for ticks in choices if len(ticks) <= most), choices[-1]), lambda value: f"{value:g}")


def ratio_ticks(axis: Axis, limits: tuple[float, float], most: int = 9) -> None:
    """Ticks of a logarithmic axis of ratios, at most so many, written 1/4, 1/2, 1, 2, 4."""
    choices = [[2.0**e for e in range(-12, 13, step) if limits[0] <= 2.0**e <= limits[1]] for step in (1, 2, 3, 4)]
    ticks = next((ticks for ticks in choices if len(ticks) <= most), choices[-1])
    _ticks(axis, ticks, lambda value: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")


def _ticks(axis: Axis, ticks: Sequence[float], text: Callable[[float], str]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def legend_above(figure: Sheet, handles: Sequence[Artist]) -> None:
    """A legend between the title and the panels, for which the figure grows."""
    wide = [0.55 + 0.085 * len(str(handle.get_label())) for handle in handles]  # inches
    columns = len(handles) if sum(wide) < WIDTH else max(1, int(WIDTH / max(wide)))
    room, height = 0.12 + 0.21 * -(-len(handles) // columns), figure.get_figheight()
    figure.set_figheight(height + room)
    figure.get_layout_engine().set(rect=(0, 0, 1, height / (height + room)))  # type: ignore[union-attr, call-arg]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.008, 1 - 0.36 / (height + room)), borderaxespad=0, ncols=columns,
                  columnspacing=1.6)


def class_legend(figure: Figure, categories: Sequence[str], present: Collection[str], columns: int | None = None, **options: Any) -> int:
    """Put the colours of the classes `present` into a legend, in the order of the classes; returns how many rows it has."""
    colours, shown = class_colours(categories), [name for name in categories if name in set(present)]
    if not shown:
        return 0
    widths = [0.5 + 0.09 * len(plain(name)) for name in shown]  # inches
    fitting = len(shown) if sum(widths) <= WIDTH - 0.2 else int((WIDTH - 0.2) / max(widths))
    columns = columns or max(1, min(fitting, len(shown)))
    handles = [Patch(facecolor=colours[name], edgecolor="#555555", linewidth=0.6, label=plain(name)) for name in shown]
    figure.legend(handles=handles, **{"ncols": columns, "handlelength": 1.1, "columnspacing": 1.4, **options})
    return -(-len(shown) // columns)


def draw_boxes(axes: Axes, boxes: np.ndarray, labels: Sequence[int] | np.ndarray, categories: Sequence[str], scores: np.ndarray | None = None,
               names: bool | np.ndarray = True, line: float | np.ndarray = 1.4, font: float = 7.5, dashed: bool | np.ndarray = False) -> None:
    """Draw boxes (M, 4) xyxy px with labels (M,) in 1..K, in class colours with a thin dark halo, on axes whose limits are set.

    A name (with its score) stands beside its box and covers no other; where there is no free place it is left out: the colour tells it.
    `names`, `line` (points) and `dashed` are for all boxes, or for each (M,).
    """
    boxes, labels = np.asarray(boxes, float).reshape(-1, 4), np.asarray(labels, int)
    colours = list(class_colours(categories).values())
    names, broken, lines = (np.broadcast_to(each, len(labels)) for each in (names, dashed, line))
    for (x1, y1, x2, y2), label, gaps, wide in zip(boxes, labels, broken, lines, strict=True):
        halo = [withStroke(linewidth=2 * wide if wide < 1 else wide + 1.4, foreground="#000000CC")]
        axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colours[label - 1], linewidth=wide,
                                 joinstyle="miter", linestyle=(0, (3, 1.5)) if gaps else "-", path_effects=halo))
    if not names.any():
        return
    texts = [label_text(categories[label - 1], None if scores is None else scores[i]) if names[i] else "" for i, label in enumerate(labels)]
    (left, right), (top, bottom) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    point = axes.figure.dpi / 72 * (right - left) / axes.get_window_extent().width  # data px of a point
    sizes = [((0.6 * font * len(text) + 3) * point, (1.2 * font + 1) * point) if text else (0.0, 0.0) for text in texts]
    for text, place, size, label in zip(texts, label_places(boxes, sizes, (left, top, right, bottom)), sizes, labels, strict=True):
        if place and text:
            colour = colours[label - 1]
            axes.add_patch(Rectangle(place, *size, facecolor=colour, edgecolor="none", alpha=0.9))
            axes.text(place[0] + size[0] / 2, place[1] + size[1] / 2, plain(text), fontsize=font, color=on_colour(colour),
                      va="center", ha="center", clip_on=True)


def label_text(category: str, score: float | None) -> str:
    """What stands beside a box: the class, and the score without its zero."""
    name = category if len(category) <= 14 else category[:13] + "…"
    return name if score is None else f"{name} {score:.2f}".replace(" 0.", " .")


def on_colour(colour: ColorType) -> str:
    """Black or white, whichever is legible on a colour."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def label_places(boxes: np.ndarray, sizes: Sequence[tuple[float, float]],
                 area: tuple[float, float, float, float]) -> list[tuple[float, float] | None]:
    """Top left corners for labels of these widths and heights: around each box, over no box or label; None without a place."""
    known = np.asarray(boxes, float).reshape(-1, 4)
    taken = np.concatenate([known, np.zeros_like(known)])  # labels follow the boxes
    places: list[tuple[float, float] | None] = []
    count = len(known)
    for (x1, y1, x2, y2), (w, h) in zip(known, sizes, strict=True):
        place, beside = None, 0.15 * h
        above, below = y1 - h - beside, y2 + beside
        for x, y in ((x1, above), (x2 - w, above), (x1, below), (x2 - w, below), (x2 + beside, y1), (x1 - w - beside, y1)):
            inside = area[0] <= x and x + w <= area[2] and area[1] <= y and y + h <= area[3]
            others = taken[:count]
            if inside and not ((x < others[:, 2]) & (others[:, 0] < x + w) & (y < others[:, 3]) & (others[:, 1] < y + h)).any():
                place = (float(x), float(y))
                taken[count], count = (x, y, x + w, y + h), count + 1
                break
        places.append(place)
    return places


@style()
def pictures(panels: Sequence[Mapping], categories: Sequence[str], title: str, strips: int | None = None, names: bool = True) -> Figure:
    """Pictures with boxes, at twice their size where the page allows, a wide one cut into `strips`, and a legend of the classes.

    A panel has caption, image (H, W) or (H, W, 3) uint8, boxes (M, 4) xyxy px, labels (M,) in 1..K, and scores (M,) or None.
    """
    rows = []  # panel, first and last column, inches high and wide
    for panel in panels:
        height, width = panel["image"].shape[:2]
        parts = strips or max(1, round(width / height / 4))
        wide = min(WIDTH, TALLEST * width / parts / height)
        rows += [(panel, width * k / parts, width * (k + 1) / parts, wide * height * parts / width, wide) for k in range(parts)]
    present = {categories[label - 1] for panel in panels for label in panel["labels"]}
    caption, gap, room = 0.3, 0.04, sum(tall for *_, tall, _ in rows)
    figure = Sheet(figsize=(WIDTH, 1), dpi=DPI)
    head = 0.39 + 0.21 * class_legend(figure, categories, present, loc="upper left", borderaxespad=0)
    total = head + room + sum(caption if start == 0 else gap for _, start, *_ in rows) + 0.1
    figure.set_size_inches(WIDTH, total)
    figure.set_dpi(min(DPI, 60_000 / total))  # a PNG file's side ends at 65,535
    figure.suptitle(title, x=0.008, y=1 - 0.06 / total, ha="left", va="top")
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0.008, 1 - 0.33 / total))
    top = total - head
    for panel, start, end, tall, wide in rows:
        if start == 0:
            figure.text(0.008, (top - caption + 0.07) / total, panel["caption"], fontsize=9.5, va="bottom")
        top -= tall + (caption if start == 0 else gap)
        axes = figure.add_axes((0, top / total, wide / WIDTH, tall / total))
        axes.imshow(panel["image"], cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
        axes.set(xlim=(start - 0.5, end - 0.5))
        axes.set_axis_off()
        inside = (panel["boxes"][:, 0] < end) & (panel["boxes"][:, 2] > start)
        scores = None if panel["scores"] is None else panel["scores"][inside]
        draw_boxes(axes, panel["boxes"][inside], panel["labels"][inside], categories, scores, names)
    return figure
