"""Checks before training: what is wrong with a data set, each finding with file, annotation and the way to mend it."""
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..anchors import STRIDES
from .coco import Frame, Source
from .folder import PARTS, annotation_name, annotation_table, fault_text, frames_of, read_all
from .pictures import fault, thumbnail

COLUMNS = ["kind", "split", "file", "annotation", "what", "fix", "frame", "x1", "y1", "x2", "y2"]
SAME = 0.9  # IoU from which two boxes of a picture are taken for one object's
SIDE, CHUNK = 16, 1000  # px of the copies that pictures are compared by, and how many at once
ALIKE, EQUAL = 0.97, 0.9999  # correlations: of pictures saved anew or taken twice (other streets of one city stay below 0.9), and of copies
FEW, CLOSE = 10, 0.85  # a name is rare beside one with so many times its boxes; names are alike from this ratio of common letters
LISTED = 1000  # findings of a kind and split that are listed one by one; the rest is counted
FIXES = {  # kind of finding -> what to do
    "unreadable picture": "replace the file, or take it out of the annotations",
    "missing picture": "put it back, or take it out of the annotations",
    "size mismatch": "correct the size in the annotations, or put the picture back that they were made for",
    "dark picture": "stretch the values to 16 bits: training takes the upper 8",
    "numbers": "write four numbers, x, y, width and height; or leave it out: invalid='drop'",
    "width": "exchange the corners, or give the box an extent; or leave it out: invalid='drop'",
    "height": "exchange the corners, or give the box an extent; or leave it out: invalid='drop'",
    "outside": "move the box into the picture; or cut it at the edge, invalid='clip', or leave it out, 'drop'",
    "image": "add the picture to the list, or remove the annotation; or leave it out: invalid='drop'",
    "category": "add the class to the list, or remove the annotation; or leave it out: invalid='drop'",
    "repeated id": "give each its own number",
    "duplicate": "remove one of the two",
    "two classes": "decide which it is, and remove the other",
    "similar classes": "if they are one class, write its name in one way; if not, nothing",
    "unused category": "nothing, or take it out of the list: a class without objects cannot be learned or judged",
    "class missing": "bring pictures of it into this split, or re-split (`detlib import --splits`); its AP cannot be measured where it is missing",
    "no objects": "nothing if they are empty streets; else annotate them: what is not annotated is learned as background",
    "too small": f"nothing, or train on larger pictures: the finest grid has a cell every {STRIDES[0]} px",
    "leak": "put all frames of a clip, and each picture, into one split: else the model is judged on what it has learned by heart",
}
NAMES = {"numbers": "not numbers", "width": "no width", "height": "no height", "image": "unknown image", "category": "unknown category"}


@dataclass(frozen=True)
class Checked:
    """What `check` looked at, and what it found."""

    root: Path
    images: int
    boxes: int
    findings: pd.DataFrame  # COLUMNS; frame is a place in `frames[split]`, -1 for none
    frames: dict[str, tuple[Frame, ...]]
    classes: pd.DataFrame  # usable boxes of each class (rows, most first) in each split (columns)

    def counts(self) -> pd.DataFrame:
        """How many findings of each kind in each split; a row a kind, in the order of `FIXES`, with its fix."""
        if not len(self.findings):
            return pd.DataFrame({"findings": [], "fix": []})
        table = pd.crosstab(self.findings["kind"], self.findings["split"])
        kinds = [NAMES.get(kind, kind) for kind in FIXES if NAMES.get(kind, kind) in table.index]
        return table.loc[kinds].assign(fix=[FIXES[next(k for k in FIXES if NAMES.get(k, k) == kind)] for kind in kinds])

    def listed(self) -> list[dict]:
        """The findings as plain values: kind, split, file, annotation, what, fix."""
        return self.findings[COLUMNS[:6]].to_dict("records")


def check(folder: str | Path, pictures: bool = True, **reading: Any) -> Checked:
    """Look through a data set's folder for faults of its annotations and, with `pictures`, of every picture; nothing is changed.

    Raises DataError where the folder cannot be read at all; `reading` as in `folder.read_all`.
    """
    root = Path(folder)
    about, sources = read_all(root, **reading)
    frames = {name: frames_of(source, about["clip_names"]) for name, source in sources.items()}
    rows, boxes, classes, counts = [], 0, {}, {}
    for name, source in sources.items():
        table = annotation_table(source, frames[name], about["panorama"])
        boxes += len(source.content["annotations"])
        counts[name] = table.loc[table["fault"].eq(""), "category"].value_counts()
        classes[name] = set(counts[name].index)
        rows += [{"split": name, **row} for row in _similar(source, table, frames[name], counts[name])]
        for part in (_faults, _repeated, _twice, _sparse):
            rows += [{"split": name, **row} for row in part(source, table, frames[name])]
        if pictures:
            rows += [{"split": name, **row} for row in _pictures(root, frames[name])]
    rows += _categories(sources, classes) + _leaks(root, frames, pictures)
    table = pd.DataFrame([_row(**row) for row in rows], columns=COLUMNS)
    order = pd.Categorical(table["kind"], [NAMES.get(kind, kind) for kind in FIXES])
    table = table.assign(order=order.codes).sort_values("order", kind="stable", ignore_index=True)
    by_class = pd.DataFrame(counts).fillna(0).astype(int)
    return Checked(root, sum(map(len, frames.values())), boxes, table[COLUMNS], frames, by_class.loc[by_class.sum(axis=1).sort_values()[::-1].index])


