"""A data set's folder, read: its annotations checked, and turned into the one in-memory form (coco.py)."""
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from .augment import LEAST_PART
from .clips import clip_rule
from .coco import ANNOTATIONS, COLOURS, COLUMNS, DataError, Dataset, Frame, Source, Split, clip_and_number, derive_size_limits, safe_name
from .formats import read_folder
from .reading import about_folder, bytes_of, check_entries, json_of, no_collection, number, short

INVALID = ("raise", "drop", "clip")
MOST_SIDE = 1_000_000  # px: no picture file is wider
STRIP = 4.0  # width over height
SLACK = 1.0  # px over the edge that many tools round to: cut without a word
PARTS = {"images": ("id", "file_name", "width", "height"), "annotations": ("id", "image_id", "category_id", "bbox"), "categories": ("id", "name")}


@no_collection()
def open_dataset(folder: str | Path, invalid: str = "raise", clips: str | None = None, panorama: bool | None = None, **reading: object) -> Dataset:
    """A data set's folder: `<split>_annotations.json` (COCO) and `dataset.json`, or any form that `formats.read_folder` knows.

    Categories are those of all splits, mapped by name, in the order of train's ids. `invalid` says what happens to boxes that cannot be used:
    'raise', 'drop' (left out and counted) or 'clip' (cut at the image's edge, left out when nothing remains; counted). `clips`, `panorama` and
    `reading` (form, classes, splits, seed) say what a folder leaves open; one that says it all, in dataset.json, leaves nothing open.
    """
    return dataset_of(Path(folder), *read_all(folder, clips, panorama, **reading), invalid)


def dataset_of(root: Path, about: dict, sources: dict[str, Source], invalid: str = "raise") -> Dataset:
    """The data set that `read_all` has read from a folder; `invalid` as in `open_dataset`."""
    categories = tuple(dict.fromkeys(c["name"] for source in sources.values() for c in _listed(source)))
    splits = {name: _split(name, root, source, categories, invalid, about["panorama"], about["clip_names"]) for name, source in sources.items()}
    return Dataset(name=safe_name(about.get("name") or root.resolve().name), root=root, panorama=about["panorama"],
                   channels=tuple(about.get("channels") or _channels(splits)),
                   size_limits=tuple(about.get("size_limits") or derive_size_limits(splits)), categories=categories, splits=splits)


def _channels(splits: dict[str, Split]) -> tuple[str, ...]:
    """Names of the three channels where a folder names none: colours, but of strips as wide as a laser's turn, whose channels are something else."""
    shapes = [frame.image_hw[1] / frame.image_hw[0] for split in splits.values() for frame in split.frames]
    return ("channel 0", "channel 1", "channel 2") if shapes and np.median(shapes) >= STRIP else COLOURS


def read_all(folder: str | Path, clips: str | None = None, panorama: bool | None = None, **reading: Any) -> tuple[dict, dict[str, Source]]:
    """What is known of a folder as a whole (as dataset.json has it, panorama and clip_names always), and its splits as they were read.

    Whether numbered names are frames of clips or just numbered pictures, `clips` says ('names', 'none'), else dataset.json, else the pictures do;
    in the workbook's own form, pictures all called NAME_k are frames. Form, classes or splits that are asked for go before that form.
    Raises DataError where there is nothing to read.
    """
    root = Path(folder)
    about = {"panorama": False, **about_folder(root)}
    asked = {key: value for key, value in reading.items() if value is not None}
    own = {} if asked.keys() & {"form", "classes", "splits"} else {
        path.name.removesuffix(ANNOTATIONS): path for path in sorted(root.glob("*" + ANNOTATIONS)) if path.name != ANNOTATIONS}
    if own:
        sources = {name: _read(own[name]) for name in sorted(own, key=lambda n: (n != "train", n != "val", n))}
        for source in sources.values():
            _inside(source)
    else:
        found = _with_the_way(root, read_folder, root, clips=clips, **asked)
        sources = found.sources
        print(*found.notes, sep="\n", end="\n" if found.notes else "")
    if panorama is not None:
        about["panorama"] = panorama
    names = [str(image["file_name"]) for source in sources.values() for image in source.content["images"]]
    if clips is None and "clip_names" not in about and not (own and all(re.search(r"_\d+\.", name) for name in names)):
        clips, why = _with_the_way(root, clip_rule, [root / name for name in names])
        print(why)
    return about | {"clip_names": clips == "names" if clips else about.get("clip_names", True)}, sources


