"""Time this package against a toolbox: `python tools/benchmark.py loader --against mmagic`."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.options import check_output
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError

# Warm-up steps and timed steps, by device.
STEPS = {"cpu": (1, 3), "cuda": (200, 1000)}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=f"{__doc__} `files` only writes the files that both sides read.",
        epilog="Crop 128, batch 16, shuffled. Both sides read the same images and are timed in "
        "turn; the table has medians and ranges over the rounds.",
    )
    parser.add_argument("what", choices=("loader", "train", "test", "upscale", "files"))
    parser.add_argument(
        "--against",
        choices=("mmagic", "basicsr", "copy", "baseline", "no-hooks"),
        help="the other side; for `loader` also `copy`, a bare copy of the same crops; for `train` "
        "`baseline`, the config without options for speed, and `no-hooks`, the same step in a loop "
        "without hooks",
    )
    parser.add_argument("--model", choices=("msrresnet", "srgan"), default="msrresnet")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder or store of images (default: the training set of the data root); for `test` "
        "the data root",
    )
    parser.add_argument("--photographs", type=int, default=64, help="number of images to use")
    parser.add_argument("--files", type=Path, default=Path("work_dirs/benchmark"))
    parser.add_argument("--workers", type=int, help="reading processes of each side")
    parser.add_argument("--rounds", type=int, help="rounds of each side; 20 for `loader`, else 5")
    parser.add_argument("--seconds", type=float, default=0.5, help="time of a round of `loader`")
    parser.add_argument("--steps", type=int, help="timed steps of `train`")
    parser.add_argument(
        "--size", type=size, default=(1000, 750), metavar="WxH", help="image size for `upscale`"
    )
    parser.add_argument(
        "--backends",
        nargs="+",
        default=(),
        metavar="NAME[:PRECISION]",
        help="sides of `upscale`: torch:bfloat16, openvino, ncnn, … (default: torch)",
    )
    parser.add_argument("--out", metavar="FILE.json", help="file to write the numbers to")
    args = parser.parse_args(argv)
    known = {"loader": ("basicsr", "mmagic", "copy"), "train": ("mmagic", "baseline", "no-hooks")}
    if args.against and args.against not in known.get(args.what, ("mmagic",)):
        parser.error(f"--against: expected another side for `{args.what}`, got {args.against}")
    if args.out:
        check_output(args.out)
    return args


def size(text: str) -> tuple[int, int]:
    """Parse width and height, such as `1000x750`."""
    width, height = map(int, text.split("x"))
    return width, height


def make_sides(args: argparse.Namespace, device: Any) -> Any:
    """Return the functions to time, by side."""
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
        return upscale_sides(
            *args.size, device=args.device, against_mmagic=mmagic, backends=args.backends
        )
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
    """Return the HR images of the training set in the data root."""
    from srgan_plugin.data.benchmark_sets import data_root, find_div2k_train

    gt, _, _ = find_div2k_train(data_root(), 4)
    store = Path(gt) / "GT.lmdb"
    return store if store.exists() else Path(gt)


def make_files(args: argparse.Namespace) -> None:
    """Write the files that both sides of `loader` and `train` read."""
    from benchmarks.files import BenchmarkFiles
    from benchmarks.training import vgg_file

    vgg_file(BenchmarkFiles(args.data or training_set(), args.files, args.photographs))


@command
def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print a table and write the numbers."""
    args = parse_args(argv)
    if args.what == "files":
        make_files(args)
        return
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # mmengine's runner uses any visible GPU
    import torch
    from benchmarks.report import format_report, report
    from benchmarks.timing import interleave, machine, measure_peak

    from srgan_plugin.io.atomic import write_text

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: expected a GPU, got none; use --device cpu")
    if args.workers is None:
        args.workers = 8 if args.device == "cuda" else 0
    if args.rounds is None:  # short rounds of a loader: other load affects both sides alike
        args.rounds = 20 if args.what == "loader" else 5
    device = torch.device(args.device)
    conditions = {
        "what": args.what,
        "against": args.against,
        "model": args.model,
        "workers": args.workers,
        "machine": machine(device, 1 if args.what == "loader" else torch.get_num_threads()),
    }
    results = interleave(make_sides(args, device), args.rounds)
    numbers = report(results, measure_peak(device), **conditions)
    print(format_report(numbers))
    if args.out:
        write_text(json.dumps(numbers, indent=2) + "\n", args.out)


if __name__ == "__main__":
    main()
