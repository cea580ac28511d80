"""ImageNet weights for a backbone: torchvision's own files, by explicit choice, never fetched and never left out in silence.

torchvision trained them on photographs of zero mean and unit variance in each channel. The detector brings every data set to just that with the
data's own mean and std, so nothing else is adjusted; which physical quantity stands in for red, green and blue is the order of the data's channels.
"""
import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

from .backbones import Backbone, MobileNetV2, ResNet, SmallCNN
from .detector import Detector

VERSION = "IMAGENET1K_V1"  # the one that ResNet-18, ResNet-50 and MobileNetV2 all have
CLASSIFIERS = ("fc.", "classifier.")  # what the files hold beside the backbone
COUNTER = "num_batches_tracked"  # of batch norm, absent from older files; unused with a fixed momentum


class Loaded(NamedTuple):
    """What a backbone took from a file; as text one line."""

    file: str
    keys: tuple[str, ...]  # of the model's state dict
    fresh: tuple[str, ...]  # parts of the model that stay random

    def __str__(self) -> str:
        return f"ImageNet weights: {len(self.keys)} tensors of {self.file}; random: {', '.join(self.fresh)}"


def start_from_imagenet_(model: Detector) -> Loaded:
    """Replace the weights of a detector's backbone by ImageNet's; the levels behind it, the neck and the heads stay as they are.

    Raises ValueError where no ImageNet weights can fit, FileNotFoundError where the file is not there (`find_or_download`).
    """
    channels = len(model.mean)
    if isinstance(model.backbone, SmallCNN):
        raise ValueError('weights="imagenet" with backbone="small": nobody trained this small network on ImageNet; '
                         'take backbone="resnet" or "mobilenet", or weights="none"')
    if isinstance(model.backbone, ResNet) and not model.backbone.whole:
        raise ValueError(f'weights="imagenet" with a part of {model.backbone.torchvision_name}: the smoke profile has one block of each stage, and '
                         'the weights are those of all; take another profile, backbone="mobilenet", or weights="none"')
    if channels != 3:
        raise ValueError(f'weights="imagenet" with data of {channels} channel{"s" * (channels != 1)}: the first layer was trained on three, '
                         'red, green and blue; give the data three channels, or take weights="none"')
    weights = get_model_weights(model.backbone.torchvision_name)[VERSION]
    path = find_or_download(weights)
    try:
        filled = copy_(model.backbone, read(path, hash_prefix(weights)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    keys = tuple(f"backbone.{key}" for key in filled)
    parts = {**{f"backbone.{name}": part for name, part in _parts(model.backbone)}, "neck": model.neck, "head": model.head}
    fresh = (name for name, part in parts.items() if any(True for _ in part.parameters()) and not any(key.startswith(f"{name}.") for key in keys))
    return Loaded(path.name, keys, tuple(fresh))


def weights_file(weights: WeightsEnum) -> Path:
    """Where torch keeps a file of torchvision's: `checkpoints` in `torch.hub.get_dir()`, which is `$TORCH_HOME/hub`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def hash_prefix(weights: WeightsEnum) -> str:
    """The start of the file's SHA-256, which torchvision writes into its name."""
    return torch.hub.HASH_REGEX.findall(weights_file(weights).name)[0]


def find_or_download(weights: WeightsEnum) -> Path:
    """The file of ImageNet weights on this disk; fetched if it is not there and DETLIB_DOWNLOAD=1 asks for it, else FileNotFoundError."""
    path = weights_file(weights)
    if path.is_file():
        return path
    asked = os.environ.get("DETLIB_DOWNLOAD") or "0"
    if asked not in ("0", "1"):
        raise ValueError(f"DETLIB_DOWNLOAD={asked!r}: known are '0' and '1'")
    by_hand = f'put it into {path.parent} by hand (from {weights.url}), or take weights="none"'
    if asked == "0":
        raise FileNotFoundError(f'weights="imagenet" needs {path.name}, which is not there: set DETLIB_DOWNLOAD=1 to have it fetched, {by_hand}')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # torch writes beside the place, checks the hash, and moves
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=hash_prefix(weights), progress=False)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"{path.name} could not be fetched ({error}): {by_hand}") from error
    return path


def read(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a file whose SHA-256 starts with `prefix`; ValueError if it is another file, or holds anything but tensors."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(prefix):
        raise ValueError(f"the file's SHA-256 starts with {found[:len(prefix)]} and should with {prefix}: it is damaged or another file; "
                         'delete it and get it anew, or take weights="none"')
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"this is no file of weights ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("this is no file of weights: it holds something else than named tensors")
    return dict(state)


@torch.no_grad()
def copy_(backbone: ResNet | MobileNetV2, state: dict[str, Tensor]) -> list[str]:
    """Copy torchvision's tensors into a backbone by the names of `torchvision_parts`; -> the backbone's keys that were filled.

    All or nothing: ValueError if one is missing, left over (the classifier may be), or of another shape.
    """
    own = backbone.state_dict()
    there = {f"{mine}.{key.removeprefix(f'{part}.')}": key for part, mine in backbone.torchvision_parts.items()
             for key in state if key.startswith(f"{part}.")}  # here -> there
    wanted = {key for key in own if key.startswith(tuple(f"{mine}." for mine in backbone.torchvision_parts.values()))}
    missing = {key for key in wanted - there.keys() if not key.endswith(COUNTER)}
    left = {key for key in state.keys() - there.values() if not key.startswith(CLASSIFIERS)} | {there[key] for key in there.keys() - wanted}
    other = {there[key] for key in wanted & there.keys() if state[there[key]].shape != own[key].shape}
    wrong = [f"{what} {sorted(keys)[0]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}"
             for what, keys in (("it lacks", missing), ("unknown", left), ("another shape", other)) if keys]
    if wrong:
        raise ValueError(f"these are not the weights of {backbone.torchvision_name}: {'; '.join(wrong)}")
    filled = [key for key in own if key in there]
    for key in filled:
        own[key].copy_(state[there[key]])
    return filled


def _parts(backbone: Backbone) -> list[tuple[str, nn.Module]]:
    """The stem and each level."""
    return [(f"{name}.{k}" if name == "levels" else name, part) for name, child in backbone.named_children()
            for k, part in (enumerate(child.children()) if name == "levels" else [("", child)])]
