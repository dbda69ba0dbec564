"""Interface of the runtimes: both halves of a network, as functions of tensors."""

import importlib.util
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator


class Backend(ABC):
    """A generator loaded into one runtime, on one device, in the two halves of `Generator`.

    Use `open_backend` to create one; it checks the arguments.

    Args:
        network: Generator on the CPU, in evaluation mode.
        device: Device, from `find_device`.
        dtype: Type to compute in, one of `dtypes`.

    Attributes:
        name: Value of `--backend`.
        packages: Packages that the runtime needs in addition to torch.
        dtypes: Types that the runtime can compute in.
        takes_whole_images: Whether the runtime supports instance normalisation, which needs
            statistics of the whole image.
        device: Device of the network, such as `"cpu"` or `"cuda:0"`.
        dtype: Type that the network computes in.
        network_name: Name of the class of the network.
        upscale_factor: See `Generator`.
        receptive_radius: See `Generator`.
        needs_whole_image: See `Generator`.

    Raises:
        UserError: The processor does not support the type, or the runtime a layer of the network.
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
        """Return the name of an existing device, chosen by the runtime if `name` is `"auto"`.

        Raises:
            UserError: The device does not exist, or the runtime does not support it.
        """
        if name not in ("auto", "cpu"):
            raise UserError(f"device: expected cpu for backend {cls.name}, got {name}")
        return "cpu"

    @property
    def kind(self) -> str:
        """Kind of the device: `"cpu"`, `"cuda"`, `"mps"` or `"vulkan"`."""
        return self.device.partition(":")[0]

    def to_device(self, window: Tensor) -> Tensor:
        """Return a window of the LR image, (1, 3, H, W) in float32, as an input of the halves."""
        return window.contiguous()

    @abstractmethod
    def extract_features(self, x: Tensor) -> Tensor:
        """Return the features of `x`; see `Generator`. The next call may overwrite them."""

    @abstractmethod
    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """Return the SR image of a window of features and the same window of the LR image.

        See `Generator`. The next call may overwrite the result.
        """

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether `error`, raised by one of the halves, was caused by a lack of memory."""
        return isinstance(error, MemoryError) or "bad_alloc" in str(error)
