"""Known state-dict layouts as one table, how to detect them, and what weights show of a network."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from srgan_plugin.errors import UserError

State = Mapping[str, Tensor]
Reading = Callable[[State], int | str]
CodeBase = Literal["mmagic", "mmediting", "basicsr", "kair", "plugin"]


def size(key: str, axis: int) -> Reading:
    """Read the size of a weight along an axis."""
    return lambda state: int(state[key].shape[axis])


def count(pattern: str) -> Reading:
    """Count what the group of a pattern finds among the keys, each once."""
    return lambda state: len({found[1] for key in state if (found := re.match(pattern, key))})


def shuffle_scale(state: State) -> int:
    """Multiply the factors of the pixel shuffles, which the convolutions before them show."""
    pattern = r"upsample\.?\d\.(upsample_conv\.)?weight"
    shapes = [weight.shape for key, weight in state.items() if re.fullmatch(pattern, key)]
    return math.prod(math.isqrt(shape[0] // shape[1]) for shape in shapes)


def input_size(state: State) -> int:
    """Read a discriminator's input size: each stage halves it, and `linear1` takes what is left."""
    stages = {key for key in state if re.fullmatch(r"conv\d_1\.weight", key)}
    pixels = state["linear1.weight"].shape[1] // state["conv3_1.weight"].shape[0]
    return int(math.isqrt(pixels) * 2 ** len(stages))


_SLOPE = re.compile(r"act_first\.weight|(trunk_net\.\d+|upsample\d)\.act\.weight")
_BEFORE_NORM = re.compile(r"(trunk_net\.\d+\.conv[12]|conv_trunk)\.weight")


def _slopes(state: State) -> list[str]:
    return [key for key in state if _SLOPE.fullmatch(key)]


def prelu(state: State) -> str:
    """Read whether activations have one slope or one for each channel."""
    return "shared" if state[_slopes(state)[0]].numel() == 1 else "channel"


def complete_srresnet(state: State) -> dict[str, Tensor]:
    """Add the weights that an SRResNet's file may omit because they are redundant.

    Biases before batch normalisation, which takes them away again: zeros are exact, where all of
    them are missing. The slopes of a PReLU that all activations share and that is stored once.
    """
    complete = dict(state)
    weights = [key for key in state if _BEFORE_NORM.fullmatch(key)]
    biases = {key.replace("weight", "bias"): state[key] for key in weights}
    if not biases.keys() & state.keys():
        complete |= {key: weight.new_zeros(weight.shape[0]) for key, weight in biases.items()}
    if len(slopes := _slopes(state)) == 1:
        blocks = (re.match(r"trunk_net\.\d+\.|upsample\d\.", key) for key in state)
        keys = ["act_first.weight", *(f"{found[0]}act.weight" for found in blocks if found)]
        complete |= dict.fromkeys(keys, state[slopes[0]])
    return complete


@dataclass(frozen=True)
class _Network:
    """What the weights show of a network, whatever the layout.

    Attributes:
        description: The network in words, with arguments in braces.
        arguments: How to read its arguments off its weights under our keys.
        complete: Adds the weights that a file may omit.
    """

    description: str = "{network}"
    arguments: Mapping[str, Reading] = field(default_factory=dict)
    complete: Callable[[State], Mapping[str, Tensor]] = dict


_GENERATOR = "{network} x{upscale_factor} ({mid_channels} features, {num_blocks} blocks)"
_GENERATOR_ARGUMENTS: dict[str, Reading] = {
    "in_channels": size("conv_first.weight", 1),
    "mid_channels": size("conv_first.weight", 0),
    "num_blocks": count(r"(?:trunk_net|body)\.(\d+)\.\w+\."),
    "upscale_factor": shuffle_scale,
}
_OUT = {"out_channels": size("conv_last.weight", 0)}
_DISCRIMINATOR = "discriminator {network} ({mid_channels} features, input {input_size})"
_DISCRIMINATOR_ARGUMENTS: dict[str, Reading] = {
    "in_channels": size("conv0_0.weight", 1),
    "mid_channels": size("conv0_0.weight", 0),
    "input_size": input_size,
}
_RRDB = count(r"(?:.*\.)?(?:body|RRDB_trunk|sub)\.(\d+)\.(?:rdb|RDB)1\.")
_NETWORKS = {
    "SRResNet": _Network(
        f"{_GENERATOR[:-1]}, PReLU {{prelu}})",
        _GENERATOR_ARGUMENTS | _OUT | {"prelu": prelu},
        complete_srresnet,
    ),
    "MSRResNet": _Network(_GENERATOR, _GENERATOR_ARGUMENTS | _OUT),
    "EDSR": _Network(_GENERATOR, _GENERATOR_ARGUMENTS),
    "RRDBNet (ESRGAN)": _Network("{network} ({num_blocks} blocks)", {"num_blocks": _RRDB}),
    "ModifiedVGG": _Network(
        _DISCRIMINATOR, _DISCRIMINATOR_ARGUMENTS | {"num_stages": count(r"conv(\d)_1\.")}
    ),
    "SRGANDiscriminator": _Network(_DISCRIMINATOR, _DISCRIMINATOR_ARGUMENTS),
}


