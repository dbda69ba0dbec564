#!/usr/bin/env python
"""Print the network, the layout and the other content of a checkpoint, without running any code.

python tools/inspect_checkpoint.py FILE

The status is 1 where the file does not load, with the reason on standard error.
"""

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.terminal import write_lines
from srgan_plugin.errors import UserError


@command
def main(argv: list[str] | None = None) -> None:
    """Read the file and print its description."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "file", metavar="FILE", help="a checkpoint, its URL, or the name of a published model"
    )
    location = parser.parse_args(argv).file
    from srgan_plugin.checkpoints.hub import local_checkpoint, published_arguments
    from srgan_plugin.checkpoints.inspect import REFUSED, inspect_checkpoint

    path = local_checkpoint(location)
    topics = inspect_checkpoint(path, published_arguments(location))
    reason = topics.pop("fits") if topics["fits"].startswith(REFUSED) else None
    write_lines([f"{name:10s} {description}" for name, description in topics.items()])
    if reason is not None:
        raise UserError(f"{path} does not load: {reason.removeprefix(REFUSED)}")


if __name__ == "__main__":
    main()
