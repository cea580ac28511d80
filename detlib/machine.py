"""What this machine does best, found by measuring once and remembered; DETLIB_PRECISION overrides it."""
import json
import os
import platform
import time

import torch

from . import runs
from .files import write_json
from .models.backbones import SmallCNN

PRECISIONS = ("float32", "bfloat16", "float16")
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
    known = json.loads(path.read_text()) if path.is_file() else {}
    if key not in known:
        seconds = {name: step_seconds(name) for name in ("float32", "bfloat16")}
        fastest = "bfloat16" if seconds["float32"] > WORTH * seconds["bfloat16"] else "float32"
        known[key] = {"precision": fastest, "seconds": seconds}
        write_json(path, known)
        print(f"Measured once on this machine: one training step of a small network takes {seconds['float32']:.2f} s in float32 "
              f"and {seconds['bfloat16']:.2f} s in bfloat16; training uses {fastest}.")
    return known[key]["precision"]


def describe() -> str:
    """Processor, threads and torch's version, in one line."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def step_seconds(precision: str, repeats: int = 3) -> float:
    """Median seconds of a forward and backward pass of the small CNN on two crops of 128 x 512 px, on the CPU."""
    net = SmallCNN(3, 1).to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 128, 512).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", getattr(torch, precision), enabled=precision != "float32"):
            total = sum(x.float().mean() for x in net(images))
        total.backward()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[repeats // 2]
