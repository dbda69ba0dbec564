"""Scoring, averaging and the reference values of bicubic."""

import re

import numpy as np
import pytest
import torch

from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import UserError
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image
from srgan_plugin.metrics import (
    PROTOCOLS,
    Scorer,
    average,
    evaluate,
    psnr,
    quantize,
    score_images,
    scoring,
    ssim,
)
from srgan_plugin.metrics.psnr_ssim import ssim_by_plane

# Measured with code independent of this project, LR made by MATLAB, output rounded once.
BICUBIC = {
    "Set5": {"PSNR": 26.665, "SSIM": 0.7739, "PSNR_Y": 28.397, "SSIM_Y": 0.8115},
    "Set14": {"PSNR": 24.463, "SSIM": 0.6641, "PSNR_Y": 26.088, "SSIM_Y": 0.7050},
}


def bicubic(lr):
    return imresize(lr / 255.0, 4)


@pytest.mark.parametrize("name", BICUBIC)
def test_bicubic_lands_on_the_reference_values(name, shared_data):
    scores = evaluate(bicubic, find_benchmark(name, shared_data / "benchmark"), Scorer())
    for measure, expected in BICUBIC[name].items():
        digits = 3 if measure.startswith("PSNR") else 4
        assert scores[measure] == pytest.approx(expected, abs=0.5001 * 10**-digits), measure


def test_without_rounding_bicubic_scores_what_mmagic_would_find(shared_data):
    """MMagic 1.x only clamps: the PSNR is a little higher than that of the saved picture."""
    benchmark = find_benchmark("Set5", shared_data / "benchmark")
    kept = evaluate(bicubic, benchmark, Scorer(rounding=False))["PSNR"]
    assert 0.001 < kept - BICUBIC["Set5"]["PSNR"] < 0.006


def random_pair(seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.2, 1.2, (32, 32, 3)), rng.integers(0, 256, (32, 32, 3), np.uint8)


def test_all_measures_are_taken_inside_the_border():
    pred, gt = random_pair()
    saved = np.rint(pred.clip(0, 1) * 255).astype(np.uint8)
    assert Scorer(border=3).score(pred, gt) == {
        "PSNR": psnr(saved, gt, border=3),
        "SSIM": ssim(saved, gt, border=3),
        "PSNR_Y": psnr(saved, gt, border=3, channel="y"),
        "SSIM_Y": ssim(saved, gt, border=3, channel="y"),
        "SSIM_B": ssim(saved, gt, border=3, channel="b"),
    }


def test_rounding_off_measures_the_clamped_floats():
    pred, gt = random_pair()
    scores = Scorer(rounding=False).score(pred, gt)
    assert scores["PSNR"] == psnr(pred.clip(0, 1) * 255, gt, border=4)
    assert scores != Scorer().score(pred, gt)


def test_a_finished_image_scores_the_same_with_and_without_rounding():
    pred, gt = random_pair()
    saved = np.rint(pred.clip(0, 1) * 255).astype(np.uint8)
    assert Scorer().score(saved, gt) == Scorer(rounding=False).score(saved, gt)
    assert Scorer().score(saved, gt) == Scorer().score(pred, gt)


@pytest.mark.parametrize("border", [4.0, -1, "4", None, True])
def test_a_border_that_is_not_a_number_of_pixels_is_refused_before_anything_is_measured(border):
    with pytest.raises(UserError, match=f"^border: expected an integer.*got {border!r}$"):
        Scorer(border=border)


def test_integers_other_than_uint8_are_refused():
    _, gt = random_pair()
    with pytest.raises(ValueError, match="int64"):
        Scorer().score(gt.astype(np.int64), gt)


@pytest.mark.parametrize("shape", [(3, 24, 28), (1, 3, 24, 28), (1, 24, 28, 3), (24, 28)])
def test_arrays_of_another_shape_are_refused_with_their_shape(shape):
    image = np.zeros(shape, np.uint8)
    with pytest.raises(UserError, match=re.escape(f"(H, W, 3), got {shape} and {shape}")):
        Scorer().score(image, image)


def test_the_mean_is_over_images_and_not_over_pixels():
    assert average([{"PSNR": 20.0, "NIQE": 5}, {"PSNR": 30.0, "NIQE": 6}]) == {
        "PSNR": 25.0,
        "NIQE": 5.5,
    }
    with pytest.raises(ValueError, match="at least one image"):
        average([])


def test_evaluate_is_the_average_of_the_scores_of_each_image(shared_data):
    benchmark = find_benchmark("Set5", shared_data / "benchmark")
    rows = dict(score_images(bicubic, benchmark, Scorer()))
    assert sorted(rows) == ["baby", "bird", "butterfly", "head", "woman"]
    assert evaluate(bicubic, benchmark, Scorer()) == average(rows.values())


