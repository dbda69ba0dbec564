"""Which saved states an optimiser accepts."""

import itertools
from typing import Any

import pytest
import torch

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine.optimizer_state import check_optimizer_state

KINDS = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adam": {},
    "AdamW": {},
    "Adamax": {},
    "Adagrad": {},
    "RMSprop": {},
    "Rprop": {},
}
# What mmengine's constructors and schedulers add to a group.
ADDED = {"lr_scale": 1.0, "initial_lr": 0.1, "max_lr": 1.0, "min_lr": 0.0}


def optimizer_of(kind: str, **group: Any) -> torch.optim.Optimizer:
    """Return an optimiser after a step."""
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer: torch.optim.Optimizer = getattr(torch.optim, kind)(
        [{"params": [parameter], **group}], **KINDS[kind]
    )
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("added", [{}, ADDED])
@pytest.mark.parametrize("kind", KINDS)
def test_an_optimiser_accepts_its_own_state_with_what_mmengine_adds(
    kind: str, added: dict[str, float]
) -> None:
    for now in ({}, added):
        check_optimizer_state(optimizer_of(kind, **now), optimizer_of(kind, **added).state_dict())


@pytest.mark.parametrize("added", [{}, ADDED])
def test_a_state_of_an_older_torch_without_an_option_is_accepted(added: dict[str, float]) -> None:
    saved = optimizer_of("Adam", **added).state_dict()
    for group in saved["param_groups"]:
        group.pop("decoupled_weight_decay", None)
        group.pop("amsgrad")
    check_optimizer_state(optimizer_of("Adam"), saved)


@pytest.mark.parametrize("added", [{}, ADDED])
@pytest.mark.parametrize(("now", "before"), itertools.permutations(KINDS, 2))
def test_the_state_of_another_kind_is_refused(
    now: str, before: str, added: dict[str, float]
) -> None:
    saved = optimizer_of(before, **added).state_dict()
    if {now, before} == {"Adam", "AdamW"}:
        check_optimizer_state(optimizer_of(now), saved)
        return
    with pytest.raises(UserError, match=f"expected options and states of {now}, with .*load_from"):
        check_optimizer_state(optimizer_of(now), saved)


def test_a_class_that_raises_any_error_is_not_compared() -> None:
    class Strict(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            assert lr > 0
            super().__init__(params, lr=lr, momentum=0.9)

    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer = Strict([parameter])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["param_groups"][0]["lr"] = 0.0
    check_optimizer_state(optimizer, saved)
