import math
import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import coco, write_dataset
from PIL import Image
from scipy.stats import wasserstein_distance

from detlib import shift
from detlib.data import resplit as splitting
from detlib.data.coco import DataError, Part
from detlib.data.folder import open_dataset
from detlib.experiments import rung
from detlib.plots import shift as figures
from detlib.train import fit

KINDS = ("car", "<b>person</b>", "cost $5 or $6", "größe")


def clips(split, number, boxes, frames=2, first=0, hw=(64, 256)):
    """COCO content of `number` clips with `frames` frames each; `boxes(clip, frame)` gives (category, box) pairs."""
    names = [(c, f) for c in range(first, first + number) for f in range(frames)]
    images = [(f"images/{split}/street{c:02d}_{f}.png", hw[1], hw[0]) for c, f in names]
    return coco(images, [(k, label, box) for k, (c, f) in enumerate(names) for label, box in boxes(c, f)], KINDS)


def opened(root, pictures=False, **splits):
    return open_dataset(write_dataset(root, splits, pictures=pictures))


def sized(rng, scale):
    """Boxes whose size is drawn clip by clip around `scale` px."""
    means = scale * 2 ** rng.normal(0, 0.3, 100)
    return lambda c, f: [(1 + k % 2, [5.0 + 3 * k, 4.0, float(means[c] * 2 ** rng.normal(0, 0.1)), 8.0]) for k in range(6)]


# Measuring


def test_distances_are_scipys():
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 1, 60).round(1), rng.normal(0.7, 2, 45).round(1)
    (a, b), grid = splitting.histograms("size", [{"size": (one, np.zeros(60, int))}, {"size": (two, np.zeros(45, int))}], [1, 1])
    assert splitting.distance(a, b, grid)[0] == pytest.approx(wasserstein_distance(one, two), abs=1e-12)
    at, weights = [0, 1, 10], (np.array([[0.0, 2, 1]]), np.array([[3.0, 1, 0]]))
    assert splitting.distance(*weights, np.array(at))[0] == pytest.approx(wasserstein_distance(at, at, weights[0][0], weights[1][0]))


def test_many_values_are_rounded_to_a_grid_and_stay_near_scipys():
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, 4000), rng.normal(0.3, 1.2, 3000)
    (a, b), grid = splitting.histograms("size", [{"size": (v, np.zeros(len(v), int))} for v in (one, two)], [1, 1])
    assert len(grid) <= splitting.GRID and a.sum() == 4000 and b.sum() == 3000
    assert splitting.distance(a, b, grid)[0] == pytest.approx(wasserstein_distance(one, two), abs=0.005)


def test_class_mix_is_total_variation():
    assert splitting.distance(np.array([[2.0, 1, 1]]), np.array([[0.0, 4, 4]]), None)[0] == 0.5
    assert math.isnan(splitting.distance(np.array([[0.0, 0]]), np.array([[1.0, 0]]), None)[0])


def test_what_is_measured_by_hand(tmp_path):
    """Two pictures of different sizes: middles are shares of each its own; a crowd does not count."""
    content = coco([("images/a_0.png", 200, 100), ("images/b_0.png", 100, 50)],
                   [(0, 1, [20, 10, 16, 4]), (1, 2, [40, 20, 20, 20]), (1, 2, [0, 0, 9, 9])])
    content["annotations"][2]["iscrowd"] = 1
    found = splitting.measured(opened(tmp_path, train=content)["train"])
    assert list(found) == ["class mix", "size", "width / height", "place across", "place down"]
    assert [list(values) for values, _ in found.values()] == [[1, 2], [3, math.log2(20)], [2, 0], [0.14, 0.5], [0.12, 0.6]]
    assert all(list(clip) == [0, 1] for _, clip in found.values())


