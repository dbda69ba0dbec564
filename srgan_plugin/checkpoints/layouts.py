"""Table of the known state-dict layouts, and functions to detect and convert them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from srgan_plugin.errors import UserError

from .readings import NETWORKS, Network, StateDict
from .repositories import REPOSITORY_LAYOUTS

CodeBase = Literal["mmagic", "mmediting", "basicsr", "kair", "plugin"]


@dataclass(frozen=True, kw_only=True)
class StateDictLayout:
    """Names of the weights of one network in one code base.

    Attributes:
        network: Name of the network; the class name, if it is in `srgan_plugin.networks`.
        origin: Origin of the keys in the genitive, such as "BasicSR's".
        detect_keys: Keys that distinguish this layout from those below it in the table, with or
            without `.weight`. A key that begins with `!` must be missing.
        renames: Pairs of a prefix in this layout and the prefix in this package, of which the first
            match counts. `{}` matches any number; `{+n}` and `{-n}` in the second prefix add or
            subtract n. Weights whose second prefix is '' are not part of the network.
        assumed_args: Arguments of the network that are assumed for every file with this layout:
            implied by the keys of a code base, or as in the scripts of a repository. Those that
            `read_arguments` infers override them.
        required_args: Arguments that must be recorded in the checkpoint or given by the user.
        code_bases: Code bases that read and write this layout, named as in `--to`. Empty for
            networks that are detected but cannot be loaded, and for repositories, whose layouts
            are only read. Recorded arguments and `--arch-option` override the assumed ones of a
            repository, but must agree with those of a code base.
    """

    network: str
    origin: str
    detect_keys: tuple[str, ...]
    renames: tuple[tuple[str, str], ...] = ()
    assumed_args: Mapping[str, Any] = field(default_factory=dict)
    required_args: tuple[str, ...] = ()
    code_bases: tuple[CodeBase, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether no code base has this layout: it is one repository's, or cannot be loaded."""
        return not self.code_bases

    @property
    def _network(self) -> Network:
        return NETWORKS.get(self.network, Network())

    def fits(self, state: StateDict) -> bool:
        """Return whether weights have the `detect_keys` of this layout."""
        return all(_has(state, key) for key in self.detect_keys)

    def read_arguments(self, state: StateDict) -> dict[str, Any] | None:
        """Infer the network's arguments from weights; None for another layout."""
        if not self.fits(state):
            return None
        renamed = {_rename(key, self.renames): weight for key, weight in state.items()}
        try:
            read = {name: reading(renamed) for name, reading in self._network.arguments.items()}
        except (KeyError, IndexError, ZeroDivisionError):  # fitting keys, absurd shapes
            return None
        inferred = {name: value for name, value in read.items() if value is not None}
        assumed_norm = self.assumed_args.get("norm")
        if self.is_foreign and read.get("norm") == "instance_affine" != assumed_norm:
            # Weights without running statistics look like instance normalisation. In a repository
            # with batch normalisation, the statistics are missing; `identify` refuses the file.
            del inferred["norm"]
        empty = any(value == 0 for value in inferred.values() if type(value) is int)
        return None if empty else inferred

    def describe(self, arguments: Mapping[str, Any]) -> str:
        """Describe the network, such as "MSRResNet x4 (…) in MMagic's keys"."""
        known = {**self.assumed_args, **arguments}
        summary = self._network.summary(known)
        text = self._network.description.format(network=self.network, summary=summary, **known)
        return f"{text} in {self.origin} keys"

    def to_plugin_key(self, key: str) -> str:
        """Return a key in this package's layout; '' if it is not part of the network."""
        return _rename(key, self.renames)

    def from_plugin_key(self, key: str, saved: Iterable[str] = ()) -> str:
        """Return the key in this layout for a key of the network, with `*` for an unknown number.

        Args:
            key: Key of the network.
            saved: Keys of a file. If several keys are possible, the one with the form of a saved
                key, such as the key in another block, is returned.
        """
        renamed = [_undo_rename(key, old, new) for old, new in self.renames if new]
        names = [n for n in renamed if n and self.to_plugin_key(n.replace("*", "0")) == key]
        patterns = set(map(_replace_numbers, saved)) if len(names) > 1 else set()
        fitting = (name for name in names if _replace_numbers(name) in patterns)
        return next(fitting, names[0] if names else key)

    def to_plugin_keys(
        self, state: StateDict, arguments: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Rename weights to this package's keys, and add weights that files may omit.

        Args:
            state: Weights with this layout.
            arguments: Known arguments of the network; they override the assumed ones.

        Returns:
            {key in this package: weight}.

        Raises:
            UserError: Two keys have the same new name.
        """
        renamed: dict[str, Tensor] = {}
        for key, weight in state.items():
            if (new := self.to_plugin_key(key)) in renamed:
                own = key if new == key else new
                raise UserError(f"expected only {self.origin} keys, got {own} of srgan_plugin")
            if new:
                renamed[new] = weight
        return dict(self._network.complete(renamed, {**self.assumed_args, **(arguments or {})}))

    def from_plugin_keys(self, state: StateDict) -> dict[str, Tensor]:
        """Rename weights from this package's keys to this layout, which has a code base."""
        return {self.from_plugin_key(key): weight for key, weight in state.items()}


def _has(state: StateDict, key: str) -> bool:
    """Return whether the weights fit one of `detect_keys`."""
    absent = key.startswith("!")
    bare = key.removeprefix("!")
    return (bare in state or f"{bare}.weight" in state) != absent


_NUMBER = re.compile(r"\{([+-]\d+)?\}")


def _rename(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    """Replace the prefix of a key by the first pair that matches."""
    for old, new in renames:
        if found := re.match(re.escape(old).replace(r"\{\}", r"(\d+)"), key):
            return _fill_template(new, found.groups()) + key[found.end() :] if new else ""
    return key


def _fill_template(template: str, numbers: tuple[str, ...]) -> str:
    """Replace `{}` by the next number, and `{+n}` or `{-n}` by the next number plus or minus n."""
    remaining = iter(numbers)
    return _NUMBER.sub(lambda brace: str(int(next(remaining)) + int(brace[1] or 0)), template)


def _replace_numbers(key: str) -> str:
    """Return a key with `#` for each number."""
    return re.sub(r"\d+|\*", "#", key)


def _undo_rename(key: str, old: str, new: str) -> str | None:
    """Return the key before its prefix was replaced by `new`; None for another prefix."""
    pattern = r"(\d+)".join(map(re.escape, _NUMBER.split(new)[::2]))
    if not (found := re.match(pattern, key)):
        return None
    offsets = [int(brace[1] or 0) for brace in _NUMBER.finditer(new)]
    numbers = [int(text) - by for text, by in zip(found.groups(), offsets, strict=True)]
    remaining = iter(map(str, numbers))
    return _NUMBER.sub(lambda _: next(remaining, "*"), old) + key[found.end() :]


_UPCONVS = ("upconv{}.", "upsample{}.upsample_conv.")
#: Detection returns the first layout that fits.
LAYOUTS = (
    StateDictLayout(
        network="SRResNet",
        origin="our own",
        detect_keys=("trunk_net.0.conv1", "conv_trunk", "act_first"),
        code_bases=("plugin",),
    ),
    StateDictLayout(
        network="SRResNet",
        origin="our own",
        detect_keys=("trunk_net.0.conv1", "conv_trunk"),
        required_args=("act",),
        code_bases=("plugin",),
    ),
    StateDictLayout(
        network="MSRResNet",
        origin="MMagic's",
        detect_keys=("trunk_net.0.conv1", "upsample1.upsample_conv", "conv_hr"),
        code_bases=("plugin", "mmagic", "mmediting"),
    ),
    StateDictLayout(
        network="MSRResNet",
        origin="BasicSR's",
        detect_keys=("body.0.conv1", "upconv1", "conv_hr"),
        renames=(("body.", "trunk_net."), _UPCONVS),
        assumed_args={"activate_after_shuffle": True},
        code_bases=("basicsr",),
    ),
    StateDictLayout(
        network="MSRResNet",
        origin="KAIR's",
        detect_keys=("recon_trunk.0.conv1", "upconv1", "HRconv"),
        renames=(("recon_trunk.", "trunk_net."), ("HRconv.", "conv_hr."), _UPCONVS),
        assumed_args={"activate_after_shuffle": True},
        code_bases=("kair",),
    ),
    StateDictLayout(
        network="ModifiedVGG",
        origin="the toolboxes'",
        detect_keys=("conv0_0", "conv3_1", "conv4_0", "linear1"),
        code_bases=("plugin", "mmagic", "mmediting", "basicsr"),
    ),
    StateDictLayout(
        network="SRGANDiscriminator",
        origin="our own",
        detect_keys=("conv0_0", "conv3_1", "linear1"),
        code_bases=("plugin",),
    ),
    *(
        StateDictLayout(
            network="SRResNet",
            origin=f"{row.name}'s",
            detect_keys=row.detect_keys,
            renames=row.renames,
            assumed_args=row.assumed_args,
            required_args=row.required_args,
        )
        for row in REPOSITORY_LAYOUTS
    ),
    StateDictLayout(
        network="EDSR",
        origin="its authors'",
        detect_keys=("head.0", "body.0.body.0"),
        renames=(("head.0.", "conv_first."), ("tail.0.{}.", "upsample.{}.")),
    ),
    *(
        StateDictLayout(network=network, origin=origin, detect_keys=tuple(keys.split()))
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
    """Return the layout of a network in a code base; None if the code base does not have it."""
    found = (x for x in LAYOUTS if x.network == network and code_base in x.code_bases)
    return next(found, None)


@dataclass(frozen=True)
class Detection:
    """A detected layout, and the network's arguments inferred from the weights."""

    layout: StateDictLayout
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return self.layout.describe(self.arguments)


def detect_layout(state: StateDict) -> Detection | None:
    """Return the first layout in the table that fits the weights; None if there is none."""
    for layout in LAYOUTS:
        if (arguments := layout.read_arguments(state)) is not None:
            return Detection(layout, arguments)
    return None


def describe(state: StateDict) -> str:
    """Describe weights, such as "MSRResNet x4 (64 features, 16 blocks) in MMagic's keys".

    Args:
        state: Bare weights, as returned by `unwrap`.

    Returns:
        One line, without a full stop; for an unknown network the number of tensors and the first
        keys.

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
