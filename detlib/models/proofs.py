"""Demonstrations that each part of the ladder does what it claims, and that the report's initialisation does not."""
import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, binary_cross_entropy_with_logits, cross_entropy, log_softmax
from torchvision.ops import sigmoid_focal_loss

from ..anchors import spec_of
from ..boxes import hw_of
from ..data.coco import Dataset
from ..data.loader import TrainBatches, channel_statistics
from ..experiments import Experiment
from ..matching import targets
from .detector import Detector, build, trainable_parameters
from .fpn import FPN
from .heads import Head
from .losses import ALPHA, GAMMA, focal_loss, hard_negatives

TOY_WIDTH, TOY_POINTS, TOY_STEPS = 24, 128, 150  # a size at which all nets of the toy train in a few seconds


def depth_toy(depths: Sequence[int] = (2, 8, 20, 40), seeds: int = 3, rates: Sequence[float] = (0.01, 0.03, 0.1)) -> pd.DataFrame:
    """Training loss of plain and residual nets of equal depth on two spirals: the degradation problem (He et al. 2016, fig. 1).

    A block is relu(F(x)) or relu(F(x) + x), F two layers with batch norm. The nets of one seed and depth start from the same weights (He et al.
    2015) and see the same points. One row a net: depth (layers in blocks), kind, rate, seed, parameters, loss after the last step.
    """
    nets = [(kind, rate, seed) for kind in ("plain", "residual") for rate in rates for seed in range(seeds)]
    tables = []
    for depth in depths:
        if depth % 2:
            raise ValueError(f"a depth of {depth}: a block has two layers, so depths are even")
        parameters, losses = _train_together(depth, nets)
        table = pd.DataFrame(nets, columns=["kind", "rate", "seed"])
        tables.append(table.assign(depth=depth, parameters=parameters, loss=losses.tolist()))
    return pd.concat(tables, ignore_index=True)[["depth", "kind", "rate", "seed", "parameters", "loss"]]


