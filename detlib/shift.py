"""How the splits of a data set differ, measured against what its own clips differ by; which classes' AP can be trusted.

Neighbouring frames of a clip repeat each other, so clips are the sample throughout.
"""
from collections.abc import Mapping
from math import comb

import numpy as np
import pandas as pd

from .data.coco import Dataset, Split, objects
from .data.resplit import UNITS, clip_count, distance, histograms, measured, resplit
from .evaluate.intervals import LEVEL, RESAMPLES, clip_weights, interval, resampled_classes
from .runs import Run

__all__ = ["distances", "effective", "independent_frames", "own_halves", "resplit", "shift_sentences", "trust"]

FEWEST_WAYS = 20  # to divide train's clips, from which on 5 % of them can be told
TRUSTED = 0.3  # half an interval by its AP, up to which the AP is taken as it stands
FOUND = 0.005  # AP under which there is nothing to be trusted
FIRM, LOOSE = 20.0, 2.0  # effective clips: without a run, from the first on an AP is taken as it stands, under the second not at all; with 20, half
# an interval is TRUSTED where the clips' APs spread by two thirds of their mean


def distances(dataset: Dataset, first: str = "train", second: str = "val", resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How far apart two splits are: a row a quantity, with unit, value, low, high (95 % interval over clips), chance, p and `more` (than chance).

    `chance` is what 95 % of the ways to set some of the first split's own clips against its others stay below: as many as the second has, at most
    half; `p` is the share of those ways that reach the value. NaN where too few clips hold a quantity; one that a split lacks is left out.
    """
    a, b = dataset[first], dataset[second]
    parts, rows = [measured(split, dataset.channels) for split in (a, b)], []
    drawn = [_clip_draws(split, resamples, seed + k) for k, split in enumerate((a, b), start=1)]
    for name in parts[0]:
        if name not in parts[1] or not all(len(part[name][0]) for part in parts):
            continue
        (one, two), grid = histograms(name, parts, [len(a.clips), len(b.clips)])
        value, held = distance(one.sum(0, keepdims=True), two.sum(0, keepdims=True), grid), [(part.sum(1) > 0) for part in (one, two)]
        halves, clips = own_halves(held[0].sum(), held[1].sum(), resamples, seed), min(part.sum() for part in held)
        _, low, high = interval(value, distance(drawn[0] @ one, drawn[1] @ two, grid), clips)
        most = 1.0 if name in ("class mix", "place across", "place down") else np.inf
        ends = (max(low, 0.0), min(high, most)) if clips > 1 else (np.nan, np.nan)
        chance, p = _yardstick(float(value[0]), distance(halves @ one[held[0]], (1 - halves) @ one[held[0]], grid))
        rows.append((name, UNITS.get(name, "grey levels"), float(value[0]), *ends, chance, p, bool(p <= 1 - LEVEL)))
    return pd.DataFrame(rows, columns=["quantity", "unit", "value", "low", "high", "chance", "p", "more"])


def _clip_draws(split: Split, resamples: int, seed: int) -> np.ndarray:
    """How often each clip counts in each resample, (resamples, clips)."""
    clips = [frame.clip for frame in split.frames]
    return clip_weights(split, resamples, seed)[:, [clips.index(clip) for clip in split.clips]] if clips else np.zeros((resamples, 0))


def own_halves(clips: int, others: int, draws: int, seed: int = 0) -> np.ndarray:
    """Ways to take `others` of a split's clips, at most half of them, (draws, clips) of 1 and 0; none where there are fewer than FEWEST_WAYS."""
    taken = min(others, clips // 2)
    if comb(clips, taken) < FEWEST_WAYS:
        return np.zeros((0, clips))
    rng = np.random.default_rng(seed)
    return (rng.random((draws, clips)).argsort(1).argsort(1) < taken).astype(float)


def _yardstick(value: float, chance: np.ndarray) -> tuple[float, float]:
    chance = chance[np.isfinite(chance)]
    if not len(chance):
        return np.nan, np.nan
    return float(np.quantile(chance, LEVEL)), float((1 + (chance >= value).sum()) / (1 + len(chance)))


def shift_sentences(table: pd.DataFrame, dataset: Dataset, first: str = "train", second: str = "val") -> list[str]:
    """What a table of `distances` says, in sentences."""
    a, b = dataset[first], dataset[second]
    if not len(table):
        lacking = next((name for name, split in ((first, a), (second, b)) if not len(objects(split))), second)
        return [f"Nothing to compare: {lacking} has neither boxes nor pictures."]
    lines, told = [], table[table["p"].notna()]
    for row in told[told["more"]].itertuples():
        lines.append(f"{row.quantity}: {second} is {row.value:.2g} {row.unit} from {first}, more than chance:\n  of the ways to set "
                     f"some of {first}'s own clips against its others, 95 % stay below {row.chance:.2g} (p = {row.p:.2g}).")
    if len(told):
        lacking = ", ".join(table.loc[table["p"].isna(), "quantity"])
        lines += [f"Too few of {first}'s clips to say what chance is: {lacking}."] if lacking else []
        within = ", ".join(told.loc[~told["more"], "quantity"])
        lines += [f"Within what {first}'s own clips differ by:\n  {within}."] if within else []
        lines.append(f"Of {len(told)} quantities, {(1 - LEVEL) * len(told):.1f} would be beyond chance by chance; {told['more'].sum()} are.")
    else:
        lines.append(f"Whether they differ by more than chance cannot be told: {first}'s {clip_count(len(a.clips))} can be divided in too few ways.")
    for name, split in ((first, a), (second, b)):
        if len(split.clips) == 1:
            lines.append(f"{name} is one clip, so there is no interval: what other clips would give is not known.")
    return lines


def effective(counts: np.ndarray) -> float:
    """Effective number of clips: 1 / sum of the squared shares (Kish 1965); n for n equal counts, 0 for none."""
    counts = np.asarray(counts, float)
    return float(counts.sum() ** 2 / (counts**2).sum()) if counts.any() else 0.0


def trust(dataset: Dataset, run: Run | None = None, split: str = "val") -> pd.DataFrame:
    """Which APs can be trusted: a row a class with objects, clips that hold it, effective clips, and a verdict; with a run ap, low and high, too.

    The run's interval (95 %, over the clips of val) decides where there is one, else the effective number of clips.
    """
    if run is not None and split != "val":
        raise ValueError(f"split={split!r}: a run is validated on val; leave the run out, or name val")
    part = dataset[split]
    clips = pd.Categorical(objects(part)["clip"], part.clips)
    counts = pd.crosstab(objects(part)["category"].astype(str).to_numpy(), clips).reindex(part.categories, fill_value=0)
    values = resampled_classes(run, dataset)[0] if run is not None else None
    rows = []
    for k, own in enumerate(counts.to_numpy()):
        held, ends = int((own > 0).sum()), (np.nan, np.nan, np.nan)
        if values is not None and own.any():
            ap, low, high = interval(values[:1, k], values[1:, k], held)
            ends = (ap, max(low, 0.0), min(high, 1.0)) if held > 1 else (ap, np.nan, np.nan)
        row = {"objects": int(own.sum()), "clips": held, "effective": effective(own), "ap": ends[0], "low": ends[1], "high": ends[2]}
        rows.append(row | {"verdict": _verdict(row, own.max(initial=0) / max(row["objects"], 1))})
    return pd.DataFrame(rows, index=pd.Index(counts.index, name="class"))


def _verdict(row: Mapping[str, float], largest: float) -> str:
    """One class's sentence; `largest` is the share of its objects that lies in one clip."""
    if not row["objects"]:
        return "no AP: no object"
    if row["clips"] == 1:
        return "not at all: 1 clip"
    if np.isfinite(row["low"]):
        if row["ap"] < FOUND:
            return "not at all: next to nothing is found"
        half = (row["high"] - row["low"]) / 2
        if half <= TRUSTED * row["ap"]:
            return f"trusted, to ±{half:.2f}"
        return "not at all: the interval begins at 0" if row["low"] <= 0.001 else f"only to a factor of {row['high'] / row['low']:.1f}"
    if row["effective"] < LOOSE:
        return f"not at all: {largest:.0%} of it in 1 clip"
    return "trusted" if row["effective"] >= FIRM else f"only to a factor: as good as {row['effective']:.1f} clips"


def independent_frames(split: Split) -> pd.DataFrame:
    """How many independent frames a split is worth, by the number of objects on them: a row for all objects and one a class.

    `alike` is the intraclass correlation of the counts within clips, 0..1 (one-way analysis of variance); `effective` = frames / (1 + (m - 1) alike)
    with m the clip size that a frame lies in on average (Kish 1965). NaN where all counts are equal, or there is one clip.
    """
    boxes, clips = objects(split), [frame.clip for frame in split.frames]
    counts = np.zeros((len(split), len(split.categories)))
    np.add.at(counts, (boxes["frame"].to_numpy(int), boxes["label"].to_numpy(int) - 1), 1)
    groups, sizes = np.unique(clips, return_inverse=True, return_counts=True)[1:] if clips else (np.zeros(0, int), np.zeros(0))
    rows = {}
    for name, values in {"all objects": counts.sum(1), **dict(zip(split.categories, counts.T, strict=True))}.items():
        alike = _alike(values, groups, sizes)
        average = float((sizes**2).sum() / max(len(split), 1))
        worth = len(split) / (1 + (average - 1) * alike) if average != 1 else float(len(split))
        rows[name] = {"frames": len(split), "clips": len(sizes), "alike": alike, "effective": worth}
    return pd.DataFrame.from_dict(rows, orient="index")


def _alike(values: np.ndarray, groups: np.ndarray, sizes: np.ndarray) -> float:
    """Intraclass correlation of values (N,) in groups (N,) of `sizes`."""
    total, number = len(values), len(sizes)
    if number < 2 or total == number:
        return np.nan
    means = np.bincount(groups, values) / sizes
    between = (sizes * (means - values.mean()) ** 2).sum() / (number - 1)
    within = ((values - means[groups]) ** 2).sum() / (total - number)
    size = (total - (sizes**2).sum() / total) / (number - 1)
    spread = between + (size - 1) * within
    return float(np.clip((between - within) / spread, 0, 1)) if spread > 0 else np.nan


