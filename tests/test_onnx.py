"""A detector exported as ONNX with its numpy decoder, against the PyTorch model."""
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coco, write_dataset
from PIL import Image
from torchvision.ops import nms
from trained import make_run

from detlib import apply, decode_numpy, matching, onnx_export
from detlib.anchors import BASELINE, REPORT, STRIDES, AnchorSpec
from detlib.data.folder import open_dataset
from detlib.experiments import rung
from detlib.models.detector import build
from detlib.onnx_export import check_export, description, export_onnx
from detlib.predict import load_trained


def plain(spec):
    return {"strides": spec.strides, "anchors": spec.shapes, "variances": matching.VARIANCES, "score_min": 0.05, "nms_iou": 0.5, "candidates": 1000,
            "max_boxes": 200}


ODD = AnchorSpec((4, 8), (((3, 900),), ((7.5, 2), (9, 9))))


@pytest.mark.parametrize("spec, image_hw", [(BASELINE, (128, 1024)), (REPORT, (256, 384)), (ODD, (16, 24))])
def test_the_decoders_anchors_are_the_models(spec, image_hw):
    assert np.array_equal(decode_numpy.grid(image_hw, plain(spec)), spec.grid(image_hw).numpy())


def test_boxes_are_decoded_as_the_model_does():
    draw = np.random.default_rng(0)
    deltas, anchors = draw.normal(0, 3, (500, 4)).astype(np.float32), draw.uniform(1, 300, (500, 4)).astype(np.float32)
    deltas[0, 2] = 1e4
    wanted = matching.decode(torch.from_numpy(deltas), torch.from_numpy(anchors)).numpy()
    assert np.allclose(decode_numpy.decode(deltas, anchors, matching.VARIANCES), wanted, rtol=1e-5, atol=1e-3) and np.isfinite(wanted).all()


@pytest.mark.parametrize("seed", range(3))
def test_suppression_is_torchvisions(seed):
    draw = np.random.default_rng(seed)
    xy = draw.uniform(0, 60, (300, 2))
    boxes = np.concatenate([xy, xy + draw.uniform(0, 30, (300, 2))], 1).astype(np.float32)
    boxes[5] = boxes[4]
    boxes[7, 2:] = boxes[7, :2]  # no extent
    score = np.sort(draw.uniform(0, 1, 300))[::-1].astype(np.float32)
    wanted = nms(torch.from_numpy(boxes), torch.from_numpy(score.copy()), 0.5).numpy()
    assert decode_numpy.suppress(boxes, 0.5).tolist() == wanted.tolist() and 5 not in wanted


