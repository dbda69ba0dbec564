"""The two discriminators: logits of real against generated images.

Both are pairs of convolutions, the second of which halves height and width, then two dense layers.
The sigmoid is part of the loss. Any memory format, any floating type.

Under bfloat16 autocast the gradient of the weights has a cosine of 0.967 with that in float32
(ModifiedVGG, not trained, 16 images of 128x128), because rounding flips the slope of LeakyReLU;
more layers in float32 do not help.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import UserError, check_count

from .blocks import autocast_disabled


class _PairedConvDiscriminator(nn.Module):
    """Base class of the discriminators: keys convI_0, bnI_0, convI_1, bnI_1, linear1, linear2.

    Batch normalisation follows every convolution except the first, the only one with a bias;
    LeakyReLU(0.2) follows every layer except the last dense one. Features double with each stage,
    up to eight times `mid_channels`.

    Args:
        in_channels: Channels of the images.
        mid_channels: Features of the first stage.
        input_size: Height and width of the images, a multiple of 2**num_stages.
        num_stages: Pairs of convolutions.
        down_kernel: Kernel size of the convolutions with stride 2.
        hidden: Features of the first dense layer.

    Raises:
        UserError: `input_size` is not a multiple of 2**num_stages, or an argument is not an integer
            of at least 1.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        mid_channels: int,
        input_size: int,
        num_stages: int,
        down_kernel: int,
        hidden: int,
    ) -> None:
        super().__init__()
        check_count(
            1,
            in_channels=in_channels,
            mid_channels=mid_channels,
            input_size=input_size,
            num_stages=num_stages,
            hidden=hidden,
        )
        side, rest = divmod(input_size, 2**num_stages)
        if side < 1 or rest:
            raise UserError(
                f"input_size: expected a multiple of {2**num_stages} ({num_stages} halvings), "
                f"got {input_size}"
            )
        self.input_size = input_size
        self.num_stages = num_stages
        channels = in_channels
        for stage in range(num_stages):
            out_channels = mid_channels * min(2**stage, 8)
            self._add_conv(f"{stage}_0", channels, out_channels, kernel=3, stride=1)
            self._add_conv(f"{stage}_1", out_channels, out_channels, kernel=down_kernel, stride=2)
            channels = out_channels
        self.linear1 = nn.Linear(channels * side**2, hidden)
        self.linear2 = nn.Linear(hidden, 1)

    def _add_conv(
        self, name: str, in_channels: int, out_channels: int, *, kernel: int, stride: int
    ) -> None:
        first = name == "0_0"
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=1, bias=first)
        self.add_module(f"conv{name}", conv)
        self.add_module(f"bn{name}", None if first else nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits of images.

        Args:
            x: RGB in [0, 1], (N, in_channels, input_size, input_size).

        Returns:
            Logits, (N, 1), positive for real; in the dtype of the weights, also under autocast.

        Raises:
            UserError: The images have another height or width.
        """
        size = self.input_size
        if x.shape[-2:] != (size, size):
            raise UserError(
                f"{type(self).__name__}: expected images of {size}x{size}, got "
                f"{x.shape[-2]}x{x.shape[-1]} (height x width); set input_size to the crop size"
            )
        feat = x
        for name in (f"{stage}_{number}" for stage in range(self.num_stages) for number in (0, 1)):
            feat = getattr(self, f"conv{name}")(feat)
            norm = getattr(self, f"bn{name}")
            feat = F.leaky_relu(feat if norm is None else norm(feat), 0.2, inplace=True)
        # flatten, not view: features in channels_last cannot be viewed as (N, C*H*W)
        feat = F.leaky_relu(self.linear1(feat.flatten(1)), 0.2, inplace=True)
        # Not under autocast: bfloat16 has 8 bits, so logits near 100 would be multiples of 0.5.
        with autocast_disabled(x):
            logits: Tensor = self.linear2(feat.to(self.linear2.weight.dtype))
        return logits


class ModifiedVGG(_PairedConvDiscriminator):
    """The VGG-style discriminator of MMagic and BasicSR: strided convolutions are 4x4.

    Keys, shapes and function are those of MMagic 1.2.0's ModifiedVGG and, at the defaults, of
    BasicSR 1.4.2's VGGStyleDiscriminator; for 256x256 that is `input_size=256, num_stages=6`.

    Args:
        in_channels: Channels of the images.
        mid_channels: Features of the first stage.
        input_size: Height and width of the images, a multiple of 2**num_stages.
        num_stages: Pairs of convolutions; each halves height and width.

    Raises:
        UserError: `input_size` is not a multiple of 2**num_stages, or an argument is not an integer
            of at least 1.

    Example:
        >>> import torch
        >>> from srgan_plugin.networks import ModifiedVGG
        >>> discriminator = ModifiedVGG(mid_channels=4, input_size=32, num_stages=3)
        >>> discriminator(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: int = 3,
        mid_channels: int = 64,
        input_size: int = 128,
        num_stages: int = 5,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            mid_channels=mid_channels,
            input_size=input_size,
            num_stages=num_stages,
            down_kernel=4,
            hidden=100,
        )


class SRGANDiscriminator(_PairedConvDiscriminator):
    """The paper's discriminator (Ledig et al. 2016, fig. 4): eight 3x3 convolutions, dense 1024.

    Args:
        in_channels: Channels of the images.
        mid_channels: Features of the first two convolutions (64 to 512 at the default).
        input_size: Height and width of the images, a multiple of 16; the paper's crops are 96x96.

    Raises:
        UserError: `input_size` is not a multiple of 16, or an argument is not an integer of at
            least 1.

    Example:
        >>> import torch
        >>> from srgan_plugin.networks import SRGANDiscriminator
        >>> discriminator = SRGANDiscriminator(mid_channels=4, input_size=32)
        >>> discriminator(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1])
    """

    def __init__(self, in_channels: int = 3, mid_channels: int = 64, input_size: int = 96) -> None:
        super().__init__(
            in_channels=in_channels,
            mid_channels=mid_channels,
            input_size=input_size,
            num_stages=4,
            down_kernel=3,
            hidden=1024,
        )


DISCRIMINATORS: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (ModifiedVGG, SRGANDiscriminator)
}
