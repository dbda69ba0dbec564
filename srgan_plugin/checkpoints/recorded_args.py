"""Arguments of networks that no weight shows, and how checkpoints record them.

A checkpoint records them in a note under `meta.srgan_plugin`, or in the config of the training
that mmengine saves as `meta.cfg`.
"""

import ast
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks.blocks import ACTIVATIONS, LAST_ACTIVATIONS, NORMS, PIXEL_RANGES

from .read_write import NOTE

#: Format of new notes. Notes without a format may record a default that was only a guess.
FORMAT = 2
_MAX_CONFIG_CHARACTERS = 1_000_000
#: Key of the note as a tensor, for readers that pass on tensors only, such as spandrel.
NOTE_TENSOR = f"{NOTE}.note"
_MAX_NOTE_BYTES = 10_000


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument of a network that its weights do not show.

    Attributes:
        network: Name of the class that has it.
        expected: Its values, for messages.
        accepts: Function that returns whether a value is valid.
        example: A value as the command line takes it, other than the default.
        default: Default of the class, which notes without a format record as a guess.
        unstated: What to do if nothing states the argument. "ask": refuse to build the network.
            "warn": use the default with a warning; only the MSRResNet of this package has the
            switch, so MMagic's keys imply MMagic's function. "default": use the default; other
            values are always recorded.
    """

    network: str
    expected: str
    accepts: Callable[[Any], bool]
    example: str
    default: Any
    unstated: Literal["ask", "warn", "default"]


def _is_range(value: Any) -> bool:
    if isinstance(value, str):
        return value in PIXEL_RANGES
    if not isinstance(value, (list, tuple)) or any(isinstance(part, bool) for part in value):
        return False
    return plain(value) in PIXEL_RANGES


def _one_of(default: Any, values: Iterable[str], *also: Any) -> Argument:
    """Make the entry of an argument of SRResNet that takes one of a few names."""
    known = (*values, *also)
    return Argument(
        network="SRResNet",
        expected=" or ".join(map(str, known)),
        accepts=lambda value: isinstance(value, str | None) and value in known,
        example=next(value for value in known if value != default),
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
        unstated="ask",
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
        accepts=lambda value: type(value) in (int, float) and 0 < value < math.inf,
        example="1e-3",
        default=1e-5,
        unstated="default",
    ),
    "act": _one_of("prelu", ACTIVATIONS),
    "first_act": _one_of(None, ACTIVATIONS, None),
    "last_act": _one_of("none", LAST_ACTIVATIONS),
    "norm": _one_of("batch", NORMS),
    "trunk_end": _one_of("norm", ("norm", "act")),
}


def arguments_of(network: str) -> list[str]:
    """Return the names of a network's arguments that its weights do not show."""
    return [name for name, argument in NON_INFERABLE_ARGS.items() if argument.network == network]


def plain(value: Any) -> Any:
    """Return lists and tuples as tuples, of floats if they are numbers, to compare values.

    Configs have (-1, 1) or [-1, 1] for a range, networks have (-1.0, 1.0).
    """
    if not isinstance(value, (list, tuple)):
        return value
    numbers = all(isinstance(part, (int, float)) for part in value)
    return tuple(map(float, value)) if numbers else tuple(value)


def listed(arguments: Mapping[str, object]) -> str:
    """Format arguments as in a Python call: `name=value, …`."""
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def checked_argument(name: str, value: Any, *, where: str = "") -> Any:
    """Return the value of an argument in the form of `plain`.

    Args:
        name: One of `NON_INFERABLE_ARGS`.
        value: The value.
        where: Prefix of the name in the message, such as `meta.cfg, generator.`.

    Raises:
        UserError: The value has the wrong type or is out of range.
    """
    if not NON_INFERABLE_ARGS[name].accepts(value):
        raise UserError(
            f"{where}{name}: expected {NON_INFERABLE_ARGS[name].expected}, got {value!r}"
        )
    return plain(value)


