"""Crop, flip and transpose LR/HR pairs, one by one or as whole batches."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.errors import UserError
from srgan_plugin.io.images import Image
from srgan_plugin.io.lazy_image import LazyImage

from .pairs import ImagePairs
from .sampling import (
    HORIZONTAL_FLIP,
    TRANSPOSE,
    VERTICAL_FLIP,
    SampleIndex,
    counter_uniform,
    random_window,
)


class AugmentationParams(NamedTuple):
    """What is done to each pair: crop, flip columns, flip rows, transpose, in this order.

    Args:
        gt_patch_size: Side of the crop in the ground truth, in pixels.
        scale: How many times larger the ground truth is.
        hflip: Probability that left and right are swapped.
        vflip: Probability that top and bottom are swapped.
        transpose: Probability that rows and columns are swapped.
    """

    gt_patch_size: int
    scale: int
    hflip: float = 0.0
    vflip: float = 0.0
    transpose: float = 0.0


class Names(NamedTuple):
    """What the images of a pair are called."""

    key: str
    lr: str
    gt: str


class Batch(NamedTuple):
    """N samples: uint8, RGB; the channels of a pixel lie together, as torch's `channels_last`.

    Args:
        lr: Low resolution, (N, 3, S / scale, S / scale).
        gt: Ground truth, (N, 3, S, S).
        names: Of each sample's pair.
    """

    lr: Image
    gt: Image
    names: list[Names]


def read_batch(
    pairs: ImagePairs, sample_indices: Sequence[SampleIndex], augmentation: AugmentationParams
) -> Batch:
    """Read a batch of samples, each as `crop_pair` and `augment` make it.

    Args:
        pairs: The images.
        sample_indices: The samples.
        augmentation: What becomes of each.

    Raises:
        ValueError: As `crop_pair`, or if an image cannot be read.
    """
    size, scale, *probabilities = augmentation
    lr = np.empty((len(sample_indices), size // scale, size // scale, 3), np.uint8)
    gt = np.empty((len(sample_indices), size, size, 3), np.uint8)
    names = []
    for number, sample_index in enumerate(sample_indices):
        pair = pairs[sample_index]
        lr_crop, gt_crop = crop_pair(pair.lr, pair.gt, size, scale, sample_index, pair.gt.name)
        flips = random_flips(sample_index, *probabilities)
        augment(lr_crop, *flips, out=lr[number])
        augment(gt_crop, *flips, out=gt[number])
        names.append(Names(pair.key, pair.lr.name, pair.gt.name))
    return Batch(lr.transpose(0, 3, 1, 2), gt.transpose(0, 3, 1, 2), names)


_FLIP_CODES: Final = {(True, False): 1, (False, True): 0, (True, True): -1}


def random_flips(
    sample_index: SampleIndex, p_h: float, p_v: float, p_t: float
) -> tuple[bool, bool, bool]:
    """Whether the sample is flipped horizontally, vertically, and transposed, by probabilities."""
    return (
        counter_uniform(sample_index.seed, sample_index.number, HORIZONTAL_FLIP) < p_h,
        counter_uniform(sample_index.seed, sample_index.number, VERTICAL_FLIP) < p_v,
        counter_uniform(sample_index.seed, sample_index.number, TRANSPOSE) < p_t,
    )


def crop_pair(
    lr: LazyImage | Image,
    gt: LazyImage | Image,
    gt_patch_size: int,
    scale: int,
    sample_index: SampleIndex,
    name: str,
) -> tuple[Image, Image]:
    """Cuts the sample's crop out of both images of a pair.

    Args:
        lr: The LR image, (h, w, 3), uint8, RGB; anything that is read when sliced.
        gt: The ground truth, `scale` times larger.
        gt_patch_size: Side of the crop in the ground truth, in pixels.
        scale: How many times larger the ground truth is.
        sample_index: The sample.
        name: What to call the pair in an error.

    Returns:
        The crops, low resolution first: (S / scale, S / scale, 3) and (S, S, 3), uint8, RGB.

    Raises:
        ValueError: If the scale does not divide the crop, the sizes do not fit, or the image is
            smaller than the crop.
    """
    size = check_crop(lr.shape, gt.shape, gt_patch_size, scale, name)
    height, width = lr.shape[:2]
    top, left = random_window(sample_index, height, width, size)
    return lr[_square(top, left, size)], gt[_square(top, left, size, scale)]


def check_crop(
    lr_shape: tuple[int, ...], gt_shape: tuple[int, ...], gt_patch_size: int, scale: int, name: str
) -> int:
    """Refuses a crop that cannot be cut out of a pair of these shapes; see `crop_pair`.

    Returns:
        The side of the crop in the LR image.
    """
    size, rest = divmod(gt_patch_size, scale)
    if rest or size < 1:
        raise UserError(
            f"expected a crop size that is a multiple of the scale {scale}, but got "
            f"{gt_patch_size}: use {max(size, 1) * scale}"
        )
    (height, width), (gt_height, gt_width) = lr_shape[:2], gt_shape[:2]
    if (gt_height, gt_width) != (height * scale, width * scale):
        raise UserError(
            f"{name} is {gt_height}x{gt_width}, which is not {scale} times the {height}x{width} of "
            "its LR: remake the LR or change the scale"
        )
    if min(height, width) < size:
        raise UserError(
            f"{name} is {gt_height}x{gt_width}, smaller than the crop of "
            f"{gt_patch_size}x{gt_patch_size}: remove it or use a smaller crop"
        )
    return size


def augment(
    image: Image, hflip: bool, vflip: bool, transpose: bool, out: Image | None = None
) -> Image:
    """Flips columns, flips rows, then swaps rows and columns: (H, W, 3) in, contiguous out.

    Args:
        image: What is turned; it may come back itself.
        hflip: Whether left and right are swapped.
        vflip: Whether top and bottom are.
        transpose: Whether rows and columns are.
        out: Where the result goes: contiguous, uint8, of the result's shape.
    """
    # OpenCV is ten times faster than copying NumPy's views.
    if hflip or vflip:
        image = cv2.flip(image, _FLIP_CODES[hflip, vflip], None if transpose else out)
    if transpose:
        image = cv2.transpose(image, out)
    if out is None:
        return np.ascontiguousarray(image)
    if not (hflip or vflip or transpose):
        out[:] = image
        return out
    assert image is out, "OpenCV writes elsewhere when `out` does not fit"
    return image


def _square(top: int, left: int, size: int, scale: int = 1) -> tuple[slice, slice]:
    return (
        slice(top * scale, (top + size) * scale),
        slice(left * scale, (left + size) * scale),
    )
