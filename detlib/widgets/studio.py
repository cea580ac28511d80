"""The anchor studio: move the shapes of an anchor set and see at once, on frames and in numbers, what it covers; drawn by studio*.js."""
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image

from ..anchors import BASELINE, SPECS, AnchorSpec
from ..data.coco import DataError, Dataset, Split
from ..experiments import rung
from ..fitting import fit_split, to_json
from ..matching import THRESHOLD
from ..runs import home, outputs
from . import MINE

MOST_BOXES = 30_000  # of a split: bounds the time of a move and the size of the saved page (two splits of so many: 1.4 MB)
WIDEST, QUALITY = 1280, 75  # px and WebP's quality of the frames' pictures: about 45 kB for a panorama
SPREAD = 3  # frames of a split: the one with the most objects, and others spread evenly
PARTS = ("studio_numbers.js", "studio_looks.js", "studio_pictures.js", "studio.js")  # joined, so that the page loads one module
MODULE = "\n".join(Path(__file__).with_name(name).read_text("utf-8") for name in PARTS)


def _written(spec: AnchorSpec, _: object = None) -> dict[str, Any]:
    """A set as the browser has it."""
    return {"name": spec.name, "strides": list(spec.strides), "shapes": [[list(shape) for shape in level] for level in spec.shapes]}


def _read(spec: dict[str, Any], _: object = None) -> AnchorSpec:
    """A set as the browser sends it."""
    levels = tuple(tuple((float(w), float(h)) for w, h in level) for level in spec["shapes"])
    return AnchorSpec(tuple(spec["strides"]), levels, spec["name"])


class AnchorStudio(anywidget.AnyWidget):
    """What `anchor_studio` returns: `spec` is the set that is on the screen, and setting it changes the picture.

    So do `threshold`, `level`, `shape`, `category` (0: all), `split` ("all", or a name), `frame` and `point` (x, y px); `reference` is the
    name of the set that numbers are compared with. They are saved with the notebook.
    """

    _esm = MODULE
    spec = traitlets.Instance(AnchorSpec).tag(**MINE, to_json=_written, from_json=_read)
    threshold = traitlets.Float(THRESHOLD, min=0.1, max=0.95).tag(**MINE)
    level = traitlets.Int(0, min=0).tag(**MINE)
    shape = traitlets.Int(0, min=0).tag(**MINE)
    category = traitlets.Int(0, min=0).tag(**MINE)
    split = traitlets.Unicode("all").tag(**MINE)
    frame = traitlets.Int(0, min=0).tag(**MINE)
    point = traitlets.List(traitlets.Float(), minlen=2, maxlen=2, default_value=[0.0, 0.0]).tag(**MINE)
    reference = traitlets.Unicode().tag(**MINE)
    sets = traitlets.Dict(read_only=True).tag(sync=True)  # name -> a set as the browser has it
    categories = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    in_channels = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    splits: traitlets.List[Any] = traitlets.List(read_only=True).tag(sync=True)  # name, image_hw, note, and start and stop in boxes
    frames: traitlets.List[Any] = traitlets.List(read_only=True).tag(sync=True)  # name, image_hw, picture (WebP), split, and start and stop in boxes
    boxes = traitlets.Bytes(read_only=True).tag(sync=True)  # (M, 4) float32 xyxy px
    labels = traitlets.Bytes(read_only=True).tag(sync=True)  # (M,) uint16, 1..K
    about = traitlets.Dict(read_only=True).tag(sync=True)  # what a saved set says of its origin

    def __init__(self, dataset: Dataset, start: AnchorSpec = BASELINE, sets: Mapping[str, AnchorSpec] | None = None,
                 frames: Mapping[str, Sequence[int]] | None = None, in_channels: Sequence[int] | None = None):
        """As `anchor_studio`."""
        named = {**({start.name: start} if start.name else {"start": start}), **(SPECS if sets is None else sets)}
        named = {name: spec for name, spec in named.items() if sets is not None or spec.strides == start.strides}
        channels = list(in_channels or (rung("fpn").sizes.fpn_channels,) * len(start.strides))
        _check(start, named, channels)
        if unknown := set(frames or {}) - set(dataset.splits):
            raise ValueError(f"frames of {', '.join(map(repr, sorted(unknown)))}: this data has the splits {', '.join(dataset.splits)}")
        names = [name for name in ("train", "val") if name in dataset and len(dataset[name])] or list(dataset.splits)[:1]
        parts = {name: _thinned(dataset[name]) for name in names}
        chosen = {name: (frames or {}).get(name) if frames is not None else shown_frames(part) for name, part in parts.items()}
        table, labels, splits, pictures = [np.zeros((0, 4), "<f4")], [np.zeros(0, "<u2")], [], []
        for number, (name, part) in enumerate(parts.items()):
            targets = [part.targets(index) for index in range(len(part))]
            begun = sum(map(len, labels))
            edges = begun + np.cumsum([0, *(len(boxes) for boxes, _ in targets)])
            table += [boxes.numpy().astype("<f4") for boxes, _ in targets]
            labels += [found.numpy().astype("<u2") for _, found in targets]
            splits.append({"name": name, "image_hw": list(part.image_hw), "start": int(begun), "stop": int(edges[-1]),
                           "note": _note(part, dataset[name])})
            pictures += [{"name": part.frames[i].file_name, "image_hw": list(part.frames[i].image_hw), "picture": _picture(part, i), "split": number,
                          "start": int(edges[i]), "stop": int(edges[i + 1])} for i in chosen[name] or ()]
        self._dataset, self._fitted_on = dataset, names[0]
        everything = np.concatenate(table)
        fixed = {"sets": {name: _written(spec) for name, spec in named.items()}, "categories": list(dataset.categories), "in_channels": channels,
                 "splits": splits, "frames": pictures, "boxes": everything.tobytes(), "labels": np.concatenate(labels).tobytes(),
                 "about": {"made by": "anchor studio", "data": dataset.key}}
        for name, value in fixed.items():
            self.set_trait(name, value)
        super().__init__(spec=start, reference=next(iter(named)), point=_middle(pictures, everything))
        self.on_msg(self._answer)

    @traitlets.validate("spec")
    def _same_strides(self, proposal: dict) -> AnchorSpec:
        spec, levels = proposal["value"], len(self.in_channels)
        strides = tuple(next(iter(self.sets.values()))["strides"])
        if spec.strides != strides or len(spec.shapes) != levels or not all(spec.shapes):
            raise traitlets.TraitError(f"this studio has the strides {strides}, the set {spec.name!r} has {spec.strides}, "
                                       f"with {spec.per_cell} shapes: it needs one or more on each level; open another studio with start=...")
        return spec

    def _answer(self, _: object, message: dict, buffers: list) -> None:
        """What the buttons Fit and Save ask for."""
        try:
            text = {"fit": self._fit, "save": self._save}[message["kind"]]()
        except (ValueError, OSError) as error:
            text = f"That did not work: {error}"
        self.send({"kind": "said", "text": text})

    def _fit(self) -> str:
        self.spec = fit_split(self._dataset[self._fitted_on], counts=self.spec.per_cell, strides=self.spec.strides)
        return f"Fitted to all boxes of {self._fitted_on}, with as many shapes on each level as before; Undo goes back."

    def _save(self) -> str:
        path = saved_path(self.spec.name)
        there = path.exists()
        to_json(self.spec, path, dict(self.about))
        place = path.relative_to(home()) if path.is_relative_to(home()) else path.name
        return f"{'Replaced' if there else 'Wrote'} {place}; detlib.fitting.from_json reads it."


