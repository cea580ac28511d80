"""Reading COCO folders: what is kept, in which order, and what is refused with which sentence."""
import contextlib
import gc
import json
import math

import numpy as np
import pytest
import torch
from conftest import coco, write_dataset
from PIL import Image

from detlib.data import folder as folder_module
from detlib.data.coco import DataError, clip_and_number
from detlib.data.folder import open_dataset
from detlib.data.pictures import read_pixels


def test_frames_in_the_order_of_their_clips_and_empty_frames_kept(tmp_path):
    names = ["t_Video00002_10.png", "t_Video00002_9.png", "t_Video00001_0.png"]
    data = open_dataset(write_dataset(tmp_path, {"train": coco([(n, 64, 32) for n in names], [(0, 1, [1, 2, 3, 4.5])])}, pictures=False))
    train = data["train"]
    assert [f.file_name for f in train.frames] == ["t_Video00001_0.png", "t_Video00002_9.png", "t_Video00002_10.png"]
    assert train.clips == ["t_Video00001", "t_Video00002"]
    assert [len(train.targets(i)[1]) for i in range(3)] == [0, 0, 1]
    assert train.targets(2)[0].tolist() == [[1, 2, 4, 6.5]] and train.image_hw == (32, 64)
    row = train.boxes.iloc[0]
    assert row["aspect"] == pytest.approx(3 / 4.5) and row["size"] == pytest.approx(math.sqrt(13.5)) and math.isnan(row["distance"])


def test_the_table_opens_no_image(tmp_path):
    data = open_dataset(write_dataset(tmp_path, {"train": coco([("a_1.png", 64, 32)], [(0, 2, [1, 2, 3, 4])])}, pictures=False))
    assert len(data["train"].boxes) == 1 and not data["train"].has_images()
    with pytest.raises(DataError, match=r"a_1\.png.*is not there.*put it back"):
        data["train"].image(0)


def test_categories_are_mapped_by_name(tmp_path):
    train = coco([("a.png", 64, 32)], [(0, 2, [1, 2, 3, 4])], ["car", "person"])
    val = coco([("b.png", 64, 32)], [(0, 1, [1, 2, 3, 4]), (0, 2, [5, 2, 3, 4])], ["person", "car"])
    val["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    data = open_dataset(write_dataset(tmp_path, {"train": train, "val": val}, pictures=False))
    assert data.categories == ("car", "person", "dog")
    assert data["train"].targets(0)[1].tolist() == [2] and data["val"].targets(0)[1].tolist() == [2, 3]


def test_what_dataset_json_says_and_what_holds_without_it(tmp_path):
    content = {"train": coco([("a.png", 640, 480)], [])}
    plain = open_dataset(write_dataset(tmp_path / "streets of Ålesund", content, pictures=False))
    assert (plain.panorama, plain.size_limits, plain.name) == (False, (60, 120), "streets_of_Ålesund")
    about = {"name": "x", "panorama": True, "size_limits": [16, 32], "channels": ["i", "a", "r"]}
    told = open_dataset(write_dataset(tmp_path / "b", content, pictures=False, **about))
    assert (told.panorama, told.size_limits, told.name, told.channels) == (True, (16, 32), "x", ("i", "a", "r"))
    assert list(told.size_names) == ["small (< 16² px)", "medium (16²-32² px)", "large (≥ 32² px)"]


def test_fingerprint_changes_with_an_annotation_and_not_with_another_split(tmp_path):
    splits = {"train": coco([("a.png", 64, 32)], [(0, 1, [1, 2, 3, 4])]), "val": coco([("b.png", 64, 32)], [])}
    before = open_dataset(write_dataset(tmp_path, splits, pictures=False)).fingerprint
    write_dataset(tmp_path, {"train_extended": splits["train"]}, pictures=False)
    assert open_dataset(tmp_path).fingerprint == before
    splits["train"]["annotations"][0]["bbox"][0] = 2
    assert open_dataset(write_dataset(tmp_path, splits, pictures=False)).fingerprint != before


@pytest.mark.parametrize(("box", "says"), [
    ([1, 2, -3, 4], "box width is -3"), ([1, 2, 3, 0], "box height is 0"), ([60, 2, 9, 4], "5.0 px outside the image of 64 x 32"),
    ([64, 2, 0.5, 4], "outside the image"), ([64.3, 2, 5, 4], "outside the image"),
    ([math.nan, 2, 3, 4], "not finite"), ([1, 2, 3], "not four numbers"), (None, "not four numbers"), ([1, "x", 2, 3], "not four numbers"),
])
def test_a_bad_box_is_named_with_the_way_out(tmp_path, box, says):
    content = coco([("images/a_7.png", 64, 32)], [(0, 1, [1, 2, 3, 4]), (0, 1, [5, 6, 7, 8])])
    content["annotations"][1]["bbox"] = box
    write_dataset(tmp_path, {"train": content}, pictures=False)
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path)
    text = str(error.value)
    assert says in text and "annotation 101" in text and "images/a_7.png" in text and "train_annotations.json" in text and "invalid='drop'" in text


