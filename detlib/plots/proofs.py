"""Figures of the demonstrations in `detlib.models.proofs`: what each part of the ladder does."""
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from ..models import proofs
from ..models.detector import SCORE_MIN
from ..models.losses import ALPHA, GAMMA, focal_loss
from ..models.proofs import GROUPS, TOY_POINTS, TOY_STEPS, extent
from .style import FAINT, INK, RUNGS, number, plain, rung_colour, sheet, style

SEEN = matplotlib.colormaps["viridis"]
DECADES = 6  # of a footprint that are told apart
GAMMAS = dict(zip((0.0, 0.5, 1.0, 2.0, 5.0), ("#4D4D4D", "#88CCEE", "#44AA99", "#0072B2", "#AA4499"), strict=True))
SHARES = dict(zip(GROUPS, ("#0072B2", "#E69F00", "#C8C8C8"), strict=True))
HALO = [withStroke(linewidth=3, foreground="white")]


@style()
def depth_toy(table: pd.DataFrame) -> Figure:
    """The table of `proofs.depth_toy`: each net's last training loss against depth, plain and residual, with a line at the best rate of each."""
    seeds, rates = table["seed"].nunique(), sorted(table["rate"].unique())
    sizes = ", ".join(f"{n:,}" for n in table.groupby("depth")["parameters"].first())
    figure, axes = sheet(1, 1, 4.0, "What depth does to the training loss, without and with the shortcut",
                         f"{TOY_POINTS} points of two spirals, {TOY_STEPS} steps; dots: one net each, {seeds} seeds x {len(rates)} rates of SGD "
                         f"({', '.join(f'{r:g}' for r in rates)}); line: mean over seeds at the best rate there\n"
                         f"both kinds: batch norm, the same first weights, {sizes} parameters")
    axis, depths = axes[0][0], sorted(table["depth"].unique())
    for kind, name, shift in (("plain", "baseline", -0.07), ("residual", "resnet", 0.07)):
        rows, colour = table[table["kind"] == kind], rung_colour(name)
        best = rows.groupby(["depth", "rate"])["loss"].mean().groupby("depth").min()
        axis.plot([depths.index(d) + shift for d in rows["depth"]], rows["loss"], "o", color=colour, alpha=0.4, markersize=5, markeredgewidth=0)
        axis.plot([depths.index(d) + shift for d in best.index], best, "-", color=colour, linewidth=2)
        axis.annotate({"plain": "plain:\nrelu(F(x))", "residual": "residual:\nrelu(F(x) + x)"}[kind], (len(depths) - 1 + shift, best.iloc[-1]),
                      xytext=(14, -3), textcoords="offset points", color=colour, va="top" if kind == "plain" else "center", fontweight="bold")
    chance = np.log(2)
    axis.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axis.annotate("guessing: log 2", (0, chance), xytext=(0, 4), textcoords="offset points", color=FAINT, ha="center", fontsize=9)
    axis.set(yscale="log", xticks=range(len(depths)), xticklabels=[f"{d} layers" for d in depths], ylabel="training loss (log)",
             xlim=(-0.35, len(depths) - 0.35), ylim=(None, 2.5))
    axis.grid(axis="x", visible=False)
    return figure


def _heat(axis: Axes, seen: Tensor, **options: Any) -> AxesImage:
    """A map (h, w) relative to its largest value; exact zeros stay bare."""
    return axis.imshow(np.ma.masked_equal((seen / seen.max()).numpy(), 0), cmap=SEEN, interpolation="nearest", **options)


