"""The published configs at a size that trains in seconds, for tests."""

import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
SMALL_DISCRIMINATOR = {
    "model.discriminator.mid_channels": 4,
    "model.discriminator.input_size": 64,
    "model.perceptual_loss": None,
}


def small_config(name: str, gt: Path, work_dir: Path, iterations: int, **options: Any) -> Config:
    """A published config at a size that trains in seconds: 8 features, 2 blocks, GT 64."""
    cfg = Config.fromfile(ROOT / "configs" / name)
    options = {
        "model.generator.mid_channels": 8,
        "model.generator.num_blocks": 2,
        "train_dataloader.dataset.gt": str(gt),
        "train_dataloader.dataset.pipeline.0.gt_patch_size": 64,
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.pin_memory": False,
        "train_cfg.max_iters": iterations,
        "default_hooks.logger.interval": 1,
        "randomness": {"seed": 7},
        "work_dir": str(work_dir),
        **options,
    }
    cfg.merge_from_dict(options)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.save_best = None
    # One process trains several runs here; mmengine wants a name for each.
    cfg.experiment_name = f"{work_dir.name}_{work_dir.parent.name}"
    return cfg


def losses(work_dir: Path, name: str = "loss_pix") -> list[float]:
    """The curve of one loss from the run's log."""
    (log,) = sorted(work_dir.glob("*/vis_data/scalars.json"))[-1:]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line[name] for line in lines if name in line]
