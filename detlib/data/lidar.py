"""The LiDAR simulator: boxes and channels of a seeded street's frames, written as a COCO data set.

streets.py says what is where (built of the shapes in objects.py), rays.py what each ray meets, and this module what is seen of it.
"""
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext, suppress
from dataclasses import asdict
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from zlib import Z_HUFFMAN_ONLY

import numpy as np
from PIL import Image

from ..files import InUse, alone, tidy, write_atomic
from .objects import BALL, HOUSE, LEAF
from .rays import FACES, Caster, Hits, Sensor
from .streets import BACKDROP, CELL, CLASSES, GROUND, MATERIALS, PERIOD, SKY, Scene, Street

__all__ = ["CLASSES", "CLIPS", "PANORAMA", "Sensor", "clip_frames", "render", "simulate"]

PANORAMA = Sensor()
CLIPS = {"train": 40, "val": 30, "extension": 360}
FIRST_CLIP = {"train": 0, "val": 1000, "extension": 2000}  # so that more clips in one split never change another
PARTS = {"train": ("train",), "val": ("val",), "train_extended": ("train", "extension")}
FOLDER = {"train": "train", "val": "val", "extension": "train_extended"}
SECONDS = 0.5  # between two frames of a clip
PATIENCE = 5.0  # s, for a worker of a simulation that was killed, which may still be at the disk
VERSION = 1  # of the streets and the sensor: a change that alters a frame raises it, so that no folder mixes two
SIZE_LIMITS = [16, 32]  # px, sqrt(area): small < 16 <= medium < 32 <= large, as the original report cuts them
MIN_PIXELS, MIN_VISIBLE = 8, 0.05  # below either, an object is not annotated
TONES = np.array([0, 7, 51, 75, 98, 122, 144, 169, 196, 228, 255], np.float32)  # deciles of the TDT4265 frames' first two channels
BINS = 2048
FADE_M, NO_RETURN = 40.0, 0.035  # range at which the laser has lost half; signal too weak to measure a range


def _annotations(scene: Scene, hits: Hits, slope: np.ndarray) -> list[dict]:
    """Boxes of the visible pixels; one for each side of the seam. `distance` is that to the nearest visible pixel, m."""
    found = []
    ends = np.append(scene.first[1:], len(scene.owner))
    for thing, at, whole in sorted(hits.parts, key=lambda part: (part[0], part[1][1].start)):
        face = hits.face[at]
        mine = (face >= FACES + 4 * scene.first[thing]) & (face < FACES + 4 * ends[thing])
        visible = int(np.count_nonzero(mine))
        if visible < MIN_PIXELS or visible < MIN_VISIBLE * whole:
            continue
        rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
        width, height = float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)
        ranges = hits.depth[at] * np.hypot(1, slope[at[0]]).astype(np.float32)[:, None]
        x, y = float(at[1].start + columns[0]), float(at[0].start + rows[0])
        found.append({"category_id": int(scene.label[thing]), "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0,
                      "segmentation": [], "track": int(scene.track[thing]),
                      "distance": round(float(ranges[mine].min()), 2), "visible": round(visible / whole, 3)})
    return found


@lru_cache(1)
def _noise() -> tuple[np.ndarray, np.ndarray]:
    """Inverse distribution functions at 65,536 points: a speckle factor and a shot-noise term, float32; one random word picks one."""
    rng = np.random.default_rng(11)
    speckle = np.sort(rng.gamma(30, 1 / 30, 65536) * np.where(rng.random(65536) < 0.015, 0.15, 1))
    shot = np.sort(rng.standard_normal(65536) * np.where(rng.random(65536) < 0.1, 2.5, 1))
    return speckle.astype(np.float32), shot.astype(np.float32)


