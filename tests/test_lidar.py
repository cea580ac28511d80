"""The LiDAR simulator: geometry against trigonometry, the seam, resuming, and the statistics of the real annotations."""
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from detlib.data.lidar import CLASSES, PANORAMA, Sensor, clip_frames, render, simulate
from detlib.data.objects import HOUSE, ball, box, moved
from detlib.data.streets import Scene, Street

SECTOR = Sensor(image_hw=(128, 256), azimuth_deg=90.0)
SMALL = {"sensor": SECTOR, "clips": {"train": 2, "val": 1, "extension": 1}, "frames_per_clip": 3}
# The real train annotations (TDT4265 2022: 1,604 frames): share of the boxes, median width and height, px
REAL = pd.DataFrame({"share": [0.523, 0.007, 0.024, 0.0, 0.057, 0.034, 0.268, 0.087],
                     "width": [19.7, 22.3, 14.1, np.nan, 13.5, 8.6, 6.0, 6.7],
                     "height": [21.8, 39.1, 19.0, np.nan, 20.2, 30.4, 21.5, 24.7]}, index=list(CLASSES))
REAL_WIDTH, REAL_HEIGHT, REAL_BOXES_A_FRAME = 12.7, 22.3, 11.4


def scene(*things):
    """A scene of (label, shapes) without a street around it; the ground is asphalt and there are no hills."""
    street = SimpleNamespace(skyline=np.full(8, -9.0), bend=0.0, sun=0.0, clouds=(0, 0, 0), bright_panes=False,
                             plan=np.ones((2048, 1024), np.uint8))
    count = [len(shapes) for _, shapes in things]
    xy = np.array([np.mean([row[1:3] for row in shapes], 0) for _, shapes in things])
    return Scene(np.array([row for _, shapes in things for row in shapes], float), np.repeat(np.arange(len(things)), count),
                 np.cumsum([0, *count[:-1]]), xy, np.array([label for label, _ in things]), np.arange(len(things)), street, (0.0, 0.0, 0.0))


def turned(shapes, columns):
    return moved(shapes, 0, 0, -columns * 2 * np.pi / 1024)


WALL = (0, [box(20, 20.5, -15, 15, 0, 8, 0.5, 0.5)])
BLOCK = (1, [box(9, 11, -1, 1, 0, 2.5, 0.8, 0.8)])


def test_a_box_before_a_wall_is_where_trigonometry_puts_it():
    image, found, hits = render(scene(BLOCK, WALL), PANORAMA, np.random.default_rng(0))
    azimuth, slope = (512 - np.arange(1024) - 0.5) * 2 * np.pi / 1024, np.tan(np.deg2rad(22.5 - (np.arange(128) + 0.5) * 45 / 128))
    columns = np.flatnonzero(np.abs(np.tan(azimuth)) < 1 / 9)
    columns = columns[np.cos(azimuth[columns]) > 0]
    rise = 2.5 - PANORAMA.height_m  # above the sensor, so the near edge bounds the box
    rows = np.flatnonzero((slope < rise / 9) & (slope * 9 / np.cos(azimuth[columns[0]]) > -PANORAMA.height_m))
    assert [b["bbox"] for b in found] == [[columns[0], rows[0], len(columns), len(rows)]]
    assert found[0]["area"] == len(columns) * len(rows) and found[0]["visible"] == 1 and found[0]["category_id"] == 1
    # every ray that meets the front face, and the wall at 20 m beside it
    inner = np.ix_(rows[:-1], columns)
    np.testing.assert_allclose(hits.depth[inner], np.broadcast_to(9 / np.cos(azimuth[columns]), (len(rows) - 1, len(columns))), rtol=2e-5)
    np.testing.assert_allclose(hits.depth[60, 560], 20 / np.cos(azimuth[560]), rtol=2e-5)
    assert found[0]["distance"] == pytest.approx(9, abs=0.02)
    # the range channel shows the distance along the ray, linearly, to a grey level
    near, far = PANORAMA.grey_range_m
    spans = hits.depth[rows[5], columns] * np.hypot(1, slope[rows[5]])
    shown = image[rows[5], columns, 2]
    expected = (spans - near) * 255 / (far - near)
    measured = shown > 0
    assert measured.mean() > 0.8 and np.abs(shown - expected)[measured].max() <= 1.5
    assert (image[:20, 100, [0, 2]] == 0).all() and image[:20, 100, 1].mean() > 128  # the sky returns nothing, but is bright


