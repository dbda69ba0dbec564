"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Final, overload

import torch
from torch import Tensor

from srgan_plugin.errors import UserError, check_count, check_factor
from srgan_plugin.registry import OPTIMIZERS

#: Step whose bases replace the first ones, and number of steps that change nothing.
_NEW_BASES: Final = 20
_STILL: Final = 40
#: Added to the root of the second moments, as a share of their mean's root.
_DAMPING: Final = 1e-3


@OPTIMIZERS.register_module()
class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321).

    The weights of a layer are a matrix (outputs, inputs x kernel). Adam's moments are those of its
    gradient in the eigenvectors of the gradient's covariance over outputs and over inputs; there
    the values are nearly independent, as Adam assumes. Biases and other vectors are updated by
    Adam, in whose denominator is 1e-3 of the root mean square here, in place of `eps`. The first 40
    steps change nothing but the averages: a warm-up of the learning rate begins after them. The
    covariances contain the gradient of the same step, and later eigenvectors are not sorted.

    States, which checkpoints contain, take 105 MiB for MSRResNet; Adam's take 12 MiB.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate, at least 0, of the size of Adam's.
        betas: Decays of the averages of the gradient and of its square, 0 to below 1.
        shampoo_beta: Decay of the averages of the covariances, 0 to below 1.
        precondition_frequency: Steps between two updates of the eigenvectors, at least 1.
        weight_decay: Decoupled weight decay, at least 0, as in AdamW.
        max_precond_dim: Largest number of outputs, or of inputs x kernel, whose covariance is kept;
            larger ones stay as they are, since time and memory grow with its cube and square: the
            first eigenvectors of 2048 take minutes on a CPU.

    Raises:
        UserError: An argument is out of range; in a step, a gradient is sparse, or not finite where
            eigenvectors are computed from it (steps 1 and 20).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-4,
        betas: Sequence[float] = (0.95, 0.99),
        shampoo_beta: float = 0.99,
        precondition_frequency: int = 10,
        weight_decay: float = 0.0,
        max_precond_dim: int = 2048,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "betas": betas, "shampoo_beta": shampoo_beta}
        defaults |= {"precondition_frequency": precondition_frequency, "weight_decay": weight_decay}
        defaults |= {"max_precond_dim": max_precond_dim}
        _check(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, `params` and options in place of the defaults.

        Raises:
            UserError: An option is out of range, or a parameter of another dtype than float32 and
                float64; squares of gradients are out of the range of float16.
        """
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except UserError:
            self.param_groups.pop()
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient; return the loss of `closure`, if given.

        Raises:
            UserError: A gradient is sparse, or not finite where eigenvectors are computed from it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.numel():
                    gradient = parameter.grad
                    if gradient.is_sparse:
                        raise UserError("SOAP: expected dense gradients, got sparse ones")
                    if gradient.dim() > 1:
                        gradient = gradient.reshape(len(gradient), -1)
                    update = _direction(self.state[parameter], gradient, group)
                    if update is not None:
                        parameter.mul_(1 - group["lr"] * group["weight_decay"])
                        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"])
        return loss


def _check(group: Mapping[str, Any]) -> None:
    """Raise `UserError` if an option or a parameter of a group cannot be used."""
    check_factor(lr=group["lr"], weight_decay=group["weight_decay"])
    check_count(1, precondition_frequency=group["precondition_frequency"])
    check_count(0, max_precond_dim=group["max_precond_dim"])
    betas = group["betas"]
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise UserError(f"betas: expected two decays, got {betas!r}")
    decays: list[tuple[str, object]] = [("betas", beta) for beta in betas]
    for name, decay in (*decays, ("shampoo_beta", group["shampoo_beta"])):
        if not isinstance(decay, Real) or not 0 <= float(decay) < 1:
            raise UserError(f"{name}: expected decays from 0 to below 1, got {decay!r}")
    types = {parameter.dtype for parameter in group.get("params", ())}
    if others := types - {torch.float32, torch.float64}:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in others))
        raise UserError(
            f"params: expected float32 or float64, got {names}; for mixed precision use "
            "AmpOptimWrapper (--amp)"
        )


def _direction(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor | None:
    """Return the step's direction, (M, N) or (N,) like the gradient; None in the first steps."""
    if not state:
        state["step"] = 0
        state["mean"] = torch.zeros_like(gradient)
        state["square"] = torch.zeros_like(gradient)
        for name, size in zip(("left", "right"), gradient.shape, strict=False):
            if gradient.dim() > 1 and size <= group["max_precond_dim"]:
                state[name] = gradient.new_zeros(size, size)
    state["step"] += 1
    step, (beta1, beta2) = state["step"], group["betas"]
    _update_bases(state, gradient, group)
    state["mean"].lerp_(gradient, 1 - beta1)
    rotated = _to_basis(state, gradient)
    state["square"].mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
    if step <= _STILL:
        return None
    since = step - (_NEW_BASES - 1 if _sides(state) else 0)
    square = state["square"] / (1 - beta2**since)
    root = square.sqrt() + _DAMPING * square.mean().sqrt() + 1e-20
    return _from_basis(state, _to_basis(state, state["mean"]) / (1 - beta1**step) / root)


def _to_basis(state: dict[str, Any], matrix: Tensor) -> Tensor:
    """Return a matrix in the eigenvectors of the sides that have them."""
    if "left" in state:
        matrix = state["left_basis"].T @ matrix
    return matrix @ state["right_basis"] if "right" in state else matrix


def _from_basis(state: dict[str, Any], matrix: Tensor) -> Tensor:
    if "left" in state:
        matrix = state["left_basis"] @ matrix
    return matrix @ state["right_basis"].T if "right" in state else matrix


def _sides(state: dict[str, Any]) -> list[str]:
    """Return the sides of a matrix whose covariance is kept; none of a vector."""
    return [name for name in ("left", "right") if name in state]


def _update_bases(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> None:
    """Update the covariances, and at times the eigenvectors; the first ones are of few samples."""
    step = state["step"]
    share = max(1 - group["shampoo_beta"], 1 / step)
    for name in _sides(state):
        columns = gradient if name == "left" else gradient.T
        state[name].mul_(1 - share).addmm_(columns, columns.T, alpha=share)
        if step in (1, _NEW_BASES):
            state[f"{name}_basis"] = _eigenvectors(state[name])
        elif step % group["precondition_frequency"] == 0:
            # One step of the power method, which follows slow changes.
            product = state[name] @ state[f"{name}_basis"]
            state[f"{name}_basis"] = torch.linalg.qr(product)[0]
    if step == _NEW_BASES and _sides(state):
        state["square"].zero_()


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Return the eigenvectors of a covariance as columns, that of the largest eigenvalue first."""
    # A copy, which is changed; not every device has double precision.
    double = matrix.to("cpu", torch.float64, copy=True)
    if not double.isfinite().all():
        raise UserError(
            "SOAP: expected finite gradients, got NaN, infinite ones or some above 1e19; look for "
            "them in the loss, or clip gradients"
        )
    double.diagonal().add_(1e-6 * double.diagonal().mean())
    vectors: Tensor = torch.linalg.eigh(double)[1]
    return vectors.flip(1).to(matrix)
