"""What the generators are built of."""

import torch.nn.functional as F
from torch import Tensor, nn


class ShuffleUpsample(nn.Module):
    """Sub-pixel upsampling: a 3x3 convolution to `factor**2` times the channels, then the shuffle.

    Args:
        channels: Channels of input and output.
        factor: The shuffle's factor.
        act: What follows the shuffle; nothing by default.
    """

    def __init__(self, channels: int, factor: int, act: nn.Module | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.upsample_conv = nn.Conv2d(channels, channels * factor**2, 3, padding=1)
        self.act = nn.Identity() if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, factor*H, factor*W)."""
        out: Tensor = self.act(F.pixel_shuffle(self.upsample_conv(x), self.factor))
        return out


class ResidualBlockNoBN(nn.Module):
    """x + conv(ReLU(conv(x))): MSRResNet's block, without batch normalisation as in EDSR."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, C, H, W)."""
        out: Tensor = x + self.conv2(F.relu(self.conv1(x), inplace=True))
        return out


class ResidualBlockBN(nn.Module):
    """x + BN(conv(PReLU(BN(conv(x))))): SRResNet's block (Ledig et al. 2016, fig. 4)."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = act
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, C, H, W)."""
        out: Tensor = x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return out
