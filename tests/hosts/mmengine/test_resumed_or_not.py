"""A resumed run is told from one that takes weights, and swapped weights are never saved."""

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine import resume_hooks
from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import CheckpointHook
from srgan_plugin.hosts.mmengine.engine.resume_hooks import InterruptHook, RandomStateHook


def runner(**given: Any) -> Any:
    """What the hooks ask a runner for."""
    default = {"_resume": False, "_load_from": None, "cfg": ConfigDict(), "param_schedulers": []}
    return SimpleNamespace(**default | {"hooks": [], "iter": 3} | given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"_load_from": "a.pth"}, 0),  # new weights
        ({}, 5000),  # runner.resume("a.pth")
    ],
)
def test_only_weights_to_start_from_lose_their_count_of_steps(
    given: dict[str, Any], expected: int
) -> None:
    weights = {"step_counter": torch.tensor(5000)}
    CheckpointHook().after_load_checkpoint(runner(**given), {"state_dict": weights})
    assert int(weights["step_counter"]) == expected


@pytest.mark.parametrize("given", [{"_resume": True}, {"cfg": ConfigDict(resume=True)}])
def test_a_run_resumed_in_python_keeps_its_count_of_steps(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    monkeypatch.setattr(
        "srgan_plugin.hosts.mmengine.engine.checkpoint_hook.reconcile_schedules", lambda *_: None
    )
    weights = {"step_counter": torch.tensor(5000)}
    fresh = runner(_load_from="a.pth", **given)
    CheckpointHook().after_load_checkpoint(fresh, {"state_dict": weights})
    assert int(weights["step_counter"]) == 5000


def test_mmengine_still_keeps_under_these_names_what_the_hooks_ask_for() -> None:
    names = Runner.__init__.__code__.co_names
    assert {"_resume", "_load_from"} <= set(names)


def test_a_signal_waits_for_the_end_of_a_validation_that_runs_on_swapped_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved: list[int] = []
    hook = InterruptHook()
    monkeypatch.setattr(hook, "save_and_exit", lambda _, iterations: saved.append(iterations))
    hook.received = 15
    hook.after_val_iter(runner(hooks=[EMAHook()]))
    assert saved == []
    hook.after_val_iter(runner())
    assert saved == [3]


def draw() -> tuple[float, float, float]:
    """One random number each of Python, NumPy and torch."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def saved_states(hook: RandomStateHook) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {}
    hook.before_save_checkpoint(None, checkpoint)
    return checkpoint


def resume(checkpoint: dict[str, Any], iteration: int = 3) -> None:
    hook = RandomStateHook()
    hook.after_load_checkpoint(runner(cfg=ConfigDict(resume=True)), checkpoint)
    hook.before_train(runner(seed=7, iter=iteration))


def test_random_numbers_of_a_training_do_not_depend_on_its_validations() -> None:
    hook = RandomStateHook()
    before = saved_states(hook)
    expected = draw()
    resume(before)
    hook.before_val(runner())
    draw()  # torch's loaders do
    during = saved_states(hook)
    hook.after_val(runner())
    assert draw() == expected
    resume(during)
    assert draw() == expected


def test_other_ranks_of_a_resumed_run_have_seeds_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = saved_states(RandomStateHook())
    drawn = []
    for rank, iteration in ((1, 3), (1, 3), (2, 3), (1, 4)):
        monkeypatch.setattr(resume_hooks, "get_rank", lambda rank=rank: rank)
        resume(saved, iteration)
        drawn.append(draw())
    assert drawn[0] == drawn[1]
    assert all(len(set(numbers)) == 3 for numbers in zip(*drawn, strict=True))


@pytest.mark.parametrize("interval", [0, 2.5])
def test_ranks_need_an_interval_to_agree_on_stopping(interval: Any) -> None:
    with pytest.raises(UserError, match=r"interrupt\.interval: expected an integer of at least 1"):
        InterruptHook(interval=interval)
