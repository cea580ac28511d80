"""Measuring in turns: what is compared is timed in the same run, one after the other, so that whatever else goes on meets both."""
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..data.coco import Dataset
from ..data.folder import open_dataset
from ..data.lidar import simulate
from ..runs import outputs

ROUNDS = 5
TRAIN_CLIPS, VAL_CLIPS, FRAMES = 8, 30, 16  # of the streets that are measured on: 128 frames with pictures to train on


class NotMeasured(RuntimeError):
    """A figure that cannot be measured here; the message says what is missing."""


@dataclass(frozen=True)
class Measured:
    """A figure's value in each round, and the seconds (or what `parts` are named for) that it was made of."""

    rounds: list[float]
    parts: Mapping[str, list[float]] = field(default_factory=dict)
    said: str = ""  # on what it was measured

    @property
    def value(self) -> float:
        """The median round."""
        return float(np.median(self.rounds))


@dataclass(frozen=True)
class Benchmark:
    """A figure of the page, with the goal it is held against."""

    name: str
    what: str  # the value, in a sentence
    unit: str
    goal: float
    better: str  # higher or lower
    measure: Callable[[int], Measured]  # of so many rounds
    cause: str = ""  # of a goal that is missed
    slow: bool = False  # measured only when it is named

    def reached(self, value: float) -> bool:
        """Whether a value is at the goal or beyond it."""
        return value >= self.goal if self.better == "higher" else value <= self.goal


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds` rounds, after `warm` that do not count; in a round each has its turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= warm:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str, *, said: str = "") -> Measured:
    """How many times as long the one takes as the other, round by round."""
    return Measured([a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)], seconds, said)


def folder() -> Path:
    """Where the page and all it needs lie."""
    return outputs() / "bench"


@lru_cache(maxsize=1)
def _streets(root: Path) -> Dataset:
    clips = {"train": TRAIN_CLIPS, "val": VAL_CLIPS}
    simulate(root, ("train",), clips=clips, frames_per_clip=FRAMES)
    simulate(root, ("val",), clips=clips, frames_per_clip=FRAMES, images=False)
    return open_dataset(root)


def streets() -> Dataset:
    """Simulated panoramas to measure on: 128 frames of train as pictures, 480 of val as annotations alone."""
    return _streets(folder() / "streets")
