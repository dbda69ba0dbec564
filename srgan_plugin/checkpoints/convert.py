"""Convert and publish checkpoints; every written file is compared with its source."""

import dataclasses
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srgan_plugin.errors import UserError
from srgan_plugin.io.download import sha256
from srgan_plugin.networks import DISCRIMINATORS

from .detect import DetectedNetwork, identify, option
from .layouts import CodeBase, StateDictLayout, find_layout
from .metadata import metadata_of, stated_metadata
from .read_write import (
    NOTE,
    filename_hash,
    load_checkpoint_file,
    named,
    save_atomically,
)
from .recorded_args import listed, note_for, note_tensor
from .wrappers import Role

TOLERANCE = 1e-5  # of the images' range of 1
HALF_TOLERANCE = 0.5 / 255  # half a level of an 8-bit image


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was converted.

    Attributes:
        source: what the file held.
        path: the file written.
        sha256: of it, in hexadecimal digits.
        difference: the largest between the two networks' outputs for the fixed image.
    """

    source: DetectedNetwork
    path: Path
    sha256: str
    difference: float

    def report(self) -> list[str]:
        """Return the report's lines."""
        return [
            f"found    {self.source}",
            f"dropped  {', '.join(self.source.dropped) or 'nothing'}",
            *(
                f"open     {name}, which nothing states: {option(name)}"
                for name in self.source.open
            ),
            f"compared on a fixed image: largest difference {self.difference:.1e}",
            f"wrote    {self.path}",
            f"SHA-256  {self.sha256}",
        ]


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """How a code base wraps weights, and which networks its classes can be.

    Attributes:
        wrap: Called with the network's role, its weights in that code base's keys, and our note.
        activates: Whether MSRResNet has an activation after each shuffle; None where a switch says.
        forms: The arguments that the class of a network can have, where not any.
    """

    wrap: Callable[[Role, Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]]
    activates: bool | None = None
    forms: Mapping[str, Sequence[Mapping[str, int]]] = field(default_factory=dict)


_SCALES = [{"upscale_factor": scale} for scale in (2, 3, 4)]
_VGG128, _VGG256 = ({"input_size": 4 * 2**n, "num_stages": n} for n in (5, 6))
_MMAGIC = _Rules(
    wrap=lambda role, weights, note: {
        "meta": {},
        "state_dict": {f"{role}.{key}": weight for key, weight in weights.items()},
    },
    activates=False,
    forms={"MSRResNet": _SCALES, "ModifiedVGG": [_VGG128]},
)
_RULES: dict[CodeBase, _Rules] = {
    "mmagic": _MMAGIC,
    "mmediting": _MMAGIC,
    "basicsr": _Rules(
        wrap=lambda role, weights, note: {"params": dict(weights)},
        activates=True,
        forms={"MSRResNet": _SCALES, "ModifiedVGG": [_VGG128, _VGG256]},
    ),
    "kair": _Rules(
        wrap=lambda role, weights, note: dict(weights),
        activates=True,
        forms={"MSRResNet": _SCALES},
    ),
    "plugin": _Rules(
        wrap=lambda role, weights, note: {
            "meta": {NOTE: dict(note)},
            "state_dict": dict(weights),
        }
    ),
}


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: CodeBase,
    origin: CodeBase | None = None,
    ema: bool = True,
    role: Role = "generator",
    arguments: Mapping[str, Any] | None = None,
    half: bool = False,
    name: str | None = None,
    license: str | None = None,
    note_among_weights: bool = False,
) -> Conversion:
    """Write a checkpoint anew in the layout of a code base; the weights stay bit for bit.

    The written file is read again, its network built, and both networks are compared on a fixed
    image; unless they agree, no `target` is written.

    Args:
        source: a file of any layout.
        target: the file to write. `.safetensors` holds bare weights, and as metadata our note and
            what `metadata_of` says.
        to: whose layout.
        origin: whose layout the source must have; None takes what it has.
        ema: whether to take averaged weights where there are both.
        role: which network of a whole-training checkpoint.
        arguments: what no file records, see `identify`.
        half: whether to round the weights to half precision, for a file of half the size; images
            may then differ by half a level of 255.
        name: of the model, for the metadata of `.safetensors`.
        license: of the weights, likewise; by default that which the source states.
        note_among_weights: whether to write the note as a tensor, too, where the keys alone do not
            tell what the network computes: spandrel and others hand on tensors alone.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is damaged or no network of ours, or `to` cannot compute what it does.
        OSError: `target` cannot be written.
    """
    target = Path(target)
    _check_target(target, to)
    checkpoint = load_checkpoint_file(source)
    with named(source):
        found = identify(checkpoint, ema=ema, role=role, arguments=arguments)
        if origin is not None and origin not in found.layout.code_bases:
            raise UserError(f"expected {origin}'s layout, got {found}")
        network = found.build(assume=True)
        layout = _target_layout(found, network, to)
    note = note_for(found.layout.network, found.arguments)
    found_role: Role = "discriminator" if found.layout.network in DISCRIMINATORS else "generator"
    weights = {
        key: weight.half() if half and weight.is_floating_point() else weight
        for key, weight in found.weights.items()
    }
    if note_among_weights:
        weights |= note_tensor(note)
    content = _RULES[to].wrap(found_role, layout.from_plugin_keys(weights), note)
    if target.suffix == ".safetensors":
        license = license or stated_metadata(checkpoint).get("license")
        content["meta"] |= metadata_of(network, name=name, license=license)
    differences: list[float] = []

    def check(written: Path) -> None:
        allowed = HALF_TOLERANCE if half else TOLERANCE
        differences.append(require_same_output(written, network, allowed))

    save_atomically(content, target, check=check)
    return Conversion(source=found, path=target, sha256=sha256(target), difference=differences[0])


