#!/usr/bin/env python
"""Convert a checkpoint to the layout of another code base, and check that the outputs are equal.

python tools/convert_checkpoint.py net_g_400000.pth msrresnet.pth --to plugin
"""

import argparse
from pathlib import Path

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.options import (
    add_half,
    add_network_options,
    add_overwrite,
    check_free,
    network_options,
)
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.terminal import write_lines

CODE_BASES = ("mmagic", "mmediting", "basicsr", "kair", "plugin")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    add_network_options(parser)
    add_half(parser)
    parser.add_argument("target", metavar="DST", type=Path, help=".pth, or .safetensors")
    parser.add_argument(
        "--to", required=True, choices=CODE_BASES, help="code base of the layout to write"
    )
    parser.add_argument(
        "--from", dest="origin", choices=CODE_BASES, help="refuse layouts of other code bases"
    )
    add_overwrite(parser)
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> None:
    """Convert the checkpoint and print a report."""
    args = parse_args(argv)
    check_free(args.target, overwrite=args.overwrite)
    from srgan_plugin.checkpoints.convert import convert
    from srgan_plugin.checkpoints.hub import local_checkpoint

    source = local_checkpoint(args.source)
    options = {"to": args.to, "origin": args.origin, "half": args.half, **network_options(args)}
    done = convert(source, args.target, **options)
    write_lines(done.report())


if __name__ == "__main__":
    main()
