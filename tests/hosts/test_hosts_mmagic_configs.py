"""MMagic's own config, its own model and its own data, run by our tools."""

import inspect
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from srgan_plugin import config_path
from srgan_plugin.__main__ import run_mmagic
from srgan_plugin.checkpoints import load_checkpoint_file
from srgan_plugin.hosts.mmengine.datasets import transforms as our_transforms
from srgan_plugin.losses import PerceptualLoss
from srgan_plugin.networks import MSRResNet
from tests.conftest import forget_mmengine

CONFIG = ".mim/configs/srgan_resnet/msrresnet_x4c64b16_1xb16-1000k_div2k.py"
Tool = Callable[[str], ModuleType]


@pytest.fixture
def config(mmagic: ModuleType, photographs: Path, tmp_path: Path, fresh_mmengine: None) -> Path:
    """MMagic's config of MSRResNet, small, its checkpoints where it puts them itself."""
    cfg = Config.fromfile(Path(mmagic.__file__).parent / CONFIG)
    cfg.merge_from_dict(
        {
            "experiment_name": tmp_path.name,
            "work_dir": str(tmp_path / "work_dirs/run"),
            "default_hooks.checkpoint.out_dir": str(tmp_path / "work_dirs"),
            "model.generator.mid_channels": 8,
            "model.generator.num_blocks": 1,
            "optim_wrapper.optimizer.lr": 0.0,
            "train_cfg.max_iters": 1,
            "train_dataloader.num_workers": 0,
            "train_dataloader.batch_size": 2,
            "train_dataloader.dataset.pipeline.3.gt_patch_size": 48,
            "train_dataloader.dataset.ann_file": "",
            "train_dataloader.dataset.data_root": str(photographs / "Set5"),
            "train_dataloader.dataset.data_prefix": {"img": "LRbicx4", "gt": "GTmod12"},
        }
    )
    set5 = cfg.test_dataloader[0]
    set5.dataset.data_root, set5.num_workers = str(photographs / "Set5"), 0
    cfg.test_dataloader, cfg.test_evaluator = [set5], cfg.test_evaluator[:1]
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = cfg.custom_hooks = None
    cfg.dump(tmp_path / "config.py")
    return tmp_path / "config.py"


