"""Loops, hooks, optimiser wrappers, CUDA graphs and distributed training."""

from . import (  # noqa: F401 - fills the registries
    checkpoint_hook,
    cuda_graph,
    distributed,
    heartbeat,
    hooks,
    multi_loops,
    optim_wrapper,
    optim_wrapper_constructor,
    resume_hooks,
    schedules,
    soap,
    train_loop,
)
