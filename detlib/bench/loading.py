"""Batches with targets: against a loader that decodes and matches image by image, and as a share of training."""
import time
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..anchors import BASELINE, STRIDES
from ..coverage import match_local
from ..data.coco import Split
from ..data.loader import TrainBatches
from ..experiments import rung
from ..machine import readers_here
from ..matching import targets
from .training import trainer
from .turns import Measured, in_turn, ratio, streets

HW = (128, 1024)
BATCH, WORKERS = 32, 2
STEPS = 24  # of training, over which waiting is measured


class _Reference(TorchDataset):
    """The report's way: every frame is decoded, and all anchors are matched to its boxes with the full matrix of IoUs."""

    def __init__(self, split: Split):
        self.split, self.anchors = split, BASELINE.grid(HW)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        boxes, labels = self.split.targets(index)
        return self.split.image(index), *targets(self.anchors, [boxes], [labels])


def _stacked(samples: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, list[Tensor]]:
    images, classes, encoded = zip(*samples, strict=True)
    return torch.stack(images), torch.cat(classes), list(encoded)


def _ours(batches: TrainBatches) -> None:
    """One epoch of batches with their targets."""
    anchors = BASELINE.grid(HW)
    for step in range(len(batches.split) // BATCH):
        _, boxes, labels = batches[step]
        targets(anchors, boxes, labels, match_local(BASELINE, boxes, HW))


def _all(loader: DataLoader) -> None:
    for _ in loader:
        pass


def _against_reference(rounds: int, cached: bool) -> Measured:
    split, experiment = streets()["train"], rung("baseline", "report")
    loader = DataLoader(_Reference(split), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True, collate_fn=_stacked)
    fresh = partial(TrainBatches, split, experiment, STRIDES[-1], readers_here())
    kept = fresh()
    if cached:
        _ours(kept)
    calls = {"decode and match image by image": lambda: _all(loader), "ours": lambda: _ours(kept if cached else fresh())}
    seconds = in_turn(calls, rounds)
    rates = ", ".join(f"{name} {len(split) / sorted(values)[len(values) // 2]:.0f} images/s" for name, values in seconds.items())
    return ratio(seconds, *calls, said=f"{rates}; {BASELINE.count(HW):,} anchors, {WORKERS} workers against {readers_here()} threads")


def first_epoch(rounds: int) -> Measured:
    """While pictures are read for the first time."""
    return _against_reference(rounds, cached=False)


def later_epochs(rounds: int) -> Measured:
    """When they are in memory."""
    return _against_reference(rounds, cached=True)


def waiting(rounds: int) -> Measured:
    """The share of the first epoch's steps that is spent on having the next batch, in %: laptop profile, fpn."""
    experiment, data = rung("fpn", "laptop"), streets()
    train, shares = trainer(experiment), []
    for number in range(rounds + 1):
        batches = TrainBatches(data["train"], replace(experiment, seed=number), STRIDES[-1], readers_here())
        waited, start = 0.0, time.perf_counter()
        for step in range(STEPS):
            asked = time.perf_counter()
            batch = batches[step]
            waited += time.perf_counter() - asked
            train(batch)
        shares.append(100 * waited / (time.perf_counter() - start))
    return Measured(shares[1:], {}, f"{STEPS} steps of {experiment.sizes.batch} images, pictures read for the first time")
