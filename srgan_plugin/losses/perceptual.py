"""The perceptual and the style loss on VGG-19 features."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import check_option
from srgan_plugin.networks.blocks import widened, without_autocast
from srgan_plugin.networks.vgg import TORCHVISION, VGG19Features


def gram_matrix(features: Tensor) -> Tensor:
    """Correlate channels: F F^T / (C H W) with F of C rows (Gatys et al. 2016, scaled).

    Args:
        features: (N, C, H, W).

    Returns:
        (N, C, C), float32 for features in half precision.
    """
    _, c, h, w = features.shape
    # Scaled before the product: sums over H W exceed float16's range at ordinary sizes.
    rows = widened(features).flatten(2) / (c * h * w) ** 0.5
    with without_autocast(features):
        gram: Tensor = rows.bmm(rows.transpose(1, 2))
    return gram


_CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "fro": lambda a, b: torch.linalg.vector_norm(a - b),
}


class PerceptualLoss(nn.Module):
    """Distance of VGG-19 features, and of their Gram matrices (Ledig et al. 2016, eq. 5).

    Features are compared in float32 whatever autocast lets VGG compute in.

    Args:
        layer_weights: Weight by layer name (see `VGG19Features`).
        layer_weights_style: The same for the style term; `layer_weights` if None.
        vgg_type: 'vgg19'.
        use_input_norm: Normalise VGG's input (see `VGG19Features`).
        perceptual_weight: Factor of the perceptual term; not above 0 leaves it out.
        style_weight: Factor of the style term; not above 0 leaves it out.
        norm_img: The images are in [-1, 1] and get mapped to [0, 1] by (x + 1) / 2.
        pretrained: Where VGG's weights are (see `VGG19Features`); untouched with neither term.
        criterion: 'l1' or 'mse', means over all elements, or 'fro', BasicSR's norm of the
            difference over the whole batch.
        feature_scale: Factor of the features before they are compared; the paper's is 1 / 12.75.

    Raises:
        UserError: An unknown option or layer, or a file that is not VGG-19.
        FileNotFoundError: VGG's weights are not there and cannot be downloaded.
    """

    def __init__(
        self,
        layer_weights: Mapping[str, float],
        layer_weights_style: Mapping[str, float] | None = None,
        vgg_type: Literal["vgg19"] = "vgg19",
        use_input_norm: bool = True,
        perceptual_weight: float = 1.0,
        style_weight: float = 1.0,
        norm_img: bool = True,
        pretrained: str | Path = TORCHVISION,
        criterion: Literal["l1", "mse", "fro"] = "l1",
        feature_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_option("vgg_type", vgg_type, ("vgg19",))
        check_option("criterion", criterion, _CRITERIA)
        style = layer_weights if layer_weights_style is None else layer_weights_style
        self.layer_weights = dict(layer_weights) if perceptual_weight > 0 else {}
        self.layer_weights_style = dict(style) if style_weight > 0 else {}
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        self.norm_img = norm_img
        self.criterion = criterion
        self.feature_scale = feature_scale
        layers = {**self.layer_weights, **self.layer_weights_style}
        self.vgg = (
            VGG19Features(layers, pretrained=pretrained, use_input_norm=use_input_norm)
            if layers
            else None
        )

    def forward(self, x: Tensor, gt: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Compare images.

        Args:
            x: Generated RGB in [0, 1], or [-1, 1] with `norm_img`, (N, 3, H, W).
            gt: Real images of the same shape; no gradient reaches them.

        Returns:
            The perceptual and the style term, each a scalar or None where it is left out.
        """
        if self.vgg is None:
            return None, None
        with torch.no_grad():
            real = self._features(self.vgg, gt)
        fake = self._features(self.vgg, x)
        distance = _CRITERIA[self.criterion]
        perceptual = [
            distance(fake[name], real[name]) * weight for name, weight in self.layer_weights.items()
        ]
        style = [
            distance(gram_matrix(fake[name]), gram_matrix(real[name])) * weight
            for name, weight in self.layer_weights_style.items()
        ]
        return (
            torch.stack(perceptual).sum() * self.perceptual_weight if perceptual else None,
            torch.stack(style).sum() * self.style_weight if style else None,
        )

    def _features(self, vgg: VGG19Features, x: Tensor) -> dict[str, Tensor]:
        x = widened(x)  # mapped to [0, 1] in half precision, images would lose levels
        features: dict[str, Tensor] = vgg((x + 1) * 0.5 if self.norm_img else x)
        return {name: widened(feat) * self.feature_scale for name, feat in features.items()}
