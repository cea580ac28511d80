"""Augmentations: image (C, H, W) uint8 and boxes (M, 4) xyxy px in, the same out; chance comes from the generator that is given."""
import numpy as np
import torch
from torch import Tensor

from ..boxes import area, clip
from ..boxes import flip as flip_boxes

FLIP_CHANCE = 0.3  # the report's
LEAST_SHARE = 0.4  # an object of which a crop keeps less than this is not an object of the crop

Sample = tuple[Tensor, Tensor, Tensor]  # image (C, H, W) uint8, boxes (M, 4) xyxy px, labels (M,)


def crop(sample: Sample, left: int, width: int) -> Sample:
    """Columns left .. left + width of an image; objects are cut at its edges, and dropped when less than `LEAST_SHARE` of them remains."""
    image, boxes, labels = sample
    image = image[:, :, left:left + width]
    moved = boxes - boxes.new_tensor([left, 0, left, 0])
    inside = clip(moved, image.shape[-2:])
    keep = area(inside) >= LEAST_SHARE * area(moved)
    return image, inside[keep], labels[keep]


def random_crop(sample: Sample, width: int, rng: np.random.Generator) -> Sample:
    """A crop at a random place, of the image's full height; an image that is no wider stays as it is."""
    spare = sample[0].shape[-1] - width
    return crop(sample, int(rng.integers(spare + 1)), width) if spare > 0 else sample


def flip(sample: Sample) -> Sample:
    """Left and right exchanged."""
    image, boxes, labels = sample
    return torch.flip(image, [-1]), flip_boxes(boxes, image.shape[-1]), labels


def augment(sample: Sample, kind: str, rng: np.random.Generator) -> Sample:
    """What an experiment's field `augment` names."""
    if kind == "flip" and rng.random() < FLIP_CHANCE:
        return flip(sample)
    return sample
