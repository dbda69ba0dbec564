"""Registries of scope `srgan_plugin`, children of mmengine's registries.

mmengine imports this module by name for a config with `default_scope = 'srgan_plugin'` or
`type='srgan_plugin.MSRResNet'`; the first look-up imports `srgan_plugin.hosts.mmengine`, which
registers the classes. Importing it also enables `_base_ = 'srgan_plugin::NAME.py'`.
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
from srgan_plugin.errors import UserError

SCOPE = "srgan_plugin"
# Modules that patch another toolbox and register its classes, by prefix of the `type`.
SCOPE_MODULES = {"mmagic": "srgan_plugin.hosts.mmagic"}


class UnknownNameError(KeyError, UserError):
    """Error for a `type=` that is in no registry."""

    def __str__(self) -> str:
        return str(self.args[0])


class PluginRegistry(Registry):
    """Registry whose errors name the nearest class or argument, and which logs models."""

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Build the object that a config describes.

        Raises:
            UserError: The config has an unknown argument, or an argument or `type` is missing.
        """
        try:
            return super().build(cfg, *args, **kwargs)
        except TypeError as error:
            if (message := explain_bad_kwargs(error)) is None:
                raise
            raise UserError(message) from error
        except KeyError as error:
            if "type" in cfg:
                raise
            given = ", ".join(cfg) or "nothing"
            raise UserError(
                f"config of a {self.name}: expected a key 'type', got {given}"
            ) from error

    def get(self, key: str) -> Any:
        """Return the object registered under `key`, here or in the parent registry of mmengine.

        A prefix in `SCOPE_MODULES` patches and imports that toolbox first.

        Raises:
            UnknownNameError: The name is in no registry.
        """
        scope = key.partition(".")[0]
        if scope in SCOPE_MODULES:
            importlib.import_module(SCOPE_MODULES[scope])
        try:
            found = super().get(key)
        except RuntimeError:  # raised by mmengine for a name that cannot be imported either
            found = None
        if found is None:
            raise UnknownNameError(self._explain_unknown(key))
        if self.name == "model" and isinstance(found, type):
            print_log(f"{key} is {found.__module__}.{found.__qualname__}", logger="current")
        return _built_in_scope(found, scope) if scope in SCOPE_MODULES else found

    def _explain_unknown(self, key: str) -> str:
        names = [*self.module_dict, *(self.parent.module_dict if self.parent else ())]
        by_lower_case = {name.lower(): name for name in names}
        near = get_close_matches(key.split(".")[-1].lower(), by_lower_case, n=3, cutoff=0.5)
        hint = ", ".join([by_lower_case[name] for name in near] or sorted(names)[:8])
        return (
            f"{self.name}: expected a class registered in scope {self.scope!r}, got {key!r}; "
            f"nearest: {hint}"
        )


def _built_in_scope(found: Any, scope: str) -> Any:
    """Build nested configs in the scope of the enclosing class."""
    if not isinstance(found, type):
        return found

    @functools.wraps(found, updated=())
    def build(*args: Any, **kwargs: Any) -> Any:
        with DefaultScope.overwrite_default_scope(scope):
            return found(*args, **kwargs)

    return build


def _child(name: str) -> PluginRegistry:
    parent = getattr(root, name)
    return PluginRegistry(
        parent.name, parent=parent, scope=SCOPE, locations=["srgan_plugin.hosts.mmengine"]
    )


# All registries that mmengine's runner uses; it warns about each one that is missing in a scope.
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


def explain_bad_kwargs(error: TypeError) -> str | None:
    """Return a line about an unknown or missing argument of a class that mmengine built.

    The class and its arguments are read from the frame of `build_from_cfg`. `PluginRegistry.build`
    could bind them by `inspect.signature` before the call, but mmengine's runner builds most
    objects by its root registries, which only look the class up here.

    Args:
        error: The error that the build raised.

    Returns:
        The line, or None if the arguments are right and the error has another cause.
    """
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code is build_from_cfg.__code__ and "obj_cls" in frame.f_locals:
            built = inspect.unwrap(frame.f_locals["obj_cls"])
            if message := _bad_kwarg(built, frame.f_locals["args"]):
                return message
    return None


def class_of_refused_argument(error: Exception) -> str | None:
    """Return the name of the class that mmengine built and whose argument a `UserError` names.

    A config may have several classes with an argument of that name, such as two losses.

    Args:
        error: Error whose message begins with the name of an argument, as that of `check_option`.

    Returns:
        The name, or None if no class was being built or the message begins otherwise.
    """
    argument = str(error).partition(":")[0]
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code is build_from_cfg.__code__ and "obj_cls" in frame.f_locals:
            built = inspect.unwrap(frame.f_locals["obj_cls"])
            return str(built.__name__) if argument in frame.f_locals["args"] else None
    return None


def _bad_kwarg(built: Any, given: Mapping[str, Any]) -> str | None:
    for name, parameter in _parameters(_constructors(built)[0]).items():
        if parameter.default is parameter.empty and name not in given:
            return f"{built.__name__}: expected the argument {name!r}, got none"
    known, takes_any = known_arguments(built)
    unknown = next((name for name in given if name not in known), None)
    if takes_any or unknown is None:
        return None
    known -= {"params"}  # of optimisers, which no config gives
    near = get_close_matches(unknown, known, n=3, cutoff=0.4) or sorted(known)
    return (
        f"{built.__name__}: expected arguments it has, got {unknown!r}; nearest: {', '.join(near)}"
    )


def known_arguments(built: Any) -> tuple[set[str], bool]:
    """Return the argument names of a class or function, and whether it takes any other name.

    If a constructor takes `**kwargs`, the arguments of its base classes are included.
    """
    known: set[str] = set()
    for constructor in _constructors(inspect.unwrap(built)):
        known |= set(_parameters(constructor))
        kinds = {parameter.kind for parameter in inspect.signature(constructor).parameters.values()}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return known, False
    return known, True


def _constructors(built: Any) -> list[Callable[..., Any]]:
    """Return `[function]`, or for a class its constructors, that of the class itself first."""
    if not inspect.isclass(built):
        return [built]
    own = [vars(base)["__init__"] for base in built.__mro__[:-1] if "__init__" in vars(base)]
    return own or [lambda: None]


def _parameters(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(constructor).parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in parameters.items() if p.kind in by_name and name != "self"}


def resolve_our_prefix() -> None:
    """Make mmengine find `srgan_plugin::NAME.py`, in wheels and in editable installs.

    mmengine reads `_base_` before it imports the modules that a config names, so this module must
    be imported before the config is read, as the tools of this package do. `config_path` works
    with any launcher.

    mmengine has no public function for this: its own method accepts packages in a private table
    and names with a folder, `mmagic::srgan_resnet/NAME.py`. In a version without the method, only
    the prefix is unavailable.
    """
    resolve = getattr(Config, "_get_cfg_path", None)
    if resolve is None or getattr(resolve, "knows_our_prefix", False):
        return

    @functools.wraps(resolve)
    def wrapper(cfg_path: str, filename: str) -> tuple[str, str | None]:
        prefix, separator, name = cfg_path.partition("::")
        if separator and prefix == SCOPE:
            return config_path(name), None
        found: tuple[str, str | None] = resolve(cfg_path, filename)
        return found

    wrapper.knows_our_prefix = True  # type: ignore[attr-defined]
    Config._get_cfg_path = staticmethod(wrapper)


resolve_our_prefix()
