"""Two runs on the same clips: is one better, or are they two draws of the same thing?"""
from math import comb

import numpy as np

from ..data.coco import Dataset
from ..runs import Run
from .coco import Detections, match_detections
from .intervals import LEVEL, RESAMPLES, bootstrap, clip_weights, interval

FEWEST_CLIPS = 2  # one clip has one resample, itself


def paired_resamples(a: Run, b: Run, dataset: Dataset, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """mAP of both finished runs in the same resamples of the validation clips, (1 + resamples,) each; first stands the value on all clips, once."""
    split = dataset["val"]
    weights = np.concatenate([np.ones((1, len(split))), clip_weights(split, resamples)])
    matches = (match_detections(Detections.from_coco(run.detections(), split), split, {}) for run in (a, b))
    first, second = (bootstrap(m, weights) for m in matches)
    return first, second


def paired_difference(a: Run, b: Run, dataset: Dataset, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """mAP of b minus that of a, with the ends of its interval: both runs meet the same clips in every resample, so what is hard for both cancels."""
    first, second = paired_resamples(a, b, dataset, resamples)
    return float(second[0] - first[0]), *interval((second - first)[1:])


def signed(value: float) -> str:
    """A difference in mAP with its sign, and zero without a minus."""
    return f"{round(value, 3) + 0.0:+.3f}"


def difference_sentence(a: Run, b: Run, dataset: Dataset) -> str:
    """What can be said about two single trainings."""
    names, clips = f"{b.experiment.rung} - {a.experiment.rung}", len(dataset["val"].clips)
    difference, low, high = paired_difference(a, b, dataset)
    if not np.isfinite(difference):
        return f"{names}: the validation split has no objects, so nothing can be said."
    if clips < FEWEST_CLIPS:
        return f"{names}: {signed(difference)} mAP on one validation clip, which gives no interval; nothing can be said."
    numbers = f"{names}: {signed(difference)} mAP, {LEVEL:.0%} interval [{signed(low)}, {signed(high)}] over {clips} validation clips"
    if low <= 0 <= high:
        said = "it contains zero: no measurable difference"
    else:
        said = f"it leaves zero out: on streets like these, this training of {(b if low > 0 else a).experiment.rung} is the better one"
    ways = comb(2 * clips - 1, clips)
    few = f" So few clips give only {ways} different resamples, and an interval that is too narrow." if ways < RESAMPLES else ""
    return f"{numbers}; {said}.{few} One seed each: how much the result changes from training to training is not in it."
