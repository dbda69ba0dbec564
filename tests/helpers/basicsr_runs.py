"""Options for short runs of BasicSR, and what calls its tools on them."""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

Run = Callable[..., str]


def forget_logger() -> None:
    """BasicSR keeps one logger per process, with the stream of whichever test came first."""
    logging.getLogger("basicsr").handlers.clear()
    importlib.import_module("basicsr.utils.logger").initialized_logger.clear()


def options(name: str, data: Path, **train: Any) -> dict[str, Any]:
    """A YAML of ours at a size that trains in a second."""
    opt: dict[str, Any] = yaml.safe_load((ROOT / "configs/basicsr" / name).read_text())
    opt["num_gpu"] = 0
    opt["network_g"] |= {"num_feat": 8, "num_block": 1}
    if "train" in opt:
        opt["datasets"]["train"] |= {
            "dataroot_gt": str(data / "train"),
            "gt_size": 64,
            "num_worker_per_gpu": 0,
            "batch_size_per_gpu": 2,
            "dataset_enlarge_ratio": 1,
        }
        opt["datasets"]["val"] |= {
            "dataroot_gt": str(data / "Set5/GTmod12"),
            "dataroot_lq": str(data / "Set5/LRbicx4"),
        }
        opt["train"] |= {"total_iter": 4, "warmup_iter": -1, **train}
        opt["val"]["val_freq"] = 4
        opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 2}
        opt["path"]["pretrain_network_g"] = None
    if "network_d" in opt:
        opt["network_d"] |= {"num_feat": 4, "input_size": 64}
    return opt
