#!/usr/bin/env python
"""Print the network, the layout and the other content of a checkpoint, without running any code.

python tools/inspect_checkpoint.py FILE
"""

import argparse

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.terminal import write_lines


@command
def main(argv: list[str] | None = None) -> None:
    """Read the file and print its description."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "file", metavar="FILE", help="a checkpoint, its URL, or the name of a published model"
    )
    location = parser.parse_args(argv).file
    from srgan_plugin.checkpoints.hub import local_checkpoint
    from srgan_plugin.checkpoints.inspect import inspect_checkpoint

    for name, description in inspect_checkpoint(local_checkpoint(location)).items():
        write_lines([f"{name:10s} {description}"])


if __name__ == "__main__":
    main()
