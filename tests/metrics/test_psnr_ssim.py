"""PSNR, SSIM, luma and rounding against independent implementations."""

import math
import re
from fractions import Fraction

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srgan_plugin.errors import UserError
from srgan_plugin.metrics import Scorer
from srgan_plugin.metrics.niqe import PristineModel, niqe
from srgan_plugin.metrics.psnr_ssim import psnr, quantize, ssim, to_levels, to_y


def images(seed, height=24, width=31, noise=20.0):
    """A smooth image and a noisy one of it: SSIM far from both its ends."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 127 + 90 * np.sin(y / 5 + seed)[..., None] * np.cos(x[..., None] / (4 + np.arange(3)))
    noisy = base + rng.normal(0, noise, base.shape)
    return tuple(np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in (noisy, base))


def slow_ssim(a, b):
    """Wang et al. 2004, window by window, with the weighted moments written out."""
    gaussian = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(gaussian, gaussian) / np.outer(gaussian, gaussian).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            p = a[top : top + 11, left : left + 11].astype(float)
            q = b[top : top + 11, left : left + 11].astype(float)
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            values.append(
                (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
            )
    return np.mean(values)


def skimage_ssim(a, b):
    _, values = structural_similarity(
        a.astype(float), b.astype(float), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=255, full=True,
    )  # fmt: skip
    return values[5:-5, 5:-5].mean()


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 40), st.integers(11, 40), st.integers(0, 99))
def test_ssim_equals_skimages_valid_area_for_any_size(height, width, seed):
    a, b = images(seed, height, width)
    expected = np.mean([skimage_ssim(a[..., c], b[..., c]) for c in range(3)])
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)


def test_ssim_equals_the_slow_obvious_version_in_rgb_and_on_luma():
    a, b = images(1, 17, 19)
    assert 0.1 < ssim(a, b) < 0.95
    assert ssim(a, b) == pytest.approx(
        np.mean([slow_ssim(a[..., c], b[..., c]) for c in range(3)]), abs=1e-9
    )
    assert ssim(a, b, channel="y") == pytest.approx(slow_ssim(to_y(a), to_y(b)), abs=1e-9)


def test_psnr_equals_skimages_and_takes_one_mse_over_all_channels():
    a, b = images(2)
    b = b.copy()
    b[..., 2] = 255 - b[..., 2]  # channels far apart: the mean of three PSNRs would differ
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), abs=1e-9)


def test_luma_of_the_primaries_is_bt601_studio_range():
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]])
    expected = [16 + 65.481, 16 + 128.553, 16 + 24.966, 235.0, 16.0]
    np.testing.assert_allclose(to_y(primaries)[0], expected, atol=1e-9)


def test_luma_psnr_is_the_psnr_of_unrounded_luma():
    a, b = images(3)
    mse = np.mean((to_y(a) - to_y(b)) ** 2)
    assert psnr(a, b, channel="y") == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-9)


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize("channel", ["rgb", "b", "y"])
def test_a_border_is_ignored_as_if_it_had_been_cut_off(measure, channel):
    a, b = images(4)
    cut = (slice(4, -4), slice(4, -4))
    assert measure(a, b, border=4, channel=channel) == measure(a[cut], b[cut], channel=channel)


def test_equal_images_have_infinite_psnr_and_ssim_one():
    a, _ = images(5)
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)


def test_floats_are_measured_as_they_are_without_rounding():
    _, b = images(6)
    assert psnr(b + 0.25, b) == pytest.approx(10 * math.log10(255**2 / 0.0625), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.5, 1.5, width=32), min_size=1, max_size=40))
def test_quantize_equals_what_basicsr_does_with_torch(values):
    pred = np.array(values, np.float32)
    expected = (torch.from_numpy(pred).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(quantize(pred), expected)


def test_quantize_rounds_halves_to_even_and_keeps_half_precision_exact():
    halves = np.array([0.5, 1.5, 2.5, 253.5]) / 255
    np.testing.assert_array_equal(quantize(halves), [0, 2, 2, 254])
    half = np.array([0.9], np.float16)
    np.testing.assert_array_equal(quantize(half), np.rint(half.astype(np.float64) * 255))


def test_quantize_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="NaN or infinite"):
        quantize(np.array([0.5, np.nan]))


def test_quantize_refuses_integers_of_which_only_0_and_255_would_be_left():
    with pytest.raises(UserError, match="floating point, got uint8"):
        quantize(np.array([0, 1, 2, 128], np.uint8))


@pytest.mark.parametrize("peak", [1, 2, 200, 255])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_levels_are_those_of_exact_arithmetic_for_any_peak(dtype, peak):
    pred = np.concatenate([np.linspace(-0.1, 1.1, 997) * peak, [-6e4, 6e4]]).astype(dtype)
    exact = [min(max(Fraction(float(value)), 0), peak) * 255 / peak for value in pred]
    levels = to_levels(pred, peak=peak, rounding=False)
    np.testing.assert_allclose(levels, np.array(exact, float), rtol=1e-14)
    rounded = to_levels(pred, peak=peak)
    assert np.array_equal(rounded, np.round(rounded))
    # The product is that of float32, as in BasicSR, which differs from the exact one.
    assert np.abs(rounded - np.array(exact, float)).max() <= 0.5 + 2**-16


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((24, 30, 3), {}, r"\(24, 30, 3\) and \(24, 31, 3\)"),
        ((24, 31, 3), {"border": 12}, "after 12 .* height 24 and width 31"),
        ((24, 31, 3), {"border": -1}, "border.*integer.*at least 0, got -1$"),
        ((24, 31, 3), {"border": 4.0}, r"border.*integer.*at least 0, got 4\.0$"),
        ((24, 31, 3), {"channel": "bgr"}, "channel.*'rgb'.*'y'.*'bgr'"),
    ],
)
def test_what_cannot_be_measured_gets_one_clear_line(measure, shape, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        measure(np.zeros(shape), np.zeros((24, 31, 3)), **options)
    assert "\n" not in str(caught.value)


def test_ssim_says_how_many_pixels_it_needs_within_the_border():
    with pytest.raises(ValueError, match=r"11x11.* after 4 .* height 18 and width 40"):
        ssim(np.zeros((18, 40, 3)), np.zeros((18, 40, 3)), border=4)


def test_a_grey_image_is_refused_with_its_shape():
    with pytest.raises(ValueError, match=r"\(24, 31\) and \(24, 31\)"):
        psnr(np.zeros((24, 31)), np.zeros((24, 31)))


@pytest.mark.parametrize("shape", [(24, 31), (24, 31, 4), (3, 24, 31), ()])
def test_luma_of_what_is_not_rgb_is_refused_with_its_shape(shape):
    with pytest.raises(UserError, match=re.escape(f"(..., 3), got {shape}; convert")):
        to_y(np.zeros(shape))


ARRAYS = {
    "psnr": lambda image: psnr(image, np.zeros((24, 31, 3))),
    "psnr GT": lambda image: psnr(np.zeros((24, 31, 3)), image),
    "ssim": lambda image: ssim(image, np.zeros((24, 31, 3))),
    "to_y": to_y,
    "quantize": quantize,
    "niqe": lambda image: niqe(image, PristineModel(np.zeros(36), np.eye(36))),
    "score": lambda image: Scorer().score(image, np.zeros((24, 31, 3), np.uint8)),
    "score GT": lambda image: Scorer().score(np.zeros((24, 31, 3)), image),
}


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (torch.zeros(3, 24, 31), "Tensor"),
        (PIL.Image.new("RGB", (31, 24)), "Image"),
        ([[[0, 0, 0]]], "list"),
        (np.zeros((24, 31, 3), bool), "one of bool"),
        (np.zeros((24, 31, 3), complex), "one of complex128"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("measure", ARRAYS)
def test_what_is_not_an_array_of_numbers_is_refused_in_one_line(measure, image, kind):
    with pytest.raises(UserError, match=f"expected a NumPy array.*got {kind}; ") as caught:
        ARRAYS[measure](image)
    assert "\n" not in str(caught.value)


def test_an_image_that_is_not_finite_is_measured_as_nan():
    a, b = (image.astype(float) for image in images(7))
    a[12, 12, 1] = np.inf
    with np.errstate(invalid="ignore"):
        assert math.isnan(ssim(a, b))
    a[12, 12, 1] = np.nan
    assert math.isnan(psnr(a, b))
