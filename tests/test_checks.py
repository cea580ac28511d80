"""Every fault that a data set can have, planted once, is found where it is, with the way to mend it; a sound data set has none."""
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import coco, write_dataset
from PIL import Image

from detlib import plots
from detlib.cli import main
from detlib.data.checks import FIXES, check, same_boxes
from detlib.data.coco import DataError
from detlib.data.folder import open_dataset


def sound():
    """Two clips of train, one of val, a car and a person on each frame."""
    def content(clip, number, left):
        return coco([(f"images/{clip}_{k}.png", 64, 48) for k in range(number)],
                    [(k, c, [left + 10.0 * c, 12.0, 8.0, 12.0]) for k in range(number) for c in (1, 2)])
    splits = {"train": content("a", 3, 0), "val": content("b", 2, 24)}
    for image in splits["val"]["images"]:
        image["id"] += 50  # and other pixels
    for annotation in splits["val"]["annotations"]:
        annotation["image_id"] += 50
    return splits


def kinds(found):
    return list(found.findings["kind"])


def test_a_sound_data_set_has_no_findings(tmp_path):
    found = check(write_dataset(tmp_path / "d", sound()))
    assert (found.images, found.boxes, len(found.findings)) == (5, 10, 0) and not len(found.counts())


BOXES = {  # kind -> an annotation of the first frame, and what is said of it
    "not numbers": ([1, 2, 3], "four numbers"), "no width": ([30, 20, -4, 6], "box width is -4"), "no height": ([30, 20, 4, 0], "box height is 0"),
    "outside": ([60, 20, 30, 6], "26.0 px outside the image of 64 x 48 px"), "too small": ([40, 30, 2, 3], "1 of 7 boxes are under 4² px"),
}


@pytest.mark.parametrize("kind", BOXES)
def test_a_faulty_box_is_named(tmp_path, kind):
    splits, (box, says) = sound(), BOXES[kind]
    splits["train"]["annotations"].append({"id": 77, "image_id": 10, "category_id": 1, "bbox": box, "iscrowd": 0})
    found = check(write_dataset(tmp_path / "d", splits, pictures=False), pictures=False)
    (row,) = found.listed()
    assert [row[key] for key in ("kind", "split", "file", "annotation")] == [kind, "train", "images/a_0.png", "77"]
    assert says in row["what"] and row["fix"]


def test_numbers_that_json_does_not_have(tmp_path):
    splits = sound()
    splits["train"]["annotations"][0]["bbox"][2] = float("nan")
    found = check(write_dataset(tmp_path / "d", splits, pictures=False), pictures=False)
    assert kinds(found) == ["not numbers"] and "is not finite" in found.findings["what"][0]


def test_faults_of_the_lists(tmp_path):
    splits = sound()
    train = splits["train"]
    train["annotations"][0]["image_id"], train["annotations"][1]["category_id"] = 99, 7
    train["annotations"][3]["id"] = train["annotations"][2]["id"]
    train["categories"].append({"id": 3, "name": "tram"})
    splits["val"]["annotations"] = [a for a in splits["val"]["annotations"] if a["category_id"] == 1]
    found = check(write_dataset(tmp_path / "d", splits, pictures=False), pictures=False)
    said = {row["kind"]: row["what"] for row in found.listed()}
    assert said == {"unknown image": "image_id 99 is not in images", "unknown category": "category_id 7 is not in categories",
                    "repeated id": "id 102 stands 2 times in annotations", "unused category": "no object of the class tram",
                    "class missing": "no person, which train has"}
    with pytest.raises(DataError, match="annotations has id 102 more than once"):
        open_dataset(tmp_path / "d")


def test_pictures_without_objects_are_counted(tmp_path):
    splits = sound()
    splits["train"]["annotations"] = splits["train"]["annotations"][2:4]
    (row,) = check(write_dataset(tmp_path / "d", splits, pictures=False), pictures=False).listed()
    assert (row["kind"], row["file"], row["what"]) == ("no objects", "images/a_0.png", "2 of 3 pictures, the first is this")


