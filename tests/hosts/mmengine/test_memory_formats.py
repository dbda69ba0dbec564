"""A checkpoint saved in one memory format goes on in another: `channels_last="auto"` chooses."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from srgan_plugin.hosts.mmengine.engine.optim_wrapper import OptimWrapper
from srgan_plugin.registry import MODELS

FORMATS = [torch.contiguous_format, torch.channels_last]
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.01, "momentum": 0.9},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"amsgrad": True},
    "AdamW": {"amsgrad": True},
}
OPTIMIZERS = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and name not in ("Optimizer", "LBFGS", "SparseAdam", "Muon")
}  # these keep nothing of a parameter's shape, or train no convolutions
FUSED = [name for name, kind in OPTIMIZERS.items() if "fused" in inspect.signature(kind).parameters]


def network(memory_format: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(6, 8, 3).to(memory_format=memory_format)


def steps(net: nn.Module, wrapper: OptimWrapper, count: int) -> None:
    for number in range(count):
        torch.manual_seed(number)
        wrapper.update_params(net(torch.rand(2, 6, 8, 8)).square().mean())


@pytest.mark.parametrize("to", FORMATS, ids=str)
@pytest.mark.parametrize(
    ("name", "fused"), [*((n, False) for n in OPTIMIZERS), *((n, True) for n in FUSED)]
)
def test_moments_take_the_strides_of_their_parameters_and_the_next_steps_are_the_same(
    name: str, fused: bool, to: torch.memory_format
) -> None:
    options = OPTIONS.get(name, {}) | ({"fused": True} if fused else {})
    saved_in = FORMATS[1 - FORMATS.index(to)]
    old = network(saved_in)
    wrapper = OptimWrapper(OPTIMIZERS[name](old.parameters(), **options))
    steps(old, wrapper, 3)
    net = network(to)
    other = OptimWrapper(OPTIMIZERS[name](net.parameters(), **options))
    net.load_state_dict(old.state_dict())
    other.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    weight = net.weight
    held = [v for v in other.optimizer.state[weight].values() if torch.is_tensor(v)]
    assert all(v.stride() == weight.stride() for v in held if v.shape == weight.shape)
    for each, optimizer in ((old, wrapper), (net, other)):
        steps(each, optimizer, 2)
    for key, value in old.state_dict().items():
        torch.testing.assert_close(net.state_dict()[key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("to", FORMATS, ids=str)
def test_accumulated_gradients_take_them_too(to: torch.memory_format) -> None:
    old = network(FORMATS[1 - FORMATS.index(to)])
    wrapper = OptimWrapper(torch.optim.Adam(old.parameters(), fused=True), accumulative_counts=3)
    wrapper.initialize_count_status(old, 0, 9)
    steps(old, wrapper, 2)
    net = network(to)
    other = OptimWrapper(torch.optim.Adam(net.parameters(), fused=True), accumulative_counts=3)
    other.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert net.weight.grad.stride() == net.weight.stride()
    torch.testing.assert_close(net.weight.grad, old.weight.grad)


@pytest.mark.parametrize("to", [False, True])
def test_the_average_keeps_the_format_of_its_model(to: bool) -> None:
    def model(channels_last: bool) -> Any:
        return MODELS.build(
            {
                "type": "srgan_plugin.SRModel",
                "generator": {"type": "MSRResNet", "mid_channels": 4, "num_blocks": 1},
                "ema": {"decay": 0.9},
                "channels_last": channels_last,
            }
        )

    saved, loaded = model(not to), model(to)
    strides = {key: value.stride() for key, value in loaded.state_dict().items()}
    loaded.load_state_dict(saved.state_dict())
    for key, value in loaded.state_dict().items():
        assert value.stride() == strides[key], key
        assert torch.equal(value, saved.state_dict()[key])


def test_states_of_another_optimizer_or_of_other_parameters_are_refused_by_name() -> None:
    def wrapper(kind: Any, *sizes: int) -> OptimWrapper:
        parameters = [torch.nn.Parameter(torch.ones(size)) for size in sizes]
        return OptimWrapper(kind(parameters, lr=0.1))

    adam = wrapper(torch.optim.Adam, 3).state_dict()
    with pytest.raises(ValueError, match=r"SGD, with .*momentum.* of an optimizer with .*betas"):
        wrapper(torch.optim.SGD, 3).load_state_dict(adam)
    with pytest.raises(ValueError, match=r"\[2\] parameters.*\[1\].*model\.ema"):
        wrapper(torch.optim.Adam, 3, 3).load_state_dict(adam)
    for name in ("decoupled_weight_decay", "differentiable"):  # as an older torch saved it
        adam["param_groups"][0].pop(name, None)
    wrapper(torch.optim.Adam, 3).load_state_dict(adam)
