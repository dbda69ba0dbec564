"""Generators as lists of operations, from which each runtime builds its graph."""

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
    """One operation on tensors (1, C, H, W).

    Attributes:
        kind: `conv`, `leaky_relu`, `prelu`, `silu`, `tanh`, `add`, `affine`, `pixel_shuffle`,
            `bilinear`, `channel` or `concat`.
        inputs: Names of the inputs: outputs of earlier operations, or inputs of the graph.
        output: Name of the output.
        options: Keyword arguments of the method `kind` of a builder. `conv`: `weight`, (out, in /
            groups, k, k), `bias`, (out,), `stride`, `padding` and `groups`. `affine`: `scale` and
            `shift` of scale * x + shift. `leaky_relu`: `slope`, 0 for ReLU. `prelu`: `slopes`,
            (C,) or (1,). `pixel_shuffle` and `bilinear`: `factor`. `channel`: `number`, from 0.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """One half of a generator: feature extraction or reconstruction.

    Attributes:
        channels: {name of the input: number of channels}.
        ops: Operations in the order of execution.
        output: Name of the output.
    """

    channels: Mapping[str, int]
    ops: tuple[Op, ...]
    output: str

    def build(self, builder: Any, inputs: Mapping[str, Any]) -> Any:
        """Create all operations in a runtime.

        Args:
            builder: Object with a method for each kind of operation, which takes the handles of
                the inputs and the options, and returns the handle of the output.
            inputs: {name of the input: handle}.

        Returns:
            Handle of the output of the graph.
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
    """Return the graphs of feature extraction and of reconstruction.

    The first has the input `x`, the second `features` and `x`.

    Raises:
        UserError: A layer of the network has no row in `_MODULES` or `_FUNCTIONS`.
    """
    network = prepare_for_cpu(network)
    colours, features = network.conv_first.in_channels, network.conv_first.out_channels
    return (
        _trace(_Features(network), {"x": colours}),
        _trace(_Reconstruction(network), {"features": features, "x": colours}),
    )


def prepare_for_cpu(network: Generator) -> Generator:
    """Return a copy of a network that computes the same function faster on a CPU.

    Batch normalisation is folded into the preceding convolution. CPUs compute 16 channels at a
    time, so a last convolution with 3 output channels wastes most of them. It is replaced by one
    that computes the 12 values of 2x2 pixels (27 of 3x3 pixels at x3) and a pixel shuffle, which
    takes half the time.
    """
    network = fold_batch_norm(network).cpu().float()
    block = next((n for n in (2, 3) if network.upscale_factor % n == 0), 1)
    if block > 1:
        setattr(network, "conv_last", _compute_in_blocks(network.conv_last, block))  # noqa: B010
    return network


def _compute_in_blocks(conv: nn.Conv2d, block: int) -> nn.Module:
    """Return a convolution of stride `block` and a pixel shuffle, equivalent to `conv`."""
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


def _trace(module: nn.Module, channels: Mapping[str, int]) -> Graph:
    """Return the graph of a module for inputs with these numbers of channels."""
    # `pixel_shuffle` branches on the device and the memory format, which cannot be traced.
    nodes = fx.Tracer(autowrap_functions=(pixel_shuffle,)).trace(module).nodes
    ops: list[Op] = []
    names: dict[str, str] = {}  # input of each identity, by the name of its output
    output = ""
    for node in nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            output = names.get(node.args[0].name, node.args[0].name)
            continue
        kind, options = _lower(node, module)
        inputs = tuple(names.get(name, name) for name in _tensor_names(node))
        if kind == "identity":
            names[node.name] = inputs[0]
        else:
            ops.append(Op(kind, inputs, node.name, options))
    return Graph(dict(channels), tuple(ops), output)


def _tensor_names(node: fx.Node) -> list[str]:
    """Return the names of the inputs of a node, in order."""
    given = node.args[0] if isinstance(node.args[0], list | tuple) else node.args
    return [value.name for value in given if isinstance(value, fx.Node)]


Lowered = tuple[str, dict[str, Any]]


def _lower(node: fx.Node, root: nn.Module) -> Lowered:
    """Return the kind and the options of the operation that computes a node of module `root`."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        lower = _MODULES.get(type(module))
        if lower is not None:
            return lower(module)
    elif node.target in _FUNCTIONS:
        return _FUNCTIONS[node.target](*node.args, **node.kwargs)
    raise UserError(
        f"expected layers that every backend supports, got {node.target}; use backend torch"
    )


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
    """Lower `function` of two tensors to `add`, and of a tensor and a number to `affine`."""

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
