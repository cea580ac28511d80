"""What a figure or table is asked of, and those that take more than a line to make."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from . import cost, plots, runs
from .anchors import BASELINE, AnchorSpec
from .data.coco import Dataset, Split
from .data.loader import pad
from .evaluate import coco
from .evaluate.breakdown import miss_reasons, properties
from .evaluate.changes import Changes, chosen_frames, paired_changes, run_outcome
from .evaluate.errors import error_types
from .evaluate.ladder import Row, compared
from .evaluate.starts import Found, trained
from .evaluate.verdict import verdict
from .experiments import KNOWN, Experiment, ladder, parse, rung, seed_count
from .machine import devices, machine_name
from .models import proofs
from .models.detector import Detector
from .models.fpn import FPN
from .predict import run_detections
from .shift import trust
from .train import load_model


@dataclass(frozen=True)
class Asked:
    """What a figure or table is asked of: the data, the profile, rungs, seeds, a split and a frame of it."""

    data: str | None = None
    profile: str | None = None
    invalid: str | None = None
    rungs: Sequence[str] = ()
    seeds: int | str | None = None
    split: str = "train"
    frame: int | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)  # of the data's folder, where it leaves something open

    @cached_property
    def dataset(self) -> Dataset:
        """The opened data set."""
        return runs.open_data(self.data, self.profile, invalid=self.invalid, **self.reading)

    @property
    def frames(self) -> Split:
        """The split that was named."""
        return self.dataset[self.split]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that distributions are drawn of."""
        return plots.counted(self.dataset)

    @property
    def pair(self) -> dict[str, Split]:
        """What is compared of train and val: the complete annotations, where there are any, by the names of their splits."""
        return {self.splits[name].name: self.splits[name] for name in ("train", "val") if name in self.splits}

    @property
    def index(self) -> int:
        """The frame that was named, else the one with the most boxes."""
        if self.frame is None:
            return int(self.frames.boxes["frame"].mode()[0]) if len(self.frames.boxes) else 0
        if not 0 <= self.frame < len(self.frames):
            raise ValueError(f"no frame {self.frame}: {self.split} has frames 0 to {len(self.frames) - 1}")
        return self.frame

    @property
    def anchor_sets(self) -> dict[str, AnchorSpec]:
        """The baseline's anchors, the report's and those fitted to the data."""
        return {name: runs.anchor_set(rung(row, self.profile), self.dataset) for name, row in
                (("baseline", "baseline"), ("report", "report_anchors"), ("fitted", "fitted_anchors"))}

    def experiments(self, default: Sequence[str]) -> list[Experiment]:
        """The rungs that were named, else the usual ones of the figure; `fpn+weights=imagenet` names changed fields."""
        return [parse(text, self.profile) for text in self.rungs or default]

    def repeated(self, default: Sequence[str]) -> dict[str, list[runs.Run]]:
        """The finished runs of the rungs, one a seed; an error where one is missing."""
        found = {}
        for experiment in self.experiments(default):
            found[experiment.rung] = runs.find_runs(experiment, self.dataset, range(seed_count(self.seeds)))
            if not found[experiment.rung]:
                raise ValueError(f"{experiment.rung} has no finished run on {self.dataset.name} in the profile {experiment.profile}: "
                                 f"{runs.train_command(experiment, self.dataset)}" + ("" if self.rungs else ", or name others with --rungs"))
        return found

    def runs(self, default: Sequence[str]) -> dict[str, runs.Run]:
        """The first of them for each rung."""
        return {name: found[0] for name, found in self.repeated(default).items()}


