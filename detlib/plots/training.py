"""Figures of training logs: losses, validation metrics, classes."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..data.coco import Dataset, Split
from ..evaluate.coco import Detections, frame_recall
from ..evaluate.intervals import LEVEL, RESAMPLES
from ..runs import Run, reference_of
from .data import frames
from .style import FAINT, legend_above, plain, rung_colour, sheet, style

BESIDE = {"markersize": 5, "markerfacecolor": "white", "linewidth": 1.1, "zorder": 1.5}  # of the reference's curves, below one's own


def run_note(runs: Mapping[str, Run], mean: bool = True, beside: bool = False) -> str:
    """The line under a figure that says what it rests on: profile, steps, images, seeds; with `mean` the classes of mAP, `beside` the reference."""
    run = next(iter(runs.values()))
    sizes, rows = run.config["profile"], run.log_rows()
    seeds = sorted({r.experiment.seed for r in runs.values()})
    text = (f"profile {sizes['name']}: {rows[-1]['step'] if rows else 0} of {sizes['steps']} steps of {sizes['batch']} images, "
            f"seed {', '.join(map(str, seeds))} (one line per run); data {plain(run.config['data']['name'], 40)}")
    vals = [row["val"] for row in rows if "val" in row]
    text += f"; mAP is the mean over {vals[-1]['classes_with_objects']} of {vals[-1]['classes']} classes" if vals and mean else ""
    if beside and any(map(reference_of, runs.values())):
        text += "\ndotted, hollow: the same training in the reference run; not to be seen where it came to the same"
    return text


@style()
def losses(runs: Mapping[str, Run]) -> Figure:
    """Training loss (each step faint, running mean strong) with validation loss as dots: total, classes, boxes; one line a run."""
    figure, axes = sheet(1, 3, 3.4, "Loss: line on the training batches, dots on the whole validation split",
                         run_note(runs, mean=False, beside=True))
    for axis, (part, title) in zip(axes[0], {"loss": "total", "classes": "classes", "boxes": "boxes (smooth L1)"}.items(), strict=True):
        for name, run in runs.items():
            _loss_line(axis, run.log(), part, name)
            if there := reference_of(run):
                column = "val_loss" if part == "loss" else f"val_{part}"
                val = there.log().dropna(subset=[column])
                axis.plot(val["step"], val[column], "o:", color=rung_colour(name), **BESIDE)
        axis.set(title=title, xlabel="step", ylim=(0, top_of([run.log() for run in runs.values()], part)))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_ylabel("loss per positive anchor" if part == "loss" else "")
    axes[0][0].legend(loc="best")
    return figure


@style()
def first_steps(runs: Mapping[str, Run], steps: int = 100) -> Figure:
    """The loss of the classes in the first steps, log axis: each step faint, the mean of five strong; one line per run."""
    figure, axes = sheet(1, 1, 3.2, f"The first {steps} steps: loss of the classes", run_note(runs, mean=False))
    axis = axes[0][0]
    for name, run in runs.items():
        log = run.log().dropna(subset=["classes"]).head(steps)
        axis.plot(log["step"], log["classes"], color=rung_colour(name), alpha=0.25, linewidth=0.9)
        axis.plot(log["step"], log["classes"].rolling(5, center=True, min_periods=1).mean(), color=rung_colour(name), linewidth=1.9,
                  label=plain(name, 40))
    axis.set(xlabel="step", ylabel="loss per positive anchor (log)", yscale="log", xlim=(0, None))
    axis.legend(loc="upper right")
    return figure


def top_of(logs: Sequence[pd.DataFrame], part: str) -> float:
    """An upper end of the loss axis that the first steps do not dictate; one common to all logs."""
    column = "val_loss" if part == "loss" else f"val_{part}"
    return 1.12 * max(max(log[part].quantile(0.97), log[column].max() if column in log else 0.0) for log in logs)


def _loss_line(axis: Axes, log: pd.DataFrame, part: str, name: str) -> None:
    colour = rung_colour(name)
    steps = log.dropna(subset=[part])
    axis.plot(steps["step"], steps[part], color=colour, alpha=0.22, linewidth=0.8)
    window = max(1, len(steps) // 25)  # a running mean that leaves the course of the curve
    axis.plot(steps["step"], steps[part].rolling(window, center=True, min_periods=1).mean(), color=colour, linewidth=1.8, label=plain(name, 40))
    column = "val_loss" if part == "loss" else f"val_{part}"
    if column in log:
        val = log.dropna(subset=[column])
        axis.plot(val["step"], val[column], "o-", color=colour, markersize=6, markeredgecolor="white", linewidth=0.8)


@style()
def validation(runs: Mapping[str, Run]) -> Figure:
    """mAP, AP50 and AP75 on the validation split against the step; one line a run, the last value written at its end."""
    figure, axes = sheet(1, 3, 3.2, "Average precision on the validation split", run_note(runs, beside=True))
    for axis, metric in zip(axes[0], ("mAP", "AP50", "AP75"), strict=True):
        ends = {}
        for name, run in runs.items():
            rows = _validated(run, metric)
            steps, values = zip(*rows, strict=True) if rows else ((), ())
            axis.plot(steps, values, "o-", color=rung_colour(name), markeredgecolor="white", label=plain(name, 40))
            if rows:
                ends[name] = rows[-1]
            if there := reference_of(run):
                axis.plot(*zip(*_validated(there, metric), strict=True), "o:", color=rung_colour(name), **BESIDE)
        top = max([0.01, *(1.15 * value for _, value in ends.values())])
        axis.set(title=metric, xlabel="step", ylim=(0, top), xlim=(0, None))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.margins(x=0.14)
        place = -top
        for name, (step, value) in sorted(ends.items(), key=lambda end: end[1][1]):  # upwards, each above the one before
            place = max(value, place + 0.075 * top)
            axis.annotate(f"{value:.3f}", (step, place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9, color=rung_colour(name))
    axes[0][0].legend(loc="upper left")
    return figure


def _validated(run: Run, metric: str) -> list[tuple[int, float]]:
    return [(row["step"], row["val"][metric]) for row in run.log_rows() if "val" in row and row["val"][metric] is not None]


@style()
def classes(runs: Mapping[str, Run], most: int = 12) -> Figure:
    """AP of each class against the step, one small panel a class, one line a run; a class without validation objects says so."""
    logs = {name: [(row["step"], row["val"]) for row in run.log_rows() if "val" in row] for name, run in runs.items()}
    last: dict = next((rows[-1][1] for rows in logs.values() if rows), {"per_class": {}, "objects": {}})
    names = sorted(last["per_class"], key=lambda c: -last["objects"][c])[:most]
    columns = max(1, min(4, len(names)))
    figure, axes = sheet(-(-max(len(names), 1) // columns), columns, 1.2 + 1.75 * -(-max(len(names), 1) // columns),
                         "Average precision of each class, most frequent first", run_note(runs, mean=False), sharex=True, sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.set_title(f"{plain(name)}: {last['objects'][name]:,} objects")
        if last["per_class"][name] is None:
            axis.text(0.5, 0.5, "no objects", transform=axis.transAxes, ha="center", va="center", color=FAINT)
        for rung, rows in logs.items():
            points = [(step, val["per_class"][name]) for step, val in rows if val["per_class"][name] is not None]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", color=rung_colour(rung), markersize=5, markeredgecolor="white")
    for axis in axes.flat[len(names):]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    if names:
        legend_above(figure, [Line2D([], [], color=rung_colour(rung), marker="o", markersize=5, markeredgecolor="white", label=plain(rung, 40))
                              for rung in runs])
    top = max([0.01, *(v for rows in logs.values() for _, val in rows for v in val["per_class"].values() if v is not None)])
    axes.flat[0].set_ylim(0, 1.15 * top)
    axes.flat[0].set_xlim(left=0)
    axes.flat[0].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


@style()
def progress(run: Run) -> Figure:
    """The picture that is redrawn while a run trains: loss so far, mAP so far."""
    name = run.experiment.rung
    log = run.log()
    figure, axes = sheet(1, 2, 2.6, note=run_note({name: run}))
    _loss_line(axes[0][0], log, "loss", name)
    axes[0][0].set(title="loss: line training, dots validation", xlabel="step", xlim=(0, run.config["profile"]["steps"]),
                   ylim=(0, top_of([log], "loss")))
    rows = [(row["step"], row["val"]["mAP"]) for row in run.log_rows() if "val" in row and row["val"]["mAP"] is not None]
    if rows:
        axes[0][1].plot(*zip(*rows, strict=True), "o-", color=rung_colour(name))
    axes[0][1].set(title="mAP on the validation split", xlabel="step", xlim=(0, run.config["profile"]["steps"]),
                   ylim=(0, max([0.01, *(1.2 * m for _, m in rows)])))
    return figure


def interval_note(runs: Mapping[str, Run], dataset: Dataset) -> str:
    """The line under a figure of intervals: what was drawn again, how often, from how many."""
    return (f"{LEVEL:.0%} interval over {len(dataset['val'].clips)} validation clips, from {RESAMPLES:,} bootstrap resamples; one training each, so "
            f"the choice of seed is not in it\n{run_note(runs)}")


@style()
def intervals(rows: Mapping[str, tuple[float, float, float]], title: str, note: str, xlabel: str = "mAP") -> Figure:
    """Values with their intervals (value, low, high), one row each, the numbers written beside."""
    figure, axes = sheet(1, 1, 1.3 + 0.42 * len(rows), title, note)
    axis = axes[0][0]
    for place, (name, (value, low, high)) in enumerate(rows.items()):
        axis.plot([low, high], [place, place], color=rung_colour(name), linewidth=5, alpha=0.35, solid_capstyle="butt")
        axis.plot([value], [place], "o", color=rung_colour(name), markersize=8, markeredgecolor="white")
        axis.annotate(f"{value:.3f}   [{low:.3f}, {high:.3f}]", (high, place), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set(yticks=range(len(rows)), yticklabels=[plain(n, 40) for n in rows], xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
    axis.set_xlim(min(0, *(low for _, low, _ in rows.values())), max(high for *_, high in rows.values()) * 1.35 + 1e-3)
    axis.grid(axis="y", visible=False)
    return figure


def class_values(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Final AP of each class (rows) for each run (columns), with the number of objects; "no objects" where there are none."""
    table = {"objects": next(iter(runs.values())).metrics["objects"]}
    table |= {name: {c: "no objects" if v is None else f"{v:.3f}" for c, v in run.metrics["per_class"].items()} for name, run in runs.items()}
    frame = pd.DataFrame(table)
    means = {name: "no objects" if run.metrics["mAP"] is None else f"{run.metrics['mAP']:.3f}" for name, run in runs.items()}
    frame.loc["mean (mAP)"] = pd.Series({"objects": int(np.sum(frame["objects"])), **means})
    return frame




def truth_and_found(split: Split, detections: Detections, score_min: float, name: str, least: int = 4) -> Figure:
    """Frames chosen by rule, the objects and below them what was found: the median and the best by share of objects found.

    Only frames with at least `least` objects are candidates (all frames, where none has so many).
    """
    shares = frame_recall(detections, split, score_min)
    enough = [i for i in range(len(split)) if len(split.targets(i)[1]) >= least] or list(range(len(split)))
    order = sorted(enough, key=lambda i: (np.nan_to_num(shares[i]), len(split.targets(i)[1])))
    chosen = list(dict.fromkeys([order[len(order) // 2], order[-1]]))
    shown = " and ".join(f"{np.nan_to_num(shares[i]):.0%}" for i in chosen)
    title = f"{plain(name, 40)} on its median and its best frame: {shown} of the objects found"
    return frames(split, chosen, detections, score_min=score_min, title=title)
