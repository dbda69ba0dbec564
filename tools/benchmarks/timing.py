"""Timing two sides in turn, and what the numbers depend on."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.cli.doctor import cpu_name

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "lmdb",
    "mmengine",
    "mmagic",
    "basicsr",
)


@dataclass
class Measurement:
    """One stretch of work of one side.

    Attributes:
        seconds: How long it took.
        images: How many training samples or images it did.
        steps: How many batches or images of a test set.
        waited: Share of the time spent waiting for data; None where nobody told.
        peak_bytes: Largest memory on the GPU; None on a CPU.
        flops: Floating-point operations per step; None where they were not counted.
    """

    seconds: float
    images: int
    steps: int
    waited: float | None = None
    peak_bytes: int | None = None
    flops: int | None = None


@dataclass
class Result:
    """All rounds of one side."""

    name: str
    rounds: list[Measurement] = field(default_factory=list)

    def summary(self, peak_flops: float | None = None) -> dict[str, Any]:
        """Medians over the rounds, and the spread of the time.

        Args:
            peak_flops: What the device can do in bf16, per second, as measured.
        """
        milliseconds = [1e3 * one.seconds / one.steps for one in self.rounds]
        typical = median(milliseconds)
        last = self.rounds[-1]
        shares = [one.waited for one in self.rounds if one.waited is not None]
        return {
            "name": self.name,
            "ms_per_step": typical,
            "ms_min": min(milliseconds),
            "ms_max": max(milliseconds),
            "ms_per_image": typical * last.steps / last.images,
            "images_per_s": 1e3 / typical * last.images / last.steps,
            "steps_per_s": 1e3 / typical,
            "waiting_for_data": median(shares) if shares else None,
            "peak_gib": last.peak_bytes / 2**30 if last.peak_bytes else None,
            "fraction_of_peak": (
                last.flops / (typical / 1e3) / peak_flops if last.flops and peak_flops else None
            ),
            "rounds": len(self.rounds),
        }


def interleave(sides: Mapping[str, Callable[[], Measurement]], rounds: int) -> list[Result]:
    """Let the sides work in turn: what slows the machine down slows all of them down.

    The order is turned round from round to round. Each side warms up by itself before it starts
    its clock.
    """
    results = {name: Result(name) for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            results[name].rounds.append(sides[name]())
    return list(results.values())


def run_in_subprocess(work: Callable[..., Measurement], *args: Any) -> Measurement:
    """Run the work in its own process, so that memory and its tuning are not shared.

    Where the system can, it is forked from one that has imported torch and no more: mmengine asks
    CUDA for its devices when it is imported, after which no fork can use them.
    """
    if "forkserver" in get_all_start_methods():
        context: BaseContext = get_context("forkserver")
        context.set_forkserver_preload(["torch"])
    else:
        context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(work, *args).result()


def timed_batches(batches: Iterator[Any], seconds: float, device: torch.device) -> Measurement:
    """Take batches for a while and read every byte of each.

    Args:
        batches: Endless; each holds tensors somewhere, batch dimension first, or lists of them.
        seconds: For how long.
        device: Whose work is waited for in the end.
    """
    next(batches)  # starts workers
    wait(device)
    start, steps, images = time.perf_counter(), 0, 0
    sums = []
    while time.perf_counter() - start < seconds:
        tensors = list(tensors_of(next(batches)))
        sums.append([checksum(tensor) for tensor in tensors])
        steps += 1
        images += sum(len(t) if t.ndim == 4 else 1 for t in tensors) // 2  # LR and GT
    wait(device)
    return Measurement(time.perf_counter() - start, images, steps)


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield the images in a batch of any structure."""
    if isinstance(batch, Tensor):
        yield batch
    elif hasattr(batch, "gt_img"):
        yield batch.gt_img
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from tensors_of(value)


def checksum(tensor: Tensor) -> Any:
    """Sum all bytes on the tensor's device, without synchronising with a GPU."""
    if tensor.device.type != "cpu":
        return tensor.sum(dtype=torch.int64 if tensor.dtype == torch.uint8 else torch.float64)
    as_it_lies = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    raw = tensor.permute(as_it_lies).contiguous().numpy().reshape(-1).view(np.uint8)
    words, rest = np.split(raw, [len(raw) // 8 * 8])
    return int(words.view(np.uint64).sum()) + int(rest.sum())


def measured_peak(device: torch.device, size: int = 8192, products: int = 10) -> float | None:
    """Measures what the device multiplies in bf16, in operations per second; None on a CPU."""
    if device.type != "cuda":
        return None
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    wait(device)
    start = time.perf_counter()
    for _ in range(products):
        a @ b
    wait(device)
    return products * 2 * size**3 / (time.perf_counter() - start)


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Return what the numbers depend on: machine, threads of each side, versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": threads,
        "python": platform.python_version(),
        **versions,
    }


def wait(device: torch.device) -> None:
    """Synchronise with the GPU, if any."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
