"""Backend for ncnn, on a CPU or a Vulkan device."""

import ctypes
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator

from .base import Backend, parse_device
from .graph import Array, Graph, trace_halves

_MAGIC = "7767517"  # first line of a `.param` file
_OUT_OF_MEMORY = -100  # status of ncnn's functions
_FP16_OPTIONS = ("fp16_packed", "fp16_storage", "fp16_arithmetic")
_CPU_TYPE = 3  # ncnn's `GpuInfo.type()` of a Vulkan device that runs on the CPU


class NCNNBackend(Backend):
    """Backend for ncnn, on `"cpu"` or `"vulkan:N"`; see `Backend`.

    Raises:
        UserError: ncnn cannot load the network.
        MemoryError: ncnn reports that the network does not fit on the device.
    """

    name = "ncnn"
    packages = ("ncnn",)
    dtypes: ClassVar = (torch.float32, torch.float16)

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        gpu = None if device == "cpu" else int(device.partition(":")[2])
        self._extraction, self._reconstruction = (
            _load_net(graph, gpu, fp16=dtype == torch.float16) for graph in trace_halves(network)
        )

    @classmethod
    def find_device(cls, name: str) -> str:
        """Return an existing device; `"auto"` is the first Vulkan device that is a GPU, or `"cpu"`.

        Raises:
            UserError: The device does not exist, or the name is unknown.
        """
        import ncnn

        # `get_gpu_count` is missing in builds without Vulkan and logs errors if libvulkan is
        # missing.
        found = hasattr(ncnn, "get_gpu_count") and _has_vulkan()
        count = int(ncnn.get_gpu_count()) if found else 0
        if name == "auto":
            gpus = [n for n in range(count) if ncnn.get_gpu_info(n).type() != _CPU_TYPE]
            return f"vulkan:{gpus[0]}" if gpus else "cpu"
        kind, number = parse_device(name, {"cpu": 1, "vulkan": count}, cls.name)
        return "cpu" if kind == "cpu" else f"vulkan:{number or 0}"

    @classmethod
    def dtypes_on(cls, device: str) -> tuple[torch.dtype, ...]:
        """Return float32, and float16 on a Vulkan device."""
        return (torch.float32,) if device == "cpu" else cls.dtypes

    def extract_features(self, x: Tensor) -> Tensor:
        """See `Backend`."""
        return _run(self._extraction, x)

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """See `Backend`."""
        return _run(self._reconstruction, features, x)


