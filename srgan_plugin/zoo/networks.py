"""Networks out of checkpoints: which one it is, built with the arguments that its weights tell."""

import inspect
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
from srgan_plugin.zoo.wrappings import Part, stated_arguments, unwrap_and_list

_CLASSES: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (core.MSRResNet, core.SRResNet, core.ModifiedVGG, core.SRGANDiscriminator)
}
DISCRIMINATORS = ("ModifiedVGG", "SRGANDiscriminator")
#: What weights do not tell of a network.
UNTOLD = ("activate_after_shuffle", "output_range")
# What a test may take from the weights. Scale and channels are the data's as well.
_ADAPTABLE = ("mid_channels", "num_blocks", "prelu", *UNTOLD)


@dataclass(frozen=True, kw_only=True)
class Identified:
    """A checkpoint that holds one of our networks.

    Attributes:
        layout: the keys that it was found in.
        arguments: the network's arguments, complete but for defaults.
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

    def build(self) -> nn.Module:
        """Makes the network, float32, in evaluation mode.

        Raises:
            ValueError: weights are missing, too many, of a wrong shape, or not finite.
        """
        # On the meta device first: absurd shapes must not allocate what they claim.
        with torch.device("meta"):
            network = _CLASSES[self.layout.network](**self.arguments)
        weights = fitted(dict(self.weights), network)
        single = {k: w.float() if w.is_floating_point() else w for k, w in weights.items()}
        network.load_state_dict(single, strict=True, assign=True)
        return network.eval()


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
        ValueError: it holds no weights, another network's, or tells otherwise than `arguments`.
    """
    weights, dropped = unwrap_and_list(checkpoint, ema=ema, part=part)
    found = recognise(weights)
    if found is None or found.layout.network not in _CLASSES:
        known = ", ".join(_CLASSES)
        raise ValueError(f"expected weights of {known}, got {describe(weights)}")
    if part == "discriminator" and found.layout.network not in DISCRIMINATORS:
        raise ValueError(f"expected a discriminator, but all there is is {found}")
    told = stated_arguments(checkpoint)
    if found.layout.activate_after_shuffle is not None:
        told["activate_after_shuffle"] = found.layout.activate_after_shuffle
    for name, value in _checked(found.layout, arguments or {}).items():
        if _plain(told.setdefault(name, value)) != _plain(value):
            raise ValueError(
                f"told {name}={value}, but the file itself says {told[name]}: leave that out"
            )
    taken = _defaults(found.layout.network)
    return Identified(
        layout=found.layout,
        arguments={**found.arguments, **{k: v for k, v in told.items() if k in taken}},
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
        return identify(checkpoint, ema=ema, part=part, arguments=arguments).build()


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
    except ValueError:
        return {}
    if found.layout.network != name:
        return {}
    now = {**_defaults(name), **generator}
    wanted = {key: found.arguments[key] for key in _ADAPTABLE if key in found.arguments}
    return {k: value for k, value in wanted.items() if _plain(value) != _plain(now[k])}


def _checked(layout: Layout, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    accepted = [name for name in UNTOLD if name in _defaults(layout.network)]
    for name in arguments:
        if name not in accepted:
            choice = f"one of {', '.join(accepted)}" if accepted else "nothing more to know"
            raise ValueError(f"of {layout.network} there is {choice} to tell, got {name!r}")
    told = arguments.get("output_range", ())
    if not isinstance(told, (tuple, list)):
        raise ValueError(f"expected an output_range of two numbers, got {told}")
    return arguments


def _defaults(network: str) -> dict[str, Any]:
    parameters = inspect.signature(_CLASSES[network]).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _plain(value: Any) -> Any:
    """Configs say (-1, 1) or [-1, 1], networks (-1.0, 1.0)."""
    return tuple(map(float, value)) if isinstance(value, (list, tuple)) else value
