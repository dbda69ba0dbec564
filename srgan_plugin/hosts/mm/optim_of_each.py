"""An optimiser wrapper for each network of a model."""

from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_CONSTRUCTORS
from torch import nn

from srgan_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Builds an `OptimWrapperDict` from one config per child of the model, as MMagic's does.

    Args:
        optim_wrapper_cfg: `dict(generator=dict(type='OptimWrapper', optimizer=...),
            discriminator=...)`; a key is the name of a child, dots for deeper ones.
        paramwise_cfg: Has to be given per child instead.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: Any = None) -> None:
        if paramwise_cfg is not None:
            raise ValueError(
                "paramwise_cfg: expected inside each network's optim_wrapper, got one for all; "
                "move it to optim_wrapper.generator and optim_wrapper.discriminator"
            )
        self.configs = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build the wrappers for `model`, which may be wrapped for distributed training."""
        model = getattr(model, "module", model)
        return OptimWrapperDict(
            **{name: self._build(name, config, model) for name, config in self.configs.items()}
        )

    @staticmethod
    def _build(name: str, config: dict[str, Any], model: nn.Module) -> Any:
        config = dict(config)
        constructor = ROOT_CONSTRUCTORS.build(
            {
                "type": config.pop("constructor", "DefaultOptimWrapperConstructor"),
                "paramwise_cfg": config.pop("paramwise_cfg", None),
                "optim_wrapper_cfg": config,
            }
        )
        try:
            child = model.get_submodule(name)
        except AttributeError:
            children = ", ".join(child for child, _ in model.named_children())
            raise ValueError(
                f"optim_wrapper.{name}: the model has no such network; it has {children}"
            ) from None
        wrapper = constructor(child)
        wrapper.name = name
        return wrapper
