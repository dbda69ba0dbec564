"""Find the images in the samples that metrics measure, check and convert them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import UserError


def find_image(sample: Any, key: str) -> Any:
    """Return an image of a sample, unchanged.

    The names and their order are those of MMagic's metrics: images may be in the dict
    `data_samples` of a sample, and an image may be a dict with the pixels as `data`.

    Raises:
        UserError: The sample has no such image, or is not a dict.
    """
    if not isinstance(sample, Mapping):
        raise UserError(f"{key}: expected a dict of images, got {type(sample).__name__}")
    for name in ("data_samples", key, "data"):
        if name in sample:
            found = sample[name]
            return find_image(found, key) if isinstance(found, Mapping) else found
    raise UserError(
        f"{key}: expected an image of this name, got {', '.join(map(str, sample)) or 'none'}; set "
        "gt_key or pred_key of the metric to the name in the sample"
    )


def to_hwc(image: Any, order: str, *, bgr: bool) -> NDArray[Any]:
    """Convert an image to RGB with the channels last.

    Args:
        image: Tensor or array with three channels, of any dtype: one image or frames (T, …). A GT
            image with fewer than three axes is returned unchanged.
        order: Order of the axes, "CHW" or "HWC".
        bgr: Whether the image is BGR.

    Returns:
        (H, W, 3) or (T, H, W, 3), in the range of `image`.
    """
    if isinstance(image, Tensor):
        image = image.float() if image.dtype == torch.bfloat16 else image  # NumPy has no bfloat16
        image = image.detach().cpu().numpy()
    array = np.asarray(image)
    if array.ndim < 3:
        return array
    hwc = np.moveaxis(array, -3, -1) if order == "CHW" else array
    return hwc[..., ::-1] if bgr else hwc


def check_shapes(pred: Any, gt: Any, order: str, *, full_reference: bool) -> None:
    """Raise `UserError` for images of wrong shapes, with the shapes as given.

    Args:
        pred: Prediction, one image or several frames.
        gt: GT image or frames.
        order: Order of the axes, "CHW" or "HWC".
        full_reference: Whether the images are compared, so that they must have one shape; else
            only the numbers of frames must be equal.
    """
    shape, gt_shape = tuple(np.shape(pred)), tuple(np.shape(gt))
    axis, expected = (-3, "(3, H, W)") if order == "CHW" else (-1, "(H, W, 3)")
    is_rgb = len(shape) in (3, 4) and shape[axis] == 3
    same = shape == gt_shape if full_reference else shape[:-3] == gt_shape[:-3]
    if not (is_rgb and same):
        either = f"{expected}, or frames (T, {expected[1:]}"
        expected = f"a prediction {either}, and GT with the same number of frames"
        hint = "convert both to RGB"
        if full_reference:
            expected, hint = f"two of one shape {either}", f"{hint} of one size"
        raise UserError(
            f"images: expected {expected}, got {shape} and {gt_shape}; {hint}, or set input_order"
        )