def test_the_description_names_protocols_channels_border_and_rounding():
    text = Scorer(["mmagic-1.x", "openmmlab-2020"], border=2).describe()
    head, mmagic, openmmlab = text.splitlines()
    assert "2 pixels" in head
    assert "mmagic-1.x" in mmagic
    assert "not rounded" in mmagic
    assert "openmmlab-2020" in openmmlab
    assert "blue" in openmmlab
    assert "not rounded" not in openmmlab
    assert "not rounded" in Scorer(["openmmlab-2020"], rounding=False).describe()
    (_, paper) = Scorer(["paper"], border=2).describe().splitlines()
    assert "4 pixels" in paper


def test_measures_that_protocols_share_are_computed_once(monkeypatch):
    compared = []

    def counting(a, b):
        compared.append(len(a))
        return ssim_by_plane(a, b)

    monkeypatch.setattr(scoring, "ssim_by_plane", counting)
    pred, gt = random_pair()
    scorer = Scorer(["basicsr", "openmmlab-2020", "y", "paper"])
    assert list(scorer.score(pred, gt)) == ["PSNR", "SSIM", "SSIM_B", "PSNR_Y", "SSIM_Y"]
    assert compared == [4]  # red, green, blue and luma, at once


def test_blue_alone_is_what_openmmlab_compared():
    pred, gt = random_pair()
    scores = Scorer(["openmmlab-2020", "basicsr"]).score(pred, gt)
    saved = np.rint(pred.clip(0, 1) * 255)
    assert scores["SSIM_B"] == ssim(saved, gt, border=4, channel="b")
    only_blue = [np.repeat(image[..., 2:], 3, axis=-1) for image in (saved, gt)]
    assert scores["SSIM_B"] == pytest.approx(ssim(*only_blue, border=4), abs=1e-12)
    assert abs(scores["SSIM_B"] - scores["SSIM"]) > 1e-3


def test_predictions_may_be_in_0_to_255():
    pred, gt = random_pair()
    scorer = Scorer(PROTOCOLS)
    assert scorer.score(pred * 255, gt, peak=255) == pytest.approx(scorer.score(pred, gt))


def test_a_border_of_the_papers_own_is_kept_and_does_not_pass_for_another():
    assert Scorer(["paper"], border=2).metrics["PSNR_Y"].border == 4
    with pytest.raises(UserError, match=r"PSNR_Y after 2 pixels.* got 4"):
        Scorer(["y", "paper"], border=2)


@pytest.mark.parametrize(("protocols", "words"), [(["basicsr", "ssim"], "'ssim'"), ([], "none")])
def test_unknown_protocols_and_none_are_refused(protocols, words):
    with pytest.raises(UserError, match=f"openmmlab-2020.*{words}"):
        Scorer(protocols)


def test_the_papers_bicubic_is_of_images_cropped_to_multiples_of_4(shared_data):
    """28.43 dB in the paper; GT cropped to multiples of 12 gives 28.40."""
    scorer, scores = Scorer(["paper"]), []
    for path in sorted((shared_data / "golden/Set5_HR").iterdir()):
        gt = read_image(path)
        height, width = (size // 4 * 4 for size in gt.shape[:2])
        gt = gt[:height, :width]
        lr = quantize(imresize(gt / 255, 1 / 4))
        scores.append(scorer.score(imresize(lr / 255, 4), gt))
    assert round(average(scores)["PSNR_Y"], 2) == 28.43


def test_values_that_would_be_measured_wrongly_are_refused():
    image = np.full((32, 32, 3), 100, np.uint8)
    with pytest.raises(UserError, match=r"gt: expected uint8 .* got float64"):
        Scorer().score(image, image / 255)
    with pytest.raises(UserError, match=r"gt: expected uint8 .* got torch\.float32"):
        Scorer().score_tensor(torch.zeros(3, 32, 32), torch.zeros(3, 32, 32))
    for peak in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"peak: expected a positive number"):
            Scorer().score(image / 255, image, peak=peak)
    with pytest.raises(UserError, match=r"scores: expected PSNR of each, got SSIM"):
        average([{"PSNR": 1.0}, {"SSIM": 1.0}])
    assert Scorer("basicsr").protocols == ("basicsr",)


def test_an_image_that_cannot_be_measured_is_named(tmp_path):
    write_image(tmp_path / "Toy/HR/a.png", np.full((48, 48, 3), 100, np.uint8))
    with pytest.raises(UserError, match=r"^a: images: expected two of one shape"):
        dict(score_images(lambda lr: lr, find_benchmark("Toy", tmp_path), Scorer()))
