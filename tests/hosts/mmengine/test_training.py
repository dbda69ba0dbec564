"""Training by the tools, on small pictures: order of samples, steps, checkpoints, resuming."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from small_runs import SMALL_DISCRIMINATOR, losses, small_config
from torch import nn

from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.datasets.paired_datasets import PairedImageDataset
from srgan_plugin.hosts.mmengine.datasets.sampler import StreamSampler
from srgan_plugin.hosts.mmengine.engine.checkpoint_files import newest_checkpoint
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import NonFiniteError, OptimWrapper
from srgan_plugin.losses import GANLoss, L1Loss
from srgan_plugin.networks import ModifiedVGG, MSRResNet
from srgan_plugin.networks.vgg import random_vgg19_state_dict
from srgan_plugin.registry import MODELS, OPTIM_WRAPPERS

pytestmark = pytest.mark.usefixtures("fresh_mmengine")
ROOT = Path(__file__).resolve().parents[3]
PIPELINE = [
    {"type": "PairedRandomCrop", "gt_patch_size": 64},
    {"type": "Flip", "direction": "horizontal"},
    {"type": "Flip", "direction": "vertical"},
    {"type": "RandomTransposeHW"},
    {"type": "PackInputs"},
]


@pytest.mark.slow
def test_folder_png_store_and_raw_store_train_the_same_weights(
    photographs: Path, tmp_path: Path
) -> None:
    sources = {"folder": photographs / "train"}
    for layout in ("raw", "png"):
        sources[layout] = tmp_path / f"{layout}_store"
        create_store(photographs / "train", sources[layout], layout=layout, workers=1)
    weights, curves = {}, {}
    for name, gt in sources.items():
        cfg = small_config(
            "msrresnet_x4c64b16_g1_1000k_div2k.py", gt, tmp_path / name, iterations=6
        )
        runner = Runner.from_cfg(cfg)
        runner.train()
        weights[name] = runner.model.generator.state_dict()
        curves[name] = losses(tmp_path / name)
    assert len(curves["folder"]) == 6
    assert curves["folder"] == curves["raw"] == curves["png"]
    for name in ("raw", "png"):
        for key, value in weights["folder"].items():
            assert torch.equal(value, weights[name][key]), f"{name}: {key}"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_samples_do_not_depend_on_the_number_of_workers(
    photographs: Path, workers: int
) -> None:
    dataset = PairedImageDataset(str(photographs / "train"), pipeline=PIPELINE)
    sampler = StreamSampler(dataset, seed=3)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=3, sampler=sampler, num_workers=workers, collate_fn=list
    )
    batches = iter(loader)
    seen = [sample for _ in range(5) for sample in next(batches)]
    plain = iter(sampler)
    for sample in seen:
        expected = dataset[next(plain)]
        assert torch.equal(sample["inputs"], expected["inputs"])
        assert torch.equal(sample["data_samples"].gt_img, expected["data_samples"].gt_img)


def test_two_ranks_see_each_sample_of_the_stream_once(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = PairedImageDataset(str(photographs / "train"))
    alone = iter(StreamSampler(dataset, seed=1))
    expected = [next(alone).number for _ in range(20)]
    numbers = []
    for rank in (0, 1):
        monkeypatch.setattr(
            "srgan_plugin.hosts.mmengine.datasets.sampler.get_dist_info", lambda r=rank: (r, 2)
        )
        stream = iter(StreamSampler(dataset, seed=1))
        numbers += [next(stream).number for _ in range(10)]
    assert sorted(numbers) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msrresnet", "srgan"])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    photographs: Path, tmp_path: Path, name: str
) -> None:
    config = f"{name}_x4c64b16_g1_1000k_div2k.py"
    options: dict[str, Any] = {"default_hooks.checkpoint.interval": 3}
    if name == "srgan":
        options |= {
            "model.discriminator.mid_channels": 4,
            "model.discriminator.input_size": 64,
            "model.perceptual_loss": None,
        }
    gt = photographs / "train"
    whole = Runner.from_cfg(small_config(config, gt, tmp_path / "whole", 6, **options))
    whole.train()
    halves = tmp_path / "halves"
    Runner.from_cfg(small_config(config, gt, halves, 3, **options)).train()
    resumed = Runner.from_cfg(small_config(config, gt, halves, 6, resume=True, **options))
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


class PlainSRGANStep:
    """Three steps of SRGAN written out with torch alone: the oracle of the model's train_step."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        self.g, self.d = generator, discriminator
        self.g_adam = torch.optim.Adam(generator.parameters(), lr=1e-3)
        self.d_adam = torch.optim.Adam(discriminator.parameters(), lr=1e-3)

    def __call__(self, lr: torch.Tensor, gt: torch.Tensor) -> None:
        bce = nn.functional.binary_cross_entropy_with_logits
        sr = self.g(lr)
        logits = self.d(sr)
        loss = 1e-2 * (sr - gt).abs().mean() + 5e-3 * bce(logits, torch.ones_like(logits))
        self.g_adam.zero_grad()
        loss.backward()
        self.g_adam.step()
        self.d_adam.zero_grad()
        real, fake = self.d(gt), self.d(sr.detach())
        (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))).backward()
        self.d_adam.step()


