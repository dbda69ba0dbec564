"""State-dict layouts of SRGAN repositories, whose generators are SRResNets with other keys.

A row is one layout of one repository; a repository has several if its keys changed. Each follows
the model, training and test scripts of the repository. A fork may have changed these without
changing a key, so that arguments which no weight shows are assumptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Renames = tuple[tuple[str, str], ...]  # as in `layouts.StateDictLayout.renames`


@dataclass(frozen=True, kw_only=True)
class RepositoryLayout:
    """One layout of the generator of one repository.

    Attributes:
        name: Owner and name on GitHub, and the version if there are several layouts.
        detect_keys: See `layouts.StateDictLayout`.
        renames: See `layouts.StateDictLayout`.
        assumed_args: Arguments of `SRResNet` as in the scripts of the repository, assumed for every
            file with this layout: both pixel ranges, unless they are among `required_args`, and
            others that differ from the default. How values from the file override them: see
            `layouts.StateDictLayout`.
        required_args: See `layouts.StateDictLayout`.
    """

    name: str
    detect_keys: tuple[str, ...]
    renames: Renames
    assumed_args: Mapping[str, Any] = field(default_factory=dict)
    required_args: tuple[str, ...] = ()


_TANH: dict[str, Any] = {"last_act": "tanh", "output_range": (-1.0, 1.0), "input_range": (0.0, 1.0)}
_TANH_SIGNED_INPUT = _TANH | {"input_range": (-1.0, 1.0)}
_UNIT_RANGES: dict[str, Any] = {"output_range": (0.0, 1.0), "input_range": (0.0, 1.0)}


def _rename_ends(first: str, trunk: str, last: str, after_trunk: str = "bn_trunk") -> Renames:
    """Return the renames of the first layers, the end of the trunk and the last convolution.

    Args:
        first: Prefix of the first convolution and its activation.
        trunk: Prefix of the convolution and the layer after the blocks.
        last: Prefix of the last convolution. If it has `{}`, which matches any number, more
            specific renames must come before these, because the first match counts.
        after_trunk: Layer of SRResNet after `conv_trunk`: "bn_trunk" (default) or "act_trunk".
    """
    return (
        (f"{first}.0.", "conv_first."),
        (f"{first}.1.", "act_first."),
        (f"{trunk}.0.", "conv_trunk."),
        (f"{trunk}.1.", f"{after_trunk}."),
        (f"{last}.", "conv_last."),
    )


def _block(prefix: str, *names: str, number: str = "{}") -> Renames:
    """Return the renames of the layers in the residual blocks.

    Args:
        prefix: Prefix of a block, with `{}` for its number.
        names: Names of conv1, bn1, act, conv2 and bn2.
        number: Number of the block in SRResNet, in the syntax of `layouts.StateDictLayout.renames`;
            default "{}", the same number.
    """
    parts = ("conv1", "bn1", "act", "conv2", "bn2")
    return tuple(
        (f"{prefix}.{name}.", f"trunk_net.{number}.{part}.")
        for name, part in zip(names, parts, strict=True)
    )


def _upsample(conv: str, act: str) -> Renames:
    """Return the renames of the layers in upsampling blocks that are numbered from 0."""
    return ((f"{conv}.", "upsample{+1}.upsample_conv."), (f"{act}.", "upsample{+1}.act."))


def _flat_upsample(prefix: str, *parts: str) -> Renames:
    """Return the renames of up to three upsampling blocks (x8) in one `nn.Sequential`.

    Args:
        prefix: Prefix of the sequence.
        parts: Names in SRResNet of the layers of a block, '' for layers without weights.
    """
    return tuple(
        (f"{prefix}.{len(parts) * n + place}.", f"upsample{n + 1}.{part}.")
        for n in range(3)
        for place, part in enumerate(parts)
        if part
    )


def _remove_prefix(family: str) -> Renames:
    """Return the renames that remove the prefix which `foreign_layers` adds: keras, tensorlayer."""
    parts = ("conv_", "act_", "bn_", "trunk_net.", "upsample")
    return tuple((f"{family}.{part}", part) for part in parts)


_LEFTTHOMAS = (
    *_block("block{}", "conv1", "bn1", "prelu", "conv2", "bn2", number="{-2}"),
    *_upsample("block8.{}.conv", "block8.{}.prelu"),
)
_ERIK = (
    *_rename_ends("conv1", "conv2", "conv3.0"),
    *_block("res_blocks.{}.conv_block", *"01234"),
    *_flat_upsample("upsampling", "upsample_conv", "upsample_bn", "", "act"),
)
_LORNATANG = (
    *_block("trunk.{}.rcb", *"01234"),
    *_upsample("upsampling.{}.upsample_block.0", "upsampling.{}.upsample_block.2"),
)
_LORNATANG_2021 = (
    *_block("trunk.{}", "conv1", "bn1", "prelu", "conv2", "bn2"),
    *_upsample("subpixel_conv.{}.conv", "subpixel_conv.{}.prelu"),
)
_LORNATANG_2020 = (
    *_block("residual_blocks.{}", "conv1", "bn1", "prelu", "conv2", "bn2"),
    *_flat_upsample("upsampling", "upsample_conv", "upsample_bn", "", "act"),
)
# Training and test scripts of these versions disagree on the ranges (docs/checkpoints.md), so that
# the user must give them.
_RANGES = ("input_range", "output_range")
_TWTYGQYY = (
    ("conv_input.", "conv_first."),
    ("conv_mid.", "conv_trunk."),
    ("bn_mid.", "bn_trunk."),
    *_flat_upsample("upscale4x", "upsample_conv", "", ""),
    ("conv_output.", "conv_last."),
)
REPOSITORY_LAYOUTS = (
    RepositoryLayout(
        name="eriklindernoren/PyTorch-GAN",
        detect_keys=("conv1.0", "conv1.1", "res_blocks.0.conv_block.0", "upsampling.1", "conv3.0"),
        renames=_ERIK,
        assumed_args={
            "last_act": "tanh",
            "input_range": "imagenet",
            "output_range": "imagenet",
            "norm_eps": 0.8,
        },
    ),
    RepositoryLayout(
        name="eriklindernoren/PyTorch-GAN (2018)",
        detect_keys=("conv1.0", "!conv1.1", "res_blocks.0.conv_block.0", "upsampling.1", "conv3.0"),
        renames=_ERIK,
        assumed_args=_TANH_SIGNED_INPUT | {"act": "relu"},
    ),
    RepositoryLayout(
        name="aladdinpersson/Machine-Learning-Collection",
        detect_keys=("initial.cnn", "residuals.0.block1.cnn", "final"),
        renames=(
            ("initial.cnn.", "conv_first."),
            ("initial.act.", "act_first."),
            *_block(
                "residuals.{}", "block1.cnn", "block1.bn", "block1.act", "block2.cnn", "block2.bn"
            ),
            # The model defines this layer, but its forward pass does not use it.
            ("residuals.{}.block2.act.", ""),
            ("convblock.cnn.", "conv_trunk."),
            ("convblock.bn.", "bn_trunk."),
            ("convblock.act.", ""),  # not used either
            *_upsample("upsamples.{}.conv", "upsamples.{}.act"),
            ("final.", "conv_last."),
        ),
        assumed_args=_TANH,
    ),
    RepositoryLayout(
        name="leftthomas/SRGAN",
        detect_keys=(
            "block1.0",
            "block2.conv1",
            "block2.prelu",
            "block7.0",
            "block7.1.running_mean",
        ),
        renames=(*_LEFTTHOMAS, *_rename_ends("block1", "block7", "block8.{}")),
        assumed_args=_TANH,
    ),
    RepositoryLayout(
        name="leftthomas/SRGAN (2017)",
        detect_keys=(
            "block1.0",
            "block2.conv1",
            "block2.prelu",
            "block7.0",
            "block7.1",
            "!block7.1.running_mean",
        ),
        renames=(*_LEFTTHOMAS, *_rename_ends("block1", "block7", "block8.{}", "act_trunk")),
        assumed_args=_TANH,
    ),
    RepositoryLayout(
        name="weichen283/srgan-pytorch",
        detect_keys=(
            "block1.0",
            "block1.1",
            "block2.conv1",
            "!block2.prelu",
            "block7.0",
            "block7.1.running_mean",
        ),
        renames=(*_LEFTTHOMAS, *_rename_ends("block1", "block7", "block8.{}")),
        assumed_args=_TANH | {"act": "swish", "first_act": "prelu"},
    ),
    RepositoryLayout(
        name="Lornatang/SRGAN-PyTorch",
        detect_keys=("conv1.0", "trunk.0.rcb.0", "conv3"),
        renames=(*_LORNATANG, *_rename_ends("conv1", "conv2", "conv3")),
        assumed_args=_UNIT_RANGES,
    ),
    RepositoryLayout(
        name="Lornatang/SRGAN-PyTorch (early 2022)",
        detect_keys=("conv_block1.0", "trunk.0.rcb.0", "conv_block3"),
        renames=(*_LORNATANG, *_rename_ends("conv_block1", "conv_block2", "conv_block3")),
        assumed_args=_UNIT_RANGES,
    ),
    RepositoryLayout(
        name="Lornatang/SRGAN-PyTorch (v0.2, 2021)",
        detect_keys=("conv1.0", "trunk.0.conv1", "subpixel_conv.0.conv", "conv3"),
        renames=(*_LORNATANG_2021, *_rename_ends("conv1", "conv2", "conv3")),
        assumed_args=_UNIT_RANGES,
    ),
    RepositoryLayout(
        name="Lornatang/SRGAN-PyTorch (v0.3, 2021)",
        detect_keys=("conv1.0", "trunk.0.conv1", "subpixel_conv.0.conv", "conv3.0"),
        renames=(*_LORNATANG_2021, *_rename_ends("conv1", "conv2", "conv3.0")),
        assumed_args={"last_act": "tanh"},
        required_args=_RANGES,
    ),
    RepositoryLayout(
        name="Lornatang/SRGAN-PyTorch (2020)",
        detect_keys=("conv1.0", "residual_blocks.0.conv1", "upsampling.1", "conv3"),
        renames=(*_LORNATANG_2020, *_rename_ends("conv1", "conv2", "conv3")),
        required_args=_RANGES,
    ),
    RepositoryLayout(
        name="Lornatang/SRGAN-PyTorch (2020, with tanh)",
        detect_keys=("conv1.0", "residual_blocks.0.conv1", "upsampling.1", "conv3.0"),
        renames=(*_LORNATANG_2020, *_rename_ends("conv1", "conv2", "conv3.0")),
        assumed_args={"last_act": "tanh"},
        required_args=_RANGES,
    ),
    RepositoryLayout(
        name="sgrvinod/a-PyTorch-Tutorial-to-Super-Resolution",
        detect_keys=("conv_block1.conv_block.0", "residual_blocks.0.conv_block1.conv_block.0"),
        renames=(
            *_rename_ends(
                "conv_block1.conv_block", "conv_block2.conv_block", "conv_block3.conv_block.0"
            ),
            *_block(
                "residual_blocks.{}",
                "conv_block1.conv_block.0",
                "conv_block1.conv_block.1",
                "conv_block1.conv_block.2",
                "conv_block2.conv_block.0",
                "conv_block2.conv_block.1",
            ),
            *_upsample(
                "subpixel_convolutional_blocks.{}.conv", "subpixel_convolutional_blocks.{}.prelu"
            ),
        ),
        assumed_args=_TANH | {"input_range": "imagenet"},
    ),
    RepositoryLayout(
        name="HasnainRaz/Fast-SRGAN",
        detect_keys=("neck.0", "stem.0.conv1", "bottleneck.0", "upsampling.0.conv", "head.0"),
        renames=(
            *_rename_ends("neck", "bottleneck", "head.0"),
            *_block("stem.{}", "conv1", "bn1", "relu1", "conv2", "bn2"),
            # "act1" in 2023. Versions with batch normalisation override `norm`.
            ("stem.{}.act1.", "trunk_net.{}.act."),
            *_upsample("upsampling.{}.conv", "upsampling.{}.relu"),
        ),
        assumed_args=_TANH_SIGNED_INPUT | {"norm": "instance"},
    ),
    RepositoryLayout(
        name="aitorzip/PyTorch-SRGAN",
        detect_keys=("conv1", "residual_block1.conv1", "bn2", "upsample1.conv", "conv3"),
        renames=(
            ("conv1.", "conv_first."),
            *_block("residual_block{}", "conv1", "bn1", "act", "conv2", "bn2", number="{-1}"),
            ("conv2.", "conv_trunk."),
            ("bn2.", "bn_trunk."),
            ("upsample{}.conv.", "upsample{}.upsample_conv."),
            ("conv3.", "conv_last."),
        ),
        assumed_args={"act": "swish", "input_range": "imagenet", "output_range": "imagenet"},
    ),
    RepositoryLayout(
        name="goldhuang/SRGAN-PyTorch",
        detect_keys=("conv1.0", "residual1.net.0", "conv2.1", "upsample.0.net.0"),
        renames=(
            *_block("residual{}.net", *"01234", number="{-1}"),
            *_upsample("upsample.{}.net.0", "upsample.{}.net.2"),
            *_rename_ends("conv1", "conv2", "upsample.{}", "act_trunk"),
        ),
        assumed_args=_TANH,
    ),
    RepositoryLayout(
        name="dongheehand/SRGAN-PyTorch",
        detect_keys=(
            "conv01.body.0",
            "body.0.body.0.body.0",
            "tail.0.body.0.body.0",
            "last_conv.body.0",
        ),
        renames=(
            *_rename_ends("conv01.body", "conv02.body", "last_conv.body.0"),
            *_block("body.{}.body", "0.body.0", "0.body.1", "0.body.2", "1.body.0", "1.body.1"),
            *_upsample("tail.{}.body.0.body.0", "tail.{}.body.2"),
        ),
        assumed_args=_TANH_SIGNED_INPUT,
    ),
    RepositoryLayout(
        name="twtygqyy/pytorch-SRResNet",
        detect_keys=(
            "conv_input",
            "residual.0.in1",
            "conv_mid",
            "bn_mid",
            "upscale4x.0",
            "conv_output",
        ),
        renames=(
            # torch before 0.4 saved running statistics that instance normalisation did not use.
            ("residual.{}.in1.running_", ""),
            ("residual.{}.in2.running_", ""),
            ("bn_mid.running_", ""),
            *_block("residual.{}", "conv1", "in1", "act", "conv2", "in2"),
            *_TWTYGQYY,
        ),
        assumed_args=_UNIT_RANGES | {"act": "leaky_relu", "norm": "instance_affine"},
    ),
    RepositoryLayout(
        name="twtygqyy/pytorch-SRResNet (with batch normalisation)",
        detect_keys=(
            "conv_input",
            "residual.0.bn1",
            "conv_mid",
            "bn_mid",
            "upscale4x.0",
            "conv_output",
        ),
        renames=(*_block("residual.{}", "conv1", "bn1", "act", "conv2", "bn2"), *_TWTYGQYY),
        assumed_args=_UNIT_RANGES | {"act": "leaky_relu"},
    ),
    RepositoryLayout(
        name="bubbliiiing/srgan-pytorch",
        detect_keys=("block_in.0", "blocks.0.conv1", "block_out.0", "upsample.0.conv"),
        renames=(
            *_block("blocks.{}", "conv1", "bn1", "prelu", "conv2", "bn2"),
            *_upsample("upsample.{}.conv", "upsample.{}.prelu"),
            *_rename_ends("block_in", "block_out", "upsample.{}"),
        ),
        assumed_args=_TANH_SIGNED_INPUT,
    ),
    RepositoryLayout(
        name="kiyotone/SRGAN",
        detect_keys=("initial.0", "residual_blocks.0.block.0", "conv2.0", "upsample.0", "final"),
        renames=(
            *_rename_ends("initial", "conv2", "final"),
            *_block("residual_blocks.{}.block", *"01234"),
            *_flat_upsample("upsample", "upsample_conv", "", "act"),
        ),
        assumed_args=_UNIT_RANGES,
    ),
    RepositoryLayout(
        name="tensorlayer/SRGAN",
        detect_keys=("tensorlayer.conv_first", "!tensorlayer.act_first", "tensorlayer.bn_trunk"),
        renames=_remove_prefix("tensorlayer"),
        assumed_args=_TANH_SIGNED_INPUT | {"act": "relu"},
    ),
    RepositoryLayout(
        name="krasserm/super-resolution",
        detect_keys=("keras.conv_first", "keras.act_first", "keras.bn_trunk"),
        renames=_remove_prefix("keras"),
        assumed_args=_TANH | {"norm_eps": 1e-3},
    ),
)
