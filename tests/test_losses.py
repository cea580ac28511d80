"""Losses: by hand, against other libraries, and at their edges."""
import pytest
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.ops import sigmoid_focal_loss

from detlib.experiments import KNOWN
from detlib.models.losses import classification_loss, detection_loss, focal_loss, hard_negative_loss, hard_negatives


def test_focal_loss_is_cross_entropy_at_gamma_zero_and_torchvisions_on_two_classes():
    torch.manual_seed(0)
    logits, classes = torch.randn(2, 50, 5), torch.randint(0, 5, (2, 50))
    expected = cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="sum")
    torch.testing.assert_close(focal_loss(logits, classes, gamma=0, alpha=(1, 1)), expected)
    x, y = torch.randn(2, 50), torch.randint(0, 2, (2, 50))
    two = torch.stack([torch.zeros_like(x), x], -1)  # a softmax over (0, x) is a sigmoid of x
    expected = sigmoid_focal_loss(x, y.float(), alpha=0.25, gamma=2, reduction="sum")
    torch.testing.assert_close(focal_loss(two, y, gamma=2, alpha=(0.75, 0.25)), expected)


def test_hard_negatives_by_hand():
    """One positive and its three hardest negatives count, per image; the others do not."""
    background = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0, -1.0])  # the harder, the lower
    logits = torch.stack([background, torch.zeros(6)], -1)[None].repeat(2, 1, 1)
    classes = torch.tensor([[0, 0, 1, 0, 0, 0], [0] * 6])
    single = cross_entropy(logits[0], classes[0], reduction="none")
    torch.testing.assert_close(hard_negative_loss(logits, classes), single[[2, 3, 4, 5]].sum())
    assert hard_negatives(logits, classes).nonzero().tolist() == [[0, 3], [0, 4], [0, 5]]


def test_a_batch_without_objects_has_a_finite_loss_and_gradient():
    logits, deltas = torch.randn(2, 20, 4, requires_grad=True), torch.randn(2, 20, 4, requires_grad=True)
    for kind in KNOWN["loss"]:
        parts = detection_loss(logits, deltas, torch.zeros(2, 20, dtype=torch.long), torch.zeros(0, 4), kind)
        total = parts["classes"] + parts["boxes"]
        total.backward()
        assert torch.isfinite(total) and torch.isfinite(logits.grad).all()


def test_negatives_are_three_for_each_positive_or_all_there_are():
    torch.manual_seed(0)
    logits, classes = torch.randn(3, 40, 4), torch.zeros(3, 40, dtype=torch.long)
    classes[0, :2], classes[1, :20] = 1, 2
    assert hard_negatives(logits, classes).sum(1).tolist() == [6, 20, 0] and not (hard_negatives(logits, classes) & (classes > 0)).any()


def test_the_reports_focal_loss_weighs_background_by_a_hundredth():
    """By hand: at even odds of two classes, (1 - p)^2 of each term is a quarter."""
    logits, classes = torch.zeros(1, 3, 2), torch.tensor([[0, 0, 1]])
    expected = 0.25 * torch.tensor(2.0).log()
    torch.testing.assert_close(classification_loss(logits, classes, "focal"), expected * (0.01 + 0.01 + 0.99))
    torch.testing.assert_close(classification_loss(logits, classes, "focal_paper"), expected * (0.75 + 0.75 + 0.25))
    torch.testing.assert_close(classification_loss(logits, classes, "hard_negatives"), 3 * torch.tensor(2.0).log())


def test_both_parts_are_sums_over_the_positives_of_all():
    torch.manual_seed(0)
    logits, deltas = torch.randn(2, 10, 3), torch.randn(2, 10, 4)
    classes, encoded = torch.zeros(2, 10, dtype=torch.long), torch.randn(3, 4)
    classes[0, 4], classes[1, 0], classes[1, 9] = 1, 2, 1
    parts = detection_loss(logits, deltas, classes, encoded, "focal")
    torch.testing.assert_close(parts["classes"], focal_loss(logits, classes) / 3)
    torch.testing.assert_close(parts["boxes"], smooth_l1_loss(deltas[[0, 1, 1], [4, 0, 9]], encoded, reduction="sum") / 3)
    twice = detection_loss(logits, deltas, classes, encoded, "focal", lambda number: 2 * number)
    assert twice["boxes"].item() == pytest.approx(parts["boxes"].item() / 2)
    half = detection_loss(logits.bfloat16(), deltas.bfloat16(), classes, encoded, "focal")
    assert all(value.dtype == torch.float32 for value in half.values()), "the sums are taken in float32"