def _row(split: str, kind: str, what: str, file: str = "", annotation: str = "", frame: int = -1, box: Sequence[float] = (np.nan,) * 4) -> dict:
    return {"kind": NAMES.get(kind, kind), "split": split, "file": file, "annotation": str(annotation), "what": what, "fix": FIXES[kind],
            "frame": frame, **dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))}


def _at(source: Source, row: pd.Series, frames: Sequence[Frame]) -> dict:
    """File, annotation, frame and box, as written, of a row of `annotation_table`."""
    entry = source.content["annotations"][row["entry"]]
    file = frames[row["frame"]].file_name if row["frame"] >= 0 else str(source.path.name)
    return {"file": file, "annotation": entry.get("where", entry["id"]), "frame": int(row["frame"]),
            "box": (row["x"], row["y"], row["x"] + row["width"], row["y"] + row["height"])}


def _faults(source: Source, table: pd.DataFrame, frames: Sequence[Frame]) -> Iterator[dict]:
    for kind, rows in table[table["fault"].ne("")].groupby("fault", sort=False):
        for _, row in rows.head(LISTED).iterrows():
            yield {"kind": kind, "what": fault_text(source, row, frames), **_at(source, row, frames)}
        if len(rows) > LISTED:
            yield {"kind": kind, "what": f"and {len(rows) - LISTED:,} more", "file": source.path.name}


def _repeated(source: Source, table: pd.DataFrame, frames: Sequence[Frame]) -> Iterator[dict]:
    for part in PARTS:
        ids = pd.Series([entry["id"] for entry in source.content[part]], dtype="object")
        for twice, count in ids[ids.duplicated(keep=False)].value_counts().head(LISTED).items():
            yield {"kind": "repeated id", "what": f"id {twice} stands {count} times in {part}", "file": source.path.name}


def same_boxes(table: pd.DataFrame) -> np.ndarray:
    """Pairs (P, 2) of places of boxes of one frame whose IoU is at least SAME; `table` has frame, x1, y1, x2, y2.

    Such boxes begin within a tenth of their common width, so of boxes sorted by x1 only near neighbours are compared.
    """
    order = np.lexsort((table["x1"], table["frame"]))
    frame, corners = table["frame"].to_numpy()[order], table[["x1", "y1", "x2", "y2"]].to_numpy()[order]
    width, area = corners[:, 2] - corners[:, 0], np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    found, first, step = [], np.arange(len(order)), 0
    while len(first):
        step += 1
        first = first[first + step < len(order)]
        second = first + step
        near = (frame[first] == frame[second]) & (corners[second, 0] - corners[first, 0] <= (1 - SAME) / SAME * width[first] + 1e-9)
        first, second = first[near], second[near]
        extent = np.minimum(corners[first, 2:], corners[second, 2:]) - np.maximum(corners[first, :2], corners[second, :2])
        common = np.prod(extent.clip(0), axis=1)
        same = common >= SAME * (area[first] + area[second] - common)
        found.append(np.stack([order[first[same]], order[second[same]]], -1))
    return np.sort(np.concatenate([np.zeros((0, 2), int), *found]), axis=1)


def _twice(source: Source, table: pd.DataFrame, frames: Sequence[Frame]) -> Iterator[dict]:
    usable = table[table["fault"].eq("")].reset_index(drop=True)
    pairs = same_boxes(usable)
    for first, second in pairs[:LISTED]:
        one, two = usable.iloc[first], usable.iloc[second]
        other = annotation_name(source, one, frames).partition(" (image")[0].rpartition("/")[2]  # in the same picture, so without folders
        if one["category"] == two["category"]:
            yield {"kind": "duplicate", "what": f"the same {two['category']} as {other}", **_at(source, two, frames)}
        else:
            yield {"kind": "two classes", "what": f"a {two['category']} where {other} is a {one['category']}", **_at(source, two, frames)}
    if len(pairs) > LISTED:
        yield {"kind": "duplicate", "what": f"and {len(pairs) - LISTED:,} more pairs of boxes in one place", "file": source.path.name}


