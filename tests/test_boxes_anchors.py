"""Boxes, the anchor grid and its order, on grids that are not square."""
import math

import pytest
import torch

from detlib import boxes
from detlib.anchors import BASELINE, REPORT, AnchorSpec, spec_of, ssd_shapes
from detlib.data.folder import open_dataset

XYXY = torch.tensor([[2.0, 3, 12, 8], [0, 0, 1, 4]])


def test_conversions_by_hand_and_back():
    assert boxes.xyxy_to_cxcywh(XYXY).tolist() == [[7, 5.5, 10, 5], [0.5, 2, 1, 4]]
    assert boxes.xyxy_to_xywh(XYXY).tolist() == [[2, 3, 10, 5], [0, 0, 1, 4]]
    torch.testing.assert_close(boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(XYXY)), XYXY)
    torch.testing.assert_close(boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(XYXY)), XYXY)
    assert boxes.area(XYXY).tolist() == [50, 4]


def test_clip_and_flip():
    assert boxes.clip(torch.tensor([[-3.0, -1, 9, 30], [50, 5, 60, 8]]), (20, 40)).tolist() == [[0, 0, 9, 20], [40, 5, 40, 8]]
    assert boxes.flip(XYXY, 40).tolist() == [[28, 3, 38, 8], [39, 0, 40, 4]]
    torch.testing.assert_close(boxes.flip(boxes.flip(XYXY, 40), 40), XYXY)


@pytest.mark.parametrize("change", [boxes.xyxy_to_cxcywh, boxes.cxcywh_to_xyxy, boxes.xyxy_to_xywh, boxes.xywh_to_xyxy, boxes.area,
                                    lambda b: boxes.clip(b, (6, 9)), lambda b: boxes.flip(b, 40)])
def test_boxes_of_many_images_are_their_images_boxes(change):
    """Any number of dimensions stands before the four numbers."""
    several = torch.rand(2, 5, 3, 4) * 10
    assert torch.equal(change(several).flatten(0, 2), change(several.flatten(0, 2)))


def test_clip_leaves_what_is_inside():
    inside = torch.tensor([[0.25, 0.5, 39.75, 19.5]])
    assert torch.equal(boxes.clip(inside, (20, 40)), inside) and not boxes.clip(torch.full((1, 4), -7.0), (20, 40)).any()


def test_grid_written_out_by_hand():
    spec = AnchorSpec((4, 8), (((2.0, 6.0), (5.0, 1.0)), ((30.0, 30.0),)))
    grid = spec.grid((8, 16))
    assert len(grid) == spec.count((8, 16)) == 2 * 4 * 2 + 1 * 2
    assert grid[:4].tolist() == [[2, 2, 2, 6], [2, 2, 5, 1], [6, 2, 2, 6], [6, 2, 5, 1]]
    assert grid[8].tolist() == [2, 6, 2, 6]
    assert grid[-2:].tolist() == [[4, 4, 16, 8], [12, 4, 16, 8]], "sizes are clamped to the image"


def test_place_is_the_inverse_of_the_order():
    image_hw = (128, 256)
    grid = BASELINE.grid(image_hw)
    for index in (0, 5, 6, 11_111, len(grid) - 20, len(grid) - 1):
        level, row, column, anchor = BASELINE.place(index, image_hw)
        stride = BASELINE.strides[level]
        w, h = BASELINE.shapes[level][anchor]
        assert grid[index].tolist() == pytest.approx([(column + 0.5) * stride, (row + 0.5) * stride, min(w, 256), min(h, 128)])
    with pytest.raises(IndexError):
        BASELINE.place(len(grid), image_hw)


def test_the_report_sets():
    assert BASELINE.count((128, 1024)) == 65_440
    assert REPORT.count((128, 1024)) == 65_856
    assert BASELINE.per_cell == (6, 6, 6, 6, 4, 4) and REPORT.per_cell == (6, 6, 6, 8, 8, 8)
    assert BASELINE.grid_hws((128, 1024)) == [(32, 256), (16, 128), (8, 64), (4, 32), (2, 16), (1, 8)]
    assert BASELINE.shapes[5][1] == pytest.approx((math.sqrt(128 * 400), 128))
    expected = [(16, 16), (512**0.5, 512**0.5), (16 * 2**0.5, 8 * 2**0.5), (8 * 2**0.5, 16 * 2**0.5)]
    torch.testing.assert_close(torch.tensor(ssd_shapes([(16, 16), (32, 32)], [[2]])[0]), torch.tensor(expected))


@pytest.mark.parametrize(("spec", "squares", "ratios"), [
    (BASELINE, [16, 32, 48, 64, 86, 128], [{2, 3}] * 4 + [{2}] * 2),
    (REPORT, [6, 16, 32, 48, 64, 128], [{2, 4}, {1.3, 2}, {1.3, 4}, {1.5, 2, 4}, {2, 3, 4}, {2, 3, 4}])])
def test_shapes_of_the_report_as_it_lists_them(spec, squares, ratios):
    """Of each level the square, the square between it and the next, and of each ratio a wide and a high box of the first one's area."""
    assert spec.strides == (4, 8, 16, 32, 64, 128) and spec_of(spec.name) is spec
    for level, (side, after, wanted) in enumerate(zip(squares, [*squares[1:], None], ratios, strict=True)):
        first, second, *others = spec.shapes[level]
        assert first == (side, side)
        if after:
            assert second == pytest.approx([math.sqrt(side * after)] * 2)
        assert [w * h for w, h in others] == pytest.approx([side**2] * len(others))
        assert [w / h for w, h in others] == pytest.approx([r for ratio in sorted(wanted) for r in (ratio, 1 / ratio)])
    assert BASELINE.shapes[5][1] == pytest.approx((math.sqrt(128 * 400), 128)) and REPORT.shapes[5][1] == pytest.approx([math.sqrt(128 * 200)] * 2)


def test_an_unknown_set_and_a_place_before_the_first():
    with pytest.raises(ValueError, match="no anchor set 'mine' here: there are 'baseline', 'report'"):
        spec_of("mine")
    assert BASELINE.padded((128, 1000)) == (128, 1024) and BASELINE.padded((129, 1)) == (256, 128)


def test_errors_name_the_way_out():
    with pytest.raises(ValueError, match="pad it first"):
        BASELINE.grid((100, 1024))
    with pytest.raises(ValueError, match="one list of shapes"):
        AnchorSpec((4, 8), (((1.0, 1.0),),))
    with pytest.raises(ValueError, match="no extent"):
        AnchorSpec((4,), (((0.0, 1.0),),))


def test_coverage_of_the_real_validation_boxes(real):
    """The report's hand-tuned anchors, by the IoU of every box with every anchor; `test_anchor_sets` has the baseline's, which are better, too."""
    objects = torch.from_numpy(open_dataset(real)["full_val"].boxes[["x1", "y1", "x2", "y2"]].to_numpy("float32").copy())
    grid = REPORT.grid_xyxy((128, 1024))
    best = torch.cat([boxes.iou(chunk, grid).max(1).values for chunk in objects.split(200)])
    assert float((best >= 0.5).float().mean()) == pytest.approx(0.502, abs=5e-4)
    assert float(best.mean()) == pytest.approx(0.513, abs=5e-4)
