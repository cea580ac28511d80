"""Figures and tables of what a data set holds: how many objects of which class, how large, of which shape, where, and in which clips."""
from collections.abc import Mapping, Sequence
from math import comb

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFT, CARETRIGHT
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..data.coco import COLOURS, DataError, Dataset, Split, objects
from ..evaluate.coco import Detections
from .style import (
    FAINT,
    INK,
    SPLITS,
    WIDTH,
    class_colours,
    class_legend,
    log_limits,
    note,
    number,
    pictures,
    pixel_ticks,
    plain,
    ratio_ticks,
    sheet,
    style,
)

COURSE = ("train", "val", "train_extended")  # the splits that the workbook speaks of
SMALL = (30, 50)  # px, width and height below which the original report saw the majority of boxes
CROWDED = 300  # boxes, from which on a cloud of points hides its own density
ALL, OTHERS = "all boxes", "all other classes"  # beside the classes
RESAMPLES = 1000
FEWEST = 3  # clips with a class, from which on resampling them says anything
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")


def counted(dataset: Dataset) -> dict[str, Split]:
    """The splits to count: train, val and train_extended, each with all its annotations (`full_<split>`) where the folder has them."""
    found = {name: dataset.splits.get(f"full_{name}", dataset.splits.get(name)) for name in COURSE}
    return {name: split for name, split in found.items() if split is not None} or dict(dataset.splits)


def counted_sentence(dataset: Dataset) -> str:
    """What `counted` counts, and what this data set has not."""
    parts = []
    for name, split in counted(dataset).items():
        here = sum((split.root / frame.file_name).is_file() for frame in split.frames)
        pictures_here = "" if here == len(split) else f", {here:,} of their pictures here"
        parts.append((split.name if split.name == name else f"{split.name} as {name}") + f" ({len(split):,} frames{pictures_here})")
    absent = [f"no {name} in this data" for name in COURSE if name not in counted(dataset)]
    return "Counting " + ", ".join(parts) + (f"; {', '.join(absent)}." if absent else ".")


def summary(dataset: Dataset, splits: Mapping[str, Split] | None = None) -> pd.DataFrame:
    """One column a split, one row a fact: frames, clips, boxes, empty frames, boxes at the side edges, shares of the size classes."""
    columns: dict[str, dict[str, str]] = {}
    for name, split in (counted(dataset) if splits is None else splits).items():
        boxes, frames = objects(split), len(split)
        widths = np.array([frame.image_hw[1] for frame in split.frames])[boxes["frame"].to_numpy(int)] if len(boxes) else np.zeros(0)
        area = boxes["size"] ** 2
        column = columns.setdefault(name if name == split.name else f"{name} ({split.name})", {})
        column |= {
            "frames": f"{frames:,}", "clips": f"{len(split.clips):,}", "boxes": f"{len(boxes):,}",
            "boxes per frame": f"{len(boxes) / frames:.1f}" if frames else "-",
            "classes with boxes": f"{boxes['label'].nunique()} of {len(split.categories)}",
            "frames without objects": f"{frames - boxes['frame'].nunique():,}",
            "boxes at the left or right edge" + (" (the seam)" if dataset.panorama else ""):
                f"{((boxes['x1'] <= 1) | (boxes['x2'] >= widths - 1)).sum():,}"}
        for size, (low, high) in dataset.size_names.items():
            column[size] = f"{100 * ((area >= low) & (area < high)).mean():.1f} %" if len(boxes) else "-"
    return pd.DataFrame(columns)


def class_counts(splits: Mapping[str, Split]) -> pd.DataFrame:
    """Boxes of each class (rows) in each split (columns)."""
    return pd.DataFrame({name: objects(split)["category"].value_counts().reindex(split.categories, fill_value=0)
                         for name, split in splits.items()}).reindex(_categories(splits)).fillna(0).astype(int)


