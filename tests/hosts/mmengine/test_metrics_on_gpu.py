"""The metric of the table measures the same on the device as on the host."""

import pytest
import torch

from srgan_plugin.hosts.mmengine.evaluation import metrics
from srgan_plugin.hosts.mmengine.evaluation.metrics import BenchmarkMetric


def sample(seed: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.randint(0, 256, (3, 32, 40), dtype=torch.uint8, generator=generator)
    pred = gt + 20 * torch.randn(gt.shape, generator=generator)
    return {"gt_img": gt, "output": {"pred_img": pred}}


def test_device_and_host_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    for on_device in (False, True):
        monkeypatch.setattr(metrics, "_on_device", lambda _, answer=on_device: answer)
        metric = BenchmarkMetric()
        for seed in range(3):
            metric.process(None, [sample(seed)])
        measured.append(metric.evaluate(3))
    names = ["PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "SSIM_B"]
    assert list(measured[1]) == list(measured[0]) == names
    assert measured[1] == pytest.approx(measured[0], abs=1e-6)


@pytest.mark.parametrize("on_device", [True, False])
def test_a_prediction_that_is_not_finite_is_refused(
    monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    monkeypatch.setattr(metrics, "_on_device", lambda _: on_device)
    metric, broken = BenchmarkMetric(), sample(0)
    broken["output"]["pred_img"][0, 5, 5] = torch.nan  # type: ignore[index]
    with pytest.raises(ValueError, match="NaN"):
        metric.process(None, [broken])
        metric.evaluate(1)
