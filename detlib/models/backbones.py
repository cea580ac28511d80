"""Backbones: an image to feature maps of strides 4, 8, 16, 32, 64, 128."""
from torch import Tensor, nn
from torchvision.models import resnet

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
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> six maps (N, out_channels[k], H / stride, W / stride)."""
        maps = []
        for level in self.levels:
            images = level(images)
            maps.append(images)
        return maps


class ResNet(nn.Module):
    """ResNet (He et al. 2016) C2..C5, then two BasicBlocks of stride 2 for the coarse levels; the classifier `fc` is not there."""

    def __init__(self, name: str, extra_channels: tuple[int, int]):
        super().__init__()
        net = getattr(resnet, name)(weights=None)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        levels = [net.layer1, net.layer2, net.layer3, net.layer4]
        width = net.fc.in_features
        self.out_channels = tuple(width // k for k in (8, 4, 2, 1)) + extra_channels
        for channels in extra_channels:
            shortcut = nn.Sequential(nn.Conv2d(width, channels, 1, stride=2, bias=False), nn.BatchNorm2d(channels))
            levels.append(resnet.BasicBlock(width, channels, stride=2, downsample=shortcut))
            width = channels
        self.levels = nn.ModuleList(levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> six maps (N, out_channels[k], H / stride, W / stride)."""
        maps, x = [], self.stem(images)
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps
