"""DIV2K by image numbers: download, unpack, find, check, and cut into sub-images."""

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.data.pairs import check_sizes
from srgan_plugin.errors import MissingFileError, UserError, check_option
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.atomic import atomic_path, remove_abandoned, write_text
from srgan_plugin.io.download import download
from srgan_plugin.io.image_content import peek_size
from srgan_plugin.io.images import image_shape, read_source_image
from srgan_plugin.io.lazy_image import DecodedImage, LazyImage, Window
from srgan_plugin.io.writers import write_image

from .parallel import Progress, ordered_map

#: Numbers of the images.
TRAIN: Final = range(1, 801)
VALIDATION: Final = range(801, 901)
#: Scales of the official bicubic LR images.
SCALES: Final = (2, 3, 4)
#: Side of an HR sub-image and distance between two, in pixels, as in BasicSR.
CROP: Final = 480
STEP: Final = 240

# Mean difference to area averaging, in levels of 255. Over 60 photographs and x2 to x4, MATLAB's
# bicubic differs by at most 2.9 and taking every fourth pixel by 19.4; 99.4 % of pairs of different
# photographs differ by more than 24 (their median is 84, the least 12.6).
_ANOTHER_IMAGE: Final = 24.0
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


class DIV2KImage(NamedTuple):
    """An HR image and its LR images.

    Attributes:
        key: Number in four digits, such as `0001`.
        hr: Path of the HR image.
        lrs: Paths of the LR images by scale.
    """

    key: str
    hr: Path
    lrs: dict[int, Path]


def image_path(root: Path, number: int, scale: int = 1) -> Path:
    """Return the path of an image, or its path in the official archives if it does not exist.

    A merged `DIV2K_train_HR`, as for MMagic, also contains the validation images.

    Args:
        root: Folder `DIV2K`.
        number: Number of the image, 1 to 900.
        scale: 1 for the HR image, or the scale of an LR image; default 1.

    Returns:
        `DIV2K_train_…/…` if it is a training image or exists there, else `DIV2K_valid_…/…`.
    """
    name = f"{number:04d}.png" if scale == 1 else f"{number:04d}x{scale}.png"
    kind = "HR" if scale == 1 else f"LR_bicubic/X{scale}"
    merged = root / f"DIV2K_train_{kind}" / name
    if number in TRAIN or merged.is_file():
        return merged
    return root / f"DIV2K_valid_{kind}" / name


def find_div2k_images(
    root: Path, numbers: Iterable[int], scales: Sequence[int]
) -> list[DIV2KImage]:
    """Find HR images and their LR images.

    Args:
        root: Folder `DIV2K`.
        numbers: Numbers of the images, 1 to 900.
        scales: Scales of the LR images, of `SCALES`.

    Returns:
        Paths of the images, in the order of `numbers`.

    Raises:
        UserError: DIV2K has no LR images of a scale.
        MissingFileError: Images are missing; the message has their number and the first path.
    """
    _check_scales(scales)
    images = [
        DIV2KImage(
            f"{number:04d}",
            image_path(root, number),
            {scale: image_path(root, number, scale) for scale in scales},
        )
        for number in numbers
    ]
    files = [path for image in images for path in (image.hr, *image.lrs.values())]
    if missing := [path for path in files if not path.is_file()]:
        raise MissingFileError(
            f"{missing[0]}: expected all {len(files)} images of DIV2K, got "
            f"{len(files) - len(missing)}; put the official archives into {root}, or add --download"
        )
    return images


def _check_scales(scales: Sequence[int]) -> None:
    for scale in scales:
        check_option("scale", scale, SCALES)


def read_div2k_image(image: DIV2KImage) -> dict[int, RGBArray]:
    """Decode an HR image and its LR images, and check that they match.

    Returns:
        Images by scale, RGB, (H, W, 3), uint8; 1 is the HR image.

    Raises:
        UserError: An image is damaged, or an LR image has the wrong size or content.
    """
    hr = _image(image.hr)
    pixels = {1: np.asarray(hr)}
    for scale, path in image.lrs.items():
        lr = _image(path)
        check_sizes(hr, lr, scale)
        pixels[scale] = np.asarray(lr)
        _check_content(pixels[1], pixels[scale], hr.name, lr.name)
    return pixels


