#!/usr/bin/env python
"""Print a config merged with its bases and the command line.

python tools/analysis_tools/print_config.py configs/srgan_x4c64b16_g1_1000k_div2k.py
"""

import argparse

from srgan_plugin.cli.configs import add_cfg_options, read_config
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; flags shared with MMagic keep their names."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", help="config file")
    add_cfg_options(parser)
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> None:
    """Print the config as a file that can be run."""
    args = parse_args(argv)
    print(read_config(args.config, args.cfg_options).pretty_text)


if __name__ == "__main__":
    main()
