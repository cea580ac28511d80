"""Figures of what `shift` measures: the clips of each split side by side, the splits' distances against chance, and which APs can be trusted."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..data.coco import Split
from ..data.resplit import measured
from .style import FAINT, INK, class_colours, class_legend, note, number, plain, sheet, style

MOST = 40  # clips of a split that are shown
GAP = 1.5  # clips' widths between two splits
CHANNELS = ("#0072B2", "#D55E00", "#009E73")
NAMED = {"red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}  # channels of photographs
LABELS = {"size": "size,\npx (log)", "width / height": "width /\nheight (log)", "place across": "middle across,\nshare of width",
          "place down": "middle down,\nshare of height"}
VERDICTS = {"trusted": "#009E73", "only": "#E69F00", "not": "#D55E00", "no": FAINT}  # by a verdict's first word
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}


@style()
def clip_profiles(splits: Mapping[str, Split], channels: Sequence[str] = (), most: int = MOST) -> Figure:
    """Every clip of the splits: class mix, size, shape and place of its objects, and with `channels` its brightness where pictures are there."""
    kept = {name: measured(split, channels) for name, split in splits.items()}
    shown = {name: [round(k) for k in np.linspace(0, len(split.clips) - 1, min(most, len(split.clips)))] for name, split in splits.items()}
    grey = list(dict.fromkeys(name for found in kept.values() for name in found if name.startswith("brightness")))
    starts = dict(zip(shown, np.cumsum([0, *(len(clips) + GAP for clips in shown.values())]), strict=False))
    cut = ", ".join(f"{plain(name)}: {most} of {len(split.clips):,} clips" for name, split in splits.items() if len(split.clips) > most)
    legend = "A column is a clip. Dot: median; thick: the middle half; thin: 5 to 95 %. Line: the split's median."
    if grey:
        legend += "\nBrightness: mean of each channel over a clip's frames, where their pictures are there."
    count = 1 + len(LABELS) + bool(grey)
    lines = note(splits, legend, cut and f"Shown, evenly spread: {cut}.")
    figure, axes = sheet(count, 1, 1.5 + 1.35 * count, "The clips of each split", lines, sharex=True)
    categories = list(dict.fromkeys(name for split in splits.values() for name in split.categories))
    for name, split in splits.items():
        _mix(axes[0, 0], kept[name]["class mix"], shown[name], starts[name], list(class_colours(categories).values()))
        for ax, quantity in zip(axes[1:, 0], LABELS, strict=False):
            _ranges(ax, kept[name][quantity], shown[name], starts[name], quantity in ("size", "width / height"))
        if grey:
            _grey(axes[-1, 0], {colour: kept[name].get(key) for key, colour in zip(grey, channel_colours(grey).values(), strict=True)}, shown[name],
                  starts[name])
        axes[0, 0].set_title("\n")
        axes[0, 0].text(starts[name] - 0.5, 1.05, plain(split.name), transform=axes[0, 0].get_xaxis_transform(), fontweight="bold", va="bottom")
    _finish(axes[:, 0], grey)
    present = {name for split in splits.values() for name in split.boxes["category"].astype(str)}
    class_legend(figure, categories, present, columns=1, loc="outside right upper")
    if grey:
        handles = [Patch(color=colour, label=plain(name)) for name, colour in channel_colours(grey).items()]
        axes[-1, 0].legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.1)
    return figure


def _mix(ax: Axes, found: tuple[np.ndarray, np.ndarray], shown: Sequence[int], start: float, colours: Sequence[str]) -> None:
    labels, clips = found
    for x, clip in enumerate(shown):
        own = np.bincount(labels[clips == clip].astype(int), minlength=len(colours) + 1)[1:]
        ends = np.append(0, np.cumsum(own / max(own.sum(), 1)))
        for colour, low, high in zip(colours, ends[:-1], ends[1:], strict=True):
            if high > low:
                ax.bar(start + x, high - low, 0.9, low, color=colour, edgecolor="#555555", linewidth=0.3)
        if not own.sum():
            ax.plot(start + x, 0.03, marker="_", color=FAINT)


def _ranges(ax: Axes, found: tuple[np.ndarray, np.ndarray], shown: Sequence[int], start: float, log2: bool) -> None:
    values, clips = found
    values = 2**values if log2 else values
    for x, clip in enumerate(shown):
        own = values[clips == clip]
        if len(own):
            low, first, median, third, high = np.quantile(own, (0.05, 0.25, 0.5, 0.75, 0.95))
            ax.vlines(start + x, low, high, color="#A6A6A6", linewidth=1)
            ax.vlines(start + x, first, third, color="#4D4D4D", linewidth=3)
            ax.plot(start + x, median, "o", color="white", markeredgecolor=INK, markersize=4)
    if len(values):
        ax.hlines(np.median(values), start - 0.5, start + len(shown) - 0.5, color="#D55E00", linewidth=1.4, zorder=0.9)
    if log2:
        ax.set_yscale("log", base=2)


def channel_colours(quantities: Sequence[str]) -> dict[str, str]:
    """A colour for each channel of `brightness: NAME`: its own for red, green and blue, else by its place."""
    names = [key.removeprefix("brightness: ") for key in quantities]
    return {name: NAMED[name] if set(names) <= set(NAMED) else CHANNELS[k % len(CHANNELS)] for k, name in enumerate(names)}


def _grey(ax: Axes, channels: Mapping[str, tuple[np.ndarray, np.ndarray] | None], shown: Sequence[int], start: float) -> None:
    for colour, found in channels.items():
        if found is None:
            continue
        means = [found[0][found[1] == clip].mean() if (found[1] == clip).any() else np.nan for clip in shown]
        ax.plot(start + np.arange(len(shown)), means, "o", color=colour, markersize=3.5)


def _finish(axes: np.ndarray, grey: Sequence[str]) -> None:
    """Labels and limits of `clip_profiles`."""
    labels = ["class mix,\nshare of boxes", *LABELS.values(), *(["brightness,\ngrey levels"] if grey else [])]
    for ax, label in zip(axes, labels, strict=True):
        ax.set(ylabel=label, xticks=[])
        ax.grid(axis="x", visible=False)
        if ax.get_yscale() == "log":
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
    axes[0].set_ylim(0, 1)
    for ax in axes[3:5]:
        ax.set_ylim(0, 1)
    axes[4].invert_yaxis()  # as rows of a picture
    axes[-1].set_xlabel("clips, in the order of their names")


@style()
def shift_distances(table: pd.DataFrame, splits: Mapping[str, Split]) -> Figure:
    """A table of `shift.distances` between two splits, each quantity in units of what the first split's own clips differ by."""
    first, second = (plain(name) for name in list(splits)[:2])
    told = table[table["chance"].notna()]
    title = f"{second} against {first}: more than {first}'s own clips differ by?"
    if not len(told):
        few = f"{first} has too few clips to say what chance is" if len(table) else "nothing to compare"
        return _plain_distances(table, title, note(splits), f"No yardstick: {few}.")
    legend = (f"1: what 95 % of the ways to set some of {first}'s clips against its others stay below. Filled: at most 5 of 100 ways reach it.\n"
              "Line: 95 % interval of the distance over clips. A distance is never below 0, and grows by chance alone: the yardstick decides.")
    lacking = ", ".join(plain(name, 40) for name in table["quantity"] if name not in set(told["quantity"]))
    lacking = lacking and f"Not shown, since too few of {first}'s clips have it for a yardstick: {lacking}."
    figure, axes = sheet(1, 1, 1.6 + 0.48 * len(told), title, note(splits, legend, lacking))
    ax = axes[0, 0]
    ratios = told[["value", "low", "high"]].div(told["chance"], axis=0).fillna({"value": 0})  # clips all alike: 0 / 0, or beyond any reach
    reach = min(4.0, 1.15 * max(1.2, float(np.nanmax(ratios.to_numpy()))))
    ax.axvspan(0, 1, color="#EEEEEE", zorder=0)
    ax.axvline(1, color=FAINT, linewidth=1)
    for y, (row, ratio) in enumerate(zip(told.itertuples(), ratios.itertuples(), strict=True)):
        colour = "#D55E00" if row.more else "#4D4D4D"
        if np.isfinite(ratio.low):
            ax.hlines(y, ratio.low, min(ratio.high, reach), color=colour, linewidth=2.2)
            ax.plot(min(ratio.high, reach), y, ">" if ratio.high > reach else "", color=colour, clip_on=False)
        ax.plot(min(ratio.value, reach), y, "o", color=colour if row.more else "white", markeredgecolor=INK, markersize=8)
        ax.text(1.02, y, f"{number(row.value)} {row.unit}\n(chance {number(row.chance)}), p = {row.p:.2g}", transform=ax.get_yaxis_transform(),
                va="center", fontsize=8.5)
    ax.set_yticks(range(len(told)), [plain(name, 34) for name in told["quantity"]])
    ax.set(xlim=(0, reach), ylim=(len(told) - 0.5, -0.5), xlabel="distance / what chance gives")
    ax.grid(axis="y", visible=False)
    return figure


