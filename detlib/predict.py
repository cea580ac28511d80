"""A model's detections: on a split, and with a finished run's folder alone on any pictures; COCO's results form with a data set's own ids."""
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import distributed
from .anchors import STRIDES, AnchorSpec
from .boxes import clip, hw_of
from .data.coco import ANNOTATIONS, DataError, Dataset, Split, clip_and_number, cut
from .data.inputs import Plan, merged, plan_from
from .data.loader import Cache, in_order, pad
from .data.pictures import PICTURES, UNREADABLE, opened, read_pixels
from .evaluate.coco import Detections, kept_detections
from .experiments import Experiment
from .machine import devices
from .models.detector import SCORE_MIN, Detector, build
from .runs import Run

BATCH = 4
PIXELS = 4_000_000  # of the pictures that go through the network together, as long as there are several
NETWORK = ("width", "resnet", "resnet_blocks", "extra_channels", "fpn_channels")  # what of a profile decides the shape of the weights
Found = tuple[Tensor, Tensor, Tensor]  # of one picture: boxes (D, 4) xyxy px, labels (D,) in 1..K and scores (D,), best first


@torch.inference_mode()
def predict(model: Detector, split: Split, precision: str, loss: str | None = None, score_min: float = SCORE_MIN,
            images: Cache | None = None) -> tuple[Detections, dict[str, float] | None]:
    """Detections on all frames of a split, and with `loss` (a kind of classification loss) the mean losses over its batches, else None."""
    was_training, device = model.training, model.mean.device
    model.eval()
    found: dict[int, Found] = {}
    sums: dict[str, float] = {}
    for number, (indices, (pictures, boxes, labels)) in enumerate(in_order(split, BATCH, model.anchors.strides[-1], images)):
        if number % distributed.world() != distributed.rank():
            continue
        with autocast(device, precision):
            logits, deltas = model(pictures.to(device))
        image_hw = hw_of(pictures)
        if loss:
            parts = model.loss(logits, deltas, [b.to(device) for b in boxes], [l.to(device) for l in labels], image_hw, loss)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(indices)
        for index, one in zip(indices, model.detect(logits, deltas, image_hw, score_min), strict=True):
            found[index] = on_picture(one, split.frames[index].image_hw)
    model.train(was_training)
    every = {index: one for part in distributed.gathered(found) for index, one in part.items()}
    losses: dict[str, float] = {}
    for name, value in (item for part in distributed.gathered(sums) for item in part.items()):
        losses[name] = losses.get(name, 0.0) + value / len(split)
    return Detections.collect([every[k] for k in range(len(split))]), losses if loss else None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision as named: 'float32' or 'bfloat16'."""
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")


@dataclass(frozen=True)
class Trained:
    """A finished run's detector, with what it takes to use it without the data it was trained on."""

    run: Run
    model: Detector
    categories: tuple[str, ...]  # label k in 1..K is categories[k - 1]
    precision: str  # the number format that its metrics were measured in
    plan: Plan | None = None  # how pictures were brought to the network's size


