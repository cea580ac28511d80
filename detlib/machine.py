"""What this machine does best, found by measuring once and remembered; DETLIB_PRECISION overrides it."""
import json
import os
import platform
import time
from collections.abc import Sequence

import torch

from . import runs
from .files import write_json
from .models.backbones import SmallCNN

PRECISIONS = ("float32", "bfloat16")
WORTH = 1.1  # a lower precision is chosen when it is faster by more than this


def precision_here(device: torch.device) -> str:
    """The number format to train in on this device: 'float32', 'bfloat16', or on a GPU without bfloat16 still 'float32'."""
    asked = os.environ.get("DETLIB_PRECISION")
    if asked:
        if asked not in PRECISIONS:
            raise ValueError(f"DETLIB_PRECISION={asked!r}: known are {', '.join(PRECISIONS)}")
        return asked
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    path, key = runs.outputs() / "machine.json", describe()
    try:
        known = json.loads(path.read_text())
        fastest = known.get(key, {}).get("precision")
    except (OSError, ValueError, AttributeError):  # none yet, or damaged: it is measured again
        known, fastest = {}, None
    if fastest not in PRECISIONS:
        seconds = step_seconds(("float32", "bfloat16"))
        fastest = "bfloat16" if seconds["float32"] > WORTH * seconds["bfloat16"] else "float32"
        known[key] = {"precision": fastest, "seconds": seconds}
        write_json(path, known)
        print(f"Measured once on this machine: one training step of a small network takes {seconds['float32']:.2f} s in float32 "
              f"and {seconds['bfloat16']:.2f} s in bfloat16; training uses {fastest}.")
    return fastest


def devices() -> list[torch.device]:
    """What networks can run on here: the CPU, and last a GPU where there is one: training takes the last."""
    return [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def machine_name(device: torch.device) -> str:
    """A device in one line."""
    return describe() if device.type == "cpu" else f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"


def describe() -> str:
    """Processor, threads and torch's version, in one line."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def step_seconds(precisions: Sequence[str], repeats: int = 6) -> dict[str, float]:
    """Seconds of a forward and backward pass of the small CNN on two crops of 128 x 512 px on the CPU, for each number format.

    The formats take turns and the least of `repeats` counts, so that other work on the machine does not decide.
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
