"""Choose the precision to compute in, by timing a convolution on the device.

The name of a device does not determine whether bfloat16 is fast on it.
"""

import functools
import time
from typing import Final, Literal, get_args

import torch
from torch import nn

from srgan_plugin.errors import check_option

Precision = Literal["auto", "float32", "bfloat16", "float16"]

_MIN_SPEEDUP: Final = 1.25  # speed of bfloat16 / float32 that is worth the loss of accuracy
_REPEATS: Final = 5


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision.

    Args:
        precision: `"float32"`, `"bfloat16"` or `"float16"`; `"auto"` is bfloat16 if it is at
            least 1.25 times as fast as float32 on `device`, else float32.
        device: Device that the network runs on.

    Raises:
        UserError: `precision` is unknown.
    """
    check_option("precision", precision, get_args(Precision))
    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        return dtype
    return torch.bfloat16 if bfloat16_speedup(device) >= _MIN_SPEEDUP else torch.float32


@functools.cache
def bfloat16_speedup(device: torch.device) -> float:
    """Return the speed of a convolution in bfloat16 divided by its speed in float32.

    The convolution is the most frequent one of the generators, 3x3 with 64 input and output
    channels, on 96x96 pixels. It is timed once per process and device, in 50 ms to 1 s on a CPU.
    """
    with torch.random.fork_rng(devices=[]):  # its weights are random
        convolution = nn.Conv2d(64, 64, 3, padding=1)
    convolution = convolution.to(device).to(memory_format=torch.channels_last)
    seconds = [_time(convolution.to(dtype), dtype) for dtype in (torch.float32, torch.bfloat16)]
    return seconds[0] / seconds[1]


def _time(convolution: nn.Conv2d, dtype: torch.dtype) -> float:
    """Return the shortest of several measured times, in seconds."""
    weight = convolution.weight
    x = torch.zeros(1, 64, 96, 96, dtype=dtype, device=weight.device)
    x = x.to(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for _ in range(_REPEATS):
            started = time.perf_counter()
            convolution(x)
            if weight.device.type != "cpu":
                getattr(torch, weight.device.type).synchronize()
            seconds.append(time.perf_counter() - started)
    return min(seconds)