def _with_the_way(root: Path, read: Callable, *arguments: object, **options: object) -> Any:
    """What `read` returns; where it asks for an option, the error says whose option that is."""
    try:
        return read(*arguments, **options)
    except DataError as error:
        more = f" (an option of `detlib import {root}` and `detlib check`, in notebook 09 an entry of READING)" if " --" in str(error) else ""
        raise DataError(f"{error}{more}") from None


def _inside(source: Source) -> None:
    """Raise DataError for a picture that is named outside the data set's folder."""
    for image in source.content["images"]:
        path = PurePosixPath(image["file_name"])
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{source.path}: image {image['id']}: the picture {short(image['file_name'])} lies outside the folder; move it inside")


def open_annotations(path: str | Path, invalid: str = "raise") -> Split:
    """The boxes of one COCO json by itself, wherever it lies and without its pictures; `invalid` as in `open_dataset`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; name a COCO json")
    source = _read(path)
    categories = tuple(dict.fromkeys(c["name"] for c in _listed(source)))
    return _split(path.name.removesuffix(ANNOTATIONS).removesuffix(".json"), path.parent, source, categories, invalid)


def _read(path: Path) -> Source:
    """An annotation file's content, with its parts checked to be there, and the fingerprint of its bytes."""
    content = json_of(path)
    check_entries(path, content, PARTS)
    return Source(path, content, hashlib.sha256(bytes_of(path)).hexdigest())


def _listed(source: Source) -> list[dict]:
    """A source's classes in the order of their ids, numbers before texts."""
    return sorted(source.content["categories"], key=lambda c: (isinstance(c["id"], str), c["id"]))


def _once(source: Source) -> None:
    for part in PARTS:
        ids = [entry["id"] for entry in source.content[part]]
        if len(set(ids)) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise DataError(f"{source.path}: {part} has id {short(twice)} more than once; give each its own")


def frames_of(source: Source, clip_names: bool = True) -> tuple[Frame, ...]:
    """A source's frames in the order of their clips; without `clip_names` each picture is a clip of its own, whatever its name."""
    frames = []
    for image in source.content["images"]:
        hw = (image["height"], image["width"])
        if not all(isinstance(side, int) and 0 < side < MOST_SIDE for side in hw):
            raise DataError(f"{source.path}: image {image['id']} ({short(image['file_name'])}) has width {short(hw[1])} and height {short(hw[0])}; "
                            "correct them")
        named = clip_and_number(image["file_name"]) if clip_names else (Path(image["file_name"]).with_suffix("").as_posix(), 0)
        frames.append(Frame(image["id"], image["file_name"], hw, *named))
    return tuple(sorted(frames, key=lambda f: (f.clip, f.number, f.file_name)))


