"""More training images from the same photographs: downscaled, rotated, and with other colours.

A network that has seen the pieces of a few hundred photographs a hundred times learns them by
heart. In copies of another scale and angle edges are new, and sharper than in the photograph.
"""

import math
import random
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from srgan_plugin.data.resize import imresize
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.atomic import atomic_directory
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image

from .photographs import detail

COPIES: Final = 5  # of a photograph, unless stated otherwise
SIDE: Final = 192  # height and width of a piece, in pixels
MIN_DETAIL: Final = 6.0  # of a piece; see `photographs.detail`
_LARGE: Final = 900  # pixels of height and width: such photographs are downscaled more
_MARGIN: Final = 4  # pixels of height and width, for the interpolation at the edges


def copies(image: RGBArray, name: str, count: int = COPIES) -> Iterator[RGBArray]:
    """Yield versions of a photograph.

    The first one is upright; the others are rotated by up to 45 degrees and downscaled by MATLAB's
    bicubic. From the third on, their channels are permuted.

    Args:
        image: RGB, (H, W, 3), uint8.
        name: Seed of the angles, scales and permutations, such as the name of the photograph.
        count: Number of versions; more of them begin with the same ones.

    Yields:
        RGB images, (h, w, 3), uint8, of different sizes.
    """
    draw = random.Random(name)
    is_large = min(image.shape[:2]) > _LARGE
    for number in range(count):
        angle = draw.uniform(-math.pi / 4, math.pi / 4) if number else 0.0
        scale = draw.uniform(0.45, 0.8) if is_large else draw.uniform(0.75, 0.95)
        if not number:
            scale = 0.6 if is_large else 1.0
        copy = rotate(image, angle) if number else image
        if scale != 1:
            copy = imresize(copy, scale)
        if number >= 2:
            copy = np.ascontiguousarray(copy[..., draw.sample(range(3), 3)])
        yield copy


def rotate(image: RGBArray, angle: float) -> RGBArray:
    """Rotate an image, and crop it to the largest upright rectangle without undefined pixels.

    Args:
        image: RGB, (H, W, 3), uint8.
        angle: Radians, counterclockwise, at most pi / 4 in size.

    Returns:
        RGB, uint8, at most (H, W, 3).
    """
    height, width = image.shape[:2]
    center = (width / 2 - 0.5, height / 2 - 0.5)
    matrix = cv2.getRotationMatrix2D(center, math.degrees(angle), 1)
    rotated = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT
    )
    wide, high = inner_size(width, height, angle)
    wide, high = min(wide, width), min(high, height)
    top, left = (height - high) // 2, (width - wide) // 2
    return np.ascontiguousarray(rotated[top : top + high, left : left + wide])


def inner_size(width: int, height: int, angle: float) -> tuple[int, int]:
    """Return width and height of the largest upright rectangle inside a rotated one.

    Args:
        width: Width of the rectangle, in pixels.
        height: Height of the rectangle, in pixels.
        angle: Radians, at most pi / 4 in size.

    Returns:
        Width and height in pixels, a margin for the interpolation deducted.
    """
    sine, cosine = math.sin(abs(angle)), math.cos(angle)
    short, long = sorted((width, height))
    if short <= 2 * sine * cosine * long or math.isclose(sine, cosine):
        # Two corners lie on the long sides, the others on the line between these.
        wide, high = 0.5 * short / sine, 0.5 * short / cosine
        wide, high = (wide, high) if width >= height else (high, wide)
    else:
        square = cosine**2 - sine**2
        wide = (width * cosine - height * sine) / square
        high = (height * cosine - width * sine) / square
    return int(wide) - _MARGIN, int(high) - _MARGIN


def write_copies(
    photographs: Iterable[Path], folder: Path, *, count: int = COPIES, originals: bool = False
) -> None:
    """Write the detailed pieces of all copies as files; the folder appears when complete.

    Pieces cover a copy evenly and overlap where its size is not a multiple of theirs.

    Args:
        photographs: Files of the photographs.
        folder: Folder to write.
        count: Number of copies of each photograph.
        originals: Whether to write the pieces of large photographs as well. The first copy of a
            small one is the photograph itself.
    """
    with atomic_directory(folder) as building:
        for path in photographs:
            for tag, copy in _versions(read_image(path), path.stem, count, originals=originals):
                for top, left in product(*map(_starts, copy.shape[:2])):
                    piece = np.ascontiguousarray(copy[top : top + SIDE, left : left + SIDE])
                    if detail(piece) >= MIN_DETAIL:
                        write_image(building / f"{path.stem}_{tag}_{top}_{left}.png", piece)


def _versions(
    image: RGBArray, name: str, count: int, *, originals: bool
) -> Iterator[tuple[str, RGBArray]]:
    """Yield a photograph, if asked for and large, and its copies, each with a name.

    Of a photograph smaller than a piece there are none.
    """
    if min(image.shape[:2]) < SIDE:
        return
    if originals and min(image.shape[:2]) > _LARGE:
        yield "original", image
    for number, copy in enumerate(copies(image, name, count)):
        yield str(number), copy


def _starts(length: int) -> list[int]:
    """Return the first pixels of the pieces along one axis of `length` pixels."""
    count, rest = length // SIDE, length - SIDE
    if count == 1:
        return [rest // 2]
    return [round(index * rest / (count - 1)) for index in range(count)]