def _categories(splits: Mapping[str, Split]) -> list[str]:
    return list(dict.fromkeys(name for split in splits.values() for name in split.categories))


def _name(split: Split) -> str:
    return plain(split.name.removeprefix("full_"))


@style()
def occurrences(splits: Mapping[str, Split]) -> Figure:
    """Number of boxes of each class, splits side by side; logarithmic where the classes differ by more than 100 times."""
    counts = class_counts(splits)
    values = counts.to_numpy()
    most = int(values.max(initial=1))
    log = most > 100 * values[values > 0].min(initial=most)
    colours, room = class_colours(list(counts.index)), 1 / (1 - 0.11 * min(len(splits), 4))  # text is as long in any panel
    start = 0.7 if log else 0
    figure, axes = sheet(1, len(splits), 1.5 + 0.32 * max(2, len(counts)), "How often each class occurs",
                         note(splits, "In brackets: boxes a frame."), sharex=True, sharey=True)
    for ax, (name, split) in zip(axes[0], splits.items(), strict=True):
        for row, (category, n) in enumerate(counts[name].items()):
            if n:
                ax.barh(row, n - start, left=start, color=colours[category], edgecolor="#555555", linewidth=0.6, height=0.72)
            rate = n / max(len(split), 1)
            text = f"{n:,}  ({rate:.2f})" if rate >= 0.1 else f"{n:,}  ({rate:.2g})"
            ax.annotate(text if n else "none", (n if n else start, row), (5, 0), textcoords="offset points", va="center", fontsize=9,
                        bbox=WHITE, color=INK if n else FAINT, style="normal" if n else "italic")
        ax.set(title=plain(name), xlabel="boxes (log scale)" if log else "boxes", ylim=(len(counts) - 0.4, -0.6))
        ax.set_yticks(range(len(counts)), [plain(category) for category in counts.index])
        if log:
            ax.set(xscale="log", xlim=(start, start * (most / start) ** room))
            base = 100 if most >= 10_000 or (most >= 1_000 and len(splits) > 2) else 10
            ax.set_xticks([t for t in LogLocator(base).tick_values(1, most) if 1 <= t <= most])
        else:
            ax.set(xlim=(0, most * room))
        ax.xaxis.set_major_formatter(THOUSANDS)
        ax.minorticks_off()
        ax.grid(axis="y", visible=False)
    return figure


@style()
def aspect_ratios(splits: Mapping[str, Split], bins: int = 48) -> Figure:
    """Width / height of all boxes, stacked by class, in shares of each split; the same bins and axes everywhere, medians marked."""
    every = pd.concat([objects(split)["aspect"] for split in splits.values()])
    low, high = (np.quantile(every, q) for q in (0.001, 0.999)) if len(every) else (0.25, 4)
    edges = np.geomspace(min(low, 0.5) / 1.1, max(high, 2) * 1.1, bins + 1)
    counts = class_counts(splits).sum(axis=1)
    named = [name for name in counts.nlargest(16).index if counts[name]]
    order, colours = [name for name in counts.index if name in named], class_colours(list(counts.index)) | {OTHERS: "#DDDDDD"}
    rest = "Grey: the classes with fewer boxes." if (counts > 0).sum() > len(named) else ""
    figure, axes = sheet(1, len(splits), 4.0, "Shape of the boxes",
                         note(splits, f"▼ median of a class, in its colour. Left of 1: taller than wide. {rest}"), sharex=True, sharey=True)
    for ax, (name, split) in zip(axes[0], splits.items(), strict=True):
        ax.set(title=plain(name), xscale="log")
        _shapes(ax, objects(split), order, colours, edges)
        ax.set(xlim=(edges[0], edges[-1]), xlabel="width / height (log scale)", ylabel="share of the split's boxes, %")
        ratio_ticks(ax.xaxis, (edges[0], edges[-1]))
    axes[0, 0].set_ylim(0, 1.15 * max([bar.get_y() + bar.get_height() for ax in axes[0] for bar in ax.patches], default=1))
    class_legend(figure, list(counts.index), order, columns=1, loc="outside right upper")
    return figure


