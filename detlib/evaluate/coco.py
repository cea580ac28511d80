"""COCO's detection metrics (Lin et al. 2014), from matches that are computed once and can be weighted by frame."""
import contextlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..data.coco import Dataset, Split
from ..files import Unwritable, write_atomic
from ..runs import Run

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # IoU
LEAST = np.minimum(THRESHOLDS, 1 - 1e-10)  # what passes them in pycocotools
PAIRS = 2_000_000  # looked at at a time
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100  # of a class on a frame
ARRAYS = ("frame", "label", "score", "boxes")  # of Detections


@dataclass(frozen=True)
class Detections:
    """What a model found on the frames of a split; D rows, in any order."""

    frame: np.ndarray  # (D,) index into split.frames
    label: np.ndarray  # (D,) 1..K
    score: np.ndarray  # (D,)
    boxes: np.ndarray  # (D, 4) xyxy px

    @classmethod
    def collect(cls, found: Sequence[tuple]) -> "Detections":
        """From one (boxes, labels, scores) of tensors for each frame, in the frames' order."""
        return cls(np.repeat(np.arange(len(found)), [len(scores) for _, _, scores in found]).astype(np.int64),
                   np.concatenate([labels.cpu().numpy() for _, labels, _ in found] or [np.zeros(0)]).astype(np.int64),
                   np.concatenate([scores.cpu().numpy() for _, _, scores in found] or [np.zeros(0)]).astype(np.float64),
                   np.concatenate([boxes.cpu().numpy() for boxes, _, _ in found] or [np.zeros((0, 4))]).astype(np.float64).reshape(-1, 4))

    @classmethod
    def from_coco(cls, results: Sequence[dict], split: Split) -> "Detections":
        """From COCO's results form, with labels as category ids."""
        place = {frame.image_id: i for i, frame in enumerate(split.frames)}
        xywh = np.array([r["bbox"] for r in results], float).reshape(-1, 4)
        return cls(np.array([place[r["image_id"]] for r in results], int), np.array([r["category_id"] for r in results], int),
                   np.array([r["score"] for r in results], float), np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]))

    def of_frame(self, index: int, score_min: float = 0.0) -> "Detections":
        """Those of one frame with at least this score, best first."""
        rows = np.flatnonzero((self.frame == index) & (self.score >= score_min))
        return self.rows(rows[np.argsort(-self.score[rows], kind="stable")])

    def rows(self, rows: np.ndarray) -> "Detections":
        """Those of these places (or of a mask), in this order."""
        return Detections(self.frame[rows], self.label[rows], self.score[rows], self.boxes[rows])

    def to_coco(self, split: Split, category_ids: Sequence[int] | None = None) -> list[dict]:
        """COCO's results form; category ids are the labels unless named."""
        ids = category_ids or range(1, len(split.categories) + 1)
        return [{"image_id": split.frames[f].image_id, "category_id": ids[label - 1], "bbox": [x1, y1, x2 - x1, y2 - y1], "score": s}
                for f, label, s, (x1, y1, x2, y2) in
                zip(self.frame.tolist(), self.label.tolist(), self.score.tolist(), self.boxes.tolist(), strict=True)]


def kept_detections(run: Run, dataset: Dataset) -> Detections:
    """What a finished run found on the validation split, as it was kept; raises ValueError where that split is another now.

    Reading 60,000 of them as json takes a quarter of a second, so they are kept as arrays beside it, which are used while the json is the same.
    """
    split = dataset["val"]
    if run.config["data"]["val"] != split.fingerprint:
        raise ValueError(f"{run.folder} was validated on other boxes than {split.name} of {dataset.key} has: open the data it was trained on")
    path, mark = run.folder / "detections.npz", []
    with contextlib.suppress(OSError):
        state = (run.folder / "detections.json").stat()
        mark = [state.st_size, state.st_mtime_ns]
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path, allow_pickle=False) as kept:
        if kept["of"].tolist() == mark:
            return Detections(*(kept[name] for name in ARRAYS))
    found = Detections.from_coco(run.detections(), split)
    np.savez(file := io.BytesIO(), of=mark, **{name: getattr(found, name) for name in ARRAYS})
    with contextlib.suppress(Unwritable):  # then it is made again the next time
        write_atomic(path, file.getvalue())
    return found


