"""Apply `--cfg-options` to a config, and check that all keys have an effect."""

import argparse
import ast
import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce
from typing import Any, TypeVar

from srgan_plugin.errors import UserError

from .errors import one_line

T = TypeVar("T")

_LIST_OF_DICTS = re.compile(r"\[\s*\{")
_LIKE_NUMBER = re.compile(r"[-+.]*\d")


def apply_cfg_options(cfg: Any, cfg_options: Sequence[str]) -> None:
    """Change settings of a config.

    Args:
        cfg: Config of mmengine, changed in place.
        cfg_options: Changes of the form KEY=VALUE.

    Raises:
        UserError: A run does not read a key, a key does not fit the config, or a value is not
            valid.
    """
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    pairs = [option.partition("=") for option in cfg_options]
    mappings = {key: _mapping(cfg, key, text) for key, _, text in pairs if text[:1] == "{"}
    lists = {key: _literal(key, text, list) for key, _, text in pairs if _LIST_OF_DICTS.match(text)}
    others = [f"{k}={text}" for k, _, text in pairs if k not in mappings and k not in lists]
    try:
        arguments = ["--cfg-options", *others] if others else []
        # Dicts first, so that KEY.end=5 beside KEY="{...}" is an entry of the new dict.
        options = {**mappings, **lists, **parser.parse_args(arguments).cfg_options}
        for key, value in options.items():
            _check_key(cfg, key)
            _check_numbers(key, reduce(get_setting, key.split("."), cfg), value)
        _replace_items(cfg, mappings)
        cfg.merge_from_dict(options)
    # Raised for unclosed brackets, and for both a=1 and a.b=1, even in a list.
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"--cfg-options: {one_line(error)}") from error


def _mapping(cfg: Any, key: str, text: str) -> dict[str, Any]:
    """Parse the value of KEY="{...}", which mmengine would read as a string.

    Returns:
        The dict. If KEY is a dict in a dict of the config, it is marked to replace that dict.
    """
    value = _literal(key, text, dict)
    *sections, last = key.split(".")
    section = reduce(get_setting, sections, cfg)
    in_dict = not isinstance(section, list) and isinstance(get_setting(section, last), Mapping)
    return {**value, "_delete_": True} if in_dict else value


def _literal(key: str, text: str, kind: type[T]) -> T:
    """Parse a value that mmengine would read as a string."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = None
    if not isinstance(value, kind):
        raise UserError(f"--cfg-options {key}: expected a {kind.__name__} of Python, got {text}")
    return value


def _replace_items(cfg: Any, mappings: Mapping[str, dict[str, Any]]) -> None:
    """Empty the dicts in lists that are given again; mmengine only merges into items of lists."""
    from mmengine.config import ConfigDict

    for key in mappings:
        *sections, last = key.split(".")
        if isinstance(section := reduce(get_setting, sections, cfg), list):
            section[int(last)] = ConfigDict()


def _check_numbers(key: str, now: Any, value: Any) -> None:
    """Raise `UserError` for a string such as 1e-3x if the config has a number."""
    if isinstance(value, list | tuple) and isinstance(now, list | tuple):
        for old, new in zip(now, value, strict=False):
            _check_numbers(key, old, new)
    is_number = isinstance(now, int | float) and not isinstance(now, bool)
    if is_number and isinstance(value, str) and _LIKE_NUMBER.match(value):
        raise UserError(f"--cfg-options {key}: expected a number, got {value!r}")


def get_setting(node: Any, key: str) -> Any:
    """Return a setting of a section or list; None if it does not exist."""
    if isinstance(node, list):
        return node[int(key)] if key.isdigit() and int(key) < len(node) else None
    return node.get(key) if hasattr(node, "get") else None


def _check_key(cfg: Any, key: str) -> None:
    """Raise `UserError` for a key that mmengine does not read or that does not fit the config."""
    first, *_ = parts = key.split(".")
    if first not in (known := runner_keys()):
        raise UserError(f"--cfg-options {key}: {_explain_unknown(cfg, key, known)}")
    node = cfg
    for depth, part in enumerate(parts):
        place = ".".join(parts[:depth]) or "the config"
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(
                    f"--cfg-options {key}: expected an index below {len(node)}, the length of "
                    f"{place}, got {part!r}"
                )
            node = node[int(part)]
        elif hasattr(node, "keys"):
            if part.isdigit() and part not in node:
                raise UserError(
                    f"--cfg-options {key}: expected a list as {place}, got a dict; remove {part}"
                )
            if part not in node:
                return
            node = node[part]
        else:
            raise UserError(
                f"--cfg-options {key}: expected {place} to be a dict with {part!r}, got {node!r}"
            )


def _explain_unknown(cfg: Any, key: str, known: Collection[str]) -> str:
    """Return the message for a key whose first part is not in `known`, with the nearest key."""
    first, _, rest = key.partition(".")
    if first in cfg:
        return (
            f"expected a setting of the run, got {first}, a variable that was used when the config "
            "was read; change the settings that have its value (see "
            "tools/analysis_tools/print_config.py), or edit the file"
        )
    near = [] if rest else [name for name in _paths(cfg) if name.endswith(f".{key}")]
    near = near or get_close_matches(first, [*cfg, *known], n=1, cutoff=0.6)
    hint = f"; nearest: {', '.join(near[:3])}" if near else ""
    return f"unknown config key {first}{hint}"


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of the settings in nested dicts, outer ones first."""
    nested = []
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            nested.append((value, f"{prefix}{name}."))
    for value, inner_prefix in nested:
        yield from _paths(value, inner_prefix)


def runner_keys() -> set[str]:
    """Return the top-level keys of a config that a run reads."""
    from mmengine.runner import Runner

    return {
        *inspect.signature(Runner.__init__).parameters,
        "model_wrapper_cfg",
        "find_unused_parameters",
        "sync_bn",
        "compile",
        "reference_model",
    } - {"self", "cfg"}