def _sparse(source: Source, table: pd.DataFrame, frames: Sequence[Frame]) -> Iterator[dict]:
    """Frames without objects and objects smaller than a cell of the finest grid: counted, with the first and the smallest as an example."""
    empty = np.flatnonzero(np.bincount(table["frame"][table["frame"] >= 0], minlength=len(frames)) == 0)
    if len(empty):
        yield {"kind": "no objects", "what": f"{len(empty):,} of {len(frames):,} pictures, the first is this", "file": frames[empty[0]].file_name,
               "frame": int(empty[0])}
    usable = table[table["fault"].eq("")]
    size = np.sqrt((usable["x2"] - usable["x1"]) * (usable["y2"] - usable["y1"]))
    small = size < STRIDES[0]
    if small.any():
        what = f"{small.sum():,} of {len(usable):,} boxes are under {STRIDES[0]}² px, the smallest, {size.min():.1f}², is this"
        yield {"kind": "too small", "what": what, **_at(source, usable.loc[size.idxmin()], frames)}


def _categories(sources: dict[str, Source], used: dict[str, set]) -> list[dict]:
    """Classes of the lists that no split uses, and classes that one of train and val uses and the other does not."""
    listed = {entry["name"]: name for name, source in reversed(sources.items()) for entry in source.content["categories"]}
    rows = [{"split": listed[name], "kind": "unused category", "what": f"no object of the class {name}", "file": sources[listed[name]].path.name}
            for name in listed if not any(name in classes for classes in used.values())]
    both = [name for name in ("train", "val") if name in used]
    for here in both:
        for there in both:
            rows += [{"split": here, "kind": "class missing", "what": f"no {name}, which {there} has", "file": sources[here].path.name}
                     for name in sorted(used[there] - used[here])]
    return rows


def _similar(source: Source, table: pd.DataFrame, frames: Sequence[Frame], counts: pd.Series) -> Iterator[dict]:
    """Rare names of classes that look like a frequent one's: other capitals, letters exchanged, one letter more or less."""
    for rare, few in counts.items():
        for name, many in counts.items():
            a, b = str(rare).casefold(), str(name).casefold()
            alike = a == b or sorted(a) == sorted(b) or (min(len(a), len(b)) > 3 and SequenceMatcher(None, a, b).ratio() >= CLOSE)
            if rare != name and FEW * few <= many and alike:
                row = table[table["category"].eq(rare)].iloc[0]
                yield {"kind": "similar classes", "what": f"{few:,} of {rare}, which looks like {name} ({many:,} boxes); the first is this",
                       **_at(source, row, frames)}


def _pictures(root: Path, frames: Sequence[Frame]) -> Iterator[dict]:
    missing = [place for place, frame in enumerate(frames) if not os.path.isfile(root / frame.file_name)]
    if frames and len(missing) == len(frames):
        yield {"kind": "missing picture", "what": f"none of the {len(frames):,} pictures is there", "file": frames[0].file_name}
        return
    for place, frame in enumerate(frames):
        path, at = root / frame.file_name, {"file": frame.file_name, "frame": place}
        if not os.path.isfile(path):
            yield {"kind": "missing picture", "what": "listed, and not there", **at}
            continue
        if wrong := fault(path, frame.image_hw):
            yield {"kind": wrong[0], "what": wrong[1], **at}


def _leaks(root: Path, frames: dict[str, tuple[Frame, ...]], pictures: bool) -> list[dict]:
    """Clips and pictures that lie in train and in val."""
    if not {"train", "val"} <= frames.keys():
        return []
    train, val = frames["train"], frames["val"]
    clips = {frame.clip for frame in train}
    rows = [{"split": "val", "kind": "leak", "what": f"frames of the clip {clip} are in train and in val", "file": file, "frame": place}
            for clip, (place, file) in {f.clip: (k, f.file_name) for k, f in reversed(list(enumerate(val))) if f.clip in clips}.items()]
    return rows + _lookalikes(root, train, val) if pictures else rows


def _lookalikes(root: Path, train: Sequence[Frame], val: Sequence[Frame]) -> list[dict]:
    """Pictures of val that look like one of train, by the correlation of small grey copies: a file copied or saved anew, the same place once more."""
    both = []
    for frames in (train, val):
        small = {place: copy for place, frame in enumerate(frames) if (copy := thumbnail(root / frame.file_name, SIDE)) is not None}
        both.append((list(small), np.array(list(small.values()), np.float32).reshape(len(small), SIDE * SIDE)))
    (places, theirs), (mine, ours) = both
    rows = []
    for start in range(0, len(ours) if len(theirs) else 0, CHUNK):
        alike = ours[start:start + CHUNK] @ theirs.T / SIDE**2
        for k in np.flatnonzero(alike.max(1) >= ALIKE):
            name = train[places[int(alike[k].argmax())]].file_name
            what = f"the same picture as {name} in train" if alike[k].max() >= EQUAL else f"looks like {name} in train, alike to {alike[k].max():.3f}"
            rows.append({"split": "val", "kind": "leak", "what": what, "file": val[mine[start + k]].file_name, "frame": mine[start + k]})
    if len(rows) > LISTED:
        more = {"split": "val", "kind": "leak", "what": f"and {len(rows) - LISTED:,} more pictures that look like one of train", "file": ""}
        return [*rows[:LISTED], more]
    return rows
