"""How sure a metric is: a bootstrap over clips, since neighbouring frames of a clip repeat each other."""
from collections.abc import Sequence

import numpy as np

from ..data.coco import Dataset, Split
from ..runs import Run
from .coco import ClassMatches, Detections, match_detections, precision_at_recalls

RESAMPLES = 1000
LEVEL = 0.95


def clip_weights(split: Split, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each frame counts in each resample of the clips, (resamples, frames); the same seed gives the same resamples to every run."""
    names = split.clips
    clip = np.array([names.index(frame.clip) for frame in split.frames])
    picks = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(pick, minlength=len(names)) for pick in picks])
    return counts[:, clip].astype(float)


def mean_average_precision(matches: Sequence[ClassMatches], weights: np.ndarray | None = None) -> float:
    """mAP alone, over the classes that have objects; NaN when none has."""
    values = [p[0].mean() for m in matches if (p := precision_at_recalls(m, 0, weights)) is not None]
    return float(np.mean(values)) if values else float("nan")


def bootstrap(matches: Sequence[ClassMatches], weights: np.ndarray) -> np.ndarray:
    """mAP in every resample, (resamples,)."""
    return np.array([mean_average_precision(matches, w) for w in weights])


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central interval that holds this share of the resamples (percentile method, Efron and Tibshirani 1993, sec. 13.3)."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def run_interval(run: Run, dataset: Dataset, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """A finished run's mAP with the ends of its interval over the validation clips."""
    matches = match_detections(Detections.from_coco(run.detections(), dataset["val"]), dataset["val"], {})
    return mean_average_precision(matches), *interval(bootstrap(matches, clip_weights(dataset["val"], resamples)))
