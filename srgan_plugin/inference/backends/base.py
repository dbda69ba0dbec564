"""What tiling needs of a runtime: both halves of a network, on tensors."""

import importlib.util
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator


class Backend(ABC):
    """A network on one runtime and one device, in the two halves of `Generator`.

    Made by `open_backend`, which checks what is asked for.

    Args:
        network: On the CPU, in evaluation mode.
        device: As `find_device` returns it.
        dtype: One of `dtypes`.

    Attributes:
        name: What `--backend` calls it.
        packages: What is installed for it.
        dtypes: What it can compute in.
        takes_whole_images: Whether it runs networks that take statistics of the whole image.
        device: Where it runs, such as `"cpu"` or `"cuda:0"`.
        dtype: What it computes in.
        network_name: The network's class.
        upscale_factor: See `Generator`, as are `receptive_radius` and `needs_whole_image`.

    Raises:
        UserError: The processor lacks the type, or the runtime a part of the network.
        MemoryError: The network does not fit on the device.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    takes_whole_images: ClassVar[bool] = False

    def __init__(self, network: Generator, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.network_name = type(network).__name__
        self.upscale_factor = network.upscale_factor
        self.receptive_radius = network.receptive_radius
        self.needs_whole_image = network.needs_whole_image

    @classmethod
    def missing_packages(cls) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in cls.packages if importlib.util.find_spec(name) is None]

    @classmethod
    def find_device(cls, name: str) -> str:
        """Return the device of a name, or the one that `"auto"` stands for.

        Raises:
            UserError: The runtime has no such device.
        """
        if name not in ("auto", "cpu"):
            raise UserError(f"device: expected cpu for backend {cls.name}, got {name}")
        return "cpu"

    @property
    def kind(self) -> str:
        """The device's kind: `"cpu"`, `"cuda"`, `"mps"` or `"vulkan"`."""
        return self.device.partition(":")[0]

    def to_device(self, window: Tensor) -> Tensor:
        """Return a window of the LR image, (1, 3, H, W), float32, as the halves take it."""
        return window.contiguous()

    @abstractmethod
    def extract_features(self, x: Tensor) -> Tensor:
        """See `Generator`; the result is valid until the next call."""

    @abstractmethod
    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """See `Generator`, for any window of features and image; valid until the next call."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether a half failed because the device's memory is full."""
        return isinstance(error, MemoryError) or "bad_alloc" in str(error)
