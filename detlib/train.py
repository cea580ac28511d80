"""Training: one plain loop that stops and goes on at any step with the same result."""
import json
import math
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from . import distributed, runs
from .anchors import AnchorSpec
from .boxes import hw_of
from .data.coco import Dataset, Split
from .data.loader import Batch, Cache, TrainBatches, channel_statistics
from .evaluate.coco import evaluate
from .experiments import CLIP_GRADIENT, LADDER, NULL, Experiment, Profile, parse, profile_name, seed_count
from .files import alone, write_atomic, write_json, writing
from .machine import devices, precision_here, readers_here, threads
from .models.detector import Detector, build
from .models.pretrained import start_from_imagenet_
from .models.transfer import start_from_
from .options import training
from .predict import autocast, check_classes, load_detector, predict

CHECKPOINT_SECONDS = 20  # at most this much work is done again after a kill
OnLog = Callable[[dict, runs.Run], None]


class TrainingDiverged(FloatingPointError):
    """A loss or gradient that is not finite; the message says at which step, on which images, and in which part."""


def fit(experiment: Experiment, dataset: Dataset, on_log: OnLog | None = None, progress: bool = True, stop_after: int | None = None) -> runs.Run:
    """Train an experiment on a data set, or go on where it stopped, or return the finished run.

    `on_log(row, run)` is called with each step's log row; `stop_after` leaves the run after so many steps, to be continued by the next call.
    A run that another process trains is waited for in a notebook, and refused elsewhere (`files.InUse`).
    """
    if experiment.augment == "flip_roll" and not dataset.panorama:
        raise ValueError(f'augment="flip_roll" with {dataset.name}: a roll is right for panoramas alone; take "flip", or say "panorama": true in '
                         "dataset.json where the first and the last column are neighbours")
    device = devices()[-1]
    folder, wait = runs.run_folder(experiment, dataset), "ipykernel" in sys.modules
    with distributed.processes(device), alone(folder, wait) if distributed.rank() == 0 else nullcontext(), writing(folder):
        spec = distributed.first_then_others(lambda: runs.anchor_set(experiment, dataset))
        run = distributed.first_then_others(
            lambda: runs.open_run(experiment, dataset, configuration(experiment, dataset, spec), precision_here(device)))
        if distributed.rank() == 0:
            run.tidy()
        if not run.finished:
            here = torch.get_num_threads()
            with threads(min(run.config.get("threads", here), here)):  # as it was begun, so that it goes on to the same result
                train_run(run, dataset, spec, device, on_log, progress, stop_after)
    return run