@style()
def footprints(maps: Mapping[str, Tensor], image: Tensor, cell_xy: tuple[float, float], note: str = "") -> Figure:
    """What one cell sees: footprints (H, W) by rung (`fpn`, or `fpn, trained`) over the same image (C, H, W), and their sums by column.

    `cell_xy` is the cell's centre in px; `note` says which level, which weights.
    """
    height, width = image.shape[-2:]
    rows = min(height, width // 4)  # shown of an image that is not a panorama, so that columns lie above each other
    top = min(max(round(cell_xy[1]) - rows // 2, 0), height - rows)
    tall = 10.0 * rows / width  # inches
    figure, axes = sheet(len(maps) + 1, 1, 2.75 + len(maps) * (tall + 0.3), "Which pixels one cell of a feature map sees",
                         f"absolute gradient of the cell's features by the image, log colour, relative to its largest value; not coloured: exactly "
                         f"zero\n{note}", height_ratios=[tall] * len(maps) + [1.5])
    last = axes[-1][0]
    for k, (name, seen) in enumerate(maps.items()):
        axis, colour = axes[k][0], rung_colour(name.split(",")[0])
        held, hard = extent(seen)
        axis.imshow(image.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        shown = _heat(axis, seen, norm=LogNorm(10.0**-DECADES, 1), alpha=0.72)
        axis.plot(*cell_xy, "s", markersize=9, markerfacecolor="none", markeredgecolor="white", markeredgewidth=2)
        axis.set(ylim=(top + rows - 0.5, top - 0.5), xticks=[], yticks=[],
                 title=f"{plain(name, 40)}: 99 % of the gradient in {held} px, anything at all in {hard} px")
        axis.grid(visible=False)
        columns = seen.double().sum(0)
        share = np.where(columns > 0, columns / columns.sum(), np.nan)
        last.plot(np.arange(width), share, color=colour, linewidth=1.5, linestyle="--" if "," in name else "-", label=plain(name, 40))
    figure.colorbar(shown, ax=list(axes[:-1, 0]), fraction=0.012, pad=0.008, ticks=[1, 10.0**-(DECADES // 2), 10.0**-DECADES])
    last.axvline(cell_xy[0], color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    last.set(yscale="log", xlim=(-0.5, width - 0.5), xlabel="column (px)", ylabel="column's share")
    last.legend(loc="upper right", ncols=len(maps))
    return figure


@style()
def reach(maps: Sequence[Tensor], cells: Sequence[tuple[int, int]], stride: int, shown_px: int = 192) -> Figure:
    """What one lit cell (row, column) of each level leaves on the finest map of an FPN: maps (h, w) of `proofs.reach`, one a level.

    `stride` px of the finest level; each further level doubles it. The part of the panorama around the cells is shown.
    """
    height, width = (side * stride for side in maps[0].shape)
    shown_px = min(shown_px, width)
    middle = stride * 2 ** (len(maps) - 1) * (cells[-1][1] + 0.5)
    left = float(np.clip(middle - shown_px / 2, 0, width - shown_px))
    columns = 3
    rows = -(-len(maps) // columns)
    figure, axes = sheet(rows, columns, 1.0 + rows * (0.35 + 3.2 * height / shown_px),
                         "One lit cell of each level, and what arrives on the finest map",
                         "outline: the lit cell; colour: change of the finest map, relative to its largest value; white: none at all\n"
                         "untrained weights; axes in px; what would lie outside the image is cut off")
    for axis in axes.flat[len(maps):]:
        axis.set_visible(False)
    for level, (axis, seen, (row, column)) in enumerate(zip(axes.flat, maps, cells, strict=False)):
        side = stride * 2**level
        hit_rows, hit_columns = ((seen > 0).any(dim).nonzero().flatten() for dim in (1, 0))
        wide, tall = (int(hit[-1] - hit[0] + 1) * stride for hit in (hit_columns, hit_rows))
        _heat(axis, seen, vmin=0, vmax=1, extent=(0, width, height, 0))
        axis.add_patch(Rectangle((column * side, row * side), side, side, fill=False, edgecolor="#D55E00", linewidth=1.3))
        axis.set(xlim=(left, left + shown_px), ylim=(height, 0), title=f"level {level}: {side} px reach {wide} x {tall} px",
                 xticks=np.linspace(left, left + shown_px, 5), yticks=np.linspace(0, height, 3))
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(True)
    return figure


@style()
def focal_curves() -> Figure:
    """Focal loss against the probability of the right class for several gammas, alpha 1, and its factor on cross-entropy."""
    figure, axes = sheet(1, 2, 3.7, "The focal loss makes easy anchors cheap", "alpha 1; gamma 0 is cross-entropy (after fig. 1 of Lin et al. 2017b)")
    p = torch.linspace(0.005, 0.995, 400, dtype=torch.double)
    for gamma, colour in GAMMAS.items():
        loss = _focal_of(p, gamma)
        axes[0][0].plot(p, loss, color=colour, linewidth=2, label=f"gamma {gamma:g}")
        axes[0][1].plot(p, loss / _focal_of(p, 0.0), color=colour, linewidth=2)
    at = torch.tensor([0.9], dtype=torch.double)
    share = (_focal_of(at, GAMMA) / _focal_of(at, 0.0)).item()
    colour = GAMMAS[GAMMA]
    axes[0][1].plot(at, share, "o", color=colour, markersize=8, markeredgecolor="white")
    axes[0][1].annotate(f"p = {at.item():g}, gamma {GAMMA:g}:\n{number(1 / share)} times less", (at.item(), share), xytext=(0.3, share / 9),
                        color=colour, fontsize=10, fontweight="bold", va="center", ha="center",
                        arrowprops={"arrowstyle": "-", "color": colour, "shrinkB": 5})
    axes[0][0].set(title="loss", ylim=(0, 5))
    axes[0][1].set(title="share of cross-entropy that is left (log)", yscale="log", ylim=(1e-4, 1.5))
    for axis in axes[0]:
        axis.set(xlabel="probability p of the right class", xlim=(0, 1))
    axes[0][0].legend(loc="upper right")
    return figure


def _focal_of(p: Tensor, gamma: float) -> Tensor:
    logits = torch.stack([torch.zeros_like(p), p.logit()], -1)
    right = torch.ones(1, dtype=torch.long)
    return torch.stack([focal_loss(z[None], right, gamma, (1.0, 1.0)) for z in logits])


@style()
def loss_shares(tables: Mapping[str, pd.DataFrame], note: str = "") -> Figure:
    """Tables of `proofs.loss_shares` by model (such as fresh, trained): who carries the loss, and who the gradient, for three losses."""
    figure, axes = sheet(len(tables), 2, 1.25 + 1.55 * len(tables), "Who carries the classification loss of one batch",
                         "numbers in brackets: anchors that count; the gradient is that by the logits, its lengths summed over anchors"
                         f"{f'{chr(10)}{note}' if note else ''}", sharex=True, sharey=True)
    for row, (model, table) in zip(axes, tables.items(), strict=True):
        for axis, column in zip(row, ("share of loss", "share of gradient"), strict=True):
            _stacked(axis, table[column].unstack(sort=False), table["anchors"].unstack(sort=False))
            axis.set_title(f"{plain(model, 40)}: {column}")
    for axis in axes[-1]:
        axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, handlelength=1.2)
    return figure


def _stacked(axis: Axes, shares: pd.DataFrame, counts: pd.DataFrame) -> None:
    left = np.zeros(len(shares))
    for group, colour in SHARES.items():
        bars = axis.barh(range(len(shares)), shares[group], left=left, color=colour, edgecolor="white", linewidth=0.8, label=group)
        texts = ["" if v < 0.06 else ">99%" if 0.995 <= v < 1 else f"{v:.0%}" for v in shares[group]]
        axis.bar_label(bars, texts, label_type="center", fontsize=9, color="white" if colour == "#0072B2" else INK)
        left += shares[group].to_numpy()
    names = [f"{name} ({int(n):,})" for name, n in counts.sum(axis=1).items()]
    axis.set(yticks=range(len(shares)), yticklabels=names, ylim=(len(shares) - 0.5, -0.5), xlim=(0, 1))
    axis.grid(axis="y", visible=False)


@style()
def focal_scores() -> Figure:
    """The score at which an anchor settles against the true probability q of an object there: cross-entropy, focal, and the report's focal."""
    lines = {"cross-entropy": ((1.0, 1.0), 0.0, "#4D4D4D"), "focal, equal alphas": ((1.0, 1.0), GAMMA, "#0072B2"),
             "focal, the report's alphas": (ALPHA, GAMMA, "#D55E00")}
    figure, axes = sheet(1, 2, 4.2, "A focal score is not a probability",
                         "the score of least expected loss, two classes, found by search: no data, no training\n"
                         f"focal: gamma {GAMMA:g}; the report's alphas: {ALPHA[0]:g} for background, {ALPHA[1]:g} for every class")
    for name, (alpha, gamma, colour) in lines.items():
        q, p = proofs.focal_scores(alpha, gamma)
        for axis in axes[0]:
            axis.plot(q, p, color=colour, linewidth=2, label=name)
    half = int((p - 0.5).abs().argmin())  # on the last line, the report's
    for axis in axes[0]:
        axis.plot(q[half], p[half], "o", color=colour, markersize=8, markeredgecolor="white")
        axis.axhline(SCORE_MIN, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    linear, log = axes[0]
    linear.annotate(f"an object once in {1 / q[half]:.0f} times\nalready scores {p[half]:.2f}", (q[half], p[half]), xytext=(12, 12),
                    textcoords="offset points", va="center", color=colour, fontweight="bold", path_effects=HALO)
    log.annotate(f"least score of a detection, {SCORE_MIN:g}", (0.95, SCORE_MIN), xytext=(0, -4), textcoords="offset points", ha="right", va="top",
                 fontsize=9, color=FAINT, path_effects=HALO)
    linear.set(title="where the score settles", xlabel="probability q of an object", ylabel="score p(q)", xlim=(0, 1), ylim=(0, 1))
    log.set(title="the same, both axes log", xscale="log", yscale="log", xlim=(3e-4, 1), ylim=(3e-4, 1.3), xlabel="probability q of an object (log)")
    log.legend(loc="lower right")
    return figure


@style()
def head_reach(maps: Mapping[int, Tensor], strides: Sequence[int]) -> Figure:
    """What one output cell sees of its level, by depth of the head: maps (cells, cells) of `proofs.head_reach`, and the extent on each level."""
    figure, axes = sheet(1, len(maps) + 1, 3.7, "Each 3x3 convolution adds one cell on every side",
                         "untrained heads; colour: absolute gradient, log, relative to its largest value; white: none at all\n"
                         "bars: the head's own reach only; what each cell of the level has seen already comes on top",
                         width_ratios=[1] * len(maps) + [1.35])
    last, thick = axes[0][-1], 0.8 / len(maps)
    for k, (depth, seen) in enumerate(maps.items()):
        axis, side = axes[0][k], int((seen.sum(0) > 0).sum())
        _heat(axis, seen, norm=LogNorm(1e-3, 1))
        axis.set(title=f"{depth} + 1 convolutions: {side} x {side} cells", xticks=np.arange(0.5, len(seen) - 1), yticks=np.arange(0.5, len(seen) - 1),
                 xticklabels=[], yticklabels=[])
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(True)
        places = np.arange(len(strides)) + (k - (len(maps) - 1) / 2) * thick
        bars = last.barh(places, [side * stride for stride in strides], thick, color=rung_colour("deep_heads" if depth else "focal"),
                         label=f"{depth} + 1 convolutions")
        last.bar_label(bars, padding=3, fontsize=8.5)
    last.set(title="side in px, by stride of the level (log)", yticks=range(len(strides)), yticklabels=[f"{s} px" for s in strides],
             xscale="log", xlim=(strides[0], 2 * strides[-1] * side), ylim=(len(strides) - 0.5, -0.5))
    last.grid(axis="y", visible=False)
    figure.legend(*last.get_legend_handles_labels(), loc="outside upper right", ncols=len(maps))
    return figure


@style()
def initial_foreground(values: Mapping[str, Sequence[float] | Sequence[Sequence[float]]], prior: float, note: str = "") -> Figure:
    """Mean probability of foreground in fresh heads, one bar a level: by rung, or any other name in grey, one list a level, or one list a seed.

    Of several seeds the bar is the mean and the whisker goes from the lowest to the highest.
    """
    figure, axes = sheet(1, 1, 3.8, "How likely an object is before the first step", f"mean over random maps and a level's anchors; log axis\n{note}")
    axis, thick, greys = axes[0][0], 0.84 / len(values), iter(("#9A9A9A", "#C8C8C8", "#6B6B6B"))
    for k, (name, given) in enumerate(values.items()):
        rows = np.atleast_2d(given)  # (seeds, levels)
        mean, low, high = rows.mean(0), rows.min(0), rows.max(0)
        places = np.arange(len(mean)) + (k - (len(values) - 1) / 2) * thick
        axis.bar(places, mean, 0.92 * thick, color=rung_colour(name) if name in RUNGS else next(greys), label=plain(name, 40))
        if len(rows) > 1:
            axis.errorbar(places, mean, [mean - low, high - mean], fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        for place, value, top in zip(places, mean, high, strict=True):
            axis.annotate(f"{value:.3f}", (place, top), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8.5)
    axis.axhline(prior, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
    axis.annotate(f"prior {prior:g}", (len(mean) - 0.48, prior), va="center", fontsize=9, annotation_clip=False)
    axis.set(yscale="log", ylim=(prior / 4, 2), xticks=range(len(mean)), xticklabels=[f"level {k}" for k in range(len(mean))],
             ylabel="probability of foreground", xlim=(-0.5, len(mean) - 0.5))
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside upper right", ncols=len(values))
    return figure
