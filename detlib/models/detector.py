"""The detector, put together from its visible parts."""
import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ..anchors import AnchorSpec
from ..boxes import clip
from ..coverage import match_local
from ..experiments import Experiment
from ..matching import decode, targets
from .backbones import Backbone, MobileNetV2, ResNet, SmallCNN
from .fpn import FPN
from .heads import Head
from .losses import by_class, detection_loss

SCORE_MIN = 0.05  # the report's inference settings: least score, IoU of NMS, boxes an image
NMS_IOU = 0.5
MAX_BOXES = 200
CANDIDATES = 1000  # highest-scoring anchors of an image that go into NMS, as in torchvision's RetinaNet (there: a level)


class Detector(nn.Module):
    """Backbone, neck (may be the identity), head and anchors: images to class scores and box offsets of every anchor."""

    mean: Tensor  # (C, 1, 1), of the data in 0..255
    std: Tensor

    def __init__(self, backbone: Backbone, neck: nn.Module, head: Head, anchors: AnchorSpec, mean: Tensor, std: Tensor):
        super().__init__()
        self.backbone, self.neck, self.head, self.anchors = backbone, neck, head, anchors
        self.register_buffer("mean", mean.view(-1, 1, 1).float())
        self.register_buffer("std", std.view(-1, 1, 1).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) uint8, sides multiples of the largest stride, -> logits (N, R, K+1) and deltas (N, R, 4)."""
        x = (images.float() - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        return self.head(self.neck(self.backbone(x)))

    def loss(self, logits: Tensor, deltas: Tensor, boxes: list[Tensor], labels: list[Tensor], image_hw: tuple[int, int],
             kind: str, count: Callable[[Tensor], Tensor] = lambda number: number) -> dict[str, Tensor]:
        """Losses 'classes' and 'boxes' of a batch; boxes (M, 4) xyxy px and labels (M,) of each image; `count` as in `detection_loss`."""
        positives = match_local(self.anchors, boxes, image_hw) if logits.device.type == "cpu" else None  # the same, and faster there
        classes, encoded = targets(self.grid(image_hw, logits.device), boxes, labels, positives)
        return detection_loss(logits, deltas, classes, encoded, kind, count)

    def grid(self, image_hw: tuple[int, int], device: torch.device) -> Tensor:
        """The anchors on an image, (R, 4) cxcywh px; made once for each size."""
        return _grid(self.anchors, image_hw, device)

    @torch.no_grad()
    def detect(self, logits: Tensor, deltas: Tensor, image_hw: tuple[int, int], score_min: float = SCORE_MIN) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Boxes (D, 4) xyxy px, labels (D,) and scores (D,) of each image, highest score first: softmax, best class of each anchor, NMS a class."""
        anchors = self.grid(image_hw, logits.device)
        least = math.log(score_min / (1 - score_min)) if 0 < score_min < 1 else -math.inf
        rows = logits.transpose(1, 2).contiguous()  # as in `by_class`
        possible = rows[:, 1:].amax(1) - rows[:, 0] >= least - 0.1  # below, background alone leaves less; 0.1 is more than bfloat16 rounds
        found = []
        for values, delta, here in zip(logits, deltas, possible, strict=True):
            (index,) = torch.where(here)
            score, label = by_class(values[index]).softmax(0)[1:].max(0)
            score, order = score.topk(min(CANDIDATES, len(score)))
            order = order[score > score_min]
            score, label, index = score[: len(order)], label[order] + 1, index[order]
            boxes = clip(decode(delta[index].float(), anchors[index]), image_hw)
            keep = batched_nms(boxes, score, label, NMS_IOU)[:MAX_BOXES]
            found.append((boxes[keep], label[keep], score[keep]))
        return found


@lru_cache(maxsize=8)
def _grid(anchors: AnchorSpec, image_hw: tuple[int, int], device: torch.device) -> Tensor:
    return anchors.grid(image_hw).to(device)


def build(experiment: Experiment, anchors: AnchorSpec, num_classes: int, mean: Tensor, std: Tensor) -> Detector:
    """The model of an experiment, from random weights; `mean` and `std` (C,) are those of the data in 0..255."""
    profile = experiment.sizes
    if experiment.backbone == "small":
        backbone: Backbone = SmallCNN(len(mean), profile.width)
    elif experiment.backbone == "mobilenet":
        backbone = MobileNetV2(profile.extra_channels)
    else:
        backbone = ResNet(profile.resnet, profile.extra_channels, profile.resnet_blocks)
    neck = FPN(backbone.out_channels, profile.fpn_channels) if experiment.neck == "fpn" else _Identity(backbone.out_channels)
    head = Head(neck.out_channels, anchors.per_cell, num_classes, experiment.head_depth, experiment.prior)
    return Detector(backbone, neck, head, anchors, mean, std).to(memory_format=torch.channels_last)


class _Identity(nn.Identity):
    """No neck: the backbone's maps as they are."""

    def __init__(self, out_channels: tuple[int, ...]):
        super().__init__()
        self.out_channels = out_channels


def trainable_parameters(model: nn.Module) -> int:
    """Number of parameters that the optimiser changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
