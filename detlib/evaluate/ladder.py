"""The ladder as it was climbed: of each row what it reached, what it gained on the row above, and how sure that is; or why it was not run."""
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..data.coco import Dataset
from ..experiments import LADDER, NULL, rung, seed_count
from ..runs import Run, find_runs
from .compare import Difference, difference, signed
from .intervals import LEVEL, map_interval


@dataclass(frozen=True)
class Row:
    """One row of the ladder on one data set."""

    name: str
    change: str  # to the row above
    runs: tuple[Run, ...]  # finished, one a seed
    value: tuple[float, float, float] | None  # mAP, ends of its interval
    gain: Difference | None  # on the row above
    why: str  # it was not run; empty if it was


def climb(dataset: Dataset, profile: str | None = None, seeds: int | None = None) -> list[Row]:
    """Every row of the ladder with its finished runs of the first `seeds` seeds (`experiments.seed_count`)."""
    rows: list[Row] = []
    for name, change in LADDER:
        runs = tuple(find_runs(rung(name, profile), dataset, range(seed_count(seeds))))
        above = rows[-1].runs if rows else ()
        rows.append(Row(name, ", ".join(f"{key}: {value}" for key, value in change.items()) or "where the climb begins", runs,
                        map_interval(runs, dataset) if runs else None, difference(above, runs, dataset) if above and runs else None,
                        "" if runs else _why_not(name, dataset, profile)))
    return rows


def _why_not(name: str, dataset: Dataset, profile: str | None) -> str:
    experiment = rung(name, profile)
    if experiment.split not in dataset:
        return f"not run: no {experiment.split} in this data"
    if experiment.anchors == "fitted":
        return "not run: anchors cannot be fitted yet"
    return f"not run yet: detlib train {name}"


def null_difference(dataset: Dataset, profile: str | None = None, seeds: int | None = None) -> Difference | None:
    """A row against itself, trained again with the next seeds: what a difference looks like where there is none. None until it is trained."""
    number = seed_count(seeds)
    first, again = (find_runs(rung(NULL, profile), dataset, range(start, start + number)) for start in (0, number))
    return difference(first, again, dataset) if len(first) == len(again) == number else None


def seed_spread(rows: Sequence[Row]) -> pd.DataFrame:
    """mAP of each single training on all clips, one column a seed, and the sample standard deviation over seeds."""
    table = pd.DataFrame({row.name: {f"seed {run.experiment.seed}": run.metrics["mAP"] for run in row.runs} for row in rows if row.runs}).T
    return table.assign(**{"standard deviation": table.std(axis=1)})


def ladder_table(rows: Sequence[Row]) -> pd.DataFrame:
    """The climb as a table of text: what changed, the seeds, mAP and the gain on the row above with their intervals, and what they allow to say."""
    table = {}
    for row in rows:
        value, low, high = row.value or (float("nan"),) * 3
        gain = row.gain
        table[row.name] = {
            "changes": row.change, "seeds": ", ".join(str(run.experiment.seed) for run in row.runs),
            "mAP": "" if row.value is None else f"{value:.3f}", f"{LEVEL:.0%} interval": "" if row.value is None else f"[{low:.3f}, {high:.3f}]",
            "gain": signed(gain.value) if gain else "", "its interval": f"[{signed(gain.low)}, {signed(gain.high)}]" if gain else "",
            "so": row.why or (gain.verdict if gain else "")}
    return pd.DataFrame(table).T.rename_axis("row")
