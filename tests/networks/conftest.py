"""Slow, obvious numpy versions of what the networks are made of, and the comparison with them."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

State = dict[str, np.ndarray]


def conv2d(x: np.ndarray, state: State, name: str, stride: int = 1) -> np.ndarray:
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias", 0.0)
    kernel = weight.shape[-1]
    pad = (kernel - 1) // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = ((size - kernel) // stride + 1 for size in x.shape[2:])
    out = np.zeros((len(x), len(weight), height, width))
    for i in range(height):
        for j in range(width):
            window = x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            out[:, :, i, j] = np.tensordot(window, weight, axes=([1, 2, 3], [1, 2, 3])) + bias
    return out


def batch_norm(x: np.ndarray, state: State, name: str, training: bool) -> np.ndarray:
    per_channel = (1, -1, 1, 1)
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training:
        mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    x = (x - mean.reshape(per_channel)) / np.sqrt(var.reshape(per_channel) + 1e-5)
    return x * state[f"{name}.weight"].reshape(per_channel) + state[f"{name}.bias"].reshape(
        per_channel
    )


def rectify(x: np.ndarray, slope: np.ndarray | float = 0.0) -> np.ndarray:
    return np.where(x > 0, x, x * np.reshape(slope, (1, -1, 1, 1)))


def pixel_shuffle(x: np.ndarray, factor: int) -> np.ndarray:
    n, channels, height, width = x.shape
    out = np.empty((n, channels // factor**2, height * factor, width * factor))
    for c in range(out.shape[1]):
        for i in range(factor):
            for j in range(factor):
                out[:, c, i::factor, j::factor] = x[:, c * factor**2 + i * factor + j]
    return out


def bilinear(x: np.ndarray, factor: int) -> np.ndarray:
    """Interpolate between pixel centres, with the edge repeated beyond the outermost."""
    for axis in (2, 3):
        size = x.shape[axis]
        at = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def dense(x: np.ndarray, state: State, name: str) -> np.ndarray:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def assert_same_function(
    network: nn.Module, reference: Callable[[State, np.ndarray], np.ndarray], x: torch.Tensor
) -> None:
    """Outputs agree, and so does the slope along a random direction of weights and input."""
    network = network.double()
    rng = np.random.default_rng(0)
    with torch.no_grad():  # nothing may hide behind a zero bias or a scale of one
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.from_numpy(rng.uniform(0.0, 0.2, tensor.shape)))
    state = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    x = x.double().requires_grad_()
    out = network(x)
    pixels = x.detach().numpy()
    np.testing.assert_allclose(out.detach().numpy(), reference(state, pixels), rtol=1e-9, atol=1e-9)

    cotangent = rng.standard_normal(out.shape)
    leaves = dict(network.named_parameters())
    steps = {name: rng.standard_normal(leaf.shape) for name, leaf in leaves.items()}
    step = rng.standard_normal(x.shape)
    gradients = torch.autograd.grad(
        (out * torch.from_numpy(cotangent)).sum(), [x, *leaves.values()]
    )
    slope = sum(
        float((gradient.numpy() * along).sum())
        for gradient, along in zip(gradients, [step, *steps.values()], strict=True)
    )

    def shifted(by: float) -> float:
        there = {**state, **{name: state[name] + by * along for name, along in steps.items()}}
        return float((reference(there, pixels + by * step) * cotangent).sum())

    assert slope == pytest.approx((shifted(1e-7) - shifted(-1e-7)) / 2e-7, rel=1e-4)


@pytest.fixture(scope="session")
def slow() -> SimpleNamespace:
    return SimpleNamespace(
        conv2d=conv2d,
        batch_norm=batch_norm,
        rectify=rectify,
        pixel_shuffle=pixel_shuffle,
        bilinear=bilinear,
        dense=dense,
        assert_same_function=assert_same_function,
    )
