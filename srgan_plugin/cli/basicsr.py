"""Prepare a run of BasicSR: read the command line, check the options, set up the console."""

import argparse
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_plugin.errors import MissingFileError, UserError, prefix_errors

from .parser import Parser

if TYPE_CHECKING:
    from srgan_plugin.checkpoints.wrappers import Role


def prepare(description: str, argv: list[str] | None = None, *, test: bool = False) -> str:
    """Read the command line, check the options, and set up the console.

    Importing the module that checks the options patches BasicSR and registers this package in it.

    Args:
        description: Description of the tool, for `--help`.
        argv: Command line; default: `sys.argv[1:]`. It is written to `sys.argv`, from which
            BasicSR reads it again.
        test: Whether the options are for a test, not for a training.

    Returns:
        Folder in which BasicSR creates `experiments` and `results`: the current one.

    Raises:
        MissingFileError: The file with the options does not exist.
        UserError: The file is not YAML, or BasicSR cannot run its options.
    """
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser(description).parse_args(arguments)
    sys.argv[1:] = [argument for argument in arguments if argument != "--verbose"]
    opt = _read_options(Path(args.opt), args.force_yml or [], test=test)
    if not args.verbose:
        from .basicsr_console import show_console

        show_console(opt)
    return str(Path.cwd())


def _parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for the flags of BasicSR's own scripts, and `--verbose`."""
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


def _read_options(path: Path, entries: Sequence[str], *, test: bool) -> dict[str, Any]:
    """Read the options of a file, apply the entries of `--force_yml`, and check the result.

    Returns:
        The changed options.
    """
    if not path.is_file():
        near = ", ".join(sorted(other.name for other in path.parent.glob("*.yml"))) or "none"
        raise MissingFileError(
            f"{path}: expected a file with options, got none; files in that folder: {near}"
        )
    from srgan_plugin.hosts.basicsr.options import check_options
    from srgan_plugin.io.text_files import read_yaml

    opt = read_yaml(path, "BasicSR's options")
    with prefix_errors(path):
        if not isinstance(opt, dict):
            raise UserError(f"expected options by name, got {type(opt).__name__}")
        changed = _apply_entries(opt, entries)
        check_options(changed, test=test)
        _check_weights(changed)
    return changed


def _apply_entries(opt: dict[str, Any], entries: Sequence[str]) -> dict[str, Any]:
    """Return a copy of the options with the values of `--force_yml`; BasicSR applies them later."""
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
    """Raise `UserError` for pretrained weights of another network or that BasicSR cannot load."""
    paths = opt["path"] or {}
    uses_ema = ((opt.get("train") or {}).get("ema_decay") or 0) > 0
    networks: dict[str, Role] = {"g": "generator", "d": "discriminator"}
    for part, role in networks.items():
        location = paths.get(f"pretrain_network_{part}")
        if not location or not Path(location).is_file():
            continue
        keys = [paths.get(f"param_key_{part}", "params")]
        if part == "g" and uses_ema:
            keys.append("params_ema")  # BasicSR always loads this one into the averaged network
        checkpoint = _check_layout(f"path.pretrain_network_{part}", location, keys, role)
        if part == "g":
            _check_generator(location, checkpoint, opt["network_g"])


def _check_layout(
    option: str, location: str, keys: Sequence[str | None], role: "Role"
) -> dict[str, Any]:
    """Read a checkpoint and check that BasicSR can load it.

    Args:
        option: Name of the option, for the error.
        location: File of the checkpoint.
        keys: Keys of the state dicts that BasicSR loads; None for the file itself.
        role: Network that the weights are for.

    Returns:
        Content of the checkpoint.

    Raises:
        UserError: The file is damaged or has another layout, or BasicSR cannot read it.
    """
    from srgan_plugin.checkpoints import identify, load_checkpoint_file

    checkpoint = load_checkpoint_file(location)
    readable = "params" in checkpoint or {*keys} <= {None, *checkpoint}
    if readable and _torch_can_load(location):
        return checkpoint
    with prefix_errors(f"{option}: {location}"):
        raise UserError(
            f"expected BasicSR's own layout, got {identify(checkpoint, role=role)}; convert it by "
            "tools/convert_checkpoint.py FILE NEW --to basicsr or, if that is refused, test it by "
            "tools/test.py CONFIG FILE"
        )


def _torch_can_load(location: str) -> bool:
    """Return whether BasicSR's call of `torch.load` succeeds, which needs pickle protocol 2."""
    import torch

    try:
        torch.load(location, map_location="cpu", weights_only=True)
    except Exception:  # the loader of this package has read the file, so no error is unexpected
        return False
    return not location.endswith(".safetensors")


def _check_generator(location: str, checkpoint: dict[str, Any], network_g: dict[str, Any]) -> None:
    """Raise `UserError` for weights that load into `network_g` but need other arguments."""
    from srgan_plugin.checkpoints import identify
    from srgan_plugin.checkpoints.detect import UnknownNetworkError

    with prefix_errors(f"path.pretrain_network_g: {location}"):
        try:
            found = identify(checkpoint)
        except UnknownNetworkError:  # a network of BasicSR that this package does not have
            return
        name = "activate_after_shuffle"
        if found.layout.network != "MSRResNet":
            if str(network_g.get("type")).startswith("MSRResNet"):
                raise UserError(f"expected an MSRResNet, got {found}")
            return
        value = network_g.get(name, True)
        if found.arguments.get(name, value) != value:
            raise UserError(
                f"expected weights trained with {name}={value}, as in network_g, got {not value}; "
                f"they would load and give other images; set network_g.{name}"
            )
        if name in found.unrecorded and name not in network_g:
            raise UserError(
                f"its keys are {found.layout.origin}, whose network has no activation after the "
                f"shuffles, and network_g has one by default; set network_g.{name}"
            )