def test_bad_boxes_are_dropped_or_clipped_and_counted(tmp_path, capsys):
    boxes = [(0, 1, [60, 2, 9, 4]), (0, 1, [1, 2, 0, 4]), (0, 1, [1, 2, 3, 4]), (0, 1, [63.5, 2, 1, 4])]
    write_dataset(tmp_path, {"train": coco([("a.png", 64, 32)], boxes)}, pictures=False)
    dropped = open_dataset(tmp_path, invalid="drop")["train"]
    assert dropped.invalid == {"dropped": 2} and len(dropped.boxes) == 2 and "2 boxes dropped" in capsys.readouterr().out
    assert dropped.targets(0)[0][1].tolist() == [63.5, 2, 64, 6], "half a pixel over the edge is rounding"
    clipped = open_dataset(tmp_path, invalid="clip")["train"]
    assert clipped.invalid == {"dropped": 1, "clipped": 1} and clipped.targets(0)[0][0].tolist() == [60, 2, 64, 6]
    with pytest.raises(ValueError, match="'raise', 'drop' or 'clip'"):
        open_dataset(tmp_path, invalid="ignore")


@pytest.mark.parametrize(("change", "says"), [
    (lambda c: c.pop("categories"), "no list 'categories'"),
    (lambda c: c["images"][0].pop("width"), r"images\[0\] lacks width"),
    (lambda c: c["annotations"].append(dict(c["annotations"][0])), "annotations has id 100 more than once"),
    (lambda c: c["annotations"][0].update(image_id=77), "image_id 77 is not in images"),
    (lambda c: c["annotations"][0].update(category_id=77), "category_id 77 is not in categories"),
    (lambda c: c["images"][0].update(width=0), "width 0"),
])
def test_bad_files(tmp_path, change, says):
    content = coco([("a.png", 64, 32)], [(0, 1, [1, 2, 3, 4])])
    change(content)
    write_dataset(tmp_path, {"train": content}, pictures=False)
    with pytest.raises(DataError, match=says):
        open_dataset(tmp_path)


