"""What is measured of a split's objects and pictures, and a split anew: whole clips to train and val, so that both hold alike."""
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from .coco import DataError, Dataset, Split, objects, safe_name

UNITS = {"class mix": "share", "size": "log2 units", "width / height": "log2 units", "place across": "share of the width",
         "place down": "share of the height"}  # of a distance; brightness comes on top, in grey levels
GRID = 1024  # different values that a distribution is held at; more are rounded to so many quantiles
PICTURES = 300  # whose brightness is measured
DRAWS = 2000  # re-splits that are tried


def brightness(split: Split, most: int = PICTURES) -> tuple[np.ndarray, np.ndarray]:
    """Mean grey level of each channel (N, C), 0..255, and place (N,) of up to `most` frames, spread evenly; without those whose picture is absent."""
    places = [k for k in split.spread(most) if (split.root / split.frames[k].file_name).is_file()] if len(split) else []
    grey = [split.image(k).float().mean(dim=(1, 2)).numpy() for k in places]
    return np.array(grey, float) if grey else np.zeros((0, 0)), np.array(places, int)


def measured(split: Split, channels: Sequence[str] = ()) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By quantity: its values (M,) of all objects, or of frames for brightness, and the places (M,) of their clips in `split.clips`.

    The class mix has labels, size (square root of the area, px) and width / height are log2, places are those of the middle as shares of the picture.
    """
    boxes, index = objects(split), {clip: k for k, clip in enumerate(split.clips)}
    hw = np.array([frame.image_hw for frame in split.frames] or [(1, 1)], float)[boxes["frame"].to_numpy(int)]
    of_frame = np.array([index[frame.clip] for frame in split.frames], int)
    clip = of_frame[boxes["frame"].to_numpy(int)]
    middle = boxes[["x1", "y1"]].to_numpy(float) + boxes[["width", "height"]].to_numpy(float) / 2
    values = (boxes["label"].to_numpy(float), np.log2(boxes["size"].to_numpy(float)), np.log2(boxes["aspect"].to_numpy(float)),
              middle[:, 0] / hw[:, 1], middle[:, 1] / hw[:, 0])
    found = {name: (value, clip) for name, value in zip(UNITS, values, strict=True)}
    grey, places = brightness(split) if channels else (np.zeros((0, 0)), np.zeros(0, int))
    return found | {f"brightness: {name}": (grey[:, k], of_frame[places]) for k, name in enumerate(channels[:grey.shape[1]])}


def histograms(name: str, parts: Sequence[Mapping], clips: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray | None]:
    """How often each clip has each value of a quantity: one (clips, G) a part of `measured`, and the grid (G,); exact up to GRID different values.

    The class mix has no grid: None, as `distance` takes it.
    """
    every = np.concatenate([part[name][0] for part in parts])
    grid = np.unique(every)
    grid = grid if len(grid) <= GRID else np.unique(np.quantile(every, np.linspace(0, 1, GRID), method="lower"))
    counts = []
    for (values, clip), number in zip((part[name] for part in parts), clips, strict=True):
        counts.append(np.zeros((number, len(grid))))
        np.add.at(counts[-1], (clip, np.searchsorted(grid, values, side="right") - 1), 1)
    return counts, None if name == "class mix" else grid


def distance(first: np.ndarray, second: np.ndarray, grid: np.ndarray | None) -> np.ndarray:
    """Wasserstein-1 distances of histograms (B, G) or (G,) over a grid (G,); total variation where the grid is None. NaN for an empty one.

    `scipy.stats.wasserstein_distance` for many pairs at once: the area between the distribution functions.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = first / first.sum(-1, keepdims=True) - second / second.sum(-1, keepdims=True)
    apart = np.abs(gap).sum(-1) / 2 if grid is None else (np.abs(np.cumsum(gap, -1))[..., :-1] * np.diff(grid)).sum(-1)
    return apart.round(12)  # what is alike is at 0, not at the sums' last digit


def clip_count(number: int) -> str:
    """So many clips, in words."""
    return f"{number} clip" + "s" * (number != 1)