def test_two_boxes_in_one_place(tmp_path):
    """The same box again, and a person where a car is; a box of 0.85 IoU is another object."""
    splits = sound()
    add = [(1, [10, 12, 8, 12]), (2, [10.1, 12, 8, 12]), (1, [10.65, 12, 8, 12])]
    splits["train"]["annotations"] += [{"id": 500 + k, "image_id": 10, "category_id": c, "bbox": b, "iscrowd": 0} for k, (c, b) in enumerate(add)]
    found = check(write_dataset(tmp_path / "d", splits, pictures=False), pictures=False)
    said = {(row["kind"], row["annotation"], row["what"]) for row in found.listed()}
    assert said == {("duplicate", "500", "the same car as annotation 100"), ("two classes", "501", "a person where annotation 100 is a car"),
                    ("two classes", "501", "a person where annotation 500 is a car")}


def test_pairs_are_those_of_the_full_matrix():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (300, 2))
    rows = np.column_stack([rng.integers(0, 4, 300), corners, corners + rng.uniform(5, 40, (300, 2))])
    table = pd.DataFrame(np.concatenate([rows, rows[:80] + np.array([0, 0.2, 0.3, -0.1, 0.2])]), columns=["frame", "x1", "y1", "x2", "y2"])
    frame, b = table["frame"].to_numpy(), table[["x1", "y1", "x2", "y2"]].to_numpy()
    extent = np.minimum(b[:, None, 2:], b[:, 2:]) - np.maximum(b[:, None, :2], b[:, :2])
    common = extent.clip(0).prod(-1)
    area = (b[:, 2:] - b[:, :2]).prod(1)
    expected = np.argwhere(np.triu((common >= 0.9 * (area[:, None] + area - common)) & (frame[:, None] == frame), 1))
    found = same_boxes(table)
    assert len(expected) > 40 and {tuple(p) for p in found.tolist()} == {tuple(p) for p in expected.tolist()} and len(found) == len(expected)


