"""What the readers of all forms share: the pictures of a folder, and what was found."""
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageOps

from .coco import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}


@dataclass
class Found:
    """What a reader found, in COCO's form, and the splits that it names (ids of images)."""

    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    categories: list[dict] = field(default_factory=list)
    splits: dict[str, list] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

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

    def find(self, name: str, beside: Path, split: str | None = None) -> str:
        """Where a picture of a name lies, relative to the folder with "/": where the name says, near its annotations, or the only one of that name.

        One that is not there keeps its place by name: opening or checking it says so. Raises DataError where several could be meant, or the
        place is outside the folder.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            name = Path(name.replace("\\", "/")).name
        for place in (self.root / name, beside / name):
            if place.is_file():
                return place.relative_to(self.root).as_posix()
        same = self.by_name.get(Path(name).name, [])
        if len(same) > 1 and split:
            same = [file for file in same if any(split_name(part) == split for part in file.relative_to(self.root).parts[:-1])]
        if len(same) > 1:
            raise DataError(f"{self.root}: several pictures are called {Path(name).name}: "
                            f"{', '.join(str(f.relative_to(self.root)) for f in same[:3])}; write the annotations' file names with their folders, "
                            "or rename them")
        return (same[0] if same else self.root / name).relative_to(self.root).as_posix()

    def size(self, place: str, said: dict) -> dict[str, object]:
        """Width and height of a picture: as its annotations say, else as its header does, upright as EXIF says."""
        if said.get("width") and said.get("height"):
            return {"width": said["width"], "height": said["height"]}
        path = self.root / place
        try:
            with Image.open(path) as picture:
                width, height = ImageOps.exif_transpose(picture).size if picture.getexif().get(0x0112, 1) != 1 else picture.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: its annotations say no size, and the picture cannot be read ({error}); replace it or take it out") from None
        return {"width": width, "height": height}


def lines_of(file: Path) -> list[str]:
    """A text file's lines; raises DataError where it is no text."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as text ({error}); write the file again") from None


def numbers(words: list[str], file: Path, line: int) -> list[float]:
    """Words as numbers; raises DataError with file and line where one is none."""
    try:
        return [float(word) for word in words]
    except ValueError:
        raise DataError(f"{file} line {line}: {' '.join(words)!r} are not all numbers; correct the line") from None
