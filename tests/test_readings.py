"""What a reader must not guess: two readings, faulty lists and pictures of one name are errors or notes, and never other boxes or other splits."""
import json

import pytest
from conftest import coco
from PIL import Image

from detlib.data.coco import DataError
from detlib.data.formats import read_folder

BOX = "0 0.5 0.5 0.2 0.1\n"  # of 50 x 40 px: [20, 18, 10, 4]
KITTI = "Car 0.50 1 -1.57 10.25 12.00 20.50 18.75 1.5 1.6 3.7 -2.2 1.6 20.1 -1.6"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40)).save(path)


def yolo(root, names=("a", "b"), labels=BOX, about=None):
    for name in names:
        picture(root / "images" / f"{name}.png")
        write(root / "labels" / f"{name}.txt", labels)
    if about is not None:
        write(root / "data.yaml", about)
    return root


def xml(filename, name="<name>car</name>"):
    return (f"<annotation><filename>{filename}</filename><object>{name}<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>12</ymax></bndbox>"
            "</object></annotation>")


def voc(root, names=("a", "b")):
    for name in names:
        picture(root / "JPEGImages" / f"{name}.png")
        write(root / "Annotations" / f"{name}.xml", xml(f"{name}.png"))
    return root


def refuse(root, says, **options):
    with pytest.raises(DataError, match=says):
        read_folder(root, **options)


def files(reading):
    return {name: [image["file_name"] for image in source.content["images"]] for name, source in reading.sources.items()}


def everything(reading, part):
    return [entry for source in reading.sources.values() for entry in source.content[part]]


def test_yolo_pictures_of_one_name_in_several_folders(tmp_path):
    """A film a folder: a list's lines mean the pictures of their own folder, in data.yaml and in --splits."""
    root = yolo(tmp_path, ("s1/0001", "s2/0001"), about="names: [a]\ntrain: train.txt\nval: val.txt\n")
    write(root / "train.txt", "./images/s1/0001.png\n")
    write(root / "val.txt", "/another/machine/s2/0001.png\n")
    apart = {"train": ["images/s1/0001.png"], "val": ["images/s2/0001.png"]}
    assert files(read_folder(root)) == apart
    assert files(read_folder(root, splits=[f"train={root}/train.txt", f"val={root}/val.txt"])) == apart
    write(root / "val.txt", "0001.png\n")
    refuse(root, r"'0001.png' could be images/s\d/0001.png or images/s\d/0001.png; write it with its folders")


@pytest.mark.parametrize("names", ["{0: cat, 2: dog}", "", "cat", "{a: 0, b: 1}"])
def test_yolo_names_that_leave_a_number_out(tmp_path, names):
    root = yolo(tmp_path, labels=BOX.replace("0", "1", 1), about=f"names: {names}\n")
    refuse(root, "names must be a list of classes, or a class for each number from 0", splits="share=0.5")
    assert everything(read_folder(root, classes=["x", "y"], splits="share=0.5"), "categories")[1]["name"] == "y"


def test_yolo_numbers_as_text_are_numbers(tmp_path):
    about = "names: {" + ", ".join(f'"{k}": n{k}' for k in range(12)) + "}\n"
    reading = read_folder(yolo(tmp_path, about=about), splits="share=0.5")
    assert [entry["name"] for entry in reading.sources["train"].content["categories"]] == [f"n{k}" for k in range(12)]


def test_yolo_two_lists_of_classes(tmp_path):
    """Equal lists are one; different ones are an error, and --classes is the way out that it says."""
    root = yolo(tmp_path)
    write(root / "classes.txt", "x\n")
    write(root / "labels/classes.txt", "x\n")
    assert everything(read_folder(root, splits="share=0.5"), "categories")[0]["name"] == "x"
    write(root / "obj.names", "y\n")
    refuse(root, r"two readings of the classes, x \(classes.txt\) and y \(obj.names\)", splits="share=0.5")
    for name in ("one", "two"):
        write(root / f"{name}.yaml", f"names: [{name}]\n")
    refuse(root, "two readings of the classes, one.yaml and two.yaml", splits="share=0.5")
    assert everything(read_folder(root, classes=["z"], splits="share=0.5"), "categories")[0]["name"] == "z"