def _plain_distances(table: pd.DataFrame, title: str, lines: str, lead: str) -> Figure:
    """The distances as text, where there is no yardstick to draw them by."""
    figure, axes = sheet(1, 1, 1.3 + 0.2 * len(table), title, lines)
    axes[0, 0].set_axis_off()
    rows = [f"{plain(row.quantity, 40)}: {number(row.value)} {row.unit}" for row in table.itertuples()]
    axes[0, 0].text(0, 1, "\n".join([lead, *rows]), va="top", linespacing=1.5)
    return figure


@style()
def trusted(table: pd.DataFrame, split: Split, run: str = "") -> Figure:
    """A table of `shift.trust`: for each class its clips, what they are worth, and a verdict; with the AP of a run where the table has one."""
    measured_ap = bool(table["ap"].notna().any())
    legend = "Pale: clips that hold the class. Solid: effective clips, 1 / Σ share²: as many that hold it in equal parts would say as much."
    more = f"AP of {plain(run, 60)}: one training; its 95 % interval is over the clips, and what other seeds give is not in it."
    figure, axes = sheet(1, 1 + measured_ap, 1.6 + 0.38 * max(2, len(table)), f"Which APs on {plain(split.name)} can be trusted",
                         note({split.name: split}, legend, more if measured_ap and run else ""), sharey=True)
    most = max(1, int(table["clips"].max() if len(table) else 1))
    for y, row in enumerate(table.itertuples()):
        colour = VERDICTS[row.verdict.split()[0].rstrip(",:")]
        axes[0, 0].barh(y, row.clips, 0.7, color=colour, alpha=0.3)
        axes[0, 0].barh(y, row.effective, 0.7, color=colour)
        text = f"{row.objects:,} in {row.clips} clip{'s' * (row.clips != 1)}, worth {row.effective:.1f}" if row.objects else "none"
        axes[0, 0].annotate(text, (row.clips, y), (5, 0), textcoords="offset points", va="center", fontsize=8.5, bbox=WHITE)
        if measured_ap and np.isfinite(row.ap):
            axes[0, 1].plot([row.low, row.high], [y, y], color=colour, linewidth=2.6)
            axes[0, 1].plot(row.ap, y, "o", color=colour, markeredgecolor=INK, markersize=7)
        axes[0, -1].text(1.02, y, row.verdict.replace(": ", ":\n", 1), transform=axes[0, -1].get_yaxis_transform(), va="center", fontsize=8.5)
    axes[0, 0].set(xlabel="clips", xlim=(0, most * (1.9 if measured_ap else 1.5)), ylim=(max(len(table), 1) - 0.5, -0.5))
    axes[0, 0].set_yticks(range(len(table)), [plain(name) for name in table.index])
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if measured_ap:
        axes[0, 1].set(xlabel="AP, 0 to 1", xlim=(0, min(1, max(0.1, 1.15 * float(np.nanmax(table[["ap", "high"]].to_numpy()))))))
    for ax in axes[0]:
        ax.grid(axis="y", visible=False)
    return figure
