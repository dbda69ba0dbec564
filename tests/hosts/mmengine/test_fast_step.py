"""The fast ways of a training step against the plain one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from small_runs import SMALL_DISCRIMINATOR, losses, small_config

from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.datasets.gpu_loader import GPUDataLoader
from srgan_plugin.hosts.mmengine.engine import cuda_graph, train_loop
from srgan_plugin.hosts.mmengine.engine.cuda_graph import WARM_UP
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import AmpOptimWrapper, OptimWrapper
from srgan_plugin.networks import ModifiedVGG
from srgan_plugin.networks.vgg import random_vgg19_state_dict
from srgan_plugin.registry import HOOKS, MODELS

pytestmark = pytest.mark.usefixtures("fresh_mmengine")


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save(random_vgg19_state_dict(depth="conv2_2"), path)
    return str(path)


def srgan(vgg: str, *, share: bool = False, **options: Any) -> Any:
    torch.manual_seed(0)
    return MODELS.build(
        {
            "type": "srgan_plugin.SRGAN",
            "generator": {"type": "MSRResNet", "mid_channels": 16, "num_blocks": 2},
            "discriminator": {"type": "ModifiedVGG", "mid_channels": 8, "input_size": 32},
            "pixel_loss": {"type": "L1Loss", "loss_weight": 1e-2},
            "perceptual_loss": {
                "type": "PerceptualLoss",
                "layer_weights": {"conv2_2": 1.0},
                "style_weight": 0,
                "norm_img": False,
                "pretrained": vgg,
            },
            "gan_loss": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 5e-3},
            "train_cfg": {"share_fake_logits": share},
            **options,
        }
    )


def step(model: Any, steps: int = 1, wrapper: type[MMEngineOptimWrapper] = OptimWrapper) -> None:
    """Some steps of Adam; the gradients of the last one stay."""
    networks = {"generator": model.generator, "discriminator": model.discriminator}
    networks = {name: network for name, network in networks.items() if network is not None}
    optimizers = OptimWrapperDict(
        **{n: wrapper(torch.optim.Adam(m.parameters(), 1e-4)) for n, m in networks.items()}
    )
    for optimizer in optimizers.values():
        optimizer.zero_grad = lambda self=optimizer.optimizer: None
    for number in range(steps):
        for network in networks.values():
            network.zero_grad()
        random = torch.Generator().manual_seed(number)
        lr = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=random)
        gt = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=random)
        sample = BaseDataElement(gt_img=gt)
        model.train_step({"inputs": lr, "data_samples": sample}, optimizers)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters()}
    assert all(gradient is not None for gradient in found.values())
    return {name: gradient.contiguous() for name, gradient in found.items()}


def test_sharing_the_pass_over_the_generated_batch_leaves_the_same_weights(vgg: str) -> None:
    plain, shared = srgan(vgg), srgan(vgg, share=True)
    step(plain, 3)
    step(shared, 3)
    for (name, expected), value in zip(plain.named_parameters(), shared.parameters(), strict=True):
        assert torch.equal(value, expected), name
    counters = [m.discriminator.bn0_1.num_batches_tracked for m in (plain, shared)]
    assert counters == [9, 6]


@pytest.mark.parametrize("train_cfg", [{"disc_repeat": 2}, {"disc_steps": 2}])
def test_sharing_is_off_where_it_would_not_be_exact(vgg: str, train_cfg: dict[str, int]) -> None:
    plain = srgan(vgg, train_cfg=train_cfg)
    shared = srgan(vgg, train_cfg=train_cfg | {"share_fake_logits": True})
    step(plain, 3)
    step(shared, 3)
    for (name, expected), value in zip(plain.named_parameters(), shared.parameters(), strict=True):
        assert torch.equal(value, expected), name


def test_sharing_is_off_with_the_optimiser_wrapper_of_another_toolbox(vgg: str) -> None:
    plain, shared = srgan(vgg), srgan(vgg, share=True)
    step(plain, wrapper=MMEngineOptimWrapper)
    step(shared, wrapper=MMEngineOptimWrapper)
    for expected, value in zip(plain.parameters(), shared.parameters(), strict=True):
        assert torch.equal(value, expected)


def relative_errors(model: Any, plain: Any) -> dict[str, float]:
    expected, found = gradients(plain), gradients(model)
    return {
        name: float((found[name] - gradient).norm() / gradient.norm())
        for name, gradient in expected.items()
        # What batch normalisation subtracts again has no gradient but rounding errors.
        if gradient.norm() > 1e-7
    }


def test_gradients_in_channels_last_agree_with_the_plain_ones(vgg: str) -> None:
    plain, fast = srgan(vgg), srgan(vgg, share=True, channels_last=True)
    step(plain)
    step(fast)
    weight = fast.generator.conv_first.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    errors = relative_errors(fast, plain)
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize(("capability", "faster"), [("AVX2", False), ("AVX512", True)])
def test_auto_takes_the_memory_format_that_is_faster_here(
    vgg: str, capability: str, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert srgan(vgg, channels_last="auto").channels_last == (faster or torch.cuda.is_available())


@pytest.mark.slow
def test_gradients_in_bfloat16_agree_with_the_plain_ones_at_the_published_batch() -> None:
    # L1 has gradients of one size and two signs, so errors average out only over many pixels and
    # towards a mean that is not zero: 16 patches of 128x128 as published, with GT near bicubic.
    models = []
    for wrapper in (OptimWrapper, AmpOptimWrapper):
        torch.manual_seed(0)
        config = {"type": "MSRResNet", "mid_channels": 16, "num_blocks": 2}
        model = MODELS.build(
            {
                "type": "srgan_plugin.SRModel",
                "generator": config,
                "pixel_loss": {"type": "L1Loss"},
            }
        )
        lr = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
        near = torch.nn.functional.interpolate(lr.float(), scale_factor=4, mode="bicubic")
        gt = (near + 13 * torch.randn_like(near)).clamp(0, 255).byte()
        optimizer = wrapper(torch.optim.Adam(model.parameters(), 1e-4))
        optimizer.zero_grad = lambda: None
        model.train_step({"inputs": lr, "data_samples": BaseDataElement(gt_img=gt)}, optimizer)
        models.append(model)
    errors = relative_errors(models[1], models[0])
    assert 0 < max(errors.values()) < 3e-2, errors


class Viewing(ModifiedVGG):
    """A discriminator as other toolboxes write it: it fails on channels-last pictures."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.view(-1)
        return super().forward(x)


