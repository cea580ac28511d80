"""How time and memory grow with the data: each task at 1, 4, 16 and 64 times a size, in a process of its own."""
import contextlib
import ctypes
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

TIMES = (1, 4, 16, 64)
FIELDS = ("task", "of", "size", "seconds", "MiB")
CHILD = "import sys; from detlib.bench.growth import _child; _child(*sys.argv[1:])"


def _write(root: Path, split: str, images: int, boxes: int) -> Path:
    """A COCO json of so many images without pictures, and boxes of eight classes spread over them."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(1.5, 4, (boxes, 2)))
    corner = rng.uniform(0, 1, (boxes, 2)) * [950, 70]
    names = [f"images/{split}/trip{i // 100}_{i % 100}.png" for i in range(images)]
    content = {"images": [{"id": i, "file_name": name, "width": 1024, "height": 128} for i, name in enumerate(names)],
               "annotations": [{"id": i, "image_id": i % images, "category_id": 1 + i % 8, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
                               for i, (x, y, w, h) in enumerate(np.column_stack([corner, sides]).round(2).tolist())],
               "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 9)]}
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{split}_annotations.json"
    path.write_text(json.dumps(content))
    return path


def _loading(root: Path, times: int) -> Callable[[], object]:
    from ..data.folder import open_dataset

    _write(root, "train", 500 * times, 6_000 * times)
    return lambda: open_dataset(root)


def _exploring(root: Path, times: int) -> Callable[[], object]:
    from .. import plots
    from ..data.folder import open_dataset

    _write(root, "train", 500 * times, 6_000 * times)
    data = open_dataset(root)
    return lambda: (plots.occurrences(data.splits), plots.size_heatmap(data.splits), plots.aspect_ratios(data.splits))


def _covering(root: Path, times: int) -> Callable[[], object]:
    from ..anchors import BASELINE
    from ..coverage import coverage

    corner = torch.rand(20_000 * times, 2) * torch.tensor([950.0, 70.0])
    boxes = torch.cat([corner, corner + 4 + 40 * torch.rand(len(corner), 2)], 1)
    return lambda: coverage(BASELINE, boxes, (128, 1024))


def _matching(root: Path, times: int) -> Callable[[], object]:
    from ..anchors import BASELINE
    from ..coverage import match_local
    from ..matching import targets

    image_hw = (128, 512 * times)
    corner = torch.rand(20, 2) * torch.tensor([450.0, 70.0])
    boxes = [torch.cat([corner, corner + 4 + 40 * torch.rand(20, 2)], 1)] * 16
    labels, anchors = [torch.ones(20, dtype=torch.long)] * 16, BASELINE.grid(image_hw)
    return lambda: [targets(anchors, boxes, labels, match_local(BASELINE, boxes, image_hw)) for _ in range(5)]


def _judging(root: Path, times: int) -> Callable[[], object]:
    from ..data.folder import open_dataset
    from ..evaluate.coco import Detections, evaluate

    _write(root, "val", 100 * times, 1_200 * times)
    data, rng = open_dataset(root), np.random.default_rng(0)
    number = 100 * 100 * times
    corner = rng.uniform(0, 1, (number, 2)) * [950, 70]
    found = Detections(np.repeat(np.arange(100 * times), 100), rng.integers(1, 9, number), rng.random(number),
                       np.column_stack([corner, corner + np.exp(rng.uniform(1.5, 4, (number, 2)))]))
    return lambda: evaluate(found, data["val"], data)


def _training(root: Path, times: int) -> Callable[[], object]:
    """A dozen steps on ever more frames, with room in memory for a part of them: neither time nor memory may grow."""
    from PIL import Image

    from ..data import loader
    from ..data.folder import open_dataset
    from ..experiments import rung
    from ..train import fit

    loader.CACHE_BYTES = 2**21  # five of these frames
    for split, images in (("train", 100 * times), ("val", 4)):
        _write(root, split, images, 4 * images)
        for image in json.loads((root / f"{split}_annotations.json").read_text())["images"]:
            path = root / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((128, 1024, 3), np.uint8)).save(path)
    data = open_dataset(root)
    return lambda: fit(rung("baseline", "smoke", steps=12), data, progress=False)


# name: what grows, and a function that prepares a folder for so many times the size and returns the call that is measured
TASKS: Mapping[str, tuple[str, Callable[[Path, int], Callable[[], object]]]] = {
    "loading": ("6,000 boxes on 500 images", _loading), "exploring": ("6,000 boxes on 500 images", _exploring),
    "coverage": ("20,000 boxes", _covering), "matching": ("32,720 anchors", _matching),
    "evaluation": ("10,000 detections on 100 images", _judging), "training": ("100 images", _training)}


def _child(task: str, times: str) -> None:
    """Measure one task in this process and print its seconds, and the MiB by which its memory rose at the most above what it was."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["DETLIB_HOME"] = place
        torch.manual_seed(0)
        call = TASKS[task][1](Path(place) / "data", int(times))
        _give_back()
        before = _memory("VmRSS", forget=True)
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        print(json.dumps([seconds, _memory("VmHWM") - before]))


def _give_back() -> None:
    """Return to the system what preparing has freed: a call that fills it anew would seem to need no memory. glibc alone has the call."""
    gc.collect()
    with contextlib.suppress(AttributeError, TypeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _memory(field: str, forget: bool = False) -> float:
    """MiB that this process has in memory (VmRSS) or had at the most (VmHWM) since it was told to `forget`; NaN where /proc does not say."""
    if not Path("/proc/self/status").exists():
        return math.nan
    if forget:  # the peak of the process that this one was forked from is inherited
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


def growth(times: tuple[int, ...] = TIMES, rounds: int = 3) -> pd.DataFrame:
    """Seconds (the median round) and MiB above what was there before (the largest) of each task at each size; columns FIELDS."""
    rows = []
    for task, (of, _) in TASKS.items():
        for k in times:
            found = []
            for _ in range(rounds):
                done = subprocess.run([sys.executable, "-c", CHILD, task, str(k)], check=True, capture_output=True, text=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
            seconds, memory = zip(*found, strict=True)
            rows.append((task, of, k, float(np.median(seconds)), max(memory)))
    return pd.DataFrame(rows, columns=list(FIELDS))


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """The exponent by which seconds and MiB grow from the last size but one to the largest, for each task: 1 is linear, 0 is no growth.

    From the first size on, what is the same for any size would flatter; MiB below one count as one.
    """
    rows = {}
    for task, part in table.groupby("task", sort=False):
        part = part.sort_values("size").tail(2)
        step = np.log(part["size"].iloc[1] / part["size"].iloc[0])
        rows[task] = {column: float(np.diff(np.log(part[column].clip(lower=least).to_numpy()))[0] / step)
                      for column, least in (("seconds", 1e-4), ("MiB", 1.0))}
    return pd.DataFrame.from_dict(rows, orient="index")
