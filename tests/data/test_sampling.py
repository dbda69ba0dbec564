"""The stream of samples: pure, uniform, independent, and aligned between both pictures."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from srgan_plugin.data import sampling
from srgan_plugin.data.augment import augment, crop_pair, random_flips
from srgan_plugin.data.pairs import ImagePairs, Pair
from srgan_plugin.data.sampling import SampleIndex, counter_uniform, random_window, sample_index
from srgan_plugin.errors import UserError
from srgan_plugin.io.lazy_image import DecodedImage

STREAMS = [
    sampling.CROP_TOP,
    sampling.CROP_LEFT,
    sampling.HORIZONTAL_FLIP,
    sampling.VERTICAL_FLIP,
    sampling.TRANSPOSE,
]
NUMBERS = np.arange(50_000)


def decoded(image: np.ndarray) -> DecodedImage:
    return DecodedImage("x.png", lambda: image)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**40), st.sampled_from(STREAMS))
def test_one_number_and_an_array_of_numbers_give_the_same_values(
    seed: int, number: int, stream: int
) -> None:
    several = counter_uniform(seed, np.array([number, number + 1], np.uint64), stream)
    alone = [counter_uniform(seed, number, stream), counter_uniform(seed, number + 1, stream)]
    assert several.tolist() == alone
    assert all(0 <= value < 1 for value in alone)


def test_the_hash_is_splitmix64() -> None:
    # The reference generator, seeded with 0, begins with these words.
    words = [sampling._mix((step * sampling._GOLDEN) & (2**64 - 1)) for step in (1, 2, 3)]
    assert words == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("stream", STREAMS)
def test_each_stream_is_uniform(stream: int) -> None:
    counts = np.bincount((counter_uniform(7, NUMBERS, stream) * 97).astype(int), minlength=97)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((7, 0, 0), (7, 0, 1)),  # two streams of a sample
        ((7, 0, 2), (7, 0, 4)),
        ((7, 0, 0), (8, 0, 0)),  # two seeds
        ((7, 0, 0), (7, 1, 0)),  # a sample and the next one
        ((7, 0, 1), (7, 16, 1)),
        ((0, 0, 1), (1, 0, 0)),
    ],
)
def test_streams_seeds_and_neighbours_are_independent(
    first: tuple[int, int, int], second: tuple[int, int, int]
) -> None:
    cells = [
        (counter_uniform(seed, NUMBERS + shift, stream) * 11).astype(int)
        for seed, shift, stream in (first, second)
    ]
    table = np.zeros((11, 11))
    np.add.at(table, tuple(cells), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_a_sample_index_is_an_int_with_its_position_and_survives_pickling() -> None:
    sample = pickle.loads(pickle.dumps(SampleIndex(3, seed=5, number=17)))
    assert sample == 3
    assert [10, 11, 12, 13][sample] == 13
    assert (sample.seed, sample.number) == (5, 17)
    assert repr(sample) == "SampleIndex(3, seed=5, number=17)"


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.integers(1, 40), st.integers(0, 5))
def test_each_pass_takes_every_image_once(seed: int, length: int, turn: int) -> None:
    numbers = range(turn * length, (turn + 1) * length)
    samples = [sample_index(number, seed=seed, length=length) for number in numbers]
    assert sorted(samples) == list(range(length))
    assert [sample.number for sample in samples] == list(numbers)
    assert [
        sample_index(number, seed=seed, length=length, shuffle=False) for number in numbers
    ] == list(range(length))


def test_passes_and_seeds_have_orders_of_their_own_and_any_number_can_be_had_first() -> None:
    def order(seed: int, turn: int) -> list[int]:
        return [int(sample_index(turn * 50 + at, seed=seed, length=50)) for at in range(50)]

    orders = [order(0, 1_000_000), order(0, 0), order(0, 1), order(1, 0)]
    assert len({tuple(one) for one in orders}) == 4
    assert order(0, 1_000_000) == orders[0]


def test_every_place_of_a_window_is_equally_likely() -> None:
    places = [random_window(SampleIndex(0, 1, number), 10, 8, 6) for number in range(9000)]
    counts = np.zeros((5, 3))
    np.add.at(counts, tuple(np.transpose(places)), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_a_window_as_large_as_the_image_has_one_place() -> None:
    assert {random_window(SampleIndex(0, 1, number), 6, 6, 6) for number in range(50)} == {(0, 0)}


def test_flips_come_as_often_as_asked_for_and_independently() -> None:
    flips = np.array(
        [random_flips(SampleIndex(0, 1, number), 0.5, 0.3, 0.1) for number in range(9000)]
    )
    expected = np.array([0.5, 0.3, 0.1])
    np.testing.assert_allclose(flips.mean(axis=0), expected, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(flips.T), np.eye(3), atol=0.04)
    assert random_flips(SampleIndex(0, 1, 1), 0.0, 1.0, 0.0) == (False, True, False)


@settings(max_examples=50, deadline=None)
@given(
    lr_height=st.integers(4, 20),
    lr_width=st.integers(4, 20),
    scale=st.sampled_from([1, 2, 3, 4]),
    number=st.integers(0, 10**9),
)
def test_both_crops_show_the_same_place(
    lr_height: int, lr_width: int, scale: int, number: int
) -> None:
    lr = np.arange(lr_height * lr_width * 3).reshape(lr_height, lr_width, 3).astype(np.uint8)
    gt = lr.repeat(scale, 0).repeat(scale, 1)
    pair = Pair("x", decoded(lr), decoded(gt))
    sample = SampleIndex(0, seed=3, number=number)
    lr_crop, gt_crop = crop_pair(pair.lr, pair.gt, 4 * scale, scale, sample, pair.key)
    assert lr_crop.shape == (4, 4, 3)
    np.testing.assert_array_equal(gt_crop, lr_crop.repeat(scale, 0).repeat(scale, 1))
    top, left = random_window(sample, lr_height, lr_width, 4)
    np.testing.assert_array_equal(lr_crop, lr[top : top + 4, left : left + 4])


def test_the_crop_of_an_lr_made_on_the_fly_equals_the_crop_of_the_lr_file(
    gt_folder: Path, lr_folder: Path
) -> None:
    made, given_ = ImagePairs(gt_folder), ImagePairs(gt_folder, lr_folder)
    for number in range(30):
        sample = sample_index(number, seed=1, length=3)
        for mine, expected in zip(
            crop_pair(made[sample].lr, made[sample].gt, 32, 4, sample, "x"),
            crop_pair(given_[sample].lr, given_[sample].gt, 32, 4, sample, "x"),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, expected)


def test_a_crop_that_does_not_fit_is_refused_with_name_and_sizes() -> None:
    pair = Pair("x", decoded(np.zeros((5, 9, 3), np.uint8)), decoded(np.zeros((20, 36, 3))))
    with pytest.raises(UserError, match=r"^x\.png.*24x24, got 20x36"):
        crop_pair(pair.lr, pair.gt, 24, 4, SampleIndex(0, 0, 0), pair.gt.name)
    with pytest.raises(UserError, match=r"\b4\b.*18.*16"):
        crop_pair(pair.lr, pair.gt, 18, 4, SampleIndex(0, 0, 0), pair.gt.name)


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("vflip", [False, True])
@pytest.mark.parametrize("transpose", [False, True])
def test_an_augmented_image_is_numpys_flips_and_transpose(
    hflip: bool, vflip: bool, transpose: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    expected = np.fliplr(image) if hflip else image
    expected = np.flipud(expected) if vflip else expected
    expected = np.transpose(expected, (1, 0, 2)) if transpose else expected
    result = augment(image, hflip, vflip, transpose)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)
    batch = np.zeros((3, *expected.shape), np.uint8)
    augment(image, hflip, vflip, transpose, out=batch[1])
    np.testing.assert_array_equal(batch[1], expected)
    assert not batch[[0, 2]].any()


def test_a_number_of_numpy_gives_the_crop_of_a_number_of_python() -> None:
    plain = sample_index(2**31 + 5, seed=3, length=7)
    of_numpy = sample_index(np.int64(2**31 + 5), seed=np.int64(3), length=7)  # type: ignore[arg-type]
    assert random_window(plain, 90, 80, 24) == random_window(of_numpy, 90, 80, 24)
