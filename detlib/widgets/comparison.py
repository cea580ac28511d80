"""One frame through several models: pictures with what each found, missed and invented; drawn in the browser by comparison*.js."""
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from ..data.coco import DataError, Dataset, Split
from ..evaluate.changes import chosen_frames
from ..evaluate.coco import Detections, kept_detections
from ..evaluate.errors import LEFT_OUT, RIGHT, TYPES, error_of
from ..evaluate.outcomes import IGNORED, Outcome, best_score, outcome
from ..models.detector import SCORE_MIN
from ..plots.style import FAINT, RUNGS, class_colours, rung_colour
from ..runs import Run, train_command
from . import MINE

KINDS = (RIGHT, *TYPES[:-1], LEFT_OUT)  # of detections, by their places; the browser has the same
COLUMNS = {"boxes": "<f4", "scores": "<f4", "labels": "<u2", "kinds": "u1", "objects": "<i4"}  # of detections: xyxy px, one number each for the rest
ORDERS = ("in order", "worst first", "largest change first")
MOST_DETECTIONS = 100  # of a model on a frame, best first
MOST_FRAMES = 600  # to browse with Python: with ten models and 100 detections each, 16 MB that are sent once and not saved
KEPT_FRAMES, KEPT_BYTES = 12, 1_200_000  # in the saved notebook and the exported page: 1.6 MB as the text that they are written in
WIDEST, QUALITY = 1280, 75  # px and WebP's quality of the frames' pictures: about 45 kB for a panorama
PARTS = ("studio_looks.js", "comparison_numbers.js", "comparison_pictures.js", "comparison.js")  # joined: the page loads one module
MODULE = "\n".join(Path(__file__).with_name(name).read_text("utf-8") for name in PARTS)


