"""Upscale arrays of pixels by a network: any size, grey or colour, with alpha or without."""

import ctypes
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, overload

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.data.resize import resize_rows
from srgan_plugin.errors import UserError
from srgan_plugin.io.image_content import pixels_of, read_image_content
from srgan_plugin.networks import Generator

from .backends import BackendName, open_backend
from .models import open_model
from .precision import Precision
from .tiling import Interval, upscale_tile, upscale_tile_ensemble

Pixels = NDArray[Any]
AnyImage = Pixels | PIL.Image.Image | str | os.PathLike[str]
Tile = Literal["auto"] | int

# Sides of the large and of the small tiles, in LR pixels; see `tiles`. On a CPU 400 MB, and small
# tiles that stay near the caches; on a GPU tiles that fill it.
_TILES: Final = {
    "cpu": (512, 128),
    "cuda": (1024, 256),
    "mps": (512, 256),
    "vulkan": (512, 128),
}
_SMALLEST: Final = 16
# Pixels of an image that a network sees whole, on a CPU: 3.2 GB with 64 features.
_LARGEST_WHOLE: Final = 1 << 21
_RESIZED_ROWS: Final = 256  # at a time
_LARGEST_RESULT: Final = 1 << 32  # pixels, where --scale is given
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's <malloc.h>

logger = logging.getLogger(__name__)


