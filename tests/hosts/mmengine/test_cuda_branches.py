"""What is decided by whether there is a GPU, decided on a CPU that says it has one."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import MMSeparateDistributedDataParallel as MMEngineSeparateDDP

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.datasets import gpu_loader
from srgan_plugin.hosts.mmengine.engine import resume_hooks
from srgan_plugin.hosts.mmengine.engine.distributed import (
    MMSeparateDistributedDataParallel,
    join_process_group,
)
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import AmpOptimWrapper, OptimWrapper
from srgan_plugin.hosts.mmengine.engine.resume_hooks import InterruptHook, RandomStateHook


class OnGPU(torch.nn.Parameter):
    """A parameter that says it is on a GPU."""

    is_cuda = True  # type: ignore[assignment]


def parameter() -> torch.nn.Parameter:
    return OnGPU(torch.ones(2))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Torch says that there are GPUs, whose random states and number a test chooses."""
    state = SimpleNamespace(number=2, random=[torch.tensor([1]), torch.tensor([2])], restored=None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: state.number)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: state.random)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state_all", lambda states: setattr(state, "restored", states)
    )
    return state


@pytest.mark.parametrize(("later", "restored"), [(2, True), (1, False), (0, False)])
def test_random_states_of_gpus_are_saved_and_restored_on_as_many(
    gpus: SimpleNamespace, later: int, restored: bool
) -> None:
    checkpoint: dict[str, Any] = {}
    RandomStateHook().before_save_checkpoint(None, checkpoint)
    assert checkpoint["random_state"]["cuda"] == gpus.random
    gpus.number = later
    hook = RandomStateHook()
    hook.after_load_checkpoint(SimpleNamespace(cfg={"resume": True}), checkpoint)
    hook.before_train(SimpleNamespace(seed=0, iter=3))
    assert (gpus.restored == gpus.random) == restored


@pytest.mark.parametrize("available", [True, False])
def test_networks_are_wrapped_for_the_ranks_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, available: bool
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(MMEngineSeparateDDP, "__init__", lambda _, module, **kw: given.update(kw))
    MMSeparateDistributedDataParallel(torch.nn.Identity(), device_ids=[3], broadcast_buffers=False)
    expected: dict[str, Any] = {"broadcast_buffers": False}
    assert given == (expected | {"device_ids": [3]} if available else expected)


def test_the_process_group_is_left_to_mmengine_where_there_is_a_gpu(
    gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="expected the environment variables RANK, got none"):
        join_process_group("pytorch", {})
    monkeypatch.setenv("RANK", "1")
    join_process_group("pytorch", {})
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("options", "fused"),
    [({}, True), ({"foreach": True}, None), ({"fused": False}, False)],
)
def test_adam_on_a_gpu_is_fused_unless_the_config_chooses_and_keeps_its_settings(
    options: dict[str, Any], fused: bool | None
) -> None:
    groups: list[dict[str, Any]] = [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.5}]
    optimizer = torch.optim.Adam(groups, lr=0.1, betas=(0.5, 0.9), weight_decay=0.2, **options)
    wrapped = OptimWrapper(optimizer)
    made: Any = wrapped.optimizer
    assert [g["lr"] for g in made.param_groups] == [0.1, 0.5]
    assert made.defaults["betas"] == (0.5, 0.9)
    assert {g["weight_decay"] for g in made.param_groups} == {0.2}
    assert {g["fused"] for g in made.param_groups} == {fused}
    assert wrapped.supports_found_inf == bool(fused)


def test_sgd_on_a_gpu_stays_as_it_is() -> None:
    optimizer = torch.optim.SGD([parameter()], lr=0.1, momentum=0.9)
    assert OptimWrapper(optimizer).optimizer is optimizer


@pytest.mark.parametrize(("able", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_amp_takes_bfloat16_where_the_gpu_has_it(
    gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, able: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda _: able)
    scalers = []
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, **kw: scalers.append((device, kw["enabled"]))
    )
    wrapper = AmpOptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1))
    assert wrapper.dtype == dtype
    assert scalers == [("cuda", dtype == torch.float16)]


def test_ranks_agree_on_a_signal_on_the_device_of_their_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(resume_hooks, "is_distributed", lambda: True)
    monkeypatch.setattr(resume_hooks, "all_reduce", lambda received, op: received.fill_(15))
    tensor = torch.tensor
    monkeypatch.setattr(
        torch, "tensor", lambda value, device: asked.append(device) or tensor(value)
    )
    for backend, device in (("nccl", "cuda"), ("gloo", "cpu")):
        monkeypatch.setattr(torch.distributed, "get_backend", lambda b=backend: b)
        hook = InterruptHook(interval=10)
        assert not hook._should_stop(7)
        assert hook._should_stop(10)
        assert hook.received == 15
        assert asked.pop() == device
        assert not asked


def test_what_is_free_on_a_gpu_is_what_the_training_set_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (device.index * 7, 99))
    assert gpu_loader._free_memory(torch.device("cuda", 2)) == 14
