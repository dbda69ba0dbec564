"""A training set that lives on a device, where whole batches of crops are gathered at once.

The crops and flips are those of `read_batch`, bit for bit: the same numbers decide.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.io.images import Shape
from srgan_plugin.io.lazy_image import LazyImage

from .augment import AugmentationParams, check_crop
from .pairs import ImagePairs
from .sampling import (
    CROP_LEFT,
    CROP_TOP,
    HORIZONTAL_FLIP,
    TRANSPOSE,
    VERTICAL_FLIP,
    counter_uniform,
    image_indices,
)

Ints = NDArray[np.int64]

# Samples that are gathered together: fewer, larger kernels, for 50 MB of indices at GT 128.
BLOCK = 128


class SampleStreamSpec(NamedTuple):
    """Which samples a rank takes from the stream, in which order.

    Args:
        seed: The stream's.
        shuffle: Whether passes over the set are permuted.
        start: The first number of the whole run.
        rank: Takes the numbers `start + rank`, `start + rank + world_size`, ….
        world_size: How many ranks share the stream.
    """

    seed: int
    shuffle: bool = True
    start: int = 0
    rank: int = 0
    world_size: int = 1


class GPUBatch(NamedTuple):
    """N samples on the device: contiguous, uint8, RGB.

    Args:
        lr: Low resolution, (N, 3, S / scale, S / scale).
        gt: Ground truth, (N, 3, S, S).
        indices: Which pair each sample comes from; (N,), on the CPU.
    """

    lr: Tensor
    gt: Tensor
    indices: Ints


def pixel_bytes(pairs: ImagePairs) -> int | None:
    """Return the bytes of all pairs' pixels; None where that takes decoding."""
    if not pairs.shapes_known:
        return None
    return sum(int(np.prod(pair.lr.shape) + np.prod(pair.gt.shape)) for pair in pairs)


class GPUImagePairs:
    """All pairs of a set on a device.

    Args:
        pairs: The images. Low-resolution ones that are made of the ground truth are made whole.
        augmentation: What becomes of each sample.
        device: Where to.

    Raises:
        ValueError: If an image cannot be read, or is smaller than the crop.
    """

    def __init__(
        self, pairs: ImagePairs, augmentation: AugmentationParams, device: torch.device
    ) -> None:
        self.augmentation = augmentation
        for pair in pairs:
            shapes = pair.lr.shape, pair.gt.shape
            check_crop(*shapes, augmentation.gt_patch_size, augmentation.scale, pair.gt.name)
        self._lr_sizes = np.array([pair.lr.shape[:2] for pair in pairs], np.int64)
        self._lr = _FlatImages([pair.lr.shape for pair in pairs], device)
        self._gt = _FlatImages([pair.gt.shape for pair in pairs], device)
        with ThreadPoolExecutor() as pool:
            copies = pool.map(lambda index: self._copy(pairs, index), range(len(pairs)))
            deque(copies, maxlen=0)  # raises what a thread raised

    def _copy(self, pairs: ImagePairs, index: int) -> None:
        pair = pairs[index]
        self._lr.put(index, pair.lr)
        self._gt.put(index, pair.gt)

    def batches(self, stream: SampleStreamSpec, batch_size: int) -> Iterator[GPUBatch]:
        """Yield the endless stream of batches without synchronising with the device.

        Args:
            stream: Which samples.
            batch_size: Samples in a batch, of this rank.
        """
        size = max(BLOCK // batch_size, 1) * batch_size
        for block in count():
            places = np.arange(block * size, (block + 1) * size)
            lr, gt, indices = self.gather(stream, places)
            for first in range(0, size, batch_size):
                batch = slice(first, first + batch_size)
                yield GPUBatch(lr[batch], gt[batch], indices[batch])

    def gather(self, stream: SampleStreamSpec, places: Ints) -> GPUBatch:
        """Cuts the samples that stand at these places of the rank's part of the stream."""
        size, scale, *probabilities = self.augmentation
        lr_size = size // scale
        numbers = stream.start + stream.rank + stream.world_size * places

        def random(decision: int) -> NDArray[np.float64]:
            return counter_uniform(stream.seed, numbers, decision)

        indices = image_indices(
            numbers, seed=stream.seed, length=len(self._lr_sizes), shuffle=stream.shuffle
        )
        room = self._lr_sizes[indices] - lr_size + 1
        top = (random(CROP_TOP) * room[:, 0]).astype(np.int64)
        left = (random(CROP_LEFT) * room[:, 1]).astype(np.int64)
        decisions = zip((HORIZONTAL_FLIP, VERTICAL_FLIP, TRANSPOSE), probabilities, strict=True)
        flips = [random(decision) < probability for decision, probability in decisions]
        return GPUBatch(
            self._lr.gather(indices, top, left, flips, lr_size),
            self._gt.gather(indices, top * scale, left * scale, flips, size),
            indices,
        )


class _FlatImages:
    """RGB images of any sizes, (H, W, 3), one after the other in one buffer on a device."""

    def __init__(self, shapes: Sequence[Shape], device: torch.device) -> None:
        sizes = np.array([np.prod(shape) for shape in shapes], np.int64)
        self._offsets = np.cumsum(sizes) - sizes
        self._widths = np.array([width for _, width, _ in shapes], np.int64)
        self._pixels = torch.empty(int(sizes.sum()), dtype=torch.uint8, device=device)

    def put(self, index: int, image: LazyImage) -> None:
        pixels = torch.from_numpy(np.asarray(image)).flatten()
        start = int(self._offsets[index])
        self._pixels[start : start + len(pixels)].copy_(pixels)

    def gather(
        self, indices: Ints, top: Ints, left: Ints, flips: Sequence[NDArray[np.bool_]], size: int
    ) -> Tensor:
        """Crops, flipped and transposed as `augment` does, (N, 3, size, size), uint8."""
        hflip, vflip, transpose = flips
        widths = self._widths[indices]
        first = (top + vflip * (size - 1)) * widths + left + hflip * (size - 1)
        down, right = np.where(vflip, -widths, widths), np.where(hflip, -1, 1)
        row, column = np.where(transpose, (right, down), (down, right))
        walk = np.stack([self._offsets[indices] + 3 * first, 3 * row, 3 * column])
        return self._gather_patches(_upload(walk, self._pixels.device), size)

    def _gather_patches(self, walk: Tensor, size: int) -> Tensor:
        """Gather values at first + y * row + x * column + channel (`walk`: first, row, column)."""
        first, row, column = walk[..., None]
        steps = torch.arange(size, device=walk.device)
        channels = torch.arange(3, device=walk.device)[:, None]
        rows = (first + row * steps)[:, None] + channels
        return self._pixels.take(rows[..., None] + (column * steps)[:, None, None])


def _upload(array: Ints, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
