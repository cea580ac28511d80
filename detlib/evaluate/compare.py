"""Two rows of the ladder on the same clips and seeds: is one better, or are they two draws of the same thing?"""
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from textwrap import fill

import numpy as np

from ..data.coco import Dataset
from ..runs import Run
from .intervals import LEVEL, RESAMPLES, interval, resampled_map

FEWEST_CLIPS = 2  # one clip has one resample, itself
LINE = 110  # letters of printed text; JupyterLab breaks longer lines within words


def wrapped(text: str) -> str:
    """Text whose lines are at most `LINE` long and end between words, what goes on indented."""
    return "\n".join(fill(line, LINE, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) for line in text.splitlines())


def signed(value: float) -> str:
    """A difference in mAP with its sign, and zero without a minus."""
    return f"{round(value, 3) + 0.0:+.3f}"


@dataclass(frozen=True)
class Difference:
    """mAP of one row minus that of another, over the trainings that were paired."""

    first: str
    second: str
    value: float
    low: float
    high: float
    seeds: tuple[tuple[int, int], ...]  # of the first, of the second, pair by pair
    clips: int

    @property
    def measurable(self) -> bool:
        """Whether there is an interval, and it excludes zero."""
        return bool(np.isfinite(self.value)) and self.clips >= FEWEST_CLIPS and not self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """What the interval allows to say, in a few words."""
        if not np.isfinite(self.value) or self.clips < FEWEST_CLIPS:
            return "nothing can be said"
        if not self.measurable:
            return "no measurable difference"
        if self.first == self.second:
            return "misses the true zero, as one in twenty does"
        better = self.second if self.low > 0 else self.first
        return f"{better} is better" if len(self.seeds) > 1 else f"this training of {better} is better"

    def __str__(self) -> str:
        """The sentence in lines that a notebook's page holds without breaking words."""
        return wrapped(self.sentence)

    @property
    def sentence(self) -> str:
        """What can be said, and what it rests on."""
        names = f"{self.second} - {self.first}"
        if not np.isfinite(self.value):
            return f"{names}: the validation split has no objects, so nothing can be said."
        if self.clips < FEWEST_CLIPS:
            return f"{names}: {signed(self.value)} mAP on one validation clip, which gives no interval; nothing can be said."
        ways = comb(2 * self.clips - 2, self.clips - 1)  # multisets of n - 1 out of n
        few = f" So few clips give only {ways} different resamples: take the interval as a hint." if ways < RESAMPLES else ""
        if not self.measurable:
            said = "it contains zero: no measurable difference."
        elif self.first == self.second:
            said = "it misses the true zero, as one interval in twenty does."
        elif len(self.seeds) == 1:
            said = f"it excludes zero: on streets like these, this training of {self.second if self.low > 0 else self.first} is the better one."
        else:
            said = f"it excludes zero: on streets like these, {self.second if self.low > 0 else self.first} is better."
        if len(self.seeds) == 1:
            over, noise = "", " One seed each: how much the result changes from training to training is not in it."
        else:
            over, noise = f" and {len(self.seeds)} pairs of seeds", ""
        return (f"{names}: {signed(self.value)} mAP, {LEVEL:.0%} interval [{signed(self.low)}, {signed(self.high)}] over {self.clips} validation "
                f"clips{over}; {said}{few}{noise}")


def pairs(a: Sequence[Run], b: Sequence[Run]) -> list[tuple[Run, Run]]:
    """The trainings of two rows that belong together: of the same seed where they share any, else in order."""
    if not a or not b:
        raise ValueError("a row without a finished run has nothing to compare: train it with `detlib train RUNG`")
    first, second = ({run.experiment.seed: run for run in runs} for runs in (a, b))
    if common := sorted(first.keys() & second.keys()):
        return [(first[seed], second[seed]) for seed in common]
    return list(zip(a, b, strict=False))


def paired_resamples(a: Sequence[Run], b: Sequence[Run], dataset: Dataset | None) -> tuple[np.ndarray, np.ndarray, int]:
    """mAP of both rows' paired trainings in the same resamples, (S, 1 + RESAMPLES) each, first on all clips, once; and the number of clips."""
    first, second = zip(*pairs(a, b), strict=True)
    values, clips = resampled_map(first, dataset)
    return values, resampled_map(second, dataset)[0], clips


def difference(a: Sequence[Run], b: Sequence[Run], dataset: Dataset | None) -> Difference:
    """mAP of row b minus that of row a: both meet the same clips and seeds, so what is hard for both cancels."""
    first, second, clips = paired_resamples(a, b, dataset)
    gains = second - first
    seeds = tuple((x.experiment.seed, y.experiment.seed) for x, y in pairs(a, b))
    return Difference(a[0].experiment.rung, b[0].experiment.rung, *interval(gains[:, 0], gains[:, 1:].mean(axis=0), clips), seeds, clips)
