"""The one in-memory form of a data set: frames in the order of their clips, and a table of all boxes; read from COCO json."""
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

ANNOTATIONS = "_annotations.json"
SIZES = ("small", "medium", "large")
COLUMNS = ["frame", "image_id", "clip", "label", "category", "x1", "y1", "x2", "y2", "width", "height", "size", "aspect", "area", "crowd",
           "distance", "visible", "annotation"]


class DataError(ValueError):
    """A data set that cannot be read as it is; the message names file, annotation and the way out."""


@dataclass(frozen=True)
class Frame:
    """One picture of a split; `clip` is the file's name up to its frame number, `number` that frame number."""

    image_id: int
    file_name: str  # relative to the data set's folder
    image_hw: tuple[int, int]
    clip: str
    number: int


@dataclass(frozen=True)
class Split:
    """Frames (sorted by clip and frame number, also those without objects) and the table of their boxes."""

    name: str
    root: Path
    frames: tuple[Frame, ...]
    categories: tuple[str, ...]  # label k in 1..K is categories[k - 1]
    boxes: pd.DataFrame = field(repr=False)  # one row a box, columns as in COLUMNS; `frame` is the index into `frames`
    invalid: dict[str, int]  # what was dropped or clipped, and how often
    fingerprint: str  # of the annotation file's bytes

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width that hold every frame of the split, px."""
        if not self.frames:
            raise DataError(f"{self.root / (self.name + ANNOTATIONS)}: it lists no images; add some, or remove the file")
        return max(f.image_hw[0] for f in self.frames), max(f.image_hw[1] for f in self.frames)

    @property
    def clips(self) -> list[str]:
        """Names of the clips, in order."""
        return list(dict.fromkeys(frame.clip for frame in self.frames))

    @cached_property
    def _rows(self) -> list[tuple[Tensor, Tensor]]:
        rows = self.boxes[~self.boxes["crowd"]]
        order = rows["frame"].to_numpy()
        xyxy = torch.from_numpy(rows[["x1", "y1", "x2", "y2"]].to_numpy(np.float32).copy())
        labels = torch.from_numpy(rows["label"].to_numpy(np.int64).copy())
        edges = np.searchsorted(order, np.arange(len(self.frames) + 1))
        return [(xyxy[a:b], labels[a:b]) for a, b in pairwise(edges)]

    def targets(self, index: int) -> tuple[Tensor, Tensor]:
        """Boxes (M, 4) xyxy px and labels (M,) in 1..K of one frame, crowds left out."""
        return self._rows[index]

    def has_images(self) -> bool:
        """Whether every frame's picture is on the disk."""
        return all((self.root / frame.file_name).is_file() for frame in self.frames)

    def image(self, index: int) -> Tensor:
        """One frame as (3, H, W) uint8; raises DataError for a picture that is missing, damaged or of another size."""
        frame = self.frames[index]
        path = self.root / frame.file_name
        try:
            with Image.open(path) as picture:
                pixels = np.array(picture.convert("RGB"))
        except FileNotFoundError:
            raise DataError(f"{path}: this picture is listed in {self.name}{ANNOTATIONS} and is not there; "
                            "put it back, or remove it from the list") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{path}: not readable as a picture ({error}); replace the file") from None
        if pixels.shape[:2] != frame.image_hw:
            raise DataError(f"{path}: the picture is {pixels.shape[1]} x {pixels.shape[0]} px, {self.name}{ANNOTATIONS} says "
                            f"{frame.image_hw[1]} x {frame.image_hw[0]}; correct the one that is wrong")
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def spread(self, most: int) -> list[int]:
        """Places of at most so many frames, spread evenly, the first and the last among them."""
        return sorted({round(k) for k in np.linspace(0, len(self) - 1, min(most, len(self)))})

    def subset(self, indices: list[int]) -> "Split":
        """The same split with only these frames, in this order."""
        place = {old: new for new, old in enumerate(indices)}
        boxes = self.boxes[self.boxes["frame"].isin(place)].copy()
        boxes["frame"] = boxes["frame"].map(place).astype("int64")  # also of no frames
        boxes = boxes.sort_values("frame", kind="stable", ignore_index=True)
        return Split(self.name, self.root, tuple(self.frames[i] for i in indices), self.categories, boxes, self.invalid,
                     hashlib.sha256(f"{self.fingerprint}{indices}".encode()).hexdigest())


