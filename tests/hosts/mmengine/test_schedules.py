"""Schedules after a resume with other settings, compared with mmengine's own from the start."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import CheckpointHook
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import OptimWrapper
from srgan_plugin.hosts.mmengine.engine.schedules import reconcile_schedules

Settings = dict[str, Any]

ALL: dict[str, list[Any]] = {"begin": [0, 2], "end": [None, 9, 12]}  # None leaves an argument out
KINDS: dict[str, dict[str, list[Any]]] = {
    "Constant": {"factor": [0.5, 0.25]},
    "CosineAnnealing": {"T_max": [None, 5, 8], "eta_min": [None, 1e-3]},
    "Exponential": {"gamma": [0.9, 0.8]},
    "Linear": {"start_factor": [0.1, 0.5], "end_factor": [None, 0.7]},
    "MultiStep": {"milestones": [[4, 8], [6], [6, 6]], "gamma": [0.5, 0.3]},
    "OneCycle": {
        "eta_max": [0.1, 0.05],
        "total_steps": [None, 30],
        "pct_start": [None, 0.45],
        "three_phase": [None, True],
        "anneal_strategy": [None, "linear"],
        "div_factor": [None, 10.0],
    },
    "Poly": {"power": [None, 2.0], "eta_min": [None, 1e-3]},
    "CosineRestart": {
        "periods": [[5, 5, 9], [4, 6, 10]],
        "restart_weights": [[1, 0.5, 0.2], (1, 1, 1)],
        "eta_min_ratio": [0.1, 0.2],
    },
    "Step": {"step_size": [3, 5], "gamma": [None, 0.5]},
}
PER_EPOCH = 2


class Loop(BaseLoop):
    """The length of a run."""

    def __init__(self, epochs: int, per_epoch: int) -> None:
        self.dataloader = [None] * per_epoch  # type: ignore[assignment]
        self.max_epochs, self.max_iters = epochs, epochs * per_epoch

    def run(self) -> None:
        """Train nothing."""


class Builder(Runner):
    """As much of mmengine's runner as builds schedulers and resumes them."""

    def __init__(self, configs: Any, epochs: int, wrapper: Any, per_epoch: int = 1) -> None:
        self.cfg = ConfigDict(param_scheduler=configs)
        self._train_loop = Loop(epochs, per_epoch)
        self.optim_wrapper = wrapper
        self.logger: Any = Heard()
        self.param_schedulers = self.build_param_scheduler(copy.deepcopy(configs))


class Heard(logging.Logger):
    """The warnings of a run."""

    def __init__(self) -> None:
        super().__init__("heard")
        self.warnings: list[str] = []
        self.warning = self.warnings.append  # type: ignore[assignment]


def optimiser(
    kind: str = "SGD", groups: int = 1, lr: float = 0.01, wrapper: Any = OptimWrapper, **other: Any
) -> Any:
    options = {"momentum": 0.5} if kind == "SGD" else {"betas": (0.8, 0.99)}
    parameters = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr / n} for n in (1, 2)]
    return wrapper(getattr(torch.optim, kind)(parameters[:groups], lr=lr, **options | other))


def rates(wrapper: Any) -> list[Any]:
    """All that schedules change."""
    names = ("lr", "momentum", "betas", "initial_lr", "max_lr", "min_lr")
    return [[group.get(name) for name in names] for group in wrapper.param_groups]


def steps(runner: Any, first: int, last: int) -> Iterator[list[Any]]:
    """Yield the rates after each of these steps."""
    runner.optim_wrapper._global_step = 0  # mmengine warns of schedulers before optimisers
    yield rates(runner.optim_wrapper)
    for _ in range(first, last):
        for scheduler in runner.param_schedulers:
            scheduler.step()
        yield rates(runner.optim_wrapper)


def save(runner: Any, by_mmengine: bool = False) -> dict[str, Any]:
    """A checkpoint, as CheckpointHook saves it, or mmengine's."""
    states = [scheduler.state_dict() for scheduler in runner.param_schedulers]
    checkpoint = {"optimizer": runner.optim_wrapper.state_dict(), "param_schedulers": states}
    if not by_mmengine:
        CheckpointHook().before_save_checkpoint(runner, checkpoint)
    return copy.deepcopy(checkpoint)


