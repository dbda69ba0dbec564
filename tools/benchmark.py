"""Ours and a toolbox side by side: `python tools/benchmark.py loader --against mmagic`."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command
from srgan_plugin.errors import UserError

# Steps before and under the clock, by device.
STEPS = {"cpu": (1, 3), "cuda": (200, 1000)}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__} `files` makes what the others read, and measures nothing.",
        epilog="Crop 128, batch 16, shuffled. Both sides read the same photographs and work in "
        "turn; medians and spread over the rounds.",
    )
    parser.add_argument("what", choices=("loader", "train", "test", "upscale", "files"))
    parser.add_argument(
        "--against",
        choices=("mmagic", "basicsr", "baseline", "no-hooks"),
        help="the other side; of `train` also our plain path, and our step in a loop without hooks",
    )
    parser.add_argument("--model", choices=("msrresnet", "srgan"), default="msrresnet")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder or store of photographs (default: the training set of the data root); for "
        "`test` the data root itself",
    )
    parser.add_argument("--photographs", type=int, default=64, help="how many of them to use")
    parser.add_argument("--files", type=Path, default=Path("work_dirs/benchmark"))
    parser.add_argument("--workers", type=int, help="reading processes of each side")
    parser.add_argument("--rounds", type=int, help="of each side; 20 of `loader`, else 5")
    parser.add_argument("--seconds", type=float, default=0.5, help="of the loader, each round")
    parser.add_argument("--steps", type=int, help="of `train` under the clock")
    parser.add_argument(
        "--size", type=size, default=(1000, 750), metavar="WxH", help="of what `upscale` enlarges"
    )
    parser.add_argument("--out", metavar="FILE.json", help="write the numbers there")
    args = parser.parse_args(argv)
    known = {"loader": ("basicsr", "mmagic"), "train": ("mmagic", "baseline", "no-hooks")}
    if args.against and args.against not in known.get(args.what, ("mmagic",)):
        parser.error(f"--against {args.against} does not go with `{args.what}`")
    return args


def size(text: str) -> tuple[int, int]:
    """Width and height, from `1000x750`."""
    width, height = map(int, text.split("x"))
    return width, height


def sides_of(args: argparse.Namespace, device: Any) -> Any:
    """Name the work that both sides do."""
    from benchmarks.files import BenchmarkFiles

    from benchmarks import loaders, testing, training
    from srgan_plugin.data.benchmark_sets import data_root

    if args.what == "test":
        root = args.data or data_root()
        return testing.test_sides(
            root,
            args.files / "test",
            against_mmagic=args.against == "mmagic",
            workers=args.workers,
        )
    if args.what == "upscale":
        from benchmarks.upscaling import upscale_sides

        mmagic = args.against == "mmagic"
        return upscale_sides(*args.size, device=args.device, against_mmagic=mmagic)
    files = BenchmarkFiles(args.data or training_set(), args.files, args.photographs)
    if args.what == "loader":
        return loaders.loader_sides(
            files, args.against, device=device, workers=args.workers, seconds=args.seconds
        )
    warm_up, steps = STEPS[args.device]
    return training.train_sides(
        files,
        args.model,
        other=args.against or "baseline",
        workers=args.workers,
        warm_up=warm_up,
        steps=args.steps or steps,
    )


def training_set() -> Path:
    """Return the HR images of the training set below the data root."""
    from srgan_plugin.data.benchmark_sets import data_root, find_div2k_train

    gt, _, _ = find_div2k_train(data_root(), 4)
    store = Path(gt) / "GT.lmdb"
    return store if store.exists() else Path(gt)


def make_files(args: argparse.Namespace) -> None:
    """Make what both sides of `loader` and `train` read, so that no clock sees it."""
    from benchmarks.files import BenchmarkFiles
    from benchmarks.training import vgg_file

    vgg_file(BenchmarkFiles(args.data or training_set(), args.files, args.photographs))


@command
def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, write the numbers."""
    args = parse_args(argv)
    if args.what == "files":
        make_files(args)
        return
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # mmengine's runners take any GPU that they see
    import torch
    from benchmarks.report import format_report, report
    from benchmarks.timing import interleave, machine, measured_peak

    from srgan_plugin.io.atomic import write_text

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu")
    if args.workers is None:
        args.workers = 8 if args.device == "cuda" else 0
    if args.rounds is None:  # a loader's are short: a busy machine is busy for both sides
        args.rounds = 20 if args.what == "loader" else 5
    device = torch.device(args.device)
    facts = {
        "what": args.what,
        "against": args.against,
        "model": args.model,
        "workers": args.workers,
        "machine": machine(device, 1 if args.what == "loader" else torch.get_num_threads()),
    }
    results = interleave(sides_of(args, device), args.rounds)
    numbers = report(results, measured_peak(device), **facts)
    print(format_report(numbers))
    if args.out:
        write_text(json.dumps(numbers, indent=2) + "\n", args.out)


if __name__ == "__main__":
    main()
