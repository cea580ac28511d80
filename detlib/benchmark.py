"""What things take on this machine: a training step, a validation frame, a notebook."""
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from . import machine, runs
from .anchors import BASELINE
from .data.augment import augmentations
from .data.coco import Dataset
from .data.loader import Cache, TrainBatches, channel_statistics, pad
from .experiments import Experiment, parse, repeats
from .matching import targets
from .models.detector import Detector, build
from .predict import predict
from .train import gradient_, make_optimizer


def this_machine() -> pd.DataFrame:
    """Processor, memory, disk and number formats, as a table to show."""
    device = machine.devices()[-1]
    memory = machine.memory_gib()
    rows = {
        "processor": machine.describe(), "cores": str(os.cpu_count()), "memory": f"{memory:.0f} GiB" if memory else "unknown",
        "free disk": f"{shutil.disk_usage(runs.home()).free / 1024**3:.0f} GiB",
        "GPU": torch.cuda.get_device_name() if device.type == "cuda" else "none, and none needed",
        "trains in": machine.precision_here(device),
    }
    return pd.DataFrame({"this machine": rows})


def one_step(experiment: Experiment, dataset: Dataset) -> tuple[Detector, Callable[[], None]]:
    """A fresh model, and a call that trains it by one step, always on the same batch."""
    split, spec = dataset[experiment.split], runs.anchor_set(experiment, dataset)
    device = machine.devices()[-1]
    model = build(experiment, spec, len(dataset.categories), *channel_statistics(split, most=8)).to(device).train()
    optimizer, precision = make_optimizer(model, experiment), machine.precision_here(device)
    batch = TrainBatches(split, experiment, spec.strides[-1])[0]

    def step() -> None:
        gradient_(model, batch, experiment.loss, precision)
        optimizer.step()

    return model, step


def step_seconds(experiment: Experiment, dataset: Dataset, repeats: int = 2) -> tuple[float, float]:
    """Seconds of one training step (the least of `repeats`, after one to warm up) and of one validation frame, measured with a fresh model."""
    (model, step), seconds = one_step(experiment, dataset), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    few = dataset["val"].subset(list(range(min(8, len(dataset["val"])))))
    start = time.perf_counter()
    predict(model, few, machine.precision_here(model.mean.device), experiment.loss)
    return min(seconds[1:]), (time.perf_counter() - start) / len(few)


def trainings(notebook: Path, dataset: Dataset, profile: str | None = None, seeds: int | str | None = None) -> list[Experiment]:
    """The trainings of a notebook on this data: what its metadata's `detlib.trains` names, and with several seeds (`experiments.seed_count`) what
    `detlib.repeats` names."""
    known = about(notebook)
    wanted = [parse(name, profile) for name in known.get("trains", [])] + repeats(profile, seeds, known.get("repeats", []))
    return [experiment for experiment in wanted if experiment.split in dataset or dataset.name == "simulated"]  # which is made when needed


def about(notebook: Path) -> dict:
    """What a notebook's metadata say of it to this package, under `detlib`."""
    return json.loads(notebook.read_text())["metadata"].get("detlib", {})


def forecast(dataset: Dataset, profile: str | None = None, seeds: int | None = None) -> pd.DataFrame:
    """For each notebook beside the package: what it trains, what of that is trained already, and the minutes that the rest takes here, one
    training after another, each in the first notebook that names it; each distinct network is timed once."""
    timed: dict[tuple, tuple[float, float]] = {}
    before: set[Experiment] = set()
    rows = []
    for path in notebooks():
        names, minutes, wanted = about(path).get("trains", []), 0.0, trainings(path, dataset, profile, seeds)
        todo = [experiment for experiment in wanted if not runs.find_run(experiment, dataset)]
        for experiment in set(todo) - before:
            key = (experiment.backbone, experiment.neck, experiment.head_depth)
            timed[key] = timed.get(key) or step_seconds(replace(experiment, split="train"), dataset)
            step, frame = timed[key]
            minutes += (experiment.sizes.steps * step + experiment.sizes.validations * len(dataset["val"]) * frame) / 60
        before |= set(todo)
        rows.append({"notebook": path.stem, "trains": (", ".join(names) or "nothing") + (" and repeats" if len(wanted) > len(names) else ""),
                     "trained already": f"{len(wanted) - len(todo)} of {len(wanted)}",
                     "minutes of training here": f"{minutes:.1f}"})
    return pd.DataFrame(rows).set_index("notebook").rename_axis(None) if rows else pd.DataFrame()


