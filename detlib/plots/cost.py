"""Figures of what detectors cost: where parameters and arithmetic lie, how time grows with the batch, and mAP against latency."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..evaluate.intervals import LEVEL
from ..evaluate.ladder import Row
from .style import pixel_ticks, plain, rung_colour, sheet, style

PARTS = {"backbone": "#4D4D4D", "neck": "#009E73", "head": "#E69F00"}


@style()
def cost_by_part(tables: Mapping[str, pd.DataFrame], image_hw: tuple[int, int]) -> Figure:
    """Shares of parameters and of arithmetic by level, one row of two panels a model; from `cost.by_part`."""
    figure, axes = sheet(len(tables), 2, 0.9 + 1.9 * len(tables), "Where the parameters lie, and where the work is done",
                         f"one image of {image_hw[1]} x {image_hw[0]} px; a multiply-add counts as two operations; convolutions alone",
                         sharex="col", sharey=True)
    for row, (name, table) in zip(axes, tables.items(), strict=True):
        strides = sorted(table["stride"].unique())
        for axis, column, unit, scale in zip(row, ("parameters", "FLOP"), ("million parameters", "GFLOP"), (1e6, 1e9), strict=True):
            total, bottom = table[column].sum(), np.zeros(len(strides))
            for part, colour in PARTS.items():
                share = table[table["part"] == part].set_index("stride")[column].reindex(strides).fillna(0).to_numpy() / total
                axis.bar(range(len(strides)), share, bottom=bottom, color=colour, width=0.72, label=part)
                bottom += share
            axis.set(title=f"{plain(name, 40)}: {total / scale:,.1f} {unit}", xticks=range(len(strides)), xticklabels=[f"{s}" for s in strides])
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
            axis.grid(axis="x", visible=False)
    for axis in axes[-1]:
        axis.set_xlabel("stride of the level, px")
    axes[0][0].legend(loc="upper right")
    return figure


@style()
def batches(speeds: pd.DataFrame) -> Figure:
    """Throughput, and how long one waits for an image, against the batch size; one line a model, bars from the least to the most."""
    figure, axes = sheet(1, 2, 3.9, "Throughput is not latency", f"{_rounds(speeds)}\nfrom images in memory to boxes; axes logarithmic")
    sizes = sorted(speeds["batch"].unique())
    for name, rows in speeds.groupby("model", sort=False):
        rows, colour = rows.sort_values("batch"), rung_colour(name)
        for axis, value, low, high in ((axes[0][0], rows["images/s"], rows["batch"] / rows["most"], rows["batch"] / rows["least"]),
                                       (axes[0][1], 1000 * rows["seconds"], 1000 * rows["least"], 1000 * rows["most"])):
            axis.errorbar(rows["batch"], value, yerr=[value - low, high - value], color=colour, marker="o", markersize=5, markeredgecolor="white",
                          linewidth=1.5, elinewidth=1, label=plain(name, 40))
    for axis, title, unit in zip(axes[0], ("images a second", "until a batch is done, and with it its first image"), ("images/s", "ms"), strict=True):
        axis.set(xscale="log", yscale="log", title=title, xlabel="images in a batch", ylabel=unit)
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        pixel_ticks(axis.yaxis, axis.get_ylim())
    axes[0][1].legend(loc="upper left")
    return figure


@style()
def latencies(table: pd.DataFrame) -> Figure:
    """How long one image takes: the network and the boxes as parts of a bar, p50 at its end and p95 as a tick; from `cost.latency`."""
    figure, axes = sheet(1, 1, 1.2 + 0.34 * len(table), "Latency: one image, alone, from memory to its boxes", _rounds(table))
    axis = axes[0][0]
    for place, (name, row) in enumerate(table.iterrows()):
        axis.barh(place, row["forward"], color=rung_colour(name), height=0.62)
        axis.barh(place, row["boxes"], left=row["forward"], color=rung_colour(name), alpha=0.45, height=0.62)
        axis.plot([row["p95"]] * 2, [place - 0.31, place + 0.31], color="black", linewidth=1.4)
        axis.annotate(f"{row['p50']:.1f} ms, p95 {row['p95']:.1f}; boxes {row['boxes'] / (row['forward'] + row['boxes']):.0%}",
                      (max(row["p95"], row["p50"]), place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set(yticks=range(len(table)), yticklabels=[plain(name, 40) for name in table.index], ylim=(len(table) - 0.5, -0.5),
             xlim=(0, 1.4 * table[["p50", "p95"]].to_numpy().max()), xlabel="ms: network (strong), softmax, decoding and NMS (pale), p95 (tick)")
    axis.grid(axis="y", visible=False)
    return figure


@style()
def map_against_latency(rows: Sequence[Row], table: pd.DataFrame, note: str) -> Figure:
    """mAP with its interval against the latency of one image (p50, a bar to p95), one dot a row of the ladder that was trained and timed."""
    figure, axes = sheet(1, 1, 4.4, "What a millisecond buys", note)
    axis, shown = axes[0][0], sorted(((row, row.value) for row in rows if row.value and row.name in table.index), key=lambda one: -one[1][0])
    for row, (value, low, high) in shown:
        x, colour = table.loc[row.name, "p50"], rung_colour(row.name)
        axis.errorbar(x, value, yerr=[[value - low], [high - value]], xerr=[[0], [max(0.0, table.loc[row.name, "p95"] - x)]], color=colour,
                      marker="o", markersize=9, markeredgecolor="white", linestyle="none", elinewidth=1, alpha=0.95,
                      label=f"{plain(row.name, 30)}: {value:.3f}, {x:.0f} ms")
    axis.set(xlabel="ms for one image, alone (p50, bar to p95)", ylabel=f"mAP on val, {LEVEL:.0%} interval", ylim=(0, None), xlim=(0, None))
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="best first: mAP, p50", alignment="left")
    return figure


def _rounds(table: pd.DataFrame) -> str:
    about = table.attrs
    return f"{about['machine']}; {about['precision']}; {about['rounds']} rounds after {about['warm-up']} to warm up, models in turn"
