"""The losses under BasicSR's names and arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from basicsr.utils.registry import LOSS_REGISTRY

from srgan_plugin import losses
from srgan_plugin.networks.vgg import TORCHVISION

from .archs import SUFFIX

#: Where BasicSR's own users put VGG-19's weights, below the working directory.
BASICSR_VGG = Path("experiments/pretrained_models/vgg19-dcbb9e9d.pth")


@LOSS_REGISTRY.register(suffix=SUFFIX)
class PerceptualLoss(losses.PerceptualLoss):
    """PerceptualLoss with BasicSR's names and defaults, and VGG weights from any file.

    Args:
        layer_weights: Weight by layer name, such as `{'conv5_4': 1}`.
        vgg_type: 'vgg19'.
        use_input_norm: Normalise by ImageNet's statistics.
        range_norm: The images are in [-1, 1].
        perceptual_weight: Factor of the perceptual term; not above 0 leaves it out.
        style_weight: Factor of the style term; not above 0 leaves it out.
        criterion: 'l1', 'mse' or 'fro'.
        pretrained: Where VGG's weights are; see `VGG19Features`. By default also where
            BasicSR looks for them, `experiments/pretrained_models/vgg19-dcbb9e9d.pth`.
        feature_scale: Factor of the features; the paper's is 1 / 12.75.
    """

    def __init__(
        self,
        layer_weights: Mapping[str, float],
        vgg_type: Literal["vgg19"] = "vgg19",
        use_input_norm: bool = True,
        range_norm: bool = False,
        perceptual_weight: float = 1.0,
        style_weight: float = 0.0,
        criterion: Literal["l1", "mse", "fro"] = "l1",
        pretrained: str | Path = TORCHVISION,
        feature_scale: float = 1.0,
    ) -> None:
        if pretrained == TORCHVISION and BASICSR_VGG.is_file():
            pretrained = BASICSR_VGG
        super().__init__(
            layer_weights,
            vgg_type=vgg_type,
            use_input_norm=use_input_norm,
            norm_img=range_norm,
            perceptual_weight=perceptual_weight,
            style_weight=style_weight,
            criterion=criterion,
            pretrained=pretrained,
            feature_scale=feature_scale,
        )


# The other losses have the same names, arguments and functions in BasicSR.
for _name, _loss in losses.LOSSES.items():
    if _name != PerceptualLoss.__name__:
        LOSS_REGISTRY.register(_loss, suffix=SUFFIX)
