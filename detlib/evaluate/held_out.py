"""Are shapes that were fitted to some clips good for others?"""
from typing import Any

import numpy as np
import pandas as pd

from ..coverage import coverage
from ..data.coco import Split
from ..fitting import fit_split, split_boxes
from ..runs import kept, state_of


def leave_clips_out(split: Split, folds: int = 4, seed: int = 0, **options: Any) -> pd.DataFrame:
    """Shapes fitted without a fold's clips, measured on the clips they were fitted on and on those left out: one row a fold.

    `options` are those of `fitting.fit`. What is chosen by this table (objective, counts, budget) has not seen the validation split. With one clip
    there is nothing to leave out, and the table is empty.
    """
    return kept("leave_clips_out", [split.fingerprint, folds, seed, options], lambda: _left_out(split, folds, seed, options), state_of(split))


def _left_out(split: Split, folds: int, seed: int, options: dict[str, Any]) -> pd.DataFrame:
    folds = min(folds, len(split.clips))  # each needs a clip
    order = np.random.default_rng(seed).permutation(np.array(split.clips))
    rows = []
    for fold in range(folds if folds > 1 else 0):
        left_out = set(order[fold::folds])
        parts = [split.subset([i for i, frame in enumerate(split.frames) if (frame.clip in left_out) == out]) for out in (False, True)]
        spec = fit_split(parts[0], **options)
        found = [coverage(spec, split_boxes(part), split.image_hw) for part in parts]
        rows.append({"clips left out": len(left_out), "boxes left out": len(found[1].iou),
                     **{f"{measure}, {where}": value for where, cover in zip(("fitted", "left out"), found, strict=True)
                        for measure, value in (("recall@0.5", cover.recall(0.5)), ("mean IoU", cover.mean))}})
    return pd.DataFrame(rows)
