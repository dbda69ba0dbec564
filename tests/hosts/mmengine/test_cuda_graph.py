"""A recorded step, and steps about which the device decides by itself, against the plain ones.

Without a GPU a recording is played by calling the step again: what is recorded is the same, only
CUDA's part is missing.
"""

import logging
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapperDict
from mmengine.structures import BaseDataElement

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine.cuda_graph import (
    DDP_WARM_UP,
    MAX_CAPTURES,
    WARM_UP,
    CUDAGraphStep,
    capture_cuda_graph,
    why_not_capturable,
)
from srgan_plugin.hosts.mmengine.engine.distributed import MMSeparateDistributedDataParallel
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import (
    AmpOptimWrapper,
    NonFiniteError,
    OptimWrapper,
)
from srgan_plugin.registry import MODELS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RECORD = capture_cuda_graph if torch.cuda.is_available() else lambda step: step


def srgan(**options: Any) -> Any:
    torch.manual_seed(0)
    model = MODELS.build(
        {
            "type": "srgan_plugin.SRGAN",
            "generator": {"type": "MSRResNet", "mid_channels": 8, "num_blocks": 1},
            "discriminator": {"type": "ModifiedVGG", "mid_channels": 4, "input_size": 32},
            "pixel_loss": {"type": "L1Loss"},
            "gan_loss": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 5e-3},
            "train_cfg": {"share_fake_logits": True},
            "ema": {"decay": 0.9},
            **options,
        }
    )
    return model.to(DEVICE)


def wrappers(model: Any, fused: bool = True, **options: Any) -> OptimWrapperDict:
    made = {
        name: OptimWrapper(
            torch.optim.Adam(model.get_submodule(name).parameters(), 1e-3, fused=fused), **options
        )
        for name in ("generator", "discriminator")
    }
    for wrapper in made.values():
        wrapper.sync_each_step = not fused
    return OptimWrapperDict(**made)


def batch(number: int, size: int = 8) -> dict[str, Any]:
    random = torch.Generator().manual_seed(number)
    lr = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=random)
    gt = torch.randint(0, 256, (2, 3, 4 * size, 4 * size), dtype=torch.uint8, generator=random)
    return {"inputs": lr, "data_samples": BaseDataElement(gt_img=gt)}


def test_a_captured_step_does_what_the_plain_one_does_at_every_learning_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    models = [srgan(), srgan()]
    plain, fast = map(wrappers, models)
    recorded = CUDAGraphStep(models[1], fast, RECORD)
    for number in range(WARM_UP + 4):
        for optimizer in (*plain.values(), *fast.values()):
            optimizer.optimizer.param_groups[0]["lr"] = rate = 2.0 ** -(10 + number)  # in any float
        expected = models[0].train_step(batch(number), plain)
        losses = recorded(batch(number))
        assert list(losses) == list(expected)
        for name, value in losses.items():
            assert value.grad_fn is None, name
            torch.testing.assert_close(value, expected[name].float(), msg=name)
    assert recorded.usable
    assert fast["generator"].optimizer.param_groups[0]["lr"] == rate
    for (key, expected), value in zip(
        models[0].state_dict().items(), models[1].state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, msg=key)
    assert models[1].step_counter == WARM_UP + 4


def test_results_of_a_captured_step_stay_when_it_is_played_again() -> None:
    model = srgan()
    recorded = CUDAGraphStep(model, wrappers(model), RECORD)
    results = [recorded(batch(number))["loss_pix"] for number in range(WARM_UP + 3)]
    kept = [float(result) for result in results]
    recorded(batch(9))
    assert [float(result) for result in results] == kept
    assert len(set(kept)) == len(kept)


def test_a_batch_of_another_size_is_done_without_the_graph() -> None:
    model = srgan(discriminator=None, gan_loss=None)
    optimizers = OptimWrapperDict(
        generator=OptimWrapper(torch.optim.Adam(model.generator.parameters(), fused=True))
    )
    optimizers["generator"].sync_each_step = False
    recorded = CUDAGraphStep(model, optimizers, RECORD)
    for number in range(WARM_UP + 1):
        recorded(batch(number))
    assert recorded(batch(7, size=12))["loss_pix"] > 0