def anchor_studio(dataset: Dataset, start: AnchorSpec = BASELINE, sets: Mapping[str, AnchorSpec] | None = None,
                  frames: Mapping[str, Sequence[int]] | None = None, in_channels: Sequence[int] | None = None) -> AnchorStudio:
    """A studio that opens with `start`, counts on train and val, and offers `sets` by name (None: baseline and report).

    `frames` are the frames to show, split name -> indices (None: chosen by `shown_frames`); `in_channels` are those of each level's head
    (None: the FPN's of the profile), for the count of parameters. All sets have the strides of `start`.
    """
    return AnchorStudio(dataset, start, sets, frames, in_channels)


def shown_frames(split: Split, most: int = SPREAD) -> list[int]:
    """The frame with the most objects, and others spread evenly; of those whose pictures are on the disk, if there are any."""
    there = [i for i, frame in enumerate(split.frames) if (split.root / frame.file_name).is_file()] or list(range(len(split)))
    if not there:
        return []
    crowded = max(there, key=lambda i: len(split.targets(i)[0]))
    rest = [i for i in there if i != crowded]
    return [crowded, *(rest[k] for k in np.linspace(0, len(rest) - 1, min(most - 1, len(rest))).round().astype(int))]


def saved_path(name: str) -> Path:
    """Where a set of this name is kept."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip(".")
    return outputs() / "anchors" / f"{safe or 'anchors'}.json"


def _check(start: AnchorSpec, named: Mapping[str, AnchorSpec], channels: Sequence[int]) -> None:
    """All sets have the same levels, each with a shape, and each level has its channels."""
    for name, spec in named.items():
        if spec.strides != start.strides:
            raise ValueError(f"the set {name!r} has strides {spec.strides}, start has {start.strides}: a studio compares sets of the same strides")
        if not all(spec.shapes):
            raise ValueError(f"the set {name!r} has a level without shapes: give each of the {len(spec.strides)} levels one or more")
    if len(channels) != len(start.strides):
        raise ValueError(f"in_channels={tuple(channels)} for {len(start.strides)} strides: give one number for each level's head")


def _thinned(split: Split) -> Split:
    """The split, or every so many-th frame of one with too many boxes."""
    step = math.ceil(len(split.boxes) / MOST_BOXES)
    return split if step <= 1 else split.subset(list(range(0, len(split), step)))


def _note(part: Split, whole: Split) -> str:
    """What of a split is counted, where it is not all of it."""
    if len(part) == len(whole):
        return ""
    return f"{part.name}: one frame in {math.ceil(len(whole) / len(part))} is counted, {len(part):,} of {len(whole):,}"


def _picture(split: Split, index: int) -> bytes:
    """A frame as WebP; empty without a picture."""
    try:
        picture = Image.fromarray(split.image(index).permute(1, 2, 0).numpy())
    except DataError:
        return b""
    picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=QUALITY, method=5)
    return buffer.getvalue()


def _middle(frames: Sequence[dict], boxes: np.ndarray) -> list[float]:
    """Centre (x, y) px of the first frame's object of median area."""
    if not frames:
        return [0.0, 0.0]
    height, width = frames[0]["image_hw"]
    own = torch.from_numpy(boxes[frames[0]["start"]:frames[0]["stop"]].astype("float64"))
    if not len(own):
        return [width / 2, height / 2]
    x1, y1, x2, y2 = own[((own[:, 2] - own[:, 0]) * (own[:, 3] - own[:, 1])).argsort(stable=True)[len(own) // 2]].tolist()
    return [round((x1 + x2) / 2, 2), round((y1 + y2) / 2, 2)]