def test_the_ground_and_a_ball_are_where_they_should_be():
    _, found, hits = render(scene((7, [ball(10, 0, 1.9, 0.5, 0.5, 0.5, 1, 1)])), PANORAMA)
    row = 127
    slope = np.tan(np.deg2rad(22.5 - (row + 0.5) * 45 / 128))
    np.testing.assert_allclose(hits.depth[row], -PANORAMA.height_m / slope, rtol=1e-5)
    half = np.rad2deg(np.arcsin(0.05)) / (360 / 1024)  # px
    x, y, width, height = found[0]["bbox"]
    assert (x, y) == (512 - width / 2, 64 - height / 2) and abs(width / 2 - half) < 1 and abs(height / 2 - half) < 1
    assert found[0]["distance"] == pytest.approx(9.5, abs=0.01)


def test_a_box_is_that_of_the_visible_pixels():
    screen = (0, [box(5, 5.2, 0, 3, 0, 4, 0.5, 0.5)])  # hides what lies left of straight ahead
    whole = render(scene(BLOCK), PANORAMA)[1][0]
    half = render(scene(BLOCK, screen), PANORAMA)[1][0]
    assert half["bbox"] == [512, whole["bbox"][1], whole["bbox"][2] / 2, whole["bbox"][3]]
    assert half["visible"] == pytest.approx(0.5, abs=0.01)
    hidden = (3, [box(30, 32, 1, 2, 0, 2, 0.5, 0.5)])
    assert [b["category_id"] for b in render(scene(BLOCK, screen, hidden), PANORAMA)[1]] == [1]
    far = (7, [box(90, 90.5, -0.5, 0.5, 0, 0.5, 0.5, 0.5)])  # a pixel or two
    assert not render(scene(far), PANORAMA)[1]


@pytest.mark.parametrize("shapes", [BLOCK[1], [box(7, 9, -1, 1, 0, 2, 1, 1), ball(8, 0.3, 2.4, 0.6, 0.5, 0.7, 1, 1)]])
def test_an_object_across_the_seam_has_a_box_on_either_side(shapes):
    _, (ahead,), hits = render(scene((1, shapes), WALL), PANORAMA)
    _, (left, right), behind = render(scene((1, turned(shapes, 512)), (0, turned(WALL[1], 512))), PANORAMA)
    x, y, width, height = ahead["bbox"]
    assert left["bbox"][0] == 0 and right["bbox"][0] + right["bbox"][2] == 1024
    assert right["bbox"][0] == x + 512 and left["bbox"][2] + right["bbox"][2] == width
    assert min(left["bbox"][1], right["bbox"][1]) == y and max(b["bbox"][1] + b["bbox"][3] for b in (left, right)) == y + height
    assert left["track"] == right["track"]
    np.testing.assert_allclose(np.roll(behind.depth, 512, 1), hits.depth, rtol=1e-4)


def test_a_sector_sees_the_middle_of_the_panorama():
    for number in range(3):
        moment = Street(0, number).at(1.0)
        wide, narrow = render(moment, PANORAMA)[2], render(moment, SECTOR)[2]
        assert (wide.depth[:, 384:640] != narrow.depth).mean() < 0.001
        assert all(0 <= b["bbox"][0] and b["bbox"][0] + b["bbox"][2] <= 256 for b in render(moment, SECTOR)[1])


def test_a_longer_clip_begins_like_the_short_one_and_moves():
    short, long = list(clip_frames(5, SECTOR, frames=2)), list(clip_frames(5, SECTOR, frames=4))
    for (a, boxes), (b, more) in zip(short, long, strict=False):
        assert (a == b).all() and boxes == more
    assert (long[2][0] != long[3][0]).mean() > 0.3
    assert (next(clip_frames(5, SECTOR, seed=1))[0] != short[0][0]).any()


