"""Settings of mmengine's schedulers: read, compare and merge them."""

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import Any

from srgan_plugin.errors import UserError

# Attributes of a scheduler that change from step to step.
PROGRESS = {
    "last_step",
    "_global_step",
    "_last_value",
    "best",
    "num_bad_epochs",
    "cooldown_counter",
}
# Attributes that are not settings. The last four are computed from settings and the optimiser.
_NOT_SETTINGS = {
    *PROGRESS,
    "optimizer",
    "verbose",
    "base_values",
    "total_iters",
    "cumulative_periods",
    "rule_worse",
}


def anneal_strategy(function: Any) -> str:
    """Return the argument `anneal_strategy` of OneCycleLR from its attribute `anneal_func`."""
    return str(function.__name__).removeprefix("_annealing_")


def read_settings(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the attributes of a scheduler, by their names in a config.

    Args:
        attributes: `vars` of a scheduler, or its state in a checkpoint.

    Returns:
        Settings, without functions; tuples are converted to lists, which a command line gives.
    """
    settings = {name: v for name, v in attributes.items() if name not in _NOT_SETTINGS}
    if isinstance(settings.get("milestones"), Counter):
        settings["milestones"] = sorted(settings["milestones"].elements())
    if "_schedule_phases" in settings:  # of OneCycleLR, which has no attributes for these
        phases = settings.pop("_schedule_phases")
        start = (phases[0]["end_step"] + 1) / settings["total_steps"]
        # Rounded, because it is computed from another number.
        settings |= {"pct_start": float(f"{start:.12g}"), "three_phase": len(phases) == 3}
    if callable(settings.get("anneal_func")):
        settings["anneal_strategy"] = anneal_strategy(settings["anneal_func"])
    plain = {name: value for name, value in settings.items() if not callable(value)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}


def check_kinds(schedulers: list[Any], states: list[dict[str, Any]]) -> None:
    """Check that states fit schedulers: their number, names of settings, parameter, unit of steps.

    Args:
        schedulers: Schedulers of a network.
        states: Their states in a checkpoint.

    Raises:
        UserError: One of these differs.
    """
    names = [type(scheduler).__name__ for scheduler in schedulers]
    if len(schedulers) != len(states):
        raise UserError(
            f"--resume: expected the states of {len(names)} schedulers "
            f"({', '.join(names) or 'none'}), got {len(states)}; use load_from for another schedule"
        )
    for name, scheduler, state in zip(names, schedulers, states, strict=True):
        settings, saved = read_settings(vars(scheduler)), read_settings(state)
        # A state has no strategy if mmengine's CheckpointHook saved it.
        other = (settings.keys() ^ saved.keys()) - {"anneal_strategy"}
        other |= {n for n in ("param_name", "by_epoch") if settings.get(n) != saved.get(n)}
        if other:
            raise UserError(
                f"--resume: expected the state of {name}, got a state of another scheduler, "
                f"different in {', '.join(sorted(other))}; use load_from for another schedule"
            )


def derived_settings(scheduler: Any, longer: Any) -> set[str]:
    """Return the names of the settings that mmengine derives from the length of the run.

    Args:
        scheduler: A scheduler.
        longer: The same scheduler in a run that is one step longer.
    """
    settings, others = read_settings(vars(scheduler)), read_settings(vars(longer))
    return {name for name in settings if settings[name] != others[name]}


def merge_settings(
    config: Mapping[str, Any], scheduler: Any, derived: set[str], state: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """Return the config of a scheduler with the settings of a checkpoint.

    Args:
        config: Config of the scheduler.
        scheduler: The scheduler built from it.
        derived: Names of its settings that follow the length of the run, not the checkpoint.
        state: State of the scheduler in the checkpoint.

    Returns:
        The config, and the settings that differ from it: {name: (saved value, configured value)}.
    """
    settings, saved = read_settings(vars(scheduler)), read_settings(state)
    names = (settings.keys() & saved.keys()) - derived
    kept = {n: (saved[n], settings[n]) for n in sorted(names) if saved[n] != settings[n]}
    if not kept:
        return dict(config), kept
    # From the state itself, in which tuples and Counters keep their types. A setting that is
    # computed (`pct_start`) is not in it.
    arguments = {name: state[name] for name in names if name in state}
    arguments |= {name: saved[name] for name in kept if name not in state}
    known = _argument_names(type(scheduler))
    merged = {**config, "end": scheduler.end}
    merged |= {name: value for name, value in arguments.items() if name in known}
    merged.pop("convert_to_iter_based", None)  # the steps of a built scheduler are converted
    return merged, kept


def _argument_names(kind: type) -> set[str]:
    """Return the names of the settings that a class of schedulers accepts as arguments."""
    names: set[str] = set()
    for base in kind.__mro__:
        parameters = inspect.signature(base).parameters
        names |= parameters.keys()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return names - {"optimizer", "param_name", "last_step"}
