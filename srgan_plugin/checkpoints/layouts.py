"""Known state-dict layouts as one table, and how arguments follow from weights."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from srgan_plugin.errors import UserError

State = Mapping[str, Tensor]
Reading = Callable[[State], int | str]


def size(key: str, axis: int) -> Reading:
    """The size of a weight along an axis."""
    return lambda state: int(state[key].shape[axis])


def count(pattern: str) -> Reading:
    """How many different things the group of a pattern finds among the keys."""
    return lambda state: len({found[1] for key in state if (found := re.match(pattern, key))})


def shuffle_scale(pattern: str) -> Reading:
    """The product of the pixel shuffles' factors, from the convolutions before them."""

    def scale(state: State) -> int:
        shapes = [weight.shape for key, weight in state.items() if re.fullmatch(pattern, key)]
        return math.prod(math.isqrt(shape[0] // shape[1]) for shape in shapes)

    return scale


def input_side(state: State) -> int:
    """The pictures a discriminator takes: each stage halves them, then `linear1` sees all of it."""
    stages = {key for key in state if re.fullmatch(r"conv\d_1\.weight", key)}
    pixels = state["linear1.weight"].shape[1] // state["conv3_1.weight"].shape[0]
    return int(math.isqrt(pixels) * 2 ** len(stages))


_SLOPE = re.compile(r"act_first\.weight|(trunk_net\.\d+|upsample\d)\.act\.weight")
_BEFORE_NORM = re.compile(r"(trunk_net\.\d+\.conv[12]|conv_trunk)\.weight")


def _slopes(state: State) -> list[str]:
    return [key for key in state if _SLOPE.fullmatch(key)]


def prelu(state: State) -> str:
    """Whether activations have one slope or one for each channel."""
    return "shared" if state[_slopes(state)[0]].numel() == 1 else "channel"


def complete_srresnet(state: State) -> dict[str, Tensor]:
    """Add what an SRResNet's file may leave out because it says nothing new.

    Biases before batch normalisation, which takes them away again: zeros are exact, where all of
    them are missing. The slopes of a PReLU that all activations share and that is stored once.
    """
    whole = dict(state)
    weights = [key for key in state if _BEFORE_NORM.fullmatch(key)]
    biases = {key.replace("weight", "bias"): state[key] for key in weights}
    if not biases.keys() & state.keys():
        whole |= {key: weight.new_zeros(weight.shape[0]) for key, weight in biases.items()}
    if len(slopes := _slopes(state)) == 1:
        keys = {"act_first.weight"}
        for key in state:
            if found := re.match(r"trunk_net\.\d+\.|upsample\d\.", key):
                keys.add(f"{found[0]}act.weight")
        whole |= dict.fromkeys(keys, state[slopes[0]])
    return whole


def generator(block: str, upsample: str, *, first: str = "conv_first") -> dict[str, Reading]:
    """What generators have in common, by the keys of blocks, upsampling and first convolution."""
    return {
        "in_channels": size(f"{first}.weight", 1),
        "mid_channels": size(f"{first}.weight", 0),
        "num_blocks": count(block),
        "upscale_factor": shuffle_scale(upsample),
    }


CodeBase = Literal["mmagic", "mmediting", "basicsr", "kair", "plugin"]


@dataclass(frozen=True, kw_only=True)
class StateDictLayout:
    """How one code base calls the weights of one network.

    Attributes:
        network: the network; the name of its class where `core` has it.
        origin: whose keys these are, as a genitive.
        detect_keys: keys that together tell this layout from those below it in the table.
        arguments: how to read the network's arguments off its weights, by the names that they
            have in our classes.
        description: what the network is called, with arguments in braces.
        renames: how keys begin, and how they begin in our network.
        activate_after_shuffle: what this code base's MSRResNet does though its weights do not
            tell; None where our network's own switch decides.
        complete: adds the weights that a file in this layout may leave out.
        code_bases: who reads and writes these keys, by the names of `--to`; none for a network that
            is only known by sight.
    """

    network: str
    origin: str
    detect_keys: tuple[str, ...]
    arguments: Mapping[str, Reading] = field(default_factory=dict)
    description: str = "{network}"
    renames: tuple[tuple[str, str], ...] = ()
    activate_after_shuffle: bool | None = None
    complete: Callable[[State], Mapping[str, Tensor]] = dict
    code_bases: tuple[CodeBase, ...] = ()

    def to_plugin_keys(self, state: State) -> dict[str, Tensor]:
        """Renames weights in this layout to the keys of our network, and completes them.

        Raises:
            ValueError: two keys would become one.
        """
        renamed = {_renamed(key, self.renames): weight for key, weight in state.items()}
        if len(renamed) != len(state):
            foreign = next(key for key in state for _, ours in self.renames if key.startswith(ours))
            raise UserError(f"expected {self.origin} keys, got some of ours as well: {foreign}")
        return dict(self.complete(renamed))

    def from_plugin_keys(self, state: State) -> dict[str, Tensor]:
        """Renames weights in our keys to this layout's."""
        back = tuple((ours, theirs) for theirs, ours in self.renames)
        return {_renamed(key, back): weight for key, weight in state.items()}


def _renamed(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in renames:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


_OUT = {"out_channels": size("conv_last.weight", 0)}
_MSRRESNET = "{network} x{upscale_factor} ({mid_channels} features, {num_blocks} blocks)"

_SRRESNET = (
    "{network} x{upscale_factor} ({mid_channels} features, {num_blocks} blocks, PReLU {prelu})"
)

_FOREIGN = {"num_blocks": count(r"(?:.*\.)?(?:body|RRDB_trunk|sub)\.(\d+)\.(?:rdb|RDB)1\.")}

_DISCRIMINATOR: dict[str, Reading] = {
    "in_channels": size("conv0_0.weight", 1),
    "mid_channels": size("conv0_0.weight", 0),
    "input_size": input_side,
}

_DISCRIMINATOR_DESCRIPTION = "discriminator {network} ({mid_channels} features, input {input_size})"
_UPCONVS = tuple((f"upconv{n}.", f"upsample{n}.upsample_conv.") for n in (1, 2))

LAYOUTS = (
    StateDictLayout(
        network="SRResNet",
        origin="our own",
        detect_keys=("trunk_net.0.bn1.weight", "conv_trunk.weight"),
        arguments={
            **generator(r"trunk_net\.(\d+)\.", r"upsample\d\.upsample_conv\.weight"),
            **_OUT,
            "prelu": prelu,
        },
        description=_SRRESNET,
        complete=complete_srresnet,
        code_bases=("plugin",),
    ),
    StateDictLayout(
        network="MSRResNet",
        origin="MMagic's",
        detect_keys=(
            "trunk_net.0.conv1.weight",
            "upsample1.upsample_conv.weight",
            "conv_hr.weight",
        ),
        arguments={
            **generator(r"trunk_net\.(\d+)\.", r"upsample\d\.upsample_conv\.weight"),
            **_OUT,
        },
        description=_MSRRESNET,
        code_bases=("plugin", "mmagic", "mmediting"),
    ),
    StateDictLayout(
        network="MSRResNet",
        origin="BasicSR's",
        detect_keys=("body.0.conv1.weight", "upconv1.weight", "conv_hr.weight"),
        arguments={**generator(r"body\.(\d+)\.", r"upconv\d\.weight"), **_OUT},
        description=_MSRRESNET,
        renames=(("body.", "trunk_net."), *_UPCONVS),
        activate_after_shuffle=True,
        code_bases=("basicsr",),
    ),
    StateDictLayout(
        network="MSRResNet",
        origin="KAIR's",
        detect_keys=("recon_trunk.0.conv1.weight", "upconv1.weight", "HRconv.weight"),
        arguments={**generator(r"recon_trunk\.(\d+)\.", r"upconv\d\.weight"), **_OUT},
        description=_MSRRESNET,
        renames=(("recon_trunk.", "trunk_net."), ("HRconv.", "conv_hr."), *_UPCONVS),
        activate_after_shuffle=True,
        code_bases=("kair",),
    ),
    StateDictLayout(
        network="MSRResNet0 (not MSRResNet1)",
        origin="KAIR's",
        detect_keys=("model.0.weight", "model.1.sub.0.res.0.weight"),
    ),
    *(
        StateDictLayout(network=network, origin=f"{repository}'s", detect_keys=keys)
        for repository, network, keys in (
            (
                "leftthomas/SRGAN",
                "an SRGAN generator that ends in tanh, with PReLU or Swish",
                ("block1.0.weight", "block2.conv1.weight", "block7.0.weight"),
            ),
            (
                "eriklindernoren/PyTorch-GAN",
                "an SRGAN generator that ends in tanh, with eps=0.8",
                ("conv1.0.weight", "res_blocks.0.conv_block.0.weight", "conv3.0.weight"),
            ),
            (
                "aladdinpersson/Machine-Learning-Collection",
                "an SRGAN generator that ends in tanh",
                ("initial.cnn.weight", "residuals.0.block1.cnn.weight", "final.weight"),
            ),
            (
                "Lornatang/SRGAN-PyTorch",
                "an SRResNet",
                ("conv1.0.weight", "trunk.0.rcb.0.weight", "conv3.weight"),
            ),
            (
                "sgrvinod/a-PyTorch-Tutorial-to-Super-Resolution",
                "an SRResNet that ends in tanh",
                (
                    "conv_block1.conv_block.0.weight",
                    "residual_blocks.0.conv_block1.conv_block.0.weight",
                ),
            ),
            (
                "HasnainRaz/Fast-SRGAN",
                "a generator with InstanceNorm that ends in tanh",
                ("neck.0.weight", "bottleneck.0.weight", "head.0.weight"),
            ),
            (
                "aitorzip/PyTorch-SRGAN",
                "an SRGAN generator with Swish",
                ("conv1.weight", "residual_block1.conv1.weight", "upsample1.conv.weight"),
            ),
        )
    ),
    *(
        StateDictLayout(
            network="RRDBNet (ESRGAN)",
            origin=origin,
            detect_keys=(sign,),
            arguments=_FOREIGN,
            description="{network} ({num_blocks} blocks)",
        )
        for origin, sign in (
            ("the toolboxes'", "body.0.rdb1.conv1.weight"),
            ("early ESRGAN's", "RRDB_trunk.0.RDB1.conv1.weight"),
            ("the first ESRGAN's", "model.1.sub.0.RDB1.conv1.0.weight"),
        )
    ),
    StateDictLayout(
        network="EDSR",
        origin="the toolboxes'",
        detect_keys=("body.0.conv1.weight", "conv_after_body.weight"),
        arguments=generator(r"body\.(\d+)\.", r"upsample\.\d\.(upsample_conv\.)?weight"),
        description=_MSRRESNET,
    ),
    StateDictLayout(
        network="EDSR",
        origin="its authors'",
        detect_keys=("head.0.weight", "body.0.body.0.weight"),
        arguments=generator(r"body\.(\d+)\.body\.", r"tail\.0\.\d\.weight", first="head.0"),
        description=_MSRRESNET,
    ),
    StateDictLayout(
        network="ModifiedVGG",
        origin="the toolboxes'",
        detect_keys=("conv0_0.weight", "conv3_1.weight", "conv4_0.weight", "linear1.weight"),
        arguments={**_DISCRIMINATOR, "num_stages": count(r"conv(\d)_1\.")},
        description=_DISCRIMINATOR_DESCRIPTION,
        code_bases=("plugin", "mmagic", "mmediting", "basicsr"),
    ),
    StateDictLayout(
        network="SRGANDiscriminator",
        origin="our own",
        detect_keys=("conv0_0.weight", "conv3_1.weight", "linear1.weight"),
        arguments=_DISCRIMINATOR,
        description=_DISCRIMINATOR_DESCRIPTION,
        code_bases=("plugin",),
    ),
    StateDictLayout(
        network="VGG-19",
        origin="torchvision's",
        detect_keys=("features.0.weight", "features.16.weight", "features.34.weight"),
    ),
    StateDictLayout(
        network="VGG-19",
        origin="bare",
        detect_keys=("0.weight", "2.weight", "16.weight"),
    ),
)
