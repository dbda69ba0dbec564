"""Detect the network in a checkpoint and build it."""

import inspect
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from srgan_plugin.errors import UserError, prefix_errors
from srgan_plugin.networks import DISCRIMINATORS, GENERATORS, SRResNet

from .layouts import Detection, StateDictLayout, describe, detect_layout
from .load import file_keys, remap_strict, why_not_loadable
from .plausibility import find_better_arguments
from .read_write import load_checkpoint_file
from .recorded_args import (
    NON_INFERABLE_ARGS,
    check_argument,
    format_arguments,
    needs_record,
    non_inferable_names,
    normalise_argument,
    read_recorded_arguments,
    same_argument,
)
from .weight_forms import explain_form
from .wrappers import NoWeightsError, Role, WeightFormError, unwrap_with_rest

logger = logging.getLogger(__name__)

_CLASSES = GENERATORS | DISCRIMINATORS
_MAX_BLOCKS = 1000  # building more takes seconds; no known network has that many
# Arguments of a config that a checkpoint may change. The scale and the channels of the images are
# missing, because they must fit the data.
_ADAPTABLE = (
    "mid_channels",
    "num_blocks",
    "prelu",
    "upsample_norm",
    "end_kernels",
    "shuffles",
    "depthwise",
    *NON_INFERABLE_ARGS,
)


class UnknownNetworkError(UserError):
    """Error for weights of a network that is not in this package."""


