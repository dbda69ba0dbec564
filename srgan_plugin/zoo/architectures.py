"""The networks whose weights lie around, as a table: how to tell them and what they hold."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

State = Mapping[str, Tensor]
Reading = Callable[[State], int | str]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one code base calls the weights of one network.

    Attributes:
        network: the network; the name of its class where `core` has it.
        origin: whose keys these are, as a genitive.
        signs: keys that together tell this layout from those below it in the table.
        arguments: how to read the network's arguments off its weights, by the names that they
            have in our classes.
        words: what the network is called, with arguments in braces.
        renames: how keys begin, and how they begin in our network.
        activate_after_shuffle: what this code base's MSRResNet does though its weights do not
            tell; None where our network's own switch decides.
    """

    network: str
    origin: str
    signs: tuple[str, ...]
    arguments: Mapping[str, Reading] = field(default_factory=dict)
    words: str = "{network}"
    renames: tuple[tuple[str, str], ...] = ()
    activate_after_shuffle: bool | None = None


@dataclass(frozen=True)
class Found:
    """A layout that was recognised, and the arguments of the network that the weights fit."""

    layout: Layout
    arguments: Mapping[str, int | str]

    def __str__(self) -> str:
        words = self.layout.words.format(network=self.layout.network, **self.arguments)
        return f"{words} in {self.layout.origin} keys"

    def in_our_keys(self, state: State) -> dict[str, Tensor]:
        """Renames the weights to the keys of our network."""
        return {_renamed(key, self.layout.renames): weight for key, weight in state.items()}


def recognise(state: State) -> Found | None:
    """Finds the first layout of the table that the weights have; None if it is none of them."""
    for layout in LAYOUTS:
        if all(sign in state for sign in layout.signs):
            try:
                read = {name: reading(state) for name, reading in layout.arguments.items()}
            except (KeyError, IndexError, ZeroDivisionError):  # the right keys, absurd shapes
                continue
            return Found(layout, read)
    return None


def describe(state: State) -> str:
    """Says in words what weights are, such as 'MSRResNet x4 (64 features, 16 blocks) in … keys'.

    Args:
        state: bare weights by key, as `unwrap` returns them.
    """
    found = recognise(state)
    first = ", ".join(list(state)[:3])
    return str(found) if found else f"an unknown network of {len(state)} tensors ({first}, …)"


