#!/usr/bin/env python
"""Plot curves of training logs, and compute the time of an iteration.

python tools/analysis_tools/analyze_logs.py plot_curve LOG… --keys loss_pix --out curves.png
python tools/analysis_tools/analyze_logs.py cal_train_time LOG…
"""

import argparse
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.options import check_output
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError, check_option
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.reports.basicsr_runs import LOSS_NAMES
from srgan_plugin.reports.runs import Curve, Run, read_run

MAX_MARKERS = 30  # points of a curve up to which each is marked


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line, with the commands and flags of MMDetection's tool."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="task", required=True)
    plot = commands.add_parser("plot_curve", help="plot losses and metrics by iteration")
    plot.add_argument(
        "--keys",
        nargs="+",
        metavar="KEY",
        default=["PSNR"],
        help="names in the log, such as loss_pix, lr or Set5/PSNR; PSNR selects all test sets "
        "(default: PSNR)",
    )
    plot.add_argument("--title", help="title of the figure")
    plot.add_argument("--legend", nargs="+", metavar="TEXT", help="names of the curves, LOG by LOG")
    plot.add_argument("--backend", help="matplotlib backend")
    plot.add_argument("--style", help="matplotlib style, such as ggplot")
    plot.add_argument(
        "--out", type=Path, metavar="FILE", help=".png, .svg or .pdf (default: a window)"
    )
    time = commands.add_parser("cal_train_time", help="print the time of an iteration")
    time.add_argument(
        "--include-outliers",
        action="store_true",
        help="include the first value of each log, which contains the start-up",
    )
    for task in (plot, time):
        task.add_argument(
            "logs",
            nargs="+",
            type=Path,
            metavar="LOG",
            help="work_dirs/NAME, experiments/NAME, scalars.json, TIMESTAMP.json, or a BasicSR "
            ".log",
        )
    return parser.parse_args(argv)


def find_curves(run: Run, key: str) -> Iterator[tuple[str, Curve]]:
    """Yield the curves of a run that match a key.

    Args:
        run: Run with its curves.
        key: Name of a curve, name of a loss in BasicSR, or last part of the name of curves.

    Yields:
        Name and points of each curve.

    Raises:
        UserError: No curve matches.
    """
    name = LOSS_NAMES.get(key, key)
    names = [name] if name in run.curves else []
    ends = {curve: re.split(r"[/.]", curve)[-1].lower() for curve in run.curves}
    names = names or [curve for curve, end in ends.items() if end == name.lower()]
    if not names:
        check_option(f"{run.folder}: --keys", key, sorted(run.curves))
    yield from ((found, run.curves[found]) for found in sorted(names))


def pyplot_for(args: argparse.Namespace) -> Any:
    """Return `matplotlib.pyplot` with the backend and style of the command line.

    Raises:
        UserError: The backend or style is unknown, matplotlib is not installed, or there is no
            display to open a window on.
    """
    try:
        import matplotlib
        from matplotlib import pyplot

        if args.out or args.backend:
            matplotlib.use("agg" if args.out else args.backend)
    except ModuleNotFoundError as error:
        raise UserError(
            f"expected {error.name}, which is not installed; run: pip install matplotlib"
        ) from None
    except (ImportError, ValueError) as error:
        raise UserError(f"--backend {args.backend}: {error}") from error
    if not args.out and matplotlib.get_backend().lower() == "agg":
        raise UserError("--out: expected a FILE, as there is no display to open a window on")
    if args.style:
        check_option("--style", args.style, ["default", *pyplot.style.available])
        pyplot.style.use(args.style)
    return pyplot


def plot_curve(runs: Sequence[Run], args: argparse.Namespace) -> None:
    """Plot the curves of all logs in one chart.

    Raises:
        UserError: `--legend` has another number of names than there are curves, `--style` is
            unknown, or matplotlib is not installed.
    """
    found = [
        (f"{run.name} {name}", sorted(curve.items()))
        for run in runs
        # Two keys may match the same curve, such as the names of a loss in BasicSR and MMagic.
        for name, curve in dict(pair for key in args.keys for pair in find_curves(run, key)).items()
    ]
    legend = args.legend or [name for name, _ in found]
    if len(legend) != len(found):
        names = ", ".join(name for name, _ in found)
        raise UserError(f"--legend: expected {len(found)} names ({names}), got {len(legend)}")
    pyplot = pyplot_for(args)
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for label, (_, points) in zip(legend, found, strict=True):
        marker = "o" if len(points) < MAX_MARKERS else None
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, marker=marker)
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.3)
    axes.set_title(args.title or "")
    axes.legend()
    if args.out:
        with atomic_path(args.out) as temporary:
            figure.savefig(temporary, format=args.out.suffix[1:].lower(), dpi=150)
        print(f"{args.out}: {len(found)} curves")
    else:
        pyplot.show()
    pyplot.close(figure)


def cal_train_time(runs: Sequence[Run], args: argparse.Namespace) -> None:
    """Print the average, the slowest and the fastest time of an iteration for each log.

    Raises:
        UserError: A log has too few times.
    """
    for run in runs:
        speeds = sorted(run.curves.get("it/s", {}).items())
        seconds = {at: 1 / speed for at, speed in speeds[0 if args.include_outliers else 1 :]}
        if not seconds:
            raise UserError(
                f"{run.folder}: expected at least {1 if args.include_outliers else 2} logged times "
                f"of iterations, got {len(speeds)}"
            )
        print(f"-----Analyze train time of {run.name}-----")
        for word, pick in (("slowest", max), ("fastest", min)):
            at = pick(seconds, key=seconds.__getitem__)
            print(f"{word} at iteration {at}, {seconds[at]:.4f} s/iter")
        print(f"time std over {len(seconds)} values is {statistics.pstdev(seconds.values()):.4f}")
        print(f"average iter time: {statistics.fmean(seconds.values()):.4f} s/iter")
        if waiting := run.curves.get("waiting for data"):
            print(f"waiting for data: {statistics.fmean(waiting.values()):.1f} %")
        if total := run.info.get("total time"):
            print(f"total time: {total}")


@command
def main(argv: list[str] | None = None) -> None:
    """Read the logs, and run the command."""
    args = parse_args(argv)
    if args.task == "plot_curve" and args.out:
        check_output(args.out, ".png", ".svg", ".pdf")
    runs = [read_run(log) for log in args.logs]
    (plot_curve if args.task == "plot_curve" else cal_train_time)(runs, args)


if __name__ == "__main__":
    main()
