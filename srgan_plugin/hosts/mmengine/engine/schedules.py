"""Schedules of a resumed run: which settings come from the config and which from the checkpoint."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.optim import OptimWrapperDict
from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler

from srgan_plugin.errors import UserError

from .optim_wrapper import iter_schedulers

State = dict[str, Any]

# State of a scheduler that changes in each step; the rest is derived from the config.
_RUNNING = {"last_step", "_global_step", "_last_value", "verbose", "optimizer", "best"}
_RUNNING |= {"num_bad_epochs", "cooldown_counter"}
# Options of a parameter group that do not change its result.
_MACHINE = {"params", "param_names", "fused", "foreach", "capturable", "differentiable"}


def follow_config(runner: Any, checkpoint: State) -> None:
    """Adapt the schedules in a checkpoint to the config of the run that resumes it.

    Settings that mmengine derives from the length of the run (a scheduler's `end` that is not in
    the config, a `T_max` derived from it) follow the new length, and rates become those of a run of
    this length at this step. Settings in the config keep the values of the checkpoint, with a
    warning if they differ. Counts of milestones that an earlier version doubled at each resume are
    corrected.

    Args:
        runner: mmengine runner with optimisers and schedulers, before it loads their states.
        checkpoint: The checkpoint; `param_schedulers` and `optimizer` are changed in place.

    Raises:
        UserError: States of optimisers or schedulers are missing or of another kind.
    """
    wrappers = _by_network(runner, runner.optim_wrapper)
    saved = _get_states(checkpoint, "optimizer", wrappers)
    for name, wrapper in wrappers.items():
        _report(runner, f"optim_wrapper {name}".strip(), _changed_options(wrapper, saved[name]))
    own = iter_schedulers(runner.param_schedulers)
    other = iter_schedulers(checkpoint.get("param_schedulers"))
    if own and not other:
        runner.logger.warning(
            "--resume: expected states of schedulers in the checkpoint, got none; they start again"
        )
    if other and not own:
        runner.logger.warning(
            "--resume: expected a param_scheduler in the config, got none; the rate stays constant"
        )
    if not (own and other):
        return
    states = _get_states(checkpoint, "param_schedulers", wrappers)
    built, probe = (_build(runner, _trials(wrappers, saved), longer) for longer in (0, 1))
    for name in wrappers:
        _check_kinds(built[name], states[name])
        each = zip(built[name], probe[name], states[name], strict=True)
        if sum(_follow(runner, *schedule) for schedule in each):
            _replay(runner, built[name], states[name], saved[name])


def _by_network(runner: Any, item: Any) -> dict[str, Any]:
    """Return items by name of their network, which is '' for a single one."""
    return dict(item) if isinstance(runner.optim_wrapper, OptimWrapperDict) else {"": item}


def _get_states(checkpoint: State, key: str, wrappers: State) -> State:
    """Return the states by network, which must be the networks of the config."""
    states = checkpoint.get(key)
    if isinstance(states, dict) and set(states) == set(wrappers):
        return states
    if "" in wrappers and (isinstance(states, list) or "param_groups" in (states or ())):
        return {"": states}
    networks = ", ".join(wrappers) or "one network"
    found = "one network" if states else "none"
    if isinstance(states, dict) and "param_groups" not in states:
        found = ", ".join(states)
    raise UserError(
        f"--resume: expected {key} of {networks} in the checkpoint, got {found}; use load_from to "
        "load only its weights"
    )


def _changed_options(wrapper: Any, saved: State) -> dict[str, tuple[Any, Any]]:
    """Return the options of the optimiser that differ: the saved value and that of the config."""
    changed: dict[str, tuple[Any, Any]] = {}
    for own, old in zip(wrapper.optimizer.param_groups, saved["param_groups"], strict=False):
        own, old = _at_start(own), _at_start(old)
        changed |= {k: (old[k], own[k]) for k in sorted(set(own) & set(old)) if own[k] != old[k]}
    return changed


def _at_start(group: State) -> State:
    """Return the options of a parameter group before any schedule changed them."""
    start = {key: value for key, value in group.items() if key not in _MACHINE}
    for key in [key for key in start if key.startswith("initial_")]:
        start[key.removeprefix("initial_")] = start[key]
    if "initial_momentum" in start and "betas" in start:  # Adam's momentum
        start["betas"] = (start["initial_momentum"], *start["betas"][1:])
    return start


def _trials(wrappers: State, saved: State) -> State:
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


def _build(runner: Any, trials: State, longer: int) -> dict[str, list[Any]]:
    """Build the schedulers of the config on other optimisers, for a run `longer` by so much."""
    configs = copy.deepcopy(runner.cfg.get("param_scheduler") or [])
    for config in _each_config(configs):
        length = runner.max_epochs if config.get("by_epoch", True) else runner.max_iters
        config.setdefault("end", length + longer)
    actual = runner.optim_wrapper
    runner.optim_wrapper = OptimWrapperDict(**trials) if "" not in trials else trials[""]
    try:
        return _by_network(runner, runner.build_param_scheduler(configs))
    finally:
        runner.optim_wrapper = actual


def _each_config(configs: Any) -> Iterator[State]:
    if isinstance(configs, dict) and "type" in configs:
        yield configs
        return
    for config in configs.values() if isinstance(configs, dict) else configs:
        yield from _each_config(config)


def _check_kinds(schedulers: list[Any], states: list[State]) -> None:
    names = [type(scheduler).__name__ for scheduler in schedulers]
    if len(schedulers) != len(states):
        raise UserError(
            f"--resume: expected the states of {len(names)} schedulers ({', '.join(names)}), got "
            f"{len(states)}; use load_from for another schedule"
        )
    for name, scheduler, state in zip(names, schedulers, states, strict=True):
        if foreign := sorted(set(state) - set(vars(scheduler))):
            raise UserError(
                f"--resume: expected the state of {name}, got that of another scheduler, with "
                f"{', '.join(foreign)}; use load_from for another schedule"
            )


def _follow(runner: Any, scheduler: Any, probe: Any, state: State) -> bool:
    """Set the settings of a scheduler and of its state; return whether any of them changed."""
    own, longer, kind = vars(scheduler), vars(probe), type(scheduler).__name__
    names = [name for name in own if name in state and name not in _RUNNING]
    differ = [name for name in names if not callable(own[name]) and own[name] != state[name]]
    derived = {name: (state[name], own[name]) for name in differ if own[name] != longer[name]}
    doubled = {n: (state[n], own[n]) for n in differ if _is_doubled(state[n], own[n])}
    kept = {n: (state[n], own[n]) for n in differ if n not in derived and n not in doubled}
    _report(runner, kind, kept)
    if derived:
        runner.logger.warning(
            f"--resume: {kind} is adapted to the length of the run, with "
            + ", ".join(f"{n}={new} (checkpoint: {old})" for n, (old, new) in derived.items())
        )
    for old, new in doubled.values():
        runner.logger.warning(
            f"--resume: an earlier version of srgan_plugin counted the milestones of {kind} twice "
            f"at each resume ({dict(old)} for {dict(new)}); this is corrected"
        )
    own.update({name: old for name, (old, _) in kept.items()})
    state.update({name: new for name, (_, new) in (derived | doubled).items()})
    return bool(derived or doubled)


def _is_doubled(saved: Any, own: Any) -> bool:
    if not isinstance(saved, Counter) or set(saved) != set(own):
        return False
    factors = {saved[step] / own[step] for step in own}
    return any(factors == {2.0**resumes} for resumes in range(1, 40))


def _replay(runner: Any, schedulers: list[Any], states: list[State], saved: State) -> None:
    """Set states and rates to those of these schedulers after the number of steps in the states."""
    if any(isinstance(s, ReduceOnPlateauParamScheduler) for s in schedulers):
        return  # its steps depended on validation and cannot be replayed
    steps = [state["_global_step"] for state in states]
    schedulers[0].optimizer._global_step = 0  # mmengine warns of schedulers before optimisers
    for now in range(total := max(steps)):
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
            # The last step before an earlier end may be missing; this is not another rate.
            changed |= not np.allclose(group[key], replayed[key], rtol=1e-3, atol=0)
            group[key] = replayed[key]
    if changed:
        rates = ", ".join(f"{rate:.4g}" for rate in sorted({g["lr"] for g in groups}))
        runner.logger.warning(
            f"--resume: the learning rate continues at {rates}, as in a run with this schedule "
            "from its start; that in the checkpoint is another"
        )


def _scheduled_options(group: State) -> list[str]:
    names = [key.removeprefix("initial_") for key in group if key.startswith("initial_")]
    return [*names, "betas"] if "momentum" in names and "betas" in group else names


def _report(runner: Any, what: str, changed: dict[str, tuple[Any, Any]]) -> None:
    if changed:
        values = ", ".join(f"{name}={old} (config: {new})" for name, (old, new) in changed.items())
        runner.logger.warning(
            f"--resume: {what} keeps the settings of the checkpoint, {values}; use load_from for "
            "other settings"
        )
