"""One SRGAN step on this rank's share of a fixed batch; `test_distributed.py` starts it."""

import sys
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from srgan_plugin.hosts.mmengine.engine.distributed import (
    MMSeparateDistributedDataParallel,
    join_process_group,
)
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import OptimWrapper
from srgan_plugin.registry import MODELS


def step(accumulate: int = 1) -> dict[str, torch.Tensor]:
    """Weights after two steps of plain gradient descent, in which gradients are plain to see.

    Args:
        accumulate: Of how many batches a step accumulates the gradients.

    Returns:
        The state dict, and how often DDP exchanged the gradients as `exchanges`.
    """
    rank, world_size = get_dist_info()
    torch.manual_seed(0)
    model = MODELS.build(
        {
            "type": "srgan_plugin.SRGAN",
            "generator": {"type": "MSRResNet", "mid_channels": 8, "num_blocks": 1},
            "discriminator": {"type": "ModifiedVGG", "mid_channels": 4, "input_size": 32},
            "pixel_loss": {"type": "L1Loss", "loss_weight": 1.0},
            "gan_loss": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.5},
            "ema": {"decay": 0.9},
        }
    )
    lr = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    gt = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    # In training, batch normalisation would see other batches on one rank than on two.
    model.discriminator.eval()
    wrapped = MMSeparateDistributedDataParallel(model) if world_size > 1 else model
    model.init_weights()  # the runner does so when the networks are wrapped already
    optimizers = OptimWrapperDict(
        **{
            name: OptimWrapper(
                torch.optim.SGD(model.get_submodule(name).parameters(), lr=0.1),
                accumulative_counts=accumulate,
            )
            for name in ("generator", "discriminator")
        }
    )
    exchanges = torch.tensor(0)

    def exchange(_: Any, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        exchanges.add_(1)
        return allreduce_hook(None, bucket)

    for network in filter(is_model_wrapper, model.children()):
        network.register_comm_hook(None, exchange)
    for number in range(2 * accumulate):
        share = slice(rank + world_size * (number % accumulate), None, world_size * accumulate)
        data = {"inputs": lr[share], "data_samples": BaseDataElement(gt_img=gt[share])}
        wrapped.train_step(data, optimizers)
    state: dict[str, torch.Tensor] = model.state_dict()
    return state | {"exchanges": exchanges}


if __name__ == "__main__":
    join_process_group("pytorch", {})
    weights = [step(), step(accumulate=2)]
    if get_dist_info()[0] == 0:
        torch.save(weights, sys.argv[1])