class Upscaler:
    """A network, where it runs, and in how large tiles.

    Args:
        network: A generator, or what `open_model` opens: `"msrresnet"`, `"srgan"`, a file. On a
            CPU, and by other backends than torch, a copy of it is run.
        scale: Of the result, any positive number; another than the network's is made from its
            result by MATLAB's bicubic. By default the network's.
        device: `"auto"` takes a CUDA GPU where there is one; `"cpu"`, `"cuda"`, `"cuda:1"`,
            `"mps"`; with ncnn `"vulkan"`, `"vulkan:1"`.
        tile: Largest side of a tile in pixels of the input; a tiled result is the untiled one, but
            for rounding. When the device runs out of memory the tile is halved for good.
        precision: `"float32"`; `"bfloat16"`, up to some levels off; `"float16"`, on a GPU only;
            `"auto"`, bfloat16 where it is faster on this device.
        backend: `"torch"`, `"openvino"`, `"onnxruntime"`, `"ncnn"`, or `"auto"`, the fastest here
            of those that are installed; see `open_backend`.
        tta: Take the mean of the results for the image flipped and transposed (x8 self-ensemble),
            in eight times the time.

    Raises:
        UserError: There is no such device, float16 without a GPU, `tile` is below 16, `scale` is
            not positive, or the backend is not installed or cannot run the network.
        MemoryError: The network does not fit on the device.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.inference import Upscaler
        >>> from srgan_plugin.networks import MSRResNet
        >>> upscale = Upscaler(MSRResNet(mid_channels=8, num_blocks=2), device="cpu", tile=16)
        >>> image = np.zeros((20, 24, 3), np.uint8)
        >>> upscale(image).shape, upscale(image).dtype
        ((80, 96, 3), dtype('uint8'))
    """

    def __init__(
        self,
        network: Generator | str | os.PathLike[str],
        *,
        scale: float | None = None,
        device: str = "auto",
        tile: Tile = "auto",
        precision: Precision = "float32",
        backend: BackendName = "torch",
        tta: bool = False,
    ) -> None:
        if scale is not None and not 0 < scale < math.inf:
            raise UserError(f"scale: expected a positive number, got {scale}")
        if tile != "auto" and tile < _SMALLEST:
            raise UserError(f"expected a tile of at least {_SMALLEST} pixels, got {tile}")
        if isinstance(network, str | os.PathLike):
            network = open_model(os.fspath(network))
        if not isinstance(network, Generator):
            raise UserError(
                "network: expected a generator of srgan_plugin, or the name or file of one, got "
                f"{type(network).__name__}"
            )
        self.backend = open_backend(network, backend, device=device, precision=precision)
        self.dtype, self._whole = self.backend.dtype, self.backend.needs_whole_image
        large, self._inner = _TILES[self.backend.kind]
        self.tile = large if tile == "auto" else tile
        self._factor = network.upscale_factor
        self.scale = scale or self._factor
        self._upscale_tile = upscale_tile_ensemble if tta else upscale_tile

    @overload
    def __call__(self, image: Pixels | str | os.PathLike[str]) -> Pixels: ...

    @overload
    def __call__(self, image: PIL.Image.Image) -> PIL.Image.Image: ...

    def __call__(self, image: Pixels | AnyImage) -> Pixels | PIL.Image.Image:
        """Upscale an image.

        Args:
            image: (H, W) or (H, W, C), C channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and
                alpha; uint8, or uint16 with the range of 16 bits. Or a file, which is read as
                `srgan-plugin upscale` does, or an image of Pillow's with 8 bits.

        Returns:
            For a file (H, W, C), for Pillow's image one of Pillow's, else:
            The same, of the size that `result_size` tells. Grey goes through the network as RGB of
            three equal channels, whose mean is taken; alpha is upscaled by bicubic.

        Raises:
            ValueError: `image` is something else.
            MemoryError: Not even the smallest tile fits on the device.
        """
        if isinstance(image, PIL.Image.Image):
            pixels = self(pixels_of(image))
            return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        if isinstance(image, str | os.PathLike):
            image = read_image_content(Path(image)).pixels
        if not hasattr(image, "shape"):
            raise UserError(
                f"expected (H, W) or (H, W, C) as a NumPy array, got {type(image).__name__}"
            )
        strips = self.strips(image)
        height, width = self.result_size(*image.shape[:2])
        out = np.empty((height, width, *image.shape[2:]), image.dtype)
        top = 0
        for strip in strips:
            out[top : top + len(strip)] = strip.reshape(len(strip), width, *image.shape[2:])
            top += len(strip)
        return out

    def strips(
        self, image: Pixels, progress: Callable[[int], None] | None = None
    ) -> Iterator[Pixels]:
        """Upscale an image, handing out the result from top to bottom while it is made.

        Args:
            image: As for a call.
            progress: Called with the number of pixels of the image that are done.

        Returns:
            Strips of the result, (rows, width, C). The next one is made when it is asked for.

        Raises:
            ValueError: `image` is something else.
            MemoryError: Not even the smallest tile fits on the device.
        """
        channels = {2: 1, 3: image.shape[-1]}.get(image.ndim)
        if image.dtype not in (np.uint8, np.uint16) or channels not in (1, 2, 3, 4):
            raise UserError(
                "expected uint8 or uint16 pixels of shape (H, W) or (H, W, 1 to 4 channels), got "
                f"{image.dtype} of shape {image.shape}"
            )
        if image.size == 0:
            raise UserError(f"expected an image, got one without pixels, of shape {image.shape}")
        height, width = image.shape[:2]
        if self._whole and self.backend.kind == "cpu" and height * width > _LARGEST_WHOLE:
            raise UserError(
                f"expected at most {_LARGEST_WHOLE} pixels, got {width} x {height}: instance "
                "normalisation needs the whole image at once; upscale parts of it, or on a GPU"
            )
        result = self.result_size(height, width)
        if self.scale != self._factor and math.prod(result) > _LARGEST_RESULT:
            raise UserError(
                f"scale: expected a result of at most {_LARGEST_RESULT >> 20} million pixels, got "
                f"{result[1]} x {result[0]}, {self.scale:g} times {width} x {height}"
            )
        image = image.reshape(*image.shape[:2], channels)
        strips = self._strips(image, progress or (lambda _: None))
        return strips if self.scale == self._factor else self._resized(strips, image.shape)

    def result_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the result for an image: `scale` times, at least 1."""
        return max(round(self.scale * height), 1), max(round(self.scale * width), 1)

    def _resized(self, strips: Iterator[Pixels], shape: tuple[int, ...]) -> Iterator[Pixels]:
        """Resize the network's result, which is held as a whole, in strips."""
        sizes = self.result_size(*shape[:2])
        whole = np.concatenate(list(strips))
        largest = np.iinfo(whole.dtype).max
        for rows in Interval(0, sizes[0]).parts(_RESIZED_ROWS):
            strip = resize_rows(whole, sizes, rows.start, rows.stop)
            yield np.floor(strip.clip(0, largest) + 0.5).astype(whole.dtype)

    def _strips(self, image: Pixels, progress: Callable[[int], None]) -> Iterator[Pixels]:
        whole, top = Interval(0, len(image)), 0
        while top < whole.stop:
            rows = whole if self._whole else Interval(top, whole.stop).parts(self.tile)[0]
            if (strip := self._strip_if_it_fits(image, rows, progress)) is not None:
                yield strip
                top = rows.stop
            elif self._whole:
                raise MemoryError(
                    f"out of memory: instance normalisation needs all {len(image)} rows at once"
                )
            elif self.tile // 2 < _SMALLEST:
                raise MemoryError(f"out of memory even with tiles of {self.tile} pixels")
            else:
                self.tile //= 2
                logger.warning("out of memory: going on with tiles of %d pixels", self.tile)

    def _strip_if_it_fits(
        self, image: Pixels, rows: Interval, progress: Callable[[int], None]
    ) -> Pixels | None:
        """None when memory runs out: the retry is outside, where nothing holds the tensors."""
        try:
            return self._strip(image, rows, progress)
        except (RuntimeError, MemoryError) as error:
            if not self.backend.is_out_of_memory(error):
                raise
        if self.backend.kind == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _strip(self, image: Pixels, rows: Interval, progress: Callable[[int], None]) -> Pixels:
        height, width, channels = image.shape
        colours = 3 if channels > 2 else 1
        out = np.empty(
            ((rows.stop - rows.start) * self._factor, width * self._factor, channels), image.dtype
        )
        seen = rows.widened(sum(self.backend.receptive_radius), Interval(0, height))
        lr = _to_network(image[seen.start : seen.stop, :, :colours])
        local = Interval(rows.start - seen.start, rows.stop - seen.start)

        def report(columns: Interval, share: float) -> None:
            done = columns.start + share * (columns.stop - columns.start)
            pixels = rows.start * width + (rows.stop - rows.start) * done
            progress(int(pixels))

        for columns in Interval(0, width).parts(width if self._whole else self.tile):
            sr = self._upscale_tile(
                self.backend,
                lr,
                local,
                columns,
                inner=min(self._inner, self.tile),
                progress=partial(report, columns),
            )
            if colours == 1:
                sr = sr.mean(0, keepdim=True, dtype=torch.float32)
            where = columns.inside(Interval(0, width), self._factor)
            out[:, where, :colours] = _from_network(sr, image.dtype)
        if channels in (2, 4):
            out[..., -1] = _upscale_alpha(image[..., -1], rows, self._factor)
        return out


