"""Time upscaling of an image, in tiles by this package and at once by MMagic's network."""

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from srgan_plugin.inference import Upscaler
from srgan_plugin.inference.upscaler import disable_malloc_trim
from srgan_plugin.networks import MSRResNet

from .timing import Measurement, run_in_subprocess, wait

Device = Literal["cpu", "cuda"]
ImageArray = NDArray[np.uint8]
Upscale = Callable[[ImageArray], Any]


def upscale_sides(
    width: int, height: int, *, device: Device, against_mmagic: bool, backends: Sequence[str] = ()
) -> dict[str, Callable[[], Measurement]]:
    """Return the sides for `interleave`: each upscales an image of this size by 4.

    Each round runs in a new process; `peak_bytes` is the memory of the work, without that of
    libraries and weights.

    Args:
        width: Width of the LR image.
        height: Height of the LR image.
        device: Device of both sides.
        against_mmagic: Whether there is another side, MMagic.
        backends: Sides of this package, such as "torch:bfloat16", the first of which is compared
            with MMagic; by default torch, in float16 on a GPU.
    """
    default = "torch:float16" if device == "cuda" else "torch:float32"
    first, *others = [(name, partial(_plugin, name)) for name in backends] or [
        ("srgan_plugin", partial(_plugin, default))
    ]
    mmagic = [("mmagic", _mmagic)] if against_mmagic else []
    makers: dict[str, Callable[..., Upscale]] = dict([first, *mmagic, *others])
    return {
        name: partial(run_in_subprocess, _time_upscale, make, width, height, device)
        for name, make in makers.items()
    }


def _time_upscale(
    make: Callable[..., Upscale], width: int, height: int, device: Device
) -> Measurement:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    where = torch.device(device)
    upscale = make(device)
    # Algorithms of a GPU depend on the size; on a CPU, warming up must not reach the peak memory.
    upscale(image if device == "cuda" else image[:16, :16])
    wait(where)
    before = torch.cuda.memory_allocated(where) if device == "cuda" else _peak_bytes(where)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    start = time.perf_counter()
    upscale(image)
    wait(where)
    seconds = time.perf_counter() - start
    return Measurement(seconds, images=1, steps=1, peak_bytes=_peak_bytes(where) - before)


def _plugin(name: str, device: Device) -> Upscale:
    disable_malloc_trim()
    backend, _, precision = name.partition(":")
    options: dict[str, Any] = {"backend": backend, "precision": precision or "float32"}
    return Upscaler(MSRResNet(), device=device, **options)


def _mmagic(device: Device) -> Upscale:
    importlib.import_module("srgan_plugin.hosts.mmagic")
    network = importlib.import_module("mmagic.models.editors.srgan").MSRResNet(3, 3).to(device)

    @torch.no_grad()
    def upscale(image: ImageArray) -> Any:
        x = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
        sr = network(x).clamp_(0, 1).mul_(255).round_()
        return sr[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()

    return upscale


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        # `ru_maxrss` of a child starts at that of its parent.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # missing on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