def test_pictures(tmp_path):
    root = write_dataset(tmp_path / "d", sound())
    (root / "images/a_0.png").unlink()
    whole = (root / "images/a_1.png").read_bytes()
    (root / "images/a_1.png").write_bytes(whole[:len(whole) // 2])
    Image.new("RGB", (64, 40)).save(root / "images/a_2.png")
    Image.fromarray(np.full((48, 64), 900, np.uint16)).save(root / "images/b_0.png")
    found = check(root)
    assert {row["file"]: row["kind"] for row in found.listed()} == {"images/a_0.png": "missing picture", "images/a_1.png": "unreadable picture",
                                                                    "images/a_2.png": "size mismatch", "images/b_0.png": "dark picture"}
    shutil.rmtree(root / "images")
    assert [row["what"] for row in check(root).listed()] == ["none of the 3 pictures is there", "none of the 2 pictures is there"]


def test_what_leaks_from_train_to_val(tmp_path):
    splits = sound()
    for image, name in zip(splits["val"]["images"], ("images/a_3.png", "images/c.png"), strict=True):
        image["file_name"] = name
    root = write_dataset(tmp_path / "d", splits)
    (root / "images/c.png").write_bytes((root / "images/a_2.png").read_bytes())
    assert [(row["file"], row["what"]) for row in check(root).listed()] == [
        ("images/a_3.png", "frames of the clip a are in train and in val"), ("images/c.png", "the same picture as images/a_2.png in train")]


def test_a_picture_taken_twice_is_found_by_its_looks(tmp_path):
    """Saved anew as JPEG, smaller and brighter, under another name; other places of the same street are not taken for it."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 180, (12, 16, 3), dtype=np.uint8)) for _ in range(4)]
    streets = [np.asarray(picture.resize((64, 48), Image.Resampling.BICUBIC)) for picture in coarse]
    splits = sound()
    splits["val"]["images"][0] |= {"file_name": "images/again.jpg", "width": 48, "height": 36}
    splits["val"]["annotations"] = [a for a in splits["val"]["annotations"] if a["image_id"] != splits["val"]["images"][0]["id"]]
    root = write_dataset(tmp_path / "d", splits)
    for street, name in zip(streets, ("a_0", "a_1", "a_2", "b_1"), strict=False):
        Image.fromarray(street).save(root / f"images/{name}.png")
    Image.fromarray(streets[1]).resize((48, 36)).point(lambda value: min(255, int(1.2 * value))).save(root / "images/again.jpg", quality=60)
    (row,) = [row for row in check(root).listed() if row["kind"] == "leak"]
    assert row["file"] == "images/again.jpg" and "looks like images/a_1.png in train, alike to 0.9" in row["what"]


def test_every_kind_has_a_fix_and_counts_tell_it(tmp_path):
    splits = sound()
    splits["train"]["annotations"][0]["bbox"] = [60, 20, 30, 6]
    found = check(write_dataset(tmp_path / "d", splits, pictures=False), pictures=False)
    counts = found.counts()
    assert counts.loc["outside", "train"] == 1 and counts.loc["outside", "fix"] == FIXES["outside"]


def test_the_command_prints_findings_and_json(tmp_path, capsys):
    splits = sound()
    splits["train"]["annotations"][0]["bbox"] = [60, 20, 30, 6]
    root = write_dataset(tmp_path / "d", splits)
    assert main(["check", str(root)]) == 0
    said = capsys.readouterr().out
    assert "5 pictures, 10 boxes, findings: 1" in said and "outside: 1\n  move the box" in said
    assert "- train, images/a_0.png, 100: box reaches 26.0 px" in said
    main(["check", str(root), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["classes"] == {"train": {"car": 2, "person": 3}, "val": {"car": 2, "person": 2}}
    assert content["images"] == 5 and content["boxes"] == 10 and content["findings"][0]["kind"] == "outside"


@pytest.mark.parametrize(("slip", "seen"), [("Person", True), ("presno", True), ("perso", True), ("bicycle", False)])
def test_names_of_classes_that_are_slips(tmp_path, slip, seen):
    splits = sound()
    splits["train"] = coco([(f"images/a_{k}.png", 640, 48) for k in range(3)], [(k % 3, 1 + k % 2, [20.0 * k, 12.0, 8.0, 12.0]) for k in range(25)])
    for content in splits.values():
        content["categories"].append({"id": 3, "name": slip})
    splits["train"]["annotations"][3]["category_id"] = 3
    found = check(write_dataset(tmp_path / "d", splits, pictures=False), pictures=False)
    rows = [row for row in found.listed() if row["kind"] == "similar classes"]
    assert [row["annotation"] for row in rows] == ["103"] * seen
    assert all(f"1 of {slip}, which looks like person (11 boxes)" in row["what"] for row in rows)


def test_boxes_at_the_seam_of_a_panorama_become_two(tmp_path):
    """60 px wide at x = 240 of 256: 16 px there and 44 at the left edge; without `panorama` it is a fault."""
    content, other = (coco([(f"images/{name}_0.png", 256, 128)], [(0, 1, [240, 10, 60, 20]), (0, 2, [-3, 40, 10, 20]), (0, 1, [255, 80, 2, 5])])
                      for name in "ab")
    root = write_dataset(tmp_path / "d", {"train": content, "val": other}, pictures=False, panorama=True)
    boxes = open_dataset(root)["train"].boxes
    assert boxes[["category", "x1", "x2"]].values.tolist() == [
        ["car", 240, 256], ["car", 0, 44], ["person", 253, 256], ["person", 0, 7], ["car", 255, 256]]
    assert boxes["area"].tolist() == [320, 880, 60, 140, 5 * 2] and kinds(check(root, pictures=False)) == ["too small"] * 2
    with pytest.raises(DataError, match=r"annotation 100 .*box reaches 44.0 px outside .*and 1 more"):
        open_dataset(write_dataset(tmp_path / "e", {"train": content, "val": content}, pictures=False))


def test_the_gallery_shows_each_kind_that_has_a_place(tmp_path):
    """An inverted box and one without width are marked where they lie; a missing picture is not shown, and nothing is fine."""
    splits = sound()
    splits["train"]["annotations"][0]["bbox"], splits["train"]["annotations"][2]["bbox"] = [30, 20, -4, 6], [20, 20, 0, 0]
    splits["val"]["annotations"][0]["bbox"] = [60, 20, 30, 6]
    root = write_dataset(tmp_path / "d", splits)
    (root / "images/a_2.png").unlink()
    figure = plots.gallery(check(root))
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left").split("\n")[0] for axes in shown] == ["no width", "outside", "no width"]
    assert [len(axes.lines) for axes in shown] == [0, 0, 1] and "3 findings" in figure.get_supxlabel()
    assert figure.png() and plots.gallery(check(write_dataset(tmp_path / "e", sound()))).png()
