"""The one in-memory form of a data set: frames in the order of their clips, and a table of all boxes."""
import hashlib
import math
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import resize

from .pictures import UNREADABLE, read_pixels

ANNOTATIONS = "_annotations.json"
PLAIN_FOLDERS = {"images", "image", "imgs", "img", "pictures", "frames", "jpegimages", "data", "train", "training", "val", "valid", "validation",
                 "test", "testing", "extension"}
LONGEST_MESSAGE = 2000  # characters
COLOURS = ("red", "green", "blue")
SIZES = ("small", "medium", "large")
COLUMNS = ["frame", "image_id", "clip", "label", "category", "x1", "y1", "x2", "y2", "width", "height", "size", "aspect", "area", "crowd",
           "distance", "visible", "annotation"]


class DataError(ValueError):
    """A data set that cannot be read as it is; the message names file, annotation and the way out, and of long texts in the data the ends alone."""

    def __init__(self, message: str):
        safe = "".join(c if c == "\n" or not (c < " " or "\x7f" <= c < "\xa0") else ascii(c)[1:-1] for c in message)  # no terminal's commands
        super().__init__(safe if len(safe) <= LONGEST_MESSAGE else f"{safe[:LONGEST_MESSAGE // 2]} [...] {safe[-LONGEST_MESSAGE // 2:]}")


class Source(NamedTuple):
    """One split as it was read: COCO's three lists, whatever the form; an annotation may say in "where" where it stands."""

    path: Path  # that messages name
    content: dict
    fingerprint: str  # SHA-256 of what was read


@dataclass(frozen=True)
class Part:
    """Which part of a stored picture a frame is: the picture scaled, and cut at a place."""

    image_id: Any  # of the picture in its annotation file
    picture_hw: tuple[int, int]  # px as stored
    scaled_hw: tuple[int, int]  # px of the whole picture at the frame's scale
    left: int
    top: int


def cut(picture: Tensor, part: Part, hw: tuple[int, int]) -> Tensor:
    """A part (C, height, width) uint8 of a picture (C, H, W) uint8, scaled and cut."""
    if tuple(picture.shape[-2:]) != part.scaled_hw:
        picture = resize(picture, list(part.scaled_hw), antialias=True)
    return picture[:, part.top:part.top + hw[0], part.left:part.left + hw[1]].contiguous()


@dataclass(frozen=True)
class Frame:
    """One picture of a split; `clip` is the file's name up to its frame number, `number` that frame number."""

    image_id: int
    file_name: str  # relative to the data set's folder
    image_hw: tuple[int, int]
    clip: str
    number: int
    part: Part | None = None  # None: the picture as it is


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
        return all(os.path.isfile(self.root / frame.file_name) for frame in self.frames)

    def image(self, index: int) -> Tensor:
        """One frame as (3, H, W) uint8; raises DataError for a picture that is missing, damaged or of another size."""
        frame = self.frames[index]
        path, picture_hw = self.root / frame.file_name, frame.part.picture_hw if frame.part else frame.image_hw
        try:
            pixels = read_pixels(path, picture_hw)
        except FileNotFoundError:
            raise DataError(f"{path}: this picture is listed in {self.name}{ANNOTATIONS} and is not there; "
                            "put it back, or remove it from the list") from None
        except UNREADABLE as error:
            raise DataError(f"{path}: not readable as a picture ({error}); replace the file") from None
        if pixels.shape[:2] != picture_hw:
            raise DataError(f"{path}: the picture is {pixels.shape[1]} x {pixels.shape[0]} px, {self.name}{ANNOTATIONS} says "
                            f"{picture_hw[1]} x {picture_hw[0]}; correct the one that is wrong")
        picture = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return cut(picture, frame.part, frame.image_hw) if frame.part else picture

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
    plan: dict | None = None  # how pictures were brought to the network's size (inputs.Plan), None: not at all

    def __repr__(self) -> str:
        parts = [f"{name}: {len(s):,} frames in {len(s.clips):,} clips, {len(s.boxes):,} boxes" for name, s in self.splits.items()]
        return "\n".join([f"data {self.key}, {len(self.categories)} classes: {', '.join(self.categories)}", *parts])

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            way = f"; split it anew: detlib import {self.root} --splits share=0.2" if split in ("train", "val") else ""
            raise DataError(f"no {split} in this data: {self.root} has {', '.join(self.splits)}{way}")
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


def objects(split: Split) -> pd.DataFrame:
    """The rows of a split's box table that are single objects, not crowds."""
    return split.boxes[~split.boxes["crowd"].astype(bool)]


def derive_size_limits(splits: dict[str, Split]) -> tuple[float, float]:
    """Limits of small and large where the data set names none: an eighth and a quarter of the frames' median height (16 and 32 px of 128)."""
    heights = [frame.image_hw[0] for split in splits.values() for frame in split.frames] or [256]
    return float(np.median(heights)) / 8, float(np.median(heights)) / 4


def clip_and_number(file_name: str) -> tuple[str, int]:
    """Clip and frame number from a picture's path: its folders with what stands before the number at the name's end, and that number.

    Folders that only say what lies in them (images, train) do not count, but where a name is nothing but a number; a name without one is a clip.
    """
    *folders, _ = PurePosixPath(file_name).parts
    ((stem, number),) = re.findall(r"(?s)\A(.*?)[_. -]?(\d{1,18})?\Z", PurePosixPath(file_name).stem)
    telling = [name for name in folders if not set(re.findall(r"[a-z]+", name.lower())) & PLAIN_FOLDERS]
    clip = "/".join([*telling, stem] if stem else telling or folders[-1:])
    return clip or "frames", int(number or 0)


def safe_name(name: str) -> str:
    """A data set's name as it may stand in a folder's name."""
    return re.sub(r"[^\w-]+", "_", str(name)).strip("_") or "data"
