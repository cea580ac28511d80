"""Feature pyramid network (Lin et al. 2017a)."""
from torch import Tensor, nn
from torch.nn.functional import interpolate


class FPN(nn.Module):
    """Each level's 1x1 lateral plus the coarser level upsampled, then a 3x3 convolution (sec. 3, fig. 3)."""

    def __init__(self, in_channels: tuple[int, ...], channels: int):
        super().__init__()
        self.out_channels = (channels,) * len(in_channels)
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        for layer in [*self.laterals, *self.smooth]:  # no ReLU follows, so gain 1, as in the reference code (facebookresearch/Detectron)
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (N, in_channels[k], h_k, w_k), finest first -> maps (N, channels, h_k, w_k)."""
        merged = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for k in range(len(merged) - 2, -1, -1):
            merged[k] = merged[k] + interpolate(merged[k + 1], size=merged[k].shape[-2:], mode="nearest")
        return [smooth(x) for smooth, x in zip(self.smooth, merged, strict=True)]
