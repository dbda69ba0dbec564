"""Networks out of checkpoints: which one it is, built with the arguments that its weights tell."""

import inspect
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srgan_plugin import core
from srgan_plugin.zoo.architectures import Layout
from srgan_plugin.zoo.layouts import fitted
from srgan_plugin.zoo.loading import load_checkpoint_file, named
from srgan_plugin.zoo.recognition import Found, describe, recognise
from srgan_plugin.zoo.statements import (
    ARGUMENTS,
    arguments_of,
    checked_argument,
    plain,
    stated_arguments,
)
from srgan_plugin.zoo.wrappings import NoWeightsError, Part, unwrap_and_list

logger = logging.getLogger(__name__)

_CLASSES: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (core.MSRResNet, core.SRResNet, core.ModifiedVGG, core.SRGANDiscriminator)
}
DISCRIMINATORS = ("ModifiedVGG", "SRGANDiscriminator")
#: What weights do not tell of a network.
UNTOLD = tuple(ARGUMENTS)
# What a test may take from the weights. Scale and channels are the data's as well.
_ADAPTABLE = ("mid_channels", "num_blocks", "prelu", *UNTOLD)


class UnknownNetworkError(ValueError):
    """Weights that are of none of our networks."""


@dataclass(frozen=True, kw_only=True)
class Identified:
    """A checkpoint that holds one of our networks.

    Attributes:
        layout: the keys that it was found in.
        arguments: the network's arguments, those that the weights show or something states.
        weights: in our keys, on the CPU, in the type that they were saved in.
        dropped: what else there was: keys, or how keys begin.
    """

    layout: Layout
    arguments: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        untold = [f"{name}={self.arguments[name]}" for name in UNTOLD if name in self.arguments]
        return ", ".join([str(Found(self.layout, self.arguments)), *untold])

    @property
    def open(self) -> tuple[str, ...]:
        """The arguments that neither the weights nor the file state."""
        names = arguments_of(self.layout.network)
        return tuple(name for name in names if name not in self.arguments)

    def build(self, *, assume: bool = False) -> nn.Module:
        """Make the network, float32, in evaluation mode.

        Args:
            assume: whether to take the default of what nothing states, for uses that do not
                depend on it, such as comparing two networks.

        Raises:
            ValueError: weights are missing, too many, of a wrong shape, or not finite; or what the
                network computes is not stated.
        """
        # On the meta device first: absurd shapes must not allocate what they claim.
        with torch.device("meta"):
            network = _CLASSES[self.layout.network](**self.arguments)
        weights = fitted(dict(self.weights), network)
        for name in self.open:
            if ARGUMENTS[name].asked_for and not assume:
                raise ValueError(
                    f"{name}: expected {ARGUMENTS[name].expected}, which no weights show and this "
                    f"file does not state: give {option(name)}, here or once for all to "
                    "tools/convert_checkpoint.py FILE NEW --to plugin"
                )
        single = {k: w.float() if w.is_floating_point() else w for k, w in weights.items()}
        network.load_state_dict(single, strict=True, assign=True)
        return network.eval()


def option(name: str) -> str:
    """Return how the command line states an argument."""
    return f"--arch-option {name}={ARGUMENTS[name].example}"


def identify(
    checkpoint: Mapping[str, Any],
    *,
    ema: bool = True,
    part: Part = "generator",
    arguments: Mapping[str, Any] | None = None,
) -> Identified:
    """Finds out which of our networks a checkpoint holds, whatever its layout.

    Args:
        checkpoint: what `load_checkpoint_file` returned.
        ema: whether to take averaged weights where there are both.
        part: which network of a whole-training checkpoint.
        arguments: what neither the weights nor their layout nor the checkpoint's notes tell, of
            `UNTOLD`.

    Raises:
        UnknownNetworkError: its weights are of another network.
        ValueError: it holds no weights, its notes are no notes of ours, or it tells otherwise than
            `arguments`.
    """
    weights, dropped = unwrap_and_list(checkpoint, ema=ema, part=part)
    found = recognise(weights)
    if found is None or found.layout.network not in _CLASSES:
        known = ", ".join(_CLASSES)
        raise UnknownNetworkError(f"expected weights of {known}, got {describe(weights)}")
    if part == "discriminator" and found.layout.network not in DISCRIMINATORS:
        raise ValueError(f"expected a discriminator, but all there is is {found}")
    network, told = found.layout.network, stated_arguments(checkpoint, found.layout.network)
    activates = found.layout.activate_after_shuffle
    if activates is not None and told.setdefault("activate_after_shuffle", activates) != activates:
        raise ValueError(
            f"activate_after_shuffle: expected {activates}, as {found.layout.origin} keys have it, "
            f"got {not activates} in its meta: the file was changed, get it again"
        )
    for name, value in _checked(network, arguments or {}).items():
        if told.setdefault(name, value) != value:
            raise ValueError(
                f"told {name}={value}, but the file itself says {told[name]}: leave that out"
            )
    return Identified(
        layout=found.layout,
        arguments={**found.arguments, **told},
        weights=found.layout.in_our_keys(weights),
        dropped=dropped,
    )


def open_network(
    path: str | os.PathLike[str],
    *,
    ema: bool = True,
    part: Part = "generator",
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Makes the network that a checkpoint file holds, float32, on the CPU, in evaluation mode.

    Args:
        path: any file of which `tools/inspect_checkpoint.py` knows what it is.
        ema: as for `identify`.
        part: as for `identify`.
        arguments: as for `identify`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds another network; one line that names it.
    """
    checkpoint = load_checkpoint_file(path)
    with named(path):
        found = identify(checkpoint, ema=ema, part=part, arguments=arguments)
        network = found.build()
    if found.open:
        logger.warning(
            "%s: taken for the function that %s keys come with; %s if it was trained otherwise",
            path, found.layout.origin, ", ".join(map(option, found.open)),
        )  # fmt: skip
    return network


def generator_changes(
    generator: Mapping[str, Any], checkpoint: Mapping[str, Any]
) -> dict[str, Any]:
    """Tells how a generator's config must change for it to be the network of a checkpoint.

    Args:
        generator: the config: `type` and arguments.
        checkpoint: what `load_checkpoint_file` returned.

    Returns:
        New values by argument: features, blocks, PReLU, and what the layout or the checkpoint's
        notes tell. Empty if nothing differs, and for weights of another network, which loading
        will refuse.
    """
    name = str(generator.get("type")).rpartition(".")[2]
    try:
        found = identify(checkpoint)
    except (UnknownNetworkError, NoWeightsError):  # which loading refuses
        return {}
    if found.layout.network != name:
        return {}
    now = {**_defaults(name), **generator}
    wanted = {key: found.arguments[key] for key in _ADAPTABLE if key in found.arguments}
    return {k: value for k, value in wanted.items() if plain(value) != plain(now[k])}


def _checked(network: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    accepted = arguments_of(network)
    for name in arguments:
        if name not in accepted:
            choice = f"one of {', '.join(accepted)}" if accepted else "nothing more to know"
            raise ValueError(f"of {network} there is {choice} to tell, got {name!r}")
    return {name: checked_argument(name, value) for name, value in arguments.items()}


def _defaults(network: str) -> dict[str, Any]:
    parameters = inspect.signature(_CLASSES[network]).parameters
    return {name: parameter.default for name, parameter in parameters.items()}
