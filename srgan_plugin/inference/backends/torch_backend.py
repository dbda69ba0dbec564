"""Backend for torch, on a CPU, a CUDA GPU or Apple's MPS."""

from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor

from srgan_plugin.networks import Generator

from .base import Backend, parse_device
from .graph import prepare_for_cpu


class TorchBackend(Backend):
    """Backend for torch, on `"cpu"`, `"cuda:N"` or `"mps"`; see `Backend`.

    Raises:
        MemoryError: The network does not fit on the device.
    """

    name = "torch"
    dtypes: ClassVar = (torch.float32, torch.bfloat16, torch.float16)
    takes_whole_images = True

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        network = prepare_for_cpu(network) if self.kind == "cpu" else deepcopy(network)
        # With autocast the skip connection around the network stays in float32. On Set5 the result
        # of the bundled MSRResNet is 59 dB from that in float32; with weights in bfloat16, 55 dB.
        self._stored = torch.float16 if dtype == torch.float16 else torch.float32
        try:
            network = network.to(device, self._stored)
        except torch.OutOfMemoryError:
            raise MemoryError(f"{device}: out of memory for the network; use cpu") from None
        self._network = network.to(memory_format=torch.channels_last).eval()

    @classmethod
    def find_device(cls, name: str) -> str:
        """Return an existing device; `"auto"` is a CUDA GPU if there is one, else `"cpu"`."""
        return str(find_device(name))

    @classmethod
    def dtypes_on(cls, device: str) -> tuple[torch.dtype, ...]:
        """Return float32 and bfloat16, and float16 on a GPU, as torch is slow in it on CPUs."""
        on_cpu = device.startswith("cpu")
        return tuple(one for one in cls.dtypes if not (on_cpu and one == torch.float16))

    def to_device(self, window: Tensor) -> Tensor:
        """Return a window of the LR image in the dtype and memory format of the network."""
        moved = window.to(self.device, self._stored)
        return moved.contiguous(memory_format=torch.channels_last)

    def extract_features(self, x: Tensor) -> Tensor:
        """See `Backend`."""
        with self._autocast():
            return self._network.extract_features(x)

    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """See `Backend`."""
        with self._autocast():
            return self._network.reconstruct(features, x)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.kind, torch.bfloat16, self.dtype == torch.bfloat16)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether torch, on any device, raised `error` for lack of memory."""
        # On the CPU torch raises a bare RuntimeError that names its allocator.
        of_torch = isinstance(error, torch.OutOfMemoryError) or "CPUAllocator" in str(error)
        return of_torch or super().is_out_of_memory(error)


def find_device(name: str) -> torch.device:
    """Return an existing device.

    Args:
        name: `"auto"` for a CUDA GPU if there is one, else the CPU; `"cpu"`, `"cuda"`, `"cuda:1"`
            or `"mps"`.

    Raises:
        UserError: The device does not exist, or the name is unknown.
    """
    mps = int(torch.backends.mps.is_available())
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": mps}
    if name == "auto":
        return torch.device("cuda" if counts["cuda"] else "cpu")
    kind, number = parse_device(name, counts, TorchBackend.name)
    return torch.device(kind) if number is None else torch.device(kind, number)