def notebooks() -> list[Path]:
    """The numbered notebooks, in order: the home's, else, where DETLIB_HOME names a home of outputs alone, those beside the package."""
    places = (runs.home(), Path(__file__).resolve().parents[1])
    return next((found for place in places if (found := sorted((place / "notebooks").glob("[0-9]*.ipynb")))), [])


REPORT_LOADER = {"none": 26.69, "flip": 25.36}  # images/s, the report's table: its "Normal" and "With Data Augmentation"
READ, CACHED, MATCH = "read and decode", "from the cache", "match anchors"


def loader_costs(dataset: Dataset, images: int = 8, rounds: int = 7) -> pd.DataFrame:
    """What each part of the loader takes for one image, ms: median, least and most of `rounds` rounds; in each, all parts in turn on the same images.

    One thread, as a loader's worker has. Augmentations apply always, to whole frames; files are in the system's memory after a round to warm up.
    """
    split, spec = dataset["train"], BASELINE
    indices = split.spread(images)
    cache, rng, grid = Cache(split), np.random.default_rng(0), spec.grid(spec.padded(split.image_hw))
    samples = [(cache[i], *split.targets(i)) for i in indices]
    parts: dict[str, tuple[str, Callable[..., object]]] = {
        READ: ("reading", lambda k: split.image(indices[k])), CACHED: ("reading", lambda k: cache[indices[k]])}
    parts |= {name: ("augmentation", lambda k, apply=apply: apply(samples[k], rng)) for name, apply in augmentations(dataset).items()}
    parts["stack"] = ("batch", lambda k: pad([samples[k][0]], spec.strides[-1]))
    parts[MATCH] = ("matching", lambda k: targets(grid, [samples[k][1]], [samples[k][2]]))
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    with machine.threads(1):
        for _ in range(rounds + 1):
            for name, (_, call) in parts.items():
                start = time.perf_counter()
                for k in range(len(samples)):
                    call(k)
                seconds[name].append((time.perf_counter() - start) / len(samples))
    table = pd.DataFrame({name: 1000 * np.array(values[1:]) for name, values in seconds.items()})
    table = pd.DataFrame({"group": {name: group for name, (group, _) in parts.items()}, "ms": table.median(), "least": table.min(),
                          "most": table.max()})
    table.attrs = {"images": len(samples), "rounds": rounds, "anchors": len(grid)}
    return table.rename_axis("part")


def loader_speed(costs: pd.DataFrame) -> pd.DataFrame:
    """Images per second without and with each augmentation (applied to every image), from the medians of `loader_costs`, for four loaders.

    The report's own two numbers stand beside: its loader read, augmented and matched in one.
    """
    ms = costs["ms"]
    added = {"none": 0.0, **ms[costs["group"] == "augmentation"]}
    loaders = {"cache": ms[CACHED], "cache + matching": ms[CACHED] + ms[MATCH], "file": ms[READ], "file + matching": ms[READ] + ms[MATCH]}
    table = pd.DataFrame({loader: {name: 1000 / (base + ms["stack"] + extra) for name, extra in added.items()} for loader, base in loaders.items()})
    shown = table.map(lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}")
    shown["the report's file + matching"] = [f"{REPORT_LOADER[name]:.2f}" if name in REPORT_LOADER else "-" for name in shown.index]
    return shown.rename_axis("images/s", axis=1)