@pytest.mark.parametrize("sensor", [Sensor((64, 512)), Sensor((32, 1024), elevation_deg=(15, -15)), Sensor((16, 90), 90.0, (20, 1))])
def test_other_sensors_work_too(sensor):
    height, width = sensor.image_hw
    for image, found in clip_frames(3, sensor, frames=2):
        assert image.shape == (height, width, 3)
        for x, y, w, h in (b["bbox"] for b in found):
            assert 0 <= x < x + w <= width and 0 <= y < y + h <= height


def test_a_track_is_one_object():
    for number in (2, 9):
        street, classes, kept = Street(0, number), {}, 0
        for frame in range(12):
            found = render(street.at(frame / 2), PANORAMA)[1]
            whole = [b for b in found if 0 < b["bbox"][0] and b["bbox"][0] + b["bbox"][2] < 1024]
            assert len({b["track"] for b in whole}) == len(whole)
            kept += sum(b["track"] in classes for b in found)
            assert all(classes.setdefault(b["track"], b["category_id"]) == b["category_id"] for b in found)
        assert kept > len(classes)  # most are seen again


def test_channels_look_like_the_real_ones():
    images = np.stack([next(clip_frames(number))[0] for number in range(16)]).astype(float) / 255
    assert images.shape[1:] == (128, 1024, 3)
    np.testing.assert_allclose(images.mean((0, 1, 2)), [0.477, 0.477, 0.226], atol=0.07)
    np.testing.assert_allclose(images.std((0, 1, 2)), [0.295, 0.286, 0.288], atol=0.05)
    step = np.median(np.abs(np.diff(images, axis=2)), (0, 1, 2)) * 255  # real: 18, 16, 1 grey levels
    assert 13 < step[0] < 24 and 11 < step[1] < 22 and step[2] <= 2


def footprints(moment):
    """Centre, half extents and yaw around all shapes of each thing, in its own direction: {thing: (x, y, half_x, half_y, yaw)}."""
    ends = np.append(moment.first[1:], len(moment.owner))
    result = {}
    for thing, (first, last) in enumerate(zip(moment.first, ends, strict=True)):
        rows = moment.shapes[first:last]
        yaw = rows[0, 7]
        along, across = rows[:, 1] * np.cos(yaw) + rows[:, 2] * np.sin(yaw), rows[:, 2] * np.cos(yaw) - rows[:, 1] * np.sin(yaw)
        low, high = np.min([along - rows[:, 4], across - rows[:, 5]], 1), np.max([along + rows[:, 4], across + rows[:, 5]], 1)
        result[thing] = (*((low + high) / 2), *((high - low) / 2), yaw)
    return result


def test_nothing_stands_in_anything():
    overlaps, pairs = [], 0
    for number in range(40):
        street = Street(0, number)
        for time in (0.0, 4.5):
            moment = street.at(time)
            prints, label = footprints(moment), moment.label
            house = (moment.shapes[moment.first, 0] == HOUSE) & (label == 0)
            solid = [t for t in prints if label[t] in (1, 2, 3) or house[t]]
            for a in [t for t in prints if label[t] in (1, 2, 3, 7, 8)]:
                x, y, half_x, half_y, yaw = prints[a]
                grid_x, grid_y = np.meshgrid(x + np.linspace(-0.8, 0.8, 9) * half_x, y + np.linspace(-0.8, 0.8, 3) * half_y)
                grid = np.stack([grid_x, grid_y], -1).reshape(-1, 2)
                cos, sin = np.cos(yaw), np.sin(yaw)
                world = grid @ [[cos, sin], [-sin, cos]]
                for b in solid:
                    if a == b:
                        continue
                    x, y, half_x, half_y, yaw = prints[b]
                    local = world @ [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]] - [x, y]
                    pairs += 1
                    if (np.abs(local) < np.array([half_x, half_y]) * 0.95).all(1).any():
                        overlaps.append((number, time, int(label[a]), int(label[b])))
    assert pairs > 10_000 and not overlaps, (len(overlaps), overlaps[:10])