def _shapes(ax: Axes, boxes: pd.DataFrame, order: list[str], colours: Mapping[str, str], edges: np.ndarray) -> None:
    """One panel of `aspect_ratios`; what lies beyond the edges is counted in the outermost bins."""
    if not len(boxes):
        ax.text(0.5, 0.5, "no boxes", transform=ax.transAxes, ha="center", color=FAINT, style="italic")
        return
    inside = boxes["aspect"].clip(edges[0] * 1.001, edges[-1] / 1.001)
    category = boxes["category"].astype(object).where(boxes["category"].isin(order), OTHERS)
    rows = pd.DataFrame({"aspect": inside, "category": category, "part": 100 / len(boxes)})
    sns.histplot(rows, x="aspect", weights="part", hue="category",
                 hue_order=[*order, OTHERS][::-1], palette=dict(colours), multiple="stack", bins=list(np.log10(edges)), edgecolor="white",
                 linewidth=0.2, alpha=1, legend=False, ax=ax)
    median = boxes["aspect"].median()
    left = np.log(median) < np.log(edges[[0, -1]]).mean()  # the text goes where there is more room
    ax.axvline(median, color=INK, linewidth=1.4, ymax=0.93)
    ax.annotate(f"median {median:.2f}", (median, 0.9), (6 if left else -6, 0), xycoords=("data", "axes fraction"),
                textcoords="offset points", va="center", ha="left" if left else "right", bbox=WHITE)
    for name, value in boxes[boxes["category"].isin(order)].groupby("category", observed=True)["aspect"].median().items():
        ax.plot(value, 0.97, "v", transform=ax.get_xaxis_transform(), color=colours[name], markeredgecolor=INK, markeredgewidth=0.6,
                markersize=7)


