"""Backbones: an image to feature maps of strides 4, 8, 16, 32, 64, 128."""
from torch import Tensor, nn
from torchvision.models import mobilenetv2, resnet

OUT_CHANNELS = (128, 256, 128, 128, 64, 64)  # the report's table "The Improved Model"
HIDDEN = (128, 256, 128, 128, 128)


class SmallCNN(nn.Module):
    """The report's first network: plain 3x3 convolutions; every level is the map that a stride-2 convolution leaves, after its ReLU.

    `width` scales all channels; 1 is the report's network.
    """

    def __init__(self, in_channels: int, width: float):
        super().__init__()
        c = lambda channels: max(8, round(channels * width))  # noqa: E731
        self.out_channels = tuple(c(channels) for channels in OUT_CHANNELS)
        first = nn.Sequential(
            nn.Conv2d(in_channels, c(32), 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(c(32), c(64), 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(c(64), c(64), 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(c(64), self.out_channels[0], 3, stride=2, padding=1), nn.ReLU(),
        )
        levels = [first]
        for k, hidden in enumerate(HIDDEN, start=1):
            last = k == len(HIDDEN)  # a map two rows high: kernel 2 without padding makes it one
            levels.append(nn.Sequential(
                nn.Conv2d(self.out_channels[k - 1], c(hidden), 3, padding=1), nn.ReLU(inplace=True),
                nn.Conv2d(c(hidden), self.out_channels[k], 2 if last else 3, stride=2, padding=0 if last else 1), nn.ReLU(),
            ))
        self.levels = nn.ModuleList(levels)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # He et al. 2015, eq. 10: without it (and without batch norm) the signal fades from layer to layer
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> six maps (N, out_channels[k], H / stride, W / stride)."""
        maps = []
        for level in self.levels:
            images = level(images)
            maps.append(images)
        return maps


class ResNet(nn.Module):
    """ResNet (He et al. 2016) C2..C5, then two BasicBlocks of stride 2 for the coarse levels; the classifier `fc` is not there.

    `blocks`: of each stage as many, from the first on; None: all.
    """

    def __init__(self, name: str, extra_channels: tuple[int, int], blocks: int | None = None):
        super().__init__()
        net = getattr(resnet, name)(weights=None)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        width = net.fc.in_features
        self.out_channels = tuple(width // k for k in (8, 4, 2, 1)) + extra_channels
        stages = [stage[:blocks] for stage in (net.layer1, net.layer2, net.layer3, net.layer4)]
        self.levels = nn.ModuleList([*stages, *_coarse_levels(width, extra_channels)])
        self.whole = blocks is None
        self.torchvision_name = name
        self.torchvision_parts = {"conv1": "stem.0", "bn1": "stem.1", **{f"layer{k + 1}": f"levels.{k}" for k in range(4)}}  # there -> here

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> six maps (N, out_channels[k], H / stride, W / stride)."""
        return _maps(self.levels, self.stem(images))


MOBILENET_LEVELS = ((0, 4), (4, 7), (7, 14), (14, 19))  # torchvision's features [from, to) of one stride each: 4, 8, 16, 32


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al. 2018, table 2), its last map of each stride, then two BasicBlocks of stride 2; the classifier is not there."""

    def __init__(self, extra_channels: tuple[int, int]):
        super().__init__()
        features = mobilenetv2.mobilenet_v2(weights=None).features
        widths = tuple(next(m.num_features for m in reversed(list(features[end - 1].modules())) if isinstance(m, nn.BatchNorm2d))
                       for _, end in MOBILENET_LEVELS)
        self.out_channels = widths + extra_channels
        levels = [features[start:end] for start, end in MOBILENET_LEVELS]  # a slice keeps the names: levels.1.4 is features.4
        self.levels = nn.ModuleList([*levels, *_coarse_levels(widths[-1], extra_channels)])
        self.torchvision_name = "mobilenet_v2"
        self.torchvision_parts = {f"features.{i}": f"levels.{k}.{i}" for k, span in enumerate(MOBILENET_LEVELS) for i in range(*span)}

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> six maps (N, out_channels[k], H / stride, W / stride)."""
        return _maps(self.levels, images)


Backbone = SmallCNN | ResNet | MobileNetV2


def _coarse_levels(width: int, channels: tuple[int, int]) -> list[nn.Module]:
    """Two BasicBlocks of stride 2 behind a map of `width` channels."""
    levels = []
    for out in channels:
        shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride=2, bias=False), nn.BatchNorm2d(out))
        levels.append(resnet.BasicBlock(width, out, stride=2, downsample=shortcut))
        width = out
    return levels


def _maps(levels: nn.ModuleList, x: Tensor) -> list[Tensor]:
    maps = []
    for level in levels:
        x = level(x)
        maps.append(x)
    return maps