def note_for(network: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the note for a checkpoint; it records only arguments that are known.

    Args:
        network: Name of the class.
        arguments: Known arguments of the network.
    """
    known = {name: arguments[name] for name in arguments_of(network) if name in arguments}
    recorded = {name: value for name, value in known.items() if not is_usual(name, value)}
    return {"format": FORMAT, "network": network, **recorded}


def is_usual(name: str, value: Any) -> bool:
    """Return whether a value is a default that needs no record."""
    argument = NON_INFERABLE_ARGS[name]
    return argument.unstated == "default" and plain(value) == plain(argument.default)


def note_tensor(note: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a note as an entry of a state dict; empty if the keys imply all that it records."""
    recorded = ((note[name], arg) for name, arg in NON_INFERABLE_ARGS.items() if name in note)
    if any(arg.unstated == "ask" or plain(value) != plain(arg.default) for value, arg in recorded):
        # int32, because spandrel refuses a .pth with bytes.
        return {NOTE_TENSOR: torch.tensor(list(json.dumps(note).encode()), dtype=torch.int32)}
    return {}


def note_in_weights(weights: Mapping[str, Any]) -> Any:
    """Return the note that `note_tensor` added to a state dict; an empty dict if there is none.

    Raises:
        UserError: The tensor is not a text in JSON.
    """
    tensor = weights.get(NOTE_TENSOR)
    if tensor is None:
        return {}
    try:
        return json.loads(bytes(tensor[:_MAX_NOTE_BYTES].tolist()))
    except (IndexError, TypeError, ValueError):
        raise UserError(
            f"{NOTE_TENSOR}: expected JSON, got other bytes; the file was changed, get it again"
        ) from None


def recorded_arguments(checkpoint: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Return the arguments that a checkpoint records, in a note or in the config of its training.

    Args:
        checkpoint: Content of the checkpoint, from `load_checkpoint_file`.
        network: Name of the class of its network.

    Raises:
        UserError: The note has a wrong type, an unknown key or an invalid value, or is of another
            network.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    if NOTE in meta:
        return _noted(meta[NOTE], network)
    return _configured(meta.get("cfg"), network)


def _noted(note: Any, network: str) -> dict[str, Any]:
    """Return the arguments in a note, without guesses."""
    where = f"meta.{NOTE}"
    if not isinstance(note, Mapping):
        raise UserError(f"{where}: expected a dict, got {note!r}")
    known = ("format", "network", *arguments_of(network))
    for key in note:
        if key not in known:
            raise UserError(f"{where}: expected the keys {', '.join(known)}, got {key!r}")
    if note.get("network", network) != network:
        raise UserError(f"{where}.network: expected {network}, got {note['network']!r}")
    version = note.get("format", 1)
    if version not in (1, FORMAT) or isinstance(version, bool):
        raise UserError(f"{where}.format: expected {FORMAT}, got {version!r}")
    stated = {
        name: checked_argument(name, note[name], where=f"{where}.")
        for name in arguments_of(network)
        if name in note
    }
    if version == FORMAT:
        return stated
    return {k: v for k, v in stated.items() if v != plain(NON_INFERABLE_ARGS[k].default)}


def _configured(text: Any, network: str) -> dict[str, Any]:
    """Return the generator's arguments in the text of an mmengine config, with their defaults."""
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
    config = {name: _literal(value) for name, value in _keywords(generator).items()}
    kind = config.get("type")
    if kind is not None and str(kind).rpartition(".")[2] != network:
        return {}
    defaults = {n: NON_INFERABLE_ARGS[n].default for n in arguments_of(network)} if kind else {}
    stated = defaults | {n: config[n] for n in arguments_of(network) if n in config}
    return {k: checked_argument(k, v, where="meta.cfg, generator.") for k, v in stated.items()}


def _keywords(node: ast.expr | None) -> dict[str | None, ast.expr]:
    """Return the keyword arguments of a call such as `dict(…)`; empty for other expressions."""
    return {k.arg: k.value for k in node.keywords} if isinstance(node, ast.Call) else {}


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, or the text of another expression."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
