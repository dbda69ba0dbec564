"""Test sets in the layout of the benchmarks, `GTmod12` and `LRbicx4`, out of HR photographs."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from srgan_plugin.data.resize import make_lr
from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import remove_abandoned
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import Image, image_shape, read_image, read_source_image
from srgan_plugin.io.writers import write_image

from .parallel import Progress, ordered_map

# GT of the usual sets is cropped to multiples of 12, so that x2, x3 and x4 see the same pixels.
MULTIPLE: Final = 12


def prepare_test_set(
    hr_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scales: Sequence[int] = (2, 3, 4),
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write `GTmod12` and `LRbicx2`, `LRbicx3`, `LRbicx4`; check those that exist.

    LR is `make_lr` of the cropped photograph: MATLAB's bicubic in floating point, rounded once.
    Given LR may differ from it by one grey level, as MATLAB's own last bit does.

    Args:
        hr_dir: The photographs, right in this folder.
        out: The set's folder, such as `data/Set5`; `hr_dir` itself is fine.
        scales: How many times smaller the LR is.
        workers: Processes. None: one for each processor.
        progress: Called with the numbers of photographs done and in all.

    Returns:
        The number of photographs.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it holds no photograph, if one is broken, too small or does not fit what is
            there already, or if 12 is no multiple of a scale.
    """
    if wrong := [scale for scale in scales if scale < 1 or MULTIPLE % scale]:
        raise UserError(f"expected scales that divide {MULTIPLE}, got {wrong[0]}")
    # Not of folders below: `GTmod12` may be one of them.
    photographs = list(list_images(hr_dir, nested=False).values())
    for photograph in photographs:  # before any is written: a part looks like a complete set
        _check_size(photograph)
    for folder in ("GTmod12", *(f"LRbicx{scale}" for scale in scales)):
        remove_abandoned(Path(out) / folder)
    prepare_one = partial(_prepare_one, Path(out), tuple(scales))
    for _ in ordered_map(prepare_one, photographs, workers, progress):
        pass
    return len(photographs)


def _check_size(photograph: Path) -> None:
    if min(image_shape(photograph)) < MULTIPLE:
        raise UserError(
            f"{photograph} is smaller than {MULTIPLE}x{MULTIPLE}: take it out of the set"
        )


def _prepare_one(out: Path, scales: Sequence[int], photograph: Path) -> None:
    whole = read_source_image(photograph)
    height, width = (size - size % MULTIPLE for size in whole.shape[:2])
    gt = whole[:height, :width]
    name = f"{photograph.stem}.png"
    _write_or_compare(out / "GTmod12" / name, gt, tolerance=0)
    for scale in scales:
        _write_or_compare(out / f"LRbicx{scale}" / name, make_lr(gt, scale), tolerance=1)


def _write_or_compare(path: Path, image: Image, tolerance: int) -> None:
    if not path.exists():
        write_image(path, image)
        return
    there = read_image(path)
    if there.shape != image.shape or np.abs(there.astype(int) - image).max() > tolerance:
        raise UserError(
            f"{path} is there already and is not what its photograph gives: remove it or keep it "
            "apart"
        )
