"""Every option that the documents name for training is one that the config or its parts read."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import scheduler

from srgan_plugin.cli.cfg_options import apply_cfg_options
from srgan_plugin.cli.configs import read_config
from srgan_plugin.errors import UserError
from tests.test_tools import tool

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ("srgan_x4c64b16_g1_1000k_div2k.py", "msrresnet_x4c64b16_g1_1000k_div2k.py")


def options() -> list[tuple[str, str]]:
    """Config and option of each cell of the table."""
    text = (ROOT / "docs/training.md").read_text()
    rows = [line.split("|")[2:4] for line in text.splitlines() if line.startswith("| ")]
    found = []
    for srgan, msrresnet in rows[1:]:
        cells = (srgan, srgan if "the same" in msrresnet else msrresnet)
        for config, cell in zip(CONFIGS, cells, strict=True):
            quoted = re.findall(r"`([\w.]+=[^`]+)`", cell)
            found += [(config, option.replace('"', "")) for option in quoted]
    return found


@pytest.mark.parametrize("config", CONFIGS)
def test_each_option_of_the_documents_changes_the_config(config: str) -> None:
    named = [option for other, option in options() if other == config]
    assert len(named) >= 20
    cfg = read_config(ROOT / "configs" / config, named)
    for option in named:
        node = cfg
        for part in option.partition("=")[0].split("."):
            node = node[int(part)] if part.isdecimal() else node[part]
        assert node not in (None, ""), option


@pytest.mark.usefixtures("fresh_mmengine")
@pytest.mark.parametrize("config", CONFIGS)
def test_a_training_with_all_of_these_options_runs(
    config: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    small = [
        *("model.generator.mid_channels=4", "model.generator.num_blocks=1", "load_from=None"),
        *("train_dataloader.dataset.pipeline.0.gt_patch_size=32", "train_dataloader.batch_size=2"),
        *("train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"),
        *(
            "train_cfg.max_iters=1",
            "model.compile=False",
            f"train_dataloader.dataset.gt={photographs}/train",
        ),
    ]
    if "srgan" in config:
        small += ["model.discriminator.mid_channels=4", "model.discriminator.input_size=32"]
        small += ["model.perceptual_loss=None"]
    named = [
        option for other, option in options() if other == config and "perceptual" not in option
    ]
    tool("train").main(
        [str(ROOT / "configs" / config), "--work-dir", "run", "--cfg-options", *named, *small]
    )
    assert Path("run/iter_1.pth").is_file()


@pytest.mark.usefixtures("fresh_mmengine")
def test_the_config_of_srgan_x2_in_the_documents_trains(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    text = (ROOT / "docs/training.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    config = tmp_path / "srgan_x2.py"
    config.write_text(block.replace("'./", f"'{ROOT}/configs/"))
    small = [
        *("model.generator.mid_channels=4", "model.generator.num_blocks=1", "load_from=None"),
        *("model.discriminator.mid_channels=4", "model.discriminator.input_size=64"),
        *("model.perceptual_loss=None", "train_dataloader.batch_size=2"),
        *("train_dataloader.dataset.pipeline.0.gt_patch_size=64", "train_cfg.max_iters=1"),
        *("train_dataloader.num_workers=0", f"train_dataloader.dataset.gt={photographs}/train"),
        "train_dataloader.persistent_workers=False",
        "test_dataloader.0.num_workers=0",
    ]
    cfg = read_config(config, [])
    assert cfg.train_dataloader.dataset.scale == cfg.model.generator.upscale_factor == 2
    assert {loader.dataset.scale for loader in cfg.test_dataloader + cfg.val_dataloader} == {2}
    tool("train").main([str(config), "--work-dir", "run", "--cfg-options", *small])
    state = torch.load("run/iter_1.pth", weights_only=False)["state_dict"]
    assert state["generator.conv_last.weight"].shape[0] == 3
    assert not any("upsample2" in key for key in state)  # x4 has two


def last_rate(cfg: Any) -> float:
    """Return the learning rate of the last step, from mmengine's own scheduler."""
    settings = dict(cfg.param_scheduler)
    wrapper = cfg.optim_wrapper.get("generator", cfg.optim_wrapper)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=wrapper.optimizer.lr)
    kind = getattr(scheduler, settings.pop("type"))
    schedule = kind(optimizer, end=cfg.train_cfg.max_iters, **settings)
    for _ in range(cfg.train_cfg.max_iters - 1):
        optimizer.step()
        schedule.step()
    return float(optimizer.param_groups[0]["lr"])


