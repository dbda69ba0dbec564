"""Parts of ours in MMagic's own config, run by MMagic's own tools, judged by the final metric.

The pictures are as large as the crop and flips are certain or excluded, so that a run of three
iterations ends with the same numbers whoever made its parts.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
import torch
from mmengine.config import Config

from srgan_plugin.__main__ import main
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.data.resize import make_lr
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image
from tests.conftest import image

CONFIG = ".mim/configs/srgan_resnet/srgan_x4c64b16_1xb16-1000k_div2k.py"
HR, LR = "DIV2K/DIV2K_train_HR_sub", "DIV2K/DIV2K_train_LR_bicubic/X4_sub"
Train = Callable[..., dict[str, float]]
Launch = Callable[[list[str]], None]


def mmagics_tool(arguments: list[str]) -> None:
    """MMagic's own `tools/train.py`."""
    main(["mmagic", "train", *arguments])


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What MMagic's config looks for, in small, and the training set as an LMDB store of ours."""
    root = tmp_path_factory.mktemp("data")
    sizes = {HR: [(128, 128)] * 4, "Set14/GTmod12": [(72, 48), (60, 72)]}
    for (gt, shapes), lr in zip(sizes.items(), (LR, "Set14/LRbicx4"), strict=True):
        for folder in (gt, lr):
            (root / folder).mkdir(parents=True)
        for i, shape in enumerate(shapes):
            cv2.imwrite(str(root / gt / f"{i:04d}.png"), image(*shape, seed=i))
            small = make_lr(read_image(root / gt / f"{i:04d}.png"), 4)
            write_image(root / lr / f"{i:04d}.png", small)
    names = "".join(f"{i:04d}.png (128,128,3)\n" for i in range(4))
    (root / "DIV2K/meta_info_DIV2K800sub_GT.txt").write_text(names)
    create_store(root / HR, root / "store", lr_dir=root / LR, layout="raw", workers=1)
    return root


