"""Upscale images of any size: grey or RGB, with or without alpha, 8 or 16 bits per channel."""

import ctypes
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Final, Literal, overload

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.data.resize import resize_rows
from srgan_plugin.errors import UserError, check_count
from srgan_plugin.io.image_content import read_image_content, to_pixels
from srgan_plugin.networks import Generator

from .backends import BackendName, open_backend
from .models import open_model
from .precision import Precision
from .tiling import Interval, upscale_tile, upscale_tile_ensemble

Pixels = NDArray[Any]
AnyImage = Pixels | PIL.Image.Image | str | os.PathLike[str]
Tile = Literal["auto"] | int

# {kind of device: sides of the large and the small tiles in LR pixels}; see `tiling`. On a CPU they
# take 400 MB, and the small tiles fit into the caches. On a GPU they occupy all cores.
_TILE_SIDES: Final = {
    "cpu": (512, 128),
    "cuda": (1024, 256),
    "mps": (512, 256),
    "vulkan": (512, 128),
}
_MIN_TILE: Final = 16
# For networks that need the whole image at once, on a CPU: 3.2 GB with 64 features.
_MAX_UNTILED_PIXELS: Final = 1 << 21
_ROWS_PER_RESIZE: Final = 256
_MAX_RESIZED_PIXELS: Final = 1 << 32
_MAX_SCALE: Final = 1 << 16
# Constants of <malloc.h> in glibc.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

logger = logging.getLogger(__name__)


def check_scale(scale: object) -> None:
    """Raise `UserError` for a scale that is not a positive number, or absurdly large."""
    if not (isinstance(scale, Real) and 0 < float(scale) <= _MAX_SCALE):
        raise UserError(f"scale: expected a positive number up to {_MAX_SCALE}, got {scale!r}")


def _check_array(image: object) -> None:
    """Raise `UserError` for an image of another type."""
    if not isinstance(image, np.ndarray):
        hint = "; convert it by .cpu().numpy()" if isinstance(image, Tensor) else ""
        raise UserError(
            "expected (H, W) or (H, W, C), uint8, as a NumPy array, got "
            f"{type(image).__name__}{hint}"
        )


def _advice(image: Pixels) -> str:
    """Return what to do with an array of another layout or dtype, for the end of a message."""
    steps = []
    if image.ndim == 4:
        steps.append("give one image at a time")
    if image.ndim in (3, 4) and image.shape[-1] > 4 and image.shape[-3] <= 4:
        steps.append("move the channels to the end")
    if np.issubdtype(image.dtype, np.floating):
        steps.append("round values of 0 to 255 to uint8")
    return "; " * bool(steps) + ", ".join(steps)