def test_the_shorter_trainings_of_the_documents_end_at_the_rates_that_are_stated() -> None:
    text = (ROOT / "docs/training.md").read_text()
    section = text.partition("## A shorter or longer training")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    rows = re.findall(r"^\| \w+, from (\S+) \| (\S+) \| (\S+) \|", section, re.MULTILINE)
    commands = block.replace("\\\n", "").splitlines()
    for command, (first, low, high) in zip(commands, rows, strict=True):
        config, (_, *named) = command.split()[2], shlex.split(command.partition("--cfg")[2])
        cfg = read_config(ROOT / config, named)
        assert cfg.train_cfg.max_iters == 100_000
        wrapper = cfg.optim_wrapper.get("generator", cfg.optim_wrapper)
        assert wrapper.optimizer.lr == float(first)
        assert last_rate(cfg) == pytest.approx(float(low), rel=1e-3)
        alone = read_config(ROOT / config, ["train_cfg.max_iters=100000"])
        assert last_rate(alone) == pytest.approx(float(high), rel=1e-2)
        assert float(low) < float(first) / 10 < float(high)


@pytest.mark.parametrize("text", ["{'relu2_2': 1.0}", "{'relu2_2': 0.5, 'relu3_1': 0.5}"])
def test_a_dict_on_the_command_line_replaces_that_of_the_config(text: str) -> None:
    key = "model.perceptual_loss.layer_weights"
    cfg = read_config(ROOT / "configs" / CONFIGS[0], [f"{key}={text}", "model.pixel_loss=None"])
    assert cfg.model.perceptual_loss.layer_weights == ast.literal_eval(text)
    assert cfg.model.pixel_loss is None
    new = read_config(ROOT / "configs" / CONFIGS[0], [f"model.generator.more={text}"])
    assert new.model.generator.more == ast.literal_eval(text)
    with pytest.raises(UserError, match=f"{key}: expected a dict"):
        read_config(ROOT / "configs" / CONFIGS[0], [f"{key}={{'relu2_2'"])


def test_a_list_of_dicts_on_the_command_line_is_one_and_not_a_string() -> None:
    cfg = Config({"custom_hooks": []})
    apply_cfg_options(cfg, ["custom_hooks=[{'type': 'EMAHook'}]"])
    assert cfg.custom_hooks[0].type == "EMAHook"
    with pytest.raises(UserError, match="custom_hooks: expected a list of Python"):
        apply_cfg_options(cfg, ["custom_hooks=[{'type': 'EMAHook']"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["param_scheduler.0={'type':'B','end':5}"], {"type": "B", "end": 5}),
        (["param_scheduler.0.more={'x':1}"], {"type": "A", "gamma": 1, "more": {"x": 1}}),
        (["param_scheduler.0={'type':'B'}", "param_scheduler.0.end=5"], {"type": "B", "end": 5}),
        (["param_scheduler.0.gamma=2"], {"type": "A", "gamma": 2, "more": {"y": 1}}),
    ],
)
def test_a_dict_on_the_command_line_replaces_one_in_a_list(
    options: list[str], expected: dict[str, Any]
) -> None:
    old, other = {"type": "A", "gamma": 1, "more": {"y": 1}}, {"type": "C", "gamma": 1}
    cfg = Config({"param_scheduler": [old, other]})
    apply_cfg_options(cfg, options)
    assert cfg.to_dict()["param_scheduler"] == [expected, other]
    assert cfg.param_scheduler[0].type == expected["type"]
