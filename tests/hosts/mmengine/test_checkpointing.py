"""What a stopped, full, restarted or resumed run must not lose, and steps that must not count."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from small_runs import ROOT, SMALL_DISCRIMINATOR, small_config

from srgan_plugin.checkpoints import load_checkpoint_file
from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine import checkpoint_hook
from srgan_plugin.hosts.mmengine.engine.checkpoint_files import newest_checkpoint
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import OptimWrapper
from srgan_plugin.registry import MODELS

pytestmark = pytest.mark.usefixtures("fresh_mmengine")
MSRRESNET = "msrresnet_x4c64b16_g1_1000k_div2k.py"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.pth")}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_process_group_saves_a_checkpoint_though_there_are_workers(
    photographs: Path, tmp_path: Path, number: signal.Signals
) -> None:
    options = [
        f"train_dataloader.dataset.gt={photographs}/train",
        "train_dataloader.dataset.pipeline.0.gt_patch_size=64",
        "train_dataloader.num_workers=2",
        "train_dataloader.pin_memory=False",
        "train_dataloader.batch_size=2",
        "model.generator.mid_channels=4",
        "model.generator.num_blocks=1",
        "default_hooks.logger.interval=1",
    ]
    line = [sys.executable, str(ROOT / "tools/train.py"), str(ROOT / "configs" / MSRRESNET)]
    process = subprocess.Popen(
        [*line, "--work-dir", "run", "--cfg-options", *options],
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        time.sleep(0.1)
        scalars = list((tmp_path / "run").glob("*/vis_data/scalars.json"))
        if scalars and len(scalars[0].read_text().splitlines()) > 3:
            break
    asked_at = time.monotonic()
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - asked_at < 10
    assert process.returncode == 128 + number, said
    assert newest_checkpoint(tmp_path / "run") is not None
    assert "Traceback" not in said


@pytest.mark.slow
def test_another_run_in_the_same_folder_keeps_its_own_checkpoints_and_the_old_ones(
    photographs: Path, tmp_path: Path
) -> None:
    work = tmp_path / "run"
    options = {"default_hooks.checkpoint.interval": 2, "default_hooks.checkpoint.max_keep_ckpts": 2}
    for iterations in (12, 6):
        cfg = small_config(MSRRESNET, photographs / "train", work, iterations, **options)
        Runner.from_cfg(cfg).train()
    assert names(work) == {"iter_10.pth", "iter_12.pth", "iter_4.pth", "iter_6.pth"}
    assert newest_checkpoint(work) == work / "iter_6.pth"  # of the last run
    options |= {"resume": True, "load_from": str(work / "iter_6.pth")}
    Runner.from_cfg(small_config(MSRRESNET, photographs / "train", work, 8, **options)).train()
    assert names(work) == {"iter_10.pth", "iter_12.pth", "iter_6.pth", "iter_8.pth"}


@pytest.mark.slow
def test_a_run_that_goes_on_from_a_file_elsewhere_leaves_all_that_lies_there(
    photographs: Path, tmp_path: Path
) -> None:
    options = {"default_hooks.checkpoint.interval": 1, "default_hooks.checkpoint.max_keep_ckpts": 1}
    first, second = tmp_path / "first", tmp_path / "second"
    gt = photographs / "train"
    Runner.from_cfg(small_config(MSRRESNET, gt, first, 2, **options)).train()
    options |= {"resume": True, "load_from": str(first / "iter_2.pth")}
    Runner.from_cfg(small_config(MSRRESNET, gt, second, 5, **options)).train()
    assert (names(first), names(second)) == ({"iter_2.pth"}, {"iter_5.pth"})


@pytest.mark.slow
def test_a_run_that_goes_on_from_a_renamed_file_in_its_folder_keeps_it(
    photographs: Path, tmp_path: Path
) -> None:
    options = {"default_hooks.checkpoint.interval": 1, "default_hooks.checkpoint.max_keep_ckpts": 1}
    work, gt = tmp_path / "run", photographs / "train"
    Runner.from_cfg(small_config(MSRRESNET, gt, work, 1, **options)).train()
    (work / "iter_1.pth").rename(work / "my_favourite.pth")
    options |= {"resume": True, "load_from": str(work / "my_favourite.pth")}
    Runner.from_cfg(small_config(MSRRESNET, gt, work, 3, **options)).train()
    assert names(work) == {"iter_3.pth", "my_favourite.pth"}


@pytest.mark.slow
def test_checkpoints_beside_a_best_one_count_among_the_newest(
    photographs: Path, tmp_path: Path
) -> None:
    options = {"default_hooks.checkpoint.interval": 3, "default_hooks.checkpoint.max_keep_ckpts": 1}
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 6, **options)
    cfg.default_hooks.checkpoint.save_best = "PSNR"
    runner = Runner.from_cfg(cfg)

    class Validate(Hook):
        """Each iteration is better than the one before."""

        def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
            runner.train_loop._iter += 1
            checkpoints = next(
                h for h in runner.hooks if isinstance(h, checkpoint_hook.CheckpointHook)
            )
            checkpoints.after_val_epoch(runner, {"PSNR": 20.0 + runner.iter})
            runner.train_loop._iter -= 1

    runner.register_hook(Validate(), priority="LOWEST")
    runner.train()
    assert names(tmp_path / "run") == {"iter_6.pth", "best_PSNR_iter_6.pth"}


def test_a_run_goes_on_in_a_copy_of_its_folder_and_leaves_the_original(
    photographs: Path, tmp_path: Path
) -> None:
    options = {"default_hooks.checkpoint.interval": 1, "default_hooks.checkpoint.max_keep_ckpts": 2}
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 2, **options)
    Runner.from_cfg(cfg).train()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert newest_checkpoint(tmp_path / "copy") == tmp_path / "copy/iter_2.pth"
    cfg.train_cfg.max_iters, cfg.resume = 3, True
    Runner.from_cfg(cfg).train()
    assert newest_checkpoint(tmp_path / "run") == tmp_path / "run/iter_3.pth"
    assert newest_checkpoint(tmp_path / "copy") == tmp_path / "copy/iter_2.pth"


@pytest.mark.slow
def test_a_changed_schedule_is_not_overlooked_in_silence_and_functions_are_not_saved(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work, gt = tmp_path / "run", photographs / "train"

    def config(iterations: int, total_steps: int, **options: Any) -> Config:
        cfg = small_config(MSRRESNET, gt, work, iterations, **options)
        cfg.param_scheduler = {
            "type": "OneCycleLR", "eta_max": 1e-3, "total_steps": total_steps, "by_epoch": False
        }  # fmt: skip
        return cfg

    Runner.from_cfg(config(2, total_steps=4)).train()
    checkpoint = load_checkpoint_file(work / "iter_2.pth")
    assert "anneal_func" not in checkpoint["param_schedulers"][0]
    options = {"resume": True, "load_from": str(work / "iter_2.pth")}
    Runner.from_cfg(config(3, total_steps=8, **options)).train()
    heard = capfd.readouterr()
    (warning,) = [x for x in heard.out.splitlines() if "keeps the settings of the checkpoint" in x]
    assert "total_steps=4 (config: 8)" in warning


def test_a_checkpoint_folder_elsewhere_is_found_again(photographs: Path, tmp_path: Path) -> None:
    options = {"default_hooks.checkpoint.out_dir": str(tmp_path / "elsewhere")}
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 2, **options)
    Runner.from_cfg(cfg).train()
    found = newest_checkpoint(tmp_path / "run")
    assert found is not None
    assert found.name == "iter_2.pth"
    assert found.is_relative_to(tmp_path / "elsewhere")


@pytest.mark.slow
def test_the_best_checkpoint_stays_when_its_successor_cannot_be_written(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 1)
    cfg.default_hooks.checkpoint.save_best = "PSNR"
    runner = Runner.from_cfg(cfg)
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, checkpoint_hook.CheckpointHook))
    hook.after_val_epoch(runner, {"PSNR": 20.0})
    (best,) = (name for name in names(tmp_path / "run") if name.startswith("best"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_hook.AtomicBackend, "put", full)
        runner.train_loop._iter = 2
        with pytest.raises(OSError, match="No space"):
            hook.after_val_epoch(runner, {"PSNR": 21.0})
    assert best in names(tmp_path / "run")
    hook.after_val_epoch(runner, {"PSNR": 22.0})
    assert {n for n in names(tmp_path / "run") if n.startswith("best")} == {"best_PSNR_iter_2.pth"}


def batch(size: int = 2) -> dict[str, Any]:
    lr = torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8)
    sample = BaseDataElement(gt_img=torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8))
    return {"inputs": lr, "data_samples": sample}


@pytest.mark.parametrize("gan", [False, True])
def test_a_forward_pass_that_is_not_finite_leaves_no_trace_in_batch_statistics_and_average(
    gan: bool,
) -> None:
    config: dict[str, Any] = {
        "type": "srgan_plugin.SRModel",
        "generator": {"type": "SRResNet", "mid_channels": 4, "num_blocks": 1},
        "pixel_loss": {"type": "L1Loss"},
        "ema": {"decay": 0.9},
    }
    if gan:
        disc = {"type": "ModifiedVGG", "mid_channels": 4, "input_size": 32}
        loss = {"type": "GANLoss", "gan_type": "vanilla"}
        config |= {"type": "srgan_plugin.SRGAN", "discriminator": disc, "gan_loss": loss}
    model = MODELS.build(config)
    wrapper: Any = OptimWrapper(torch.optim.Adam(model.generator.parameters()))
    if gan:
        judge = OptimWrapper(torch.optim.Adam(model.discriminator.parameters()))
        wrapper = OptimWrapperDict(generator=wrapper, discriminator=judge)
    model.train_step(batch(), wrapper)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = model.generator.conv_first
    handle = first.register_forward_hook(lambda *_: torch.full_like(_[2], float("inf")))
    model.train_step(batch(), wrapper)
    handle.remove()
    for key, value in model.state_dict().items():
        if key != "step_counter":
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize(("gan", "bad"), [(False, 1), (True, 1), (True, 2), (True, 3)])
def test_a_bad_batch_among_those_of_a_step_leaves_no_trace_also_where_the_run_was_resumed(
    gan: bool, bad: int
) -> None:
    config: dict[str, Any] = {
        "type": "srgan_plugin.SRModel",
        "generator": {"type": "SRResNet", "mid_channels": 4, "num_blocks": 1},
        "pixel_loss": {"type": "L1Loss"},
    }
    if gan:
        disc = {"type": "ModifiedVGG", "mid_channels": 4, "input_size": 32}
        loss = {"type": "GANLoss", "gan_type": "vanilla"}
        config |= {"type": "srgan_plugin.SRGAN", "discriminator": disc, "gan_loss": loss}
    model = MODELS.build(config)

    def wrapper() -> Any:
        generator = OptimWrapper(
            torch.optim.Adam(model.generator.parameters()), accumulative_counts=3
        )
        if not gan:
            return generator
        judge = OptimWrapper(
            torch.optim.Adam(model.discriminator.parameters()), accumulative_counts=3
        )
        return OptimWrapperDict(generator=generator, discriminator=judge)

    first = wrapper()
    for _ in range(3):
        model.train_step(batch(), first)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    current = first
    for number in (1, 2, 3):
        if number == bad:
            hook = model.generator.conv_first.register_forward_hook(
                lambda *_: torch.full_like(_[2], float("nan"))
            )
            model.train_step(batch(), current)
            hook.remove()
        else:
            model.train_step(batch(), current)
        if number < 3:
            resumed = wrapper()  # before the step has seen all of its batches
            resumed.load_state_dict(current.state_dict())
            current = resumed
    for key, value in model.state_dict().items():
        assert key == "step_counter" or torch.equal(value, before[key]), key
    for _ in range(3):
        model.train_step(batch(), current)
    after = model.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not torch.equal(
        after["generator.conv_first.weight"], before["generator.conv_first.weight"]
    )


def test_an_average_that_a_wrapper_would_never_move_is_an_error() -> None:
    model = MODELS.build(
        {
            "type": "srgan_plugin.SRModel",
            "generator": {"type": "MSRResNet", "mid_channels": 4, "num_blocks": 1},
            "pixel_loss": {"type": "L1Loss"},
            "ema": {"decay": 0.9},
        }
    )
    data = model.data_preprocessor(batch(), True)
    # mmengine's wrapper for one network calls forward by itself, not our train_step.
    with pytest.raises(ValueError, match="MMSeparateDistributedDataParallel"):
        model(**data, mode="loss")


@pytest.mark.slow
def test_accumulated_gradients_survive_resuming_and_the_average_moves_with_the_weights(
    photographs: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "optim_wrapper.accumulative_counts": 4,
        "default_hooks.checkpoint.interval": 6,
        "model.ema": {"decay": 0.9},
        "train_dataloader.batch_size": 2,
    }
    gt, work = photographs / "train", tmp_path / "run"
    whole = Runner.from_cfg(small_config(MSRRESNET, gt, work, 12, **options))
    whole.train()
    options |= {"resume": True, "load_from": str(work / "iter_6.pth")}
    resumed = Runner.from_cfg(small_config(MSRRESNET, gt, work, 12, **options))
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("max_steps", [1, 100])
def test_a_hook_that_begins_late_is_called_when_mmengine_would(
    photographs: Path, tmp_path: Path, max_steps: int
) -> None:
    options = {
        "train_cfg.max_steps_per_hook_call": max_steps,
        "default_hooks.logger.interval": 100,
        "default_hooks.checkpoint.interval": 4,
        "default_hooks.checkpoint.save_begin": 3,
        "default_hooks.checkpoint.save_last": False,
    }
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 12, **options)
    Runner.from_cfg(cfg).train()
    assert names(tmp_path / "run") == {"iter_3.pth", "iter_7.pth", "iter_11.pth"}


@pytest.mark.slow
def test_a_run_resumed_with_another_batch_size_goes_on_at_the_next_sample(
    photographs: Path, tmp_path: Path
) -> None:
    gt, work = photographs / "train", tmp_path / "run"
    options: dict[str, Any] = {"train_dataloader.batch_size": 1}
    Runner.from_cfg(small_config(MSRRESNET, gt, work, 10, **options)).train()
    offsets = []
    for size, until in ((4, 12), (2, 13)):
        options = {"train_dataloader.batch_size": size, "resume": True}
        options["load_from"] = str(newest_checkpoint(work))
        runner = Runner.from_cfg(small_config(MSRRESNET, gt, work, until, **options))
        runner.train()
        offsets.append(runner.train_dataloader.sampler.start)
    assert offsets == [10, 10 + 2 * 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_cfg.max_steps_per_hook_call": 0}, "train_cfg.max_steps_per_hook_call"),
        ({"train_cfg.val_interval": 0}, "train_cfg.val_interval"),
        ({"train_cfg.val_interval": "x"}, "train_cfg.val_interval.*'x'"),
        ({"default_hooks.checkpoint.interval": "x"}, "checkpoint.interval.*'x'"),
        ({"model.channels_last": "foo"}, "channels_last.*'foo'"),
        ({"model.generator.num_blocks": -1}, "num_blocks.*-1"),
        ({"model.generator.mid_channels": 0}, "mid_channels.*0"),
        ({"model.ema": {"decy": 0.9}}, "model.ema"),
        ({"model.ema": {"decay": 1.5}}, "model.ema"),
        ({"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": "fp16"}, "bfloat16"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    photographs: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 2, **options)
    with pytest.raises(ValueError, match=words):
        Runner.from_cfg(cfg).train()


def test_a_misspelt_setting_of_the_gan_step_is_named(photographs: Path, tmp_path: Path) -> None:
    options = SMALL_DISCRIMINATOR | {"model.train_cfg.disc_step": 5}
    name = "srgan_x4c64b16_g1_1000k_div2k.py"
    cfg = small_config(name, photographs / "train", tmp_path / "run", 2, **options)
    with pytest.raises(ValueError, match=r"train_cfg: .*\bdisc_steps\b.*got disc_step$"):
        Runner.from_cfg(cfg)


def test_the_timer_of_mmengine_is_called_at_every_step(photographs: Path, tmp_path: Path) -> None:
    options = {"default_hooks.timer.type": "mmengine.IterTimerHook"}
    options |= {"default_hooks.logger.interval": 100}
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 5, **options)
    runner = Runner.from_cfg(cfg)
    assert all(isinstance(hook, Hook) for hook in runner.hooks)
    runner.train()
    assert len(runner.message_hub.get_scalar("train/time").data[0]) == 5


@pytest.mark.slow
def test_the_best_of_an_inferred_rule_stays_the_best(photographs: Path, tmp_path: Path) -> None:
    cfg = small_config(MSRRESNET, photographs / "train", tmp_path / "run", 1)
    cfg.default_hooks.checkpoint |= {"save_best": "auto", "rule": None, "greater_keys": ["PSNR"]}
    runner = Runner.from_cfg(cfg)
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, checkpoint_hook.CheckpointHook))
    for iteration, score in ((1, 30.0), (2, 20.0), (3, 31.0), (4, 30.5)):
        runner.train_loop._iter = iteration
        hook.after_val_epoch(runner, {"PSNR": score})
    assert {n for n in names(tmp_path / "run") if n.startswith("best")} == {"best_PSNR_iter_3.pth"}
    assert runner.message_hub.get_info("best_score") == 31.0


@pytest.mark.filterwarnings("ignore:.*file_client_args:DeprecationWarning")
def test_a_storage_client_of_mmengine_is_passed_on_and_leaves_deleting_to_it() -> None:
    hook = checkpoint_hook.CheckpointHook(
        file_client_args={"backend": "disk"}, max_keep_ckpts=2, by_epoch=False
    )
    assert (hook.local, hook.max_keep_ckpts) == (False, 2)


def test_an_unknown_option_of_the_hook_is_refused_at_the_start() -> None:
    with pytest.raises(UserError, match=r"max_keep_ckpt.*did you mean 'max_keep_ckpts'"):
        checkpoint_hook.CheckpointHook(max_keep_ckpt=3)
    checkpoint_hook.CheckpointHook(interval=5, save_optimizer=False)
