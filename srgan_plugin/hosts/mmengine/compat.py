"""What today's torch needs to work with mmengine 0.10, each mend in a function of its name."""

from collections import OrderedDict
from typing import Any

from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader

from srgan_plugin.checkpoints.files import NOTE, load_checkpoint_file
from srgan_plugin.checkpoints.hub import local_checkpoint


def load_checkpoints_safely() -> None:
    """Make mmengine's `load_from` and `resume` read checkpoints by our loader.

    mmengine's own calls `torch.load`, which since torch 2.6 refuses the log history that mmengine
    itself saves, so that nothing resumes; for a URL it calls a function that runs whatever a pickle
    says. Ours reads the history and runs nothing. mmengine has a public registry for this.
    """
    CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
    CheckpointLoader.register_scheme(
        prefixes=("http://", "https://"), loader=load_from_http, force=True
    )


def _history(log: Any, count: Any, max_length: int) -> HistoryBuffer:
    buffer = HistoryBuffer(log, count, max(max_length, len(log)))
    buffer.max_length = max_length  # lowered by a hook, and it cuts at its next value
    return buffer


def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a file, or the weights that ship by their name; mmengine's log says `local` of it."""
    # The tensors stay on the CPU, whatever the host asks for: load_state_dict copies them.
    return _telling(load_checkpoint_file(local_checkpoint(filename), history=_history))


def load_from_http(
    filename: str, map_location: Any = None, model_dir: Any = None
) -> dict[str, Any]:
    """Fetch and read a file, which is verified by the digits in its name."""
    here = local_checkpoint(filename, folder=model_dir)
    return _telling(load_checkpoint_file(here, history=_history))


def _telling(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Let the weights bring along what is said beside them, for mmengine loads them alone.

    torch has a place for that: a state dict's metadata, which reach the hooks of a module.
    """
    if isinstance(weights := checkpoint.get("state_dict"), dict):
        metadata = getattr(weights, "_metadata", None)
        metadata = OrderedDict(metadata if isinstance(metadata, dict) else {})
        metadata[""] = {**metadata.get("", {}), NOTE: checkpoint.get("meta")}
        checkpoint["state_dict"] = annotated = OrderedDict(weights)
        annotated._metadata = metadata  # type: ignore[attr-defined]
    return checkpoint
