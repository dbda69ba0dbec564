"""Helpers of the models: build nested configs, compile, unwrap, batch-norm snapshots."""

import logging
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from srgan_plugin.errors import UserError
from srgan_plugin.networks.packing import assign_where, copies
from srgan_plugin.registry import MODELS, SCOPE

logger = logging.getLogger(__name__)


def compile_forward(network: nn.Module, **options: Any) -> None:
    """Let torch.compile make what a network's `forward` does; keys and weights stay.

    It compiles when the network is called first. Where that fails (no compiler, an operator that it
    does not know), one warning says so and the network goes on as it was. What torch compiles only
    in the first backward pass is not guarded.

    Args:
        network: Changed in place; copy it before, not afterwards.
        options: As `torch.compile`'s: `mode`, `backend`, ….

    Raises:
        ValueError: torch.compile has no such option.
    """
    plain = network.forward
    try:
        compiled = torch.compile(plain, **options)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"model.compile: {error}") from error

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # What the network itself refuses, it refuses again here.
            result = plain(*args, **kwargs)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            logger.warning(
                "model.compile: %s goes on without, torch.compile failed: %s",
                type(network).__name__,
                reason,
            )
            network.forward = plain
            return result

    network.forward = forward


Config = dict[str, Any]


def build(config: Config | nn.Module | None) -> Any:
    """Build a part of a model; a name without a prefix is looked for in our scope first."""
    if config is None or isinstance(config, nn.Module):
        return config
    if not isinstance(config, dict):
        raise UserError(f"expected dict(type=…) for a part of the model, got {config!r}")
    return MODELS.build({"_scope_": SCOPE, **config})


def is_plugin_module(network: nn.Module) -> bool:
    """Whether a network is of this package, and not another toolbox's."""
    return type(unwrap_ddp(network)).__module__.startswith("srgan_plugin.")


def unwrap_ddp(network: Any) -> Any:
    """Return the network inside a wrapper for distributed training."""
    return network.module if is_model_wrapper(network) else network


def gradient_norm(name: str, optimizer: Any) -> dict[str, Tensor]:
    """Return the measures of the last step; wrappers of other toolboxes have none."""
    norm = getattr(optimizer, "gradient_norm", None)
    return {} if norm is None else {f"grad_norm_{name}": norm}


def snapshot_bn_stats(*networks: nn.Module | None) -> list[tuple[Tensor, Tensor]]:
    """Snapshot the running statistics of batch normalisation."""
    buffers = [
        buffer
        for network in filter(None, networks)
        for name, buffer in network.named_buffers()
        if name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
    ]
    return list(zip(buffers, copies(buffers), strict=True))


def keep_bn_stats(statistics: list[tuple[Tensor, Tensor]], optimizer: Any) -> None:
    """Note what the statistics were before a step that accumulates the gradients of batches."""
    if getattr(optimizer, "accumulates_over", 1) > 1 and optimizer.statistics is None:
        optimizer.statistics = [before for _, before in statistics]


@torch.no_grad()
def restore_bn_stats(statistics: list[tuple[Tensor, Tensor]], optimizer: Any) -> None:
    """Put back what a step that was left out has done to batch normalisation, in all its batches.

    Whether it was may be a tensor on the device: nobody waits for it.
    """
    skipped = getattr(optimizer, "skipped", False)
    first = getattr(optimizer, "statistics", None) or [before for _, before in statistics]
    if skipped is False and getattr(optimizer, "updated", True) is False:
        return  # the step goes on with the next batch
    if hasattr(optimizer, "statistics"):
        optimizer.statistics = None
    skipped = torch.as_tensor(skipped)
    if skipped.device.type != "cpu" or skipped:
        assign_where(skipped, [buffer for buffer, _ in statistics], first)