@pytest.fixture(scope="module")
def start(mmagic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of both networks, because the order in which they draw their weights differs."""
    from mmagic.models.editors.srgan import ModifiedVGG, MSRResNet

    torch.manual_seed(0)
    networks = {"generator": MSRResNet(3, 3, 8, 1), "discriminator": ModifiedVGG(3, 4)}
    state = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("start") / "start.pth"
    torch.save({"state_dict": state}, path)
    return path


@pytest.fixture
def train(
    mmagic: ModuleType,
    data_root: Path,
    start: Path,
    random_vgg: Path,
    tmp_path: Path,
    fresh_mmengine: None,
) -> Train:
    """MMagic's `tools/train.py` on MMagic's config, small; returns the last validation."""
    reference = Path(mmagic.__file__).parent / CONFIG

    def run(
        name: str, swaps: dict[str, Any], iterations: int = 3, launch: Launch = mmagics_tool
    ) -> dict[str, float]:
        work_dir = tmp_path / name.replace(" ", "_")
        cfg = Config.fromfile(reference)
        cfg.merge_from_dict(
            {
                "experiment_name": work_dir.name,
                "load_from": str(start),
                "model.generator.mid_channels": 8,
                "model.generator.num_blocks": 1,
                "model.discriminator.mid_channels": 4,
                "model.perceptual_loss.layer_weights": {"7": 1.0, "_delete_": True},
                "train_dataloader.num_workers": 0,
                "train_dataloader.batch_size": 2,
                "train_dataloader.dataset.data_root": str(data_root / "DIV2K"),
                "train_dataloader.dataset.pipeline.4.flip_ratio": 1.0,
                "train_dataloader.dataset.pipeline.5.flip_ratio": 0.0,
                "train_dataloader.dataset.pipeline.6.transpose_ratio": 1.0,
                "val_dataloader.num_workers": 0,
                "val_dataloader.dataset.data_root": str(data_root / "Set14"),
                "optim_wrapper.generator.optimizer.lr": 1e-3,
                "train_cfg.max_iters": iterations,
                "train_cfg.val_interval": iterations,
                "default_hooks.checkpoint.out_dir": str(tmp_path),
                "randomness": {"seed": 3},
            }
        )
        cfg.merge_from_dict(swaps)
        if OURS in cfg.model.type + cfg.model.perceptual_loss.type:
            cfg.model.perceptual_loss.pretrained = str(random_vgg)
        cfg.dump(tmp_path / "config.py")
        launch([str(tmp_path / "config.py"), "--work-dir", str(work_dir)])
        (scalars,) = work_dir.glob("*/vis_data/scalars.json")
        lines = [json.loads(line) for line in scalars.read_text().splitlines()]
        return next(line for line in reversed(lines) if "PSNR" in line)

    return run


@pytest.fixture
def expected(train: Train, _cached: dict[str, float]) -> dict[str, float]:
    """What MMagic alone ends with."""
    if not _cached:
        _cached.update(train("mmagic alone", {}))
    return _cached


@pytest.fixture(scope="module")
def _cached() -> dict[str, float]:
    return {}


OURS = "srgan_plugin."
PIPELINE = "train_dataloader.dataset.pipeline"
STORE_PIPELINE = [
    {"type": "LoadPair"},
    {"type": "mmagic.Flip", "keys": ["img", "gt"], "flip_ratio": 1.0},
    {"type": "mmagic.RandomTransposeHW", "keys": ["img", "gt"], "transpose_ratio": 1.0},
    {"type": "mmagic.PackInputs"},
]


def store_at(root: Path, value: Any) -> Any:
    """Fill in where the store lies."""
    return {**value, "gt": str(root / "store")} if isinstance(value, dict) else value


# Each part of MMagic's config that is ours in turn, by a prefix.
SWAPS: dict[str, dict[str, Any]] = {
    "generator": {"model.generator.type": OURS + "MSRResNet"},
    "discriminator": {"model.discriminator.type": OURS + "ModifiedVGG"},
    "pixel loss": {"model.pixel_loss.type": OURS + "L1Loss"},
    "perceptual loss": {"model.perceptual_loss.type": OURS + "PerceptualLoss"},
    "GAN loss": {"model.gan_loss.type": OURS + "GANLoss"},
    "preprocessor": {"model.data_preprocessor.type": OURS + "DataPreprocessor"},
    "transforms": {
        f"{PIPELINE}.{step}.type": OURS + name
        for step, name in enumerate(
            ("PairedRandomCrop", "Flip", "Flip", "RandomTransposeHW", "PackInputs"), start=3
        )
    },
    "whole model": {"model.type": OURS + "SRGAN"},
    "whole model, MMagic's preprocessor": {
        "model.type": OURS + "SRGAN",
        "model.data_preprocessor.type": "mmagic.DataPreprocessor",
    },
    "LMDB dataset": {
        "train_dataloader.dataset": {
            "type": OURS + "PairedImageDataset",
            "gt": "",
            "pipeline": STORE_PIPELINE,
            "_delete_": True,
        }
    },
    "metrics": {
        "val_evaluator.metrics.1.type": OURS + "PSNR",
        "val_evaluator.metrics.1.rounding": False,
        "val_evaluator.metrics.2.type": OURS + "SSIM",
        "val_evaluator.metrics.2.rounding": False,
    },
}
SWAPS["all together"] = {key: value for swap in SWAPS.values() for key, value in swap.items()}
SWAPS["all together"]["model.data_preprocessor.type"] = OURS + "DataPreprocessor"
for _step in range(3, 8):
    del SWAPS["all together"][f"{PIPELINE}.{_step}.type"]


@pytest.mark.slow
@pytest.mark.parametrize("part", SWAPS)
def test_a_run_with_this_part_of_ours_ends_with_mmagics_numbers(
    train: Train, expected: dict[str, float], data_root: Path, part: str
) -> None:
    assert expected["PSNR"] < 60
    measured = train(part, {k: store_at(data_root, v) for k, v in SWAPS[part].items()})
    for name in ("PSNR", "SSIM", "MAE"):
        assert measured[name] == pytest.approx(expected[name], abs=1e-4)


@pytest.mark.slow
def test_our_tools_run_mmagics_own_config_with_its_numbers(
    train: Train,
    expected: dict[str, float],
    data_root: Path,
    tool: Callable[[str], ModuleType],
    tmp_path: Path,
) -> None:
    measured = train("by our tool", {}, launch=tool("train").main)
    assert measured["PSNR"] == pytest.approx(expected["PSNR"], abs=1e-4)
    config, tested = tmp_path / "config.py", tmp_path / "tested.json"
    cfg = Config.fromfile(config)
    set14 = cfg.test_dataloader[1]
    set14.dataset.data_root, set14.num_workers = str(data_root / "Set14"), 0
    cfg.test_dataloader, cfg.test_evaluator = [set14], cfg.test_evaluator[1:2]
    cfg.dump(config)
    tool("test").main([str(config), str(tmp_path / "by_our_tool/iter_3.pth"), "--out", str(tested)])
    scores = json.loads(tested.read_text())["Set14"]
    assert scores["PSNR"] == pytest.approx(expected["PSNR"], abs=1e-4)
    assert scores["SSIM"] == pytest.approx(expected["SSIM"], abs=1e-4)
