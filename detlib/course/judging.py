"""Exercises of notebook 08: what is shown, what it is worth, and which mAP is possible at all."""
import numpy as np
import torch
from torchvision.ops import box_iou, nms

from ..evaluate.coco import THRESHOLDS, ClassMatches, precision_at_recalls
from .data import boxes_at_random
from .exercise import Case, Exercise


def _stacks() -> list[Case]:
    row = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [4, 0, 14, 10], [8, 0, 18, 10], [50, 0, 60, 10]])  # each overlaps its neighbour
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1))
    scenes = {
        "two boxes apart, the better one last": (row[[0, 4]], [0.6, 0.9], 0.5), "two boxes on one object": (row[:2], [0.7, 0.8], 0.5),
        "an IoU of exactly the threshold": (half, [0.9, 0.8], 0.5), "a chain: the first removes the second, which overlaps the "
                                                                    "third": (row[:3], [0.9, 0.8, 0.7], 0.45),
        "no boxes": (row[:0], [], 0.5), "60 boxes at random": (boxes_at_random(60, (64, 128), 7), scores, 0.3)}
    scenes = {what: (boxes, torch.as_tensor(score).float(), threshold) for what, (boxes, score, threshold) in scenes.items()}
    return [Case(what, (box_iou(args[0], args[0]), *args[1:]), known=args) for what, args in scenes.items()]


def _ap(hits: np.ndarray, objects: int) -> float:
    hit = np.broadcast_to(np.asarray(hits, bool), (1, len(THRESHOLDS), len(hits)))
    zero = np.zeros(len(hits), int)
    curve = precision_at_recalls(ClassMatches(zero, zero.astype(float), zero, hit, np.zeros_like(hit), np.array([[objects]])))
    return float(curve[0][0].mean()) if curve else np.nan


def _ranks() -> list[Case]:
    rng = np.random.default_rng(0)
    return [Case("four hits in a row for four objects", (np.array([1, 1, 1, 1]), 4)), Case("no hit", (np.array([0, 0]), 3)),
            Case("no detections", (np.zeros(0, int), 3)),
            Case("a false alarm before a hit", (np.array([0, 1]), 1)),
            Case("a dip in precision that a later hit makes good", (np.array([1, 0, 1, 1, 1]), 4)),
            Case("one hit for two objects", (np.array([1, 0]), 2)),
            Case("200 detections for 113 objects", ((rng.random(200) < np.linspace(0.9, 0.1, 200)).astype(int), 113))]


def _bounds(ap50: float, ap75: float) -> np.ndarray:
    below, from_there = (THRESHOLDS < 0.745).sum(), (THRESHOLDS > 0.745).sum()
    return np.array([ap50 + below * ap75, below * ap50 + from_there * ap75]) / len(THRESHOLDS)


def _best(scores: np.ndarray, hits: np.ndarray, objects: int) -> float:
    f1 = [2 * hits[scores >= least].sum() / ((scores >= least).sum() + objects) for least in scores]
    return float(scores[int(np.argmax(f1))])


def _shown() -> list[Case]:
    rng = np.random.default_rng(3)
    scores = rng.permutation(np.linspace(0.02, 0.97, 60).round(4))
    return [Case("two right, then three wrong", (np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 1, 0, 0, 0]), 2)),
            Case("a false alarm on top", (np.array([0.95, 0.9, 0.3, 0.2]), np.array([0, 1, 1, 0]), 3)),
            Case("scores in no order", (np.array([0.2, 0.9, 0.4, 0.6, 0.1]), np.array([0, 1, 1, 0, 0]), 2)),
            Case("seven equal scores", (np.array([0.9, 0.8, *[0.6] * 7]), np.array([1, 1, 1, 0, 0, 0, 0, 0, 1]), 4)),  # the first alone is best
            Case("60 detections for 30 objects", (scores, (rng.random(60) < scores).astype(int), 30))]


EXERCISES = (
    Exercise("nms", nms,
             ("Go through the boxes from the best score down.",
              "Keep a box if no box that was *kept* overlaps it too much; one that was removed removes nobody.",
              "`if not kept or overlap[i, kept].max() <= threshold: kept.append(i)`. An IoU of exactly the threshold stays."),
             "it is greedy, and blind to what stands behind: two persons close together are one too many for it. The threshold is a bet on how "
             "crowded streets are.",
             _stacks),
    Exercise("average-precision", _ap,
             ("Down the list, keep two counts: hits so far / detections so far is precision, hits so far / objects is recall.",
              "Interpolated precision at a recall is the best precision at that recall *or any higher one*; 0 where no detection gets so far.",
              "Average it at the 101 recalls of `np.linspace(0, 1, 101)`: for each r, `max(precision[recall >= r], default=0)`."),
             "only order counts: double all scores and AP stays. And objects that nobody finds cost as much as the recall that is never "
             "reached.", _ranks,
             tolerance=1e-3),
    Exercise("map-bounds", _bounds,
             ("mAP averages ten IoU thresholds, 0.50, 0.55, ..., 0.95. A stricter threshold never raises AP.",
              "Between 0.50 and 0.75 AP lies between the two; above 0.75 between AP75 and 0.",
              "Least: AP50 once, AP75 five times, then zeros. Most: AP50 five times, AP75 five times. Divide by ten."),
             "AP50 = .399 and AP75 = .111 leave .095 to .255. The leaderboard's .164 lies inside; the report's .898 is no mAP of this detector.",
             lambda: [Case("AP50 and AP75 both 0", (0.0, 0.0)), Case("AP50 = 1 and AP75 = 0", (1.0, 0.0)), Case("AP50 and AP75 both 0.6", (0.6, 0.6)),
                      Case("the report's leaderboard entry", (0.399, 0.111))]),
    Exercise("best-score", _best,
             ("Every score is a candidate: with it as the least one, so many detections are shown, and so many of these are hits.",
              "F1 = 2 hits / (shown + objects). Scores need not come in order, and equal ones are shown together.",
              "For each score s take `scores >= s`, compute F1, and return the s of the highest."),
             "this is the score at which section 1 shows each row. It is chosen on the frames that it is shown on, which flatters every row a "
             "little.", _shown),
)
