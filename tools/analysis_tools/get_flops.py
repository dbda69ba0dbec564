#!/usr/bin/env python
"""Count operations and parameters of the generator of a config.

python tools/analysis_tools/get_flops.py configs/srgan_x4c64b16_g1_1000k_div2k.py --shape 3 270 480
"""

import argparse
from typing import Any

from srgan_plugin.cli.configs import add_cfg_options, read_config, require_settings
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; flags shared with MMagic keep their names."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        default=[3, 250, 250],
        metavar=("C", "H", "W"),
        help="shape of the LR image (default: 3 250 250)",
    )
    parser.add_argument("--activations", action="store_true", help="also count activations")
    parser.add_argument("--out-table", action="store_true", help="print a table of all modules")
    parser.add_argument(
        "--out-arch", action="store_true", help="print the network with numbers by module"
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if min(args.shape) < 1:
        parser.error(f"--shape: expected positive numbers, got {args.shape}")
    return args


def analyse(generator: Any, shape: list[int], *, tables: bool) -> dict[str, Any]:
    """Analyse a network by mmengine, without warnings about operators that are not counted.

    Args:
        generator: The network, a `torch.nn.Module`; it is set to evaluation mode.
        shape: Shape of the input, (C, H, W).
        tables: Whether to add the tables by layer.

    Returns:
        Result of mmengine's `get_model_complexity_info`.

    Raises:
        UserError: The network cannot run on an input of this shape.
    """
    import logging

    import torch
    from mmengine.analysis import get_model_complexity_info

    logging.disable(logging.WARNING)
    try:
        found: dict[str, Any] = get_model_complexity_info(
            generator.eval(), inputs=torch.rand(1, *shape), show_table=tables, show_arch=tables
        )
    except RuntimeError as error:  # raised by any operator of torch
        raise UserError(f"--shape {' '.join(map(str, shape))}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    return found


@command
def main(argv: list[str] | None = None) -> None:
    """Build the generator, analyse it and print the result."""
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    require_settings(cfg, "model.generator", hint="use the config of a network")
    from srgan_plugin.cli.mmengine_console import quiet
    from srgan_plugin.registry import MODELS

    quiet()
    generator = MODELS.build(cfg.model.generator)
    found = analyse(generator, args.shape, tables=args.out_table or args.out_arch)
    line = "=" * 30
    print(f"{line}\nInput shape: {tuple(args.shape)}")
    print(f"Flops: {found['flops_str']} (a multiplication and an addition count as one)")
    print(f"Params: {found['params_str']}\n{line}")
    if args.activations:
        print(f"Activations: {found['activations_str']}\n{line}")
    for enabled, key in ((args.out_table, "out_table"), (args.out_arch, "out_arch")):
        if enabled:
            print(found[key])


if __name__ == "__main__":
    main()
