"""Make test sets in the layout of the benchmarks, `GTmod12` and `LRbicx4`, from HR images."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from srgan_plugin.data.resize import make_lr
from srgan_plugin.errors import UserError
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.atomic import remove_abandoned
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import image_shape, read_image, read_source_image
from srgan_plugin.io.writers import write_image

from .parallel import Progress, ordered_map

# GT of the common sets is cropped to multiples of 12, so x2, x3 and x4 use the same pixels.
MULTIPLE: Final = 12


def prepare_test_set(
    hr_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scales: Sequence[int] = (2, 3, 4),
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write `GTmod12` and `LRbicx2`, `LRbicx3`, `LRbicx4`; check existing images.

    LR is `make_lr` of the cropped HR image: MATLAB's bicubic in floating point, rounded once.
    Existing LR may differ from it by one grey level, which is MATLAB's error of rounding.

    Args:
        hr_dir: Folder with the HR images directly inside.
        out: Folder of the set, such as `data/Set5`; it may be `hr_dir`.
        scales: Factors by which LR is smaller, divisors of 12.
        workers: Number of processes; None for one on each processor.
        progress: Called with the number of images done and the total.

    Returns:
        The number of images.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: The folder has no images, an image is damaged or too small, an existing image
            differs, or a scale does not divide 12.
    """
    if wrong := [scale for scale in scales if scale < 1 or MULTIPLE % scale]:
        raise UserError(f"scales: expected divisors of {MULTIPLE}, got {wrong[0]}")
    # Not in folders below: `GTmod12` may be one of them.
    hr_images = list(list_images(hr_dir, nested=False).values())
    for path in hr_images:  # before writing, because a part would look like a complete set
        _check_size(path)
    for folder in ("GTmod12", *(f"LRbicx{scale}" for scale in scales)):
        remove_abandoned(Path(out) / folder)
    prepare_one = partial(_prepare_one, Path(out), tuple(scales))
    for _ in ordered_map(prepare_one, hr_images, workers, progress):
        pass
    return len(hr_images)


def _check_size(path: Path) -> None:
    height, width = image_shape(path)
    if min(height, width) < MULTIPLE:
        raise UserError(
            f"{path}: expected at least {MULTIPLE}x{MULTIPLE}, got {height}x{width} (height x "
            "width); remove the image from the set"
        )


def _prepare_one(out: Path, scales: Sequence[int], path: Path) -> None:
    hr = read_source_image(path)
    height, width = (size - size % MULTIPLE for size in hr.shape[:2])
    gt = hr[:height, :width]
    name = f"{path.stem}.png"
    _write_or_compare(out / "GTmod12" / name, gt, tolerance=0)
    for scale in scales:
        _write_or_compare(out / f"LRbicx{scale}" / name, make_lr(gt, scale), tolerance=1)


def _write_or_compare(path: Path, image: RGBArray, tolerance: int) -> None:
    if not path.exists():
        write_image(path, image)
        return
    existing = read_image(path)
    if existing.shape != image.shape or np.abs(existing.astype(int) - image).max() > tolerance:
        raise UserError(
            f"{path}: expected the image that its HR image gives, got another one; remove or move "
            "it"
        )
