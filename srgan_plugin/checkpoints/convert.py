"""Convert and publish checkpoints; each written file is compared with its source."""

import dataclasses
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from srgan_plugin.errors import UserError, check_option, prefix_errors
from srgan_plugin.io.download import sha256
from srgan_plugin.networks import DISCRIMINATORS

from .detect import DetectedNetwork, identify, option
from .layouts import CodeBase, StateDictLayout, find_layout
from .metadata import export_metadata, read_metadata
from .probe import probe_image
from .read_write import (
    NOTE_KEY,
    filename_hash,
    load_checkpoint_file,
    save_atomically,
)
from .recorded_args import format_arguments, make_note, make_note_tensor
from .wrappers import Role

TOLERANCE = 1e-5  # largest difference of images in [0, 1]
HALF_TOLERANCE = 0.5 / 255  # half a level of an 8-bit image


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        detected: The network in the source.
        path: The written file.
        sha256: SHA-256 of the written file in hexadecimal digits.
        difference: Largest difference between the outputs of the source and of the written file
            on the probe image, for images in [0, 1].
    """

    detected: DetectedNetwork
    path: Path
    sha256: str
    difference: float

    def report(self) -> list[str]:
        """Return the lines of a report."""
        return [
            f"found      {self.detected}",
            f"dropped    {', '.join(self.detected.dropped) or 'nothing'}",
            *(
                f"unrecorded {name}: its value is in neither file; give {option(name)}"
                for name in self.detected.unrecorded
            ),
            f"compared   on the probe image: largest difference {self.difference:.1e}",
            f"wrote      {self.path}",
            f"SHA-256    {self.sha256}",
        ]


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """Structure of a code base's checkpoints, and the arguments that its classes support.

    Attributes:
        wrap: Function of role, weights (with keys of the code base) and note that returns the
            checkpoint.
        activate_after_shuffle: Whether MSRResNet has an activation after each pixel shuffle; None
            if both are supported.
        supported: {network: supported combinations of arguments}; all for a network that is
            missing.
    """

    wrap: Callable[[Role, Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]]
    activate_after_shuffle: bool | None = None
    supported: Mapping[str, Sequence[Mapping[str, int]]] = field(default_factory=dict)


_SCALES = [{"upscale_factor": scale} for scale in (2, 3, 4)]
_VGG128, _VGG256 = ({"input_size": 4 * 2**n, "num_stages": n} for n in (5, 6))
_MMAGIC = _Rules(
    wrap=lambda role, weights, note: {
        "meta": {},
        "state_dict": {f"{role}.{key}": weight for key, weight in weights.items()},
    },
    activate_after_shuffle=False,
    supported={"MSRResNet": _SCALES, "ModifiedVGG": [_VGG128]},
)
_RULES: dict[CodeBase, _Rules] = {
    "mmagic": _MMAGIC,
    "mmediting": _MMAGIC,
    "basicsr": _Rules(
        wrap=lambda role, weights, note: {"params": dict(weights)},
        activate_after_shuffle=True,
        supported={"MSRResNet": _SCALES, "ModifiedVGG": [_VGG128, _VGG256]},
    ),
    "kair": _Rules(
        wrap=lambda role, weights, note: dict(weights),
        activate_after_shuffle=True,
        supported={"MSRResNet": _SCALES},
    ),
    "plugin": _Rules(
        wrap=lambda role, weights, note: {
            "meta": {NOTE_KEY: dict(note)},
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
    """Write a checkpoint in the layout of a code base, with bit-equal weights unless `half`.

    The networks of the source and of the written file are compared on the probe image. If their
    outputs differ by more than 1e-5, or 0.5 / 255 with `half`, `target` is not written.

    Args:
        source: A checkpoint with any known layout.
        target: The file to write, `.pth`, `.pt` or `.safetensors`. A `.safetensors` file contains
            bare weights, and the note and `export_metadata` as its metadata.
        to: Code base of the layout to write.
        origin: Code base of the layout that the source must have; None for any.
        ema: Whether to prefer averaged weights (EMA) if the checkpoint has both.
        role: Network of a training checkpoint, "generator" or "discriminator".
        arguments: Arguments that the source does not record, see `identify`.
        half: Whether to round weights to half precision, which halves the file; the output may
            differ by half a level of an 8-bit image.
        name: Name of the model, for the metadata of `.safetensors`, ignored for other files; that
            in the source is not copied.
        license: Licence of the weights, likewise; default: the licence in the source.
        note_among_weights: Whether to write the note also as a tensor, for programs that read
            tensors only, such as spandrel; for `to="plugin"` only. It is omitted if weights and
            defaults imply it.

    Returns:
        What was converted: the detected network, the written file, its SHA-256, and the largest
        difference of the outputs: images in [0, 1], or logits of a discriminator.

    Raises:
        MissingFileError: The source does not exist.
        UserError: The source is damaged or contains another network, the code base cannot compute
            the same function, or `to`, `origin`, `role` or `note_among_weights` has a wrong value.
        OSError: `target` cannot be written.
    """
    target = Path(target)
    check_option("to", to, _RULES)
    check_option("origin", origin, (None, *_RULES))
    check_option("role", role, get_args(Role))
    if note_among_weights and to != "plugin":
        raise UserError(
            f"note_among_weights: expected to='plugin', got {to!r}, which refuses unknown keys"
        )
    _check_target(target, to)
    checkpoint = load_checkpoint_file(source)
    with prefix_errors(source):
        found = identify(checkpoint, ema=ema, role=role, arguments=arguments)
        if origin is not None and origin not in found.layout.code_bases:
            raise UserError(f"expected {origin}'s layout, got {found}")
        network = found.build(assume=True)
        layout = _target_layout(found, network, to)
    note = make_note(found.layout.network, found.arguments)
    weights = {
        key: weight.half() if half and weight.is_floating_point() else weight
        for key, weight in found.weights.items()
    }
    if note_among_weights:
        weights |= make_note_tensor(note)
    found_role: Role = "discriminator" if found.layout.network in DISCRIMINATORS else "generator"
    content = _RULES[to].wrap(found_role, layout.from_plugin_keys(weights), note)
    if target.suffix == ".safetensors":
        license = license or read_metadata(checkpoint).get("license")
        content["meta"] |= export_metadata(network, name=name, license=license)
    differences: list[float] = []

    def check(written: Path) -> None:
        allowed = HALF_TOLERANCE if half else TOLERANCE
        differences.append(require_same_output(written, network, allowed))

    save_atomically(content, target, check=check)
    (difference,) = differences
    return Conversion(detected=found, path=target, sha256=sha256(target), difference=difference)


def _check_target(target: Path, to: CodeBase) -> None:
    """Raise `UserError` for a file name with a hash or with a suffix that does not fit `to`."""
    if target.suffix not in (".pth", ".pt", ".safetensors"):
        raise UserError(
            f"target: expected a name ending in .pth, .pt or .safetensors, got {target}"
        )
    if filename_hash(target.name):
        raise UserError(
            f"{target.name}: expected a name without a hash, got the hash of another file; "
            "remove it from the name"
        )
    if target.suffix == ".safetensors" and to != "plugin":
        raise UserError(
            f"{to}: expected a name ending in .pth, as it does not read safetensors, got {target}; "
            "change it, or use --to plugin"
        )


def _target_layout(found: DetectedNetwork, network: nn.Module, to: CodeBase) -> StateDictLayout:
    """Return the layout of a network in a code base; raise `UserError` if it is not supported."""
    name, rules = found.layout.network, _RULES[to]
    layout = find_layout(name, to)
    if layout is None:
        raise UserError(f"{to} has no {name}; use --to plugin")
    own = getattr(network, "activate_after_shuffle", None)
    if own is not None and rules.activate_after_shuffle not in (None, own):
        expected, got = ("no", "with one") if own else ("an", "without one")
        retry = "".join(f", or {option(name)} if it was trained so" for name in found.unrecorded)
        others = [k for k, other in _RULES.items() if other.activate_after_shuffle in (None, own)]
        raise UserError(
            f"{to}'s MSRResNet: expected {expected} activation after each shuffle, got a network "
            f"{got}; the weights would load and give other images. There is no conversion; use "
            f"--to {' or '.join(others)}{retry}"
        )
    supported = rules.supported.get(name, [{}])
    if not any(found.arguments.items() >= arguments.items() for arguments in supported):
        expected = " or ".join(map(format_arguments, supported))
        got = format_arguments({key: found.arguments[key] for key in supported[0]})
        raise UserError(f"{to}'s {name}: expected {expected}, got {got}; use --to plugin")
    return layout


def require_same_output(written: Path, network: nn.Module, allowed: float = TOLERANCE) -> float:
    """Check that a written checkpoint gives the output of the saved network on the probe image.

    Args:
        written: The checkpoint.
        network: The network that was saved, float32, on the CPU, in evaluation mode. If it has an
            input size, as a discriminator has, the probe image has it as well.
        allowed: Largest allowed difference, for images in [0, 1].

    Returns:
        The largest difference between the outputs.

    Raises:
        UserError: The checkpoint is invalid, or the difference is larger than `allowed`, or NaN.
    """
    again = identify(load_checkpoint_file(written))
    size = getattr(network, "input_size", None)
    height, width = (size, size) if isinstance(size, int) else (20, 24)
    image = probe_image(again.arguments["in_channels"], height, width)
    with torch.inference_mode():
        difference = float((network(image) - again.build(assume=True)(image)).abs().max())
    if not difference <= allowed:  # also true for NaN
        raise UserError(
            f"the converted network differs by {difference:.1e} (allowed {allowed:.0e}) on the "
            "probe image; nothing was written"
        )
    return difference


def publish(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: CodeBase,
    **options: Any,
) -> Conversion:
    """Write one network to a file whose name ends with the first digits of its SHA-256.

    Args:
        source: A checkpoint with any known layout.
        target: `NAME.EXT` with a suffix of `convert`; the file is `NAME-xxxxxxxx.EXT`.
        to: Code base of the layout to write.
        options: Other arguments of `convert`.

    Returns:
        See `convert`; `path` has the digits in its name.

    Raises:
        MissingFileError: See `convert`.
        UserError: See `convert`.
        OSError: See `convert`.
    """
    target = Path(target)
    _check_target(target, to)
    options.setdefault("name", target.stem)
    # A temporary name, because `target` may be the source.
    unnamed = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        done = convert(source, unnamed, to=to, **options)
        path = target.with_name(f"{target.stem}-{done.sha256[:8]}{target.suffix}")
        return dataclasses.replace(done, path=unnamed.replace(path))
    except OSError as error:
        if error.filename not in (str(unnamed), str(unnamed.resolve())):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        unnamed.unlink(missing_ok=True)
