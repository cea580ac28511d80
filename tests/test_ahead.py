"""Trainings side by side, ahead of a workbook's notebooks."""
import json
import subprocess
import sys
import time

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from detlib import ahead, machine, report, runs
from detlib.ahead import Ahead, at_once
from detlib.experiments import rung
from detlib.files import alone


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ahead.Path(ahead.__file__).parents[1]))


def notebook(path, *trains, code="1", **about):
    nbformat.write(new_notebook(cells=[new_code_cell(code)], metadata={"detlib": {"trains": list(trains), **about}}), path)
    return path


class Pretended(Ahead):
    """Each training is a process that waits to be told its exit code."""

    def command(self, experiment):
        return [sys.executable, "-c", "print(input())"]

    def end(self, experiment):
        process, _ = self.running[experiment]
        process.stdin.write(b"memory is full\n")
        process.stdin.flush()
        process.wait()


def test_how_many_at_once(monkeypatch):
    monkeypatch.setattr(machine, "devices", lambda: [torch.device("cpu")])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(machine, "memory_gib", lambda: 8.0)
    assert [at_once(profile) for profile in ("smoke", "laptop", "report")] == [1, 2, 1]
    monkeypatch.setattr(machine, "memory_gib", lambda: None)
    assert at_once("laptop") == 4
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert at_once("laptop") == 1
    monkeypatch.setattr(machine, "devices", lambda: [torch.device("cpu"), torch.device("cuda")])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert at_once("laptop") == 1
    monkeypatch.setenv("DETLIB_AT_ONCE", "3")
    assert at_once("smoke") == 3
    monkeypatch.setenv("DETLIB_AT_ONCE", "many")
    with pytest.raises(ValueError, match="DETLIB_AT_ONCE='many': a number of trainings, 1 or more"):
        at_once("laptop")


def test_a_notebook_takes_the_place_of_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    beside = notebook(tmp_path / "n.ipynb")
    rows = [rung(name, "smoke") for name in ("baseline", "adam", "flip", "resnet")]
    with Pretended(2, "simulated", {}) as side:
        side.todo = list(rows)
        side.look()
        assert list(side.running) == rows[:2] and side.settings(beside)["OMP_NUM_THREADS"] == "2"
        side.end(rows[1])
        side.look(beside)
        assert list(side.running) == rows[:1]
        side.look()
        assert list(side.running) == [rows[0], rows[2]] and side.todo == rows[3:]
        processes = [process for process, _ in side.running.values()]
    assert all(process.returncode is not None for process in processes) and not side.running and not side.todo
    assert side.settings(beside) == {} and side.trained == 1


def test_one_that_measures_has_the_machine_for_itself(tmp_path):
    """And one that waits for the last training lets another go first, but not that one."""
    waits, quiet, other = notebook(tmp_path / "6.ipynb", "flip"), notebook(tmp_path / "7.ipynb", measures=True), notebook(tmp_path / "8.ipynb")
    flip, told = rung("flip", "smoke"), []
    with Pretended(2, "simulated", {}) as side:
        side.of, side.todo = {waits: [flip]}, [flip]
        assert side.next([waits, quiet, other], told.append) == other and list(side.running) == [flip]
        assert not told and side._room(quiet) == 2

        def tell(what):
            told.append(what)
            side.end(flip)
        assert side.next([waits, quiet], tell) == waits and told == ["waits for flip,"]
        side.todo = [rung("adam", "smoke")]
        assert side.next([quiet], told.append) == quiet and not side.running
        side.look(quiet)
        assert not side.running and side.settings(quiet) == {} and side.settings(other)


def test_what_could_not_be_trained_is_said_and_left_to_its_notebook(monkeypatch):
    said = []
    monkeypatch.setattr(Pretended, "command", lambda self, e: [sys.executable, "-c", "import sys; print('one'); print(input()); sys.exit(3)"])
    with Pretended(2, "simulated", {}, said.append) as side:
        side.todo = [rung("adam", "smoke", seed=4)]
        side.look()
        side.end(rung("adam", "smoke", seed=4))
        side.look()
        assert said == ["adam, seed 4, was not trained ahead, so its notebook does it: memory is full"] and not side.running
        side.todo = [rung("flip", "smoke")]
        side.look()
        side.running[rung("flip", "smoke")][0].kill()
        side.running[rung("flip", "smoke")][0].wait()
        side.todo = [rung("resnet", "smoke")]
        monkeypatch.setattr(ahead.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("no memory")))
        side.look()
        assert [text.rpartition(": ")[2] for text in said[1:]] == ["its process was ended (SIGKILL)", "no memory"] and side.trained == 0


def test_what_runs_is_named_as_it_would_be_typed():
    side = Ahead(2, "my data", {"DETLIB_INVALID": "drop"})
    command = side.command(rung("fpn", "smoke", seed=2, anchors="fitted"))
    assert command[3:] == ["fpn", "--profile", "smoke", "--seed", "2", "--seeds", "1", "--data", "my data", "--invalid", "drop",
                           "--set", "anchors=fitted"]


def test_a_workbook_finds_its_trainings_done(tmp_path, home, small, monkeypatch):
    """The second notebook's rows are trained when it starts, each by a process with its share of the threads; the unreadable one harms no other."""
    monkeypatch.setenv("DETLIB_AT_ONCE", "2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    finished = "outputs/runs/*/smoke/*/seed0/metrics.json"
    code = f"from pathlib import Path\nprint(*sorted(p.parents[1].name for p in Path({str(home)!r}).glob({finished!r})))"
    books = [notebook(tmp_path / "0.ipynb", code=code), notebook(tmp_path / "1.ipynb", "baseline", "adam", code=code), tmp_path / "2.ipynb"]
    books[2].write_text("no notebook")
    said = []
    assert report.workbook(books, tmp_path / "out", data=str(small), profile="smoke", echo=said.append) == 1
    shown = [json.loads((tmp_path / "out" / ".executed" / f"{n}+small+smoke.ipynb").read_text())["cells"][0]["outputs"][0]["text"] for n in (0, 1)]
    assert [text.split() for text in map("".join, shown)] == [[], ["adam", "baseline"]]
    assert any("Trainings: 2, up to 2 side by side" in line for line in said) and not any("not trained ahead" in line for line in said)
    data = runs.open_data(small, "smoke")
    for name in ("baseline", "adam"):
        assert runs.find_run(rung(name, "smoke"), data).config["threads"] == 2


def test_a_training_ends_with_the_one_who_began_it_and_keeps_its_steps(small):
    long = rung("baseline", "smoke", steps=100_000)
    with Ahead(2, str(small), {}) as side:
        side.todo = [long]
        side.look()
        folder = runs.run_folder(long, runs.open_data(small, "smoke"))
        until = time.monotonic() + 60
        while not (folder / "log.jsonl").exists() or (folder / "log.jsonl").stat().st_size < 400:
            assert time.monotonic() < until and side.running[long][0].poll() is None
            time.sleep(0.1)
        process = side.running[long][0]
    assert process.returncode in (1, 130, -2) and (folder / "checkpoint.pt").exists()
    with alone(folder):  # nobody works on it any more
        assert 0 < runs.Run(folder, long).load_checkpoint()["step"] < 100_000
    alone_there = subprocess.run([sys.executable, "-m", "detlib.ahead", "adam", "--profile", "smoke", "--data", str(small)],
                                 stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert alone_there.returncode and alone_there.stderr.strip().endswith("KeyboardInterrupt")
