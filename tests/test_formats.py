"""Forms in and out: round trips exact to what a form holds, two other libraries as oracles, and every doubt an error with its way out."""
import json
from pathlib import Path
from xml.etree import ElementTree

import globox
import numpy as np
import pytest
import supervision
from conftest import coco, write_dataset
from kills import FORMS as FUZZED
from PIL import Image

from detlib import runs
from detlib.cli import main
from detlib.data.clips import clip_rule
from detlib.data.coco import DataError
from detlib.data.export import WRITERS
from detlib.data.export import write_dataset as export
from detlib.data.folder import open_dataset, read_all
from detlib.data.formats import FORMS, read_folder
from detlib.options import FORM_NAMES

HERE = Path(__file__).resolve().parents[1]
OTHER = HERE.parent / "shared" / "other_data"
FROM_ONE = [1, 1, 0, 0]  # supervision counts VOC's first pixel as 1 and takes it off, we do not: see voc.py
CORNERS = ["x1", "y1", "x2", "y2"]


@pytest.fixture
def other():
    if not OTHER.is_dir():
        pytest.skip("the other data sets are not beside the project (../shared/other_data): none of them was tested")
    return OTHER


@pytest.fixture
def folder(tmp_path):
    """Our own form: two splits, three classes of which one has a space and an umlaut, uneven coordinates, a crowd, a frame without objects."""
    rng, splits = np.random.default_rng(3), {}
    for name, count in (("train", 4), ("val", 3)):
        boxes = [(k, c, [float(v) for v in (*rng.uniform(2, [60, 40]), *rng.uniform(3, [30, 20]))]) for k in range(count - 1) for c in (1, 2, 3)]
        splits[name] = coco([(f"images/{name}/{name}_{k}.png", 97, 61) for k in range(count)], boxes, ["car", "grüner bus", "x&y"])
        splits[name]["annotations"][0] |= {"iscrowd": 1, "track": 7}
    return write_dataset(tmp_path / "own", splits)


def boxes_of(dataset, crowds=True):
    """For each picture's name: rows (class, corners), sorted."""
    found = {}
    for split in dataset.splits.values():
        for k, frame in enumerate(split.frames):
            rows = split.boxes[(split.boxes["frame"] == k) & (crowds | ~split.boxes["crowd"])]
            found[Path(frame.file_name).name.split("_", 1)[-1], split.name] = sorted(zip(rows["category"], *(rows[c] for c in CORNERS), strict=True))
    return found


def test_a_form_is_known_everywhere():
    assert set(FORM_NAMES) == set(FORMS) == set(WRITERS) == set(EXACT) == set(FUZZED)
    pages = ("README.md", "data/README.md", "notebooks/00_start_here.ipynb", "notebooks/09_your_data.ipynb")
    assert not [(page, name) for page in pages for name in FORM_NAMES.values() if name not in (HERE / page).read_text()]


# form -> how far a written coordinate may be from what it was (px; of YOLO, shares of the picture), and whether crowds come back
EXACT = {"coco": (0, True), "voc": (0, True), "yolo": (1e-6, False), "kitti": (0.0051, False)}


@pytest.mark.parametrize("form", EXACT)
def test_round_trip(folder, tmp_path, form):
    """Back as it was: coordinates to what the form writes, splits, classes (in KITTI one word), frames without objects."""
    data, (within, crowds) = open_dataset(folder), EXACT[form]
    losses = export(data, tmp_path / "out", form, read_all(folder)[1])
    again = open_dataset(tmp_path / "out", clips="names")
    assert list(again.splits) == ["train", "val"] and [len(s) for s in again.splits.values()] == [4, 3]
    names = {name: name if form != "kitti" else name.replace(" ", "_") for name in data.categories}
    before, after = boxes_of(data, crowds), boxes_of(again)
    assert sum(map(len, before.values())) == sum(map(len, after.values())) == (15 if crowds else 13)
    for (_, rows), (_, found) in zip(sorted(before.items(), key=lambda i: i[0][1] + i[0][0]), sorted(after.items(), key=lambda i: i[0][1] + i[0][0]),
                                     strict=True):
        assert [names[row[0]] for row in rows] == [row[0] for row in found]
        apart = np.abs(np.array([row[1:] for row in rows]) - np.array([row[1:] for row in found])).max(initial=0)
        assert apart <= (within * 97 if form == "yolo" else within)
    assert any("no ids" in loss for loss in losses) == (form != "coco")
    assert any("crowds" in loss for loss in losses) != crowds
    for split, source in ((s, data[s.name]) for s in again.splits.values()):
        assert (split.image(0) == source.image(0)).all()


