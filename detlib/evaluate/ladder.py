"""The ladder as it was climbed: of each row what it reached, what it gained on the row above, and how sure that is; or why it was not run."""
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from ..data.coco import Dataset
from ..experiments import NULL, OPTIMIZERS, PROFILES, Experiment, differences, ladder, parse, profile_name, rung, seed_count
from ..runs import Run, find_runs, known_data, reference_of, train_command
from .compare import Difference, difference, signed
from .intervals import LEVEL, kept_resamples, map_interval

# mAP on the real validation frames after 1,000 steps (extended: 6,000), read off the report's plots to about 0.001, by our names of its models
REPORTED_MAP = {"baseline": 0.042, "flip": 0.042, "fpn": 0.056, "focal": 0.059, "deep_heads": 0.047, "bias_init": 0.056, "report_anchors": 0.071,
                "extended": 0.164}

OPTIMISERS = ("baseline", "adam")
AROUND_FOCAL = ("fpn", "focal", "deep_heads")  # where the ladder and the paper part
RATES = (0.3, 1, 3)  # factors on the report's learning rates
# whose steps lose, or win less than one would think; the second one parts focal loss from the report's alphas
LONGER = ("fpn", "fpn+loss=focal_paper", "focal", "deep_heads", "bias_init", "report_anchors", "fitted_anchors")
LENGTHS = (1, 4)  # factors on the profile's steps


@dataclass(frozen=True)
class Row:
    """One experiment on one data set, after another that it is compared with."""

    name: str
    change: str  # to the row above
    runs: tuple[Run, ...]  # finished, one a seed
    value: tuple[float, float, float] | None  # mAP, ends of its interval
    gain: Difference | None  # on the row above
    why: str  # it was not run; empty if it was


def climb(dataset: Dataset, profile: str | None = None, seeds: int | str | None = None) -> list[Row]:
    """Every row of the ladder with its finished runs of the first `seeds` seeds (`experiments.seed_count`)."""
    return compared(list(ladder(profile).values()), dataset, seeds)


def compared(experiments: Sequence[Experiment], dataset: Dataset, seeds: int | str | None = None, first: str = "where it begins") -> list[Row]:
    """Experiments, each with its finished runs and its gain on the one before; `first` is said of the first one's change."""
    rows: list[Row] = []
    for place, experiment in enumerate(experiments):
        runs = tuple(find_runs(experiment, dataset, range(seed_count(seeds))))
        above = rows[-1].runs if rows else ()
        rows.append(Row(experiment.rung, _change(experiments[place - 1], experiment) if place else first, runs,
                        map_interval(runs, dataset) if runs else None, difference(above, runs, dataset) if above and runs else None,
                        "" if runs else _why_not(experiment, dataset)))
    return rows


def at_rates(dataset: Dataset, profile: str | None = None, seeds: int | str | None = None) -> list[Row]:
    """The two optimisers, and the rows `AROUND_FOCAL`, at several learning rates (`RATES`), each compared with the one before at the same factor."""
    return [row for names in (OPTIMISERS, AROUND_FOCAL) for factor in RATES
            for row in compared([with_rate(rung(name, profile), factor) for name in names], dataset, seeds, f"rate x {factor:g}")]


def at_lengths(dataset: Dataset, profile: str | None = None, seeds: int | str | None = None) -> list[Row]:
    """The rows `LONGER`, trained for several lengths (`LENGTHS`), compared after as many steps."""
    steps = [factor * PROFILES[profile_name(profile)].steps for factor in LENGTHS]
    return [row for n in steps for row in compared([replace(parse(name, profile), steps=None if n == steps[0] else n) for name in LONGER],
                                                   dataset, seeds, f"{n:,} steps")]


def at_their_best(rows: Sequence[Row], dataset: Dataset, seeds: int | str | None = None) -> list[Row]:
    """Of `at_rates`, each rung at the rate of its highest mAP, compared with the one before at its own best.

    A rate that is chosen by what it is then judged by makes a rung look a little too good.
    """
    best: dict[str, Row] = {}
    for row in sorted((row for row in rows if row.value), key=lambda row: row.value[0] if row.value else 0.0):
        best[row.name.partition("+")[0]] = row
    groups = [[replace(best[name].runs[0].experiment, seed=0) for name in names if name in best] for names in (OPTIMISERS, AROUND_FOCAL)]
    return [row for group in groups for row in compared(group, dataset, seeds, "at its best rate")]


def with_rate(experiment: Experiment, factor: float) -> Experiment:
    """An experiment with so many times its optimiser's learning rate."""
    return experiment if factor == 1 else replace(experiment, lr=float(f"{factor * OPTIMIZERS[experiment.optimizer]['lr']:.6g}"))


def _change(a: Experiment, b: Experiment) -> str:
    return ", ".join(f"{name}: {b.optimizer_settings['lr'] if name == 'lr' else getattr(b, name)}" for name in differences(a, b))


def _why_not(experiment: Experiment, dataset: Dataset) -> str:
    if experiment.split not in dataset:
        return f"not run: no {experiment.split} in this data"
    return f"not run yet: {train_command(experiment, dataset)}"


