"""Every figure and every table by name: `detlib figure NAME` and `detlib table NAME` draw what the notebooks draw."""
from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

import pandas as pd

from . import asked, benchmark, cost, plots
from .anchors import BASELINE
from .coverage import anchor_use, coverage_table
from .data.augment import augmentations, box_statistics
from .data.checks import check
from .evaluate import coco
from .evaluate.changes import changes_table
from .evaluate.compare import difference
from .evaluate.crosscheck import cross_check
from .evaluate.ladder import at_lengths, at_rates, climb, elsewhere, ladder_table, null_difference, report_table, seed_spread
from .evaluate.starts import starts_table
from .experiments import ladder, markdown, rung, settings
from .machine import devices
from .models import proofs
from .models.tables import costs, layer_table, parameter_table, reconciliation
from .shift import distances, independent_frames


class Entry(NamedTuple):
    """A sentence for the list, and how it is made."""

    what: str
    make: Callable


EXPLORING = ("occurrences", "aspect_ratios", "size_scatter", "size_heatmap", "sizes_by_class", "box_map", "clip_classes", "clip_profiles",
             "shift_distances", "frame")  # figures that need nothing but data
FIGURES: dict[str, Entry] = {
    "occurrences": Entry("objects of each class", lambda a: plots.occurrences(a.splits)),
    "aspect_ratios": Entry("widths over heights of each class", lambda a: plots.aspect_ratios(a.splits)),
    "size_scatter": Entry("widths and heights of each class's boxes (--split)", lambda a: plots.size_scatter(a.frames)),
    "size_heatmap": Entry("how many boxes of which width and height", lambda a: plots.size_heatmap(a.splits)),
    "sizes_by_class": Entry("box sizes of each class", lambda a: plots.sizes_by_class(a.splits, a.dataset.size_limits)),
    "box_map": Entry("where in the picture boxes lie", lambda a: plots.box_map(a.splits)),
    "clip_classes": Entry("the classes of each clip", lambda a: plots.clip_classes(a.splits)),
    "train_against_val": Entry("do the splits differ by more than chance", lambda a: plots.train_against_val(a.dataset["train"], a.dataset["val"])),
    "clip_profiles": Entry("every clip of train and val: classes, sizes, shapes, places, brightness", lambda a: plots.clip_profiles(
        a.pair, a.dataset.channels)),
    "shift_distances": Entry("do train and val differ by more than train's own clips do", lambda a: plots.shift_distances(
        distances(a.dataset, *a.pair), a.pair)),
    "trusted": Entry("which APs on val can be trusted, by a rung's intervals (--rungs)", asked.trusted),
    "gallery": Entry("what `detlib check` finds, as pictures", lambda a: plots.gallery(check(a.dataset.root))),
    "learning_curve": Entry("mAP against the number of training frames, a line for each rung (--rungs, --seeds)", lambda a: plots.learning_curve(
        asked.by_frames(a), a.dataset)),
    "frame": Entry("a frame with its boxes (--split, --frame)", lambda a: plots.frames(a.frames, [a.index], channels=a.dataset.channels)),
    "anchors": Entry("the baseline's shapes on a frame (--split, --frame)", lambda a: plots.shapes_on_frame(BASELINE, a.frames, a.index)),
    "shape_cloud": Entry("boxes and the shapes of the anchor sets (--split)", lambda a: plots.shape_cloud(a.anchor_sets, a.frames)),
    "recall_curves": Entry("how many boxes have an anchor that fits", lambda a: plots.recall_curves(
        a.anchor_sets, {name: a.dataset[name] for name in ("train", "val")})),
    "class_recall": Entry("the same class by class", lambda a: plots.class_recall(a.anchor_sets, a.dataset)),
    "gain_against_coverage": Entry("was better coverage better detection, class by class (--rungs, --seeds)", asked.gain_against_coverage),
    "covered_frame": Entry("which objects of a frame the anchor sets cover (--split, --frame)", lambda a: plots.covered_frame(
        a.anchor_sets, a.frames, a.index)),
    "box_statistics": Entry("what augmentations do to boxes", lambda a: plots.box_statistics(box_statistics(a.frames, augmentations(a.dataset)))),
    "loader_costs": Entry("what each part of the loader takes", lambda a: plots.loader_costs(benchmark.loader_costs(a.dataset))),
    "losses": Entry("training and validation loss (--rungs)", lambda a: plots.losses(a.runs(("baseline", "adam")))),
    "validation": Entry("mAP, AP50, AP75 against the step (--rungs)", lambda a: plots.validation(a.runs(("baseline", "adam")))),
    "classes": Entry("AP of each class against the step (--rungs)", lambda a: plots.classes(a.runs(("baseline", "adam")))),
    "first_steps": Entry("the loss of the classes in the first steps (--rungs)", lambda a: plots.first_steps(a.runs(("deep_heads", "bias_init")))),
    "found": Entry("what a rung found on two frames (--rungs)", asked.found),
    "paired": Entry("two rungs apart and in pairs (--rungs, --seeds)", lambda a: plots.paired(*asked.pair(a), a.dataset)),
    "ladder": Entry("the climb with its intervals (--seeds)", lambda a: plots.ladder(
        climb(a.dataset, a.profile, a.seeds), a.dataset, null_difference(a.dataset, a.profile, a.seeds))),
    "rates": Entry("some rows at several learning rates (--seeds)", lambda a: plots.rates(at_rates(a.dataset, a.profile, a.seeds), a.dataset)),
    "lengths": Entry("some rows after more steps (--seeds)", lambda a: plots.lengths(at_lengths(a.dataset, a.profile, a.seeds), a.dataset)),
    "strips": Entry("a validation frame, its objects and what rungs found (--rungs, --frame)", lambda a: asked.through_models(a, plots.strips)),
    "through_rungs": Entry("a validation frame's crowded part through rungs (--rungs, --frame)", lambda a:
                           asked.through_models(a, plots.through_rungs)),
    "gains": Entry("objects gained and lost between two rungs (--rungs, --seeds)", lambda a: plots.gains(asked.changed(a), a.dataset)),
    "crops": Entry("the gained and lost objects themselves (--rungs)", lambda a: plots.crops(asked.changed(a)[0])),
    "error_costs": Entry("the AP50 that each kind of error costs (--rungs)", lambda a: plots.error_costs(a.runs(("adam", "fpn")), a.dataset)),
    "precision_recall": Entry("precision against recall, class by class (--rungs)", lambda a: plots.precision_recall(
        a.runs(("adam", "fpn")), a.dataset)),
    "confusions": Entry("who is taken for whom (--rungs)", lambda a: plots.confusions(next(iter(a.runs(("fpn",)).values())), a.dataset)),
    "calibration": Entry("can a score be believed (--rungs)", lambda a: plots.calibration(a.runs(("adam", "fpn", "focal")), a.dataset)),
    "found_shares": Entry("who is found, by size, distance and visibility (--rungs, --seeds)", lambda a: plots.found_shares(
        a.repeated(("adam", "fpn")), a.dataset)),
    "cost_by_part": Entry("where parameters and arithmetic lie (--rungs)", asked.cost_by_part),
    "latencies": Entry("how long one image takes (--rungs)", lambda a: plots.latencies(cost.latency(*asked.models(a), devices()[-1]))),
    "batches": Entry("throughput and waiting against the batch size (--rungs)", lambda a: plots.batches(
        cost.throughput(*asked.models(a), devices()[-1]))),
    "map_against_latency": Entry("what a millisecond buys (--rungs, --seeds)", asked.map_against_latency),
    "depth_toy": Entry("what depth does without and with the shortcut", lambda a: plots.depth_toy(proofs.depth_toy())),
    "footprints": Entry("which pixels a cell sees without and with the FPN", asked.footprints),
    "focal_curves": Entry("focal loss and cross-entropy", lambda a: plots.focal_curves()),
    "focal_scores": Entry("which scores focal loss asks for", lambda a: plots.focal_scores()),
    "reach": Entry("what a cell of each level leaves on the finest map of an FPN", asked.reach),
    "head_reach": Entry("what an output cell sees of its level, by depth of the head", lambda a: plots.head_reach(
        {depth: proofs.head_reach(depth) for depth in sorted({e.head_depth for e in ladder(a.profile).values()})}, BASELINE.strides)),
    "initial_foreground": Entry("what fresh heads call foreground", asked.initial_foreground),
    "loss_shares": Entry("who carries the loss of a fresh network (--rungs)", asked.loss_shares),
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
    "layers": Entry("the first network, layer by layer", lambda a: layer_table(asked.first_network(a), a.dataset["train"].image_hw)),
    "parameters": Entry("trainable parameters of the first network", lambda a: parameter_table(asked.first_network(a), a.dataset["train"].image_hw)),
    "cost": Entry("parameters and anchors of every rung", lambda a: pd.DataFrame(costs(a.profile)).T),
    "reconciliation": Entry("the report's parameter table taken apart", lambda a: reconciliation()),
    "changes": Entry("objects gained and lost between two rungs (--rungs, --seeds)", lambda a: changes_table(asked.changed(a), a.dataset)),
    "errors": Entry("errors by kind and class, and the AP50 they cost (--rungs)", asked.errors),
    "miss_reasons": Entry("what could excuse a miss, and how common that is (--rungs)", asked.reasons),
    "verdict": Entry("every trained rung on one page (--rungs, --seeds)", asked.verdict_table),
    "resources": Entry("arithmetic and memory of one image (--rungs)", lambda a: cost.resources(*asked.models(a)).map(plots.number)),
    "runtime": Entry("the report's runtime table, measured here (--rungs)", asked.runtime),
    "speed_up": Entry("the faster copy against plain float32 (--rungs)", lambda a: cost.speed_up(*asked.models(a), batch=4).map("{:.1f}".format)),
    "loader": Entry("images/s of the loader", lambda a: benchmark.loader_speed(benchmark.loader_costs(a.dataset))),
    "focal_checks": Entry("the focal loss against two references", lambda a: proofs.focal_checks().map("{:.0e}".format)),
    "head_parameters": Entry("what deep heads add, level by level", lambda a: _flat(proofs.head_parameters(
        rung("focal", a.profile), rung("deep_heads", a.profile)))),
    "first_loss": Entry("the loss before the first step (--rungs)", asked.first_losses),
    "metrics": Entry("all metrics (--rungs)", lambda a: pd.concat(
        {name: coco.table(run.metrics)["value"] for name, run in a.runs(("adam",)).items()}, axis=1)),
    "classes": Entry("AP of each class (--rungs)", lambda a: plots.class_values(a.runs(("baseline", "adam")))),
    "cross_check": Entry("our metrics against pycocotools (--rungs)", lambda a: cross_check(next(iter(a.runs(("adam",)).values())), a.dataset)),
    "difference": Entry("what can be said about two rungs (--rungs, --seeds)", lambda a: pd.DataFrame(
        {"so": {"-": difference(*asked.pair(a), a.dataset).sentence}})),
    "ladder": Entry("the climb with its intervals (--seeds)", lambda a: ladder_table(climb(a.dataset, a.profile, a.seeds))),
    "rates": Entry("some rows at several learning rates, with their gains (--seeds)", lambda a: ladder_table(
        at_rates(a.dataset, a.profile, a.seeds))),
    "lengths": Entry("some rows after more steps, with their gains (--seeds)", lambda a: ladder_table(at_lengths(a.dataset, a.profile, a.seeds))),
    "shift": Entry("how far val is from train, beside what chance gives", lambda a: distances(a.dataset, *a.pair).set_index("quantity").map(
        lambda value: f"{value:.3g}" if isinstance(value, float) else value)),
    "trust": Entry("which APs on val can be trusted (--rungs)", asked.trust_table),
    "independent_frames": Entry("how many independent frames a split is worth (--split)", lambda a: independent_frames(a.frames).map(
        lambda value: "-" if pd.isna(value) else f"{value:.2f}")),
    "starts": Entry("mAP by rung and number of training frames, with paired differences (--rungs, --seeds)", lambda a: starts_table(
        asked.by_frames(a), a.dataset).set_index("train frames")),
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
