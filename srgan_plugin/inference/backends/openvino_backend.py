"""Backend for OpenVINO, on a CPU."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator

from .base import Backend
from .graph import Array, Graph, trace_halves

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINOBackend(Backend):
    """Backend for OpenVINO. One model accepts windows of any size.

    Raises:
        UserError: bfloat16 on a processor without it.
    """

    name = "openvino"
    packages = ("openvino",)
    dtypes: ClassVar = tuple(_PRECISIONS)

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        import openvino

        core = openvino.Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if dtype == torch.bfloat16 and "BF16" not in capabilities:
            raise UserError(
                "precision: expected float32 for backend openvino on this processor, which does "
                "not support bfloat16, got bfloat16"
            )
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._features, self._reconstruction = (
            core.compile_model(_to_model(graph), "CPU", options) for graph in trace_halves(network)
        )

    def extract_features(self, x: Tensor) -> Tensor:
        """Return the features of a window of the LR image."""
        return _run(self._features, x)

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """Return the SR image of a window of features and the same window of the LR image."""
        return _run(self._reconstruction, features, x)


def _run(model: Any, *inputs: Tensor) -> Tensor:
    arrays = [x.contiguous().numpy() for x in inputs]
    return torch.from_numpy(model(arrays, share_inputs=True, share_outputs=True)[0])


def _to_model(graph: Graph) -> Any:
    """Return the graph as an OpenVINO model."""
    import openvino
    from openvino import opset13 as ops

    inputs = {
        name: ops.parameter([1, channels, -1, -1], np.float32, name)
        for name, channels in graph.channels.items()
    }
    return openvino.Model([graph.build(_Builder(ops), inputs)], list(inputs.values()), "half")


class _Builder:
    """Create OpenVINO nodes for the kinds of `Op`; a handle is a node."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops

    def conv(
        self, x: Any, *, weight: Array, bias: Array, stride: int, padding: int, groups: int
    ) -> Any:
        options = [stride] * 2, [padding] * 2, [padding] * 2, [1, 1]
        if groups > 1:
            weight = weight.reshape(groups, -1, *weight.shape[1:])
            out = self._ops.group_convolution(x, weight, *options)
        else:
            out = self._ops.convolution(x, weight, *options)
        return self._ops.add(out, bias.reshape(1, -1, 1, 1))

    def leaky_relu(self, x: Any, *, slope: float) -> Any:
        return self._ops.prelu(x, np.array([slope], np.float32)) if slope else self._ops.relu(x)

    def prelu(self, x: Any, *, slopes: Array) -> Any:
        return self._ops.prelu(x, slopes)

    def silu(self, x: Any) -> Any:
        return self._ops.swish(x)

    def tanh(self, x: Any) -> Any:
        return self._ops.tanh(x)

    def add(self, x: Any, y: Any) -> Any:
        return self._ops.add(x, y)

    def affine(self, x: Any, *, scale: float, shift: float) -> Any:
        return self._ops.add(self._ops.multiply(x, np.float32(scale)), np.float32(shift))

    def pixel_shuffle(self, x: Any, *, factor: int) -> Any:
        return self._ops.depth_to_space(x, "depth_first", factor)

    def bilinear(self, x: Any, *, factor: int) -> Any:
        scales = np.array([factor, factor], np.float32)
        return self._ops.interpolate(
            x, scales, "linear_onnx", "scales", axes=np.array([2, 3], np.int64)
        )

    def channel(self, x: Any, *, number: int) -> Any:
        return self._ops.gather(x, np.array([number], np.int64), np.int64(1))

    def concat(self, *parts: Any) -> Any:
        return self._ops.concat(list(parts), 1)