def _stretch(raw: np.ndarray, lit: np.ndarray | None = None) -> np.ndarray:
    """Grey levels 0..255 whose histogram is about that of the real frames: raw signal 0..2 (H, W) to uint8; where not `lit`, 0."""
    level = np.minimum(np.maximum(raw, 0) * np.float32(BINS / 2), np.float32(BINS - 1)).astype(np.int16)
    count = np.bincount(level.ravel() if lit is None else level[lit], minlength=BINS)
    below = 1 - (count.sum() - np.cumsum(count)) / raw.size  # what is not lit counts as darkest
    equal = np.interp(below, np.linspace(0, 1, len(TONES)), TONES)
    low, high = np.searchsorted(below, [1.02 - count.sum() / raw.size, 0.98])
    straight = (np.arange(BINS) - low) * (255 / max(high - low, 1))
    grey = (0.8 * equal + 0.2 * straight).clip(0, 255).astype(np.uint8).take(level)
    return grey if lit is None else grey * lit


def _ground(scene: Scene, reach: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Material of the ground at horizontal ranges `reach` (h, 1) in the directions `azimuth` (W,)."""
    (x0, y0, turn), plan = scene.pose, scene.street.plan
    x, y = reach * np.cos(azimuth + turn).astype(np.float32), reach * np.sin(azimuth + turn).astype(np.float32)
    y -= x * x * np.float32(scene.street.bend / 2)
    i = ((x + np.float32((x0 + PERIOD / 2) % PERIOD)) * np.float32(1 / CELL)).astype(np.int32) & len(plan) - 1  # a power of two
    j = ((y + np.float32(y0)) * np.float32(1 / CELL) + np.float32(plan.shape[1] / 2)).astype(np.int32).clip(0, plan.shape[1] - 1)
    return plan.ravel().take(i * plan.shape[1] + j)


def _sky(scene: Scene, azimuth: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Daylight from the sky, (H, W): brighter upwards and towards the sun, with clouds."""
    turn, (a, b, c) = azimuth + scene.heading, scene.street.clouds
    waves = np.outer(np.sin(17 * slope + b), np.sin(3 * turn + a)) + np.outer(np.cos(29 * slope + a), np.sin(8 * turn + c))
    return (0.85 + 0.3 * slope[:, None] + 0.1 * np.cos(turn - scene.street.sun) + 0.16 * waves).astype(np.float32)


def _faces(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Laser and daylight that each face returns, (FACES + 4 P,) float32 each.

    A box's four faces are its end, its side, its top or underside, and windows; a ball's its lower (0) and upper (2) half; LEAF has shades.
    """
    laser, light = np.zeros((2, FACES + 4 * len(scene.shapes)), np.float32)
    ground = list(MATERIALS)
    laser[ground], light[ground] = np.array(list(MATERIALS.values())).T
    laser[BACKDROP:BACKDROP + 4], light[BACKDROP:BACKDROP + 4] = (0.25, 0.4, 0.6, 0.8), (0.15, 0.35, 0.55, 0.8)
    kind, x, y, yaw = scene.shapes[:, 0], *scene.shapes[:, [1, 2, 7]].T
    along, across, one = x * np.cos(yaw) + y * np.sin(yaw), y * np.cos(yaw) - x * np.sin(yaw), np.ones(len(x))
    sun = scene.street.sun - scene.heading - yaw
    sunny = [0.55 + 0.5 * np.maximum(-np.sign(place) * wave, 0) for place, wave in ((along, np.cos(sun)), (across, np.sin(sun)))]
    lit = np.stack([*sunny, one, np.where((kind == HOUSE) & scene.street.bright_panes, 1.0, 0.25)], 1)
    reach = np.hypot(x, y) + 1e-6
    seen = np.stack([0.5 + 0.5 * np.abs(along) / reach, 0.5 + 0.5 * np.abs(across) / reach, 0.7 * one, 0.12 * one], 1)
    lit[kind == LEAF], seen[kind == LEAF] = (1.25, 1.0, 0.7, 0.3), (1.15, 1.0, 0.8, 0.5)
    lit[kind == BALL], seen[kind == BALL] = (0.75, 0.75, 1.0, 1.0), (0.9, 0.9, 1.0, 1.0)
    laser[FACES:], light[FACES:] = (seen * scene.shapes[:, 8:9]).ravel(), (lit * scene.shapes[:, 9:10]).ravel()
    return laser, light


def _paint(caster: Caster, scene: Scene, hits: Hits, rng: np.random.Generator) -> np.ndarray:
    """The three channels, (H, W, 3) uint8: intensity, ambient, range."""
    sensor, depth, azimuth = caster.sensor, hits.depth, caster.sensor.azimuths(np.arange(hits.face.shape[1]))
    face, start = hits.face.copy(), caster.horizon
    np.copyto(face[start:], _ground(scene, caster.ground[start:, None], azimuth), where=face[start:] == GROUND)
    (laser_of, light_of), (speckle, shot) = _faces(scene), _noise()
    words = np.frombuffer(rng.bytes(8 * face.size), np.uint16).reshape(4, *face.shape)
    laser = laser_of.take(face)
    laser *= np.float32(FADE_M) / (depth + np.float32(FADE_M))
    laser *= speckle.take(words[0])
    laser += shot.take(words[1]) * np.float32(0.022)
    light = light_of.take(face)
    np.copyto(light, _sky(scene, azimuth, caster.slope), where=face == SKY)
    light += light * shot.take(words[2]) * np.float32(0.11)
    light += shot.take(words[3]) * np.float32(0.015)
    span = depth * np.hypot(1, caster.slope).astype(np.float32)[:, None]
    lit = (laser > NO_RETURN) & (span < sensor.max_range_m)
    near, far = sensor.grey_range_m
    span = (span - np.float32(near)) * np.float32(255 / (far - near)) + (words[0] & 1)
    image = np.empty((*face.shape, 3), np.uint8)
    image[..., 0], image[..., 1] = _stretch(laser, lit), _stretch(light)
    image[..., 2] = np.where(lit, np.minimum(np.maximum(span, 0), 255), 0)
    return image


def render(scene: Scene, sensor: Sensor, rng: np.random.Generator | None = None) -> tuple[np.ndarray | None, list[dict], Hits]:
    """One frame: image (H, W, 3) uint8, or None without `rng`; annotations without ids; and the hits behind them."""
    caster = _caster(sensor)
    hits = caster.cast(scene)
    found = _annotations(scene, hits, caster.slope)
    return (None if rng is None else _paint(caster, scene, hits, rng)), found, hits


@lru_cache(4)
def _caster(sensor: Sensor) -> Caster:
    return Caster(sensor)


def _noise_of(seed: int, number: int, frame: int) -> np.random.Generator:
    return np.random.default_rng([seed, number, 1 + frame])


def clip_frames(number: int, sensor: Sensor = PANORAMA, seed: int = 0, frames: int = 10) -> Iterator[tuple[np.ndarray, list[dict]]]:
    """The frames of one clip: image (H, W, 3) uint8 and its annotations (COCO boxes, no ids)."""
    street = Street(seed, number)
    for frame in range(frames):
        image, found, _ = render(street.at(frame * SECONDS), sensor, _noise_of(seed, number, frame))
        assert image is not None  # a frame with noise is painted
        yield image, found


def _file_name(part: str, number: int, frame: int) -> str:
    return f"images/{FOLDER[part]}/trip{number // 10:03d}_Video{number:05d}_{frame}.png"


def _clip(folder: Path, part: str, number: int, sensor: Sensor, seed: int, frames: int, missing: list[int], cached: bool) -> None:
    """Makes one clip: its missing images, and then, unless `cached`, its annotations as `.parts/<number>.json`."""
    street, annotations = Street(seed, number), []
    for frame in missing if cached else range(frames):
        rng = _noise_of(seed, number, frame) if frame in missing else None
        image, found, _ = render(street.at(frame * SECONDS), sensor, rng)
        annotations.append(found)
        if image is not None:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG", compress_level=1, compress_type=Z_HUFFMAN_ONLY)  # noise has no repeats to find
            write_atomic(folder / _file_name(part, number, frame), buffer.getvalue())
    if not cached:
        write_atomic(folder / ".parts" / f"{number}.json", json.dumps(annotations).encode())


def _claim(folder: Path, settings: dict) -> list[str]:
    """Writes the folder's settings, or checks that they are the ones it was made with; returns the finished splits."""
    path = folder / "dataset.json"
    if not path.exists():
        if folder.exists() and any(folder.glob("*_annotations.json")):
            raise ValueError(f"{folder} holds annotations but no dataset.json, so they are not the simulator's; give another folder")
        write_atomic(path, json.dumps({**settings, "splits": []}, indent=1).encode())
        return []
    there = json.loads(path.read_text())
    differ = [f"{key} is {there.get(key)!r} there, {value!r} here" for key, value in settings.items() if there.get(key) != value]
    if differ:
        raise ValueError(f"{folder} holds a data set made with other settings ({'; '.join(differ)}); "
                         "call with those, give another folder, or delete this one")
    return there["splits"]


def _coco(folder: Path, split: str, numbers: list[tuple[str, int]], sensor: Sensor, frames: int) -> bytes:
    """The COCO json of a split, put together from its clips' annotations."""
    height, width = sensor.image_hw
    images: list[dict] = []
    annotations: list[dict] = []
    for part, number in numbers:
        for frame, found in enumerate(json.loads((folder / ".parts" / f"{number}.json").read_text())):
            images.append({"id": len(images) + 1, "width": width, "height": height, "file_name": _file_name(part, number, frame)})
            annotations += [{"id": len(annotations) + 1 + i, "image_id": len(images), **one} for i, one in enumerate(found)]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    return json.dumps({"info": {"description": f"simulated LiDAR streets, split {split}"}, "images": images, "annotations": annotations,
                       "categories": categories}).encode()


def simulate(folder: str | Path, splits: tuple[str, ...] = ("train", "val"), sensor: Sensor = PANORAMA, seed: int = 0,
             clips: dict[str, int] = CLIPS, frames_per_clip: int = 10, processes: int | None = None, images: bool = True,
             progress: Callable[[int, int, str], None] | None = None, known: Callable[[dict], list[list[dict]]] | None = None) -> Path:
    """Writes a simulated data set; called again it adds what is missing, with the same bytes for any number of processes.

    A split is annotated when its json exists, and complete when every image that it lists exists. `processes` None uses every core. `known` gives
    for the folder's settings the annotations of the extension's frames, or none: they are then not counted again.
    Raises ValueError where the folder holds other data, or a split or clip count is unknown.
    """
    folder = Path(folder)
    if unknown := sorted(set(splits) - set(PARTS)) + sorted(set(clips) - set(FIRST_CLIP)):
        raise ValueError(f"unknown {', '.join(unknown)}; splits are {', '.join(PARTS)}, clips are counted for {', '.join(FIRST_CLIP)}")
    clips = {part: clips.get(part, CLIPS[part]) for part in FIRST_CLIP}
    if max(clips["train"], clips["val"]) > FIRST_CLIP["val"] or min(clips.values()) < 1 or frames_per_clip < 1:
        raise ValueError(f"clips {clips}: train and val take 1 to {FIRST_CLIP['val']}, extension 1 or more, and a clip 1 frame or more")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file, not a folder; name another with --out")
    settings = {"name": "simulated", "panorama": sensor.panorama, "channels": ["intensity", "ambient", "range"], "size_limits": SIZE_LIMITS,
                "simulator": VERSION, "seed": seed, "frames_per_clip": frames_per_clip, "clips": clips, "sensor": asdict(sensor)}
    settings = json.loads(json.dumps(settings))  # tuples become lists, as they are read
    there = _is_there(folder, settings, splits, images)
    with suppress(InUse) if there else nullcontext(), alone(folder, wait=not there):  # who adds another split does not keep from reading these
        if known and "train_extended" in splits and not (folder / "train_extended_annotations.json").exists():
            _claim(folder, settings)  # first, so that nothing is lent to data of other settings
            _lend(folder, known(settings), frames_per_clip)
        _complete(folder, settings, splits, sensor, processes, images, progress)
    return folder


def _lend(folder: Path, found: list[list[dict]], frames: int) -> None:
    """Write the extension's annotations as if its clips had been counted here."""
    for i in range(0, len(found), frames):
        write_atomic(folder / ".parts" / f"{FIRST_CLIP['extension'] + i // frames}.json", json.dumps(found[i:i + frames]).encode())


def _is_there(folder: Path, settings: dict, splits: tuple[str, ...], images: bool) -> bool:
    """Whether nothing of these splits is missing."""
    try:
        there = json.loads((folder / "dataset.json").read_text())
    except (OSError, ValueError):
        return False
    if any(there.get(key) != value for key, value in settings.items()) or not set(splits) <= set(there["splits"]):
        return False
    parts = {part for split in splits for part in PARTS[split]} if images else set()
    for part in parts:
        place = folder / "images" / FOLDER[part]
        names = {entry.name for entry in os.scandir(place)} if place.is_dir() else set()
        wanted = (_file_name(part, FIRST_CLIP[part] + i, k) for i in range(settings["clips"][part]) for k in range(settings["frames_per_clip"]))
        if any(name.rpartition("/")[2] not in names for name in wanted):
            return False
    return all((folder / f"{split}_annotations.json").is_file() for split in splits)


def _complete(folder: Path, settings: dict, splits: tuple[str, ...], sensor: Sensor, processes: int | None, images: bool,
              progress: Callable[[int, int, str], None] | None) -> None:
    """Makes what is missing of a data set with these settings."""
    done, clips, frames_per_clip, seed = _claim(folder, settings), settings["clips"], settings["frames_per_clip"], settings["seed"]
    for split in splits:
        numbers = [(part, FIRST_CLIP[part] + i) for part in PARTS[split] for i in range(clips[part])]
        json_path = folder / f"{split}_annotations.json"
        there = {f"images/{FOLDER[part]}/{entry.name}" for part in PARTS[split] if (folder / "images" / FOLDER[part]).is_dir()
                 for entry in os.scandir(folder / "images" / FOLDER[part])} if images else set()
        tasks = []
        for part, number in numbers:
            missing = [k for k in range(frames_per_clip) if _file_name(part, number, k) not in there] if images else []
            cached = json_path.exists() or (folder / ".parts" / f"{number}.json").exists()
            if missing or not cached:
                tasks.append((folder, part, number, sensor, seed, frames_per_clip, missing, cached))
        _run(tasks, processes, lambda count, total, split=split: progress and progress(count, total, split))
        if not json_path.exists():
            write_atomic(json_path, _coco(folder, split, numbers, sensor, frames_per_clip))
        if split not in done:
            done = [name for name in PARTS if name in (*done, split)]
            write_atomic(folder / "dataset.json", json.dumps({**settings, "splits": done}, indent=1).encode())
    shutil.rmtree(folder / ".parts", ignore_errors=True)
    for place in (folder, *(folder / "images").glob("*")):
        tidy(place, PATIENCE)


def _end_with_parent() -> None:
    """Let this worker end when the process that started it is killed; by itself it would wait for work for ever."""
    if parent := parent_process():
        def end() -> None:
            parent.join()
            os._exit(1)
        threading.Thread(target=end, daemon=True).start()


def _run(tasks: list[tuple], processes: int | None, progress: Callable[..., object]) -> None:
    """Makes the clips, in this process or in several."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(processes or cores, len(tasks))
    if processes <= 1:
        for count, task in enumerate(tasks, 1):
            _clip(*task)
            progress(count, len(tasks))
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        waiting = [pool.submit(_clip, *task) for task in tasks]
        try:
            for count, future in enumerate(as_completed(waiting), 1):
                future.result()
                progress(count, len(tasks))
        finally:
            pool.shutdown(cancel_futures=True)  # after a stop, the clips under way and no more