def two_spirals() -> tuple[Tensor, Tensor]:
    """The toy's points xy, (2, points), on two spirals wound into each other, and on which of them each lies, (points,) 0 or 1."""
    radius = torch.linspace(0.05, 1, TOY_POINTS // 2)
    arm = 1.5 * radius * torch.stack([(4 * math.pi * radius).cos(), (4 * math.pi * radius).sin()])  # two turns
    return torch.cat([arm, -arm], dim=1), torch.arange(2).repeat_interleave(TOY_POINTS // 2).float()


def _train_together(depth: int, nets: Sequence[tuple[str, float, int]]) -> tuple[int, Tensor]:
    """Train nets (kind, rate, seed) side by side, all points a step, momentum 0.9: parameters of one, and each one's last loss."""
    xy, side = two_spirals()
    shapes = [(TOY_WIDTH, 2), *[(TOY_WIDTH, TOY_WIDTH)] * depth, (1, TOY_WIDTH)]  # out, in
    generators = {seed: torch.Generator().manual_seed(seed) for _, _, seed in nets}
    drawn = {seed: [torch.randn(shape, generator=g) * math.sqrt(2 / shape[1]) for shape in shapes] for seed, g in generators.items()}
    first, *hidden, last = (torch.stack([drawn[seed][i] for _, _, seed in nets]).requires_grad_() for i in range(len(shapes)))
    channels = len(nets) * TOY_WIDTH
    scales, shifts = torch.ones(depth, channels, requires_grad=True), torch.zeros(depth, channels, requires_grad=True)
    skip = torch.tensor([kind == "residual" for kind, _, _ in nets]).float()[:, None, None]  # the only difference between the kinds
    rate = torch.tensor([rate for _, rate, _ in nets])

    def layer(x: Tensor, i: int) -> Tensor:
        x = hidden[i] @ x  # (nets, width, points)
        return batch_norm(x.view(1, channels, -1), None, None, scales[i], shifts[i], training=True).view_as(x)

    def losses() -> Tensor:
        x = (first @ xy).relu()
        for i in range(0, depth, 2):
            x = (layer(layer(x, i).relu(), i + 1) + skip * x).relu()
        scores = (last @ x)[:, 0]  # (nets, points)
        return binary_cross_entropy_with_logits(scores, side.expand_as(scores), reduction="none").mean(1)

    parameters = [first, *hidden, last, scales, shifts]
    optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=0.9)
    for _ in range(TOY_STEPS):
        optimizer.zero_grad()
        (rate * losses()).sum().backward()  # SGD is linear in the gradient: a weight of a net's loss is its rate
        optimizer.step()
    with torch.no_grad():
        return sum(p.numel() for p in parameters) // len(nets), losses()


def footprint(model: Detector, image: Tensor, level: int, cell: tuple[int, int]) -> Tensor:
    """Which pixels one cell (row, column) of a level sees: (H, W) absolute gradient of its features, after the neck, summed over channels.

    `image` (C, H, W) uint8, sides multiples of the largest stride. The gradient is that of the features' sum by the normalised image.
    """
    training = model.training
    model.eval()  # batch norm as in detection: otherwise every pixel acts on every cell through the batch's statistics
    x = ((image.float() - model.mean) / model.std)[None].requires_grad_()
    features = model.neck(model.backbone(x))[level]  # (1, channels, h, w)
    (gradient,) = torch.autograd.grad(features[0, :, cell[0], cell[1]].sum(), x)
    model.train(training)
    return gradient[0].abs().sum(0)


def extent(footprint: Tensor, share: float = 0.99) -> tuple[int, int]:
    """Width in columns of the middle that holds `share` of a footprint (H, W), and from the first column that is not zero to the last."""
    columns = footprint.double().sum(0)
    running = (columns / columns.sum()).cumsum(0)
    seen = columns.nonzero()
    first, last = int(seen[0]), int(seen[-1])
    left, right = (min(max(int((running < edge).sum()), first), last) for edge in ((1 - share) / 2, (1 + share) / 2))
    return right - left + 1, last - first + 1


@torch.no_grad()
def reach(fpn: FPN, grid_hw: tuple[int, int], level: int, cell: tuple[int, int]) -> Tensor:
    """How much one cell (row, column) of a coarse level changes the finest output of an FPN: (h, w) absolute change summed over channels.

    `grid_hw` is the finest map; each further level halves it. Maps are zero but for that cell.
    """
    height, width = grid_hw
    maps = [torch.zeros(1, lateral.in_channels, height >> k, width >> k) for k, lateral in enumerate(fpn.laterals)]  # type: ignore[call-overload]
    before = fpn(maps)[0]
    maps[level][:, :, cell[0], cell[1]] = 1
    return (fpn(maps)[0] - before).abs().sum(1)[0]


def focal_checks(anchors: int = 2000, seed: int = 0) -> pd.DataFrame:
    """The focal loss against two references on random logits: largest absolute difference of the value (a mean) and of the gradient, an anchor.

    With gamma 0 and alpha 1 it is torch's cross-entropy; with one class, logits (0, x), it is torchvision's sigmoid focal loss of x.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = {}
    for k in (1, 3, 8):
        logits = 4 * torch.randn(anchors, k + 1, generator=generator, dtype=torch.double)
        classes = torch.randint(0, k + 1, (anchors,), generator=generator)
        rows[f"gamma 0, alpha 1, K = {k}: torch cross-entropy"] = _differences(
            logits, lambda z, c=classes: focal_loss(z, c, 0.0, (1.0, 1.0)), lambda z, c=classes: cross_entropy(z, c, reduction="sum"))
    x = 4 * torch.randn(anchors, generator=generator, dtype=torch.double)
    classes = torch.randint(0, 2, (anchors,), generator=generator)
    for gamma in (0.0, 1.0, 2.0, 5.0):
        rows[f"gamma {gamma:g}, alpha {ALPHA[1]:g}, K = 1: torchvision sigmoid_focal_loss"] = _differences(
            x, lambda x, g=gamma: focal_loss(torch.stack([torch.zeros_like(x), x], -1), classes, g, ALPHA),
            lambda x, g=gamma: sigmoid_focal_loss(x, classes.double(), alpha=ALPHA[1], gamma=g, reduction="sum"))
    return pd.DataFrame(rows, index=["value", "gradient"]).T


def _differences(x: Tensor, ours, theirs) -> tuple[float, float]:
    values, gradients = [], []
    for loss in (ours, theirs):
        at = x.clone().requires_grad_()
        value = loss(at)
        values.append(value.detach() / len(x))
        gradients.append(torch.autograd.grad(value, at)[0])
    return (values[0] - values[1]).abs().item(), (gradients[0] - gradients[1]).abs().max().item()


GROUPS = ("positives", "hardest 1 % of negatives", "all other negatives")


def loss_shares(logits: Tensor, classes: Tensor) -> pd.DataFrame:
    """Who carries the classification loss of a batch: logits (N, R, K+1), classes (N, R), 0 = background.

    One row for each loss and each of `GROUPS`: anchors that count in it, share of the loss, share of the gradient (the sum over anchors of the
    length of each one's gradient by its logits). Hardest: of highest cross-entropy over all the batch.
    """
    logits = logits.detach().double().requires_grad_()
    plain = -log_softmax(logits, -1).gather(-1, classes[..., None])[..., 0]  # (N, R)
    positive = classes > 0
    hardest = (plain.detach() >= plain.detach()[~positive].quantile(0.99)) & ~positive
    groups = dict(zip(GROUPS, (positive, hardest, ~positive & ~hardest), strict=True))
    weight = torch.where(positive, ALPHA[1], ALPHA[0]) * (1 - (-plain).exp()) ** GAMMA
    every, mined = torch.ones_like(positive), positive | hard_negatives(logits, classes)
    kinds = {"cross-entropy, all": (plain, every), "hard negatives 3:1": (plain * mined, mined), "focal": (plain * weight, every)}
    rows = []
    for name, (losses, counts) in kinds.items():
        (gradient,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
        lengths, losses = gradient.norm(dim=-1), losses.detach()
        rows += [{"loss": name, "anchors of": group, "anchors": int((counts & inside).sum()),
                  "share of loss": (losses[inside].sum() / losses.sum()).item(),
                  "share of gradient": (lengths[inside].sum() / lengths.sum()).item()} for group, inside in groups.items()]
    return pd.DataFrame(rows).set_index(["loss", "anchors of"])


def focal_scores(alpha: tuple[float, float] = ALPHA, gamma: float = GAMMA) -> tuple[Tensor, Tensor]:
    """At which score an anchor settles that holds an object with probability q: q and the score p(q) of least expected focal loss, (2001,) each.

    Two classes, by search over a grid of logits; `alpha` as in `focal_loss`, background first. With gamma 0 it is a1 q / (a1 q + a0 (1 - q)).
    """
    q = torch.linspace(-9, 9, 2001, dtype=torch.double).sigmoid()
    x = torch.linspace(-14, 14, 4001, dtype=torch.double)  # a score's logit, in steps of 0.007
    p, not_p = x.sigmoid(), (-x).sigmoid()
    found, missed = alpha[1] * not_p**gamma * -p.log(), alpha[0] * p**gamma * -not_p.log()  # costs of an object and of background
    expected = q[:, None] * found + (1 - q)[:, None] * missed
    return q, p[expected.argmin(dim=1)]


def head_reach(depth: int, cells: int = 15, inputs: int = 32, seed: int = 0) -> Tensor:
    """What the middle cell of a fresh head's output sees of its level: (cells, cells) absolute gradient, mean over random maps, sum 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        (tower,) = Head((32,), (1,), 1, depth, prior=None).classify
        maps = torch.randn(inputs, 32, cells, cells, requires_grad=True)
    (gradient,) = torch.autograd.grad(tower(maps)[..., cells // 2, cells // 2].sum(), maps)
    seen = gradient.abs().sum((0, 1))
    return seen / seen.sum()


def head_parameters(before: Experiment, after: Experiment, num_classes: int = 8) -> pd.DataFrame:
    """Trainable parameters of two experiments' heads by level, and what the second adds; counted on models without storage."""
    with torch.device("meta"):
        heads = {e.rung: build(e, spec_of(e.anchors), num_classes, torch.zeros(3), torch.ones(3)).head for e in (before, after)}
    table = pd.DataFrame({(part, name): [trainable_parameters(tower) for tower in getattr(head, part)]
                          for part in ("classify", "regress") for name, head in heads.items()})
    table["both", "added"] = sum(table[part, after.rung] - table[part, before.rung] for part in ("classify", "regress"))
    table.index = pd.Index([f"level {k}" for k in table.index])
    table.loc["all"] = table.sum()
    return table


@torch.no_grad()
def foreground_by_level(head: Head, inputs: int = 200, seed: int = 0) -> list[float]:
    """Mean probability of foreground that a head gives on each level, over random maps N(0, 1) of 3 x 3 cells (their centre cell counts)."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for tower in head.classify:
        channels = next(layer for layer in tower.modules() if isinstance(layer, nn.Conv2d)).in_channels
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
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    probability = 1 - prior
    constant = float(torch.tensor(probability * head.num_classes / (1 - probability)).log())
    nn.init.constant_(head.classify[-1][-1].bias, constant)  # type: ignore[index]


def fresh(experiment: Experiment, dataset: Dataset, report_init: bool = False) -> Detector:
    """The model that an experiment's training starts from, in training mode; `report_init` gives its head the report's initialisation instead."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        model = build(experiment, spec_of(experiment.anchors), len(dataset.categories), *channel_statistics(dataset[experiment.split]))
        if report_init:
            report_init_(model.head, 0.01)  # the report's prior, on whichever rung
    return model.train()


@torch.no_grad()
def first_batch(model: Detector, experiment: Experiment, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """A model's logits (N, R, K+1) on the first batch that an experiment trains on, and the classes (N, R) that it asks for: for `loss_shares`."""
    images, boxes, labels = TrainBatches(dataset[experiment.split], experiment, model.anchors.strides[-1])[0]
    return model(images)[0], targets(model.grid(hw_of(images), images.device), boxes, labels)[0]


@torch.no_grad()
def first_loss(experiment: Experiment, dataset: Dataset, batches: int = 4, report_init: bool = False) -> dict[str, float]:
    """Losses 'classes' and 'boxes' of a model that was never trained, means over the first batches that its training sees."""
    model, losses = fresh(experiment, dataset, report_init), []
    loader = TrainBatches(dataset[experiment.split], experiment, model.anchors.strides[-1])
    for images, boxes, labels in (loader[step] for step in range(batches)):
        logits, deltas = model(images)
        losses.append(model.loss(logits, deltas, boxes, labels, hw_of(images), experiment.loss))
    return {part: torch.stack([loss[part] for loss in losses]).mean().item() for part in losses[0]}
