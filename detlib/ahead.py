"""Trainings that the notebooks of a workbook will ask for, several side by side while the notebooks run.

The layers of small networks are too short to keep many processor cores busy, and the ladder's trainings do not depend on each other.
"""
import _thread
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from itertools import chain
from pathlib import Path
from typing import IO, Any

import torch

from . import benchmark, machine, runs
from .data.coco import Dataset
from .experiments import PROFILES, Experiment, Profile
from .options import training
from .train import train_rungs

MOST = 4  # trainings at once
GIB = 3  # of memory, for each
WORTH_STEPS = 100  # fewer are done before another process has started
PATIENCE = 30  # seconds for the step under way
PAUSE = 0.5  # seconds between two looks
APART: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
# so that Ctrl-C reaches a training through `close` alone, once


def at_once(profile: str, environment: Mapping[str, str] | None = None) -> int:
    """How many trainings run side by side: DETLIB_AT_ONCE, else as many as there are threads and memory for, and one on a GPU, with whole panoramas
    in a step, or where trainings are short. Raises ValueError where DETLIB_AT_ONCE is no number."""
    asked = {**os.environ, **(environment or {})}.get("DETLIB_AT_ONCE")
    if asked:
        if not asked.isdigit() or not int(asked):
            raise ValueError(f"DETLIB_AT_ONCE={asked!r}: a number of trainings, 1 or more")
        return int(asked)
    sizes: Profile = PROFILES[profile]
    if machine.devices()[-1].type != "cpu" or sizes.crop_width is None or sizes.steps < WORTH_STEPS:
        return 1
    memory = machine.memory_gib()
    return max(1, min(MOST, torch.get_num_threads(), int(memory / GIB) if memory else MOST))


