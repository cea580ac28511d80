"""How sure a metric is: neighbouring frames of a clip repeat each other, so clips are the sample; and a training repeated gives another network.

Two sources of doubt, added up. Clips: a bootstrap, with the same draws for all runs on the same frames; each draws one clip less than there are,
since with as many the variance of a resampled mean is too small by the factor (n - 1) / n (Rao and Wu 1988). Seeds: the sample variance over repeated
trainings; three of them are too few to be resampled. The interval is Student's t with Satterthwaite's degrees of freedom, which is what makes it wide
where seeds or clips are few (Welch 1947).
"""
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy.stats import t

from ..data.coco import Dataset, Split
from ..files import Unwritable, write_atomic
from ..runs import Run
from .coco import RECALLS, THRESHOLDS, ClassMatches, kept_detections, match_detections

RESAMPLES = 1000
LEVEL = 0.95
SCHEME = 2  # of drawing and keeping: with another number, values are computed anew
CHUNK = 4_000_000  # weights held at once


def clip_weights(split: Split, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each frame counts in each resample of the clips, (resamples, frames); one clip alone is drawn always."""
    names = split.clips
    clip = np.array([names.index(frame.clip) for frame in split.frames])
    picks = np.random.default_rng(seed).integers(len(names), size=(resamples, max(1, len(names) - 1)))
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


def mean_over_classes(ap: np.ndarray) -> np.ndarray:
    """mAP (B,) from AP of each class (B, K): a class that a resample lacks is left out of its mean; NaN where it lacks all."""
    present = np.isfinite(ap)
    return np.where(present, ap, 0).sum(axis=1) / np.where(present.any(axis=1), present.sum(axis=1), np.nan)


def bootstrap(matches: Sequence[ClassMatches], weights: np.ndarray) -> np.ndarray:
    """mAP in every resample, (resamples,)."""
    return mean_over_classes(np.stack([resampled_ap(m, weights) for m in matches], axis=1))


def interval(by_seed: np.ndarray, by_resample: np.ndarray, clips: int, level: float = LEVEL) -> tuple[float, float, float]:
    """A mean with the ends of its interval: values of each training (S,) on all clips, and their mean in each resample of the clips (B,).

    With one training, what trainings differ by is not in it; with one clip, what clips differ by is not.
    """
    value, seeds = float(np.mean(by_seed)), len(by_seed)
    of_seeds = float(np.var(by_seed, ddof=1)) / seeds if seeds > 1 else 0.0
    of_clips = float(np.nanvar(by_resample)) if clips > 1 and np.isfinite(by_resample).any() else 0.0
    if not np.isfinite(value) or of_seeds + of_clips == 0:
        return value, value, value
    freedom = (of_seeds + of_clips) ** 2 / (of_seeds**2 / max(seeds - 1, 1) + of_clips**2 / max(clips - 1, 1))
    half = float(t.ppf((1 + level) / 2, freedom)) * (of_seeds + of_clips) ** 0.5
    return value, value - half, value + half


def kept_resamples(run: Run) -> Path:
    """Where the resampled values of a finished run are kept."""
    return run.folder / f"resamples{SCHEME}.npz"


def resampled_classes(run: Run, dataset: Dataset | None) -> tuple[np.ndarray, int]:
    """AP of each class in every resample of the validation clips, (1 + RESAMPLES, K), first the value on all clips, once; and the number of clips.

    Computed once for a finished run, and kept in its folder; without a data set only what is kept there can be had.
    """
    path = kept_resamples(run)
    if path.is_file() or dataset is None:
        try:
            with np.load(path, allow_pickle=False) as kept:
                return kept["ap"], int(kept["clips"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            if dataset is None:
                raise ValueError(f"{path}: not there or damaged ({error}); it is made anew where the data are at hand") from None
    split = dataset["val"]
    weights = np.concatenate([np.ones((1, len(split))), clip_weights(split)])
    matches = match_detections(kept_detections(run, dataset), split, {})
    values = np.stack([resampled_ap(m, weights) for m in matches], axis=1)
    np.savez(file := io.BytesIO(), ap=values, clips=len(split.clips))
    with suppress(Unwritable):  # then they are computed again the next time
        write_atomic(path, file.getvalue())
    return values, len(split.clips)


def resampled_map(runs: Sequence[Run], dataset: Dataset | None) -> tuple[np.ndarray, int]:
    """mAP of repeated trainings, (S, 1 + RESAMPLES), first the value on all clips, once; and the number of clips."""
    found = [resampled_classes(run, dataset) for run in runs]
    return np.stack([mean_over_classes(ap) for ap, _ in found]), found[0][1]


def map_interval(runs: Sequence[Run], dataset: Dataset | None) -> tuple[float, float, float]:
    """Mean mAP of repeated trainings with the ends of its interval within 0..1, over clips and, where there are several, seeds."""
    values, clips = resampled_map(runs, dataset)
    value, low, high = interval(values[:, 0], values[:, 1:].mean(axis=0), clips)
    return value, max(low, 0.0), min(high, 1.0)
