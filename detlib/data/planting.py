"""Errors put into a split's annotations on purpose, to measure how many of them an audit finds, and to teach it what errors look like."""
import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd

from .coco import DataError, Split

KINDS = ("missing", "spurious", "shifted", "class")
SIMILAR = (("car", "truck", "bus"), ("bicycle", "scooter", "motorcycle"), ("person", "rider"))
SHIFT = (0.3, 0.6)  # of the box's side
BOX = ["x1", "y1", "x2", "y2"]


def plant(split: Split, share: float = 0.05, seed: int = 0) -> tuple[Split, pd.DataFrame]:
    """A copy of a split with errors in this share of its boxes, the kinds in equal parts, and a row for each error.

    A row has kind, frame, annotation (of the wrong box, -1 of one that was taken away), the true box and the true category (of a spurious
    one, which is there on top and whose annotation is -2 or less, its own). Where all boxes have whole coordinates, those of the wrong ones are
    whole too.
    """
    draws = np.random.default_rng(seed)
    swaps = similar_classes(split)
    kinds = [kind for kind in KINDS if kind != "class" or swaps]
    usable = np.flatnonzero(~split.boxes["crowd"].to_numpy(bool))
    number = min(round(share * len(usable)), len(usable))
    if number < len(kinds):
        raise DataError(f"{split.name}: {share:g} of {len(usable)} boxes are {number}, too few for an error of each kind; use a larger share")
    room = _room(split)
    usable = draws.permutation(usable)
    usable = usable[np.argsort(~room[usable].any(axis=(1, 2)), kind="stable")]  # boxes that can be shifted first
    parts = dict(zip(["shifted", *(kind for kind in kinds if kind != "shifted")], np.array_split(usable[:number], len(kinds)), strict=True))
    rows = split.boxes
    planted = pd.concat([rows.iloc[parts[kind]][["frame", "annotation", *BOX, "category"]].assign(kind=kind) for kind in kinds], ignore_index=True)
    boxes = _shift(rows, parts["shifted"], room, draws)
    boxes = _swap(boxes, parts["class"], split, swaps, draws) if swaps else boxes
    added = _spurious(rows.iloc[parts["spurious"]], split, draws)
    planted.loc[planted["kind"] == "spurious", ["frame", "annotation", *BOX]] = added[["frame", "annotation", *BOX]].to_numpy()
    planted.loc[planted["kind"] == "missing", "annotation"] = -1
    boxes = pd.concat([boxes.drop(boxes.index[parts["missing"]]), added]).sort_values("frame", kind="stable", ignore_index=True)
    name = hashlib.sha256(f"{split.fingerprint} planted {share} {seed}".encode()).hexdigest()
    return replace(split, boxes=boxes, fingerprint=name), planted


def similar_classes(split: Split) -> dict[str, list[str]]:
    """The classes that each class may be taken for: of the same group in SIMILAR, else the one nearest in size; none where there is one class."""
    sizes = np.log(split.boxes.groupby("category", observed=True)["size"].median())
    found = {}
    for name in sizes.index:
        group = next((set(g) for g in SIMILAR if name in g), set()) - {name}
        others = [other for other in split.categories if other in group]
        rest = (sizes.drop(name) - sizes[name]).abs()
        found[name] = others or ([rest.idxmin()] if len(rest) else [])
    return {name: others for name, others in found.items() if others}


def whole(split: Split) -> bool:
    """Whether all boxes have whole coordinates: an error with a fraction would give itself away."""
    corners = split.boxes[BOX].to_numpy(float)
    return bool((corners == corners.round()).all())


def _room(split: Split) -> np.ndarray:
    """Which boxes can be shifted by the most that SHIFT allows and stay in the picture, (M, x or y, back or forth)."""
    corners = split.boxes[BOX].to_numpy(float)
    sizes = np.array([frame.image_hw[::-1] for frame in split.frames], float).reshape(-1, 2)[split.boxes["frame"]]
    sides = corners[:, 2:] - corners[:, :2]
    inside = np.stack([corners[:, :2] >= SHIFT[1] * sides, corners[:, 2:] + SHIFT[1] * sides <= sizes], axis=2)
    return inside & (sides >= (2 if whole(split) else 0))[:, :, None]


def _sized(boxes: pd.DataFrame) -> pd.DataFrame:
    width, height = boxes["x2"] - boxes["x1"], boxes["y2"] - boxes["y1"]
    return boxes.assign(width=width, height=height, size=(width * height) ** 0.5, aspect=width / height, area=width * height)


def _shift(boxes: pd.DataFrame, places: np.ndarray, room: np.ndarray, draws: np.random.Generator) -> pd.DataFrame:
    boxes, corners = boxes.copy(), boxes[BOX].to_numpy(float, copy=True)
    even = (corners == corners.round()).all()
    for place in places:
        ways = np.argwhere(room[place])
        if not len(ways):
            raise DataError(f"annotation {boxes['annotation'].iloc[place]} fills its picture and cannot be shifted; use a smaller share")
        axis, forth = ways[draws.integers(len(ways))]
        side = corners[place, axis + 2] - corners[place, axis]
        low, high = SHIFT[0] * side, SHIFT[1] * side
        move = draws.integers(np.ceil(low), np.floor(high) + 1) if even else draws.uniform(low, high)
        corners[place, [axis, axis + 2]] += move if forth else -move
    boxes[BOX] = corners
    return _sized(boxes)


def _swap(boxes: pd.DataFrame, places: np.ndarray, split: Split, swaps: dict[str, list[str]], draws: np.random.Generator) -> pd.DataFrame:
    names = boxes["category"].to_numpy(object).copy()
    for place in places:
        names[place] = str(draws.choice(swaps[names[place]]))
    label = {name: k for k, name in enumerate(split.categories, 1)}
    return boxes.assign(category=pd.Categorical(names, categories=boxes["category"].cat.categories), label=[label[name] for name in names])


def _spurious(rows: pd.DataFrame, split: Split, draws: np.random.Generator) -> pd.DataFrame:
    """Real boxes once more, each in a random frame, at a random column and at the height in the picture that it had."""
    frames = draws.integers(len(split), size=len(rows))
    height, width = np.array([split.frames[frame].image_hw for frame in frames], float).T
    corners = rows[BOX].to_numpy(float)
    wide, tall = np.minimum(corners[:, 2] - corners[:, 0], width), np.minimum(corners[:, 3] - corners[:, 1], height)
    x1, y1 = draws.uniform(0, width - wide), np.clip(corners[:, 1], 0, height - tall)
    x1 = np.floor(x1) if whole(split) else x1
    names = {name: [getattr(split.frames[frame], name) for frame in frames] for name in ("image_id", "clip")}
    return _sized(rows.assign(frame=frames, **names, x1=x1, y1=y1, x2=x1 + wide, y2=y1 + tall, annotation=-2 - np.arange(len(rows))))
