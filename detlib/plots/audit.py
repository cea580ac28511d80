"""Figures of the label audit: its findings as pictures, and how many of them are right where errors were planted."""
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..data.coco import Split
from ..data.planting import BOX, KINDS
from ..tracks import stretches
from .strips import faded, picture
from .style import DPI, FAINT, WIDTH, Sheet, plain, sheet, style

CAPTION, GAP, BELOW = 0.43, 0.04, 0.3  # inches


class Look(NamedTuple):
    """How findings are laid out: so many beside each other, each with these frames around its own; crops in inches, letters of a sentence."""

    across: int
    steps: tuple[int, ...]
    wide: float
    high: float
    letters: int


FILM, ALONE = Look(2, (-1, 0, 1), 1.66, 1.5, 92), Look(3, (0,), 3.32, 2.2, 60)
CONTEXT, LEAST = 2.2, 44.0  # a crop's side is so many times the longer side of the boxes, and at least so many px
WRONG, BETTER, OTHERS = "#D55E00", "#56B4E9", "#FFFFFF"
DASHES = (0, (1.8, 0.9))  # short, since boxes are small
RIGHT = [f"right_{name}" for name in BOX]


@style()
def findings_sheet(split: Split, table: pd.DataFrame, n: int = 12, panorama: bool = False) -> Figure:
    """The first n findings of an audit: the place in its frame, and its object in the frame before and the frame after, where there are any.

    The suspicious box is vermilion, what would be right is dashed blue; frames of a panorama go on over their edge.
    """
    rows = table.head(n).to_dict("records")
    if not rows:
        figure, axes = sheet(height=0.9, title="The audit has no finding to show")
        axes[0, 0].axis("off")
        return figure
    linked = {pair for stretch in stretches(split.frames) for pair in pairwise(stretch)}
    film = any({(row["frame"] - 1, row["frame"]), (row["frame"], row["frame"] + 1)} & linked for row in rows)
    look = FILM if film else ALONE
    lines, head, foot = -(-len(rows) // look.across), 0.66, 0.3
    total = head + lines * (CAPTION + look.high + BELOW) + foot
    figure = Sheet(figsize=(WIDTH, total), dpi=DPI)
    figure.compression = 1
    figure.suptitle("Annotations that look wrong, the most suspicious first", x=0.008, y=1 - 0.06 / total, ha="left", va="top")
    handles = [Line2D([], [], color=WRONG, linewidth=1.8, label="suspicious box"),
               Line2D([], [], color=BETTER, linewidth=2.2, linestyle=DASHES, label="what would be right"),
               Line2D([], [], color="#888888", linewidth=1, label="other annotated boxes (white)")]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.004, 1 - 0.33 / total), ncols=3, borderaxespad=0)
    shown = f"{len(rows)} of {len(table):,} findings" if len(rows) < len(table) else f"all {len(rows)} findings"
    figure.text(0.008, 0.06 / total, f"data {plain(split.root.name, 40)}, {plain(split.name)}: {shown} in {len(split):,} frames; "
                f"crops are at least {LEAST:g} px wide; the number is the estimated probability", fontsize=9, color=FAINT, va="bottom")
    for place, row in enumerate(rows):
        line, column = divmod(place, look.across)
        left, top = column * (len(look.steps) * (look.wide + GAP) + 0.1) + 0.02, total - head - line * (CAPTION + look.high + BELOW)
        _finding(figure, split, row, look, linked, left, top, total, panorama)
    return figure


def _finding(figure: Figure, split: Split, row: dict, look: Look, linked: set[tuple[int, int]], left: float, top: float, total: float,
             panorama: bool) -> None:
    """One finding with its sentence; left and top in inches, `linked` pairs of frames that follow each other."""
    name, better = plain(row["category"], 16), plain(row["right_category"], 16)
    kind = {"class": f"class: {name}, or rather {better}?", "missing": f"missing: {name}?"}.get(row["kind"], f"{row['kind']}: {name}?")
    chance = f"  {row['score']:.2f}" if np.isfinite(row["score"]) else ""
    figure.text((left + 0.02) / WIDTH, (top - 0.03) / total, kind + chance, fontsize=9.5, weight="bold", va="top")
    figure.text((left + 0.02) / WIDTH, (top - 0.22) / total, plain(row["why"], look.letters), fontsize=8, va="top")
    for place, step in enumerate(look.steps):
        spot = (left + place * (look.wide + GAP)) / WIDTH, (top - CAPTION - look.high) / total, look.wide / WIDTH, look.high / total
        there = step == 0 or tuple(sorted((row["frame"], row["frame"] + step))) in linked
        _crop(figure.add_axes(spot), split, row, step, look.high / look.wide, there, panorama)
    file = row["file"].rpartition("/")[2]
    which = "" if row["annotation"] == -1 else f", annotation {row['annotation']}"
    figure.text((left + 0.02) / WIDTH, (top - CAPTION - look.high - 0.02) / total, plain(f"{file}{which}", 78), fontsize=7, color=FAINT, va="top")


