"""Images that are read when, and as far as, their pixels are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from .images import Image, Shape

Window = tuple[slice, slice]


class LazyImage(Protocol):
    """An image that may still lie on the disk: RGB, uint8, (height, width, 3)."""

    @property
    def name(self) -> str:
        """What to call it in an error: its file, or its store and key."""

    @property
    def shape(self) -> Shape:
        """Height, width, 3."""

    def __getitem__(self, window: Window, /) -> Image:
        """Return a contiguous copy of a slice of rows and a slice of columns."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Image:
        """Return the whole image, for `np.asarray`."""


class ArrayMixin:
    """Makes `np.asarray(image)` from the image's windows."""

    def __getitem__(self, window: Window, /) -> Image:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Image:
        whole = self[:, :]
        return whole if dtype is None else whole.astype(dtype, copy=False)


@dataclass
class DecodedImage(ArrayMixin):
    """An encoded image, decoded once, when what is not known of it is first asked for.

    Args:
        name: What to call it in an error.
        decode: Returns the whole image.
        listed: Its shape where that is known without decoding.
    """

    name: str
    decode: Callable[[], Image] = field(repr=False)
    listed: Shape | None = None

    @cached_property
    def _pixels(self) -> Image:
        return self.decode()

    @property
    def shape(self) -> Shape:
        """See `LazyImage`."""
        height, width, channels = self.listed or self._pixels.shape
        return height, width, channels

    def __getitem__(self, window: Window, /) -> Image:
        pixels: Image = self._pixels[window].copy()
        return pixels


@dataclass(frozen=True)
class CroppedImage(ArrayMixin):
    """The top-left part of an image, its sizes made multiples of a number."""

    whole: LazyImage
    multiple: int

    @property
    def name(self) -> str:
        """See `LazyImage`."""
        return self.whole.name

    @property
    def shape(self) -> Shape:
        """See `LazyImage`."""
        height, width, channels = self.whole.shape
        return height - height % self.multiple, width - width % self.multiple, channels

    def __getitem__(self, window: Window, /) -> Image:
        height, width, _ = self.shape
        return self.whole[clip_slice(window[0], height), clip_slice(window[1], width)]


def clip_slice(part: slice, size: int) -> slice:
    """Return the slice with its ends filled in and clipped to `size`, as indexing an array does."""
    start, stop, step = part.indices(size)
    assert step == 1, part
    return slice(start, max(start, stop))
