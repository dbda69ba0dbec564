"""The command `srgan-plugin`: the tools of the package, and those of MMagic.

`python -m srgan_plugin` is the same command. `srgan-plugin mmagic train CONFIG …` patches MMagic in
this process and runs the `tools/train.py` inside its package with the flags of that script;
`mmagic test` likewise.
"""

import argparse
import platform
import runpy
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from srgan_plugin import __version__
from srgan_plugin.cli import mos as mos_command
from srgan_plugin.cli import report as report_command
from srgan_plugin.cli import upscale as upscale_command
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import MissingFileError


def run_doctor() -> None:
    """Print which parts work on this machine; exit with 1 if one is broken."""
    from srgan_plugin.cli import doctor

    warnings.simplefilter("ignore")  # many warnings of dependencies of the toolboxes
    installed = ", ".join(f"{name} {number}" for name, number in doctor.versions().items())
    sys.stdout.write(
        f"srgan_plugin {__version__}, Python {platform.python_version()}, {installed}\n"
    )
    results = [check() for check in doctor.CHECKS]
    sys.stdout.write(doctor.report(results) + "\n")
    if any(result.state == "broken" for result in results):
        raise SystemExit(1)


def run_mmagic(tool: str, arguments: list[str]) -> None:
    """Patch MMagic, then run its tool `train` or `test`.

    Raises:
        MissingFileError: MMagic is installed without its tools.
    """
    import srgan_plugin.hosts.mmagic  # noqa: F401 - patches on import

    spec = find_spec("mmagic")
    assert spec is not None and spec.origin is not None, "the import above has found it"
    path = Path(spec.origin).parent / ".mim" / "tools" / f"{tool}.py"
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected the tools of MMagic in its package, got none; install its wheel, "
            "not a checkout"
        )
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


@command
def main(argv: list[str] | None = None) -> None:
    """Run a command."""
    parser = Parser(prog="srgan-plugin", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="check what works on this machine, and print fixes")
    upscale = commands.add_parser("upscale", help="upscale images by a trained network")
    upscale_command.add_arguments(upscale)
    mos = commands.add_parser("mos", help="a study of opinions (MOS) as in the SRGAN paper")
    mos_command.add_arguments(mos)
    report = commands.add_parser("report", help="a page of runs: curves, results, images, configs")
    report_command.add_report_arguments(report)
    compare = commands.add_parser("compare", help="compare models side by side on any images")
    report_command.add_compare_arguments(compare)
    mmagic = commands.add_parser("mmagic", help="run an MMagic tool on current torch")
    mmagic.add_argument("tool", choices=["train", "test"])
    mmagic.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the tool")
    args = parser.parse_args(argv)
    if args.command == "doctor":
        run_doctor()
    elif args.command == "upscale":
        upscale_command.run(args)
    elif args.command == "mos":
        mos_command.run(args)
    elif args.command == "report":
        report_command.run_report(args)
    elif args.command == "compare":
        report_command.run_compare(args)
    else:
        run_mmagic(args.tool, args.arguments)


if __name__ == "__main__":
    main()