def _has_vulkan() -> bool:
    """Return whether the Vulkan loader is installed; always True on other platforms than Linux."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return False
    return True


def _load_net(graph: Graph, gpu: int | None, *, fp16: bool) -> Any:
    """Return the `ncnn.Net` of a graph.

    Args:
        graph: Half of a generator.
        gpu: Index of the Vulkan device; None for the CPU.
        fp16: Whether to compute in float16.

    Raises:
        MemoryError: ncnn reports that the weights do not fit on the device.
        UserError: ncnn cannot load the network.
    """
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()  # as set for all backends
    net.opt.use_bf16_storage = False  # whatever the default of the version
    for option in _FP16_OPTIONS:
        setattr(net.opt, f"use_{option}", fp16)
    if gpu is not None:
        net.opt.use_vulkan_compute = True
        net.set_vulkan_device(gpu)
    builder = _Builder()
    for name in graph.channels:
        builder.input(name)
    output = graph.build(builder, {name: name for name in graph.channels})
    structure, weights = builder.to_param_and_bin(output)
    with TemporaryDirectory() as folder:  # ncnn's Python bindings cannot load from bytes
        param, binary = Path(folder, "x.param"), Path(folder, "x.bin")
        param.write_text(structure, encoding="ascii")
        binary.write_bytes(weights)
        status = net.load_param(str(param)) or net.load_model(str(binary))
    if status == _OUT_OF_MEMORY:
        raise MemoryError("ncnn is out of memory for the network; use cpu")
    if status:
        raise UserError(
            f"backend ncnn: expected a network that ncnn can load, got status {status}, also "
            "returned if the device has too little memory; use backend torch"
        )
    return net


def _run(net: Any, *inputs: Tensor) -> Tensor:
    """Run a half on its inputs, in the order of `Graph.channels`."""
    import ncnn

    extractor = net.create_extractor()
    arrays = [x[0].contiguous().numpy() for x in inputs]
    for name, array in zip(net.input_names(), arrays, strict=True):
        # A copy, as ncnn needs aligned memory and some layers work in place.
        extractor.input(name, ncnn.Mat(array).clone())
    status, result = extractor.extract("output")
    if status == _OUT_OF_MEMORY:
        raise MemoryError("ncnn is out of memory")
    if status:
        raise RuntimeError(f"ncnn failed with status {status}")
    # A copy, as the rows of channels in ncnn's memory are padded for alignment.
    return torch.from_numpy(np.array(result.numpy("f")))[None]


class _Builder:
    """Collect layers of a `.param` file for the kinds of `Op`; a handle is the name of a blob.

    Options are `id=value`; the ids are numbered for each type of layer, in ncnn's
    `developer-guide/operators.md`. For convolutions, 0 is the number of output channels, 1 the
    kernel size, 3 the stride, 4 the padding, 5 whether there is a bias, 6 the number of weights and
    7 the number of groups. For `BinaryOp`, 0 is the operation (0 adds, 2 multiplies), 1 whether the
    second operand is the constant 2. For `Interp`, 0 is the mode (2 is bilinear), 1 and 2 are the
    factors of height and width. An array has the id -23300 - id and starts with its length.
    """

    def __init__(self) -> None:
        self._layers: list[tuple[str, list[str], str, str]] = []
        self._weights: list[Array] = []

    def to_param_and_bin(self, result: str) -> tuple[str, bytes]:
        """Return the contents of the `.param` and `.bin` files; rename `result` to `output`."""
        lines, blobs, copies = [], 0, _split_names(self._layers)
        for kind, inputs, output, options in self._layers:
            sources = [copies[name].pop() for name in inputs]
            name = "output" if output == result else output
            lines.append(_format_layer(kind, sources, [name], options))
            blobs += 1
            # A blob has one consumer in ncnn; a Split layer makes the copies for several.
            if len(outputs := copies.get(output, [])) > 1:
                lines.append(_format_layer("Split", [name], outputs, ""))
                blobs += len(outputs)
        structure = "\n".join([_MAGIC, f"{len(lines)} {blobs}", *lines, ""])
        return structure, b"".join(weights.tobytes() for weights in self._weights)

    def _layer(self, kind: str, *inputs: str, options: str = "", weights: Any = ()) -> str:
        output = f"b{len(self._layers)}"
        self._layers.append((kind, list(inputs), output, options))
        self._weights += weights
        return output

    def input(self, name: str) -> None:
        self._layers.append(("Input", [], name, ""))

    def conv(
        self, x: str, *, weight: Array, bias: Array, stride: int, padding: int, groups: int
    ) -> str:
        kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
        channels, size = weight.shape[0], weight.shape[-1]
        options = f"0={channels} 1={size} 3={stride} 4={padding} 5=1 6={weight.size} 7={groups}"
        weights = np.zeros(1, np.float32), weight, bias  # a flag of zeros stands for float32
        return self._layer(kind, x, options=options, weights=weights)

    def leaky_relu(self, x: str, *, slope: float) -> str:
        return self._layer("ReLU", x, options=f"0={slope}")

    def prelu(self, x: str, *, slopes: Array) -> str:
        return self._layer("PReLU", x, options=f"0={slopes.size}", weights=[slopes])

    def silu(self, x: str) -> str:
        return self._layer("Swish", x)

    def tanh(self, x: str) -> str:
        return self._layer("TanH", x)

    def add(self, x: str, y: str) -> str:
        return self._layer("BinaryOp", x, y, options="0=0")

    def affine(self, x: str, *, scale: float, shift: float) -> str:
        scaled = self._layer("BinaryOp", x, options=f"0=2 1=1 2={scale:.9e}")
        return self._layer("BinaryOp", scaled, options=f"0=0 1=1 2={shift:.9e}")

    def pixel_shuffle(self, x: str, *, factor: int) -> str:
        return self._layer("PixelShuffle", x, options=f"0={factor}")

    def bilinear(self, x: str, *, factor: int) -> str:
        return self._layer("Interp", x, options=f"0=2 1={factor:.1f} 2={factor:.1f}")

    def channel(self, x: str, *, number: int) -> str:
        # Arrays 9, 10 and 11: starts, ends and axes.
        window = f"-23309=1,{number} -23310=1,{number + 1} -23311=1,0"
        return self._layer("Crop", x, options=window)

    def concat(self, *parts: str) -> str:
        return self._layer("Concat", *parts, options="0=0")


def _split_names(layers: list[tuple[str, list[str], str, str]]) -> dict[str, list[str]]:
    """Return {blob: names, one for each of its consumers}."""
    readers = Counter(name for _, inputs, _, _ in layers for name in inputs)
    return {
        name: [f"{name}_{n}" for n in range(count)] if count > 1 else [name]
        for name, count in readers.items()
    }


def _format_layer(kind: str, inputs: list[str], outputs: list[str], options: str) -> str:
    """Return the line of a layer, whose name is that of its first output."""
    counts = f"{len(inputs)} {len(outputs)}"
    return " ".join(filter(None, (kind, outputs[0], counts, *inputs, *outputs, options)))
