"""Explain errors by which mmengine, BasicSR or torch refuse a value of a config."""

import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_FOREIGN = {"mmengine", "mmcv", "mmagic", "basicsr", "torch", "torchvision", "numpy"}
_FOREIGN |= sys.stdlib_module_names
# The functions of the toolboxes that build what a config describes, as MODULE:NAME.
_BUILDERS = re.compile(
    r"mmengine\.registry\.build_functions:build_from_cfg"
    r"|mmengine\.runner\.runner:(__init__|from_cfg|(build|register|scale|set|setup)_\w+)"
    r"|basicsr\.[\w.]+:(_?(build|create|init|make|parse|setup)_\w+|get_optimizer)"
)
_VERB = re.compile(r"^_?(build|create|get|init|make|parse|register|set|setup)_|__init__|from_cfg")


def explain_refusal(error: Exception) -> str | None:
    """Return one line on the value of a config that an error is about.

    The error is about the config where the deepest call that builds what a config describes was
    given a value of another type than it documents, or where only code of the toolboxes and of
    torch ran between that call and the error. An error that passed through other code may be a bug
    of that code.

    Returns:
        The line; None if the error has another cause.
    """
    if isinstance(error, TypeError) and "mmengine" in sys.modules:
        from srgan_plugin.registry import explain_bad_kwargs

        if line := explain_bad_kwargs(error):
            return line
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    builders = [
        i
        for i, frame in enumerate(frames)
        if _BUILDERS.fullmatch(f"{_module(frame)}:{frame.f_code.co_name}")
    ]
    if not builders or not _may_be_of_value(error):
        return None
    builder, refused = frames[builders[-1]], _is_refused(frames[builders[-1] :])
    reason = f"KeyError: {error}" if isinstance(error, KeyError) else str(error)
    built = builder.f_locals.get("obj_cls")  # in mmengine's build_from_cfg
    if built is None:
        return f"{_VERB.sub('', builder.f_code.co_name) or 'config'}: {reason}" if refused else None
    given = builder.f_locals["args"]
    if misfit := next(_misfits(inspect.unwrap(built), given), None):
        return f"{built.__name__}: {misfit}"
    simple = {k: v for k, v in given.items() if isinstance(v, int | float | str | list | tuple)}
    arguments = ", ".join(f"{name}={value!r}" for name, value in simple.items())
    return f"{built.__name__}({arguments}): {reason}" if refused else None


def _may_be_of_value(error: Exception) -> bool:
    """Whether a value of a config can be the cause: not of a missing attribute of code."""
    if isinstance(error, AttributeError):
        return isinstance(error.obj, int | float | str | list | tuple | None)
    return isinstance(
        error, ValueError | TypeError | AssertionError | KeyError | NotImplementedError
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_refused(frames: list[FrameType]) -> bool:
    """Return whether only foreign code ran, or the constructor of a foreign base class failed."""
    last = frames[-1]
    own = [frame for frame in frames if not _is_foreign(frame)]
    return _is_foreign(last) and all(
        frame.f_code.co_name == last.f_code.co_name == "__init__"
        and frame.f_locals.get("self") is last.f_locals.get("self")
        for frame in own
    )


def _is_foreign(frame: FrameType) -> bool:
    module = _module(frame)  # our registry only passes calls on to mmengine's
    return module == "srgan_plugin.registry" or module.partition(".")[0] in _FOREIGN


def _misfits(built: Any, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each value of another type than its argument documents."""
    hints: dict[str, Any] = {}
    for owner in reversed(getattr(built, "__mro__", [built])):
        try:
            hints |= get_type_hints(
                vars(owner).get("__init__") if inspect.isclass(owner) else owner
            )
        except Exception:  # hints that name what their module imports for the type checker only
            continue
    for name, value in given.items():
        if name in hints and not _fits(value, hints[name]):
            yield f"{name}: expected {inspect.formatannotation(hints[name])}, got {value!r}"


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of the type that a hint names, as far as configs can spell it."""
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if kind is Literal:
        return value in get_args(hint)
    # Configs spell objects as dicts and tuples as lists.
    if isinstance(value, dict | list | tuple) or not isinstance(kind, type):
        return True
    spelled = kind.__module__ in ("builtins", "collections.abc")
    return not spelled or isinstance(value, (int, float) if kind is float else kind)
