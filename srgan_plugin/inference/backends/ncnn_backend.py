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

from .base import Backend
from .graph import Array, Graph, trace_halves

_MAGIC = "7767517"
_OUT_OF_MEMORY = -100
_HALF_OPTIONS = ("fp16_packed", "fp16_storage", "fp16_arithmetic")
_CPU_TYPE = 3  # ncnn's `GpuInfo.type()` of a Vulkan device that runs on the CPU


class NCNNBackend(Backend):
    """Backend for ncnn, on `"cpu"` or `"vulkan:N"`; see `Backend`."""

    name = "ncnn"
    packages = ("ncnn",)
    dtypes: ClassVar = (torch.float32, torch.float16)

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        if dtype == torch.float16 and device == "cpu":
            raise UserError("precision: expected float32 for backend ncnn on a CPU, got float16")
        gpu = None if device == "cpu" else int(device.partition(":")[2])
        self._features, self._reconstruction = (
            _net(half, gpu, dtype == torch.float16) for half in trace_halves(network)
        )

    @classmethod
    def find_device(cls, name: str) -> str:
        """Implement `Backend`; `"auto"` is the first Vulkan device that is a GPU, or the CPU."""
        import ncnn

        # Builds without Vulkan do not have the function. Without libvulkan it prints many lines.
        found = hasattr(ncnn, "get_gpu_count") and _has_vulkan()
        count = int(ncnn.get_gpu_count()) if found else 0
        if name == "auto":
            gpus = [n for n in range(count) if ncnn.get_gpu_info(n).type() != _CPU_TYPE]
            return f"vulkan:{gpus[0]}" if gpus else "cpu"
        kind, colon, number = name.partition(":")
        if kind not in ("cpu", "vulkan") or (colon and not number.isdecimal()):
            raise UserError(
                f"device: expected auto, cpu, vulkan or vulkan:N for backend ncnn, got {name!r}"
            )
        if kind == "vulkan" and int(number or 0) >= count:
            raise UserError(f"device {name}: ncnn finds {count} such devices here; use cpu")
        return "cpu" if kind == "cpu" else f"vulkan:{int(number or 0)}"

    def extract_features(self, x: Tensor) -> Tensor:
        """Implement `Backend`."""
        return _run(self._features, x)

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """Implement `Backend`."""
        return _run(self._reconstruction, features, x)


def _has_vulkan() -> bool:
    """Return whether the Vulkan loader is installed; elsewhere than on Linux assume that it is."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return False
    return True


def _net(graph: Graph, gpu: int | None, half: bool) -> Any:
    """Return an `ncnn.Net` of a graph.

    Args:
        graph: Half of a generator.
        gpu: Index of the Vulkan device; None for the CPU.
        half: Whether to compute in float16.
    """
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    net.opt.use_bf16_storage = False
    for option in _HALF_OPTIONS:
        setattr(net.opt, f"use_{option}", half)
    if gpu is not None:
        net.opt.use_vulkan_compute = True
        net.set_vulkan_device(gpu)
    builder = _Builder()
    for name in graph.channels:
        builder.input(name)
    output = graph.build(builder, {name: name for name in graph.channels})
    structure, weights = builder.files(output)
    with TemporaryDirectory() as folder:  # ncnn's Python bindings cannot load from bytes
        param, binary = Path(folder, "x.param"), Path(folder, "x.bin")
        param.write_text(structure, encoding="ascii")
        binary.write_bytes(weights)
        failed = net.load_param(str(param)) or net.load_model(str(binary))
    if failed:
        raise UserError(
            "backend ncnn: expected a network that it can load, got an error; use backend torch"
        )
    return net


def _run(net: Any, *inputs: Tensor) -> Tensor:
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
    return torch.from_numpy(np.array(result.numpy("f")))[None]


class _Builder:
    """Collect layers of a `.param` file for the kinds of `Op`; a handle is the name of a blob."""

    def __init__(self) -> None:
        self._layers: list[tuple[str, list[str], str, str]] = []
        self._weights: list[Array] = []

    def files(self, result: str) -> tuple[str, bytes]:
        """Return the contents of the `.param` and `.bin` files; rename `result` to `output`."""
        lines, blobs, copies = [], 0, _copies(self._layers)
        for kind, inputs, output, options in self._layers:
            sources = [copies[name].pop() for name in inputs]
            name = "output" if output == result else output
            lines.append(_line(kind, sources, [name], options))
            blobs += 1
            # A blob has one consumer in ncnn; a Split layer makes the copies for several.
            if len(outputs := copies.get(output, [])) > 1:
                lines.append(_line("Split", [name], outputs, ""))
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
        window = f"-23309=1,{number} -23310=1,{number + 1} -23311=1,0"  # starts, ends, axes
        return self._layer("Crop", x, options=window)

    def concat(self, *parts: str) -> str:
        return self._layer("Concat", *parts, options="0=0")


def _copies(layers: list[tuple[str, list[str], str, str]]) -> dict[str, list[str]]:
    """Return for each blob one name for each of its consumers."""
    readers = Counter(name for _, inputs, _, _ in layers for name in inputs)
    return {
        name: [f"{name}_{n}" for n in range(count)] if count > 1 else [name]
        for name, count in readers.items()
    }


def _line(kind: str, inputs: list[str], outputs: list[str], options: str) -> str:
    """Return the line of one layer; a layer is named like its first output."""
    counts = f"{len(inputs)} {len(outputs)}"
    return " ".join(filter(None, (kind, outputs[0], counts, *inputs, *outputs, options)))
