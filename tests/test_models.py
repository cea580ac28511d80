"""The models: exact sizes, the order of their outputs, losses by hand."""
import math

import numpy as np
import pytest
import torch

from detlib.anchors import BASELINE, SPECS, AnchorSpec
from detlib.data.augment import augment, whole
from detlib.experiments import KNOWN, Experiment, ladder, rung
from detlib.matching import targets
from detlib.models.detector import Detector, build, trainable_parameters
from detlib.models.fpn import FPN
from detlib.models.heads import Head
from detlib.models.losses import classification_loss, detection_loss
from detlib.models.tables import reconciliation
from detlib.train import make_optimizer

MEAN, STD = torch.full((3,), 100.0), torch.full((3,), 50.0)
EXACT = {"baseline": 2_590_880, "adam": 2_590_880, "flip": 2_590_880, "resnet": 39_686_752, "fpn": 38_652_256, "focal": 38_652_256,
         "deep_heads": 45_736_288, "bias_init": 45_736_288, "report_anchors": 45_886_178}


@pytest.mark.parametrize("name", EXACT)
def test_trainable_parameters_of_the_report_profile(name):
    experiment = ladder("report")[name]
    with torch.device("meta"):
        model = build(experiment, SPECS[experiment.anchors], 8, MEAN, STD)
    assert trainable_parameters(model) == EXACT[name]


def test_each_known_value_of_a_field_is_another_training():
    """One that nothing looks at would be trained as something else, under its own name."""
    torch.manual_seed(0)
    logits, classes, picture = torch.randn(2, 50, 4), torch.randint(0, 4, (2, 50)), torch.randint(0, 256, (3, 8, 32), dtype=torch.uint8)
    sample = picture, torch.tensor([[3.0, 1, 9, 7]]), torch.tensor([1])

    def network(**changes):
        with torch.device("meta"):
            model = build(Experiment("smoke", **changes), BASELINE, 3, MEAN, STD)
        return {name: value.shape for name, value in model.state_dict().items()}

    def changed(kind, seed):
        rng = np.random.default_rng(seed)
        return augment(whole(sample, kind, rng), kind, rng)[0].tolist()

    does = {"backbone": lambda value: network(backbone=value), "neck": lambda value: network(backbone="resnet", neck=value),
            "loss": lambda value: classification_loss(logits, classes, value).item(),
            "optimizer": lambda value: make_optimizer(torch.nn.Linear(1, 1), Experiment(optimizer=value)),
            "augment": lambda value: [changed(value, seed) for seed in range(30)]}
    for field, of in does.items():
        assert len({repr(of(value)) for value in KNOWN[field]}) == len(KNOWN[field]), field


def small(name, anchors=BASELINE, classes=3):
    torch.manual_seed(0)
    return build(rung(name, "smoke"), anchors, classes, MEAN, STD)


@pytest.mark.parametrize("name", ["baseline", "resnet", "fpn", "deep_heads"])
@pytest.mark.parametrize("image_hw", [(128, 256), (128, 1024), (256, 128)])
def test_outputs_follow_the_grid(name, image_hw):
    model = small(name).eval()
    images = torch.randint(0, 256, (2, 3, *image_hw), dtype=torch.uint8)
    logits, deltas = model(images)
    anchors = BASELINE.count(image_hw)
    assert logits.shape == (2, anchors, 4) and deltas.shape == (2, anchors, 4)
    maps = model.neck(model.backbone(images.float()))
    assert [tuple(m.shape[-2:]) for m in maps] == BASELINE.grid_hws(image_hw)
    one = torch.cat([model(images[n:n + 1])[0] for n in range(2)])
    torch.testing.assert_close(one, logits, atol=1e-5, rtol=1e-4)


def test_one_hot_channel_arrives_at_its_anchor():
    """A bias on one channel of one level lights exactly the anchors of that shape, and a single lit pixel the one anchor of its cell."""
    spec = AnchorSpec((4, 8), (((4.0, 4.0), (8.0, 4.0)), ((9.0, 9.0), (9.0, 5.0), (5.0, 9.0))))
    head = Head((5, 5), spec.per_cell, num_classes=2, depth=0, prior=None)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    level, row, column, anchor, klass = 1, 2, 3, 2, 1
    kernel = head.classify[level][-1].weight.data
    kernel[anchor * 3 + klass, 4, 1, 1] = 7  # the centre tap sees input channel 4
    maps = [torch.zeros(1, 5, 8, 16), torch.zeros(1, 5, 4, 8)]
    maps[level][0, 4, row, column] = 1
    logits, deltas = head(maps)
    ((image, index, hot),) = logits.nonzero().tolist()
    assert (image, hot) == (0, klass) and spec.place(index, (32, 64)) == (level, row, column, anchor)
    assert not deltas.any()


