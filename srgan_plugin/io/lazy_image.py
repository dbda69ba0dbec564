"""Images of which pixels are read on access."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from srgan_plugin.errors import UserError

from .array_types import RGBArray, Shape

#: Rows and columns, slices of step 1.
Window = tuple[slice, slice]


class LazyImage(Protocol):
    """Image, RGB, (H, W, 3), uint8, the pixels of which may not be in memory yet."""

    @property
    def name(self) -> str:
        """Name for messages: its file, or its store and key."""

    @property
    def shape(self) -> Shape:
        """(H, W, 3)."""

    def __getitem__(self, window: Window, /) -> RGBArray:
        """Return a copy of a rectangle, contiguous in memory.

        Args:
            window: Rows and columns, clipped as in NumPy.

        Raises:
            UserError: The image is damaged or too small, or the window of a computed image is
                empty.
        """

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> RGBArray:
        """Return all pixels, for `np.asarray`."""


class ArrayMixin:
    """Mixin that implements `np.asarray(image)` by `__getitem__`."""

    def __getitem__(self, window: Window, /) -> RGBArray:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> RGBArray:
        pixels = self[:, :]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


@dataclass
class DecodedImage(ArrayMixin):
    """Encoded image that is decoded once, on first access.

    Args:
        name: Name for messages.
        decode: Function that returns the image, RGB, (H, W, 3), uint8.
        known_shape: Shape, if it is known without decoding; `decode` has to return it.
    """

    name: str
    decode: Callable[[], RGBArray] = field(repr=False)
    known_shape: Shape | None = None

    @cached_property
    def _pixels(self) -> RGBArray:
        return self.decode()

    @property
    def shape(self) -> Shape:
        """(H, W, 3)."""
        height, width, channels = self.known_shape or self._pixels.shape
        return height, width, channels

    def __getitem__(self, window: Window, /) -> RGBArray:
        pixels: RGBArray = self._pixels[window].copy()
        return pixels


@dataclass(frozen=True, eq=False)
class CroppedImage(ArrayMixin):
    """Top-left part of an image, cropped to multiples of a number.

    Args:
        full: The image to crop.
        multiple: Divisor of height and width.
    """

    full: LazyImage
    multiple: int

    @property
    def name(self) -> str:
        """Name of the full image, for messages."""
        return self.full.name

    @property
    def shape(self) -> Shape:
        """(H, W, 3)."""
        height, width, channels = self.full.shape
        return height - height % self.multiple, width - width % self.multiple, channels

    def __getitem__(self, window: Window, /) -> RGBArray:
        height, width, _ = self.shape
        if not (height and width):
            _ = self.full[:, :]  # raises the error of an image that is itself cropped to nothing
            least = f"{self.multiple}x{self.multiple}"
            raise UserError(
                f"{self.name}: expected at least {least}, got a smaller image; remove it"
            )
        return self.full[clip_slice(window[0], height), clip_slice(window[1], width)]


def clip_slice(part: slice, size: int) -> slice:
    """Return a slice with both ends at least 0, clipped to `size` as in indexing an array."""
    start, stop, step = part.indices(size)
    if step != 1:
        raise ValueError(f"window: expected slices of step 1, got {part}")
    return slice(start, max(start, stop))