def train_run(run: runs.Run, dataset: Dataset, spec: AnchorSpec, device: torch.device, on_log: OnLog | None = None, progress: bool = True,
              stop_after: int | None = None) -> None:
    """From where a run stands to its end; in several processes the first one writes."""
    experiment, sizes, writes = run.experiment, run.experiment.sizes, distributed.rank() == 0
    train = training_split(experiment, dataset)
    if sizes.batch < distributed.world():
        raise ValueError(f"a batch of {sizes.batch} images cannot be divided over {distributed.world()} processes; start at most {sizes.batch}")
    torch.manual_seed(experiment.seed)
    model = build(experiment, spec, len(dataset.categories), *channel_statistics(train)).to(device).train()
    optimizer, precision = make_optimizer(model, experiment), run.config["precision"]
    first = 0
    if state := run.load_checkpoint():
        first = state["step"]
        try:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            if any(isinstance(v, Tensor) and v.dim() and v.shape != p.shape for p, kept in optimizer.state.items() for v in kept.values()):
                raise ValueError("of an older detlib: the optimiser's numbers lie in another order")
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{run.folder / 'checkpoint.pt'}: a checkpoint of another network ({str(error).splitlines()[-1].strip()[:160]}); "
                             "remove the folder to train anew") from None
    elif experiment.weights == "imagenet":
        print(start_from_imagenet_(model))
    elif start := runs.start_run(experiment):
        said = start_from_(model, start.weights(), start.config["categories"], dataset.categories)
        print(f"From {start.folder.relative_to(runs.outputs() / 'runs')}:\n  {said}.")
    engine = distributed.engine(model)
    readers = distributed.first_then_others(readers_here)
    batches, val_images = TrainBatches(train, experiment, spec.strides[-1], readers), Cache(dataset["val"], readers)
    last = min(sizes.steps, stop_after or sizes.steps)

    def save(done: int) -> None:
        if writes:
            run.save_checkpoint({"step": done, "model": model.state_dict(), "optimizer": optimizer.state_dict()})

    bar = tqdm(total=sizes.steps, initial=first, desc=f"{experiment.rung}, seed {experiment.seed}", unit="step",
               disable=None if progress and writes else True)
    with bar, Log(run, first, writes) as log, StopBetweenSteps() as stop:
        saved = time.monotonic()
        for step in range(first, last + 1):  # `step` steps are done
            stop.agree()
            due = step in validation_steps(sizes) and step not in log.validated
            if step > first and (due or stop.asked or step == last or time.monotonic() - saved > CHECKPOINT_SECONDS):
                log.sync()
                save(step)
                saved = time.monotonic()
            if due and not stop.asked:
                with stop.at_once():  # nothing is lost: the step is saved, and validation starts anew
                    log.write(row := validate(step, model, run, dataset, val_images, precision))
                if on_log:
                    on_log(row, run)
            if stop.asked and writes:
                print(f"Stopped after step {step} of {sizes.steps}, which is kept; call it again to go on from there.")
            if stop.asked:
                raise KeyboardInterrupt
            if step == last:
                break
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = experiment.optimizer_settings["lr"] * rate(step, sizes)
            values = gradient_(engine, batches[step], experiment.loss, precision)
            check_finite(step, values, batches, optimizer)
            optimizer.step()

            found = {name: value.item() for name, value in values.items()}
            row = {"step": step + 1, "lr": optimizer.param_groups[0]["lr"], "loss": found["classes"] + found["boxes"], **found,
                   "seconds": time.perf_counter() - started}
            log.write(row)
            bar.update()
            if on_log:
                on_log(row, run)
    if last == sizes.steps:
        distributed.first_then_others(lambda: finish(run, model) if writes else None)


def training_split(experiment: Experiment, dataset: Dataset) -> Split:
    """The frames that an experiment trains on: all of its split, or `train_frames` of them, spread evenly."""
    split = dataset[experiment.split]
    if (experiment.train_frames or 0) > len(split):
        raise ValueError(f"train_frames={experiment.train_frames}: {experiment.split} of {dataset.name} has {len(split)} frames; "
                         "leave it out to train on all")
    return split if experiment.train_frames is None else split.subset(split.spread(experiment.train_frames))


def configuration(experiment: Experiment, dataset: Dataset, spec: AnchorSpec) -> dict:
    """What a run depends on beside its experiment and the versions; compared before a folder is used again."""
    start = runs.start_run(experiment)
    return {"start": start and start.weights_hash(),
            "profile": asdict(experiment.sizes), "optimizer": experiment.optimizer_settings, "anchors": spec.shapes,
            "categories": dataset.categories, "input": dataset.plan,
            "data": {"name": dataset.name, "size_limits": dataset.size_limits,
                     experiment.split: training_split(experiment, dataset).fingerprint, "val": dataset["val"].fingerprint}}


def make_optimizer(model: nn.Module, experiment: Experiment) -> torch.optim.Optimizer:
    """The optimiser that an experiment names. It holds views of the weights: call it when the model is on its device and in its memory layout."""
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[experiment.optimizer]
    parameters = list(model.parameters())
    views = [dense(p.detach(), p).requires_grad_() for p in parameters]
    optimizer = kind(views, fused=True, **experiment.optimizer_settings)  # fused: one pass over the weights, if they lie in order

    def lend(*_: object) -> None:
        for view, p in zip(views, parameters, strict=True):
            view.grad = None if p.grad is None else dense(p.grad, p)

    optimizer.register_step_pre_hook(lend)
    optimizer.register_step_post_hook(lambda own, *_: own.zero_grad())  # the model's remain
    return optimizer