def test_yolo_labels_without_a_picture_and_empty_ones(tmp_path):
    """Many pictures without objects do not hide the form; labels of a picture that is not there are not lost in silence."""
    root = yolo(tmp_path, [f"a{k:02}" for k in range(25)], labels="")
    yolo(root, ["z"])
    assert len(everything(read_folder(root, classes=["a"], splits="share=0.2"), "annotations")) == 1
    write(root / "labels/lost.txt", BOX)
    refuse(root, r"labels/lost\.txt: no picture belongs to these labels", classes=["a"], splits="share=0.2")


def test_yolo_keypoints_are_no_polygon(tmp_path):
    root = yolo(tmp_path, labels=BOX.strip() + " 0.9 0.9 2" * 4 + "\n", about="names: [a]\nkpt_shape: [4, 3]\n")
    reading = read_folder(root, splits="share=0.5")
    assert [entry["bbox"] for entry in everything(reading, "annotations")] == [pytest.approx([20, 18, 10, 4])] * 2
    assert reading.notes == ("2 objects' keypoints are left out, their boxes are kept.",)


def test_yolo_split_that_names_nothing_is_said(tmp_path):
    reading = read_folder(yolo(tmp_path, ("train/a", "other/b"), about="names: [a]\ntrain: images/train\nval: /not/here\n"))
    assert files(reading) == {"train": ["images/train/a.png"]}
    assert reading.notes == ("data.yaml names /not/here for val, and no labelled picture is there.",
                             "1 pictures are in none of the splits train and are left out.")
    picture(tmp_path / "images/more/c.png")
    assert "1 pictures lie in folders that have no label files and are left out." in read_folder(tmp_path).notes


def test_a_share_of_nothing(tmp_path):
    refuse(yolo(tmp_path), "a share between 0 and 1", classes=["a"], splits="share=0.0")


def test_voc_which_picture(tmp_path):
    """By the xml file's name or its filename, by place where names repeat; where the two are different pictures, an error."""
    root = voc(tmp_path / "v")
    write(root / "Annotations/a.xml", xml("renamed.png"))
    found = everything(read_folder(root, splits="share=0.5"), "images")
    assert {image["file_name"] for image in found} == {"JPEGImages/a.png", "JPEGImages/b.png"}
    write(root / "Annotations/a.xml", xml("b.png"))
    refuse(root, r"a\.xml: two readings of its picture, b.png, a.png", splits="share=0.5")
    for split in ("train", "valid"):  # as Roboflow writes it
        picture(tmp_path / "r" / split / "a.png")
        write(tmp_path / "r" / split / "a.xml", xml("a.png"))
    assert files(read_folder(tmp_path / "r")) == {"train": ["train/a.png"], "val": ["valid/a.png"]}
    refuse(voc(tmp_path / "w") / "Annotations", "its annotations say no size, and the picture cannot be read", splits="share=0.5")


def test_voc_names_with_spaces(tmp_path):
    root = voc(tmp_path, ("my photo 1", "my photo 2"))
    for split, k in (("train", 1), ("val", 2)):
        write(root / f"ImageSets/Main/{split}.txt", f"my photo {k}\n")
        write(root / f"ImageSets/Main/car_{split}.txt", f"my photo {k}  1\n")
    assert files(read_folder(root)) == {"train": ["JPEGImages/my photo 1.png"], "val": ["JPEGImages/my photo 2.png"]}


