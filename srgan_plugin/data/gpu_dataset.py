"""Training set in the memory of a device, with batches of crops gathered there.

Crops and flips are bit-identical to those of `read_batch`, from the same random numbers.
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

from srgan_plugin.io.array_types import Shape
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

# Samples gathered at once: fewer and larger kernels, for 50 MB of indices at GT 128.
BLOCK = 128


class SampleStreamSpec(NamedTuple):
    """The samples of a rank: numbers `start + rank`, `start + rank + world_size`, ….

    Args:
        seed: Seed of the stream.
        shuffle: Whether to permute the images in each epoch.
        start: First number of the run, for all ranks.
        rank: Rank of this process.
        world_size: Number of ranks.
    """

    seed: int
    shuffle: bool = True
    start: int = 0
    rank: int = 0
    world_size: int = 1


class GPUBatch(NamedTuple):
    """N samples on the device, RGB, uint8, contiguous.

    Args:
        lr: LR crops, (N, 3, S / scale, S / scale).
        gt: GT crops, (N, 3, S, S).
        indices: Index of the pair of each sample, (N,), on the CPU.
    """

    lr: Tensor
    gt: Tensor
    indices: Ints


def pixel_bytes(pairs: ImagePairs) -> int | None:
    """Return the number of bytes of all pixels, or None if that would need decoding."""
    if not pairs.shapes_known:
        return None
    return sum(int(np.prod(pair.lr.shape) + np.prod(pair.gt.shape)) for pair in pairs)


class GPUImagePairs:
    """All pairs of a set in the memory of a device.

    Args:
        pairs: The images; LR images that are computed from GT are computed completely.
        augmentation: Parameters of the augmentation.
        device: Device to keep the images on.

    Raises:
        UserError: An image cannot be read, or is smaller than the crop.
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
            deque(copies, maxlen=0)  # raises the exception of a thread

    def _copy(self, pairs: ImagePairs, index: int) -> None:
        pair = pairs[index]
        self._lr.put(index, pair.lr)
        self._gt.put(index, pair.gt)

    def batches(self, stream: SampleStreamSpec, batch_size: int) -> Iterator[GPUBatch]:
        """Yield an endless stream of batches without synchronising with the device.

        Args:
            stream: Samples to yield, in their order.
            batch_size: Samples in a batch of this rank.
        """
        size = max(BLOCK // batch_size, 1) * batch_size
        for block in count():
            positions = np.arange(block * size, (block + 1) * size)
            lr, gt, indices = self.gather(stream, positions)
            for first in range(0, size, batch_size):
                batch = slice(first, first + batch_size)
                yield GPUBatch(lr[batch], gt[batch], indices[batch])

    def gather(self, stream: SampleStreamSpec, positions: Ints) -> GPUBatch:
        """Gather the samples at these positions of the rank's part of the stream."""
        size, scale, *probabilities = self.augmentation
        lr_size = size // scale
        numbers = stream.start + stream.rank + stream.world_size * positions

        def random(decision: int) -> NDArray[np.float64]:
            return counter_uniform(stream.seed, numbers, decision)

        indices = image_indices(
            numbers, seed=stream.seed, length=len(self._lr_sizes), shuffle=stream.shuffle
        )
        offsets = self._lr_sizes[indices] - lr_size + 1
        top = (random(CROP_TOP) * offsets[:, 0]).astype(np.int64)
        left = (random(CROP_LEFT) * offsets[:, 1]).astype(np.int64)
        decisions = zip((HORIZONTAL_FLIP, VERTICAL_FLIP, TRANSPOSE), probabilities, strict=True)
        flips = [random(decision) < probability for decision, probability in decisions]
        return GPUBatch(
            self._lr.gather(indices, top, left, flips, lr_size),
            self._gt.gather(indices, top * scale, left * scale, flips, size),
            indices,
        )


class _FlatImages:
    """RGB images (H, W, 3) of any sizes, concatenated in one buffer on a device."""

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
        """Gather crops, flipped and transposed as by `augment.augment`.

        Args:
            indices: (N,), indices of the images.
            top: (N,), first row of each crop.
            left: (N,), first column of each crop.
            flips: Whether to flip columns, to flip rows and to transpose: three arrays (N,).
            size: Side of the crops, in pixels.

        Returns:
            RGB, (N, 3, size, size), uint8, on the device.
        """
        hflip, vflip, transpose = flips
        widths = self._widths[indices]
        first = (top + vflip * (size - 1)) * widths + left + hflip * (size - 1)
        down, right = np.where(vflip, -widths, widths), np.where(hflip, -1, 1)
        row, column = np.where(transpose, (right, down), (down, right))
        strides = np.stack([self._offsets[indices] + 3 * first, 3 * row, 3 * column])
        return self._gather_patches(_upload(strides, self._pixels.device), size)

    def _gather_patches(self, strides: Tensor, size: int) -> Tensor:
        """Gather pixels at first + y * row + x * column; `strides` has first, row and column."""
        first, row, column = strides[..., None]
        steps = torch.arange(size, device=strides.device)
        channels = torch.arange(3, device=strides.device)[:, None]
        rows = (first + row * steps)[:, None] + channels
        return self._pixels.take(rows[..., None] + (column * steps)[:, None, None])


def _upload(array: Ints, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
