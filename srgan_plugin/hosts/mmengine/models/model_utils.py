"""torch.compile for a model's networks, which must not end a run where it fails."""

import logging
from typing import Any

import torch
from torch import nn

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
        raise ValueError(f"model.compile: {error}") from error

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
