"""A run repeats from its record, bit by bit at an equal number of threads and nearly so at another."""
import json

import pytest
import torch
from kills import tiny

from detlib.cli import main
from detlib.data.folder import open_dataset
from detlib.experiments import rung
from detlib.rerun import rerun
from detlib.train import fit


@pytest.fixture
def data(tmp_path):
    return open_dataset(tiny(tmp_path / "tiny"))


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_repeats_bit_by_bit_and_is_not_touched(data, capsys):
    run = fit(rung("flip", "smoke"), data, progress=False)
    before = contents(run.folder)
    assert main(["rerun", str(run.folder), "--data", str(data.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"identical": True, "first_step": None, "loss": 0, "val_loss": 0, "weights": 0, "mAP": 0, "notes": []}
    assert contents(run.folder) == before and run.config["threads"] == torch.get_num_threads()
    log = run.folder / "log.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[2]["loss"] += 0.25
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["rerun", str(run.folder), "--data", str(data.root)]) == 1
    assert f"Different from step {rows[2]['step']} on: losses by up to 0.25, on val by up to 0, weights by up to 0" in capsys.readouterr().out


def test_what_cannot_be_repeated_says_why(data, tmp_path, capsys):
    run = fit(rung("adam", "smoke"), data, progress=False)
    assert main(["rerun", str(run.folder)]) == 2
    assert "was trained on tiny, which is not in" in capsys.readouterr().err
    path = data.root / "train_annotations.json"
    path.write_text(path.read_text().replace('"car"', '"bus"'))
    assert main(["rerun", str(run.folder), "--data", str(data.root)]) == 2
    assert "it cannot be repeated here: categories is" in capsys.readouterr().err


def test_one_and_two_threads_differ_by_less_than_the_record_says(data, monkeypatch, tmp_path):
    experiment, losses, threads = rung("adam", "smoke", steps=20), [], torch.get_num_threads()
    try:
        for number in (1, 2):
            monkeypatch.setenv("DETLIB_HOME", str(tmp_path / f"threads{number}"))
            torch.set_num_threads(number)
            run = fit(experiment, data, progress=False)
            assert run.config["threads"] == number
            losses.append(torch.tensor([row["loss"] for row in run.log_rows() if "loss" in row]))
    finally:
        torch.set_num_threads(threads)
    assert len(losses[0]) == 20 and (losses[0] - losses[1]).abs().max() < 1e-3
    monkeypatch.setenv("DETLIB_HOME", str(tmp_path / "threads1"))
    assert rerun(next((tmp_path / "threads1").glob("outputs/runs/*/*/*/*")), str(data.root), progress=False)["identical"]
