"""What is written: other libraries read the same boxes from it, nothing is lost in silence, and nothing is half written."""
import json
import shutil
from pathlib import Path

import globox
import numpy as np
import pytest
import supervision
import yaml
from conftest import coco, write_dataset

from detlib import runs
from detlib.data.coco import DataError
from detlib.data.export import WRITERS
from detlib.data.export import write_dataset as export
from detlib.data.folder import open_dataset, read_all

BOXES = [(0, 1, [1.25, 2.5, 30.125, 20.75]), (0, 2, [40.0, 10.0, 8.5, 33.3]), (2, 2, [5.1, 6.2, 7.3, 8.4])]  # frame 1 has none


def own(root, *splits, folder="images/"):
    """Three frames of 97 x 61 px a split; classes of which one has a space and an umlaut."""
    return write_dataset(root, {name: coco([(f"{folder}{name}_{k}.png", 97, 61) for k in range(3)], BOXES, ["car", "grüner bus"])
                                for name in splits})


def truth(split):
    """Class and corners of each box, by the picture's name."""
    return {Path(frame.file_name).name: sorted(zip(rows["category"].astype(str), rows["x1"], rows["y1"], rows["x2"], rows["y2"], strict=True))
            for k, frame in enumerate(split.frames) for rows in [split.boxes[split.boxes["frame"] == k]]}


def assert_same(found, expected, within):
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert [row[0] for row in sorted(found[name])] == [row[0] for row in rows], name
        assert np.allclose([row[1:] for row in sorted(found[name])], [row[1:] for row in rows], rtol=0, atol=within), name


def of_supervision(dataset):
    return {Path(path).name: [(dataset.classes[k], *box) for k, box in zip(found.class_id, found.xyxy.tolist(), strict=True)]
            for path, _, found in dataset}


def of_globox(annotations, words=lambda label: label):
    return {Path(a.image_id).name: [(words(b.label), b.xmin, b.ymin, b.xmax, b.ymax) for b in a.boxes] for a in annotations}


def test_other_libraries_read_our_yolo(tmp_path):
    data = open_dataset(own(tmp_path / "own", "train", "val"))
    export(data, tmp_path / "out", "yolo")
    places = [str(tmp_path / "out" / kind / "val") for kind in ("images", "labels")]
    assert_same(of_supervision(supervision.DetectionDataset.from_yolo(*places, str(tmp_path / "out/data.yaml"))), truth(data["val"]), 1e-4)
    theirs = globox.AnnotationSet.from_yolo_v5(places[1], image_folder=places[0], image_extension=".png")
    assert_same(of_globox(theirs, lambda label: data.categories[int(label)]), truth(data["val"]), 1e-6)


def test_other_libraries_read_our_coco(tmp_path):
    data = open_dataset(own(tmp_path / "own", "train", "val"))
    export(data, tmp_path / "out", "coco")
    file = tmp_path / "out/val_annotations.json"
    theirs = supervision.DetectionDataset.from_coco(str(tmp_path / "out"), str(file))
    assert_same(of_supervision(theirs), truth(data["val"]), 1e-4)
    assert_same(of_globox(globox.AnnotationSet.from_coco(file)), truth(data["val"]), 1e-9)


def test_their_coco_and_voc_are_read(tmp_path):
    """supervision's COCO and globox's VOC of the same boxes, their pictures elsewhere than ours."""
    data = open_dataset(own(tmp_path / "own", "train", folder=""))
    out = tmp_path / "coco"
    mine = supervision.DetectionDataset.from_coco(str(tmp_path / "own"), str(tmp_path / "own/train_annotations.json"))
    mine.as_coco(images_directory_path=str(out / "train"), annotations_path=str(out / "train/_annotations.coco.json"))
    assert_same(truth(open_dataset(out, clips="none")["train"]), truth(data["train"]), 1e-4)
    (tmp_path / "voc/train").mkdir(parents=True)
    globox.AnnotationSet.from_coco(tmp_path / "own/train_annotations.json").save_pascal_voc(tmp_path / "voc/train")
    for frame in data["train"].frames:
        shutil.copy(data.root / frame.file_name, tmp_path / "voc/train")
    assert_same(truth(open_dataset(tmp_path / "voc", clips="none")["train"]), truth(data["train"]), 1e-9)


def test_yolo_yaml_means_its_own_place(tmp_path):
    """A `path` of "." would mean the folder that a trainer was started in."""
    export(open_dataset(own(tmp_path / "own", "train", "val")), tmp_path / "out", "yolo")
    about = yaml.safe_load((tmp_path / "out/data.yaml").read_text(encoding="utf-8"))
    assert about == {"train": "images/train", "val": "images/val", "names": {0: "car", 1: "grüner bus"}}


@pytest.mark.parametrize(("form", "lost"), [("coco", None), ("voc", "VOC has no split called more"), ("yolo", "YOLO has no split called more"),
                                            ("kitti", "KITTI has no split called more or test")])