class ComparisonBrowser(anywidget.AnyWidget):
    """What `compare_browser` returns; what the reader sets is here, and setting it changes the pictures.

    `frame` is the index in the split; `score` the one least score for all models (None: each at the score of its best F1); `classes` the labels
    that are shown; `only_errors` leaves out what was found; `order` is one of ORDERS; `region` x1, y1, x2, y2 as shares of the picture.
    """

    _esm = MODULE
    frame = traitlets.Int(0, min=0).tag(**MINE)
    score = traitlets.Float(None, min=0.0, max=1.0, allow_none=True).tag(**MINE)
    classes = traitlets.List(traitlets.Int()).tag(**MINE)
    only_errors = traitlets.Bool(False).tag(**MINE)
    order = traitlets.Enum(ORDERS, ORDERS[0]).tag(**MINE)
    region = traitlets.List(traitlets.Float(), minlen=4, maxlen=4, default_value=[0.0, 0.0, 1.0, 1.0]).tag(**MINE)
    # name, seed, colour, best score, its F1, and the highest score that was cut off
    models: traitlets.List[Any] = traitlets.List(read_only=True).tag(sync=True)
    categories = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    colours = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)  # of the classes
    about = traitlets.Dict(read_only=True).tag(sync=True)  # data, split, frames to browse and in all, and the least score kept
    kept = traitlets.Dict(read_only=True).tag(sync=True)  # the frames that are saved, as `packed`, with their pictures

    def __init__(self, dataset: Dataset, runs: Mapping[str, Run] | Mapping[str, Detections], split: str = "val",
                 frames: Sequence[int] | None = None):
        """As `compare_browser`."""
        self._split = dataset[split]
        self._frames = _browsed(self._split, frames)
        self._seen = {name: outcome(_detections(name, run, dataset, split), self._split, SCORE_MIN) for name, run in runs.items()}
        best = {name: best_score(seen) for name, seen in self._seen.items()}
        self._kinds = {name: _kinds(seen) for name, seen in self._seen.items()}
        chosen = kept_frames(self._seen, best, self._split, self._frames)
        pictures, room = {}, KEPT_BYTES
        for index in chosen:
            pictures[index] = _picture(self._split, index)
            room -= len(pictures[index][0]) + 27 * MOST_DETECTIONS * len(runs)  # bytes of a detection
            if room < 0:
                break
        fixed = {"models": [_model(name, runs[name], seen, best[name]) for name, seen in self._seen.items()],
                 "categories": list(dataset.categories), "colours": list(class_colours(dataset.categories).values()),
                 "about": {"data": dataset.key, "split": split, "browsed": len(self._frames), "frames": len(self._split), "least": SCORE_MIN},
                 "kept": {**self.packed(sorted(pictures)), "pictures": [{"picture": data, "why": why} for _, (data, why) in sorted(pictures.items())],
                          "rules": {str(index): chosen[index] for index in pictures}}}
        for name, value in fixed.items():
            self.set_trait(name, value)
        super().__init__(frame=next(iter(chosen), 0), classes=list(range(1, len(dataset.categories) + 1)))
        self.on_msg(self._answer)

    def packed(self, frames: Sequence[int]) -> dict[str, Any]:
        """Frames with their objects and, model by model, their best detections, as the browser has them.

        `edges` (models, frames + 1) are places in the detections' columns, of which `objects` says which object was found, else -1.
        """
        table = self._split.boxes[["frame", "x1", "y1", "x2", "y2", "label", "crowd"]].to_numpy(np.float64)
        starts = np.searchsorted(table[:, 0], np.arange(len(self._split) + 1))
        rows = _joined([np.arange(starts[i], starts[i + 1]) for i in frames])
        place = np.full(len(table) + 1, -1)
        place[rows] = np.arange(len(rows))
        entries, at = [], 0
        for index in frames:
            frame, objects = self._split.frames[index], int(starts[index + 1] - starts[index])
            entries.append({"index": index, "name": frame.file_name, "image_hw": list(frame.image_hw), "objects": [at, at + objects]})
            at += objects
        edges, parts = [[0] * (len(frames) + 1)], []
        for name, seen in self._seen.items():
            bounds = np.searchsorted(seen.detections.frame, np.arange(len(self._split) + 1))
            places = [np.arange(bounds[i], min(bounds[i + 1], bounds[i] + MOST_DETECTIONS)) for i in frames]
            edges.append((edges[-1][-1] + np.cumsum([0, *map(len, places)])).tolist())
            parts.append(self._columns(name, _joined(places), place))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] or [np.zeros(0, kind) for kind in COLUMNS.values()]
        return {"frames": entries, "edges": edges[1:], "object_boxes": table[rows, 1:5].astype("<f4").tobytes(),
                "object_labels": table[rows, 5].astype("<u2").tobytes(), "crowd": table[rows, 6].astype("u1").tobytes(),
                **{key: column.astype(kind).tobytes() for (key, kind), column in zip(COLUMNS.items(), columns, strict=True)}}

    def _columns(self, name: str, rows: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, ...]:
        """Boxes, scores, labels, kinds and objects of one model's detections; `place` is that of a row of the split's boxes among those sent."""
        seen = self._seen[name]
        found = seen.detections.rows(rows)
        return found.boxes.reshape(-1), found.score, found.label, self._kinds[name][rows], place[np.maximum(seen.object_of[rows], -1)]

    def _answer(self, _: object, message: dict, buffers: list) -> None:
        """What the browser asks for: all frames, once; a picture when its frame is shown."""
        if message["kind"] == "all":
            content = self.packed(self._frames)
            names = [key for key, value in content.items() if isinstance(value, bytes)]
            self.send({"kind": "all", "names": names, "frames": content["frames"], "edges": content["edges"]}, [content[key] for key in names])
        elif message["kind"] == "picture" and message["frame"] in self._frames:
            data, why = _picture(self._split, message["frame"])
            self.send({"kind": "picture", "frame": message["frame"], "why": why}, [data])


def compare_browser(dataset: Dataset, runs: Mapping[str, Run] | Mapping[str, Detections], split: str = "val",
                    frames: Sequence[int] | None = None) -> ComparisonBrowser:
    """A widget that shows a split's frames (None: all) through finished runs, or other detections, by name.

    Each model is shown at the score of its own best F1 on the whole split until the reader chooses one score for all. Found means what it means
    in `evaluate.outcomes`; a false alarm is called what `evaluate.errors` calls it, in plain words: classification a wrong class, localisation a
    poor box. Of a frame the best 100 detections a model are kept, and of more than 600 frames every so many-th.
    Saved with the notebook and in the exported page are up to 12 frames, see `kept_frames`.
    """
    return ComparisonBrowser(dataset, runs, split, frames)


