"""Coverage and matching without the whole grid, against the whole grid."""
import math
from itertools import accumulate

import pytest
import torch
from conftest import coco, write_dataset

from detlib import coverage as module
from detlib.anchors import BASELINE, REPORT, AnchorSpec
from detlib.boxes import cxcywh_to_xyxy, iou
from detlib.coverage import anchor_use, coverage, coverage_table, match_local, positives, sets_side_by_side
from detlib.data.folder import open_dataset
from detlib.matching import match, objects_by_match

MIXED = AnchorSpec((4, 8, 32), (((6.0, 9.0), (11.3, 4.7)), ((20.0, 12.0), (9.25, 30.5), (20.0, 12.0)), ((20.0, 12.0), (500.0, 40.0))), "mixed")
IMAGES = [(32, 64), (64, 96), (128, 256)]


def some_boxes(seed, m, image_hw, step=None, least=0.5):
    """Boxes of all sizes, some beyond the edges, some outside, some twice; on a lattice of `step` px where given, so that many IoUs are equal."""
    generator = torch.Generator().manual_seed(seed)
    height, width = image_hw
    centres = (torch.rand(m, 2, generator=generator) * 1.4 - 0.2) * torch.tensor([width, height])
    boxes = cxcywh_to_xyxy(torch.cat([centres, least + (torch.rand(m, 2, generator=generator) * 4).exp()], 1))
    if step:
        boxes = (boxes / step).round() * step
        boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + step)
    if m > 3:
        boxes[1] = boxes[0]
    return boxes


def test_one_box_by_hand():
    """A box of 8 x 4 at (13, 5): its cell of stride 8 has the centre (12, 4), so 8 x 8 overlaps it by 7 x 4, one pixel being lost on x."""
    spec = AnchorSpec((8,), (((2.0, 2.0), (8.0, 8.0)),))
    found = coverage(spec, torch.tensor([[9.0, 3, 17, 7]]), (16, 32))
    assert found.iou.tolist() == pytest.approx([28 / (32 + 64 - 28)]) and (found.level.tolist(), found.shape.tolist()) == ([0], [1])
    assert found.recall(0.4) == 1 and found.recall(0.42) == 0 and found.mean == pytest.approx(28 / 68)


@pytest.mark.parametrize("image_hw", IMAGES)
@pytest.mark.parametrize("step", [1, 0.25])
def test_coverage_is_the_maximum_over_the_grid_to_the_last_bit_where_sums_are_exact(image_hw, step):
    spec = AnchorSpec(MIXED.strides, tuple(tuple((round(w * 2) / 2, round(h * 2) / 2) for w, h in level) for level in MIXED.shapes))
    boxes = some_boxes(0, 400, image_hw, step)
    found, overlap = coverage(spec, boxes, image_hw), iou(boxes, spec.grid_xyxy(image_hw))
    assert torch.equal(found.iou, overlap.amax(1))
    places = [spec.place(r, image_hw) for r in range(spec.count(image_hw))]
    for m in range(0, 400, 7):
        same = [r for r, (level, _, _, shape) in enumerate(places) if (level, shape) == (int(found.level[m]), int(found.shape[m]))]
        assert overlap[m, same].max() == found.iou[m], "the level and shape named have this IoU"


@pytest.mark.parametrize("spec", [BASELINE, REPORT, MIXED])
def test_coverage_is_the_maximum_over_the_grid_up_to_rounding(spec):
    image_hw = (128, 384)
    boxes = some_boxes(1, 600, image_hw)
    torch.testing.assert_close(coverage(spec, boxes, image_hw).iou, iou(boxes, spec.grid_xyxy(image_hw)).amax(1), atol=1e-4, rtol=0)


def test_coverage_pads_the_image_and_goes_through_chunks(monkeypatch):
    boxes = some_boxes(2, 50, (100, 200), 0.25)
    whole = coverage(BASELINE, boxes, (128, 256))
    monkeypatch.setattr(module, "CHUNK", 7)
    parts = coverage(BASELINE, boxes, (100, 200))
    assert torch.equal(whole.iou, parts.iou) and torch.equal(whole.shape, parts.shape) and torch.equal(whole.level, parts.level)


