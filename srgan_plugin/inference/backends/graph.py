"""A generator as lists of operations, from which each runtime builds its own graph."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from srgan_plugin.checkpoints.export import fold_batch_norm
from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator
from srgan_plugin.networks.blocks import pixel_shuffle

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Op:
    """One operation on (1, C, H, W).

    Attributes:
        kind: `conv`, `leaky_relu`, `prelu`, `silu`, `tanh`, `add`, `affine`, `pixel_shuffle`,
            `bilinear`, `channel` or `concat`.
        inputs: Names of the operations whose results it takes, or of the half's inputs.
        output: Its own name.
        options: What a builder's method of that kind takes beside the inputs.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """A half of a generator.

    Attributes:
        channels: Of each input, by its name.
        ops: In the order in which they run.
        output: Name of the result.
    """

    channels: Mapping[str, int]
    ops: tuple[Op, ...]
    output: str

    def build(self, builder: Any, inputs: Mapping[str, Any]) -> Any:
        """Run a builder's methods, which are called as the kinds of operation, in order.

        Args:
            builder: Each method takes handles of its inputs, and the options by name.
            inputs: Handle of each input.

        Returns:
            The handle of the result.
        """
        handles = dict(inputs)
        for op in self.ops:
            method = getattr(builder, op.kind)
            handles[op.output] = method(*(handles[name] for name in op.inputs), **op.options)
        return handles[self.output]


class _Features(nn.Module):
    def __init__(self, network: Generator) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.extract_features(x)


class _Reconstruction(_Features):
    def forward(self, features: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.network.reconstruct(features, x)


def trace_halves(network: Generator) -> tuple[Graph, Graph]:
    """Return a network's halves, of inputs `x`, and of `features` and `x`.

    Raises:
        UserError: A part of the network has no row in this module's tables.
    """
    network = prepare_for_cpu(network)
    colours, features = network.conv_first.in_channels, network.conv_first.out_channels
    return (
        _trace(_Features(network), {"x": colours}),
        _trace(_Reconstruction(network), {"features": features, "x": colours}),
    )


def prepare_for_cpu(network: Generator) -> Generator:
    """Return a copy of the same function that a CPU computes faster.

    Batch normalisations become part of the convolutions before them. CPUs compute 16 channels at
    a time, so a convolution to 3 wastes most of them: the last one makes the 12 values of 2x2
    pixels at once (27 of 3x3 at x3), in half the time, and a shuffle puts them in their places.
    """
    network = fold_batch_norm(network).cpu().float()
    block = next((n for n in (2, 3) if network.upscale_factor % n == 0), 1)
    if block > 1:
        setattr(network, "conv_last", _by_blocks(network.conv_last, block))  # noqa: B010
    return network


def _by_blocks(conv: nn.Conv2d, block: int) -> nn.Module:
    """Return a convolution of stride 1 as one of stride `block`, followed by a pixel shuffle."""
    size, weight = conv.kernel_size[0], conv.weight.detach()
    wide = nn.Conv2d(
        conv.in_channels,
        conv.out_channels * block**2,
        size + block - 1,
        stride=block,
        padding=size // 2,
        bias=conv.bias is not None,
    )
    shifted = torch.zeros(conv.out_channels, block, block, *wide.weight.shape[1:])
    for row in range(block):
        for column in range(block):
            shifted[:, row, column, :, row : row + size, column : column + size] = weight
    with torch.no_grad():
        wide.weight.copy_(shifted.flatten(0, 2))
        if conv.bias is not None and wide.bias is not None:
            wide.bias.copy_(conv.bias.repeat_interleave(block**2))
    return nn.Sequential(wide, nn.PixelShuffle(block)).eval()


def _trace(half: nn.Module, channels: Mapping[str, int]) -> Graph:
    # Its branches, on the device and the layout, cannot be traced.
    nodes = fx.Tracer(autowrap_functions=(pixel_shuffle,)).trace(half).nodes
    ops: list[Op] = []
    names: dict[str, str] = {}  # of nodes that change nothing: of what they stand for
    output = ""
    for node in nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            output = names.get(node.args[0].name, node.args[0].name)
            continue
        kind, options = _lowered(node, half)
        inputs = tuple(names.get(name, name) for name in _tensor_names(node))
        if kind == "identity":
            names[node.name] = inputs[0]
        else:
            ops.append(Op(kind, inputs, node.name, options))
    return Graph(dict(channels), tuple(ops), output)


def _tensor_names(node: fx.Node) -> list[str]:
    """Return the names of a node's inputs, in order."""
    given = node.args[0] if isinstance(node.args[0], list | tuple) else node.args
    return [value.name for value in given if isinstance(value, fx.Node)]


