"""Our registries: children of mmengine's, scope `srgan_plugin`.

mmengine imports this module by its name when a config says `default_scope = 'srgan_plugin'` or
`type='srgan_plugin.MSRResNet'`. What is registered lies in `srgan_plugin.hosts.mm`, imported on the
first look-up.
"""

import functools
import importlib
from difflib import get_close_matches
from typing import Any

import mmengine.registry as root
from mmengine.logging import print_log
from mmengine.registry import DefaultScope, Registry

from srgan_plugin.config_arguments import wrong_argument
from srgan_plugin.config_prefix import resolve_our_prefix

resolve_our_prefix()

SCOPE = "srgan_plugin"
# What makes another toolbox work when a config names it by prefix.
ADAPTERS = {"mmagic": "srgan_plugin.hosts.mm.mmagic"}


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
            if (message := wrong_argument(error)) is None:
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
        if scope in ADAPTERS:
            importlib.import_module(ADAPTERS[scope])
        try:
            found = super().get(key)
        except RuntimeError:  # mmengine's answer to a key that is no importable object either
            found = None
        if found is None:
            raise UnknownNameError(self._unknown(key))
        if self.name == "model" and isinstance(found, type):
            print_log(f"{key} is {found.__module__}.{found.__qualname__}", logger="current")
        return _in_its_scope(found, scope) if scope in ADAPTERS else found

    def _unknown(self, key: str) -> str:
        names = list(self.module_dict) + list(self.parent.module_dict if self.parent else ())
        by_lower_case = {name.lower(): name for name in names}
        near = get_close_matches(key.split(".")[-1].lower(), by_lower_case, n=3, cutoff=0.5)
        hint = ", ".join(by_lower_case[name] for name in near) or ", ".join(sorted(names)[:8])
        return f"no {self.name} is called {key!r} in scope {self.scope!r}; nearest: {hint}"


def _child(name: str) -> PluginRegistry:
    parent = getattr(root, name)
    return PluginRegistry(
        parent.name, parent=parent, scope=SCOPE, locations=["srgan_plugin.hosts.mm"]
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
