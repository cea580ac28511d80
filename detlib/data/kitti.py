"""KITTI's object labels: a text file a picture, a line an object, 15 columns (Geiger et al. 2012, the development kit's readme).

The box is left, top, right, bottom, 0-based, in px; taken as plain coordinates. `DontCare` regions have no class and are left out.
"""
from collections.abc import Sequence
from pathlib import Path

from .coco import DataError
from .forms import Found, Pictures, numbers
from .reading import bytes_of, lines_of, plain_files

COLUMNS = ("truncated", "occluded", "alpha", "left", "top", "right", "bottom", "height_m", "width_m", "length_m", "x_m", "y_m", "z_m", "rotation_y")
UNKNOWN = (-1, -1, -10, 0, 0, 0, 0, -1, -1, -1, -1000, -1000, -1000, -10)  # what the development kit writes for what is not known
IGNORED = "DontCare"
SPLITS = ("train", "val")  # the benchmark's test pictures have no labels, and the same numbers as others


def files(root: Path, pictures: Pictures) -> list[Path]:
    """The label files in a folder: in a folder whose name begins with `label`, lines of 15 or 16 columns that begin with a word."""
    found = plain_files(root, "label*/*.txt")
    return found if any(_is_label(file) for file in found) else []


def _is_label(file: Path) -> bool:
    words = next((line.split() for line in bytes_of(file).decode(errors="replace").splitlines() if line.strip()), [])
    return len(words) in (15, 16) and not words[0].replace(".", "").lstrip("-").isdecimal()


def read(root: Path, pictures: Pictures, files: Sequence[Path], classes: Sequence[str] | None) -> Found:
    """Annotations of all label files; classes as named, else in alphabetical order."""
    found, ignored, rows = Found(), 0, []
    for number, file in enumerate(files, start=1):
        place = _picture(root, file, pictures)
        found.images.append({"id": number, "file_name": place, **pictures.size(place, {})})
        for line, text in enumerate(lines_of(file), start=1):
            words = text.split()
            if words and len(words) not in (15, 16):
                raise DataError(f"{file} line {line}: {len(words)} columns, KITTI's labels have 15 (16 with a score); correct the line")
            if words and words[0] == IGNORED:
                ignored += 1
            elif words:
                values = dict(zip((*COLUMNS, "score"), numbers(words[1:], file, line), strict=False))  # a score is rare
                rows.append((number, words[0], values, f"{file.relative_to(root).as_posix()} line {line}"))
    kinds = {name: k for k, name in enumerate(classes or sorted({row[1] for row in rows}), start=1)}
    for number, kind, values, where in rows:
        if kind not in kinds:
            raise DataError(f"{root}, {where}: its class {kind!r} is not among --classes {' '.join(classes or ())}; name it, too")
        x1, y1, x2, y2 = (values.pop(name) for name in ("left", "top", "right", "bottom"))
        found.annotations.append({"id": len(found.annotations) + 1, "image_id": number, "category_id": kinds[kind], "iscrowd": 0,
                                  "bbox": [x1, y1, x2 - x1, y2 - y1], "where": where, "kitti": values})
    found.categories = [{"id": k, "name": name} for name, k in kinds.items()]
    found.notes += [f"{ignored} regions marked {IGNORED} have no class and are left out."] if ignored else []
    folders = {(root / image["file_name"]).parent for image in found.images}
    without = sum(picture.parent in folders for picture in pictures.files) - len(found.images)
    found.notes += [f"{without} pictures have no labels and are left out."] if without else []
    found.split_by(lambda: _splits(root, found))
    return found


def _picture(root: Path, file: Path, pictures: Pictures) -> str:
    """The picture of a label file: in image_2 for label_2, else the only one of its name."""
    same = pictures.by_stem.get(file.stem, [])
    near = [picture for picture in same if picture.parent == file.parent.with_name(file.parent.name.replace("label", "image", 1))] or same
    if len(near) != 1:
        raise DataError(f"{file}: {'no picture belongs' if not near else 'several pictures belong'} to it by name ({file.stem}); "
                        "bring the picture to image_2, or take the labels away")
    return near[0].relative_to(root).as_posix()


def _splits(root: Path, found: Found) -> None:
    """The lists of ImageSets; raises DataError for a picture listed that has no labels."""
    place_of = {Path(image["file_name"]).stem: image["id"] for image in found.images}
    for file in plain_files(root, "ImageSets/*.txt"):
        if file.stem in SPLITS:
            names = [line.strip() for line in lines_of(file) if line.strip()]
            if missing := [name for name in names if name not in place_of]:
                raise DataError(f"{file}: {missing[0]} has no labels{f', nor have {len(missing) - 1} more' if len(missing) > 1 else ''}; "
                                "bring them, or take the line out")
            found.splits[file.stem] = [place_of[name] for name in names]