def test_a_foreign_network_is_handed_contiguous_tensors(vgg: str) -> None:
    foreign = Viewing(mid_channels=8, input_size=32)
    step(srgan(vgg, channels_last=True, share=True, discriminator=foreign))
    with pytest.raises(RuntimeError):
        foreign(torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last))


class Witness(Hook):
    """Notes at which iterations it is called."""

    def __init__(self, interval: int | None = None, chunk_safe: bool = False) -> None:
        if interval is not None:
            self.interval = interval
        self.chunk_safe = chunk_safe
        self.called: list[int] = []

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self.called.append(runner.iter + 1)


@pytest.mark.slow
def test_long_chunks_leave_the_weights_the_schedule_and_the_log_of_single_steps(
    photographs: Path, tmp_path: Path
) -> None:
    states, curves, rates = [], [], []
    for max_steps in (1, 100):
        work = tmp_path / f"max_steps{max_steps}"
        options = SMALL_DISCRIMINATOR | {
            "train_cfg.max_steps_per_hook_call": max_steps,
            "default_hooks.logger.interval": 4,
            "default_hooks.checkpoint.interval": 6,
            "param_scheduler.milestones": [3, 8],
            "model.ema": {"decay": 0.9},
            "train_dataloader.batch_size": 2,
        }
        name = "srgan_x4c64b16_g1_1000k_div2k.py"
        runner = Runner.from_cfg(small_config(name, photographs / "train", work, 10, **options))
        witness = Witness(interval=5, chunk_safe=True)
        runner.register_hook(witness)
        runner.train()
        states.append(runner.model.state_dict())
        curves.append(
            [losses(work, kind) for kind in ("loss_pix", "out_d_fake", "grad_norm_generator")]
        )
        rates.append(runner.optim_wrapper["generator"].get_lr()["lr"])
        assert set(witness.called) >= {4, 5, 6, 8, 10}
        assert (len(witness.called) == 10) == (max_steps == 1)
        assert (work / "iter_6.pth").exists()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    # The last two: single steps also log where an epoch ends, at iteration 3.
    assert [curve[-2:] for curve in curves[0]] == curves[1]
    assert rates[0] == rates[1] == [1e-4 / 4]


