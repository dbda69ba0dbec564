"""Train a config: `python tools/train.py configs/srgan_x4c64b16_g1_1000k_div2k.py`."""

import argparse
import os
from contextlib import nullcontext
from typing import Any

from srgan_plugin.cli.configs import (
    add_config_options,
    check_resumable,
    load_config,
    require_settings,
)
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.terminal import write_note
from srgan_plugin.errors import MissingFileError, UserError, prefix_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; flags shared with MMagic keep their names."""
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of logs and checkpoints")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="FILE",
        help="resume FILE, or without FILE the newest checkpoint of the work dir",
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        const="auto",
        choices=["auto", "bfloat16", "float16"],
        help="mixed precision; auto is bfloat16 if the device has it, else float16, and on a CPU "
        "float32 if bfloat16 is not faster",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate by the global batch over auto_scale_lr.base_batch_size",
    )
    add_config_options(parser)
    return parser.parse_args(argv)


def amp_is_faster() -> bool:
    """Return whether mixed precision is faster: on a GPU, or by measurement on a CPU."""
    import torch

    from srgan_plugin.inference.precision import bfloat16_speedup, choose_dtype

    device = torch.device("cpu")
    # Results of measurements may differ between processes.
    if torch.cuda.is_available() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return True
    if choose_dtype("auto", device) == torch.bfloat16:
        return True
    write_note(
        f"--amp: a convolution in bfloat16 is {bfloat16_speedup(device):.1f} times as fast as in "
        "float32 on this processor: training in float32; use --amp bfloat16 for bfloat16"
    )
    return False


def use_amp(optim_wrapper: Any, dtype: str | None) -> None:
    """Replace every `OptimWrapper` in the config by an `AmpOptimWrapper`."""
    wrappers = [optim_wrapper] if "optimizer" in optim_wrapper else optim_wrapper.values()
    for wrapper in wrappers:
        if not isinstance(wrapper, dict):
            continue
        if (kind := wrapper.get("type", "OptimWrapper")) not in ("OptimWrapper", "AmpOptimWrapper"):
            raise UserError(
                f"--amp: expected type='OptimWrapper' in optim_wrapper, got {kind!r}; "
                "remove --amp or change the config"
            )
        wrapper.update(type="AmpOptimWrapper", **({"dtype": dtype} if dtype else {}))


def check_start(generator: Any, location: str) -> None:
    """Raise `UserError` if the weights match, but are of a network with another function."""
    from srgan_plugin.checkpoints import generator_changes, load_checkpoint_file
    from srgan_plugin.checkpoints.hub import is_fetched_here, local_checkpoint
    from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS

    if generator is None or not is_fetched_here(location):
        return
    path = local_checkpoint(location)
    checkpoint = load_checkpoint_file(path)
    with prefix_errors(path):
        changes = generator_changes(generator, checkpoint)
    if wrong := ", ".join(
        f"{name}={changes[name]!r}" for name in NON_INFERABLE_ARGS if name in changes
    ):
        raise UserError(
            f"load_from: expected a network as in the config, got one with {wrong} in {path}; set "
            f"{wrong} in the config, or start from another checkpoint"
        )


def scale_lr(cfg: Any) -> None:
    """Enable mmengine's scaling of the learning rate by the global batch size."""
    scaling = cfg.get("auto_scale_lr")
    if not isinstance(scaling, dict) or "base_batch_size" not in scaling:
        raise UserError(
            "--auto-scale-lr: expected auto_scale_lr = dict(base_batch_size=16) in the config, "
            f"got {scaling!r}"
        )
    scaling["enable"] = True


def choose_checkpoint(cfg: Any, resume: str | None) -> None:
    """Set `resume` and `load_from` by `--resume`, and refuse a file that cannot be used."""
    from srgan_plugin.checkpoints.hub import is_fetched_here, local_checkpoint
    from srgan_plugin.hosts.mmengine.engine.checkpoint_files import newest_checkpoint

    if resume:
        newest = newest_checkpoint(cfg.work_dir) if resume == "auto" else resume
        # Without a checkpoint the run starts from load_from, as it would without --resume.
        if newest is None:
            write_note(f"--resume: no checkpoint in {cfg.work_dir}, starting again")
        cfg.resume = newest is not None
        cfg.load_from = str(newest) if newest else cfg.get("load_from")
    if not (start := cfg.get("load_from")):
        return
    if is_fetched_here(start):
        try:
            start = cfg.load_from = str(local_checkpoint(start))
        except MissingFileError as error:
            raise MissingFileError(f"load_from: {error}") from None
    if not cfg.get("resume"):
        check_start(cfg.model.get("generator"), start)
        return
    done = check_resumable(start)
    if done >= cfg.train_cfg.get("max_iters", done + 1):
        write_note(
            f"--resume: the training is complete: {start} has {done} iterations, "
            f"train_cfg.max_iters is {cfg.train_cfg.max_iters}"
        )


@command
def main(argv: list[str] | None = None) -> None:
    """Build the runner and train."""
    args = parse_args(argv)
    cfg = load_config(args)
    require_settings(
        cfg,
        "train_dataloader",
        "train_cfg",
        "optim_wrapper",
        hint="use tools/test.py for a config without training",
    )
    from mmengine.dist import get_rank

    from srgan_plugin.cli.mmengine_console import open_runner
    from srgan_plugin.hosts.mmengine.compat import (
        convert_on_load,
        enable_safe_checkpointing,
    )
    from srgan_plugin.hosts.mmengine.engine.distributed import join_process_group
    from srgan_plugin.io.atomic import claim_folder

    if args.amp and (args.amp != "auto" or amp_is_faster()):
        use_amp(cfg.optim_wrapper, None if args.amp == "auto" else args.amp)
    if args.auto_scale_lr:
        scale_lr(cfg)
    choose_checkpoint(cfg, args.resume)
    join_process_group(args.launcher, cfg)
    enable_safe_checkpointing(cfg)
    first = get_rank() == 0
    with claim_folder(cfg.work_dir) if first else nullcontext():
        runner = open_runner(cfg, verbose=args.verbose)
        convert_on_load(runner.model)
        runner.train()
    if first:
        print(f"checkpoints and logs: {cfg.work_dir}")


if __name__ == "__main__":
    main()