def test_voc_other_xml_damaged_xml_and_nameless_objects(tmp_path):
    root = voc(tmp_path)
    write(root / "annotations.xml", "<?xml version='1.0'?><annotations><version>1.1</version></annotations>")  # CVAT's own form
    assert len(everything(read_folder(root, splits="share=0.5"), "images")) == 2
    write(root / "Annotations/b.xml", xml("b.png", name=""))
    refuse(root, r"b\.xml object 1: no name of a class", splits="share=0.5")
    write(root / "Annotations/b.xml", "")
    refuse(root, r"b\.xml: not readable as xml", splits="share=0.5")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_voc_no_document_type_in_any_encoding(tmp_path, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY a "boom">]>' + xml("a.png", name="<name>&a;</name>")
    (voc(tmp_path) / "Annotations/a.xml").write_bytes(text.encode(encoding))
    refuse(tmp_path, "declares a document type", splits="share=0.5")


def one(name="images/a.png"):
    return coco([(name, 50, 40)], [(0, 1, [1, 2, 3, 4])])


@pytest.mark.parametrize(("part", "key"), [("annotations", "image_id"), ("annotations", "category_id"), ("annotations", "bbox"),
                                           ("categories", "id"), ("categories", "name"), ("images", "file_name")])
def test_coco_that_lacks_something(tmp_path, part, key):
    content = one()
    del content[part][0][key]
    write(tmp_path / "train.json", json.dumps(content))
    refuse(tmp_path, rf"train\.json: {part}\[0\] lacks {key}; add it")
    content[part][0] = 3
    write(tmp_path / "train.json", json.dumps(content))
    refuse(tmp_path, rf"train\.json: {part}\[0\] lacks ")


def test_coco_images_that_fall_together(tmp_path):
    content = coco([("images/a.png", 50, 40), ("images/b.png", 50, 40)], [(0, 1, [1, 2, 3, 4])])
    content["images"][1]["id"] = 10
    write(tmp_path / "train.json", json.dumps(content))
    refuse(tmp_path, "images has id 10 more than once; give each its own")
    picture(tmp_path / "images/x/a.png")
    write(tmp_path / "train.json", json.dumps(coco([("x/a.png", 50, 40), ("y/a.png", 50, 40)], [])))
    refuse(tmp_path, "images 10 and 11 are both images/x/a.png")


def test_coco_finds_pictures_by_the_end_of_their_path(tmp_path):
    for folder in ("s1", "s2"):
        picture(tmp_path / "pictures" / folder / "1.png")
    names = ["s2/1.png", "C:\\films\\s1\\1.png"]
    write(tmp_path / "train.json", json.dumps(coco([(name, 50, 40) for name in names], [])))
    assert files(read_folder(tmp_path))["train"] == ["pictures/s2/1.png", "pictures/s1/1.png"]


def test_coco_split_is_not_the_folder_s_own_name(tmp_path):
    write(tmp_path / "my_test_data/labels.json", json.dumps(one()))
    refuse(tmp_path / "my_test_data", "nothing says which are train and which val")


def test_coco_repeated_annotation_ids_stay_for_the_checks(tmp_path):
    content = one()
    content["annotations"] *= 2
    write(tmp_path / "train.json", json.dumps(content))
    assert [entry["id"] for entry in everything(read_folder(tmp_path), "annotations")] == [100, 100]


def test_kitti_pictures_and_lists(tmp_path):
    """The left camera's picture for its labels, though the right one's has the same name; what is left out is said."""
    for name in "ab":
        write(tmp_path / f"training/label_2/{name}.txt", KITTI + " 0.9\n")
        for camera in (2, 3):
            picture(tmp_path / f"training/image_{camera}/{name}.png")
    picture(tmp_path / "training/image_2/c.png")
    reading = read_folder(tmp_path, splits="share=0.5")
    assert {image["file_name"] for image in everything(reading, "images")} == {"training/image_2/a.png", "training/image_2/b.png"}
    assert everything(reading, "annotations")[0]["kitti"]["score"] == 0.9 and reading.notes == ("1 pictures have no labels and are left out.",)
    write(tmp_path / "ImageSets/train.txt", "a\nzzz\n")
    refuse(tmp_path, r"train\.txt: zzz has no labels; bring them, or take the line out")