def annotation_table(source: Source, frames: Sequence[Frame], panorama: bool = False) -> pd.DataFrame:
    """Every annotation of a source, usable or not, a row each in the file's order.

    Columns: entry (its place in the file), frame (-1: unknown), category (its name, None: unknown), x, y, width, height (px as written; NaN where
    they are not numbers), x1, y1, x2, y2 (cut at the picture's edges), over (px outside), fault (a kind of FAULTS, "" if none), crowd. In a panorama
    a box across the seam becomes two rows.
    """
    entries = source.content["annotations"]
    place, names = {frame.image_id: i for i, frame in enumerate(frames)}, {c["id"]: c["name"] for c in source.content["categories"]}
    table = pd.DataFrame({"entry": np.arange(len(entries)), "frame": np.array([place.get(_key(a["image_id"]), -1) for a in entries], np.int64),
                          "category": pd.Series([names.get(_key(a["category_id"])) for a in entries], dtype="object"),
                          "crowd": np.array([bool(a.get("iscrowd")) for a in entries], bool)})
    table[["x", "y", "width", "height"]] = _numbers([a["bbox"] for a in entries])
    if panorama:
        table = _through_the_seam(table, frames)
    sizes = np.array([frame.image_hw for frame in frames] or [(0, 0)], np.float64)[table["frame"].to_numpy()]  # of an unknown frame the last one's
    x, y, w, h = (table[name].to_numpy() for name in ("x", "y", "width", "height"))
    cut = {"x1": np.maximum(x, 0), "y1": np.maximum(y, 0), "x2": np.minimum(x + w, sizes[:, 1]), "y2": np.minimum(y + h, sizes[:, 0])}
    over = np.maximum.reduce([-x, -y, x + w - sizes[:, 1], y + h - sizes[:, 0]])
    empty = (cut["x1"] >= cut["x2"]) | (cut["y1"] >= cut["y2"])
    finite = np.isfinite(table[["x", "y", "width", "height"]].to_numpy()).all(1)
    wrong = {"image": table["frame"].to_numpy() < 0, "category": table["category"].isna().to_numpy(), "numbers": ~finite, "width": w <= 0,
             "height": h <= 0, "outside": (over > SLACK) | empty}
    inside = over <= 0  # as written, to the last digit
    cut |= {name: np.where(inside, value, cut[name]) for name, value in (("x1", x), ("y1", y), ("x2", x + w), ("y2", y + h))}
    return table.assign(**cut, over=over, empty=empty, fault=np.select(list(wrong.values()), list(wrong), ""))


def _key(value: object) -> Any:
    return value if isinstance(value, int | float | str) else str(value)


def _numbers(boxes: list) -> np.ndarray:
    """(M, 4) float64; a row that is not four numbers becomes NaN."""
    try:
        return np.array(boxes, np.float64).reshape(len(boxes), 4)
    except (ValueError, TypeError, OverflowError):
        return np.array([_four(box) for box in boxes], np.float64).reshape(-1, 4)


def _four(box: Any) -> list[float]:
    try:
        x, y, w, h = (float(value) for value in box)
        return [x, y, w, h]
    except (TypeError, ValueError, OverflowError):
        return [math.nan] * 4


def _through_the_seam(table: pd.DataFrame, frames: Sequence[Frame]) -> pd.DataFrame:
    """Boxes of a panorama that reach beyond its left or right edge, as two boxes; a second part narrower than LEAST_PART is left out."""
    width = np.array([frame.image_hw[1] for frame in frames] or [0], np.float64)[table["frame"].to_numpy()]
    x, w = table["x"] % np.maximum(width, 1), table["width"]
    across = ((table["x"] < -SLACK) | (table["x"] + w > width + SLACK)) & (table["frame"] >= 0) & (w > 0) & (w < width)
    first = table.assign(x=x.where(across, table["x"]), width=np.minimum(w, width - x).where(across, w))
    second = table.assign(x=0.0, width=x + w - width)[across & (x + w - width >= LEAST_PART)]
    return pd.concat([first, second]).sort_values("entry", kind="stable", ignore_index=True)


def fault_text(source: Source, row: pd.Series, frames: Sequence[Frame]) -> str:
    """What is wrong with an annotation, in words; `row` is one of `annotation_table`."""
    entry = source.content["annotations"][row["entry"]]
    if row["fault"] == "image":
        return f"image_id {short(entry['image_id'])} is not in images"
    if row["fault"] == "category":
        return f"category_id {short(entry['category_id'])} is not in categories"
    if row["fault"] == "numbers":
        not_numbers = any(math.isnan(v) for v in _four(entry["bbox"])) and "nan" not in str(entry["bbox"]).lower()
        return f"bbox {str(entry['bbox'])[:100]} is not {'four numbers' if not_numbers else 'finite'}"
    if row["fault"] in ("width", "height"):
        return f"box {row['fault']} is {row[row['fault']]:g}"
    height, width = frames[row["frame"]].image_hw
    return f"box reaches {row['over']:.1f} px outside the image of {width} x {height} px"