def test_brightness_of_the_pictures_that_are_there(tmp_path):
    content = coco([(f"images/a_{k}.png", 8, 4) for k in range(3)], [])
    split = opened(tmp_path, pictures=True, train=content)["train"]
    for k, colour in ((0, (10, 20, 30)), (2, (40, 0, 255))):
        Image.new("RGB", (8, 4), colour).save(tmp_path / f"images/a_{k}.png")
    (tmp_path / "images/a_1.png").unlink()
    grey, places = splitting.brightness(split)
    np.testing.assert_array_equal(grey, [[10, 20, 30], [40, 0, 255]])
    assert list(places) == [0, 2]
    named = splitting.measured(split, ["red", "green", "blue"])
    assert list(named)[5:] == ["brightness: red", "brightness: green", "brightness: blue"] and list(named["brightness: blue"][0]) == [30, 255]


def test_without_any_picture_brightness_is_left_out(tmp_path):
    content = coco([("images/a_0.png", 8, 4)], [(0, 1, [1, 1, 4, 2])])
    dataset = opened(tmp_path, train=content, val=coco([("images/b_0.png", 8, 4)], [(0, 1, [1, 1, 4, 2])]))
    assert set(shift.distances(dataset, resamples=20)["quantity"]) == set(splitting.UNITS)


# Distances against chance


def test_values_and_no_interval_of_one_clip(tmp_path):
    """Sizes 8 and 16 against 16: half of the mass moves one log2 unit; one of two labels differs."""
    train = clips("train", 1, lambda c, f: [(1, [0, 0, 8, 8]), (2, [0, 0, 16, 16])])
    val = clips("val", 1, lambda c, f: [(1, [0, 0, 16, 16])], first=50)
    dataset = opened(tmp_path, train=train, val=val)
    table = shift.distances(dataset, resamples=50).set_index("quantity")
    assert table["value"].to_dict() == pytest.approx({"class mix": 0.5, "size": 0.5, "width / height": 0,
                                                         "place across": 2 / 256, "place down": 2 / 64})
    assert table[["low", "high", "chance", "p"]].isna().all(axis=None) and not table["more"].any()
    lines = shift.shift_sentences(table.reset_index(), dataset)
    assert lines[0] == "Whether they differ by more than chance cannot be told: train's 1 clip can be divided in too few ways."
    assert [line.partition(",")[0] for line in lines[1:]] == ["train is one clip", "val is one clip"]


def test_a_shift_of_sizes_is_found_and_only_that(tmp_path):
    rng = np.random.default_rng(3)
    train, val = clips("train", 14, sized(rng, 10)), clips("val", 6, sized(rng, 25), first=50)
    dataset = opened(tmp_path, train=train, val=val)
    table = shift.distances(dataset, resamples=300).set_index("quantity")
    assert table.loc["size", "more"] and table.loc["width / height", "more"] and not table.loc["class mix", "more"]
    assert 0 < table.loc["size", "low"] < table.loc["size", "value"] < table.loc["size", "high"]
    said = shift.shift_sentences(table.reset_index(), dataset)
    assert any(line.startswith("size: val is") and "more than chance" in line for line in said)
    assert not any(line.startswith("class mix: val is") for line in said)


def test_splits_of_one_street_are_rarely_called_different(tmp_path):
    """Where train and val are drawn alike, p <= 0.05 should come about once in twenty: in 20 draws at most 4 times (5 or more: 1 in 400)."""
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        boxes = sized(rng, 10)
        dataset = opened(tmp_path / str(seed), train=clips("train", 12, boxes), val=clips("val", 4, boxes, first=50))
        alarms += bool(shift.distances(dataset, resamples=200).set_index("quantity").loc["size", "more"])
    assert alarms <= 4


def test_ways_to_set_clips_against_the_others():
    halves = shift.own_halves(12, 3, 50)
    assert halves.shape == (50, 12) and set(halves.sum(1)) == {3} and len(np.unique(halves, axis=0)) > 20
    assert set(shift.own_halves(12, 30, 50).sum(1)) == {6}
    assert shift.own_halves(6, 3, 50).shape == (50, 6)  # 20 ways
    assert shift.own_halves(5, 3, 50).shape == (0, 5)  # 10 ways


