"""How likely each place of a split is wrong, learned from errors that are planted into the same annotations, and cross-fitted by clips.

A place's chance comes from trees that never saw its fold, and its crop was looked at by a network that never did; that network's numbers for the
other folds, from which the trees learn, rest on all folds but those (stacking: Wolpert 1992).
"""
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from ..data.coco import Split
from ..data.planting import BOX, KINDS, plant
from ..evaluate.coco import Detections
from ..tracks import Motion
from .crops import Crops, learn
from .evidence import SAME, Places, iou, look_at, numbers, places

FOLDS = 3
SHARE = 0.15  # of the boxes that planted errors are in: more than real ones, so that those taken for right do not outweigh them
LESSONS, BOXES = (3, 8), 13_000  # so many times are errors planted, in about so many boxes together
KNOWN = 20  # boxes of a class in the other folds from which it can be judged: of a class that they lack every box would look wrong


def chances(split: Split, panorama: bool, detections: Detections | None, seed: int) -> tuple[Places, np.ndarray, np.ndarray | None, Motion]:
    """All places, their chances (P, 4) to be of each of KINDS, what crops show of them (P, K + 5; None without pictures), and the motion."""
    work = replace(split, boxes=split.boxes.assign(annotation=np.arange(len(split.boxes))))
    fold = folds(split)
    motion = Motion(work, panorama)
    looks = []
    if split.has_images():
        crops, mine = Crops(work, panorama), fold[work.boxes["frame"].to_numpy()]
        looks = [learn(crops, work, np.flatnonzero(mine != k), seed) for k in range(FOLDS)]

    def told(of: Split, moving: Motion) -> tuple[Places, np.ndarray | None, pd.DataFrame]:
        at = places(of, moving, detections)
        seen = look_at(at, looks, fold[at.frame]) if looks else None
        return at, seen, numbers(of, at, seen, detections)

    lessons = []
    for k in range(int(np.clip(BOXES // len(work.boxes), *LESSONS))):
        wrong, planted = plant(work, SHARE, seed=1000 * seed + k)
        at, _, table = told(wrong, Motion(wrong, panorama, motion.flows))
        lessons.append((fold[at.frame], at.row >= 0, table, truth(at, wrong, planted)))
    at, seen, table = told(work, motion)
    result = _cross_fitted(lessons, fold[at.frame], at.row >= 0, table, seed)
    return at, result * _judged(split, fold)[fold[at.frame], at.label][:, None], seen, motion


def _judged(split: Split, fold: np.ndarray) -> np.ndarray:
    """Which labels can be judged in which fold, (FOLDS, K + 1)."""
    counts = np.zeros((FOLDS, len(split.categories) + 1), int)
    np.add.at(counts, (fold[split.boxes["frame"].to_numpy()], split.boxes["label"].to_numpy()), 1)
    return counts.sum(axis=0) - counts >= KNOWN


def folds(split: Split) -> np.ndarray:
    """The fold of each frame: its clip's, or of fewer clips than folds, its part of the split."""
    clips = {clip: k for k, clip in enumerate(split.clips)}
    own = np.array([clips[frame.clip] for frame in split.frames])
    return own % FOLDS if len(clips) >= FOLDS else np.arange(len(split)) * FOLDS // len(split)


def truth(at: Places, split: Split, planted: pd.DataFrame) -> np.ndarray:
    """What is wrong at each place: the place in KINDS of what was planted there, -1: nothing."""
    kinds = np.full(len(split.boxes) + 1, -1)
    place = dict(zip(planted["annotation"], planted["kind"].map(KINDS.index), strict=True))
    kinds[:-1] = [place.get(annotation, -1) for annotation in split.boxes["annotation"]]
    result = np.where(at.row >= 0, kinds[at.row], -1)
    gone = planted[planted["kind"] == "missing"]
    for frame, boxes in gone.groupby("frame")[BOX]:
        rows = np.flatnonzero((at.row < 0) & (at.frame == frame))
        result[rows[(iou(at.boxes[rows], boxes.to_numpy(float)) >= SAME).any(axis=1)]] = KINDS.index("missing")
    return result


def _cross_fitted(lessons: list[tuple], fold: np.ndarray, annotated: np.ndarray, table: pd.DataFrame, seed: int) -> np.ndarray:
    """Chances (P, 4) from trees that learned from the lessons' other folds; annotated boxes and missing places by trees of their own."""
    result = np.zeros((len(table), len(KINDS)))
    folds_, kept, kinds = (np.concatenate([lesson[k] for lesson in lessons]) for k in (0, 1, 3))
    tables = pd.concat([lesson[2] for lesson in lessons], ignore_index=True)
    for k in range(FOLDS):
        for group in (True, False):
            rows, asked = (folds_ != k) & (kept == group), (fold == k) & (annotated == group)
            if not asked.any() or len(np.unique(kinds[rows])) < 2:
                continue
            known = tables[rows].dropna(axis=1, how="all")
            trees = HistGradientBoostingClassifier(max_iter=80, learning_rate=0.08, max_leaf_nodes=12, l2_regularization=1.0, random_state=seed)
            trees.fit(known, kinds[rows])
            guess = trees.predict_proba(table.loc[asked, known.columns])
            for column, kind in enumerate(trees.classes_):
                if kind >= 0:
                    result[asked, kind] = guess[:, column]
    return result
