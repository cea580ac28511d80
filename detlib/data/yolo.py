"""YOLO: a text file a picture, a line an object, `class cx cy w h` as shares of the picture; names and splits in data.yaml.

A line with more numbers is a polygon, `class x1 y1 x2 y2 ...`, and counts as the box around it; with `kpt_shape` in data.yaml they are keypoints
behind the box, and left out, as is a score. A picture without a text file has no objects.
"""
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .coco import DataError
from .forms import Found, Pictures, ids_of_list, numbers, split_name, splits_of_folders
from .reading import bytes_of, lines_of, plain_files, short, yaml_of

MOST_CLASSES = 100_000  # more than the largest list of classes has
NAMES = ("classes.txt", "obj.names", "names.txt")
NOTES = {"without": "pictures without a label file count as pictures without objects", "polygon": "polygons count as the boxes around them",
         "score": "scores (a sixth column) are left out", "posed": "objects' keypoints are left out, their boxes are kept",
         "outside": "pictures lie in folders that have no label files and are left out"}


def files(root: Path, pictures: Pictures) -> list[Path]:
    """The label files in a folder: those that belong to a picture by name and place, and hold lines of numbers."""
    found = [label for file in pictures.files if os.path.isfile(label := _label(root, file))]
    return found if any(map(_is_label, found)) else []


