"""Time two sides in turn, and record the machine."""

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
    """Measurement of one round of one side.

    Attributes:
        seconds: Duration in seconds.
        images: Number of training samples or images.
        steps: Number of batches, or of images of a test set.
        waited: Share of the time spent waiting for data; None if it is unknown.
        peak_bytes: Largest memory on the GPU; None on a CPU.
        flops: Floating-point operations per step; None if they were not counted.
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
        """Compute medians over the rounds, and the range of the time.

        Args:
            peak_flops: Operations per second of the device in bfloat16, as measured.

        Returns:
            Milliseconds and rates by name, and the name of the side.
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
    """Time the sides in turn, so that other load on the machine affects all of them.

    The order is reversed in every second round. Each side warms up before its time is taken.

    Args:
        sides: Functions that run one round, by name.
        rounds: Number of rounds.

    Returns:
        All rounds of each side, in the order of `sides`.
    """
    results = {name: Result(name) for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            results[name].rounds.append(sides[name]())
    return list(results.values())


def run_in_subprocess(work: Callable[..., Measurement], *args: Any) -> Measurement:
    """Run the work in a new process, so that memory and its tuning are not shared.

    If the system has a forkserver, the process is forked from one that has imported only torch:
    importing mmengine initialises CUDA, after which a forked process cannot use it.
    """
    if "forkserver" in get_all_start_methods():
        context: BaseContext = get_context("forkserver")
        context.set_forkserver_preload(["torch"])
    else:
        context = get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(work, *args).result()


def time_batches(batches: Iterator[Any], seconds: float, device: torch.device) -> Measurement:
    """Take batches for some seconds and read every byte of each.

    Args:
        batches: Endless batches of any structure with tensors, batch dimension first.
        seconds: Duration in seconds.
        device: Device to synchronise with at the end.

    Returns:
        Duration, number of pairs and number of batches.
    """
    next(batches)  # starts workers
    wait(device)
    start, steps, images = time.perf_counter(), 0, 0
    sums = []
    while time.perf_counter() - start < seconds:
        tensors = list(iter_images(next(batches)))
        sums.append([checksum(tensor) for tensor in tensors])
        steps += 1
        images += sum(len(t) if t.ndim == 4 else 1 for t in tensors) // 2  # LR and GT
    wait(device)
    return Measurement(time.perf_counter() - start, images, steps)


def iter_images(batch: Any) -> Iterator[Tensor]:
    """Yield the images in a batch of any structure."""
    if isinstance(batch, Tensor):
        yield batch
    elif hasattr(batch, "gt_img"):
        yield batch.gt_img
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from iter_images(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from iter_images(value)


def checksum(tensor: Tensor) -> Any:
    """Sum all bytes on the tensor's device, without synchronising with a GPU.

    Words of eight bytes take a tenth of the time of `Tensor.sum`, which would be a third of that of
    a batch.
    """
    if tensor.device.type != "cpu":
        return tensor.sum(dtype=torch.int64 if tensor.dtype == torch.uint8 else torch.float64)
    as_it_lies = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    raw = tensor.permute(as_it_lies).contiguous().numpy().reshape(-1).view(np.uint8)
    words, rest = np.split(raw, [len(raw) // 8 * 8])
    return int(words.view(np.uint64).sum()) + int(rest.sum())


def measure_peak(device: torch.device, size: int = 8192, products: int = 10) -> float | None:
    """Measure the operations per second of matrix products in bfloat16.

    Args:
        device: Device to measure.
        size: Rows and columns of the matrices.
        products: Number of products to time.

    Returns:
        Operations per second; None on a CPU.
    """
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
    """Describe the machine: device, processor, threads of each side, versions."""
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
