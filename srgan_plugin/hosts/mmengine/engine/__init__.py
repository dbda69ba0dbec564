"""Loops, hooks, optimiser wrappers, CUDA graphs and distributed training."""

from . import (
    checkpoint_hook,
    cuda_graph,
    distributed,
    heartbeat,
    hooks,
    multi_loops,
    optim_wrapper,
    resume_hooks,
    schedules,
    train_loop,
)

__all__ = [
    "checkpoint_hook",
    "cuda_graph",
    "distributed",
    "heartbeat",
    "hooks",
    "multi_loops",
    "optim_wrapper",
    "resume_hooks",
    "schedules",
    "train_loop",
]
