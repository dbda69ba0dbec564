"""What our tools for BasicSR do before they hand over to its pipelines."""

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from srgan_plugin.errors import MissingFileError, UserError

from .parser import Parser


def prepare(description: str, argv: list[str] | None = None, *, test: bool = False) -> str:
    """Read the command line, mend BasicSR, register our parts, check the options.

    Args:
        description: Of the tool.
        argv: The command line; BasicSR reads it again from `sys.argv`, which is set to it.
        test: Whether BasicSR tests, and does not train.

    Returns:
        The folder in which BasicSR makes `experiments` and `results`: the current one.

    Raises:
        MissingFileError: There is no such file of options.
        UserError: The file is not YAML, or has options that BasicSR cannot run.
    """
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser(description).parse_args(arguments)
    sys.argv[1:] = [argument for argument in arguments if argument != "--verbose"]
    opt = _check(Path(args.opt), args.force_yml or [], test=test)
    if not args.verbose:
        from .basicsr_console import show_console

        show_console(opt)
    return str(Path.cwd())


def _parser(description: str) -> argparse.ArgumentParser:
    """Parse the flags of BasicSR, with BasicSR's meanings."""
    parser = Parser(description=description)
    parser.add_argument("-opt", required=True, metavar="FILE", help="the options, a YAML file")
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="job launcher"
    )
    parser.add_argument(
        "--auto_resume", action="store_true", help="resume from the newest state of the experiment"
    )
    parser.add_argument("--debug", action="store_true", help="short intervals, name debug_…")
    parser.add_argument("--local_rank", type=int, default=0)
    parser.add_argument(
        "--force_yml", nargs="+", metavar="KEY:KEY=VALUE", help="change options of the file"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show BasicSR's whole log on the console"
    )
    return parser


def _check(path: Path, entries: Sequence[str], *, test: bool) -> dict[str, Any]:
    """Return the options, with the changes of the command line, after checking them."""
    if not path.is_file():
        near = ", ".join(sorted(other.name for other in path.parent.glob("*.yml"))) or "none"
        raise MissingFileError(f"there are no options at {path}; files in that folder: {near}")
    from srgan_plugin.hosts.basicsr.options import check_options
    from srgan_plugin.io.text_files import read_yaml

    opt = read_yaml(path, "BasicSR's options")
    try:
        if not isinstance(opt, dict):
            raise UserError(f"expected options by name, got {type(opt).__name__}")
        changed = _changed(opt, entries)
        check_options(changed, test=test)
        _check_weights(changed)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return changed


def _changed(opt: dict[str, Any], entries: Sequence[str]) -> dict[str, Any]:
    """Return the options with the values of `--force_yml`, which BasicSR puts in later."""
    import yaml

    opt = deepcopy(opt)
    for entry in entries:
        keys, equals, value = entry.partition("=")
        *sections, key = keys.strip().split(":")
        section: Any = opt
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if not equals or not isinstance(section, dict):
            raise UserError(
                f"--force_yml: expected SECTION:KEY=VALUE of a section that exists, got {entry!r}"
            )
        try:
            section[key] = None if value.lower() == "none" else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--force_yml {entry}: expected YAML, got {error}") from None
    return opt


def _check_weights(opt: dict[str, Any]) -> None:
    """Refuse weights that BasicSR's own loading would trip over, or take for another network's."""
    from srgan_plugin.checkpoints import identify, load_checkpoint_file
    from srgan_plugin.checkpoints.detect import UnknownNetworkError
    from srgan_plugin.checkpoints.read_write import named
    from srgan_plugin.checkpoints.wrappers import Role

    given = opt["path"] or {}
    averages = (opt.get("train") or {}).get("ema_decay") or 0
    networks: dict[str, Role] = {"g": "generator", "d": "discriminator"}
    for part, network in networks.items():
        location = given.get(f"pretrain_network_{part}")
        wanted = [given.get(f"param_key_{part}", "params")]
        if part == "g" and averages > 0:
            wanted.append("params_ema")  # whatever the options say
        if not location or not Path(location).is_file():
            continue
        checkpoint = load_checkpoint_file(location)
        readable = "params" in checkpoint or {*wanted} <= {None, *checkpoint}
        if not readable or not _torch_reads(location):
            found = identify(checkpoint, role=network)
            raise UserError(
                f"path.pretrain_network_{part}: BasicSR reads its own layout only, and {location} "
                f"holds {found}: convert it by tools/convert_checkpoint.py --to basicsr, or, where "
                "that is refused, test it by tools/test.py"
            )
        if part == "g":
            with named(f"path.pretrain_network_g: {location}"):
                try:
                    _check_function(identify(checkpoint), opt["network_g"])
                except UnknownNetworkError:  # BasicSR has more networks than we know
                    continue


def _torch_reads(location: str) -> bool:
    """Whether BasicSR's own call of torch does: of pickles, protocol 2 alone."""
    import torch

    try:
        torch.load(location, map_location="cpu", weights_only=True)
    except Exception:  # whatever it is, our own loader read the file
        return False
    return not location.endswith(".safetensors")


def _check_function(found: Any, network_g: dict[str, Any]) -> None:
    """Refuse weights that would load into `network_g` and give other images."""
    name = "activate_after_shuffle"
    if found.layout.network != "MSRResNet":
        if str(network_g.get("type")).startswith("MSRResNet"):
            raise UserError(f"expected an MSRResNet, got {found}")
        return
    here = network_g.get(name, True)
    if found.arguments.get(name, here) != here:
        raise UserError(
            f"it was trained with {name}={not here}, and network_g has {here}: it would load and "
            f"give other images; set network_g.{name}"
        )
    if name in found.open and name not in network_g:
        raise UserError(
            f"its keys are {found.layout.origin}, whose network has no activation after the "
            f"shuffles, and network_g has one by default: set network_g.{name}"
        )