@dataclass(frozen=True, kw_only=True)
class DetectedNetwork:
    """Network of this package that was detected in a checkpoint.

    Attributes:
        layout: Layout of the keys in the checkpoint.
        arguments: Arguments of the network: inferred from the weights, else given, recorded or
            assumed.
        weights: Weights with the keys of this package, on the CPU, in the saved dtype.
        dropped: Other keys of the checkpoint, or their prefixes.
        assumed: Names of the arguments whose values are those of the layout's repository or of the
            class, because they are neither inferred, recorded nor given. Empty for layouts of code
            bases.
        saved_keys: {key in `weights`: key in the file}, for messages.

    Example:
        >>> from srgan_plugin.checkpoints import identify
        >>> from srgan_plugin.networks import SRResNet
        >>> found = identify(SRResNet(mid_channels=8, num_blocks=2).state_dict())
        >>> found.layout.network, found.arguments["num_blocks"]
        ('SRResNet', 2)
    """

    layout: StateDictLayout
    arguments: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    dropped: tuple[str, ...] = ()
    assumed: frozenset[str] = frozenset()
    saved_keys: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        recorded = {
            name: self.arguments[name]
            for name in non_inferable_names(self.layout.network)
            if name in self.arguments and needs_record(name, self.arguments[name])
        }
        description = self.layout.describe(self.arguments)
        return f"{description}, {format_arguments(recorded)}" if recorded else description

    @property
    def unrecorded(self) -> tuple[str, ...]:
        """Names of arguments without a safe default that are not inferred, recorded or given."""
        names = (
            name
            for name in non_inferable_names(self.layout.network)
            if NON_INFERABLE_ARGS[name].unstated != "default" or name in self.layout.required_args
        )
        return tuple(name for name in names if name not in self.arguments)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the `unrecorded` arguments without which the network cannot be opened."""
        return tuple(
            name
            for name in self.unrecorded
            if name in self.layout.required_args or NON_INFERABLE_ARGS[name].unstated == "error"
        )

    def build(self, *, assume: bool = False) -> nn.Module:
        """Build the network with its weights: float32, in evaluation mode.

        Args:
            assume: Whether to use the defaults of `unrecorded` arguments, if the result does not
                depend on them, as when two networks are compared. Those that the layout requires
                raise an error even so.

        Returns:
            An instance of one of `GENERATORS` or `DISCRIMINATORS`, on the CPU.

        Raises:
            UserError: Weights are missing, unexpected, of a wrong shape or not finite, or an
                argument must be given.
        """
        self._require(name for name in self.unrecorded if name in self.layout.required_args)
        # On the meta device, so that absurd shapes do not allocate memory.
        try:
            with torch.device("meta"):
                network = _CLASSES[self.layout.network](**self.arguments)
        except UserError as error:
            raise UserError(f"{self}: {error}") from None
        names = file_keys(self.layout, self.saved_keys.values(), network)
        self._require_known_keys(network, names)
        weights = remap_strict(dict(self.weights), network, saved_keys=names)
        if not assume:
            self._require(n for n in self.unrecorded if NON_INFERABLE_ARGS[n].unstated == "error")
        single = {k: w.float() if w.is_floating_point() else w for k, w in weights.items()}
        network.load_state_dict(single, strict=True, assign=True)
        network.eval()
        if self.assumed and isinstance(network, SRResNet):
            self._require_plausible(network)
        return network

    def _require_known_keys(self, network: nn.Module, names: Mapping[str, str]) -> None:
        """Raise `UserError` for weights of an unknown variant of a repository's network."""
        if not self.layout.is_foreign:
            return
        if misfit := why_not_loadable(self.weights, network.state_dict(), names):
            raise UserError(
                f"{self}: expected the weights of that network only, got {misfit}; the file is "
                "damaged, or of a variant of that repository that srgan_plugin does not support"
            )

    def _require_plausible(self, network: SRResNet) -> None:
        """Raise `UserError` if the weights contradict arguments assumed from a repository."""
        if better := find_better_arguments(network, self.assumed):
            assumed = {name: normalise_argument(getattr(network, name)) for name in better}
            raise UserError(
                f"{format_arguments(assumed)}, as in {self.layout.origin} scripts, is contradicted "
                f"by the weights, which fit {format_arguments(better)} better: a fork may have "
                f"changed it. Give {_as_options(better)} or {_as_options(assumed)}, as it was "
                "trained, where it is opened or once to tools/convert_checkpoint.py FILE NEW --to "
                "plugin"
            )

    @staticmethod
    def _require(names: Iterable[str]) -> None:
        """Raise `UserError` that asks for the arguments `names`, if there are any."""
        if missing := list(names):
            expected = "; ".join(f"{n}: expected {NON_INFERABLE_ARGS[n].expected}" for n in missing)
            raise UserError(
                f"{expected}, got none: neither the weights nor the file show it; give "
                f"{' '.join(map(option, missing))} where it is opened, or once to "
                "tools/convert_checkpoint.py FILE NEW --to plugin"
            )


def option(name: str) -> str:
    """Return an example of the command-line option for an argument."""
    return f"--arch-option {name}={NON_INFERABLE_ARGS[name].example}"


def _as_options(arguments: Mapping[str, Any]) -> str:
    """Return the command-line options for arguments."""
    values = {
        name: f'"({value[0]:g},{value[1]:g})"' if isinstance(value, tuple) else value
        for name, value in arguments.items()
    }
    return " ".join(f"--arch-option {name}={value}" for name, value in values.items())


