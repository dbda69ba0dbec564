"""Run a generator's forward pass tile by tile, without seams.

The forward pass has two halves with different needs. Feature extraction, at LR size, has a large
receptive field (33 pixels to each side in MSRResNet) and needs little memory for each pixel.
Reconstruction, during and after upsampling, has a small receptive field and needs about 10 KB for
each LR pixel. Large tiles are therefore used for the first half and, inside each of them, small
tiles for the second. Every tile is padded with all pixels in the receptive field of its result, so
the result equals that for the complete image up to the order of floating-point sums.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks.self_ensemble import SYMMETRIES, Symmetry

from .backends.base import Backend


class Interval(NamedTuple):
    """Half-open interval of rows or columns of the LR image, `[start, stop)`."""

    start: int
    stop: int

    def widen(self, by: int, limits: "Interval") -> "Interval":
        """Return the interval extended by `by` on both sides, clipped to `limits`."""
        return Interval(max(self.start - by, limits.start), min(self.stop + by, limits.stop))

    def inside(self, outer: "Interval", scale: int = 1) -> slice:
        """Return the slice of this interval in an array of `outer`, upscaled by `scale`."""
        return slice((self.start - outer.start) * scale, (self.stop - outer.start) * scale)

    def parts(self, largest: int) -> list["Interval"]:
        """Divide into intervals of nearly the same size, none longer than `largest`."""
        size = self.stop - self.start
        count = -(-size // largest)
        edges = [self.start + size * i // count for i in range(count + 1)]
        return [Interval(*ends) for ends in pairwise(edges)]


def _transform_tile(
    symmetry: Symmetry, rows: Interval, columns: Interval, height: int, width: int
) -> tuple[Interval, Interval]:
    """Return the rows and columns of a large tile after `symmetry` is applied to the image."""
    if symmetry.flip_rows:
        rows = Interval(height - rows.stop, height - rows.start)
    if symmetry.flip_columns:
        columns = Interval(width - columns.stop, width - columns.start)
    return (columns, rows) if symmetry.transpose else (rows, columns)


@torch.inference_mode()
def upscale_tile_ensemble(
    backend: Backend,
    image: Tensor,
    rows: Interval,
    columns: Interval,
    *,
    inner: int,
    progress: Callable[[float], None],
) -> Tensor:
    """Upscale one large tile in the eight flips and transposes of the image, and return the mean.

    This is the x8 self-ensemble of EDSR (Lim et al. 2017). As there and in
    `networks.self_ensemble`, the mean is clamped, not each of the eight results.

    Args:
        backend: See `upscale_tile`.
        image: See `upscale_tile`.
        rows: See `upscale_tile`.
        columns: See `upscale_tile`.
        inner: See `upscale_tile`.
        progress: See `upscale_tile`; called for each of the eight, with the fraction of all.

    Returns:
        See `upscale_tile`, but always float32.

    Raises:
        UserError: See `upscale_tile`.
        torch.OutOfMemoryError: See `upscale_tile`, also on other errors.
    """
    height, width = image.shape[2:]
    total: Tensor | None = None

    def report(number: int, share: float) -> None:
        progress((number + share) / len(SYMMETRIES))

    for number, symmetry in enumerate(SYMMETRIES):
        part = _run_tile(
            backend,
            symmetry.apply(image),
            *_transform_tile(symmetry, rows, columns, height, width),
            inner=inner,
            progress=partial(report, number),
        )
        part = symmetry.undo(part).float()
        total = part if total is None else total.add_(part)
    assert total is not None
    return total.div_(len(SYMMETRIES)).clamp_(0, 1)


@torch.inference_mode()
def upscale_tile(
    backend: Backend,
    image: Tensor,
    rows: Interval,
    columns: Interval,
    *,
    inner: int,
    progress: Callable[[float], None],
) -> Tensor:
    """Upscale one large tile of an image, using the pixels around it as context.

    Args:
        backend: Network on its runtime and device.
        image: Complete LR image, RGB in [0, 1], (1, 3, H, W), float32, on any device for backend
            torch, on the CPU for others. Only the tile and the pixels around it are copied to the
            device and dtype of the backend.
        rows: Rows of the tile.
        columns: Columns of the tile.
        inner: Largest side of a small tile, for the second half of the network, in LR pixels.
        progress: Called before each small tile with the fraction of the large one that is done,
            in [0.5, 1).

    Returns:
        The part of the upscaled image that belongs to the tile: RGB clamped to [0, 1],
        (3, rows x scale, columns x scale), float32 or float16. For backend torch it is on the
        device of the backend, for others on the CPU.

    Raises:
        UserError: The result is not finite.
        torch.OutOfMemoryError: The tile or `inner` is too large for a GPU. On a CPU torch raises a
            RuntimeError, other backends errors of their runtime; see `Backend.is_out_of_memory`.
    """
    return _run_tile(backend, image, rows, columns, inner=inner, progress=progress).clamp_(0, 1)


def _run_tile(
    backend: Backend,
    image: Tensor,
    rows: Interval,
    columns: Interval,
    *,
    inner: int,
    progress: Callable[[float], None],
) -> Tensor:
    """Return the result of `upscale_tile` before clamping."""
    far, near = backend.receptive_radius
    height, width = Interval(0, image.shape[2]), Interval(0, image.shape[3])
    padded = rows.widen(far + near, height), columns.widen(far + near, width)
    window = image[..., padded[0].start : padded[0].stop, padded[1].start : padded[1].stop]
    x = backend.to_device(window)
    features = backend.extract_features(x)
    scale = backend.upscale_factor
    out = x.new_empty(3, (rows.stop - rows.start) * scale, (columns.stop - columns.start) * scale)
    tiles = list(product(rows.parts(inner), columns.parts(inner)))
    for number, (tile_rows, tile_columns) in enumerate(tiles):
        progress((1 + number / len(tiles)) / 2)  # both halves take about the same time
        seen = tile_rows.widen(near, height), tile_columns.widen(near, width)
        crop = slice(None), slice(None), seen[0].inside(padded[0]), seen[1].inside(padded[1])
        sr = backend.reconstruct(features[crop], x[crop])[0]
        sr = sr[:, tile_rows.inside(seen[0], scale), tile_columns.inside(seen[1], scale)]
        out[:, tile_rows.inside(rows, scale), tile_columns.inside(columns, scale)] = sr
    if not out.isfinite().all():
        raise UserError(
            f"{backend.network_name}: expected finite pixels, got NaN or infinite ones in "
            f"{backend.dtype}; "
            + ("use float32" if backend.dtype == torch.float16 else "the weights are damaged")
        )
    return out
