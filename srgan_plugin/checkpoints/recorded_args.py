"""What no weights show of a network, and where it is stated: a note of ours, or a config."""

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

#: Of the notes that we write. Those without it may hold a default that nothing had stated.
FORMAT = 2
_LONGEST_CONFIG = 1_000_000  # characters
#: The note as a tensor among the weights, for readers that hand on nothing else, such as spandrel.
NOTE_TENSOR = f"{NOTE}.note"
_LONGEST_NOTE = 10_000  # bytes


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument of a network that its weights do not show.

    Attributes:
        network: the class that takes it.
        expected: its values, in words.
        accepts: whether a value is one of them.
        example: as the command line takes them.
        default: the value of the class, which notes without `FORMAT` hold as a guess.
        unstated: what happens while nothing states it. `ask`: no network is built. `warn`: it is,
            with the default, because the keys bring a function along: nobody's MSRResNet but ours
            has the switch, so MMagic's keys mean MMagic's. `default`: the same without a word,
            because our own keys are ours and we note it where it is otherwise.
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
    """Describe an argument of SRResNet that takes one of a few names."""
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
    """Return the names of what its weights do not show of a network."""
    return [name for name, argument in NON_INFERABLE_ARGS.items() if argument.network == network]


def plain(value: Any) -> Any:
    """Return a value in one form: configs have (-1, 1) or [-1, 1], networks (-1.0, 1.0)."""
    if not isinstance(value, (list, tuple)):
        return value
    numbers = all(isinstance(part, (int, float)) for part in value)
    return tuple(map(float, value)) if numbers else tuple(value)


def listed(arguments: Mapping[str, object]) -> str:
    """Write arguments as Python has them."""
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def checked_argument(name: str, value: Any, *, where: str = "") -> Any:
    """Return a value in one form, if the argument takes it.

    Args:
        name: one of `NON_INFERABLE_ARGS`.
        value: what was given.
        where: it was given, for the message.

    Raises:
        UserError: it is of another type, or out of range.
    """
    if not NON_INFERABLE_ARGS[name].accepts(value):
        raise UserError(
            f"{where}{name}: expected {NON_INFERABLE_ARGS[name].expected}, got {value!r}"
        )
    return plain(value)


def note_for(network: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the note to write beside weights: what is stated, and nothing that is not."""
    stated = {name: arguments[name] for name in arguments_of(network) if name in arguments}
    # Its absence means the default.
    told = {k: v for k, v in stated.items() if not is_usual(k, v)}
    return {"format": FORMAT, "network": network, **told}


def is_usual(name: str, value: Any) -> bool:
    """Whether a value is the default that is taken without a word."""
    argument = NON_INFERABLE_ARGS[name]
    return argument.unstated == "default" and plain(value) == plain(argument.default)


def note_tensor(note: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a note as an entry for the weights; empty where the keys alone tell the function."""
    arguments = NON_INFERABLE_ARGS.items()
    if any(
        n in note and (a.unstated == "ask" or plain(note[n]) != plain(a.default))
        for n, a in arguments
    ):
        # Of four bytes each: spandrel refuses a .pth with bytes.
        return {NOTE_TENSOR: torch.tensor(list(json.dumps(note).encode()), dtype=torch.int32)}
    return {}


def note_in_weights(weights: Mapping[str, Any]) -> Any:
    """Return what `note_tensor` wrote; an empty note if there is none.

    Raises:
        UserError: It is no text in JSON.
    """
    tensor = weights.get(NOTE_TENSOR)
    if tensor is None:
        return {}
    try:
        return json.loads(bytes(tensor[:_LONGEST_NOTE].tolist()))
    except (IndexError, TypeError, ValueError):
        raise UserError(f"{NOTE_TENSOR}: expected JSON; the file was changed") from None


def recorded_arguments(checkpoint: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Return what a checkpoint states of its network that weights do not show.

    Our conversions note it; mmengine saves the training's config.

    Args:
        checkpoint: what `load_checkpoint_file` returned.
        network: the class that its weights are of.

    Raises:
        UserError: a note has a wrong type or value, an unknown key, or is of another network.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    if NOTE in meta:
        return _noted(meta[NOTE], network)
    return _configured(meta.get("cfg"), network)


def _noted(note: Any, network: str) -> dict[str, Any]:
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
    """Return the generator's arguments from the text of an mmengine config, defaults included."""
    if not isinstance(text, str) or len(text) > _LONGEST_CONFIG:
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
    said = {name: _literal(value) for name, value in _keywords(generator).items()}
    kind = said.get("type")
    if kind is not None and str(kind).rpartition(".")[2] != network:
        return {}
    defaults = {n: NON_INFERABLE_ARGS[n].default for n in arguments_of(network)} if kind else {}
    stated = defaults | {n: said[n] for n in arguments_of(network) if n in said}
    return {k: checked_argument(k, v, where="meta.cfg, generator.") for k, v in stated.items()}


def _keywords(node: ast.expr | None) -> dict[str | None, ast.expr]:
    """Return the keyword arguments of a call in the text, such as `dict(…)`."""
    return {k.arg: k.value for k in node.keywords} if isinstance(node, ast.Call) else {}


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
