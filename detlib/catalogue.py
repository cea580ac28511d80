"""Every figure and every table by name: `detlib figure NAME` and `detlib table NAME` draw what the notebooks draw."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure

from . import benchmark, cost, plots, runs
from .anchors import BASELINE, AnchorSpec
from .coverage import anchor_use, coverage_table
from .data.augment import augmentations, box_statistics
from .data.coco import Dataset, Split
from .data.loader import pad
from .evaluate import coco
from .evaluate.breakdown import miss_reasons, properties
from .evaluate.changes import Changes, changes_table, chosen_frames, paired_changes, run_outcome
from .evaluate.compare import difference
from .evaluate.crosscheck import cross_check
from .evaluate.errors import error_types
from .evaluate.ladder import climb, elsewhere, ladder_table, null_difference, report_table, seed_spread
from .evaluate.verdict import verdict
from .experiments import Experiment, ladder, markdown, parse, rung, seed_count, settings
from .machine import devices, machine_name
from .models import proofs
from .models.detector import Detector
from .models.tables import costs, layer_table, parameter_table, reconciliation
from .predict import run_detections
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

    @cached_property
    def dataset(self) -> Dataset:
        """The opened data set."""
        return runs.open_data(self.data, self.profile, invalid=self.invalid)

    @property
    def frames(self) -> Split:
        """The split that was named."""
        return self.dataset[self.split]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that distributions are drawn of."""
        return plots.counted(self.dataset)

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


class Entry(NamedTuple):
    """A sentence for the list, and how it is made."""

    what: str
    make: Callable


