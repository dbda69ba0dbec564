"""The pixel losses, with the arguments and the meaning of MMagic 1.2.0's."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import UserError, check_option
from srgan_plugin.networks.blocks import widened

_CRITERIA: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "mse": F.mse_loss}
_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda loss: loss,
    "mean": torch.mean,
    "sum": torch.sum,
}
_EPS = 1e-12  # keeps a weight that is zero everywhere from dividing by zero


def pixel_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    criterion: Literal["l1", "mse"] = "l1",
    reduction: Literal["none", "mean", "sum"] = "mean",
    sample_wise: bool = False,
) -> Tensor:
    """Absolute or squared error of images (the latter Ledig et al. 2016, eq. 4).

    Args:
        pred: Any range, (N, C, H, W); half precision becomes float32 first.
        target: The same shape.
        weight: Of every element, (N, C, H, W), or of every pixel, (N, 1, H, W).
        criterion: 'l1' is |pred - target|, 'mse' (pred - target)^2.
        reduction: 'none' keeps the shape. 'mean' with a weight divides by the sum of the weights,
            so that what has weight 0 does not count.
        sample_wise: With 'mean' and a weight: the mean of each image first, then over images.

    Returns:
        A scalar, or (N, C, H, W) for 'none'.

    Raises:
        UserError: Shapes that do not fit, or an unknown option.
    """
    check_option("criterion", criterion, _CRITERIA)
    check_option("reduction", reduction, _REDUCTIONS)
    _check_shapes(pred, target, weight)
    loss = _CRITERIA[criterion](widened(pred), widened(target), reduction="none")
    if weight is None:
        return _REDUCTIONS[reduction](loss)
    if reduction != "mean":
        return _REDUCTIONS[reduction](loss * weight)
    weight = widened(weight).expand_as(loss)
    if sample_wise:
        share = weight.sum(dim=(1, 2, 3), keepdim=True) + _EPS
        return (loss * weight / share).sum() / len(loss)
    return (loss * weight).sum() / (weight.sum() + _EPS)


def _check_shapes(pred: Tensor, target: Tensor, weight: Tensor | None) -> None:
    if pred.shape != target.shape:
        raise UserError(
            f"prediction and target must have one shape, got {list(pred.shape)} and "
            f"{list(target.shape)}"
        )
    if weight is not None and weight.shape not in (pred.shape, pred[:, :1].shape):
        raise UserError(
            f"weight must have the prediction's shape {list(pred.shape)}, or one channel of it, "
            f"got {list(weight.shape)}"
        )


class L1Loss(nn.Module):
    """Mean absolute error; see `pixel_loss`.

    Args:
        loss_weight: Factor of the result.
        reduction: 'none', 'mean' or 'sum'.
        sample_wise: With 'mean' and a weight: the mean of each image first, then over images.

    Raises:
        UserError: An unknown reduction.
    """

    criterion: ClassVar[Literal["l1", "mse"]] = "l1"

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_wise: bool = False,
    ) -> None:
        super().__init__()
        check_option("reduction", reduction, _REDUCTIONS)
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.sample_wise = sample_wise

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare images of one shape, (N, C, H, W); shapes and errors as in `pixel_loss`."""
        loss = pixel_loss(
            pred,
            target,
            weight,
            criterion=self.criterion,
            reduction=self.reduction,
            sample_wise=self.sample_wise,
        )
        return loss * self.loss_weight


class MSELoss(L1Loss):
    """Mean squared error; arguments and errors as for `L1Loss`."""

    criterion = "mse"
