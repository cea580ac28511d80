"""What a fast step is worth: mAP after equally many of them, against steps in float32 and against torchvision's RetinaNet."""
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ..anchors import STRIDES
from ..data.coco import Dataset
from ..data.folder import open_dataset
from ..data.loader import TrainBatches
from ..evaluate.coco import Detections, evaluate
from ..experiments import OPTIMIZERS, Experiment, rung
from ..models.detector import SCORE_MIN
from ..train import clip_gradient_, make_optimizer, rate
from .turns import Measured, NotMeasured, folder

SEEDS = 3  # at most: a training takes minutes
STEPS = 500


def against_float32(rounds: int) -> Measured:
    """The fpn row of the laptop profile, a training in each format with each seed."""
    seeds = range(min(rounds, SEEDS))
    return _compared([_ours("fpn", seed, "") for seed in seeds], [_ours("fpn", seed, "float32") for seed in seeds], "fpn", "float32")


def against_torchvision(rounds: int) -> Measured:
    """The bias_init row against torchvision's RetinaNet: the same batches, optimiser and rates, a ResNet-18 each; its own anchors, width and loss."""
    seeds = range(min(rounds, SEEDS))
    return _compared([_ours("bias_init", seed, "") for seed in seeds], [_theirs(_data(), seed) for seed in seeds], "bias_init", "torchvision's")


def _compared(ours: list[float], theirs: list[float], row: str, other: str) -> Measured:
    if not all(theirs):
        raise NotMeasured(f"{other} mAP is 0 with a seed: no ratio")
    return Measured([a / b for a, b in zip(ours, theirs, strict=True)], {},
                    f"{row}, {STEPS} steps, {len(ours)} seeds: mAP {_listed(ours)} here, {_listed(theirs)} {other}")


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _place() -> Path:
    return folder() / "equal_steps"


def _ours(row: str, seed: int, precision: str) -> float:
    """mAP of a row trained by the command in a number format (empty: the fastest here); a training that was begun before goes on, or is there."""
    home = _place() / (precision or "fastest")
    home.mkdir(parents=True, exist_ok=True)
    (_place() / "data").mkdir(exist_ok=True)
    if not (home / "data").exists():
        (home / "data").symlink_to(_place() / "data")
    command = [sys.executable, "-m", "detlib.cli", "train", row, "--seed", str(seed), "--profile", "laptop", "--data", "simulated",
               "--set", f"steps={STEPS}"]
    if subprocess.run(command, env={**os.environ, "DETLIB_HOME": str(home), "DETLIB_PRECISION": precision}, stdout=sys.stderr).returncode:
        raise NotMeasured(f"the training did not come to its end: {' '.join(command[1:])}")
    (found,) = (home / "outputs" / "runs").glob(f"*/laptop/{row}+steps={STEPS}/seed{seed}/metrics.json")
    return json.loads(found.read_text())["mAP"]


def _data() -> Dataset:
    return open_dataset(_place() / "data" / "simulated-laptop")


def retinanet(classes: int) -> RetinaNet:
    """torchvision's RetinaNet with a fresh ResNet-18, for panoramas and crops of any width; labels are 1..classes."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5, returned_layers=[2, 3, 4],
                                   extra_blocks=LastLevelP6P7(256, 256))
    return RetinaNet(backbone, classes + 1, min_size=128, max_size=1024, score_thresh=SCORE_MIN)


def _theirs(data: Dataset, seed: int) -> float:
    """mAP of torchvision's detector after the same steps."""
    experiment = rung("bias_init", "laptop", seed=seed, steps=STEPS)
    torch.manual_seed(seed)
    model = train_(retinanet(len(data.categories)), data, experiment)
    return evaluate(detect(model, data), data["val"], data)["mAP"]


def train_(model: RetinaNet, data: Dataset, experiment: Experiment) -> RetinaNet:
    """Train by an experiment's batches, optimiser and schedule, in float32."""
    batches, optimizer, sizes = TrainBatches(data["train"], experiment, STRIDES[-1]), make_optimizer(model, experiment), experiment.sizes
    model.train()
    for step in range(sizes.steps):
        for group in optimizer.param_groups:
            group["lr"] = OPTIMIZERS[experiment.optimizer]["lr"] * rate(step, sizes)
        images, boxes, labels = batches[step]
        wanted = [{"boxes": b, "labels": l} for b, l in zip(boxes, labels, strict=True)]
        model.zero_grad()
        sum(model([image.float() / 255 for image in images], wanted).values()).backward()
        clip_gradient_(model)
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def detect(model: RetinaNet, data: Dataset) -> Detections:
    """What it finds on val."""
    split = data["val"]
    found = (model([split.image(index).float() / 255])[0] for index in range(len(split)))
    return Detections.collect([(one["boxes"], one["labels"], one["scores"]) for one in found])
