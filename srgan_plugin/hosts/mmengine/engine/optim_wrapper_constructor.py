"""Build the optimiser wrappers of several networks from one config each."""

import re
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_CONSTRUCTORS
from torch import nn

from srgan_plugin.errors import UserError
from srgan_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Build an `OptimWrapperDict` from one config for each network, as MMagic does.

    Args:
        optim_wrapper_cfg: `dict(generator=dict(type='OptimWrapper', optimizer=...),
            discriminator=...)`. A key is the name of a child (with dots for a nested one) or a
            regular expression that matches full names; `modules` in a config, one or a list,
            replaces its key. `constructor` and `paramwise_cfg` may be set for each network. If
            `modules` and `optimizer` are at the top level, the result is a single wrapper for all
            of these networks.
        paramwise_cfg: Must be None.

    Raises:
        UserError: `paramwise_cfg` is not None. When called: a config is not that of a wrapper, a
            name matches no network, or `custom_keys` are given for several networks.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: Any = None) -> None:
        if paramwise_cfg is not None:
            raise UserError(
                "paramwise_cfg: expected inside each network's optim_wrapper, got one for all; "
                "move it to optim_wrapper.generator and optim_wrapper.discriminator"
            )
        self.configs = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> Any:
        """Build the wrappers for `model`, which may be wrapped for distributed training."""
        model = getattr(model, "module", model)
        if "modules" in self.configs:
            return self._build("modules", self.configs, model)
        return OptimWrapperDict(
            **{name: self._build(name, config, model) for name, config in self.configs.items()}
        )

    @staticmethod
    def _build(name: str, config: dict[str, Any], model: nn.Module) -> Any:
        if not isinstance(config, dict) or "optimizer" not in config:
            raise UserError(
                f"optim_wrapper.{name}: expected the config of a network's wrapper, "
                f"dict(optimizer=…), got {config!r}"
            )
        config = dict(config)
        patterns = config.pop("modules", name)
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not (isinstance(patterns, list | tuple) and patterns):
            place = f"{name}.modules".removeprefix("modules.")
            raise UserError(f"optim_wrapper.{place}: expected names of networks, got {patterns!r}")
        paramwise = config.pop("paramwise_cfg", None)
        constructor = ROOT_CONSTRUCTORS.build(
            {
                "type": config.pop("constructor", "DefaultOptimWrapperConstructor"),
                "paramwise_cfg": paramwise,
                "optim_wrapper_cfg": config,
            }
        )
        matches = [network for pattern in patterns for network in _networks(model, name, pattern)]
        found = _outermost(matches)
        if len(found) > 1 and "custom_keys" in (paramwise or {}):
            raise UserError(
                f"optim_wrapper.{name}.paramwise_cfg: expected no custom_keys for several "
                "networks, whose parameters have no names then; use one wrapper for each network"
            )
        wrapper = constructor(found[0] if len(found) == 1 else nn.ModuleList(found))
        wrapper.name = name  # for messages
        return wrapper


def _networks(model: nn.Module, name: str, pattern: str) -> list[nn.Module]:
    """Return the network with a name, else all networks that match it as a regular expression."""
    networks = dict(model.named_modules(remove_duplicate=False))
    if pattern in networks:
        return [networks[pattern]]
    try:
        found = [network for key, network in networks.items() if re.fullmatch(pattern, key)]
    except re.error as error:
        raise UserError(
            f"optim_wrapper.{name}: expected a name or a regular expression, got {pattern!r}: "
            f"{error}"
        ) from error
    if not found:
        children = ", ".join(child for child, _ in model.named_children())
        said = f"optim_wrapper.{name}" + ("" if name == pattern else f": {pattern}")
        raise UserError(f"{said}: the model has no such network; it has {children}")
    return found


def _outermost(networks: list[nn.Module]) -> list[nn.Module]:
    """Return each network once, without those inside another one, whose parameters count there."""
    unique = list(dict.fromkeys(networks))
    inner = {part for network in unique for part in network.modules() if part is not network}
    return [network for network in unique if network not in inner]
