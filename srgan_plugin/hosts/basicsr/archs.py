"""The networks with the names, arguments and state-dict keys of BasicSR."""

from functools import partial
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from srgan_plugin import networks
from srgan_plugin.checkpoints.layouts import find_layout
from srgan_plugin.networks.blocks import refuse_foreign_weights

SUFFIX = "srgan_plugin"
_LAYOUT: Any = find_layout("MSRResNet", "basicsr")


def _rename(rename: Any, _: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Rename the keys of a state dict in place (a torch hook for loading and for saving)."""
    own = {key.removeprefix(prefix): key for key in state if key.startswith(prefix)}
    for key, weight in rename({key: state.pop(old) for key, old in own.items()}).items():
        state[prefix + key] = weight


@ARCH_REGISTRY.register(suffix=SUFFIX)
class MSRResNet(networks.MSRResNet):
    """MSRResNet as in BasicSR, with LeakyReLU after each shuffle and the keys of BasicSR.

    Its weights load into the class of BasicSR and vice versa. Keys of `networks.MSRResNet` load
    as well; they are saved if `activate_after_shuffle` is false, because BasicSR's class always has
    the activation.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the output.
        num_feat: Number of features.
        num_block: Number of residual blocks.
        upscale: 2, 3 or 4.
        activate_after_shuffle: False for weights that were trained in MMagic.
    """

    load_hooks = (partial(_rename, _LAYOUT.to_plugin_keys), *networks.MSRResNet.load_hooks)

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        upscale: int = 4,
        activate_after_shuffle: bool = True,
    ) -> None:
        super().__init__(
            in_channels=num_in_ch,
            out_channels=num_out_ch,
            mid_channels=num_feat,
            num_blocks=num_block,
            upscale_factor=upscale,
            activate_after_shuffle=activate_after_shuffle,
        )
        if activate_after_shuffle:  # implied by BasicSR's keys
            hook = partial(_rename, _LAYOUT.from_plugin_keys)
            self.register_state_dict_post_hook(hook)  # type: ignore[no-untyped-call]


@ARCH_REGISTRY.register(suffix=SUFFIX)
class VGGStyleDiscriminator(networks.ModifiedVGG):
    """ModifiedVGG with BasicSR's name, for square images of any size.

    Args:
        num_in_ch: Channels of the images.
        num_feat: Features of the first stage.
        input_size: Height and width: a multiple of 32, or from 256 on a multiple of 64 with a
            sixth stage, as in BasicSR.
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, input_size: int = 128) -> None:
        super().__init__(
            in_channels=num_in_ch,
            mid_channels=num_feat,
            input_size=input_size,
            num_stages=6 if input_size >= 256 else 5,
        )
        self.register_load_state_dict_pre_hook(refuse_foreign_weights)  # type: ignore[no-untyped-call]


# Networks without a counterpart in BasicSR, with unchanged names and arguments.
for _name, _network in (networks.GENERATORS | networks.DISCRIMINATORS).items():
    if _name not in (MSRResNet.__name__, networks.ModifiedVGG.__name__):
        ARCH_REGISTRY.register(_network, suffix=SUFFIX)
