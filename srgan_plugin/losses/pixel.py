"""The pixel losses, equal to those of MMagic 1.2.0 in arguments and values."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import UserError, check_factor, check_option
from srgan_plugin.networks.blocks import at_least_float32

_CRITERIA: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "mse": F.mse_loss}
_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda loss: loss,
    "mean": torch.mean,
    "sum": torch.sum,
}
_EPS = 1e-12  # avoids a division by zero where all weights are zero


def pixel_loss(
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    criterion: Literal["l1", "mse"] = "l1",
    reduction: Literal["none", "mean", "sum"] = "mean",
    sample_wise: bool = False,
) -> Tensor:
    """Compute the absolute or squared error of images (the latter is eq. 4 of Ledig et al. 2016).

    Args:
        pred: Predicted images, any range, (N, C, H, W); half precision is converted to float32.
        target: GT images of the same shape and range.
        weight: Weight by element, (N, C, H, W), or by pixel, (N, 1, H, W).
        criterion: 'l1' is `|pred - target|`, 'mse' is `(pred - target)^2`.
        reduction: 'none', 'mean' or 'sum'. 'mean' with a weight divides by the sum of the weights,
            so elements of weight 0 do not count.
        sample_wise: Whether 'mean' with a weight averages over each image, then over images.

    Returns:
        A scalar, or (N, C, H, W) for 'none'.

    Raises:
        UserError: The shapes differ, an option is unknown, or a weight is given for another shape
            than (N, C, H, W).

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import pixel_loss
        >>> pred, target = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
        >>> pixel_loss(pred, target).item(), pixel_loss(pred, target, criterion="mse").item()
        (0.5, 0.25)
    """
    check_option("criterion", criterion, _CRITERIA)
    check_option("reduction", reduction, _REDUCTIONS)
    _check_shapes(pred, target, weight)
    loss = _CRITERIA[criterion](at_least_float32(pred), at_least_float32(target), reduction="none")
    if weight is None:
        return _REDUCTIONS[reduction](loss)
    if reduction != "mean":
        return _REDUCTIONS[reduction](loss * weight)
    weight = at_least_float32(weight).expand_as(loss)
    if sample_wise:
        share = weight.sum(dim=(1, 2, 3), keepdim=True) + _EPS
        return (loss * weight / share).sum() / len(loss)
    return (loss * weight).sum() / (weight.sum() + _EPS)


def _check_shapes(pred: Tensor, target: Tensor, weight: Tensor | None) -> None:
    if pred.shape != target.shape:
        raise UserError(
            f"target: expected the shape {list(pred.shape)} of the prediction, got "
            f"{list(target.shape)}"
        )
    if weight is not None and pred.ndim != 4:
        raise UserError(f"pred: expected (N, C, H, W) beside a weight, got {list(pred.shape)}")
    if weight is not None and weight.shape not in (pred.shape, pred[:, :1].shape):
        raise UserError(
            f"weight: expected the shape {list(pred.shape)} of the prediction or "
            f"{list(pred[:, :1].shape)}, got {list(weight.shape)}"
        )


class L1Loss(nn.Module):
    """Mean absolute error; see `pixel_loss`.

    Args:
        loss_weight: Factor of the loss.
        reduction: 'none', 'mean' or 'sum'.
        sample_wise: Whether 'mean' with a weight averages over each image, then over images.

    Raises:
        UserError: `reduction` is unknown, or `loss_weight` is negative.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import L1Loss
        >>> L1Loss(loss_weight=10.0)(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)).item()
        5.0
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
        check_factor(loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.sample_wise = sample_wise

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the weighted loss of images (N, C, H, W).

        Args:
            pred: Predicted images, (N, C, H, W).
            target: GT images of the same shape and range.
            weight: Weight by element, (N, C, H, W), or by pixel, (N, 1, H, W).

        Returns:
            A scalar, or (N, C, H, W) for the reduction 'none'.

        Raises:
            UserError: The shapes differ.
        """
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
    """Mean squared error; arguments and errors are those of `L1Loss`.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import MSELoss
        >>> MSELoss()(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)).item()
        0.25
    """

    criterion = "mse"


class PSNRLoss(nn.Module):
    """Negative PSNR in dB, averaged over images, as in HINet (Chen et al. 2021).

    `MSELoss` is mostly that of the few images with the largest error. Here each image has the same
    share, as in the mean PSNR of a test set.

    Args:
        loss_weight: Factor of the loss.
        eps: Added to the mean squared error of each image; it limits the share of images that are
            nearly exact. MMagic's has 1e-8. With 0, the gradient of an exact image is NaN.
        reduction: 'mean', the only one; for configs that change the type of another loss.

    Raises:
        UserError: `loss_weight` or `eps` is negative, or `reduction` is another.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import PSNRLoss
        >>> loss = PSNRLoss(eps=0)(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1))
        >>> round(loss.item(), 4)
        -20.0
    """

    def __init__(
        self, loss_weight: float = 1.0, eps: float = 1e-8, reduction: Literal["mean"] = "mean"
    ) -> None:
        super().__init__()
        check_factor(loss_weight=loss_weight, eps=eps)
        check_option("reduction", reduction, ("mean",))
        self.loss_weight, self.eps = loss_weight, eps

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            pred: Predicted images in [0, 1], (N, C, H, W); half precision is converted to float32.
            target: GT images of the same shape and range.

        Returns:
            The negative mean PSNR, times `loss_weight`, a scalar.

        Raises:
            UserError: The shapes differ, or are not (N, C, H, W).
        """
        _check_shapes(pred, target, None)
        if pred.ndim != 4:
            raise UserError(f"pred: expected (N, C, H, W), got {list(pred.shape)}")
        error = (at_least_float32(pred) - at_least_float32(target)).square().mean((1, 2, 3))
        return self.loss_weight * 10 * torch.log10(error + self.eps).mean()