@dataclass(frozen=True)
class ClassMatches:
    """One class's detections, best score first, against its objects; A size ranges (the first is all), T IoU thresholds, D detections."""

    frame: np.ndarray  # (D,)
    score: np.ndarray  # (D,)
    rank: np.ndarray  # (D,) place among the frame's detections of the class, from 0
    hit: np.ndarray  # (A, T, D) matched to an object
    ignored: np.ndarray  # (A, T, D) counts neither for nor against
    objects: np.ndarray  # (A, frames) number of objects that count


def match_detections(detections: Detections, split: Split, areas: dict[str, tuple[float, float]]) -> list[ClassMatches]:
    """Match as pycocotools does: by class and frame, best score first, each to the free object of highest IoU; one entry a class.

    All frames, size ranges and thresholds take their turns together: first every frame's best detection, then every frame's second.
    """
    ranges = np.array([(0.0, np.inf), *areas.values()])
    columns = split.boxes[["frame", "label", "area", "crowd", "x1", "y1", "width", "height"]].to_numpy(np.float64)
    xywh = np.column_stack([detections.boxes[:, :2], detections.boxes[:, 2:] - detections.boxes[:, :2]])
    result = []
    for label in range(1, len(split.categories) + 1):
        objects, found = columns[columns[:, 1] == label], np.flatnonzero(detections.label == label)
        found = found[np.lexsort((-detections.score[found], detections.frame[found]))]
        frame = detections.frame[found]
        rank = np.arange(len(found)) - np.searchsorted(frame, frame)
        found, frame, rank = (values[rank < MAX_DETECTIONS] for values in (found, frame, rank))
        crowd, low, high = objects[:, 3] > 0, ranges[:, :1], ranges[:, 1:]
        ignore = crowd | (objects[:, 2] < low) | (objects[:, 2] > high)  # (A, G)
        hit, ignored = _match(*_overlaps(xywh[found], frame, objects), frame, ignore, crowd)
        area = xywh[found, 2] * xywh[found, 3]
        ignored |= ~hit & ((area < low) | (area > high))[:, None]
        counts = np.stack([np.bincount(objects[~of_range, 0].astype(int), minlength=len(split)) for of_range in ignore])
        order = np.argsort(-detections.score[found], kind="stable")
        result.append(ClassMatches(frame[order], detections.score[found][order], rank[order], hit.take(order, -1), ignored.take(order, -1), counts))
    return result


