"""Runtimes that run a network: torch, and those that may be installed beside it."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal

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
# Sides of what is timed, in LR pixels, of both halves; and how often.
_PROBED: Final = (64, 40)
_REPEATS: Final = 2
_fastest: dict[tuple[object, ...], type[Backend]] = {}


def open_backend(
    network: Generator,
    backend: BackendName = "torch",
    *,
    device: str = "auto",
    precision: Precision = "float32",
) -> Backend:
    """Make a network ready to run.

    Args:
        network: On the CPU, in evaluation mode.
        backend: By name; `"auto"` is the fastest here of those that are installed: torch where
            `device` is or finds a GPU of torch, else what a short timing of both halves says, once
            in a process for networks of the same shapes.
        device: `"auto"`, `"cpu"`; for torch `"cuda"`, `"cuda:N"`, `"mps"`; for ncnn `"vulkan"`,
            `"vulkan:N"`.
        precision: As for `choose_dtype`; `"auto"` is float32 where a backend has no bfloat16.

    Raises:
        UserError: A name is unknown, or the backend lacks a package, the device, the precision or
            a part of the network.
        MemoryError: The network does not fit on the device.
    """
    check_option("backend", backend, ("auto", *BACKENDS))
    if backend != "auto":
        return _open(BACKENDS[backend], network, device, precision)
    if device.startswith("vulkan"):
        return _open(NCNNBackend, network, device, precision)
    ours = _open(TorchBackend, network, device, precision)
    if ours.kind != "cpu":
        return ours
    others = [
        kind
        for kind in BACKENDS.values()
        if kind is not TorchBackend and ours.dtype in kind.dtypes and not kind.missing_packages()
    ]
    shapes = tuple(weight.shape for weight in network.parameters())
    key = (*others, device, ours.dtype, torch.get_num_threads(), shapes)
    if key in _fastest:
        return _open(_fastest[key], network, device, precision)
    opened = [ours]
    for kind in others:
        with suppress(UserError):  # this one cannot run it
            opened.append(_open(kind, network, device, precision))
    best = min(opened, key=_seconds) if len(opened) > 1 else ours
    _fastest[key] = type(best)
    return best


def _open(kind: type[Backend], network: Generator, device: str, precision: Precision) -> Backend:
    if missing := kind.missing_packages():
        raise UserError(f"backend {kind.name} needs more packages: pip install {' '.join(missing)}")
    place = kind.find_device(device)
    if precision == "auto" and torch.bfloat16 not in kind.dtypes:
        dtype = torch.float32
    else:
        dtype = choose_dtype(precision, torch.device(place))
    if dtype not in kind.dtypes:
        known = " or ".join(str(one).removeprefix("torch.") for one in kind.dtypes)
        raise UserError(f"precision: expected {known} for backend {kind.name}, got {precision}")
    if network.needs_whole_image and not kind.takes_whole_images:
        raise UserError(
            f"backend {kind.name}: expected a network without instance normalisation, got "
            f"{type(network).__name__} with it; use backend torch"
        )
    return kind(network, place, dtype)


@torch.inference_mode()
def _seconds(backend: Backend) -> float:
    """Return how long a backend takes for a small image; the first run is not counted."""
    far, near = (backend.to_device(torch.full((1, 3, n, n), 0.5)) for n in _PROBED)
    seconds = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter()
        features = backend.extract_features(far)
        backend.reconstruct(features[..., : _PROBED[1], : _PROBED[1]], near)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
