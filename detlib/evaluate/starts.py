"""What a start is worth: one model from several starting weights, each trained on more and more of the training frames."""
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from ..data.coco import Dataset
from ..experiments import Experiment, seed_count
from ..runs import Run, find_runs, run_folder
from .compare import Difference, difference, signed
from .intervals import LEVEL, map_interval

Found = Mapping[str, Mapping[int, Sequence[Run]]]  # start -> training frames -> finished runs, one a seed


def trainings(ways: Mapping[str, Experiment], frames: Sequence[int], dataset: Dataset, seeds: int | str | None = None) -> Iterator[Experiment]:
    """Every start on every number of training frames with every seed; as many frames as there are, or more, is all of them."""
    for seed in range(seed_count(seeds)):
        for count in frames:
            for experiment in ways.values():
                yield replace(experiment, seed=seed, train_frames=count if count < len(dataset[experiment.split]) else None)


def trained(ways: Mapping[str, Experiment], dataset: Dataset, seeds: int | str | None = None) -> Found:
    """The finished runs of each start, by the number of training frames, whatever numbers there are."""
    found: dict[str, dict[int, list[Run]]] = {}
    for way, experiment in ways.items():
        every = len(dataset[experiment.split])
        folders = run_folder(experiment, dataset).parents[1].glob("*+train_frames=*")
        counts = {int(match[1]) for folder in folders if (match := re.search(r"\+train_frames=(\d+)", folder.name))}
        runs = {n: find_runs(replace(experiment, train_frames=n if n < every else None), dataset, range(seed_count(seeds)))
                for n in sorted({n for n in counts if n < every} | {every})}
        found[way] = {n: here for n, here in runs.items() if here}
    return found


def starts_table(found: Found, dataset: Dataset) -> pd.DataFrame:
    """A row a start and number of frames: seeds, mAP, its interval, and the gain on the first start with as many frames, as text."""
    columns = ["train frames", "start", "seeds", "mAP", f"{LEVEL:.0%} interval", "gain", "its interval", "so"]
    rows, (first, *_) = [], [*found, ""]
    for frames in sorted({n for runs in found.values() for n in runs}):
        for way in (way for way in found if frames in found[way]):
            runs = found[way][frames]
            value, low, high = map_interval(runs, dataset)
            seeds, ends = ", ".join(str(run.experiment.seed) for run in runs), f"{low:.3f} to {high:.3f}" if high > low else "none"
            gain = difference(found[first][frames], runs, dataset) if way != first and frames in found[first] else None
            rows.append([frames, way, seeds, f"{value:.3f}", ends, *(_gain(gain, first, way) if gain else ("", "", ""))])
    return pd.DataFrame(rows, columns=columns)


def _gain(gain: Difference, first: str, way: str) -> tuple[str, str, str]:
    """A gain, its interval, and what they allow to say, with the starts by their names."""
    ends = f"{signed(gain.low)} to {signed(gain.high)}" if gain.high > gain.low else "none"
    better = ("this training " if len(gain.seeds) == 1 else "") + (way if gain.low > 0 else first)
    return signed(gain.value), ends, f"{better} is better" if gain.measurable else gain.verdict
