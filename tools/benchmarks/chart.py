"""Plot all measured ratios: `python tools/benchmarks/chart.py docs/benchmarks`."""

from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.io.text_files import read_json


def label(numbers: dict[str, Any]) -> str:
    """Return the label of a bar."""
    network = "" if numbers["what"] == "loader" else f" {numbers['model']}"
    ours, against = (side["name"] for side in numbers["sides"][:2])
    backend = "" if ours == "srgan_plugin" else f" ({ours})"
    return f"{numbers['what']}{network}{backend} against {against}\n{numbers['machine']['device']}"


def draw(folder: Path) -> Path:
    """Plot the ratios of the reports in a folder as `ratios.svg`.

    Raises:
        UserError: No report compares two sides.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    reports = [
        read_json(path, "a report of benchmark.py") for path in sorted(folder.glob("*.json"))
    ]
    compared = [report for report in reports if report.get("ratio") is not None]
    if not compared:
        raise UserError(
            f"{folder}: expected reports of two sides, got none; make them by tools/benchmark.py "
            "WHAT --against SIDE --out FILE.json"
        )
    ratios = [report["ratio"] for report in compared]
    figure, axes = pyplot.subplots(figsize=(8, 0.7 * len(compared) + 1), layout="constrained")
    bars = axes.barh([label(report) for report in compared], ratios, color="tab:blue")
    axes.bar_label(bars, [f"{ratio:.3g}x" for ratio in ratios], padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="time over that of srgan_plugin, same run, same images")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    target = folder / "ratios.svg"
    with atomic_path(target) as temporary:
        figure.savefig(temporary, metadata={"Date": None})
    pyplot.close(figure)
    return target


@command
def main(argv: list[str] | None = None) -> None:
    """Read the command line and draw."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of reports of tools/benchmark.py --out")
    print(draw(parser.parse_args(argv).folder))


if __name__ == "__main__":
    main()