def test_coverage_of_nothing():
    found = coverage(BASELINE, torch.zeros(0, 4), (128, 256))
    assert found.iou.shape == found.level.shape == found.shape.shape == (0,) and math.isnan(found.mean) and math.isnan(found.recall(0.5))


def matched(spec, frames, image_hw, threshold=0.5):
    """What `match_local` finds, as `match` says it: the frame's object of each anchor or -1, (frames, R)."""
    anchors, objects = match_local(spec, frames, image_hw, threshold)
    assert (anchors.diff() > 0).all()
    result, before = torch.full((len(frames), spec.count(image_hw)), -1), torch.tensor([0, *accumulate(map(len, frames))])
    result.view(-1)[anchors] = objects - before[anchors // spec.count(image_hw)]
    return result


@pytest.mark.parametrize("step", [None, 4, 1, 0.25])
@pytest.mark.parametrize("spec", [MIXED, BASELINE])
@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.0])
def test_matching_locally_is_matching(spec, step, threshold):
    """Number for number, also where IoUs are equal or differ by rounding alone; with splinters, boxes outside, and boxes that no anchor touches."""
    for seed, image_hw in enumerate([(128, 128), (128, 384), (128, 1024)]):
        for m in (0, 1, 2, 25):
            for least in (0.5, -0.99):
                boxes = some_boxes(seed, m, image_hw, step, least)
                assert torch.equal(matched(spec, [boxes], image_hw, threshold)[0], match(spec.grid_xyxy(image_hw), boxes, threshold))


def test_a_box_that_no_anchor_touches_claims_the_first_anchor_as_in_matching():
    spec = AnchorSpec((8,), (((2.0, 2.0),),))
    boxes = torch.tensor([[4.0, 4, 6, 6], [8, 8, 9, 9], [500, 4, 510, 9]])
    assert matched(spec, [boxes], (16, 16))[0].tolist() == match(spec.grid_xyxy((16, 16)), boxes).tolist() == [2, -1, -1, -1]


@pytest.mark.parametrize("frames_at_a_time", [1, 3, 32])
def test_positives_are_those_of_matching(monkeypatch, frames_at_a_time):
    monkeypatch.setattr(module, "FRAMES", frames_at_a_time)
    image_hw = (64, 96)
    frames = [some_boxes(seed, m, image_hw, 1) for seed, m in enumerate([5, 0, 12, 1, 0, 30, 2])]
    found = positives(MIXED, frames, image_hw)
    grid = MIXED.grid_xyxy(image_hw)
    assert torch.equal(matched(MIXED, frames, image_hw), torch.stack([match(grid, boxes) for boxes in frames]))
    expected = torch.cat([objects_by_match(grid, boxes) for boxes in frames if len(boxes)])
    assert torch.equal(torch.stack([found.above, found.total], -1), expected)
    assert torch.equal(found.uses, sum((match(grid, boxes) >= 0).long() for boxes in frames))
    assert found.none.any() and found.only_forced.any() and int(found.none.sum()) == int((expected[:, 1] == 0).sum())
    assert torch.equal(found.only_forced, (expected[:, 0] == 0) & (expected[:, 1] == 1))


def test_exactly_the_threshold_is_only_by_force():
    found = positives(AnchorSpec((8,), (((8.0, 8.0),),)), [torch.tensor([[0.0, 0, 8, 4]])], (8, 16))  # half of the first anchor
    assert (found.above.tolist(), found.total.tolist(), found.uses.tolist()) == ([0], [1], [1, 0])


def test_use_of_the_anchors_of_each_shape(tmp_path):
    spec = AnchorSpec((4, 8), (((4.0, 4.0), (4.0, 90.0)), ((8.0, 8.0),)))
    frames = [(f"images/a_{i}.png", 16, 8) for i in range(3)]  # an anchor of level 0 fits the first box, one of level 1 the second
    boxes = [(i, 1, box) for i in range(2) for box in ([0, 0, 4, 4], [8, 0, 8, 8])]
    split = open_dataset(write_dataset(tmp_path, {"train": coco(frames, boxes)}, pictures=False))["train"]
    assert anchor_use(spec, split).to_dict("list") == {
        "level": [0, 0, 1], "stride": [4, 4, 8], "w": [4, 4, 8], "h": [4, 8, 8], "anchors": [8, 8, 2], "ever positive": [1, 0, 1],
        "times positive": [2, 0, 2]}


