"""What the visualizer is shown of a validation."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.usefixtures("fresh_mmengine")
def test_a_validation_shows_lr_sr_and_gt_of_the_first_image_of_each_set(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    cfg = Config.fromfile(ROOT / "configs/msrresnet_x4c64b16_g1_1000k_div2k.py")
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path),
            "model.generator.mid_channels": 4,
            "model.generator.num_blocks": 1,
            "visualizer.vis_backends": [{"type": "LocalVisBackend"}],
        }
    )
    cfg.default_hooks.checkpoint = None
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
    Runner.from_cfg(cfg).val()
    names = {path.stem: path for path in (photographs / "Set5/GTmod12").iterdir()}
    (shown,) = tmp_path.rglob("vis_image/Set5_*.png")
    key = shown.stem.removeprefix("Set5_").rsplit("_", 1)[0]
    gt = cv2.imread(str(names[key]))
    lr = cv2.imread(str(photographs / "Set5/LRbicx4" / names[key].name))
    image = cv2.imread(str(shown))
    first, second, third = np.split(image, 3, axis=1)
    assert np.array_equal(first, lr.repeat(4, 0).repeat(4, 1))
    assert np.array_equal(third, gt)
    # Random weights add little to the bilinear skip.
    assert np.abs(second.astype(float) - cv2.resize(lr, gt.shape[1::-1])).mean() < 20
