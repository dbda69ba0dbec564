"""Runtimes for the networks: torch, and optionally OpenVINO, ONNX Runtime and ncnn."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal, cast

import torch

from srgan_plugin.errors import UserError, check_option
from srgan_plugin.networks import Generator

from ..precision import Precision, choose_dtype
from .base import Backend
from .ncnn_backend import NCNNBackend
from .onnxruntime_backend import ONNXRuntimeBackend
from .openvino_backend import OpenVINOBackend
from .torch_backend import TorchBackend

BackendName = Literal["auto", "torch", "openvino", "onnxruntime", "ncnn"]

BACKENDS: Final[Mapping[str, type[Backend]]] = {
    kind.name: kind for kind in (TorchBackend, OpenVINOBackend, ONNXRuntimeBackend, NCNNBackend)
}
# Timing for `"auto"`: sides of the inputs of both halves in LR pixels, and repetitions.
_TIMED_SIDES: Final = (64, 40)
_REPEATS: Final = 2
_fastest: dict[tuple[object, ...], type[Backend]] = {}


def open_backend(
    network: Generator,
    backend: BackendName = "torch",
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> Backend:
    """Load a network into a runtime.

    Args:
        network: Generator on the CPU, in evaluation mode.
        backend: Name of the runtime. `"auto"` is torch if torch uses a GPU for `device`; otherwise
            the fastest installed runtime, timed once per process for networks of the same shapes.
        device: `"auto"` or `"cpu"`; for torch also `"cuda"`, `"cuda:N"` and `"mps"`; for ncnn also
            `"vulkan"` and `"vulkan:N"`.
        precision: See `choose_dtype`; `"auto"` is float32 for a runtime without bfloat16.

    Returns:
        The network in the runtime, for tiles of images.

    Raises:
        UserError: A name is unknown, a package is not installed, the device does not exist, or the
            runtime does not support the precision or a layer of the network.
        MemoryError: The network does not fit on the device.
    """
    check_option("backend", backend, ("auto", *BACKENDS))
    if backend != "auto":
        return _open(BACKENDS[backend], network, device, precision)
    if device.startswith("vulkan"):
        return _open(NCNNBackend, network, device, precision)
    on_torch = _open(TorchBackend, network, device, precision)
    if on_torch.kind != "cpu":
        return on_torch
    return _open_fastest(on_torch, network, device)


def _open_fastest(on_torch: Backend, network: Generator, device: str) -> Backend:
    """Return the network in the fastest of the installed runtimes, one of which is `on_torch`.

    Args:
        on_torch: The network in torch, on the CPU, in the type in which all runtimes are compared.
        network: See `open_backend`.
        device: See `open_backend`.
    """
    precision = _precision(on_torch.dtype)
    others = [
        kind
        for kind in BACKENDS.values()
        if kind is not TorchBackend
        and on_torch.dtype in kind.dtypes
        and not kind.missing_packages()
    ]
    shapes = tuple(weight.shape for weight in network.parameters())
    key = (*others, device, on_torch.dtype, torch.get_num_threads(), shapes)
    if key in _fastest:
        return _open(_fastest[key], network, device, precision)
    opened = [on_torch]
    for kind in others:
        with suppress(UserError):  # the runtime does not support this network or precision
            opened.append(_open(kind, network, device, precision))
    best = min(opened, key=_seconds) if len(opened) > 1 else on_torch
    _fastest[key] = type(best)
    return best


def _open(kind: type[Backend], network: Generator, device: str, precision: Precision) -> Backend:
    if missing := kind.missing_packages():
        raise UserError(
            f"backend {kind.name}: expected {' and '.join(missing)}, which is not installed; run: "
            f"pip install {' '.join(missing)}"
        )
    device = kind.find_device(device)
    dtypes = kind.dtypes_on(device)
    if precision == "auto" and torch.bfloat16 not in dtypes:
        dtype = torch.float32
    else:
        dtype = choose_dtype(precision, torch.device(device))
    if dtype not in dtypes:
        raise UserError(
            f"precision: expected {' or '.join(map(_precision, dtypes))} for backend {kind.name} "
            f"on {device}, got {precision}; precision auto chooses"
        )
    if network.needs_whole_image and not kind.takes_whole_images:
        raise UserError(
            f"backend {kind.name}: expected a network without instance normalisation, got "
            f"{type(network).__name__} with it; use backend torch"
        )
    return kind(network, device, dtype)


def _precision(dtype: torch.dtype) -> Precision:
    """Return the value of `--precision` for a dtype."""
    return cast(Precision, str(dtype).removeprefix("torch."))


@torch.inference_mode()
def _seconds(backend: Backend) -> float:
    """Return the seconds that a backend takes for a small image, after a first run."""
    far, near = (backend.to_device(torch.full((1, 3, n, n), 0.5)) for n in _TIMED_SIDES)
    seconds = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter()
        features = backend.extract_features(far)
        backend.reconstruct(features[..., : _TIMED_SIDES[1], : _TIMED_SIDES[1]], near)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