def kept_frames(seen: Mapping[str, Outcome], best: Mapping[str, float], split: Split, frames: Sequence[int],
                most: int = KEPT_FRAMES) -> dict[int, str]:
    """Frames to keep, each with the rule that chose it: median, best, worst and largest change as in `chosen_frames`, then others spread evenly.

    Of those whose pictures are on the disk, if there are any; `best` are the models' least scores.
    """
    there = [i for i in frames if (split.root / split.frames[i].file_name).is_file()] or list(frames)
    if len(there) <= most and len(there) == len(frames):
        return dict.fromkeys(there, "")
    part, place = split.subset(there), {index: k for k, index in enumerate(there)}
    chosen = {}
    if seen:
        outcomes = {name: outcome(_only(one.detections, place, best[name]), part, best[name]) for name, one in seen.items()}
        chosen = {there[k]: rule for rule, k in chosen_frames(outcomes).items()}
    rest = [i for i in there if i not in chosen]
    spread = np.linspace(0, len(rest) - 1, max(0, min(most - len(chosen), len(rest)))).round().astype(int)
    return chosen | {rest[k]: "" for k in spread}


def _only(found: Detections, place: Mapping[int, int], least: float) -> Detections:
    """The detections on some frames with at least a score; the frames are numbered anew."""
    kept = found.rows(np.flatnonzero(np.isin(found.frame, list(place)) & (found.score >= least)))
    return Detections(np.array([place[i] for i in kept.frame.tolist()], int), kept.label, kept.score, kept.boxes)


def _browsed(split: Split, frames: Sequence[int] | None) -> list[int]:
    """The frames to browse, each once; of too many every so many-th."""
    wanted = list(range(len(split))) if frames is None else list(dict.fromkeys(map(int, frames)))
    if wrong := [i for i in wanted if not 0 <= i < len(split)]:
        raise ValueError(f"no frame {wrong[0]}: {split.name} has frames 0 to {len(split) - 1}")
    return wanted[::max(1, math.ceil(len(wanted) / MOST_FRAMES))]


def _detections(name: str, run: Run | Detections, dataset: Dataset, split: str) -> Detections:
    """A model's detections on a split, with scores as the browser has them, in float32; raises for what is not of this split."""
    if isinstance(run, Run):
        if run.folder.parents[2].name != dataset.key:
            raise ValueError(f"{name}: this run is on the data {run.folder.parents[2].name}, not on {dataset.key}: open the data it was trained on")
        if not run.finished:
            raise ValueError(f"{name}: this run is not finished; `{train_command(run.experiment, dataset)}` goes on with it")
        if split != "val":
            raise ValueError(f"{name}: a run keeps its detections on val; for {split} give those of predict(load_model(run, dataset), ...)")
        run = kept_detections(run, dataset)
    frames, classes = len(dataset[split]), len(dataset.categories)
    if len(run.frame) and not (0 <= run.frame.min() <= run.frame.max() < frames and 1 <= run.label.min() <= run.label.max() <= classes):
        raise ValueError(f"{name}: its detections name frames or classes that {split} of {dataset.key} lacks ({frames} frames, {classes} classes)")
    if not (np.isfinite(run.score).all() and np.isfinite(run.boxes).all()):
        raise ValueError(f"{name}: some of its scores or boxes are not finite; leave those detections out")
    return Detections(run.frame, run.label, run.score.astype(np.float32).astype(np.float64), run.boxes)


def _kinds(seen: Outcome) -> np.ndarray:
    """What each detection is: its place in KINDS, (D,). A least score does not change it: what is wrong with one depends on better ones alone."""
    of_detection, kinds = error_of(seen).of_detection, np.zeros(len(seen.object_of), np.uint8)
    for place, kind in enumerate(KINDS):
        kinds[of_detection == kind] = place
    return kinds


def _model(name: str, run: Run | Detections, seen: Outcome, best: float) -> dict[str, Any]:
    """A model as the browser has it; F1 is that at its best score, on the whole split."""
    frame, score = seen.detections.frame, seen.detections.score
    cut = score[np.arange(len(frame)) - np.searchsorted(frame, frame) >= MOST_DETECTIONS]
    above = score >= best
    counts, hits = int((above & (seen.object_of != IGNORED)).sum()), int((above & (seen.object_of >= 0)).sum())
    total = counts + len(seen.objects)
    colour = rung_colour(name) if name.split("+")[0] in RUNGS else FAINT
    return {"name": name, "seed": f"seed {run.experiment.seed}" if isinstance(run, Run) else "", "colour": colour, "best": best,
            "f1": 2 * hits / total if total else None, "cut": float(cut.max(initial=0.0))}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, int), *parts])


def _picture(split: Split, index: int) -> tuple[bytes, str]:
    """A frame as WebP; without a picture nothing, and why."""
    try:
        picture = Image.fromarray(split.image(index).permute(1, 2, 0).numpy())
    except DataError:
        return b"", f"{split.frames[index].file_name}: the picture is missing, damaged or of another size"
    picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=QUALITY, method=5)
    return buffer.getvalue(), ""
