"""Train a config: `python tools/train.py configs/srgan_x4c64b16_g1_1000k_div2k.py`."""

import argparse
import os
from pathlib import Path
from typing import Any

from srgan_plugin.command_line import add_config_options, command, load_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; the flags are MMagic's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="where logs and checkpoints go")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="FILE",
        help="go on from FILE, or without one from the newest checkpoint of the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the global batch over auto_scale_lr.base_batch_size",
    )
    add_config_options(parser)
    return parser.parse_args(argv)


def use_amp(optim_wrapper: Any) -> None:
    """Turn every `OptimWrapper` of the config into mmengine's `AmpOptimWrapper`."""
    wrappers = [optim_wrapper] if "optimizer" in optim_wrapper else optim_wrapper.values()
    for wrapper in wrappers:
        if isinstance(wrapper, dict) and wrapper.get("type", "OptimWrapper") != "AmpOptimWrapper":
            if wrapper.get("type", "OptimWrapper") != "OptimWrapper":
                raise ValueError(
                    f"--amp: expected type='OptimWrapper' in optim_wrapper, got "
                    f"{wrapper['type']!r}; leave --amp out or change the config"
                )
            wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")


@command
def main(argv: list[str] | None = None) -> None:
    """Build the runner and train."""
    args = parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg.optim_wrapper)
    if args.auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise ValueError(
                "--auto-scale-lr: the config says no auto_scale_lr.base_batch_size; "
                "add auto_scale_lr = dict(base_batch_size=16)"
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume
    if cfg.get("load_from") and "://" not in cfg.load_from and not Path(cfg.load_from).is_file():
        raise FileNotFoundError(f"load_from: there is no checkpoint at {cfg.load_from}")
    from mmengine.runner import Runner

    runner = Runner.from_cfg(cfg)
    runner.train()
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"checkpoints and logs: {cfg.work_dir}")


if __name__ == "__main__":
    main()
