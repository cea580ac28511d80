"""A data set written in another form: pictures byte by byte, boxes exact to what the form holds."""
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd
import yaml

from ..files import new_folder, write_atomic, write_json
from . import kitti, voc
from .coco import ANNOTATIONS, DataError, Dataset, Frame, Source, Split

WHOLE = "full_"  # splits of complete annotations, of which not every picture needs to be there


def write_dataset(dataset: Dataset, folder: str | Path, form: str = "coco", sources: Mapping[str, Source] | None = None,
                  about: dict | None = None) -> list[str]:
    """Write an opened data set into a new folder, which appears when it is complete; -> what the form could not hold, in sentences.

    `sources` (folder.read_all) bring what the table of boxes does not have: further keys of COCO, VOC's pose, KITTI's columns in metres.
    `about` becomes dataset.json.
    Raises DataError for a folder that holds anything but just this already, and for file names that lead out of it or fall together.
    """
    folder = Path(folder)
    if form not in WRITERS:
        raise DataError(f"no form {form!r}: known are {', '.join(WRITERS)}")
    if dataset.plan:
        raise DataError(f"{dataset.name}: opened scaled or cut for the network; write it as it is stored (folder.open_dataset)")
    names, there = _names(dataset, form), folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    taken = DataError(f"{folder}: it is not empty; name a new folder with --out, or remove it")
    if there and not {PurePosixPath(name).name for name in names.values()} <= {path.name for path in folder.rglob("*")}:
        raise taken
    with TemporaryDirectory() if there else new_folder(folder) as part:
        lost = WRITERS[form](dataset, Path(part), names, sources or {})
        if about:
            write_json(Path(part) / "dataset.json", about)
        if there and _files(Path(part)) != _files(folder):  # else it was written before, by a call that ended as it was done
            raise taken
    return lost + _unread(dataset, form)


def _files(folder: Path) -> dict[str, str]:
    """The files in a folder, with the SHA-256 of each."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def _names(dataset: Dataset, form: str) -> dict[str, str]:
    """What each picture is called in the new folder, below its folder of pictures; without the first folder where all lie in one."""
    files = list(dict.fromkeys(frame.file_name for split in dataset.splits.values() for frame in split.frames))
    needed = {frame.file_name for split in dataset.splits.values() if not (split.name.startswith(WHOLE) and form == "coco") for frame in split.frames}
    names = {}
    for file in files:
        path = PurePosixPath(file.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{dataset.root}: the picture {file!r} lies outside the folder; move it inside")
        if file in needed and not os.path.isfile(dataset.root / file):  # before anything is written
            raise DataError(f"{dataset.root / file}: this picture is listed and not there; put it back, or remove it from the list")
        if not (dataset.root / file).resolve().is_relative_to(dataset.root.resolve()):
            raise DataError(f"{dataset.root}: the picture {file!r} is a link out of the folder, and what it leads to would be copied; "
                            "put the picture itself there")
        at = [k for k, part in enumerate(path.parts[:-1]) if part in ("images", "JPEGImages", "image_2")]
        parts = path.parts[at[0] + 1:] if at else path.parts
        names[file] = "_".join(parts) if form in ("voc", "kitti") else "/".join(parts)
    lists = [list(names.values())]
    if form == "yolo":
        lists = [[str(_in_split(split.name, names[frame.file_name])) for frame in split.frames] for split in dataset.splits.values()]
    for places in lists:  # label files are called like the pictures, but for the suffix
        _distinct(dataset, places if form == "coco" else [str(PurePosixPath(name).with_suffix("")) for name in places])
    return names


def _in_split(split: str, name: str) -> PurePosixPath:
    """Where a picture lies in YOLO's `images`, which has a folder a split."""
    return PurePosixPath(split) / name.removeprefix(f"{split}/")


def _distinct(dataset: Dataset, places: Sequence[str]) -> None:
    place, count = next(iter(Counter(places).most_common(1)), (None, 0))
    if count > 1:
        raise DataError(f"{dataset.root}: two pictures would be called {place}; rename one")


def _copy(dataset: Dataset, file: str, target: Path) -> None:
    if not (dataset.root / file).is_file():  # of annotations that are more than the pictures
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(dataset.root / file, target)


