"""Schedules of a resumed run: which settings come from the config and which from the checkpoint.

Messages begin with `--resume`, the option of `tools/train.py` that sets `resume` in the config.
"""

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.optim import OptimWrapperDict
from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler

from srgan_plugin.errors import UserError

from .optim_wrapper import list_schedulers

# Attributes of a scheduler that are not settings: progress and verbosity.
_NOT_SETTINGS = {
    "last_step",
    "_global_step",
    "_last_value",
    "best",
    "num_bad_epochs",
    "cooldown_counter",
    "verbose",
}
# Entries of a parameter group that are not compared: parameters, and choices of kernel.
_NOT_COMPARED = {"params", "param_names", "fused", "foreach", "capturable", "differentiable"}


def reconcile_schedules(runner: Any, checkpoint: Mapping[str, Any]) -> None:
    """Adapt the schedules in a checkpoint to the config of the run that resumes it.

    Settings that mmengine derives from the length of the run (a scheduler's `end` that is not in
    the config, a `T_max` derived from it) follow the new length, and rates become those of a run of
    this length at this step; with ReduceOnPlateau, the rates of that network stay those of the
    checkpoint. Settings in the config keep the values of the checkpoint, with a warning if they
    differ. Counts of milestones that early development versions of 0.1.0 doubled at each resume are
    corrected.

    Args:
        runner: mmengine runner with optimisers and schedulers, before it loads their states.
        checkpoint: The checkpoint; `param_schedulers` and `optimizer` are changed in place.

    Raises:
        UserError: The optimiser states are missing, or the networks, or the number or kind of
            schedulers, differ.
    """
    wrappers = _by_network(runner, runner.optim_wrapper)
    optimizers = _get_states(checkpoint, "optimizer", wrappers)
    for name, wrapper in wrappers.items():
        changed = _changed_options(wrapper, optimizers[name])
        _report(runner, f"optim_wrapper {name}".strip(), changed)
    configured = list_schedulers(runner.param_schedulers)
    saved = list_schedulers(checkpoint.get("param_schedulers"))
    if configured and not saved:
        runner.logger.warning(
            "--resume: expected states of schedulers in the checkpoint, got none; they start again"
        )
    if saved and not configured:
        runner.logger.warning(
            "--resume: expected a param_scheduler in the config, got none; the rate stays constant"
        )
    if configured and saved:
        _reconcile_networks(runner, checkpoint, wrappers, optimizers)


def _reconcile_networks(
    runner: Any,
    checkpoint: Mapping[str, Any],
    wrappers: Mapping[str, Any],
    optimizers: Mapping[str, Any],
) -> None:
    """Reconcile the schedulers of all networks; change the states in the checkpoint in place.

    Args:
        runner: See `reconcile_schedules`.
        checkpoint: See `reconcile_schedules`.
        wrappers: Optimiser wrappers by network.
        optimizers: Optimiser states of the checkpoint by network.

    Raises:
        UserError: The networks, or the number or kind of schedulers, differ.
    """
    states = _get_states(checkpoint, "param_schedulers", wrappers)
    # What differs in a run one step longer is derived from the length of the run.
    built = _build(runner, _trials(wrappers, optimizers), extra=0)
    probe = _build(runner, _trials(wrappers, optimizers), extra=1)
    for name in wrappers:
        _check_kinds(built[name], states[name])
        each = zip(built[name], probe[name], states[name], strict=True)
        changed = [_reconcile(runner, *schedule) for schedule in each]
        if any(changed):
            _replay(runner, built[name], states[name], optimizers[name])


def _by_network(runner: Any, item: Any) -> dict[str, Any]:
    """Return items by name of their network, which is '' for a single one."""
    return dict(item) if isinstance(runner.optim_wrapper, OptimWrapperDict) else {"": item}


