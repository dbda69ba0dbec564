"""The generators: MSRResNet, which MMagic and BasicSR train, and the paper's SRResNet.

Each takes RGB in [0, 1], (N, 3, H, W), and returns RGB of `upscale_factor` times the height and
width, with black at 0 and white at 1 but not clamped. Any height and width (with instance
normalisation at least two pixels), any memory format, any floating type.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init

from srgan_plugin.errors import UserError, check_count, check_option

from .blocks import (
    ACTIVATIONS,
    IMAGENET,
    LAST_ACTIVATIONS,
    NORMS,
    PIXEL_RANGES,
    ResidualBlockBN,
    ResidualBlockNoBN,
    ShuffleUpsample,
    refuse_foreign_weights,
)

# Factors of the pixel shuffles by upscale_factor.
_MSRRESNET_SHUFFLES = {2: (2,), 3: (3,), 4: (2, 2)}
_SRRESNET_SHUFFLES = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


Range = Sequence[float] | str


class Generator(nn.Module):
    """Base class of the generators: a forward pass in two halves, which tiling runs separately.

    Attributes:
        upscale_factor: Height of the output over height of the input.
        conv_first: The first convolution.
        conv_last: The last convolution.
        load_hooks: Hooks before `load_state_dict`; a subclass may add some, to convert keys.

    Example:
        >>> import torch
        >>> from srgan_plugin.networks import Generator, SRResNet
        >>> network, lr = SRResNet(mid_channels=4, num_blocks=2).eval(), torch.rand(1, 3, 8, 8)
        >>> isinstance(network, Generator)
        True
        >>> features = network.extract_features(lr)
        >>> features.shape
        torch.Size([1, 4, 8, 8])
        >>> torch.equal(network.reconstruct(features, lr), network(lr))
        True
        >>> network.receptive_radius
        (9, 3)
    """

    upscale_factor: int
    conv_first: nn.Conv2d
    conv_last: nn.Conv2d
    load_hooks: ClassVar[Sequence[Callable[..., None]]] = (refuse_foreign_weights,)

    def __init__(self) -> None:
        super().__init__()
        for hook in self.load_hooks:
            self.register_load_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Upscale LR images.

        Args:
            x: RGB in [0, 1], (N, in_channels, H, W).

        Returns:
            RGB, black at 0 and white at 1, not clamped, (N, out_channels, H*scale, W*scale).
        """
        return self.reconstruct(self.extract_features(x), x)

    @property
    def receptive_radius(self) -> tuple[int, int]:
        """Radius of the receptive fields of `extract_features` and `reconstruct`, in LR pixels."""
        raise NotImplementedError

    @property
    def needs_whole_image(self) -> bool:
        """Whether `extract_features` uses statistics of the whole image, so tiles would differ."""
        return False

    def extract_features(self, x: Tensor) -> Tensor:
        """Run the layers at LR size, from (N, in_channels, H, W) to (N, mid_channels, H, W)."""
        raise NotImplementedError

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """Run the other layers, which take most of the memory, on the features of LR images `x`."""
        raise NotImplementedError

    def _add_upsampling(
        self,
        channels: int,
        factors: Sequence[int],
        act: Callable[[], nn.Module] = nn.Identity,
        batch_norm: bool = False,
    ) -> None:
        """Add `upsample1`, `upsample2`, …, one for each factor, each with an activation."""
        self._upsamples = [f"upsample{n}" for n in range(1, len(factors) + 1)]
        for name, factor in zip(self._upsamples, factors, strict=True):
            self.add_module(name, ShuffleUpsample(channels, factor, act(), batch_norm))

    def _upsample(self, feat: Tensor) -> Tensor:
        for name in self._upsamples:
            feat = getattr(self, name)(feat)
        return feat


