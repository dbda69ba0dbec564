"""Loops, hooks, optimiser wrappers, CUDA graphs and distributed training."""

from . import (
    checkpoint_hook,
    cuda_graph,
    distributed,
    heartbeat,
    image_hooks,
    monitoring_hooks,
    multi_loops,
    optim_wrapper,
    optim_wrapper_constructor,
    resume_hooks,
    schedules,
    train_loop,
)

__all__ = [
    "checkpoint_hook",
    "cuda_graph",
    "distributed",
    "heartbeat",
    "image_hooks",
    "monitoring_hooks",
    "multi_loops",
    "optim_wrapper",
    "optim_wrapper_constructor",
    "resume_hooks",
    "schedules",
    "train_loop",
]