def test_positives_of_no_frames_and_of_empty_ones():
    for frames in ([], [torch.zeros(0, 4)] * 2):
        found = positives(MIXED, frames, (32, 64))
        assert len(found.above) == len(found.total) == 0 and len(found.uses) == MIXED.count((32, 64)) and not found.uses.any()


def test_coverage_table_by_class_and_size(small):
    """Six cars and persons of 32 x 24 and 16 x 40 px: all of medium size; the table's rows are means over just these boxes."""
    dataset = open_dataset(small)
    table = coverage_table(BASELINE, dataset, "train")
    assert list(table.index) == ["all", "car", "person", *dataset.size_names]
    assert list(table.columns) == ["boxes", "recall@0.5", "recall@0.7", "mean IoU"]
    rows = dataset["train"].boxes
    boxes = torch.from_numpy(rows[["x1", "y1", "x2", "y2"]].to_numpy("float32").copy())
    best = iou(boxes, BASELINE.grid_xyxy((128, 256))).amax(1)
    assert table.loc["all", "boxes"] == 6 and table.loc["all", "mean IoU"] == pytest.approx(float(best.mean()), abs=1e-6)
    cars = torch.from_numpy((rows["category"] == "car").to_numpy().copy())
    assert table.loc["car", "boxes"] == int(cars.sum()) and table.loc["car", "recall@0.7"] == pytest.approx(float((best[cars] >= 0.7).float().mean()))
    sizes = list(dataset.size_names)
    assert table.loc[sizes, "boxes"].tolist() == [0, 6, 0] and table.loc[sizes[0], "mean IoU"] == "no objects"


@pytest.mark.parametrize(("spec", "split", "recall", "mean"), [(BASELINE, "full_train", 0.712, 0.574), (REPORT, "full_train", 0.695, 0.565),
                                                               (BASELINE, "full_val", 0.705, 0.545), (REPORT, "full_val", 0.502, 0.513)])
def test_coverage_of_the_real_boxes(real, spec, split, recall, mean):
    table = coverage_table(spec, open_dataset(real), split)
    assert table.loc["all", "recall@0.5"] == pytest.approx(recall, abs=6e-4) and table.loc["all", "mean IoU"] == pytest.approx(mean, abs=6e-4)
    person, bus = {("baseline", "full_train"): (0.460, 0.728), ("report", "full_train"): (0.302, 0.917),
                   ("baseline", "full_val"): (0.711, 0.978), ("report", "full_val"): (0.306, 0.839)}[spec.name, split]
    assert table.loc[["person", "bus"], "recall@0.5"].tolist() == pytest.approx([person, bus], abs=6e-4), "what notebook 05 says of both"
    if split == "full_val":
        assert table.loc["truck"].tolist() == [0, "no objects", "no objects", "no objects"]


def test_real_frames_are_matched_alike(real):
    split = open_dataset(real)["full_train"]
    frames = [split.targets(i)[0] for i in range(len(split))]
    for spec in (BASELINE, REPORT):
        grid = spec.grid_xyxy((128, 1024))
        some = frames[::100]
        assert all(map(torch.equal, matched(spec, some, (128, 1024)), [match(grid, boxes) for boxes in some]))
    found = positives(BASELINE, frames, (128, 1024))
    assert (int(found.only_forced.sum()), int(found.none.sum())) == (5143, 127)


def test_sets_side_by_side(tmp_path):
    frames, box = [("images/a_0.png", 16, 8)], [0, 0, 8, 6]
    data = open_dataset(write_dataset(tmp_path, {name: coco(frames, [(0, 1, box)]) for name in ("train", "val")}, pictures=False))
    found = sets_side_by_side({"one": AnchorSpec((8,), (((8.0, 8.0),),)), "two": AnchorSpec((8,), (((8.0, 8.0), (8.0, 6.0), (8.0, 2.0)),))}, data)
    assert found.loc["one"].tolist() == pytest.approx([1, 1, 48 / 64, 1, 0])
    assert found.loc["two"].tolist() == pytest.approx([1, 1, 48 / 64, 2, 0])  # the second shape overlaps by 40 / 56, the third by 16 / 48