def check_div2k_images(
    images: Sequence[DIV2KImage],
    list_path: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Read and check every image, then write the list of the HR images.

    Args:
        images: HR images with their LR images.
        list_path: File to write, with a line `0001.png (1404,2040,3)` for each HR image.
        workers: Number of processes; None for one on each processor.
        progress: Called with the number of HR images done and the total.

    Raises:
        UserError: See `read_div2k_image`.
        FileError: A process died, or the list cannot be written.
    """
    shapes = ordered_map(_read_shape, images, workers, progress)
    lines = [
        f"{image.hr.name} ({','.join(map(str, shape))})\n"
        for image, shape in zip(images, shapes, strict=True)
    ]
    write_text("".join(lines), list_path)


def _read_shape(image: DIV2KImage) -> tuple[int, ...]:
    return read_div2k_image(image)[1].shape


def _image(path: Path) -> LazyImage:
    return DecodedImage(str(path), partial(read_source_image, path))


def _check_content(hr: RGBArray, lr: RGBArray, hr_name: str, lr_name: str) -> None:
    """Raise `UserError` if an LR image differs much from its HR image, averaged over areas.

    This finds files that were mixed up, but for some pairs of dark or even images. A smaller
    difference shows neither that the content is the same nor how LR was made.

    Args:
        hr: HR image, RGB, (H, W, 3), uint8.
        lr: LR image, RGB, (h, w, 3), uint8.
        hr_name: Name of the HR image in the message.
        lr_name: Name of the LR image in the message.
    """
    height, width, _ = lr.shape
    averaged = cv2.resize(hr, (width, height), interpolation=cv2.INTER_AREA)
    if cv2.absdiff(averaged, lr).mean() > _ANOTHER_IMAGE:
        raise UserError(
            f"{lr_name}: expected the content of {hr_name}, got another image; restore both files"
        )


OFFICIAL_URL: Final = "http://data.vision.ee.ethz.ch/cvl/DIV2K"


class Archive(NamedTuple):
    """An official archive: name without `.zip`, numbers of its images, and scale (1 for HR)."""

    name: str
    numbers: range
    scale: int

    def images(self, root: Path) -> list[Path]:
        """Return the paths of its images under `root`; they may not exist."""
        return [image_path(root, number, self.scale) for number in self.numbers]

    def is_unpacked(self, root: Path) -> bool:
        """Return whether all its images exist; each one is renamed when it is complete."""
        return all(path.is_file() for path in self.images(root))


def archives(scales: Sequence[int]) -> list[Archive]:
    """Return the archives of the HR images and of the bicubic LR images.

    Raises:
        UserError: DIV2K has no LR images of a scale.
    """
    _check_scales(scales)
    return [
        Archive(f"DIV2K_{part}_{'HR' if scale == 1 else f'LR_bicubic_X{scale}'}", numbers, scale)
        for part, numbers in (("train", TRAIN), ("valid", VALIDATION))
        for scale in (1, *scales)
    ]


def fetch(
    archive: Archive, root: Path, *, url: str = OFFICIAL_URL, progress: Progress | None = None
) -> Path:
    """Download an archive, resuming an interrupted download.

    The size is checked against Content-Length, the content when it is unpacked.

    Args:
        archive: The archive.
        root: Folder for `NAME.zip`.
        url: URL of the folder of archives, with `http://` or `https://`; default `OFFICIAL_URL`.
        progress: Called with the number of bytes done and the total.

    Returns:
        Path of the archive.

    Raises:
        UserError: The URL is invalid.
        OSError: The server or the disk failed; see `download`.
    """
    name = f"{archive.name}.zip"
    return download(f"{url.rstrip('/')}/{name}", root / name, progress=progress)


def unpack(archive: Archive, root: Path, *, progress: Progress | None = None) -> None:
    """Unpack `root/NAME.zip`, skipping existing images of the same size in bytes.

    Args:
        archive: The archive.
        root: Folder `DIV2K`.
        progress: Called with the number of images done and the total.

    Raises:
        UserError: The file is not a ZIP archive that Python can read, an image is missing in it, or
            a checksum is wrong.
        OSError: The archive does not exist, or the disk is full; a second call continues.
    """
    file = root / f"{archive.name}.zip"
    targets = archive.images(root)
    try:
        with zipfile.ZipFile(file) as packed:
            members = {Path(name).name: name for name in packed.namelist()}
            if missing := [path.name for path in targets if path.name not in members]:
                raise UserError(
                    f"{file}: expected {len(targets)} images, got "
                    f"{len(targets) - len(missing)}; {missing[0]} is missing; download the "
                    "official archive again"
                )
            for folder in {target.parent for target in targets}:
                remove_abandoned(folder)
            for done, target in enumerate(targets, start=1):
                member = packed.getinfo(members[target.name])
                # Another tool may have left a truncated image.
                if not (target.is_file() and target.stat().st_size == member.file_size):
                    _unpack_one(packed, member, target)
                if progress is not None:
                    progress(done, len(targets))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"{file}: expected a ZIP archive, got a damaged one ({error}); remove it "
            "and download it again"
        ) from None


def _unpack_one(packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Write an image of an archive, which appears when it is complete.

    Raises:
        UserError: The image is encrypted, or compressed by another method than Python has.
    """
    try:
        source = packed.open(member)
    except RuntimeError as error:  # and NotImplementedError
        raise UserError(
            f"{packed.filename}: expected an archive that is not encrypted and is compressed by "
            f"Deflate, got another ({error}); remove it and download the official archive"
        ) from None
    # Reading to the end checks the checksum.
    with source, atomic_path(target) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def crop_offsets(size: int, crop: int = CROP, step: int = STEP) -> list[int]:
    """Return the offsets of the crops along one axis: every `step` pixels, and one at the edge.

    Args:
        size: Pixels along the axis.
        crop: Pixels of a crop; default 480.
        step: Pixels between the starts of two crops; default 240.

    Returns:
        First pixel of each crop, ascending; the last crop ends at the edge.

    Raises:
        UserError: The axis is shorter than a crop.
    """
    if size < crop:
        raise UserError(f"size: expected at least {crop} pixels, got {size}")
    regular = list(range(0, size - crop + 1, step))
    return regular if regular[-1] + crop == size else [*regular, size - crop]


def subimage_dir(root: Path, scale: int) -> Path:
    """Return the folder of sub-images in the published configs; scale 1 is GT."""
    kind = "HR_sub" if scale == 1 else f"LR_bicubic/X{scale}_sub"
    return root / f"DIV2K_train_{kind}"


def cut_subimages(
    images: Sequence[DIV2KImage],
    root: Path,
    list_name: str,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Cut images into overlapping sub-images (480x480 in HR) and write their annotation file.

    Names and annotation file are those of BasicSR and MMagic. The annotation file is written last.
    An image is not decoded again if all its sub-images exist as complete PNG files of their size:
    their content is not compared with it. Remove the folders to cut changed images again.

    Args:
        images: HR images with their LR images.
        root: Folder `DIV2K`, in which `DIV2K_train_HR_sub` etc. are created.
        list_name: Name of the annotation file, such as `meta_info_DIV2K800sub_GT.txt`.
        workers: Number of processes; None for one on each processor.
        progress: Called with the number of HR images done and the total.

    Returns:
        The number of sub-images.

    Raises:
        UserError: `images` is empty, one is damaged or too small, or an LR image does not match
            its HR image.
        FileError: A process died.
        OSError: The disk is full; a second run continues.
    """
    if not images:
        raise UserError("images: expected at least one, got none")
    for scale in (1, *images[0].lrs):
        remove_abandoned(subimage_dir(root, scale))
    cut = partial(_cut, root)
    names = [name for names in ordered_map(cut, images, workers, progress) for name in names]
    write_text("".join(f"{name} ({CROP},{CROP},3)\n" for name in names), root / list_name)
    return len(names)


def _cut(root: Path, image: DIV2KImage) -> list[str]:
    """Write the sub-images of one HR image, unless all exist; return their names."""
    windows = _windows(image.hr)
    names = [f"{image.key}_s{number:03d}.png" for number in range(1, len(windows) + 1)]
    pieces = [
        (scale, subimage_dir(root, scale) / name, window)
        for scale in (1, *image.lrs)
        for name, window in zip(names, windows, strict=True)
    ]
    if all(_looks_complete(path, CROP // scale) for scale, path, _ in pieces):
        return names
    # All of them: those that exist may have been cut from other windows, by another tool.
    pixels = read_div2k_image(image)
    for scale, path, (rows, columns) in pieces:
        write_image(path, pixels[scale][_shrink(rows, scale), _shrink(columns, scale)])
    return names


def _windows(path: Path) -> list[Window]:
    height, width = image_shape(path)
    if min(height, width) < CROP:
        raise UserError(
            f"{path}: expected at least {CROP}x{CROP} pixels (HxW), got {height}x{width}; restore "
            "the official image, or use another layout"
        )
    rows, columns = crop_offsets(height), crop_offsets(width)
    return [(slice(top, top + CROP), slice(left, left + CROP)) for top in rows for left in columns]


def _shrink(span: slice, scale: int) -> slice:
    return slice(span.start // scale, span.stop // scale)


def _looks_complete(path: Path, size: int) -> bool:
    """Return whether a PNG has that size and the end of a PNG, from its first and last bytes.

    Other tools may have left truncated files. The pixels are not compared. This takes 0.06 ms,
    decoding 8 ms, for each of the 65,184 sub-images of DIV2K.
    """
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END and peek_size(path) == (size, size)
    except (OSError, UserError):
        return False
