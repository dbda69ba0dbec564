"""Blur, noise and JPEG of LR images: what comes out, which strengths are drawn, what is refused."""

import io
import itertools
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from srgan_plugin.data import degradation
from srgan_plugin.data.degradation import (
    DegradationParams,
    check_degradation,
    compress_jpeg,
    degrade,
)
from srgan_plugin.data.sampling import SampleIndex
from srgan_plugin.errors import UserError

OFF: dict[str, Any] = {"blur_sigma": (0, 0), "noise_sigma": (0, 0), "jpeg_quality": (100, 100)}


def photograph(height: int = 96, width: int = 80) -> Any:
    """Return smooth random colours, uint8, of which little is lost at quality 100."""
    noise = np.random.default_rng(0).standard_normal((height, width, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (3, 3, 0))
    return np.clip(128 + 200 * smooth, 0, 255).astype(np.uint8)


def params(**changes: Any) -> DegradationParams:
    return check_degradation({**OFF, "clean_ratio": 0, **changes})


def sample(number: int, seed: int = 3) -> SampleIndex:
    return SampleIndex(0, seed, number)


@pytest.mark.parametrize("quality", [10, 40, 75, 95])
def test_jpeg_is_that_of_pillow_with_chroma_of_half_the_resolution(quality: int) -> None:
    image, file = photograph(), io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(PIL.Image.open(file)).astype(int)
    # Both use libjpeg, of different versions.
    assert np.abs(compress_jpeg(image, quality) - expected).max() <= 3


@pytest.mark.parametrize("sigma", [0.4, 0.8, 2.0])
def test_the_blur_is_scipys_gaussian(sigma: float) -> None:
    image = photograph()
    drawn = params(blur_sigma=(sigma, sigma), jpeg_quality=None)
    blurred = degrade(image, drawn, sample(0))
    blur = scipy.ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="mirror")
    assert np.abs(blurred - blur).max() <= 1


def test_the_blocks_of_jpeg_begin_at_each_pixel_equally_often() -> None:
    image, drawn = photograph(40, 48), params(jpeg_quality=(10, 10))
    larger = {
        (top, left): cv2.copyMakeBorder(image, top, 0, left, 0, cv2.BORDER_REFLECT_101)
        for top, left in itertools.product(range(16), repeat=2)
    }
    expected = {
        compress_jpeg(padded, 10)[top:, left:].tobytes(): (top, left)
        for (top, left), padded in larger.items()
    }
    assert len(expected) == 256
    found = [expected[degrade(image, drawn, sample(n)).tobytes()] for n in range(2560)]
    counts = [np.bincount(offsets, minlength=16) for offsets in np.transpose(found)]
    assert np.array(counts) == pytest.approx(np.full((2, 16), 160), abs=50)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2), (48, 33)])
def test_the_size_stays_however_small_the_image_is(shape: tuple[int, int]) -> None:
    drawn = DegradationParams(blur_sigma=(0.5, 2), clean_ratio=0)
    degraded = [degrade(photograph(*shape), drawn, sample(n)) for n in range(50)]
    assert {(*image.shape, image.dtype.name) for image in degraded} == {(*shape, 3, "uint8")}
    assert all(image.flags.c_contiguous for image in degraded)


@pytest.mark.parametrize("shape", [(0, 9, 3), (9, 0, 3), (65_490, 1, 3)])
def test_sizes_that_jpeg_does_not_have_are_refused_for_clean_samples_too(shape: Any) -> None:
    for ratio in (0, 1):
        with pytest.raises(UserError, match=rf"pixels .*got {shape[0]}x{shape[1]}"):
            degrade(np.zeros(shape, np.uint8), DegradationParams(clean_ratio=ratio), sample(0))