def _entries(sources: Mapping[str, Source], name: str) -> dict[object, dict]:
    """A split's annotations as they were read, by id."""
    return {entry["id"]: entry for entry in sources[name].content["annotations"]} if name in sources else {}


def _of_frames(split: Split) -> list[tuple[Frame, pd.DataFrame]]:
    rows = dict(iter(split.boxes.groupby("frame")))
    return [(frame, rows.get(k, split.boxes.iloc[:0])) for k, frame in enumerate(split.frames)]


def _coco(dataset: Dataset, folder: Path, names: Mapping[str, str], sources: Mapping[str, Source]) -> list[str]:
    """COCO, the workbook's own form: ids and all other keys as they were read; a half of a box at a panorama's seam gets an id of its own."""
    ids = {name: k for k, name in enumerate(dataset.categories, start=1)}
    for name, split in dataset.splits.items():
        entries = _entries(sources, name)
        images = {image["id"]: image for image in sources[name].content["images"]} if name in sources else {}
        content = {"images": [], "annotations": [], "categories": [{"id": k, "name": kind} for kind, k in ids.items()]}
        free = max([k for k in split.boxes["annotation"] if isinstance(k, int)], default=0)
        seen: set = set()
        for frame, rows in _of_frames(split):
            _copy(dataset, frame.file_name, folder / "images" / names[frame.file_name])
            height, width = frame.image_hw
            content["images"].append({**images.get(frame.image_id, {}), "id": frame.image_id, "file_name": f"images/{names[frame.file_name]}",
                                      "width": width, "height": height})
            for row in rows.itertuples():
                number = row.annotation
                if number in seen:
                    free += 1
                    number = free
                seen.add(number)
                content["annotations"].append(_coco_entry(entries.get(row.annotation, {}), row, number, frame.image_id, ids[row.category]))
        finite = json.loads(json.dumps(content), parse_constant=lambda _: None)  # NaN and infinities of further keys are not json
        write_json(folder / f"{name}{ANNOTATIONS}", finite)
    return []


def _coco_entry(entry: dict, row: Any, number: object, image_id: object, category_id: int) -> dict:
    box = [row.x1, row.y1, row.width, row.height]
    written: Any = entry.get("bbox")
    same = written is not None and all(abs(a - b) < 1e-9 * max(1, abs(a)) for a, b in zip(map(float, written), box, strict=True))
    kept = {key: value for key, value in entry.items() if key != "where"}
    more = {key: getattr(row, key) for key in ("distance", "visible") if pd.notna(getattr(row, key))}
    return {**more, **kept, "id": number, "image_id": image_id, "category_id": category_id, "bbox": list(written) if same else box,
            "area": row.area, "iscrowd": int(row.crowd)}


def _voc(dataset: Dataset, folder: Path, names: Mapping[str, str], sources: Mapping[str, Source]) -> list[str]:
    """Pascal VOC with plain, exact coordinates; a crowd is `difficult`."""
    for name, split in dataset.splits.items():
        entries, stems = _entries(sources, name), []
        for frame, rows in _of_frames(split):
            picture = names[frame.file_name]
            stems.append(Path(picture).stem)
            _copy(dataset, frame.file_name, folder / "JPEGImages" / picture)
            height, width = frame.image_hw
            lines = ["<annotation>", f"  <filename>{escape(picture)}</filename>",
                     f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
            for row in rows.itertuples():
                kept = "".join(f"<{key}>{escape(str(value))}</{key}>" for key in voc.KEPT
                               if (value := entries.get(row.annotation, {}).get(key)))
                box = zip(voc.CORNERS, (float(row.x1), float(row.y1), float(row.x2), float(row.y2)), strict=True)
                corners = "".join(f"<{corner}>{value!r}</{corner}>" for corner, value in box)
                lines.append(f"  <object><name>{escape(row.category)}</name>{kept}<difficult>{int(row.crowd)}</difficult>"
                             f"<bndbox>{corners}</bndbox></object>")
            write_atomic(folder / "Annotations" / f"{Path(picture).stem}.xml", "\n".join([*lines, "</annotation>"]) + "\n")
        write_atomic(folder / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))
    return ["VOC has no ids, and no classes without objects: the order of the classes is that in which they appear.", *_unheld(dataset, "VOC")]


