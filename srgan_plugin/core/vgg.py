"""VGG-19 features by layer name, from weights that lie in an explicit place.

The content loss compares these features (Ledig et al. 2016, eq. 5). The network is configuration
E of Simonyan & Zisserman 2015, with its zero padding.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import widened, without_autocast
from .vgg_weights import CONV_SHAPES, LAYERS, TORCHVISION, layer_name, load_vgg19


class VGG19Features(nn.Module):
    """Features of VGG-19 at the layers asked for; the network ends at the deepest of them.

    The weights are frozen and no part of any state dict: gradients reach the input alone.

    Args:
        layers: `conv5_4` is the convolution's output before its ReLU, `relu5_4` after it (the
            paper's phi_5,4), `pool1` to `pool5`; or the index in torchvision's `features`, as
            MMagic's configs have it: '34' is conv5_4, '35' relu5_4.
        pretrained: 'torchvision://vgg19' takes vgg19-dcbb9e9d.pth (548 MB) from torch.hub's
            checkpoint folder and downloads it there if it is missing. Or a file: a state dict in
            torchvision's layout (`features.0.weight`, or `0.weight` without the classifier), or
            the rescaled weights of Gatys et al. (key 0 is a 1x1 convolution from RGB in [0, 1] to
            mean-subtracted BGR in [0, 255], then 2, 5, 9, 12, 16, … are the convolutions).
        use_input_norm: Normalise the input: by ImageNet's mean and deviation, or by the rescaled
            file's own key 0. Without it the picture goes to conv1_1 as it is.

    Raises:
        ValueError: No layer, an unknown one, one deeper than the file, or not a VGG-19 file.
        FileNotFoundError: The weights are not there and cannot be downloaded.
    """

    conv1_1_weight: Tensor

    def __init__(
        self,
        layers: Iterable[str],
        *,
        pretrained: str | Path = TORCHVISION,
        use_input_norm: bool = True,
    ) -> None:
        super().__init__()
        self.layers = {asked: layer_name(asked) for asked in layers}
        if not self.layers:
            raise ValueError("layers must name at least one layer of VGG-19, got none")
        deepest = max(LAYERS.index(name) for name in self.layers.values())
        self._walk = LAYERS[: deepest + 1]
        convs, rescaling = load_vgg19(pretrained, LAYERS[deepest])
        for name, (weight, bias) in convs.items():
            self.register_buffer(f"{name}_weight", weight, persistent=False)
            self.register_buffer(f"{name}_bias", bias, persistent=False)
        self.input_norm: nn.Module = nn.Identity()
        if use_input_norm:
            self.input_norm = _PointwiseConv(*rescaling) if rescaling else _MeanStd()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Look at pictures.

        Args:
            x: RGB in [0, 1], (N, 3, H, W); H and W at least 2 to the number of pools passed.

        Returns:
            The features by the names asked for, (N, C, H / 2**pools, W / 2**pools).
        """
        found: dict[str, Tensor] = {}
        wanted = set(self.layers.values())
        # Normalised in float32, then in the type of the weights (autocast has the last word).
        feat: Tensor = self.input_norm(widened(x)).to(self.conv1_1_weight.dtype)
        for before, name in zip(("", *self._walk[:-1]), self._walk, strict=True):
            if name in CONV_SHAPES:
                weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
                feat = F.conv2d(feat, weight, bias, padding=1)
            elif name.startswith("relu"):
                feat = F.relu(feat, inplace=before not in wanted)
            else:
                feat = F.max_pool2d(feat, kernel_size=2, stride=2)
            if name in wanted:
                found[name] = feat
        return {asked: found[name] for asked, name in self.layers.items()}


class _MeanStd(nn.Module):
    """ImageNet's statistics of RGB in [0, 1], which torchvision's weights were trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, rgb in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(rgb).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class _PointwiseConv(nn.Module):
    """The rescaled file's key 0."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Not under autocast: half precision would quantise the picture before VGG sees it.
        with without_autocast(x):
            return F.conv2d(x.to(self.weight.dtype), self.weight, self.bias)