def test_coco_keeps_ids_and_every_other_key(folder, tmp_path):
    export(open_dataset(folder), tmp_path / "out", "coco", read_all(folder)[1])
    for name in ("train", "val"):
        was, now = (json.loads((root / f"{name}_annotations.json").read_text()) for root in (folder, tmp_path / "out"))
        assert now == was | {"images": [image | {"file_name": image["file_name"]} for image in was["images"]]}


def by_picture(found):
    return {key[0]: rows for key, rows in found.items() if key[1] == "val"}


def test_voc_is_read_alike_by_other_libraries(folder, tmp_path):
    data = open_dataset(folder)
    out = tmp_path / "voc"
    export(data, out, "voc")
    mine = {f"{k}": rows for (k, split), rows in boxes_of(data).items() if split == "val"}
    theirs = supervision.DetectionDataset.from_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))
    for path, _, found in theirs:
        if Path(path).name.startswith("val_val_"):
            rows = mine[Path(path).name.removeprefix("val_val_")]
            seen = sorted((theirs.classes[k], *box) for k, box in zip(found.class_id, found.xyxy.tolist(), strict=True))
            assert [row[0] for row in seen] == [row[0] for row in rows]
            for row, truth in zip(seen, rows, strict=True):
                assert np.allclose(np.array(row[1:]) + FROM_ONE, truth[1:], atol=1e-4)
    boxes = globox.AnnotationSet.from_pascal_voc(out / "Annotations")
    assert sorted(round(b.xmin, 6) for a in boxes for b in a.boxes) == sorted(round(row[1], 6) for rows in boxes_of(data).values() for row in rows)


def test_what_other_libraries_write_is_read(folder, tmp_path):
    """supervision's YOLO and globox's COCO of the same boxes."""
    data = open_dataset(folder)
    export(data, tmp_path / "voc", "voc")
    theirs = supervision.DetectionDataset.from_pascal_voc(str(tmp_path / "voc/JPEGImages"), str(tmp_path / "voc/Annotations"))
    out = tmp_path / "yolo"
    theirs.as_yolo(images_directory_path=str(out / "images"), annotations_directory_path=str(out / "labels"), data_yaml_path=str(out / "data.yaml"))
    again = open_dataset(out, splits=["share=0.3"], clips="none")
    truth = sorted(row for rows in boxes_of(data).values() for row in rows)
    found = sorted(row for rows in boxes_of(again).values() for row in rows)
    assert [row[0] for row in found] == [row[0] for row in truth]
    apart = np.abs(np.array([row[1:] for row in found]) + FROM_ONE - np.array([row[1:] for row in truth]))
    assert apart.max() < 2e-3, apart.round(3)
    (tmp_path / "coco/annotations").mkdir(parents=True)
    boxes = globox.AnnotationSet.from_pascal_voc(tmp_path / "voc/Annotations")
    boxes.save_coco(tmp_path / "coco/annotations/instances_train2017.json", auto_ids=True)
    (tmp_path / "voc/JPEGImages").rename(tmp_path / "coco/train2017")
    third = open_dataset(tmp_path / "coco", clips="names")
    assert list(third.splits) == ["train"] and third["train"].has_images()
    found = sorted(row for rows in boxes_of(third).values() for row in rows)
    assert np.allclose([row[1:] for row in found], [row[1:] for row in truth], atol=1e-6)


