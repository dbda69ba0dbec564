"""Make mmengine 0.10, and models of other toolboxes, load and save checkpoints safely."""

from collections import OrderedDict
from typing import Any

from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from srgan_plugin.checkpoints.hub import local_checkpoint
from srgan_plugin.checkpoints.layouts import detect_layout
from srgan_plugin.checkpoints.read_write import NOTE, load_checkpoint_file
from srgan_plugin.registry import SCOPE, SCOPE_MODULES

from .models.model_utils import unwrap_ddp
from .models.sr_model import SRModel, load_state_dict_pre_hook


def load_checkpoints_safely() -> None:
    """Make mmengine's `load_from` and `resume` read checkpoints by our loader.

    mmengine's own calls `torch.load`, which since torch 2.6 refuses the log history that mmengine
    itself saves, so that nothing resumes; for a URL it calls a function that runs whatever a pickle
    says. Ours reads the history and runs nothing. mmengine has a public registry for this.
    """
    schemes = ("", "http://", "https://")
    CheckpointLoader.register_scheme(prefixes=schemes, loader=load_from_file, force=True)


def _history(log: Any, count: Any, max_length: int) -> HistoryBuffer:
    buffer = HistoryBuffer(log, count, max(max_length, len(log)))
    buffer.max_length = max_length  # lowered by a hook, and it cuts at its next value
    return buffer


def load_from_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a file, a download verified by the digits in its name, or bundled weights by name.

    The weights carry what is noted beside them, for mmengine loads them alone. torch has a place
    for that: a state dict's metadata, which the hooks of a module get.
    """
    # The tensors stay on the CPU, whatever the host asks for: load_state_dict copies them.
    checkpoint = load_checkpoint_file(local_checkpoint(filename), history=_history)
    if isinstance(weights := checkpoint.get("state_dict"), dict):
        metadata = getattr(weights, "_metadata", None)
        metadata = OrderedDict(metadata if isinstance(metadata, dict) else {})
        metadata[""] = {**metadata.get("", {}), NOTE: checkpoint.get("meta")}
        checkpoint["state_dict"] = annotated = OrderedDict(weights)
        annotated._metadata = metadata  # type: ignore[attr-defined]
    return checkpoint


def scope_of(cfg: Any) -> str:
    """Whose model a config has: by the prefix of its type, else by the default scope."""
    prefix, _, _ = str(cfg.model.type).rpartition(".")
    return prefix or cfg.get("default_scope") or SCOPE


def enable_safe_checkpointing(cfg: Any) -> None:
    """Let a run of another toolbox's config save when it is stopped, and whole files only.

    Args:
        cfg: mmengine's config; its `default_hooks` change in place. A checkpoint hook of another
            type stays as it is.
    """
    if cfg.get("default_scope") not in SCOPE_MODULES:
        return
    cfg.setdefault("default_hooks", {})
    hooks = cfg["default_hooks"]  # mmengine keeps another dict than it was given
    checkpoint = hooks.get("checkpoint")
    if checkpoint and checkpoint.get("type") == "CheckpointHook":
        checkpoint["type"] = f"{SCOPE}.CheckpointHook"
    hooks.setdefault("interrupt", {"type": f"{SCOPE}.InterruptHook"})
    hooks.setdefault("heartbeat", {"type": f"{SCOPE}.HeartbeatHook"})


def convert_on_load(model: nn.Module) -> None:
    """Let another toolbox's model load checkpoints as ours do: of any layout, whole or not at all.

    mmengine loads what fits and logs the rest, so that weights in bare keys load nothing. Calling
    it again changes nothing.

    Args:
        model: Has one of the networks that the zoo knows as `model.generator`, or is left alone.
    """
    own: Any = unwrap_ddp(model)
    generator = getattr(own, "generator", None)
    if isinstance(own, SRModel) or not isinstance(generator, nn.Module):
        return
    known = detect_layout(unwrap_ddp(generator).state_dict()) is not None
    if known and not getattr(own, "reads_any_layout", False):
        own.register_load_state_dict_pre_hook(load_state_dict_pre_hook)
        own.reads_any_layout = True