def test_the_yardstick_counts_only_clips_that_have_the_quantity(tmp_path):
    """Of 12 clips four have objects: six ways to take two of them, too few."""
    train = clips("train", 12, lambda c, f: [(1, [0, 0, 8 + c, 8])] if c < 4 else [])
    dataset = opened(tmp_path, train=train, val=clips("val", 6, lambda c, f: [(1, [0, 0, 9, 8])], first=50))
    assert shift.distances(dataset, resamples=50)["chance"].isna().all()


def test_splits_without_boxes_or_val(tmp_path):
    dataset = opened(tmp_path, train=clips("train", 2, lambda c, f: [(1, [0, 0, 8, 8])]), val=clips("val", 2, lambda c, f: [], first=50))
    table = shift.distances(dataset)
    assert len(table) == 0 and shift.shift_sentences(table, dataset) == ["Nothing to compare: val has neither boxes nor pictures."]
    with pytest.raises(DataError, match="no test in this data"):
        shift.distances(dataset, "train", "test")


# Trust


def test_effective_clips_and_verdicts_by_hand(tmp_path):
    assert shift.effective([5, 5, 5]) == 3 and shift.effective([3, 1]) == 1.6 and shift.effective([]) == shift.effective([0, 0]) == 0
    val = clips("val", 20, lambda c, f: [(1, [0, 0, 8, 8])] + [(2, [0, 0, 8, 8])] * (9 if c == 0 else c == 1) + [(3, [0, 0, 8, 8])] * (c == 7))
    table = shift.trust(opened(tmp_path, val=val))
    assert list(table.index) == list(KINDS)
    assert table[["objects", "clips"]].to_numpy().tolist() == [[40, 20], [20, 2], [2, 1], [0, 0]]
    assert table["effective"].round(6).tolist() == [20, round(100 / 82, 6), 1, 0]
    assert table["verdict"].tolist() == ["trusted", "not at all: 90% of it in 1 clip", "not at all: 1 clip", "no AP: no object"]


def test_a_runs_interval_decides(tmp_path, monkeypatch):
    """The spread over resamples by hand: 0.02, 0.2 and 0.3 around AP 0.5, t of 19 degrees of freedom."""
    spreads = np.array([0.02, 0.1, 0.3, 0.1])
    ap = 0.5 + spreads * np.resize([1, -1], 1000)[:, None]
    monkeypatch.setattr(shift, "resampled_classes", lambda run, dataset: (np.vstack([np.full(4, 0.5), ap]), 20))
    val = clips("val", 20, lambda c, f: [(k, [0, 0, 8, 8]) for k in (1, 2, 3)] + [(4, [0, 0, 8, 8])] * (c == 0))
    dataset = opened(tmp_path, val=val)
    table = shift.trust(dataset, run="a run")
    half = 2.0930 * spreads[:2]
    np.testing.assert_allclose(table["high"][:2] - table["low"][:2], 2 * half, rtol=1e-4)
    assert table["verdict"].tolist() == ["trusted, to ±0.04", f"only to a factor of {(0.5 + half[1]) / (0.5 - half[1]):.1f}",
                                         "not at all: the interval begins at 0", "not at all: 1 clip"]
    assert table["ap"].tolist() == [0.5] * 4 and np.isnan(table["low"].iloc[3])
    with pytest.raises(ValueError, match="validated on val"):
        shift.trust(dataset, run="a run", split="train")


