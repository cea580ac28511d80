"""What the readers of all forms share: the pictures of a folder, and what was found."""
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath

from PIL import ImageOps

from .coco import DataError
from .pictures import PICTURES, UNREADABLE, opened
from .reading import lines_of, short

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}


@dataclass
class Found:
    """What a reader found, in COCO's form, and the splits that it names (ids of images)."""

    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    categories: list[dict] = field(default_factory=list)
    splits: dict[str, list] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trouble: DataError | None = None  # of the lists that name the splits: an error where no other splits are asked for

    def split_by(self, read: Callable[[], None]) -> None:
        """Let `read` set the splits, and keep the trouble that it has."""
        try:
            read()
        except DataError as error:
            self.splits, self.trouble = {}, error

    @cached_property
    def _ids(self) -> set:
        return {image["id"] for image in self.images}

    def known(self, image_id: object) -> bool:
        """Whether there is such an image."""
        return image_id in self._ids


def split_name(text: str) -> str | None:
    """The split that a file's or folder's name speaks of: train, val, test; None where it names none, or several."""
    words = {SPLITS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in SPLITS}
    return words.pop() if len(words) == 1 else None


class Pictures:
    """The picture files below a folder, found by name."""

    def __init__(self, root: Path):
        self.root = root
        self.files: list[Path] = []
        for folder, folders, names in os.walk(root):  # which follows no links
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            self.files += [Path(folder) / name for name in sorted(names) if Path(name).suffix.lower() in PICTURES and not name.startswith(".")]
        self.by_name, self.by_stem = defaultdict(list), defaultdict(list)
        for file in self.files:
            self.by_name[file.name].append(file)
            self.by_stem[file.stem].append(file)

    def find(self, name: str, beside: Sequence[Path], split: str | None = None) -> str:
        """Where a picture of a name lies, relative to the folder with "/": where the name says, near its annotations, or the best match of its path.

        One that is not there keeps its place by name: opening or checking it says so. Raises DataError where several could be meant.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            path = PurePosixPath(*[part for part in path.parts if part not in ("/", "..")])
        else:
            for place in (self.root / path, *(folder / path for folder in beside)):
                if os.path.isfile(place) and place.is_relative_to(self.root):
                    return place.relative_to(self.root).as_posix()
        same = _closest(path, self.by_name.get(path.name, []))
        if len(same) > 1 and split:
            same = [file for file in same if any(split_name(part) == split for part in file.relative_to(self.root).parts[:-1])] or same
        if len(same) > 1:
            raise DataError(f"{self.root}: several pictures are called {path.name}: "
                            f"{', '.join(str(f.relative_to(self.root)) for f in same[:3])}; write the annotations' file names with their folders, "
                            "or rename them")
        return (same[0] if same else self.root / path).relative_to(self.root).as_posix()

    def size(self, place: str, said: dict) -> dict[str, int]:
        """Width and height of a picture: as its annotations say, else as its header does, upright as EXIF says."""
        if said.get("width") and said.get("height"):
            return {"width": said["width"], "height": said["height"]}
        path = self.root / place
        try:
            with opened(path) as picture:
                width, height = ImageOps.exif_transpose(picture).size if picture.getexif().get(0x0112, 1) != 1 else picture.size
        except UNREADABLE as error:
            raise DataError(f"{path}: its annotations say no size, and the picture cannot be read ({error}); replace it or take it out") from None
        return {"width": width, "height": height}


def _closest(path: PurePath, others: Sequence[PurePath]) -> list[PurePath]:
    """Those of the paths whose folders agree with a path's the furthest, counted from the file's end."""
    def agree(other: PurePath) -> int:
        pairs = zip(reversed(path.parts[:-1]), reversed(other.parts[:-1]), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    most = max(map(agree, others), default=0)
    return [other for other in others if agree(other) == most]


def splits_of_folders(images: Sequence[dict]) -> dict[str, list]:
    """Ids of the images by the split that a folder of theirs names; those in no such folder are left out."""
    parts: dict[str, list] = {}
    for image in images:
        if name := next((name for part in PurePosixPath(image["file_name"]).parts[:-1] if (name := split_name(part))), None):
            parts.setdefault(name, []).append(image["id"])
    return parts


def ids_of_list(file: Path, images: Sequence[dict]) -> list:
    """Ids of the images that a text file lists, one a line, by name, stem or path; of one name in several folders the path decides.

    Raises DataError for a line that names no picture, or several.
    """
    named: dict[str, dict[PurePath, int]] = defaultdict(dict)
    ids = {}
    for image in images:
        path = PurePosixPath(image["file_name"])
        for name in (path.name, path.stem):
            named[name][path] = image["id"]
    for line in filter(None, map(str.strip, lines_of(file))):
        path = PurePosixPath(line.replace("\\", "/"))
        same = _closest(path, list(named.get(path.name, ())))
        if len(same) != 1:
            raise DataError(f"{file}: {short(line)} is no picture of this data set; bring it, or take the line out" if not same else
                            f"{file}: {short(line)} could be {same[0]} or {same[1]}; write it with its folders")
        ids[named[path.name][same[0]]] = True
    return list(ids)


def numbers(words: list[str], file: Path, line: int) -> list[float]:
    """Words as numbers; raises DataError with file and line where one is none."""
    try:
        return [float(word) for word in words]
    except ValueError:
        raise DataError(f"{file} line {line}: {short(' '.join(words))} are not all numbers; correct the line") from None
