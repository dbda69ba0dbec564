"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, algorithm 3)."""

from collections.abc import Callable, Iterable
from typing import Any, Final, overload

import torch
from torch import Tensor

from srgan_plugin.registry import OPTIMIZERS

#: Steps before the first bases are replaced by better ones, and before the weights change.
_NEW_BASES: Final = 20
_FIRST_UPDATE: Final = 40
#: Added to the root of the second moments, as a share of their mean's root.
_DAMPING: Final = 1e-3


@OPTIMIZERS.register_module()
class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321).

    The weights of a layer are a matrix (outputs, inputs x kernel). Adam's moments are those of its
    gradient in the eigenvectors of the gradient's covariance over outputs and over inputs; there
    the values are nearly independent, as Adam assumes. A step of MSRResNet costs a tenth more.

    The first 40 steps change nothing but the averages. Biases are updated by Adam.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate, of the size of Adam's.
        betas: Decays of the averages of the gradient and of its square.
        shampoo_beta: Decay of the averages of the covariances.
        precondition_frequency: Steps between two updates of the eigenvectors.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.95, 0.99),
        shampoo_beta: float = 0.99,
        precondition_frequency: int = 10,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "shampoo_beta": shampoo_beta}
        defaults |= {"precondition_frequency": precondition_frequency}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient; return the loss of `closure`, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = parameter.grad
                    if gradient.dim() > 1:
                        gradient = gradient.reshape(len(gradient), -1)
                    update = _direction(self.state[parameter], gradient, group)
                    if update is not None:
                        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"])
        return loss


def _direction(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor | None:
    """Return the step's direction, (M, N) or (N,) like the gradient; None in the first steps."""
    if not state:
        state["step"] = 0
        state["mean"] = torch.zeros_like(gradient)
        state["square"] = torch.zeros_like(gradient)
        for name, size in zip(("left", "right"), gradient.shape, strict=False):
            if gradient.dim() > 1:
                state[name] = gradient.new_zeros(size, size)
    state["step"] += 1
    step, (beta1, beta2) = state["step"], group["betas"]
    if gradient.dim() > 1:
        _update_bases(state, gradient, group)
    state["mean"].lerp_(gradient, 1 - beta1)
    rotated = _to_basis(state, gradient)
    state["square"].mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
    if step < _FIRST_UPDATE:
        return None
    since = step - (_NEW_BASES - 1 if gradient.dim() > 1 else 0)
    square = state["square"] / (1 - beta2**since)
    root = square.sqrt() + _DAMPING * square.mean().sqrt() + 1e-20
    return _from_basis(state, _to_basis(state, state["mean"]) / (1 - beta1**step) / root)


def _to_basis(state: dict[str, Any], matrix: Tensor) -> Tensor:
    """Return a matrix in the eigenvectors; a vector as it is."""
    if matrix.dim() == 1:
        return matrix
    rotated: Tensor = state["left_basis"].T @ matrix @ state["right_basis"]
    return rotated


def _from_basis(state: dict[str, Any], matrix: Tensor) -> Tensor:
    if matrix.dim() == 1:
        return matrix
    rotated: Tensor = state["left_basis"] @ matrix @ state["right_basis"].T
    return rotated


def _update_bases(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> None:
    """Update the covariances, and at times the eigenvectors; the first ones are of few samples."""
    step = state["step"]
    share = max(1 - group["shampoo_beta"], 1 / step)
    state["left"].mul_(1 - share).addmm_(gradient, gradient.T, alpha=share)
    state["right"].mul_(1 - share).addmm_(gradient.T, gradient, alpha=share)
    for name in ("left", "right"):
        if step in (1, _NEW_BASES):
            state[f"{name}_basis"] = _eigenvectors(state[name])
        elif step % group["precondition_frequency"] == 0:
            # One step of the power method, which follows slow changes.
            state[f"{name}_basis"] = torch.linalg.qr(state[name] @ state[f"{name}_basis"])[0]
    if step == _NEW_BASES:
        state["square"].zero_()


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Return the eigenvectors of a covariance as columns, that of the largest eigenvalue first."""
    double = matrix.double()
    shift = 1e-6 * double.diagonal().mean() * torch.eye(len(double), device=matrix.device)
    vectors: Tensor = torch.linalg.eigh(double + shift)[1]
    return vectors.flip(1).to(matrix.dtype)
