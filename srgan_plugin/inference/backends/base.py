"""Interface of the runtimes: both halves of a network, as functions of tensors."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator


class Backend(ABC):
    """A generator loaded into one runtime, on one device, in two halves.

    The halves are those of `Generator`: feature extraction and reconstruction.

    Use `open_backend` to create one; it checks the arguments.

    Args:
        network: Generator on the CPU, in evaluation mode.
        device: Device, from `find_device`.
        dtype: Type to compute in, one of `dtypes_on(device)`.

    Attributes:
        name: Value of `--backend`.
        packages: Packages that the runtime needs in addition to torch.
        dtypes: Types that the runtime can compute in, on one of its devices at least.
        takes_whole_images: Whether the runtime supports instance normalisation, which needs
            statistics of the whole image.
        device: Device of the network, such as `"cpu"` or `"cuda:0"`.
        dtype: The dtype that the network computes in.
        network_name: Name of the class of the network.
        upscale_factor: See `networks.Generator`.
        receptive_radius: See `networks.Generator`.
        needs_whole_image: See `networks.Generator`.

    Raises:
        UserError: The runtime does not support a layer of the network.
        MemoryError: The network does not fit on the device, and the runtime says so.
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

    @classmethod
    def dtypes_on(cls, device: str) -> tuple[torch.dtype, ...]:
        """Return those of `dtypes` in which the runtime can compute on a device."""
        return cls.dtypes

    @property
    def kind(self) -> str:
        """Kind of the device: `"cpu"`, `"cuda"`, `"mps"` or `"vulkan"`."""
        return self.device.partition(":")[0]

    def to_device(self, window: Tensor) -> Tensor:
        """Return a window of the LR image as an input of the halves.

        The window is RGB in [0, 1], (1, 3, H, W), float32.
        """
        return window.contiguous()

    @abstractmethod
    def extract_features(self, x: Tensor) -> Tensor:
        """Return the features, (1, C, H, W), of a window of the LR image, from `to_device`.

        The next call may overwrite them. A backend is not safe for use by several threads.
        """

    @abstractmethod
    def reconstruct(self, features: Tensor, x: Tensor) -> Tensor:
        """Return the SR image, (1, 3, sH, sW), of features and the same window of the LR image.

        The image is not clamped to [0, 1]. The next call may overwrite it.
        """

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether `error`, raised by one of the halves, was caused by a lack of memory."""
        return isinstance(error, MemoryError) or "bad_alloc" in str(error)


def parse_device(name: str, counts: Mapping[str, int], backend: str) -> tuple[str, int | None]:
    """Return the kind and the number of an existing device.

    Args:
        name: A kind, or a kind and a number from 0, such as `"cuda:1"`.
        counts: {kind: number of devices of that kind}.
        backend: Name of the backend, for messages.

    Returns:
        Kind, and number; None if `name` has no number.

    Raises:
        UserError: The kind is unknown, or has no device of this number.
    """
    kind, colon, number = name.partition(":")
    if kind not in counts or (colon and not number.isdecimal()):
        raise UserError(
            f"device: expected auto, {', '.join(counts)}, or one of these with a number (such as "
            f"{list(counts)[1]}:0), for backend {backend}, got {name!r}"
        )
    count = counts[kind]
    if int(number or 0) >= count:
        if kind == "cpu":
            raise UserError(f"device: expected cpu, got {name}; there is only one")
        expected = f"{kind}:0 to {kind}:{count - 1}" if count > 1 else f"{kind}:0"
        found = f"expected {expected}" if count else f"backend {backend} finds no {kind} device"
        raise UserError(f"device: {found}, got {name}; use cpu")
    return kind, int(number) if colon else None
