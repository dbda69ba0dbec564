"""`BenchmarkMetric` measures the same on a GPU as on the CPU, and names the image in errors."""

from typing import Any

import pytest
import torch

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.evaluation import metrics
from srgan_plugin.hosts.mmengine.evaluation.metrics import PSNR, BenchmarkMetric


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
