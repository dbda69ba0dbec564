"""Optimizer wrappers: one per network, in any precision, which skip non-finite steps."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn

from srgan_plugin.errors import UserError, check_count, check_option
from srgan_plugin.registry import OPTIM_WRAPPERS

from .optimizer_state import check_optimizer_state, match_layout

HalfPrecision = Literal["bfloat16", "float16"]


class NonFiniteError(UserError):
    """Error for too many steps in a row with gradients that are not finite."""


# Torch optimisers with a fused kernel that skips a step by `found_inf`. That of SGD would leave
# its momentum uninitialised if the first step is skipped.
_FUSABLE = (torch.optim.Adam, torch.optim.AdamW)


def _fuse(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the fused form of an optimiser on a GPU, unless a group sets `fused` or `foreach`."""
    groups = optimizer.param_groups
    parameters = [parameter for group in groups for parameter in group["params"]]
    chosen = {group.get(name) for group in groups for name in ("fused", "foreach")} != {None}
    kind: Any = type(optimizer)
    if kind not in _FUSABLE or chosen or not all(p.is_cuda for p in parameters):
        return optimizer
    known = inspect.signature(kind).parameters
    defaults = {name: value for name, value in optimizer.defaults.items() if name in known}
    fused: torch.optim.Optimizer = kind(
        [{**group, "fused": True} for group in groups], **{**defaults, "fused": True}
    )
    return fused


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(MMEngineOptimWrapper):
    """mmengine's OptimWrapper that skips and counts steps with gradients that are not finite.

    The fused kernel of Adam and AdamW on a GPU skips a step without synchronising with the host.
    Whether a step was skipped is a tensor; `check` reads it.

    Args:
        optimizer: Optimiser of torch, before its first step. For Adam and AdamW on a GPU, unless a
            group sets `fused` or `foreach`, a fused one with its options takes its place: give
            schedulers the attribute `optimizer`.
        max_nonfinite_steps: End the run after this number of skipped steps in a row, at least 1;
            default 50.
        kwargs: Arguments of mmengine's OptimWrapper: `accumulative_counts`,
            `clip_grad=dict(max_norm=...)`.

    Attributes:
        name: Name of the network, for messages; default "generator".
        accumulates_over: Number of batches whose gradients a step accumulates.
        max_nonfinite_steps: See Args.
        sync_each_step: Whether each step calls `check`, which synchronises; default True.
        gradient_norm: Norm of the gradients in the last step before clipping; None if the last
            call of `update_params` only accumulated.
        updated: Whether the last call of `update_params` changed the parameters; a tensor after a
            step.
        skipped: Whether it skipped a step because of its gradients; a tensor after a step.
        statistics: Statistics of batch normalisation before the first batch of a step that
            accumulates; else None.

    Raises:
        UserError: `max_nonfinite_steps` is not an integer of at least 1.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, max_nonfinite_steps: int = 50, **kwargs: Any
    ):
        check_count(1, **{"optim_wrapper.max_nonfinite_steps": max_nonfinite_steps})
        super().__init__(_fuse(optimizer), **kwargs)
        self.name = "generator"  # `MultiOptimWrapperConstructor` sets other names
        self._resumes_accumulation = False
        self.accumulates_over = int(kwargs.get("accumulative_counts", 1))
        self.max_nonfinite_steps = max_nonfinite_steps
        self.sync_each_step = True  # a loop that calls `check` later sets it to False
        self.gradient_norm: Tensor | None = None
        self.updated: Tensor | bool = False
        self.skipped: Tensor | bool = False
        self._skips: Tensor | None = None  # skipped steps in total, and in a row
        self.statistics: list[Tensor] | None = None

    @property
    def supports_found_inf(self) -> bool:
        """Whether the kernel of the optimiser can skip a step (`found_inf` of torch)."""
        able = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        fused = all(group.get("fused") for group in self.optimizer.param_groups)
        return able and fused and type(self.optimizer) in _FUSABLE

    @property
    def skips(self) -> tuple[int, int]:
        """Number of skipped steps, in total and in a row; synchronises with the device."""
        return (0, 0) if self._skips is None else tuple(self._skips.tolist())

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: dict[str, Any] | None = None,
        zero_kwargs: dict[str, Any] | None = None,
        backward_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Run the backward pass, and the step unless gradients are accumulated further.

        Args:
            loss: Loss, a scalar.
            step_kwargs: Arguments of `step`.
            zero_kwargs: Arguments of `zero_grad`.
            backward_kwargs: Arguments of `Tensor.backward`.
        """
        self.updated = self.skipped = False
        # Also while accumulating: the norm is not saved, and a resumed run has the same logs.
        self.gradient_norm = None
        self.backward(self.scale_loss(loss), **(backward_kwargs or {}))
        if self.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients, then update the parameters unless a gradient is not finite.

        Raises:
            NonFiniteError: See `check`; only if `sync_each_step` is set.
        """
        self.gradient_norm = self._measure_and_clip()
        self.updated = self.gradient_norm < math.inf  # no norm is negative, and NaN compares false
        self.skipped = ~self.updated
        if self.supports_found_inf:
            optimizer: Any = self.optimizer
            optimizer.grad_scale, optimizer.found_inf = None, self.skipped.float()
            optimizer.step(**kwargs)
        elif self.updated:
            self.optimizer.step(**kwargs)
        if self._skips is None:
            self._skips = torch.zeros(2, dtype=torch.int64, device=self.skipped.device)
        self._skips += self.skipped
        self._skips[1].mul_(self.skipped)
        if self.sync_each_step:
            self.check()

    def _measure_and_clip(self) -> Tensor:
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        parameters = [p for p in parameters if p.grad is not None]
        norm: Tensor = nn.utils.get_total_norm([p.grad for p in parameters])
        options = self.clip_grad_kwargs or {}
        if set(options) == {"max_norm"} and self.clip_func is nn.utils.clip_grad_norm_:
            nn.utils.clip_grads_with_norm_(parameters, options["max_norm"], norm)
        elif options:
            self.clip_func(parameters, **options)
        return norm

    def check(self) -> None:
        """Log the number of skipped steps; synchronises with the device.

        Raises:
            NonFiniteError: `max_nonfinite_steps` steps in a row were skipped.
        """
        skipped, in_a_row = self.skips
        hub = MessageHub.get_current_instance()
        if skipped:
            hub.update_info(f"skipped_{self.name}", skipped)
        if in_a_row >= self.max_nonfinite_steps:
            saved = hub.get_info("last_ckpt", None)
            last = f"the last good checkpoint is {saved}" if saved else "there is no checkpoint yet"
            raise NonFiniteError(
                f"{self.name}: expected finite gradients, got {in_a_row} steps in a row without; "
                f"{last}. Resume from it with gradient clipping, or with "
                "--amp bfloat16 or no --amp in place of float16; or start from it by load_from "
                "with a lower learning rate"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state, counts of skipped steps, and what a step accumulated.

        The latter are gradients, times the loss scale, and statistics of batch normalisation.
        """
        state: dict[str, Any] = super().state_dict()
        if self.accumulates_over > 1:
            gradients = [p.grad for g in self.optimizer.param_groups for p in g["params"]]
            state["accumulated"] = {
                "count": self._inner_count,
                "gradients": gradients,
                "statistics": self.statistics,
            }
        if self._skips is not None:
            state["skips"] = self._skips
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state; checkpoints of earlier versions have no counts.

        Raises:
            UserError: The state is of another kind of optimiser, or of other parameters.
        """
        state = dict(state_dict)
        accumulated, skips = state.pop("accumulated", None), state.pop("skips", None)
        saved_scale = (state.pop("loss_scaler", None) or {}).get("scale", 1.0)
        check_optimizer_state(self.optimizer, state)
        # The kind of kernel depends on this machine, not on the one that saved the state.
        state["param_groups"] = [
            {**saved, **{name: group[name] for name in ("fused", "capturable") if name in group}}
            for saved, group in zip(state["param_groups"], self.optimizer.param_groups, strict=True)
        ]
        super().load_state_dict(state)
        if skips is not None:
            self._skips = skips.to(self.optimizer.param_groups[0]["params"][0].device, copy=True)
        for parameter, moments in self.optimizer.state.items():
            moments.update({name: match_layout(parameter, m) for name, m in moments.items()})
        if accumulated and self.accumulates_over > 1:
            self._load_accumulated(accumulated, self._loss_scale() / saved_scale)

    def _load_accumulated(self, accumulated: dict[str, Any], factor: float) -> None:
        """Load what a step accumulated, with gradients times `factor`."""
        self._resumes_accumulation = True
        self._inner_count = accumulated["count"]
        self.statistics = accumulated.get("statistics")
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        for parameter, gradient in zip(parameters, accumulated["gradients"], strict=True):
            parameter.grad = None
            if gradient is not None:
                # A copy, which the next batches add to.
                parameter.grad = match_layout(parameter, gradient.to(parameter) * factor)

    def _loss_scale(self) -> float:
        return 1.0

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Set the number of batches seen and in total, without a warning about what was loaded.

        Args:
            model: Model of the run.
            init_counts: Number of batches seen.
            max_counts: Number of batches in total.
        """
        # mmengine warns of lost gradients if the number is not a multiple of those of a step.
        known = 0 if self._resumes_accumulation else init_counts
        super().initialize_count_status(model, known, max_counts)
        self._inner_count = init_counts


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """`OptimWrapper` with autocast, and with a loss scaler for float16.

    Autocast is that of CUDA on machines where it is available, else that of the CPU; the device of
    the parameters is not looked at.

    Args:
        optimizer: See `OptimWrapper`.
        dtype: `"bfloat16"`, `"float16"`, or None (default) for bfloat16 if the device has it, else
            float16.
        loss_scale: Initial scale for float16, above 0; default `"dynamic"`, which is 65536. The
            scale is adapted in both cases.
        kwargs: See `OptimWrapper`.

    Attributes:
        device: `"cuda"` or `"cpu"`.
        dtype: The dtype of autocast.
        scaler: Loss scaler; disabled for bfloat16.

    Raises:
        UserError: `dtype` is not one of these, or see `OptimWrapper`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: HalfPrecision | None = None,
        loss_scale: float | Literal["dynamic"] = "dynamic",
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, **kwargs)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        has_bfloat16 = self.device == "cpu" or torch.cuda.is_bf16_supported(False)
        check_option("optim_wrapper.dtype", dtype, (None, "bfloat16", "float16"))
        self.dtype = getattr(torch, dtype or ("bfloat16" if has_bfloat16 else "float16"))
        scale = 2.0**16 if loss_scale == "dynamic" else float(loss_scale)
        self.scaler = torch.amp.GradScaler(
            self.device, init_scale=scale, enabled=self.dtype == torch.float16
        )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in the lower precision."""
        with super().optim_context(model), torch.autocast(self.device, self.dtype):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run the backward pass of the scaled loss."""
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Unscale the gradients, run the step, and adapt the scale.

        It is halved after an overflow, and doubled after 2000 steps without one.
        """
        self.scaler.unscale_(self.optimizer)
        super().step(**kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimiser and of the scaler."""
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load both states; a checkpoint of a run without `--amp` has no scaler.

        Raises:
            UserError: See `OptimWrapper.load_state_dict`.
        """
        if scaler := state_dict.get("loss_scaler"):  # empty for bfloat16
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)

    def _loss_scale(self) -> float:
        return float(self.scaler.get_scale())


def list_schedulers(schedulers: Any) -> list[Any]:
    """Return the schedulers (or their states) of all networks, from a list or lists by network."""
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
    return [scheduler for group in groups for scheduler in group]


def list_optim_wrappers(optim_wrapper: Any) -> list[Any]:
    """Return the optimiser wrappers of all networks.

    They may be of mmengine, without the attributes of this module's `OptimWrapper`.
    """
    if isinstance(optim_wrapper, OptimWrapperDict):
        return list(optim_wrapper.values())
    return [optim_wrapper]
