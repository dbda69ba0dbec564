"""Sampler of an endless stream of samples."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from srgan_plugin.data.sampling import sample_index
from srgan_plugin.errors import UserError, check_count
from srgan_plugin.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler[int]):
    """Sampler of samples 0, 1, 2, … of a run, each a function of the seed and its number.

    Each epoch has another permutation. Rank `r` of `w` takes samples `r, r + w, …`, so together the
    ranks use each sample once. Setting `start` resumes a run at that sample.

    Args:
        dataset: The dataset; only its length is used.
        seed: Seed of the stream, at least 0; by default a random one, the same on all ranks.
        shuffle: Whether to permute the images in each epoch.
        start: Number of the first sample.

    Raises:
        UserError: `seed` is not an integer of at least 0, or the dataset is empty.
    """

    def __init__(
        self, dataset: Any, seed: int | None = None, shuffle: bool = True, start: int = 0
    ) -> None:
        self.length = len(dataset)
        if not self.length:
            raise UserError("dataset: expected at least one image, got none")
        self.seed = int(sync_random_seed() if seed is None else seed)
        check_count(0, seed=self.seed)
        self.shuffle, self.start = shuffle, start
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        for number in count(self.start + self.rank, self.world_size):
            yield sample_index(number, seed=self.seed, length=self.length, shuffle=self.shuffle)

    def __len__(self) -> int:
        return self.length
