"""Check arguments assumed from a repository's scripts against trained weights.

In a trained network, the running statistics of batch normalisation match its inputs, and the
super-resolved image resembles the LR image. If another activation or range fits decisively better
than the assumed one, a fork has probably changed it. Random weights fit no choice and therefore
contradict none.
"""

import itertools
import math
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.networks import SRResNet
from srgan_plugin.networks.blocks import ACTIVATIONS, IMAGENET, LAST_ACTIVATIONS, PIXEL_RANGES

_SIZE = 40  # height and width of the test image
_BORDER = 8  # pixels at each edge that zero padding changes
# Thresholds, measured on 33 small networks with 11 combinations of arguments after 100 to 700
# steps: no correct combination is contradicted.
_MIN_ACT_RATIO = 3.0  # error of the assumed activation / error of the best one
_MAX_ACT_ERROR = 0.1  # error of the best activation / error without an activation
_MIN_PSNR = 20.0  # dB, of the better ranges
_CLEAR_GAIN = 6.0  # dB, sufficient alone
_SMALL_GAIN = 1.5  # dB, sufficient if the statistics also fit better
_MIN_DISTANCE_RATIO = 4.0  # distance of the statistics, assumed ranges / better ranges
_MAX_DISTANCE = 1.5  # distance of the statistics, better ranges
# Points and weights for means over a standard normal distribution.
_POINTS = torch.linspace(-6, 6, 241)
_NORMAL = torch.softmax(-(_POINTS**2) / 2, 0)


@torch.inference_mode()
def find_better_arguments(network: SRResNet, assumed: Collection[str]) -> dict[str, Any]:
    """Return the assumed arguments that the weights contradict, with the values that fit better.

    Args:
        network: The network with the assumed arguments, float32, on the CPU, in evaluation mode; it
            is not changed.
        assumed: Names of the assumed arguments, of which `act`, `input_range`, `output_range` and
            `last_act` are checked. `prelu` has weights, so it is known.

    Returns:
        {name: value}. If `act` is contradicted, the ranges are not checked.
    """
    if "act" in assumed and network.act != "prelu" and (act := _better_activation(network)):
        return {"act": act}
    return _better_ranges(network, assumed)


def _better_activation(network: SRResNet) -> str | None:
    """Return an activation that fits the statistics decisively better; None if there is none."""
    if network.norm != "batch":
        return None
    errors = {
        name: sum(_mean_error(block, make(1)) for block in network.trunk_net)
        for name, make in ACTIVATIONS.items()
        if name != "prelu"
    }
    best = min(errors, key=lambda name: errors[name])
    explained = errors[best] < _MAX_ACT_ERROR * sum(map(_mean_error, network.trunk_net))
    return best if explained and errors[network.act] > _MIN_ACT_RATIO * errors[best] else None


def _mean_error(block: Any, act: nn.Module | None = None) -> float:
    """Return the squared error of the predicted mean before a block's second normalisation.

    The output of the first normalisation is approximately normally distributed, with its bias as
    mean and its weight as standard deviation.

    Args:
        block: Residual block.
        act: Activation between the convolutions; None predicts as if its output were zero.
    """
    first, second = block.bn1, block.bn2
    deviation = first.weight.abs() * (first.running_var / (first.running_var + first.eps)).sqrt()
    predicted = block.conv2.bias
    if act is not None:
        mean = (act(first.bias[:, None] + deviation[:, None] * _POINTS) * _NORMAL).sum(1)
        predicted = predicted + block.conv2.weight.sum((2, 3)) @ mean
    error = (second.running_mean - predicted) ** 2 / (second.running_var + second.eps)
    return float(error.mean())


class _Fit(NamedTuple):
    """Fit of one combination of arguments.

    Attributes:
        psnr: PSNR between the test image and the downscaled result, in dB.
        distance: Distance between the running statistics of the first normalisation and the
            statistics of its input.
    """

    psnr: float
    distance: float

    def contradicts(self, assumed: "_Fit") -> bool:
        """Return whether this fit is good and much better than the fit of the assumed arguments."""
        gain = self.psnr - assumed.psnr
        closer = self.distance < min(_MAX_DISTANCE, assumed.distance / _MIN_DISTANCE_RATIO)
        return self.psnr > _MIN_PSNR and (gain > _CLEAR_GAIN or (closer and gain > _SMALL_GAIN))


