"""A store that is cut while a training reads it is named by the process that survives."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from srgan_plugin.io.lmdb_writer import StoreWriter

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut there")
def test_a_store_that_is_cut_while_workers_read_it_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "x4").mkdir()
    for name, size in (("GT", 256), ("LRx4", 64)):
        with StoreWriter(tmp_path / "x4" / f"{name}.lmdb", "raw") as writer:
            for key in "abcd":
                writer.put(key, rng.integers(0, 256, (size, size, 3), np.uint8))
    options = [
        f"train_dataloader.dataset.gt={tmp_path / 'x4'}",
        "train_dataloader.dataset.pipeline.0.gt_patch_size=32",
        "train_dataloader.batch_size=2",
        "train_dataloader.num_workers=2",
        "model.generator.mid_channels=4",
        "model.generator.num_blocks=1",
        "default_hooks.logger.interval=1",
        "train_cfg.max_steps_per_hook_call=1",
        "val_dataloader=None",
        "val_cfg=None",
        "val_evaluator=None",
        "default_hooks.checkpoint.save_best=None",
    ]
    config = ROOT / "configs/msrresnet_x4c64b16_g1_1000k_div2k.py"
    command = [sys.executable, str(ROOT / "tools/train.py"), str(config)]
    work = tmp_path / "run"
    training = subprocess.Popen(
        [*command, "--work-dir", str(work), "--cfg-options", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        while not any(log.stat().st_size for log in work.glob("*/vis_data/scalars.json")):
            assert training.poll() is None, training.communicate()[1]
            time.sleep(0.05)
        os.truncate(tmp_path / "x4/GT.lmdb/data.mdb", 8192)
        _, said = training.communicate(timeout=60)
    finally:
        training.kill()
    last = said.strip().splitlines()[-1].lstrip("\0")  # with which torch ends its own message
    assert training.returncode == 1
    assert last.startswith("error: ")
    assert str(tmp_path / "x4/GT.lmdb") in last
    assert "8192" in last