@style()
def size_scatter(split: Split, most: int = 12) -> Figure:
    """Width against height, a panel a class (the `most` frequent): every box where they are few, their density where they are many."""
    boxes, colours = objects(split), class_colours(split.categories)
    frequent = class_counts({"": split})[""].sort_values(ascending=False, kind="stable").index[:most]
    shown = [category for category in split.categories if category in set(frequent)]
    columns = max(1, min(4, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    left_out = f"The {most} most frequent of {len(split.categories)} classes." if len(split.categories) > most else ""
    legend = "Dashed: as wide as high. Cross and numbers: medians. Darker: more boxes. Both axes are logarithmic."
    figure, axes = sheet(rows, columns, 0.95 + 2.5 * rows, f"Width and height of the boxes, class by class: {_name(split)}",
                         note({_name(split): split}, legend, left_out), sharex=True, sharey=True)
    limits = log_limits(boxes[["width", "height"]].to_numpy().ravel())
    for ax, category in zip(axes.flat, shown, strict=False):
        _sizes(ax, boxes[boxes["category"] == category], colours[category], limits)
        ax.set(title=plain(category), xlabel="width, px", ylabel="height, px", aspect="equal")
        ax.label_outer()
        for axis in (ax.xaxis, ax.yaxis):
            pixel_ticks(axis, limits, most=6)
    for ax in axes.flat[len(shown):]:
        ax.set_axis_off()
    return figure


def _sizes(ax: Axes, own: pd.DataFrame, colour: str, limits: tuple[float, float]) -> None:
    """One panel of `size_scatter`."""
    ax.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    ax.plot(limits, limits, "--", color="#999999", linewidth=0.9)
    if not len(own):
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", va="center", color=FAINT, style="italic", bbox=WHITE)
        return
    if len(own) > CROWDED:
        low, high = np.log10(limits)
        bins = np.linspace(low, high, 40)
        shades = sns.blend_palette(["#F0F0F0", colour, "#1A1A1A"], as_cmap=True)
        sns.histplot(own, x="width", y="height", bins=(bins, bins), cmap=shades, ax=ax)
    else:
        sns.scatterplot(own, x="width", y="height", color=colour, edgecolor="#555555", linewidth=0.3, s=14, alpha=0.7, ax=ax)
    width, height = own["width"].median(), own["height"].median()
    ax.plot(width, height, "+", color="white", markersize=14, markeredgewidth=3.2)
    ax.plot(width, height, "+", color=INK, markersize=13, markeredgewidth=1.6)
    ax.text(0.04, 0.95, f"n = {len(own):,}\n{number(width)} × {number(height)} px", transform=ax.transAxes, va="top", fontsize=9)


@style()
def size_heatmap(splits: Mapping[str, Split], limit: tuple[float, float] = SMALL) -> Figure:
    """How many boxes have which width and height, px, with one colour scale; the frame marks those below `limit`."""
    every = pd.concat([objects(split)[["width", "height"]] for split in splits.values()])
    reach = max(float(np.quantile(every, 0.985)) if len(every) else 0, *limit)
    step = next((s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if reach / s <= 22), 1000)
    edges = np.arange(0, reach + step, step)
    counts = {}
    for name, split in splits.items():
        inside = objects(split)[["height", "width"]].clip(upper=edges[-1] - step / 2)
        counts[name] = np.histogram2d(inside["height"], inside["width"], bins=(edges, edges))[0]
    most = max(2, *(c.max() for c in counts.values()))
    norm = LogNorm(1, most)
    legend = f"Frame: below {limit[0]:g} px wide and below {limit[1]:g} px high. The last row and column hold all that is larger."
    figure, axes = sheet(1, len(splits), 1.3 + 7.8 / max(2, len(splits)), "How many boxes have which size", note(splits, legend))
    ticks = np.arange(0, len(edges) - 3.5, 1 + len(edges) // 10).astype(int)
    places, texts = [*ticks, len(edges) - 1.5], [*(f"{edges[t]:g}" for t in ticks), f"≥{edges[-2]:g}"]
    for ax, (name, split) in zip(axes[0], splits.items(), strict=True):
        boxes = objects(split)
        below = ((boxes["width"] < limit[0]) & (boxes["height"] < limit[1])).mean()
        share = f"{100 * below:.1f} %" if len(boxes) else "no boxes"
        if len(boxes):
            sns.heatmap(np.where(counts[name] > 0, counts[name], np.nan), norm=norm, cmap="mako_r", square=True, cbar=False, ax=ax)
        ax.add_patch(Rectangle((0, 0), limit[0] / step, limit[1] / step, fill=False, edgecolor="#D55E00", linewidth=1.8, clip_on=False))
        ax.set(title=f"{plain(name)}: {share} below {limit[0]:g} × {limit[1]:g} px", xlabel="width, px", ylabel="height, px", aspect=1,
               xlim=(0, len(edges) - 1), ylim=(0, len(edges) - 1))
        ax.set_xticks(places, texts, rotation=0)
        ax.set_yticks(places, texts, rotation=0)
    bar = figure.colorbar(ScalarMappable(norm, "mako_r"), ax=list(axes[0]), label=f"boxes in a cell of {step} × {step} px (log scale)",
                          shrink=0.8, format=THOUSANDS)
    bar.ax.yaxis.set_minor_formatter(THOUSANDS if most < 10 else NullFormatter())
    return figure


@style()
def sizes_by_class(splits: Mapping[str, Split], limits: Sequence[float] = ()) -> Figure:
    """Size (square root of the area, px) of each class in each split: the middle half as a box, whiskers 5 to 95 %."""
    categories, names = _categories(splits), list(splits)
    every = pd.concat([objects(split)[["size", "category"]].astype({"category": str}).assign(split=name) for name, split in splits.items()])
    legend = "Box: the middle half, with the median; whiskers: 5 to 95 %."
    legend += " Dotted: the limits of small, medium and large." if len(limits) else ""
    figure, axes = sheet(1, 1, 1.6 + (0.12 + 0.17 * len(names)) * max(2, len(categories)), "Size of the boxes, class by class",
                         note(splits, legend))
    ax = axes[0, 0]
    if len(every):
        shades = {name: SPLITS[i % len(SPLITS)] for i, name in enumerate(names)}
        sns.boxplot(every, x="size", y="category", hue="split", order=categories, hue_order=names, palette=shades, saturation=1,
                    whis=(5, 95), showfliers=False, log_scale=(True, False), gap=0.15, linewidth=0.9,
                    medianprops={"color": "#D55E00", "linewidth": 2}, ax=ax)
        ax.legend(ax.get_legend_handles_labels()[0], [plain(name) for name in names], loc="upper left", bbox_to_anchor=(1, 1))
        pixel_ticks(ax.xaxis, ax.get_xlim(), most=14)
    for row, category in enumerate(categories):
        for i, name in enumerate(names):
            if not ((every["split"] == name) & (every["category"] == category)).any():
                ax.text(0.008, row + 0.8 * ((i + 0.5) / len(names) - 0.5), f"none in {plain(name)}", transform=ax.get_yaxis_transform(),
                        va="center", fontsize=9, color=FAINT, style="italic", bbox=WHITE)
    for limit in limits:
        ax.axvline(limit, color=INK, linewidth=1, linestyle=":")
        ax.text(limit, 1.01, f"{limit:g} px", transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)
    ax.set(xlabel="size = √(width · height), px (log scale)", ylabel="", ylim=(max(1, len(categories)) - 0.5, -0.5))
    ax.set_yticks(range(len(categories)), [plain(category) for category in categories])
    return figure


@style()
def clip_classes(splits: Mapping[str, Split], most: int = 40) -> Figure:
    """Boxes per frame of each class, clip by clip (the first `most` clips of a split): neighbours in a clip repeat each other."""
    tables = {name: clip_table(split).iloc[:most] for name, split in splits.items()}
    norm = PowerNorm(0.5, 0, max(1, *(float(table.to_numpy().max(initial=0)) for table in tables.values())))
    heights = [max(len(table), 1) for table in tables.values()]
    wide_rows = sum(heights) <= 24
    cut = ", ".join(f"{plain(name)}: the first {most} of {len(s.clips):,} clips" for name, s in splits.items() if len(s.clips) > most)
    legend = "A row is a clip. White: none. The colour grows with the square root."
    figure, axes = sheet(len(tables), 1, 1.5 + 0.35 * len(tables) + min(0.28 * sum(heights), 7),
                         "Boxes per frame, clip by clip", note(splits, legend, cut), sharex=True, height_ratios=heights)
    for ax, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
        if (table > 0).any(axis=None):
            sns.heatmap(table.where(table > 0), norm=norm, cmap="mako_r", cbar=False, linewidths=0.5, ax=ax, xticklabels=False, yticklabels=False,
                        annot=wide_rows and len(table.columns) <= 12, fmt=".2g", annot_kws={"fontsize": 9})
        ax.grid(False)
        ax.set(title=plain(name), xlabel="", ylabel="clip (frames)" if len(table) > 4 and wide_rows else "" if wide_rows else "clips")
        ax.set_xticks(np.arange(len(table.columns)) + 0.5, [plain(c) for c in table.columns], rotation=0 if len(table.columns) <= 9 else 90)
        named = list(table.index) if wide_rows else []
        ax.set_yticks(np.arange(len(named)) + 0.5, [plain(clip, 30) for clip in named], rotation=0)
    figure.colorbar(ScalarMappable(norm, "mako_r"), ax=list(axes[:, 0]), label="boxes per frame", shrink=0.8, aspect=30)
    return figure


def clip_table(split: Split) -> pd.DataFrame:
    """Boxes per frame: one row a clip, named by what tells it from the others and by its number of frames; one column a class."""
    frames = pd.Series([frame.clip for frame in split.frames], dtype=str).value_counts().reindex(split.clips)
    table = objects(split).groupby(["clip", "category"], observed=False).size().unstack(fill_value=0)
    table = table.reindex(index=frames.index, columns=split.categories, fill_value=0).div(frames, axis=0)
    alike = next((i for i, letters in enumerate(zip(*split.clips, strict=False)) if len(set(letters)) > 1), 0)
    cut = max(split.clips[0].rfind(mark, 0, alike) for mark in "_/ ") + 1 if split.clips else 0
    table.index = [f"{clip[cut:]} ({n})" for clip, n in frames.items()]
    return table


def split_statistics(split: Split, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, dict[str, tuple[float, np.ndarray]]]:
    """By quantity and class (and ALL): the value, and its values in resamples of the split's clips; shares in %, sizes in px."""
    boxes, clips = objects(split), split.clips
    picks = np.random.default_rng(seed).multinomial(len(clips), np.full(len(clips), 1 / len(clips)), size=resamples).astype(float)
    place = boxes["clip"].map({clip: i for i, clip in enumerate(clips)}).to_numpy(int)
    total = picks @ np.bincount(place, minlength=len(clips))
    result: dict[str, dict] = {"share": {}, "width": {}, "height": {}, "aspect": {}}
    for name in [*split.categories, ALL]:
        own = np.ones(len(boxes), bool) if name == ALL else (boxes["category"] == name).to_numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            result["share"][name] = 100 * own.mean(), 100 * (picks @ np.bincount(place[own], minlength=len(clips))) / total
        for quantity in ("width", "height", "aspect"):
            values = boxes[quantity].to_numpy(float)[own]
            result[quantity][name] = float(np.median(values)) if len(values) else np.nan, resampled_medians(values, place[own], picks)
    return result


def resampled_medians(values: np.ndarray, clips: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Median of values (M,) in every resample of whole clips: picks (resamples, clips) says how often each was drawn; NaN without values.

    More than 513 different values are rounded down to 513 quantiles, so that the work does not grow with M.
    """
    if not len(values):
        return np.full(len(picks), np.nan)
    grid = np.unique(values)
    grid = grid if len(grid) <= 513 else np.unique(np.quantile(values, np.linspace(0, 1, 513), method="lower"))
    counts = np.zeros((picks.shape[1], len(grid)))
    np.add.at(counts, (clips, np.searchsorted(grid, values, side="right") - 1), 1)
    growing = np.cumsum(picks @ counts, axis=1)
    medians = grid[np.argmax(growing >= growing[:, -1:] / 2, axis=1)]
    return np.where(growing[:, -1] > 0, medians, np.nan)


@style()
def train_against_val(a: Split, b: Split | None, resamples: int = RESAMPLES) -> Figure:
    """How b differs from a: class shares and median shapes as ratios b / a, with 95 % intervals from resampling the clips of both."""
    if b is None or not len(objects(a)) or not len(objects(b)):
        figure, axes = sheet(1, 1, 1.2, "What differs between two splits")
        lacking = "this data has no second split" if b is None else f"{_name(a if not len(objects(a)) else b)} has no boxes"
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0, 0.5, f"Nothing to compare: {lacking}.")
        return figure
    first, second = split_statistics(a, resamples, seed=1), split_statistics(b, resamples, seed=2)
    few, names = min((a, b), key=lambda split: len(split.clips)), [*a.categories, ALL]
    ways = comb(2 * len(few.clips) - 1, len(few.clips))
    caution = f"{_name(few)} has {len(few.clips)} clips, so only {ways} different resamples: the intervals are rather too narrow."
    held = [objects(split).groupby("category", observed=False)["clip"].nunique().to_dict() for split in (a, b)]
    clips = {name: len(few.clips) if name == ALL else min(counts.get(name, 0) for counts in held) for name in names}
    legend = (f"Above each point: {_name(a)} → {_name(b)}. Line: 95 % interval of the ratio, {resamples:,} resamples of whole clips. "
              "Filled: the interval leaves 1 out.")
    if any(0 < number < FEWEST for number in clips.values()):
        legend += f"\nDiamond: the class is in under {FEWEST} clips of one split, so without an interval."
    figure, axes = sheet(1, 4, 1.75 + 0.43 * len(names), f"{_name(b)} against {_name(a)}: how many times as much",
                         note({_name(a): a, _name(b): b}, legend, caution if ways < resamples else ""), sharey=True)
    titles = {"share": "share of the boxes, %", "width": "median width, px", "height": "median height, px",
              "aspect": "median width / height"}
    for ax, quantity in zip(axes[0], titles, strict=True):
        _ratios(ax, first[quantity], second[quantity], clips, class_colours(a.categories))
        ax.set(title=titles[quantity], xlabel="ratio (log scale)", ylim=(len(names) - 0.5, -0.7))
        ax.set_yticks(range(len(names)), [plain(name) for name in names])
        ax.grid(axis="y", visible=False)
    return figure


def _ratios(ax: Axes, first: dict, second: dict, clips: Mapping[str, int], colours: Mapping[str, str], most: float = 11) -> None:
    """One column of `train_against_val`: a point, an interval and the two values for each class; `clips` that hold the class."""
    rows = []
    for name in clips:
        (x, xs), (y, ys) = first[name], second[name]
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = ys / xs
        drawn = drawn[np.isfinite(drawn)]
        usable = x > 0 and y > 0 and len(drawn) > 0
        rows.append((name, x, y, *((y / x, *np.quantile(drawn, (0.025, 0.975))) if usable else [np.nan] * 3)))
    ends = np.array([value for entry in rows for value in entry[3:] if value > 0])
    reach = min(1.2 * float(np.max([ends, 1 / ends])), most) if len(ends) else 2.5
    ax.axvline(1, color=FAINT, linewidth=1)
    for row, (name, x, y, ratio, low, high) in enumerate(rows):
        if not np.isfinite(ratio) or (name == ALL and x == y):
            text = ("in neither" if not y > 0 else f"none → {number(y)}") if not x > 0 else f"{number(x)} → none" if not y > 0 else ""
            ax.text(1, row, text, ha="center", va="center", fontsize=8.5, color=FAINT, style="italic", bbox=WHITE)
            continue
        colour, at, enough = colours.get(name, INK), float(np.clip(ratio, 1 / reach, reach)), clips[name] >= FEWEST
        if enough:
            ax.plot(np.clip([low, high], 1 / reach, reach), [row, row], color=colour, linewidth=2.6, solid_capstyle="butt")
            for beyond, edge, arrow in ((low < 1 / reach, 1.05 / reach, CARETLEFT), (high > reach, reach / 1.05, CARETRIGHT)):
                ax.plot(edge, row, marker=arrow if beyond else "", color=colour, markersize=8)
        ax.plot(at, row, "o" if enough else "D", color="white" if low <= 1 <= high or not enough else colour,
                markeredgecolor=INK if enough else colour, markeredgewidth=0.9 if enough else 1.6, markersize=7 if enough else 6)
        ax.text(np.clip(at, reach**-0.52, reach**0.52), row - 0.25, f"{number(x)} → {number(y)}", ha="center", va="bottom", fontsize=8.5,
                bbox=WHITE)
    ax.set(xscale="log", xlim=(1 / reach, reach))
    ratio_ticks(ax.xaxis, (1 / reach, reach), most=7)


@style()
def box_map(splits: Mapping[str, Split]) -> Figure:
    """Where in the picture boxes lie: how many boxes, on average over the frames, cover each pixel; one colour scale for all splits."""
    maps = {name: coverage(split) for name, split in splits.items()}
    norm = PowerNorm(0.5, 0, max(1e-9, *(float(cover.max(initial=0)) for cover in maps.values())))
    shape = max(cover.shape[0] / cover.shape[1] for cover in maps.values())
    rows, columns = (len(maps), 1) if shape < 0.3 else (1, len(maps))
    tall = min(0.85 * WIDTH / columns * shape, 4.5)
    figure, axes = sheet(rows, columns, 1.25 + (tall + 0.5) * rows, "Where the boxes lie",
                         note(splits, "The colour grows with the square root."))
    for ax, (name, cover) in zip(axes.flat, maps.items(), strict=True):
        shown = ax.imshow(cover, cmap="mako", norm=norm, interpolation="nearest", extent=(0, cover.shape[1], cover.shape[0], 0))
        ax.set(title=plain(name), xlabel="column, px", ylabel="row, px", yticks=np.linspace(0, cover.shape[0], 3).round(),
               xticks=np.linspace(0, cover.shape[1], 9 if columns == 1 else 3).round())
        ax.xaxis.set_major_formatter(THOUSANDS)
        ax.yaxis.set_major_formatter(THOUSANDS)
        ax.grid(False)
        ax.label_outer()
    figure.colorbar(shown, ax=list(axes.flat), label="boxes over this pixel\nin a frame (mean)", shrink=0.8, aspect=18)
    return figure


def coverage(split: Split) -> np.ndarray:
    """(H, W): number of boxes over each pixel, mean of the frames; by the sums of a difference image."""
    height, width = split.image_hw if len(split) else (1, 8)
    x1, y1, x2, y2 = np.clip(np.rint(objects(split)[["x1", "y1", "x2", "y2"]].to_numpy(float)), 0, (width, height) * 2).astype(int).T
    steps = np.zeros((height + 1, width + 1))
    for rows, columns, sign in ((y1, x1, 1), (y1, x2, -1), (y2, x1, -1), (y2, x2, 1)):
        np.add.at(steps, (rows, columns), sign)
    return steps.cumsum(0).cumsum(1)[:-1, :-1] / max(len(split), 1)


def frames(split: Split, indices: Sequence[int], detections: Detections | None = None, channels: Sequence[str] = (), names: bool = True,
           strips: int | None = None, score_min: float = 0.3, title: str = "") -> Figure:
    """Annotated frames, at twice their size where the page allows, a wide one in `strips` below each other, with a legend of the classes.

    `detections`: a second picture of each frame with what a model found. `channels`: the three channels apart, grey, under these names.
    """
    panels = [panel for index in indices for panel in _panels(split, index, detections, channels, score_min)]
    return pictures(panels, split.categories, title or f"Frames of {_name(split)}", strips, names)


def _panels(split: Split, index: int, detections: Detections | None, channels: Sequence[str], score_min: float) -> list[dict]:
    """The pictures of one frame, for `pictures`."""
    boxes, labels = (part.numpy() for part in split.targets(index))
    truth = {"boxes": boxes, "labels": labels, "scores": None}
    channels = () if tuple(channels) == COLOURS else channels  # a photograph is shown as one
    try:
        image = split.image(index).permute(1, 2, 0).numpy()  # (H, W, 3)
        title = f"{plain(split.frames[index].file_name, 90)}: {len(boxes):,} objects"
    except DataError as error:
        image, channels = np.full((*split.frames[index].image_hw, 3), 60, np.uint8), ()
        title = plain(str(error).replace(f"{split.root}/", "").split(";")[0], 140)
    panels = [{"caption": f"{plain(name)} of {title}", "image": image[..., k], **truth} for k, name in enumerate(channels)]
    panels = panels or [{"caption": title, "image": image, **truth}]
    if detections is not None:
        found = detections.of_frame(index, score_min)
        caption = f"found: {len(found.label):,} with a score of at least {score_min:g}"
        panels.append({"caption": caption, "image": image, "boxes": found.boxes, "labels": found.label, "scores": found.score})
    return panels
