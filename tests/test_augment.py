"""Augmentations: the boxes follow the pixels."""
import numpy as np
import pandas as pd
import pytest
import torch

from detlib import benchmark, plots
from detlib.data import augment as A
from detlib.data.folder import open_dataset

CHANNELS = ("intensity", "ambient", "range")


def sample(boxes, hw=(20, 60)):
    """Noise below 100, each box painted in a grey level of its own, 100 + 20 times its label, in the last channel; labels 1, 2, ..."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 100, (3, *hw), dtype=np.uint8))
    for label, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        image[-1, y1:y2, x1:x2] = 100 + 20 * label
    return image, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.arange(1, len(boxes) + 1)


def extent(image, label, columns=slice(None)):
    """The box around a label's paint."""
    rows, xs = torch.where(image[-1] == 100 + 20 * label)
    keep = torch.isin(xs, torch.arange(image.shape[-1])[columns])
    rows, xs = rows[keep], xs[keep]
    return [int(xs.min()), int(rows.min()), int(xs.max()) + 1, int(rows.max()) + 1]


THREE = [(2, 3, 12, 9), (20, 1, 27, 19), (40, 8, 55, 14)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_flip_twice_changes_nothing_and_once_does():
    s = sample(THREE)
    assert same(A.flip(A.flip(s)), s)
    assert A.flip(s)[1].tolist() == [[48, 3, 58, 9], [33, 1, 40, 19], [5, 8, 20, 14]]


def test_roll_all_the_way_round_changes_nothing():
    s = sample(THREE)
    for shift in (0, 60, -60, 120):
        assert same(A.roll(s, shift), s)


def test_roll_cuts_at_the_seam_in_two():
    image, boxes, labels = A.roll(sample(THREE), 10)  # the third box comes to lie over columns 50 .. 65
    assert boxes.tolist() == [[12, 3, 22, 9], [30, 1, 37, 19], [50, 8, 60, 14], [0, 8, 5, 14]] and labels.tolist() == [1, 2, 3, 3]
    assert extent(image, 3, slice(0, 30)) == [0, 8, 5, 14] and extent(image, 3, slice(30, 60)) == [50, 8, 60, 14]
    assert torch.equal(image[..., 10:], sample(THREE)[0][..., :50])


def test_a_box_that_ends_at_the_seam_is_not_cut():
    _, boxes, _ = A.roll(sample(THREE), 5)
    assert boxes[2].tolist() == [45, 8, 60, 14] and len(boxes) == 3
    _, boxes, _ = A.roll(sample(THREE), 20)  # and one that begins there
    assert boxes[2].tolist() == [0, 8, 15, 14] and len(boxes) == 3


@pytest.mark.parametrize("shift, parts", [(6, [[46, 60]]), (7, [[47, 60], [0, 2]]), (18, [[58, 60], [0, 13]]), (19, [[0, 14]])])
def test_roll_drops_slivers(shift, parts):
    """Of 15 px, a part of 2 px stays and one of 1 px goes."""
    _, boxes, labels = A.roll(sample(THREE), shift)
    assert [[x1, x2] for x1, _, x2, _ in boxes[labels == 3].tolist()] == parts


def test_roll_never_loses_an_object():
    narrow = (torch.zeros(3, 20, 60, dtype=torch.uint8), torch.tensor([[30, 2, 31.5, 8]]), torch.tensor([4]))
    for shift in range(60):
        _, boxes, labels = A.roll(narrow, shift)
        assert 1 <= len(boxes) <= 2 and set(labels.tolist()) == {4} and (boxes[:, 2] > boxes[:, 0]).all()


def test_roll_back_restores_pixels_and_all_boxes_that_were_not_cut():
    """A box that lost a sliver at the seam comes back without it, shorter by less than the limit."""
    s = sample(THREE)
    for shift in range(-60, 60, 7):
        rolled = A.roll(s, shift)
        image, boxes, labels = A.roll(rolled, -shift)
        assert torch.equal(image, s[0])
        if len(rolled[1]) == 3:
            sliver = ((s[1][:, 0] + shift) % 60 + s[1][:, 2] - s[1][:, 0]) > 60
            assert torch.equal(boxes[~sliver], s[1][~sliver]) and (boxes - s[1]).abs().max() < A.LEAST_PART
        else:  # the two halves stay two, and together are the object
            cut = rolled[2][-1]
            halves = boxes[labels == cut]
            assert len(halves) == 2
            assert [halves[:, 0].min(), halves[:, 2].max()] == s[1][cut - 1, [0, 2]].tolist()
            assert torch.equal(boxes[labels != cut], s[1][s[2] != cut])


@pytest.mark.parametrize("name", ["crop", "flip", "roll", "jitter", "crop_min_overlap"])
def test_boxes_follow_the_paint(name, dataset):
    """Every box that comes out is the extent of its object's paint, cut off or not."""
    rng, seen = np.random.default_rng(1), 0
    for _ in range(40):
        image, boxes, labels = A.augmentations(dataset)[name](sample(THREE), rng)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            part = slice(None) if (labels == label).sum() == 1 and name != "roll" else slice(int(box[0]), int(box[2]))
            assert extent(image, label, part) == box
            seen += 1
    assert seen >= 40
    assert A.paint_error(A.augmentations(dataset)[name]) == 0


def test_forgotten_boxes_are_noticed():
    assert A.paint_error(lambda s, rng: (torch.flip(s[0], [-1]), s[1], s[2])) > 50
    assert A.paint_error(lambda s, rng: (s[0], s[1] + 1, s[2])) == 1
    assert A.paint_error(lambda s, rng: (torch.zeros_like(s[0]), s[1], s[2])) == float("inf")


@pytest.fixture
def dataset(small):
    (small / "dataset.json").write_text('{"name": "small", "panorama": true, "channels": ["intensity", "ambient", "range"]}')
    return open_dataset(small)


def test_the_roll_is_for_panoramas_only(small):
    assert "roll" not in A.augmentations(open_dataset(small))


def test_crop_keeps_an_object_at_the_limit():
    """4 of 10 columns are 0.4 and stay; 3 go."""
    s = sample([(10, 5, 20, 15)])
    image, boxes, labels = A.crop(s, 16, 30)
    assert boxes.tolist() == [[0, 5, 4, 15]] and labels.tolist() == [1] and image.shape == (3, 20, 30)
    assert extent(image, 1) == [0, 5, 4, 15]
    assert not len(A.crop(s, 17, 30)[1])
    assert A.window(s, 0, 11, 60, 9)[1].tolist() == [[10, 0, 20, 4]] and not len(A.window(s, 0, 12, 60, 8)[1])


def test_sampled_crop_overlaps_an_object_that_it_keeps():
    s, found = sample(THREE), 0
    for seed in range(60):
        place = A.sampled_window(s, np.random.default_rng(seed), least=0.3)
        result = A.crop_min_overlap(s, np.random.default_rng(seed), least=0.3)
        if place is None:
            assert result is s
            continue
        left, top, width, height = place
        assert 0 <= left <= 60 - width and 0 <= top <= 20 - height and 2 <= height <= 20
        image, boxes, _ = result
        assert image.shape == (3, height, width) and len(boxes)
        ious = []
        for x1, y1, x2, y2 in THREE:
            common = max(0, min(x2, left + width) - max(x1, left)) * max(0, min(y2, top + height) - max(y1, top))
            ious.append(common / (width * height + (x2 - x1) * (y2 - y1) - common))
        assert max(ious) >= 0.3 - 1e-6
        found += 1
    assert found > 30
    assert A.crop_min_overlap(s, np.random.default_rng(0), least=1.01) is s


def test_no_boxes(dataset):
    for name, apply in A.augmentations(dataset).items():
        for seed in range(3):
            image, boxes, labels = apply(sample([]), np.random.default_rng(seed))
            assert boxes.shape == (0, 4) and labels.shape == (0,) and image.dtype == torch.uint8, name


def test_the_generator_decides(dataset):
    for name, apply in A.augmentations(dataset).items():
        s = sample(THREE)
        before = [part.clone() for part in s]
        first, again, other = (apply(s, np.random.default_rng(seed)) for seed in (5, 5, 6))
        assert same(first, again) and same(s, before), name
        assert name == "flip" or not same(first, other), name


def test_jitter_leaves_boxes_range_and_limits():
    s = sample(THREE)
    for seed in range(10):
        image, boxes, labels = A.jitter(s, np.random.default_rng(seed), CHANNELS)
        assert boxes is s[1] and labels is s[2] and image.dtype == torch.uint8
        assert torch.equal(image[2], s[0][2]) and not torch.equal(image[0], s[0][0]) and not torch.equal(image[1], s[0][1])
    assert not torch.equal(A.jitter(s, np.random.default_rng(0))[0][2], s[0][2]), "a channel without that name is changed too"


def test_jitter_is_what_it_says():
    class Fixed:
        def uniform(self, low, high, count):
            self.turn = getattr(self, "turn", -1) + 1
            return np.full(count, (1.0, 0.5)[self.turn])  # gain 1 + 0.5, offset 16

    image = torch.tensor([[[0, 100, 200, 100]]], dtype=torch.uint8)  # mean 100
    changed, _, _ = A.jitter((image, torch.zeros(0, 4), torch.zeros(0)), Fixed())
    assert changed.tolist() == [[[0, 116, 255, 116]]]  # -34 and 266 are clipped, not wrapped


def test_statistics_by_hand(dataset):
    table = A.box_statistics(dataset["train"], {"flip": lambda s, rng: A.flip(s)}, frames=3, draws=2)
    assert table.groupby("augmentation").size().to_dict() == {"flip": 6, "none": 3}
    none, flipped = (table[(table["augmentation"] == name) & (table["frame"] == 0)].iloc[0] for name in ("none", "flip"))
    assert none["width"].tolist() == flipped["width"].tolist() == [32] and none["x"].tolist() == [36 / 256] and flipped["x"].tolist() == [220 / 256]
    assert not none["edge"].any() and not none["changed"] and flipped["changed"]


def test_loader_costs_and_figures(dataset):
    costs = benchmark.loader_costs(dataset, images=2, rounds=3)
    assert list(costs.index) == [benchmark.READ, benchmark.CACHED, "crop", "flip", "roll", "jitter", "crop_min_overlap", "stack", benchmark.MATCH]
    assert (costs["least"] <= costs["ms"]).all() and (costs["ms"] <= costs["most"]).all() and (costs["least"] > 0).all()
    assert costs.attrs["anchors"] == 16360  # a quarter of the report's 65,440
    assert len(plots.loader_costs(costs).axes[0].patches) == len(costs)
    table = benchmark.loader_speed(costs)
    assert table.loc["flip", "the report's file + matching"] == "25.36" and table.index[0] == "none"
    split = dataset["train"]
    s = (split.image(2), *split.targets(2))
    shift = A.shift_through_widest(s)
    for figure in (plots.before_after(s, A.roll(s, shift), split.categories, "roll", seam=shift), plots.sampled_crops(s, split.categories),
                   plots.by_channel(s, A.jitter(s, np.random.default_rng(0), dataset.channels), dataset.channels, split.categories),
                   plots.box_statistics(A.box_statistics(split, A.augmentations(dataset)))):
        assert figure.png()[:4] == b"\x89PNG"
    assert plots.varied(split) == 2  # the one frame with both classes


def test_speed_adds_up():
    costs = pd.DataFrame({"group": ["reading", "reading", "augmentation", "batch", "matching"], "ms": [4.0, 0.0, 1.0, 1.0, 5.0]},
                         index=[benchmark.READ, benchmark.CACHED, "flip", "stack", benchmark.MATCH])
    table = benchmark.loader_speed(costs)
    assert table.loc["none"].tolist() == ["1,000", "167", "200", "100", "26.69"]
    assert table.loc["flip"].tolist() == ["500", "143", "167", "90.9", "25.36"]