def weights(features: int = 8, **switches: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return MSRResNet(mid_channels=features, num_blocks=1, **switches).state_dict()


def save(state: dict[str, Any], path: Path) -> str:
    torch.save(state, path)
    return str(path)


def arguments(kind: type, config: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a class gets of a config, with its defaults."""
    given = {name: value for name, value in config.items() if name != "type"}
    bound = inspect.signature(kind).bind_partial(**given)
    bound.apply_defaults()
    values = bound.arguments.items()
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values}


@pytest.mark.parametrize("name", ["msrresnet", "srgan"])
def test_the_published_configs_train_as_mmagics_do(mmagic: ModuleType, name: str) -> None:
    from mmagic.datasets import transforms as mmagic_transforms
    from mmagic.models.losses import PerceptualLoss as MMagicPerceptualLoss

    ours = Config.fromfile(config_path(f"{name}_x4c64b16_g1_1000k_div2k.py"))
    file = CONFIG.replace("msrresnet_", f"{name}_")
    theirs = Config.fromfile(Path(mmagic.__file__).parent / file)
    for part in ("generator", "discriminator", "pixel_loss", "gan_loss"):
        assert ours.model.get(part) == theirs.model.get(part), part
    assert ours.param_scheduler == theirs.param_scheduler
    assert ours.train_cfg.max_iters == theirs.train_cfg.max_iters
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    # `constructor` has its default there.
    assert {**theirs.optim_wrapper, **ours.optim_wrapper} == theirs.optim_wrapper

    assert ("perceptual_loss" in ours.model) == (name == "srgan")
    if name == "srgan":
        expected = arguments(MMagicPerceptualLoss, theirs.model.perceptual_loss)
        assert expected["layer_weights"] == {"34": 1.0}  # features[34] of torchvision
        expected["layer_weights"] = {"conv5_4": 1.0}
        defaults = arguments(PerceptualLoss, {})
        assert arguments(PerceptualLoss, ours.model.perceptual_loss) == defaults | expected

    steps = ours.train_dataloader.dataset.pipeline
    reading = ("LoadImageFromFile", "SetValues")  # our dataset does this
    expected_steps = [
        step for step in theirs.train_dataloader.dataset.pipeline if step["type"] not in reading
    ]
    for step, expected_step in zip(steps, expected_steps, strict=True):
        kind = expected_step["type"]
        assert step["type"] == kind
        assert arguments(getattr(our_transforms, kind), step) == arguments(
            getattr(mmagic_transforms, kind), expected_step
        ), kind


@pytest.mark.slow
def test_weights_in_bare_keys_start_the_training_of_mmagics_model(
    config: Path, tool: Tool, tmp_path: Path
) -> None:
    start = save(weights(), tmp_path / "bare.pth")
    tool("train").main([str(config), "--cfg-options", f"load_from={start}"])
    trained = load_checkpoint_file(tmp_path / "work_dirs/run/iter_1.pth")["state_dict"]
    for key, weight in weights().items():
        assert torch.equal(trained[f"generator.{key}"], weight), key


@pytest.mark.slow
def test_weights_of_another_network_are_refused_by_mmagics_model(
    config: Path, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = save(weights(features=4), tmp_path / "other.pth")
    with pytest.raises(SystemExit):
        tool("train").main([str(config), "--cfg-options", f"load_from={start}"])
    assert "mid_channels=4" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bare_checkpoint_is_measured_as_the_same_weights_in_mmagics_layout(
    config: Path, tool: Tool, tmp_path: Path
) -> None:
    layouts = {
        "bare": weights(),
        "mmagic": {"state_dict": {f"generator.{k}": w for k, w in weights().items()}},
    }
    measured = {}
    for name, state in layouts.items():
        checkpoint, out = save(state, tmp_path / f"{name}.pth"), tmp_path / f"{name}.json"
        options = ["--cfg-options", f"experiment_name={name}"]
        tool("test").main([str(config), checkpoint, "--out", str(out), *options])
        measured[name] = json.loads(out.read_text())["Set5"]["PSNR"]
    assert measured["bare"] == measured["mmagic"]


def test_a_network_that_mmagics_class_does_not_compute_is_refused_by_name(
    config: Path, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = {"srgan_plugin": {"activate_after_shuffle": True}}
    noted = {"state_dict": weights(activate_after_shuffle=True), "meta": note}
    with pytest.raises(SystemExit):
        tool("test").main([str(config), save(noted, tmp_path / "noted.pth")])
    assert "set model.generator.type=srgan_plugin.MSRResNet" in capsys.readouterr().err


@pytest.mark.slow
def test_mmagics_model_with_averaged_weights_is_told_to_test_the_others(
    config: Path, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {f"generator.{k}": w for k, w in weights().items()}
    state |= {f"generator_ema.{k}": w * 0 for k, w in weights().items()}
    out = tmp_path / "measured.json"
    checkpoint = save({"state_dict": state}, tmp_path / "averaged.pth")
    tool("test").main([str(config), checkpoint, "--out", str(out)])
    assert "BaseEditModel" in capsys.readouterr().err
    assert json.loads(out.read_text())["Set5"]["PSNR"] > 0


@pytest.mark.slow
def test_a_run_of_mmagics_config_saves_when_it_is_stopped_and_goes_on_by_resume(
    config: Path, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--cfg-options", "train_cfg.max_iters=6", "optim_wrapper.optimizer.lr=1e-3"]
    update, calls = OptimWrapper.update_params, itertools.count(1)

    def stopped(self: OptimWrapper, *args: Any, **kwargs: Any) -> None:
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        update(self, *args, **kwargs)

    monkeypatch.setattr(OptimWrapper, "update_params", stopped)
    with pytest.raises(SystemExit) as stop:
        tool("train").main([str(config), *options])
    assert stop.value.code == 128 + signal.SIGTERM
    work_dir = tmp_path / "work_dirs/run"
    assert (work_dir / "iter_3.pth").is_file()
    tool("train").main([str(config), "--resume", *options, f"experiment_name={tmp_path.name}_2"])
    assert next(calls) == 7  # three steps before, three after
    assert load_checkpoint_file(work_dir / "iter_6.pth")["meta"]["iter"] == 6


@pytest.mark.slow
def test_a_checkpoint_of_mmagics_own_tool_is_resumed_with_its_optimiser_state(
    config: Path, tool: Tool, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In MMagic's config, and in the one of this package with the same network."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "0")
    run_mmagic("train", [str(config), "--cfg-options", "train_cfg.max_iters=2"])
    (saved,) = (tmp_path / "work_dirs").rglob("iter_2.pth")
    before = load_checkpoint_file(saved)["optimizer"]["state"]
    assert {int(state["step"]) for state in before.values()} == {2}
    theirs = [str(config)]
    ours = [
        *(config_path("msrresnet_x4c64b16_g1_1000k_div2k.py"), "--cfg-options"),
        *("model.generator.mid_channels=8", "model.generator.num_blocks=1"),
        *("train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"),
        *("train_dataloader.batch_size=2", "train_dataloader.dataset.pipeline.0.gt_patch_size=48"),
        f"train_dataloader.dataset.gt={photographs / 'Set5/GTmod12'}",
    ]
    for name, (path, *options) in (("theirs", theirs), ("ours", ours)):
        forget_mmengine()
        out = tmp_path / name
        options = [*(options or ["--cfg-options"]), "train_cfg.max_iters=4"]
        if name == "theirs":
            options.append(f"default_hooks.checkpoint.out_dir={out}")
        tool("train").main([path, "--resume", str(saved), "--work-dir", str(out), *options])
        (resumed,) = out.rglob("iter_4.pth")
        checkpoint = load_checkpoint_file(resumed)
        after = checkpoint["optimizer"]["state"]
        assert {int(state["step"]) for state in after.values()} == {4}, name
        assert after.keys() == before.keys()
        assert checkpoint["meta"]["iter"] == 4
