"""Backend for ONNX Runtime, on a CPU."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.networks import Generator

from .base import Backend
from .graph import Array, Graph, trace_halves

# Of ONNX 1.12, which ONNX Runtime reads from 1.12 on.
_OPSET = 17
_IR_VERSION = 8


class ONNXRuntimeBackend(Backend):
    """Backend for ONNX Runtime; see `Backend`. One model accepts windows of any size."""

    name = "onnxruntime"
    packages = ("onnx", "onnxruntime")

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as set for all backends
        self._extraction, self._reconstruction = (
            onnxruntime.InferenceSession(
                _to_model(graph), options, providers=["CPUExecutionProvider"]
            )
            for graph in trace_halves(network)
        )

    def extract_features(self, x: Tensor) -> Tensor:
        """See `Backend`."""
        return _run(self._extraction, x=x)

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """See `Backend`."""
        return _run(self._reconstruction, features=features, x=x)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether ONNX Runtime raised `error` for lack of memory."""
        # An error of its own: "Failed to allocate memory for requested buffer of size 123".
        return "Failed to allocate memory" in str(error) or super().is_out_of_memory(error)


def _run(session: Any, **inputs: Tensor) -> Tensor:
    """Run a half on its inputs by name."""
    feed = {name: x.contiguous().numpy() for name, x in inputs.items()}
    return torch.from_numpy(session.run(None, feed)[0])


def _to_model(graph: Graph) -> bytes:
    """Return the graph as a serialised ONNX model."""
    import onnx
    from onnx import TensorProto, helper

    # All inputs are declared, since the session is called with all of them, used or not.
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "height", "width"])
        for name, channels in graph.channels.items()
    ]
    builder = _Builder()
    output = graph.build(builder, {name: name for name in graph.channels})
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, None, None, None])
    made = helper.make_graph(builder.nodes, "half_network", inputs, [result], builder.constants)
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


class _Builder:
    """Create ONNX nodes for the kinds of `Op`, with its options; a handle is a value's name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def conv(
        self, x: str, *, weight: Array, bias: Array, stride: int, padding: int, groups: int
    ) -> str:
        weights = self._constant(weight), self._constant(bias)
        return self._node(
            "Conv", x, *weights, strides=[stride] * 2, pads=[padding] * 4, group=groups
        )

    def leaky_relu(self, x: str, *, slope: float) -> str:
        if not slope:
            return self._node("Relu", x)  # 0 * -inf is NaN
        return self._node("LeakyRelu", x, alpha=slope)

    def prelu(self, x: str, *, slopes: Array) -> str:
        return self._node("PRelu", x, self._constant(slopes.reshape(-1, 1, 1)))

    def silu(self, x: str) -> str:
        return self._node("Mul", x, self._node("Sigmoid", x))

    def tanh(self, x: str) -> str:
        return self._node("Tanh", x)

    def add(self, x: str, y: str) -> str:
        return self._node("Add", x, y)

    def affine(self, x: str, *, scale: float, shift: float) -> str:
        scaled = self._node("Mul", x, self._constant(np.float32(scale)))
        return self._node("Add", scaled, self._constant(np.float32(shift)))

    def pixel_shuffle(self, x: str, *, factor: int) -> str:
        return self._node("DepthToSpace", x, blocksize=factor, mode="CRD")

    def bilinear(self, x: str, *, factor: int) -> str:
        # half_pixel is torch's interpolation without `align_corners`.
        scales = self._constant(np.array([1, 1, factor, factor], np.float32))
        return self._node(
            "Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def channel(self, x: str, *, number: int) -> str:
        return self._node("Gather", x, self._constant(np.array([number], np.int64)), axis=1)

    def concat(self, *parts: str) -> str:
        return self._node("Concat", *parts, axis=1)
