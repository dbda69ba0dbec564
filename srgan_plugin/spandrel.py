"""Register the generators in spandrel, the model loader of chaiNNer, ComfyUI and others.

After `install()`, `spandrel.ModelLoader()` loads MSRResNet and SRResNet with every layout that this
package reads.
"""

import logging
from collections.abc import Mapping
from typing import Any

from .checkpoints.detect import identify, option
from .checkpoints.layouts import Detection, detect_layout
from .checkpoints.read_write import NOTE_KEY
from .checkpoints.recorded_args import NON_INFERABLE_ARGS, read_note_tensor
from .checkpoints.wrappers import unwrap
from .errors import UserError
from .networks import GENERATORS, Generator

try:
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchRegistry,
        ArchSupport,
        ImageModelDescriptor,
        ModelTiling,
        SizeRequirements,
    )
except ImportError as error:
    raise ImportError(
        'srgan_plugin.spandrel needs spandrel: pip install "spandrel>=0.4"'
    ) from error

logger = logging.getLogger(__name__)


def install(
    registry: ArchRegistry = MAIN_REGISTRY, *, arguments: Mapping[str, Any] | None = None
) -> None:
    """Register the generators after all existing architectures.

    A second call changes only `arguments`.

    Args:
        registry: Registry; the default is the registry of every `ModelLoader()`.
        arguments: Arguments that a file does not record, such as `{"output_range": (-1, 1)}`; see
            `checkpoints.identify`. spandrel passes on tensors only, in which files of
            `tools/export.py` and of some other code bases record arguments.
    """
    for name in GENERATORS:
        found = registry.get(_make_id(name))
        architecture = found.architecture if found else GeneratorArchitecture(name)
        architecture.arguments = dict(arguments or {})
        if found is None:
            registry.add(ArchSupport.from_architecture(architecture))


def _make_id(network: str) -> str:
    """Return the id of the architecture in spandrel."""
    return f"srgan_plugin.{network}"


class GeneratorArchitecture(Architecture[Generator]):
    """Architecture of a generator with any known layout.

    Args:
        network: Name of the class in `GENERATORS`.
    """

    def __init__(self, network: str) -> None:
        super().__init__(id=_make_id(network), name=network, detect=self._matches)
        self.network = network
        self.arguments: dict[str, Any] = {}

    def _matches(self, state_dict: Mapping[str, Any]) -> bool:
        found = _detect(state_dict)
        return found is not None and found.layout.network == self.network

    def load(self, state_dict: Mapping[str, Any]) -> "ImageModelDescriptor[Generator]":
        """Build the network of a state dict.

        Raises:
            UserError: Weights are missing, unexpected or not finite, or an argument of the network
                is not recorded.
        """
        network, arguments = self._build(state_dict)
        whole = network.needs_whole_image
        return ImageModelDescriptor(
            network,
            network.state_dict(),
            architecture=self,
            purpose="SR",
            tags=[f"{arguments['mid_channels']}nf", f"{arguments['num_blocks']}nb"],
            supports_half=True,
            supports_bfloat16=True,
            scale=network.upscale_factor,
            input_channels=network.conv_first.in_channels,
            output_channels=network.conv_last.out_channels,
            size_requirements=SizeRequirements(minimum=2 if whole else 0),  # variance of one pixel
            tiling=ModelTiling.DISCOURAGED if whole else ModelTiling.SUPPORTED,
        )

    def _build(self, state_dict: Mapping[str, Any]) -> tuple[Generator, Mapping[str, Any]]:
        checkpoint = {"state_dict": state_dict, "meta": {NOTE_KEY: read_note_tensor(state_dict)}}
        found = identify(checkpoint)
        given = {name: self.arguments[name] for name in found.unrecorded if name in self.arguments}
        found = identify(checkpoint, arguments=given)
        for name in found.unrecorded:
            argument = NON_INFERABLE_ARGS[name]
            if name in found.required:
                raise UserError(
                    f"{name}: expected {argument.expected}, got none: neither "
                    f"weights nor spandrel provide it; give install(arguments={{{name!r}: …}}), or "
                    f"record it by tools/export.py FILE NEW.safetensors {option(name)}"
                )
            logger.warning(
                "assuming the default, as in networks with %s keys; give "
                "install(arguments={%r: …}) if trained otherwise", found.layout.origin, name,
            )  # fmt: skip
        network = found.build()
        assert isinstance(network, Generator)
        return network, found.arguments


def _detect(state_dict: Mapping[str, Any]) -> Detection | None:
    """Return the layout of a state dict; None if it is unknown or has several networks."""
    try:
        return detect_layout(unwrap(state_dict))
    except UserError:  # no weights, or those of several networks
        return None
