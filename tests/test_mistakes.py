"""The mistakes that users make most, over every verb and public entry point: the message names the thing and the way out, without a traceback."""
import json
import re
import shutil

import pytest
from conftest import coco, write_dataset
from PIL import Image
from trained import make_run

from detlib.cli import main
from detlib.data.folder import open_dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of things to be mistaken about: data sets, runs, files."""
    root = tmp_path_factory.mktemp("mistakes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETLIB_HOME", str(root / "home"))
        images = {split: [(f"images/{split}/a_{k}.png", 256, 128) for k in range(2)] for split in ("train", "val")}
        boxes = [(0, 1, [20, 40, 32, 24]), (1, 2, [90, 40, 32, 24])]
        data = write_dataset(root / "data", {split: coco(images[split], boxes) for split in images})
        write_dataset(root / "others", {split: coco(images[split], boxes, ("ship", "whale")) for split in images})
        write_dataset(root / "no_boxes", {split: coco(images[split], []) for split in images})
        write_dataset(root / "one", {"train": coco(images["train"][:1], boxes[:1])})
        run = make_run(open_dataset(data)).folder
    for name in ("unfinished", "cut", "broken_config", "other_anchors", "no_weights", "pickled"):
        shutil.copytree(run, root / name)
    (root / "unfinished" / "metrics.json").unlink()
    (root / "cut" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:5000])
    (root / "broken_config" / "config.json").write_text("{")
    config = json.loads((run / "config.json").read_text())
    (root / "other_anchors" / "config.json").write_text(json.dumps(config | {"anchors": [level[:1] for level in config["anchors"]]}))
    (root / "no_weights" / "model.safetensors").unlink()
    (root / "pickled" / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    shutil.copytree(run, root / "run")
    (root / "empty").mkdir()
    (root / "file.txt").write_text("hello")
    (root / "other.json").write_text('{"a": 1}')
    Image.new("RGB", (64, 64)).save(root / "picture.png")
    (root / "cut.png").write_bytes((root / "picture.png").read_bytes()[:60])
    return root


# what is typed, and what the message must say: the thing, and the way out
TYPED = [
    ("simulate --profile huge", "no profile 'huge': there are smoke, laptop, report"),
    ("simulate --profile smoke --splits tarin", "unknown tarin; splits are train, val"),
    ("simulate --profile smoke --frames 0", "1 frame or more"),
    ("simulate --profile smoke --out file.txt", "file.txt: a file, not a folder; name another"),
    ("simulate --profile smoke --out data", "give another folder"),
    ("explore --data nowhere", "nowhere: no such folder; name"),
    ("explore --data file.txt", "file.txt: no such folder; name"),
    ("explore --data empty", "empty: no data set here; it needs"),
    ("explore --data data --profile huge", "there are smoke"),
    ("train fnp --data data --profile smoke", "no rung 'fnp': the ladder has baseline"),
    ("train adam --data data --profile huge", "there are smoke"),
    ("train adam --data nowhere --profile smoke", "nowhere: no such folder; name"),
    ("train adam --data file.txt --profile smoke", "file.txt: no such folder; name"),
    ("train adam --data empty --profile smoke", "no data set here"),
    ("train adam --data one --profile smoke", "no val in this data.*has train; split it anew: detlib import"),
    ("train adam --data data --profile smoke --set prior=x", "prior is a number"),
    ("train adam --data data --profile smoke --set head_depth=None", "head_depth is a number"),
    ("train adam --data data --profile smoke --set momentum=1", "has no momentum: it has"),
    ("train adam --data data --profile smoke --set lr=0", "lr=0.0: a learning rate above 0"),
    ("train adam --data data --profile smoke --set anchors=nosuch", "no anchor set 'nosuch': there are baseline"),
    ("train adam --data data --profile smoke --set optimizer=adam", "known are 'sgd', 'adamw'"),
    ("train adam --data data --profile smoke --set augment=flip_roll", 'take "flip"'),
    ("train adam --data data --profile smoke --init nowhere", "nowhere: no finished run to start from.*name a run"),
    ("train adam --data data --profile smoke --init unfinished", "unfinished: no finished run to start from"),
    ("train adam --data data --profile smoke --seeds 0", "name a whole number from 1 on"),
    ("train adam --data data --profile smoke --seed -1", "seed=-1: it does not go below 0"),
    ("figure nosuch --data data", "there is no 'nosuch'"),
    ("figure los --data data", "did you mean losses"),
    ("figure losses --data data --profile smoke", "has no finished run on data.*detlib train"),
    ("figure losses --data data --profile smoke --rungs fnp", "no rung 'fnp': the ladder has"),
    ("figure losses --data data --profile smoke --seeds two", "'two' seeds: name a whole number"),
    ("figure frame --data data --frame 999", "no frame 999: train has frames 0 to 1"),
    ("figure frame --data data --split tarin", "no tarin in this data.*has train, val"),
    ("figure frame --data data --out x.jpg", "name a file that ends in .png"),
    ("table nosuch --data data", "there is no 'nosuch'"),
    ("table metrics --data data --profile smoke", "has no finished run on data.*detlib train"),
    ("table summary --data nowhere", "nowhere: no such folder"),
    ("cost --profile huge", "there are smoke"),
    ("anchors coverage nowhere.json", "nowhere.json: no such file; "),
    ("anchors coverage data", "data: no such file; name a COCO json"),
    ("anchors coverage file.txt", "file.txt: not readable as json"),
    ("anchors coverage other.json", "other.json: no list 'images'"),
    ("anchors coverage data/val_annotations.json --anchors nosuch.json", "nosuch.json: no such file"),
    ("anchors coverage data/val_annotations.json --anchors file.txt", "file.txt: not readable as json"),
    ("anchors coverage data/val_annotations.json --anchors fitted", "needs --fit-on TRAIN.json"),
    ("anchors fit no_boxes/val_annotations.json", "no boxes to fit anchors to"),
    ("anchors fit data/val_annotations.json --budget 1", "budget"),
    ("anchors fit data/val_annotations.json --objective iou", "objective='iou': known are"),
    ("evaluate nowhere", "nowhere: no finished run"),
    ("evaluate file.txt", "file.txt: no finished run"),
    ("evaluate unfinished", "unfinished: the run in it is not finished"),
    ("workbook --data nowhere", "no such folder; name a data set's folder"),
    ("workbook --data file.txt", "no such folder; name a data set's folder"),
    ("workbook --profile huge", "there are smoke"),
    ("workbook --seeds x", "'x' seeds"),
    ("workbook nowhere.ipynb", "no such notebook: nowhere.ipynb"),
    ("report nowhere.ipynb", "nowhere.ipynb"),
    ("report file.txt", "file.txt.*notebook"),
    ("report data", "data.*notebook"),
    ("predict nowhere picture.png", "nowhere: no finished run there.*train with"),
    ("predict unfinished picture.png", "unfinished: the run in it is not finished"),
    ("predict run", "name a picture, a folder of pictures or a video file"),
    ("predict run nowhere.png", "nowhere.png: no such file"),
    ("predict run empty", "empty: no pictures in this folder"),
    ("predict run data", "add --split NAME"),
    ("predict run file.txt", "file.txt.*picture|file.txt.*video"),
    ("predict run cut.png", "cut.png: not readable as a picture"),
    ("predict run data --split tset", "no tset in this data.*has train, val"),
    ("predict run others --split val", "was trained on the classes car, person.*ship, whale"),
    ("predict cut picture.png", "cut/model.safetensors: .*train it again"),
    ("predict no_weights picture.png", "no_weights/model.safetensors: .*train it again"),
    ("predict pickled picture.png", "pickled/model.safetensors: .*train it again"),
    ("predict broken_config picture.png", "broken_config/config.json: .*train it again"),
    ("predict other_anchors picture.png", "other_anchors: .*anchors.*train it"),
    ("video nowhere", "nowhere: no finished run"),
    ("video run --of nowhere.mp4", "nowhere.mp4: no such file"),
    ("video run --of file.txt", "file.txt: not readable as a picture or a video"),
    ("video run --data data --clip nosuch", "no clip 'nosuch' in val: it has a"),
    ("video run --data data --out x.avi", "name a file that ends so"),
    ("video run --of picture.png --data data", "give one or the other"),
    ("export onnx nowhere", "nowhere: no finished run"),
    ("export coco run --data data --split tset", "no tset in this data"),
    ("export coco run --data others", "was trained on the classes"),
    ("export voc nowhere", "nowhere: no such folder"),
    ("export voc file.txt", "file.txt: no such folder; name"),
    ("export voc empty", "no data set here"),
    ("export voc data --out others", "it is not empty; name a new folder with --out"),
    ("check nowhere", "nowhere: no such folder; name"),
    ("check file.txt", "file.txt.*name a data set's folder"),
    ("check empty", "no data set here"),
    ("check data --form voc", "no voc annotations in it; it holds coco"),
    ("import nowhere", "nowhere: no such folder"),
    ("import empty", "no data set here"),
    ("import data --out others", "it is not empty"),
    ("import data --splits share=2", "a share between 0 and 1"),
    ("import data --splits tarin", "--splits tarin: not one of"),
    ("import data --splits train=nowhere.txt val=nowhere.txt", "nowhere.txt: no such file; name a text file"),
    ("rerun nowhere", "nowhere: no finished run"),
    ("rerun run", "say where it lies, --data FOLDER"),
    ("rerun run --data others", "it cannot be repeated here: categories"),
    # what argparse finds
    ("tarin adam", "invalid choice: 'tarin'"),
    ("train", "required: rung"),
    ("export pascal data", "invalid choice: 'pascal'"),
    ("train adam --seed x", "invalid int value: 'x'"),
]


@pytest.mark.parametrize("typed, says", TYPED, ids=[typed for typed, _ in TYPED])
def test_a_mistake_is_answered_in_one_sentence(place, monkeypatch, capsys, typed, says):
    monkeypatch.chdir(place)
    try:
        code = main(typed.split())
    except SystemExit as stopped:  # argparse
        code = stopped.code
    said = capsys.readouterr().err
    assert code == 2 and re.search(says, said), said
    assert "Traceback" not in said and len(said.strip().splitlines()[-1]) < 1500, said


def calls(root):
    """Public functions with a mistake each, and what their errors must say."""
    import torch

    from detlib import runs
    from detlib.anchors import BASELINE
    from detlib.coverage import coverage
    from detlib.data.checks import check
    from detlib.experiments import Experiment, rung
    from detlib.files import write_json
    from detlib.fitting import fit, from_json
    from detlib.predict import finished_run, load_trained, predict_images, read_picture, run_detections
    from detlib.train import fit as train
    from detlib.train import load_model
    data, others, one, empty = (open_dataset(root / name) for name in ("data", "others", "one", "no_boxes"))
    run, boxes = finished_run(root / "run"), torch.tensor([[0.0, 0, 10, 10]])
    return {
        "open_dataset, absent": (lambda: open_dataset(root / "nowhere"), "nowhere: no such folder; name"),
        "open_dataset, a file": (lambda: open_dataset(root / "file.txt"), "file.txt: no such folder; name"),
        "open_dataset, empty": (lambda: open_dataset(root / "empty"), "no data set here; it needs"),
        "open_dataset, invalid": (lambda: open_dataset(root / "data", invalid="skip"), "invalid='skip': use 'raise', 'drop' or 'clip'"),
        "open_data, absent": (lambda: runs.open_data(root / "nowhere"), "nowhere: no such folder; name"),
        "open_data, profile": (lambda: runs.open_data("simulated", "huge"), "there are smoke, laptop, report"),
        "a split": (lambda: data["vall"], "no vall in this data.*has train, val"),
        "check": (lambda: check(root / "nowhere"), "nowhere: no such folder"),
        "a rung": (lambda: rung("fnp"), "no rung 'fnp': the ladder has"),
        "a field": (lambda: Experiment(neck="fnp"), "neck='fnp': known are"),
        "train, one picture": (lambda: train(rung("adam", "smoke"), one), "no val in this data"),
        "train, no such split": (lambda: train(rung("extended", "smoke"), data), "no train_extended in this data"),
        "train, anchors": (lambda: train(rung("adam", "smoke", anchors="nosuch"), data), "no anchor set 'nosuch': there are"),
        "train, fitted to nothing": (lambda: train(rung("adam", "smoke", anchors="fitted"), empty), "no boxes to fit anchors to"),
        "finished_run": (lambda: finished_run(root / "unfinished"), "the run in it is not finished"),
        "load_trained, another network": (lambda: load_trained(root / "other_anchors"), "does not fit the anchors and classes"),
        "load_model, other classes": (lambda: load_model(run, others), "was trained on the classes car, person"),
        "run_detections, other classes": (lambda: run_detections(run, others), "was trained on the classes car, person"),
        "predict_images": (lambda: predict_images(load_trained(run), [root / "nowhere.png"]), "nowhere.png: no such picture"),
        "read_picture": (lambda: read_picture(root / "file.txt"), "file.txt: not readable as a picture"),
        "fit, no boxes": (lambda: fit(boxes[:0], (128, 256), budget=9000), "no boxes to fit anchors to"),
        "fit, objective": (lambda: fit(boxes, (128, 256), budget=9000, objective="iou"), "objective='iou': known are"),
        "fit, budget": (lambda: fit(boxes, (128, 256), budget=3), "a budget of 3 anchors is too small"),
        "from_json": (lambda: from_json(root / "other.json"), "not an anchor set, it lacks name, shapes, strides"),
        "coverage": (lambda: coverage(BASELINE, boxes[:, :3], (128, 256)), r"boxes of shape \(1, 3\): give \(M, 4\)"),
        "write_json, NaN": (lambda: write_json(root / "x.json", float("nan")), "not JSON compliant"),
    }


def test_functions_answer_alike(place):
    for name, (call, says) in calls(place).items():
        try:
            call()
        except (ValueError, OSError) as error:
            assert re.search(says, str(error)), f"{name}: {error}"
        else:
            raise AssertionError(f"{name}: nothing was said")


def test_settings_of_the_shell(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for name, value, says in (("DETLIB_PRECISION", "float16", "known are float32, bfloat16"), ("DETLIB_PROFILE", "huge", "there are smoke"),
                              ("DETLIB_SEEDS", "x", "'x' seeds"), ("DETLIB_DATA", "nowhere", "nowhere: no such folder")):
        with monkeypatch.context() as patch:
            patch.setenv("DETLIB_DATA", "data")
            patch.setenv("DETLIB_PROFILE", "smoke")
            patch.setenv(name, value)
            assert main(["train", "adam"]) == 2 and re.search(says, capsys.readouterr().err), name


def test_a_training_without_a_gpu_in_the_report_s_profile_says_what_it_takes(place, capsys):
    """Nothing fails without a GPU: `cost` counts, and no verb asks for one."""
    assert main(["cost", "--profile", "report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"]["trainable"] > 0
