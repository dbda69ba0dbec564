"""The networks under BasicSR's names and arguments, with its state-dict keys."""

from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from srgan_plugin import networks
from srgan_plugin.networks.checks import refuse_foreign_weights

SUFFIX = "srgan_plugin"

# How keys begin in BasicSR's MSRResNet, and in ours.
_RENAMES = (
    ("body.", "trunk_net."),
    ("upconv1.", "upsample1.upsample_conv."),
    ("upconv2.", "upsample2.upsample_conv."),
)


def _rename(state: dict[str, Any], prefix: str, renames: tuple[tuple[str, str], ...]) -> None:
    for old, new in renames:
        for key in [key for key in state if key.startswith(prefix + old)]:
            state[prefix + new + key.removeprefix(prefix + old)] = state.pop(key)


def _to_basicsr(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
    _rename(state, prefix, tuple((ours, theirs) for theirs, ours in _RENAMES))


def _from_basicsr(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    _rename(state, prefix, _RENAMES)


@ARCH_REGISTRY.register(suffix=SUFFIX)
class MSRResNet(networks.MSRResNet):
    """`core.MSRResNet` as BasicSR has it: LeakyReLU after each shuffle, and BasicSR's keys.

    What it saves BasicSR's own class loads, and the other way round. Our keys load as well, and
    are what it saves without the activation, which BasicSR's class could not leave out.

    Args:
        num_in_ch: Channels of the LR picture.
        num_out_ch: Channels of the result.
        num_feat: Features.
        num_block: Residual blocks.
        upscale: 2, 3 or 4.
        activate_after_shuffle: False for weights that were trained in MMagic.
    """

    load_hooks = (_from_basicsr, *networks.MSRResNet.load_hooks)

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
        if activate_after_shuffle:  # under these keys everybody takes it for granted
            self.register_state_dict_post_hook(_to_basicsr)  # type: ignore[no-untyped-call]


@ARCH_REGISTRY.register(suffix=SUFFIX)
class VGGStyleDiscriminator(networks.ModifiedVGG):
    """`core.ModifiedVGG` as BasicSR has it, for any square pictures.

    Args:
        num_in_ch: Channels of the pictures.
        num_feat: Features of the first stage.
        input_size: Height and width, a multiple of 32; from 256 on, where a sixth stage follows as
            in BasicSR, of 64.
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64, input_size: int = 128) -> None:
        super().__init__(
            in_channels=num_in_ch,
            mid_channels=num_feat,
            input_size=input_size,
            num_stages=6 if input_size >= 256 else 5,
        )
        self.register_load_state_dict_pre_hook(refuse_foreign_weights)  # type: ignore[no-untyped-call]