def null_difference(dataset: Dataset, profile: str | None = None, seeds: int | None = None) -> Difference | None:
    """A row against itself, trained again with the next seeds: what a difference looks like where there is none. None until it is trained."""
    number = seed_count(seeds)
    first, again = (find_runs(rung(NULL, profile), dataset, range(start, start + number)) for start in (0, number))
    return difference(first, again, dataset) if len(first) == len(again) == number else None


def seed_spread(rows: Sequence[Row]) -> pd.DataFrame:
    """mAP of each single training on all clips, one column a seed, and the sample standard deviation over seeds."""
    table = pd.DataFrame({row.name: {f"seed {run.experiment.seed}": run.metrics["mAP"] for run in row.runs} for row in rows if row.runs}).T
    table = table[sorted(table.columns, key=lambda name: int(name.split()[1]))]
    return table.assign(**{"standard deviation": table.std(axis=1)}).map(lambda v: "-" if pd.isna(v) else f"{v:.4f}")


def ladder_table(rows: Sequence[Row]) -> pd.DataFrame:
    """The climb as a table of text: what changed, the seeds, mAP and the gain on the row above with their intervals, what they allow to say, and
    where there is one the reference run's mAP over the same seeds."""
    table = {row.name: {"changes": row.change, "seeds": _seeds(row.runs), "mAP": _value(row), f"{LEVEL:.0%} interval": _interval(row),
                        "gain": signed(row.gain.value) if row.gain else "", "its interval": _gain_interval(row.gain),
                        "so": row.why or (_verdict(row.gain) if row.gain else "")} for row in rows}
    there = {row.name: [found.metrics["mAP"] for run in row.runs if (found := reference_of(run))] for row in rows}
    if any(there.values()):
        for name, values in there.items():
            table[name]["reference"] = f"{np.mean(values):.3f}" if values else ""
    return pd.DataFrame(table).T


def report_table(rows: Sequence[Row], dataset: Dataset) -> pd.DataFrame:
    """The report's steps, from one model of its text to the next, and the same steps in our climb; its plots have one run each and no interval.

    Its baseline and its flip differ in the flip alone, as our adam and flip do. Its last two steps change more than ours: with the anchors also the
    optimiser, with the data also the number of steps and the validation split; and our extended row has fitted anchors.
    """
    found, table = {row.name: row.runs for row in rows}, {}
    for before, name in pairwise(REPORTED_MAP):
        a, b = {"baseline": "adam"}.get(before, before), name
        mine = difference(found[a], found[b], dataset) if found[a] and found[b] else None
        table[name] = {
            "the report's mAP": f"{REPORTED_MAP[before]:.3f} to {REPORTED_MAP[name]:.3f}",
            "its gain": signed(REPORTED_MAP[name] - REPORTED_MAP[before]),
            "our rows": f"{a} to {b}", "our gain": signed(mine.value) if mine else "", "its interval": _gain_interval(mine),
            "so, here": mine.verdict if mine else "not run"}
    return pd.DataFrame(table).T


def elsewhere(dataset: Dataset, profile: str | None = None, seeds: int | str | None = None) -> pd.DataFrame:
    """The climb on all other data that have runs of this profile, from what is kept with the runs."""
    columns: dict[str, dict[str, str]] = {}
    for key in known_data():
        found = {name: tuple(r for r in find_runs(experiment, key, range(seed_count(seeds))) if kept_resamples(r).is_file())
                 for name, experiment in ladder(profile).items()}
        if key == dataset.key or not any(found.values()):
            continue
        value, gain = columns.setdefault(f"{key}: mAP", {}), columns.setdefault(f"{key}: gain", {})
        above: tuple[Run, ...] = ()
        for name, runs in found.items():
            if runs:
                middle, low, high = map_interval(runs, None)
                value[name] = f"{middle:.3f} [{low:.3f}, {high:.3f}], seeds {_seeds(runs)}"
            if runs and above:
                found_gain = difference(above, runs, None)
                gain[name] = f"{signed(found_gain.value)} {_gain_interval(found_gain)}"
            above = runs
    if not columns:
        return pd.DataFrame({"other data": ["none has runs of this profile that were compared yet"]}, index=["-"])
    return pd.DataFrame(columns).reindex([n for n in ladder(profile) if any(n in c for c in columns.values())]).fillna("")


def _seeds(runs: Sequence[Run]) -> str:
    return ", ".join(str(run.experiment.seed) for run in runs)


def _value(row: Row) -> str:
    return f"{row.value[0]:.3f}" if row.value else ""


def _interval(row: Row) -> str:
    if not row.value or row.value[1] == row.value[2]:  # one clip and one training: nothing to tell a spread from
        return "-" if row.value else ""
    return f"[{round(row.value[1], 3) + 0.0:.3f}, {row.value[2]:.3f}]"


def _verdict(gain: Difference) -> str:
    """Without the number of steps where both rows have it: their own names say it."""
    length = re.search(r"\+steps=\d+", gain.first)
    return gain.verdict.replace(length[0], "") if length and length[0] in gain.second else gain.verdict


def _gain_interval(gain: Difference | None) -> str:
    return f"[{signed(gain.low)}, {signed(gain.high)}]" if gain else ""
