"""A finished run trained again from its record, in a folder that is thrown away, and compared with what it was."""
import json
import tempfile
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from . import runs
from .anchors import STRIDES, AnchorSpec
from .files import write_json
from .machine import devices, threads
from .predict import finished_run
from .train import configuration, train_run


def rerun(folder: str | Path, data: str | None = None, invalid: str | None = None, progress: bool = True) -> dict[str, Any]:
    """Train a finished run's record again, with its number of threads, and compare; the run itself is not touched.

    -> identical; first_step (whose log row differs, None: none), loss, val_loss, weights (largest absolute differences), mAP (again minus then),
    and notes on what is not as it was. Raises ValueError where the data or the settings are no longer those of the record.
    """
    run = finished_run(folder)
    splits = ("train", "val", run.experiment.split)
    dataset, config = runs.open_data(data or runs.data_of(run), run.experiment.profile, needs=splits, invalid=invalid), run.config
    spec = AnchorSpec(STRIDES, tuple(tuple(map(tuple, shapes)) for shapes in config["anchors"]), run.experiment.anchors)
    now = json.loads(json.dumps(configuration(run.experiment, dataset, spec)))
    if changed := runs.config_differences(config, now):
        raise ValueError(f"{run.folder}: it cannot be repeated here: {'; '.join(changed)}. Bring back the data and settings of its config.json; "
                         "name the data with --data")
    with threads(config.get("threads", torch.get_num_threads())), tempfile.TemporaryDirectory(prefix="detlib-rerun-") as scratch:
        again = runs.Run(Path(scratch) / "run", run.experiment)
        write_json(again.folder / "config.json", config)
        train_run(again, dataset, spec, devices()[-1], progress=progress)
        return _compared(run, again) | {"notes": _notes(config)}


def _compared(then: runs.Run, now: runs.Run) -> dict[str, Any]:
    rows = list(zip_longest(*([_without_times(row) for row in run.log_rows()] for run in (then, now)), fillvalue={}))
    first = next((one.get("step", other.get("step")) for one, other in rows if one != other), None)
    before, after = then.weights(), now.weights()
    apart = {key: max((abs(one[key] - other[key]) for one, other in rows if key in one and key in other), default=0.0)
             for key in ("loss", "val_loss")}
    weights = max(float((before[key].double() - after[key].double()).abs().max()) for key in before)
    scores = [run.metrics["mAP"] for run in (then, now)]
    same = first is None and weights == 0 and then.metrics == now.metrics and then.detections() == now.detections()
    return {"identical": same, "first_step": first, **apart, "weights": weights, "mAP": None if None in scores else scores[1] - scores[0]}


def _without_times(row: dict) -> dict:
    return {key: value for key, value in row.items() if "seconds" not in key}


def _notes(config: dict) -> list[str]:
    notes = [f"{name} was {was}, here it is {here}" for name, was in config["versions"].items() if (here := version(name)) != was]
    return notes if "threads" in config else [*notes, "the record does not say with how many threads it was trained"]


def told(found: dict[str, Any]) -> str:
    """The comparison in sentences."""
    since = f" from step {found['first_step']} on" if found["first_step"] else ""
    said = "Identical: losses, metrics, detections and weights, bit by bit." if found["identical"] else (
        f"Different{since}: losses by up to {found['loss']:.3g}, on val by up to "
        f"{found['val_loss']:.3g}, weights by up to {found['weights']:.3g}, mAP by {0 if found['mAP'] is None else found['mAP']:+.4f}.")
    return "\n".join([said, *(f"{note}." for note in found["notes"])])