def test_where_capture_fails_training_goes_on_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(step: Any) -> Any:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    models = [srgan(), srgan()]
    plain, fast = map(wrappers, models)
    recorded = CUDAGraphStep(models[1], fast, fail)
    with caplog.at_level(logging.WARNING):
        for number in range(WARM_UP + 2):
            models[0].train_step(batch(number), plain)
            recorded(batch(number))
    assert [r.getMessage() for r in caplog.records if "cuda_graph" in r.getMessage()] == [
        "train_cfg.cuda_graph: continuing without, capture failed: CUDA error: operation not "
        "permitted when stream is capturing"
    ]
    for expected, value in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(value, expected)


def freeze(model: Any, optimizers: Any) -> None:
    model.generator.conv_first.weight.requires_grad_(False)


def move(model: Any, optimizers: Any) -> None:
    weight = model.discriminator.linear2.weight
    weight.data = weight.data.clone()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m, o: setattr(m.gan_loss, "loss_weight", 0.5), "gan_loss.loss_weight"),
        (lambda m, o: setattr(m.pixel_loss, "reduction", "sum"), "pixel_loss.reduction"),
        (lambda m, o: setattr(m, "ema_decay", 0.5), "model.ema"),
        (
            lambda m, o: o["generator"].optimizer.param_groups[0].update(weight_decay=0.5),
            "generator.weight_decay",
        ),
        (
            lambda m, o: o["generator"].clip_grad_kwargs.update(max_norm=0.5),
            "generator.clip_grad",
        ),
        (lambda m, o: m.discriminator.bn1_0.eval(), r"train\(\) or eval\(\)"),
        (freeze, "requires_grad"),
        (move, "the memory of a parameter"),
    ],
)
def test_a_setting_that_a_hook_changes_is_captured_anew(
    change: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, captures = srgan(), []
    optimizers = wrappers(model, clip_grad={"max_norm": 1.0})
    recorded = CUDAGraphStep(model, optimizers, lambda step: captures.append(step) or RECORD(step))
    for number in range(WARM_UP + 2):
        recorded.settings_may_differ = True
        recorded(batch(number))
    assert len(captures) == 1
    change(model, optimizers)
    recorded.settings_may_differ = True
    with caplog.at_level(logging.WARNING):
        for number in range(WARM_UP):
            recorded(batch(number))
            recorded.settings_may_differ = True
    assert len(captures) == 1
    for number in range(2):
        recorded(batch(number))
    assert len(captures) == 2
    (line,) = [r.getMessage() for r in caplog.records if "cuda_graph" in r.getMessage()]
    assert re.search(f"again, {name} was changed", line)


@pytest.mark.parametrize("share", [True, False])
def test_frozen_layers_of_both_networks_stay_as_they_are(share: bool) -> None:
    model = srgan(train_cfg={"share_fake_logits": share})
    frozen = [model.generator.conv_first.weight, model.discriminator.linear2.weight]
    optimizers = wrappers(model)
    for weight in frozen:
        weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.named_parameters()}
    for number in range(2):
        model.train_step(batch(number), optimizers)
    for key, weight in model.named_parameters():
        if not key.startswith("generator_ema"):
            assert weight.requires_grad != any(weight is one for one in frozen), key
            assert torch.equal(weight, before[key]) == (not weight.requires_grad), key


