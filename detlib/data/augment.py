"""Augmentations: image (C, H, W) uint8 and boxes (M, 4) xyxy px in, the same out; chance comes from the generator that is given."""
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..boxes import area, clip, hw_of, iou
from ..boxes import flip as flip_boxes
from .coco import Dataset, Split

FLIP_CHANCE = 0.3  # the report's
LEAST_SHARE = 0.4  # an object of which a crop keeps less than this is not an object of the crop
LEAST_PART = 2.0  # px; the seam leaves no narrower part of an object: the narrowest box that TDT4265's annotators drew is 1.9 px wide
MEASURED = ("range",)  # channels whose grey level is a quantity with a unit, by the data set's names for them

# Liu et al. 2016, sec. 2.2, "Data augmentation", and as many tries as SSD's reference code (weiliu89/caffe) makes
LEAST_SIDE, ASPECTS, LEAST_IOU, TRIES = 0.1, (0.5, 2.0), 0.1, 50
BRIGHTNESS, CONTRAST = 32.0, 0.5  # grey levels up or down, and factor 1 - 0.5 .. 1 + 0.5: SSD's reference code

Sample = tuple[Tensor, Tensor, Tensor]  # image (C, H, W) uint8, boxes (M, 4) xyxy px, labels (M,)
Augmentation = Callable[[Sample, np.random.Generator], Sample]