def upscale(
    image: AnyImage,
    *,
    model: str = "msrresnet",
    scale: float | None = None,
    blend: float | None = None,
    blend_with: str = "srgan",
    arch_options: Mapping[str, Any] | None = None,
    tile: Tile = "auto",
    device: str = "auto",
    precision: Precision = "float32",
    backend: BackendName = "torch",
    tta: bool = False,
) -> AnyImage:
    """Upscale an image; for many of them, make one `Upscaler` and call that.

    Args:
        image: As for an `Upscaler`'s call.
        model: As for `open_model`, and so are `blend`, `blend_with` and `arch_options`.
        scale: As for `Upscaler`, and so are `tile`, `device`, `precision`, `backend` and `tta`.
        blend: See there.
        blend_with: See there.
        arch_options: See there.
        tile: See `Upscaler`.
        device: See `Upscaler`.
        precision: See `Upscaler`.
        backend: See `Upscaler`.
        tta: See `Upscaler`.

    Returns:
        See `Upscaler`.

    Raises:
        FileNotFoundError: There are no such weights.
        UserError: The image, the weights or an option are not what is expected.
        MemoryError: Not even the smallest tile fits on the device.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.inference import upscale
        >>> upscale(np.zeros((8, 10, 3), np.uint8), model="srgan", device="cpu").shape
        (32, 40, 3)
    """
    network = open_model(model, blend=blend, blend_with=blend_with, arch_options=arch_options)
    upscaler = Upscaler(
        network,
        scale=scale,
        device=device,
        tile=tile,
        precision=precision,
        backend=backend,
        tta=tta,
    )
    return upscaler(image)


def disable_malloc_trim() -> None:
    """Make glibc keep large freed blocks instead of handing them back to the system.

    Every activation on a CPU is such a block, when upscaling and when training; the system clears
    each page again before it lends it anew. Keeping them halves the time of a small network's
    training step. The process keeps its peak until it ends. Other C libraries are left alone.
    """
    # macOS and musl have no mallopt, and Windows has no CDLL(None).
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _to_network(colours: Pixels) -> Tensor:
    scaled = colours.astype(np.float32) / np.float32(np.iinfo(colours.dtype).max)
    return torch.from_numpy(scaled).permute(2, 0, 1)[None].expand(1, 3, -1, -1)


def _from_network(sr: Tensor, dtype: np.dtype[Any]) -> Pixels:
    levels = sr.float().mul_(np.iinfo(dtype).max).round_().permute(1, 2, 0)
    # The copy from a GPU is of bytes where it can be.
    return levels.to(torch.uint8 if dtype == np.uint8 else torch.int32).cpu().numpy()


def _upscale_alpha(alpha: Pixels, rows: Interval, scale: int) -> Pixels:
    """By bicubic: a network would put texture, and holes of one level, into what is opaque."""
    seen = rows.widened(3, Interval(0, len(alpha)))
    part = np.ascontiguousarray(alpha[seen.start : seen.stop])
    size = part.shape[1] * scale, part.shape[0] * scale
    upscaled: Pixels = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC)
    return upscaled[rows.inside(seen, scale)]