def test_the_training_step_of_srgan_equals_one_written_out_with_torch_alone() -> None:
    torch.manual_seed(0)
    model = MODELS.build(
        {
            "type": "srgan_plugin.SRGAN",
            "generator": {"type": "MSRResNet", "mid_channels": 8, "num_blocks": 1},
            "discriminator": {"type": "ModifiedVGG", "mid_channels": 4, "input_size": 32},
            "pixel_loss": {"type": "L1Loss", "loss_weight": 1e-2},
            "gan_loss": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 5e-3},
        }
    )
    assert isinstance(model.pixel_loss, L1Loss)
    assert isinstance(model.gan_loss, GANLoss)
    generator = MSRResNet(mid_channels=8, num_blocks=1)
    discriminator = ModifiedVGG(mid_channels=4, input_size=32)
    generator.load_state_dict(model.generator.state_dict())
    discriminator.load_state_dict(model.discriminator.state_dict())
    oracle = PlainSRGANStep(generator, discriminator)
    wrappers = OptimWrapperDict(
        generator=OptimWrapper(torch.optim.Adam(model.generator.parameters(), lr=1e-3)),
        discriminator=OptimWrapper(torch.optim.Adam(model.discriminator.parameters(), lr=1e-3)),
    )
    for _ in range(3):
        lr = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        gt = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
        samples = [BaseDataElement(gt_img=image) for image in gt]
        logs = model.train_step({"inputs": list(lr), "data_samples": samples}, wrappers)
        assert {"loss_pix", "loss_gan", "loss_d_real", "loss_d_fake"} <= set(logs)
        oracle(lr / 255, gt / 255)
    for mine, plain in ((model.generator, generator), (model.discriminator, discriminator)):
        for (key, value), expected in zip(
            mine.state_dict().items(), plain.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(value, expected, rtol=0, atol=2e-6, msg=key)


@pytest.mark.slow
def test_srgan_trains_with_vgg_weights_from_a_file_and_keeps_them_out_of_its_checkpoint(
    photographs: Path, tmp_path: Path
) -> None:
    torch.save(random_vgg19_state_dict(), tmp_path / "vgg.pth")
    options = {
        "model.discriminator.mid_channels": 4,
        "model.discriminator.input_size": 64,
        "model.perceptual_loss.pretrained": str(tmp_path / "vgg.pth"),
        "train_dataloader.batch_size": 2,
    }
    cfg = small_config(
        "srgan_x4c64b16_g1_1000k_div2k.py", photographs / "train", tmp_path / "run", 2, **options
    )
    Runner.from_cfg(cfg).train()
    assert len(losses(tmp_path / "run", "loss_perceptual")) == 2
    state = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=False)["state_dict"]
    assert {key.split(".")[0] for key in state} == {"generator", "discriminator", "step_counter"}


