"""COCO's detection metrics (Lin et al. 2014), from matches that are computed once and can be weighted by frame."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pycocotools.mask import iou as coco_iou

from ..data.coco import Dataset, Split
from ..runs import Run

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # IoU
RECALLS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 100  # of a class on a frame
ALL = "all"


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
    """What a finished run found on the validation split, as it was kept; raises ValueError where that split is another now."""
    split = dataset["val"]
    if run.config["data"]["val"] != split.fingerprint:
        raise ValueError(f"{run.folder} was validated on other boxes than {split.name} of {dataset.key} has: open the data it was trained on")
    return Detections.from_coco(run.detections(), split)


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
    """Match as pycocotools does: by class and frame, best score first, each to the free object of highest IoU; one entry a class."""
    ranges = [(0.0, np.inf), *areas.values()]
    truth = split.boxes
    columns = truth[["frame", "label", "area", "crowd", "x1", "y1", "width", "height"]].to_numpy(np.float64)
    xywh = np.column_stack([detections.boxes[:, :2], detections.boxes[:, 2:] - detections.boxes[:, :2]])
    result = []
    for label in range(1, len(split.categories) + 1):
        objects = columns[columns[:, 1] == label]
        found = np.flatnonzero(detections.label == label)
        found = found[np.lexsort((-detections.score[found], detections.frame[found]))]
        starts = np.searchsorted(objects[:, 0], np.arange(len(split) + 1))
        edges = np.searchsorted(detections.frame[found], np.arange(len(split) + 1))
        counts, parts, rows, ranks = np.zeros((len(ranges), len(split)), int), [], [], []
        for frame in range(len(split)):
            here, gt = found[edges[frame]:edges[frame + 1]][:MAX_DETECTIONS], objects[starts[frame]:starts[frame + 1]]
            counts[:, frame] = [(~_ignored(gt, r)).sum() for r in ranges]
            if len(here):
                parts.append(_match_frame(xywh[here], gt, ranges))
                rows.append(here)
                ranks.append(np.arange(len(here)))
        rows = np.concatenate(rows) if rows else np.zeros(0, int)
        none = np.zeros((len(ranges), len(THRESHOLDS), 0), bool)
        hit, ignored = (np.concatenate([none, *(p[i] for p in parts)], -1) for i in (0, 1))
        order = np.argsort(-detections.score[rows], kind="stable")
        ranks = np.concatenate(ranks) if ranks else np.zeros(0, int)
        result.append(ClassMatches(detections.frame[rows][order], detections.score[rows][order], ranks[order],
                                   hit[..., order], ignored[..., order], counts))
    return result


def _ignored(objects: np.ndarray, area_range: tuple[float, float]) -> np.ndarray:
    return (objects[:, 3] > 0) | (objects[:, 2] < area_range[0]) | (objects[:, 2] > area_range[1])


def _match_frame(xywh: np.ndarray, gt: np.ndarray, ranges: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Hits and ignored flags (A, T, D) of one class on one frame."""
    shape = (len(ranges), len(THRESHOLDS), len(xywh))
    hit, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    overlap = coco_iou(xywh, gt[:, 4:], (gt[:, 3] > 0).astype(np.uint8)) if len(gt) else np.zeros((len(xywh), 0))
    area = xywh[:, 2] * xywh[:, 3]
    near = np.flatnonzero((overlap >= THRESHOLDS[0] - 1e-10).any(axis=1)) if len(gt) else []
    for a, area_range in enumerate(ranges):
        ignore = _ignored(gt, area_range)
        order = np.argsort(ignore, kind="stable")  # objects that count come first
        first_ignored = int((~ignore).sum())
        for t, threshold in enumerate(THRESHOLDS):
            taken = np.zeros(len(gt), bool)
            for d in near:
                best, match = min(threshold, 1 - 1e-10), -1
                for place, g in enumerate(order):
                    if taken[g] and not gt[g, 3]:
                        continue
                    if place >= first_ignored and match >= 0 and not ignore[match]:
                        break
                    if overlap[d, g] >= best:
                        best, match = overlap[d, g], g
                if match >= 0:
                    taken[match], hit[a, t, d], ignored[a, t, d] = True, True, ignore[match]
        outside = (area < area_range[0]) | (area > area_range[1])
        ignored[a] |= ~hit[a] & outside
    return hit, ignored


def precision_at_recalls(matches: ClassMatches, size: int = 0, weights: np.ndarray | None = None,
                         max_detections: int = MAX_DETECTIONS) -> tuple[np.ndarray, np.ndarray] | None:
    """Interpolated precision (T, 101) and the highest recall (T,) of one class; None when it has no objects.

    `size` is the index of the size range; `weights` (frames,) says how often each frame counts (a bootstrap resample).
    """
    per_frame = matches.objects[size] if weights is None else matches.objects[size] * weights
    total = per_frame.sum()
    if total == 0:
        return None
    keep = matches.rank < max_detections
    counted = ~matches.ignored[size][:, keep] * (1.0 if weights is None else weights[matches.frame[keep]])
    hits = np.cumsum(counted * matches.hit[size][:, keep], axis=1)  # (T, D)
    false = np.cumsum(counted * ~matches.hit[size][:, keep], axis=1)
    recall = hits / total
    precision = hits / (hits + false + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    result = np.zeros((len(THRESHOLDS), len(RECALLS)))
    for t in range(len(THRESHOLDS)):
        place = np.searchsorted(recall[t], RECALLS, side="left")
        inside = place < recall.shape[1]
        result[t, inside] = envelope[t, place[inside]]
    return result, recall[:, -1] if recall.shape[1] else np.zeros(len(THRESHOLDS))


def metrics(matches: list[ClassMatches], categories: Sequence[str], areas: dict[str, tuple[float, float]], weights: np.ndarray | None = None) -> dict:
    """mAP, AP50, AP75, AP of each size (its pixel limits in the name), recalls, and AP of each class; None where there are no objects."""
    def mean(values: list) -> float | None:
        return float(np.mean(values)) if values else None

    curves = {name: precision_at_recalls(m, 0, weights) for name, m in zip(categories, matches, strict=True)}
    present = [c for c in curves.values() if c is not None]
    result = {
        "mAP": mean([p.mean() for p, _ in present]), "AP50": mean([p[0].mean() for p, _ in present]), "AP75": mean([p[5].mean() for p, _ in present]),
        "classes_with_objects": len(present), "classes": len(categories),
        "per_class": {name: None if c is None else float(c[0].mean()) for name, c in curves.items()},
        "per_class_AP50": {name: None if c is None else float(c[0][0].mean()) for name, c in curves.items()},
        "objects": {name: int(m.objects[0].sum()) for name, m in zip(categories, matches, strict=True)},
    }
    for size, name in enumerate(areas, start=1):
        found = [c for m in matches if (c := precision_at_recalls(m, size, weights)) is not None]
        result[f"AP {name}"] = mean([p.mean() for p, _ in found])
    for most in (1, 10, MAX_DETECTIONS):
        found = [c for m in matches if (c := precision_at_recalls(m, 0, weights, most)) is not None]
        result[f"recall, {most} a class and frame"] = mean([r.mean() for _, r in found])
    for size, name in enumerate(areas, start=1):
        found = [c for m in matches if (c := precision_at_recalls(m, size, weights)) is not None]
        result[f"recall {name}"] = mean([r.mean() for _, r in found])
    return result


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
