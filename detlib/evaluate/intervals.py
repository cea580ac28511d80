"""How sure a metric is: a bootstrap over clips, since neighbouring frames of a clip repeat each other."""
from collections.abc import Sequence

import numpy as np

from ..data.coco import Dataset, Split
from ..runs import Run
from .coco import RECALLS, THRESHOLDS, ClassMatches, Detections, match_detections

RESAMPLES = 1000
LEVEL = 0.95
CHUNK = 4_000_000  # weights held at once


def clip_weights(split: Split, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each frame counts in each resample of the clips, (resamples, frames); the same seed gives the same resamples to every run."""
    names = split.clips
    clip = np.array([names.index(frame.clip) for frame in split.frames])
    picks = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    counts = np.stack([np.bincount(pick, minlength=len(names)) for pick in picks])
    return counts[:, clip].astype(float)


def resampled_ap(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """AP of one class in every resample, (resamples,); NaN where a resample holds no object of it. The same as `precision_at_recalls`, at once.

    Only the hits matter: precision has its peaks there, and each hit answers for the recall levels between it and the one before.
    """
    total = weights @ matches.objects[0]  # (B,)
    ap = np.zeros(len(weights))
    for part in np.array_split(np.arange(len(weights)), max(1, weights.shape[0] * len(matches.frame) // CHUNK)):
        weight = weights[part][:, matches.frame]  # (B, D)
        every = np.cumsum(weight, axis=1)
        for hit, ignored in zip(matches.hit[0], matches.ignored[0], strict=True):
            places = np.flatnonzero(hit & ~ignored)
            if not len(places):
                continue
            seen = np.cumsum(weight * ~ignored, axis=1) if ignored.any() else every
            hits = np.cumsum(weight[:, places], axis=1)
            best = np.maximum.accumulate((hits / (seen[:, places] + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
            with np.errstate(invalid="ignore", divide="ignore"):
                reached = np.searchsorted(RECALLS, hits / total[part, None], side="right")
            ap[part] += (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(total > 0, ap / len(THRESHOLDS), np.nan)


def bootstrap(matches: Sequence[ClassMatches], weights: np.ndarray) -> np.ndarray:
    """mAP in every resample, (resamples,); a class that a resample lacks is left out of its mean."""
    values = np.stack([resampled_ap(m, weights) for m in matches])
    present = np.isfinite(values)
    return np.where(present, values, 0).sum(axis=0) / np.where(present.any(axis=0), present.sum(axis=0), np.nan)


def mean_average_precision(matches: Sequence[ClassMatches]) -> float:
    """mAP alone, over the classes that have objects; NaN when none has."""
    return float(bootstrap(matches, np.ones((1, matches[0].objects.shape[1])))[0])


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central interval that holds this share of the resamples (percentile method, Efron and Tibshirani 1993, sec. 13.3)."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def run_interval(run: Run, dataset: Dataset, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """A finished run's mAP with the ends of its interval over the validation clips."""
    matches = match_detections(Detections.from_coco(run.detections(), dataset["val"]), dataset["val"], {})
    return mean_average_precision(matches), *interval(bootstrap(matches, clip_weights(dataset["val"], resamples)))
