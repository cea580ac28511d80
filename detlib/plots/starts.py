"""The figure of `evaluate.starts`: what more pictures and other starting weights are worth."""
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..data.coco import Dataset
from ..evaluate.intervals import LEVEL, map_interval
from ..evaluate.starts import Found
from .style import FAINT, note, plain, sheet, style

COLOURS = ("#4D4D4D", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
APART = 1.035  # factor between starts on the logarithmic axis, so that their intervals do not hide each other


@style()
def learning_curve(found: Found, dataset: Dataset) -> Figure:
    """mAP on val against the number of training frames, a line a start: its mean over seeds with the interval, and each seed as a small dot."""
    runs = [run for by_frames in found.values() for here in by_frames.values() for run in here]
    counts = sorted({n for by_frames in found.values() for n in by_frames})
    steps = ", ".join(f"{n:,}" for n in sorted({run.config["profile"]["steps"] for run in runs}))
    seeds = len({run.experiment.seed for run in runs})
    lines = [f"profile {runs[0].experiment.profile}, {steps} steps each; small dots: {seeds} seed{'s' * (seeds != 1)}. Line and bar: mean of the "
             f"seeds, and its {LEVEL:.0%} interval over clips{' and seeds' * (seeds > 1)}.", "Bars that overlap may still differ: the starts meet "
             "the same clips and seeds, and the table of paired differences decides."] if runs else ["Nothing is trained yet."]
    figure, axes = sheet(1, 1, 4.0, "What more pictures are worth, and what a start is", note({"val": dataset["val"]}, *lines))
    axis = axes[0, 0]
    for place, ((way, by_frames), colour) in enumerate(zip(found.items(), COLOURS, strict=False)):
        at = [n * APART ** (place - (len(found) - 1) / 2) for n in by_frames]
        ends = [map_interval(here, dataset) for here in by_frames.values()]
        for x, here, (_, low, high) in zip(at, by_frames.values(), ends, strict=True):
            axis.vlines(x, low, high, color=colour, linewidth=1.6, alpha=0.55)
            axis.plot([x] * len(here), [run.metrics["mAP"] or 0 for run in here], ".", color=colour, markersize=4, alpha=0.7)
        axis.plot(at, [value for value, _, _ in ends], "o-", color=colour, markeredgecolor="white", markersize=8, label=plain(way, 70))
    axis.set(xlabel="training frames (log)", ylabel="mAP", xscale="log")
    axis.xaxis.set_major_locator(FixedLocator(counts))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_ylim(0, max(0.01, axis.get_ylim()[1]))
    if runs:
        axis.legend(loc="upper left", labelcolor=FAINT)
    return figure
