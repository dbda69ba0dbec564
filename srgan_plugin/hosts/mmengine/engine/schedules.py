"""Schedules of a resumed run: which settings come from the config and which from the checkpoint.

Messages begin with `--resume`, the option of `tools/train.py` that sets `resume` in the config.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler

from srgan_plugin.errors import UserError

from .optim_wrapper import list_schedulers
from .optimizer_state import KERNEL_OPTIONS, check_optimizer_state
from .schedule_settings import (
    PROGRESS,
    check_kinds,
    derived_settings,
    merge_settings,
    read_settings,
)


def reconcile_schedules(runner: Any, checkpoint: dict[str, Any]) -> None:
    """Adapt the schedules in a checkpoint to the config of the run that resumes it.

    Settings that mmengine derives from the length of the run (a scheduler's `end` that is not in
    the config, and a `T_max` or `total_steps` derived from it) follow the new length. Learning rate
    and momentum become those of a run of this length at this step; this is approximate within an
    epoch if steps by iteration and by epoch are mixed. A network with ReduceOnPlateau keeps those
    of the checkpoint, because its steps depended on validation results and cannot be replayed.

    Other settings of schedulers and options of torch's optimisers stay those of the checkpoint,
    with a warning if the config differs. What a checkpoint does not contain, such as `clip_grad`
    and `accumulative_counts`, follows the config.

    Args:
        runner: mmengine runner with optimisers and schedulers, before it loads their states.
        checkpoint: The checkpoint; `param_schedulers` and `optimizer` are changed in place.

    Raises:
        UserError: The optimiser states are missing, or the networks, the options, states or
            parameters of an optimiser, or the number or kind of schedulers, differ.
    """
    wrappers = _by_network(runner, runner.optim_wrapper)
    optimizer_states = _get_states(checkpoint, "optimizer", wrappers)
    for name, wrapper in wrappers.items():
        optimizer, state = wrapper.optimizer, optimizer_states[name]
        check_optimizer_state(optimizer, state)
        _report_kept(runner, f"optim_wrapper {name}".strip(), _changed_options(optimizer, state))
    configured = list_schedulers(runner.param_schedulers)
    saved = list_schedulers(checkpoint.get("param_schedulers"))
    if saved and not configured:
        _warn(runner, "expected a param_scheduler in the config, got none; the rate stays constant")
    elif configured and not runner.cfg.get("param_scheduler"):
        _warn(
            runner,
            "expected param_scheduler in the cfg of the Runner, got none; schedules stay those of "
            "the checkpoint, even if the length of the run differs",
        )
    elif configured and not saved:
        _warn(runner, "expected states of schedulers in the checkpoint, got none; they start again")
        started = {
            name: _Network(runner, name, wrapper, optimizer_states[name]).start()
            for name, wrapper in wrappers.items()
        }
        checkpoint["param_schedulers"] = started.get("", started)
    elif configured:
        states = _get_states(checkpoint, "param_schedulers", wrappers)
        for name, wrapper in wrappers.items():
            _Network(runner, name, wrapper, optimizer_states[name]).reconcile(states[name])


def _warn(runner: Any, text: str) -> None:
    runner.logger.warning(f"--resume: {text}")


def _report_kept(runner: Any, what: str, kept: Mapping[str, tuple[Any, Any]]) -> None:
    """Warn of settings of `what` that stay as saved: {name: (saved value, configured value)}."""
    if kept:
        values = ", ".join(f"{name}={old} (config: {new})" for name, (old, new) in kept.items())
        text = f"{what} keeps the settings of the checkpoint, {values}; use load_from for others"
        _warn(runner, text)


def _by_network(runner: Any, item: Any) -> dict[str, Any]:
    """Return items by name of their network, which is '' for a run with one optimiser."""
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
    if isinstance(states, dict) and not of_one:
        found = ", ".join(states) or "none"
    else:
        found = "one network" if states else "none"
    raise UserError(
        f"--resume: expected {key} states of {', '.join(wrappers) or 'one network'} in the "
        f"checkpoint, got {found}; use load_from to load only its weights"
    )


def _changed_options(
    optimizer: Any, optimizer_state: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return the options of an optimiser that differ: the saved value and that of the config.

    If an option differs in several parameter groups, its values in the last one are returned.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    groups = zip(optimizer.param_groups, optimizer_state["param_groups"], strict=True)
    for group, saved_group in groups:
        new, old = _initial_options(group), _initial_options(saved_group)
        names = sorted((set(optimizer.defaults) & set(new) & set(old)) - KERNEL_OPTIONS)
        changed |= {name: (old[name], new[name]) for name in names if new[name] != old[name]}
    return changed


def _initial_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a parameter group before its schedulers were built."""
    options = {k: v for k, v in group.items() if k not in ("params", "param_names")}
    for key in [key for key in options if key.startswith("initial_")]:
        options[key.removeprefix("initial_")] = options.pop(key)
    if "initial_momentum" in group and "betas" in options:  # Adam's momentum
        options["betas"] = (options["momentum"], *options["betas"][1:])
    return options


