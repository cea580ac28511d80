"""What `checks.check` found, as pictures."""
import re
from itertools import islice, zip_longest
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..data.checks import Checked
from ..data.pictures import read_pixels
from .style import FAINT, plain, sheet, style

ACROSS, MOST = 4, 12
CONTEXT, LEAST = 3.0, 48.0  # a crop shows so many times the box's sides, and at least so many px
WRONG = "#D55E00"


@style()
def gallery(found: Checked, most: int = MOST) -> Figure:
    """Findings that have a picture, of each kind in turn: the faulty box, as written, on what surrounds it."""
    rows = found.findings[(found.findings["frame"] >= 0) & ~found.findings["kind"].isin(("missing picture", "unreadable picture"))]
    turns = zip_longest(*(group.to_dict("records") for _, group in rows.groupby("kind", sort=False)))
    shown = list(islice((row for turn in turns for row in turn if row is not None), most))
    if not shown:
        figure, axes = sheet(height=0.9, title="No finding that could be shown as a picture")
        axes[0, 0].axis("off")
        return figure
    lines = -(-len(shown) // ACROSS)
    number = f"{len(shown)} of {len(rows):,} findings" if len(shown) < len(rows) else f"{len(rows)} findings"
    figure, axes = sheet(lines, ACROSS, 2.75 * lines + 0.6, "What is wrong, as pictures",
                         f"{plain(found.root.name, 40)}: {number} that have a place in a picture; the box as it is written, cut where the crop ends")
    for place in axes.flat:
        place.axis("off")
    for place, row in zip(axes.flat, shown, strict=False):
        _draw(place, found, row)
    return figure


def _draw(axes: Axes, found: Checked, row: dict) -> None:
    frame = found.frames[row["split"]][row["frame"]]
    axes.set_title("\n".join([plain(row["kind"], 40), *wrap(plain(_short(row["what"]), 90), 34)]), fontsize=8.5)
    name = frame.file_name.rpartition("/")[2]
    where = ", ".join(filter(None, [name, _short(row["annotation"]).removeprefix(f"{name.rpartition('.')[0]}.xml ")]))
    axes.text(0, -0.03, plain(where, 44), transform=axes.transAxes, fontsize=7, color=FAINT, va="top")
    try:
        pixels = read_pixels(found.root / frame.file_name, frame.image_hw)
    except (OSError, SyntaxError, ValueError):
        axes.text(0.5, 0.5, "the picture cannot be read", ha="center", transform=axes.transAxes, fontsize=8)
        return
    height, width = pixels.shape[:2]
    axes.imshow(pixels, interpolation="nearest")
    corners = np.array([row["x1"], row["y1"], row["x2"], row["y2"]], float)
    if not np.isfinite(corners).all():
        return
    low, high = np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])
    axes.add_patch(Rectangle(low - 0.5, *(high - low), fill=False, edgecolor=WRONG, linewidth=1.6,
                             path_effects=[withStroke(linewidth=3, foreground="#000000CC")]))
    if (high <= low).any():  # nothing of such a box would be seen
        axes.plot(*((low + high) / 2), "x", color=WRONG, markersize=14, markeredgewidth=2)
    half = np.minimum(np.maximum((high - low).max() * CONTEXT, LEAST), [width, height]) / 2
    middle = np.clip((low + high) / 2, half - 0.1 * half, [width, height] - 0.9 * half)  # a tenth beyond the edge shows what sticks out
    axes.set(xlim=(middle[0] - half[0], middle[0] + half[0]), ylim=(middle[1] + half[1], middle[1] - half[1]))


def _short(text: str) -> str:
    """A text with files by their names alone."""
    return re.sub(r"\S*/", "", text)
