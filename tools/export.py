#!/usr/bin/env python
"""Export a generator for other runtimes: ONNX of any picture size, or safetensors.

python tools/export.py CHECKPOINT srgan_x4.onnx
"""

import argparse
from pathlib import Path

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.options import add_network_options, network_options


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_network_options(parser)
    parser.add_argument("target", metavar="DST", type=Path, help="NAME.onnx or NAME.safetensors")
    args = parser.parse_args(argv)
    if args.target.suffix not in (".onnx", ".safetensors"):
        parser.error(f"DST ends in .onnx or .safetensors, got {args.target}")
    return args


@command
def main(argv: list[str] | None = None) -> None:
    """Export, check, report."""
    args = parse_args(argv)
    from srgan_plugin.checkpoints import open_network
    from srgan_plugin.checkpoints.convert import convert
    from srgan_plugin.checkpoints.export import SIZES, TOLERANCE, export_onnx
    from srgan_plugin.checkpoints.hub import local_checkpoint

    source, options = local_checkpoint(args.source), network_options(args)
    if args.target.suffix == ".safetensors":
        print("\n".join(convert(source, args.target, to="plugin", **options).report()))
        return
    difference = export_onnx(open_network(source, **options), args.target)
    sizes = ", ".join(f"{height}x{width}" for height, width in SIZES)
    print(f"wrote    {args.target}")
    print(f"compared with torch at {sizes}: {difference:.1e} (allowed {TOLERANCE:.0e})")


if __name__ == "__main__":
    main()