def _overlaps(xywh: np.ndarray, frame: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of detection and object on the same frame that the lowest threshold lets pass: their places (P,), (P,) and IoU (P,).

    As in pycocotools, the union with a crowd is the detection alone. `xywh` (D, 4) with `frame` (D,), ascending; `objects` as in `match_detections`.
    """
    first, last = (np.searchsorted(objects[:, 0], frame, side) for side in ("left", "right"))
    number, parts = last - first, []
    for rows in np.array_split(np.arange(len(frame)), 1 + int(number.sum()) // PAIRS):
        det = np.repeat(rows, number[rows])
        obj = first[det] + np.arange(len(det)) - np.repeat(np.cumsum(number[rows]) - number[rows], number[rows])
        d, g = xywh[det].T, objects[obj, 4:].T
        shared = np.minimum(d[:2] + d[2:], g[:2] + g[2:]) - np.maximum(d[:2], g[:2])
        inter = shared.clip(min=0).prod(axis=0)
        union = np.where(objects[obj, 3] > 0, d[2] * d[3], d[2] * d[3] + g[2] * g[3] - inter)
        overlap = np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)
        near = overlap >= LEAST[0]
        parts.append((det[near], obj[near], overlap[near]))
    det, obj, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return det, obj, overlap


def _match(det: np.ndarray, obj: np.ndarray, overlap: np.ndarray, frame: np.ndarray, ignore: np.ndarray,
           crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hits and ignored flags (A, T, D) from the pairs (P,) of `_overlaps`; D detections with `frame` (D,), `ignore` (A, G) and `crowd` (G,).

    An object that counts goes before one that is ignored; of equal IoUs the later object has it.
    """
    hit, ignored = np.zeros((2, len(ignore), len(THRESHOLDS), len(frame)), bool)
    taken = np.zeros((len(ignore), len(THRESHOLDS), len(crowd)), bool)
    near, first, number = np.unique(det, return_index=True, return_counts=True)
    turn = np.arange(len(near)) - np.searchsorted(frame[near], frame[near])
    for k in range(turn.max(initial=-1) + 1):
        mine = np.flatnonzero(turn == k)  # at most one detection a frame: they share no object
        column = np.arange(number[mine].max())
        real = column < number[mine, None]
        place = np.where(real, first[mine, None] + column, 0)
        objects, iou = obj[place], np.where(real, overlap[place], -1.0)  # (N, C)
        free = (~taken[:, :, objects] | crowd[objects]) & (iou >= LEAST[:, None, None])  # (A, T, N, C)
        counts = ~ignore[:, None, objects]
        value = np.where(free & counts, iou, -1.0)
        value = np.where((value < 0).all(axis=-1, keepdims=True) & free, iou, value)
        best = value.shape[-1] - 1 - value[..., ::-1].argmax(axis=-1)
        a, t, n = np.nonzero(value.max(axis=-1) >= 0)
        chosen = objects[n, best[a, t, n]]
        taken[a, t, chosen] = hit[a, t, near[mine[n]]] = True
        ignored[a, t, near[mine[n]]] = ignore[a, chosen]
    return hit, ignored


def precision_at_recalls(matches: ClassMatches, size: int = 0, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Interpolated precision (T, 101) and the highest recall (T,) of one class; None when it has no objects.

    `size` is the index of the size range; `weights` (frames,) says how often each frame counts (a bootstrap resample). Precision has its peaks
    at the hits, so these alone are looked at.
    """
    total, weight = _total(matches, size, weights), np.ones(len(matches.frame)) if weights is None else weights[matches.frame]
    if total == 0:
        return None
    result, highest = np.zeros((len(THRESHOLDS), len(RECALLS))), np.zeros(len(THRESHOLDS))
    every = np.cumsum(weight)
    for t, (hit, ignored) in enumerate(zip(matches.hit[size], matches.ignored[size], strict=True)):
        places = np.flatnonzero(hit & ~ignored)
        if not len(places):
            continue
        seen = np.cumsum(weight * ~ignored) if ignored.any() else every
        hits = np.cumsum(weight[places])
        envelope = np.maximum.accumulate((hits / (seen[places] + np.spacing(1)))[::-1])[::-1]
        place = np.searchsorted(hits / total, RECALLS, side="left")
        inside = place < len(places)
        result[t, inside] = envelope[place[inside]]
        highest[t] = hits[-1] / total
    return result, highest


def _total(matches: ClassMatches, size: int, weights: np.ndarray | None) -> float:
    """How many objects of a class count."""
    return (matches.objects[size] if weights is None else matches.objects[size] * weights).sum()


def recall_of_first(matches: ClassMatches, most: int, weights: np.ndarray | None = None) -> float | None:
    """Mean recall over the thresholds with at most so many detections of a class on a frame; None when it has no objects."""
    total, first = _total(matches, 0, weights), matches.rank < most
    if total == 0:
        return None
    hits = (matches.hit[0] & ~matches.ignored[0])[:, first]
    return float((hits if weights is None else hits * weights[matches.frame[first]]).sum(axis=1).mean() / total)


def metrics(matches: list[ClassMatches], categories: Sequence[str], areas: dict[str, tuple[float, float]], weights: np.ndarray | None = None) -> dict:
    """mAP, AP50, AP75, AP of each size (its pixel limits in the name), recalls, and AP of each class; None where there are no objects."""
    def mean(values: list) -> float | None:
        return float(np.mean(kept)) if (kept := [value for value in values if value is not None]) else None

    curves = [{name: precision_at_recalls(m, size, weights) for name, m in zip(categories, matches, strict=True)} for size in range(1 + len(areas))]
    every, sizes = curves[0], dict(zip(areas, curves[1:], strict=True))
    present = [c for c in every.values() if c is not None]
    result = {
        "mAP": mean([p.mean() for p, _ in present]), "AP50": mean([p[0].mean() for p, _ in present]), "AP75": mean([p[5].mean() for p, _ in present]),
        "classes_with_objects": len(present), "classes": len(categories),
        "per_class": {name: None if c is None else float(c[0].mean()) for name, c in every.items()},
        "per_class_AP50": {name: None if c is None else float(c[0][0].mean()) for name, c in every.items()},
        "objects": {name: int(m.objects[0].sum()) for name, m in zip(categories, matches, strict=True)},
    }
    result |= {f"AP {name}": mean([c and c[0].mean() for c in found.values()]) for name, found in sizes.items()}
    result |= {f"recall, {most} a class and frame": mean([recall_of_first(m, most, weights) for m in matches]) for most in (1, 10, MAX_DETECTIONS)}
    return result | {f"recall {name}": mean([c and c[1].mean() for c in found.values()]) for name, found in sizes.items()}


def evaluate(detections: Detections, split: Split, dataset: Dataset) -> dict:
    """All metrics of one model's detections on one split; see `metrics`."""
    return metrics(match_detections(detections, split, dataset.size_names), split.categories, dataset.size_names)


def frame_recall(detections: Detections, split: Split, score_min: float) -> np.ndarray:
    """The share of each frame's objects that are found (right class, IoU at least 0.5, this score), (frames,); NaN where there are none."""
    matches = match_detections(detections, split, {})
    found, objects = np.zeros(len(split)), sum(m.objects[0] for m in matches)
    for m in matches:
        np.add.at(found, m.frame, m.hit[0, 0] & ~m.ignored[0, 0] & (m.score >= score_min))
    return np.divide(found, objects, out=np.full(len(split), np.nan), where=objects > 0)


def found_above(detections: Mapping[str, Detections], split: Split, scores: Sequence[float] = (0.05, 0.25, 0.5, 0.75)) -> pd.DataFrame:
    """How eager models are: detections per frame above each score, and how many of 100 hit an object (right class, IoU at least 0.5)."""
    rows: dict[str, dict[str, str]] = {}
    for name, found in detections.items():
        matches = match_detections(found, split, {})
        score = np.concatenate([m.score for m in matches])
        hit = np.concatenate([m.hit[0, 0] & ~m.ignored[0, 0] for m in matches])
        rows[name] = {f"score above {least:g}": "none" if not (above := score > least).any() else
                      f"{above.sum() / max(len(split), 1):.1f}, {100 * hit[above].mean():.0f} of 100 right" for least in scores}
    return pd.DataFrame(rows).T


def table(results: dict) -> pd.DataFrame:
    """Metrics as a table to show: one row each, "no objects" where there are none, the number of classes in the mean beside mAP."""
    rows = {f"mAP (mean over {results['classes_with_objects']} of {results['classes']} classes)": results["mAP"]}
    rows |= {k: v for k, v in results.items() if k.startswith(("AP", "recall"))}
    rows |= {f"AP {name} ({results['objects'][name]} objects)": v for name, v in results["per_class"].items()}
    return pd.DataFrame({"value": ["no objects" if v is None else f"{v:.3f}" for v in rows.values()]}, index=list(rows))