def test_bad_folders_and_pictures(tmp_path):
    with pytest.raises(DataError, match="no data set here; it needs <split>_annotations"):
        open_dataset(tmp_path)
    (tmp_path / "train_annotations.json").write_text('{"images": [')
    with pytest.raises(DataError, match="not readable as json"):
        open_dataset(tmp_path)
    write_dataset(tmp_path, {"train": coco([("a.png", 64, 32), ("b.png", 64, 32)], [])})
    Image.new("RGB", (60, 32)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    train = open_dataset(tmp_path)["train"]
    with pytest.raises(DataError, match=r"60 x 32 px, train_annotations.json says 64 x 32"):
        train.image(0)
    with pytest.raises(DataError, match="not readable as a picture"):
        train.image(1)
    with pytest.raises(DataError, match="no val in this data"):
        open_dataset(tmp_path)["val"]


def test_the_garbage_collector_waits_while_a_folder_is_read(small, tmp_path, monkeypatch):
    seen, read = [], folder_module.read_all

    def watched(*arguments, **options):
        seen.append(gc.isenabled())
        return read(*arguments, **options)
    monkeypatch.setattr(folder_module, "read_all", watched)
    for place in (small, tmp_path / "nowhere"):
        with contextlib.suppress(DataError):
            open_dataset(place)
        assert seen.pop() is False and gc.isenabled()
    gc.disable()  # as a caller may have done
    try:
        open_dataset(small)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_subset_keeps_boxes_with_their_frames(small):
    train = open_dataset(small)["train"]
    part = train.subset([4, 2])
    assert [f.file_name for f in part.frames] == [train.frames[4].file_name, train.frames[2].file_name]
    assert torch.equal(part.targets(1)[0], train.targets(2)[0]) and part.fingerprint != train.fingerprint


def test_clip_names():
    assert clip_and_number("images/train/trip007_glos_Video00000_85.png") == ("trip007_glos_Video00000", 85)
    assert clip_and_number("holiday.jpg") == ("holiday", 0)
    assert clip_and_number("s1/0001.png") == ("s1", 1) and clip_and_number("s2/img_0001.png") == ("s2/img", 1)
    assert clip_and_number("images/train/000012.png") == ("train", 12) and clip_and_number("000012.png") == ("frames", 12)
    assert clip_and_number("JPEGImages/frame0007.jpg") == ("frame", 7) and clip_and_number("2021-03-04.png") == ("2021-03", 4)
    assert clip_and_number(f"a_{10**20}.png") == ("a_100", 0)  # no number that a table could not hold
    assert clip_and_number("a\nb_12.png") == ("a\nb", 12)


def test_the_real_annotations(real):
    data = open_dataset(real)
    counts = data["full_train"].boxes["category"].value_counts()
    assert (len(data["full_train"]), len(data["full_train"].boxes), len(data["full_train"].clips)) == (1604, 18287, 16)
    assert (counts["car"], counts["person"], counts["truck"], counts["motorcycle"]) == (9563, 4910, 123, 0)
    assert (len(data["full_val"]), len(data["full_val"].boxes), len(data["full_val"].clips)) == (301, 5544, 3)
    assert data.size_limits == (16, 32) and data.key.startswith("tdt4265_2022-")
    boxes = data["full_train"].boxes
    assert boxes["width"].median() == pytest.approx(12.71) and boxes["height"].median() == pytest.approx(22.31)
    assert data["train"].has_images() and data["train"].image(0).shape == (3, 128, 1024)
    assert json.dumps(data.categories) == '["car", "truck", "bus", "motorcycle", "bicycle", "scooter", "person", "rider"]'


def test_area_and_crowd_may_be_missing_and_names_are_safe(tmp_path):
    content = coco([("a.png", 64, 32)], [(0, 1, [1, 2, 3, 4]), (0, 1, [9, 2, 3, 4])])
    content["annotations"][0].pop("iscrowd")
    content["annotations"][0].pop("area")
    content["annotations"][1]["area"] = None
    data = open_dataset(write_dataset(tmp_path, {"train": content}, pictures=False, name="../../evil/x"))
    assert data["train"].boxes["area"].tolist() == [12, 12] and not data["train"].boxes["crowd"].any()
    assert "/" not in data.key and ".." not in data.key
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: not readable"):
        open_dataset(tmp_path)


def test_pictures_of_every_mode_become_three_channels_of_8_bits(tmp_path):
    """Grey, with transparency, of 16 bits, with a palette, and stored turned: a ramp of 0..255 along x comes out as it went in."""
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))  # (32, 64)
    grey = Image.fromarray(ramp)
    turned = Image.Exif()
    turned[0x0112] = 6  # stored with its right side at the bottom: upright after a quarter turn
    files = {"grey.png": grey, "la.png": grey.convert("LA"), "rgba.png": grey.convert("RGBA"), "palette.png": grey.convert("P"),
             "deep.png": Image.fromarray(ramp.astype(np.uint16) * 256 + 7), "deep.tif": Image.fromarray(ramp.astype(np.uint16) * 256 + 7),
             "turned.png": Image.fromarray(np.rot90(ramp).copy())}
    for name, picture in files.items():
        picture.save(tmp_path / name, **({"exif": turned} if name == "turned.png" else {}))
        pixels = read_pixels(tmp_path / name, (32, 64))
        assert pixels.shape == (32, 64, 3) and (pixels == ramp[..., None]).all(), name
    stored = read_pixels(tmp_path / "turned.png", (64, 32))  # the annotations' size is that of the stored pixels: so are their boxes
    assert (stored == np.rot90(ramp)[..., None]).all()
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="more than 16 bits, mode F"):
        read_pixels(tmp_path / "float.tif")
