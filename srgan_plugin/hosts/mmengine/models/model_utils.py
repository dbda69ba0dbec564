"""Helpers of the models: build nested configs, compile, unwrap DDP, batch-norm snapshots."""

import logging
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from srgan_plugin.errors import UserError
from srgan_plugin.networks.packing import assign_where, copy_tensors
from srgan_plugin.registry import MODELS, SCOPE

logger = logging.getLogger(__name__)


def compile_forward(network: nn.Module, **options: Any) -> None:
    """Compile a network's `forward` by `torch.compile`; keys and weights do not change.

    The first call compiles. If that fails (no compiler, an unsupported operator), a warning is
    logged and the network runs uncompiled. Failures in the first backward pass are not caught.

    Args:
        network: The network, changed in place; it cannot be copied afterwards.
        options: Options of `torch.compile`: `mode`, `backend`, ….

    Raises:
        UserError: torch.compile has no such option.
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
            # An error of the network itself is raised again here.
            result = plain(*args, **kwargs)
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            logger.warning(
                "model.compile: %s runs uncompiled, torch.compile failed: %s",
                type(network).__name__,
                reason,
            )
            network.forward = plain
            return result

    network.forward = forward


Config = dict[str, Any]


def build(config: Config | nn.Module | None) -> Any:
    """Build a nested config; a `type` without a prefix is in the scope `srgan_plugin`.

    As in MMagic, an empty dict means None.

    Raises:
        UserError: `config` is not a dict, a module or None, or its `type` or arguments are wrong.
    """
    if config is None or isinstance(config, nn.Module):
        return config
    if not isinstance(config, dict):
        raise UserError(f"model: expected dict(type=…) for a network or loss, got {config!r}")
    return MODELS.build({"_scope_": SCOPE, **config}) if config else None


def is_plugin_module(network: nn.Module) -> bool:
    """Return whether the class of a network is in this package."""
    return type(unwrap_ddp(network)).__module__.startswith("srgan_plugin.")


def unwrap_ddp(network: Any) -> Any:
    """Return the network inside a wrapper for distributed training, or the network itself."""
    return network.module if is_model_wrapper(network) else network


def gradient_norm(name: str, optimizer: Any) -> dict[str, Tensor]:
    """Return the gradient norm of the last step by name; empty if the wrapper records none."""
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
    return list(zip(buffers, copy_tensors(buffers), strict=True))


def keep_bn_stats(statistics: list[tuple[Tensor, Tensor]], optimizer: Any) -> None:
    """Store the statistics before the first batch of a step that accumulates gradients."""
    if getattr(optimizer, "accumulates_over", 1) > 1 and optimizer.statistics is None:
        optimizer.statistics = [before for _, before in statistics]


@torch.no_grad()
def restore_bn_stats(statistics: list[tuple[Tensor, Tensor]], optimizer: Any) -> None:
    """Restore the statistics of batch normalisation before a step that was skipped.

    `optimizer.skipped` may be a tensor on the device; this does not synchronise.
    """
    skipped = getattr(optimizer, "skipped", False)
    first = getattr(optimizer, "statistics", None) or [before for _, before in statistics]
    if skipped is False and getattr(optimizer, "updated", True) is False:
        return  # the step continues with the next batch
    if hasattr(optimizer, "statistics"):
        optimizer.statistics = None
    skipped = torch.as_tensor(skipped)
    if skipped.device.type != "cpu" or skipped:
        assign_where(skipped, [buffer for buffer, _ in statistics], first)
