"""The way of own data through the commands: read, explored, imported, exported, and which data a run is of."""
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from detlib import benchmark, runs, verbs
from detlib.asked import Asked
from detlib.cli import main
from detlib.data.coco import COLOURS
from detlib.data.folder import open_dataset
from detlib.experiments import rung
from detlib.train import fit


def test_explore_takes_what_a_folder_leaves_open(tmp_path, capsys):
    for split in ("train", "val"):
        for k in range(2):
            place = tmp_path / "d"
            (place / "images" / split).mkdir(parents=True, exist_ok=True)
            (place / "labels" / split).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 48), (40 * k, 9, 99)).save(place / "images" / split / f"p{k}.png")
            (place / "labels" / split / f"p{k}.txt").write_text("0 0.5 0.5 0.2 0.3\n")
    arguments = ["explore", "--data", str(tmp_path / "d"), "--profile", "smoke", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2 and "--classes name0" in capsys.readouterr().err
    capsys.readouterr()
    assert main([*arguments, "--classes", "dog", "--splits", "folder", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["summary"] and "frames of clips" in err, "notes go elsewhere"
    assert open_dataset(tmp_path / "d", classes=["dog"], splits="folder").channels == COLOURS
    capsys.readouterr()
    assert main([*arguments, "--classes", "dog", "--splits", "share=0.25", "--clips", "none", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert [int(summary[split]["frames"]) for split in ("train", "val")] == [3, 1], "what is asked for goes before the folders"


def test_simulated_data_leave_nothing_open(capsys):
    assert main(["explore", "--profile", "smoke", "--splits", "share=0.2", "--seed", "5"]) == 2
    assert "--splits, --seed: for a folder of yours (--data FOLDER)" in capsys.readouterr().err
    asked = Asked(profile="smoke", reading={"form": None, "classes": None, "splits": None, "seed": 0, "clips": None})  # as the command has it
    assert set(asked.splits) == {"train", "val"}


def test_more_frames_than_there_are(small):
    with pytest.raises(ValueError, match="train_frames=7: train of small has 6 frames"):
        fit(rung("adam", "smoke", train_frames=7), open_dataset(small), progress=False)


def test_a_run_says_which_data_it_is_of(small, home, monkeypatch):
    run = fit(rung("adam", "smoke", steps=2), open_dataset(small), progress=False)
    with pytest.raises(ValueError, match=r"was trained on small, which is not in .*--data FOLDER"):
        runs.data_of(run)
    assert main(["export", "onnx", str(run.folder)]) == 2, "it is not tried on simulated streets"
    shutil.copytree(small, home / "data" / "small")
    assert runs.data_of(run) == str(home / "data" / "small")
    monkeypatch.setenv("DETLIB_DATA", str(small))
    assert runs.data_of(run) == str(small)


def test_a_folder_with_more_annotations_than_pictures_is_imported(small, tmp_path, capsys):
    """As the original data set comes: `full_train` lists pictures that are not there."""
    content = json.loads((small / "train_annotations.json").read_text())
    content["images"].append({"id": 999, "file_name": "images/train/trip_Video00009_0.png", "width": 256, "height": 128})
    (small / "full_train_annotations.json").write_text(json.dumps(content))
    assert main(["import", str(small), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "boxes of each class" in said and "full_train" in said
    data = open_dataset(tmp_path / "out")
    assert len(data["full_train"]) == 7 and data["train"].has_images()
    assert main(["export", "coco", str(tmp_path / "out"), "--out", str(tmp_path / "again")]) == 0
    assert open_dataset(tmp_path / "again").channels == data.channels and "nothing is lost" in capsys.readouterr().out


def test_notebooks_by_number_and_name(monkeypatch):
    known = [Path("notebooks/00_start_here.ipynb"), Path("notebooks/09_your_data.ipynb")]
    assert [verbs._notebook(Path(name), known) for name in ("09", "9", "09_your_data", "09_your_data.ipynb")] == [known[1]] * 4
    with pytest.raises(FileNotFoundError, match="no such notebook: 11; there are 00_start_here, 09_your_data"):
        verbs._notebook(Path("11"), known)


def test_a_home_of_outputs_alone_has_the_package_s_notebooks(home):
    beside = [path.name for path in benchmark.notebooks()]
    assert beside[0] == "00_start_here.ipynb" and not home.exists()
    (home / "notebooks").mkdir(parents=True)
    (home / "notebooks/01_mine.ipynb").write_text("{}")
    assert benchmark.notebooks() == [home / "notebooks/01_mine.ipynb"]


def test_a_workbook_on_unreadable_data_says_it_once(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["workbook", "--data", str(tmp_path / "empty"), "--profile", "smoke"]) == 2
    assert "no data set here" in capsys.readouterr().err
