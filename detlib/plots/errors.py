"""Figures of what is wrong: error types, precision and recall, confusions, calibration, and what is found by size, distance and visibility."""
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ..data.coco import Dataset
from ..evaluate.breakdown import CURVES, Property, confusion, found_by, precision_curves, properties, reliability
from ..evaluate.coco import kept_detections, match_detections
from ..evaluate.errors import MEAN, NUMBER, SPECIAL, TYPES, error_types
from ..evaluate.intervals import LEVEL, RESAMPLES
from ..evaluate.outcomes import IGNORED, Outcome, outcome
from ..runs import Run
from .style import FAINT, INK, legend_above, on_colour, plain, rung_colour, rung_label, sheet, style
from .style import note as split_note

HEAT = sns.light_palette("#0072B2", as_cmap=True)
GREY = sns.light_palette("#777777", as_cmap=True)
WRONG = sns.light_palette("#D55E00", as_cmap=True)
LINES: dict[str, Any] = dict(zip(CURVES, ("-", (0, (4, 1.6)), (0, (1, 1.4))), strict=True))
FEWEST = 20  # detections in a bin of scores, to draw a share of them
GAP = 0.3  # of a cell, before the row and column that are not classes
FEW = 4  # rungs, up to which there is room for more than one line or number of each
NOTE = 148  # letters a line


def _note(runs: Sequence[Run], dataset: Dataset, *more: str) -> str:
    if not runs:
        raise ValueError("no runs to draw: train one with `detlib train RUNG`")
    sizes, seeds = runs[0].config["profile"], sorted({run.experiment.seed for run in runs})
    trained = f"profile {sizes['name']}: {sizes['steps']:,} steps of {sizes['batch']} images, seed {', '.join(map(str, seeds))}"
    return split_note({"val": dataset["val"]}, f"data {plain(dataset.name, 40)}; {trained}", *("\n".join(textwrap.wrap(line, NOTE)) for line in more))


@style()
def error_costs(runs: Mapping[str, Run], dataset: Dataset, detail: str | None = None) -> Figure:
    """Top the AP50 that each type of error costs, rungs side by side; below the same for each class of one rung, `detail`, else the last."""
    note = _note(list(runs.values()), dataset, "AP50 lost: what it rises by when errors of one type alone are mended (TIDE, Bolya et al. 2020); the "
                 "costs do not add up. False positives and negatives: all of them, whatever their type. One training each and no interval: read the "
                 "pattern, not hundredths.")
    tables = {name: error_types(kept_detections(run, dataset), dataset["val"]) for name, run in runs.items()}
    detail = detail or list(runs)[-1]
    figure, axes = sheet(2, 1, 7.6, "What the errors cost", note, height_ratios=(1, 1.1))
    _cost_bars(axes[0][0], tables)
    _cost_heat(axes[1][0], tables[detail], detail)
    reached = {name: f"{plain(name, 40)} (AP50 {table.attrs['AP50'][0]:.3f})" for name, table in tables.items()}
    legend_above(figure, [Patch(color=rung_colour(name), label=text) for name, text in reached.items()])
    return figure


