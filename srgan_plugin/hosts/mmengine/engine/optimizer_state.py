"""States of optimisers in checkpoints: whether they suit an optimiser, and their memory layout."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from srgan_plugin.errors import UserError

#: Options of an optimiser that choose a kernel.
KERNEL_OPTIONS = frozenset({"fused", "foreach", "capturable", "differentiable"})


def match_layout(parameter: Tensor, value: Any) -> Any:
    """Return a tensor of a parameter's shape with the parameter's strides.

    Fused kernels assume equal strides, and a checkpoint may be from another memory format.
    """
    other_shape = not isinstance(value, Tensor) or value.shape != parameter.shape
    if other_shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def check_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Check that a saved state has the groups, options and states of an optimiser.

    Additional options or states of one side alone are ignored, because versions of torch add and
    remove them. Adam, AdamW and RAdam are therefore not distinguished, nor is NAdam resumed as
    RAdam.

    Args:
        optimizer: Optimiser of the config.
        saved: State of an optimiser, as in a checkpoint.

    Raises:
        UserError: The number of parameters of a group differs; each side has an option that the
            other does not know; or a state is missing.
    """
    hint = "start from its weights by load_from, or resume with the config of that run"
    saved_counts, counts = (
        [len(group["params"]) for group in groups]
        for groups in (saved["param_groups"], optimizer.param_groups)
    )
    if saved_counts != counts:
        raise UserError(
            f"--resume: expected optimizer states of {counts} parameters (by group), got "
            f"{saved_counts}: another network, or model.ema added or removed; {hint}"
        )
    missing, foreign = _compare_options(optimizer, saved["param_groups"][0])
    # A difference in one direction may be one of versions.
    if not (missing and foreign):
        missing, foreign = _compare_states(optimizer, saved)
    if missing:
        raise UserError(
            f"--resume: expected options and states of {type(optimizer).__name__}, with "
            f"{', '.join(sorted(missing))}, got those of an optimizer with "
            f"{', '.join(sorted(foreign)) or 'fewer'}; {hint}"
        )


def _compare_options(
    optimizer: torch.optim.Optimizer, group: dict[str, Any]
) -> tuple[set[str], set[str]]:
    """Return the names of options that only the optimiser has, and that only a saved group has.

    Names that mmengine adds to a group are not options: those of schedulers, and `lr_scale`.
    """
    known = set(optimizer.defaults)
    saved = {name for name in group if name in known or not name.startswith("initial_")}
    added = {"params", "param_names", "lr_scale", "decay_scale", "max_lr", "min_lr"}
    added |= {"max_momentum", "base_momentum", "min_momentum"} | optimizer.param_groups[0].keys()
    return known - saved, saved - known - added


def _compare_states(
    optimizer: torch.optim.Optimizer, saved: dict[str, Any]
) -> tuple[set[str], set[str]]:
    """Return the names of states that only the optimiser has, and that only a saved state has.

    The first parameter with a saved state is compared.
    """
    for group, saved_group in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, index in zip(group["params"], saved_group["params"], strict=True):
            if found := set(saved["state"].get(index, ())):
                names = _state_names(type(optimizer), optimizer.defaults | saved_group, parameter)
                return names - found, found - names
    return set(), set()


def _state_names(kind: Any, options: dict[str, Any], like: Tensor) -> set[str]:
    """Return the names of the states that a kind of optimiser stores for a parameter.

    A new optimiser makes one step with a gradient of zeros.

    Args:
        kind: Class of the optimiser.
        options: Its options; others and those that choose a kernel are ignored.
        like: A tensor of the parameter's shape.

    Returns:
        The names; empty, so that nothing is compared, if the class cannot make such a step.
    """
    known = set(inspect.signature(kind).parameters) - KERNEL_OPTIONS - {"params"}
    parameter = nn.Parameter(torch.zeros(like.shape))
    parameter.grad = torch.zeros(like.shape)
    try:
        optimizer = kind([parameter], **{n: v for n, v in options.items() if n in known})
        optimizer.step()
    except Exception:  # needs other arguments or a closure; a class of others may raise any error
        return set()
    return set(optimizer.state[parameter])
