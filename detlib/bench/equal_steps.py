"""What a fast step is worth: mAP after equally many of them, against steps in float32 and against torchvision's RetinaNet."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from .. import machine
from ..anchors import STRIDES
from ..data.coco import Dataset
from ..data.folder import open_dataset
from ..data.loader import TrainBatches, channel_statistics
from ..evaluate.coco import Detections, evaluate
from ..evaluate.compare import difference
from ..experiments import Experiment, rung
from ..models.detector import SCORE_MIN
from ..predict import finished_run
from ..runs import Run
from ..train import clip_gradient_, make_optimizer, rate
from .turns import Measured, NotMeasured, folder

SEEDS = 3  # at most: a training takes minutes
STEPS = 500


def against_float32(rounds: int) -> Measured:
    """The fpn row of the laptop profile, a training in each format with each seed."""
    fastest = machine.precision_here(torch.device("cpu"))
    if fastest == "float32":
        raise NotMeasured("float32 is the fastest format here: nothing to compare it with")
    ours, plain = _trained("fpn", fastest, rounds), _trained("fpn", "float32", rounds)
    found = difference(plain, ours, _data())
    theirs = [run.metrics["mAP"] for run in plain]
    measured = _compared("fpn", ours, theirs, f"in {fastest}, {_listed(theirs)} in float32; "
                                              f"difference {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
    _forget(plain)
    return measured


def against_torchvision(rounds: int) -> Measured:
    """The bias_init row against torchvision's RetinaNet: the same batches, optimiser and rates, a ResNet-18 each."""
    ours = _trained("bias_init", machine.precision_here(torch.device("cpu")), rounds)
    theirs = [_theirs(_data(), run.experiment.seed) for run in ours]
    return _compared("bias_init", ours, theirs, f"here, {_listed(theirs)} torchvision's, in float32, with its own anchors (32 to 512 px), 256 "
                                                "channels and thresholds")


def _forget(trained: list[Run]) -> None:
    """So that the next measurement is one."""
    for run in trained:
        shutil.rmtree(run.folder)


def _compared(row: str, ours: list[Run], theirs: list[float], said: str) -> Measured:
    """Ratios of mAP, seed by seed; our trainings are forgotten."""
    here = [run.metrics["mAP"] for run in ours]
    _forget(ours)
    if not all(theirs):
        raise NotMeasured(f"an mAP of 0 among {_listed(theirs)}: no ratio")
    return Measured([a / b for a, b in zip(here, theirs, strict=True)], {},
                    f"{row}, {STEPS} steps, {len(ours)} seeds: mAP {_listed(here)} {said}")


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _place() -> Path:
    return folder() / "equal_steps"


def _data() -> Dataset:
    return open_dataset(_place() / "data" / "simulated-laptop")


def _trained(row: str, precision: str, rounds: int) -> list[Run]:
    """Runs of a row, a seed each, by the command line in a home of their own; a training that was interrupted goes on."""
    home = _place() / precision
    home.mkdir(parents=True, exist_ok=True)
    (_place() / "data").mkdir(exist_ok=True)
    if not (home / "data").is_symlink():
        (home / "data").symlink_to(Path("..") / "data")
    settings = {**os.environ, "DETLIB_HOME": str(home.resolve()), "DETLIB_PRECISION": precision, "DETLIB_RUNS": ""}
    found = []
    for seed in range(min(rounds, SEEDS)):
        command = [sys.executable, "-m", "detlib.cli", "train", row, "--seed", str(seed), "--profile", "laptop", "--data", "simulated",
                   "--set", f"steps={STEPS}"]
        if subprocess.run(command, env=settings, stdout=sys.stderr).returncode:
            raise NotMeasured(f"the training did not come to its end: {' '.join(command[1:])}")
        name = rung(row, "laptop", seed=seed, steps=STEPS).rung
        found.append(finished_run(home / "outputs" / "runs" / _data().key / "laptop" / name / f"seed{seed}"))
    return found


def retinanet(data: Dataset) -> RetinaNet:
    """torchvision's RetinaNet with a fresh ResNet-18, for panoramas and crops of any width; labels in training are 1..K."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5, returned_layers=[2, 3, 4],
                                   extra_blocks=LastLevelP6P7(256, 256))
    mean, std = ((values / 255).tolist() for values in channel_statistics(data["train"]))
    return RetinaNet(backbone, len(data.categories) + 1, min_size=128, max_size=1024, score_thresh=SCORE_MIN, image_mean=mean, image_std=std)


def _theirs(data: Dataset, seed: int) -> float:
    """mAP of torchvision's detector after the same steps."""
    torch.manual_seed(seed)
    model = train_(retinanet(data), data, rung("bias_init", "laptop", seed=seed, steps=STEPS))
    return evaluate(detect(model, data), data["val"], data)["mAP"]


def train_(model: RetinaNet, data: Dataset, experiment: Experiment) -> RetinaNet:
    """Train by an experiment's batches, optimiser and schedule, in float32."""
    batches, optimizer, sizes = TrainBatches(data["train"], experiment, STRIDES[-1]), make_optimizer(model, experiment), experiment.sizes
    model.train()
    for step in range(sizes.steps):
        for group in optimizer.param_groups:
            group["lr"] = experiment.optimizer_settings["lr"] * rate(step, sizes)
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
