"""Verbs in forked children that are killed at random moments and called again, without the start of Python that each would take by itself."""
import json
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from conftest import coco, write_dataset

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pytest", "detlib.cli", "detlib.train", "detlib.apply", "detlib.offline", "torch._dynamo"])
TRAININGS = [(rung, precision, often, readers) for rung in ("adam", "flip", "baseline", "fpn") for precision in ("float32", "bfloat16")
             for often, readers in ((True, 1), (False, 2))]
FORMS = ("voc", "yolo", "kitti", "coco")


def verb(arguments, environment, often, said):
    """The body of a child; `often`: a checkpoint after each step."""
    import torch

    from detlib import train
    from detlib.cli import main
    os.environ.update(environment)
    torch.set_num_threads(1)
    train.CHECKPOINT_SECONDS = 0 if often else train.CHECKPOINT_SECONDS
    with open(said, "w") as file, redirect_stdout(file), redirect_stderr(file):
        code = main(arguments)
    sys.exit(code)


def call(arguments, place, precision="float32", often=False, readers=1, kill_after=None):
    """Run a verb with its home at `place`; -> exit code (-9: killed while it lived), seconds, and what it said."""
    place.mkdir(parents=True, exist_ok=True)
    said = Path(tempfile.gettempdir()) / f"detlib-test-{os.getpid()}.said"  # `place` may be full
    environment = {"DETLIB_HOME": str(place), "DETLIB_PRECISION": precision, "DETLIB_READERS": str(readers)}
    child = SERVER.Process(target=verb, args=([str(a).replace("PLACE", str(place)) for a in arguments], environment, often, said))
    start = time.monotonic()
    child.start()
    child.join(kill_after)
    child.kill()
    child.join()
    seconds, text = time.monotonic() - start, said.read_text() if said.exists() else ""
    said.unlink(missing_ok=True)
    return child.exitcode, seconds, text


def content(place):
    """Every file below a folder; of a log its rows without seconds, of TensorBoard's events, which have times in their names, nothing."""
    found = {}
    for path in sorted(p for p in place.rglob("*") if p.is_file() and p.parent.name != "tensorboard"):
        if path.name == "log.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[str(path.relative_to(place))] = [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
        else:
            found[str(path.relative_to(place))] = path.read_bytes()
    return found


def kill_and_compare(root, tasks, count, seed=0, prepare=lambda place: None):
    """Kill `count` runs of the tasks, in turn, each at a random moment of its duration, and call each again; -> counts, and what differed.

    A task is (arguments, options of `call`); PLACE in an argument is the folder of the attempt. Only kills that met a living process count.
    """
    whole, rng, tried, wrong = {}, np.random.default_rng(seed), 0, []
    for number in range(10 * count):
        if tried == count:
            break
        k = number % len(tasks)
        arguments, options = tasks[k]
        if k not in whole:
            prepare(root / f"whole{k}")
            code, seconds, said = call(arguments, root / f"whole{k}", **options)
            assert code == 0, said
            whole[k] = content(root / f"whole{k}"), seconds
        place = root / f"killed{number}"
        prepare(place)
        code, _, _ = call(arguments, place, **options, kill_after=rng.uniform(0, whole[k][1]))
        if code != -9:
            continue
        tried += 1
        code, _, said = call(arguments, place, **options)
        again = content(place)
        if code or again != whole[k][0]:
            names = [name for name in sorted(again.keys() | whole[k][0].keys()) if again.get(name) != whole[k][0].get(name)]
            wrong.append(f"{' '.join(map(str, arguments))}: exit code {code}, {', '.join(names)}; {said[-300:]}")
    return {"tried": tried, "identical": tried - len(wrong)}, wrong


def tiny(root):
    """A data set as small as one can be trained on: four frames of 128 x 128 px, and two to validate on."""
    def split(name, n):
        return coco([(f"images/{name}/trip_{k}.png", 128, 128) for k in range(n)], [(k, 1 + k % 2, [20.0 + 9 * k, 40, 32, 24]) for k in range(n)])
    return write_dataset(root, {"train": split("train", 4), "val": split("val", 2)})


def training_tasks(data):
    return [(["train", rung, "--data", data, "--profile", "smoke"], {"precision": precision, "often": often, "readers": readers})
            for rung, precision, often, readers in TRAININGS]


def other_tasks(data, run, notebook):
    """Tasks of evaluation, simulation, report export and conversion."""
    return {"evaluation": [(["predict", run, data, "--split", split, "--draw", "--out", "PLACE/found"], {}) for split in ("train", "val")],
            "simulation": [(["simulate", "--profile", "smoke", "--frames", "1", "--processes", n, "--out", "PLACE/simulated"], {}) for n in (1, 2)],
            "report": [(["report", notebook, "--out", "PLACE/page.html"], {})],
            "conversion": [(["export", form, data, "--out", "PLACE/out"], {}) for form in FORMS] + [(["import", data, "--clips", "names"], {})]}


def finished_run(data, place):
    """A finished run's folder for what needs one."""
    code, _, said = call(["train", "adam", "--data", data, "--profile", "smoke"], place)
    assert code == 0, said
    return next(place.glob("outputs/runs/*/*/*/*"))


def page(path):
    """A notebook with outputs, long enough that its export can be killed."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
    cells = [cell for k in range(40) for cell in (
        new_markdown_cell(f"## Part {k}\n\n$x_{k}^2 + \\frac{{1}}{{{k + 1}}}$"),
        new_code_cell(f"print({k})", outputs=[new_output("stream", text=f"{k}\n" * 20)]))]
    nbformat.write(new_notebook(cells=cells), path)
    return Path(path)