def test_fpn_carries_the_coarsest_map_to_the_finest():
    torch.manual_seed(0)
    fpn = FPN((3, 4, 5), 6).eval()
    maps = [torch.zeros(1, 3, 8, 16), torch.zeros(1, 4, 4, 8), torch.zeros(1, 5, 2, 4)]
    still = fpn(maps)[0]
    maps[2][:, :, 1, 3] = 5.0  # covers rows 4..7, columns 12..15 of the finest map
    difference = (fpn(maps)[0] - still).abs().sum(1)[0]
    assert difference[4:, 12:].min() > 0 and difference[:3].max() == 0 and difference[:, :11].max() == 0


def test_bias_prior_gives_its_probability_on_every_level():
    head = small("bias_init", classes=8).head
    maps = [torch.randn(2, 16, 2 ** (6 - k), 2 ** (7 - k)) for k in range(6)]
    for level in range(6):
        logits = head.classify[level](maps[level]).permute(0, 2, 3, 1).reshape(-1, 9)
        assert 0.008 < (1 - logits.softmax(-1)[:, 0]).mean().item() < 0.012
    plain = small("deep_heads", classes=8).head
    logits, _ = plain(maps)
    assert (1 - logits.softmax(-1)[..., 0]).mean().item() == pytest.approx(8 / 9, abs=0.01)


def test_detect_returns_the_box_that_was_put_in():
    model = small("baseline")
    image_hw = (128, 256)
    anchors = model.grid(image_hw, torch.device("cpu"))
    logits, deltas = torch.zeros(1, len(anchors), 4), torch.zeros(1, len(anchors), 4)
    logits[..., 0] = 10
    index = 6 * (64 * 10 + 20)  # level 0, row 10, column 20, the 16 x 16 px square
    logits[0, index, 2] = 20
    logits[0, index + 6, 2] = 15  # its neighbour, IoU 0.6: removed by NMS
    ((boxes, labels, scores),) = model.detect(logits, deltas, image_hw)
    cx, cy, w, h = anchors[index].tolist()
    assert labels.tolist() == [2] and scores[0] > 0.99
    assert boxes[0].tolist() == pytest.approx([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], abs=1e-3)
    assert model.detect(torch.tensor([10.0, 0, 0, 0]).expand(1, len(anchors), 4), deltas, image_hw)[0][0].shape == (0, 4)


def test_pieces_are_what_they_say():
    model = small("deep_heads")
    assert isinstance(model, Detector) and math.isclose(model.head.classify[0][-1].weight.std().item(), 0.01, rel_tol=0.2)
    assert not model.head.regress[3][-1].bias.any()


def test_the_reports_parameter_table_is_reconciled_to_the_last_one():
    table = reconciliation()
    assert set(table["left over"]) == {"0"} and table.loc["fpn", "ResNet's fc, unused"] == "2,049,000" and len(table) == 7


def test_the_loss_of_local_matching_is_that_of_the_whole_grid():
    """On images with crowds of boxes and with none, to the last bit."""
    torch.manual_seed(0)
    model, image_hw = small("fpn"), (128, 256)
    logits, deltas = torch.randn(3, BASELINE.count(image_hw), 4), torch.randn(3, BASELINE.count(image_hw), 4)
    corner, wh = torch.rand(40, 2) * torch.tensor([220.0, 100.0]), 4 + 40 * torch.rand(40, 2)
    boxes = [torch.cat([corner, corner + wh], 1), torch.zeros(0, 4), torch.cat([corner, corner + wh], 1)[:3]]
    labels = [torch.randint(1, 4, (len(b),)) for b in boxes]
    classes, encoded = targets(model.grid(image_hw, torch.device("cpu")), boxes, labels)
    expected = detection_loss(logits, deltas, classes, encoded, "focal")
    assert classes.count_nonzero() > 40 and all(torch.equal(expected[k], v) for k, v in
                                                model.loss(logits, deltas, boxes, labels, image_hw, "focal").items())