class MSRResNet(Generator):
    """Modified SRResNet: no batch normalisation, a bilinear skip around the whole network.

    State-dict keys, function and initialisation are those of MMagic 1.2.0 (MMEditing 0.x keys are
    the same); with `activate_after_shuffle` the function and the initialisation are those of
    BasicSR 1.4.2, whose keys differ. Receptive field: 35 LR pixels to each side at x4 with 16
    blocks.

    Args:
        in_channels: Channels of the LR image.
        out_channels: Channels of the output; equal to `in_channels` unless that is 1, because the
            upscaled input is added to the output.
        mid_channels: Channels of the features between the first and the last convolution.
        num_blocks: Number of residual blocks.
        upscale_factor: 2, 3 or 4.
        activate_after_shuffle: LeakyReLU(0.1) after each pixel shuffle, as in BasicSR, KAIR and
            early ESRGAN, but not in MMagic. Weights load with either value; with the wrong one the
            images are wrong.

    Raises:
        UserError: `upscale_factor` is not 2, 3 or 4, a number of channels or blocks is not an
            integer of at least 1, or the input cannot be added to the output.

    Example:
        >>> import torch
        >>> from srgan_plugin.networks import MSRResNet
        >>> network = MSRResNet(mid_channels=8, num_blocks=2, upscale_factor=3)
        >>> network(torch.rand(1, 3, 10, 12)).shape
        torch.Size([1, 3, 30, 36])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        mid_channels: int = 64,
        num_blocks: int = 16,
        upscale_factor: int = 4,
        activate_after_shuffle: bool = False,
    ) -> None:
        super().__init__()
        check_count(1, upscale_factor=upscale_factor)
        check_option("upscale_factor", upscale_factor, _MSRRESNET_SHUFFLES)
        check_count(
            1,
            in_channels=in_channels,
            out_channels=out_channels,
            mid_channels=mid_channels,
            num_blocks=num_blocks,
        )
        if in_channels not in (1, out_channels):
            raise UserError(
                f"in_channels: expected 1 or out_channels ({out_channels}), got {in_channels}; "
                "the upscaled input is added to the output"
            )
        self.upscale_factor = upscale_factor
        self.activate_after_shuffle = activate_after_shuffle
        self.conv_first = nn.Conv2d(in_channels, mid_channels, 3, padding=1)
        self.trunk_net = nn.Sequential(
            *(ResidualBlockNoBN(mid_channels) for _ in range(num_blocks))
        )
        act = partial(nn.LeakyReLU, 0.1, inplace=True) if activate_after_shuffle else nn.Identity
        self._add_upsampling(mid_channels, _MSRRESNET_SHUFFLES[upscale_factor], act)
        self.conv_hr = nn.Conv2d(mid_channels, mid_channels, 3, padding=1)
        self.conv_last = nn.Conv2d(mid_channels, out_channels, 3, padding=1)
        self._init_weights()

    def _init_weights(self) -> None:
        """Initialise by He's normal distribution, scaled by 0.1 before an addition (ESRGAN).

        The scale of the upsampling convolutions is 1 in MMagic and 0.1 in BasicSR.
        """
        shuffle_scale = 0.1 if self.activate_after_shuffle else 1.0
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                else:
                    init.kaiming_normal_(parameter, nonlinearity="relu")
                    parameter.mul_(shuffle_scale if name.startswith("upsample") else 0.1)

    @property
    def receptive_radius(self) -> tuple[int, int]:
        """Radius of the receptive fields of `extract_features` and `reconstruct`, in LR pixels."""
        return 1 + 2 * len(self.trunk_net), 2

    def extract_features(self, x: Tensor) -> Tensor:
        """Run the layers at LR size, from (N, in_channels, H, W) to (N, mid_channels, H, W)."""
        out: Tensor = self.trunk_net(F.leaky_relu(self.conv_first(x), 0.1, inplace=True))
        return out

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """Upsample the features of LR images `x` and return the SR images."""
        feat = F.leaky_relu(self.conv_hr(self._upsample(features)), 0.1, inplace=True)
        scale = float(self.upscale_factor)
        skip = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        out: Tensor = self.conv_last(feat) + skip
        return out


class SRResNet(Generator):
    """The paper's generator (Ledig et al. 2016, fig. 4): 9x9 ends, BN, PReLU, one long skip.

    Convolutions before a batch normalisation have a bias, which the normalisation makes redundant,
    because checkpoints of common implementations contain it. The defaults are those of the paper,
    except `output_range`; the arguments from `input_range` on describe how other implementations of
    SRGAN differ.

    Args:
        in_channels: Channels of the LR image.
        out_channels: Channels of the output.
        mid_channels: Channels of the features between the first and the last convolution; each
            upsampling convolution has four times as many.
        num_blocks: Number of residual blocks.
        upscale_factor: 2, 3, 4 or 8.
        prelu: 'shared' learns one slope for each activation, 'channel' one for each channel.
        output_range: (0, 1), (-1, 1) or 'imagenet' (mean and standard deviation), the range that
            the network was trained to produce; the paper has (-1, 1). `forward` maps it to [0, 1].
        input_range: Range of the network's input, with the same values; `forward` maps [0, 1] to
            it.
        act: 'prelu', 'relu', 'leaky_relu' (0.2) or 'swish'.
        first_act: Activation after the first convolution; `act` if None.
        norm: 'batch', 'instance' or 'instance_affine'. Instance normalisation takes its statistics
            from the whole image, which then cannot be upscaled in tiles.
        norm_eps: Positive number added to the variance by `norm`; `upsample_norm` adds 1e-5.
        trunk_end: Layer after the convolution behind the blocks: 'norm' or 'act'.
        upsample_norm: Add batch normalisation before each pixel shuffle.
        last_act: 'none' or 'tanh'.
        end_kernels: Sizes of the first and of the last convolution, odd.
        shuffles: Factors of the pixel shuffles, whose product is `upscale_factor`; None doubles
            repeatedly (x3 at once).
        depthwise: Whether a block is a depthwise 3x3 and a 1x1 convolution, in place of two of 3x3.

    Raises:
        UserError: An argument has a value or a type not listed above.

    Example:
        >>> import torch
        >>> from srgan_plugin.networks import SRResNet
        >>> network = SRResNet(mid_channels=8, num_blocks=2, upscale_factor=2)
        >>> network(torch.rand(1, 3, 10, 12)).shape
        torch.Size([1, 3, 20, 24])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        mid_channels: int = 64,
        num_blocks: int = 16,
        upscale_factor: int = 4,
        prelu: Literal["shared", "channel"] = "shared",
        output_range: Range = (0.0, 1.0),
        *,
        input_range: Range = (0.0, 1.0),
        act: str = "prelu",
        first_act: str | None = None,
        norm: str = "batch",
        norm_eps: float = 1e-5,
        trunk_end: Literal["norm", "act"] = "norm",
        upsample_norm: bool = False,
        last_act: str = "none",
        end_kernels: Sequence[int] = (9, 9),
        shuffles: Sequence[int] | None = None,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        check_count(1, upscale_factor=upscale_factor)
        factors = _parse_shuffles(upscale_factor, shuffles)
        check_count(
            1,
            in_channels=in_channels,
            out_channels=out_channels,
            mid_channels=mid_channels,
            num_blocks=num_blocks,
        )
        check_option("prelu", prelu, ("shared", "channel"))
        first_kind = act if first_act is None else first_act
        for name, kind in (("act", act), ("first_act", first_kind)):
            check_option(name, kind, ACTIVATIONS)
        check_option("norm", norm, NORMS)
        check_option("trunk_end", trunk_end, ("norm", "act"))
        check_option("last_act", last_act, LAST_ACTIVATIONS)
        _check_positive("norm_eps", norm_eps)
        first, last = _parse_kernels(end_kernels)
        self.upscale_factor = upscale_factor
        self.output_range = _parse_range("output_range", output_range, out_channels)
        self.input_range = _parse_range("input_range", input_range, in_channels)
        self.act, self.first_act = act, first_act
        self.norm, self.norm_eps, self.last_act = norm, norm_eps, last_act
        self.trunk_end, self.depthwise = trunk_end, depthwise
        slopes = 1 if prelu == "shared" else mid_channels
        make_act = partial(ACTIVATIONS[act], slopes)
        make_norm = partial(NORMS[norm], eps=norm_eps)
        self.conv_first = nn.Conv2d(in_channels, mid_channels, first, padding=first // 2)
        self.act_first = ACTIVATIONS[first_kind](slopes)
        self.trunk_net = nn.Sequential(
            *(
                ResidualBlockBN(mid_channels, make_act(), make_norm, depthwise=depthwise)
                for _ in range(num_blocks)
            )
        )
        self.conv_trunk = nn.Conv2d(mid_channels, mid_channels, 3, padding=1)
        self.bn_trunk = make_norm(mid_channels) if trunk_end == "norm" else nn.Identity()
        self.act_trunk = make_act() if trunk_end == "act" else nn.Identity()
        self._add_upsampling(mid_channels, factors, make_act, batch_norm=upsample_norm)
        self.conv_last = nn.Conv2d(mid_channels, out_channels, last, padding=last // 2)

    @property
    def receptive_radius(self) -> tuple[int, int]:
        """Radius of the receptive fields of `extract_features` and `reconstruct`, in LR pixels."""
        first, last = self.conv_first.kernel_size[0] // 2, self.conv_last.kernel_size[0] // 2
        near, scale = 0.0, 1
        for name in self._upsamples:
            near += 1 / scale
            scale *= getattr(self, name).factor
        block = 1 if self.depthwise else 2
        return first + block * len(self.trunk_net) + 1, math.ceil(near + last / scale)

    @property
    def needs_whole_image(self) -> bool:
        """Whether `extract_features` normalises by statistics of the whole image."""
        return self.norm != "batch"

    def extract_features(self, x: Tensor) -> Tensor:
        """Run the layers at LR size, from (N, in_channels, H, W) to (N, mid_channels, H, W)."""
        first = self.act_first(self.conv_first(PIXEL_RANGES[self.input_range].encode(x)))
        end = self.act_trunk(self.bn_trunk(self.conv_trunk(self.trunk_net(first))))
        out: Tensor = end + first
        return out

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """Upsample the features of LR images `x` and return the SR images."""
        out = LAST_ACTIVATIONS[self.last_act](self.conv_last(self._upsample(features)))
        return PIXEL_RANGES[self.output_range].decode(out)


def _check_positive(name: str, value: Any) -> None:
    if not (isinstance(value, Real) and 0 < float(value) < math.inf):
        raise UserError(f"{name}: expected a number above 0, got {value!r}")


def _parse_kernels(value: Any) -> tuple[int, int]:
    """Return the sizes of the first and the last kernel."""
    sizes = tuple(value) if isinstance(value, Sequence) else ()
    if len(sizes) != 2 or not all(type(n) is int and n > 0 and n % 2 for n in sizes):
        raise UserError(f"end_kernels: expected two odd sizes, got {value!r}")
    return sizes


def _parse_shuffles(upscale_factor: int, value: Any) -> tuple[int, ...]:
    """Return the factors of the pixel shuffles."""
    if value is None:
        check_option("upscale_factor", upscale_factor, _SRRESNET_SHUFFLES)
        return _SRRESNET_SHUFFLES[upscale_factor]
    plain = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not plain or any(type(n) is not int or n < 2 for n in plain):
        raise UserError(f"shuffles: expected factors of at least 2, got {value!r}")
    if math.prod(plain) != upscale_factor:
        raise UserError(
            f"shuffles: expected factors whose product is upscale_factor={upscale_factor}, "
            f"got {value!r}"
        )
    return plain


def _parse_range(name: str, value: Range, channels: int) -> Any:
    """Return a range as a key of `PIXEL_RANGES`, or raise."""
    is_pair = isinstance(value, Sequence) and not isinstance(value, str)
    plain = tuple(value) if is_pair else value
    check_option(name, plain, PIXEL_RANGES)
    if plain == "imagenet" and channels != len(IMAGENET):
        raise UserError(f"{name}: expected 3 channels for 'imagenet', got {channels}")
    return plain


GENERATORS: dict[str, type[Generator]] = {cls.__name__: cls for cls in (MSRResNet, SRResNet)}
