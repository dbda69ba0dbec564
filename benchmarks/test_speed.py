"""Micro-benchmarks of loader and step: `pytest benchmarks`, with requirements/benchmark.txt."""

from typing import Any

import numpy as np
import pytest
import torch

from srgan_plugin.data.augment import AugmentationParams, read_batch
from srgan_plugin.data.gpu_dataset import GPUImagePairs, SampleStreamSpec
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.data.sampling import sample_index
from srgan_plugin.io.writers import write_image
from srgan_plugin.losses import L1Loss
from srgan_plugin.networks import MSRResNet

AUGMENTATION = AugmentationParams(128, 4, 0.5, 0.5, 0.5)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> ImagePairs:
    folder = tmp_path_factory.mktemp("speed")
    rng = np.random.default_rng(0)
    for number in range(8):
        image = rng.integers(0, 256, (1356, 2040, 3), dtype=np.uint8)  # as large as DIV2K's
        write_image(folder / "HR" / f"{number}.png", image)
    create_store(folder / "HR", folder / "store", workers=1)
    return ImagePairs(folder / "store")


def test_read_a_batch(benchmark: Any, pairs: ImagePairs) -> None:
    sample_indices = [sample_index(number, seed=0, length=len(pairs)) for number in range(16)]
    benchmark(read_batch, pairs, sample_indices, AUGMENTATION)


def test_read_a_batch_with_lr_made(benchmark: Any, pairs: ImagePairs) -> None:
    sample_indices = [sample_index(number, seed=0, length=len(pairs)) for number in range(16)]
    benchmark(read_batch, ImagePairs(pairs.gt.path), sample_indices, AUGMENTATION)


@pytest.mark.parametrize("device", DEVICES)
def test_gather_a_block_on_the_device(benchmark: Any, pairs: ImagePairs, device: str) -> None:
    resident, places = GPUImagePairs(pairs, AUGMENTATION, torch.device(device)), np.arange(128)

    def gather() -> float:
        batch = resident.gather(SampleStreamSpec(seed=0), places)
        return float(batch.gt[-1, -1, -1, -1])  # waits for the device

    benchmark(gather)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_step_of_a_small_network(benchmark: Any, device: str, layout: torch.memory_format) -> None:
    network = MSRResNet(mid_channels=64, num_blocks=2).to(device, memory_format=layout)
    lr = torch.rand(4, 3, 32, 32, device=device).contiguous(memory_format=layout)
    gt = torch.rand(4, 3, 128, 128, device=device)
    optimizer, loss = torch.optim.Adam(network.parameters()), L1Loss()

    def step() -> float:
        optimizer.zero_grad()
        value = loss(network(lr), gt)
        value.backward()
        optimizer.step()
        return float(value.detach())  # waits for the device

    benchmark(step)
