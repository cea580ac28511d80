"""Figures that compare two rows in pairs."""
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.coco import Dataset
from ..evaluate.compare import paired_resamples, signed
from ..evaluate.intervals import LEVEL, RESAMPLES, interval
from ..runs import Run
from .style import FAINT, plain, rung_colour, sheet, style
from .training import run_note

BINS = 50  # over the whole axis


@style()
def paired(a: Sequence[Run], b: Sequence[Run], dataset: Dataset) -> Figure:
    """Left both rows' mAP in every resample of the clips, right their difference, pair by pair: what is hard for both cancels there."""
    names = a[0].experiment.rung, b[0].experiment.rung
    first, second, clips = paired_resamples(a, b, dataset)
    number = len(first)
    over, each = (f" and over {number} seeds", f"; means over {number} seeds") if number > 1 else ("", "; one training each")
    note = (f"hills: {RESAMPLES:,} resamples of {clips} validation clips, the same for both{each}; bar: {LEVEL:.0%} interval over clips{over}; "
            f"dot: all clips, once\n{run_note({run.experiment.rung: run for run in (a[0], b[0])})}")
    figure, axes = sheet(1, 2, 3.3, f"{plain(names[1])} against {plain(names[0])}: apart, and in pairs", note)
    means, gains = [values.mean(axis=0) for values in (first, second)], second - first
    bars = [interval(values[:, 0], values[:, 1:].mean(axis=0), clips) for values in (first, second, gains)]
    lowest = min(np.nanmin(np.append(mean, bar)) for mean, bar in zip(means, bars[:2], strict=True))
    width = max(max(np.nanmax(np.append(mean, bar)) for mean, bar in zip(means, bars[:2], strict=True)) - lowest,
                1.3 * np.nanmax(np.abs(np.append(gains.mean(axis=0), bars[2]))), 1e-3)
    for place, (name, mean, bar) in enumerate(zip(names, means, bars[:2], strict=True)):
        _cloud(axes[0][0], place, mean, bar, rung_colour(name), width)
    _cloud(axes[0][1], 0.5, gains.mean(axis=0), bars[2], rung_colour(names[1]), width, text=signed)
    axes[0][1].axvline(0, color=FAINT, linewidth=1.2)
    axes[0][0].set(yticks=(0, 1), yticklabels=[plain(name, 30) for name in names], ylim=(1.7, -0.7), xlabel="mAP", title="apart",
                   xlim=(lowest - 0.1 * width, lowest + 1.15 * width))
    axes[0][1].set(yticks=(), ylim=(1.7, -0.7), xlabel="difference in mAP, on the same scale", xlim=(-0.625 * width, 0.625 * width),
                   title=f"in pairs: {plain(names[1])} - {plain(names[0])}")
    for axis in axes[0]:
        axis.grid(axis="y", visible=False)
    return figure


def _cloud(axis: Axes, place: float, values: np.ndarray, bar: tuple[float, float, float], colour: str, width: float,
           text: Callable[[float], str] = "{:.3f}".format) -> None:
    """Resamples as a histogram that stands on an interval (value, low, high); the first value is that of all clips."""
    _, low, high = bar
    spread = np.nanmax(values) - np.nanmin(values)
    middle, half = (np.nanmax(values) + np.nanmin(values)) / 2, max(spread, width / BINS) / 2
    counts, edges = np.histogram(values[1:][np.isfinite(values[1:])], max(1, round(BINS * spread / width)), (middle - half, middle + half))
    axis.stairs(place - 0.08 - 0.5 * counts / max(counts.max(), 1), edges, baseline=place - 0.08, fill=True, color=colour, alpha=0.45)
    axis.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.8, solid_capstyle="butt")
    axis.plot(values[0], place, "o", color=colour, markersize=8, markeredgecolor="white")
    axis.annotate(f"{text(values[0])}   [{text(low)}, {text(high)}]", (values[0], place), xytext=(0, -9), textcoords="offset points",
                  ha="center", va="top", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})