class Ahead:
    """What the notebooks of a workbook train, in their order, `places` at a time, each by a process of its own, and one fewer beside a notebook.

    It begins after the first notebook that is run, or before it, where that one trains something. With one place nothing is trained ahead.
    """

    def __init__(self, places: int, data: str, environment: Mapping[str, str], say: Callable[[str], None] = print):
        self.places, self.data, self.environment, self.say = places, data, environment, say
        self.of: dict[Path, list[Experiment]] | None = None  # what each notebook trains
        self.asked = False
        self.todo: list[Experiment] = []
        self.trained = 0
        self.running: dict[Experiment, tuple[subprocess.Popen, IO[str]]] = {}

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def settings(self, beside: Path | None = None) -> dict[str, str]:
        """The environment of a training, or of a notebook that has others beside it: its share of the threads, and what was measured with all."""
        if beside and (self._room(beside) == self.places or not (self.running or self.todo)):
            return {}
        threads = str(max(1, torch.get_num_threads() // self.places))
        return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "DETLIB_READERS": os.environ.get("DETLIB_READERS") or "1",
                "DETLIB_PRECISION": machine.precision_here(machine.devices()[-1])}

    def next(self, notebooks: Sequence[Path], tell: Callable[[str], None]) -> Path:
        """The first of these notebooks, as soon as what it trains is there, and a place for it as well.

        Where it waits for the last trainings of all, another that does not, nor measures times, goes first.
        """
        if self.places == 1:
            return notebooks[0]
        if self.of is None and (self.asked or _about(notebooks[0]).get("trains")):
            self._plan(notebooks)
        self.asked = True
        while True:
            self._ended()
            first, missing = notebooks[0], self._missing(notebooks[0])
            self.look(None if missing else first)
            if not missing and len(self.running) + self._room(first) <= self.places:
                return first
            if missing and not self.todo and len(self.running) < self.places:
                free = [n for n in notebooks[1:] if not self._missing(n) and self._room(n) == 1]
                if free:
                    return free[0]
            tell(f"waits for {', '.join(dict.fromkeys(e.rung for e in missing)) or 'a training under way'},")
            time.sleep(PAUSE)

    def _room(self, beside: Path | None) -> int:
        """Places that a notebook takes: one, or all where it measures times."""
        return 0 if beside is None else self.places if _about(beside).get("measures") else 1

    def _missing(self, notebook: Path) -> list[Experiment]:
        wanted = (self.of or {}).get(notebook, [])
        return [e for e in (*self.running, *self.todo) if e in wanted]

    def _plan(self, notebooks: Sequence[Path]) -> None:
        profile, seeds, self.of = self.environment["DETLIB_PROFILE"], self.environment.get("DETLIB_SEEDS"), {}
        training = [notebook for notebook in notebooks if _about(notebook).get("trains")]
        if not training:
            return
        try:
            with redirect_stdout(io.StringIO()):  # what is to be said of the data, the notebooks say
                dataset = runs.open_data(self.data, profile, invalid=self.environment.get("DETLIB_INVALID"))
            self.of = {notebook: benchmark.trainings(notebook, dataset, profile, seeds) for notebook in training}
        except (OSError, ValueError):  # which the notebooks report
            return
        self.todo = [e for e in dict.fromkeys(chain(*self.of.values())) if not _known(e, dataset)]
        if self.todo:
            self.say(f"Trainings: {len(self.todo)}, up to {self.places} side by side (DETLIB_AT_ONCE=1: one after another, in the notebooks)")

    def look(self, beside: Path | None = None) -> None:
        """Take notice of what has ended, and start the next where there is room beside the notebook that runs."""
        self._ended()
        while self.todo and len(self.running) + self._room(beside) < self.places:
            self._start(self.todo[0])

    def _ended(self) -> None:
        for experiment, (process, said) in list(self.running.items()):
            if (code := process.poll()) is None:
                continue
            del self.running[experiment]
            said.seek(0)
            last = next((line.strip() for line in reversed(said.readlines()) if line.strip()), f"exit code {code}")
            said.close()
            if code:
                self._left(experiment, last if code > 0 else f"its process was ended ({signal.Signals(-code).name})")
            else:
                self.trained += 1

    def _left(self, experiment: Experiment, why: object) -> None:
        self.say(f"{experiment.rung}, seed {experiment.seed}, was not trained ahead, so its notebook does it: {why}")

    def _start(self, experiment: Experiment) -> None:
        self.todo.remove(experiment)
        try:
            said = tempfile.TemporaryFile("w+", errors="replace")
            process = subprocess.Popen(self.command(experiment), stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
                                       env={**os.environ, **self.environment, **self.settings()}, **APART)
        except OSError as error:  # no room, no memory
            self._left(experiment, error)
        else:
            self.running[experiment] = process, said

    def command(self, experiment: Experiment) -> list[str]:
        """What trains one."""
        row, *changes = experiment.rung.split("+")
        invalid = self.environment.get("DETLIB_INVALID")
        return [sys.executable, "-m", "detlib.ahead", row, "--profile", experiment.profile, "--seed", str(experiment.seed), "--seeds", "1",
                "--data", self.data, *(["--invalid", invalid] if invalid else []), *(["--set", *changes] if changes else [])]

    def close(self) -> None:
        """Stop what runs, each after the step under way, and start nothing more; it goes on from there when it is asked for again."""
        self.todo, until = [], time.monotonic() + PATIENCE
        for process, _ in self.running.values():
            process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        for process, said in self.running.values():
            try:
                process.wait(max(0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            said.close()
        self.running = {}


def _known(experiment: Experiment, dataset: Dataset) -> bool:
    """Whether a run is finished, or so damaged that its notebook has to say so."""
    try:
        return runs.find_run(experiment, dataset) is not None
    except (OSError, ValueError):
        return True


def _about(notebook: Path) -> dict:
    try:
        return benchmark.about(notebook)
    except Exception:  # it cannot be read, which running it reports
        return {}


def _stop_when_left() -> None:
    """Ctrl-C for this process as soon as the one that started it closes the pipe between them, or is no more; an end where it does not listen."""
    os.read(sys.stdin.fileno(), 1)
    _thread.interrupt_main()
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m detlib.ahead", description="Train as `detlib train` does, as long as standard input is open.")
    training(parser)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell in the background had it ignored
    threading.Thread(target=_stop_when_left, daemon=True).start()
    train_rungs(**vars(parser.parse_args()))