Lowered = tuple[str, dict[str, Any]]


def _lowered(node: fx.Node, half: nn.Module) -> Lowered:
    """Return the kind of operation of a node, and its options."""
    if node.op == "call_module":
        module = half.get_submodule(str(node.target))
        lower = _MODULES.get(type(module))
        if lower is not None:
            return lower(module)
    elif node.target in _FUNCTIONS:
        return _FUNCTIONS[node.target](*node.args, **node.kwargs)
    raise UserError(f"expected layers that every backend has, got {node.target}; use backend torch")


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().float().contiguous().numpy()
    return array


def _conv(conv: nn.Conv2d) -> Lowered:
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    return "conv", {
        "weight": _array(conv.weight),
        "bias": _array(bias),
        "stride": conv.stride[0],
        "padding": int(conv.padding[0]),
        "groups": conv.groups,
    }


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Lowered]:
    """Lower `function` of two tensors to `add`, of a tensor and a number to x * a + b."""

    def lower(left: Any, right: Any) -> Lowered:
        if isinstance(left, fx.Node) and isinstance(right, fx.Node):
            assert function is operator.add, "the generators only add images"
            return "add", {}

        def at(x: float) -> float:
            return float(function(x, right) if isinstance(left, fx.Node) else function(left, x))

        return "affine", {"scale": at(1.0) - at(0.0), "shift": at(0.0)}

    return lower


def _bilinear(x: Any, scale_factor: float, mode: str, **_: Any) -> Lowered:
    return mode, {"factor": int(scale_factor)}


_MODULES: Final[Mapping[type[nn.Module], Callable[[Any], Lowered]]] = {
    nn.Identity: lambda _: ("identity", {}),
    nn.Conv2d: _conv,
    nn.ReLU: lambda _: ("leaky_relu", {"slope": 0.0}),
    nn.LeakyReLU: lambda act: ("leaky_relu", {"slope": act.negative_slope}),
    nn.PReLU: lambda act: ("prelu", {"slopes": _array(act.weight)}),
    nn.SiLU: lambda _: ("silu", {}),
    nn.PixelShuffle: lambda shuffle: ("pixel_shuffle", {"factor": shuffle.upscale_factor}),
}
_FUNCTIONS: Final[Mapping[Any, Callable[..., Lowered]]] = {
    F.relu: lambda x, inplace=False: ("leaky_relu", {"slope": 0.0}),
    F.leaky_relu: lambda x, negative_slope=0.01, inplace=False: (
        "leaky_relu",
        {"slope": negative_slope},
    ),
    pixel_shuffle: lambda x, factor: ("pixel_shuffle", {"factor": factor}),
    F.interpolate: _bilinear,
    torch.tanh: lambda x: ("tanh", {}),
    operator.add: _arithmetic(operator.add),
    operator.sub: _arithmetic(operator.sub),
    operator.mul: _arithmetic(operator.mul),
    operator.truediv: _arithmetic(operator.truediv),
    operator.getitem: lambda x, where: ("channel", {"number": where[1]}),
    torch.stack: lambda parts, dim: ("concat", {}),
}
