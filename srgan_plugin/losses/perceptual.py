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
    """Compute Gram matrices F F^T / (C H W), F being C rows of H W features (Gatys et al. 2016).

    Args:
        features: (N, C, H, W).

    Returns:
        (N, C, C), float32 for features in half precision.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import gram_matrix
        >>> gram_matrix(torch.ones(1, 2, 4, 4))
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """
    _, c, h, w = features.shape
    rows = widened(features).flatten(2)
    with without_autocast(features):  # sums over H W exceed the range of float16
        gram: Tensor = rows.bmm(rows.transpose(1, 2))
    return gram / (c * h * w)


_CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "fro": lambda a, b: torch.linalg.vector_norm(a - b),
}


class PerceptualLoss(nn.Module):
    """Distance of VGG-19 features, and of their Gram matrices (Ledig et al. 2016, eq. 5).

    Features are compared in float32, also where autocast computes VGG in half precision.

    Args:
        layer_weights: Weight by layer of the perceptual term (layers as in `VGG19Features`).
        layer_weights_style: Weight by layer of the style term; `layer_weights` if None.
        vgg_type: 'vgg19'.
        use_input_norm: Normalise the input of VGG (see `VGG19Features`).
        perceptual_weight: Factor of the perceptual term; 0 or less switches it off.
        style_weight: Factor of the style term; 0 or less switches it off.
        norm_img: Map images from [-1, 1] to [0, 1] by (x + 1) / 2 first.
        pretrained: File of the VGG weights (see `VGG19Features`); not read if both terms are off.
        criterion: 'l1' or 'mse', means over all elements, or 'fro', the norm of the difference
            over the whole batch, as in BasicSR.
        feature_scale: Factor of the features before the comparison; 1 / 12.75 in the paper.

    Raises:
        UserError: An option or layer is unknown, or the file does not hold VGG-19 weights.
        FileNotFoundError: The file does not exist and cannot be downloaded.

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
        """Compute the perceptual and the style term.

        Args:
            x: Generated RGB in [0, 1], or [-1, 1] with `norm_img`, (N, 3, H, W).
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
        x = widened(x)  # mapping to [0, 1] in half precision would round away levels
        features: dict[str, Tensor] = vgg((x + 1) * 0.5 if self.norm_img else x)
        return {name: widened(feat) * self.feature_scale for name, feat in features.items()}
