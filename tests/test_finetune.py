"""Training that starts from another run, on fewer frames, for other numbers of steps, on rolled panoramas."""
import json
from dataclasses import replace

import pytest
import torch
from conftest import coco, write_dataset

from detlib import runs
from detlib.anchors import BASELINE, AnchorSpec
from detlib.data.folder import open_dataset
from detlib.data.loader import TrainBatches
from detlib.experiments import Experiment, parse, rung
from detlib.models.detector import build
from detlib.models.transfer import start_from_
from detlib.train import fit


def fresh(classes, seed, spec=BASELINE, name="adam"):
    torch.manual_seed(seed)
    return build(rung(name, "smoke"), spec, classes, torch.zeros(3), torch.ones(3))


def test_classes_find_their_filters_by_name():
    """Background and `person`, third there and first here, keep their scores; `van` is new; boxes and all else are the trained one's."""
    trained, model = fresh(3, 0), fresh(2, 1)
    for tower in trained.head.classify:
        torch.nn.init.normal_(tower[-1].bias)
    before = model.head.classify[2][-1].weight.detach().clone().view(-1, 3, *model.head.classify[2][-1].weight.shape[1:])
    said = start_from_(model, trained.state_dict(), ["car", "bus", "person"], ["person", "van"])
    assert said == "weights taken; new classes, fresh: van"
    image = torch.randint(0, 255, (1, 3, 128, 256), dtype=torch.uint8)
    (theirs, their_boxes), (ours, our_boxes) = trained(image), model(image)
    assert torch.equal(our_boxes, their_boxes)
    assert torch.equal(ours[..., 0], theirs[..., 0]) and torch.equal(ours[..., 1], theirs[..., 3])
    after = model.head.classify[2][-1].weight.view_as(before)
    assert torch.equal(after[:, 2], before[:, 2]) and not torch.equal(after[:, 1], before[:, 1])


def test_all_or_nothing_where_networks_differ():
    trained, model = fresh(2, 0), fresh(2, 1, name="resnet")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"the trained network is another one: .* more tensors do not fit; start from a run with the same backbone"):
        start_from_(model, trained.state_dict(), ["a", "b"], ["a", "b"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_levels_with_other_anchors_keep_fresh_last_convolutions():
    shapes = (BASELINE.shapes[0], BASELINE.shapes[1][:3], *BASELINE.shapes[2:])
    trained, model = fresh(2, 0), fresh(2, 1, AnchorSpec(BASELINE.strides, shapes))
    own = model.head.regress[1][-1].weight.detach().clone()
    said = start_from_(model, trained.state_dict(), ["a", "b"], ["a", "b"])
    assert said == "weights taken; levels 1 have another number of anchors, their last convolutions are fresh"
    assert torch.equal(model.head.regress[1][-1].weight, own)
    assert torch.equal(model.head.regress[0][-1].weight, trained.head.regress[0][-1].weight)


def test_a_run_starts_from_another_ones_weights(small, tmp_path, capsys):
    data = open_dataset(small)
    first = fit(rung("adam", "smoke", steps=2), data, progress=False)
    other = open_dataset(write_dataset(tmp_path / "other", {name: coco([(f"images/{name}_{k}.png", 256, 128) for k in range(3)],
                                                                       [(0, 1, [20, 30, 40, 40])], ["lorry"]) for name in ("train", "val")}))
    name = runs.weights_name(first.folder)
    experiment = rung("adam", "smoke", steps=1, weights=name)
    assert parse(experiment.rung, "smoke") == experiment  # the name finds it again
    run = fit(experiment, other, progress=False)
    assert "new classes, fresh: lorry" in capsys.readouterr().out and run.finished
    assert fit(experiment, other, progress=False).folder == run.folder  # finished: nothing is trained
    first.save_weights({key: value * 0.9 for key, value in first.weights().items()})
    again = fit(experiment, other, progress=False)
    assert "start is" in capsys.readouterr().out and again.folder.with_name("seed0.before1").is_dir()


def test_a_run_to_start_from_must_be_there(small, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no finished run to start from .* below"):
        runs.weights_name(tmp_path)
    (tmp_path / "metrics.json").touch(), (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="copy it there"):
        runs.weights_name(tmp_path)
    with pytest.raises(FileNotFoundError, match="training was to start from this run"):
        fit(rung("adam", "smoke", weights="data-1.smoke.adam.seed0"), open_dataset(small), progress=False)


def test_steps_of_its_own_keep_the_shares():
    longer = rung("extended", "laptop", steps=6000).sizes
    assert (longer.steps, longer.warmup, longer.validations) == (6000, 600, 18)
    assert rung("extended", "report", steps=6000).sizes.warmup == 500  # its schedule is a number of steps, then constant
    assert rung("adam", "smoke", steps=1).sizes.validations == 1
    assert rung("fpn", "laptop", steps=300, train_frames=25).rung == "fpn+steps=300+train_frames=25"
    with pytest.raises(ValueError, match="steps=0: at least 1"):
        Experiment(steps=0)
    with pytest.raises(ValueError, match="known are 'none', 'imagenet'"):
        Experiment(weights="../x")


def test_fewer_frames_are_spread_over_the_split_and_named_in_the_record(small):
    data = open_dataset(small)
    run = fit(rung("adam", "smoke", steps=1, train_frames=2), data, progress=False)
    assert run.config["data"]["train"] == data["train"].subset([0, len(data["train"]) - 1]).fingerprint


def test_a_roll_takes_the_whole_panorama_and_a_crop_of_it(small):
    """Columns are numbered: a crop of a rolled panorama holds neighbours of the seam, which no crop of the picture itself does."""
    (small / "dataset.json").write_text(json.dumps({"panorama": True}))
    data = open_dataset(small)
    experiment = replace(rung("adam", "smoke"), augment="flip_roll")
    batches = TrainBatches(data["train"], experiment, 128)
    for index in range(len(data["train"])):
        batches.images.images[index] = torch.arange(256, dtype=torch.uint8).expand(3, 128, 256)
    images = torch.cat([batches[step][0] for step in range(3)]).long()
    steps = (images[..., 1:] - images[..., :-1]).abs()
    assert ((steps == 1) | (steps == 255)).all() and (steps == 255).any()
    assert len({int(image[0, 0, 0]) for image in images}) > 3
    (small / "dataset.json").unlink()
    with pytest.raises(ValueError, match="a roll is right for panoramas alone"):
        fit(experiment, open_dataset(small), progress=False)
