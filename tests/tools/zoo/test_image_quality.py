"""Measures beyond PSNR: against a published value and patterns of known strength."""

import numpy as np
import pytest
from zoo.image_quality import checkerboard, colour_shift

LUMA = 219 / 255  # of a step of grey


def added(image, pattern):
    return np.clip(image.astype(float) + pattern[..., None], 0, 255).round().astype(np.uint8)


def test_a_colour_shift_is_that_of_the_worst_channel(textured):
    gt = textured(48, 60) // 2
    assert colour_shift(gt, gt) == 0
    shifted = gt + np.array([1, 0, 3], np.uint8)
    assert colour_shift(shifted, gt) == pytest.approx(3)


@pytest.mark.parametrize(
    ("pattern", "amplitude"),
    [
        (lambda y, x: (-1.0) ** (y + x), 1),
        (lambda y, x: (-1.0) ** x, 1),
        (lambda y, x: np.cos(np.pi / 2 * y), 1),
        (lambda y, x: np.cos(np.pi / 2 * (y - x)), 1),
        (lambda y, x: 4.0 * (x % 4 == 0), 2),  # its wave of period 4
    ],
)
def test_a_checkerboard_is_measured_in_levels_whatever_it_lies_on(textured, pattern, amplitude):
    smooth = textured(192, 256) // 2 + 40
    board = pattern(*np.indices(smooth.shape[:2]))
    found = checkerboard(added(smooth, 4 * board), smooth)
    assert found == pytest.approx(4 * amplitude * LUMA, rel=0.02)
    texture = np.random.default_rng(1).normal(0, 6, smooth.shape[:2])
    assert checkerboard(added(smooth, texture), smooth) < 0.5
    both = checkerboard(added(smooth, texture + 4 * board), smooth)
    assert both == pytest.approx(4 * amplitude * LUMA, rel=0.1)


def test_where_nothing_was_added_there_is_no_checkerboard(textured):
    assert checkerboard(textured(96, 96), textured(96, 96)) == 0