def identify(
    checkpoint: Mapping[str, Any],
    *,
    ema: bool = True,
    role: Role = "generator",
    arguments: Mapping[str, Any] | None = None,
) -> DetectedNetwork:
    """Detect the network in a checkpoint with any known layout.

    Args:
        checkpoint: Content of the checkpoint, from `load_checkpoint_file`.
        ema: Whether to prefer averaged weights (EMA) if the checkpoint has both.
        role: Network of a training checkpoint to detect, "generator" or "discriminator".
        arguments: Values of `NON_INFERABLE_ARGS` that are not recorded in the checkpoint.

    Returns:
        The network: layout, arguments, and weights with the keys of this package.

    Raises:
        UnknownNetworkError: The weights belong to a network that is not in this package.
        UserError: The checkpoint has no weights, or the recorded arguments are invalid or
            contradict the weights or `arguments`.

    Example:
        >>> from srgan_plugin.checkpoints import identify
        >>> from srgan_plugin.networks import MSRResNet
        >>> print(identify({"state_dict": MSRResNet(mid_channels=8, num_blocks=2).state_dict()}))
        MSRResNet x4 (8 features, 2 blocks) in MMagic's keys
    """
    weights, dropped, *_ = unwrap_with_rest(checkpoint, ema=ema, role=role)
    found = detect_layout(weights)
    form = explain_form(weights)
    if found is None or found.layout.network not in _CLASSES:
        also = f"; {form}" if form else ""
        raise UnknownNetworkError(
            f"expected weights of {', '.join(_CLASSES)}, got {describe(weights)}{also}"
        )
    if form:
        raise UserError(f"{found}: expected plain weights, got {form}")
    if role == "discriminator" and found.layout.network not in DISCRIMINATORS:
        raise UserError(f"expected a discriminator, got only {found}")
    if int(found.arguments.get("num_blocks", 0)) > _MAX_BLOCKS:
        raise UserError(
            f"num_blocks: expected at most {_MAX_BLOCKS}, got {found.arguments['num_blocks']}"
        )
    recorded = _merge_arguments(found, checkpoint, arguments or {})
    known = {**recorded, **found.arguments}
    renamed = found.layout.to_plugin_keys(weights, recorded)
    if found.layout.is_foreign and known.get("norm", "batch") == "batch":
        _require_running_statistics(renamed)
    return DetectedNetwork(
        layout=found.layout,
        arguments=known,
        weights=renamed,
        dropped=dropped,
        assumed=_list_assumed(found, checkpoint, arguments or {}),
        saved_keys={found.layout.to_plugin_key(key): key for key in weights},
    )


def _require_running_statistics(weights: Mapping[str, Tensor]) -> None:
    """Raise `UserError` if only the parameters of batch normalisation were saved."""
    norm = "trunk_net.0.bn1"
    if f"{norm}.weight" in weights and f"{norm}.running_mean" not in weights:
        raise UserError(
            "expected the running statistics of batch normalisation beside its weights, got none; "
            "save model.state_dict(), not the parameters alone"
        )


def _list_assumed(
    found: Detection, checkpoint: Mapping[str, Any], given: Mapping[str, Any]
) -> frozenset[str]:
    """Return the names of the arguments that are assumed from the layout's repository."""
    if not found.layout.is_foreign:
        return frozenset()
    network = found.layout.network
    known = {*found.arguments, *read_recorded_arguments(checkpoint, network), *given}
    return frozenset(non_inferable_names(network)) - known


