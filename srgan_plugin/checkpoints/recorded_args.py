"""Read and record arguments of networks that cannot be inferred from the weights.

Checkpoints of this package record them as a dict `meta.srgan_plugin`, the note. Checkpoints of
mmengine record the config of the training as `meta.cfg`.
"""

import ast
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks.blocks import ACTIVATIONS, LAST_ACTIVATIONS, NORMS, PIXEL_RANGES

from .read_write import NOTE_KEY

#: Format of new notes. Notes without a format were written by an earlier `convert_checkpoint.py`,
#: which recorded the default where nothing was known: a guess.
FORMAT = 2
_MAX_CONFIG_CHARACTERS = 1_000_000
#: Key of the note as a tensor, for `srgan_plugin.spandrel`: spandrel passes on tensors only.
NOTE_TENSOR = f"{NOTE_KEY}.note"
_MAX_NOTE_BYTES = 10_000


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument of a network that cannot be inferred from the weights.

    Attributes:
        network: Name of the class that has the argument.
        expected: Valid values, for messages.
        accepts: Function that returns whether a value is valid.
        example: Values in the syntax of the command line, at least one other than the default.
        default: Default of the class. In a note without a format it may be a guess.
        unstated: Behaviour if no value is recorded or given. "error": raise an error. "warn": use
            the default with a warning, because MMagic's MSRResNet, which has the same keys as that
            of this package, has only the default. "default": use the default, because checkpoints
            of this package record other values; weights that were saved alone do not.
    """

    network: str
    expected: str
    accepts: Callable[[Any], bool]
    example: str
    default: Any
    unstated: Literal["error", "warn", "default"]


def _is_range(value: Any) -> bool:
    if isinstance(value, str):
        return value in PIXEL_RANGES
    if not isinstance(value, (list, tuple)) or any(isinstance(part, bool) for part in value):
        return False
    numbers = all(isinstance(part, (int, float)) for part in value)
    return numbers and tuple(value) in PIXEL_RANGES


def _choice(default: Any, values: Iterable[str | None]) -> Argument:
    """Return the entry for an argument of SRResNet with a fixed set of values."""
    known = tuple(values)
    return Argument(
        network="SRResNet",
        expected=" or ".join(map(str, known)),
        accepts=lambda value: isinstance(value, str | None) and value in known,
        example=next(value for value in known if value is not None and value != default),
        default=default,
        unstated="default",
    )


_RANGE = "(0, 1) or (-1, 1) or imagenet"
_RANGE_EXAMPLE = '"(-1,1)" or "(0,1)" or imagenet'

NON_INFERABLE_ARGS = {
    "activate_after_shuffle": Argument(
        network="MSRResNet",
        expected="True or False",
        accepts=lambda value: isinstance(value, bool),
        example="True",
        default=False,
        unstated="warn",
    ),
    "output_range": Argument(
        network="SRResNet",
        expected=_RANGE,
        accepts=_is_range,
        example=_RANGE_EXAMPLE,
        default=(0, 1),
        unstated="error",
    ),
    "input_range": Argument(
        network="SRResNet",
        expected=_RANGE,
        accepts=_is_range,
        example=_RANGE_EXAMPLE,
        default=(0, 1),
        unstated="default",
    ),
    "norm_eps": Argument(
        network="SRResNet",
        expected="a number above 0",
        accepts=lambda value: type(value) in (int, float) and 0 < value <= sys.float_info.max,
        example="1e-3",
        default=1e-5,
        unstated="default",
    ),
    "act": _choice("prelu", ACTIVATIONS),
    "first_act": _choice(None, [*ACTIVATIONS, None]),
    "last_act": _choice("none", LAST_ACTIVATIONS),
    "norm": _choice("batch", NORMS),
    "trunk_end": _choice("norm", ["norm", "act"]),
}


def non_inferable_names(network: str) -> list[str]:
    """Return the names of a network's arguments that cannot be inferred from its weights."""
    return [name for name, argument in NON_INFERABLE_ARGS.items() if argument.network == network]


def normalise_argument(value: Any) -> Any:
    """Return lists and tuples as tuples, of floats if all parts are numbers; else the value itself.

    A range may be (-1, 1) or [-1, 1] in a config and is (-1.0, 1.0) in a network.
    """
    if not isinstance(value, (list, tuple)):
        return value
    numbers = all(isinstance(part, (int, float)) for part in value)
    return tuple(map(float, value)) if numbers else tuple(value)


def same_argument(one: Any, other: Any) -> bool:
    """Return whether two values of an argument are equal after `normalise_argument`."""
    return bool(normalise_argument(one) == normalise_argument(other))


def format_arguments(arguments: Mapping[str, object]) -> str:
    """Format arguments as in a Python call: `name=value, …`."""
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def check_argument(name: str, value: Any, *, where: str = "") -> Any:
    """Return the normalised value of an argument after checking it.

    Args:
        name: One of `NON_INFERABLE_ARGS`.
        value: Value from a file or from the user.
        where: Prefix of the name in the message, such as `meta.cfg, generator.`.

    Raises:
        UserError: The value has the wrong type or is out of range.
    """
    if not NON_INFERABLE_ARGS[name].accepts(value):
        raise UserError(
            f"{where}{name}: expected {NON_INFERABLE_ARGS[name].expected}, got {value!r}"
        )
    return normalise_argument(value)


