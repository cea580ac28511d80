"""A training step against what it would be without the choices that make it fast, and against torchvision's."""
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import retinanet_resnet50_fpn

from .. import machine, runs
from ..ahead import at_once
from ..anchors import STRIDES
from ..data.loader import Batch, TrainBatches, channel_statistics
from ..experiments import Experiment, rung
from ..models.detector import Detector, build
from ..train import gradient_, make_optimizer
from .turns import Measured, NotMeasured, in_turn, ratio, streets

STEPS = 10  # of each training that runs beside others
IMAGES = 4  # a step at the report's size: its 32 would take a minute


class _Plain(nn.Module):
    """A detector in the default memory layout."""

    def __init__(self, module: Detector):
        super().__init__()
        self.module = module.to(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        model = self.module
        return model.head(model.neck(model.backbone((images.float() - model.mean) / model.std)))


def trainer(experiment: Experiment, plain: bool = False) -> Callable[[Batch], None]:
    """A call that trains a fresh model by one step on a batch."""
    data = streets()
    spec = runs.anchor_set(experiment, data)
    torch.manual_seed(0)
    model: Detector = build(experiment, spec, len(data.categories), *channel_statistics(data["train"], most=8)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5) if plain else make_optimizer(model, experiment)
    engine, precision = (_Plain(model), "float32") if plain else (model, machine.precision_here(torch.device("cpu")))

    def step(batch: Batch) -> None:
        gradient_(engine, batch, experiment.loss, precision)
        optimizer.step()

    return step


def _step(experiment: Experiment, images: int, plain: bool) -> Callable[[], None]:
    """A call that trains a fresh model by a step, always on the same frames, so many."""
    pictures, boxes, labels = TrainBatches(streets()["train"], experiment, STRIDES[-1])[0]
    return partial(trainer(experiment, plain), (pictures[:images], boxes[:images], labels[:images]))


def _against_plain(experiment: Experiment, images: int, rounds: int) -> Measured:
    calls = {"float32, default layout": _step(experiment, images, plain=True), "as trained here": _step(experiment, images, plain=False)}
    return ratio(in_turn(calls, rounds, warm=2), *calls, said=f"{experiment.rung}, {images} images a step, {_here()}")


def _here() -> str:
    return f"trained in {machine.precision_here(torch.device('cpu'))}, {torch.get_num_threads()} threads"


def small(rounds: int) -> Measured:
    """The fpn row of the laptop profile: ResNet-18, crops."""
    return _against_plain(rung("fpn", "laptop"), rung("fpn", "laptop").sizes.batch, rounds)


def large(rounds: int) -> Measured:
    """The same row at the report's size: ResNet-50, whole panoramas."""
    return _against_plain(rung("fpn", "report"), IMAGES, rounds)


def torchvision(rounds: int) -> Measured:
    """The row with focal loss, deep heads and prior at the report's size, against torchvision's RetinaNet on the same frames."""
    data, experiment = streets(), rung("bias_init", "report")
    images, boxes, labels = TrainBatches(data["train"], experiment, STRIDES[-1])[0]
    pictures = [image.float() / 255 for image in images[:IMAGES]]
    wanted = [{"boxes": frame_boxes, "labels": frame_labels} for frame_boxes, frame_labels in zip(boxes, labels, strict=True)][:IMAGES]
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=len(data.categories) + 1, min_size=128, max_size=1024).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def theirs() -> None:
        optimizer.zero_grad()
        sum(model(pictures, wanted).values()).backward()
        optimizer.step()

    calls = {"torchvision's": theirs, "ours": _step(experiment, IMAGES, plain=False)}
    return ratio(in_turn(calls, rounds, warm=2), *calls, said=f"ResNet-50, FPN, four convolutions deep, {IMAGES} panoramas a step; ours {_here()}")


def side_by_side(rounds: int) -> Measured:
    """As many trainings at once as a workbook has, each with its share of the threads, against one after another with all of them: the row with deep
    heads of the laptop profile."""
    number, threads = at_once("laptop"), torch.get_num_threads()
    if number == 1:
        raise NotMeasured("one training at a time is all that there is room for here")
    streets()  # made once, before there are several to make it
    with ProcessPoolExecutor(number, multiprocessing.get_context("spawn")) as pool:
        calls = {"one after another": lambda: pool.submit(_steps, number * STEPS, threads).result(),
                 "side by side": lambda: [each.result() for each in [pool.submit(_steps, STEPS, max(1, threads // number)) for _ in range(number)]]}
        return ratio(in_turn(calls, rounds, warm=2), *calls, said=f"{number} trainings of {STEPS} steps; together they have {threads} threads")


def _steps(number: int, threads: int) -> None:
    torch.set_num_threads(threads)
    for _ in range(number):
        _deep_heads()()


@lru_cache(maxsize=1)
def _deep_heads() -> Callable[[], None]:
    experiment = rung("deep_heads", "laptop")
    return _step(experiment, experiment.sizes.batch, plain=False)