def _merge_arguments(
    found: Detection, checkpoint: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Merge the arguments from the file, the layout and the user.

    Args:
        found: The layout, and the arguments inferred from the weights.
        checkpoint: Content of the checkpoint.
        given: Arguments from the user.

    Returns:
        {name: value} of the recorded, assumed and given arguments. Inferred values override all.
        Recorded and given ones must agree, except that given ones override those of a repository.
        Assumed ones are used where there is no other.

    Raises:
        UserError: Two values of the same argument differ.
    """
    layout, inferred = found.layout, found.arguments
    merged = read_recorded_arguments(checkpoint, layout.network)
    for name, value in merged.items():
        if inferred.get(name, value) != value:
            raise UserError(
                f"{name}: expected {inferred[name]}, as in its weights, got {value} in its meta: "
                "the file was changed, get it again"
            )
    for name, value in layout.assumed_args.items():
        if name in inferred or same_argument(merged.setdefault(name, value), value):
            continue
        if not layout.is_foreign:  # for a repository, the file overrides the assumption
            raise UserError(
                f"{name}: expected {value}, as {layout.origin} keys imply, got {merged[name]} "
                "in its meta: the file was changed, get it again"
            )
    for name, value in _check_given(layout.network, given).items():
        if name in layout.assumed_args and layout.is_foreign:
            merged[name] = value  # the user overrides an assumption
        known = inferred.get(name, merged.setdefault(name, value))
        if not same_argument(known, value):
            raise UserError(
                f"{name}: expected {known}, as in the file, got {value}; remove that option"
            )
    return merged


def open_network(
    path: str | os.PathLike[str],
    *,
    ema: bool = True,
    role: Role = "generator",
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build the network of a checkpoint file: float32, on the CPU, in evaluation mode.

    An unrecorded `activate_after_shuffle` is taken as False, with a warning.

    Args:
        path: Checkpoint with any known layout.
        ema: See `identify`.
        role: See `identify`.
        arguments: See `identify`.

    Returns:
        An instance of one of `GENERATORS`, from RGB in [0, 1] to RGB, not clamped, or of
        `DISCRIMINATORS`.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file is damaged or contains another network, or neither the weights nor the
            file show an argument without a safe default, such as `output_range`.

    Example:
        >>> import tempfile
        >>> from srgan_plugin.checkpoints import open_network, save_atomically
        >>> from srgan_plugin.networks import MSRResNet
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trained = MSRResNet(mid_channels=8, num_blocks=2, upscale_factor=2)
        ...     save_atomically(trained.state_dict(), f"{folder}/x.pth")
        ...     network = open_network(f"{folder}/x.pth")
        >>> network.upscale_factor, network.training
        (2, False)
    """
    checkpoint = load_checkpoint_file(path)
    with prefix_errors(path):
        found = identify(checkpoint, ema=ema, role=role, arguments=arguments)
        network = found.build()
    if found.unrecorded:
        logger.warning(
            "%s: assuming the default, as in networks with %s keys; give %s if trained otherwise",
            path, found.layout.origin, ", ".join(map(option, found.unrecorded)),
        )  # fmt: skip
    return network


def generator_changes(
    generator: Mapping[str, Any], checkpoint: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the changes to a generator's config that are needed to load a checkpoint.

    Args:
        generator: Config of the generator, `type` and arguments.
        checkpoint: Content of the checkpoint, from `load_checkpoint_file`.

    Returns:
        {argument: new value} for arguments that are inferred from the weights, implied by the
        layout or recorded. Empty if nothing differs, and for weights of another network, for
        which loading raises an error.

    Raises:
        UserError: The recorded arguments are invalid, or the weights contradict them or an
            argument assumed from a repository.

    Example:
        >>> from srgan_plugin.checkpoints import generator_changes
        >>> from srgan_plugin.networks import MSRResNet
        >>> weights = MSRResNet(mid_channels=8, num_blocks=2).state_dict()
        >>> generator_changes({"type": "MSRResNet", "num_blocks": 16}, weights)
        {'mid_channels': 8, 'num_blocks': 2}
    """
    name = str(generator.get("type")).rpartition(".")[2]
    try:
        found = identify(checkpoint)
    except (UnknownNetworkError, NoWeightsError, WeightFormError):  # loading raises the error
        return {}
    if found.layout.network != name:
        return {}
    if found.assumed and not found.unrecorded:
        found.build(assume=True)  # raises an error if the weights contradict an assumption
    parameters = inspect.signature(_CLASSES[name]).parameters
    now = {key: parameter.default for key, parameter in parameters.items()} | {**generator}
    needed = {key: found.arguments[key] for key in _ADAPTABLE if key in found.arguments}
    return {k: value for k, value in needed.items() if not same_argument(value, now.get(k))}


def _check_given(network: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the normalised arguments from the user after checking names and values."""
    accepted = non_inferable_names(network)
    for name in arguments:
        if name not in accepted:
            expected = f"one of {', '.join(accepted)}" if accepted else "none"
            raise UserError(
                f"arguments that {network} accepts here: expected {expected}, got {name}"
            )
    return {name: check_argument(name, value) for name, value in arguments.items()}
