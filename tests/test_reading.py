"""What the fuzzer once broke the readers with: each is a sentence now that names the file and the way out."""
import json
import os

import pytest
from conftest import coco
from kills import FORMS, tiny

from detlib.data import reading
from detlib.data.checks import check
from detlib.data.coco import LONGEST_MESSAGE, DataError
from detlib.data.export import write_dataset
from detlib.data.folder import open_dataset, read_all


@pytest.fixture
def forms(tmp_path):
    """The same small data set in each form."""
    data = open_dataset(tiny(tmp_path / "tiny"))
    for form in FORMS:
        write_dataset(data, tmp_path / form, form)
    return tmp_path


def refused(root, says):
    for read in (open_dataset, check):
        with pytest.raises(DataError, match=says):
            read(root)


LABELS = {"voc": "Annotations/train_trip_0.xml", "yolo": "labels/train/trip_0.txt", "kitti": "training/label_2/train_trip_0.txt"}


@pytest.mark.parametrize("form, make", [(form, make) for form in LABELS for make in (os.mkdir, os.mkfifo, lambda p: os.symlink("/dev/zero", p),
                                                                                     lambda p: os.symlink("nowhere", p))])
def test_what_is_no_plain_file_is_no_label_and_is_never_waited_for(forms, form, make):
    path = forms / form / LABELS[form]
    path.unlink()
    make(path)
    if form == "yolo":  # where a picture without a label file has no objects
        assert len(open_dataset(forms / form)["train"].boxes) == 3
    else:
        refused(forms / form, r"train\.txt: .*train_trip_0.* has no (xml file|labels)")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda p: os.symlink("/dev/zero", p)])
@pytest.mark.parametrize("name", ["train_annotations.json", "dataset.json"])
def test_nor_is_it_a_table(forms, name, make):
    path = forms / "coco" / name
    path.unlink(missing_ok=True)
    make(path)
    refused(forms / "coco", rf"{name}: no plain file; put the file there, or take")


BOMB = "\n".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9) if k else 'x'}]" for k in range(12)) + "\nnames: *a11"  # 9**11 names


@pytest.mark.parametrize("content, says", [
    ("[" * 100_000, r"data\.yaml: not readable as yaml \(nested more than 20 deep\)"), ("names: " + "- " * 50_000, "not readable as yaml"),
    ("x" * 3_000_000, r"3,000,000 bytes, and no list of classes is so long"), (BOMB, "names must be a list of classes"),
    ("names: !!python/object/apply:os.system [true]", "not readable as yaml"), ("names: 7", "names must be a list"),
    ("names: {0: [a]}", "names must be a list"), ("[1, 2", "not readable as yaml"), ("\x00", "not readable as yaml")])
def test_yaml(forms, content, says):
    (forms / "yolo/data.yaml").write_text(content)
    refused(forms / "yolo", says)


@pytest.mark.parametrize("number", ["100000000000", "9" * 5000, "100000"])
def test_class_numbers_that_no_list_has(forms, number):
    """The list of names to give once became as long as the number."""
    (forms / "yolo/data.yaml").unlink()
    (forms / "yolo/labels/train/trip_0.txt").write_text(f"{number} 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"is not `class cx cy w h`; correct the line"):
        open_dataset(forms / "yolo", splits="share=0.5", clips="none")


@pytest.mark.parametrize("key, value", [("panorama", 3), ("clip_names", "no"), ("name", {}), ("channels", "abc"), ("channels", ["a", "b"]),
                                        ("size_limits", [32, 16]), ("size_limits", ["a", "b"]), ("size_limits", [1, float("nan")])])
def test_about(forms, key, value):
    (forms / "coco/dataset.json").write_text(json.dumps({key: value}))
    refused(forms / "coco", rf"dataset\.json: {key} is .*, and must be .*; correct it")


def test_about_nested(forms):
    (forms / "coco/dataset.json").write_text('{"a":' * 100_000)
    refused(forms / "coco", r"dataset\.json: not readable as json")


def entry(part, **changes):
    content = coco([("images/train/trip_0.png", 128, 128)], [(0, 1, [20, 40, 32, 24])])
    content[part][0] |= changes
    return content


@pytest.mark.parametrize("content, says", [
    (entry("images", file_name={}), "images.0. has the file_name dict; write a text"), (entry("images", file_name="a" * 5000), "of 5,000 characters"),
    (entry("images", file_name="."), "which names no file"), (entry("images", file_name="/"), "which names no file"),
    (entry("images", file_name="a\x1b[2J.png"), "which cannot be printed; rename it"), (entry("images", id=[1]), "images.0. has the id list; write"),
    (entry("images", width=10**30), "has width 10+"), (entry("images", width="9"), "has width '9'"), (entry("images", id=float("inf")), "the id inf"),
    (entry("categories", name="\ud800"), "which cannot be printed"), (entry("categories", name=7), "has the name 7; write a text"),
    (entry("categories", id={}), "has the id dict"), (entry("annotations", id=10**400), "has the id 10+"), ([], "no list 'images'"),
    (entry("annotations", bbox=[1, 2, 3, 10**400]), "is not four numbers"), (entry("annotations", bbox=["a" * 10_000] * 4), "is not four numbers")])
def test_entries(tmp_path, content, says):
    (tmp_path / "train_annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=says) as error:
        open_dataset(tmp_path)
    assert len(str(error.value)) < LONGEST_MESSAGE + 20


def test_numbers_that_json_has_not_are_left_out_of_an_export(forms, tmp_path):
    path = forms / "coco/train_annotations.json"
    content = json.loads(path.read_text())
    one = content["annotations"][0]
    one |= {"area": float("inf"), "score": float("nan"), "distance": "far", "bbox": [str(v) for v in one["bbox"]]}
    path.write_text(json.dumps(content))
    about, sources = read_all(forms / "coco")
    data = open_dataset(forms / "coco")
    write_dataset(data, tmp_path / "out", "coco", sources, about)
    first = json.loads((tmp_path / "out/train_annotations.json").read_text(), parse_constant=lambda _: pytest.fail("not json"))["annotations"][0]
    assert first["score"] is None and first["area"] == 32 * 24


def test_long_lists_of_names_make_short_messages(forms):
    (forms / "voc/ImageSets/Main/train.txt").write_text("a" * 1_000_000)
    with pytest.raises(DataError, match=r"\[\.\.\.\].*bring it, or take the line out") as error:
        open_dataset(forms / "voc")
    assert len(str(error.value)) < LONGEST_MESSAGE + 20


def test_names_with_umlauts_spaces_and_signs_stay(tmp_path):
    for name in ("Straße 7", "車", "emoji 🚗", "a<b>&'\"", "no\u00a0break"):
        reading.check_name(name, "name", "here")
