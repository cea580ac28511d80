"""The figures of the whole climb, and of rows at other learning rates and lengths."""
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..data.coco import Dataset
from ..evaluate.compare import Difference, signed
from ..evaluate.intervals import LEVEL, RESAMPLES
from ..evaluate.ladder import Row
from ..experiments import OPTIMIZERS
from ..runs import Run, reference_of
from .starts import means
from .style import FAINT, note, plain, rung_colour, sheet, style


@style()
def ladder(rows: Sequence[Row], dataset: Dataset, null: Difference | None = None) -> Figure:
    """Left each row's mAP, right what it gained on the row above, both with intervals; grey where the interval holds zero.

    Below them `null`, a row against itself with other seeds: what a difference looks like where there is none.
    """
    run = [row for row in rows if row.runs]
    seeds = sorted({r.experiment.seed for row in run for r in row.runs})
    sizes = run[0].runs[0].config["profile"] if run else None
    sized = f"profile {sizes['name']}, {sizes['steps']} steps of {sizes['batch']} images; " if sizes else ""
    few, most = (of([len(row.runs) for row in run] or [0]) for of in (min, max))
    over = f"{most} seeds" if few == most > 1 else f"{few} to {most} seeds a row" if most > 1 else (
        "one seed, so what trainings differ by is not in the intervals")
    words = (f"{sized}data {plain(dataset.name, 40)}, {len(dataset['val'])} validation frames of {len(dataset['val'].clips)} clips, {over}\n"
            f"bars: {LEVEL:.0%} interval over clips ({RESAMPLES:,} resamples, shared by all rows){' and seeds' if len(seeds) > 1 else ''}"
            f"{'; small dots: single trainings' if len(seeds) > 1 else ''}; grey: no measurable difference")
    diamonds = any(reference_of(r) for row in run for r in row.runs)
    words += "; diamonds: the reference run, on another machine" if diamonds else ""
    places = len(rows) + (1 if null else 0)
    figure, axes = sheet(1, 2, 1.5 + 0.36 * places, "The ladder: what each step reached, and what it gained", words, sharey=True)
    left, right = axes[0]
    for place, row in enumerate(rows):
        colour = rung_colour(row.name)
        if not row.value:
            left.text(0.02, place, row.why, transform=left.get_yaxis_transform(), va="center", fontsize=9, color=FAINT, style="italic")
            continue
        value, low, high = row.value
        _bar(left, place, value, low, high, colour, f"{value:.3f}")
        if len(row.runs) > 1:
            left.plot([r.metrics["mAP"] for r in row.runs], [place + 0.26] * len(row.runs), ".", color=colour, markersize=4)
        if there := [found.metrics["mAP"] for r in row.runs if (found := reference_of(r))]:
            left.plot([np.mean(there)], [place], "D", color=colour, markerfacecolor="none", markersize=8, zorder=4)
        if row.gain:
            _gain(right, place, row.gain, colour)
    if null:
        _gain(right, len(rows), null, FAINT)
    right.axvline(0, color=FAINT, linewidth=1.2, zorder=1)
    names = [row.name if place == 0 else f"+ {row.name}" for place, row in enumerate(rows)] + ([f"{null.first}, other seeds"] if null else [])
    left.set(yticks=range(places), yticklabels=names, ylim=(places - 0.4, -0.6), xlabel="mAP", title="mAP")
    left.set_xlim(0, 1.18 * max([0.01, *(row.value[2] for row in run if row.value and np.isfinite(row.value[2]))]))
    right.set(xlabel="difference in mAP", title="gain on the row above, same clips and seeds")
    ends = [abs(v) for gain in [*(row.gain for row in rows), null] if gain for v in (gain.low, gain.high) if np.isfinite(v)]
    right.set_xlim(-1.3 * max([0.005, *ends]), 1.3 * max([0.005, *ends]))
    for axis in axes[0]:
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="y", visible=False)
    return figure


def _gain(axis: Axes, place: int, gain: Difference, colour: str) -> None:
    _bar(axis, place, gain.value, gain.low, gain.high, colour if gain.measurable else "#B5B5B5", signed(gain.value))


def _bar(axis: Axes, place: int, value: float, low: float, high: float, colour: str, text: str) -> None:
    axis.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.4, solid_capstyle="butt")
    axis.plot([value], [place], "o", color=colour, markersize=7, markeredgecolor="white")
    left = value < 0  # the number stands on the side away from zero
    end = low if left else high
    axis.annotate(text, (end if np.isfinite(end) else value, place), xytext=(-6 if left else 6, 0), textcoords="offset points", va="center",
                  ha="right" if left else "left", fontsize=9)


@style()
def rates(rows: Sequence[Row], dataset: Dataset) -> Figure:
    """mAP on val against the learning rate, in units of the report's (`evaluate.ladder.at_rates`)."""
    def factor(run: Run) -> float:
        return run.experiment.optimizer_settings["lr"] / OPTIMIZERS[run.experiment.optimizer]["lr"]
    return _against(factor, rows, dataset, "The same rows at other learning rates", "highest learning rate / the report's of this optimiser (log)")


@style()
def lengths(rows: Sequence[Row], dataset: Dataset) -> Figure:
    """mAP on val against the length of the training (`evaluate.ladder.at_lengths`)."""
    return _against(lambda run: run.config["profile"]["steps"], rows, dataset, "The same rows, trained for longer", "steps (log)")


def _against(place_of: Callable[[Run], float], rows: Sequence[Row], dataset: Dataset, title: str, xlabel: str) -> Figure:
    """A line for each experiment that has runs, whatever its steps and its learning rate."""
    found: dict[str, dict[float, tuple[Run, ...]]] = {}
    for row in rows:
        if row.runs:
            found.setdefault(replace(row.runs[0].experiment, steps=None, lr=None).rung, {})[round(place_of(row.runs[0]), 6)] = row.runs
    run = [runs[0] for here in found.values() for runs in here.values()]
    steps = " and ".join(f"{n:,}" for n in sorted({one.config["profile"]["steps"] for one in run}))
    sized = f"profile {run[0].experiment.profile}, {steps} steps; " if run else "nothing is trained yet; "
    figure, axes = sheet(1, 1, 4.2, title, note(
        {"val": dataset["val"]}, f"{sized}bars: {LEVEL:.0%} interval over clips and, where there are several, seeds (small dots)",
        "Bars that overlap may still differ: rows meet the same clips and seeds, and the table of paired gains decides."))
    means(axes[0, 0], [(name, rung_colour(name), here) for name, here in found.items()], dataset, xlabel)
    if run:
        axes[0, 0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), labelcolor=FAINT)
    return figure
