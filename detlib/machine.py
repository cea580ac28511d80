"""What this machine does best, found by measuring once and remembered; DETLIB_PRECISION and DETLIB_READERS override it."""
import io
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import runs
from .files import write_json
from .models.backbones import SmallCNN

PRECISIONS = ("float32", "bfloat16")
WORTH = 1.1  # a lower precision, or more threads, are chosen when they are faster by more than this


def precision_here(device: torch.device) -> str:
    """The number format to train in on this device: 'float32', 'bfloat16', or on a GPU without bfloat16 still 'float32'."""
    asked = os.environ.get("DETLIB_PRECISION")
    if asked:
        if asked not in PRECISIONS:
            raise ValueError(f"DETLIB_PRECISION={asked!r}: known are {', '.join(PRECISIONS)}")
        return asked
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    known = _remembered("precision", _fastest_precision)
    return known["fastest"]


def _fastest_precision() -> dict:
    seconds = step_seconds(PRECISIONS)
    fastest = "bfloat16" if seconds["float32"] > WORTH * seconds["bfloat16"] else "float32"
    print(f"Measured once on this machine:\n  one training step of a small network takes {seconds['float32']:.2f} s in float32 "
          f"and {seconds['bfloat16']:.2f} s in bfloat16; training uses {fastest}.")
    return {"fastest": fastest, "seconds": seconds}


def readers_here() -> int:
    """How many threads read pictures ahead of the training: the fewest with which reading is about as fast as it gets."""
    asked = os.environ.get("DETLIB_READERS")
    if asked:
        if not asked.isdigit() or not int(asked):
            raise ValueError(f"DETLIB_READERS={asked!r}: a number of threads, 1 or more")
        return int(asked)
    return _remembered("readers", _enough_readers)["enough"]


def _enough_readers(pictures: int = 24, rounds: int = 3) -> dict:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 128, (128, 1024, 3), np.uint8)).save(file, "png")
    numbers = [n for n in (1, 2, 4, 8) if n <= (os.cpu_count() or 1)]
    rates: dict[int, list[float]] = {n: [] for n in numbers}
    for _ in range(rounds):
        for n in numbers:
            with ThreadPoolExecutor(n) as pool:
                start = time.perf_counter()
                list(pool.map(lambda data: Image.open(io.BytesIO(data)).load(), [file.getvalue()] * pictures))
                rates[n].append(pictures / (time.perf_counter() - start))
    best = {n: max(values) for n, values in rates.items()}
    enough = next(n for n in numbers if WORTH * best[n] >= max(best.values()))
    print("Measured once on this machine:\n  " + ", ".join(f"{n} thread{'s' * (n > 1)} read {best[n]:.0f}" for n in numbers)
          + f" panoramas a second; training reads with {enough}.")
    return {"enough": enough, "pictures a second": best}


def _remembered(name: str, measure: Callable[[], dict]) -> dict:
    """What was measured on this machine before, or is now."""
    path, key = runs.home() / "outputs" / "machine.json", describe()
    try:
        known = json.loads(path.read_text())
        there = dict(known.get(key, {}))
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or damaged: it is measured again
        known, there = {}, {}
    if not isinstance(there.get(name), dict):
        there[name] = measure()
        write_json(path, {**known, key: there})
    return there[name]


def devices() -> list[torch.device]:
    """What networks can run on here: the CPU, and last a GPU where there is one: training takes the last."""
    return [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def machine_name(device: torch.device) -> str:
    """A device in one line."""
    return describe() if device.type == "cpu" else f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads for what torch computes, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_gib() -> float | None:
    """The memory that there is here in GiB, of the machine or of the container; None where the system does not say."""
    if not hasattr(os, "sysconf"):
        return None
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no container, or without a limit ("max")
        least = min(least, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return least / 1024**3


def describe() -> str:
    """Processor, threads and torch's version, in one line."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads != 1)}, torch {torch.__version__}"


@torch.inference_mode(False)
@torch.enable_grad()
def step_seconds(precisions: Sequence[str], repeats: int = 6) -> dict[str, float]:
    """Seconds of a forward and backward pass of the small CNN on two crops of 128 x 512 px on the CPU, for each number format.

    The formats take turns and the least of `repeats` counts, so that other work on the machine does not decide. It may be asked for by code that
    takes no gradients.
    """
    net = SmallCNN(3, 1).to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 128, 512).contiguous(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in precisions}
    for _ in range(repeats + 1):
        for name in precisions:
            start = time.perf_counter()
            with torch.autocast("cpu", getattr(torch, name), enabled=name != "float32"):
                total = sum(x.float().mean() for x in net(images))
            total.backward()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(values[1:]) for name, values in seconds.items()}
