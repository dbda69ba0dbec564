"""Run a generator's forward pass tile by tile, without a seam.

The work has two halves. At the image's own size most layers look at each other's surroundings
(35 pixels to each side in MSRResNet), but a pixel costs little memory; while it is upscaled a pixel
takes some 10 KB, but hardly looks around. So there are large tiles for the one half and, in each of
them, small ones for the other. Every tile sees all that its pixels depend on: what comes out is
what the network makes of the whole image, but for the order of floating-point sums.
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
    """Rows or columns of the LR image, `start` to before `stop`."""

    start: int
    stop: int

    def widened(self, by: int, limits: "Interval") -> "Interval":
        """With `by` more on both sides, as far as there are more."""
        return Interval(max(self.start - by, limits.start), min(self.stop + by, limits.stop))

    def inside(self, outer: "Interval", scale: int = 1) -> slice:
        """Where it lies in an array that begins where `outer` does, upscaled `scale` times."""
        return slice((self.start - outer.start) * scale, (self.stop - outer.start) * scale)

    def parts(self, largest: int) -> list["Interval"]:
        """Cut into parts of nearly the same size, none above `largest`."""
        size = self.stop - self.start
        count = -(-size // largest)
        edges = [self.start + size * i // count for i in range(count + 1)]
        return [Interval(*ends) for ends in pairwise(edges)]


def _transformed(
    symmetry: Symmetry, rows: Interval, columns: Interval, height: int, width: int
) -> tuple[Interval, Interval]:
    """Return where a window of an image lies in the transformed image."""
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
    """Upscale a window eight times, flipped and transposed, and return the mean (EDSR's x8).

    Args, result and errors are those of `upscale_tile`.
    """
    height, width = image.shape[2:]
    total: Tensor | None = None

    def report(number: int, share: float) -> None:
        progress((number + share) / len(SYMMETRIES))

    for number, symmetry in enumerate(SYMMETRIES):
        part = upscale_tile(
            backend,
            symmetry.apply(image),
            *_transformed(symmetry, rows, columns, height, width),
            inner=inner,
            progress=partial(report, number),
        )
        part = symmetry.undo(part).float()
        total = part if total is None else total.add_(part)
    assert total is not None
    return total.div_(len(SYMMETRIES))


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
    """Upscale a window of an image to what it is in the upscaled whole image.

    Args:
        backend: The network, ready to run.
        image: The whole LR image, RGB in [0, 1], (1, 3, H, W), anywhere; what is needed of it
            goes to the backend's device and type.
        rows: Of the window.
        columns: Of the window.
        inner: Largest side of the tiles in which the memory-hungry half is done, in LR pixels.
        progress: Called with the share of the work that is done.

    Returns:
        RGB, clamped to [0, 1], (3, rows x scale, columns x scale), where the backend computes.

    Raises:
        UserError: The result is not finite.
        torch.OutOfMemoryError: The window, or `inner`, is too large for the device.
    """
    far, near = backend.receptive_radius
    height, width = Interval(0, image.shape[2]), Interval(0, image.shape[3])
    around = rows.widened(far + near, height), columns.widened(far + near, width)
    window = image[..., around[0].start : around[0].stop, around[1].start : around[1].stop]
    x = backend.to_device(window)
    features = backend.extract_features(x)
    scale = backend.upscale_factor
    out = x.new_empty(3, (rows.stop - rows.start) * scale, (columns.stop - columns.start) * scale)
    tiles = list(product(rows.parts(inner), columns.parts(inner)))
    for number, (some_rows, some_columns) in enumerate(tiles):
        progress((1 + number / len(tiles)) / 2)  # the halves take about as long
        seen = some_rows.widened(near, height), some_columns.widened(near, width)
        cut = slice(None), slice(None), seen[0].inside(around[0]), seen[1].inside(around[1])
        sr = backend.reconstruct(features[cut], x[cut])[0]
        sr = sr[:, some_rows.inside(seen[0], scale), some_columns.inside(seen[1], scale)]
        out[:, some_rows.inside(rows, scale), some_columns.inside(columns, scale)] = sr
    if not out.isfinite().all():
        raise UserError(
            f"{backend.network_name}: expected finite pixels, got NaN or infinite ones in "
            f"{out.dtype}; "
            + ("use float32" if out.dtype == torch.float16 else "the weights are damaged")
        )
    return out.clamp_(0, 1)
