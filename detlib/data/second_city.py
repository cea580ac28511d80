"""A second simulated city, written as a stranger would bring it: Pascal VOC, another sensor, other and fewer classes, and some faults.

The sensor looks forward only, from higher up and more finely than the first city's, so that no picture is a panorama.
"""
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from ..experiments import profile_name as known_profile
from .coco import DataError
from .lidar import CLASSES, VERSION, Sensor, clip_frames

__all__ = ["FAULTS", "NAMES", "Annotated", "City", "made_by", "plant", "second_city"]

# the first city's class -> this city's
NAMES = {"person": "pedestrian", "bicycle": "two-wheeler", "scooter": "two-wheeler", "motorcycle": "two-wheeler", "rider": "cyclist",
         "truck": "lorry", "bus": "lorry", "car": "automobile"}
FAULTS = {"outside": 2, "inverted": 1, "duplicate": 1, "no objects": 1}  # as `checks` calls the last two; inverted is its "no width"
SEED = 5  # of streets and faults; the first city's is 0
OUT = 1 / 3  # of its width, by which a box "outside" reaches over the right edge
FIRST_VAL = 500  # number of the first validation clip
LEAST_SIDE = 10.0  # px: only a box that the eye can judge gets a fault


@dataclass(frozen=True)
class City:
    """How large the second city is."""

    sensor: Sensor
    clips: dict[str, int]
    frames: int  # of a clip


FULL = City(Sensor((192, 512), azimuth_deg=120.0, elevation_deg=(15.0, -30.0), height_m=2.9), {"train": 12, "val": 6}, 10)
CITIES = {"smoke": City(Sensor((96, 256), azimuth_deg=120.0, elevation_deg=(15.0, -30.0), height_m=2.9), {"train": 4, "val": 2}, 4),
          "laptop": FULL, "report": FULL}


@dataclass
class Annotated:
    """One picture's objects as they will be written."""

    stem: str
    names: list[str]
    boxes: list[list[float]]  # x1, y1, x2, y2, px


def second_city(folder: str | Path, profile_name: str | None = None) -> Path:
    """Write the second city, once; -> the folder. A README.md in it lists the planted faults.

    The folder appears when it is complete. Raises DataError where it holds something else.
    """
    folder, city = Path(folder), CITIES[known_profile(profile_name)]
    if _complete(folder):
        return folder
    if folder.exists():
        raise DataError(f"{folder}: it is there, and is not a complete second city of this version; remove it, or name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        part.chmod(0o755)  # mkdtemp's is for its owner alone
        _write(part, city)
        os.replace(part, folder)
    except OSError:
        if not _complete(folder):  # else another process was quicker
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _complete(folder: Path) -> bool:
    about = folder / "README.md"
    lists = (folder / "ImageSets" / "Main" / f"{split}.txt" for split in ("train", "val"))
    return all(path.is_file() for path in (*lists, about)) and _version() in about.read_text()


def made_by(folder: Path) -> dict | None:
    """What the second city in a folder was made by; None where the folder holds something else."""
    if not _complete(folder):
        return None
    pictures = {split: len((folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()) for split in ("train", "val")}
    return {"second city of": VERSION, "seed": SEED, "pictures": pictures}


def _version() -> str:
    return f"Version {VERSION} of the simulator."


def _write(folder: Path, city: City) -> None:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    splits = {split: [picture for number in range(count) for picture in _clip(folder, city, number + FIRST_VAL * (split == "val"))]
              for split, count in city.clips.items()}
    planted = plant(splits["train"], city.sensor.image_hw[1])
    for split, pictures in splits.items():
        for picture in pictures:
            (folder / "Annotations" / f"{picture.stem}.xml").write_text(_xml(picture, city.sensor.image_hw))
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{picture.stem}\n" for picture in pictures))
    (folder / "README.md").write_text(_readme(city, planted))


def _clip(folder: Path, city: City, number: int) -> list[Annotated]:
    """One clip: its pictures written, and what is on them."""
    pictures = []
    for frame, (image, found) in enumerate(clip_frames(number, city.sensor, SEED, city.frames)):
        stem = f"harbour{number:03d}_{frame:02d}"
        Image.fromarray(image).save(folder / "JPEGImages" / f"{stem}.png", compress_level=1)
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in found)]
        pictures.append(Annotated(stem, [NAMES[CLASSES[entry["category_id"] - 1]] for entry in found], boxes))
    return pictures


def plant(pictures: list[Annotated], width: float, seed: int = SEED) -> list[tuple[str, str, int]]:
    """Put `FAULTS` into the annotations of pictures `width` px wide, each into a picture of its own; -> kind, picture, object (from 1; 0: all).

    A duplicate becomes the last object of its picture. Raises DataError where too few pictures hold an object of a size that can be judged.
    """
    large = {k: at for k, picture in enumerate(pictures) if (at := [n for n, box in enumerate(picture.boxes) if _judged(box)])}
    wanted = [kind for kind, count in FAULTS.items() for _ in range(count)]
    if len(large) < len(wanted):
        raise DataError(f"{len(large)} pictures hold an object of at least {LEAST_SIDE:g} px a side, and {len(wanted)} faults need one each; "
                        "add pictures")
    rng, planted = np.random.default_rng(seed), []
    for kind, k in zip(wanted, rng.permutation(list(large)).tolist(), strict=False):
        number = int(rng.choice(large[k])) if kind != "outside" else max(large[k], key=lambda n: pictures[k].boxes[n][2])  # the one nearest the edge
        planted.append((kind, pictures[k].stem, _spoil_(pictures[k], kind, number, width)))
    return planted


def _judged(box: list[float]) -> bool:
    return min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE


def _spoil_(picture: Annotated, kind: str, number: int, width: float) -> int:
    """Put one fault into a picture; -> the object that has it, counted from 1; 0: all are gone."""
    x1, y1, x2, y2 = picture.boxes[number]
    if kind == "no objects":
        picture.names, picture.boxes = [], []
        return 0
    if kind == "duplicate":
        picture.names.append(picture.names[number])
        picture.boxes.append([x1, y1, x2, y2])
        return len(picture.boxes)
    picture.boxes[number] = [x2, y1, x1, y2] if kind == "inverted" else [width - (1 - OUT) * (x2 - x1), y1, width + OUT * (x2 - x1), y2]
    return number + 1


def _xml(picture: Annotated, image_hw: tuple[int, int]) -> str:
    """A picture's annotation in Pascal VOC's form, with plain coordinates."""
    height, width = image_hw
    lines = ["<annotation>", "  <folder>JPEGImages</folder>", f"  <filename>{picture.stem}.png</filename>",
             f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for name, box in zip(picture.names, picture.boxes, strict=True):
        corners = "".join(f"<{corner}>{value:g}</{corner}>" for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        lines.append(f"  <object><name>{escape(name)}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>")
    return "\n".join([*lines, "</annotation>"]) + "\n"


def _readme(city: City, planted: list[tuple[str, str, int]]) -> str:
    """What the folder is, and the answers to what a check of it should find."""
    height, width = city.sensor.image_hw
    faults = "".join(f"- {kind}: {stem}.xml, " + (f"object {number}\n" if number else "all its objects were taken out\n")
                     for kind, stem, number in planted)
    return (f"# The harbour: a second simulated city\n\nPascal VOC, pictures of {width} x {height} px, {city.sensor.azimuth_deg:g} degrees wide, "
            f"looking ahead; {city.frames} frames a clip, half a second apart.\nChannels: intensity, ambient light, range. {_version()}\n\n"
            f"Faults that were planted in the annotations of train:\n{faults}")
