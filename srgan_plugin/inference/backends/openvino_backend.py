"""Backend for OpenVINO, on a CPU."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator

from .base import Backend
from .graph import Array, Graph, trace_halves

# Values of INFERENCE_PRECISION_HINT; inputs and results are float32 in both.
_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINOBackend(Backend):
    """Backend for OpenVINO; see `Backend`. One model accepts windows of any size."""

    name = "openvino"
    packages = ("openvino",)
    dtypes: ClassVar = tuple(_PRECISIONS)

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        core = _open_core()
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),  # as set for all backends
            "PERFORMANCE_HINT": "LATENCY",  # one window at a time, on all threads
        }
        self._extraction, self._reconstruction = (
            core.compile_model(_to_model(graph), "CPU", options) for graph in trace_halves(network)
        )

    @classmethod
    def dtypes_on(cls, device: str) -> tuple[torch.dtype, ...]:
        """Return float32, and bfloat16 if OpenVINO supports it on this processor.

        Raises:
            UserError: The installed OpenVINO is too old.
        """
        capabilities = _open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return cls.dtypes if "BF16" in capabilities else (torch.float32,)

    def extract_features(self, x: Tensor) -> Tensor:
        """See `Backend`."""
        return _run(self._extraction, x)

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """See `Backend`."""
        return _run(self._reconstruction, features, x)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether OpenVINO raised `error` for lack of memory."""
        # A bare RuntimeError: "Failed to allocate 123 bytes of memory".
        said = str(error)
        of_openvino = "Failed to allocate" in said and "bytes of memory" in said
        return of_openvino or super().is_out_of_memory(error)


def _open_core() -> Any:
    """Return OpenVINO's entry point.

    Raises:
        UserError: The installed OpenVINO is too old for the operations of `_to_model`.
    """
    try:
        from openvino import Core, opset13  # noqa: F401 - checks that it exists
    except ImportError as error:
        raise UserError(
            f"backend openvino: expected a version with operation set 13, got {error}; run: "
            "pip install --upgrade openvino"
        ) from error
    return Core()


def _run(model: Any, *inputs: Tensor) -> Tensor:
    """Run a compiled half on its inputs, in the order of `Graph.channels`."""
    # Neither inputs nor the result are copied: the next call overwrites the result.
    arrays = [x.contiguous().numpy() for x in inputs]
    return torch.from_numpy(model(arrays, share_inputs=True, share_outputs=True)[0])


def _to_model(graph: Graph) -> Any:
    """Return the graph as an OpenVINO model."""
    import openvino
    from openvino import opset13 as ops  # a set fixes what its operations compute

    inputs = {
        name: ops.parameter([1, channels, -1, -1], np.float32, name)
        for name, channels in graph.channels.items()
    }
    result = graph.build(_Builder(ops), inputs)
    return openvino.Model([result], list(inputs.values()), "half_network")


class _Builder:
    """Create OpenVINO nodes for the kinds of `Op`, with its options; a handle is a node."""

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
        if not slope:
            return self._ops.relu(x)  # 0 * -inf is NaN
        return self._ops.prelu(x, np.array([slope], np.float32))

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
        # The mode of ONNX's `Resize`; its default coordinates, half_pixel, are torch's without
        # `align_corners`.
        scales = np.array([factor, factor], np.float32)
        return self._ops.interpolate(
            x, scales, "linear_onnx", "scales", axes=np.array([2, 3], np.int64)
        )

    def channel(self, x: Any, *, number: int) -> Any:
        return self._ops.gather(x, np.array([number], np.int64), np.int64(1))

    def concat(self, *parts: Any) -> Any:
        return self._ops.concat(list(parts), 1)
