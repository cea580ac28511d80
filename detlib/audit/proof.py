"""How much of errors planted on purpose the audit finds: its own precision and recall, by kind."""
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..data.coco import Dataset, Split
from ..data.planting import BOX, KINDS, plant
from ..evaluate.coco import Detections
from ..evaluate.intervals import interval
from ..runs import kept, state_of
from .evidence import SAME, iou
from .findings import suspects

RESAMPLES = 1000


def planted_outcomes(split: Split, dataset: Dataset, detections: Detections | None = None, share: float = 0.05,
                     seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """What the audit finds of errors planted with each of these seeds: `outcomes` with their seed and clip."""
    def make() -> pd.DataFrame:
        parts = []
        for seed in seeds:
            wrong, planted = plant(split, share, seed)
            parts.append(outcomes(suspects(wrong, dataset, detections, seed), planted).assign(seed=seed))
        table = pd.concat(parts, ignore_index=True)
        return table.assign(clip=np.array([frame.clip for frame in split.frames])[table["frame"].to_numpy(int)])

    of = [split.fingerprint, dataset.panorama, share, list(seeds)]
    return kept("planted_outcomes", of, make, state_of(split)) if detections is None else make()


def outcomes(found: pd.DataFrame, planted: pd.DataFrame) -> pd.DataFrame:
    """A row for each finding, and for each error without one: kind, frame, rank in its kind (from 0, -1: not found), right, first.

    `first` is true of the first N findings of a kind with N planted.
    """
    parts = []
    for kind in KINDS:
        truth, own = planted[planted["kind"] == kind], found[found["kind"] == kind].reset_index(drop=True)
        hits, frames = right(own, truth)
        parts.append(pd.DataFrame({"kind": kind, "frame": own["frame"], "rank": own.index, "right": hits, "first": own.index < len(truth)}))
        parts.append(pd.DataFrame({"kind": kind, "frame": frames, "rank": -1, "right": False, "first": False}))
    return pd.concat(parts, ignore_index=True)


def right(found: pd.DataFrame, truth: pd.DataFrame) -> tuple[np.ndarray, list[int]]:
    """Which findings of one kind (D,) are planted errors of it, by annotation, or a missing box by IoU, each error once; and the others' frames."""
    hits, left = np.zeros(len(found), bool), truth
    for place, (frame, annotation, *box) in enumerate(found[["frame", "annotation", *BOX]].itertuples(index=False)):
        here = left[(left["frame"] == frame) & (left["annotation"] == annotation)]
        if annotation == -1 and len(here):
            overlap = iou(np.array(box), here[BOX].to_numpy(float))[0]
            here = here.iloc[[overlap.argmax()]] if overlap.max() >= SAME else here.iloc[:0]
        if len(here):
            hits[place], left = True, left.drop(here.index[0])
    return hits, left["frame"].tolist()


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Of `planted_outcomes` a row for each kind, and for all.

    With N planted of a kind, `precision` is the share of its first N findings that are right, `low` and `high` the ends of its interval over
    seeds and clips; `found` is the share of the planted that all its findings hold, and `findings` how many those are.
    """
    rows = []
    for kind in [*[kind for kind in KINDS if (table["kind"] == kind).any()], "all"]:
        own = table if kind == "all" else table[table["kind"] == kind]
        first, planted = own[own["first"]], int((own["right"] | (own["rank"] < 0)).sum())
        value, low, high = _precision(first)
        rows.append({"kind": kind, "planted": planted, "first": len(first), "right": int(first["right"].sum()), "precision": value,
                     "low": max(low, 0.0), "high": min(high, 1.0), "found": own["right"].sum() / planted, "findings": int((own["rank"] >= 0).sum())})
    return pd.DataFrame(rows)


def _precision(first: pd.DataFrame) -> tuple[float, float, float]:
    """Share of right findings with the ends of its interval; NaN where there is no finding."""
    if not len(first):
        return np.nan, np.nan, np.nan
    counts = first.groupby("clip")["right"].agg(["sum", "size"]).to_numpy()
    picks = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, max(1, len(counts) - 1)))
    drawn = counts[picks].sum(axis=1)  # (RESAMPLES, right and all)
    return interval(first.groupby("seed")["right"].mean().to_numpy(), drawn[:, 0] / drawn[:, 1], len(counts))
