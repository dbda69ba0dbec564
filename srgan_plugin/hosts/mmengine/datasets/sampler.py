"""The sampler that numbers the endless stream of samples."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from srgan_plugin.data.sampling import SampleIndex, image_indices
from srgan_plugin.registry import DATA_SAMPLERS

# Samples whose images are looked up together, which is faster than one by one.
INDICES_PER_BLOCK = 256


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler[int]):
    """Numbers the samples of a run 0, 1, 2, …; sample `n` follows from the seed and `n` alone.

    Pass `n // len(dataset)` over the set has its own permutation. Rank `r` of `w` takes the numbers
    `r, r + w, …`: together the ranks see each sample once. Setting `start` continues a run there.

    Args:
        dataset: Whose length is sampled.
        seed: By default a random one, the same on all ranks.
        shuffle: Whether passes are permuted.
        start: The first number.
    """

    def __init__(
        self, dataset: Any, seed: int | None = None, shuffle: bool = True, start: int = 0
    ) -> None:
        self.length = len(dataset)
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.shuffle, self.start = shuffle, start
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        first = self.start + self.rank
        for block in count():
            places = np.arange(block * INDICES_PER_BLOCK, (block + 1) * INDICES_PER_BLOCK)
            numbers = first + self.world_size * places
            indices = image_indices(
                numbers, seed=self.seed, length=self.length, shuffle=self.shuffle
            )
            for index, number in zip(indices.tolist(), numbers.tolist(), strict=True):
                yield SampleIndex(index, self.seed, number)

    def __len__(self) -> int:
        return self.length