@dataclass(frozen=True, repr=False)
class Dataset:
    """A data set's folder: its splits by name, and what holds for all of them."""

    name: str
    root: Path
    panorama: bool  # column 0 and the last column are neighbours
    channels: tuple[str, ...]
    size_limits: tuple[float, float]  # px, sqrt of the area: small < first <= medium < second <= large
    categories: tuple[str, ...]
    splits: dict[str, Split]

    def __repr__(self) -> str:
        parts = [f"{name}: {len(s):,} frames in {len(s.clips):,} clips, {len(s.boxes):,} boxes" for name, s in self.splits.items()]
        return "\n".join([f"data {self.key}, {len(self.categories)} classes: {', '.join(self.categories)}", *parts])

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            raise DataError(f"no {split} in this data: {self.root} has {', '.join(self.splits)}")
        return self.splits[split]

    def __contains__(self, split: str) -> bool:
        return split in self.splits

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that change when the annotations of train or val do."""
        parts = [f"{name}:{self.splits[name].fingerprint}" for name in ("train", "val") if name in self.splits]
        return hashlib.sha256(" ".join([*parts, *self.categories]).encode()).hexdigest()[:8]

    @property
    def key(self) -> str:
        """Name and fingerprint: the folder under which runs on this data are kept."""
        return f"{self.name}-{self.fingerprint}"

    @property
    def size_names(self) -> dict[str, tuple[float, float]]:
        """The three size classes, their pixel limits in the name, with the range of areas in px^2."""
        low, high = self.size_limits
        return {f"small (< {low:g}² px)": (0, low**2), f"medium ({low:g}²-{high:g}² px)": (low**2, high**2),
                f"large (≥ {high:g}² px)": (high**2, math.inf)}


def open_dataset(folder: str | Path, invalid: str = "raise") -> Dataset:
    """A data set folder: every `<split>_annotations.json` in it, and `dataset.json` where there is one.

    Categories are those of all splits, mapped by name, in the order of train's ids. `invalid` says what happens to boxes that cannot be used:
    'raise', 'drop' (left out and counted) or 'clip' (cut at the image's edge, left out when nothing remains; counted).
    """
    root = Path(folder)
    files = {path.name.removesuffix(ANNOTATIONS): path for path in sorted(root.glob("*" + ANNOTATIONS))}
    if not files:
        raise DataError(f"{root}: no data set here; it needs <split>{ANNOTATIONS}, such as train{ANNOTATIONS} and val{ANNOTATIONS}")
    files = {name: files[name] for name in sorted(files, key=lambda n: (n != "train", n != "val", n))}
    raw = {name: _read(path) for name, path in files.items()}
    categories = tuple(dict.fromkeys(c["name"] for name in files for c in sorted(raw[name][0]["categories"], key=lambda c: c["id"])))
    about = _about(root / "dataset.json")
    splits = {name: _split(name, files[name], *raw[name], categories, invalid) for name in files}
    return Dataset(name=_safe_name(about.get("name") or root.resolve().name), root=root, panorama=about.get("panorama", False),
                   channels=tuple(about.get("channels", ("channel 0", "channel 1", "channel 2"))),
                   size_limits=tuple(about.get("size_limits") or derive_size_limits(splits)), categories=categories, splits=splits)


def open_annotations(path: str | Path, invalid: str = "raise") -> Split:
    """The boxes of one COCO json by itself, wherever it lies and without its pictures; `invalid` as in `open_dataset`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; name a COCO json")
    content, fingerprint = _read(path)
    categories = tuple(c["name"] for c in sorted(content["categories"], key=lambda c: c["id"]))
    return _split(path.name.removesuffix(ANNOTATIONS).removesuffix(".json"), path, content, fingerprint, categories, invalid)


def derive_size_limits(splits: dict[str, Split]) -> tuple[float, float]:
    """Limits of small and large where the data set names none: an eighth and a quarter of the frames' median height (16 and 32 px of 128)."""
    heights = [frame.image_hw[0] for split in splits.values() for frame in split.frames] or [256]
    return float(np.median(heights)) / 8, float(np.median(heights)) / 4


def _about(path: Path) -> dict:
    """What dataset.json says, if it is there."""
    try:
        about = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise DataError(f"{path}: not readable as json ({error}); correct or remove it") from None
    if not isinstance(about, dict):
        raise DataError(f"{path}: it must hold one json object; correct or remove it")
    return about


def _safe_name(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", str(name)).strip("_") or "data"


def _read(path: Path) -> tuple[dict, str]:
    """An annotation file's content, with its parts checked to be there, and the fingerprint of its bytes."""
    text = path.read_bytes()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as json ({error}); write the file again") from None
    parts = {"images": {"id", "file_name", "width", "height"}, "annotations": {"id", "image_id", "category_id", "bbox"}, "categories": {"id", "name"}}
    for part, keys in parts.items():
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise DataError(f"{path}: no list '{part}'; a COCO file has the lists images, annotations and categories")
        for number, entry in enumerate(content[part]):
            missing = keys - entry.keys() if isinstance(entry, dict) else keys
            if missing:
                raise DataError(f"{path}: {part}[{number}] lacks {', '.join(sorted(missing))}; add it")
        ids = [entry["id"] for entry in content[part]]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise DataError(f"{path}: {part} has id {twice} more than once; give each its own")
    return content, hashlib.sha256(text).hexdigest()


def clip_and_number(file_name: str) -> tuple[str, int]:
    """Clip and frame number from a file's name: what stands before and after its last underscore; else a clip of its own."""
    found = re.fullmatch(r"(.+)_(\d+)", Path(file_name).stem)
    return (found[1], int(found[2])) if found else (Path(file_name).stem, 0)


def _split(name: str, source: Path, content: dict, fingerprint: str, categories: tuple[str, ...], invalid: str) -> Split:
    if invalid not in ("raise", "drop", "clip"):
        raise ValueError(f"invalid={invalid!r}: use 'raise', 'drop' or 'clip'")
    frames, counts = [], {}
    for image in content["images"]:
        hw = (image["height"], image["width"])
        if not all(isinstance(side, int) and side > 0 for side in hw):
            raise DataError(f"{source}: image {image['id']} ({image['file_name']!r}) has width {hw[1]!r} and height {hw[0]!r}; correct them")
        frames.append(Frame(image["id"], image["file_name"], hw, *clip_and_number(image["file_name"])))
    frames.sort(key=lambda f: (f.clip, f.number, f.file_name))
    index = {frame.image_id: i for i, frame in enumerate(frames)}
    names = {c["id"]: c["name"] for c in content["categories"]}

    rows = []
    for entry in content["annotations"]:
        fault, box = _fault(entry, index, names, frames)
        if fault and invalid == "raise":
            picture = frames[index[entry["image_id"]]].file_name if entry["image_id"] in index else entry["image_id"]
            raise DataError(f"{source}: annotation {entry['id']} (image {picture!r}): {fault}; fix it, or load with invalid='drop' or 'clip' "
                            "(make workbook INVALID=drop)")
        if fault:
            kind = "clipped" if invalid == "clip" and box else "dropped"
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "dropped":
                continue
        frame = frames[index[entry["image_id"]]]
        x1, y1, x2, y2 = box
        w, h = x2 - x1, y2 - y1
        category = names[entry["category_id"]]
        rows.append((index[frame.image_id], frame.image_id, frame.clip, categories.index(category) + 1, category, x1, y1, x2, y2, w, h,
                     math.sqrt(w * h), w / h, float(w * h if entry.get("area") is None else entry["area"]), bool(entry.get("iscrowd")),
                     entry.get("distance", math.nan), entry.get("visible", math.nan), entry["id"]))
    numbers = {column: "float64" for column in COLUMNS[5:14] + COLUMNS[15:17]}  # also when there is no row to tell
    boxes = pd.DataFrame(rows, columns=COLUMNS).astype({"frame": "int64", "label": "int64", "crowd": "bool", **numbers})
    boxes["category"] = pd.Categorical(boxes["category"], categories)
    boxes = boxes.sort_values("frame", kind="stable", ignore_index=True)
    if counts:
        print(f"{source}: " + ", ".join(f"{n} boxes {kind}" for kind, n in counts.items()))
    if counts:  # other boxes than the file's: runs on them are not runs on all of it
        fingerprint = hashlib.sha256(f"{fingerprint}{invalid}".encode()).hexdigest()
    return Split(name, source.parent, tuple(frames), categories, boxes, counts, fingerprint)


def _fault(entry: dict, index: dict, names: dict, frames: list[Frame]) -> tuple[str, tuple | None]:
    """What is wrong with an annotation ('' if nothing), and its xyxy box as far as it can be used."""
    if entry["image_id"] not in index:
        return f"image_id {entry['image_id']} is not in images", None
    if entry["category_id"] not in names:
        return f"category_id {entry['category_id']} is not in categories", None
    try:
        x, y, w, h = (float(v) for v in entry["bbox"])
    except (TypeError, ValueError):
        return f"bbox {entry['bbox']!r} is not four numbers", None
    if not all(map(math.isfinite, (x, y, w, h))):
        return f"bbox {entry['bbox']} is not finite", None
    for side, value in (("width", w), ("height", h)):
        if value <= 0:
            return f"box {side} is {value:g}", None
    height, width = frames[index[entry["image_id"]]].image_hw
    cut = (max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height)))
    over = max(-x, -y, x + w - width, y + h - height)
    usable = cut if cut[0] < cut[2] and cut[1] < cut[3] else None
    if over > 1 or not usable:  # a pixel over the edge is how many tools round
        return f"box reaches {over:.1f} px outside the image of {width} x {height} px", usable
    return "", cut if over > 0 else (x, y, x + w, y + h)
