"""From an exported detector's raw outputs to boxes, with numpy alone: this file stands by itself and is copied beside an exported model.

N pictures, R anchors in the order (level, row, column, anchor), K classes without background. Boxes are pixels from the top left corner.
"""
import json
from pathlib import Path

import numpy as np

LARGEST = 10  # a side is at most e^10 times its anchor's, which no picture reaches, so that nothing overflows


def load(path: str | Path) -> dict:
    """What `detector.json` says: classes, strides and anchors in px, variances, thresholds, and where the model comes from."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def prepare(picture: np.ndarray, detector: dict) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB as the network's input (1, 3, H', W'): zeros below and to the right, up to multiples of the coarsest stride."""
    height, width, channels = picture.shape
    cell = detector["strides"][-1]
    batch = np.zeros((1, channels, -(-height // cell) * cell, -(-width // cell) * cell), np.uint8)
    batch[0, :, :height, :width] = picture.transpose(2, 0, 1)
    return batch


def grid(image_hw: tuple[int, int], detector: dict) -> np.ndarray:
    """All anchors on the network's input, (R, 4) centre, width and height in px; sizes are clamped to the input's."""
    height, width = image_hw
    levels = []
    for stride, shapes in zip(detector["strides"], detector["anchors"], strict=True):
        rows, columns = height // stride, width // stride
        level = np.empty((rows, columns, len(shapes), 4), np.float32)
        level[..., 0] = (np.arange(columns, dtype=np.float32)[:, None] + 0.5) * stride
        level[..., 1] = (np.arange(rows, dtype=np.float32)[:, None, None] + 0.5) * stride
        level[..., 2:] = np.minimum(np.asarray(shapes, np.float32), np.asarray([width, height], np.float32))
        levels.append(level.reshape(-1, 4))
    return np.concatenate(levels)


def decode(deltas: np.ndarray, anchors: np.ndarray, variances: tuple[float, float]) -> np.ndarray:
    """Offsets (D, 4) from anchors (D, 4) to boxes (D, 4) x1, y1, x2, y2: SSD's encoding (Liu et al. 2016, eq. 2)."""
    centre, size = variances
    xy = anchors[:, :2] + deltas[:, :2] * centre * anchors[:, 2:]
    wh = anchors[:, 2:] * np.exp(np.minimum(deltas[:, 2:] * size, LARGEST))
    return np.concatenate([xy - wh / 2, xy + wh / 2], axis=1)


def clip(boxes: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Cut boxes (D, 4) at a picture's edges."""
    height, width = image_hw
    return np.clip(boxes, 0, np.asarray([width, height, width, height], boxes.dtype))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def suppress(boxes: np.ndarray, limit: float) -> np.ndarray:
    """Non-maximum suppression: of boxes (D, 4), best first, the places of those whose IoU with every kept better one is at most `limit`."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, kept = np.arange(len(boxes)), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
        common = np.maximum(sides, 0).prod(axis=1)
        left = left[common <= limit * (area[best] + area[left] - common)]
    return np.asarray(kept, int)


def detect(logits: np.ndarray, deltas: np.ndarray, image_hw: tuple[int, int], detector: dict,
           picture_hw: tuple[int, int] | None = None) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Boxes (D, 4), labels (D,) from 1 on (0 is background) and scores (D,) of each picture, best first.

    `logits` (N, R, K+1) and `deltas` (N, R, 4) belong to an input of `image_hw`; with `picture_hw` boxes end at the picture, and those in its
    padding are left out.
    """
    anchors, found = grid(image_hw, detector), []
    for scores, offsets in zip(softmax(logits)[..., 1:], deltas, strict=True):  # (R, K), (R, 4)
        label, score = scores.argmax(axis=1), scores.max(axis=1)
        order = np.argsort(-score, kind="stable")[: detector["candidates"]]
        order = order[score[order] > detector["score_min"]]
        boxes = clip(decode(offsets[order], anchors[order], detector["variances"]), image_hw)
        kept = [mine[suppress(boxes[mine], detector["nms_iou"])] for k in np.unique(label[order]) if len(mine := np.flatnonzero(label[order] == k))]
        places = np.sort(np.concatenate(kept))[: detector["max_boxes"]] if kept else np.zeros(0, int)
        boxes, label, score = clip(boxes[places], picture_hw or image_hw), label[order][places] + 1, score[order][places]
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) if picture_hw else slice(None)
        found.append((boxes[inside], label[inside], score[inside]))
    return found