def test_a_split_that_is_not_read_back_is_said(tmp_path, form, lost):
    losses = export(open_dataset(own(tmp_path / "own", "train", "val", "test", "more")), tmp_path / "out", form)
    back = list(open_dataset(tmp_path / "out", clips="none").splits)
    assert [loss.partition(":")[0] for loss in losses if "split" in loss] == ([lost] if lost else [])
    assert set(back) == {"train", "val", "test", "more"} - set(lost.partition(" called ")[2].split(" or ") if lost else ())


@pytest.mark.parametrize(("form", "fails"), [("coco", False), ("voc", False), ("yolo", True), ("kitti", False)])
def test_pictures_that_would_fall_together(tmp_path, form, fails):
    """images/train/a.png and images/a.png are one place in YOLO's folder of train, and two in the others."""
    root = write_dataset(tmp_path / "own", {"train": coco([("images/train/a.png", 50, 40), ("images/a.png", 50, 40)], [(1, 1, [1, 2, 3, 4])])})
    if fails:
        with pytest.raises(DataError, match="two pictures would be called train/a; rename one"):
            export(open_dataset(root), tmp_path / "out", form)
    else:
        export(open_dataset(root), tmp_path / "out", form)
        assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_a_suffix_tells_pictures_apart_in_coco_alone(tmp_path):
    root = write_dataset(tmp_path / "own", {"train": coco([("images/a.png", 50, 40), ("images/a.bmp", 50, 40)], [])})
    export(open_dataset(root), tmp_path / "out", "coco")
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["a.bmp", "a.png"]
    with pytest.raises(DataError, match="two pictures would be called a; rename one"):
        export(open_dataset(root), tmp_path / "voc", "voc")


@pytest.mark.parametrize("form", WRITERS)
def test_nothing_is_half_written(tmp_path, form):
    """A picture that is not there is found before the first is copied, so that the second try finds an empty place."""
    root = own(tmp_path / "own", "train")
    (root / "images/train_2.png").unlink()
    with pytest.raises(DataError, match=r"train_2\.png: this picture is listed and not there"):
        export(open_dataset(root), tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


def test_a_folder_appears_with_all_that_belongs_to_it(tmp_path, monkeypatch):
    """Killed at the last file, nothing is there; killed after it, the same call finds that all is done."""
    root = own(tmp_path / "own", "train")
    with monkeypatch.context() as patch:
        patch.setattr("detlib.data.export.write_json", lambda *about: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            runs.export_data(root, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    said = runs.export_data(root, "coco", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert (tmp_path / "out" / "dataset.json").is_file() and runs.export_data(root, "coco", tmp_path / "out") == said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    next((tmp_path / "out").glob("*_annotations.json")).write_text("{}")
    with pytest.raises(DataError, match="it is not empty"):
        runs.export_data(root, "coco", tmp_path / "out")


def test_where_nothing_can_be_written(tmp_path):
    data = open_dataset(own(tmp_path / "own", "train"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="it is not empty; name a new folder"):
        export(data, tmp_path / "file", "voc")
    with pytest.raises(DataError, match="no form 'tfrecord': known are coco, voc, yolo, "):
        export(data, tmp_path / "out", "tfrecord")


@pytest.mark.parametrize("name", ["7", "DontCare"])
def test_classes_that_kitti_cannot_name(tmp_path, name):
    root = write_dataset(tmp_path / "own", {"train": coco([("images/a.png", 50, 40)], [(0, 1, [1, 2, 3, 4])], [name])})
    with pytest.raises(DataError, match=f"a class cannot be called {name} in KITTI's form"):
        export(open_dataset(root), tmp_path / "out", "kitti")


def test_kitti_keeps_a_score(tmp_path):
    line = "Car 0.50 1 -1.57 10.25 12.00 20.50 18.75 1.5 1.6 3.7 -2.2 1.6 20.1 -1.6 0.125"
    root = write_dataset(tmp_path / "own", {"train": coco([("training/image_2/a.png", 50, 40)], [])})
    (root / "training/label_2").mkdir()
    (root / "train_annotations.json").unlink()
    (root / "training/label_2/a.txt").write_text(line)
    (root / "ImageSets").mkdir()
    (root / "ImageSets/train.txt").write_text("a\n")
    export(open_dataset(root), tmp_path / "out", "kitti", read_all(root)[1])
    words = (tmp_path / "out/training/label_2/a.txt").read_text().split()
    assert [float(word) for word in words[1:]] == [float(word) for word in line.split()[1:]]


def test_pictures_are_copied_byte_by_byte(tmp_path):
    data = open_dataset(own(tmp_path / "own", "train"))
    export(data, tmp_path / "out", "voc")
    for frame in data["train"].frames:
        copy = tmp_path / "out/JPEGImages" / Path(frame.file_name).name
        assert copy.read_bytes() == (data.root / frame.file_name).read_bytes() and copy.stat().st_nlink == 1
    assert json.loads((tmp_path / "own/train_annotations.json").read_text())["images"][0]["file_name"] == "images/train_0.png"