def annotation_name(source: Source, row: pd.Series, frames: Sequence[Frame]) -> str:
    """Where an annotation stands: its number and picture, and in forms of many files its file and line."""
    entry = source.content["annotations"][row["entry"]]
    picture = repr(frames[row["frame"]].file_name) if row["frame"] >= 0 else short(entry["image_id"])
    return f"{entry['where']} (image {picture})" if "where" in entry else f"annotation {entry['id']} (image {picture})"


def _split(name: str, root: Path, source: Source, categories: tuple[str, ...], invalid: str, panorama: bool = False,
           clip_names: bool = True) -> Split:
    if invalid not in INVALID:
        raise ValueError(f"invalid={invalid!r}: use 'raise', 'drop' or 'clip'")
    _once(source)
    frames = frames_of(source, clip_names)
    table, fingerprint = annotation_table(source, frames, panorama), source.fingerprint
    faulty = table["fault"].ne("")
    if faulty.any() and invalid == "raise":
        row = table[faulty].iloc[0]
        more = f" (and {faulty.sum() - 1:,} more: `detlib check` lists them)" if faulty.sum() > 1 else ""
        raise DataError(f"{source.path}: {annotation_name(source, row, frames)}: {fault_text(source, row, frames)}{more}; fix it, or load with "
                        "invalid='drop' or 'clip' (make workbook INVALID=drop, detlib ... --invalid drop)")
    clipped = table["fault"].eq("outside") & ~table["empty"] & (invalid == "clip")
    counts = {kind: int(n) for kind, n in (("dropped", (faulty & ~clipped).sum()), ("clipped", clipped.sum())) if n}
    boxes = _boxes(table[~faulty | clipped], source.content["annotations"], frames, categories)
    if counts:  # other boxes than the file's: runs on them are not runs on all of it
        print(f"{source.path}: " + ", ".join(f"{n} boxes {kind}" for kind, n in counts.items()))
        fingerprint = hashlib.sha256(f"{fingerprint}{invalid}".encode()).hexdigest()
    return Split(name, root, frames, categories, boxes, counts, fingerprint)


def _boxes(table: pd.DataFrame, entries: list[dict], frames: Sequence[Frame], categories: tuple[str, ...]) -> pd.DataFrame:
    """The usable rows of an `annotation_table` as a split's table, sorted by frame."""
    table = table.sort_values("frame", kind="stable", ignore_index=True)
    frame, chosen = table["frame"].to_numpy(), [entries[i] for i in table["entry"]]
    category = pd.Categorical(table["category"], categories)
    boxes = table[["x1", "y1", "x2", "y2"]].astype("float64")
    width, height = boxes["x2"] - boxes["x1"], boxes["y2"] - boxes["y1"]
    written = pd.Series([number(a.get("area")) for a in chosen], dtype="float64").replace([-math.inf, math.inf], math.nan)
    ids, clips = (pd.Series([getattr(f, name) for f in frames], dtype=None if frames else "object").to_numpy()[frame]
                  for name in ("image_id", "clip"))
    whole = written.notna() & table["fault"].eq("") & ~table.duplicated("entry", keep=False)  # of a cut box the area written is no longer its area
    return boxes.assign(
        frame=frame, image_id=ids, clip=clips, label=category.codes.astype("int64") + 1, category=category, width=width,
        height=height, size=np.sqrt(width * height), aspect=width / height, area=written.where(whole, width * height),
        crowd=table["crowd"], annotation=[a["id"] for a in chosen],
        **{key: pd.Series([number(a.get(key)) for a in chosen], dtype="float64") for key in ("distance", "visible")})[COLUMNS]