@dataclass(frozen=True)
class StateDictLayout:
    """How one code base calls the weights of one network.

    Attributes:
        network: The network; the name of its class where `srgan_plugin.networks` has it.
        origin: Whose keys these are, as a genitive.
        detect_keys: Keys, without `.weight`, that together distinguish this layout from those below
            it in the table.
        renames: How keys begin here, and how they begin in our network; `{}` is a number.
        activate_after_shuffle: Whether this code base's MSRResNet has the activation, which the
            weights do not show; None where our network's own switch decides.
        code_bases: Which code bases read and write these keys, by the names of `--to`; none for a
            network that is detected, but not loaded.
    """

    network: str
    origin: str
    detect_keys: tuple[str, ...]
    renames: tuple[tuple[str, str], ...] = ()
    activate_after_shuffle: bool | None = None
    code_bases: tuple[CodeBase, ...] = ()

    @property
    def _shown(self) -> _Network:
        return _NETWORKS.get(self.network, _Network())

    def read_arguments(self, state: State) -> dict[str, int | str] | None:
        """Read the network's arguments off weights in this layout; None if they are in no such."""
        if not all(f"{key}.weight" in state for key in self.detect_keys):
            return None
        renamed = {_renamed(key, self.renames): weight for key, weight in state.items()}
        try:
            arguments = {name: read(renamed) for name, read in self._shown.arguments.items()}
        except (KeyError, IndexError, ZeroDivisionError):  # the right keys, absurd shapes
            return None
        return arguments if all(arguments.values()) else None

    def describe(self, arguments: Mapping[str, object]) -> str:
        """Describe the network in words."""
        words = self._shown.description.format(network=self.network, **arguments)
        return f"{words} in {self.origin} keys"

    def to_plugin_keys(self, state: State) -> dict[str, Tensor]:
        """Rename weights in this layout to the keys of our network, and complete them.

        Raises:
            UserError: Two keys would become one.
        """
        renamed = {_renamed(key, self.renames): weight for key, weight in state.items()}
        if len(renamed) != len(state):
            foreign = next(k for k in state if k not in self.from_plugin_keys({k: state[k]}))
            raise UserError(f"expected {self.origin} keys, got some of ours as well: {foreign}")
        return dict(self._shown.complete(renamed))

    def from_plugin_keys(self, state: State) -> dict[str, Tensor]:
        """Rename weights in our keys to this layout's."""
        back = tuple((ours, theirs) for theirs, ours in self.renames)
        return {_renamed(key, back): weight for key, weight in state.items()}