def test_independent_frames_by_hand(tmp_path):
    """Counts 0, 2 | 4, 6: between 16, within 2, so alike = 14 / 18 and four frames are worth 4 / (1 + 14/18) = 2.25; equal counts: a clip is one."""
    train = clips("train", 2, lambda c, f: [(1, [0, 0, 8, 8])] * (4 * c + 2 * f) + [(2, [0, 0, 8, 8])] * (1 + c))
    table = shift.independent_frames(opened(tmp_path, train=train)["train"])
    assert table.loc["car", "alike"] == pytest.approx(14 / 18) and table.loc["car", "effective"] == pytest.approx(2.25)
    assert table.loc["<b>person</b>", ["alike", "effective"]].tolist() == [1, 2]
    assert math.isnan(table.loc["größe", "alike"]) and table.loc["all objects", "frames"] == 4


def test_single_pictures_are_independent_and_one_clip_says_nothing(tmp_path):
    alone = shift.independent_frames(opened(tmp_path / "a", train=clips("train", 5, lambda c, f: [(1, [0, 0, 8, 8])] * c, frames=1))["train"])
    assert alone.loc["all objects", "effective"] == 5
    one = shift.independent_frames(opened(tmp_path / "b", train=clips("train", 1, lambda c, f: [(1, [0, 0, 8, 8])] * f))["train"])
    assert one["effective"].isna().all()


# A new split


def rare(c, f):
    """car everywhere, person in every third clip, $ in the clips 4 and 21, größe in clip 8 alone."""
    return ([(1, [1.0 * c, 0, 8, 8])] + [(2, [3.0 * c, 0, 8, 20])] * (c % 3 == 0) + [(3, [0, 0, 40, 9])] * (c in (4, 21))
            + [(4, [0, 0, 9, 9])] * (c == 8))


def by_picture(*splits):
    """What each picture shows, whatever its number."""
    return {split.frames[k].file_name: rows[["clip", "label", "x1", "y1", "x2", "y2", "area"]].to_numpy().tolist()
            for split in splits for k, rows in split.boxes.groupby("frame")}


@pytest.fixture
def lopsided(tmp_path):
    """20 clips in train, 4 in val, whose ids are the same numbers."""
    return opened(tmp_path / "lopsided", train=clips("train", 20, rare), val=clips("val", 4, rare, first=20))


@pytest.mark.parametrize("seed", range(8))
def test_every_class_that_two_clips_hold_is_on_both_sides(lopsided, seed, capsys):
    new = shift.resplit(lopsided, 0.25, seed)
    train, val = new["train"], new["val"]
    assert not set(train.clips) & set(val.clips) and len(train) + len(val) == 48 and len(val) == 12
    for name in KINDS[:3]:
        assert name in set(train.boxes["category"]) and name in set(val.boxes["category"])
    assert "größe: in 1 clip only, so it is in train alone: no AP can be measured." in capsys.readouterr().out
    assert by_picture(train, val) == by_picture(lopsided["train"], lopsided["val"])


def test_mix_and_sizes_are_nearer_than_by_chance(tmp_path, capsys):
    def boxes(c, f):
        return [(1 + c % 2, [0, 0, 6.0 + 3 * c, 8])] * (1 + c % 4)
    new = shift.resplit(opened(tmp_path, train=clips("train", 16, boxes)))
    table = shift.distances(new, resamples=200).set_index("quantity")
    assert table.loc[["class mix", "size"], "p"].min() > 0.8
    said = float(re.search(r"class mix differs by ([\d.]+)%", capsys.readouterr().out)[1])
    assert said == pytest.approx(100 * table.loc["class mix", "value"], abs=0.051)


@pytest.mark.parametrize("seed", range(5))
def test_classes_come_before_sizes(tmp_path, seed):
    """Sizes are alike only where clip 0 (small) and clip 1 (large) are together, and $ is in just these two: they are parted all the same."""
    small, large = [(1, [0, 0, 8, 8])], [(1, [0, 0, 32, 32])]
    cars = (8 * small, 8 * large, 4 * small + 4 * large, 4 * small + 4 * large)
    parted = shift.resplit(opened(tmp_path / "a", train=clips("train", 4, lambda c, f: cars[c] + [(3, [0, 0, 9, 9])] * (c < 2))), 0.5, seed)
    assert len({"street00", "street01"} & set(parted["val"].clips)) == 1
    together = shift.resplit(opened(tmp_path / "b", train=clips("train", 4, lambda c, f: cars[c] + [(4, [0, 0, 9, 9])] * (c == 2))), 0.5, seed)
    assert together["val"].clips == ["street00", "street01"]  # größe, in clip 2 alone, is where it can be learned


