#!/usr/bin/env python
"""Export a generator for other programs: ONNX, ncnn or safetensors, for images of any size.

python tools/export.py CHECKPOINT srgan_x4.onnx
python tools/export.py CHECKPOINT srgan_x4.param --to ncnn
"""

import argparse
from pathlib import Path
from typing import Any

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

SUFFIXES = {"onnx": ".onnx", "ncnn": ".param", "safetensors": ".safetensors"}
OPENVINO = (
    "OpenVINO rounds to 16 bits on some processors, by up to 4 levels of 255. In single precision: "
    'compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})'
)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    add_network_options(parser)
    add_half(parser)
    parser.add_argument(
        "target", metavar="DST", type=Path, help="NAME.onnx, NAME.param (ncnn) or NAME.safetensors"
    )
    parser.add_argument("--to", choices=SUFFIXES, help="the format (default: by the ending of DST)")
    parser.add_argument(
        "--name", help="name of the model in the metadata (default: the name of DST)"
    )
    parser.add_argument(
        "--license", help="license of the weights in the metadata, such as cc-by-4.0"
    )
    add_overwrite(parser)
    args = parser.parse_args(argv)
    formats = {suffix: name for name, suffix in SUFFIXES.items()}
    args.to = args.to or formats.get(args.target.suffix)
    if args.to is None:
        parser.error(f"DST: expected {', '.join(formats)} or a format by --to, got {args.target}")
    if formats.get(args.target.suffix, args.to) != args.to:
        parser.error(f"DST: expected {SUFFIXES[args.to]} for --to {args.to}, got {args.target}")
    if args.target.suffix not in formats:
        args.target = args.target.with_name(args.target.name + SUFFIXES[args.to])
    return args


@command
def main(argv: list[str] | None = None) -> None:
    """Export, check, report."""
    args = parse_args(argv)
    bin_of_ncnn = [args.target.with_suffix(".bin")] if args.to == "ncnn" else []
    for target in (args.target, *bin_of_ncnn):
        check_free(target, overwrite=args.overwrite)
    from srgan_plugin.checkpoints import hub

    source, options = hub.local_checkpoint(args.source), network_options(args)
    if args.source in hub.BUNDLED_MODELS:
        args.license = args.license or hub.BUNDLED_LICENSE
    args.name = args.name or args.target.stem
    if args.to == "safetensors":
        _export_safetensors(source, args, options)
    else:
        _export_graph(source, args, options)


def _export_safetensors(source: Path, args: argparse.Namespace, options: dict[str, Any]) -> None:
    from srgan_plugin.checkpoints.convert import convert

    options |= {"name": args.name, "license": args.license, "half": args.half}
    done = convert(source, args.target, to="plugin", note_among_weights=True, **options)
    write_lines(done.report())


def _export_graph(source: Path, args: argparse.Namespace, options: dict[str, Any]) -> None:
    from srgan_plugin.checkpoints import load_checkpoint_file, open_network
    from srgan_plugin.checkpoints.export import SIZES, allowed_difference, export_onnx
    from srgan_plugin.checkpoints.export_ncnn import export_ncnn
    from srgan_plugin.checkpoints.metadata import export_metadata, read_metadata

    network = open_network(source, **options)
    written = args.target.name
    if args.to == "ncnn":
        difference = export_ncnn(network, args.target, half=args.half)
        written += f" and {args.target.with_suffix('.bin').name}"
    else:
        license = args.license or read_metadata(load_checkpoint_file(source)).get("license")
        metadata = export_metadata(network, name=args.name, license=license)
        difference = export_onnx(network, args.target, half=args.half, metadata=metadata)
    sizes = ", ".join(f"{height}x{width}" for height, width in SIZES)
    found = f"{difference:.1e} (allowed {allowed_difference(half=args.half):.1e})"
    print(f"wrote    {args.target.with_name(written)}")
    print(f"compared with torch on probe images of {sizes}: largest difference {found}")
    if args.to == "onnx":
        print(OPENVINO)


if __name__ == "__main__":
    main()
