"""What our tools give a config of another toolbox's: nothing is lost, and any layout is read."""

from typing import Any

from torch import nn

from srgan_plugin.checkpoints.layouts import detect_layout
from srgan_plugin.hosts.mmengine.models.model_utils import unwrap_ddp
from srgan_plugin.hosts.mmengine.models.sr_model import SRModel, load_state_dict_pre_hook
from srgan_plugin.registry import SCOPE, SCOPE_MODULES


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
