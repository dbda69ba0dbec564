"""Scoring, averaging and the reference values of bicubic."""

import numpy as np
import pytest

from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.data.resize import imresize
from srgan_plugin.metrics.protocol import (
    METRIC_FUNCTIONS,
    EvaluationProtocol,
    average,
    evaluate,
    score_images,
)
from srgan_plugin.metrics.psnr_ssim import psnr, ssim

# Measured with code independent of this project, LR made by MATLAB, output rounded once.
BICUBIC = {
    "Set5": {"PSNR": 26.665, "SSIM": 0.7739, "PSNR_Y": 28.397, "SSIM_Y": 0.8115},
    "Set14": {"PSNR": 24.463, "SSIM": 0.6641, "PSNR_Y": 26.088, "SSIM_Y": 0.7050},
}


def bicubic(lr):
    return imresize(lr / 255.0, 4)


@pytest.mark.parametrize("name", BICUBIC)
def test_bicubic_lands_on_the_reference_values(name, shared_data):
    scores = evaluate(
        bicubic, find_benchmark(name, shared_data / "benchmark"), EvaluationProtocol()
    )
    for measure, expected in BICUBIC[name].items():
        digits = 3 if measure.startswith("PSNR") else 4
        assert scores[measure] == pytest.approx(expected, abs=0.5001 * 10**-digits), measure


def test_without_rounding_bicubic_scores_what_mmagic_would_find(shared_data):
    """MMagic 1.x only clamps: the PSNR is a little higher than that of the saved picture."""
    benchmark = find_benchmark("Set5", shared_data / "benchmark")
    kept = evaluate(bicubic, benchmark, EvaluationProtocol(rounding=False))["PSNR"]
    assert 0.001 < kept - BICUBIC["Set5"]["PSNR"] < 0.006


def random_pair(seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.2, 1.2, (32, 32, 3)), rng.integers(0, 256, (32, 32, 3), np.uint8)


def test_all_four_measures_are_taken_inside_the_border():
    pred, gt = random_pair()
    saved = np.rint(pred.clip(0, 1) * 255).astype(np.uint8)
    assert EvaluationProtocol(border=3).score(pred, gt) == {
        "PSNR": psnr(saved, gt, border=3),
        "SSIM": ssim(saved, gt, border=3),
        "PSNR_Y": psnr(saved, gt, border=3, channel="y"),
        "SSIM_Y": ssim(saved, gt, border=3, channel="y"),
    }


def test_rounding_off_measures_the_clamped_floats():
    pred, gt = random_pair()
    scores = EvaluationProtocol(rounding=False).score(pred, gt)
    assert scores["PSNR"] == psnr(pred.clip(0, 1) * 255, gt, border=4)
    assert scores != EvaluationProtocol().score(pred, gt)


def test_a_finished_image_scores_the_same_with_and_without_rounding():
    pred, gt = random_pair()
    saved = np.rint(pred.clip(0, 1) * 255).astype(np.uint8)
    assert EvaluationProtocol().score(saved, gt) == EvaluationProtocol(rounding=False).score(
        saved, gt
    )
    assert EvaluationProtocol().score(saved, gt) == EvaluationProtocol().score(pred, gt)


def test_integers_other_than_uint8_are_refused():
    _, gt = random_pair()
    with pytest.raises(ValueError, match="int64"):
        EvaluationProtocol().score(gt.astype(np.int64), gt)


def test_the_mean_is_over_images_and_not_over_pixels():
    rows = [dict.fromkeys(METRIC_FUNCTIONS, 20.0), dict.fromkeys(METRIC_FUNCTIONS, 30.0)]
    assert average(rows) == dict.fromkeys(METRIC_FUNCTIONS, 25.0)
    with pytest.raises(ValueError, match="at least one image"):
        average([])


def test_evaluate_is_the_average_of_the_scores_of_each_image(shared_data):
    benchmark = find_benchmark("Set5", shared_data / "benchmark")
    rows = dict(score_images(bicubic, benchmark, EvaluationProtocol()))
    assert sorted(rows) == ["baby", "bird", "butterfly", "head", "woman"]
    assert evaluate(bicubic, benchmark, EvaluationProtocol()) == average(rows.values())


def test_the_description_names_channels_border_and_rounding():
    assert EvaluationProtocol(border=2).describe() == (
        "RGB and Y (BT.601), 2 pixels cut off each edge, output rounded to uint8"
    )
    assert "not rounded" in EvaluationProtocol(rounding=False).describe()