def test_srgan_without_a_start_says_so_loudly(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {
        "model.discriminator.mid_channels": 4,
        "model.discriminator.input_size": 64,
        "model.perceptual_loss": None,
    }
    cfg = small_config(
        "srgan_x4c64b16_g1_1000k_div2k.py", photographs / "train", tmp_path / "run", 1, **options
    )
    Runner.from_cfg(cfg).train()
    heard = capfd.readouterr()
    assert "RANDOM weights" in heard.out + heard.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msrresnet", "srgan"])
@pytest.mark.parametrize("source", ["folder", "store"])
def test_stopped_and_resumed_with_workers_and_ema_the_weights_are_those_of_an_undisturbed_run(
    photographs: Path, tmp_path: Path, name: str, source: str
) -> None:
    gt = photographs / "train"
    if source == "store":
        gt = tmp_path / "store"
        create_store(photographs / "train", gt, workers=1)
    options: dict[str, Any] = {
        "default_hooks.checkpoint.interval": 30,
        "train_dataloader.num_workers": 2,
        "train_dataloader.batch_size": 2,
        "train_dataloader.dataset.pipeline.0.gt_patch_size": 32,
        "model.ema": {"decay": 0.9},
        "model.generator.mid_channels": 4,
        "model.generator.num_blocks": 1,
        # A start without a seed draws one; the resumed process draws another.
        "randomness": {"seed": None},
    }
    if name == "srgan":
        options |= SMALL_DISCRIMINATOR | {"model.discriminator.input_size": 32}
    config = f"{name}_x4c64b16_g1_1000k_div2k.py"
    work = tmp_path / "run"
    whole = Runner.from_cfg(small_config(config, gt, work, 60, **options))
    whole.train()
    (work / "iter_60.pth").unlink()
    options["resume"] = True
    options["load_from"] = str(newest_checkpoint(work))
    resumed = Runner.from_cfg(small_config(config, gt, work, 60, **options))
    resumed.train()
    state = resumed.model.state_dict()
    assert any(key.startswith("generator_ema.") for key in state)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_the_newest_whole_checkpoint_is_found_and_a_cut_one_passed_over(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for number in (9, 10, 100):
        torch.save({"state_dict": {}}, tmp_path / f"iter_{number}.pth")
    whole = (tmp_path / "iter_100.pth").read_bytes()
    (tmp_path / "iter_100.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({}, tmp_path / "best_Set5_PSNR_iter_1000.pth")
    assert newest_checkpoint(tmp_path) == tmp_path / "iter_10.pth"


def test_the_average_of_the_generator_is_that_of_its_definition() -> None:
    model = MODELS.build(
        {
            "type": "srgan_plugin.SRModel",
            "generator": {"type": "SRResNet", "mid_channels": 4, "num_blocks": 1},
            "pixel_loss": {"type": "L1Loss"},
            "ema": {"decay": 0.9},
        }
    )
    wrapper = OptimWrapper(torch.optim.SGD(model.generator.parameters(), lr=0.1))
    key = "trunk_net.0.conv1.weight"
    expected = model.generator.state_dict()[key].clone()
    for seed in range(4):
        batch = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.manual_seed(seed))
        sample = BaseDataElement(gt_img=torch.zeros(2, 3, 32, 32))
        model.train_step({"inputs": batch, "data_samples": sample}, wrapper)
        expected = 0.9 * expected + 0.1 * model.generator.state_dict()[key]
    torch.testing.assert_close(model.generator_ema.state_dict()[key], expected)
    # Batch statistics are averaged, their counters copied, and testing uses the average.
    assert model.generator_ema.state_dict()["bn_trunk.num_batches_tracked"] == 4
    model.eval()
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(model(image), model.generator_ema(image))


@pytest.mark.parametrize("kind", ["OptimWrapper", "AmpOptimWrapper"])
def test_a_step_that_is_not_finite_is_skipped_and_too_many_in_a_row_end_the_run(
    kind: str,
) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    wrapper = OPTIM_WRAPPERS.build(
        {"type": f"srgan_plugin.{kind}", "optimizer": optimizer, "max_nonfinite_steps": 3}
    )
    wrapper.update_params((weight * torch.tensor([1.0, float("nan")])).sum())
    assert weight.tolist() == [1.0, 2.0]
    assert wrapper.skips[0] == 1
    assert not optimizer.state
    wrapper.update_params((weight**2).sum())
    assert weight[0] != 1.0
    assert wrapper.skips[1] == 0
    with pytest.raises(NonFiniteError, match=r"generator.* 3 steps.*checkpoint.*bfloat16"):
        for _ in range(3):
            wrapper.update_params((weight * float("inf")).sum())


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "off"])
def test_a_limit_of_skipped_steps_that_would_end_every_run_is_refused(steps: Any) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(UserError, match=rf"max_nonfinite_steps: .*at least 1, got {steps!r}"):
        OptimWrapper(optimizer, max_nonfinite_steps=steps)


