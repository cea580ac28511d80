"""ImageNet weights: the right tensors at the right place, only when asked for, and a sentence when they cannot be had."""
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model, get_model_weights

from detlib.anchors import BASELINE
from detlib.data.folder import open_dataset
from detlib.experiments import PROFILES, rung
from detlib.models import pretrained
from detlib.models.backbones import MobileNetV2, ResNet
from detlib.models.detector import build, trainable_parameters
from detlib.train import fit, load_model

WEIGHTS = get_model_weights("mobilenet_v2")[pretrained.VERSION]
FILE = Path(__file__).resolve().parents[2] / "shared" / "weights" / pretrained.weights_file(WEIGHTS).name


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    """An empty TORCH_HOME, and a network that fails the test when it is touched."""
    def touched(*args, **kwargs):
        pytest.fail(f"the network was touched: {args}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("DETLIB_DOWNLOAD", raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", touched)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", touched)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def file(checkpoints):
    """torchvision's MobileNetV2 file in its place."""
    if not FILE.is_file():
        pytest.skip(f"{FILE.name} is not beside the project (../shared/weights): no real ImageNet weights were tested")
    checkpoints.mkdir(parents=True)
    return Path(shutil.copyfile(FILE, checkpoints / FILE.name))


def detector(backbone="mobilenet", channels=3):
    torch.manual_seed(0)
    mean = torch.full((channels,), 100.0)
    return build(rung("fpn", "smoke", backbone=backbone), BASELINE, 8, mean, mean / 2)


def start(model):
    return pretrained.start_from_imagenet_(model)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def basic_block(c, out):
    """Parameters of a BasicBlock with a 1x1 shortcut: three convolutions without bias and their batch norms."""
    return 9 * c * out + 9 * out * out + c * out + 3 * 2 * out


@pytest.mark.parametrize("image_hw", [(128, 256), (128, 1024)])
def test_mobilenet_maps(image_hw):
    height, width = image_hw
    backbone = MobileNetV2((128, 64)).eval()
    assert backbone.out_channels == (24, 32, 96, 1280, 128, 64)
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, *image_hw))
    assert [tuple(m.shape[1:]) for m in maps] == [(c, height // s, width // s) for c, s in zip(backbone.out_channels, BASELINE.strides, strict=True)]


def test_mobilenet_parameters():
    """torchvision's 3,504,872 without the classifier's 1280 x 1000 + 1000; the two blocks, the FPN and the heads by hand."""
    for profile, extra, wide, expected in (("laptop", (128, 64), 64, 4_695_584), ("report", (512, 64), 128, 13_127_712)):
        backbone = 3_504_872 - 1_281_000 + basic_block(1280, extra[0]) + basic_block(*extra)
        fpn = sum(c * wide + wide for c in (24, 32, 96, 1280, *extra)) + 6 * (9 * wide * wide + wide)
        heads = sum((9 * wide + 1) * a * (8 + 1 + 4) for a in (6, 6, 6, 6, 4, 4))
        with torch.device("meta"):
            model = build(rung("fpn", profile, backbone="mobilenet"), BASELINE, 8, torch.ones(3), torch.ones(3))
        assert trainable_parameters(model.backbone) == backbone
        assert trainable_parameters(model) == backbone + fpn + heads == expected


@pytest.mark.parametrize(("backbone", "stages"), [
    (MobileNetV2((8, 8)), ("features.3", "features.6", "features.13", "features.18")),
    (ResNet("resnet18", (8, 8)), ("layer1", "layer2", "layer3", "layer4")),
    (ResNet("resnet50", (8, 8)), ("layer1", "layer2", "layer3", "layer4")),
])
def test_a_copied_backbone_computes_what_torchvisions_network_does(backbone, stages):
    torch.manual_seed(1)
    oracle, expected = get_model(backbone.torchvision_name, weights=None).eval(), {}
    for buffer in (b for name, b in oracle.named_buffers() if "running" in name):
        buffer.add_(0.1 * torch.rand_like(buffer))  # statistics that differ from a fresh network's, too
    for stage in stages:
        oracle.get_submodule(stage).register_forward_hook(lambda _, __, out, stage=stage: expected.update({stage: out}))
    extra = {k: v.clone() for k, v in backbone.state_dict().items() if k.startswith(("levels.4", "levels.5"))}
    filled = pretrained.copy_(backbone, oracle.state_dict())
    images = torch.rand(1, 3, 128, 256)
    with torch.no_grad():
        maps = backbone.eval()(images)
        oracle(images)
    for ours, stage in zip(maps, stages, strict=False):
        torch.testing.assert_close(ours, expected[stage])
    assert set(filled) == backbone.state_dict().keys() - extra.keys()
    assert all(torch.equal(backbone.state_dict()[k], v) for k, v in extra.items())


def test_the_models_tensors_are_the_files_and_all_else_is_as_without(file):
    model, plain, real = detector(), detector(), torch.load(FILE, weights_only=True)
    said = str(start(model))
    assert said == f"ImageNet weights: 312 tensors of {FILE.name}; random: backbone.levels.4, backbone.levels.5, neck, head"
    oracle = get_model("mobilenet_v2", weights=None)
    oracle.load_state_dict(real)
    ours = model.backbone.state_dict()
    for i, layer in enumerate(oracle.features):  # block i lies in the level of its stride
        level = sum(i >= end for end in (4, 7, 14))
        for key, value in layer.state_dict().items():
            assert torch.equal(ours.pop(f"levels.{level}.{i}.{key}"), value)
    assert ours and all(key.startswith(("levels.4", "levels.5")) for key in ours)
    rest = [key for key in plain.state_dict() if key.startswith(("neck", "head", "mean", "std", "backbone.levels.4", "backbone.levels.5"))]
    assert all(torch.equal(model.state_dict()[key], plain.state_dict()[key]) for key in rest)


def test_a_missing_file_says_all_that_helps_each_time(checkpoints):
    model = detector()
    for _ in range(2):  # the second call may not go on with random weights
        with pytest.raises(FileNotFoundError) as error:
            start(model)
        for part in (FILE.name, str(checkpoints), WEIGHTS.url, "DETLIB_DOWNLOAD=1", 'weights="none"'):
            assert part in str(error.value)
    assert not checkpoints.exists()


def test_a_download_only_when_asked_for(file, monkeypatch, checkpoints):
    kept, asked = file.rename(file.with_name("elsewhere")), []

    def fetch(url, path, hash_prefix, progress):
        asked.append((url, hash_prefix))
        shutil.copyfile(kept, path)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setenv("DETLIB_DOWNLOAD", "0")
    with pytest.raises(FileNotFoundError):
        start(detector())
    monkeypatch.setenv("DETLIB_DOWNLOAD", "yes")
    with pytest.raises(ValueError, match="known are '0' and '1'"):
        start(detector())
    assert not asked
    monkeypatch.setenv("DETLIB_DOWNLOAD", "1")
    start(detector())
    start(detector())  # from the disk
    assert asked == [(WEIGHTS.url, "b0353104")] and file.is_file()


def test_a_download_that_fails_says_what_else_can_be_done(monkeypatch, checkpoints):
    def fetch(*args, **kwargs):
        raise OSError("no route to host")
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setenv("DETLIB_DOWNLOAD", "1")
    with pytest.raises(FileNotFoundError) as error:
        start(detector())
    assert "no route to host" in str(error.value) and str(checkpoints) in str(error.value) and 'weights="none"' in str(error.value)


@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "empty"])
def test_a_damaged_file_is_refused(file, monkeypatch, damage):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes({"a flipped bit": data, "cut off": data[:100_000], "empty": b""}[damage])
    monkeypatch.setenv("DETLIB_DOWNLOAD", "1")  # it is not replaced behind the owner's back either
    model = detector()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"mobilenet_v2-b0353104.pth: .*should with b0353104: it is damaged or another file"):
        start(model)
    assert same(model.state_dict(), before)


