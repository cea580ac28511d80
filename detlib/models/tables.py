"""Tables that are read off a model."""
import pandas as pd
import torch
from torch import nn
from torchvision.models import resnet

from ..anchors import BASELINE, SPECS
from ..experiments import ladder
from .detector import Detector, build, trainable_parameters

LAYERS = (nn.Conv2d, nn.ReLU, nn.MaxPool2d)


def layer_table(model: Detector, image_hw: tuple[int, int]) -> pd.DataFrame:
    """The backbone's layers in the form of the report's table, with the maps that go to the heads, from one forward pass."""
    rows: list[dict] = []

    def note(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        convolution = isinstance(layer, nn.Conv2d)
        sizes = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding")} if not isinstance(layer, nn.ReLU) else {}
        rows.append({"is output": "", "layer": type(layer).__name__, "filters": str(layer.out_channels) if convolution else "-",
                     **{name.removesuffix("_size"): _one(sizes.get(name)) for name in ("kernel_size", "stride", "padding")},
                     "output (channels x h x w)": " x ".join(map(str, output.shape[1:]))})

    layers = [module for module in model.backbone.modules() if isinstance(module, LAYERS)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    levels = [level.register_forward_hook(lambda *_: rows[-1].update({"is output": "yes"})) for level in model.backbone.levels]
    with torch.no_grad():
        model.backbone(torch.zeros(1, len(model.mean), *model.anchors.padded(image_hw)))
    for hook in hooks + levels:
        hook.remove()
    return pd.DataFrame(rows, index=range(1, len(rows) + 1))


def _one(size: int | tuple[int, int] | None) -> str:
    if size is None:
        return "-"
    height, width = size if isinstance(size, tuple) else (size, size)
    return str(height) if height == width else f"{height} x {width}"


def parameter_table(model: Detector, image_hw: tuple[int, int]) -> pd.DataFrame:
    """Trainable parameters of each part, and what the report's table counted on top: four numbers an anchor, which are not trained."""
    parts = {name: trainable_parameters(part) for name, part in (("backbone", model.backbone), ("neck", model.neck), ("heads", model.head))}
    trainable, anchors = sum(parts.values()), model.anchors.count(image_hw)
    rows = {**parts, "trainable": trainable, f"+ {anchors:,} anchors x 4 numbers, frozen": 4 * anchors, "with them": trainable + 4 * anchors}
    return pd.DataFrame({"parameters": [f"{n:,}" for n in rows.values()]}, index=list(rows))


# What the report prints as "Number of parameters", by our names of its models
REPORTED = {"baseline": 2_852_640, "flip": 2_852_640, "fpn": 40_963_016, "focal": 40_963_016, "deep_heads": 48_047_048, "bias_init": 48_047_048,
            "report_anchors": 48_198_602}


def costs(profile: str | None = None, num_classes: int = 8, image_hw: tuple[int, int] = (128, 1024)) -> dict[str, dict[str, int]]:
    """For every rung: trainable parameters, anchors, their frozen numbers (4 each), and what ResNet's unused classifier would add.

    Counted on models without storage, so that it takes no memory. Fitted anchors have the baseline's number of shapes.
    """
    rows = {}
    for name, experiment in ladder(profile).items():
        spec = SPECS.get(experiment.anchors, BASELINE)
        with torch.device("meta"):
            trainable = trainable_parameters(build(experiment, spec, num_classes, torch.zeros(3), torch.ones(3)))
            unused = getattr(resnet, experiment.sizes.resnet)().fc if experiment.backbone == "resnet" else nn.Identity()
        anchors = spec.count(spec.padded(image_hw))
        rows[name] = {"trainable": trainable, "anchors": anchors, "anchor_numbers": 4 * anchors, "unused_fc": trainable_parameters(unused)}
    return rows


def reconciliation() -> pd.DataFrame:
    """The report's parameter table taken apart: what is trained, what is frozen, what is never used; the last column must be zero."""
    rows = {name: row for name, row in costs("report").items() if name in REPORTED}
    table = pd.DataFrame(rows).T.rename(columns={"anchor_numbers": "anchors x 4, frozen", "unused_fc": "ResNet's fc, unused"}).drop(columns="anchors")
    table["sum"] = table.sum(axis=1)
    table["the report's table"] = pd.Series(REPORTED)
    table["left over"] = table["the report's table"] - table["sum"]
    return table.map("{:,}".format)
