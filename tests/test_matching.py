"""Matching and encoding."""
import torch

from detlib.anchors import BASELINE
from detlib.boxes import cxcywh_to_xyxy
from detlib.matching import decode, encode, match, objects_by_match, targets

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])


def test_threshold_force_and_background():
    objects = torch.tensor([[0.0, 0, 10, 8], [21, 0, 45, 10]])  # IoU 0.8 with anchor 0; the other is nobody's above 0.5, best with anchor 1
    assert match(ANCHORS, objects).tolist() == [0, 1, -1, -1]


def test_exactly_the_threshold_is_background_for_an_anchor_that_is_not_the_best():
    objects = torch.tensor([[0.0, 0, 10, 10]])
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])  # 1 and exactly 0.5
    assert match(anchors, objects).tolist() == [0, -1]
    assert match(anchors, objects, threshold=0.49).tolist() == [0, 0]


def test_the_later_of_two_objects_takes_a_shared_best_anchor():
    objects = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 8]])
    assert match(ANCHORS, objects).tolist() == [1, -1, -1, -1]


def test_no_objects():
    assert match(ANCHORS, torch.zeros(0, 4)).tolist() == [-1] * 4


def test_encode_decode_round_trip_and_by_hand():
    anchor, box = torch.tensor([[50.0, 40, 20, 10]]), torch.tensor([[42.0, 36, 62, 56]])  # centre 52, 46, size 20 x 20
    torch.testing.assert_close(encode(box, anchor), torch.tensor([[1.0, 6.0, 0.0, 0.6931472 / 0.2]]))
    torch.testing.assert_close(decode(encode(box, anchor), anchor), box)
    torch.manual_seed(0)
    anchors = BASELINE.grid((128, 256))
    objects = cxcywh_to_xyxy(torch.rand(len(anchors), 4) * 100 + 1)
    torch.testing.assert_close(decode(encode(objects, anchors), anchors), objects, atol=1e-3, rtol=1e-5)
    assert torch.isfinite(decode(torch.full((1, 4), 1e9), anchors[:1])).all()


def test_a_batch_is_its_images_one_by_one():
    torch.manual_seed(1)
    anchors = BASELINE.grid((128, 256))
    boxes = [torch.tensor([[10.0, 20, 40, 60], [100, 50, 130, 90]]), torch.zeros(0, 4)]
    labels = [torch.tensor([3, 1]), torch.zeros(0, dtype=torch.long)]
    classes, encoded = targets(anchors, boxes, labels)
    assert classes.shape == (2, len(anchors)) and encoded.shape == (int((classes > 0).sum()), 4)
    for n in range(2):
        one_classes, one_encoded = targets(anchors, boxes[n:n + 1], labels[n:n + 1])
        assert torch.equal(classes[n], one_classes[0]) and torch.equal(encoded[(classes > 0).nonzero()[:, 0] == n], one_encoded)
    assert set(classes[0].unique().tolist()) == {0, 1, 3} and not classes[1].any()
    positive = classes > 0
    decoded, third = decode(encoded, anchors[positive.nonzero()[:, 1]]), classes[positive] == 3
    torch.testing.assert_close(decoded[third], boxes[0][:1].expand(int(third.sum()), 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(decoded[~third], boxes[0][1:].expand(int((~third).sum()), 4), atol=1e-3, rtol=0)


def test_each_image_has_its_own_objects():
    """The second image's first object is not the first image's."""
    anchors = torch.tensor([[5.0, 5, 10, 10], [25, 5, 10, 10]])  # cxcywh
    boxes = [torch.tensor([[0.0, 0, 10, 10]]), torch.zeros(0, 4), torch.tensor([[20.0, 0, 30, 10], [0, 0, 10, 9]])]
    classes, encoded = targets(anchors, boxes, [torch.tensor([4]), torch.zeros(0, dtype=torch.long), torch.tensor([2, 7])])
    assert classes.tolist() == [[4, 0], [0, 0], [7, 2]]
    torch.testing.assert_close(decode(encoded, anchors[[0, 0, 1]]), torch.cat([boxes[0], boxes[2].flip(0)]))


def test_how_many_anchors_an_object_gets():
    """The first has one above the threshold, the second two, the third one by force alone, and the fourth loses it to the fifth."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 9], [40, 0, 50, 10], [60, 0, 70, 10]])
    objects = torch.tensor([[0.0, 0, 10, 9], [20, 0, 30, 10], [40, 0, 50, 2], [60, 0, 70, 3], [60, 0, 70, 2]])
    assert objects_by_match(anchors, objects).tolist() == [[1, 1], [2, 2], [0, 1], [0, 0], [0, 1]]
