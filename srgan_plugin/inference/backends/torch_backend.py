"""torch, on any of its devices: the backend that needs no other package."""

from typing import ClassVar

import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator

from .base import Backend
from .graph import prepare_for_cpu


class TorchBackend(Backend):
    """See `Backend`."""

    name = "torch"
    dtypes: ClassVar = (torch.float32, torch.bfloat16, torch.float16)
    takes_whole_images = True

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        super().__init__(network, device, dtype)
        if dtype == torch.float16 and self.kind == "cpu":
            raise UserError(
                "precision: float16 is for GPUs; on a CPU take bfloat16, or auto, which takes it "
                "where it is faster"
            )
        if self.kind == "cpu":
            network = prepare_for_cpu(network)
        # In bfloat16 autocast keeps the skip around the network in float32: on Set5 59 dB to
        # the float32 result of the bundled MSRResNet, 55 with weights in bfloat16.
        self._stored = torch.float16 if dtype == torch.float16 else torch.float32
        try:
            network = network.to(device, self._stored)
        except torch.OutOfMemoryError:
            raise MemoryError(f"{device} has no room for the network: take the CPU") from None
        self._network = network.to(memory_format=torch.channels_last).eval()

    @classmethod
    def find_device(cls, name: str) -> str:
        """See `Backend`."""
        return str(find_device(name))

    def to_device(self, window: Tensor) -> Tensor:
        """See `Backend`."""
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
        """See `Backend`."""
        # On the CPU torch raises a bare RuntimeError that names its allocator.
        of_torch = isinstance(error, torch.OutOfMemoryError) or "CPUAllocator" in str(error)
        return of_torch or super().is_out_of_memory(error)


def find_device(name: str) -> torch.device:
    """Return a device that is there.

    Args:
        name: "auto" for a GPU where there is one, "cpu", "cuda", "cuda:1", "mps".

    Raises:
        UserError: It is not there, or there is no such kind.
    """
    mps = int(torch.backends.mps.is_available())
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": mps}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    kind, colon, number = name.partition(":")
    if kind not in there or (colon and not number.isdecimal()):
        raise UserError(f"device: expected auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if int(number or 0) >= there[kind]:
        raise UserError(f"device {name}: torch sees {there[kind]} such devices here; use cpu")
    return torch.device(name)