def test_the_caster_can_tell_all_shapes_of_a_thing_apart():
    assert max(np.bincount(street.owner).max() for street in (Street(0, number) for number in range(10))) <= 32


def test_riders_ride_something():
    for number in range(10):
        moment = Street(0, number).at(2.0)
        for thing in np.flatnonzero(moment.label == CLASSES.index("rider") + 1):
            assert CLASSES[moment.label[thing - 1] - 1] in ("bicycle", "motorcycle", "scooter")
            np.testing.assert_allclose(moment.xy[thing], moment.xy[thing - 1])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_bytes_however_made(tmp_path):
    every = ("train", "val", "train_extended")
    at_once = contents(simulate(tmp_path / "a", every, processes=2, **SMALL))
    assert len([name for name in at_once if name.endswith(".png")]) == 4 * 3
    assert not [name for name in at_once if "/." in f"/{name}"]  # nothing left lying about
    # in one process: annotations first, one split after another, then the images
    folder = simulate(tmp_path / "b", ("train",), images=False, processes=1, **SMALL)
    assert not list(folder.rglob("*.png"))
    simulate(folder, ("val", "train_extended"), images=False, processes=1, **SMALL)
    before = (folder / "train_annotations.json").stat().st_mtime_ns
    simulate(folder, every, processes=1, **SMALL)
    assert (folder / "train_annotations.json").stat().st_mtime_ns == before
    assert contents(folder) == at_once
    # a killed run: some images and a json are missing; only those are made again
    kept = folder / "images/train/trip000_Video00000_0.png"
    stamp = kept.stat().st_mtime_ns
    for name in ("images/train/trip000_Video00000_1.png", "images/train/trip000_Video00001_2.png", "val_annotations.json"):
        (folder / name).unlink()
    seen = []
    simulate(folder, every, processes=1, progress=lambda *args: seen.append(args), **SMALL)
    assert contents(folder) == at_once and kept.stat().st_mtime_ns == stamp
    assert seen == [(1, 2, "train"), (2, 2, "train"), (1, 1, "val")]
    seen.clear()
    simulate(folder, every, processes=1, progress=lambda *args: seen.append(args), **SMALL)
    assert not seen


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = contents(simulate(tmp_path / "a", ("train",), processes=1, **SMALL))

    def stop(count, total, what):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "b", ("train",), processes=1, progress=stop, **SMALL)
    assert not (tmp_path / "b/train_annotations.json").exists() and len(list((tmp_path / "b").rglob("*.png"))) == 3
    seen = []
    simulate(tmp_path / "b", ("train",), processes=1, progress=lambda *args: seen.append(args), **SMALL)
    assert seen == [(1, 1, "train")] and contents(tmp_path / "b") == whole


def test_what_is_written_is_coco(tmp_path):
    folder = simulate(tmp_path / "a", ("train", "train_extended"), processes=1, **SMALL)
    about = json.loads((folder / "dataset.json").read_text())
    assert about["splits"] == ["train", "train_extended"] and about["panorama"] is False and about["size_limits"] == [16, 32]
    content, extended = (json.loads((folder / f"{split}_annotations.json").read_text()) for split in about["splits"])
    assert [c["name"] for c in content["categories"]] == list(CLASSES) and [c["id"] for c in content["categories"]] == list(range(1, 9))
    assert [i["file_name"] for i in extended["images"]][:6] == [i["file_name"] for i in content["images"]] and len(extended["images"]) == 9
    frames = list(clip_frames(1, SECTOR, frames=3))
    for entry, (image, boxes) in zip(content["images"][3:], frames, strict=True):
        assert entry["file_name"].startswith("images/train/trip000_Video00001_")
        assert (np.asarray(Image.open(folder / entry["file_name"])) == image).all()
        own = [a for a in content["annotations"] if a["image_id"] == entry["id"]]
        assert [a["bbox"] for a in own] == [b["bbox"] for b in boxes]
    ids = [a["id"] for a in extended["annotations"]]
    assert ids == list(range(1, len(ids) + 1)) and all(0 < a["visible"] <= 1 and a["distance"] > 0 for a in extended["annotations"])