def resume(runner: Any, checkpoint: dict[str, Any]) -> Any:
    """Load a checkpoint in the order of mmengine's Runner.resume."""
    reconcile_schedules(runner, checkpoint)
    runner.optim_wrapper.load_state_dict(checkpoint["optimizer"])
    for scheduler, state in zip(
        runner.param_schedulers, checkpoint["param_schedulers"], strict=True
    ):
        scheduler.load_state_dict(state)
    return runner


def written(kind: str, arguments: Settings, convert: bool) -> Settings:
    """The config of a scheduler."""
    given = {name: value for name, value in arguments.items() if value is not None}
    units = {"by_epoch": True, "convert_to_iter_based": True} if convert else {"by_epoch": False}
    return {"type": f"mmengine.{kind}", **units, **given}


def expected_settings(saved: Settings, new: Settings, lengths: tuple[int, int]) -> Settings:
    """The settings of a resumed scheduler: the saved ones, except what follows the length."""
    old_end = lengths[0] if saved["end"] is None else saved["end"]
    follows = new["end"] is None
    expected = {**saved, "end": lengths[1] if follows else old_end}
    for name in {"T_max", "total_steps"} & set(saved):
        if new[name] is None and follows:
            expected[name] = None
        elif saved[name] is None:
            expected[name] = old_end - saved["begin"]
    return expected


@st.composite
def chains(draw: st.DrawFn) -> list[tuple[str, Settings, Settings]]:
    """Schedulers of one network, each with its saved and its new settings."""
    chain: list[tuple[str, Settings, Settings]] = []
    for last in draw(st.sampled_from([[True], [False, True]])):
        kind = draw(st.sampled_from(list(KINDS)))
        part = "LR" if kind == "OneCycle" else draw(st.sampled_from(["LR", "LR", "Momentum"]))
        known = ALL | KINDS[kind]
        if kind == "OneCycle" and not last:  # no state has the rate of others before its begin
            known = known | {"begin": [0]}
        saved, new = ({n: draw(st.sampled_from(v)) for n, v in known.items()} for _ in range(2))
        if kind == "OneCycle" and saved["total_steps"] is None:
            new["total_steps"] = None  # mmengine refuses more steps than the saved ones
        chain.append((kind + part, saved, new))
    return chain


@settings(max_examples=100, deadline=None)
@given(
    chain=chains(),
    lengths=st.tuples(st.integers(12, 20), st.integers(12, 20)),
    stop=st.floats(0, 1),
    kind=st.sampled_from(["SGD", "Adam"]),
    groups=st.sampled_from([1, 2]),
    convert=st.booleans(),
    by_mmengine=st.booleans(),
)
def test_a_resumed_run_has_the_rates_of_mmengines_schedulers_with_its_settings_from_the_start(
    chain: list[tuple[str, Settings, Settings]],
    lengths: tuple[int, int],
    stop: float,
    kind: str,
    groups: int,
    convert: bool,
    by_mmengine: bool,
) -> None:
    compare(chain, lengths, stop, kind, groups, convert, by_mmengine)


WARM_UP = {"begin": 0, "end": 4, "start_factor": 0.1, "end_factor": None}
COSINE = {"begin": 0, "end": None, "T_max": None, "eta_min": None}
ONE_CYCLE = {"begin": 0, "end": None, "total_steps": None, "eta_max": 0.1, "pct_start": 0.3}


@pytest.mark.parametrize("convert", [False, True])
@pytest.mark.parametrize(
    "chain",
    [
        [
            ("LinearLR", WARM_UP, WARM_UP | {"start_factor": 0.5}),
            ("CosineAnnealingLR", COSINE, COSINE),
        ],
        [("CosineAnnealingLR", COSINE, COSINE | {"begin": 2})],
        [
            (
                "OneCycleLR",
                ONE_CYCLE,
                ONE_CYCLE | {"eta_max": 0.2, "pct_start": 0.5, "anneal_strategy": "linear"},
            )
        ],
        [("OneCycleLR", ONE_CYCLE | {"begin": 8}, ONE_CYCLE | {"begin": 8})],
        [("LinearLR", WARM_UP, WARM_UP), ("OneCycleLR", *[ONE_CYCLE | {"begin": 8}] * 2)],
    ],
    ids=["warm-up", "begin", "one-cycle", "one-cycle-later", "warm-up-and-one-cycle"],
)
@pytest.mark.parametrize("lengths", [(16, 16), (16, 24)])
def test_settings_that_differ_keep_the_rates_of_the_saved_ones_before_and_after_all_begin(
    chain: list[tuple[str, Settings, Settings]], lengths: tuple[int, int], convert: bool
) -> None:
    for at in (0.1, 0.3, 0.7, 1.0):
        compare(chain, lengths, at, "Adam", 2, convert)


