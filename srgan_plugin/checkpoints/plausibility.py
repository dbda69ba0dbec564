"""What a repository's scripts state and a fork may have changed, checked against the weights.

Two facts are in trained weights and in no others: the running statistics of batch normalisation
are those of what came before it, and a super-resolved image resembles its input. Where another
activation or another range fits them decisively better than the one stated, the reading is wrong.
Random weights fit nothing, and nothing is said of them.
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

_SIZE, _BORDER = 40, 8  # pixels of the test image, and those that zero padding may spoil
# Measured on 33 small networks of 11 functions after 100 to 700 steps: no right reading is refuted.
_ACT_RATIO, _ACT_FITS = 3.0, 0.1
_RESEMBLES, _PLAINLY = 20.0, 6.0  # dB
_BETTER, _DISTANCE_RATIO, _DISTANCE_FITS = 1.5, 4.0, 1.5
_STEPS = torch.linspace(-6, 6, 241)
_NORMAL = torch.softmax(-(_STEPS**2) / 2, 0)


@torch.inference_mode()
def contradicted(network: SRResNet, assumed: Collection[str]) -> dict[str, Any]:
    """Return the arguments that fit the weights decisively better than those of the network.

    Args:
        network: In evaluation mode; it is as before afterwards.
        assumed: The arguments that may differ, as far as they can be checked: `act`,
            `input_range`, `output_range`, `last_act`.
    """
    if "act" in assumed and network.act != "prelu" and (act := _better_activation(network)):
        return {"act": act}
    return _better_ranges(network, assumed)


def _better_activation(network: SRResNet) -> str | None:
    if network.norm != "batch":
        return None
    errors = {
        name: sum(_mean_error(block, make(1)) for block in network.trunk_net)
        for name, make in ACTIVATIONS.items()
        if name != "prelu"
    }
    best = min(errors, key=lambda name: errors[name])
    explained = errors[best] < _ACT_FITS * sum(map(_mean_error, network.trunk_net))
    return best if explained and errors[network.act] > _ACT_RATIO * errors[best] else None


def _mean_error(block: Any, act: nn.Module | None = None) -> float:
    """Compare the mean before the second normalisation with what an activation predicts, or none.

    What leaves the first one is about normal, with its bias and weight as mean and deviation.
    """
    one, two = block.bn1, block.bn2
    deviation = one.weight.abs() * (one.running_var / (one.running_var + one.eps)).sqrt()
    predicted = block.conv2.bias
    if act is not None:
        mean = (act(one.bias[:, None] + deviation[:, None] * _STEPS) * _NORMAL).sum(1)
        predicted = predicted + block.conv2.weight.sum((2, 3)) @ mean
    return float(((two.running_mean - predicted) ** 2 / (two.running_var + two.eps)).mean())


class _Fit(NamedTuple):
    resemblance: float  # PSNR between the test image and the result, in the test image's size
    distance: float  # between the statistics of the first normalisation and the test image's

    def refutes(self, stated: "_Fit") -> bool:
        """Whether this reading is right and another plainly wrong."""
        gain = self.resemblance - stated.resemblance
        nearer = self.distance < min(_DISTANCE_FITS, stated.distance / _DISTANCE_RATIO)
        return self.resemblance > _RESEMBLES and (gain > _PLAINLY or (nearer and gain > _BETTER))


def _better_ranges(network: SRResNet, assumed: Collection[str]) -> dict[str, Any]:
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
    stated = fits[tuple(now.values())]

    def merit(key: tuple[Any, ...]) -> float:  # a change has to be worth it
        changed = sum(value != own for value, own in zip(key, now.values(), strict=True))
        return fits[key].resemblance - _BETTER * float(changed)

    better = [key for key, fit in fits.items() if fit.refutes(stated)]
    best = max(better, key=merit, default=tuple(now.values()))
    return {name: value for name, value in zip(names, best, strict=True) if value != now[name]}


def _fits(
    network: SRResNet, inputs: list[Any], outputs: list[Any], ends: list[Any]
) -> dict[tuple[Any, ...], _Fit]:
    image = _natural_image(network.conv_first.in_channels)
    features: list[Tensor] = []
    norm: Any = network.trunk_net.get_submodule("0.bn1")
    hook = norm.register_forward_hook(lambda _, args, __: features.append(args[0]))
    before = network.input_range, network.output_range, network.last_act
    fits = {}
    try:
        network.output_range, network.last_act = (0.0, 1.0), "none"
        for network.input_range in inputs:
            raw = network(image)
            distance = _distance(norm, features.pop())
            for output, end in itertools.product(outputs, ends):
                result = PIXEL_RANGES[output].decode(LAST_ACTIVATIONS[end](raw)).clamp(0, 1)
                small = F.avg_pool2d(result, network.upscale_factor)
                error = float(_inner(small - image, _BORDER).square().mean())
                fit = _Fit(-10 * math.log10(max(error, 1e-10)), distance)
                fits[network.input_range, output, end] = fit
    finally:
        hook.remove()
        network.input_range, network.output_range, network.last_act = before
    return fits


def _inner(x: Tensor, border: int) -> Tensor:
    return x[..., border:-border, border:-border]


def _distance(norm: Any, features: Tensor) -> float:
    """Compare running statistics with those of features; 0 if there are none."""
    if getattr(norm, "running_mean", None) is None:
        return 0.0
    inner = _inner(features, _BORDER // 2)
    mean, variance = inner.mean((0, 2, 3)), inner.var((0, 2, 3))
    known = norm.running_var + norm.eps
    spread = ((variance + norm.eps) / known).log().square()
    return float(((mean - norm.running_mean).square() / known + spread).mean())


def _natural_image(channels: int) -> Tensor:
    """Return (1, channels, H, W) with mean, deviation and spectrum as photographs have them."""
    random = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 3, _SIZE, _SIZE)
    for size, amplitude in ((2, 7), (4, 6), (10, 4), (20, 2), (40, 1)):
        noise = torch.rand(1, 4, size, size, generator=random) - 0.5
        mixed = amplitude * (0.8 * noise[:, :1] + 0.2 * noise[:, 1:])
        image += F.interpolate(mixed, (_SIZE, _SIZE), mode="bicubic")
    image = (image - image.mean((2, 3), keepdim=True)) / image.std((2, 3), keepdim=True)
    image = (image * 0.25 + torch.tensor([0.46, 0.44, 0.40]).view(1, 3, 1, 1)).clamp(0, 1)
    return image if channels == 3 else image.mean(1, keepdim=True)