def label(root, name, text, picture=True):
    (root / "labels").mkdir(parents=True, exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    (root / "labels" / f"{name}.txt").write_text(text)
    if picture:
        Image.new("RGB", (50, 40)).save(root / "images" / f"{name}.png")


def test_yolo_by_hand(tmp_path):
    """A box, a polygon, a class by data.yaml, a picture without labels; the yaml's paths are another machine's."""
    label(tmp_path, "a", "1 0.5 0.5 0.2 0.1\n0 0.1 0.1 0.3 0.2 0.2 0.4\n")
    label(tmp_path, "b", "0 0.5 0.5 0.2 0.1 0.97\n")
    Image.new("RGB", (50, 40)).save(tmp_path / "images" / "c.png")
    (tmp_path / "data.yaml").write_text("path: /home/somebody/set\ntrain: images\nval: [images]\nnames: {0: cat, 1: dog}\n")
    reading = read_folder(tmp_path)
    boxes = open_dataset(tmp_path, clips="none")["train"].boxes
    assert boxes[["category", *CORNERS]].round(6).values.tolist() == [
        ["dog", 20, 18, 30, 22], ["cat", 5, 4, 15, 16], ["cat", 20, 18, 30, 22]]
    assert reading.notes == ("1 pictures without a label file count as pictures without objects.", "1 polygons count as the boxes around them.",
                             "1 scores (a sixth column) are left out.")


def test_kitti_by_hand(tmp_path):
    for place in ("training/image_2", "training/label_2"):
        (tmp_path / place).mkdir(parents=True)
    for k in (0, 1):
        Image.new("RGB", (50, 40)).save(tmp_path / f"training/image_2/00000{k}.png")
    line = "Car 0.50 1 -1.57 10.25 12.00 20.50 18.75 1.5 1.6 3.7 -2.2 1.6 20.1 -1.6\n"
    (tmp_path / "training/label_2/000000.txt").write_text(line + "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n")
    (tmp_path / "training/label_2/000001.txt").write_text(line.replace("Car", "Van"))
    with pytest.raises(DataError, match="nothing says which are train and which val; say how: --splits share"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, splits="share=0.5", clips="none")
    assert data.categories == ("Car", "Van") and sum(len(s) for s in data.splits.values()) == 2
    assert data["train"].boxes[CORNERS].values.tolist() == [[10.25, 12, 20.5, 18.75]]
    export(data, tmp_path / "out", "kitti", read_all(tmp_path, clips="none", splits="share=0.5")[1])
    words = (tmp_path / "out/training/label_2/000000.txt").read_text().split()
    assert words[0] == "Car" and [float(w) for w in words[1:]] == [float(w) for w in line.split()[1:]]


def refuse(root, says, **options):
    with pytest.raises(DataError, match=says):
        open_dataset(root, **options)


def test_doubts_of_yolo_are_errors_with_their_way_out(tmp_path):
    label(tmp_path, "a", "1 0.5 0.5 0.2 0.1\n")
    label(tmp_path, "b", "0 0.5 0.5 0.2 0.1\n")
    refuse(tmp_path, r"numbers are 0 \(1 times\), 1 \(1 times\); name them in the order of their numbers: --classes name0 name1")
    refuse(tmp_path, r"class number 1 occurs \(1 of 2 boxes\), and only 1 is named", classes=["cat"])
    refuse(tmp_path, "nothing says which are train and which val; say how: --splits share=0.2", classes=["cat", "dog"])
    refuse(tmp_path, "a share between 0 and 1, such as share=0.2", classes=["cat", "dog"], splits="share=20")
    refuse(tmp_path, "no picture lies in a folder named train", classes=["cat", "dog"], splits="folder")
    refuse(tmp_path, "no such file; name a text file", classes=["cat", "dog"], splits=["train=x.txt", "val=y.txt"])
    (tmp_path / "list.txt").write_text("images/a.png\nq.png\n")
    refuse(tmp_path, "'q.png' is no picture of this data set", classes=["cat", "dog"], splits=[f"train={tmp_path}/list.txt"])
    assert [len(s) for s in open_dataset(tmp_path, classes=["cat", "dog"], splits="share=0.5").splits.values()] == [1, 1]
    label(tmp_path, "b", "0 0.5 0.5 0.2\n")
    refuse(tmp_path, r"b\.txt line 1: .* is not `class cx cy w h`", classes=["cat", "dog"])
    label(tmp_path, "b", "0 0.5 x 0.2 0.1\n")
    refuse(tmp_path, r"b\.txt line 1: .* are not all numbers", classes=["cat", "dog"])
    (tmp_path / "data.yaml").write_text("names: [a")
    refuse(tmp_path, "not readable as yaml")


def test_doubts_of_voc_are_errors_with_their_way_out(folder, tmp_path):
    export(open_dataset(folder), tmp_path / "v", "voc")
    first = sorted((tmp_path / "v/Annotations").glob("*.xml"))[0]
    good = first.read_text()
    for bad, says in ((good.replace("xmin>", "xmn>"), "object 1: no bndbox with the numbers"), ("<annotation><a>", "not readable as xml"),
                      ("<!DOCTYPE x [<!ENTITY a 'b'>]>" + good, "declares a document type")):
        first.write_text(bad)
        refuse(tmp_path / "v", says)
    first.unlink()
    refuse(tmp_path / "v", r"train\.txt: .* has no xml file; bring it, or take the line out")


def test_more_than_one_reading_and_none(folder, tmp_path):
    export(open_dataset(folder), tmp_path / "v", "voc")
    for xml in (tmp_path / "v/Annotations").glob("*.xml"):
        (tmp_path / "v/labels").mkdir(exist_ok=True)
        (tmp_path / "v/JPEGImages" / f"{xml.stem}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    refuse(tmp_path / "v", r"more than one reading, voc \(7 files, .*\) and yolo \(7 files, .*pick one with --form voc or --form yolo")
    assert len(open_dataset(tmp_path / "v", form="voc")["val"].boxes) == 6
    refuse(tmp_path / "v", "no kitti annotations in it; it holds voc", form="kitti")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "no data set here; it needs <split>_annotations.json")
    refuse(tmp_path / "absent", "no such folder")
    for name in ("one.json", "two.json"):
        (tmp_path / "empty" / name).write_text(json.dumps(coco([("a.png", 9, 9)], [])))
    refuse(tmp_path / "empty", "several COCO files, and one.json names no split")


def test_frames_of_a_film_are_not_torn_apart(tmp_path):
    """Neighbours in a film look alike, numbered noise does not: by the pictures, without a word of their names."""
    rng = np.random.default_rng(0)
    for film in range(8):
        scene = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        for k in range(4):
            label(tmp_path / "film", f"f{film}_{k}", "0 0.5 0.5 0.2 0.1\n", picture=False)
            Image.fromarray(np.roll(scene, k // 2, 1)).resize((96, 96)).save(tmp_path / f"film/images/f{film}_{k}.png")
            label(tmp_path / "noise", f"n_{4 * film + k}", "0 0.5 0.5 0.2 0.1\n", picture=False)
            Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(tmp_path / f"noise/images/n_{4 * film + k}.png")
    refuse(tmp_path / "film", "frames of 8 clips.*take whole clips, --splits clips=0.2", classes=["a"], splits="share=0.25")
    data = open_dataset(tmp_path / "film", classes=["a"], splits="clips=0.25")
    assert [len(s.clips) for s in data.splits.values()] == [6, 2] and not set(data["train"].clips) & set(data["val"].clips)
    assert open_dataset(tmp_path / "film", classes=["a"], splits="clips=0.25", seed=1)["val"].clips != data["val"].clips
    for film in range(8):  # the same film once more, a folder each
        for part, ending in (("images", "png"), ("labels", "txt")):
            (at := tmp_path / "folders" / part / f"f{film}").mkdir(parents=True)
            for k in range(4):
                (tmp_path / "film" / part / f"f{film}_{k}.{ending}").rename(at / f"{k}.{ending}")
    refuse(tmp_path / "folders", "frames of 8 clips.*take whole clips, --splits clips=0.2", classes=["a"], splits="share=0.25")
    data = open_dataset(tmp_path / "folders", classes=["a"], splits="clips=0.25")
    assert [(len(s), len(s.clips)) for s in data.splits.values()] == [(24, 6), (8, 2)]
    noise = open_dataset(tmp_path / "noise", classes=["a"], splits="share=0.25")
    assert [len(s.clips) for s in noise.splits.values()] == [24, 8]
    refuse(tmp_path / "noise", "these are frames of 1 clips", classes=["a"], splits="share=0.25", clips="names")


def test_import_writes_what_opens_again(folder, tmp_path, capsys):
    """From VOC with a faulty box, by the command: refused, then clipped, then the workbook's own form that leaves nothing open."""
    export(open_dataset(folder), tmp_path / "v", "voc")
    first = tmp_path / "v/Annotations/train_train_0.xml"
    tree = ElementTree.fromstring(first.read_text())
    tree.find("object/bndbox/xmax").text = "140"
    first.write_text(ElementTree.tostring(tree, encoding="unicode"))
    assert main(["import", str(tmp_path / "v"), "--clips", "names"]) == 2
    assert "Annotations/train_train_0.xml object 1 (image 'JPEGImages/train_train_0.png'): box reaches 43.0 px outside" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "v"), "--clips", "names", "--invalid", "clip", "--name", "my <set>"]) == 0
    out = runs.home() / "data" / "my_set"
    data = open_dataset(out)
    assert data.name == "my_set" and data["train"].clips == ["train_train"]
    assert data["train"].boxes["x2"].max() <= 97 and len(data["train"].boxes) == 9
    again = ["import", str(tmp_path / "v"), "--clips", "names", "--invalid", "clip", "--name", "my <set>"]
    assert main(again) == 0, "it was written before"
    (out / "note.txt").write_text("mine")
    assert main(again) == 2 and "it is not empty" in capsys.readouterr().err and (out / "note.txt").exists()


def test_names_that_lead_out_of_the_folder(tmp_path):
    content = coco([("../secret.png", 9, 9)], [])
    (tmp_path / "d").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (tmp_path / "d/train_annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="lies outside the folder"):
        export(open_dataset(tmp_path / "d"), tmp_path / "out", "voc")


def test_blood_cells(other, tmp_path):
    """Counts by an independent look at the xml; one box has no width; numbered photographs, not a film."""
    root = other / "blood_cells_voc"
    refuse(root, r"BloodImage_00343\.xml object 4 .*box width is 0")
    data = open_dataset(root, invalid="drop")
    names = [thing.findtext("name") for file in (root / "BCCD/Annotations").glob("*.xml") for thing in ElementTree.parse(file).iter("object")]
    mine = sum((split.boxes["category"].astype(str).value_counts() for split in data.splits.values()), start=0)
    dropped = sum(split.invalid.get("dropped", 0) for split in data.splits.values())
    assert {len(s) for s in data.splits.values()} == {205, 87, 72} and mine.sum() + dropped == len(names)
    assert set(data.categories) == {"RBC", "WBC", "Platelets"} and mine["WBC"] == names.count("WBC")
    assert len(data["train"].clips) == 205 and clip_rule(sorted((root / "BCCD/JPEGImages").glob("*.jpg")))[0] == "none"


def test_persons_and_vehicles(other):
    root = other / "person_vehicle_yolo"
    refuse(root, r"--classes name0 name1")
    refuse(root, "nothing says which are train", classes=["person", "vehicle"])
    data = open_dataset(root, classes=["person", "vehicle"], splits="share=0.2")
    assert [len(s) for s in data.splits.values()] == [24, 6] and sum(len(s.boxes) for s in data.splits.values()) == 46


def test_the_real_frames_are_a_film(real):
    assert clip_rule(sorted((real / "images").rglob("*.png")))[0] == "names"