class LossWeightHook(Hook):
    """Changes the weight of the loss once."""

    def __init__(self, stage: str, at: int) -> None:
        self.interval, self.chunk_safe = 4, True  # a chunk ends there
        setattr(self, f"{stage}_train_iter", self.change)
        self.at = at

    def get_triggered_stages(self) -> list[str]:
        return ["before_train_iter", "after_train_iter"]

    def change(self, runner: Any, batch_idx: int, **_: Any) -> None:
        if batch_idx == self.at:
            runner.model.pixel_loss.loss_weight = 3.0


@pytest.mark.parametrize(("stage", "at", "drop"), [("before", 7, 7), ("after", 7, 8)])
def test_a_captured_step_of_a_run_follows_a_hook_that_changes_a_loss(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    at: int,
    drop: int,
) -> None:
    captured: list[int] = []
    name = "msrresnet_x4c64b16_g1_1000k_div2k.py"
    options = {
        "train_cfg.cuda_graph": True,
        "optim_wrapper.optimizer.fused": True,
        "default_hooks.logger.interval": 100,
    }
    cfg = small_config(name, photographs / "train", tmp_path / "run", 14, **options)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(LossWeightHook(stage, at))
    monkeypatch.setattr(train_loop, "why_not_capturable", lambda *_: None)
    monkeypatch.setattr(
        cuda_graph, "capture_cuda_graph", lambda step, stream: captured.append(runner.iter) or step
    )
    runner.train()
    assert captured == [WARM_UP, drop + WARM_UP]


@pytest.mark.parametrize("interval", [None, 3])  # MMagic's EMA hook counts from `start_iter`
def test_a_hook_of_another_package_is_called_at_every_step(
    photographs: Path, tmp_path: Path, interval: int | None
) -> None:
    name = "msrresnet_x4c64b16_g1_1000k_div2k.py"
    options = {"default_hooks.logger.interval": 100}
    cfg = small_config(name, photographs / "train", tmp_path / "run", 5, **options)
    runner = Runner.from_cfg(cfg)
    witness = Witness(interval)
    runner.register_hook(witness)
    runner.train()
    assert witness.called == [1, 2, 3, 4, 5]


@HOOKS.register_module()
class EveryFifthStep(ParamSchedulerHook):
    """Steps the schedulers at every fifth step, as hooks of users may."""

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if (runner.iter + 1) % 5 == 0:
            super().after_train_iter(runner, *args, **kwargs)


@pytest.mark.parametrize("hook", [{"type": "ParamSchedulerHook"}, None, {"type": "EveryFifthStep"}])
def test_schedulers_step_when_they_do_in_the_loop_of_mmengine(
    photographs: Path, tmp_path: Path, hook: dict[str, Any] | None
) -> None:
    rates = []
    for loop in ("SRTrainLoop", "mmengine.IterBasedTrainLoop"):
        name = "msrresnet_x4c64b16_g1_1000k_div2k.py"
        cfg = small_config(name, photographs / "train", tmp_path / loop, 20)
        cfg.train_cfg = {"type": loop, "max_iters": 20}
        cfg.param_scheduler = [{"type": "ExponentialLR", "gamma": 0.5, "by_epoch": False}]
        cfg.default_hooks.param_scheduler = hook
        runner = Runner.from_cfg(cfg)
        runner.train()
        rates.append(runner.optim_wrapper.get_lr()["lr"])
    assert rates[0] == rates[1]


