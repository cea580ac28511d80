"""A model's detections on a split."""
import torch
from torch import Tensor

from .boxes import clip
from .data.coco import Split
from .data.loader import Cache, in_order
from .evaluate.coco import Detections
from .models.detector import SCORE_MIN, Detector

BATCH = 4


@torch.inference_mode()
def predict(model: Detector, split: Split, precision: str, loss: str | None = None, score_min: float = SCORE_MIN,
            images: Cache | None = None) -> tuple[Detections, dict[str, float] | None]:
    """Detections on all frames of a split, and with `loss` (a kind of classification loss) the mean losses over its batches, else None."""
    was_training, device = model.training, model.mean.device
    model.eval()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    sums, frames = {}, 0
    for indices, (pictures, boxes, labels) in in_order(split, BATCH, model.anchors.strides[-1], images):
        with autocast(device, precision):
            logits, deltas = model(pictures.to(device))
        image_hw = tuple(pictures.shape[-2:])
        if loss:
            parts = model.loss(logits, deltas, [b.to(device) for b in boxes], [l.to(device) for l in labels], image_hw, loss)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(indices)
        for index, (boxes_found, *rest) in zip(indices, model.detect(logits, deltas, image_hw, score_min), strict=True):
            found.append((clip(boxes_found, split.frames[index].image_hw), *rest))  # not into the padding
        frames += len(indices)
    model.train(was_training)
    return Detections.collect(found), {name: value / max(frames, 1) for name, value in sums.items()} if loss else None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision as named: 'float32' or 'bfloat16'."""
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