def test_other_settings_are_refused(tmp_path):
    folder = simulate(tmp_path, ("val",), images=False, processes=1, **SMALL)
    with pytest.raises(ValueError, match=r"seed is 0 there, 5 here.*another folder"):
        simulate(folder, ("val",), images=False, seed=5, processes=1, **SMALL)
    with pytest.raises(ValueError, match="sensor is"):
        simulate(folder, ("val",), images=False, processes=1, **{**SMALL, "sensor": PANORAMA})
    with pytest.raises(ValueError, match="unknown test"):
        simulate(folder, ("test",), processes=1, **SMALL)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """Annotations of train and val as users get them, as a table."""
    folder = simulate(tmp_path_factory.mktemp("full"), images=False, processes=2)
    tables = []
    for split in ("train", "val"):
        content = json.loads((folder / f"{split}_annotations.json").read_text())
        clip = {i["id"]: i["file_name"].split("Video")[1][:5] for i in content["images"]}
        tables.append(boxes_of(content).assign(split=split, clip=[clip[a["image_id"]] for a in content["annotations"]]))
    return pd.concat(tables)


def boxes_of(content):
    """COCO content as a table of boxes."""
    names = {c["id"]: c["name"] for c in content["categories"]}
    return pd.DataFrame([{"label": names[a["category_id"]], "width": a["bbox"][2], "height": a["bbox"][3], "track": a.get("track")}
                         for a in content["annotations"]])


def beside(mine, real):
    return pd.concat([mine, real.add_suffix(" real")], axis=1).round(3).to_string()


def summary(table):
    grouped = table.groupby("label")
    rows = pd.DataFrame({"share": grouped.size() / len(table), "width": grouped.width.median(), "height": grouped.height.median()})
    return rows.reindex(list(CLASSES))


def test_statistics_are_those_of_the_real_annotations(annotations):
    annotations = annotations[annotations.split == "train"]
    mine, frames = summary(annotations), 40 * 10
    print("\n", beside(mine, REAL))
    print(f" all: width {annotations.width.median()} ({REAL_WIDTH}), height {annotations.height.median()} ({REAL_HEIGHT}), "
          f"boxes a frame {len(annotations) / frames:.1f} ({REAL_BOXES_A_FRAME})")
    assert annotations.width.median() == pytest.approx(REAL_WIDTH, rel=0.25)
    assert annotations.height.median() == pytest.approx(REAL_HEIGHT, rel=0.25)
    assert 1 / 1.5 < len(annotations) / frames / REAL_BOXES_A_FRAME < 1.5
    common = ["car", "person", "rider", "bicycle"]
    ratio = mine.loc[common] / REAL.loc[common]
    assert ((ratio > 1 / 1.5) & (ratio < 1.5)).to_numpy().all(), ratio
    assert mine.share[["truck", "bus", "motorcycle", "scooter"]].between(0.015, 0.05).all()
    persons = annotations[annotations.label == "person"].groupby("clip").size()
    assert persons.max() > 4 * persons.median()  # clips differ


def test_every_class_can_be_evaluated_on_val(annotations):
    val = annotations[annotations.split == "val"]
    objects = val.drop_duplicates(["label", "clip", "track"])
    table = pd.DataFrame({"boxes": val.groupby("label").size(), "objects": objects.groupby("label").size(),
                          "clips": val.groupby("label").clip.nunique()}).reindex(list(CLASSES))
    print("\n", table.to_string())
    assert (table.boxes >= 30).all() and (table.clips >= 5).all() and (table.objects >= 8).all()


def test_comparison_with_the_real_annotations_where_they_are(annotations, real):
    table = boxes_of(json.loads((real / "full_train_annotations.json").read_text()))
    print("\n", beside(summary(annotations[annotations.split == "train"]), summary(table)))
    pd.testing.assert_frame_equal(summary(table).fillna({"share": 0}), REAL, check_names=False, atol=0.06)