def _better_ranges(network: SRResNet, assumed: Collection[str]) -> dict[str, Any]:
    """Return the ranges and the last activation to change because others fit decisively better.

    Only networks from 1 to 1 or from 3 to 3 channels are checked.
    """
    names = ("input_range", "output_range", "last_act")
    now = {name: getattr(network, name) for name in names}
    channels = network.conv_first.in_channels, network.conv_last.out_channels
    if not set(names) & set(assumed) or channels not in ((1, 1), (3, 3)):
        return {}
    ranges = [
        value for value in PIXEL_RANGES if channels[0] == len(IMAGENET) or value != "imagenet"
    ]
    values = {"input_range": ranges, "output_range": ranges, "last_act": list(LAST_ACTIVATIONS)}
    choices = [values[name] if name in assumed else [now[name]] for name in names]
    fits = _fits(network, *choices)
    current = tuple(now.values())

    def score(key: tuple[Any, ...]) -> float:  # each change must gain more than _SMALL_GAIN
        changes = sum(value != own for value, own in zip(key, current, strict=True))
        return fits[key].psnr - _SMALL_GAIN * float(changes)

    better = [key for key, fit in fits.items() if fit.contradicts(fits[current])]
    best = max(better, key=score, default=current)
    return {name: value for name, value in zip(names, best, strict=True) if value != now[name]}


def _fits(
    network: SRResNet, inputs: list[Any], outputs: list[Any], last_acts: list[Any]
) -> dict[tuple[Any, ...], _Fit]:
    """Return the fit of each combination of ranges and last activation.

    Args:
        network: The network; it is not changed.
        inputs: Values of `input_range`.
        outputs: Values of `output_range`.
        last_acts: Values of `last_act`.
    """
    image = _natural_image(network.conv_first.in_channels)
    features: list[Tensor] = []
    norm: Any = network.trunk_net.get_submodule("0.bn1")
    hook = norm.register_forward_hook(lambda _, args, __: features.append(args[0]))
    before = network.input_range, network.output_range, network.last_act
    fits = {}
    try:
        network.output_range, network.last_act = (0.0, 1.0), "none"
        for value in inputs:
            network.input_range = value
            raw = network(image)  # the output of the last convolution, because of the line above
            distance = _distance(norm, features.pop())
            for output, last_act in itertools.product(outputs, last_acts):
                result = PIXEL_RANGES[output].decode(LAST_ACTIVATIONS[last_act](raw)).clamp(0, 1)
                small = F.avg_pool2d(result, network.upscale_factor)
                error = float(_crop(small - image, _BORDER).square().mean())
                fit = _Fit(-10 * math.log10(max(error, 1e-10)), distance)
                fits[value, output, last_act] = fit
    finally:
        hook.remove()
        network.input_range, network.output_range, network.last_act = before
    return fits


def _crop(x: Tensor, border: int) -> Tensor:
    return x[..., border:-border, border:-border]


def _distance(norm: Any, features: Tensor) -> float:
    """Return the distance between running statistics and statistics of features, 0 without them."""
    if getattr(norm, "running_mean", None) is None:
        return 0.0
    inner = _crop(features, _BORDER // 2)
    mean, variance = inner.mean((0, 2, 3)), inner.var((0, 2, 3))
    known = norm.running_var + norm.eps
    spread = ((variance + norm.eps) / known).log().square()
    return float(((mean - norm.running_mean).square() / known + spread).mean())


def _natural_image(channels: int) -> Tensor:
    """Return an image, (1, channels, H, W) in [0, 1], with the statistics of photographs."""
    random = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 3, _SIZE, _SIZE)
    for size, amplitude in ((2, 7), (4, 6), (10, 4), (20, 2), (40, 1)):
        noise = torch.rand(1, 4, size, size, generator=random) - 0.5
        mixed = amplitude * (0.8 * noise[:, :1] + 0.2 * noise[:, 1:])
        image += F.interpolate(mixed, (_SIZE, _SIZE), mode="bicubic")
    image = (image - image.mean((2, 3), keepdim=True)) / image.std((2, 3), keepdim=True)
    image = (image * 0.25 + torch.tensor([0.46, 0.44, 0.40]).view(1, 3, 1, 1)).clamp(0, 1)
    return image if channels == 3 else image.mean(1, keepdim=True)
