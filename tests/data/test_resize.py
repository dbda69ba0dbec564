"""The resize against MATLAB's own outputs, and against a slow and obvious version of it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.data.resize import DownscaledImage, imresize, lr_window, make_lr
from srgan_plugin.errors import UserError
from srgan_plugin.io.images import read_image
from srgan_plugin.io.lazy_image import DecodedImage


def slow_imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """One output pixel at a time, from the definition of a widened, mirrored cubic kernel."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    def along_rows(array: np.ndarray) -> np.ndarray:
        size, shrink = len(array), min(scale, 1.0)
        result = []
        for out in range(int(np.ceil(scale * size))):
            center = (out + 0.5) / scale - 0.5
            around = range(int(center - 3 / shrink) - 2, int(center + 3 / shrink) + 3)
            weights = np.array([cubic(shrink * (center - at)) for at in around])
            period = [*range(size), *reversed(range(size))]
            pixels = np.stack([array[period[at % (2 * size)]] for at in around])
            result.append(np.tensordot(weights / weights.sum(), pixels, axes=1))
        return np.stack(result)

    return along_rows(along_rows(image).swapaxes(0, 1)).swapaxes(0, 1)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_uint8_resize_is_matlabs_bit_for_bit(shared_data: Path, scale: int) -> None:
    originals = sorted((shared_data / "golden" / "Set5_HR").iterdir())
    assert len(originals) == 5
    for path in originals:
        hr = read_image(path)
        height, width, _ = hr.shape
        cropped = hr[: height - height % scale, : width - width % scale]
        golden = read_image(shared_data / "golden" / "matlab_bicubic" / f"{path.stem}x{scale}.png")
        np.testing.assert_array_equal(imresize(cropped, 1 / scale), golden)


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_the_lr_of_the_benchmarks_is_met_bit_for_bit(shared_data: Path, name: str) -> None:
    folder = shared_data / "benchmark" / name
    for path in sorted((folder / "GTmod12").iterdir()):
        expected = read_image(folder / "LRbicx4" / path.name)
        np.testing.assert_array_equal(make_lr(read_image(path), 4), expected)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    scale=st.sampled_from([0.25, 1 / 3, 0.4, 0.5, 1.0, 1.7, 2.0, 4.0]),
    seed=st.integers(0, 99),
)
def test_a_float_resize_equals_the_slow_version(
    height: int, width: int, scale: float, seed: int
) -> None:
    image = np.random.default_rng(seed).random((height, width, 2))
    np.testing.assert_allclose(imresize(image, scale), slow_imresize(image, scale), atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), scale=st.sampled_from([2, 3, 4, 8]))
def test_an_lr_window_is_bit_identical_to_a_crop_of_the_whole_lr(
    data: st.DataObject, scale: int
) -> None:
    rows, columns = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    height = data.draw(st.integers(1, rows - top))
    width = data.draw(st.integers(1, columns - left))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    hr = rng.integers(0, 256, (rows * scale, columns * scale, 3), dtype=np.uint8)
    window = lr_window(hr, scale, top, left, height, width)
    whole = make_lr(hr, scale)
    np.testing.assert_array_equal(window, whole[top : top + height, left : left + width])


def test_an_lr_window_reads_no_more_than_the_kernel_reaches() -> None:
    class Watched:
        shape = (4000, 4000, 3)
        read = (slice(0), slice(0))

        def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
            self.read = window
            return np.zeros([part.stop - part.start for part in window] + [3], np.uint8)

    hr = Watched()
    lr_window(hr, 4, 500, 300, 32, 16)
    assert hr.read == (slice(2000 - 6, 2128 + 6), slice(1200 - 6, 1264 + 6))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_dtype_and_a_constant_survive(dtype: type) -> None:
    result = imresize(np.full((13, 9), 77, dtype), 0.3)
    assert result.dtype == dtype
    assert result.shape == (4, 3)
    np.testing.assert_allclose(result, 77, rtol=1e-6)


def test_an_output_size_equals_the_scale_that_gives_it() -> None:
    image = np.random.default_rng(0).random((24, 36))
    by_size = imresize(image, output_size=(6, 9))
    np.testing.assert_array_equal(by_size, imresize(image, 0.25))


def test_the_axis_that_shrinks_most_goes_first() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    columns_first = imresize(imresize(image, output_size=(40, 10)), output_size=(20, 10))
    np.testing.assert_array_equal(imresize(image, output_size=(20, 10)), columns_first)


def test_rounding_goes_away_from_zero_at_halves() -> None:
    # Shrinking by 1/2 weighs the two middle pixels equally: 0 and 255 alternating by twos.
    image = np.array([[0, 1], [1, 0]] * 2, np.uint8).repeat(2, 0).repeat(8, 1)
    exact = imresize(image.astype(np.float64), 0.5)
    np.testing.assert_array_equal(make_lr(image, 2), np.floor(np.clip(exact, 0, 255) + 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "positive"),
        ({}, "one of scale and output_size"),
        ({"scale": 0.5, "output_size": (2, 2)}, "one of scale and output_size"),
        ({"output_size": (0, 2)}, "positive"),
    ],
)
def test_a_wrong_size_is_refused_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        imresize(np.zeros((4, 4)), **arguments)
    assert "\n" not in str(error.value)


def test_an_image_that_the_scale_does_not_divide_is_refused_with_the_size_to_crop_to() -> None:
    with pytest.raises(UserError, match=r"\b4\b.*10x13.*8x12"):
        make_lr(np.zeros((10, 13, 3), np.uint8), 4)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.int32), np.zeros((4, 4), bool)])
def test_a_dtype_with_no_rule_is_refused(image: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"uint8.*float"):
        imresize(image, 0.5)


def test_a_window_outside_the_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"4x4.*3x2.*2.*0"):
        lr_window(np.zeros((16, 16, 3), np.uint8), 4, 2, 0, 3, 2)


@pytest.mark.parametrize("size", [(41, 47), (40, 47), (41, 48), (43, 45)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_of_an_image_that_is_no_multiple_of_the_scale_is_that_of_the_cropped_one(size, scale):
    hr = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    lr = DownscaledImage(DecodedImage("hr.png", lambda: hr), scale)
    height, width = (n // scale * scale for n in size)
    np.testing.assert_array_equal(np.asarray(lr), make_lr(hr[:height, :width], scale))


def test_lr_is_made_of_uint8_at_whole_scales_only():
    hr = np.full((8, 8, 3), 100, np.uint8)
    for image in (hr / 255, hr.astype(np.uint16)):
        with pytest.raises(UserError, match=r"HR image: expected uint8 .*, got (float64|uint16)"):
            make_lr(image, 4)
    for scale in (0, -4, 2.5):
        with pytest.raises(UserError, match="scale: expected an integer of at least 1"):
            make_lr(hr, scale)
    with pytest.raises(UserError, match=r"positive, got scale=inf"):
        imresize(hr, float("inf"))
