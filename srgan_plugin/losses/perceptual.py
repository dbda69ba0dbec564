"""The perceptual and the style loss on VGG-19 features."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import check_option
from srgan_plugin.networks.blocks import at_least_float32, autocast_disabled
from srgan_plugin.networks.vgg import TORCHVISION, VGG19Features


def gram_matrix(features: Tensor) -> Tensor:
    """Compute Gram matrices F F^T / (C H W), where F is the (C, H*W) feature matrix.

    The definition is that of Gatys et al. 2016.

    Args:
        features: (N, C, H, W).

    Returns:
        (N, C, C), float64 for features in float64, otherwise float32.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import gram_matrix
        >>> gram_matrix(torch.ones(1, 2, 4, 4))
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """
    _, c, h, w = features.shape
    rows = at_least_float32(features).flatten(2)
    # autocast would run bmm in float16, where sums over H*W overflow
    with autocast_disabled(features):
        gram: Tensor = rows.bmm(rows.transpose(1, 2))
    return gram / (c * h * w)


_CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "fro": lambda a, b: torch.linalg.vector_norm(a - b),
}


class PerceptualLoss(nn.Module):
    """Distance between VGG-19 features, and between their Gram matrices (style).

    The perceptual term is that of Ledig et al. 2016, eq. 5. Features are compared in float32, even
    where autocast computes VGG in half precision.

    Args:
        layer_weights: Weights of the perceptual term, {layer: weight}; layers as in
            `VGG19Features`.
        layer_weights_style: Weights of the style term, {layer: weight}; None: `layer_weights`.
        vgg_type: Must be 'vgg19'; accepted for MMagic configs.
        use_input_norm: Whether VGG normalises its input (see `VGG19Features`).
        perceptual_weight: Weight of the perceptual term; 0 or less switches it off.
        style_weight: Weight of the style term; 0 or less switches it off.
        norm_img: Whether images are in [-1, 1] (the default, as in MMagic) and mapped to [0, 1] by
            (x + 1) / 2, or are in [0, 1] already (False).
        pretrained: File with the VGG weights (see `VGG19Features`); not read if both terms are off.
        criterion: 'l1' or 'mse', means over all elements, or 'fro', the norm of the difference
            over the whole batch, as in BasicSR.
        feature_scale: Factor applied to VGG features before both terms, so that Gram matrices are
            of scaled features; the paper uses 1 / 12.75.

    Raises:
        UserError: An option or layer is unknown, or the file does not hold VGG-19 weights.
        MissingFileError: `pretrained` is a missing file, or the download of torchvision's file
            failed.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from srgan_plugin.losses import PerceptualLoss
        >>> from srgan_plugin.networks import random_vgg19_state_dict
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(random_vgg19_state_dict(depth="conv2_2"), f"{folder}/vgg.pth")
        ...     loss = PerceptualLoss(
        ...         {"conv2_2": 1.0}, style_weight=0, norm_img=False, pretrained=f"{folder}/vgg.pth"
        ...     )
        >>> images = torch.rand(1, 3, 16, 16)
        >>> loss(images, images)
        (tensor(0.), None)
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
        # A term that is switched off needs no layers, so VGG ends at the deepest of the other term.
        self.layer_weights = dict(layer_weights) if perceptual_weight > 0 else {}
        self.layer_weights_style = dict(style) if style_weight > 0 else {}
        self.perceptual_weight = perceptual_weight
        self.style_weight = style_weight
        self.norm_img = norm_img
        self.criterion = criterion
        self.feature_scale = feature_scale
        layers = [*self.layer_weights, *self.layer_weights_style]
        self.vgg = (
            VGG19Features(layers, pretrained=pretrained, use_input_norm=use_input_norm)
            if layers
            else None
        )

    def forward(self, x: Tensor, gt: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Compute the perceptual and the style term.

        Args:
            x: SR images, RGB, (N, 3, H, W), in [-1, 1] (the default `norm_img=True`) or [0, 1]
                (`norm_img=False`).
            gt: GT images of the same shape and range; no gradient reaches them.

        Returns:
            The perceptual and the style term, each a scalar, or None if it is switched off.
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
        """Compute the scaled features of images; `vgg` is `self.vgg` where it is not None."""
        x = at_least_float32(x)  # mapping to [0, 1] in half precision would round away levels
        features: dict[str, Tensor] = vgg((x + 1) * 0.5 if self.norm_img else x)
        return {
            name: at_least_float32(feat) * self.feature_scale for name, feat in features.items()
        }
