"""Load and save checkpoints safely in mmengine 0.10 and in models of other toolboxes."""

from collections import OrderedDict
from typing import Any

from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from srgan_plugin.checkpoints.hub import local_checkpoint
from srgan_plugin.checkpoints.layouts import detect_layout
from srgan_plugin.checkpoints.read_write import NOTE_KEY, load_checkpoint_file
from srgan_plugin.registry import SCOPE, SCOPE_MODULES

from .models.model_utils import unwrap_ddp
from .models.sr_model import SRModel, load_state_dict_pre_hook


def load_checkpoints_safely() -> None:
    """Register `load_from_file` as the loader of mmengine's `load_from` and `resume`.

    mmengine's loader calls `torch.load`, which since torch 2.6 refuses the log history in
    mmengine's checkpoints, so no run can be resumed; for a URL it executes any code in the pickle.
    `load_from_file` reads the history and executes nothing. `CheckpointLoader` is public API.
    """
    schemes = ("", "http://", "https://")
    CheckpointLoader.register_scheme(prefixes=schemes, loader=load_from_file, force=True)


def _history(log: Any, count: Any, max_length: int) -> HistoryBuffer:
    buffer = HistoryBuffer(log, count, max(max_length, len(log)))
    buffer.max_length = max_length  # a hook lowered it; the next value truncates the buffer
    return buffer


def load_from_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a file, a URL (verified by the hash in its name), or bundled weights by name.

    mmengine passes only the weights on to the model, so the checkpoint's `meta` is copied into the
    metadata of the state dict, which torch passes to the hooks of a module.

    Args:
        filename: Path, URL or name of bundled weights.
        map_location: Ignored; tensors stay on the CPU, and load_state_dict copies them.

    Returns:
        Content of the checkpoint, with its `meta` in the metadata of `state_dict`.
    """
    checkpoint = load_checkpoint_file(local_checkpoint(filename), history=_history)
    if isinstance(weights := checkpoint.get("state_dict"), dict):
        metadata = getattr(weights, "_metadata", None)
        metadata = OrderedDict(metadata if isinstance(metadata, dict) else {})
        metadata[""] = {**metadata.get("", {}), NOTE_KEY: checkpoint.get("meta")}
        checkpoint["state_dict"] = annotated = OrderedDict(weights)
        annotated._metadata = metadata  # type: ignore[attr-defined]
    return checkpoint


def model_scope(cfg: Any) -> str:
    """Return the scope of a config's model: the prefix of its type, else the default scope."""
    prefix, _, _ = str(cfg.model.type).rpartition(".")
    return prefix or cfg.get("default_scope") or SCOPE


def is_plugin_model(cfg: Any) -> bool:
    """Return whether a config's model is defined in this package."""
    return model_scope(cfg).partition(".")[0] == SCOPE


def enable_safe_checkpointing(cfg: Any) -> None:
    """Add atomic checkpoints, and saving when stopped, to the config of another toolbox.

    Args:
        cfg: mmengine config; its `default_hooks` are changed in place. A checkpoint hook of
            another type is not changed.
    """
    if cfg.get("default_scope") not in SCOPE_MODULES:
        return
    cfg.setdefault("default_hooks", {})
    hooks = cfg["default_hooks"]  # mmengine has copied the dict
    checkpoint = hooks.get("checkpoint")
    if checkpoint and checkpoint.get("type") == "CheckpointHook":
        checkpoint["type"] = f"{SCOPE}.CheckpointHook"
    hooks.setdefault("interrupt", {"type": f"{SCOPE}.InterruptHook"})
    hooks.setdefault("heartbeat", {"type": f"{SCOPE}.HeartbeatHook"})


def convert_on_load(model: nn.Module) -> None:
    """Make a model of another toolbox load checkpoints of any known layout, strictly.

    mmengine loads the keys that match and logs the others, so weights without the prefix
    `generator.` would load nothing. A second call has no effect.

    Args:
        model: Model of any toolbox; it is not changed unless `model.generator` is a known network.
    """
    own: Any = unwrap_ddp(model)
    generator = getattr(own, "generator", None)
    if isinstance(own, SRModel) or not isinstance(generator, nn.Module):
        return
    known = detect_layout(unwrap_ddp(generator).state_dict()) is not None
    if known and not getattr(own, "reads_any_layout", False):
        own.register_load_state_dict_pre_hook(load_state_dict_pre_hook)
        own.reads_any_layout = True