def dense(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor of a parameter's shape, as a view in the order in which that parameter lies in memory: (O, H, W, I) of one in channels_last."""
    return tensor if like.is_contiguous() else tensor.permute(0, 2, 3, 1)


def gradient_(engine: nn.Module, batch: Batch, kind: str, precision: str) -> dict[str, Tensor]:
    """The gradient of a batch's loss, clipped, in the parameters' `grad`; -> the loss's parts, classes and boxes, and the norm before clipping.

    `engine` is a Detector, or one wrapped by `distributed.engine`: then each process computes its part of the batch, and all get the same results.
    """
    model = cast(Detector, getattr(engine, "module", engine))
    (images, boxes, labels), device = map(distributed.mine, batch), model.mean.device
    with autocast(device, precision):
        logits, deltas = engine(images.to(device))
    parts = model.loss(logits, deltas, [b.to(device) for b in boxes], [l.to(device) for l in labels], hw_of(images), kind,
                       distributed.total)
    engine.zero_grad()
    (distributed.world() * (parts["classes"] + parts["boxes"])).backward()  # of which the engine takes the mean over processes
    return {**{name: distributed.total(value) for name, value in parts.items()}, "gradient": clip_gradient_(model)}


def clip_gradient_(model: nn.Module) -> Tensor:
    """Scale the gradient to the norm CLIP_GRADIENT where it is longer, and return the norm that it had; a shorter one is left as it is."""
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if norm > CLIP_GRADIENT:  # `clip_grad_norm_` multiplies by 1 otherwise: as long as the norm itself takes
        nn.utils.clip_grads_with_norm_(model.parameters(), CLIP_GRADIENT, norm)
    return norm


def rate(step: int, sizes: Profile) -> float:
    """Factor on the learning rate: linear warm-up from 0.1, then a cosine to zero or constant."""
    if step < sizes.warmup:
        return 0.1 + 0.9 * step / sizes.warmup
    if not sizes.cosine:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - sizes.warmup) / (sizes.steps - sizes.warmup)))


def validation_steps(sizes: Profile) -> set[int]:
    """After which steps the validation split is evaluated: at equal distances, the last after the last step."""
    return {round(sizes.steps * k / sizes.validations) for k in range(1, sizes.validations + 1)}


def validate(step: int, model: Detector, run: runs.Run, dataset: Dataset, images: Cache, precision: str) -> dict:
    """Metrics and losses on the validation split after `step` steps, as a log row; the detections are kept beside the log."""
    started = time.perf_counter()
    distributed.same_buffers_(model)  # the running statistics of batch norm, which each process has of its own part
    detections, losses = predict(model, dataset["val"], precision, run.experiment.loss, images=images)
    assert losses is not None  # a loss is named
    results = evaluate(detections, dataset["val"], dataset)
    if distributed.rank() == 0:
        write_atomic(run.folder / "detections.json", json.dumps(detections.to_coco(dataset["val"])))
    return {"step": step, "val": results, "val_loss": losses["classes"] + losses["boxes"], **{f"val_{k}": v for k, v in losses.items()},
            "val_seconds": time.perf_counter() - started}


def finish(run: runs.Run, model: Detector) -> None:
    """Keep the weights and the last validation's metrics; `metrics.json` is written last and makes the run finished."""
    run.save_weights(model.state_dict())
    row = next(row for row in reversed(run.log_rows()) if "val" in row)
    write_json(run.folder / "metrics.json", {**row["val"], "val_loss": row["val_loss"], "steps": row["step"]})
    run.tidy()


def load_model(run: runs.Run, dataset: Dataset) -> Detector:
    """A finished run's trained detector, ready to predict on data of its classes."""
    check_classes(run, dataset)
    return load_detector(run)


def check_finite(step: int, values: dict[str, Tensor], batches: TrainBatches, optimizer: torch.optim.Optimizer) -> None:
    """Stop with the step, the images and the part when a loss or the gradient's norm is not finite."""
    wrong = [name for name, value in values.items() if not torch.isfinite(value)]
    if wrong:
        files = ", ".join(batches.split.frames[i].file_name for i in batches.frames(step))
        raise TrainingDiverged(
            f"step {step + 1}: {' and '.join(wrong)} not finite ({', '.join(f'{k} {v.item():g}' for k, v in values.items())}), at a rate of "
            f"{optimizer.param_groups[0]['lr']:.2g}, on the images {files}. Usual causes: a rate that is too high, or boxes without extent in these "
            "images. The last checkpoint is untouched.")


