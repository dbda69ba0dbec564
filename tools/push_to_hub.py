#!/usr/bin/env python
"""Upload a generator to the Hugging Face hub: weights, config and a model card.

python tools/push_to_hub.py CHECKPOINT OWNER/NAME --license cc-by-4.0 --results results/srgan.json
"""

import argparse
import re
from pathlib import Path

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.options import add_network_options, network_options, read_marked_results
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    add_network_options(parser)
    parser.add_argument(
        "repo_id", metavar="OWNER/NAME", help="the repository; created if it does not exist"
    )
    parser.add_argument(
        "--license", help="licence of the weights, by its name on the hub: cc-by-4.0, mit, …"
    )
    parser.add_argument("--name", help="name of the model (default: that of the repository)")
    parser.add_argument(
        "--dataset", nargs="+", default=[], help="training data, by names on the hub"
    )
    parser.add_argument("--results", type=Path, help="results of tools/test.py --out")
    parser.add_argument("--text", type=Path, help="Markdown for the card, such as the training")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument("--revision", help="branch (default: main)")
    parser.add_argument("--folder", type=Path, help="write the files to this folder, upload none")
    args = parser.parse_args(argv)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.repo_id):
        parser.error(f"repo_id: expected OWNER/NAME, got {args.repo_id}")
    return args


@command
def main(argv: list[str] | None = None) -> None:
    """Write and check the files, upload them, and print a report."""
    args = parse_args(argv)
    from srgan_plugin.checkpoints import hub, huggingface, load_checkpoint_file, open_network
    from srgan_plugin.checkpoints.metadata import read_metadata
    from srgan_plugin.checkpoints.model_card import ModelCard

    source, options = hub.local_checkpoint(args.source), network_options(args)
    if args.source in hub.BUNDLED_MODELS:
        args.license = args.license or hub.BUNDLED_LICENSE
    license = args.license or read_metadata(load_checkpoint_file(source)).get("license")
    if license is None:
        raise UserError(f"--license: expected the licence of the weights, got none in {source}")
    card = ModelCard(
        license=license,
        name=args.name or args.repo_id.partition("/")[2],
        datasets=args.dataset,
        results=read_marked_results(args.results) if args.results else {},
        text=args.text.read_text(encoding="utf-8") if args.text else "",
    )
    network = open_network(source, **options)
    if args.folder:
        huggingface.save_pretrained(network, args.folder, card, repo_id=args.repo_id)
        print(f"wrote    {args.folder}")
        return
    url = huggingface.push_to_hub(
        network, args.repo_id, card, private=args.private or None, revision=args.revision
    )
    print(f"pushed   {url}")


if __name__ == "__main__":
    main()
