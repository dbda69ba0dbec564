"""One SRGAN step on this rank's share of a fixed batch; `test_distributed.py` starts it."""

import sys

import torch
from mmengine.dist import get_dist_info
from mmengine.optim import OptimWrapperDict
from mmengine.structures import BaseDataElement

from srgan_plugin.hosts.mmengine.engine.distributed import (
    MMSeparateDistributedDataParallel,
    join_process_group,
)
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import OptimWrapper
from srgan_plugin.registry import MODELS


def step(launcher: str, steps: int = 2) -> dict[str, torch.Tensor]:
    """Weights after some steps of plain gradient descent, in which gradients are plain to see."""
    join_process_group(launcher, {})
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
        generator=OptimWrapper(torch.optim.SGD(model.generator.parameters(), lr=0.1)),
        discriminator=OptimWrapper(torch.optim.SGD(model.discriminator.parameters(), lr=0.1)),
    )
    share = slice(rank, None, world_size)
    for _ in range(steps):
        data = {"inputs": lr[share], "data_samples": BaseDataElement(gt_img=gt[share])}
        wrapped.train_step(data, optimizers)
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


if __name__ == "__main__":
    weights = step("pytorch")
    if get_dist_info()[0] == 0:
        torch.save(weights, sys.argv[1])