@pytest.mark.parametrize("options", [{}, {"norm_type": 1.0}, {"type": "value"}])
def test_gradients_are_clipped_as_by_mmengine(options: dict[str, Any]) -> None:
    slopes = torch.randn(9, generator=torch.Generator().manual_seed(0))
    clip = {"clip_value": 0.5} if options else {"max_norm": 0.5}
    clip = {"max_norm": 0.5} | options if "norm_type" in options else clip | options
    results = []
    for kind in (OptimWrapper, MMEngineOptimWrapper):
        weight = torch.nn.Parameter(torch.zeros(9))
        wrapper = kind(torch.optim.SGD([weight], lr=1.0), clip_grad=dict(clip))
        wrapper.update_params((weight * slopes).sum())
        results.append(weight.detach())
    assert torch.equal(*results)


def test_gradients_are_clipped_to_the_norm_that_the_config_says() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    wrapper = OptimWrapper(optimizer, clip_grad={"max_norm": 1.0})
    wrapper.update_params((weight * torch.tensor([3.0, 4.0, 0.0, 0.0])).sum())
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.6, -0.8, 0.0, 0.0]))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_srgan_trains_in_half_precision_with_a_wrapper_for_each_network(
    photographs: Path, tmp_path: Path, dtype: str
) -> None:
    amp = {"type": "AmpOptimWrapper", "dtype": dtype, "loss_scale": 256.0}
    options = SMALL_DISCRIMINATOR | {
        "train_dataloader.batch_size": 2,
        "optim_wrapper.generator": amp | {"optimizer": {"type": "Adam", "lr": 1e-4}},
        "optim_wrapper.discriminator": amp | {"optimizer": {"type": "Adam", "lr": 1e-4}},
    }
    name, gt = "srgan_x4c64b16_g1_1000k_div2k.py", photographs / "train"
    Runner.from_cfg(small_config(name, gt, tmp_path / dtype, 3, **options)).train()
    plain = SMALL_DISCRIMINATOR | {"train_dataloader.batch_size": 2}
    Runner.from_cfg(small_config(name, gt, tmp_path / "float32", 3, **plain)).train()
    half, full = losses(tmp_path / dtype), losses(tmp_path / "float32")
    assert half == pytest.approx(full, rel=3e-2)
    assert half != full
    assert losses(tmp_path / dtype, "grad_norm_discriminator")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_a_checkpoint_and_ends_the_run_with_its_status(
    photographs: Path, tmp_path: Path, number: signal.Signals
) -> None:
    cfg = small_config(
        "msrresnet_x4c64b16_g1_1000k_div2k.py", photographs / "train", tmp_path / "run", 1000
    )
    before = signal.getsignal(number)
    runner = Runner.from_cfg(cfg)

    class Sender(Hook):
        def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
            if runner.iter == 4:
                os.kill(os.getpid(), number)

    runner.register_hook(Sender())
    with pytest.raises(SystemExit) as stop:
        runner.train()
    assert stop.value.code == 128 + number
    assert newest_checkpoint(tmp_path / "run") == tmp_path / "run" / "iter_5.pth"
    assert signal.getsignal(number) is before


