import re

import numpy as np
import pytest

from detlib.data import second_city as city
from detlib.data.checks import check
from detlib.data.coco import DataError
from detlib.data.folder import open_dataset
from detlib.data.lidar import CLASSES, clip_frames


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return city.second_city(tmp_path_factory.mktemp("data") / "second-city-smoke", "smoke")


def pictures():
    """Six pictures with a lorry of 30 x 12 px on the left and a pedestrian of 12 x 40 px on the right, and one with a box too small to judge."""
    each = [city.Annotated(f"p_{k}", ["lorry", "pedestrian"], [[0, 50, 30, 62], [60, 20, 72, 60]]) for k in range(6)]
    return [*each, city.Annotated("p_6", ["lorry"], [[0, 0, 9, 50]])]


def test_faults_are_planted_one_a_picture_and_as_listed():
    spoilt, sound = pictures(), pictures()
    planted = city.plant(spoilt, width=100)
    assert [kind for kind, _, _ in planted] == ["outside", "outside", "inverted", "duplicate", "no objects"]
    assert len({stem for _, stem, _ in planted}) == 5 and "p_6" not in {stem for _, stem, _ in planted}
    by_stem = {picture.stem: picture for picture in spoilt}
    for kind, stem, number in planted:
        names, boxes = by_stem[stem].names, by_stem[stem].boxes
        if kind == "no objects":
            assert (names, boxes, number) == ([], [], 0)
        elif kind == "outside":  # the pedestrian, nearest to the right edge: 12 px wide, a third of it outside
            assert number == 2 and boxes[1] == [92, 20, 104, 60] and boxes[0] == [0, 50, 30, 62]
        elif kind == "inverted":
            x1, y1, x2, y2 = sound[0].boxes[number - 1]
            assert boxes[number - 1] == [x2, y1, x1, y2]
        else:
            assert number == 3 and len(boxes) == 3 and boxes[2] in boxes[:2] and names[2] == names[boxes.index(boxes[2])]
    untouched = [p for p in spoilt if p.stem not in {stem for _, stem, _ in planted}]
    assert untouched == [p for p in sound if p.stem in {u.stem for u in untouched}] and len(untouched) == 2


def test_faults_depend_on_the_seed_alone():
    assert city.plant(pictures(), 100, seed=1) == city.plant(pictures(), 100, seed=1)
    assert len({tuple(city.plant(pictures(), 100, seed=seed)) for seed in range(5)}) > 1


def test_too_few_pictures_for_the_faults():
    with pytest.raises(DataError, match=r"4 pictures hold an object .* 5 faults"):
        city.plant(pictures()[2:], 100)


def test_the_checks_find_what_the_readme_lists(smoke):
    listed = re.findall(r"^- ([\w ]+): (\w+)\.xml, (?:object (\d+)|all)", (smoke / "README.md").read_text(), re.M)
    assert sorted(kind for kind, *_ in listed) == ["duplicate", "inverted", "no objects", "outside", "outside"]
    found = check(smoke).findings
    known_as = {"inverted": "no width", "outside": "outside", "duplicate": "duplicate"}
    one_by_one = {(row.kind, row.annotation) for row in found.itertuples() if row.kind in known_as.values()}
    assert one_by_one == {(known_as[kind], f"Annotations/{stem}.xml object {number}") for kind, stem, number in listed if number}
    emptied = next(stem for kind, stem, _ in listed if kind == "no objects")
    assert "<object>" not in (smoke / "Annotations" / f"{emptied}.xml").read_text()
    assert not {"missing picture", "unreadable picture", "size mismatch", "leak", "numbers"} & set(found["kind"])


def test_it_opens_like_any_folder_and_says_what_is_wrong_with_it(smoke):
    with pytest.raises(DataError, match=r"harbour\d+_\d+.xml object \d+ .*and 2 more"):
        open_dataset(smoke)
    dataset = open_dataset(smoke, "drop")
    assert dataset["train"].invalid == {"dropped": 3} and dataset["val"].invalid == {}
    assert (len(dataset["train"]), len(dataset["train"].clips)) == (16, 4) and (len(dataset["val"]), len(dataset["val"].clips)) == (8, 2)
    assert set(dataset.categories) == set(city.NAMES.values()) and not dataset.panorama


def test_validation_is_what_the_simulator_saw(smoke):
    """Boxes to the last digit, classes renamed, pixels as rendered; whatever way they took through xml and png."""
    split, place = open_dataset(smoke, "drop")["val"], city.CITIES["smoke"]
    truth = list(clip_frames(city.FIRST_VAL, place.sensor, city.SEED, place.frames))
    for index, (pixels, found) in enumerate(truth):
        boxes = split.boxes[split.boxes["frame"] == index]
        wanted = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in found)]
        np.testing.assert_array_equal(boxes[["x1", "y1", "x2", "y2"]].to_numpy(), np.reshape(wanted, (-1, 4)))
        assert list(boxes["category"]) == [city.NAMES[CLASSES[entry["category_id"] - 1]] for entry in found]
        np.testing.assert_array_equal(split.image(index).permute(1, 2, 0).numpy(), pixels)
    assert sum(len(found) for _, found in truth) > 0


def test_every_class_of_the_simulator_has_a_name():
    assert set(city.NAMES) == set(CLASSES) and len(set(city.NAMES.values())) == 5


def test_a_complete_folder_is_not_made_again(smoke, monkeypatch):
    monkeypatch.setattr(city, "clip_frames", lambda *_: pytest.fail("made again"))
    before = {path: path.stat().st_mtime_ns for path in smoke.rglob("*")}
    assert city.second_city(smoke, "smoke") == smoke and before == {path: path.stat().st_mtime_ns for path in smoke.rglob("*")}


def test_a_city_of_an_older_simulator_is_not_taken_for_todays(smoke, monkeypatch):
    monkeypatch.setattr(city, "VERSION", city.VERSION + 1)
    with pytest.raises(DataError, match="not a complete second city of this version; remove it"):
        city.second_city(smoke, "smoke")


def test_two_makings_are_the_same_bytes(smoke, tmp_path):
    again = city.second_city(tmp_path / "again", "smoke")
    assert again.stat().st_mode & 0o777 == 0o755  # whoever else uses the machine can read it, as what `simulate` writes
    content = [{path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in (smoke, again)]
    assert content[0] == content[1] and len(content[0]) == 2 * 24 + 3


def test_a_making_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("no space left")
    monkeypatch.setattr(city, "clip_frames", fails)
    with pytest.raises(OSError, match="no space"):
        city.second_city(tmp_path / "new" / "city", "smoke")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not a complete second city of this version; remove it, or name another"):
        city.second_city(tmp_path, "smoke")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="no profile 'huge'"):
        city.second_city(tmp_path / "x", "huge")