def test_a_setting_that_changes_again_and_again_ends_the_captures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = srgan(discriminator=None, gan_loss=None)
    optimizer = OptimWrapper(torch.optim.Adam(model.generator.parameters(), fused=True))
    optimizer.sync_each_step = False
    recorded = CUDAGraphStep(model, OptimWrapperDict(generator=optimizer), RECORD)
    with caplog.at_level(logging.WARNING):
        for number in range(MAX_CAPTURES * (WARM_UP + 1) + 2):
            recorded.settings_may_differ = True
            model.pixel_loss.loss_weight = number + 1.0
            recorded(batch(number))
    lines = [r.getMessage() for r in caplog.records if "cuda_graph" in r.getMessage()]
    assert len(lines) == MAX_CAPTURES
    assert "continuing without, pixel_loss.loss_weight" in lines[-1]
    assert not recorded.usable


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone, as of `torchrun --nproc_per_node=1`."""
    torch.distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"file://{tmp_path}/rendezvous",
        rank=0,
        world_size=1,
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_one_process_of_torchrun_captures_the_wrapped_networks_after_eleven_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    models, captures = [srgan(train_cfg={}), srgan(train_cfg={})], []
    wrapped = MMSeparateDistributedDataParallel(models[1], device_ids=[0])
    optimizers = list(map(wrappers, models))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if DEVICE == "cpu":
        assert "by cpu:gloo" in str(why_not_capturable(wrapped, optimizers[1]))
        monkeypatch.setattr(torch.distributed, "get_backend_config", lambda: "cuda:nccl")
    assert why_not_capturable(wrapped, optimizers[1]) is None
    assert "model_wrapper_cfg" in str(why_not_capturable(models[1], optimizers[1]))
    monkeypatch.setattr(models[1].generator, "find_unused_parameters", True)
    assert "find_unused" in str(why_not_capturable(wrapped, optimizers[1]))
    monkeypatch.undo()

    first, network = weakref.ref(models[1].generator), models[1].generator.module
    step = CUDAGraphStep(wrapped, optimizers[1], lambda s: captures.append(recorded) or RECORD(s))
    assert first() is None  # else gradients would accumulate on its stream
    assert models[1].generator.module is network
    for recorded in range(DDP_WARM_UP + 2):
        expected = models[0].train_step(batch(recorded), optimizers[0])
        for name, value in step(batch(recorded)).items():
            torch.testing.assert_close(value, expected[name].float(), msg=name)
    assert captures == [DDP_WARM_UP]
    state = models[1].state_dict()  # its keys come in another order
    for key, value in models[0].state_dict().items():
        torch.testing.assert_close(state[key], value, msg=key)


class FakeCUDA:
    """CUDA whose captures fail when they end, and an allocator that does or does not notice."""

    def __init__(self, patch: pytest.MonkeyPatch, refuses: str | None = None) -> None:
        self.captures: list[int] = []
        self.calls: list[Any] = []
        self.refuses = refuses
        patch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: 7)
        patch.setattr(torch.cuda, "current_stream", lambda: "usual")
        patch.setattr(torch.cuda, "set_stream", self.calls.append)
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.cuda, "graph", self.graph)
        patch.setattr(torch._C, "_cuda_endAllocateToPool", self.end, raising=False)
        patch.setattr(torch._C, "_cuda_releasePool", self.release, raising=False)

    @contextmanager
    def graph(self, graph: Any, pool: int, stream: Any, **_: Any) -> Iterator[None]:
        self.captures.append(pool)
        try:
            yield
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error\nmore")

    def end(self, device: int, pool: int) -> None:
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.captures.remove(pool)

    def release(self, device: int, pool: int) -> None:
        assert self.calls[-1] == "reset"
        self.calls.append("release")
        raise RuntimeError("no such pool: reset has released it")

    def reset(self) -> None:
        self.calls.append("reset")


def read_a_value() -> Any:
    raise RuntimeError("a value was read")


def test_a_failed_capture_is_ended_in_the_allocator_and_names_the_first_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCUDA(monkeypatch)
    with pytest.raises(RuntimeError, match="a value was read"):
        capture_cuda_graph(read_a_value)
    assert cuda.captures == []
    assert cuda.calls == ["usual", "reset", "release"]


def test_a_capture_that_torch_has_ended_itself_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCUDA(monkeypatch, "endAllocatePool: not currently recording to mempool_id")
    with pytest.raises(RuntimeError, match="previous error"):
        capture_cuda_graph(lambda: torch.ones(1))
    assert cuda.calls == ["usual"]


def test_training_ends_with_a_line_where_the_allocator_stays_in_the_capture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeCUDA(monkeypatch, "another torch\nand its trace")
    with pytest.raises(UserError, match=r"a value was read.*another torch.*cuda_graph=False"):
        capture_cuda_graph(read_a_value)
    for name in ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"):
        monkeypatch.delattr(torch._C, name, raising=False)
    with pytest.raises(UserError, match=r"_cuda_endAllocateToPool.*cuda_graph=False"):
        capture_cuda_graph(read_a_value)


@pytest.mark.skipif(torch.version.cuda is None, reason="a torch without CUDA")
def test_torch_has_what_ends_a_failed_capture() -> None:
    names = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")
    assert any(callable(getattr(torch._C, name, None)) for name in names)
    assert callable(torch._C._cuda_releasePool)


def test_steps_that_cannot_be_captured_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = srgan()
    if DEVICE == "cpu":
        assert why_not_capturable(model, wrappers(model)) == "there is no GPU"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert why_not_capturable(model, wrappers(model)) is None
    assert "fused" in str(why_not_capturable(model, wrappers(model, fused=False)))
    assert "accumulated" in str(why_not_capturable(model, wrappers(model, accumulative_counts=2)))
    assert "disc_steps" in str(
        why_not_capturable(srgan(train_cfg={"disc_steps": 2}), wrappers(model))
    )
    compiled = srgan(compile={"mode": "reduce-overhead"})
    assert "model.compile" in str(why_not_capturable(compiled, wrappers(compiled)))
    assert "Linear" in str(why_not_capturable(torch.nn.Linear(1, 1), wrappers(model)))
    rate, momentum = SimpleNamespace(param_name="lr"), SimpleNamespace(param_name="momentum")
    assert why_not_capturable(model, wrappers(model), [rate]) is None
    assert "changes momentum" in str(why_not_capturable(model, wrappers(model), [rate, momentum]))


@pytest.mark.parametrize("clip_grad", [None, {"max_norm": 1.0}])
def test_torchs_fused_adam_leaves_a_step_out_by_itself(clip_grad: Any) -> None:
    # `found_inf` is how torch's own GradScaler tells its optimisers. This test tells if it moves.
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0], device=DEVICE))
    wrapper = OptimWrapper(
        torch.optim.Adam([weight], lr=0.1, fused=True), max_nonfinite_steps=3, clip_grad=clip_grad
    )
    wrapper.sync_each_step = False
    assert wrapper.supports_found_inf
    wrapper.update_params((weight**2).sum())
    before, state = weight.tolist(), dict(wrapper.optimizer.state[weight])
    state = {name: value.clone() for name, value in state.items()}
    for _ in range(3):
        wrapper.update_params((weight * torch.tensor([1.0, float("nan")], device=DEVICE)).sum())
    assert weight.tolist() == before
    for name, value in wrapper.optimizer.state[weight].items():
        assert torch.equal(value, state[name]), name
    assert wrapper.skips == (3, 3)
    with pytest.raises(NonFiniteError, match=r"generator.* 3 steps"):
        wrapper.check()
    wrapper.update_params((weight**2).sum())
    assert weight.tolist() != before
    assert wrapper.skips == (3, 0)


def test_a_step_skipped_on_the_device_leaves_no_trace_in_the_model() -> None:
    model = srgan(generator={"type": "SRResNet", "mid_channels": 8, "num_blocks": 1})
    optimizers = wrappers(model)
    model.train_step(batch(0), optimizers)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        first = model.generator.conv_first.weight
        good = first[0, 0, 0, 0].clone()
        first[0, 0, 0, 0] = float("nan")
    model.train_step(batch(1), optimizers)
    with torch.no_grad():
        first[0, 0, 0, 0] = good
    for key, value in model.state_dict().items():
        if key != "step_counter":
            assert torch.equal(value, before[key]), key


def test_a_checkpoint_of_a_plain_optimiser_goes_on_in_a_fused_one_and_back() -> None:
    weights = [torch.nn.Parameter(torch.ones(3, device=DEVICE)) for _ in range(2)]
    plain, fused = (
        OptimWrapper(torch.optim.Adam([weight], lr=0.1, fused=kind))
        for weight, kind in zip(weights, (False, True), strict=True)
    )
    plain.update_params((weights[0] ** 2).sum())
    for source, target in ((plain, fused), (fused, plain)):
        target.load_state_dict(source.state_dict())
        assert target.supports_found_inf == (target is fused)
        target.update_params((target.optimizer.param_groups[0]["params"][0] ** 2).sum())
    assert int(plain.optimizer.state[weights[0]]["step"]) == 3


def test_float16_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    model = srgan(discriminator=None, gan_loss=None)
    optimizer = torch.optim.Adam(model.generator.parameters(), fused=True)
    wrapper = AmpOptimWrapper(optimizer, dtype="float16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "float16" in str(why_not_capturable(model, OptimWrapperDict(generator=wrapper)))


def compiled_srgan(caplog: pytest.LogCaptureFixture, backend: Any) -> list[str]:
    models = [srgan(), srgan(compile={"backend": backend})]
    assert list(models[0].state_dict()) == list(models[1].state_dict())
    with caplog.at_level(logging.WARNING):
        for model in models:
            optimizers = wrappers(model)
            for number in range(2):
                model.train_step(batch(number), optimizers)
    for expected, value in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(value, expected)
    return [r.getMessage() for r in caplog.records if "model.compile" in r.getMessage()]


@pytest.mark.slow
def test_compiled_networks_train_the_same_weights(caplog: pytest.LogCaptureFixture) -> None:
    assert compiled_srgan(caplog, "eager") == []


def test_an_option_that_torch_compile_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.compile: .*fast"):
        srgan(compile={"mode": "fast"})


def test_networks_that_cannot_be_compiled_go_on_with_one_warning_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no C compiler")

    said = compiled_srgan(caplog, fail)
    assert [line.split()[1] for line in said] == ["MSRResNet", "ModifiedVGG"]