@pytest.mark.parametrize("classes, highest, boxes", [(1, 5.0, 200), (8, 5.0, 200), (20, -2.8, 200), (8, -3.0, 0)])
def test_the_decoder_finds_what_the_model_finds(classes, highest, boxes):
    """On random boxes, scores all different: with more candidates and boxes than are kept, and with none above the least score."""
    draw, image_hw = np.random.default_rng(classes), (128, 256)
    model = build(rung("adam", "smoke"), BASELINE, classes, torch.zeros(3), torch.ones(3))
    count = 2 * BASELINE.count(image_hw)
    logits = np.full((count, classes + 1), -12, np.float32)
    logits[:, 0] = 0
    logits[np.arange(count), draw.integers(1, classes + 1, count)] = draw.permutation(np.linspace(highest - 0.3 * (boxes > 0) - 6, highest, count))
    logits, deltas = logits.reshape(2, -1, classes + 1), draw.normal(0, 1, (2, count // 2, 4)).astype(np.float32)
    found = decode_numpy.detect(logits, deltas, image_hw, json.loads(json.dumps(plain(BASELINE))))
    for mine, theirs in zip(found, model.detect(torch.from_numpy(logits), torch.from_numpy(deltas), image_hw), strict=True):
        assert len(mine[2]) == len(theirs[2]) == boxes
        for part, wanted, near in zip(mine, theirs, (1e-3, 0, 1e-6), strict=True):
            assert np.allclose(part, wanted.numpy(), rtol=0, atol=near)


def test_boxes_end_at_the_picture_not_in_its_padding():
    detector, image_hw = plain(AnchorSpec((64,), (((200, 200),),))), (64, 128)
    logits, deltas = np.array([[[0, 9.0], [0, 1.0]]], np.float32), np.zeros((1, 2, 4), np.float32)
    boxes, labels, scores = decode_numpy.detect(logits, deltas, image_hw, detector, (50, 70))[0]
    assert boxes.tolist() == [[0, 0, 70, 50], [32, 0, 70, 50]]  # the anchors are clamped to 128 x 64 px, at 32, 32 and 96, 32
    assert labels.tolist() == [1, 1] and scores == pytest.approx([1 / (1 + np.exp(-9)), 1 / (1 + np.exp(-1))])


def test_padding_is_the_loaders():
    picture = np.random.default_rng(0).integers(1, 256, (100, 130, 3), dtype=np.uint8)
    made = decode_numpy.prepare(picture, {"strides": STRIDES})
    assert made.shape == (1, 3, 128, 256) and np.array_equal(made[0, :, :100, :130], picture.transpose(2, 0, 1))
    assert not made[..., 100:, :].any() and not made[..., 130:].any()


# ---- the exported model

@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A row with ResNet and pyramid, exported once, with its trained model; classes with names that HTML and TeX would trip over."""
    root, patch = tmp_path_factory.mktemp("exported"), pytest.MonkeyPatch()
    patch.setenv("DETLIB_HOME", str(root / "home"))
    content = coco([(f"images/a_{i}.png", 256, 128) for i in range(2)], [(0, 1, [20, 40, 32, 24])], ("<b>car</b>", "$x$", "person"))
    data = open_dataset(write_dataset(root / "data", {"train": content, "val": content}))
    trained = load_trained(make_run(data, "fpn", loud=2.0))
    logging.disable(logging.WARNING)  # pytest keeps every line that torch logs while it exports
    folder = export_onnx(trained, root / "model")
    logging.disable(logging.NOTSET)
    yield folder, trained
    patch.undo()


def test_the_export_agrees_with_the_model_on_pictures_of_any_size(exported):
    folder, trained = exported
    draw = np.random.default_rng(0)
    sizes = [(128, 256), (128, 1024), (120, 250), (250, 380)]  # little padding: all its anchors have one score, and no order
    pictures = [torch.from_numpy(draw.integers(0, 256, (3, *hw), dtype=np.uint8)) for hw in sizes]
    found = check_export(folder, trained, pictures)
    assert found["pictures"] == 4 and found["detections"] > 50
    assert found["unmatched"] == 0 and found["boxes"] < 0.1 and found["scores"] < 1e-3


def test_a_batch_is_what_its_pictures_are_alone(exported):
    import onnxruntime
    session = onnxruntime.InferenceSession(str(exported[0] / "detector.onnx"), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 128, 256), dtype=np.uint8)
    together, alone = session.run(None, {"images": images}), [session.run(None, {"images": image[None]}) for image in images]
    for k in range(2):
        assert np.allclose(together[k], np.concatenate([one[k] for one in alone]), atol=1e-3)
    (entry,) = session.get_inputs()
    assert entry.type == "tensor(uint8)" and [isinstance(side, int) for side in entry.shape] == [False, True, False, False]


def test_a_wrong_export_is_seen(exported, tmp_path):
    """The check is worth something only if it fails: another decoder, other anchors, other weights."""
    folder, trained = exported
    picture = [torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 128, 256), dtype=np.uint8))]
    detector = json.loads((folder / "detector.json").read_text())
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for name in ("detector.onnx", "decoder.py"):
        (wrong / name).write_bytes((folder / name).read_bytes())
    (wrong / "detector.json").write_text(json.dumps({**detector, "variances": [0.1, 0.21]}))
    found = check_export(wrong, trained, picture)
    assert found["boxes"] > 0.1 or found["unmatched"]
    (wrong / "detector.json").write_text(json.dumps({**detector, "nms_iou": 0.9}))
    assert check_export(wrong, trained, picture)["unmatched"]


def test_the_readme_s_lines_run_without_torch_and_without_the_package(exported, tmp_path):
    folder, trained = exported
    lines = [line[4:] for line in (folder / "README.txt").read_text().splitlines() if line.startswith("    ") or not line]
    code = "\n".join([*lines, "import sys", "assert not {'torch', 'detlib'} & set(sys.modules)"])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)).save(folder / "picture.png")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"]})
    assert not done.returncode, done.stderr
    assert done.stdout.split("\n")[0].startswith(tuple(trained.categories))


def test_what_stands_beside_the_model(exported):
    folder, trained = exported
    assert {path.name for path in folder.iterdir()} >= {"detector.onnx", "decoder.py", "detector.json", "README.txt"}
    assert not list(folder.glob("*.data"))  # the weights are in the one file
    text = (folder / "detector.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(description(trained)))
    assert json.loads(text)["classes"] == ["<b>car</b>", "$x$", "person"] and json.loads(text)["from"]["rung"] == "fpn"
    for name in ("detector.onnx", "decoder.py", "detector.json", "README.txt"):
        content = (folder / name).read_bytes()
        for path in (str(Path(onnx_export.__file__).parents[1]), str(folder.parent), "/site-packages/"):
            assert path.encode() not in content, f"{name} names {path}"


def test_real_frames(exported, real):
    folder, trained = exported
    val = open_dataset(real)["val"]
    found = check_export(folder, trained, [val.image(k) for k in (0, 10, 20)])
    assert found["detections"] and found["unmatched"] == 0 and found["boxes"] < 0.1 and found["scores"] < 1e-3


def test_an_export_that_differs_is_not_passed_on(small, tmp_path, monkeypatch):
    data = open_dataset(small)
    run, found = make_run(data), {"boxes": 0.09, "scores": 0.0, "detections": 100, "unmatched": 5}
    monkeypatch.setattr(apply, "export_onnx", lambda trained, folder: folder)
    monkeypatch.setattr(apply, "check_export", lambda folder, trained, pictures: {**found, "pictures": len(pictures)})
    assert apply.export_model(run, data, "val", tmp_path) == {"folder": str(tmp_path), "pictures": 3, **found}
    for worse in ({"boxes": 0.11}, {"scores": 2e-3}, {"unmatched": 6}):
        monkeypatch.setattr(apply, "check_export", lambda *_, worse=worse: {**found, **worse})
        with pytest.raises(ValueError, match="do not use it"):
            apply.export_model(run, data, "val", tmp_path)
