#!/usr/bin/env python
"""Publish a checkpoint: one network, no optimiser, its hash in the file name.

python tools/publish_model.py work_dirs/srgan/iter_400000.pth published/srgan_x4.safetensors \
    --config configs/srgan_x4c64b16_g1_1000k_div2k.py --results results/srgan.json
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.options import (
    add_half,
    add_network_options,
    network_options,
    read_marked_results,
)
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.terminal import write_lines
from srgan_plugin.errors import MissingFileError, UserError

if TYPE_CHECKING:
    from srgan_plugin.checkpoints.convert import Conversion


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    add_network_options(parser)
    add_half(parser)
    parser.add_argument(
        "target", metavar="DST", type=Path, help="NAME.pth or NAME.safetensors; a hash is added"
    )
    parser.add_argument(
        "--to",
        choices=("plugin", "mmagic", "mmediting", "basicsr", "kair"),
        default="plugin",
        help="code base of the layout to write (default: plugin)",
    )
    parser.add_argument("--config", help="config of the training, for the metafile")
    parser.add_argument(
        "--results", type=Path, help="results of tools/test.py --out, for the metafile"
    )
    args = parser.parse_args(argv)
    if args.target.suffix not in (".pth", ".safetensors"):
        parser.error(f"DST: expected a name ending in .pth or .safetensors, got {args.target}")
    return args


def read_metafile(metafile: Path) -> dict[str, Any]:
    """Read the models in a metafile; none if the file does not exist.

    Raises:
        UserError: The file is not YAML, or has no list of models.
    """
    from srgan_plugin.io.text_files import read_yaml

    known = read_yaml(metafile, "a list of models") if metafile.is_file() else None
    content = known or {"Models": []}
    models = content.get("Models") if isinstance(content, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise UserError(
            f"{metafile}: expected a list of models under Models, got something else; move the file"
        )
    return content


def metafile_entry(
    done: "Conversion", *, name: str, config: str | None, results: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Describe a published file as an entry of OpenMMLab's `metafile.yml`.

    Args:
        done: Result of the conversion.
        name: Name of the model.
        config: Path of its config.
        results: Metrics by test set.

    Returns:
        The entry, of types that YAML can express.
    """
    count = sum(parameter.numel() for parameter in done.detected.build(assume=True).parameters())
    entry: dict[str, Any] = {
        "Name": name,
        "In Collection": "SRGAN",
        "Config": config,
        "Metadata": {
            "Architecture": [done.detected.layout.network],
            "Arguments": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in done.detected.arguments.items()
            },
            "Parameters": count,
            "SHA-256": done.sha256,
        },
        "Results": [
            {"Task": "Image Super-Resolution", "Dataset": dataset, "Metrics": scores}
            for dataset, scores in results.items()
        ],
        "Weights": done.path.name,
    }
    return {key: value for key, value in entry.items() if value}


def add_entry(entry: dict[str, Any], content: dict[str, Any], metafile: Path) -> None:
    """Add a model to a metafile, replacing one with the same name.

    Args:
        entry: Entry of the model.
        content: Content of the metafile, changed in place.
        metafile: File to write.
    """
    import yaml

    from srgan_plugin.io.atomic import write_text

    others = [model for model in content["Models"] if model.get("Name") != entry["Name"]]
    content["Models"] = [*others, entry]
    write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), metafile)


@command
def main(argv: list[str] | None = None) -> None:
    """Publish the checkpoint and print a report."""
    args = parse_args(argv)
    from srgan_plugin.checkpoints.convert import publish
    from srgan_plugin.checkpoints.hub import local_checkpoint

    results = read_marked_results(args.results) if args.results else {}
    if args.config and not Path(args.config).is_file():
        raise MissingFileError(f"--config: expected a file, got {args.config}, which is missing")
    metafile = args.target.with_name("metafile.yml")
    known = read_metafile(metafile)
    source = local_checkpoint(args.source)
    done = publish(source, args.target, to=args.to, half=args.half, **network_options(args))
    entry = metafile_entry(done, name=args.target.stem, config=args.config, results=results)
    add_entry(entry, known, metafile)
    write_lines([*done.report(), f"entry      {entry['Name']} in {metafile}"])


if __name__ == "__main__":
    main()