class Thing:
    """Not a tensor."""


@pytest.mark.parametrize("content", [{"conv1.weight": Thing()}, {"conv1.weight": 3}, [torch.ones(2)], b"no pickle"])
def test_a_file_of_anything_but_tensors_is_refused(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match="no file of weights"):
        pretrained.read(path, "")


def test_tensors_that_do_not_fit_are_named_and_none_is_copied():
    backbone, good = ResNet("resnet18", (8, 8)), get_model("resnet18", weights=None).state_dict()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    lacks = {key: value for key, value in good.items() if key != "layer4.1.bn2.weight"}
    for state, said in ((lacks, "it lacks levels.3.1.bn2.weight"), ({**good, "layer9.w": torch.ones(1)}, "unknown layer9.w"),
                        ({**good, "layer1.0.x": torch.ones(1)}, "unknown layer1.0.x"),
                        ({**good, "conv1.weight": torch.ones(64, 1, 7, 7)}, "another shape conv1.weight"),
                        (get_model("resnet50", weights=None).state_dict(), "not the weights of resnet18")):
        with pytest.raises(ValueError, match=said):
            pretrained.copy_(backbone, state)
    assert same(dict(backbone.state_dict()), before)
    old = {key: value for key, value in good.items() if not key.endswith("num_batches_tracked")}  # files before PyTorch 0.4.1 have no counters
    assert len(pretrained.copy_(backbone, old)) == len(old) - 2  # fc


def test_what_cannot_be_pretrained_is_said_at_once(file):
    with pytest.raises(ValueError, match='backbone="small": nobody trained this small network on ImageNet'):
        start(detector(backbone="small"))
    with pytest.raises(ValueError, match="with a part of resnet18: the smoke profile has one block of each stage"):
        start(detector(backbone="resnet"))
    for channels, text in ((1, "1 channel:"), (4, "4 channels:")):
        with pytest.raises(ValueError, match=text):
            start(detector(channels=channels))


def test_a_finished_run_and_a_checkpoint_need_no_file(small, file, monkeypatch, capsys):
    monkeypatch.setitem(PROFILES, "smoke", replace(PROFILES["smoke"], steps=4, batch=2, warmup=1, validations=1))
    data, experiment = open_dataset(small), rung("fpn", "smoke", backbone="mobilenet", weights="imagenet")
    started = fit(experiment, data, progress=False, stop_after=1)
    assert started.folder.parent.name == "fpn+backbone=mobilenet+weights=imagenet" and capsys.readouterr().out.count(FILE.name) == 1
    first = torch.load(FILE, weights_only=True)["features.0.0.weight"]
    moved = (started.load_checkpoint()["model"]["backbone.levels.0.0.0.weight"] - first).abs().max()
    assert 0 < moved < 2e-3  # the optimiser trains the loaded tensors: one AdamW step of at most the rate, and its decay, away from the file
    file.unlink()
    run = fit(experiment, data, progress=False)
    assert run.finished and fit(experiment, data, progress=False).finished
    model = load_model(run, data)
    assert same(dict(model.state_dict()), run.weights()) and FILE.name not in capsys.readouterr().out


def test_a_run_without_the_file_stops_before_its_first_step(small):
    data, experiment, steps = open_dataset(small), rung("fpn", "smoke", backbone="mobilenet", weights="imagenet"), []
    with pytest.raises(FileNotFoundError, match="DETLIB_DOWNLOAD=1"):
        fit(experiment, data, on_log=lambda row, _: steps.append(row), progress=False)
    assert not steps
