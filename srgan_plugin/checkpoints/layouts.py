"""Known state-dict layouts as one table, how to detect them, and what weights show of a network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from srgan_plugin.errors import UserError

from .readings import NETWORKS, Network, State
from .repositories import REPOSITORIES

CodeBase = Literal["mmagic", "mmediting", "basicsr", "kair", "plugin"]


@dataclass(frozen=True)
class StateDictLayout:
    """How one code base calls the weights of one network.

    Attributes:
        network: The network; the name of its class where `srgan_plugin.networks` has it.
        origin: Whose keys these are, as a genitive.
        detect_keys: Keys that together distinguish this layout from those below it in the table,
            with or without `.weight`; a `!` before one says that it must be missing.
        renames: How keys begin here, and how they begin in our network; `{}` is a number, `{+1}` in
            our keys is one more. Weights that become '' are not the network's.
        facts: Arguments of the network that these keys imply and that no weight shows.
        asks: Arguments that must be stated beside such weights, or asked for.
        code_bases: Which code bases read and write these keys, by the names of `--to`; none for a
            network that is detected, but not loaded, and for repositories whose layout is not
            written. The facts of such a repository are its habit, and `--arch-option` overrules
            them.
    """

    network: str
    origin: str
    detect_keys: tuple[str, ...]
    renames: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    code_bases: tuple[CodeBase, ...] = ()

    @property
    def _shown(self) -> Network:
        return NETWORKS.get(self.network, Network())

    def fits(self, state: State) -> bool:
        """Whether weights have the keys that this layout is detected by."""
        return all(_has(state, key) for key in self.detect_keys)

    def read_arguments(self, state: State) -> dict[str, Any] | None:
        """Read the network's arguments off weights in this layout; None if they are in no such."""
        if not self.fits(state):
            return None
        renamed = {_renamed(key, self.renames): weight for key, weight in state.items()}
        try:
            read = {name: reading(renamed) for name, reading in self._shown.arguments.items()}
        except (KeyError, IndexError, ZeroDivisionError):  # the right keys, absurd shapes
            return None
        # What the keys imply is not read off weights: old InstanceNorm kept averages as well.
        shown = {name: value for name, value in read.items() if value is not None}
        if not self.code_bases and shown.get("norm") == "instance_affine" != self.facts.get("norm"):
            del shown["norm"]  # a file without running statistics, which are missing
        return None if any(value == 0 for value in shown.values() if type(value) is int) else shown

    def describe(self, arguments: Mapping[str, Any]) -> str:
        """Describe the network in words."""
        known = {**self.facts, **arguments}
        shown = self._shown
        words = shown.description.format(network=self.network, words=shown.words(known), **known)
        return f"{words} in {self.origin} keys"

    def to_plugin_key(self, key: str) -> str:
        """Rename one key; '' for what is not the network's."""
        return _renamed(key, self.renames)

    def to_plugin_keys(
        self, state: State, arguments: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Rename weights in this layout to the keys of our network, and complete them.

        Args:
            state: The weights.
            arguments: The network's, as far as they are known and differ from the facts.

        Raises:
            UserError: Two keys would become one.
        """
        renamed: dict[str, Tensor] = {}
        for key, weight in state.items():
            if (new := self.to_plugin_key(key)) in renamed:
                own = key if new == key else new
                raise UserError(f"expected {self.origin} keys, got some of ours as well: {own}")
            if new:
                renamed[new] = weight
        return dict(self._shown.complete(renamed, {**self.facts, **(arguments or {})}))

    def from_plugin_keys(self, state: State) -> dict[str, Tensor]:
        """Rename weights in our keys to this layout's, which must be one of a code base."""
        back = tuple((ours, theirs) for theirs, ours in self.renames)
        return {_renamed(key, back): weight for key, weight in state.items()}


def _has(state: State, key: str) -> bool:
    absent = key.startswith("!")
    bare = key.removeprefix("!")
    return (bare in state or f"{bare}.weight" in state) != absent


_NUMBER = re.compile(r"\{([+-]\d+)?\}")


def _renamed(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for old, new in renames:
        if found := re.match(re.escape(old).replace(r"\{\}", r"(\d+)"), key):
            return _filled(new, found.groups()) + key[found.end() :] if new else ""
    return key


def _filled(template: str, numbers: tuple[str, ...]) -> str:
    """Put numbers into the braces of a template, each changed by what stands there."""
    left = iter(numbers)
    return _NUMBER.sub(lambda brace: str(int(next(left)) + int(brace[1] or 0)), template)


_UPCONVS = ("upconv{}.", "upsample{}.upsample_conv.")
#: The first layout that fits is taken.
LAYOUTS = (
    StateDictLayout(
        "SRResNet",
        "our own",
        ("trunk_net.0.conv1", "conv_trunk", "act_first"),
        code_bases=("plugin",),
    ),
    StateDictLayout(
        "SRResNet",
        "our own",
        ("trunk_net.0.conv1", "conv_trunk"),
        asks=("act",),
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
        facts={"activate_after_shuffle": True},
        code_bases=("basicsr",),
    ),
    StateDictLayout(
        "MSRResNet",
        "KAIR's",
        ("recon_trunk.0.conv1", "upconv1", "HRconv"),
        renames=(("recon_trunk.", "trunk_net."), ("HRconv.", "conv_hr."), _UPCONVS),
        facts={"activate_after_shuffle": True},
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
    *(
        StateDictLayout(
            "SRResNet",
            f"{row.name}'s",
            tuple(row.detect_keys.split()),
            renames=row.renames,
            facts=row.facts,
            asks=row.asks,
        )
        for row in REPOSITORIES
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
    """A layout that was detected, and the arguments of the network that its weights show."""

    layout: StateDictLayout
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return self.layout.describe(self.arguments)


def detect_layout(state: State) -> Detection | None:
    """Return the first layout of the table that the weights have; None if there is none."""
    for layout in LAYOUTS:
        if (arguments := layout.read_arguments(state)) is not None:
            return Detection(layout, arguments)
    return None


def describe(state: State) -> str:
    """Describe weights, such as "MSRResNet x4 (64 features, 16 blocks) in MMagic's keys".

    Args:
        state: Bare weights by key, as `unwrap` returns them.

    Example:
        >>> from srgan_plugin.checkpoints import describe
        >>> from srgan_plugin.networks import MSRResNet
        >>> describe(MSRResNet(mid_channels=8, num_blocks=2).state_dict())
        "MSRResNet x4 (8 features, 2 blocks) in MMagic's keys"
    """
    found = detect_layout(state)
    if found:
        return str(found)
    first = ", ".join(list(state)[:3])
    near = next((f", some in {layout.origin} keys" for layout in LAYOUTS if layout.fits(state)), "")
    return f"an unknown network of {len(state)} tensors ({first}, …){near}"