def window(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """A part of an image; objects are cut at its edges, and dropped when less than `LEAST_SHARE` of their area remains."""
    image, boxes, labels = sample
    image = image[:, top:top + height, left:left + width]
    moved = boxes - boxes.new_tensor([left, top, left, top])
    inside = clip(moved, hw_of(image))
    keep = area(inside) >= LEAST_SHARE * area(moved)
    return image, inside[keep], labels[keep]


def crop(sample: Sample, left: int, width: int) -> Sample:
    """Columns left .. left + width of an image, of its full height."""
    return window(sample, left, 0, width, sample[0].shape[-2])


def random_crop(sample: Sample, width: int, rng: np.random.Generator) -> Sample:
    """A crop at a random place, of the image's full height; an image that is no wider stays as it is."""
    spare = sample[0].shape[-1] - width
    return crop(sample, int(rng.integers(spare + 1)), width) if spare > 0 else sample


def flip(sample: Sample) -> Sample:
    """Left and right exchanged."""
    image, boxes, labels = sample
    return torch.flip(image, [-1]), flip_boxes(boxes, image.shape[-1]), labels


def roll(sample: Sample, shift: int) -> Sample:
    """A panorama turned by `shift` px to the right: what leaves at one edge comes in at the other. Wrong for any picture that is not a panorama.

    An object across the seam becomes two boxes, as in the data; a part under `LEAST_PART` is dropped, unless it is the wider one, so that no object
    is lost. Halves that were cut before stay two boxes: nothing says which of them belong together. Second parts stand at the end, in order.
    """
    image, boxes, labels = sample
    width = image.shape[-1]
    shift %= width
    x1, y1, x2, y2 = boxes.unbind(-1)
    start = (x1 + shift) % width
    moved = torch.stack([start, y1, start + (x2 - x1), y2], -1)
    parts = [clip(moved, hw_of(image)), clip(moved - moved.new_tensor([width, 0, width, 0]), hw_of(image))]
    first, second = (part[:, 2] - part[:, 0] for part in parts)  # (M,) widths; second is 0 where nothing is cut
    keep = torch.cat([(first >= LEAST_PART) | (first >= second), (second >= LEAST_PART) | (second > first)])
    return torch.roll(image, shift, -1), torch.cat(parts)[keep], torch.cat([labels, labels])[keep]


def random_roll(sample: Sample, rng: np.random.Generator) -> Sample:
    """A roll by any number of columns, each equally likely."""
    return roll(sample, int(rng.integers(sample[0].shape[-1])))


def shift_through_widest(sample: Sample) -> int:
    """The roll's shift that puts the seam through the middle of the widest object."""
    image, boxes, _ = sample
    x1, _, x2, _ = boxes[(boxes[:, 2] - boxes[:, 0]).argmax()].tolist()
    return image.shape[-1] - round((x1 + x2) / 2)


def sampled_window(sample: Sample, rng: np.random.Generator, least: float = LEAST_IOU) -> tuple[int, int, int, int] | None:
    """SSD's sampled patch (left, top, width, height): the first of `TRIES` whose IoU with an object that it keeps is at least `least`; or None.

    Heights are uniform from `LEAST_SIDE` of the picture's to all of it, aspects (width / height) log-uniform in `ASPECTS`, places uniform.
    """
    image, boxes, _ = sample
    chance = rng.random((TRIES, 4))  # always as many numbers, so that what comes after does not depend on the try that fits
    if not len(boxes):
        return None
    low, high = np.log(ASPECTS)
    heights = image.shape[-2] * (LEAST_SIDE + (1 - LEAST_SIDE) * chance[:, 0])
    widths = np.clip(np.round(heights * np.exp(low + (high - low) * chance[:, 1])), 1, image.shape[-1])
    heights = np.clip(np.round(heights), 1, image.shape[-2])
    lefts, tops = np.round((image.shape[-1] - widths) * chance[:, 2]), np.round((image.shape[-2] - heights) * chance[:, 3])
    patches = torch.from_numpy(np.stack([lefts, tops, lefts + widths, tops + heights], -1)).to(boxes)  # (TRIES, 4)
    overlap = iou(patches, boxes)  # (TRIES, M)
    common = overlap / (1 + overlap) * (area(patches)[:, None] + area(boxes))  # area of the intersection, px^2
    fits = ((overlap >= least) & (common >= LEAST_SHARE * area(boxes))).any(1).nonzero()
    if not len(fits):
        return None
    k = int(fits[0])
    return int(lefts[k]), int(tops[k]), int(widths[k]), int(heights[k])


def crop_min_overlap(sample: Sample, rng: np.random.Generator, least: float = LEAST_IOU) -> Sample:
    """SSD's sampled crop (Liu et al. 2016, sec. 2.2), in the pixels it has; the sample as it is when no try fits.

    SSD keeps an object whose centre is inside and scales the patch to a fixed size; here `window`'s rule decides, and the scale stays.
    """
    found = sampled_window(sample, rng, least)
    return window(sample, *found) if found else sample


def jitter(sample: Sample, rng: np.random.Generator, channels: Sequence[str] = (), brightness: float = BRIGHTNESS,
           contrast: float = CONTRAST) -> Sample:
    """Brightness and contrast of each channel changed at random, about its mean; boxes stay.

    Channels whose name in `channels` is in `MEASURED` stay as they are. Intensity and ambient light change with weather, sun and the sensor's gain,
    so another grey level is another day. A range is metres: another grey level is another world, in which sizes no longer fit distances.
    """
    image, boxes, labels = sample
    gain, offset = 1 + contrast * rng.uniform(-1, 1, len(image)), brightness * rng.uniform(-1, 1, len(image))  # one of each a channel
    changed = image.clone()
    for k, plane in enumerate(image):
        if k < len(channels) and channels[k] in MEASURED:
            continue
        grey = plane.float()
        mean = grey.mean()
        changed[k] = ((grey - mean) * gain[k] + mean + offset[k]).round().clamp(0, 255).to(torch.uint8)
    return changed, boxes, labels


def whole(sample: Sample, kind: str, rng: np.random.Generator) -> Sample:
    """What of an experiment's field `augment` needs the whole picture, before a crop is taken: the roll."""
    return random_roll(sample, rng) if kind == "flip_roll" else sample


def augment(sample: Sample, kind: str, rng: np.random.Generator) -> Sample:
    """What an experiment's field `augment` names, on what a step sees of a picture; a roll comes before, on the whole of it (`whole`)."""
    if kind in ("flip", "flip_roll") and rng.random() < FLIP_CHANCE:
        return flip(sample)
    return sample


def augmentations(dataset: Dataset) -> dict[str, Augmentation]:
    """Every augmentation that is right for a data set, by name, applied always; the crop takes half of the width, the roll is for panoramas only."""
    known: dict[str, Augmentation] = {
        "crop": lambda sample, rng: random_crop(sample, max(1, sample[0].shape[-1] // 2), rng), "flip": lambda sample, rng: flip(sample),
        "roll": random_roll, "jitter": lambda sample, rng: jitter(sample, rng, dataset.channels), "crop_min_overlap": crop_min_overlap}
    return {name: apply for name, apply in known.items() if dataset.panorama or name != "roll"}


def roll_sentence(dataset: Dataset) -> str:
    """Whether a roll is right for a data set, and what follows from it."""
    if dataset.panorama:
        return "These pictures are panoramas: a roll shows a street that the same sensor could have seen, turned on its mount."
    return ("Nothing says that these pictures are panoramas, whose first and last columns are neighbours (dataset.json would, by\n"
            "\"panorama\": true): here a roll joins what does not belong together. It is drawn once, to show the rule, and left out of\n"
            "all that follows.")


def box_statistics(split: Split, choices: Mapping[str, Augmentation], frames: int = 60, draws: int = 3, seed: int = 0) -> pd.DataFrame:
    """What each augmentation, and "none", makes of the boxes of at most `frames` frames spread over a split, `draws` times each; a row a picture.

    Columns: augmentation, frame, draw, changed (the picture is another one), and arrays over its boxes: width and height (px), x (centre, as a share
    of the picture's width), edge (touches the left or right edge). No picture is read: pictures of the same size without channels stand for them.
    """
    rows = []
    for index in split.spread(frames):
        sample = (torch.zeros(0, *split.frames[index].image_hw, dtype=torch.uint8), *split.targets(index))
        for name, apply in {"none": lambda sample, rng: sample, **choices}.items():
            rng = np.random.default_rng([seed, index])
            for draw in range(draws if name != "none" else 1):
                image, boxes, _ = apply(sample, rng)
                x1, y1, x2, y2 = boxes.double().numpy().T
                rows.append({"augmentation": name, "frame": index, "draw": draw, "changed": image is not sample[0], "width": x2 - x1,
                             "height": y2 - y1, "x": (x1 + x2) / 2 / image.shape[-1], "edge": (x1 <= 0.5) | (x2 >= image.shape[-1] - 0.5)})
    return pd.DataFrame(rows)


def paint_error(apply: Augmentation, image_hw: tuple[int, int] = (64, 256), draws: int = 20, seed: int = 0) -> float:
    """How far a box ends from the object it belongs to, px, at worst: objects of known colours are augmented and looked for again.

    They are looked for in the last channel, which `jitter` leaves alone if told that it is the range, and touch neither each other nor the seam.
    """
    height, width = image_hw
    rng, worst, count = np.random.default_rng(seed), 0.0, 8
    for _ in range(draws):
        x1 = (np.arange(count) * width / count).astype(int) + rng.integers(1, width // count // 3, count)
        y1 = rng.integers(0, height // 2, count)
        boxes = np.stack([x1, y1, x1 + rng.integers(3, width // count // 2, count), y1 + rng.integers(3, height // 2, count)], -1)
        image = np.zeros((3, height, width), np.uint8)
        for label, (left, top, right, bottom) in enumerate(boxes, start=1):
            image[:, top:bottom, left:right] = label * 30
        sample = torch.from_numpy(image), torch.from_numpy(boxes).float(), torch.arange(1, count + 1)
        picture, found, labels = apply(sample, rng)
        worst = max([worst, *(_to_paint(picture[-1].numpy() == label * 30, box) for box, label in zip(found.numpy(), labels.tolist(), strict=True))])
    return worst


def _to_paint(mask: np.ndarray, box: np.ndarray) -> float:
    """Largest distance of a box's four edges from those of the nearest piece of paint in a mask (H, W); a piece is a run of columns."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    pieces = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if len(columns) else []
    return min((float(np.abs(box - [piece[0], rows[0], piece[-1] + 1, rows[-1] + 1]).max()) for piece in pieces), default=float("inf"))
