"""What metrics take from a sample: GT of another name, their channel order, arrays, old results."""

from typing import Any

import numpy as np
import pytest
import torch

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.evaluation import metrics
from srgan_plugin.hosts.mmengine.evaluation.metrics import PSNR, SSIM, BenchmarkMetric, ImageMetric
from srgan_plugin.hosts.mmengine.evaluation.perceptual import NIQE
from srgan_plugin.metrics import Scorer
from srgan_plugin.metrics.psnr_ssim import PEAK

METRICS: list[type[ImageMetric]] = [PSNR, SSIM, BenchmarkMetric]


def sample(seed: int = 0, size: int = 32) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)
    pred = (gt + 20 * torch.randn(gt.shape, generator=generator)).clamp(0, 255)
    return {"key": f"image{seed}", "gt_img": gt, "output": {"pred_img": pred}}


def score(pred: torch.Tensor, gt: torch.Tensor) -> dict[str, float]:
    """Return what `BenchmarkMetric` has to give for two images in RGB."""
    arrays = [image.permute(1, 2, 0).numpy() for image in (pred, gt)]
    return dict(Scorer().score(*arrays, peak=PEAK))


def measure(metric: ImageMetric, *samples: dict[str, Any]) -> dict[str, float]:
    metric.process(None, samples)
    return metric.evaluate(len(samples))


@pytest.fixture(params=[False, True], ids=["cpu", "cuda"])
def on_cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Take the path of images on a GPU, or not."""
    monkeypatch.setattr(metrics, "_on_cuda", lambda _: request.param)
    return bool(request.param)


@pytest.mark.usefixtures("on_cuda")
@pytest.mark.parametrize(
    ("notes", "pred_is_bgr", "gt_is_bgr"),
    [
        ({}, False, False),
        # MMagic's models state the order of GT alone, and both orders are that.
        ({"truth_output_channel_order": "BGR"}, True, True),
        ({"gt_img_output_channel_order": "BGR"}, True, True),
        # The network's order of the input is neither.
        ({"img_output_channel_order": "BGR"}, False, False),
        # GT that the preprocessor did not convert has the order in which it was read.
        ({"gt_img_output_channel_order": "BGR", "truth_channel_order": "rgb"}, True, False),
        ({"pred_img_output_channel_order": "BGR", "truth_channel_order": "bgr"}, True, True),
        ({"truth_channel_order": "bgr"}, False, True),
        ({"truth_channel_order": ["bgr"]}, False, True),
    ],
)
def test_prediction_and_gt_are_each_measured_in_their_own_channel_order(
    notes: dict[str, Any], pred_is_bgr: bool, gt_is_bgr: bool
) -> None:
    rgb = sample()
    pred, gt = rgb["output"]["pred_img"], rgb["gt_img"]
    stored = {
        "truth": gt.flip(0) if gt_is_bgr else gt,
        "output": {"pred_img": pred.flip(0) if pred_is_bgr else pred},
        **notes,
    }
    nested = {"output": stored["output"], "data_samples": {"truth": stored["truth"], **notes}}
    for one in (stored, nested):
        measured = measure(BenchmarkMetric(gt_key="truth"), one)
        assert measured == pytest.approx(score(pred, gt), abs=1e-6)


@pytest.mark.usefixtures("on_cuda")
@pytest.mark.parametrize("kind", METRICS)
def test_gt_may_be_an_array_of_any_strides_and_predictions_integers(
    kind: type[ImageMetric],
) -> None:
    whole = sample()
    whole["output"]["pred_img"] = whole["output"]["pred_img"].round()
    expected = measure(kind(), whole)
    whole["gt_img"] = np.ascontiguousarray(whole["gt_img"].numpy()[:, ::-1])[:, ::-1]
    assert measure(kind(), whole) == pytest.approx(expected, abs=1e-6)
    for dtype in (torch.uint8, torch.int64):
        output = {"pred_img": whole["output"]["pred_img"].to(dtype)}
        assert measure(kind(), {**whole, "output": output}) == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("on_cuda")
@pytest.mark.parametrize("kind", METRICS)
def test_gt_that_is_not_finite_is_named_and_not_the_prediction(kind: type[ImageMetric]) -> None:
    broken = sample(3)
    broken["gt_img"] = broken["gt_img"].float()
    broken["gt_img"][0, 9, 9] = torch.nan
    with pytest.raises(UserError, match=r"^image3: GT: expected finite values, got NaN"):
        measure(kind(), broken)


def test_a_metric_without_a_reference_ignores_what_gt_holds() -> None:
    image = sample(size=200)
    expected = measure(NIQE(), image)
    for gt in (torch.full((3, 200, 200), torch.nan), torch.zeros(9, 9), torch.zeros(1, 9, 9)):
        assert measure(NIQE(), {**image, "gt_img": gt}) == expected


def test_the_message_of_a_metric_without_a_reference_asks_for_no_equal_shape() -> None:
    image = sample()
    image["gt_img"] = image["gt_img"][None]
    expected = r"a prediction \(3, H, W\), or frames \(T, 3, H, W\), and GT with the same number"
    with pytest.raises(UserError, match=expected):
        NIQE().process(None, [image])


@pytest.mark.usefixtures("on_cuda")
@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("option", ["gt_key", "pred_key"])
def test_a_missing_image_is_one_line_with_the_names_that_the_sample_has(
    kind: type[ImageMetric], option: str
) -> None:
    there = "gt_img" if option == "gt_key" else "pred_img"
    with pytest.raises(UserError, match=f"^image0: wrong: .*{there}.*; set gt_key or pred_key"):
        kind(**{option: "wrong"}).process(None, [sample()])


@pytest.mark.usefixtures("on_cuda")
@pytest.mark.parametrize("kind", METRICS)
def test_results_of_a_run_that_ended_in_an_error_do_not_count_in_the_next(
    kind: type[ImageMetric],
) -> None:
    whole, broken = [sample(seed) for seed in range(3)], [sample(seed) for seed in range(4, 7)]
    for one in broken[1:]:
        one["output"]["pred_img"][0, 5, 5] = torch.nan
    metric = kind()
    expected = measure(kind(), *whole)
    with pytest.raises(UserError, match="NaN"):  # at the second image, or at the end on a GPU
        measure(metric, *broken)
    assert measure(metric, *whole) == pytest.approx(expected, abs=1e-9)
    metric.process(None, broken[:1])  # then the network ran out of memory
    assert measure(metric, *whole) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", METRICS)
def test_a_padded_share_of_a_rank_is_kept_as_a_whole(
    kind: type[ImageMetric], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "get_world_size", lambda: 2)
    metric = kind()
    seen: list[int] = []
    monkeypatch.setattr(metric, "_to_scores", lambda results: seen.append(len(results)) or results)
    metric.process(None, [sample(seed) for seed in range(3)])  # of 5 images on two ranks
    metric.evaluate(5)
    assert seen == [3]