def _get_states(
    checkpoint: Mapping[str, Any], key: str, wrappers: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the states in a checkpoint by network.

    Args:
        checkpoint: The checkpoint.
        key: "optimizer" or "param_schedulers".
        wrappers: Optimiser wrappers of the config by network.

    Raises:
        UserError: The states are missing or of other networks than `wrappers`.
    """
    states = checkpoint.get(key)
    if isinstance(states, dict) and set(states) == set(wrappers):
        return states
    of_one = isinstance(states, list) or (isinstance(states, dict) and "param_groups" in states)
    if "" in wrappers and of_one:
        return {"": states}
    networks = ", ".join(wrappers) or "one network"
    found = "one network" if states else "none"
    if isinstance(states, dict) and not of_one:
        found = ", ".join(states) or "none"
    raise UserError(
        f"--resume: expected {key} of {networks} in the checkpoint, got {found}; use load_from to "
        "load only its weights"
    )


def _changed_options(wrapper: Any, saved: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options of an optimiser that differ: the saved value and that of the config.

    If an option differs in several parameter groups, its values in the last one are returned. A
    different number of groups is refused later, when the optimiser loads its state.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for group, saved_group in zip(
        wrapper.optimizer.param_groups, saved["param_groups"], strict=False
    ):
        new, old = _at_start(group), _at_start(saved_group)
        names = sorted(name for name in set(new) & set(old) if not name.startswith("initial_"))
        changed |= {name: (old[name], new[name]) for name in names if new[name] != old[name]}
    return changed


def _at_start(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a parameter group before any schedule changed them."""
    start = {key: value for key, value in group.items() if key not in _NOT_COMPARED}
    for key in [key for key in start if key.startswith("initial_")]:
        start[key.removeprefix("initial_")] = start[key]
    if "initial_momentum" in start and "betas" in start:  # Adam's momentum
        start["betas"] = (start["initial_momentum"], *start["betas"][1:])
    return start


def _trials(wrappers: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Copy wrappers without parameters, in the state before the first step of the saved run."""
    trials = {}
    for name, wrapper in wrappers.items():
        trials[name] = trial = copy.copy(wrapper)
        trial.optimizer = copy.copy(wrapper.optimizer)
        groups = saved[name]["param_groups"]
        trial.optimizer.param_groups = [{**_at_start(group), "params": []} for group in groups]
        if getattr(wrapper, "base_param_settings", None) is not None:
            trial.base_param_settings = _at_start(saved[name]["base_param_settings"])
    return trials


def _build(runner: Any, trials: Mapping[str, Any], extra: int) -> dict[str, list[Any]]:
    """Build the schedulers of the config on other optimisers.

    Args:
        runner: mmengine runner.
        trials: Copies of the optimiser wrappers by network, from `_trials`.
        extra: Epochs or iterations by which the run is longer than that of the config.

    Returns:
        Schedulers by network.
    """
    configs = copy.deepcopy(runner.cfg.get("param_scheduler") or [])
    for config in _iter_configs(configs):
        length = runner.max_epochs if config.get("by_epoch", True) else runner.max_iters
        config.setdefault("end", length + extra)
    actual = runner.optim_wrapper
    runner.optim_wrapper = OptimWrapperDict(**trials) if "" not in trials else trials[""]
    try:
        return _by_network(runner, runner.build_param_scheduler(configs))
    finally:
        runner.optim_wrapper = actual


def _iter_configs(configs: Any) -> Iterator[dict[str, Any]]:
    """Yield the scheduler configs in a config, a list or lists by network."""
    if isinstance(configs, dict) and "type" in configs:
        yield configs
        return
    for config in configs.values() if isinstance(configs, dict) else configs:
        yield from _iter_configs(config)


def _check_kinds(schedulers: list[Any], states: list[dict[str, Any]]) -> None:
    """Raise `UserError` if the schedulers of a network differ from the states in number or kind."""
    names = [type(scheduler).__name__ for scheduler in schedulers]
    if len(schedulers) != len(states):
        raise UserError(
            f"--resume: expected the states of {len(names)} schedulers ({', '.join(names)}), got "
            f"{len(states)}; use load_from for another schedule"
        )
    for name, scheduler, state in zip(names, schedulers, states, strict=True):
        if foreign := sorted(set(state) - set(vars(scheduler))):
            raise UserError(
                f"--resume: expected the state of {name}, got a state of another scheduler, with "
                f"{', '.join(foreign)}; use load_from for another schedule"
            )


def _reconcile(runner: Any, scheduler: Any, probe: Any, state: dict[str, Any]) -> bool:
    """Set settings of a scheduler to those of its state, or the reverse.

    Args:
        runner: mmengine runner, the logger of which reports what differs.
        scheduler: Scheduler of the config; settings in the config are replaced by the saved ones.
        probe: The same scheduler in a run one step longer.
        state: Its state in the checkpoint; settings derived from the length are replaced.

    Returns:
        Whether settings of the state changed.
    """
    new, kind = vars(scheduler), type(scheduler).__name__
    names = [name for name in new if name in state and name not in _NOT_SETTINGS]
    differ = [name for name in names if not callable(new[name]) and new[name] != state[name]]
    derived = {n: (state[n], new[n]) for n in differ if new[n] != vars(probe)[n]}
    doubled = {n: (state[n], new[n]) for n in differ if _is_doubled(state[n], new[n])}
    kept = {n: (state[n], new[n]) for n in differ if n not in derived and n not in doubled}
    _report(runner, kind, kept)
    if derived:
        runner.logger.warning(
            f"--resume: {kind} is adapted to the length of the run, with "
            + ", ".join(f"{n}={now} (checkpoint: {old})" for n, (old, now) in derived.items())
        )
    for old, now in doubled.values():
        runner.logger.warning(
            f"--resume: an earlier version of srgan_plugin counted the milestones of {kind} twice "
            f"at each resume ({dict(old)} for {dict(now)}); this is corrected"
        )
    new.update({name: old for name, (old, _) in kept.items()})
    state.update({name: now for name, (_, now) in (derived | doubled).items()})
    return bool(derived or doubled)


def _is_doubled(saved: Any, configured: Any) -> bool:
    """Return whether saved counts of milestones are 2, 4, 8, … times those of the config."""
    if not isinstance(saved, Counter) or set(saved) != set(configured):
        return False
    factors = {saved[step] / configured[step] for step in configured}
    return len(factors) == 1 and min(factors) > 1 and math.log2(min(factors)).is_integer()


def _replay(
    runner: Any, schedulers: list[Any], states: list[dict[str, Any]], saved: Mapping[str, Any]
) -> None:
    """Replay the schedulers of a network for the number of steps in their states.

    With ReduceOnPlateau among them, nothing changes.

    Args:
        runner: mmengine runner, the logger of which reports a changed rate.
        schedulers: Schedulers on trial optimisers, before their first step.
        states: Their states in the checkpoint, set to those after the steps.
        saved: Optimiser state in the checkpoint; its rates are set to those after the steps.
    """
    if any(isinstance(s, ReduceOnPlateauParamScheduler) for s in schedulers):
        return  # its steps depended on validation and cannot be replayed
    steps = [state["_global_step"] for state in states]
    schedulers[0].optimizer._global_step = 0  # mmengine warns of schedulers before optimisers
    total = max(steps)
    for now in range(total):
        for scheduler, count in zip(schedulers, steps, strict=True):
            if (now + 1) * count // total > now * count // total:  # by epoch: fewer, evenly
                scheduler.step()
    for scheduler, state in zip(schedulers, states, strict=True):
        state.update({name: value for name, value in vars(scheduler).items() if name in state})
    changed = False
    trial = schedulers[0].optimizer
    groups = [*saved["param_groups"], *filter(None, [saved.get("base_param_settings")])]
    for group, replayed in zip(groups, trial.param_groups, strict=True):
        for key in _scheduled_options(group):
            # A shorter run did not take the last step of its schedule: tolerate 0.1 %.
            changed |= not np.allclose(group[key], replayed[key], rtol=1e-3, atol=0)
            group[key] = replayed[key]
    if changed:
        rates = ", ".join(f"{rate:.4g}" for rate in sorted({g["lr"] for g in groups}))
        runner.logger.warning(
            f"--resume: the learning rate continues at {rates}, as in a run with this schedule "
            "from its start; the checkpoint has another rate"
        )


def _scheduled_options(group: Mapping[str, Any]) -> list[str]:
    """Return the names of the options of a parameter group that schedulers change."""
    names = [key.removeprefix("initial_") for key in group if key.startswith("initial_")]
    return [*names, "betas"] if "momentum" in names and "betas" in group else names


def _report(runner: Any, what: str, changed: dict[str, tuple[Any, Any]]) -> None:
    """Warn of options of `what` that keep the saved value: {name: (saved, of the config)}."""
    if changed:
        values = ", ".join(f"{name}={old} (config: {new})" for name, (old, new) in changed.items())
        runner.logger.warning(
            f"--resume: {what} keeps the settings of the checkpoint, {values}; use load_from for "
            "other settings"
        )