def test_the_log_says_how_long_data_were_waited_for_and_the_curves_stay_short(
    photographs: Path, tmp_path: Path
) -> None:
    options = {
        "default_hooks.discriminator_monitor.interval": 4,
        "default_hooks.discriminator_monitor.max_history": 5,
    }
    cfg = small_config(
        "msrresnet_x4c64b16_g1_1000k_div2k.py",
        photographs / "train",
        tmp_path / "run",
        12,
        **options,
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert all(0 <= share <= 1 for share in losses(tmp_path / "run", "data_wait_fraction"))
    assert len(losses(tmp_path / "run", "data_wait_fraction")) >= 11
    data_time, time, fraction = (
        runner.message_hub.get_scalar(f"train/{name}").data[0]
        for name in ("data_time", "time", "data_wait_fraction")
    )
    np.testing.assert_allclose(fraction, data_time / time)
    assert len(runner.message_hub.get_scalar("train/loss_pix").data[0]) == 5


@pytest.mark.slow
def test_a_discriminator_that_wins_for_long_is_reported(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = SMALL_DISCRIMINATOR | {
        "default_hooks.discriminator_monitor.interval": 2,
        "default_hooks.discriminator_monitor.loss_threshold": 10.0,
    }
    name = "srgan_x4c64b16_g1_1000k_div2k.py"
    cfg = small_config(name, photographs / "train", tmp_path / "run", 2, **options)
    Runner.from_cfg(cfg).train()
    heard = capfd.readouterr()
    assert "discriminator loss: expected" in heard.out + heard.err


@pytest.mark.slow
def test_the_newest_checkpoints_are_kept(photographs: Path, tmp_path: Path) -> None:
    options = {"default_hooks.checkpoint.interval": 1, "default_hooks.checkpoint.max_keep_ckpts": 2}
    name = "msrresnet_x4c64b16_g1_1000k_div2k.py"
    cfg = small_config(name, photographs / "train", tmp_path / "run", 5, **options)
    Runner.from_cfg(cfg).train()
    assert {path.name for path in (tmp_path / "run").glob("*.pth")} == {"iter_4.pth", "iter_5.pth"}
    assert (tmp_path / "run/last_checkpoint").read_text().endswith("iter_5.pth")


@pytest.mark.slow
def test_a_run_resumed_at_iteration_one_million_starts_as_fast_as_a_fresh_one(
    photographs: Path, tmp_path: Path
) -> None:
    name, gt = "msrresnet_x4c64b16_g1_1000k_div2k.py", photographs / "train"
    full_width = {
        "model.generator.mid_channels": 64,
        "model.generator.num_blocks": 16,
        "train_dataloader.batch_size": 1,
        "train_dataloader.dataset.pipeline.0.gt_patch_size": 32,
    }

    def seconds(**options: Any) -> float:
        runner = Runner.from_cfg(small_config(name, gt, tmp_path / "run", 1_000_002, **options))
        began = time.monotonic()

        class Stop(Hook):
            def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
                runner.train_loop.stop_training = True
                runner.save_checkpoint(str(tmp_path), "last.pth", by_epoch=False)

        runner.register_hook(Stop())
        runner.train()
        return time.monotonic() - began

    fresh = seconds(**full_width)
    checkpoint = torch.load(tmp_path / "last.pth", weights_only=False)
    checkpoint["meta"]["iter"] = 1_000_000
    for scheduler in checkpoint["param_schedulers"]:
        scheduler["last_step"] = 1_000_000
    torch.save(checkpoint, tmp_path / "million.pth")
    resume = {"resume": True, "load_from": str(tmp_path / "million.pth")}
    resumed = seconds(**full_width, **resume)
    assert torch.load(tmp_path / "last.pth", weights_only=False)["meta"]["iter"] == 1_000_001
    assert resumed < fresh + 5


@pytest.mark.slow
def test_tensorboard_shows_losses_logits_gradients_data_wait_and_images(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    name = "srgan_x4c64b16_g1_1000k_div2k.py"
    cfg = small_config(name, photographs / "train", tmp_path / "run", 2, **SMALL_DISCRIMINATOR)
    whole = Config.fromfile(ROOT / "configs" / name)
    for part in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg[part] = whole[part]
    Runner.from_cfg(cfg).train()
    (folder,) = (tmp_path / "run").glob("*/vis_data")
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()
    wanted = {
        "loss_pix",
        "loss_gan",
        "out_d_real",
        "out_d_fake",
        "data_wait_fraction",
        "Set14/PSNR",
    }
    wanted |= {"grad_norm_generator", "grad_norm_discriminator"}
    assert wanted <= set(tags["scalars"])
    assert {image.split("_")[0] for image in tags["images"]} == {"Set5", "Set14"}
