"""Distributed training: a DDP wrapper for each network, and gloo on machines without a GPU."""

import gc
import math
import os
import sys
import time
from datetime import timedelta
from functools import cache
from typing import Any, Final

import torch
from mmengine.model import MMSeparateDistributedDataParallel as MMEngineSeparateDDP
from mmengine.model import is_model_wrapper
from torch import nn

from srgan_plugin.errors import UserError
from srgan_plugin.registry import MODEL_WRAPPERS

_TIMEOUT: Final = 600.0  # seconds; torch's default with NCCL, with gloo it is 1800
_PAUSE: Final = 0.02  # seconds before a fork


@MODEL_WRAPPERS.register_module()
class MMSeparateDistributedDataParallel(MMEngineSeparateDDP):
    """mmengine's MMSeparateDistributedDataParallel that also works on a CPU.

    A config that names the class gets this one: this package's registry is searched first.

    Args:
        module: Model whose networks are wrapped one by one.
        device_ids: Devices, passed by mmengine's runner; ignored without a GPU.
        kwargs: Arguments of torch's `DistributedDataParallel`.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **kwargs: Any):
        if torch.cuda.is_available():
            kwargs["device_ids"] = device_ids
        self._options = kwargs
        super().__init__(module, **kwargs)

    def rewrap(self, stream: Any) -> None:
        """Wrap the networks again on another stream, before the first step, on all ranks.

        Gradients accumulate on the stream on which a network was wrapped, and a CUDA graph cannot
        capture that on the default stream.

        Args:
            stream: CUDA stream; None without a GPU.
        """
        self.module._modules.update(
            {n: each.module for n, each in self.module.named_children() if is_model_wrapper(each)}
        )
        gc.collect()  # the old wrappers accumulate gradients on the old stream
        options, training = self._options, self.training
        with torch.cuda.stream(stream):
            MMEngineSeparateDDP.__init__(self, self.module, **options)
        self._options = options
        self.train(training)


def get_timeout(cfg: Any) -> float:
    """Return `env_cfg.dist_cfg.timeout`, or 600 if the config has none, in seconds.

    Heartbeats use it in either case, torch's collective operations only if the config has one.

    Raises:
        UserError: The timeout is not a positive number.
    """
    given = _given_timeout(cfg)
    seconds = _TIMEOUT if given is None else given
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < math.inf:
        raise UserError(
            f"env_cfg.dist_cfg.timeout: expected a positive number of seconds, got {seconds!r}"
        )
    return float(seconds)


def _given_timeout(cfg: Any) -> Any:
    return ((cfg.get("env_cfg") or {}).get("dist_cfg") or {}).get("timeout")


def join_process_group(launcher: str, cfg: Any) -> None:
    """Initialise the process group of `torchrun` or `srun` with gloo if there is no GPU.

    With a GPU mmengine does this. Without one mmengine would fail in `torch.cuda.set_device`, but
    it uses an existing process group. On some versions of Python the process pauses before forks
    from then on (`pause_before_forks`). If the config has no timeout, that of torch holds: 10
    minutes with NCCL, 30 with gloo.

    Args:
        launcher: `none`, `pytorch` or `slurm`.
        cfg: mmengine config, see `get_timeout`.

    Raises:
        UserError: An environment variable of the launcher is missing.
    """
    timeout = get_timeout(cfg)
    on_gpu = torch.cuda.is_available()
    if launcher == "none" or (launcher == "slurm" and on_gpu):
        return
    if launcher == "slurm":
        for name, slurm_name in (
            ("RANK", "PROCID"),
            ("WORLD_SIZE", "NTASKS"),
            ("LOCAL_RANK", "LOCALID"),
        ):
            if value := os.environ.get(f"SLURM_{slurm_name}"):
                os.environ[name] = value
        os.environ.setdefault("MASTER_PORT", "29500")
    missing = [
        v for v in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if v not in os.environ
    ]
    if missing:
        raise UserError(
            f"--launcher {launcher}: expected the environment variables {', '.join(missing)}, got "
            "none; start by tools/dist_train.sh CONFIG GPUS or torchrun, set them, or remove "
            "--launcher"
        )
    if on_gpu:
        return
    given = None if _given_timeout(cfg) is None else timedelta(seconds=timeout)
    pause_before_forks()
    torch.distributed.init_process_group("gloo", timeout=given)


@cache
def pause_before_forks(version: tuple[int, ...] = sys.version_info[:3]) -> None:
    """Pause before each fork of this process, such as of a DataLoader's workers, if that can hang.

    Before Python 3.10.15 and 3.11.10, a process that is forked while another thread creates its
    thread state never returns from `fork` (CPython's gh-112275). gloo's threads create one when
    they release Python's tensors after a collective operation; in the pause they do so. Of two
    processes with Python 3.11.7, the 48th validation never ended; with the pause all of 992 did.

    Args:
        version: Version of Python.
    """
    hangs = version < (3, 10, 15) or (3, 11) <= version < (3, 11, 10)
    if hangs and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: time.sleep(_PAUSE))