def test_a_loss_that_is_a_number_is_logged(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "msrresnet_x4c64b16_g1_1000k_div2k.py"
    runner = Runner.from_cfg(small_config(name, photographs / "train", tmp_path / "run", 4))
    outputs: Iterator[dict[str, Any]] = iter(
        [{}, {"a": 1.5, "b": torch.tensor([2.0])}, {"a": torch.tensor(3.0)}, {"a": 1}]
    )
    monkeypatch.setattr(runner.model, "train_step", lambda *_, **__: next(outputs))
    runner.train()
    seen = {name: runner.message_hub.get_scalar(f"train/{name}").data[0] for name in "ab"}
    assert {name: list(map(float, values)) for name, values in seen.items()} == {
        "a": [1.5, 3.0, 1.0],
        "b": [2.0],
    }


@pytest.mark.slow
def test_data_on_the_device_train_the_same_weights_and_a_resumed_run_goes_on_with_them(
    photographs: Path, tmp_path: Path
) -> None:
    create_store(photographs / "train", tmp_path / "store", workers=1)
    states = []
    for resident, iterations in ((False, 6), (True, 3), (True, 6)):
        options = {"train_cfg.cache_dataset_on_gpu": resident, "train_dataloader.batch_size": 2}
        options |= {"default_hooks.checkpoint.interval": 3, "resume": iterations == 6 and resident}
        name = "msrresnet_x4c64b16_g1_1000k_div2k.py"
        work = tmp_path / f"resident_{resident}"
        cfg = small_config(name, tmp_path / "store", work, iterations, **options)
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert isinstance(runner.train_dataloader, GPUDataLoader) == resident
        states.append(runner.model.state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[2][key]), key


def test_out_of_memory_is_one_line_that_says_what_would_fit(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "msrresnet_x4c64b16_g1_1000k_div2k.py"
    runner = Runner.from_cfg(small_config(name, photographs / "train", tmp_path / "run", 5))

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(runner.model, "train_step", fail)
    with pytest.raises(ValueError, match=r"batches of 4 and GT crops of 64x64.*batch_size=2.* 32 "):
        runner.train()
    explain = runner.train_loop._explain_out_of_memory
    small = {"data_samples": BaseDataElement(gt_img=torch.zeros(1, 3, 40, 40))}
    assert explain(small).endswith("GT crops of 40x40; about half of it is enough for "
                                   "train_dataloader.batch_size=2")  # fmt: skip
    for batch in ([], {"inputs": 1}, {"data_samples": []}):
        assert "batch_size=2" in explain(batch)
        assert "crops" not in explain(batch)


@pytest.mark.parametrize(
    ("train_cfg", "said"),
    [
        ({"disc_steps": 0}, "disc_steps: expected an integer of at least 1, got 0"),
        ({"disc_steps": "2"}, "disc_steps: expected an integer"),
        ({"disc_repeat": -1}, "disc_repeat: expected an integer of at least 1"),
        ({"disc_init_steps": -1}, "disc_init_steps: expected an integer of at least 0"),
        ({"share_fake_logits": "no"}, "share_fake_logits: expected"),
    ],
)
def test_numbers_of_steps_out_of_range_are_refused(
    vgg: str, train_cfg: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=f"model.train_cfg.{said}"):
        srgan(vgg, train_cfg=train_cfg)


def test_an_error_in_the_discriminator_leaves_it_trainable(vgg: str) -> None:
    model = srgan(vgg)
    plain, model.discriminator.forward = model.discriminator.forward, lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        step(model)
    model.discriminator.forward = plain
    assert all(parameter.requires_grad for parameter in model.discriminator.parameters())
    step(model)


def test_without_a_discriminator_only_the_generator_is_trained(vgg: str) -> None:
    model = srgan(vgg, discriminator={})
    assert model.discriminator is None
    step(model)