def finished_run(folder: str | Path) -> Run:
    """The finished run in a folder, by what its config says; raises FileNotFoundError where there is none."""
    folder = Path(folder)
    if not (folder / "metrics.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/metrics.json"))
        begun = "the run in it is not finished" if (folder / "config.json").is_file() else "no finished run there (no metrics.json)"
        way = f"name one of its folders {', '.join(inside)}" if inside else "train with `detlib train RUNG`, which prints the run's folder"
        raise FileNotFoundError(f"{folder}: {begun}; {way}")
    try:
        return Run(folder, Experiment(**Run(folder, Experiment()).config["experiment"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'}: not a run's record ({error}); bring the file back, or train it again") from None


def load_trained(run: Run | str | Path) -> Trained:
    """A finished run's detector where it is fastest, ready to predict; its classes are those in the run's config."""
    run = run if isinstance(run, Run) else finished_run(run)
    device = devices()[-1]
    return Trained(run, load_detector(run).to(device), tuple(run.config["categories"]), run.config["precision"],
                   plan_from(run.config.get("input")))


def load_detector(run: Run) -> Detector:
    """A finished run's detector by itself, with the anchors in its config; raises ValueError where its profile's sizes have changed since."""
    config, weights, sizes = run.config, run.weights(), run.experiment.sizes
    if missing := {"mean", "std"} - weights.keys() or {"profile", "anchors", "categories"} - config.keys():
        raise ValueError(f"{run.folder}: its files lack {', '.join(sorted(missing))}; bring them back, or train it again")
    changed = [name for name in NETWORK if config["profile"].get(name) != json.loads(json.dumps(getattr(sizes, name)))]
    if changed:
        raise ValueError(f"{run.folder} was trained when the profile {sizes.name} had another {' and '.join(changed)}: train it anew")
    spec = AnchorSpec(STRIDES, tuple(tuple(map(tuple, shapes)) for shapes in config["anchors"]), run.experiment.anchors)  # those it was trained with
    model = build(run.experiment, spec, len(config["categories"]), weights["mean"].flatten(), weights["std"].flatten())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{run.folder}: model.safetensors does not fit the anchors and classes in config.json "
                         f"({str(error).splitlines()[1].strip()[:160]}); bring back the files that belong together, or train it again") from None
    return model.eval()


def break_even(run: Run) -> float:
    """The score above which a run finds as many boxes on its validation frames as there are objects: the one to draw where nothing is annotated.

    What it takes lies in the run's folder; the score of the best F1 (`evaluate.outcomes`) takes the annotations, and is near it.
    """
    objects, scores = sum(run.metrics["objects"].values()), np.sort([entry["score"] for entry in run.detections()])[::-1]
    return float(scores[min(objects, len(scores)) - 1]) if objects and len(scores) else 0.5


def check_classes(run: Run, dataset: Dataset) -> None:
    """Raise ValueError where a run was trained on other classes than a data set has."""
    trained = run.config["categories"]
    if list(dataset.categories) != trained:
        raise ValueError(f"{run.folder} was trained on the classes {', '.join(trained)}, and this data has {', '.join(dataset.categories)}: "
                         "open the data it was trained on, or train on this one")


def picture_files(path: str | Path) -> list[Path]:
    """The picture at a path, or those in a folder, in the order of their frame numbers."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; name a picture, a folder of pictures or a video")
    files = [file for file in path.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".") and file.is_file()]
    if not files:
        hint = "; for a split of this data set add --split NAME" if any(path.glob("*" + ANNOTATIONS)) else ""
        raise FileNotFoundError(f"{path}: no pictures in this folder ({', '.join(s[1:] for s in PICTURES)}){hint}")
    return sorted(files, key=lambda file: (*clip_and_number(file.name), file.name))


def read_picture(path: str | Path) -> Tensor:
    """A picture of any kind as (3, H, W) uint8, upright as its EXIF says, never resized; raises ValueError with its name where that cannot be."""
    try:
        with opened(path) as picture:
            if (count := getattr(picture, "n_frames", 1)) > 1:
                raise ValueError(f"it is a film of {count} pictures: save it as mp4, or its pictures one by one")
        return torch.from_numpy(read_pixels(path)).permute(2, 0, 1).contiguous()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such picture") from None
    except UNREADABLE as error:
        raise ValueError(f"{path}: not readable as a picture ({error})") from None


def detect_each(trained: Trained, pictures: Iterable[Tensor], score_min: float = SCORE_MIN) -> Iterator[Found]:
    """What is found on pictures (3, H, W) uint8 of any sizes, one after the other; neighbours of one size go through the network together.

    Each is scaled or cut as those were that the detector was trained on; the boxes are px of the picture as it came.
    """
    if trained.plan:
        yield from (_detect_parts(trained, trained.plan, picture, score_min) for picture in pictures)
        return
    for (_, height, width), same in groupby(pictures, key=lambda picture: tuple(picture.shape)):
        together = max(1, min(BATCH, PIXELS // (height * width)))
        while batch := list(islice(same, together)):
            yield from _detect(trained, batch, score_min)


def _detect_parts(trained: Trained, plan: Plan, picture: Tensor, score_min: float) -> Found:
    parts = plan.parts(None, hw_of(picture))
    found = []
    for start in range(0, len(parts), BATCH):
        found += _detect(trained, [cut(picture, part, hw) for part, hw in parts[start:start + BATCH]], score_min)
    return merged(found, [part for part, _ in parts])


@torch.inference_mode()
def _detect(trained: Trained, pictures: Sequence[Tensor], score_min: float) -> list[Found]:
    model, device = trained.model, trained.model.mean.device
    batch = pad(list(pictures), model.anchors.strides[-1]).to(device)
    with autocast(device, trained.precision):
        logits, deltas = model(batch)
    found = model.detect(logits, deltas, hw_of(batch), score_min)
    return [on_picture(one, hw_of(pictures[0])) for one in found]


def on_picture(found: Found, picture_hw: tuple[int, int]) -> Found:
    """What of a padded picture's detections lies on the picture itself: boxes cut at its edges, those in the padding left out."""
    boxes = clip(found[0], picture_hw)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return boxes[inside], found[1][inside], found[2][inside]


def predict_images(trained: Trained, paths: Sequence[str | Path], score_min: float = SCORE_MIN) -> Detections:
    """Detections on picture files; `frame` is a file's place in `paths`."""
    return Detections.collect(list(detect_each(trained, map(read_picture, paths), score_min)))


def listed(detections: Detections, index: int, categories: Sequence[str]) -> list[dict]:
    """One picture's detections to read, best first: class, score to 1e-4, and box xyxy px to 0.01."""
    mine = detections.of_frame(index)
    return [{"class": categories[label - 1], "score": score, "box": box} for label, score, box in
            zip(mine.label.tolist(), mine.score.round(4).tolist(), mine.boxes.round(2).tolist(), strict=True)]


def category_ids(split: Split) -> dict[str, int]:
    """The ids that a split's own annotation file gives to its classes, by name; 1, 2, ... in the data's order where it has no COCO file."""
    path = split.root / (split.name + ANNOTATIONS)
    if not path.is_file():
        return {name: label for label, name in enumerate(split.categories, start=1)}
    return {entry["name"]: entry["id"] for entry in json.loads(path.read_text())["categories"]}


def run_detections(run: Run, dataset: Dataset, split: str = "val") -> Detections:
    """A run's detections on a split: those of its last validation where it is the split it was validated on, else predicted now."""
    check_classes(run, dataset)
    chosen = dataset[split]
    if split == "val" and run.config["data"]["val"] == chosen.fingerprint:
        return kept_detections(run, dataset)
    trained = load_trained(run)
    return predict(trained.model, chosen, trained.precision)[0]


def coco_results(found: Detections, split: Split) -> list[dict]:
    """Detections in COCO's results form with the category ids of the split's own file: what a leaderboard takes.

    A class that the file does not list has no id there, and what was found of it is left out.
    """
    ids = category_ids(split)
    found, split = on_pictures(found, split)
    known = np.array([name in ids for name in split.categories])
    return found.rows(known[found.label - 1]).to_coco(split, [ids.get(name, -1) for name in split.categories])


def on_pictures(found: Detections, split: Split) -> tuple[Detections, Split]:
    """Detections on frames that are parts of pictures as detections on the pictures, and those as frames; whole pictures as they are."""
    parts = [frame.part for frame in split.frames if frame.part]
    if not parts or len(parts) < len(split.frames):
        return found, split
    pieces: dict[object, list[int]] = {}
    for index, part in enumerate(parts):
        pieces.setdefault(part.image_id, []).append(index)
    results, frames = [], []
    for indices in pieces.values():
        mine = [found.of_frame(k) for k in indices]
        results.append(merged([(torch.from_numpy(one.boxes), torch.from_numpy(one.label), torch.from_numpy(one.score)) for one in mine],
                              [parts[k] for k in indices]))
        first, whole = split.frames[indices[0]], parts[indices[0]]
        frames.append(replace(first, image_id=whole.image_id, image_hw=whole.picture_hw, part=None))
    return Detections.collect(results), replace(split, frames=tuple(frames), boxes=split.boxes.iloc[:0])


def read_results(results: Sequence[dict], split: Split) -> Detections:
    """COCO results with the category ids of the split's file, as a leaderboard gets them, back to detections."""
    labels = {ids: split.categories.index(name) + 1 for name, ids in category_ids(split).items()}
    images = {frame.image_id for frame in split.frames}
    for number, entry in enumerate(results):
        if entry["category_id"] not in labels or entry["image_id"] not in images:
            raise DataError(f"result {number}: image {entry['image_id']} or category {entry['category_id']} is not in {split.name}{ANNOTATIONS}; "
                            "these are results of another split")
    return Detections.from_coco([{**entry, "category_id": labels[entry["category_id"]]} for entry in results], split)
