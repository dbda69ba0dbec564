"""Configs from elsewhere: of MMEditing 0.x, of MMagic, and with what is not installed."""

import json
import pickle
import re
import runpy
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from srgan_plugin.cli.configs import _MMEDITING_KEYS, _VIS_BACKENDS, read_config
from srgan_plugin.data.resize import make_lr
from srgan_plugin.errors import UserError
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image
from tests.conftest import ROOT, image

pytestmark = pytest.mark.usefixtures("fresh_mmengine")
Tool = Callable[[str], ModuleType]
MSRRESNET = ROOT / "configs/msrresnet_x4c64b16_g1_1000k_div2k.py"

# The essence of MMEditing 0.16's configs/restorers/srresnet_srgan.
MMEDITING = """
scale = {scale}
model = dict(
    type='{kind}',
    generator=dict(type='MSRResNet', in_channels=3, out_channels=3, upscale_factor=scale),
    {discriminator}
    pixel_loss=dict(type='L1Loss', loss_weight=1.0, reduction='mean'))
train_cfg = None
test_cfg = dict(metrics=['PSNR', 'SSIM'], crop_border=scale)
train_pipeline = [dict(type='LoadImageFromFile', io_backend='disk', key='lq', flag='unchanged')]
data = dict(workers_per_gpu=8, train_dataloader=dict(samples_per_gpu=16), train=dict(type='X'))
optimizers = dict(generator=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)))
total_iters = 300000
lr_config = dict(policy='CosineRestart', by_epoch=False, periods=[250000], min_lr=1e-7)
checkpoint_config = dict(interval=5000, save_optimizer=True, by_epoch=False)
evaluation = dict(interval=5000, save_image=True, gpu_collect=True)
"""
TOOLS = ("train", "test", "analysis_tools/print_config", "analysis_tools/browse_dataset")


