"""Register the losses in BasicSR, as `type: NAME_srgan_plugin` in YAML, with its arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from basicsr.utils.registry import LOSS_REGISTRY

from srgan_plugin import losses
from srgan_plugin.networks.vgg import TORCHVISION

from .archs import SUFFIX

#: Path of the VGG-19 weights in BasicSR, relative to the working directory.
BASICSR_VGG = Path("experiments/pretrained_models/vgg19-dcbb9e9d.pth")


@LOSS_REGISTRY.register(suffix=SUFFIX)
class PerceptualLoss(losses.PerceptualLoss):  # BasicSR takes the name from the class
    """PerceptualLoss with the arguments and defaults of BasicSR, and VGG weights from any file.

    In YAML it is `type: PerceptualLoss_srgan_plugin`.

    Args:
        layer_weights: Weight by layer, such as `{'conv5_4': 1}`.
        vgg_type: Must be 'vgg19'.
        use_input_norm: Normalise by ImageNet's statistics.
        range_norm: Whether the images are in [-1, 1] and not in [0, 1].
        perceptual_weight: Factor of the perceptual term; 0 or less switches it off.
        style_weight: Factor of the style term; 0 or less switches it off.
        criterion: 'l1', 'fro', or 'mse', which BasicSR names 'l2'.
        pretrained: File of the VGG weights; see `networks.VGG19Features`. By default the file of
            BasicSR, `experiments/pretrained_models/vgg19-dcbb9e9d.pth`, is used if it exists, else
            that of torch.hub, which is downloaded if it is missing.
        feature_scale: Factor of the features before the comparison; 1 / 12.75 in the paper.

    Raises:
        UserError: See `losses.PerceptualLoss`, also for `MissingFileError`.
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


# The other losses have the arguments and defaults of BasicSR's, and more.
for _name, _loss in losses.LOSSES.items():
    if _name != PerceptualLoss.__name__:
        LOSS_REGISTRY.register(_loss, suffix=SUFFIX)
