"""`BenchmarkMetric` measures the same on a GPU as on the CPU, and names the image in errors."""

import re
from typing import Any

import pytest
import torch

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.evaluation import metrics
from srgan_plugin.hosts.mmengine.evaluation.metrics import PSNR, SSIM, BenchmarkMetric
from srgan_plugin.hosts.mmengine.evaluation.perceptual import NIQE


def sample(seed: int, frames: tuple[int, ...] = ()) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.randint(0, 256, (*frames, 3, 32, 40), dtype=torch.uint8, generator=generator)
    pred = gt + 20 * torch.randn(gt.shape, generator=generator)
    return {"key": f"image{seed}", "gt_img": gt, "output": {"pred_img": pred}}


def measure(*samples: dict[str, Any]) -> dict[str, float]:
    metric = BenchmarkMetric()
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_gpu_and_cpu_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    for on_cuda in (False, True):
        monkeypatch.setattr(metrics, "_on_cuda", lambda _, answer=on_cuda: answer)
        metric = BenchmarkMetric()
        for seed in range(3):
            metric.process(None, [sample(seed)])
        measured.append(metric.evaluate(3))
    names = ["PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "SSIM_B"]
    assert list(measured[1]) == list(measured[0]) == names
    assert measured[1] == pytest.approx(measured[0], abs=1e-6)


@pytest.mark.parametrize("on_cuda", [True, False])
def test_the_first_prediction_that_is_not_finite_is_named(
    monkeypatch: pytest.MonkeyPatch, on_cuda: bool
) -> None:
    monkeypatch.setattr(metrics, "_on_cuda", lambda _: on_cuda)
    samples = [sample(seed) for seed in range(4)]
    for broken in samples[2:]:
        broken["output"]["pred_img"][0, 5, 5] = torch.nan
    with pytest.raises(UserError, match=r"^image2: prediction: .*NaN"):
        measure(*samples)


@pytest.mark.parametrize("on_cuda", [True, False])
def test_an_image_of_another_shape_or_too_small_is_named(
    monkeypatch: pytest.MonkeyPatch, on_cuda: bool
) -> None:
    monkeypatch.setattr(metrics, "_on_cuda", lambda _: on_cuda)
    small, other = sample(1), sample(2)
    small["gt_img"] = small["gt_img"][..., :16]
    small["output"]["pred_img"] = small["output"]["pred_img"][..., :16]
    other["gt_img"] = other["gt_img"][..., :36]
    for bad in (small, other):
        with pytest.raises(UserError, match=f"^{bad['key']}: .*expected"):
            measure(sample(0), bad)


@pytest.mark.parametrize("on_cuda", [True, False])
@pytest.mark.parametrize("kind", [PSNR, SSIM, BenchmarkMetric])
@pytest.mark.parametrize("frames", [(), (2,)])
def test_shapes_that_differ_are_stated_as_they_were_given(
    monkeypatch: pytest.MonkeyPatch,
    on_cuda: bool,
    kind: type[metrics.ImageMetric],
    frames: tuple[int, ...],
) -> None:
    monkeypatch.setattr(metrics, "_on_cuda", lambda _: on_cuda)
    whole, wrong = sample(0, frames), sample(1, frames)
    wrong["gt_img"] = whole["gt_img"][:1] if frames else whole["gt_img"][..., :36]
    shapes = (tuple(wrong["output"]["pred_img"].shape), tuple(wrong["gt_img"].shape))
    message = re.escape(f"got {shapes[0]} and {shapes[1]}")
    with pytest.raises(UserError, match=rf"^image1: .*\(3, H, W\).*{message}; "):
        kind().process(None, [whole, wrong])


def test_niqe_needs_no_gt_of_the_same_size() -> None:
    image = sample(0)
    generator = torch.Generator().manual_seed(0)
    image["output"]["pred_img"] = 255 * torch.rand(3, 200, 208, generator=generator)
    metric = NIQE()
    metric.process(None, [image])
    assert metric.evaluate(1)["NIQE"] > 0
    image["gt_img"] = image["gt_img"][None]
    with pytest.raises(UserError, match=r"got \(3, 200, 208\) and \(1, 3, 32, 40\); convert"):
        metric.process(None, [image])


def test_frames_are_averaged_on_a_gpu_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    video, single = sample(0, frames=(3,)), sample(1)
    frames = [
        {"gt_img": gt, "output": {"pred_img": pred}}
        for gt, pred in zip(video["gt_img"], video["output"]["pred_img"], strict=True)
    ]
    means = [measure(*frames), measure(single)]
    expected = {name: (means[0][name] + means[1][name]) / 2 for name in means[0]}
    for on_cuda in (False, True):
        monkeypatch.setattr(metrics, "_on_cuda", lambda _, answer=on_cuda: answer)
        for samples in ((video, single), (single, video)):
            assert measure(*samples) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", [PSNR, BenchmarkMetric])
def test_an_empty_test_set_is_one_line(metric: type[metrics.ImageMetric]) -> None:
    with pytest.raises(UserError, match="at least one image, got none"):
        metric().evaluate(0)
    with pytest.raises(UserError, match="at least one image, got none"):
        metric().evaluate()  # as in the loop of MMagic, but without `prepare`
