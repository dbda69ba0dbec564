"""Split photographs into training and held-out ones, and cut pieces for training."""

import math
import os
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.errors import UserError
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.atomic import atomic_directory
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image

HELD_OUT: Final = 16
SIDE: Final = 240  # height and width of a piece, in pixels
SHARE: Final = 0.6  # share of the pieces to keep


class Piece(NamedTuple):
    """A square of a photograph."""

    photograph: Path
    top: int
    left: int
    detail: float

    @property
    def name(self) -> str:
        """File name of the piece."""
        return f"{self.photograph.stem}_{self.top}_{self.left}.png"


def split(folder: str | os.PathLike[str]) -> tuple[list[Path], list[Path]]:
    """Hold out every n-th photograph by name, independent of the path of the folder.

    Args:
        folder: Folder of photographs, nested or not.

    Returns:
        Photographs for training, and `HELD_OUT` held-out ones.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: The folder has too few photographs, or two with the same name.
    """
    found = sorted(list_images(folder).values(), key=lambda path: (path.name, path))
    if len(found) < 2 * HELD_OUT:
        raise UserError(
            f"{folder}: expected at least {2 * HELD_OUT} photographs, of which {HELD_OUT} are held "
            f"out, got {len(found)}"
        )
    for one, other in pairwise(found):
        if one.stem == other.stem:
            raise UserError(f"{one}: expected another name than that of {other}; rename one")
    apart = {found[i * len(found) // HELD_OUT] for i in range(HELD_OUT)}
    return [path for path in found if path not in apart], sorted(apart)


def link(photographs: Iterable[Path], folder: Path) -> None:
    """Create a folder of links to photographs, completely or not at all."""
    with atomic_directory(folder) as building:
        for path in photographs:
            (building / path.name).symlink_to(path.resolve())


def detail(image: RGBArray) -> float:
    """Compute the amount of detail: mean |dx| + mean |dy| of the grey image at half size.

    At full size the noise of the sensor would count.

    Args:
        image: RGB, (H, W, 3), uint8.

    Returns:
        0 (a uniform image) to 510, in levels of 255.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    steps = (np.abs(np.diff(half.astype(np.float32), axis=axis)) for axis in (0, 1))
    return float(sum(step.mean() for step in steps))


def pieces(photograph: Path) -> Iterator[Piece]:
    """Cut a photograph into adjacent squares, from the top left corner."""
    image = read_image(photograph)
    height, width = image.shape[:2]
    for top in range(0, height - SIDE + 1, SIDE):
        for left in range(0, width - SIDE + 1, SIDE):
            square = image[top : top + SIDE, left : left + SIDE]
            yield Piece(photograph, top, left, detail(square))


def richest(found: Iterable[Piece]) -> list[Piece]:
    """Return the pieces with most detail, `SHARE` of all, in their original order.

    On flat pieces a network would learn the noise of the sensor.
    """
    squares = list(found)
    order = sorted(range(len(squares)), key=lambda i: -squares[i].detail)
    return [squares[i] for i in sorted(order[: math.floor(SHARE * len(squares))])]


def write_pieces(photographs: Iterable[Path], folder: Path) -> None:
    """Write the most detailed pieces of photographs as files; the folder appears when complete."""
    chosen = richest(piece for photograph in photographs for piece in pieces(photograph))
    with atomic_directory(folder) as building:
        for photograph, squares in groupby(chosen, key=lambda piece: piece.photograph):
            image = read_image(photograph)
            for piece in squares:
                square = image[piece.top : piece.top + SIDE, piece.left : piece.left + SIDE]
                write_image(building / piece.name, square)
