"""Starts and numbers of training frames: the grid that is trained, what is found of it, and what the table and figure say of it."""
import json
from dataclasses import replace

import pytest

from detlib import runs
from detlib.cli import main
from detlib.data.folder import open_dataset
from detlib.evaluate import starts
from detlib.experiments import rung
from detlib.plots import learning_curve
from detlib.train import fit


@pytest.fixture
def trained(small):
    data = open_dataset(small)
    ways = {"scratch": rung("baseline", "smoke", steps=2), "adam": rung("adam", "smoke", steps=2)}
    for experiment in starts.trainings(ways, (3, len(data["train"])), data, 2):
        fit(experiment, data, progress=False)
    return data, ways


def test_the_grid_names_all_frames_as_none(small):
    data, way = open_dataset(small), rung("baseline", "smoke", steps=2)
    every = list(starts.trainings({"a": way, "b": replace(way, optimizer="adamw")}, (3, 6, 60), data, 2))
    assert [(e.train_frames, e.seed) for e in every[::2]] == [(n, seed) for seed in (0, 1) for n in (3, None, None)]
    assert every[1].optimizer == "adamw" and len(every) == 12


def test_what_is_trained_is_found_and_compared_in_pairs(trained, capsys):
    data, ways = trained
    found = starts.trained(ways, data, 2)
    assert {way: {n: [run.experiment.seed for run in here] for n, here in of.items()} for way, of in found.items()} == {
        way: {3: [0, 1], 6: [0, 1]} for way in ways}
    table = starts.starts_table(found, data)
    assert table[["train frames", "start", "seeds"]].values.tolist() == [[n, way, "0, 1"] for n in (3, 6) for way in ways]
    assert list(table["gain"] != "") == [False, True, False, True], "only the second start has a gain, on the first"
    assert "pair" not in table.loc[1, "so"] and table.loc[1, "so"]
    figure = learning_curve(found, data)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(ways)
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    means = [sum(run.metrics["mAP"] for run in found["scratch"][n]) / 2 for n in (3, 6)]
    assert list(lines[0].get_ydata()) == pytest.approx(means)
    assert main(["table", "starts", "--data", str(data.root), "--profile", "smoke", "--rungs", "adam+steps=2", "--seeds", "2"]) == 0
    assert capsys.readouterr().out.count("| adam+steps=2 |") == 2


def test_nothing_trained_is_said_and_not_drawn(small):
    data, ways = open_dataset(small), {"scratch": rung("fpn", "smoke", steps=2)}
    found = starts.trained(ways, data)
    assert found == {"scratch": {}} and len(starts.starts_table(found, data)) == 0
    assert "Nothing is trained yet" in learning_curve(found, data).get_supxlabel()


def test_own_folder(small, home, monkeypatch):
    made = runs.own_folder(None, "smoke")
    assert made == home / "data" / "second-city-smoke" and (made / "ImageSets/Main/train.txt").is_file()
    assert runs.own_folder(small) == small
    monkeypatch.setenv("DETLIB_DATA", str(small))
    assert runs.own_folder(None, "smoke") == small and runs.own_folder("simulated", "smoke") == made


def test_explore_needs_nothing_but_data(small, tmp_path, capsys):
    assert main(["explore", "--data", str(small), "--profile", "smoke", "--out", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["summary"]["train"]["frames"] in (6, "6") and {path.stem for path in (tmp_path / "out").iterdir()} == set(said["figures"])
