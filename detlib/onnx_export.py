"""A trained detector for use elsewhere: its raw outputs as ONNX, and beside them a decoder that needs numpy alone."""
import copy
import shutil
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from . import __version__, decode_numpy
from .boxes import hw_of
from .data.loader import pad
from .files import write_atomic, write_json
from .matching import VARIANCES
from .models.detector import CANDIDATES, MAX_BOXES, NMS_IOU, SCORE_MIN
from .predict import Trained, break_even, on_picture

OPSET = 18
FAR = 1.0  # px: two detections farther apart are not the same one
README = """{name}: a detector of detlib {version} as ONNX

detector.onnx   images (N, 3, H, W) uint8 RGB, H and W multiples of {cell} -> logits (N, R, {outputs}), deltas (N, R, 4); normalises the pixels itself
decoder.py      from these outputs to boxes, with numpy alone
detector.json   classes, anchors, thresholds, and where the model comes from

It needs numpy, onnxruntime and pillow (pip install numpy onnxruntime pillow):

    import numpy, onnxruntime, decoder
    from PIL import Image, ImageOps

    detector = decoder.load("detector.json")
    session = onnxruntime.InferenceSession("detector.onnx", providers=["CPUExecutionProvider"])
    picture = numpy.array(ImageOps.exif_transpose(Image.open("picture.png")).convert("RGB"))
    images = decoder.prepare(picture, detector)
    logits, deltas = session.run(None, {{"images": images}})
    boxes, labels, scores = decoder.detect(logits, deltas, images.shape[2:], detector, picture.shape[:2])[0]
    for box, label, score in zip(boxes, labels, scores):
        if score >= detector["score_shown"]:  # as many boxes as there were objects, when it was validated; all are from score_min on
            print(detector["classes"][label - 1], round(float(score), 3), [round(float(side), 1) for side in box])

It counts in float32. detlib itself predicts in the format of the training, which may be bfloat16: scores then differ in the third digit.
"""


def export_onnx(trained: Trained, folder: str | Path) -> Path:
    """Write detector.onnx (float32), detector.json, decoder.py and README.txt into a folder; number and size of the images stay free.

    Sides are multiples of the largest stride.
    """
    folder, cell = Path(folder), trained.model.anchors.strides[-1]
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(trained, folder / "detector.onnx", cell)
    shutil.copyfile(decode_numpy.__file__, folder / "decoder.py")
    write_json(folder / "detector.json", description(trained))
    write_atomic(folder / "README.txt", README.format(name=trained.run.experiment.rung, version=__version__, cell=cell,
                                                      outputs=len(trained.categories) + 1))
    return folder


def description(trained: Trained) -> dict:
    """What the decoder must know, and where the model comes from, as plain values."""
    run, spec = trained.run, trained.model.anchors
    data = run.config["data"]
    return {
        "classes": list(trained.categories), "strides": list(spec.strides), "anchors": [[list(shape) for shape in level] for level in spec.shapes],
        "variances": list(VARIANCES), "score_min": SCORE_MIN, "score_shown": break_even(run),
        "nms_iou": NMS_IOU, "candidates": CANDIDATES, "max_boxes": MAX_BOXES, "input": trained.run.config.get("input"),
        "from": {"rung": run.experiment.rung, "profile": run.experiment.profile, "seed": run.experiment.seed, "steps": run.metrics["steps"],
                 "mAP": run.metrics["mAP"], "data": {name: data[name] for name in ("name", "val")},
                 "versions": {"detlib": __version__, **{name: version(name) for name in ("torch", "onnx", "onnxscript")}}}}


def _write_model(trained: Trained, path: Path, cell: int) -> None:
    model = copy.deepcopy(trained.model).cpu().float().eval()
    example = torch.zeros(2, len(model.mean), 2 * cell, 3 * cell, dtype=torch.uint8)  # no side of 1: the exporter takes that for fixed
    free = {0: torch.export.Dim("n"), 2: cell * torch.export.Dim("rows"), 3: cell * torch.export.Dim("columns")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own internals
        program: Any = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=(free,), input_names=["images"],
                                         output_names=["logits", "deltas"], opset_version=OPSET, verbose=False)
    if any(isinstance(program.model.graph.inputs[0].shape[place], int) for place in free):
        raise ValueError("the exporter has fixed the number or the size of the images: a part of the model takes len() or int() of a size")
    for node in program.model.graph:
        node.metadata_props.clear()  # among them the paths of the source files on this machine
    program.save(path, external_data=False)


def check_export(folder: str | Path, trained: Trained, pictures: Sequence[Tensor]) -> dict[str, float]:
    """Largest differences between an exported detector, with the decoder beside it, and the PyTorch model, on pictures (3, H, W) uint8.

    `boxes` in px, `scores` and `logits`; `detections` is how many there were, `unmatched` how many only one of the two has. Both count in float32.
    Anchors of exactly one score, as on a large even area, may be taken in another order, and then stand as unmatched.
    """
    folder = Path(folder)
    decoder, session = _decoder(folder), onnxruntime.InferenceSession(str(folder / "detector.onnx"), providers=["CPUExecutionProvider"])
    detector, model = decoder.load(folder / "detector.json"), copy.deepcopy(trained.model).cpu().float().eval()
    worst = {"pictures": len(pictures), "detections": 0, "unmatched": 0, "boxes": 0.0, "scores": 0.0, "logits": 0.0}
    for picture in pictures:
        images, picture_hw = pad([picture], model.anchors.strides[-1]), hw_of(picture)
        image_hw = hw_of(images)
        with torch.inference_mode():
            logits, deltas = model(images)
            wanted = [part.numpy() for part in on_picture(model.detect(logits, deltas, image_hw)[0], picture_hw)]
        raw = session.run(None, {"images": decoder.prepare(picture.permute(1, 2, 0).numpy(), detector)})
        worst["logits"] = max(worst["logits"], float(np.abs(raw[0] - logits.numpy()).max()))
        _compare(wanted, decoder.detect(*raw, image_hw, detector, picture_hw)[0], worst)
    return worst


def _compare(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray], worst: dict[str, float]) -> None:
    """Pair two lists of detections, best first, each with the nearest free one of its class, and note the differences in `worst`."""
    free = np.ones(len(found[2]), bool)
    worst["detections"] += len(wanted[2])
    for box, label, score in zip(*wanted, strict=True):
        apart = np.where(free & (found[1] == label), np.abs(found[0] - box).max(axis=1, initial=0), np.inf)
        nearest = int(apart.argmin()) if len(apart) else -1
        if nearest < 0 or apart[nearest] > FAR:
            worst["unmatched"] += 1
            continue
        free[nearest] = False
        worst["boxes"] = max(worst["boxes"], float(apart[nearest]))
        worst["scores"] = max(worst["scores"], float(abs(found[2][nearest] - score)))
    worst["unmatched"] += int(free.sum())


def _decoder(folder: Path) -> ModuleType:
    """The exported decoder itself, not the one it was copied from."""
    module = ModuleType("decoder")
    exec((folder / "decoder.py").read_text(encoding="utf-8"), vars(module))  # an import would leave its bytecode there
    return module
