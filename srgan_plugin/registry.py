"""Our registries: children of mmengine's, scope `srgan_plugin`.

mmengine imports this module by its name when a config says `default_scope = 'srgan_plugin'` or
`type='srgan_plugin.MSRResNet'`. What is registered lies in `srgan_plugin.hosts.mm`, imported on the
first look-up.
"""

from difflib import get_close_matches
from typing import Any

import mmengine.registry as root
from mmengine.registry import Registry

SCOPE = "srgan_plugin"


class UnknownNameError(KeyError, ValueError):
    """A `type=` that no registry knows; says so in one line."""

    def __str__(self) -> str:
        return str(self.args[0])


class PluginRegistry(Registry):
    """A registry that answers an unknown name with the nearest ones instead of a stack of hints."""

    def get(self, key: str) -> Any:
        """Return what is registered under `key`, here or in mmengine's registry above.

        Raises:
            UnknownNameError: No registry knows the name.
        """
        try:
            found = super().get(key)
        except RuntimeError:  # mmengine's answer to a key that is no importable object either
            found = None
        if found is None:
            raise UnknownNameError(self._unknown(key))
        return found

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
