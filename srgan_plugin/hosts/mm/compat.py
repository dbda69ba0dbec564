"""What today's torch needs to work with mmengine 0.10, each mend in a function of its name."""

import re
from pathlib import Path
from typing import Any

import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader

from srgan_plugin.zoo.loading import load_checkpoint_file

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.\w+$")


def load_checkpoints_safely() -> None:
    """Make mmengine's `load_from` and `resume` read checkpoints by our loader.

    mmengine's own calls `torch.load`, which since torch 2.6 refuses the log history that mmengine
    itself saves, so that nothing resumes; for a URL it calls a function that runs whatever a pickle
    says. Ours reads the history and runs nothing. mmengine has a public registry for this.
    """
    CheckpointLoader.register_scheme(prefixes="", loader=_load_local, force=True)
    CheckpointLoader.register_scheme(prefixes=("http://", "https://"), loader=_load_url, force=True)


def _load_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    # The tensors stay on the CPU, whatever the host asks for: load_state_dict copies them.
    return load_checkpoint_file(filename, history=HistoryBuffer)


def _load_url(filename: str, map_location: Any = None, model_dir: Any = None) -> dict[str, Any]:
    """Download once to torch's own folder; the hash that closes published names is checked."""
    folder = Path(model_dir or Path(torch.hub.get_dir()) / "checkpoints")
    target = folder / filename.rsplit("/", 1)[-1]
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        stated = _HASH_IN_NAME.search(filename)
        try:
            torch.hub.download_url_to_file(filename, str(target), stated and stated[1])
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"could not download {filename} ({error}); fetch it by hand and put it at {target}"
            ) from error
    return load_checkpoint_file(target, history=HistoryBuffer)
