"""Whole batches, on the CPU and on a device: bit for bit the samples made one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.data.augment import (
    AugmentationParams,
    augment,
    crop_pair,
    random_flips,
    read_batch,
)
from srgan_plugin.data.gpu_dataset import GPUImagePairs, SampleStreamSpec, pixel_bytes
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.data.sampling import SampleIndex, image_indices, sample_index
from srgan_plugin.errors import UserError
from srgan_plugin.io.array_types import RGBArray

CPU = torch.device("cpu")
ratios = st.sampled_from([0.0, 0.5, 1.0])


@pytest.fixture(scope="session")
def store(gt_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "x4"
    create_store(gt_folder, folder, layout="raw", workers=1)
    return folder


@pytest.fixture(scope="session", params=["folder", "store", "LR made"])
def pairs(request: pytest.FixtureRequest, gt_folder: Path, store: Path) -> ImagePairs:
    paths = {"folder": gt_folder, "store": store, "LR made": store / "GT.lmdb"}
    return ImagePairs(paths[request.param])


def one_by_one(
    pairs: ImagePairs, sample_indices: list[SampleIndex], augmentation: AugmentationParams
) -> tuple[RGBArray, RGBArray]:
    """The slow version: NCHW from samples that are cut, flipped and transposed alone."""
    size, scale, *probabilities = augmentation
    samples = []
    for sample in sample_indices:
        crops = crop_pair(pairs[sample].lr, pairs[sample].gt, size, scale, sample, "x")
        flips = random_flips(sample, *probabilities)
        samples.append([augment(crop, *flips).transpose(2, 0, 1) for crop in crops])
    lr, gt = zip(*samples, strict=True)
    return np.stack(lr), np.stack(gt)


def test_a_batch_is_its_samples(pairs: ImagePairs) -> None:
    augmentation = AugmentationParams(32, 4, 0.5, 0.5, 0.5)
    sample_indices = [sample_index(number, seed=5, length=len(pairs)) for number in range(40)]
    batch = read_batch(pairs, sample_indices, augmentation)
    lr, gt = one_by_one(pairs, sample_indices, augmentation)
    np.testing.assert_array_equal(batch.lr, lr)
    np.testing.assert_array_equal(batch.gt, gt)
    for images in (batch.lr, batch.gt):
        tensor = torch.from_numpy(images)
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert [names.key for names in batch.names] == [pairs.keys[index] for index in sample_indices]
    assert batch.names[0].gt == pairs[sample_indices[0]].gt.name


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from([4, 20, 36]),
    probabilities=st.tuples(ratios, ratios, ratios),
    seed=st.integers(0, 2**31),
    start=st.integers(0, 10**9),
    shuffle=st.booleans(),
)
def test_a_batch_gathered_on_the_device_is_the_batch_read_on_the_host(
    store: Path,
    size: int,
    probabilities: tuple[float, float, float],
    seed: int,
    start: int,
    shuffle: bool,
) -> None:
    pairs, augmentation = ImagePairs(store), AugmentationParams(size, 4, *probabilities)
    resident = GPUImagePairs(pairs, augmentation, CPU)
    lr, gt, indices = resident.gather(SampleStreamSpec(seed, shuffle, start), np.arange(7))
    sample_indices = [
        sample_index(number, seed=seed, length=len(pairs), shuffle=shuffle)
        for number in range(start, start + 7)
    ]
    expected = read_batch(pairs, sample_indices, augmentation)
    assert indices.tolist() == [int(index) for index in sample_indices]
    np.testing.assert_array_equal(lr.numpy(), expected.lr)
    np.testing.assert_array_equal(gt.numpy(), expected.gt)
    assert lr.is_contiguous()
    assert gt.is_contiguous()


@pytest.mark.parametrize(("batch_size", "world_size"), [(16, 1), (5, 3), (200, 2)])
def test_the_batches_of_all_ranks_are_the_stream(
    store: Path, batch_size: int, world_size: int
) -> None:
    pairs, augmentation = ImagePairs(store), AugmentationParams(4, 4, 0.5, 0.5, 0.5)
    resident, batches = GPUImagePairs(pairs, augmentation, CPU), 30 if batch_size < 100 else 3
    for rank in range(world_size):
        stream = SampleStreamSpec(seed=2, start=6, rank=rank, world_size=world_size)
        seen = resident.batches(stream, batch_size)
        parts = [next(seen) for _ in range(batches)]
        numbers = 6 + rank + world_size * np.arange(batches * batch_size)
        sample_indices = [
            sample_index(int(number), seed=2, length=len(pairs)) for number in numbers
        ]
        expected = read_batch(pairs, sample_indices, augmentation)
        np.testing.assert_array_equal(np.concatenate([part.gt for part in parts]), expected.gt)
        assert {part.lr.shape for part in parts} == {(batch_size, 3, 1, 1)}


def test_low_resolution_images_that_are_made_are_the_same_on_the_device(store: Path) -> None:
    augmentation = AugmentationParams(32, 4, 0.5, 0.5, 0.5)
    made, given_ = ImagePairs(store / "GT.lmdb"), ImagePairs(store)
    places = np.arange(30)
    mine = GPUImagePairs(made, augmentation, CPU).gather(SampleStreamSpec(1), places)
    theirs = GPUImagePairs(given_, augmentation, CPU).gather(SampleStreamSpec(1), places)
    assert torch.equal(mine.lr, theirs.lr)
    assert torch.equal(mine.gt, theirs.gt)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.integers(1, 40), st.integers(0, 10**6), st.booleans())
def test_the_images_of_many_samples_are_those_of_each(
    seed: int, length: int, start: int, shuffle: bool
) -> None:
    numbers = np.arange(start, start + 100)
    together = image_indices(numbers, seed=seed, length=length, shuffle=shuffle)
    alone = [sample_index(int(n), seed=seed, length=length, shuffle=shuffle) for n in numbers]
    assert together.tolist() == [int(index) for index in alone]


def test_the_pixels_of_stores_are_counted_without_decoding(gt_folder: Path, store: Path) -> None:
    pixels = 48 * 64 + 40 * 40 + 72 * 36
    assert pixel_bytes(ImagePairs(store)) == 3 * (pixels + pixels // 16)
    assert pixel_bytes(ImagePairs(store / "GT.lmdb")) == 3 * (pixels + pixels // 16)
    assert pixel_bytes(ImagePairs(gt_folder)) is None


def test_a_crop_larger_than_an_image_is_refused_before_anything_is_copied(store: Path) -> None:
    with pytest.raises(UserError, match=r"^b of .*44x44, got 40x40"):
        GPUImagePairs(ImagePairs(store), AugmentationParams(44, 4), CPU)
