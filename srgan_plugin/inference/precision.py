"""Which precision is fast on this device: measured, since names of devices do not tell."""

import functools
import time
from typing import Final, Literal, get_args

import torch
from torch import nn

from srgan_plugin.errors import check_option

Precision = Literal["auto", "float32", "bfloat16", "float16"]

_WORTH_IT: Final = 1.25  # times as fast as float32; bfloat16 costs accuracy
_REPEATS: Final = 5


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type to compute in.

    Args:
        precision: By name; `"auto"` is bfloat16 where it is faster on this device.
        device: Where the network runs.

    Raises:
        UserError: There is no such precision.
    """
    check_option("precision", precision, get_args(Precision))
    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        return dtype
    return torch.bfloat16 if bfloat16_speedup(device) >= _WORTH_IT else torch.float32


@functools.cache
def bfloat16_speedup(device: torch.device) -> float:
    """Return how many times as fast as in float32 a convolution is in bfloat16.

    The convolution is that of the networks here, 64 to 64 channels on 96x96 pixels. It is timed
    once in a process, in some 50 ms on a CPU.
    """
    convolution = nn.Conv2d(64, 64, 3, padding=1).to(device).to(memory_format=torch.channels_last)
    seconds = [_time(convolution.to(dtype), dtype) for dtype in (torch.float32, torch.bfloat16)]
    return seconds[0] / seconds[1]


def _time(convolution: nn.Conv2d, dtype: torch.dtype) -> float:
    weight = convolution.weight
    x = torch.zeros(1, 64, 96, 96, dtype=dtype, device=weight.device)
    x = x.to(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for _ in range(_REPEATS):
            started = time.perf_counter()
            convolution(x)
            if weight.device.type == "cuda":
                torch.cuda.synchronize(weight.device)
            seconds.append(time.perf_counter() - started)
    return min(seconds)
