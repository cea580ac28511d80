"""Figures of the benchmark page: what was measured round by round, and how tasks grow."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .style import plain, sheet, style

REACHED, MISSED, LIMIT = "#0072B2", "#D55E00", "#4D4D4D"


@style()
def goals(figures: Sequence[Mapping]) -> Figure:
    """How far each figure is beyond its goal, as a factor on a logarithmic axis: a dot a round, a bar at the median; entries of summary.json."""
    figure, axes = sheet(1, 1, 1.3 + 0.36 * len(figures), "Measured against the goals",
                         "right of the line: the goal is reached, by this factor; dots are rounds, the bar is their median")
    axis, most = axes[0][0], 1.0
    for place, entry in enumerate(figures):
        values = np.array([value / entry["goal"] if entry["better"] == "higher" else entry["goal"] / value for value in entry["runs"]])
        middle = float(np.median(values))
        colour = REACHED if middle >= 1 else MISSED
        axis.plot(values, [place] * len(values), "o", color=colour, alpha=0.45, markersize=5)
        axis.plot([middle] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2.5)
        most = max(most, *values, 1 / values.min())
        sign = "at least" if entry["better"] == "higher" else "at most"
        axis.annotate(f"{entry['value']:.3g} {entry['unit']}, wanted {sign} {entry['goal']:g}", (1, place), xycoords=("axes fraction", "data"),
                      xytext=(8, 0), textcoords="offset points", va="center", fontsize=9, annotation_clip=False)
    axis.axvline(1, color=LIMIT, linewidth=1.2)
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if 1 / most <= t <= most]
    axis.set(xscale="log", yticks=range(len(figures)), yticklabels=[entry["name"] for entry in figures], ylim=(len(figures) - 0.5, -0.5),
             xlim=(0.8 / most, 1.25 * most), xlabel="times the goal")
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(axis="y", visible=False)
    return figure


@style()
def growth(table: pd.DataFrame, exponents: pd.DataFrame) -> Figure:
    """Seconds and MiB against the size, one column a task; from `bench.growth`. The dashed line is linear growth from the first point."""
    tasks = list(table.groupby("task", sort=False))
    figure, axes = sheet(2, len(tasks), 5.6, "How time and memory grow", "a process for each point; dashed: linear; axes logarithmic", sharex=True)
    for column, (task, part) in enumerate(tasks):
        part = part.sort_values("size")
        for axis, name, head in ((axes[0][column], "seconds", f"{plain(task, 26)}\n"), (axes[1][column], "MiB", "")):
            size, value = part["size"].to_numpy(float), part[name].clip(lower=1.0 if name == "MiB" else 1e-4).to_numpy()
            axis.plot(size, value[0] * size / size[0], color=LIMIT, linestyle="--", linewidth=1)
            axis.plot(size, value, color=REACHED, marker="o", linewidth=1.8)
            axis.set(xscale="log", yscale="log", title=f"{head}slope {round(exponents.loc[task, name], 2) + 0.0:.2f}")  # + 0.0: no -0.00
            axis.xaxis.set_major_locator(FixedLocator(list(size)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
            low, high = axis.get_ylim()
            axis.yaxis.set_major_locator(FixedLocator([d * 10.0**e for e in range(-5, 6) for d in (1, 3) if low <= d * 10.0**e <= high]))
            axis.yaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes[1][column].set_xlabel(f"1x: {part['of'].iloc[0]}".replace(" on ", "\non "), fontsize=8)
    axes[0][0].set_ylabel("seconds")
    axes[1][0].set_ylabel("MiB above the start")
    return figure