def refusal(tool: Tool, name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        tool(name).main(arguments)
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    ("kind", "scale", "ours"),
    [
        ("BasicRestorer", 4, "msrresnet_x4c64b16"),
        ("SRGAN", 4, "srgan_x4c64b16"),
        ("BasicRestorer", 2, "msrresnet_x2c64b16"),
    ],
)
def test_a_config_of_mmediting_is_recognised_and_answered_with_ours(
    tool: Tool,
    tmp_path: Path,
    name: str,
    kind: str,
    scale: int,
    ours: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "old.py"
    discriminator = "discriminator=dict(type='ModifiedVGG')," if kind == "SRGAN" else ""
    path.write_text(MMEDITING.format(kind=kind, scale=scale, discriminator=discriminator))
    arguments = [str(path), *(["none"] if name == "test" else [])]
    line = refusal(tool, name, arguments, capsys)
    assert str(path) in line
    assert "MMEditing 0.x" in line
    (named,) = [word for word in line.split() if word.startswith("configs/")]
    assert named.startswith(f"configs/{ours}")
    assert (ROOT / named).is_file()


def translation(tmp_path: Path, number: int) -> tuple[dict[str, Any], Any]:
    """Return a config of MMEditing 0.x in the documents, which is refused, and its translation."""
    page = (ROOT / "docs/from-mmagic.md").read_text()
    _, section, *_ = re.split(r"^## A config of MMEditing 0\.x$", page, flags=re.M)
    assert [key for key in _MMEDITING_KEYS if f"`{key}" not in section] == []
    blocks = re.findall(r"```python\n(.*?)```", section, re.S)[2 * number : 2 * number + 2]
    old, new = (tmp_path / f"{name}.py" for name in ("old", "new"))
    for path, block in zip((old, new), blocks, strict=True):
        path.write_text(block)
    with pytest.raises(UserError, match=r"from-mmagic\.md#a-config-of-mmediting-0x ") as refused:
        read_config(old)
    base = re.search(r"config_path\('(.+?)'\)", blocks[1])
    assert base
    assert f"configs/{base[1]}" in str(refused.value)
    return runpy.run_path(str(old)), read_config(new)


def test_the_example_of_an_srgan_of_mmediting_is_refused_and_its_translation_is_equivalent(
    tmp_path: Path,
) -> None:
    before, after = translation(tmp_path, 1)
    for name in ("generator", "discriminator", "pixel_loss", "perceptual_loss", "gan_loss"):
        for key, value in before["model"][name].items():
            expected = {"conv5_4": 1.0} if key == "layer_weights" else value  # '34' of MMEditing
            assert after.model[name][key] == expected, f"{name}.{key}"
    assert after.model.train_cfg.disc_steps == before["train_cfg"]["disc_steps"]
    for name, optimizer in before["optimizers"].items():
        assert {**after.optim_wrapper[name].optimizer, **optimizer} == (
            after.optim_wrapper[name].optimizer
        )
    assert after.param_scheduler.milestones == before["lr_config"]["step"]
    assert after.param_scheduler.gamma == before["lr_config"]["gamma"]
    assert after.train_cfg.max_iters == before["total_iters"]
    assert after.load_from == before["load_from"]


def test_the_example_of_a_config_of_mmediting_is_refused_and_its_translation_is_equivalent(
    tmp_path: Path,
) -> None:
    before, after = translation(tmp_path, 0)
    data, generator = before["data"], before["model"]["generator"]
    folders = data["train"]["dataset"]
    assert {**after.model.generator, **generator} == after.model.generator
    assert after.model.pixel_loss == before["model"]["pixel_loss"]
    assert after.optim_wrapper.optimizer == before["optimizers"]["generator"]
    assert after.param_scheduler.milestones == before["lr_config"]["step"]
    assert after.param_scheduler.gamma == before["lr_config"]["gamma"]
    assert after.train_cfg.max_iters == before["total_iters"]
    assert after.train_cfg.val_interval == before["evaluation"]["interval"]
    assert after.default_hooks.checkpoint.interval == before["checkpoint_config"]["interval"]
    assert after.default_hooks.logger.interval == before["log_config"]["interval"]
    assert after.train_dataloader.num_workers == data["workers_per_gpu"]
    assert after.train_dataloader.batch_size == data["train_dataloader"]["samples_per_gpu"]
    for name, old_name in (("gt", "gt_folder"), ("lr", "lq_folder"), ("ann_file", "ann_file")):
        assert after.train_dataloader.dataset[name] == folders[old_name]


@pytest.mark.parametrize("kind", _VIS_BACKENDS)
@pytest.mark.parametrize("name", ["train", "test"])
def test_a_backend_whose_package_is_missing_is_answered_with_the_command(
    tool: Tool,
    tmp_path: Path,
    name: str,
    kind: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = list(_VIS_BACKENDS[kind])
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(
        "srgan_plugin.cli.configs.find_spec",
        lambda module: None if module in modules else find_spec(module),
    )
    backends = f"[dict(type='LocalVisBackend'), dict(type='{kind}')]"
    config = tmp_path / "config.py"
    config.write_text(f"_base_ = {str(MSRRESNET)!r}\nvisualizer = dict(vis_backends={backends})\n")
    line = refusal(tool, name, [str(config), *(["none"] if name == "test" else [])], capsys)
    assert kind in line
    assert f"pip install {' '.join(_VIS_BACKENDS[kind].values())}" in line


def test_every_backend_of_mmengine_that_needs_a_package_is_in_the_table() -> None:
    from mmengine.registry import VISBACKENDS

    theirs = {n for n, c in VISBACKENDS.module_dict.items() if c.__module__.startswith("mmengine.")}
    assert theirs - {"LocalVisBackend"} == set(_VIS_BACKENDS)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test sets of images as large as NIQE needs them."""
    root = tmp_path_factory.mktemp("large")
    for folder, count in (("Set5", 2), ("Set14", 1)):
        for kind in ("GTmod12", "LRbicx4"):
            (root / folder / kind).mkdir(parents=True)
        for n in range(count):
            name = f"{n}.png"
            rng = np.random.default_rng(n)
            noise = rng.normal(0, 12, (192, 204, 3))
            noisy = np.clip(image(192, 204, seed=n) + noise, 0, 255).astype(np.uint8)
            write_image(root / folder / "GTmod12" / name, noisy)
            write_image(root / folder / "LRbicx4" / name, make_lr(noisy, 4))
    return root


def test_dumps_and_measures_of_other_toolboxes_stand_beside_ours(
    mmagic: ModuleType, tool: Tool, large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`DumpResults` has no prefix, NIQE another order by default; each set has its own dump."""
    from mmagic.evaluation.metrics.niqe import niqe

    cfg = Config.fromfile(ROOT / "configs/bicubic_x4.py")
    cfg.test_dataloader = cfg.test_dataloader[:2]
    for loader in cfg.test_dataloader:
        loader.dataset.data_root, loader.num_workers = str(large), 0
        loader.persistent_workers = False
    cfg.test_evaluator = [
        {"type": "BenchmarkMetric"},
        {"type": "mmagic.NIQE"},
        {"type": "DumpResults", "out_file_path": str(tmp_path / "dump.pkl")},
    ]
    cfg.dump(tmp_path / "config.py")
    arguments = [str(tmp_path / "config.py"), "none", "--out", "out.json", "--save-images", "saved"]
    tool("test").main(arguments)
    head = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("set "))
    assert head.split() == ["set", "PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "SSIM_B", "NIQE"]
    measured = json.loads(Path("out.json").read_text())
    saved = read_image("saved/Set14/0.png")[..., ::-1]
    expected = niqe(saved, 0, "HWC", "gray")
    assert measured["Set14"]["NIQE"] == pytest.approx(expected, rel=0.05)  # of floats, not of 8 bit
    for name, count in (("Set5", 2), ("Set14", 1)):
        assert len(pickle.loads((tmp_path / f"dump_{name}.pkl").read_bytes())) == count


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_browsing_a_config_of_mmagics_writes_its_samples_in_their_colours(
    mmagic: ModuleType, tool: Tool, large: Path, tmp_path: Path, order: str
) -> None:
    folder = ".mim/configs/srgan_resnet"
    name = "msrresnet_x4c64b16_1xb16-1000k_div2k.py"
    cfg = Config.fromfile(Path(mmagic.__file__).parent / folder / name)
    cfg.test_dataloader = cfg.test_dataloader[:1]
    dataset = cfg.test_dataloader[0].dataset
    dataset.data_root = str(large / "Set5")
    for step in dataset.pipeline[:2]:
        step.channel_order = order
    cfg.dump(tmp_path / "config.py")
    tool("analysis_tools/browse_dataset").main(
        [str(tmp_path / "config.py"), "--phase", "test", "--output-dir", "out", "--number", "1"]
    )
    (written,) = Path("out").iterdir()
    gt = read_image(large / "Set5/GTmod12/0.png")
    assert np.array_equal(read_image(written)[:, gt.shape[1] :], gt)


def handed_on(model: str, preprocessor: str) -> object:
    """What a model of either toolbox hands to a visualizer, from the same weights."""
    from mmagic.structures import DataSample

    from srgan_plugin.registry import MODELS

    torch.manual_seed(0)
    generator = {"type": "srgan_plugin.MSRResNet", "mid_channels": 4, "num_blocks": 1}
    built = MODELS.build(
        {
            "type": model,
            "generator": generator,
            "pixel_loss": {"type": "srgan_plugin.L1Loss"},
            "data_preprocessor": {"type": preprocessor, "mean": [0.0] * 3, "std": [255.0] * 3},
        }
    )
    colours = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None]
    notes = {"img_channel_order": "RGB", "gt_channel_order": "RGB", "gt_path": "a/b.png"}
    sample = DataSample(gt_img=colours.expand(3, 24, 32), metainfo=notes)
    data = {"inputs": [colours.expand(3, 6, 8)], "data_samples": [sample]}
    with torch.no_grad():
        return built.eval().test_step(data)[0]


@pytest.mark.parametrize("model", ["srgan_plugin.SRModel", "mmagic.BaseEditModel"])
@pytest.mark.parametrize("preprocessor", ["srgan_plugin", "mmagic"])
def test_mmagics_visualizer_draws_lr_prediction_and_gt(
    mmagic: ModuleType, tmp_path: Path, model: str, preprocessor: str
) -> None:
    from mmagic.visualization import ConcatImageVisualizer

    sample = handed_on(model, f"{preprocessor}.DataPreprocessor")
    expected = handed_on("mmagic.BaseEditModel", "mmagic.DataPreprocessor")
    torch.testing.assert_close(sample.input, expected.input)
    torch.testing.assert_close(sample.output.pred_img, expected.output.pred_img)
    visualizer = ConcatImageVisualizer(
        "gt_path",
        ["input", "pred_img", "gt_img"],
        vis_backends=[{"type": "LocalVisBackend"}],
        bgr2rgb=True,
        save_dir=str(tmp_path),
    )
    visualizer.add_datasample(sample)
    (drawn,) = tmp_path.rglob("*.png")
    panels = cv2.imread(str(drawn))[..., ::-1]
    assert panels.shape == (24, 8 + 32 + 32, 3)
    assert panels[0, 0].tolist() == panels[0, -1].tolist() == [200, 100, 50]


MODELS_THERE = {
    "MMagic's": {},
    "our model and preprocessor": {
        "model.type": "srgan_plugin.SRGAN",
        "model.data_preprocessor.type": "srgan_plugin.DataPreprocessor",
    },
    "our packing": {"test_pipeline.1.type": "srgan_plugin.PackInputs"},
}


@pytest.mark.parametrize("parts", MODELS_THERE)
def test_mmagics_inferencer_predicts_from_the_bundled_weights(
    mmagic: ModuleType, large: Path, tmp_path: Path, parts: str
) -> None:
    from mmagic.apis import MMagicInferencer

    from srgan_plugin.checkpoints.detect import open_network
    from srgan_plugin.checkpoints.hub import local_checkpoint

    folder = Path(mmagic.__file__).parent / ".mim/configs/srgan_resnet"
    cfg = Config.fromfile(folder / "msrresnet_x4c64b16_1xb16-1000k_div2k.py")
    load = {"type": "mmagic.LoadImageFromFile", "key": "img", "channel_order": "rgb"}
    cfg.test_pipeline = [load, {"type": "mmagic.PackInputs"}]
    cfg.merge_from_dict(MODELS_THERE[parts])
    low = read_image(large / "Set5/LRbicx4/0.png")[:20, :24]
    write_image(tmp_path / "low.png", low)
    weights = str(local_checkpoint("msrresnet"))
    inferencer = MMagicInferencer("srgan_resnet", model_config=cfg, model_ckpt=weights)
    inferencer.infer(img=str(tmp_path / "low.png"), result_out_dir=str(tmp_path / "high.png"))
    with torch.no_grad():
        batch = torch.from_numpy(low.copy()).permute(2, 0, 1)[None] / 255
        sr = open_network(weights)(batch)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    written = read_image(tmp_path / "high.png").astype(float)
    assert np.abs(written - sr * 255).max() < 1.01