def compare(
    chain: list[tuple[str, Settings, Settings]],
    lengths: tuple[int, int],
    stop: float,
    kind: str,
    groups: int,
    convert: bool,
    by_mmengine: bool = False,
) -> None:
    """Stop, resume with the new settings, and compare each step with the expected settings."""
    per_epoch = PER_EPOCH if convert else 1

    def run(which: int, arguments: list[Settings], **options: Any) -> Builder:
        kinds = [name for name, _, _ in chain]
        configs = [written(*each, convert) for each in zip(kinds, arguments, strict=True)]
        return Builder(configs, lengths[which], optimiser(kind, groups, **options), per_epoch)

    at = round(stop * min(lengths)) * per_epoch
    first = run(0, [saved for _, saved, _ in chain])
    for _ in steps(first, 0, at):
        pass
    checkpoint = save(first, by_mmengine)
    final = [expected_settings(saved, new, lengths) for _, saved, new in chain]
    last = lengths[1] * per_epoch
    expected = list(steps(run(1, final), 0, last))[at:]
    second = resume(run(1, [new for _, _, new in chain], lr=0.02), checkpoint)
    assert list(steps(second, at, last)) == expected
    again = resume(run(1, [new for _, _, new in chain]), save(second))
    assert rates(again.optim_wrapper) == expected[-1]
    assert not any("adapted" in text or "continues" in text for text in again.logger.warnings)


def scheduler(kind: str, **arguments: Any) -> Settings:
    return written(kind, arguments, convert=False)


def train(configs: list[Settings], length: int, at: int, **options: Any) -> Any:
    """Take some steps."""
    runner = Builder(configs, length, optimiser(**options))
    for _ in steps(runner, 0, at):
        pass
    return runner


LINEAR = scheduler("LinearLR", start_factor=0.1, end=4)


def test_each_kept_setting_is_reported_by_its_name_in_a_config() -> None:
    saved = scheduler("OneCycleLR", eta_max=0.1, pct_start=0.3, total_steps=30)
    new = scheduler(
        "OneCycleLR", eta_max=0.1, pct_start=0.5, total_steps=40, anneal_strategy="linear"
    )
    milestones = [scheduler("MultiStepMomentum", milestones=m) for m in ([3, 3, 5], [7])]
    checkpoint = save(train([saved, milestones[0]], 12, 4))
    runner = Builder(
        [new, milestones[1]], 12, optimiser(weight_decay=0.1, nesterov=True, foreach=False)
    )
    resume(runner, checkpoint)
    told = [text.partition("checkpoint, ")[2].partition(";")[0] for text in runner.logger.warnings]
    assert told == [
        "nesterov=False (config: True), weight_decay=0 (config: 0.1)",
        "anneal_strategy=cos (config: linear), pct_start=0.3 (config: 0.5), "
        "total_steps=30 (config: 40)",
        "milestones=[3, 3, 5] (config: [7])",
    ]


def test_only_the_rates_that_change_are_reported() -> None:
    saved = [scheduler("PolyLR", end=30), scheduler("PolyMomentum")]
    runner = resume(Builder(saved, 20, optimiser("Adam")), save(train(saved, 10, 5, kind="Adam")))
    (text,) = [text for text in runner.logger.warnings if "continues" in text]
    expected = train(saved, 20, 5, kind="Adam").optim_wrapper.param_groups[0]["momentum"]
    assert f"momentum={expected:.3g} (checkpoint: 0.356)" in text
    assert "lr=" not in text


