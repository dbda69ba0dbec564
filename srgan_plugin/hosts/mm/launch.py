"""Several processes on machines without a GPU, where mmengine's own start asks for one."""

import os

import torch


def join_process_group(launcher: str) -> None:
    """Join the processes that `torchrun` or `srun` started, by gloo, where there is no GPU.

    With a GPU mmengine does it. Without one its start calls `torch.cuda.set_device` and fails; it
    leaves alone a process group that is there already.

    Args:
        launcher: `none`, `pytorch` or `slurm`.
    """
    if launcher == "none" or torch.cuda.is_available():
        return
    if launcher == "slurm":
        for ours, theirs in (
            ("RANK", "PROCID"),
            ("WORLD_SIZE", "NTASKS"),
            ("LOCAL_RANK", "LOCALID"),
        ):
            os.environ[ours] = os.environ[f"SLURM_{theirs}"]
        os.environ.setdefault("MASTER_PORT", "29500")
    missing = [
        v for v in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if v not in os.environ
    ]
    if missing:
        raise ValueError(
            f"--launcher {launcher}: {', '.join(missing)} not set; start by tools/dist_train.sh or "
            "torchrun, or leave --launcher out"
        )
    torch.distributed.init_process_group("gloo")