def _check_target(target: Path, to: CodeBase) -> None:
    if target.suffix not in (".pth", ".pt", ".safetensors"):
        raise UserError(f"expected a name ending in .pth or .safetensors, got {target}")
    if filename_hash(target.name):
        raise UserError(
            f"{target.name} closes with the hash of another file: leave it out of the name"
        )
    if target.suffix == ".safetensors" and to != "plugin":
        raise UserError(f"{to} does not read safetensors: end {target} in .pth, or --to plugin")


def probe_input(network: nn.Module, channels: int = 3) -> Tensor:
    """Return the image on which networks are compared: (1, channels, H, W) in [0, 1].

    Args:
        network: one of ours; a discriminator is given the size that it takes.
        channels: of the image.
    """
    size = getattr(network, "input_size", None)
    height, width = (size, size) if isinstance(size, int) else (20, 24)
    noise = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0, 1, width).expand_as(noise)
    return (noise + ramp) / 2


def _target_layout(found: DetectedNetwork, network: nn.Module, to: CodeBase) -> StateDictLayout:
    """Return the target's layout of this network, if the target has the same function."""
    name, rules = found.layout.network, _RULES[to]
    layout = find_layout(name, to)
    if layout is None:
        raise UserError(f"{to} has no {name}: only --to plugin takes it")
    activates = getattr(network, "activate_after_shuffle", None)
    if activates is not None and rules.activates not in (None, activates):
        theirs, own = ("has an", "has none") if rules.activates else ("has no", "has one")
        doubt = "".join(f", or {option(name)} if it was trained so" for name in found.open)
        others = [base for base, its in _RULES.items() if its.activates in (None, activates)]
        raise UserError(
            f"{to}'s MSRResNet {theirs} activation after each shuffle, these weights' network "
            f"{own}: under {to} they would load and give other images. Nothing converts one "
            f"into the other; use --to {' or '.join(others)}{doubt}"
        )
    forms = rules.forms.get(name, [{}])
    if not any(found.arguments.items() >= form.items() for form in forms):
        expected = " or ".join(map(listed, forms))
        got = listed({key: found.arguments[key] for key in forms[0]})
        raise UserError(f"{to}'s {name}: expected {expected}, got {got}; only --to plugin takes it")
    return layout


def require_same_output(written: Path, network: nn.Module, allowed: float = TOLERANCE) -> float:
    """Return the largest difference between a network and the one that a written file makes.

    Raises:
        UserError: It is more than is allowed, or not a number.
    """
    again = identify(load_checkpoint_file(written))
    image = probe_input(network, again.arguments["in_channels"])
    with torch.inference_mode():
        difference = float((network(image) - again.build(assume=True)(image)).abs().max())
    if not difference <= allowed:  # NaN is no agreement either
        raise UserError(
            f"the converted network differs by {difference:.1e} (allowed {allowed:.0e}) on the "
            "fixed image; nothing was written"
        )
    return difference


def publish(
    source: str | os.PathLike[str], target: str | os.PathLike[str], **options: Any
) -> Conversion:
    """Write one network alone, under a name that closes with the digits of the file's SHA-256.

    Args:
        source: a checkpoint of any layout.
        target: `NAME.pth` or `NAME.safetensors`; the file becomes `NAME-xxxxxxxx.pth`.
        options: as for `convert`.

    Raises:
        FileNotFoundError: as for `convert`.
        UserError: as for `convert`.
        OSError: as for `convert`.
    """
    target = Path(target)
    options.setdefault("name", target.stem)
    # Not to `target` itself: that may well be the source.
    unnamed = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        done = convert(source, unnamed, **options)
        path = target.with_name(f"{target.stem}-{done.sha256[:8]}{target.suffix}")
        return dataclasses.replace(done, path=unnamed.replace(path))
    finally:
        unnamed.unlink(missing_ok=True)