def _yolo(dataset: Dataset, folder: Path, names: Mapping[str, str], sources: Mapping[str, Source]) -> list[str]:
    """YOLO with data.yaml; crowds are left out, since the form has no such mark."""
    crowds = 0
    for name, split in dataset.splits.items():
        for frame, rows in _of_frames(split):
            place = _in_split(name, names[frame.file_name])
            _copy(dataset, frame.file_name, folder / "images" / place)
            height, width = frame.image_hw
            crowds += int(rows["crowd"].sum())
            lines = [f"{row.label - 1} {(row.x1 + row.x2) / 2 / width:.9f} {(row.y1 + row.y2) / 2 / height:.9f} "
                     f"{row.width / width:.9f} {row.height / height:.9f}\n" for row in rows[~rows["crowd"]].itertuples()]
            write_atomic(folder / "labels" / place.with_suffix(".txt"), "".join(lines))
    about = {name: f"images/{name}" for name in dataset.splits} | {"names": dict(enumerate(dataset.categories))}
    # no `path`: readers take "." for the current folder, and the lack of one for data.yaml's
    write_atomic(folder / "data.yaml", yaml.safe_dump(about, allow_unicode=True, sort_keys=False))
    return ["YOLO has no ids.", *([f"YOLO has no mark for crowds: {crowds} are left out."] if crowds else []), *_unheld(dataset, "YOLO")]


def _kitti(dataset: Dataset, folder: Path, names: Mapping[str, str], sources: Mapping[str, Source]) -> list[str]:
    """KITTI's 2D columns, the others as they were read or as unknown; a crowd becomes a DontCare region; a class is one word."""
    words = {name: "_".join(name.split()) for name in dataset.categories}
    if len(set(words.values())) < len(words):
        raise DataError(f"{dataset.root}: two classes are one word in KITTI's form: {', '.join(words)}; rename one")
    if taken := [word for word in words.values() if word == kitti.IGNORED or word.isdecimal()]:
        raise DataError(f"{dataset.root}: a class cannot be called {taken[0]} in KITTI's form; rename it")
    crowds = 0
    for name, split in dataset.splits.items():
        entries, stems = _entries(sources, name), []
        for frame, rows in _of_frames(split):
            picture = names[frame.file_name]
            stems.append(Path(picture).stem)
            _copy(dataset, frame.file_name, folder / "training" / "image_2" / picture)
            lines = []
            for row in rows.itertuples():
                values = dict(zip(kitti.COLUMNS, kitti.UNKNOWN, strict=True)) | entries.get(row.annotation, {}).get("kitti", {})
                values |= {"left": row.x1, "top": row.y1, "right": row.x2, "bottom": row.y2}
                crowds += bool(row.crowd)
                lines.append(" ".join([kitti.IGNORED if row.crowd else words[row.category],
                                       *(f"{values[key]:.2f}" if key != "occluded" else f"{values[key]:.0f}" for key in kitti.COLUMNS),
                                       *([f"{values['score']:g}"] if "score" in values else [])]) + "\n")
            write_atomic(folder / "training" / "label_2" / f"{Path(picture).stem}.txt", "".join(lines))
        write_atomic(folder / "ImageSets" / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))
    renamed = [name for name, word in words.items() if name != word]
    return ["KITTI has no ids, and no classes without objects; boxes are written to 0.01 px.",
            *([f"KITTI's class names are one word: {', '.join(renamed)} got underscores."] if renamed else []),
            *([f"{crowds} crowds are written as regions that do not count (DontCare), without their class."] if crowds else []),
            *_unheld(dataset, "KITTI")]


def _unheld(dataset: Dataset, form: str) -> list[str]:
    """What of the table of boxes other forms than COCO have no place for."""
    lost = [key for key in ("distance", "visible") if any(split.boxes[key].notna().any() for split in dataset.splits.values())]
    return [f"{form} has no place for {' and '.join(lost)}."] if lost else []


def _unread(dataset: Dataset, form: str) -> list[str]:
    """Splits whose names the form does not know: written, and found by no reader."""
    known = {"coco": tuple(dataset.splits), "kitti": kitti.SPLITS}.get(form, ("train", "val", "test"))
    unknown = [name for name in dataset.splits if name not in known]
    return [f"{form.upper()} has no split called {' or '.join(unknown)}: written, and not read back."] if unknown else []


WRITERS: dict[str, Callable] = {"coco": _coco, "voc": _voc, "yolo": _yolo, "kitti": _kitti}
