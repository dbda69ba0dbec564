"""Which argument of a config is wrong, told from the error of the constructor that got it."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.registry import build_from_cfg


def wrong_argument(error: TypeError) -> str | None:
    """One line on the argument with which a registry, any of mmengine's, could not build.

    Args:
        error: What the build raised.

    Returns:
        The line; None if the arguments fit, so that the error has another cause.
    """
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code is build_from_cfg.__code__ and "obj_cls" in frame.f_locals:
            built = inspect.unwrap(frame.f_locals["obj_cls"])
            if message := _misfit(built, frame.f_locals["args"]):
                return message
    return None


def _misfit(built: Any, given: Mapping[str, Any]) -> str | None:
    for name, parameter in _named(_constructors(built)[0]).items():
        if parameter.default is parameter.empty and name not in given:
            return f"{built.__name__} needs the argument {name!r}"
    known, anything = known_arguments(built)
    if anything:
        return None
    if unknown := [name for name in given if name not in known]:
        near = get_close_matches(unknown[0], known, n=3, cutoff=0.4) or sorted(known)
        return f"{built.__name__} has no argument {unknown[0]!r}; nearest: {', '.join(near)}"
    return None


def known_arguments(built: Any) -> tuple[set[str], bool]:
    """Return the names of what a class or function takes, and whether it takes anything else.

    Keyword arguments that a constructor passes on are looked up in its base classes.
    """
    known: set[str] = set()
    for constructor in _constructors(inspect.unwrap(built)):
        known |= set(_named(constructor))
        if not _passes_on(constructor):
            return known, False
    return known, True


def _constructors(built: Any) -> list[Callable[..., Any]]:
    """What gets the arguments: the class's own constructor, then those of its base classes."""
    if not inspect.isclass(built):
        return [built]
    own = [vars(base)["__init__"] for base in built.__mro__[:-1] if "__init__" in vars(base)]
    return own or [lambda: None]


def _named(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(constructor).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in parameters.items() if p.kind in named and name != "self"}


def _passes_on(constructor: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(constructor).parameters.values())