def _cost_bars(axis: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    kinds, width = [*TYPES, *SPECIAL], 0.82 / len(tables)
    places = np.arange(len(kinds)) + 0.5 * (np.arange(len(kinds)) >= len(TYPES))  # the special ones stand apart
    for k, (name, table) in enumerate(tables.items()):
        lost = table.loc[kinds, MEAN].fillna(0)
        bars = axis.bar(places + (k + 0.5) * width - 0.41, lost, width * 0.94, color=rung_colour(name))
        if len(tables) <= FEW:
            axis.bar_label(bars, [_short(v, 2) for v in lost], fontsize=8 if len(tables) < FEW else 7, padding=1.5)
    axis.axvline(places[len(TYPES)] - 0.75, color="#B8B8B8", linewidth=1)
    axis.set_xticks(places, [kind.replace(" ", "\n") for kind in kinds])
    axis.set(ylabel="AP50 lost, mean over classes", xlim=(places[0] - 0.55, places[-1] + 0.55), title="by type of error")
    axis.set_ylim(0, max(0.01, 1.1 * max(table[MEAN].max() for table in tables.values())))
    axis.grid(axis="x", visible=False)


def _short(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}".replace("0.", ".")


def _cost_heat(axis: Axes, table: pd.DataFrame, name: str) -> None:
    values, small = table.drop(columns=NUMBER), len(table.columns) > 12
    texts = values.map(lambda v: _short(v, 2))
    for kinds, colours in ((TYPES, HEAT), (SPECIAL, GREY)):  # each with its own strongest colour
        most = np.nanmax(values.loc[list(kinds)].to_numpy(), initial=0.01)
        hidden = values.isna() | ~np.isin(values.index, kinds)[:, None]
        sns.heatmap(values, mask=hidden, ax=axis, cmap=colours, vmin=0, vmax=most, annot=texts, fmt="", linewidths=1.5, cbar=False,
                    xticklabels=False, yticklabels=False, annot_kws={"fontsize": 7.5 if small else 9.5})
    ap50 = ["no objects" if np.isnan(v) else f"AP50 {_short(v, 2)}" for v in table.attrs["AP50"]]
    names = [f"{plain(c, 14)}\n{a}" for c, a in zip(["all (mean)", *values.columns[1:]], ap50, strict=True)]
    axis.set_xticks(np.arange(len(names)) + 0.5, names, rotation=60 if small else 0, ha="right" if small else "center",
                    fontsize=8 if len(names) > 9 else 9)
    axis.set_yticks(np.arange(len(table)) + 0.5, [f"{kind} ({number:,})" for kind, number in table[NUMBER].items()], rotation=0)
    axis.grid(visible=False)
    axis.axhline(len(TYPES), color="white", linewidth=8)
    axis.axvline(1, color="white", linewidth=6)
    axis.set(title=f"{plain(name, 40)} class by class: AP50 lost, and the number of errors in brackets", xlabel="", ylabel="")


@style()
def precision_recall(runs: Mapping[str, Run], dataset: Dataset) -> Figure:
    """Precision against recall, a panel for each class with objects and a line a rung; with a single rung also the mean over IoU 0.5 to 0.95."""
    split, shown = dataset["val"], list(CURVES)[:3 if len(runs) == 1 else 2 if len(runs) < FEW else 1]
    found = {name: kept_detections(run, dataset) for name, run in runs.items()}
    seen = {name: outcome(detections, split) for name, detections in found.items()}
    curves = {name: precision_curves(match_detections(detections, split, {}), dataset.categories) for name, detections in found.items()}
    objects = split.boxes["category"][~split.boxes["crowd"]].value_counts()
    classes, without = [k for k in dataset.categories if objects[k]], [plain(k).strip() for k in dataset.categories if not objects[k]]
    note = _note(list(runs.values()), dataset, "the area under a line is AP at that IoU; dot: where a rung stands at the score of its best F1 "
                 f"({', '.join(f'{plain(n, 40)} {o.score_min:.2f}' for n, o in seen.items())})",
                 f"no objects: {', '.join(without[:4])}{f' and {len(without) - 4} more' if len(without) > 4 else ''}" if without else "")
    columns = max(1, min(4, len(classes)))
    rows = max(1, -(-len(classes) // columns))
    figure, axes = sheet(rows, columns, 1.9 + 2.1 * rows, "Precision and recall of each class", note, sharex=True, sharey=True)
    for axis, category in zip(axes.flat, classes, strict=False):
        for name in runs:
            if (table := curves[name][category]) is not None:
                _precision_lines(axis, table[shown], seen[name], category, rung_colour(name))
        axis.set(title=f"{plain(category, 16)} (n {objects[category]:,})", xlim=(0, 1), ylim=(0, 1.03), xticks=(0, 0.5, 1))
    for axis in axes.flat[len(classes):]:
        axis.set_axis_off()
    for axis in axes.flat[:len(classes)][-columns:]:  # the lowest of each column
        axis.set_xlabel("recall")
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("precision")
    handles = [Line2D([], [], color=rung_colour(name), linewidth=2.2, label=plain(name, 40)) for name in runs]
    handles += [Line2D([], [], color=INK, linewidth=1.4, linestyle=LINES[curve], label=curve) for curve in shown]
    legend_above(figure, handles)
    return figure


def _precision_lines(axis: Axes, curves: pd.DataFrame, seen: Outcome, category: str, colour: str) -> None:
    for curve in curves.columns:
        strong = curve == next(iter(CURVES))
        reached = curves[curve].where(curves[curve] > 0)
        axis.plot(reached.index, reached, color=colour, linewidth=1.7 if strong else 1.2, linestyle=LINES[curve], alpha=1 if strong else 0.85)
    label = seen.split.categories.index(category) + 1
    objects = seen.objects[seen.split.boxes["label"].to_numpy()[seen.objects] == label]
    mine = seen.object_of[seen.detections.label == label]
    if len(mine):
        axis.plot(seen.found[objects].mean(), (mine >= 0).sum() / max((mine != IGNORED).sum(), 1), "o", color=colour, markersize=6,
                  markeredgecolor="white", zorder=5, clip_on=False)


@style()
def confusions(run: Run, dataset: Dataset, score_min: float | None = None) -> Figure:
    """What objects of each class were called, in shares of their row with counts written, missed ones and false alarms set apart."""
    seen = outcome(kept_detections(run, dataset), dataset["val"], score_min)
    table, number = confusion(seen), len(dataset.categories)
    counts = table.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    note = _note([run], dataset, f"detections with a score of at least {seen.score_min:.2f}"
                 f"{', where F1 is best' if score_min is None else ''}; best score first, each takes the free object of highest IoU, from 0.5 on, of "
                 "any class", "colour: share of the row; number: count; bottom row: detections that hit no object, by the class they claim")
    figure, axes = sheet(1, 1, 2.0 + (0.4 if number <= 10 else 0.3) * (number + 1), f"{rung_label(run.experiment.rung)}: what was called what", note)
    axis, edges = axes[0][0], np.append(np.arange(number + 1.0), number + GAP + np.arange(2.0))[[*range(number + 1), -2, -1]]
    _cells(axis, edges, shares, counts)
    places = [*np.arange(number) + 0.5, number + GAP + 0.5]
    names = [plain(name, 14) for name in dataset.categories]
    totals = [f"{name} ({total:,})" for name, total in zip([*names, "false alarm"], counts.sum(axis=1), strict=True)]
    axis.set(xlim=(0, edges[-1]), ylim=(edges[-1], 0), xlabel="called", ylabel="is", yticks=places, yticklabels=totals)
    axis.set_xticks(places, [*names, "missed"], rotation=45 if number > 10 else 0, ha="left" if number > 10 else "center")
    axis.xaxis.set_ticks_position("top")
    axis.xaxis.set_label_position("top")
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    return figure


def _cells(axis: Axes, edges: np.ndarray, shares: np.ndarray, counts: np.ndarray) -> None:
    """A heat map with a gap before its last row and column; those and what is off the diagonal are the wrong ones."""
    number = len(shares) - 1
    lows = [*edges[:number], edges[-2]]
    for i in range(number + 1):
        for j in range(number + 1):
            if i == j == number:
                continue
            colour = (HEAT if i == j else WRONG)(float(shares[i, j]) ** 0.7) if counts[i, j] else (0.97, 0.97, 0.97, 1.0)
            axis.fill_between([lows[j] + 0.02, lows[j] + 0.98], lows[i] + 0.02, lows[i] + 0.98, color=colour, linewidth=0)
            if counts[i, j]:
                axis.text(lows[j] + 0.5, lows[i] + 0.5, f"{counts[i, j]:,}", ha="center", va="center", fontsize=9 if number <= 10 else 7,
                          color=on_colour(colour))


@style()
def calibration(runs: Mapping[str, Run], dataset: Dataset) -> Figure:
    """Left how often detections of a score are right, on the diagonal if scores are probabilities; right how many detections have that score."""
    note = _note(list(runs.values()), dataset, "right: class and IoU of at least 0.5; each dot a tenth of the scores, at their mean, where there are "
                 f"{FEWEST} or more detections", "error: expected calibration error, the distance from the diagonal averaged over all detections "
                 "(Küppers et al. 2020)")
    figure, axes = sheet(1, 2, 4.6, "Can the score be taken for a probability?", note, width_ratios=(1.15, 1))
    left, right = axes[0]
    left.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
    handles = []
    for name, run in runs.items():
        table = reliability(match_detections(kept_detections(run, dataset), dataset["val"], {}))
        colour, enough = rung_colour(name), table["detections"] >= FEWEST
        error = table.attrs["error"]
        handles += left.plot(table["mean score"][enough], table["share right"][enough], "o-", color=colour, markersize=6, markeredgecolor="white",
                             label=f"{plain(name, 40)} ({'no detections' if np.isnan(error) else f'error {error:.3f}'})")
        right.stairs(table["detections"], np.append(table["from"], 1.0), color=colour, linewidth=1.8, baseline=None)
    if not any(len(line.get_xdata()) for line in handles):
        left.text(0.5, 0.9, f"no tenth of the scores has {FEWEST} detections", ha="center", color=FAINT)
    left.set(xlabel="score", ylabel="share of detections that are right", xlim=(0, 1), ylim=(0, 1), title="reliability")
    right.set(xlabel="score", ylabel="detections (log)", yscale="log", xlim=(0, 1), title="how many there are")
    right.set_ylim(0.8, max(20.0, 1.3 * right.dataLim.ymax))
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    legend_above(figure, [*handles, Line2D([], [], color=FAINT, linewidth=1, linestyle=(0, (4, 2)), label="as often right as the score says")])
    return figure


@style()
def found_shares(runs: Mapping[str, Sequence[Run]], dataset: Dataset, range_channel: str | None = None) -> Figure:
    """Share of objects found, by size, distance and visible part where the data know them, with intervals; rungs beside each other.

    `range_channel` is as in `breakdown.properties`.
    """
    runs = {name: [run for run in of_rung if not run.without_detections] for name, of_rung in runs.items()}
    every = [run for of_rung in runs.values() for run in of_rung]
    seeds = "" if max((len(r) for r in runs.values()), default=0) > 1 else "; one training each, so the choice of seed is not in it"
    clips = len(dataset["val"].clips)
    bars = "one clip gives no interval" if clips < 2 else (
        f"{LEVEL:.0%} interval over {clips} clips ({RESAMPLES:,} resamples), none where one clip holds all")
    note = _note(every, dataset, f"found: right class, IoU of at least 0.5, each rung at the score of its best F1; bars: {bars}{seeds}")
    seen = {name: [outcome(kept_detections(run, dataset), dataset["val"]) for run in of_rung] for name, of_rung in runs.items()}
    known = properties(dataset, "val", range_channel)
    figure, axes = sheet(1, len(known), 4.3, "What is found, and what is missed", note, sharey=True,
                         width_ratios=[len(what.bins) + 0.6 for what in known])
    for axis, what in zip(axes[0], known, strict=True):
        _found_bins(axis, what, seen)
    axes[0][0].set(ylabel="objects found", ylim=(0, 1.0))
    axes[0][0].yaxis.set_major_formatter(PercentFormatter(1))
    handles = [Line2D([], [], color=rung_colour(name), marker="o", markeredgecolor="white", markersize=8,
                      label=f"{plain(name, 40)} (score ≥ {', '.join(f'{o.score_min:.2f}' for o in outcomes)})") for name, outcomes in seen.items()]
    legend_above(figure, handles)
    return figure


def _found_bins(axis: Axes, what: Property, seen: Mapping[str, Sequence[Outcome]]) -> None:
    for k, (name, outcomes) in enumerate(seen.items()):
        table = found_by(outcomes, what)
        places = np.arange(len(table)) + 0.7 * ((k + 0.5) / len(seen) - 0.5)
        few, colour = len(seen) <= FEW, rung_colour(name)
        axis.vlines(places, table["low"], table["high"], color=colour, linewidth=4 if few else 2.5, alpha=0.4)
        axis.plot(places, table["found"], "o-" if few else "o", color=colour, markersize=6.5 if few else 5, markeredgecolor="white", linewidth=0.8,
                  clip_on=False)
        objects = table["objects"]
    axis.set_xticks(range(len(what.bins)), [f"{plain(name)}\nn {number:,}" for name, number in zip(what.bins, objects, strict=True)], fontsize=8.5)
    axis.set(title=f"by {plain(what.name, 40)}", xlim=(-0.6, len(what.bins) - 0.4))
    axis.grid(axis="x", visible=False)
