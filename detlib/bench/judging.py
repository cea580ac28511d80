"""Metrics against pycocotools, and what finding boxes adds to a network's forward pass."""
import time
from collections.abc import Sequence

import numpy as np
import torch

from .. import machine
from ..boxes import hw_of
from ..data.coco import Dataset
from ..data.loader import TrainBatches, channel_statistics
from ..evaluate.coco import Detections, evaluate
from ..evaluate.crosscheck import as_coco, judged, pycocotools_metrics
from ..experiments import rung
from ..models.detector import build
from ..predict import autocast
from ..runs import anchor_set
from ..train import gradient_, make_optimizer
from .turns import Measured, in_turn, ratio, streets

FRAMES, DETECTIONS = 300, 200  # judged: so many frames, and detections on each
STEPS = 60  # of training, so that a network finds something
IMAGES = 4


def _found(dataset: Dataset, seed: int = 0) -> Detections:
    """Random detections: half of them around objects, with errors of all sizes."""
    split, rng = dataset["val"], np.random.default_rng(seed)
    height, width = split.image_hw
    frames, labels, boxes = [], [], []
    for frame in range(FRAMES):
        truth, classes = (part.numpy() for part in split.targets(frame))
        near = rng.integers(len(truth), size=DETECTIONS // 2 if len(truth) else 0)
        sides = truth[near, 2:] - truth[near, :2]
        moved, scaled = rng.normal(0, 0.15, (2, *sides.shape))
        around = np.concatenate([truth[near, :2] + moved * sides, sides * np.exp(scaled)], axis=1)
        size = np.exp(rng.uniform(1.5, 4, (DETECTIONS - len(near), 2)))
        away = np.concatenate([rng.uniform(0, 1, size.shape) * [width, height], size], axis=1)
        frames.append(np.full(DETECTIONS, frame))
        labels += [classes[near], rng.integers(1, 1 + len(split.categories), len(away))]
        boxes += [around, away]
    xywh = np.concatenate(boxes)
    corners = np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
    return Detections(np.concatenate(frames), np.concatenate(labels).astype(int), rng.random(len(xywh)), corners)


def _judged_by(rounds: int, per_class: bool) -> Measured:
    """All metrics of the same detections by both, which have to agree."""
    data = streets()
    split = data["val"].subset(list(range(FRAMES)))
    found = _found(data)
    truth, results = as_coco(split), found.to_coco(split)
    theirs: list[Sequence] = []

    def pycocotools() -> None:
        theirs[:] = ([judged(truth, results, data.size_limits, [label]).stats.tolist() for label in range(1, 1 + len(split.categories))] if per_class
                     else pycocotools_metrics(truth, results, data.size_limits))

    ours = evaluate(found, split, data)
    seconds = in_turn({"pycocotools": pycocotools, "ours": lambda: evaluate(found, split, data)}, rounds, warm=0)
    named = [v for k, v in ours.items() if k.startswith(("mAP", "AP", "recall"))]
    pairs = (zip(ours["per_class"].values(), (stats[0] for stats in theirs), strict=True) if per_class else zip(named, theirs[0], strict=True))
    apart = max(abs((-1 if a is None else a) - b) for a, b in pairs)
    if apart > 1e-9:
        raise AssertionError(f"the two do not agree: {apart:g}")
    said = f"{FRAMES} frames of {DETECTIONS} detections, {len(split.categories)} classes; largest difference {apart:.0e}"
    return ratio(seconds, "pycocotools", "ours", said=said)


def per_class(rounds: int) -> Measured:
    """The report's way: pycocotools once for each class."""
    return _judged_by(rounds, per_class=True)


def once(rounds: int) -> Measured:
    """Pycocotools for all classes at once."""
    return _judged_by(rounds, per_class=False)


def finding(rounds: int) -> Measured:
    """Decoding and NMS of a batch as a share of its forward pass, in %: the fpn row of the laptop profile after a short training."""
    data, experiment = streets(), rung("fpn", "laptop")
    spec, precision = anchor_set(experiment, data), machine.precision_here(torch.device("cpu"))
    torch.manual_seed(0)
    model = build(experiment, spec, len(data.categories), *channel_statistics(data["train"], most=8)).train()
    optimizer, batches = make_optimizer(model, experiment), TrainBatches(data["train"], experiment, spec.strides[-1])
    for step in range(STEPS):
        gradient_(model, batches[step], experiment.loss, precision)
        optimizer.step()
    model.eval()
    images = torch.stack([data["train"].image(index) for index in data["train"].spread(IMAGES)])
    shares, number = [], 0
    with torch.inference_mode():
        for k in range(rounds + 2):
            start = time.perf_counter()
            with autocast(torch.device("cpu"), precision):
                logits, deltas = model(images)
            middle = time.perf_counter()
            number = sum(len(scores) for _, _, scores in model.detect(logits, deltas, hw_of(images)))
            if k >= 2:
                shares.append(100 * (time.perf_counter() - middle) / (middle - start))
    return Measured(shares, {}, f"{IMAGES} panoramas at once, in {precision}; {number / IMAGES:.0f} boxes found on each after {STEPS} steps")
