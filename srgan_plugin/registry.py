"""Our registries: children of mmengine's, scope `srgan_plugin`.

mmengine imports this module by its name when a config says `default_scope = 'srgan_plugin'` or
`type='srgan_plugin.MSRResNet'`. What is registered lies in `srgan_plugin.hosts.mmengine`, imported
on the first look-up.
"""

import functools
import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import mmengine.registry as root
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope, Registry, build_from_cfg

from srgan_plugin import config_path


def explain_bad_kwargs(error: TypeError) -> str | None:
    """One line on the argument with which a registry, any of mmengine's, could not build.

    Args:
        error: What the build raised.

    Returns:
        The line; None if the arguments fit, so that the error has another cause.
    """
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code is build_from_cfg.__code__ and "obj_cls" in frame.f_locals:
            built = inspect.unwrap(frame.f_locals["obj_cls"])
            if message := _bad_kwarg(built, frame.f_locals["args"]):
                return message
    return None


def _bad_kwarg(built: Any, given: Mapping[str, Any]) -> str | None:
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


PREFIX = "srgan_plugin"


def resolve_our_prefix() -> None:
    """Make mmengine find our configs by their prefix, in wheels and in editable installs.

    It reads `_base_` before it imports anything that a config names, so `srgan_plugin.registry`,
    which calls this, has to be imported before the config is read: our tools do, other launchers
    may not. `config_path` needs no such order. Types are looked up by the config's `default_scope`,
    as with `config_path`.

    mmengine has no public place for this. Should the method be gone, only the prefix stops working.
    """
    resolve = getattr(Config, "_get_cfg_path", None)
    if resolve is None or getattr(resolve, "knows_our_prefix", False):
        return

    @functools.wraps(resolve)
    def wrapper(cfg_path: str, filename: str) -> tuple[str, str | None]:
        prefix, separator, name = cfg_path.partition("::")
        if separator and prefix == PREFIX:
            return config_path(name), None
        found: tuple[str, str | None] = resolve(cfg_path, filename)
        return found

    wrapper.knows_our_prefix = True  # type: ignore[attr-defined]
    Config._get_cfg_path = staticmethod(wrapper)


resolve_our_prefix()


SCOPE = "srgan_plugin"


# What makes another toolbox work when a config names it by prefix.
SCOPE_MODULES = {"mmagic": "srgan_plugin.hosts.mmagic"}


class UnknownNameError(KeyError, ValueError):
    """A `type=` that no registry knows; says so in one line."""

    def __str__(self) -> str:
        return str(self.args[0])


def _in_its_scope(found: Any, scope: str) -> Any:
    """Make another toolbox's class build its own parts: unprefixed names inside it are its."""
    if not isinstance(found, type):
        return found

    @functools.wraps(found, updated=())
    def build(*args: Any, **kwargs: Any) -> Any:
        with DefaultScope.overwrite_default_scope(scope):
            return found(*args, **kwargs)

    return build


class PluginRegistry(Registry):
    """A registry that says what it found, and names the nearest where it finds nothing."""

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Build what a config describes.

        Raises:
            ValueError: It gives an argument that does not exist, or lacks one or its type.
        """
        try:
            return super().build(cfg, *args, **kwargs)
        except TypeError as error:
            if (message := explain_bad_kwargs(error)) is None:
                raise
            raise ValueError(message) from error
        except KeyError as error:
            if "type" in cfg:
                raise
            given = ", ".join(cfg) or "nothing"
            raise ValueError(
                f"expected a type in the config of a {self.name}, got {given}"
            ) from error

    def get(self, key: str) -> Any:
        """Return what is registered under `key`, here or in mmengine's registry above.

        A name with another toolbox's prefix makes that toolbox's adapter mend and import it; names
        without a prefix inside such a part are that toolbox's.

        Raises:
            UnknownNameError: No registry knows the name.
        """
        scope = key.partition(".")[0]
        if scope in SCOPE_MODULES:
            importlib.import_module(SCOPE_MODULES[scope])
        try:
            found = super().get(key)
        except RuntimeError:  # mmengine's answer to a key that is no importable object either
            found = None
        if found is None:
            raise UnknownNameError(self._unknown(key))
        if self.name == "model" and isinstance(found, type):
            print_log(f"{key} is {found.__module__}.{found.__qualname__}", logger="current")
        return _in_its_scope(found, scope) if scope in SCOPE_MODULES else found

    def _unknown(self, key: str) -> str:
        names = list(self.module_dict) + list(self.parent.module_dict if self.parent else ())
        by_lower_case = {name.lower(): name for name in names}
        near = get_close_matches(key.split(".")[-1].lower(), by_lower_case, n=3, cutoff=0.5)
        hint = ", ".join(by_lower_case[name] for name in near) or ", ".join(sorted(names)[:8])
        return f"no {self.name} is called {key!r} in scope {self.scope!r}; nearest: {hint}"


def _child(name: str) -> PluginRegistry:
    parent = getattr(root, name)
    return PluginRegistry(
        parent.name, parent=parent, scope=SCOPE, locations=["srgan_plugin.hosts.mmengine"]
    )


# All that mmengine's runner asks for: a scope without one of them makes it warn and fall back.
DATASETS = _child("DATASETS")


DATA_SAMPLERS = _child("DATA_SAMPLERS")
EVALUATOR = _child("EVALUATOR")
FUNCTIONS = _child("FUNCTIONS")
HOOKS = _child("HOOKS")
LOG_PROCESSORS = _child("LOG_PROCESSORS")
LOOPS = _child("LOOPS")
METRICS = _child("METRICS")
MODELS = _child("MODELS")
MODEL_WRAPPERS = _child("MODEL_WRAPPERS")
OPTIMIZERS = _child("OPTIMIZERS")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS")
OPTIM_WRAPPER_CONSTRUCTORS = _child("OPTIM_WRAPPER_CONSTRUCTORS")
PARAM_SCHEDULERS = _child("PARAM_SCHEDULERS")
RUNNERS = _child("RUNNERS")
TRANSFORMS = _child("TRANSFORMS")
VISBACKENDS = _child("VISBACKENDS")
VISUALIZERS = _child("VISUALIZERS")
