"""The figure of `evaluate.starts`: what more pictures and other starting weights are worth; and how mAP is drawn against a setting."""
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..data.coco import Dataset
from ..evaluate.intervals import LEVEL, map_interval
from ..evaluate.starts import Found
from ..runs import Run
from .style import FAINT, note, plain, sheet, style

COLOURS = ("#4D4D4D", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
APART, MOST_APART = 1.04, 1.12  # factors between neighbouring lines, and at most between the first and the last


@style()
def learning_curve(found: Found, dataset: Dataset) -> Figure:
    """mAP on val against the number of training frames, a line a start: its mean over seeds with the interval, and each seed as a small dot."""
    runs = [run for by_frames in found.values() for here in by_frames.values() for run in here]
    steps = ", ".join(f"{n:,}" for n in sorted({run.config["profile"]["steps"] for run in runs}))
    seeds = len({run.experiment.seed for run in runs})
    dots = f"; small dots: {seeds} seeds. Line and bar: mean of the seeds, and its" if seeds > 1 else ", one seed. Bar: its"
    said = [f"profile {runs[0].experiment.profile}, {steps} steps each{dots} {LEVEL:.0%} interval over clips{' and seeds' * (seeds > 1)}.",
            "Bars that overlap may still differ: the starts meet the same clips and seeds, and the table of paired differences decides."
            ] if runs else ["Nothing is trained yet."]
    figure, axes = sheet(1, 1, 4.0, "What more pictures are worth, and what a start is", note({"val": dataset["val"]}, *said))
    lines = [(plain(way, 70), colour, by_frames) for (way, by_frames), colour in zip(found.items(), COLOURS, strict=False)]
    means(axes[0, 0], lines, dataset, "training frames (log)")
    if runs:
        axes[0, 0].legend(loc="upper left", labelcolor=FAINT)
    return figure


def means(axis: Axes, lines: Sequence[tuple[str, str, Mapping[Any, Sequence[Run]]]], dataset: Dataset, xlabel: str) -> None:
    """A line for each (label, colour, runs by place): mean mAP of the runs at a place with its interval, and each of several as a small dot beside.

    Places stand on a logarithmic axis, those of one line a little apart from the next one's, so that their intervals do not hide each other.
    """
    apart = min(APART, MOST_APART ** (1 / max(1, len(lines) - 1)))
    places = sorted({place for _, _, by_place in lines for place in by_place})
    for number, (label, colour, by_place) in enumerate(lines):
        at = [place * apart ** (number - (len(lines) - 1) / 2) for place in sorted(by_place)]
        ends = [map_interval(by_place[place], dataset) for place in sorted(by_place)]
        for x, place, (_, low, high) in zip(at, sorted(by_place), ends, strict=True):
            axis.vlines(x, low, high, color=colour, linewidth=1.6, alpha=0.55)
            if len(by_place[place]) > 1:
                values = [run.metrics["mAP"] for run in by_place[place]]
                axis.plot([x * apart**0.4] * len(values), values, ".", color=colour, markersize=4, alpha=0.7)
        axis.plot(at, [value for value, _, _ in ends], "o-", color=colour, markeredgecolor="white", markersize=8, label=label)
    axis.set(xlabel=xlabel, ylabel="mAP", xscale="log")
    axis.xaxis.set_major_locator(FixedLocator(places))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_ylim(0, max(0.01, axis.get_ylim()[1]))
    if places:
        axis.set_xlim(places[0] / APART**8, places[-1] * APART**8)