def test_a_network_with_reduce_on_plateau_keeps_its_rate_and_follows_the_length() -> None:
    plateau = {"type": "mmengine.ReduceOnPlateauLR", "by_epoch": True, "monitor": "PSNR"}
    linear = scheduler("LinearLR", start_factor=0.1)
    first = train([linear, plateau | {"min_value": 1e-4}], 10, 5)
    runner = Builder([linear, plateau | {"min_value": 1e-3}], 20, optimiser())
    runner = resume(runner, save(first))
    assert rates(runner.optim_wrapper) == rates(first.optim_wrapper)
    assert [scheduler.end for scheduler in runner.param_schedulers] == [20, 20]
    assert runner.param_schedulers[0].last_step == 5
    assert runner.param_schedulers[1].min_values == [1e-4]


OF_EACH_KIND = {
    "ConstantLR": {},
    "CosineAnnealingLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {},
    "MultiStepLR": {"milestones": [3], "gamma": 0.9},
    "OneCycleLR": {"eta_max": 0.1},
    "PolyLR": {},
    "CosineRestartLR": {"periods": [9], "restart_weights": [1], "eta_min": 0},
    "StepLR": {"step_size": 3, "gamma": 0.9},
    "LinearMomentum": {},
    "LinearParamScheduler": {"param_name": "momentum"},
}


@pytest.mark.parametrize("saved", OF_EACH_KIND)
def test_a_state_of_another_kind_of_scheduler_is_refused(saved: str) -> None:
    states = save(train([scheduler(saved, **OF_EACH_KIND[saved])], 10, 5))
    for kind, arguments in OF_EACH_KIND.items():
        runner = Builder([scheduler(kind, **arguments)], 10, optimiser())
        if kind == saved:
            resume(runner, copy.deepcopy(states))
            continue
        with pytest.raises(UserError, match=f"expected the state of {kind}, got .*load_from"):
            resume(runner, copy.deepcopy(states))


def test_a_scheduler_by_epoch_is_not_resumed_by_iteration() -> None:
    saved = save(train([scheduler("PolyLR") | {"by_epoch": True}], 10, 5))
    with pytest.raises(UserError, match="by_epoch"):
        resume(Builder([scheduler("PolyLR")], 10, optimiser()), saved)


def test_a_state_saved_before_mmengine_had_ratios_is_resumed() -> None:
    configs = [scheduler("CosineAnnealingLR")]
    saved = save(train(configs, 10, 5))
    del saved["param_schedulers"][0]["eta_min_ratio"]
    new = [scheduler("CosineAnnealingLR", eta_min_ratio=0.1)]
    runner = resume(Builder(new, 20, optimiser()), saved)
    assert list(steps(runner, 5, 20)) == list(steps(train(configs, 20, 5), 5, 20))


@pytest.mark.parametrize("groups", [(1, 2), (2, 1)])
@pytest.mark.parametrize("wrapper", [OptimWrapper, MMEngineOptimWrapper])
@pytest.mark.parametrize("length", [10, 20])
def test_another_number_of_parameter_groups_is_refused(
    groups: tuple[int, int], wrapper: Any, length: int
) -> None:
    configs = [scheduler("PolyLR")]
    saved = save(train(configs, 10, 5, groups=groups[0], wrapper=wrapper))
    runner = Builder(configs, length, optimiser(groups=groups[1], wrapper=wrapper))
    with pytest.raises(UserError, match=r"expected optimizer states of .*load_from"):
        resume(runner, saved)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_schedules_without_states_start_again(groups: int, kind: str) -> None:
    configs = [LINEAR, scheduler("LinearMomentum", start_factor=0.5, end=3)]
    saved = save(train([], 10, 5, kind=kind, groups=groups))
    runner = Builder(configs, 10, optimiser(kind, groups, lr=0.02))
    runner = resume(runner, saved)
    expected = train(configs, 10, 0, kind=kind, groups=groups)
    assert list(steps(runner, 0, 9)) == list(steps(expected, 0, 9))
    assert any("they start again" in text for text in runner.logger.warnings)


def test_a_runner_without_a_cfg_resumes_with_the_schedules_of_the_checkpoint() -> None:
    first = train([LINEAR, scheduler("PolyLR")], 10, 5)
    runner = Builder([LINEAR, scheduler("PolyLR")], 10, optimiser())
    runner.cfg = ConfigDict()
    resume(runner, save(first))
    assert list(steps(runner, 5, 10)) == list(steps(first, 5, 10))
    (text,) = runner.logger.warnings
    assert "cfg" in text