def _crop(axes: Axes, split: Split, row: dict, step: int, shape: float, there: bool, panorama: bool) -> None:
    """A piece around a finding's boxes, or of a neighbour in the clip around where its object is there."""
    axes.set(xticks=(), yticks=(), facecolor="#F2F2F2")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    frame = row["frame"] + step
    if not there:
        axes.text(0.5, 0.5, f"no frame {'before' if step < 0 else 'after'}", ha="center", transform=axes.transAxes, fontsize=8, color=FAINT)
        return
    corners = np.array([[row[name] for name in names] for names in (BOX, RIGHT)], float)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    half = max(CONTEXT * (high - low).max(), LEAST) / 2 * np.array([1, shape])
    beside = np.array([row[name] for name in {-1: ("before_x", "before_y"), 1: ("after_x", "after_y")}.get(step, ())], float)
    middle = beside if len(beside) and np.isfinite(beside).all() else (low + high) / 2
    image = faded(picture(split, frame)[0])
    width = image.shape[1]
    columns = range(-1, 2) if panorama else (0,)
    for turn in columns:
        axes.imshow(image, extent=(turn * width - 0.5, (turn + 1) * width - 0.5, image.shape[0] - 0.5, -0.5), interpolation="nearest")
        for box in split.boxes.loc[split.boxes["frame"] == frame, BOX].to_numpy(float):
            if step or np.abs(box - corners[0]).max() > 1e-6:
                _outline(axes, box + np.tile([turn * width, 0], 2), OTHERS, 0.6, "-")
    if not step and row["kind"] != "missing":
        _outline(axes, corners[0], WRONG, 1.8, "-")
    if not step and row["kind"] in ("missing", "shifted"):
        _outline(axes, corners[1], BETTER, 2.2, DASHES)
    axes.set(xlim=(middle[0] - half[0] - 0.5, middle[0] + half[0] - 0.5), ylim=(middle[1] + half[1] - 0.5, middle[1] - half[1] - 0.5))
    axes.set_aspect("auto")
    axes.text(0.03, 0.97, {-1: "before", 0: "", 1: "after"}[step], transform=axes.transAxes, fontsize=7.5, color="white", va="top",
              path_effects=[withStroke(linewidth=2, foreground="black")])


def _outline(axes: Axes, box: np.ndarray, colour: str, line: float, dash: object) -> None:
    axes.add_patch(Rectangle((box[0] - 0.5, box[1] - 0.5), *(box[2:] - box[:2]), fill=False, edgecolor=colour, linewidth=line, linestyle=dash,
                             path_effects=[withStroke(linewidth=line + 1.2, foreground="#000000CC")]))


@style()
def precision_by_rank(outcomes: pd.DataFrame, name: str = "") -> Figure:
    """From `audit.planted_outcomes`: of the first so many findings of a kind, how many are right; a thin line for each planting, N marked."""
    kinds = [kind for kind in KINDS if (outcomes["kind"] == kind).any()]
    figure, axes = sheet(1, len(kinds), 3.3, "How many of the first findings are planted errors", _about(outcomes, name), sharey=True)
    for axis, kind in zip(axes[0], kinds, strict=True):
        curves, marks = [], []
        for _, own in outcomes[outcomes["kind"] == kind].groupby("seed"):
            ranked = own[own["rank"] >= 0].sort_values("rank")["right"].to_numpy(float)
            marks.append(int((own["right"] | (own["rank"] < 0)).sum()))
            curves.append(np.cumsum(ranked)[:2 * marks[-1]] / np.arange(1, len(ranked) + 1)[:2 * marks[-1]])
            axis.plot(np.arange(1, len(curves[-1]) + 1), curves[-1], color="#56B4E9", linewidth=0.8)
        shortest = min(map(len, curves))
        mean = np.mean([curve[:shortest] for curve in curves], axis=0)
        axis.plot(np.arange(1, shortest + 1), mean, color="#0072B2", linewidth=2.2)
        mark = round(float(np.mean(marks)))
        axis.axvline(mark, color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
        axis.annotate(f"N = {mark}", (mark, 0.03), xytext=(4, 0), textcoords="offset points", fontsize=8.5, color=FAINT)
        at_mark = f": {mean[min(mark, shortest) - 1]:.2f} at N" if shortest else ""
        axis.set(title=f"{kind}{at_mark}", xlabel="findings, surest first", ylim=(0, 1.03), xlim=(0, None))
    axes[0, 0].set_ylabel("share that is right")
    return figure


def _about(outcomes: pd.DataFrame, name: str) -> str:
    planted = int((outcomes["right"] | (outcomes["rank"] < 0)).sum())
    seeds = sorted(outcomes["seed"].unique())
    return (f"{plain(name, 40) + ': ' if name else ''}n = {planted:,} planted errors in {len(seeds)} plantings (thin lines; seeds "
            f"{', '.join(map(str, seeds))}), N of a kind in each")