def _renamed(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for old, new in renames:
        if found := re.match(re.escape(old).replace(r"\{\}", r"(\d+)"), key):
            return new.format(*found.groups()) + key[found.end() :]
    return key


_UPCONVS = ("upconv{}.", "upsample{}.upsample_conv.")
_TANH = "an SRGAN generator that ends in tanh"
#: The first layout that fits is taken.
LAYOUTS = (
    StateDictLayout(
        "SRResNet",
        "our own",
        ("trunk_net.0.bn1", "conv_trunk"),
        code_bases=("plugin",),
    ),
    StateDictLayout(
        "MSRResNet",
        "MMagic's",
        ("trunk_net.0.conv1", "upsample1.upsample_conv", "conv_hr"),
        code_bases=("plugin", "mmagic", "mmediting"),
    ),
    StateDictLayout(
        "MSRResNet",
        "BasicSR's",
        ("body.0.conv1", "upconv1", "conv_hr"),
        renames=(("body.", "trunk_net."), _UPCONVS),
        activate_after_shuffle=True,
        code_bases=("basicsr",),
    ),
    StateDictLayout(
        "MSRResNet",
        "KAIR's",
        ("recon_trunk.0.conv1", "upconv1", "HRconv"),
        renames=(("recon_trunk.", "trunk_net."), ("HRconv.", "conv_hr."), _UPCONVS),
        activate_after_shuffle=True,
        code_bases=("kair",),
    ),
    StateDictLayout(
        "ModifiedVGG",
        "the toolboxes'",
        ("conv0_0", "conv3_1", "conv4_0", "linear1"),
        code_bases=("plugin", "mmagic", "mmediting", "basicsr"),
    ),
    StateDictLayout(
        "SRGANDiscriminator",
        "our own",
        ("conv0_0", "conv3_1", "linear1"),
        code_bases=("plugin",),
    ),
    StateDictLayout(
        "EDSR",
        "its authors'",
        ("head.0", "body.0.body.0"),
        renames=(("head.0.", "conv_first."), ("tail.0.{}.", "upsample.{}.")),
    ),
    *(
        StateDictLayout(network, origin, tuple(keys.split()))
        for network, origin, keys in (
            ("EDSR", "the toolboxes'", "body.0.conv1 conv_after_body"),
            ("RRDBNet (ESRGAN)", "the toolboxes'", "body.0.rdb1.conv1"),
            ("RRDBNet (ESRGAN)", "early ESRGAN's", "RRDB_trunk.0.RDB1.conv1"),
            ("RRDBNet (ESRGAN)", "the first ESRGAN's", "model.1.sub.0.RDB1.conv1.0"),
            ("MSRResNet0 (not MSRResNet1)", "KAIR's", "model.0 model.1.sub.0.res.0"),
            (
                f"{_TANH}, with PReLU or Swish",
                "leftthomas/SRGAN's",
                "block1.0 block2.conv1 block7.0",
            ),
            (
                f"{_TANH}, with eps=0.8",
                "eriklindernoren/PyTorch-GAN's",
                "conv1.0 res_blocks.0.conv_block.0 conv3.0",
            ),
            (
                _TANH,
                "aladdinpersson/Machine-Learning-Collection's",
                "initial.cnn residuals.0.block1.cnn final",
            ),
            ("an SRResNet", "Lornatang/SRGAN-PyTorch's", "conv1.0 trunk.0.rcb.0 conv3"),
            (
                "an SRResNet that ends in tanh",
                "sgrvinod/a-PyTorch-Tutorial-to-Super-Resolution's",
                "conv_block1.conv_block.0 residual_blocks.0.conv_block1.conv_block.0",
            ),
            (
                "a generator with InstanceNorm that ends in tanh",
                "HasnainRaz/Fast-SRGAN's",
                "neck.0 bottleneck.0 head.0",
            ),
            (
                "an SRGAN generator with Swish",
                "aitorzip/PyTorch-SRGAN's",
                "conv1 residual_block1.conv1 upsample1.conv",
            ),
            ("VGG-19", "torchvision's", "features.0 features.16 features.34"),
            ("VGG-19", "bare", "0 2 16"),
        )
    ),
)


def find_layout(network: str, code_base: CodeBase) -> StateDictLayout | None:
    """Return a code base's layout of one of our networks; None if it has no such network."""
    found = (x for x in LAYOUTS if x.network == network and code_base in x.code_bases)
    return next(found, None)


@dataclass(frozen=True)
class Detection:
    """A layout that was detected, and the arguments of the network that the weights fit."""

    layout: StateDictLayout
    arguments: Mapping[str, int | str]

    def __str__(self) -> str:
        return self.layout.describe(self.arguments)


def detect_layout(state: State) -> Detection | None:
    """Return the first layout of the table that the weights have; None if there is none."""
    for layout in LAYOUTS:
        if (arguments := layout.read_arguments(state)) is not None:
            return Detection(layout, arguments)
    return None


def describe(state: State) -> str:
    """Describe weights in words, such as 'MSRResNet x4 (64 features, 16 blocks) in … keys'.

    Args:
        state: Bare weights by key, as `unwrap` returns them.
    """
    found = detect_layout(state)
    first = ", ".join(list(state)[:3])
    return str(found) if found else f"an unknown network of {len(state)} tensors ({first}, …)"