class Upscaler:
    """Upscale images with a network, in tiles.

    Args:
        network: Generator, of which a copy is run; or a name, path or URL of one for `open_model`.
        scale: Upscaling factor of the result, any positive number; default: the factor of the
            network. For another factor its result is resized by bicubic interpolation as in MATLAB.
        device: `"auto"` (a CUDA GPU if there is one, else the CPU), `"cpu"`, `"cuda"`, `"cuda:1"`
            or `"mps"`; with ncnn also `"vulkan"` and `"vulkan:1"`.
        tile: Largest side of a tile in pixels of the input, at least 16; `"auto"` is 1024 on a CUDA
            GPU, else 512. It does not change the result, except for rounding. When the device runs
            out of memory, the tile is halved, also for later images.
        precision: `"float32"`; `"bfloat16"`, which changes pixels by up to some levels;
            `"float16"`, on a GPU only; `"auto"`, which is bfloat16 if it is at least 1.25 times
            as fast on the device, else float32.
        backend: `"torch"`, `"openvino"`, `"onnxruntime"`, `"ncnn"`, or `"auto"` for the fastest
            installed one; see `open_backend`.
        tta: Average the results for the eight flips and transposes of the image (x8
            self-ensemble), which takes eight times as long.

    Attributes:
        backend: The network on its runtime and device.
        dtype: The dtype that the network computes in.
        scale: Upscaling factor of the result.
        tile: Largest side of a tile, in pixels of the input.

    Raises:
        MissingFileError: No file, published or bundled model has the name `network`.
        UserError: An option is out of range, the device does not exist, the backend is not
            installed or cannot run the network, or a file cannot be opened (see `open_model`).
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
        if scale is not None:
            check_scale(scale)
        if tile != "auto":
            check_count(_MIN_TILE, tile=tile)
        if isinstance(network, str | os.PathLike):
            network = open_model(os.fspath(network))
        network = getattr(network, "_orig_mod", network)  # in a wrapper of torch.compile
        if not isinstance(network, Generator):
            raise UserError(
                "network: expected a generator of srgan_plugin, or the name or file of one, got "
                f"{type(network).__name__}"
            )
        self.backend = open_backend(network, backend, device=device, precision=precision)
        self.dtype, self._untiled = self.backend.dtype, self.backend.needs_whole_image
        large, self._inner_tile = _TILE_SIDES[self.backend.kind]
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
            image: Array (H, W) or (H, W, C), uint8 in [0, 255] or uint16 in [0, 65535], where C is
                1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha); a path of an image
                file; or a `PIL.Image.Image` with 8 bits per channel.

        Returns:
            The upscaled image, with the size from `result_size`. A Pillow image for a Pillow image;
            an array (H, W, C) for a file; otherwise an array with the dtype and the channels of
            `image`. Grey is upscaled as RGB with three equal channels, and the mean of the channels
            is returned. Alpha is upscaled by bicubic interpolation.

        Raises:
            UserError: `image` has another type, shape or dtype, or cannot be read; or the result of
                the network is not finite.
            MemoryError: Not even the smallest tile fits on the device.
        """
        if isinstance(image, PIL.Image.Image):
            pixels = self(to_pixels(image))
            return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        if isinstance(image, str | os.PathLike):
            image = read_image_content(Path(image)).pixels
        _check_array(image)
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
        """Upscale an image and return the result in strips, from top to bottom.

        Args:
            image: Array, as for `__call__`.
            progress: Called before each small tile with the number of pixels of `image` that are
                done, which is below the total. It decreases when a strip is repeated in smaller
                tiles, because the device is out of memory.

        Returns:
            Iterator over strips of the result, (rows, width, C), each computed on demand.

        Raises:
            UserError: `image` has another shape or dtype, or too many pixels. While iterating: the
                result of the network is not finite.
            MemoryError: While iterating: not even the smallest tile fits on the device.
        """
        channels = {2: 1, 3: image.shape[-1]}.get(image.ndim)
        if image.dtype not in (np.uint8, np.uint16) or channels not in (1, 2, 3, 4):
            raise UserError(
                "expected uint8 or uint16 pixels of shape (H, W) or (H, W, 1 to 4 channels), got "
                f"{image.dtype} of shape {image.shape}{_advice(image)}"
            )
        if image.size == 0:
            raise UserError(f"expected an image, got one without pixels, of shape {image.shape}")
        self._check_size(*image.shape[:2])
        image = image.reshape(*image.shape[:2], channels)
        strips = self._network_strips(image, progress or (lambda _: None))
        return strips if self.scale == self._factor else self._resize(strips, image.shape)

    def result_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the result, at least 1, for an image of this size."""
        return max(round(self.scale * height), 1), max(round(self.scale * width), 1)

    def _check_size(self, height: int, width: int) -> None:
        """Raise `UserError` if an image or its result is too large for the memory."""
        if self._untiled and self.backend.kind == "cpu" and height * width > _MAX_UNTILED_PIXELS:
            raise UserError(
                f"expected at most {_MAX_UNTILED_PIXELS} pixels, got {height}x{width} (height x "
                "width): instance normalisation needs the whole image at once; upscale parts of "
                "it, or on a GPU"
            )
        result = self.result_size(height, width)
        if self.scale != self._factor and math.prod(result) > _MAX_RESIZED_PIXELS:
            raise UserError(
                f"scale: expected a result of at most {_MAX_RESIZED_PIXELS >> 20} million pixels, "
                f"got {result[0]}x{result[1]} (height x width), {self.scale:g} times "
                f"{height}x{width}"
            )

    def _resize(self, strips: Iterator[Pixels], shape: tuple[int, ...]) -> Iterator[Pixels]:
        """Collect the result of the network and yield it resized to `scale`, in strips."""
        sizes = self.result_size(*shape[:2])
        whole = np.concatenate(list(strips))
        largest = np.iinfo(whole.dtype).max
        for rows in Interval(0, sizes[0]).parts(_ROWS_PER_RESIZE):
            strip = resize_rows(whole, sizes, rows.start, rows.stop)
            yield np.floor(strip.clip(0, largest) + 0.5).astype(whole.dtype)

    def _network_strips(self, image: Pixels, progress: Callable[[int], None]) -> Iterator[Pixels]:
        """Yield the result of the network, with smaller tiles if the memory is insufficient."""
        whole, top = Interval(0, len(image)), 0
        while top < whole.stop:
            rows = whole if self._untiled else Interval(top, whole.stop).parts(self.tile)[0]
            if (strip := self._try_strip(image, rows, progress)) is not None:
                yield strip
                top = rows.stop
            elif self._untiled:
                raise MemoryError(
                    f"out of memory: instance normalisation needs all {len(image)} rows at once"
                )
            elif self.tile // 2 < _MIN_TILE:
                raise MemoryError(f"out of memory even with tiles of {self.tile} pixels")
            else:
                self.tile //= 2
                logger.warning("out of memory: continuing with tiles of %d pixels", self.tile)

    def _try_strip(
        self, image: Pixels, rows: Interval, progress: Callable[[int], None]
    ) -> Pixels | None:
        """Return a strip of the result, or None if the device runs out of memory.

        The caller retries after this function has returned: until then the traceback of the error
        keeps the tensors alive.
        """
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
        """Return the result of the network for some rows of `image`, (rows, width, C)."""
        height, width, channels = image.shape
        colours = 3 if channels > 2 else 1
        out = np.empty(
            ((rows.stop - rows.start) * self._factor, width * self._factor, channels), image.dtype
        )
        seen = rows.widen(sum(self.backend.receptive_radius), Interval(0, height))
        lr = _to_network(image[seen.start : seen.stop, :, :colours])
        local = Interval(rows.start - seen.start, rows.stop - seen.start)

        def report(columns: Interval, share: float) -> None:
            done = columns.start + share * (columns.stop - columns.start)
            pixels = rows.start * width + (rows.stop - rows.start) * done
            progress(int(pixels))

        for columns in Interval(0, width).parts(width if self._untiled else self.tile):
            sr = self._upscale_tile(
                self.backend,
                lr,
                local,
                columns,
                inner=min(self._inner_tile, self.tile),
                progress=partial(report, columns),
            )
            if colours == 1:
                sr = sr.mean(0, keepdim=True, dtype=torch.float32)
            target = columns.inside(Interval(0, width), self._factor)
            out[:, target, :colours] = _from_network(sr, image.dtype)
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
    """Upscale one image. For several images, create one `Upscaler` and call it for each.

    Args:
        image: Array (H, W) or (H, W, C), uint8 or uint16; path of an image file; or Pillow image.
            See `Upscaler.__call__`.
        model: `"msrresnet"`, `"srgan"`, `"photo"`, the name of a published checkpoint, a path, or a
            URL; see `open_model`.
        scale: Upscaling factor; default: the factor of the network.
        blend: Weight of `blend_with`, in [0, 1]; see `open_model`.
        blend_with: Network to interpolate `model` with, if `blend` is given.
        arch_options: Arguments of the network that the checkpoint does not record; see
            `open_model`.
        tile: Largest side of a tile in pixels of the input, or `"auto"`.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:N"` or `"mps"`.
        precision: `"float32"`, `"bfloat16"`, `"float16"` or `"auto"`.
        backend: `"torch"`, `"openvino"`, `"onnxruntime"`, `"ncnn"` or `"auto"`.
        tta: Average the results for the eight flips and transposes of the image.

    Returns:
        The upscaled image, as `Upscaler.__call__` returns it.

    Raises:
        MissingFileError: The weights or the image file do not exist.
        UserError: The image, the weights or an option are invalid.
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
    """Make glibc keep large freed blocks instead of returning them to the system.

    Each activation on a CPU is such a block, and the system clears its pages each time it is
    allocated. Without clearing, a training step of a small network takes half as long. The process
    keeps its peak memory until it ends. Nothing changes with other C libraries.
    """
    # macOS and musl have no mallopt, and Windows has no CDLL(None).
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # Older versions refuse more than 32 MiB. Without the first threshold the second one would harm.
    if mallopt and any(mallopt(_M_MMAP_THRESHOLD, 1 << bits) for bits in (30, 25)):
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _to_network(colours: Pixels) -> Tensor:
    """Convert pixels (H, W, 1 or 3) to the input of a network, (1, 3, H, W) in [0, 1]."""
    scaled = colours.astype(np.float32) / np.float32(np.iinfo(colours.dtype).max)
    return torch.from_numpy(scaled).permute(2, 0, 1)[None].expand(1, 3, -1, -1)


def _from_network(sr: Tensor, dtype: np.dtype[Any]) -> Pixels:
    """Convert the result of a network, (C, H, W) in [0, 1], to pixels (H, W, C)."""
    levels = sr.float().mul_(np.iinfo(dtype).max).round_().permute(1, 2, 0)
    # Converted on the device: copying uint8 from a GPU takes a quarter of the bytes of float32.
    return levels.to(torch.uint8 if dtype == np.uint8 else torch.int32).cpu().numpy()


def _upscale_alpha(alpha: Pixels, rows: Interval, scale: int) -> Pixels:
    """Upscale alpha by bicubic interpolation; a network would add texture to opaque regions."""
    seen = rows.widen(3, Interval(0, len(alpha)))
    part = np.ascontiguousarray(alpha[seen.start : seen.stop])
    size = part.shape[1] * scale, part.shape[0] * scale
    upscaled: Pixels = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC)
    return upscaled[rows.inside(seen, scale)]