def _renamed(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in renames:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def _size(key: str, axis: int) -> Reading:
    return lambda state: int(state[key].shape[axis])


def _count(pattern: str) -> Reading:
    """How many different things the group of a pattern finds among the keys."""
    return lambda state: len({found[1] for key in state if (found := re.match(pattern, key))})


def _shuffle_scale(pattern: str) -> Reading:
    """The product of the pixel shuffles' factors, from the convolutions before them."""

    def scale(state: State) -> int:
        shapes = [weight.shape for key, weight in state.items() if re.fullmatch(pattern, key)]
        return math.prod(math.isqrt(shape[0] // shape[1]) for shape in shapes)

    return scale


def _input_side(state: State) -> int:
    """The pictures a discriminator takes: each stage halves them, then `linear1` sees all of it."""
    stages = {key for key in state if re.fullmatch(r"conv\d_1\.weight", key)}
    pixels = state["linear1.weight"].shape[1] // state["conv3_1.weight"].shape[0]
    return int(math.isqrt(pixels) * 2 ** len(stages))


def _prelu(state: State) -> str:
    return "shared" if state["act_first.weight"].numel() == 1 else "channel"


def _generator(block: str, upsample: str, *, first: str = "conv_first") -> dict[str, Reading]:
    return {
        "in_channels": _size(f"{first}.weight", 1),
        "mid_channels": _size(f"{first}.weight", 0),
        "num_blocks": _count(block),
        "upscale_factor": _shuffle_scale(upsample),
    }


_OUT = {"out_channels": _size("conv_last.weight", 0)}
_MSRRESNET = "{network} x{upscale_factor} ({mid_channels} features, {num_blocks} blocks)"
_SRRESNET = (
    "{network} x{upscale_factor} ({mid_channels} features, {num_blocks} blocks, PReLU {prelu})"
)
_FOREIGN = {"num_blocks": _count(r"(?:.*\.)?(?:body|RRDB_trunk|sub)\.(\d+)\.(?:rdb|RDB)1\.")}
_DISCRIMINATOR: dict[str, Reading] = {
    "in_channels": _size("conv0_0.weight", 1),
    "mid_channels": _size("conv0_0.weight", 0),
    "input_size": _input_side,
}
_DISCRIMINATOR_WORDS = "discriminator {network} ({mid_channels} features, input {input_size})"
_UPCONVS = tuple((f"upconv{n}.", f"upsample{n}.upsample_conv.") for n in (1, 2))

LAYOUTS = (
    Layout(
        network="SRResNet",
        origin="our own",
        signs=("act_first.weight", "trunk_net.0.bn1.weight", "conv_trunk.weight"),
        arguments={
            **_generator(r"trunk_net\.(\d+)\.", r"upsample\d\.upsample_conv\.weight"),
            **_OUT,
            "prelu": _prelu,
        },
        words=_SRRESNET,
    ),
    Layout(
        network="MSRResNet",
        origin="MMagic's",
        signs=("trunk_net.0.conv1.weight", "upsample1.upsample_conv.weight", "conv_hr.weight"),
        arguments={
            **_generator(r"trunk_net\.(\d+)\.", r"upsample\d\.upsample_conv\.weight"),
            **_OUT,
        },
        words=_MSRRESNET,
    ),
    Layout(
        network="MSRResNet",
        origin="BasicSR's",
        signs=("body.0.conv1.weight", "upconv1.weight", "conv_hr.weight"),
        arguments={**_generator(r"body\.(\d+)\.", r"upconv\d\.weight"), **_OUT},
        words=_MSRRESNET,
        renames=(("body.", "trunk_net."), *_UPCONVS),
        activate_after_shuffle=True,
    ),
    Layout(
        network="MSRResNet",
        origin="KAIR's",
        signs=("recon_trunk.0.conv1.weight", "upconv1.weight", "HRconv.weight"),
        arguments={**_generator(r"recon_trunk\.(\d+)\.", r"upconv\d\.weight"), **_OUT},
        words=_MSRRESNET,
        renames=(("recon_trunk.", "trunk_net."), ("HRconv.", "conv_hr."), *_UPCONVS),
        activate_after_shuffle=True,
    ),
    *(
        Layout(
            network="RRDBNet (ESRGAN)",
            origin=origin,
            signs=(sign,),
            arguments=_FOREIGN,
            words="{network} ({num_blocks} blocks)",
        )
        for origin, sign in (
            ("the toolboxes'", "body.0.rdb1.conv1.weight"),
            ("early ESRGAN's", "RRDB_trunk.0.RDB1.conv1.weight"),
            ("the first ESRGAN's", "model.1.sub.0.RDB1.conv1.0.weight"),
        )
    ),
    Layout(
        network="EDSR",
        origin="the toolboxes'",
        signs=("body.0.conv1.weight", "conv_after_body.weight"),
        arguments=_generator(r"body\.(\d+)\.", r"upsample\.\d\.(upsample_conv\.)?weight"),
        words=_MSRRESNET,
    ),
    Layout(
        network="EDSR",
        origin="its authors'",
        signs=("head.0.weight", "body.0.body.0.weight"),
        arguments=_generator(r"body\.(\d+)\.body\.", r"tail\.0\.\d\.weight", first="head.0"),
        words=_MSRRESNET,
    ),
    Layout(
        network="ModifiedVGG",
        origin="the toolboxes'",
        signs=("conv0_0.weight", "conv3_1.weight", "conv4_0.weight", "linear1.weight"),
        arguments={**_DISCRIMINATOR, "num_stages": _count(r"conv(\d)_1\.")},
        words=_DISCRIMINATOR_WORDS,
    ),
    Layout(
        network="SRGANDiscriminator",
        origin="our own",
        signs=("conv0_0.weight", "conv3_1.weight", "linear1.weight"),
        arguments=_DISCRIMINATOR,
        words=_DISCRIMINATOR_WORDS,
    ),
    Layout(
        network="VGG-19",
        origin="torchvision's",
        signs=("features.0.weight", "features.16.weight"),
    ),
    Layout(
        network="VGG-19",
        origin="bare",
        signs=("0.weight", "2.weight", "16.weight"),
    ),
)