class Log:
    """A run's log as json lines and as TensorBoard events; what lies behind the step that training goes on from is dropped."""

    def __init__(self, run: runs.Run, steps: int, writes: bool = True):
        rows = [row for row in run.log_rows() if row["step"] <= steps]
        trained = [row["step"] for row in rows if "loss" in row]
        self.validated = {row["step"] for row in rows if "val" in row}
        if len(trained) < steps:
            raise ValueError(f"{run.folder}: the log ends at step {len(trained)}, the checkpoint stands at {steps}; delete the folder to train anew")
        self.writes = writes
        if not writes:
            return
        write_atomic(run.folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self.file = open(run.folder / "log.jsonl", "a")
        self.board = SummaryWriter(str(run.folder / "tensorboard"), purge_step=steps + 1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        if self.writes:
            self.file.close()
            self.board.close()

    def sync(self) -> None:
        """Bring what was written to the disk, before a checkpoint counts on it."""
        if self.writes:
            os.fsync(self.file.fileno())

    def write(self, row: dict) -> None:
        """Add one line: a step, or a validation."""
        if not self.writes:
            return
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        for name in ("lr", "loss", "classes", "boxes", "gradient", "val_loss", "val_classes", "val_boxes"):
            if name in row:
                self.board.add_scalar(name, row[name], row["step"])
        for name, value in (row["val"]["per_class"] | {k: row["val"][k] for k in ("mAP", "AP50", "AP75")} if "val" in row else {}).items():
            if value is not None:
                self.board.add_scalar(f"val/{name}", value, row["step"])


class StopBetweenSteps:
    """Ctrl-C, or a notebook's stop button, ends training after the step under way; a second one, or one in `at_once`, ends it immediately."""

    def __init__(self):
        self.asked = self.now = False

    def __enter__(self) -> "StopBetweenSteps":
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.before)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While this is entered, a stop does not wait."""
        self.now = True
        try:
            yield
        except KeyboardInterrupt:
            print("Stopped while validating; all steps are kept. Call it again to go on from there.")
            raise
        finally:
            self.now = False

    def agree(self) -> None:
        """Let all processes stop where one was asked to."""
        if distributed.world() > 1:
            self.asked = bool(distributed.total(torch.tensor(int(self.asked))))

    def _ask(self, number: int, frame: object) -> None:
        if self.asked or self.now:
            raise KeyboardInterrupt
        self.asked = True


def train_rungs(rungs: list[str], data: str | None, profile: str | None, invalid: str | None, seed: int, seeds: str | None, changes: list[str],
                init: Path | None) -> None:
    """Train rungs or the ladder, for one or several seeds, and say what came of each; the options are those of `options.training`."""
    if init:
        changes = [*changes, f"weights={runs.weights_name(init)}"]
    number, names = seed_count(seeds), [name for rung in rungs for name in ([n for n, _ in LADDER] if rung == "LADDER" else [rung])]
    wanted = [(name, k) for k in range(seed, seed + number) for name in names]
    if "LADDER" in rungs and number > 1:
        wanted += [(NULL, k) for k in range(seed + number, seed + 2 * number)]
    for experiment in [parse("+".join([name, *changes]), profile, k) for name, k in wanted]:  # all are read before the first is trained
        dataset = distributed.first_then_others(
            partial(runs.open_data, data, profile_name(profile), needs=("train", "val", experiment.split), invalid=invalid))
        if experiment.split not in dataset:
            print(f"{experiment.rung}: not run: no {experiment.split} in this data")
            continue
        run = fit(experiment, dataset)
        if distributed.rank() == 0:
            value = run.metrics["mAP"]
            print(f"{experiment.rung}, seed {experiment.seed}: mAP {'no objects' if value is None else f'{value:.3f}'} over "
                  f"{run.metrics['classes_with_objects']} of {run.metrics['classes']} classes; {run.folder}")


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m detlib.train", description="Train as `detlib train` does; torchrun starts it on several processes.")
    training(parser)
    options = vars(parser.parse_args())
    with distributed.processes(devices()[-1]):
        train_rungs(**options)
