"""What things take on this machine: a training step, a validation frame, a notebook."""
import json
import os
import shutil
import time
from pathlib import Path

import pandas as pd
import torch

from . import machine, runs
from .anchors import SPECS
from .data.coco import Dataset
from .data.loader import TrainBatches, channel_statistics
from .experiments import Experiment, rung
from .models.detector import build
from .predict import autocast, predict
from .train import make_optimizer


def this_machine() -> pd.DataFrame:
    """Processor, memory, disk and number formats, as a table to show."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1024**3:.0f} GiB" if hasattr(os, "sysconf") else "unknown"
    rows = {
        "processor": machine.describe(), "cores": str(os.cpu_count()), "memory": memory,
        "free disk": f"{shutil.disk_usage(runs.home()).free / 1024**3:.0f} GiB",
        "GPU": torch.cuda.get_device_name() if device.type == "cuda" else "none, and none needed",
        "trains in": machine.precision_here(device),
    }
    return pd.DataFrame({"this machine": rows})


def step_seconds(experiment: Experiment, dataset: Dataset, repeats: int = 2) -> tuple[float, float]:
    """Seconds of one training step (the least of `repeats`, after one to warm up) and of one validation frame, measured with a fresh model."""
    split, spec = dataset[experiment.split], SPECS[experiment.anchors]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = machine.precision_here(device)
    model = build(experiment, spec, len(dataset.categories), *channel_statistics(split, most=8)).to(device).train()
    optimizer, batches, seconds = make_optimizer(model, experiment), TrainBatches(split, experiment, spec.strides[-1]), []
    for _ in range(repeats + 1):
        images, boxes, labels = batches[0]
        start = time.perf_counter()
        with autocast(device, precision):
            logits, deltas = model(images.to(device))
        losses = model.loss(logits, deltas, [b.to(device) for b in boxes], [l.to(device) for l in labels], tuple(images.shape[-2:]), experiment.loss)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    few = dataset["val"].subset(list(range(min(8, len(dataset["val"])))))
    start = time.perf_counter()
    predict(model, few, precision, experiment.loss)
    return min(seconds[1:]), (time.perf_counter() - start) / len(few)


def forecast(dataset: Dataset, profile: str | None = None) -> pd.DataFrame:
    """For each notebook beside the package: what it trains, what of that is trained already, and the minutes that the rest takes here.

    Which rungs a notebook trains stands in its metadata, `detlib.trains`; each distinct network is timed once.
    """
    timed: dict[tuple, tuple[float, float]] = {}
    rows = []
    for path in notebooks():
        notebook = json.loads(path.read_text())
        names = notebook["metadata"].get("detlib", {}).get("trains", [])
        minutes = 0.0
        todo = [e for name in names if not runs.find_run(e := rung(name, profile), dataset)]
        for experiment in todo:
            key = (experiment.backbone, experiment.neck, experiment.head_depth)
            timed[key] = timed.get(key) or step_seconds(experiment, dataset)
            step, frame = timed[key]
            minutes += (experiment.sizes.steps * step + experiment.sizes.validations * len(dataset["val"]) * frame) / 60
        rows.append({"notebook": path.stem, "trains": ", ".join(names) or "nothing", "trained already": f"{len(names) - len(todo)} of {len(names)}",
                     "minutes of training here": f"{minutes:.1f}"})
    return pd.DataFrame(rows).set_index("notebook") if rows else pd.DataFrame()


def notebooks() -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted((runs.home() / "notebooks").glob("[0-9]*.ipynb"))
