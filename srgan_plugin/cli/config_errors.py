"""Explain errors of mmengine, BasicSR and torch that are caused by a value in a config."""

import contextlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from itertools import chain
from types import FrameType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from srgan_plugin.errors import UserError

_FOREIGN = {"mmengine", "mmcv", "mmagic", "basicsr", "torch", "torchvision", "numpy"}
_FOREIGN |= sys.stdlib_module_names
# Functions of the toolboxes that build objects from a config, as MODULE:NAME.
_BUILDERS = re.compile(
    r"mmengine\.registry\.build_functions:build_from_cfg"
    r"|mmengine\.runner\.runner:(__init__|from_cfg|(build|register|scale|set|setup)_\w+)"
    r"|basicsr\.[\w.]+:(_?(build|create|init|make|parse|setup)_\w+|get_optimizer)"
)
_VERB = re.compile(r"^_?(build|create|get|init|make|parse|register|set|setup)_|__init__|from_cfg")


def explain_refusal(error: Exception) -> str | None:
    """Return one line on the value in a config that caused an error.

    A value is the cause if the innermost call that builds an object from a config was given a value
    whose type differs from the annotation, or if only code of the toolboxes and of torch ran
    between that call and the error. An error that passed through other code may be a bug in it.

    Returns:
        The line, or None if the error has another cause.
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
    if not builders or not _can_be_caused_by_value(error):
        return None
    builder, refused = frames[builders[-1]], _is_refused(frames[builders[-1] :])
    reason = f"KeyError: {error}" if isinstance(error, KeyError) else str(error)
    built = builder.f_locals.get("obj_cls")  # a local of mmengine's build_from_cfg
    if built is None:
        return f"{_VERB.sub('', builder.f_code.co_name) or 'config'}: {reason}" if refused else None
    given = builder.f_locals["args"]
    if mismatch := next(_type_mismatches(inspect.unwrap(built), given), None):
        return f"{built.__name__}: {mismatch}"
    simple = {k: v for k, v in given.items() if isinstance(v, int | float | str | list | tuple)}
    arguments = ", ".join(f"{name}={value!r}" for name, value in simple.items())
    return f"{built.__name__}({arguments}): {reason}" if refused else None


def check_schedules(configs: Any) -> None:
    """Raise `UserError` if a setting of a schedule has another type than its class takes.

    mmengine uses some settings only after the first step, so that building it shows no error.

    Args:
        configs: `param_scheduler` of a config: a schedule, several, or those of each optimiser.
    """
    from mmengine.registry import PARAM_SCHEDULERS

    if isinstance(configs, list | tuple):
        for config in configs:
            check_schedules(config)
    elif isinstance(configs, Mapping) and "type" not in configs:
        check_schedules(list(configs.values()))
    elif isinstance(configs, Mapping):
        name = configs["type"]
        built = PARAM_SCHEDULERS.get(name) if isinstance(name, str) else name
        if not built:
            return
        texts = (
            f"{key}: expected numbers, got {value!r}"
            for key, value in configs.items()
            if isinstance(value, list | tuple) and any(isinstance(item, str) for item in value)
        )
        if mismatch := next(chain(_type_mismatches(built, configs), texts), None):
            raise UserError(f"param_scheduler: {built.__name__}: {mismatch}")


def _can_be_caused_by_value(error: Exception) -> bool:
    """Return whether a value in a config can raise such an error, rather than a bug in code."""
    if isinstance(error, AttributeError):
        return isinstance(error.obj, int | float | str | list | tuple | None)
    return isinstance(
        error, ValueError | TypeError | AssertionError | KeyError | NotImplementedError
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_refused(frames: list[FrameType]) -> bool:
    """Return whether only foreign code ran, or the constructor of a foreign base class failed.

    Args:
        frames: Frames from the call that builds an object to the error.
    """
    last = frames[-1]
    own = [frame for frame in frames if not _is_foreign(frame)]
    return _is_foreign(last) and all(
        frame.f_code.co_name == last.f_code.co_name == "__init__"
        and frame.f_locals.get("self") is last.f_locals.get("self")
        for frame in own
    )


def _is_foreign(frame: FrameType) -> bool:
    module = _module(frame)  # the registry of this package only forwards calls to mmengine
    return module == "srgan_plugin.registry" or module.partition(".")[0] in _FOREIGN


def _type_mismatches(built: Any, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each value whose type differs from its annotation or numeric default."""
    hints: dict[str, Any] = {}
    for owner in reversed(getattr(built, "__mro__", [built])):
        try:
            hints |= get_type_hints(
                vars(owner).get("__init__") if inspect.isclass(owner) else owner
            )
        except Exception:  # an annotation of a name that is imported only for type checkers
            continue
    defaults: dict[str, Any] = {}
    with contextlib.suppress(TypeError, ValueError):  # a class of C has no signature
        defaults = {name: p.default for name, p in inspect.signature(built).parameters.items()}
    for name, value in given.items():
        hint, is_number = hints.get(name), type(defaults.get(name)) in (int, float)
        if name in hints and not _has_type(value, hint):
            yield f"{name}: expected {inspect.formatannotation(hint)}, got {value!r}"
        elif is_number and isinstance(value, str) and not _admits_str(hint):
            yield f"{name}: expected a number, got {value!r}"


def _admits_str(hint: Any) -> bool:
    """Return whether an annotation admits a string."""
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return any(map(_admits_str, get_args(hint)))
    if kind is Literal:
        return any(isinstance(value, str) for value in get_args(hint))
    return kind in (str, Any, object)


def _has_type(value: Any, hint: Any) -> bool:
    """Return whether a value can be of an annotated type; true if that cannot be decided."""
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return any(_has_type(value, one) for one in get_args(hint))
    if kind is Literal:
        return value in get_args(hint)
    # Objects are dicts in configs, and tuples may be lists.
    if isinstance(value, dict | list | tuple) or not isinstance(kind, type):
        return True
    decidable = kind.__module__ in ("builtins", "collections.abc")
    return not decidable or isinstance(value, (int, float) if kind is float else kind)