@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_the_noise_has_the_standard_deviation_asked_for_in_each_channel(sigma: float) -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    # Chroma of half the resolution would average the noise of colours.
    drawn = params(noise_sigma=(sigma, sigma), jpeg_quality=None)
    noisy = degrade(grey, drawn, sample(0)).astype(float)
    expected = (sigma**2 + 1 / 12) ** 0.5  # rounding adds the variance of a uniform number
    assert noisy.std((0, 1)) == pytest.approx([expected] * 3, rel=0.02)
    assert noisy.mean((0, 1)) == pytest.approx([128] * 3, abs=0.1)
    assert np.abs(np.corrcoef(noisy.reshape(-1, 3).T) - np.eye(3)).max() < 0.02


def test_a_sample_is_a_pure_function_of_seed_and_number() -> None:
    image, drawn = photograph(), DegradationParams(clean_ratio=0)
    before = image.copy()
    first = degrade(image, drawn, sample(7))
    assert (first == degrade(image, drawn, sample(7))).all()
    assert (image == before).all()
    assert all((first != degrade(image, drawn, s)).any() for s in (sample(8), sample(7, seed=4)))


def test_strengths_are_uniform_and_both_ends_of_the_quality_occur(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qualities: list[int] = []
    monkeypatch.setattr(
        degradation, "compress_jpeg", lambda image, quality: (qualities.append(quality), image)[1]
    )
    image, drawn = photograph(8, 8), params(jpeg_quality=(40, 43), clean_ratio=0.25)
    clean = sum(degrade(image, drawn, sample(n)) is image for n in range(4000))
    assert clean == pytest.approx(1000, abs=100)
    values, counts = np.unique(qualities, return_counts=True)
    assert values.tolist() == [40, 41, 42, 43]
    assert counts == pytest.approx([750] * 4, abs=100)


def test_strengths_of_the_noise_are_uniform_and_do_not_depend_on_other_ranges() -> None:
    grey = np.full((32, 32, 3), 128, np.uint8)
    ranges = {"noise_sigma": (0, 10), "jpeg_quality": None}
    found, blurred = (
        [degrade(grey, params(**ranges, blur_sigma=b), sample(n)) for n in range(400)]
        for b in ((0, 0), (0, 5))
    )
    # A blur of grey changes nothing but how 0.5 is rounded, at 7 of a million values.
    assert np.mean(np.array(found) != np.array(blurred)) < 1e-4
    sigmas = np.array([image.std() for image in found])
    assert sigmas.mean() == pytest.approx(5, abs=0.5)
    assert np.histogram(sigmas, 5, (0, 10))[0] == pytest.approx([80] * 5, abs=30)


def test_numbers_of_numpy_and_lists_are_taken() -> None:
    found = check_degradation(
        {"blur_sigma": [np.float32(0.5), 1], "jpeg_quality": [np.int64(40), np.int64(95)]}
    )
    assert found[0] == (0.5, 1.0)
    assert found[2] == (40, 95)


@pytest.mark.parametrize("ratio", [0, 1])
def test_the_share_of_clean_samples_may_be_none_or_all(ratio: int) -> None:
    drawn = DegradationParams(noise_sigma=(5, 5), clean_ratio=ratio)
    image = photograph(16, 16)
    assert all((degrade(image, drawn, sample(n)) is image) == bool(ratio) for n in range(20))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blur_sigma", 0.5),
        ("blur_sigma", (0.5, 0.1)),
        ("blur_sigma", (-1, 1)),
        ("noise_sigma", (0, float("nan"))),
        ("noise_sigma", (0, float("inf"))),
        ("noise_sigma", (0, 1, 2)),
        ("noise_sigma", "05"),
        ("jpeg_quality", (0, 95)),
        ("jpeg_quality", (40, 101)),
        ("jpeg_quality", (40.0, 95.0)),
        ("jpeg_quality", (False, True)),
        ("clean_ratio", 2),
        ("clean_ratio", "half"),
        ("blur_sigma", (0, 21)),
        ("noise_sigma", (0, 10**400)),
        ("noise_sigma", None),
        ("degradation", (40, 95)),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^{name}: expected"):
        check_degradation({name: value})
