"""How sure a metric is: a bootstrap over clips, since neighbouring frames of a clip repeat each other, and over the seeds of repeated trainings.

Each resample draws one less than there are: with as many, the variance of the resampled means is too small by (n - 1) / n, which for three clips
or three seeds is a third (Rao and Wu 1988, sec. 2). The draws are the same for all runs on the same frames.
"""
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.coco import Dataset, Split
from ..files import write_atomic
from ..runs import Run
from .coco import RECALLS, THRESHOLDS, ClassMatches, Detections, match_detections

RESAMPLES = 1000
LEVEL = 0.95
SCHEME = 1  # of drawing, with RESAMPLES: another number makes kept values be computed anew
CHUNK = 4_000_000  # weights held at once


def clip_weights(split: Split, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each frame counts in each resample of the clips, (resamples, frames); one clip alone is drawn always."""
    names = split.clips
    clip = np.array([names.index(frame.clip) for frame in split.frames])
    counts = np.stack([np.bincount(pick, minlength=len(names)) for pick in draws(len(names), resamples, [seed, 0])])
    return counts[:, clip].astype(float)


def draws(number: int, resamples: int, seed: Sequence[int]) -> np.ndarray:
    """Which of `number` things each resample holds, one less than there are, (resamples, max(1, number - 1))."""
    return np.random.default_rng(seed).integers(number, size=(resamples, max(1, number - 1)))


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


def mean_over_classes(ap: np.ndarray) -> np.ndarray:
    """mAP (B,) from AP of each class (B, K): a class that a resample lacks is left out of its mean; NaN where it lacks all."""
    present = np.isfinite(ap)
    return np.where(present, ap, 0).sum(axis=1) / np.where(present.any(axis=1), present.sum(axis=1), np.nan)


def bootstrap(matches: Sequence[ClassMatches], weights: np.ndarray) -> np.ndarray:
    """mAP in every resample, (resamples,)."""
    return mean_over_classes(np.stack([resampled_ap(m, weights) for m in matches], axis=1))


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central interval that holds this share of the resamples (percentile method, Efron and Tibshirani 1993, sec. 13.3)."""
    if not np.isfinite(values).any():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def kept_resamples(run: Run) -> Path:
    """Where the resampled values of a finished run are kept."""
    return run.folder / f"resamples{SCHEME}.npy"


def resampled_classes(run: Run, dataset: Dataset | None) -> np.ndarray:
    """AP of each class in every resample of the validation clips, (1 + RESAMPLES, K); first stands the value on all clips, once.

    Computed once for a finished run, and kept in its folder; without a data set only what is kept there can be had.
    """
    path = kept_resamples(run)
    if path.is_file() or dataset is None:
        return np.load(path)
    split = dataset["val"]
    weights = np.concatenate([np.ones((1, len(split))), clip_weights(split)])
    matches = match_detections(Detections.from_coco(run.detections(), split), split, {})
    values = np.stack([resampled_ap(m, weights) for m in matches], axis=1)
    np.save(file := io.BytesIO(), values)
    write_atomic(path, file.getvalue())
    return values


def resampled_map(runs: Sequence[Run], dataset: Dataset | None) -> np.ndarray:
    """Mean mAP of repeated trainings, (1 + RESAMPLES,): first over all seeds and clips, then over those that each resample draws."""
    values = np.stack([mean_over_classes(resampled_classes(run, dataset)) for run in runs])  # (S, 1 + B)
    picks = draws(len(runs), RESAMPLES, [0, 1])  # (B, S - 1)
    drawn = np.take_along_axis(values[:, 1:], picks.T, axis=0).mean(axis=0)
    return np.concatenate([values[:, :1].mean(axis=0), drawn])


def map_interval(runs: Sequence[Run], dataset: Dataset | None) -> tuple[float, float, float]:
    """mAP of repeated trainings with the ends of its interval over clips and, where there are several, seeds."""
    values = resampled_map(runs, dataset)
    return float(values[0]), *interval(values[1:])
