"""Demonstrations that each part of the ladder does what it claims, and that the report's initialisation does not."""
import torch
from torch import Tensor, nn

from .fpn import FPN
from .heads import Head


@torch.no_grad()
def foreground_by_level(head: Head, inputs: int = 200, seed: int = 0) -> list[float]:
    """Mean probability of foreground that a head gives on each level, over random maps N(0, 1) of 3 x 3 cells (their centre cell counts)."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for tower in head.classify:
        channels = next(layer for layer in tower if isinstance(layer, nn.Conv2d)).in_channels
        maps = torch.randn(inputs, channels, 3, 3, generator=generator)
        logits = tower(maps)[..., 1, 1].view(inputs, -1, head.num_classes + 1)  # (inputs, A, K+1)
        found.append((1 - logits.softmax(-1)[..., 0]).mean().item())
    return found


def report_init_(head: Head, prior: float) -> None:
    """What the report calls improved initialisation: Xavier weights, and one constant on all classes, background included, of the last level."""
    for tower in [*head.classify, *head.regress]:
        for layer in tower:
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
    probability = 1 - prior
    nn.init.constant_(head.classify[-1][-1].bias, float(torch.tensor(probability * head.num_classes / (1 - probability)).log()))


@torch.no_grad()
def reach(fpn: FPN, grid_hw: tuple[int, int], level: int, cell: tuple[int, int]) -> Tensor:
    """How much one cell (row, column) of a coarse level changes the finest output of an FPN: (h, w) absolute change summed over channels.

    `grid_hw` is the finest map; each further level halves it. Maps are zero but for that cell.
    """
    height, width = grid_hw
    maps = [torch.zeros(1, lateral.in_channels, height >> k, width >> k) for k, lateral in enumerate(fpn.laterals)]
    before = fpn(maps)[0]
    maps[level][:, :, cell[0], cell[1]] = 1
    return (fpn(maps)[0] - before).abs().sum(1)[0]