def test_ids_are_unique_and_fingerprints_their_own(lopsided):
    new, again, other = shift.resplit(lopsided), shift.resplit(lopsided), shift.resplit(lopsided, seed=1)
    splits = [new["train"], new["val"]]
    for values in ([f.image_id for s in splits for f in s.frames], [a for s in splits for a in s.boxes["annotation"]]):
        assert len(values) == len(set(values))
    for split in splits:
        assert [split.frames[k].image_id for k in split.boxes["frame"]] == list(split.boxes["image_id"])
        assert [len(split.targets(k)[1]) for k in range(len(split))] == [int((split.boxes["frame"] == k).sum()) for k in range(len(split))]
    prints = [s.fingerprint for d in (new, other, lopsided) for s in d.splits.values()]
    assert len(set(prints)) == 6 and new.key == again.key != other.key
    assert [s.frames for s in again.splits.values()] == [s.frames for s in splits] and [s.name for s in splits] == ["train", "val"]


def test_ids_that_do_not_collide_are_kept_and_tiles_stay_together(tmp_path):
    train, val = clips("train", 2, rare), clips("val", 2, rare, first=20)
    for k, image in enumerate(val["images"]):
        image["id"] = 900 + k
    for k, entry in enumerate(val["annotations"]):
        entry["id"], entry["image_id"] = 900 + k, entry["image_id"] - 10 + 900
    dataset = opened(tmp_path, train=train, val=val)
    pool = splitting.pooled(dataset)
    assert [f.image_id for f in pool.frames] == [10, 11, 12, 13, 900, 901, 902, 903]
    tiled = {name: replace(split, frames=tuple(replace(f, part=Part(1 + f.number, (64, 256), (64, 256), 0, 0)) for f in split.frames))
             for name, split in dataset.splits.items()}
    stored = [(f.file_name.split("/")[1], f.part.image_id) for f in splitting.pooled(replace(dataset, splits=tiled)).frames]
    assert len(set(stored)) == 4 and len({number for _, number in stored}) == 4  # picture 1 of train is not picture 1 of val


def test_a_clip_that_lies_in_both_splits_is_one(tmp_path):
    dataset = opened(tmp_path, train=clips("train", 3, rare), val=clips("val", 2, rare))
    new = shift.resplit(dataset, 0.3)
    assert sorted(new["train"].clips + new["val"].clips) == ["street00", "street01", "street02"]


def test_refusals_name_the_way_out(tmp_path, small):
    one = opened(tmp_path / "one", train=clips("train", 1, rare))
    with pytest.raises(DataError, match=r"1 clip cannot be split .*; bring more clips"):
        shift.resplit(one)
    with pytest.raises(DataError, match="0 clips cannot be split"):
        shift.resplit(opened(tmp_path / "none", train=coco([], [])))
    same = clips("train", 3, rare)
    with pytest.raises(DataError, match=r"the picture images/train/street00_0.png is in train and in val"):
        shift.resplit(opened(tmp_path / "same", train=same, val=same))
    with pytest.raises(ValueError, match=r"share=1.5"):
        shift.resplit(open_dataset(small), 1.5)
    with pytest.raises(DataError, match=r"neither train nor val .* test"):
        shift.resplit(opened(tmp_path / "test", test=clips("test", 3, rare)))


