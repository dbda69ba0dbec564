"""Which image, which crop and which flips each sample of the endless stream takes.

Everything is a function of the seed and the sample's number in the stream alone, so that neither
the number of workers nor an interruption changes what is trained on.
"""

from functools import lru_cache
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

# The streams of random numbers of a sample, one for each decision.
CROP_TOP: Final = 0
CROP_LEFT: Final = 1
HORIZONTAL_FLIP: Final = 2
VERTICAL_FLIP: Final = 3
TRANSPOSE: Final = 4
_WORD: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


class SampleIndex(int):
    """The index of the image of a sample, which also knows where in the stream it stands.

    Being an int, it can be handed to any dataset; one that knows better makes the sample's crop
    and flips from `seed` and `number`.

    Args:
        index: Which image.
        seed: The stream's seed.
        number: The sample's number in the stream, from 0.
    """

    seed: int
    number: int

    def __new__(cls, index: int, seed: int, number: int) -> "SampleIndex":
        """Create the int and set its two attributes."""
        self = super().__new__(cls, index)
        self.seed = seed
        self.number = number
        return self

    def __getnewargs__(self) -> tuple[int, int, int]:  # type: ignore[override]
        return int(self), self.seed, self.number

    def __repr__(self) -> str:
        return f"SampleIndex({int(self)}, seed={self.seed}, number={self.number})"


def sample_index(number: int, *, seed: int, length: int, shuffle: bool = True) -> SampleIndex:
    """Draws sample `number` of the endless stream over `length` images; see `image_indices`.

    Each pass over the images takes every one once, in an order of its own.
    """
    turn, position = divmod(number, length)
    index = int(_permutation(seed, turn, length)[position]) if shuffle else position
    return SampleIndex(index, seed, number)


def image_indices(
    numbers: NDArray[np.int64], *, seed: int, length: int, shuffle: bool = True
) -> NDArray[np.int64]:
    """Tells which images many samples take: `sample_index`'s indices, as an array."""
    turns, positions = np.divmod(numbers, length)
    if not shuffle:
        return positions
    indices = np.empty_like(positions)
    for turn in np.unique(turns):
        now = turns == turn
        indices[now] = _permutation(seed, int(turn), length)[positions[now]]
    return indices


@overload
def counter_uniform(seed: int, number: int, stream: int) -> float: ...


@overload
def counter_uniform(seed: int, number: NDArray[Any], stream: int) -> NDArray[np.float64]: ...


def counter_uniform(
    seed: int, number: int | NDArray[Any], stream: int
) -> float | NDArray[np.float64]:
    """Return the random number of one decision on a sample: uniform, and a pure function.

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


def random_window(
    sample_index: SampleIndex, lr_height: int, lr_width: int, size: int
) -> tuple[int, int]:
    """Where the sample's crop of `size` x `size` lies in the LR image: top, left."""
    top = counter_uniform(sample_index.seed, sample_index.number, CROP_TOP) * (lr_height - size + 1)
    left = counter_uniform(sample_index.seed, sample_index.number, CROP_LEFT) * (
        lr_width - size + 1
    )
    return int(top), int(left)


@lru_cache(maxsize=2)
def _permutation(seed: int, turn: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, turn]).permutation(length)


@lru_cache(maxsize=64)
def _start(seed: int, stream: int) -> int:
    """Return the initial state of the generator of a seed and stream."""
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
