"""A resumed run is told from one that takes weights, and swapped weights are never saved."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import CheckpointHook
from srgan_plugin.hosts.mmengine.engine.resume_hooks import InterruptHook


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
