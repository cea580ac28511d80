"""From one model to another: objects gained and lost, false alarms new and gone, counted with intervals; and frames chosen by rule."""
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from ..boxes import iou
from ..data.coco import Dataset, Split
from ..runs import Run
from .coco import Detections, kept_detections
from .compare import FEWEST_CLIPS, pairs
from .intervals import clip_weights, interval
from .outcomes import IOU, Outcome, outcome

KINDS = ("found by both", "gained", "lost", "missed by both", "new false alarms", "gone")
ENOUGH = 4  # objects of a frame from which its F1 says something


def run_outcome(run: Run, dataset: Dataset, score_min: float | None = None) -> Outcome:
    """What became of the validation objects in a finished run; the least score is that of its best F1 unless given."""
    return outcome(kept_detections(run, dataset), dataset["val"], score_min)


def chosen_frames(outcomes: Mapping[str, Outcome], least: int = ENOUGH) -> dict[str, int]:
    """Frames to show, each under the rule that chose it: median, best and worst by F1 of the last model; the largest change between two models.

    Candidates have at least `least` objects, where any frame has. Neighbours in a clip are nearly the same, so a clip gives one frame while others
    are left; a caption says where that made the rule pass over a frame. Of equal frames the first is taken. Without frames it is empty.
    """
    if not outcomes:
        raise ValueError("frames are chosen by what models found on them: name at least one model")
    split = same_split(*outcomes.values())
    objects = np.array([len(split.targets(i)[1]) for i in range(len(split))], int)
    candidates = np.flatnonzero(objects >= least) if (objects >= least).any() else np.arange(len(split))
    if not len(candidates):
        return {}
    f1 = np.nan_to_num(np.stack([seen.f1_of_frames()[candidates] for seen in outcomes.values()]))  # (models, candidates)
    rank = np.argsort(np.argsort(f1[-1], kind="stable"))
    worth = {"best": f1[-1], "worst": -f1[-1], "change": np.ptp(f1, axis=0), "median": -np.abs(rank - (len(rank) - 1) // 2)}
    chosen: dict[str, tuple[str, int]] = {}
    for rule, value in worth.items():
        used = {split.frames[i].clip for _, i in chosen.values()}
        left = [k for k in np.argsort(-value, kind="stable") if candidates[k] not in [i for _, i in chosen.values()]]
        if left and (rule != "change" or len(outcomes) > 1):
            place = next((k for k in left if split.frames[candidates[k]].clip not in used), left[0])
            others = "clips" if split.frames[candidates[place]].clip not in used else "frames"
            passed = f" of the other {others}" if value[place] < value.max() else ""
            chosen[rule] = _rule(rule, passed, list(outcomes), f1[:, place]), int(candidates[place])
    return dict(chosen[rule] for rule in ("median", "best", "worst", "change") if rule in chosen)


def _rule(rule: str, passed: str, names: Sequence[str], f1: np.ndarray) -> str:
    """The caption of a chosen frame from its F1 (models,)."""
    if rule != "change":
        return f"{rule.capitalize()} frame{passed} by F1 of {names[-1]}: {f1[-1]:.2f}"
    a, b = max(combinations(range(len(names)), 2), key=lambda pair: abs(f1[pair[1]] - f1[pair[0]]))
    return f"Largest change{passed}: F1 {f1[a]:.2f} with {names[a]}, {f1[b]:.2f} with {names[b]}"


def same_split(*outcomes: Outcome) -> Split:
    """The split that all outcomes are of; raises where they are of different ones."""
    first = outcomes[0].split
    for other in outcomes[1:]:
        if other.split.fingerprint != first.fingerprint or len(other.split.boxes) != len(first.boxes):
            raise ValueError(f"these outcomes are of different frames ({first.name} and {other.split.name}): compare models on the same split")
    return first


@dataclass(frozen=True)
class Changes:
    """From one model to another on the same split; objects are rows of `split.boxes`."""

    before: Outcome
    after: Outcome
    names: tuple[str, str]
    seeds: tuple[int, int] | None
    both: np.ndarray  # rows found by both
    gained: np.ndarray  # only by the one after
    lost: np.ndarray  # only by the one before
    neither: np.ndarray
    new: np.ndarray  # false alarms of `after` without one of the same class and IoU at least 0.5 in `before`: places in `after.detections`
    gone: np.ndarray  # the other way round, in `before.detections`

    @property
    def split(self) -> Split:
        """The frames and objects that both saw."""
        return self.after.split


def changes(before: Outcome, after: Outcome, names: tuple[str, str] = ("before", "after"), seeds: tuple[int, int] | None = None) -> Changes:
    """Which objects were gained and lost from one model to another, and which false alarms are new and gone."""
    same_split(before, after)
    had, has, rows = before.found, after.found, after.objects
    old, late = (seen.detections.rows(seen.false_alarms) for seen in (before, after))
    return Changes(before, after, names, seeds, rows[(had & has)[rows]], rows[(has & ~had)[rows]], rows[(had & ~has)[rows]],
                   rows[~(had | has)[rows]], after.false_alarms[_without_like(late, old)], before.false_alarms[_without_like(old, late)])


def _without_like(mine: Detections, theirs: Detections) -> np.ndarray:
    """Which of my detections have none of the same frame and class with IoU at least 0.5 among theirs, (D,) bool."""
    alone = np.ones(len(mine.score), bool)
    for frame in np.intersect1d(mine.frame, theirs.frame):
        here, there = np.flatnonzero(mine.frame == frame), np.flatnonzero(theirs.frame == frame)
        overlap = iou(torch.from_numpy(mine.boxes[here]), torch.from_numpy(theirs.boxes[there])).numpy()
        alone[here] = ~((overlap >= IOU) & (mine.label[here, None] == theirs.label[there])).any(axis=1)
    return alone


def paired_changes(a: Sequence[Run], b: Sequence[Run], dataset: Dataset, score_min: float | None = None) -> list[Changes]:
    """The changes from row a to row b of the ladder on the validation split, one for each pair of trainings of the same seed that kept detections."""
    names = a[0].experiment.rung if a else "", b[0].experiment.rung if b else ""
    return [changes(run_outcome(one, dataset, score_min), run_outcome(other, dataset, score_min), names, (one.experiment.seed, other.experiment.seed))
            for one, other in pairs(a, b) if not (one.without_detections or other.without_detections)]


@dataclass(frozen=True)
class Tally:
    """The changes within one group of objects: numbers that are means over the pairs of trainings, and two nets with the ends of their intervals."""

    name: str
    kind: str  # all, class or size
    counts: dict[str, float]  # by KINDS
    net: tuple[float, float, float]  # gained - lost
    net_false: tuple[float, float, float]  # new false alarms - gone
    clips: int
    pairs: int

    @property
    def objects(self) -> int:
        """How many objects there are of the group."""
        return round(sum(self.counts[kind] for kind in KINDS[:4]))


def tallies(found: Sequence[Changes], dataset: Dataset) -> list[Tally]:
    """Changes counted over all objects, each class and each size class, with intervals over clips and, for several pairs, seeds.

    Each interval is for its row alone: of twenty rows without a difference, one may well show some.
    """
    if not found:
        raise ValueError("no changes to count: name at least one pair of models")
    split = same_split(*(seen.after for seen in found))
    whole = (0.0, math.inf)
    groups = [("all", "all", None, whole), *((name, "class", label, whole) for label, name in enumerate(split.categories, 1)),
              *((name, "size", None, area) for name, area in dataset.size_names.items())]
    clips = len(split.clips)
    weights = clip_weights(split) if clips >= FEWEST_CLIPS else np.ones((1, len(split)))
    weights *= clips / max(clips - 1, 1)  # a resample draws one clip less
    result = []
    for name, kind, label, area in groups:
        counts = np.stack([_per_frame(seen, label, area) for seen in found]).astype(float)  # (S, KINDS, frames)
        nets = [counts[:, KINDS.index(more)] - counts[:, KINDS.index(less)] for more, less in (("gained", "lost"), ("new false alarms", "gone"))]
        net, net_false = (interval(net.sum(axis=1), weights @ net.mean(axis=0), clips) for net in nets)
        result.append(Tally(name, kind, dict(zip(KINDS, counts.sum(axis=2).mean(axis=0).tolist(), strict=True)), net, net_false, clips, len(found)))
    return result


def _per_frame(seen: Changes, label: int | None, area: tuple[float, float]) -> np.ndarray:
    """How many of each kind lie on each frame, (KINDS, frames), of one class (None is all) and a half-open range of areas, px^2."""
    table, parts = seen.split.boxes, []
    objects = table["frame"].to_numpy(int), table["label"].to_numpy(), table["area"].to_numpy()
    for rows in (seen.both, seen.gained, seen.lost, seen.neither):
        parts.append([column[rows] for column in objects])
    for model, rows in ((seen.after, seen.new), (seen.before, seen.gone)):
        found = model.detections.rows(rows)
        parts.append([found.frame, found.label, np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)])
    return np.stack([np.bincount(frame[((labels == label) if label else True) & (areas >= area[0]) & (areas < area[1])], minlength=len(seen.split))
                     for frame, labels, areas in parts])


def amount(value: float, sign: bool = True) -> str:
    """A number of objects with its sign, whole from ten on and where it is whole."""
    value = round(float(value), 1) + 0.0
    text = f"{value:+,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:+.1f}"
    return text if sign else text.lstrip("+")


def said(net: tuple[float, float, float], tally: Tally, more: str, fewer: str) -> str:
    """A net with its interval and what that allows to say: `+12 [-3, +27]: no measurable difference`."""
    value, low, high = net
    if tally.clips < FEWEST_CLIPS:
        return f"{amount(value)}: one clip gives no interval"
    verdict = "no measurable difference" if low <= 0 <= high else (more if low > 0 else fewer) + (" by this training" if tally.pairs == 1 else "")
    return f"{amount(value)} [{amount(low)}, {amount(high)}]: {verdict}"


def changes_table(found: Sequence[Changes], dataset: Dataset) -> pd.DataFrame:
    """Gained and lost as a table of text, for all objects, each class and each size; sizes of false alarms are those of their boxes."""
    names, rows = [], []
    for tally in tallies(found, dataset):
        number = {kind: amount(value, sign=False) for kind, value in tally.counts.items()}
        net = said(tally.net, tally, "more found", "fewer found") if tally.objects else "no objects"
        names.append(tally.name)
        rows.append({"objects": f"{tally.objects:,}", **{kind: number[kind] for kind in KINDS[:4]}, "gained - lost": net,
                     **{kind: number[kind] for kind in KINDS[4:]},
                     "new - gone": said(tally.net_false, tally, "more false alarms", "fewer false alarms")})
    return pd.DataFrame(rows, index=pd.Index(names, name=headline(found)))


def called(found: Sequence[Changes]) -> tuple[str, str]:
    """What the two models are called; the same row is told apart by its seeds."""
    first, second = found[0].names
    if first != second or not found[0].seeds:
        return first, second
    one, other = (f"{first} (seed{'' if len(found) == 1 else 's'} {', '.join(map(str, seeds))})"
                  for seeds in zip(*(seen.seeds for seen in found if seen.seeds), strict=True))
    return one, other


def headline(found: Sequence[Changes]) -> str:
    """What is compared at which scores: `adam (score at least 0.31) to fpn (0.27), seed 0`; of several trainings the range of scores."""
    scores = [sorted({f"{model.score_min:.2f}" for model in models}) for models in zip(*((seen.before, seen.after) for seen in found), strict=True)]
    first, second = (low[0] if low[0] == low[-1] else f"{low[0]} to {low[-1]}" for low in scores)
    seeds = [str(a) if a == b else f"{a} and {b}" for seen in found if seen.seeds for a, b in [seen.seeds]]
    end = f", seed{'s' if len(seeds) > 1 or ' ' in seeds[0] else ''} {', '.join(seeds)}" if seeds else ""
    return f"{found[0].names[0]} (score at least {first}) to {found[0].names[1]} ({second}){end}"