def reach(a: Asked) -> Figure:
    """What one lit cell of each level leaves on the finest map of a fresh FPN."""
    spec, neck = BASELINE, proofs.fresh(rung("fpn", a.profile), a.dataset).neck
    rows, columns = spec.grid_hws(spec.padded(a.dataset["train"].image_hw))[0]
    cells = [((rows // 2) >> level, (columns // 2) >> level) for level in range(len(spec.strides))]
    return plots.reach([proofs.reach(neck, (rows, columns), level, cell) for level, cell in enumerate(cells)], cells, spec.strides[0])


def initial_foreground(a: Asked) -> Figure:
    """What fresh heads call foreground, level by level: with the prior, without it, and as the report did it."""
    rows = {name: proofs.fresh(rung(name, a.profile), a.dataset) for name in ("bias_init", "deep_heads")}
    rows["the report's"] = proofs.fresh(rung("bias_init", a.profile), a.dataset, report_init=True)
    prior = rung("bias_init", a.profile).prior
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


def verdict_table(a: Asked) -> pd.DataFrame:
    """What a client would ask of every trained rung."""
    rows = [row for row in climb(a.dataset, a.profile, a.seeds) if row.runs]
    found, images = models(replace(a, rungs=[row.name for row in rows]))
    return verdict(rows, {row.name: run_outcome(row.runs[0], a.dataset) for row in rows}, cost.latency(found, images, devices()[-1]), a.dataset)


def map_against_latency(a: Asked) -> Figure:
    """Every trained rung's mAP against its latency."""
    rows = [row for row in climb(a.dataset, a.profile, a.seeds) if row.runs]
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


def pair(a: Asked, default: Sequence[str] = ("adam", "flip")) -> Sequence[list[runs.Run]]:
    """The runs of two rungs."""
    both = list(a.repeated(default).values())
    if len(both) != 2:
        raise ValueError(f"two rungs are compared: --rungs {' '.join(default)}")
    return both


FIGURES: dict[str, Entry] = {
    "occurrences": Entry("objects of each class", lambda a: plots.occurrences(a.splits)),
    "aspect_ratios": Entry("widths over heights of each class", lambda a: plots.aspect_ratios(a.splits)),
    "size_scatter": Entry("widths and heights of each class's boxes (--split)", lambda a: plots.size_scatter(a.frames)),
    "size_heatmap": Entry("how many boxes of which width and height", lambda a: plots.size_heatmap(a.splits)),
    "sizes_by_class": Entry("box sizes of each class", lambda a: plots.sizes_by_class(a.splits, a.dataset.size_limits)),
    "box_map": Entry("where in the picture boxes lie", lambda a: plots.box_map(a.splits)),
    "clip_classes": Entry("the classes of each clip", lambda a: plots.clip_classes(a.splits)),
    "train_against_val": Entry("do the splits differ by more than chance", lambda a: plots.train_against_val(a.dataset["train"], a.dataset["val"])),
    "frame": Entry("a frame with its boxes (--split, --frame)", lambda a: plots.frames(a.frames, [a.index], channels=a.dataset.channels)),
    "anchors": Entry("the baseline's shapes on a frame (--split, --frame)", lambda a: plots.shapes_on_frame(BASELINE, a.frames, a.index)),
    "shape_cloud": Entry("boxes and the shapes of the anchor sets (--split)", lambda a: plots.shape_cloud(a.anchor_sets, a.frames)),
    "recall_curves": Entry("how many boxes have an anchor that fits", lambda a: plots.recall_curves(
        a.anchor_sets, {name: a.dataset[name] for name in ("train", "val")})),
    "class_recall": Entry("the same class by class", lambda a: plots.class_recall(a.anchor_sets, a.dataset)),
    "gain_against_coverage": Entry("was better coverage better detection, class by class (--rungs, --seeds)", gain_against_coverage),
    "covered_frame": Entry("which objects of a frame the anchor sets cover (--split, --frame)", lambda a: plots.covered_frame(
        a.anchor_sets, a.frames, a.index)),
    "box_statistics": Entry("what augmentations do to boxes", lambda a: plots.box_statistics(box_statistics(a.frames, augmentations(a.dataset)))),
    "loader_costs": Entry("what each part of the loader takes", lambda a: plots.loader_costs(benchmark.loader_costs(a.dataset))),
    "losses": Entry("training and validation loss (--rungs)", lambda a: plots.losses(a.runs(("baseline", "adam")))),
    "validation": Entry("mAP, AP50, AP75 against the step (--rungs)", lambda a: plots.validation(a.runs(("baseline", "adam")))),
    "classes": Entry("AP of each class against the step (--rungs)", lambda a: plots.classes(a.runs(("baseline", "adam")))),
    "first_steps": Entry("the loss of the classes in the first steps (--rungs)", lambda a: plots.first_steps(a.runs(("deep_heads", "bias_init")))),
    "found": Entry("what a rung found on two frames (--rungs)", found),
    "paired": Entry("two rungs apart and in pairs (--rungs, --seeds)", lambda a: plots.paired(*pair(a), a.dataset)),
    "ladder": Entry("the climb with its intervals (--seeds)", lambda a: plots.ladder(
        climb(a.dataset, a.profile, a.seeds), a.dataset, null_difference(a.dataset, a.profile, a.seeds))),
    "strips": Entry("a validation frame, its objects and what rungs found (--rungs, --frame)", lambda a: through_models(a, plots.strips)),
    "through_rungs": Entry("a validation frame's crowded part through rungs (--rungs, --frame)", lambda a: through_models(a, plots.through_rungs)),
    "gains": Entry("objects gained and lost between two rungs (--rungs, --seeds)", lambda a: plots.gains(changed(a), a.dataset)),
    "crops": Entry("the gained and lost objects themselves (--rungs)", lambda a: plots.crops(changed(a)[0])),
    "error_costs": Entry("the AP50 that each kind of error costs (--rungs)", lambda a: plots.error_costs(a.runs(("adam", "fpn")), a.dataset)),
    "precision_recall": Entry("precision against recall, class by class (--rungs)", lambda a: plots.precision_recall(
        a.runs(("adam", "fpn")), a.dataset)),
    "confusions": Entry("who is taken for whom (--rungs)", lambda a: plots.confusions(next(iter(a.runs(("fpn",)).values())), a.dataset)),
    "calibration": Entry("can a score be believed (--rungs)", lambda a: plots.calibration(a.runs(("adam", "fpn", "focal")), a.dataset)),
    "found_shares": Entry("who is found, by size, distance and visibility (--rungs, --seeds)", lambda a: plots.found_shares(
        a.repeated(("adam", "fpn")), a.dataset)),
    "cost_by_part": Entry("where parameters and arithmetic lie (--rungs)", cost_by_part),
    "latencies": Entry("how long one image takes (--rungs)", lambda a: plots.latencies(cost.latency(*models(a), devices()[-1]))),
    "batches": Entry("throughput and waiting against the batch size (--rungs)", lambda a: plots.batches(
        cost.throughput(*models(a), devices()[-1]))),
    "map_against_latency": Entry("what a millisecond buys (--seeds)", map_against_latency),
    "depth_toy": Entry("what depth does without and with the shortcut", lambda a: plots.depth_toy(proofs.depth_toy())),
    "footprints": Entry("which pixels a cell sees without and with the FPN", footprints),
    "focal_curves": Entry("focal loss and cross-entropy", lambda a: plots.focal_curves()),
    "focal_scores": Entry("which scores focal loss asks for", lambda a: plots.focal_scores()),
    "reach": Entry("what a cell of each level leaves on the finest map of an FPN", reach),
    "head_reach": Entry("what an output cell sees of its level, by depth of the head", lambda a: plots.head_reach(
        {depth: proofs.head_reach(depth) for depth in sorted({e.head_depth for e in ladder(a.profile).values()})}, BASELINE.strides)),
    "initial_foreground": Entry("what fresh heads call foreground", initial_foreground),
    "loss_shares": Entry("who carries the loss of a fresh network (--rungs)", loss_shares),
}
TABLES: dict[str, Entry] = {
    "experiments": Entry("the ladder's rows, what changes in bold", lambda a: markdown(*a.rungs, profile=a.profile)),
    "settings": Entry("every hyper-parameter of a rung (--rungs)", lambda a: pd.concat([settings(e) for e in a.experiments(("baseline",))], axis=1)),
    "summary": Entry("images, boxes, clips of each split", lambda a: plots.summary(a.dataset, a.splits)),
    "anchors": Entry("the baseline's shapes, level by level", lambda a: plots.anchor_table(BASELINE, a.dataset["train"].image_hw).data),
    "coverage": Entry("recall and mean IoU of the fitted anchors, by class and size (--split)", lambda a: coverage_table(
        a.anchor_sets["fitted"], a.dataset, a.split).map(lambda value: f"{value:.3f}" if isinstance(value, float) else value)),
    "anchor_use": Entry("which of the fitted anchors are ever positive (--split)", lambda a: anchor_use(a.anchor_sets["fitted"], a.frames)),
    "matched": Entry("what matching gives to objects, by anchor set (--split)", lambda a: plots.matched(a.anchor_sets, a.frames)),
    "matching": Entry("how objects get their anchors (--split)", lambda a: plots.matching_summary(BASELINE, a.frames)),
    "layers": Entry("the first network, layer by layer", lambda a: layer_table(first_network(a), a.dataset["train"].image_hw)),
    "parameters": Entry("trainable parameters of the first network", lambda a: parameter_table(first_network(a), a.dataset["train"].image_hw)),
    "cost": Entry("parameters and anchors of every rung", lambda a: pd.DataFrame(costs(a.profile)).T),
    "reconciliation": Entry("the report's parameter table taken apart", lambda a: reconciliation()),
    "changes": Entry("objects gained and lost between two rungs (--rungs, --seeds)", lambda a: changes_table(changed(a), a.dataset)),
    "errors": Entry("errors by kind and class, and the AP50 they cost (--rungs)", errors),
    "miss_reasons": Entry("what could excuse a miss, and how common that is (--rungs)", reasons),
    "verdict": Entry("every trained rung on one page (--seeds)", verdict_table),
    "resources": Entry("arithmetic and memory of one image (--rungs)", lambda a: cost.resources(*models(a)).map(plots.number)),
    "runtime": Entry("the report's runtime table, measured here (--rungs)", runtime),
    "speed_up": Entry("the faster copy against plain float32 (--rungs)", lambda a: cost.speed_up(*models(a), batch=4).map("{:.1f}".format)),
    "loader": Entry("images/s of the loader", lambda a: benchmark.loader_speed(benchmark.loader_costs(a.dataset))),
    "focal_checks": Entry("the focal loss against two references", lambda a: proofs.focal_checks().map("{:.0e}".format)),
    "head_parameters": Entry("what deep heads add, level by level", lambda a: _flat(proofs.head_parameters(
        rung("focal", a.profile), rung("deep_heads", a.profile)))),
    "first_loss": Entry("the loss before the first step (--rungs)", first_losses),
    "metrics": Entry("all metrics (--rungs)", lambda a: pd.concat(
        {name: coco.table(run.metrics)["value"] for name, run in a.runs(("adam",)).items()}, axis=1)),
    "classes": Entry("AP of each class (--rungs)", lambda a: plots.class_values(a.runs(("baseline", "adam")))),
    "cross_check": Entry("our metrics against pycocotools (--rungs)", lambda a: cross_check(next(iter(a.runs(("adam",)).values())), a.dataset)),
    "difference": Entry("what can be said about two rungs (--rungs, --seeds)", lambda a: pd.DataFrame(
        {"so": {"-": difference(*pair(a), a.dataset).sentence}})),
    "ladder": Entry("the climb with its intervals (--seeds)", lambda a: ladder_table(climb(a.dataset, a.profile, a.seeds))),
    "elsewhere": Entry("the climb on all other data that have runs (--seeds)", lambda a: elsewhere(a.dataset, a.profile, a.seeds)),
    "seeds": Entry("what seeds alone do (--seeds)", lambda a: seed_spread(climb(a.dataset, a.profile, a.seeds))),
    "report": Entry("the report's steps beside ours (--seeds)", lambda a: report_table(climb(a.dataset, a.profile, a.seeds), a.dataset)),
}


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    frame.columns = [" ".join(column) for column in frame.columns]
    return frame


def entry(entries: dict[str, Entry], name: str) -> Entry:
    """An entry by name, or an error with the list."""
    if name not in entries:
        near = get_close_matches(name, entries, 3)
        raise ValueError(f"there is no {name!r}; {'did you mean ' + ' or '.join(near) if near else 'without a name the list is printed'}")
    return entries[name]


def listing(entries: dict[str, Entry]) -> str:
    """The names with what they show, a line each."""
    width = max(map(len, entries))
    return "\n".join(f"  {name:<{width}}  {entry.what}" for name, entry in entries.items())
