"""Crop, flip and transpose LR/GT pairs, one by one or as batches."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.errors import UserError, check_count
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.lazy_image import LazyImage
from srgan_plugin.io.lmdb_store import map_pixels

from .pairs import ImagePairs, size_advice
from .sampling import (
    CROP_LEFT,
    CROP_TOP,
    HORIZONTAL_FLIP,
    TRANSPOSE,
    VERTICAL_FLIP,
    SampleIndex,
    counter_uniform,
    place_window,
    random_window,
    sample_uniforms,
)


class AugmentationParams(NamedTuple):
    """Parameters of the augmentation: crop, flip left-right, flip top-bottom, transpose, in order.

    Args:
        gt_patch_size: Side of the GT crop, in pixels.
        scale: GT size over LR size.
        hflip: Probability of a left-right flip.
        vflip: Probability of a top-bottom flip.
        transpose: Probability of swapping rows and columns.
    """

    gt_patch_size: int
    scale: int
    hflip: float = 0.0
    vflip: float = 0.0
    transpose: float = 0.0


class Names(NamedTuple):
    """Key of a pair, and names of its images for messages."""

    key: str
    lr: str
    gt: str


class Batch(NamedTuple):
    """N samples, RGB, uint8, in the memory layout of torch's `channels_last`.

    Args:
        lr: LR crops, (N, 3, S / scale, S / scale).
        gt: GT crops, (N, 3, S, S).
        names: Names of the pair of each sample.
    """

    lr: RGBArray
    gt: RGBArray
    names: list[Names]


def read_batch(
    pairs: ImagePairs, sample_indices: Sequence[SampleIndex], augmentation: AugmentationParams
) -> Batch:
    """Read a batch of samples, cropped by `crop_pair` and flipped by `augment`.

    Args:
        pairs: Pairs of images to read.
        sample_indices: Indices of the samples, with the seeds of their random numbers.
        augmentation: Parameters of the augmentation.

    Returns:
        Names and images of the samples, in the order of `sample_indices`.

    Raises:
        UserError: An image cannot be read, or `crop_pair` raises.
    """
    size, scale, *probabilities = augmentation
    check_count(1, gt_patch_size=size)
    lr = np.empty((len(sample_indices), size // scale, size // scale, 3), np.uint8)
    gt = np.empty((len(sample_indices), size, size, 3), np.uint8)
    names = []
    chances = sample_uniforms(sample_indices)
    taken = chances[_FLIPS] < np.array(probabilities)[:, None]
    flips: list[tuple[bool, bool, bool]] = taken.T.tolist()
    places: list[tuple[float, float]] = chances[[CROP_TOP, CROP_LEFT]].T.tolist()
    for number, sample_index in enumerate(sample_indices):
        pair = pairs[sample_index]
        # Windows of a mapped file are flipped into the batch directly, without a copy in between.
        small, large = map_pixels(pair.lr), map_pixels(pair.gt)
        side = check_crop(small.shape, large.shape, size, scale, pair.gt.name)
        height, width, _ = small.shape
        top, left = place_window(*places[number], height, width, side)
        augment(small[_square(top, left, side)], *flips[number], out=lr[number])
        augment(large[_square(top, left, side, scale)], *flips[number], out=gt[number])
        names.append(Names(pair.key, pair.lr.name, pair.gt.name))
    return Batch(lr.transpose(0, 3, 1, 2), gt.transpose(0, 3, 1, 2), names)


_FLIPS: Final = [HORIZONTAL_FLIP, VERTICAL_FLIP, TRANSPOSE]
_FLIP_CODES: Final = {(True, False): 1, (False, True): 0, (True, True): -1}


def random_flips(
    sample_index: SampleIndex, p_h: float, p_v: float, p_t: float
) -> tuple[bool, bool, bool]:
    """Return whether to flip a sample left-right, top-bottom, and to transpose it, at random.

    Args:
        sample_index: Index of the sample, with the seed of its random numbers.
        p_h: Probability of a left-right flip, 0 to 1.
        p_v: Probability of a top-bottom flip, 0 to 1.
        p_t: Probability of transposing, 0 to 1.
    """
    return (
        counter_uniform(sample_index.seed, sample_index.number, HORIZONTAL_FLIP) < p_h,
        counter_uniform(sample_index.seed, sample_index.number, VERTICAL_FLIP) < p_v,
        counter_uniform(sample_index.seed, sample_index.number, TRANSPOSE) < p_t,
    )


def crop_pair(
    lr: LazyImage | RGBArray,
    gt: LazyImage | RGBArray,
    gt_patch_size: int,
    scale: int,
    sample_index: SampleIndex,
    name: str,
) -> tuple[RGBArray, RGBArray]:
    """Crop both images of a pair at the position of the sample.

    Args:
        lr: LR image, RGB, (h, w, 3), uint8; an array or a lazy image.
        gt: GT image, RGB, (scale h, scale w, 3), uint8.
        gt_patch_size: Side S of the GT crop, in pixels.
        scale: GT size over LR size.
        sample_index: Index of the sample, with the seed of its random numbers.
        name: Name of the GT image or of the pair, with which messages begin.

    Returns:
        LR crop (S / scale, S / scale, 3) and GT crop (S, S, 3), RGB, uint8: views of arrays, copies
        of lazy images.

    Raises:
        UserError: S is not a multiple of the scale, GT is not `scale` times as large as LR, or the
            image is smaller than the crop.
    """
    size = check_crop(lr.shape, gt.shape, gt_patch_size, scale, name)
    height, width = lr.shape[:2]
    top, left = random_window(sample_index, height, width, size)
    return lr[_square(top, left, size)], gt[_square(top, left, size, scale)]


def check_crop(
    lr_shape: tuple[int, ...], gt_shape: tuple[int, ...], gt_patch_size: int, scale: int, name: str
) -> int:
    """Raise `UserError` if a crop does not fit into a pair of images of these shapes.

    Args:
        lr_shape: Shape of the LR image, (h, w, 3).
        gt_shape: Shape of the GT image, (H, W, 3).
        gt_patch_size: Side of the GT crop, in pixels.
        scale: GT size over LR size.
        name: Name of the GT image or of the pair, with which messages begin.

    Returns:
        The side of the crop in the LR image.

    Raises:
        UserError: See `crop_pair`.
    """
    size, rest = divmod(gt_patch_size, scale)
    if rest or size < 1:
        raise UserError(
            f"gt_patch_size: expected a multiple of the scale {scale}, got {gt_patch_size}; use "
            f"{max(size, 1) * scale}"
        )
    (height, width), (gt_height, gt_width) = lr_shape[:2], gt_shape[:2]
    if (gt_height, gt_width) != (height * scale, width * scale):
        raise UserError(
            f"{name}: expected {height * scale}x{width * scale}, {scale} times its LR of "
            f"{height}x{width}, got {gt_height}x{gt_width} (height x width); "
            f"{size_advice(height, gt_height)}"
        )
    if min(height, width) < size:
        raise UserError(
            f"{name}: expected at least the crop's {gt_patch_size}x{gt_patch_size}, got "
            f"{gt_height}x{gt_width} (height x width); remove the image or use a smaller crop"
        )
    return size


def augment(
    image: RGBArray, hflip: bool, vflip: bool, transpose: bool, out: RGBArray | None = None
) -> RGBArray:
    """Flip left-right, flip top-bottom, then swap rows and columns.

    Args:
        image: (H, W, 3), uint8.
        hflip: Whether to flip left-right.
        vflip: Whether to flip top-bottom.
        transpose: Whether to swap rows and columns.
        out: Array for the result, contiguous, uint8, of its shape; None to allocate one.

    Returns:
        The result, contiguous; `image` itself if nothing changes and it is contiguous.
    """
    # OpenCV is 11 times as fast as copying NumPy's flipped views.
    if hflip or vflip:
        image = cv2.flip(image, _FLIP_CODES[hflip, vflip], None if transpose else out)
    if transpose:
        # Copied first, row by row: a transpose reads columns, and each row of a mapped file may be
        # on another page.
        image = cv2.transpose(np.ascontiguousarray(image), out)
    if out is None:
        return np.ascontiguousarray(image)
    if not (hflip or vflip or transpose):
        assert out.shape == image.shape, (out.shape, image.shape)
        out[:] = image
        return out
    assert image is out, "OpenCV allocates another array if `out` has the wrong shape"
    return image


def _square(top: int, left: int, size: int, scale: int = 1) -> tuple[slice, slice]:
    return (
        slice(top * scale, (top + size) * scale),
        slice(left * scale, (left + size) * scale),
    )
