"""PSNR and SSIM of tensors agree with those of arrays."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.errors import UserError
from srgan_plugin.metrics import PROTOCOLS, Scorer

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def images(height: int, width: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A prediction, float32 HWC in about [0, 1], and its uint8 ground truth."""
    rng = np.random.default_rng(seed)
    gt = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pred = gt / 255 + noise * rng.standard_normal(gt.shape)
    return pred.astype(np.float32), gt


def chw(image: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).to(device)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(19, 60),
    width=st.integers(19, 60),
    noise=st.sampled_from([0.001, 0.05, 2.0]),
    rounding=st.booleans(),
    border=st.sampled_from([0, 4]),
)
def test_all_measures_agree_with_the_reference(
    device: str, height: int, width: int, noise: float, rounding: bool, border: int
) -> None:
    pred, gt = images(height, width, noise)
    names = [name for name in PROTOCOLS if name != "paper" or border == 4]
    scorer = Scorer(names, border=border, rounding=rounding)
    expected = scorer.score(pred, gt)
    measured = scorer.score_tensor(chw(pred, device) * 255, chw(gt, device))
    assert measured.dtype == torch.float64
    for name, value in zip(scorer.metrics, measured.tolist(), strict=True):
        # Rounding off, 255 times a float32 is a float32 here and a float64 there.
        rounded = scorer.metrics[name].rounding
        assert value == pytest.approx(expected[name], abs=1e-6 if rounded else 1e-4)


def test_equal_images_have_infinite_psnr_and_an_ssim_of_one() -> None:
    _, gt = images(24, 24, 0.0)
    measured = Scorer().score_tensor(chw(gt, "cpu").float(), chw(gt, "cpu"))
    assert measured.tolist() == pytest.approx([float("inf"), 1.0, float("inf"), 1.0, 1.0])


def test_a_prediction_that_is_not_finite_measures_as_nan() -> None:
    pred, gt = images(24, 24, 0.1)
    for broken in (np.nan, np.inf, -np.inf):
        pred[12, 12, 1] = broken
        measured = Scorer().score_tensor(chw(pred, "cpu") * 255, chw(gt, "cpu"))
        assert measured.isnan().all()


@pytest.mark.parametrize(
    ("pred", "gt", "message"),
    [
        ((3, 24, 24), (3, 24, 28), r"\(3, H, W\).* \(3, 24, 24\) and \(3, 24, 28\)"),
        ((1, 24, 24), (1, 24, 24), r"\(3, H, W\).* \(1, 24, 24\)"),
        ((24, 28, 3), (24, 28, 3), r"\(3, H, W\).* \(24, 28, 3\)"),
        ((1, 3, 24, 28), (1, 3, 24, 28), r"\(3, H, W\).* \(1, 3, 24, 28\)"),
        ((3, 18, 24), (3, 18, 24), r"11x11.* after 4 .* height 18 and width 24"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(
    pred: tuple[int, ...], gt: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Scorer().score_tensor(torch.zeros(pred), torch.zeros(gt, dtype=torch.uint8))


@pytest.mark.parametrize("name", ["pred", "gt"])
def test_arrays_are_refused_where_tensors_are_measured(name: str) -> None:
    pair: dict[str, Any] = {"pred": torch.zeros(3, 24, 24), "gt": torch.zeros(3, 24, 24)}
    with pytest.raises(UserError, match=f"^{name}: expected a tensor, got ndarray"):
        Scorer().score_tensor(**pair | {name: np.zeros((24, 24, 3), np.uint8)})
