"""Train a config: `python tools/train.py configs/srgan_x4c64b16_g1_1000k_div2k.py`."""

import argparse
import os
from collections.abc import Iterator
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
from srgan_plugin.errors import MissingFileError, UserError, check_at_least, prefix_errors


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
        help="mixed precision; auto is the dtype in the config, or bfloat16 if the device has it, "
        "else float16; on a CPU float32, or the dtype in the config, if bfloat16 is not at least "
        "1.25 times as fast",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="multiply the learning rate by global batch size / auto_scale_lr.base_batch_size",
    )
    add_config_options(parser)
    return parser.parse_args(argv)


def auto_enables_amp(launcher: str) -> bool:
    """Return whether `--amp auto` enables mixed precision.

    It does on a GPU, with several processes, or if bfloat16 is at least 1.25 times as fast on this
    CPU.

    Args:
        launcher: `none`, `pytorch` or `slurm`, which state the number of processes differently.
    """
    import torch

    from srgan_plugin.inference.precision import choose_dtype

    # Every process must decide alike, so several do not measure.
    count = os.environ.get("SLURM_NTASKS" if launcher == "slurm" else "WORLD_SIZE", "1")
    if torch.cuda.is_available() or int(count) > 1:
        return True
    return choose_dtype("auto", torch.device("cpu")) == torch.bfloat16


def iter_wrappers(optim_wrapper: Any) -> Iterator[dict[str, Any]]:
    """Yield the config of the optimiser wrapper of each optimiser."""
    wrappers = [optim_wrapper] if "optimizer" in optim_wrapper else optim_wrapper.values()
    yield from (wrapper for wrapper in wrappers if isinstance(wrapper, dict))


def set_precision(optim_wrapper: Any, amp: str, launcher: str) -> None:
    """Enable mixed precision by `--amp`, or print why `auto` does not change the config.

    Args:
        optim_wrapper: Config of the optimiser wrappers, changed in place.
        amp: `bfloat16`, `float16`, or `auto` for the dtype in the config or the device's.
        launcher: See `auto_enables_amp`.

    Raises:
        UserError: See `use_amp`.
    """
    import torch

    from srgan_plugin.inference.precision import bfloat16_speedup

    if amp != "auto" or auto_enables_amp(launcher):
        use_amp(optim_wrapper, None if amp == "auto" else amp)
        return
    dtypes = {
        str(wrapper.get("dtype") or "bfloat16")
        if "AmpOptimWrapper" in str(wrapper.get("type"))
        else "float32"
        for wrapper in iter_wrappers(optim_wrapper)
    }
    write_note(
        f"--amp: a convolution in bfloat16 is {bfloat16_speedup(torch.device('cpu')):.1f} times as "
        f"fast as in float32 on this processor: training in {' and '.join(sorted(dtypes))}, as in "
        "the config; use --amp bfloat16 for bfloat16"
    )


def use_amp(optim_wrapper: Any, dtype: str | None) -> None:
    """Replace every `OptimWrapper` in the config by an `AmpOptimWrapper`.

    Args:
        optim_wrapper: Config of the optimiser wrappers, changed in place.
        dtype: `bfloat16` or `float16`; None keeps the dtype of an `AmpOptimWrapper` in the config.

    Raises:
        UserError: A wrapper is of another type.
    """
    for wrapper in iter_wrappers(optim_wrapper):
        if (kind := wrapper.get("type", "OptimWrapper")) not in ("OptimWrapper", "AmpOptimWrapper"):
            raise UserError(
                f"--amp: expected type='OptimWrapper' in optim_wrapper, got {kind!r}; "
                "remove --amp or change the config"
            )
        wrapper.update(type="AmpOptimWrapper", **({"dtype": dtype} if dtype else {}))


def check_load_from(generator: Any, location: str) -> None:
    """Check that the weights of `load_from` are of the generator in the config.

    Weights of other shapes are refused when they are loaded.

    Args:
        generator: Config of the generator; None for a model without one, which is not checked.
        location: Path or URL of the checkpoint.

    Raises:
        UserError: The weights have the right shapes but other `NON_INFERABLE_ARGS` (such as
            `activate_after_shuffle`): they would load, and the network would compute other images.
    """
    from srgan_plugin.checkpoints import generator_changes, load_checkpoint_file
    from srgan_plugin.checkpoints.hub import is_supported_location, local_checkpoint
    from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS

    if generator is None or not is_supported_location(location):
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
    """Enable mmengine's scaling of the learning rate by the global batch size.

    Raises:
        UserError: `cfg.auto_scale_lr` has no `base_batch_size`.
    """
    scaling = cfg.get("auto_scale_lr")
    if not isinstance(scaling, dict) or "base_batch_size" not in scaling:
        raise UserError(
            "--auto-scale-lr: expected auto_scale_lr = dict(base_batch_size=16) in the config, "
            f"got {scaling!r}"
        )
    scaling["enable"] = True


def set_start_checkpoint(cfg: Any, resume: str | None) -> None:
    """Set `cfg.resume` and `cfg.load_from` by `--resume`, and check the file.

    Args:
        cfg: Config, changed in place.
        resume: Checkpoint to resume, `auto` for the newest one of `cfg.work_dir`, or None for
            `resume` and `load_from` of the config.

    Raises:
        MissingFileError: The checkpoint does not exist.
        UserError: The checkpoint cannot be resumed, or is of a network other than in the config.
    """
    from srgan_plugin.checkpoints.hub import is_supported_location, local_checkpoint
    from srgan_plugin.hosts.mmengine.engine.checkpoint_files import newest_checkpoint

    if resume:
        newest = newest_checkpoint(cfg.work_dir) if resume == "auto" else resume
        # Without a checkpoint the run starts from load_from, as it would without --resume.
        if newest is None:
            write_note(f"--resume: no checkpoint in {cfg.work_dir}, starting from iteration 0")
        cfg.resume = newest is not None
        cfg.load_from = str(newest) if newest else cfg.get("load_from")
    if not (start := cfg.get("load_from")):
        return
    # Messages name what the user wrote.
    flag = "--resume" if resume and cfg.resume else "resume=True" if cfg.get("resume") else None
    if is_supported_location(start):
        try:
            start = cfg.load_from = str(local_checkpoint(start))
        except MissingFileError as error:
            name = "--resume" if flag == "--resume" else "load_from"
            raise MissingFileError(f"{name}: {error}") from None
    if flag is None:
        check_load_from(cfg.model.get("generator"), start)
        return
    done = check_resumable(start, flag)
    if done >= cfg.train_cfg.get("max_iters", done + 1):
        write_note(
            f"{flag}: the training is complete: {start} has {done} iterations, "
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
    check_at_least(1, **{"train_cfg.max_iters": cfg.train_cfg.get("max_iters", 1)})
    from mmengine.dist import get_rank

    from srgan_plugin.cli.mmengine_console import open_runner
    from srgan_plugin.hosts.mmengine.compat import (
        convert_on_load,
        enable_safe_checkpointing,
    )
    from srgan_plugin.hosts.mmengine.engine.distributed import join_process_group
    from srgan_plugin.io.atomic import claim_folder

    if args.amp:
        set_precision(cfg.optim_wrapper, args.amp, args.launcher)
    if args.auto_scale_lr:
        scale_lr(cfg)
    set_start_checkpoint(cfg, args.resume)
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