def _label(root: Path, picture: Path) -> Path:
    """Where a picture's labels lie: `images` replaced by `labels` in its path, or beside it."""
    parts = list(picture.relative_to(root).parts)
    places = [k for k, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        parts[places[-1]] = "labels"
    return (root / Path(*parts)).with_suffix(".txt")


def _is_label(file: Path) -> bool:
    words = next((line.split() for line in bytes_of(file).decode(errors="replace").splitlines() if line.strip()), [])
    return len(words) >= 5 and words[0].isdecimal() and all(_is_number(word) for word in words)


def _is_number(word: str) -> bool:
    try:
        float(word)
        return True
    except ValueError:
        return False


def read(root: Path, pictures: Pictures, files: Sequence[Path], classes: Sequence[str] | None) -> Found:
    """Annotations of all label files; classes as named, else those of data.yaml or classes.txt."""
    found, about, places = Found(), _about(root, classes), {label.parent for label in files}
    labels, posed = set(files), bool(about and about[1].get("kpt_shape"))
    counts: Counter[int] = Counter()
    extras: Counter[str] = Counter()
    _no_orphans(root, labels)
    inside = [file for file in pictures.files if _label(root, file).parent in places]
    for number, picture in enumerate(inside, start=1):
        place, label = picture.relative_to(root).as_posix(), _label(root, picture)
        size = pictures.size(place, {})
        found.images.append({"id": number, "file_name": place, **size})
        extras["without"] += label not in labels
        for line, text in enumerate(lines_of(label) if label in labels else [], start=1):
            if not text.strip():
                continue
            kind, box = _object(text.split(), label, line, posed)
            extras["posed" if posed else "score" if len(text.split()) == 6 else "polygon"] += len(text.split()) > 5
            counts[kind] += 1
            width, height = size["width"], size["height"]
            found.annotations.append({"id": len(found.annotations) + 1, "image_id": number, "category_id": kind + 1, "iscrowd": 0,
                                      "bbox": [box[0] * width, box[1] * height, box[2] * width, box[3] * height],
                                      "where": f"{label.relative_to(root).as_posix()} line {line}"})
    found.categories = [{"id": k, "name": name} for k, name in enumerate(_names(root, about, classes, counts), start=1)]
    extras["outside"] = len(pictures.files) - len(inside)
    found.notes += [f"{extras[key]} {says}." for key, says in NOTES.items() if extras[key]]
    found.split_by(lambda: _splits(root, found, about))
    return found


def _no_orphans(root: Path, labels: set[Path]) -> None:
    """Raises DataError for a label file, with objects, to which no picture belongs."""
    places = {label.parent for label in labels}
    for file in plain_files(root, "*.txt"):
        if file not in labels and (file.parent in places or "labels" in file.relative_to(root).parts[:-1]) and _is_label(file):
            raise DataError(f"{file}: no picture belongs to these labels by name and place; bring the picture, or take the labels away")


def _object(words: list[str], file: Path, line: int, posed: bool) -> tuple[int, list[float]]:
    """Class number and box (x, y, w, h) as shares."""
    if len(words) < 5 or not words[0].removesuffix(".0").isdecimal() or float(words[0]) >= MOST_CLASSES:
        raise DataError(f"{file} line {line}: {short(' '.join(words))} is not `class cx cy w h`; correct the line")
    values = numbers(words[1:], file, line)
    if len(values) in (4, 5) or posed:  # a fifth is a score
        cx, cy, w, h = values[:4]
        return int(float(words[0])), [cx - w / 2, cy - h / 2, w, h]
    if len(values) % 2:
        raise DataError(f"{file} line {line}: {len(values)} numbers behind the class are neither a box nor a polygon; correct the line")
    xs, ys = values[0::2], values[1::2]
    return int(float(words[0])), [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _about(root: Path, classes: Sequence[str] | None) -> tuple[Path, dict] | None:
    """The yaml file of the data set, the one that has `names`; several are an error, and with `classes` named none of them counts."""
    found = []
    for file in sorted([*root.glob("*.y*ml"), *root.glob("*/*.y*ml")]):
        content = yaml_of(file)
        if isinstance(content, dict) and "names" in content:
            found.append((file, content))
    if len(found) > 1 and not classes:
        raise DataError(f"{root}: two readings of the classes, {' and '.join(str(file.relative_to(root)) for file, _ in found)}; "
                        "name them with --classes, or move one away")
    return found[0] if len(found) == 1 else None


def _names(root: Path, about: tuple[Path, dict] | None, classes: Sequence[str] | None, counts: Counter) -> list[str]:
    lists = [(about[0], _of_yaml(*about))] if about and not classes else []
    for file in [] if classes else [file for name in NAMES for file in plain_files(root, name)]:
        lists.append((file, [line.strip() for line in lines_of(file) if line.strip()]))
    if differing := [(file, names) for file, names in lists if names != lists[0][1]]:
        raise DataError(f"{root}: two readings of the classes, {', '.join(lists[0][1][:8])} ({lists[0][0].relative_to(root)}) and "
                        f"{', '.join(differing[0][1][:8])} ({differing[0][0].relative_to(root)}); name them with --classes, or move one away")
    names = list(classes or (lists[0][1] if lists else ()))
    if not names:
        seen = ", ".join(f"{kind} ({count:,} times)" for kind, count in sorted(counts.items())[:30])
        most = max(counts, default=0)
        dummy = " ".join(f"name{k}" for k in range(most + 1)) if most < 30 else f"name0 name1 ... name{most}"
        raise DataError(f"{root}: YOLO labels without names of their classes; the numbers are {seen}; name them in the order of their numbers: "
                        f"--classes {dummy}")
    if counts and max(counts) >= len(names):
        most, are = max(counts), "is" if len(names) == 1 else "are"
        raise DataError(f"{root}: class number {most} occurs ({counts[most]:,} of {sum(counts.values()):,} boxes), and only {len(names)} {are} named "
                        f"({', '.join(names[:8])}); correct the label file if it is a slip (find it by grep -rn '^{most} ' {root}), or name all "
                        "classes in the order of their numbers, apart from each other: --classes NAME NAME ...")
    return names


def _of_yaml(file: Path, content: dict) -> list[str]:
    """The classes of data.yaml, a list or a number for each; raises DataError where their numbers leave one out."""
    said = content["names"]
    if isinstance(said, list):
        said = dict(enumerate(said))
    plain = [(k, name) for k, name in said.items() if _is_plain(k) and _is_plain(name)] if isinstance(said, dict) else []
    named = {int(k): str(name) for k, name in plain if str(k).isdecimal()}
    if not named or len(named) < len(said) or sorted(named) != list(range(len(named))):
        raise DataError(f"{file}: names must be a list of classes, or a class for each number from 0; correct it, or name them with --classes")
    return [named[k] for k in range(len(named))]


def _splits(root: Path, found: Found, about: tuple[Path, dict] | None) -> None:
    """The splits of data.yaml (folders, or lists of pictures), else those that the pictures' folders name."""
    if about:
        file, content = about
        for name in ("train", "val", "valid", "validation", "test"):
            for place in _listed(content.get(name)):
                ids = _under(root, file.parent, Path(str(content.get("path") or ".")), place, found)
                found.notes += [] if ids else [f"{file.name} names {place} for {name}, and no labelled picture is there."]
                found.splits.setdefault(split_name(name) or name, []).extend(ids)
        found.splits = {name: ids for name, ids in found.splits.items() if ids}
    found.splits = found.splits or splits_of_folders(found.images)


def _listed(value: object) -> list[str]:
    return [] if not value else [str(v) for v in value if _is_plain(v)] if isinstance(value, list) else [str(value)] if _is_plain(value) else []


def _is_plain(value: object) -> bool:
    """Not a list or a table, which by yaml's aliases may be larger than the memory when it is written out."""
    return isinstance(value, str | int | float | None)


def _under(root: Path, home: Path, base: Path, place: str, found: Found) -> list[int]:
    """Ids of the images in a folder, or a list, that data.yaml names; its `path` is often another machine's: its own place counts, too."""
    relative = [part for part in Path(place).parts if part not in ("..", ".", "/")]
    for start in (home / base, home, root):
        if place.endswith(".txt") and os.path.isfile(start / place):
            return ids_of_list(start / place, found.images)
    return [image["id"] for image in found.images if _contains(Path(image["file_name"]).parts[:-1], relative)]


def _contains(folders: tuple[str, ...], part: list[str]) -> bool:
    return any(folders[k:k + len(part)] == tuple(part) for k in range(len(folders) - len(part) + 1)) if part else False
