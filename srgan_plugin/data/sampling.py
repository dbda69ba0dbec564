"""Image, crop and flips of each sample in an endless stream.

All of them are functions of the seed and of the sample's number in the stream, so the number of
workers and an interruption do not change the training data.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

# Decisions about a sample; each has random numbers of its own.
CROP_TOP: Final = 0
CROP_LEFT: Final = 1
HORIZONTAL_FLIP: Final = 2
VERTICAL_FLIP: Final = 3
TRANSPOSE: Final = 4
_DECISIONS: Final = range(5)
_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


class SampleIndex(int):
    """Index of a sample's image, with the sample's number in the stream.

    As an int it is a valid index of any dataset; datasets of this package also derive the crop and
    the flips from `seed` and `number`.

    Args:
        index: Index of the image.
        seed: Seed of the stream, at least 0.
        number: Number of the sample in the stream, from 0.
    """

    seed: int
    number: int

    def __new__(cls, index: int, seed: int, number: int) -> "SampleIndex":
        """Create the int and set its two attributes."""
        self = super().__new__(cls, index)
        self.seed = int(seed)  # a NumPy integer would overflow in `counter_uniform`
        self.number = int(number)
        return self

    def __getnewargs__(self) -> tuple[int, int, int]:  # type: ignore[override]
        return int(self), self.seed, self.number

    def __repr__(self) -> str:
        return f"SampleIndex({int(self)}, seed={self.seed}, number={self.number})"


def draw_sample_index() -> SampleIndex:
    """Draw the seed and the number of a sample from torch's random state.

    For datasets that have no stream. The index is 0, because the image is already chosen.
    """
    import torch  # not above, because preparing data does not need it

    seed, number = torch.randint(2**31, (2,)).tolist()
    return SampleIndex(index=0, seed=seed, number=number)


def sample_index(number: int, *, seed: int, length: int, shuffle: bool = True) -> SampleIndex:
    """Return sample `number` of the endless stream over `length` images.

    Each epoch contains every image once, in a new order.

    Args:
        number: Number of the sample in the stream, from 0.
        seed: Seed of the stream, at least 0.
        length: Number of images, at least 1.
        shuffle: Whether to shuffle the images; otherwise they keep their order.
    """
    epoch, position = divmod(number, length)
    index = int(_permutation(seed, epoch, length)[position]) if shuffle else position
    return SampleIndex(index, seed, number)


def image_indices(
    numbers: NDArray[np.int64], *, seed: int, length: int, shuffle: bool = True
) -> NDArray[np.int64]:
    """Return the image indices of many samples: `sample_index` for an array of numbers.

    Args:
        numbers: Numbers of the samples in the stream, (N,).
        seed: Seed of the stream, at least 0.
        length: Number of images, at least 1.
        shuffle: Whether to shuffle the images; otherwise they keep their order.

    Returns:
        Indices of images, (N,).
    """
    epochs, positions = np.divmod(numbers, length)
    if not shuffle:
        return positions
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        within = epochs == epoch
        indices[within] = _permutation(seed, int(epoch), length)[positions[within]]
    return indices


@overload
def counter_uniform(seed: int, number: int, decision: int) -> float: ...


@overload
def counter_uniform(seed: int, number: NDArray[Any], decision: int) -> NDArray[np.float64]: ...


def counter_uniform(
    seed: int, number: int | NDArray[Any], decision: int
) -> float | NDArray[np.float64]:
    """Return a uniform random number as a pure function of seed, sample and decision.

    This is SplitMix64 (Steele, Lea and Flood, 2014), with one generator for each seed and decision.
    Its state after `number` steps is a sum, so no earlier step is computed.

    Args:
        seed: Seed of the stream of samples, at least 0.
        number: Number of the sample, or an array of them.
        decision: `CROP_TOP`, `CROP_LEFT`, ….

    Returns:
        float64 in [0, 1), a multiple of 2**-53; an array for an array.
    """
    start = _start(seed, decision)
    if isinstance(number, np.ndarray):
        state = np.uint64(start) + number.astype(np.uint64) * np.uint64(_GOLDEN)
        words = _mix_array(state) >> np.uint64(11)
        uniforms: NDArray[np.float64] = words.astype(np.float64) * 2.0**-53
        return uniforms
    return (_mix(start + number * _GOLDEN & _MASK) >> 11) * 2.0**-53


def random_window(
    sample_index: SampleIndex, lr_height: int, lr_width: int, size: int
) -> tuple[int, int]:
    """Return top and left of the sample's crop of `size` x `size` in the LR image.

    Args:
        sample_index: Index of the sample, with the seed of its random numbers.
        lr_height: Height of the LR image.
        lr_width: Width of the LR image.
        size: Side of the crop in the LR image, at most the smaller of both.
    """
    top, left = (
        counter_uniform(sample_index.seed, sample_index.number, decision)
        for decision in (CROP_TOP, CROP_LEFT)
    )
    return place_window(top, left, lr_height, lr_width, size)


def place_window(
    top: float, left: float, lr_height: int, lr_width: int, size: int
) -> tuple[int, int]:
    """Return the top and left of a crop for two random numbers in [0, 1).

    Args:
        top: Random number in [0, 1) for the first row.
        left: Random number in [0, 1) for the first column.
        lr_height: Height of the LR image.
        lr_width: Width of the LR image.
        size: Side of the crop in the LR image, in pixels.
    """
    return int(top * (lr_height - size + 1)), int(left * (lr_width - size + 1))


def sample_uniforms(sample_indices: Sequence[SampleIndex]) -> NDArray[np.float64]:
    """Return `counter_uniform` of all decisions on many samples: (decisions, samples).

    For a batch of 16 this takes 0.04 ms, number by number 0.09 ms.
    """
    starts = [[_start(index.seed, decision) for index in sample_indices] for decision in _DECISIONS]
    numbers = np.array([index.number for index in sample_indices], np.uint64)
    words = _mix_array(np.array(starts, np.uint64) + numbers * np.uint64(_GOLDEN))
    uniforms: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniforms


@lru_cache(maxsize=2)  # a batch may contain the end of an epoch and the beginning of the next
def _permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


@lru_cache(maxsize=64)
def _start(seed: int, decision: int) -> int:
    """Return the initial state of the generator of a seed and decision."""
    return _mix(_mix(seed * _GOLDEN & _MASK) + (decision + 1) * _GOLDEN & _MASK)


def _mix(word: int) -> int:
    """Apply the finalizer of SplitMix64 to a 64-bit word."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
    return word ^ word >> 31


def _mix_array(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply `_mix` to an array."""
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = word ^ word >> np.uint64(31)
    return mixed