@dataclass(frozen=True)
class _Network:
    """A network of a resumed run.

    Args:
        runner: mmengine runner.
        name: Name of the network, '' for a run with one optimiser.
        wrapper: Its optimiser wrapper.
        optimizer_state: State of its optimiser in the checkpoint, changed in place.
    """

    runner: Any
    name: str
    wrapper: Any
    optimizer_state: dict[str, Any]

    def start(self) -> list[dict[str, Any]]:
        """Return the states of the config's schedulers at their start, and set the rates to it."""
        schedulers = self._build(self._configs, [])
        self._store_options(schedulers)
        return [scheduler.state_dict() for scheduler in schedulers]

    def reconcile(self, states: list[dict[str, Any]]) -> None:
        """Reconcile the states of the network's schedulers with the config.

        Args:
            states: States of its schedulers in the checkpoint, changed in place.

        Raises:
            UserError: The number or kind of schedulers differs.
        """
        configured = self._build(self._configs, states)
        # Settings that differ in a run one step longer are derived from the length of the run.
        longer = self._build(self._configs, states, extra=1)
        for scheduler, state in zip(configured, states, strict=False):
            if hasattr(scheduler, "eta_min_ratio"):
                state.setdefault("eta_min_ratio", None)  # mmengine before 0.3.2
        check_kinds(configured, states)
        derived = [derived_settings(*pair) for pair in zip(configured, longer, strict=True)]
        each = zip(self._configs, configured, derived, states, strict=True)
        merged = [merge_settings(*scheduler) for scheduler in each]
        schedulers = self._build([config for config, _ in merged], states)
        adapted = False
        for scheduler, (_, kept), state in zip(schedulers, merged, states, strict=True):
            vars(scheduler).update({name: state[name] for name in kept if name in state})
            if "anneal_strategy" in state:
                state["anneal_func"] = scheduler.anneal_func
            _report_kept(self.runner, self._describe(scheduler), kept)
            adapted |= self._report_adapted(scheduler, state)
        if adapted:
            self._replay(schedulers, states)

    @property
    def _configs(self) -> list[dict[str, Any]]:
        configs = self.runner.cfg.param_scheduler
        if isinstance(configs, dict) and "type" not in configs:
            configs = configs[self.name]
        return [configs] if isinstance(configs, dict) else list(configs)

    def _describe(self, scheduler: Any) -> str:
        return type(scheduler).__name__ + (f" of {self.name}" if self.name else "")

    @property
    def _groups(self) -> list[dict[str, Any]]:
        """Saved parameter groups that schedulers change; if there are several, also their base."""
        base = self.optimizer_state.get("base_param_settings")
        return [*self.optimizer_state["param_groups"], *filter(None, [base])]

    def _build(
        self, configs: list[dict[str, Any]], states: list[dict[str, Any]], extra: int = 0
    ) -> list[Any]:
        """Build schedulers as at the start of the saved run, on a copy of the optimiser.

        Args:
            configs: Configs of the schedulers.
            states: States of the schedulers in the checkpoint, empty if it has none.
            extra: Epochs or iterations by which the run is longer than that of the config.

        Returns:
            The schedulers; their constructors have set the options of the first step.
        """
        groups = [{**_initial_options(group), "params": []} for group in self._groups]
        for state in reversed(states):  # OneCycleLR replaces the initial values in the groups
            values = state.get("base_values", ())
            if "eta_max" in state and state["last_step"] < 0:  # its values do not count yet
                values = [group["lr"] for group in self._groups]
            for group, value in zip(groups, values, strict=False):
                group[state["param_name"]] = value
        count = len(self.optimizer_state["param_groups"])
        trial = copy.copy(self.wrapper)
        trial.optimizer = copy.copy(self.wrapper.optimizer)
        trial.optimizer.param_groups = groups[:count]
        trial.base_param_settings = groups[count] if len(groups) > count else None
        runner = self.runner
        ends = {True: runner.max_epochs + extra, False: runner.max_iters + extra}
        configs = [{"end": ends[bool(c.get("by_epoch", True))], **c} for c in configs]
        actual = runner.optim_wrapper
        runner.optim_wrapper = trial  # build_param_scheduler attaches schedulers to it
        try:
            schedulers: list[Any] = runner.build_param_scheduler(configs)
        finally:
            runner.optim_wrapper = actual
        return schedulers

    def _report_adapted(self, scheduler: Any, state: Mapping[str, Any]) -> bool:
        """Warn of settings of a scheduler that differ from its state; return whether some do."""
        settings, saved = read_settings(vars(scheduler)), read_settings(state)
        names = [name for name in settings if name in saved and settings[name] != saved[name]]
        if names:
            values = ", ".join(f"{n}={settings[n]} (checkpoint: {saved[n]})" for n in names)
            text = f"{self._describe(scheduler)} is adapted to the length of the run, with {values}"
            _warn(self.runner, text)
        return bool(names)

    def _replay(self, schedulers: list[Any], states: list[dict[str, Any]]) -> None:
        """Step the schedulers as often as those of the checkpoint were, and store the result.

        Args:
            schedulers: Schedulers from `_build`.
            states: Their states in the checkpoint, updated to those after the steps.
        """
        if any(isinstance(scheduler, ReduceOnPlateauParamScheduler) for scheduler in schedulers):
            for scheduler, state in zip(schedulers, states, strict=True):
                names = state.keys() & vars(scheduler).keys() - PROGRESS
                state.update({name: vars(scheduler)[name] for name in names})
            return
        counts = [state["_global_step"] for state in states]
        schedulers[0].optimizer._global_step = 0  # mmengine warns of schedulers before optimisers
        total = max(counts)
        for step in range(total):
            for scheduler, count in zip(schedulers, counts, strict=True):
                # A scheduler by epoch takes fewer steps; spread them evenly.
                if (step + 1) * count // total > step * count // total:
                    scheduler.step()
        for scheduler, state in zip(schedulers, states, strict=True):
            names = state.keys() & vars(scheduler).keys()
            state.update({name: vars(scheduler)[name] for name in names})
        if changed := self._store_options(schedulers):
            values = ", ".join(f"{name}={new} (checkpoint: {old})" for name, old, new in changed)
            text = f"{self.name or 'the run'} continues with {values}"
            _warn(self.runner, f"{text}, as in a run with this schedule from its start")

    def _store_options(self, schedulers: list[Any]) -> list[tuple[str, str, str]]:
        """Copy the options of the schedulers' optimiser to its state in the checkpoint.

        Returns:
            Name, saved value and new value of each scheduled option that differs in three digits.
        """
        changed: dict[tuple[str, str, str], None] = {}
        for scheduler in schedulers[:1]:  # all have the same optimiser
            for group, new in zip(self._groups, scheduler.optimizer.param_groups, strict=True):
                names = [key.removeprefix("initial_") for key in new if key.startswith("initial_")]
                names = [name for name in names if name in group]
                texts = [(name, f"{group[name]:.3g}", f"{new[name]:.3g}") for name in names]
                changed |= dict.fromkeys(each for each in texts if each[1] != each[2])
                group.update({key: value for key, value in new.items() if key != "params"})
        return list(changed)
