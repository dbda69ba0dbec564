"""Prepare a run of BasicSR: read the command line, check the options, set up the console."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_plugin.errors import MissingFileError, UserError, prefix_errors

from .parser import Parser
from .terminal import write_note

if TYPE_CHECKING:
    from srgan_plugin.checkpoints.wrappers import Role

# Sizes of BasicSR's MSRResNet: option, argument of this package, default.
_SIZES = {
    "num_in_ch": ("in_channels", 3),
    "num_out_ch": ("out_channels", 3),
    "num_feat": ("mid_channels", 64),
    "num_block": ("num_blocks", 16),
    "upscale": ("upscale_factor", 4),
}
# Options that BasicSR applies before those of `--force_yml`.
_READ_BEFORE = ("manual_seed", "dist_params")


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
    _check_launcher(args.launcher)
    opt = _read_options(Path(args.opt), args.force_yml or [], test=test)
    with prefix_errors(args.opt):
        _require_images(opt["datasets"])
        resumed = args.auto_resume or opt["path"].get("resume_state")
        if test or not resumed:  # else BasicSR takes the weights of the run
            _require_weights(opt["path"])
    if test:
        _warn_of_test(opt)
    if not args.verbose:
        from .basicsr_console import show_console

        if args.debug and not opt["name"].startswith("debug"):
            opt["name"] = f"debug_{opt['name']}"  # as BasicSR does
        show_console(opt, test=test)
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


def _check_launcher(launcher: str) -> None:
    """Raise `UserError` for a launcher that did not start this process, or without a GPU."""
    variable = {"pytorch": "RANK", "slurm": "SLURM_PROCID"}.get(launcher)
    if variable is None:
        return
    if variable not in os.environ:
        start = {"pytorch": "torchrun --nproc_per_node GPUS", "slurm": "srun"}[launcher]
        raise UserError(
            f"--launcher {launcher}: expected {variable} in the environment, got none; start by "
            f"{start} {sys.argv[0]} …, or remove --launcher"
        )
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"--launcher {launcher}: expected a GPU, which BasicSR needs for several processes, "
            "got none; remove --launcher"
        )


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
        if not test and "train" not in opt:
            raise UserError(
                "options: expected train, got none; the options of a test are for "
                "tools/basicsr_test.py"
            )
        changed = _apply_entries(opt, entries)
        check_options(changed, test=test)
        _check_weights(changed)
    return changed


def _apply_entries(opt: dict[str, Any], entries: Sequence[str]) -> dict[str, Any]:
    """Return a copy of the options with the values of `--force_yml`; BasicSR applies them later."""
    opt = deepcopy(opt)
    for entry in entries:
        keys, equals, value = (part.strip() for part in entry.partition("="))
        *sections, key = keys.split(":")
        section: Any = opt
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if "." in keys and not sections and key not in opt:
            raise UserError(
                f"--force_yml: expected SECTION:KEY=VALUE, got {entry!r}; write colons for the dots"
            )
        if not (equals and key) or not isinstance(section, dict) or {*keys} & {'"', "\\"}:
            raise UserError(
                f"--force_yml: expected SECTION:KEY=VALUE of a section that exists, got {entry!r}"
            )
        if "=" in value:  # at which BasicSR splits the entry again
            raise UserError(
                f"--force_yml: expected one '=', got {entry!r}; write this value into the file"
            )
        if (sections or [key])[0] in _READ_BEFORE:
            raise UserError(
                f"--force_yml: expected other options than {' and '.join(_READ_BEFORE)}, which "
                f"BasicSR reads before it, got {entry!r}; write this value into the file"
            )
        section[key] = _parse_value(value, entry)
    return opt


def _parse_value(value: str, entry: str) -> Any:
    """Return a value of `--force_yml` as BasicSR reads it, which is not always as YAML does.

    Args:
        value: Text after the equals sign.
        entry: The whole entry, for the error.

    Raises:
        UserError: BasicSR cannot read the value.
    """
    from basicsr.utils.options import _postprocess_yml_value

    try:
        return _postprocess_yml_value(value)
    except Exception:  # BasicSR evaluates a list as Python code
        raise UserError(
            f"--force_yml: expected a number after '!!float', or a list such as [0.9, 0.99], "
            f"got {entry!r}"
        ) from None


def _require_images(datasets: dict[str, Any]) -> None:
    """Raise `MissingFileError` for data of BasicSR's own classes that do not exist.

    BasicSR does not say which option the path is of. Classes of this package do.
    """
    for name, dataset in datasets.items():
        if str(dataset["type"]).endswith("_srgan_plugin"):
            continue
        for option in ("dataroot_gt", "dataroot_lq", "meta_info_file"):
            location = dataset.get(option)
            if location and not Path(location).expanduser().exists():
                raise MissingFileError(
                    f"datasets.{name}.{option}: expected a file or folder, got no {location}"
                )


def _require_weights(paths: dict[str, Any]) -> None:
    """Raise `MissingFileError` for pretrained weights that do not exist.

    BasicSR would move the results of the run before aside first.
    """
    for part in "gd":
        name = f"pretrain_network_{part}"
        location = paths.get(name)
        if location and not Path(location).expanduser().is_file():
            raise MissingFileError(f"path.{name}: expected a checkpoint, got no file {location}")


def _warn_of_test(opt: dict[str, Any]) -> None:
    """Warn of a test whose numbers are not those of trained weights or of whole images."""
    if not opt["path"].get("pretrain_network_g"):
        write_note(
            "WARNING: path.pretrain_network_g: expected a checkpoint to test, got none; the "
            "network keeps its random weights"
        )
    for name in opt["datasets"]:
        if name.split("_")[0] == "train":
            write_note(
                f"WARNING: datasets.{name}: expected test sets, got a training set, of which a "
                "test measures random crops; remove it"
            )


def _check_weights(opt: dict[str, Any]) -> None:
    """Raise `UserError` for pretrained weights of another network or that BasicSR cannot load."""
    paths = opt["path"] or {}
    uses_ema = ((opt.get("train") or {}).get("ema_decay") or 0) > 0
    networks: dict[str, Role] = {"g": "generator", "d": "discriminator"}
    for part, role in networks.items():
        location = str(Path(paths.get(f"pretrain_network_{part}") or "").expanduser())
        if not Path(location).is_file():
            continue
        keys = [paths.get(f"param_key_{part}", "params")]
        if part == "g" and uses_ema:
            keys.append("params_ema")  # BasicSR always loads this one into the averaged network
        checkpoint = _check_layout(f"path.pretrain_network_{part}", location, keys, role)
        if part == "g":
            strict = paths.get("strict_load_g", True)
            _check_generator(location, checkpoint, opt["network_g"], strict=strict)


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


def _check_generator(
    location: str, checkpoint: dict[str, Any], network_g: dict[str, Any], *, strict: bool
) -> None:
    """Raise `UserError` for weights that need other arguments of `network_g`.

    Args:
        location: File of the weights, for the error.
        checkpoint: Content of the file.
        network_g: Options of the network.
        strict: Whether all weights have to fit; if not, some are skipped on purpose.

    Raises:
        UserError: The weights are of another network, or do not fit, or would compute something
            else.
    """
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
        if strict:
            _check_sizes(found.arguments, network_g)


def _check_sizes(found: Mapping[str, Any], network_g: dict[str, Any]) -> None:
    """Raise `UserError` if weights of an MSRResNet have another size than `network_g`.

    Args:
        found: Arguments of this package's MSRResNet that the weights show.
        network_g: Options of the network.

    Raises:
        UserError: A size differs; the message names the option.
    """
    for option, (argument, default) in _SIZES.items():
        size = network_g.get(option, default)
        if found.get(argument, size) != size:
            raise UserError(
                f"expected weights of {option}={size}, as in network_g, got {found[argument]}; set "
                f"network_g.{option}, or name another checkpoint"
            )