def reach(a: Asked) -> Figure:
    """What one lit cell of each level leaves on the finest map of a fresh FPN."""
    spec, neck = BASELINE, proofs.fresh(rung("fpn", a.profile), a.dataset).neck
    assert isinstance(neck, FPN)
    rows, columns = spec.grid_hws(spec.padded(a.dataset["train"].image_hw))[0]
    cells = [((rows // 2) >> level, (columns // 2) >> level) for level in range(len(spec.strides))]
    return plots.reach([proofs.reach(neck, (rows, columns), level, cell) for level, cell in enumerate(cells)], cells, spec.strides[0])


def initial_foreground(a: Asked) -> Figure:
    """What fresh heads call foreground, level by level: with the prior, without it, and as the report did it."""
    rows = {name: proofs.fresh(rung(name, a.profile), a.dataset) for name in ("bias_init", "deep_heads")}
    rows["the report's"] = proofs.fresh(rung("bias_init", a.profile), a.dataset, report_init=True)
    prior = rung("bias_init", a.profile).prior
    assert prior is not None  # it is what that row changes
    return plots.initial_foreground({name: proofs.foreground_by_level(model.head) for name, model in rows.items()}, prior, "fresh heads, seed 0")


def loss_shares(a: Asked) -> Figure:
    """Who carries the classification loss of a fresh network, without and with the prior."""
    return plots.loss_shares({e.rung: proofs.loss_shares(*proofs.first_batch(proofs.fresh(e, a.dataset), e, a.dataset))
                              for e in a.experiments(("deep_heads", "bias_init"))}, "networks before training, the first batch of seed 0")


def first_losses(a: Asked) -> pd.DataFrame:
    """The losses before the first step: with the prior, without it, and as the report did it."""
    found = {e.rung: proofs.first_loss(e, a.dataset) for e in a.experiments(("deep_heads", "bias_init"))}
    found["the report's bias_init"] = proofs.first_loss(rung("bias_init", a.profile), a.dataset, report_init=True)
    return pd.DataFrame(found).T.map("{:.2f}".format)


def footprints(a: Asked) -> Figure:
    """What the finest level's middle cell sees, without and with the pyramid, in fresh networks."""
    image = a.frames.image(a.index)
    models = {name: proofs.fresh(rung(name, a.profile), a.dataset) for name in ("resnet", "fpn")}
    stride, (rows, columns) = BASELINE.strides[0], BASELINE.grid_hws(BASELINE.padded(a.frames.image_hw))[0]
    cell = rows // 2, columns // 2
    return plots.footprints({name: proofs.footprint(m, image, 0, cell) for name, m in models.items()}, image,
                            ((cell[1] + 0.5) * stride, (cell[0] + 0.5) * stride), "finest level, untrained networks")


def first_network(a: Asked) -> Detector:
    """The baseline before training."""
    return proofs.fresh(rung("baseline", a.profile), a.dataset)


def found(a: Asked) -> Figure:
    """What a trained rung found on its median and its best validation frame."""
    (name, run), *_ = a.runs(("adam",)).items()
    return plots.truth_and_found(a.dataset["val"], coco.kept_detections(run, a.dataset), 0.5, name)


def gain_against_coverage(a: Asked) -> Figure:
    """What each class gained in coverage and in AP between two rungs with other anchors."""
    before, after = ((runs.anchor_set(found[0].experiment, a.dataset), found) for found in pair(a, ("bias_init", "fitted_anchors")))
    return plots.gain_against_coverage(a.dataset, before, after)


NETWORKS = ("baseline", "resnet", "fpn", "deep_heads", "report_anchors")  # the different ones


def models(a: Asked) -> tuple[dict[str, Detector], torch.Tensor]:
    """The trained detectors of the rungs, and eight frames of the split val to measure them on."""
    found = {name: load_model(run, a.dataset) for name, run in a.runs(NETWORKS).items()}
    val = a.dataset["val"]
    return found, pad([val.image(i) for i in val.spread(8)], next(iter(found.values())).anchors.strides[-1])


def cost_by_part(a: Asked) -> Figure:
    """Parameters and arithmetic by level."""
    image_hw = BASELINE.padded(a.dataset["val"].image_hw)
    counted = {e.rung: cost.by_part(cost.fresh_on_meta(e, len(a.dataset.categories)), image_hw)
               for e in a.experiments(("baseline", "fpn", "deep_heads"))}
    return plots.cost_by_part(counted, image_hw)


def errors(a: Asked) -> pd.DataFrame:
    """The errors of a rung."""
    (run, *_) = a.runs(("fpn",)).values()
    return error_types(run_detections(run, a.dataset), a.dataset["val"]).map(
        lambda value: "no objects" if pd.isna(value) else f"{value:.3f}" if isinstance(value, float) else value)


def reasons(a: Asked) -> pd.DataFrame:
    """What could excuse the misses of a rung."""
    (run, *_) = a.runs(("fpn",)).values()
    table = miss_reasons(run_outcome(run, a.dataset), properties(a.dataset))
    return table.assign(**{name: table[name].map("{:.0%}".format) for name in table.columns[1:]})


def trained_rows(a: Asked) -> list[Row]:
    """Those of the ladder's rows, or of the rungs that were named, that are trained, each compared with the one before."""
    return [row for row in compared(a.experiments(tuple(ladder(a.profile))), a.dataset, a.seeds) if row.runs]


def verdict_table(a: Asked) -> pd.DataFrame:
    """What a client would ask of every trained rung."""
    rows = trained_rows(a)
    found, images = models(replace(a, rungs=[row.name for row in rows]))
    return verdict(rows, {row.name: run_outcome(row.runs[0], a.dataset) for row in rows}, cost.latency(found, images, devices()[-1]), a.dataset)


def map_against_latency(a: Asked) -> Figure:
    """Every trained rung's mAP against its latency."""
    rows = trained_rows(a)
    found, images = models(replace(a, rungs=[row.name for row in rows]))
    return plots.map_against_latency(rows, cost.latency(found, images, devices()[-1]), f"{machine_name(devices()[-1])}; latency of seed 0")


def runtime(a: Asked) -> pd.DataFrame:
    """The report's runtime table, measured here."""
    found, images = models(a)
    return cost.runtime_table(cost.throughput(found, images, devices()[-1]), cost.latency(found, images, devices()[-1]))


def through_models(a: Asked, draw: Callable) -> Figure:
    """A validation frame as rungs saw it: the one that was named, else the median of the last rung."""
    seen = {name: run_outcome(run, a.dataset) for name, run in a.runs(("adam", "resnet", "fpn")).items()}
    rule, index = next(iter(chosen_frames(seen).items()))
    return draw(a.dataset["val"], index if a.frame is None else a.frame, seen, title=rule if a.frame is None else "", more="seed 0")


def changed(a: Asked) -> list[Changes]:
    """What became of the validation objects between two rungs."""
    return paired_changes(*pair(a, ("flip", "resnet")), a.dataset)


def pair(a: Asked, default: Sequence[str] = ("adam", "flip")) -> tuple[list[runs.Run], list[runs.Run]]:
    """The runs of two rungs."""
    both = list(a.repeated(default).values())
    if len(both) != 2:
        raise ValueError(f"two rungs are compared: --rungs {' '.join(default)}")
    return both[0], both[1]


def trust_table(a: Asked) -> pd.DataFrame:
    """Which APs of a rung can be trusted."""
    (run, *_) = a.runs(("fpn",)).values()
    return trust(a.dataset, run).map(lambda value: "-" if pd.isna(value) else f"{value:.3f}" if isinstance(value, float) else value)


def trusted(a: Asked) -> Figure:
    """The same as a figure."""
    (name, run), *_ = a.runs(("fpn",)).items()
    return plots.trusted(trust(a.dataset, run), a.dataset["val"], name)


def by_frames(a: Asked) -> Found:
    """The finished runs of rungs by the number of training frames."""
    return trained({_start(e): e for e in a.experiments(("fpn",))}, a.dataset, a.seeds)


def _start(experiment: Experiment) -> str:
    """A rung's name; one that starts from a run is named with that run's data and row."""
    if experiment.weights in KNOWN["weights"]:
        return experiment.rung
    data, _, row, _ = experiment.weights.split(".")
    return f"{replace(experiment, weights='none').rung} from {data} {row.replace('~', '+')}"
