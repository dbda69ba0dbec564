"""DIV2K cut into overlapping sub-images, with the names and lists that BasicSR and MMagic read."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import write_text
from srgan_plugin.io.images import header_shape, image_shape
from srgan_plugin.io.lazy_image import Window
from srgan_plugin.io.writers import write_image

from .div2k import DIV2KImage, read_div2k_image
from .parallel import Progress, ordered_map

CROP: Final = 480
STEP: Final = 240


def crop_offsets(size: int, crop: int = CROP, step: int = STEP) -> list[int]:
    """Where the crops along one axis begin: every `step` pixels, and one that ends at the edge.

    Raises:
        ValueError: If the axis is shorter than a crop.
    """
    if size < crop:
        raise UserError(f"expected at least {crop} pixels, got {size}: leave the picture out")
    regular = list(range(0, size - crop + 1, step))
    return regular if regular[-1] + crop == size else [*regular, size - crop]


def subimage_dir(root: Path, scale: int) -> Path:
    """Where the published configs look for sub-images; scale 1 is the ground truth."""
    kind = "HR_sub" if scale == 1 else f"LR_bicubic/X{scale}_sub"
    return root / f"DIV2K_train_{kind}"


def cut_subimages(
    sources: Sequence[DIV2KImage],
    root: Path,
    list_name: str,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Cuts photographs into 480x480 and their low-resolution pictures alike, and lists them.

    The list appears last. Pictures whose sub-images are there already are not decoded again.

    Args:
        sources: The photographs.
        root: The folder `DIV2K`, which gets `DIV2K_train_HR_sub` and so on.
        list_name: The list's file name, such as `meta_info_DIV2K800sub_GT.txt`.
        workers: Processes. None: one for each processor.
        progress: Called with the numbers of photographs done and in all.

    Returns:
        The number of sub-images.

    Raises:
        ValueError: If a picture is broken, too small, or does not fit its photograph.
        OSError: If the disk is full; running it again goes on.
    """
    cut = partial(_cut, root)
    names = [name for names in ordered_map(cut, sources, workers, progress) for name in names]
    write_text("".join(f"{name} ({CROP},{CROP},3)\n" for name in names), root / list_name)
    return len(names)


def _cut(root: Path, source: DIV2KImage) -> list[str]:
    """Writes the sub-images of one photograph that are missing; returns the names of all."""
    windows = _windows(source.hr)
    names = [f"{source.key}_s{number:03d}.png" for number in range(1, len(windows) + 1)]
    missing = [
        (scale, path, window)
        for scale in (1, *source.lrs)
        for path, window in zip(
            [subimage_dir(root, scale) / name for name in names], windows, strict=True
        )
        if not _is_whole(path, CROP // scale)
    ]
    images = read_div2k_image(source) if missing else {}
    for scale, path, (rows, columns) in missing:
        write_image(path, images[scale][_shrunk(rows, scale), _shrunk(columns, scale)])
    return names


def _windows(photograph: Path) -> list[Window]:
    height, width = image_shape(photograph)
    try:
        rows, columns = crop_offsets(height), crop_offsets(width)
    except ValueError as error:
        raise UserError(f"{photograph}: {error}") from None
    return [(slice(top, top + CROP), slice(left, left + CROP)) for top in rows for left in columns]


def _shrunk(span: slice, scale: int) -> slice:
    return slice(span.start // scale, span.stop // scale)


def _is_whole(path: Path, size: int) -> bool:
    """Whether a PNG of that size is there to its end, judged by its two ends alone."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            file.seek(-12, os.SEEK_END)
            return header_shape(head + file.read(), str(path)) == (size, size)
    except (OSError, ValueError):
        return False
