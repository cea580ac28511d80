"""Batches: for training a pure function of seed and step, so that training can stop and go on anywhere; for evaluation the frames in order."""
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ..experiments import Experiment
from .augment import augment, random_crop, whole
from .coco import Split

CACHE_BYTES = 2 * 1024**3  # pictures kept as uint8: all 700 frames of the simulated train and val are 0.3 GB

Batch = tuple[Tensor, list[Tensor], list[Tensor]]  # images (N, C, H, W) uint8, boxes (M, 4) xyxy px and labels (M,) of each


def pad(images: list[Tensor], multiple: int, least_hw: tuple[int, int] = (1, 1)) -> Tensor:
    """Stack images (C, H, W), zeros below and to the right, so that both sides are multiples; boxes stay where they are. -> (N, C, H', W')"""
    height, width = (-(-max(least, *(image.shape[k] for image in images)) // multiple) * multiple for k, least in zip((1, 2), least_hw, strict=True))
    batch = images[0].new_zeros(len(images), images[0].shape[0], height, width)
    for n, image in enumerate(images):
        batch[n, :, : image.shape[1], : image.shape[2]] = image
    return batch


class Cache:
    """A split's pictures, each read once while there is room; `ahead` has them read by so many threads while something else goes on."""

    def __init__(self, split: Split, readers: int = 1):
        self.split, self.readers, self.room = split, readers, CACHE_BYTES
        self.images: dict[int, Tensor] = {}
        self.pool: ThreadPoolExecutor | None = None
        self.coming: dict[int, Future[Tensor]] = {}

    def __getitem__(self, index: int) -> Tensor:
        image = self.images.get(index)
        if image is None:
            coming = self.coming.pop(index, None)
            image = coming.result() if coming else self.split.image(index)
            if self.room >= image.nbytes:
                self.room -= image.nbytes
                self.images[index] = image
        return image

    def ahead(self, indices: Iterable[int]) -> None:
        """Begin to read the pictures that will be asked for next; a fault in one is raised when it is asked for."""
        for index in indices:
            if index not in self.images and index not in self.coming:
                self.pool = self.pool or ThreadPoolExecutor(self.readers, "reader")  # decoding releases Python's lock
                self.coming[index] = self.pool.submit(self.split.image, index)


class TrainBatches(TorchDataset):
    """Batch number `step`, the same for the same seed whatever came before; an epoch is a permutation of the frames."""

    def __init__(self, split: Split, experiment: Experiment, multiple: int, readers: int = 1):
        if not len(split):
            raise ValueError(f"{split.name} has no frames: nothing to train on")
        self.split, self.experiment, self.multiple = split, experiment, multiple
        self.images = Cache(split, readers)

    def __len__(self) -> int:
        return self.experiment.sizes.steps

    def frames(self, step: int) -> list[int]:
        """Which frames a step sees."""
        batch, seed, n = self.experiment.sizes.batch, self.experiment.seed, len(self.split)
        places = range(step * batch, (step + 1) * batch)
        orders = {epoch: np.random.default_rng([seed, epoch]).permutation(n) for epoch in {p // n for p in places}}
        return [int(orders[p // n][p % n]) for p in places]

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.experiment.seed, step, 1])
        images, boxes, labels = [], [], []
        here = self.frames(step)
        self.images.ahead(here)
        for index in here:
            sample = whole((self.images[index], *self.split.targets(index)), self.experiment.augment, rng)
            if self.experiment.sizes.crop_width:
                sample = random_crop(sample, self.experiment.sizes.crop_width, rng)
            image, image_boxes, image_labels = augment(sample, self.experiment.augment, rng)
            images.append(image)
            boxes.append(image_boxes)
            labels.append(image_labels)
        batch = pad(images, self.multiple), boxes, labels
        if step + 1 < len(self):  # only now: while it is made, readers of the next one would take its processors
            self.images.ahead(self.frames(step + 1))
        return batch


def in_order(split: Split, batch: int, multiple: int, images: Cache | None = None) -> Iterator[tuple[list[int], Batch]]:
    """All frames in order, uncropped, with their indices; all padded alike, so that a frame's result does not depend on its neighbours."""
    images, (height, width) = images or Cache(split), split.image_hw
    for start in range(0, len(split), batch):
        indices = list(range(start, min(start + batch, len(split))))
        images.ahead(range(start, min(start + 2 * batch, len(split))))
        boxes, labels = zip(*(split.targets(i) for i in indices), strict=True)
        yield indices, (pad([images[i] for i in indices], multiple, (height, width)), list(boxes), list(labels))


def channel_statistics(split: Split, most: int = 64) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of the pixels, 0..255, over at most `most` frames spread evenly."""
    pixels = torch.cat([split.image(i).flatten(1).double() for i in split.spread(most)], dim=1)
    return pixels.mean(1), pixels.std(1).clamp(min=1)