def test_no_boxes_at_all_and_two_clips(tmp_path, capsys):
    new = shift.resplit(opened(tmp_path, train=clips("train", 2, lambda c, f: [])))
    assert len(new["train"]) == len(new["val"]) == 2 and "differs" not in capsys.readouterr().out


def test_a_new_split_can_be_trained_on(small):
    new = shift.resplit(open_dataset(small), 0.3)
    run = fit(rung("baseline", "smoke", steps=2), new, progress=False)
    assert run.finished and new.key in run.folder.parts
    assert [run.config["data"][name] for name in ("train", "val")] == [new["train"].fingerprint, new["val"].fingerprint]


# Figures


def texts(figure):
    figure.canvas.draw()
    return " ".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.filterwarnings("error::UserWarning")
def test_figures_of_few_and_many(tmp_path):
    many = tuple(f"class {k}" for k in range(20))
    wide = coco([(f"images/train/s{c:03d}_0.png", 1024, 128) for c in range(60)], [(c, 1 + c % 20, [1000, 100, 20, 20]) for c in range(60)], many)
    for name, train, val in (("few", clips("train", 1, rare), clips("val", 1, lambda c, f: [], first=50)), ("many", wide, coco([], [], many)),
                             ("both", clips("train", 12, rare), clips("val", 3, rare, first=20))):
        dataset = opened(tmp_path / name, train=train, val=val)
        table = shift.distances(dataset, resamples=50)
        shown = texts(figures.clip_profiles(dataset.splits, dataset.channels))
        assert "train: n =" in shown and (name != "many" or "train: 40 of 60 clips" in shown)
        assert ("No yardstick" in texts(figures.shift_distances(table, dataset.splits))) == (name != "both")
        assert all(verdict.replace(": ", ":\n", 1) in texts(figures.trusted(shift.trust(dataset), dataset["val"]))
                   for verdict in shift.trust(dataset)["verdict"])


def test_channels_of_photographs_have_their_own_colours():
    red, green, blue = (figures.NAMED[name] for name in ("red", "green", "blue"))
    assert figures.channel_colours(["brightness: blue", "brightness: green", "brightness: red"]) == {"blue": blue, "green": green, "red": red}
    assert list(figures.channel_colours([f"brightness: {name}" for name in ("intensity", "ambient", "range")]).values()) == list(figures.CHANNELS)


def test_the_distances_figure_marks_what_is_beyond_chance(tmp_path):
    rng = np.random.default_rng(3)
    dataset = opened(tmp_path, train=clips("train", 14, sized(rng, 10)), val=clips("val", 6, sized(rng, 25), first=50))
    table = shift.distances(dataset, resamples=100)
    figure = figures.shift_distances(table, dataset.splits)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() != "white" for dot in dots] == table["more"].tolist()
    at = [float(np.ravel(dot.get_xdata())[0]) for dot in dots]
    assert table["chance"].tolist()[0] == 0 and at[0] == 0  # the class mix is the same in every clip
    np.testing.assert_allclose(at[1:4], np.minimum(table["value"] / table["chance"], figure.axes[0].get_xlim()[1])[1:4])


def test_a_shift_is_shown_where_the_clips_are_all_alike(tmp_path):
    """Twelve clips of equal cars against persons: what chance gives is 0, and the difference must not fall out of the figure."""
    train, val = (clips(name, 12, lambda c, f, k=k: [(k, [0, 0, 8, 8])], first=50 * k) for k, name in ((1, "train"), (2, "val")))
    dataset = opened(tmp_path, train=train, val=val)
    table = shift.distances(dataset, resamples=50).set_index("quantity", drop=False)
    assert table.loc["class mix", ["value", "chance", "more"]].tolist() == [1, 0, True] and not table["more"][1:].any()
    assert table["p"].tolist() == [1 / 51, 1, 1, 1, 1]
    axes = figures.shift_distances(table, dataset.splits).axes[0]
    dots = [float(np.ravel(line.get_xdata())[0]) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [axes.get_xlim()[1], 0, 0, 0, 0]
