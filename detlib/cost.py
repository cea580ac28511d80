"""What a detector costs to run: arithmetic, memory and time, each measured so that the number is what its name says."""
import copy
import re
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from . import runs
from .anchors import BASELINE, SPECS
from .boxes import hw_of
from .data.coco import Dataset
from .data.lidar import Sensor, clip_frames
from .data.loader import pad
from .experiments import Experiment, ladder
from .machine import devices, machine_name, precision_here
from .models.detector import Detector, build
from .predict import autocast
from .train import load_model

CPU = torch.device("cpu")
LONGEST = 0.5  # seconds of a batch, after which no larger one is tried
WARM_UP = 1  # round that is not counted: the first call chooses kernels and fills caches
BATCHES = (1, 2, 4, 8, 16, 32)  # the last is the report's
PLAIN, FAST = "plain float32", "as used here"


def kept(measure: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """What is measured of some models on some images is kept: `runs.kept`."""
    @wraps(measure)
    def table_of(models: Mapping[str, Detector], images: Tensor, *args: object, **options: object) -> pd.DataFrame:
        plain = [str(value) for value in (*args, *options.items()) if isinstance(value, (int, tuple, torch.device))]
        return runs.kept(measure.__name__, [[*models], [*images.shape], plain], lambda: measure(models, images, *args, **options))
    return table_of


def network(run: runs.Run, dataset: Dataset) -> Detector:
    """A finished run's detector, to be counted and timed; a run of the reference has no weights, and its detector is a fresh one."""
    try:
        return load_model(run, dataset)
    except runs.NoWeights:
        spec = runs.anchor_set(run.experiment, dataset)
        return build(run.experiment, spec, len(dataset.categories), torch.zeros(3), torch.ones(3)).eval()


def fresh_on_meta(experiment: Experiment, num_classes: int) -> Detector:
    """An experiment's network without storage, to count on. Fitted anchors have the baseline's number of shapes."""
    with torch.device("meta"):
        return build(experiment, SPECS.get(experiment.anchors, BASELINE), num_classes, torch.zeros(3), torch.ones(3)).eval()


def by_part(model: Detector, image_hw: tuple[int, int]) -> pd.DataFrame:
    """Parameters and floating-point operations of one image's forward pass, by part (backbone, neck, head) and stride of the level.

    A multiply-add counts as two; convolutions alone, as PyTorch's counter has them. A stem belongs to the first level.
    """
    images = torch.zeros(1, len(model.mean), *model.anchors.padded(image_hw), dtype=torch.uint8, device=model.mean.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    rows = []
    for name, operations in counter.get_flop_counts().items():
        if found := re.fullmatch(r"Detector\.((backbone|neck|head)\.(?:stem|(?!stem)\w+\.(\d+)))", name):
            module, part, level = found.groups()
            rows.append({"part": part, "stride": model.anchors.strides[int(level or 0)], "FLOP": sum(operations.values()),
                         "parameters": sum(p.numel() for p in model.get_submodule(module).parameters())})
    return pd.DataFrame(rows).groupby(["part", "stride"], as_index=False).sum()


class _Alive(TorchDispatchMode):
    """Bytes of the tensors that were made while it is entered and are still there, and the most there were."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        inputs = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            storage = leaf.untyped_storage() if isinstance(leaf, Tensor) else None
            if storage is not None and storage._cdata not in self.known | inputs:  # a view, or what was there before, is not new
                self.known.add(storage._cdata)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
                self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        return result

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak_memory(call: Callable[..., object]) -> int:
    """The most bytes that the tensors made during a call take at once; what was there before, and a kernel's own scratch space, do not count."""
    with _Alive() as alive:
        call()
    return alive.most


def fast(model: Detector, precision: str) -> Detector:
    """A copy that can only predict: batch normalisation folded into the convolution before it, weights in `precision`; call it in `autocast`."""
    model = copy.deepcopy(model).eval()
    for parent in list(model.modules()):
        for (name, layer), (after, norm) in pairwise(parent.named_children()):  # torchvision's blocks name their layers in the order of use
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                setattr(parent, after, nn.Identity())
    for part in (model.backbone, model.neck, model.head):
        part.to(getattr(torch, precision)).to(memory_format=torch.channels_last)
    return model


def plain_forward(model: Detector, images: Tensor) -> tuple[Tensor, Tensor]:
    """The network as PyTorch runs it by default: float32, eager, channels first; for a model whose weights lie channels first."""
    return model.head(model.neck(model.backbone((images.float() - model.mean) / model.std)))


@torch.inference_mode()
def time_models(models: Mapping[str, Detector], images: Tensor, batch: int, rounds: int, device: torch.device = CPU,
                plain: bool = False) -> pd.DataFrame:
    """Seconds of each call on a batch, one row a model and round: `forward`, `boxes` (softmax, decoding, NMS) and their sum, `whole`.

    In each round the models take turns, so that what else the machine does meets all of them; images (N, C, H, W) uint8 are used in turn. The
    clock is read when the device has finished. `plain`: float32, eager, channels first; else what `fast` makes of the models in the number format
    of `machine.precision_here`.
    """
    precision, rows, image_hw = "float32" if plain else precision_here(device), [], hw_of(images)
    ready = {name: _plain(m) if plain else fast(m, precision) for name, m in models.items()}
    ready = {name: model.to(device) for name, model in ready.items()}
    for number in range(-WARM_UP, rounds):
        part = images[torch.arange(number * batch, (number + 1) * batch) % len(images)].to(device)
        for name, model in ready.items():
            start = _now(device)
            with autocast(device, precision):
                logits, deltas = plain_forward(model, part) if plain else model(part)
            middle = _now(device)
            model.detect(logits, deltas, image_hw)
            end = _now(device)
            if number >= 0:
                rows.append({"model": name, "round": number, "forward": middle - start, "boxes": end - middle, "whole": end - start})
    table = pd.DataFrame(rows)
    table.attrs = {"rounds": rounds, "warm-up": WARM_UP, "precision": precision, "machine": machine_name(device)}
    return table


def _plain(model: Detector) -> Detector:
    return copy.deepcopy(model).eval().to(memory_format=torch.contiguous_format)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@kept
def latency(models: Mapping[str, Detector], images: Tensor, device: torch.device = CPU, rounds: int = 25) -> pd.DataFrame:
    """One row a model: ms from one image to its boxes, at batch 1: the median (p50) and p95 of the rounds, and the medians of its two parts."""
    times = time_models(models, images, 1, rounds, device)
    ms = (times.set_index("model")[["forward", "boxes", "whole"]] * 1000).groupby(level=0, sort=False)
    table = pd.DataFrame({"p50": ms["whole"].median(), "p95": ms["whole"].quantile(0.95),
                          "forward": ms["forward"].median(), "boxes": ms["boxes"].median()})
    table.attrs = times.attrs
    return table


@kept
def throughput(models: Mapping[str, Detector], images: Tensor, device: torch.device = CPU, batches: Sequence[int] = BATCHES,
               rounds: int = 3) -> pd.DataFrame:
    """Seconds of a batch, from images to boxes: one row a model and batch size, with the median, least and most of the rounds, and images/s.

    Batches grow as long as the last one took less than LONGEST seconds.
    """
    rows, attrs = [], {}
    for batch in batches:
        times = time_models(models, images, batch, rounds, device)
        attrs = times.attrs
        rows += [{"model": name, "batch": batch, "seconds": s.median(), "least": s.min(), "most": s.max(), "images/s": batch / s.median()}
                 for name, s in times.groupby("model", sort=False)["whole"]]
        if times["whole"].median() > LONGEST:  # twice as many would take twice as long, and tell nothing new
            break
    table = pd.DataFrame(rows)
    table.attrs = attrs
    return table


@kept
def speed_up(models: Mapping[str, Detector], images: Tensor, batch: int, device: torch.device = CPU, rounds: int = 3) -> pd.DataFrame:
    """Images/s of each model as PyTorch runs it by default and as `fast` makes it, on the same batch, in turn; the ratio's median, least and most."""
    pairs, attrs = [], {}
    for _ in range(rounds):
        times = {way: time_models(models, images, batch, 1, device, plain) for way, plain in ((PLAIN, True), (FAST, False))}
        pairs.append(pd.DataFrame({way: found.set_index("model")["whole"] for way, found in times.items()}))
        attrs = times[FAST].attrs
    seconds = pd.concat(pairs).groupby(level="model", sort=False)
    ratio = pd.concat(pair[PLAIN] / pair[FAST] for pair in pairs).groupby(level="model", sort=False)
    table = (batch / seconds.median()).add_suffix(", images/s").assign(ratio=ratio.median(), least=ratio.min(), most=ratio.max())
    table = table.rename_axis(None)
    table.attrs = {**attrs, "rounds": rounds}
    return table


# The report's "Runtime Analysis", by our names of its models: batches of 32 on its GPU, ms a batch and the frames/s that it printed
REPORT_BATCH = 32
REPORT_TIMES = {"baseline": (130.88, 244.50), "flip": (131.51, 243.33), "fpn": (277.73, 115.22), "focal": (278.90, 114.74),
                "deep_heads": (396.11, 80.78), "bias_init": (396.03, 80.80), "report_anchors": (395.47, 80.92)}


def runtime_table(speeds: pd.DataFrame, latencies: pd.DataFrame) -> pd.DataFrame:
    """The report's runtime table measured here, each column named for what it is, beside the report's own "Image Time".

    From `throughput`, its largest batch (the report's size where the machine is fast enough), and `latency`. The report's "Image Time" is the time
    of a batch over its size: how many ms it takes until the *next* image is done while 32 are under way, not how long one image takes.
    """
    rows = speeds[speeds["batch"] == speeds["batch"].max()].set_index("model")
    batch = int(rows["batch"].iloc[0])
    table = {}
    for name in rows.index:
        seconds, theirs = rows.loc[name, "seconds"], REPORT_TIMES.get(name)
        table[name] = {
            f"batch of {batch}, ms": f"{1000 * seconds:,.0f}", "batches/s": f"{1 / seconds:.2f}",
            "ms over images": f"{1000 * seconds / batch:.1f}", "images/s": f"{batch / seconds:.1f}",
            "one alone, ms (p50)": f"{latencies.loc[name, 'p50']:.1f}", "p95": f"{latencies.loc[name, 'p95']:.1f}",
            'theirs: "Image Time"': f"{theirs[0] / REPORT_BATCH:.2f}" if theirs else "-", '"FPS"': f"{theirs[1]:.2f}" if theirs else "-"}
    return pd.DataFrame(table).T


def megabytes(model: nn.Module) -> float:
    """Size of the parameters, MB (10^6 bytes)."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6


@kept
def resources(models: Mapping[str, Detector], images: Tensor, training: Mapping[str, Callable[[], object]] | None = None) -> pd.DataFrame:
    """One row a model: trained parameters, GFLOP an image, MB of weights, and the peak MB of tensors that one image takes on the way to its boxes.

    `training`: for each model a call that makes one training step (`benchmark.one_step`); a last column has the peak of two, beside the weights:
    maps, gradients and what the optimiser remembers.
    """
    rows = {}
    for name, model in models.items():
        precision = precision_here(model.mean.device)
        rows[name] = {"trained parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
                      "GFLOP an image": by_part(model, hw_of(images))["FLOP"].sum() / 1e9, "weights, MB": megabytes(model),
                      "peak of one image, MB": peak_memory(partial(_one_image, fast(model, precision), images, precision)) / 1e6}
        if training:  # two steps: the second finds the optimiser full
            rows[name]["peak of training, MB"] = peak_memory(lambda step=training[name]: (step(), step())) / 1e6
    return pd.DataFrame(rows).T


@torch.inference_mode()
def _one_image(model: Detector, images: Tensor, precision: str) -> None:
    with autocast(model.mean.device, precision):
        logits, deltas = model(images[:1].to(model.mean.device))
        model.detect(logits, deltas, hw_of(images))


def measured(profile: str | None = None, frames: int = 8, num_classes: int = 8) -> dict[str, dict]:
    """For every rung of a profile, measured on simulated frames with fresh networks (rungs with the same network share the figures).

    `gflop` an image, `peak_mb` of one image, `latency_ms` at batch 1 {p50, p95} and `images_per_s` {batch: images/s}. A fresh network without
    prior scores all anchors alike, so that decoding and NMS have as many candidates as they can have.
    """
    experiments = ladder(profile)
    first: dict[tuple, str] = {}
    keys = {}
    for name, e in experiments.items():
        keys[name] = (e.backbone, e.neck, e.head_depth, e.anchors if e.anchors in SPECS else BASELINE.name)
        first.setdefault(keys[name], name)
    sensor = Sensor(**next(iter(experiments.values())).sizes.sensor)
    pictures = [torch.from_numpy(image).permute(2, 0, 1) for image, _ in clip_frames(0, sensor, frames=frames)]
    models, images = {}, pad(pictures, BASELINE.strides[-1])
    mean, std = images.float().mean((0, 2, 3)), images.float().std((0, 2, 3))
    for name in first.values():
        e = experiments[name]
        models[name] = build(replace(e, prior=None), SPECS.get(e.anchors, BASELINE), num_classes, mean, std).eval()
    device = devices()[-1]
    delays, speeds = latency(models, images, device), throughput(models, images, device)
    used = resources(models, images)
    found = {name: {"gflop": used.loc[name, "GFLOP an image"], "peak_mb": used.loc[name, "peak of one image, MB"],
                    "latency_ms": delays.loc[name, ["p50", "p95"]].to_dict(),
                    "images_per_s": speeds[speeds["model"] == name].set_index("batch")["images/s"].to_dict()} for name in models}
    return {name: found[first[key]] for name, key in keys.items()}
