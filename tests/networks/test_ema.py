"""The moving average of weights against its formula."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from srgan_plugin.networks.ema import update_ema

DECAY = 0.9


class OnDevice(torch.Tensor):
    """A flag that claims to be on another device than the CPU."""

    device = torch.device("cuda")  # type: ignore[assignment]


def flags(value: bool) -> list[torch.Tensor | bool]:
    return [value, torch.tensor(value), torch.tensor(value).as_subclass(OnDevice)]


def trained_network(seed: int) -> nn.Module:
    """A convolution with batch normalisation, whose statistics and counter have averaged."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    for _ in range(seed):
        network(torch.rand(2, 3, 5, 5))
    return network


@pytest.mark.parametrize("updated", flags(True))
def test_weights_and_statistics_move_by_the_formula_and_counters_are_copied(
    updated: torch.Tensor | bool,
) -> None:
    average, model = trained_network(1), trained_network(3)
    before, now = copy.deepcopy(average.state_dict()), copy.deepcopy(model.state_dict())
    update_ema(average, model, DECAY, updated)
    for key, averaged in average.state_dict().items():
        expected = DECAY * before[key] + (1 - DECAY) * now[key]
        if averaged.is_floating_point():
            torch.testing.assert_close(averaged, expected)
        else:
            assert torch.equal(averaged, now[key])
        assert torch.equal(model.state_dict()[key], now[key])
    assert not torch.equal(average[0].weight, before["0.weight"])


@pytest.mark.parametrize("updated", flags(False))
def test_a_step_that_changed_nothing_changes_no_average(updated: torch.Tensor | bool) -> None:
    average, model = trained_network(1), trained_network(3)
    before = copy.deepcopy(average.state_dict())
    model[0].weight.data.fill_(torch.nan)
    update_ema(average, model, DECAY, updated)
    assert all(torch.equal(held, before[key]) for key, held in average.state_dict().items())


@pytest.mark.parametrize("layouts", [("c", "c"), ("l", "l"), ("l", "c"), ("c", "l")])
def test_on_a_device_every_bit_is_that_of_each_tensor_averaged_alone(
    layouts: tuple[str, str],
) -> None:
    average, model = (
        trained_network(seed).to(
            memory_format=torch.channels_last if layout == "l" else torch.contiguous_format
        )
        for seed, layout in zip((1, 3), layouts, strict=True)
    )
    before, now = copy.deepcopy(average.state_dict()), model.state_dict()
    update_ema(average, model, 0.999, flags(True)[2])
    for key, averaged in average.state_dict().items():
        old, new = before[key], now[key]
        assert torch.equal(averaged, old.lerp(new, 0.001) if old.is_floating_point() else new)
        assert averaged.stride() == old.stride()


class Calls(TorchDispatchMode):
    """Record the names of the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


def test_without_a_flag_weights_move_in_one_call_with_the_bits_of_each_tensor_alone() -> None:
    average, model = trained_network(1), trained_network(3)
    before, now = copy.deepcopy(average.state_dict()), model.state_dict()
    with Calls() as calls:
        update_ema(average, model, 0.999)
    assert [name for name in calls.names if "lerp" in name] == ["aten._foreach_lerp_"]
    for key, averaged in average.state_dict().items():
        old, new = before[key], now[key]
        assert torch.equal(averaged, old.lerp(new, 0.001) if old.is_floating_point() else new)


def test_a_network_without_weights_has_an_average() -> None:
    update_ema(nn.Identity(), nn.Identity(), DECAY)


def test_decay_one_keeps_the_average_and_decay_zero_copies_the_model() -> None:
    average, model = trained_network(1), trained_network(3)
    before = average[0].weight.detach().clone()
    update_ema(average, model, 1.0)
    assert torch.equal(average[0].weight, before)
    update_ema(average, model, 0.0)
    assert torch.equal(average[0].weight, model[0].weight)


@pytest.mark.parametrize("updated", flags(True))
def test_shared_weights_move_once_and_other_entries_are_skipped(
    updated: torch.Tensor | bool,
) -> None:
    class Recursive(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.first = self.second = nn.Linear(1, 1)
            self.third = nn.Linear(1, 1)
            self.third.weight = self.first.weight
            self.complex = nn.Parameter(torch.full((2,), value * (1 + 1j)))
            for parameter in (*self.first.parameters(), *self.third.parameters()):
                nn.init.constant_(parameter, value)

        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

        def set_extra_state(self, state: Any) -> None:
            pass

    average, model = Recursive(0.0), Recursive(1.0)
    update_ema(average, model, DECAY, updated)
    for parameter in average.parameters():
        expected = (1 - DECAY) * (1 + 1j) if parameter.is_complex() else 1 - DECAY
        torch.testing.assert_close(parameter.data, torch.full_like(parameter, expected))
