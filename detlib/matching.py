"""Matching anchors to objects, and the encoding of a box relative to its anchor."""
import torch
from torch import Tensor

from .boxes import cxcywh_to_xyxy, iou, xyxy_to_cxcywh

VARIANCES = (0.1, 0.2)  # centre, size: SSD's reference code (weiliu89/caffe)
THRESHOLD = 0.5  # Liu et al. 2016, sec. 2.2, "Matching strategy"


def match(anchors: Tensor, boxes: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Which object each anchor stands for: (R,) index into the M objects, or -1 for background.

    An anchor takes the object of its highest IoU when that is above `threshold`; then every object claims its best anchor, whatever the IoU.
    Where two objects claim one anchor the later one has it, so that an object can be left with none: so do the PyTorch ports that the report
    used; SSD's own code (weiliu89/caffe) gives each object an anchor of its own.
    `anchors` (R, 4) and `boxes` (M, 4) are xyxy px.
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1, dtype=torch.long, device=anchors.device)
    overlap = iou(anchors, boxes)  # (R, M)
    best, matched = overlap.max(dim=1)
    matched[best <= threshold] = -1
    claimed = overlap.argmax(dim=0)  # (M,)
    for number, anchor in enumerate(claimed.tolist()):  # in order, so that the later object wins
        matched[anchor] = number
    return matched


def targets(anchors: Tensor, boxes: list[Tensor], labels: list[Tensor], positives: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """What a batch of N images asks of every anchor: classes (N, R), 0 = background, and the encoded boxes (P, 4) of the P positives, in order.

    `anchors` (R, 4) cxcywh px; `boxes` and `labels` hold (M, 4) xyxy px and (M,) for each image. `positives`, where they are known already: which
    anchors (P,) they are, numbered n * R + r and ascending, and which objects (P,), numbered through the batch.
    """
    positive, objects = positives or _positives(cxcywh_to_xyxy(anchors), boxes)
    classes = torch.zeros(len(boxes), len(anchors), dtype=torch.long, device=anchors.device)
    classes.view(-1)[positive] = torch.cat(labels)[objects]
    return classes, encode(torch.cat(boxes)[objects], anchors[positive % len(anchors)])


def _positives(anchors: Tensor, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What `targets` takes, by `match` on each image's boxes; anchors (R, 4) xyxy px."""
    matched, before = [], 0
    for image_boxes in boxes:
        object_of = match(anchors, image_boxes)
        matched.append(torch.where(object_of < 0, object_of, object_of + before))
        before += len(image_boxes)
    objects = torch.cat(matched)
    (positive,) = torch.where(objects >= 0)
    return positive, objects[positive]


def objects_by_match(anchors: Tensor, boxes: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """How many anchors each object gets above the threshold, and in all: (M, 2); 0 and 1 is an object matched only by force, 0 and 0 got none."""
    matched, overlap = match(anchors, boxes, threshold), iou(anchors, boxes)
    mine = matched[:, None] == torch.arange(len(boxes), device=boxes.device)  # (R, M)
    return torch.stack([(mine & (overlap > threshold)).sum(0), mine.sum(0)], -1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., 4) xyxy px as offsets from their anchors (..., 4) cxcywh px: SSD eq. 2, divided by the variances."""
    cx, cy, w, h = xyxy_to_cxcywh(boxes).unbind(-1)
    ax, ay, aw, ah = anchors.unbind(-1)
    centre, size = VARIANCES
    return torch.stack([(cx - ax) / aw / centre, (cy - ay) / ah / centre, (w / aw).log() / size, (h / ah).log() / size], -1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`: offsets (..., 4) to boxes (..., 4) xyxy px."""
    dx, dy, dw, dh = deltas.unbind(-1)
    ax, ay, aw, ah = anchors.unbind(-1)
    centre, size = VARIANCES
    wh = (torch.stack([dw, dh], -1) * size).clamp(max=10).exp()  # e^10: a size that no image reaches, so that nothing overflows
    return cxcywh_to_xyxy(torch.stack([ax + dx * centre * aw, ay + dy * centre * ah, aw * wh[..., 0], ah * wh[..., 1]], -1))
