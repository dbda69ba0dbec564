"""The endless stream of training samples: which picture, which crop, which flips.

Everything is a function of the seed and the sample's number in the stream alone, so that neither
the number of workers nor an interruption changes what is trained on.
"""

from functools import lru_cache
from typing import Any, Final, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from .images import Image
from .pictures import Picture

# The streams of random numbers of a sample, one for each decision.
CROP_TOP: Final = 0
CROP_LEFT: Final = 1
HORIZONTAL_FLIP: Final = 2
VERTICAL_FLIP: Final = 3
TRANSPOSE: Final = 4

_FLIP_CODES: Final = {(True, False): 1, (False, True): 0, (True, True): -1}

_WORD: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


class Draw(int):
    """The index of the picture of a sample, which also knows where in the stream it stands.

    Being an int, it can be handed to any dataset; one that knows better makes the sample's crop
    and flips from `seed` and `number`.

    Args:
        index: Which picture.
        seed: The stream's seed.
        number: The sample's number in the stream, from 0.
    """

    seed: int
    number: int

    def __new__(cls, index: int, seed: int, number: int) -> "Draw":
        """An int with two attributes."""
        self = super().__new__(cls, index)
        self.seed = seed
        self.number = number
        return self

    def __getnewargs__(self) -> tuple[int, int, int]:  # type: ignore[override]
        return int(self), self.seed, self.number

    def __repr__(self) -> str:
        return f"Draw({int(self)}, seed={self.seed}, number={self.number})"


def draw(number: int, *, seed: int, length: int, shuffle: bool = True) -> Draw:
    """Draws sample `number` of the endless stream over `length` pictures; see `picture_indices`.

    Each pass over the pictures takes every one once, in an order of its own.
    """
    turn, position = divmod(number, length)
    index = int(_permutation(seed, turn, length)[position]) if shuffle else position
    return Draw(index, seed, number)


def picture_indices(
    numbers: NDArray[np.int64], *, seed: int, length: int, shuffle: bool = True
) -> NDArray[np.int64]:
    """Tells which pictures many samples take: `draw`'s indices, as an array."""
    turns, positions = np.divmod(numbers, length)
    if not shuffle:
        return positions
    indices = np.empty_like(positions)
    for turn in np.unique(turns):
        now = turns == turn
        indices[now] = _permutation(seed, int(turn), length)[positions[now]]
    return indices


@overload
def uniform(seed: int, number: int, stream: int) -> float: ...
@overload
def uniform(seed: int, number: NDArray[Any], stream: int) -> NDArray[np.float64]: ...
def uniform(seed: int, number: int | NDArray[Any], stream: int) -> float | NDArray[np.float64]:
    """A random number for one decision on a sample: equally distributed, and a pure function.

    SplitMix64 (Steele, Lea and Flood, 2014): a generator for each seed and stream, whose state
    after `number` steps is known without taking them.

    Args:
        seed: The stream of samples.
        number: The sample's number; an array gives an array, with the same values.
        stream: Which decision: `CROP_TOP`, ….

    Returns:
        float64 in [0, 1), a multiple of 2**-53.
    """
    start = _start(seed, stream)
    if isinstance(number, np.ndarray):
        state = np.uint64(start) + number.astype(np.uint64) * np.uint64(_GOLDEN)
        words = _mix_array(state) >> np.uint64(11)
        numbers: NDArray[np.float64] = words.astype(np.float64) * 2.0**-53
        return numbers
    return (_mix(start + number * _GOLDEN & _WORD) >> 11) * 2.0**-53


def random_window(draw: Draw, lr_height: int, lr_width: int, size: int) -> tuple[int, int]:
    """Where the sample's crop of `size` x `size` lies in the low-resolution picture: top, left."""
    top = uniform(draw.seed, draw.number, CROP_TOP) * (lr_height - size + 1)
    left = uniform(draw.seed, draw.number, CROP_LEFT) * (lr_width - size + 1)
    return int(top), int(left)


def random_flips(draw: Draw, p_h: float, p_v: float, p_t: float) -> tuple[bool, bool, bool]:
    """Whether the sample is flipped horizontally, vertically, and transposed, by probabilities."""
    return (
        uniform(draw.seed, draw.number, HORIZONTAL_FLIP) < p_h,
        uniform(draw.seed, draw.number, VERTICAL_FLIP) < p_v,
        uniform(draw.seed, draw.number, TRANSPOSE) < p_t,
    )


def crop_pair(
    lr: Picture | Image, gt: Picture | Image, gt_patch_size: int, scale: int, draw: Draw, name: str
) -> tuple[Image, Image]:
    """Cuts the sample's crop out of both pictures of a pair.

    Args:
        lr: The low-resolution picture, (h, w, 3), uint8, RGB; anything that is read when sliced.
        gt: The ground truth, `scale` times larger.
        gt_patch_size: Side of the crop in the ground truth, in pixels.
        scale: How many times larger the ground truth is.
        draw: The sample.
        name: What to call the pair in an error.

    Returns:
        The crops, low resolution first: (S / scale, S / scale, 3) and (S, S, 3), uint8, RGB.

    Raises:
        ValueError: If the scale does not divide the crop, the sizes do not fit, or the picture is
            smaller than the crop.
    """
    size = check_crop(lr.shape, gt.shape, gt_patch_size, scale, name)
    height, width = lr.shape[:2]
    top, left = random_window(draw, height, width, size)
    return lr[_square(top, left, size)], gt[_square(top, left, size, scale)]


def check_crop(
    lr_shape: tuple[int, ...], gt_shape: tuple[int, ...], gt_patch_size: int, scale: int, name: str
) -> int:
    """Refuses a crop that cannot be cut out of a pair of these shapes; see `crop_pair`.

    Returns:
        The side of the crop in the low-resolution picture.
    """
    size, rest = divmod(gt_patch_size, scale)
    if rest or size < 1:
        raise ValueError(
            f"expected a crop size that is a multiple of the scale {scale}, but got "
            f"{gt_patch_size}: use {max(size, 1) * scale}"
        )
    (height, width), (gt_height, gt_width) = lr_shape[:2], gt_shape[:2]
    if (gt_height, gt_width) != (height * scale, width * scale):
        raise ValueError(
            f"{name} is {gt_height}x{gt_width}, which is not {scale} times the {height}x{width} of "
            "its LR: remake the LR or change the scale"
        )
    if min(height, width) < size:
        raise ValueError(
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


@lru_cache(maxsize=2)
def _permutation(seed: int, turn: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, turn]).permutation(length)


def _square(top: int, left: int, size: int, scale: int = 1) -> tuple[slice, slice]:
    return (
        slice(top * scale, (top + size) * scale),
        slice(left * scale, (left + size) * scale),
    )


@lru_cache(maxsize=64)
def _start(seed: int, stream: int) -> int:
    """The state of the generator of a seed and stream before its first step."""
    return _mix(_mix(seed * _GOLDEN & _WORD) + (stream + 1) * _GOLDEN & _WORD)


def _mix(word: int) -> int:
    """SplitMix64's finalizer on one 64-bit word."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31


def _mix_array(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`_mix` on an array."""
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = word ^ word >> np.uint64(31)
    return mixed