def resplit(dataset: Dataset, share: float = 0.2, seed: int = 0) -> Dataset:
    """Train and val anew, of whole clips of both: a class that two clips hold in both, class mix and sizes as near as can be.

    The best of DRAWS seeded draws with about `share` of the frames in val; what cannot be balanced is printed. Other splits are left out, since
    they may hold frames of the new val. Raises DataError where there is only one clip.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share!r}: between 0 and 1")
    pool = pooled(dataset)
    if len(pool.clips) < 2:
        raise DataError(f"{dataset.root}: {clip_count(len(pool.clips))} cannot be split so that train and val share no clip; bring more clips")
    chosen = _best_draw(pool, share, seed)
    parts = {name: pool.subset([k for k, frame in enumerate(pool.frames) if (frame.clip in chosen) == (name == "val")]) for name in ("train", "val")}
    new = replace(dataset, name=safe_name(f"{dataset.name}_resplit{seed}"),
                  splits={name: replace(part, name=name) for name, part in parts.items()})
    print(*_balance(new), sep="\n")
    return new


def pooled(dataset: Dataset) -> Split:
    """Train and val as one split, in the order of clips; ids that both use are numbered anew. A clip that lies in both becomes one."""
    parts = [dataset[name] for name in ("train", "val") if name in dataset]
    if twice := set.intersection(*({frame.file_name for frame in part.frames} for part in parts)) if len(parts) > 1 else set():
        raise DataError(f"{dataset.root}: the picture {min(twice)} is in train and in val; take it out of one of them")
    if not parts:
        raise DataError(f"{dataset.root}: neither train nor val in this data; it has {', '.join(dataset.splits)}")
    images, annotations = _ids([[f.image_id for f in p.frames] for p in parts]), _ids([list(p.boxes["annotation"]) for p in parts])
    stored = _ids([[f.part.image_id for f in p.frames if f.part] for p in parts])
    frames, tables, start = [], [], 0
    for k, part in enumerate(parts):
        frames += [replace(f, image_id=images[k, f.image_id], part=f.part and replace(f.part, image_id=stored[k, f.part.image_id]))
                   for f in part.frames]
        tables.append(part.boxes.assign(frame=part.boxes["frame"] + start, image_id=[images[k, i] for i in part.boxes["image_id"]],
                                        annotation=[annotations[k, i] for i in part.boxes["annotation"]]))
        start += len(part)
    invalid = dict(sum((Counter(part.invalid) for part in parts), Counter()))
    fingerprint = hashlib.sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest()
    boxes = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    whole = Split("train", dataset.root, tuple(frames), dataset.categories, boxes, invalid, fingerprint)
    return whole.subset(sorted(range(len(frames)), key=lambda k: (frames[k].clip, frames[k].number, frames[k].file_name)))


def _ids(parts: list[list]) -> dict[tuple[int, object], Any]:
    """(part, id) -> an id that is unique over the parts: the same where no two parts share one, else numbered from 1."""
    keys = list(dict.fromkeys((k, one) for k, part in enumerate(parts) for one in part))
    same = len({one for _, one in keys}) == len(keys)
    return {key: key[1] if same else number for number, key in enumerate(keys, start=1)}


def _best_draw(pool: Split, share: float, seed: int) -> set[str]:
    """Names of the clips for val."""
    clips, found = pool.clips, measured(pool)
    sizes = np.array(pd.Series([frame.clip for frame in pool.frames]).value_counts().reindex(clips), float)
    ((mix,), _), ((size,), grid) = (histograms(name, [found], [len(clips)]) for name in ("class mix", "size"))
    rng = np.random.default_rng(seed)
    val = np.stack([_draw(rng, mix, sizes, share) for _ in range(DRAWS)])  # (draws, clips)
    held = [(part @ mix > 0)[:, (mix > 0).sum(0) >= 2] for part in (val, 1 - val)]
    missing = sum((~part).sum(1) for part in held)
    lost = (val @ mix > 0)[:, (mix > 0).sum(0) == 1].sum(1)  # a class of one clip can be learned in train, and is of no use in val
    off = np.abs(val @ sizes / sizes.sum() - share) / share
    apart = [np.nan_to_num(distance(val @ part, (1 - val) @ part, axis), nan=1.0) for part, axis in ((mix, None), (size, grid))]
    best = np.lexsort((apart[0] + apart[1] + off, lost, missing))[0]
    return {clip for clip, chosen in zip(clips, val[best], strict=True) if chosen}


def _draw(rng: np.random.Generator, mix: np.ndarray, sizes: np.ndarray, share: float) -> np.ndarray:
    """One draw, (clips,) of 1 and 0: a clip for each class, the rarest first, then any others, until the share of the frames is reached."""
    order: list[int] = []
    held = (mix > 0).sum(0)
    for column in np.argsort(held, kind="stable"):
        if held[column] >= 2 and not mix[order, column].any():
            order.append(int(rng.choice(np.flatnonzero(mix[:, column]))))
    needed = max(len(order), min(2, len(sizes) // 2))  # of one clip no interval can be told
    order += [k for k in rng.permutation(len(sizes)).tolist() if k not in set(order)]
    reached = np.cumsum(sizes[order]) / sizes.sum()
    count = int(np.clip(np.abs(reached - share).argmin() + 1, needed, len(sizes) - 1))
    return np.isin(np.arange(len(sizes)), order[:count]).astype(float)


def _balance(dataset: Dataset) -> list[str]:
    """What a re-split reached, and what it could not."""
    train, val = dataset["train"], dataset["val"]
    held = " and ".join(f"{split.name} {len(split):,} frames in {clip_count(len(split.clips))}" for split in (train, val))
    lines = [f"Re-split by whole clips: {held}."]
    if len(objects(train)) and len(objects(val)):
        parts = [measured(split) for split in (train, val)]
        apart = [distance(one.sum(0), other.sum(0), grid) for (one, other), grid in (histograms(name, parts, [len(train.clips), len(val.clips)])
                                                                                     for name in ("class mix", "size"))]
        lines.append(f"Their class mix differs by {apart[0]:.1%} of the boxes, their sizes by {apart[1]:.2g} log2 units.")
    clips_of = {split.name: objects(split).groupby("category", observed=True)["clip"].nunique() for split in (train, val)}
    for name in dataset.categories:
        here = {split: int(clips.get(name, 0)) for split, clips in clips_of.items()}
        if sum(here.values()) and not all(here.values()):
            only = "train" if here["train"] else "val"
            why = "in 1 clip only" if here[only] == 1 else f"in {here[only]} clips, and no draw had it on both sides"
            lines.append(f"{name}: {why}, so it is in {only} alone: " + ("no AP can be measured." if only == "train" else "it cannot be learned."))
    return lines
