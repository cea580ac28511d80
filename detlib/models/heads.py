"""Heads: each level's map to class scores and box offsets of its anchors."""
import math

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Two 3x3 convolutions a level, classes and boxes, not shared; `depth` convolutions with ReLU before each (Lin et al. 2017b, sec. 4).

    The last convolutions start from N(0, 0.01) and zero bias, those before from He et al. 2015; with `prior`, every anchor starts as
    foreground with that probability (`bias_prior_`).
    """

    def __init__(self, in_channels: tuple[int, ...], per_cell: tuple[int, ...], num_classes: int, depth: int, prior: float | None):
        super().__init__()
        self.num_classes = num_classes  # K, without background
        self.classify = nn.ModuleList(_tower(c, a * (num_classes + 1), depth) for c, a in zip(in_channels, per_cell, strict=True))
        self.regress = nn.ModuleList(_tower(c, a * 4, depth) for c, a in zip(in_channels, per_cell, strict=True))
        if prior is not None:
            bias_prior_(self, prior)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps (N, in_channels[k], h_k, w_k) -> logits (N, R, K+1), class 0 is background, and deltas (N, R, 4)."""
        logits = [_by_anchor(tower(x), self.num_classes + 1) for tower, x in zip(self.classify, maps, strict=True)]
        deltas = [_by_anchor(tower(x), 4) for tower, x in zip(self.regress, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(deltas, dim=1)


def _tower(channels: int, out_channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        hidden = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")
        nn.init.zeros_(hidden.bias)  # type: ignore[arg-type]
        layers += [hidden, nn.ReLU(inplace=True)]
    last = nn.Conv2d(channels, out_channels, 3, padding=1)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers, last)


def _by_anchor(x: Tensor, values: int) -> Tensor:
    """(N, A * values, h, w), an anchor's values together, -> (N, h * w * A, values): row, column, anchor, the order of `AnchorSpec.grid`."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def bias_prior_(head: Head, prior: float) -> None:
    """Let every anchor of every level start as foreground with probability `prior` (Lin et al. 2017b, sec. 4.1, for a softmax).

    With K classes at zero, a background bias of log(p K / (1 - p)), p = 1 - prior, gives background the probability p.
    """
    background = 1 - prior
    for tower in head.classify:
        bias = tower[-1].bias.data.view(-1, head.num_classes + 1)  # type: ignore[index]  # (A, K+1)
        bias.zero_()
        bias[:, 0] = math.log(background * head.num_classes / (1 - background))