def make_note(network: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the note for a checkpoint, which records the arguments that `needs_record`.

    Args:
        network: Name of the class.
        arguments: Known arguments of the network.
    """
    known = {name: arguments[name] for name in non_inferable_names(network) if name in arguments}
    recorded = {name: value for name, value in known.items() if needs_record(name, value)}
    return {"format": FORMAT, "network": network, **recorded}


def needs_record(name: str, value: Any) -> bool:
    """Return whether a checkpoint must record a value to be read correctly."""
    argument = NON_INFERABLE_ARGS[name]
    return argument.unstated != "default" or not same_argument(value, argument.default)


def make_note_tensor(note: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a note as an entry of a state dict; empty if weights and defaults imply it."""
    recorded = ((note[name], arg) for name, arg in NON_INFERABLE_ARGS.items() if name in note)
    if any(
        arg.unstated == "error" or not same_argument(value, arg.default) for value, arg in recorded
    ):
        # int32, because spandrel refuses a .pth with bytes.
        return {NOTE_TENSOR: torch.tensor(list(json.dumps(note).encode()), dtype=torch.int32)}
    return {}


def read_note_tensor(weights: Mapping[str, Any]) -> Any:
    """Return the note that `make_note_tensor` added to a state dict, or an empty dict.

    Raises:
        UserError: The tensor does not contain JSON.
    """
    tensor = weights.get(NOTE_TENSOR)
    if tensor is None:
        return {}
    try:
        return json.loads(bytes(tensor[:_MAX_NOTE_BYTES].tolist()))
    except (IndexError, TypeError, ValueError, RecursionError):
        raise UserError(
            f"{NOTE_TENSOR}: expected JSON, got other bytes; the file was changed, get it again"
        ) from None


def read_recorded_arguments(checkpoint: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Return the arguments that a checkpoint records in a note or in its training config.

    Args:
        checkpoint: Content of the checkpoint, from `load_checkpoint_file`.
        network: Class name of the checkpoint's network.

    Raises:
        UserError: The note has a wrong type, an unknown key or an invalid value, or describes
            another network; or the training config has an invalid value.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    if NOTE_KEY in meta:
        return _read_note(meta[NOTE_KEY], network)
    return _read_training_config(meta.get("cfg"), network)


def _read_note(note: Any, network: str) -> dict[str, Any]:
    """Return the arguments in a note without guessed defaults, or raise `UserError`."""
    where = f"meta.{NOTE_KEY}"
    if not isinstance(note, Mapping):
        raise UserError(f"{where}: expected a dict, got {note!r}")
    known = ("format", "network", *non_inferable_names(network))
    for key in note:
        if key not in known:
            raise UserError(f"{where}: expected the keys {', '.join(known)}, got {key!r}")
    if note.get("network", network) != network:
        raise UserError(f"{where}.network: expected {network}, got {note['network']!r}")
    version = note.get("format", 1)
    if version not in (1, FORMAT) or isinstance(version, bool):
        raise UserError(f"{where}.format: expected {FORMAT}, got {version!r}")
    stated = {
        name: check_argument(name, note[name], where=f"{where}.")
        for name in non_inferable_names(network)
        if name in note
    }
    if version == FORMAT:
        return stated
    return {k: v for k, v in stated.items() if not same_argument(v, NON_INFERABLE_ARGS[k].default)}


def _read_training_config(text: Any, network: str) -> dict[str, Any]:
    """Return the generator's arguments in an mmengine config; defaults if it states the `type`.

    Args:
        text: Source of the config; its code is parsed, not run.
        network: Class name of the generator; the result is empty for a config of another one, and
            for a text that is not Python.

    Raises:
        UserError: An argument has an invalid value.
    """
    if not isinstance(text, str) or len(text) > _MAX_CONFIG_CHARACTERS:
        return {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    models = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "model"
    ]
    generator = _keywords(models[-1]).get("generator") if models else None
    names = non_inferable_names(network)
    config = {k: _literal(v) for k, v in _keywords(generator).items() if k in ("type", *names)}
    kind = config.get("type")
    if kind is not None and str(kind).rpartition(".")[2] != network:
        return {}
    defaults = {name: NON_INFERABLE_ARGS[name].default for name in names} if kind else {}
    stated = defaults | {name: config[name] for name in names if name in config}
    return {k: check_argument(k, v, where="meta.cfg, generator.") for k, v in stated.items()}


def _keywords(node: ast.expr | None) -> dict[str | None, ast.expr]:
    """Return the keyword arguments of a call such as `dict(…)`; empty for other expressions."""
    return {k.arg: k.value for k in node.keywords} if isinstance(node, ast.Call) else {}


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, or the text of another expression."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):  # TypeError: {[1]: 2}
        with contextlib.suppress(RecursionError):
            return ast.unparse(node)
        return "nested too deeply"
