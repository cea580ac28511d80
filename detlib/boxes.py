"""Box algebra on (M, 4) tensors, pixels of the network input: xyxy inside; xywh and cxcywh exist only where they are named."""
import torch
from torch import Tensor
from torchvision.ops import box_iou as iou  # (M, 4), (N, 4) xyxy -> (M, N)

__all__ = ["area", "clip", "cxcywh_to_xyxy", "flip", "iou", "xywh_to_xyxy", "xyxy_to_cxcywh", "xyxy_to_xywh"]


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """COCO's corner and size to two corners, (..., 4)."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([x, y, x + w, y + h], -1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Two corners to COCO's corner and size, (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1, y1, x2 - x1, y2 - y1], -1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size to two corners, (..., 4)."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Two corners to centre and size, (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1)


def area(boxes: Tensor) -> Tensor:
    """Area in px^2 of xyxy boxes, (...,)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def hw_of(images: Tensor) -> tuple[int, int]:
    """Height and width of an image or of a batch, (..., H, W)."""
    height, width = images.shape[-2:]
    return height, width


def clip(boxes: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Cut xyxy boxes at the image's edges; a box outside becomes empty, not inverted."""
    height, width = image_hw
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], -1)


def flip(boxes: Tensor, width: float) -> Tensor:
    """Mirror xyxy boxes left to right in an image `width` px wide."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], -1)
