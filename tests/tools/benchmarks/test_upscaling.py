"""Both sides upscale the same image, each in a process of its own."""

import numpy as np
import pytest
from benchmarks.upscaling import _mmagic, _plugin, upscale_sides


def test_a_measurement_has_the_time_and_the_memory_of_the_image_alone() -> None:
    sides = upscale_sides(96, 64, device="cpu", against_mmagic=False)
    assert list(sides) == ["srgan_plugin"]
    result = sides["srgan_plugin"]()
    activations = 96 * 64 * 16 * 64 * 4  # of the last layers, whole
    assert 0 < result.seconds < 60
    assert result.peak_bytes is not None
    assert activations / 4 < result.peak_bytes < 40 * activations


def test_both_sides_make_8_bit_images_of_four_times_the_size() -> None:
    pytest.importorskip("mmagic")
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    for upscale in (_plugin("torch", "cpu"), _mmagic("cpu")):
        result = upscale(image)
        assert (result.shape, result.dtype) == ((48, 40, 3), np.uint8)
