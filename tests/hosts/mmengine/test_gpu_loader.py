"""Loaders: batches read whole, and batches that never leave the device, are the pipeline's own."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.hosts.mmengine.datasets import gpu_loader
from srgan_plugin.hosts.mmengine.datasets.collate import stack_pairs
from srgan_plugin.hosts.mmengine.datasets.gpu_loader import GPUDataLoader, cache_on_gpu
from srgan_plugin.hosts.mmengine.datasets.paired_datasets import PairedImageDataset
from srgan_plugin.hosts.mmengine.datasets.sampler import StreamSampler
from srgan_plugin.hosts.mmengine.datasets.transforms import find_augmentation

CPU = torch.device("cpu")
CROP = {"type": "PairedRandomCrop", "gt_patch_size": 64}
HFLIP = {"type": "Flip", "direction": "horizontal", "flip_ratio": 0.3}
VFLIP = {"type": "Flip", "direction": "vertical"}
TRANSPOSE = {"type": "RandomTransposeHW"}
PACK = {"type": "PackInputs"}
USUAL = [CROP, HFLIP, VFLIP, TRANSPOSE, PACK]


@pytest.fixture(scope="module")
def store(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resident") / "x4"
    create_store(photographs / "train", folder, layout="raw", workers=1)
    return folder


def loader(store: Path, pipeline: list[dict[str, Any]] = USUAL, **options: Any) -> DataLoader[Any]:
    dataset = PairedImageDataset(str(store), pipeline=pipeline)
    options = {"collate_fn": stack_pairs, "sampler": StreamSampler(dataset, seed=4), **options}
    return DataLoader(dataset, batch_size=5, **options)


def assert_same_batches(mine: Any, theirs: Any, batches: int = 6) -> None:
    for _, one, other in zip(range(batches), mine, theirs, strict=False):
        assert torch.equal(one["inputs"], other["inputs"])
        assert torch.equal(one["data_samples"].gt_img, other["data_samples"].gt_img)
        assert one["data_samples"].metainfo == other["data_samples"].metainfo
        assert type(one["data_samples"]) is type(other["data_samples"])


@pytest.mark.parametrize(
    "pipeline", [USUAL, [CROP, PACK], [CROP, VFLIP, PACK], [CROP, HFLIP, TRANSPOSE, PACK]]
)
def test_a_batch_read_whole_is_the_pipelines_own(
    store: Path, pipeline: list[dict[str, Any]]
) -> None:
    whole, single = loader(store, pipeline), loader(store, pipeline)
    assert whole.dataset.augmentation is not None
    single.dataset.augmentation = None
    assert_same_batches(whole, single)


def test_a_batch_read_whole_can_be_taken_apart(store: Path) -> None:
    whole, single = (loader(store, collate_fn=pseudo_collate) for _ in range(2))
    single.dataset.augmentation = None
    mine, theirs = next(iter(whole)), next(iter(single))
    assert len(mine["data_samples"]) == 5
    for one, other in zip(mine["data_samples"], theirs["data_samples"], strict=True):
        assert torch.equal(one.gt_img, other.gt_img)
        assert one.metainfo == other.metainfo
    assert all(map(torch.equal, mine["inputs"], theirs["inputs"]))


@pytest.mark.parametrize(
    "pipeline",
    [
        [PACK],
        [CROP, TRANSPOSE, HFLIP, PACK],
        [CROP, HFLIP, HFLIP, PACK],
        [CROP, {**HFLIP, "keys": ["gt"]}, PACK],
        [{"type": "LoadPair"}, *USUAL],
        USUAL[:-1],
    ],
)
def test_any_other_pipeline_runs_sample_by_sample(
    store: Path, pipeline: list[dict[str, Any]]
) -> None:
    dataset = PairedImageDataset(str(store), pipeline=pipeline)
    assert dataset.augmentation is None
    assert find_augmentation(dataset.pipeline.transforms, 4) is None


def test_samples_without_a_place_in_the_stream_run_through_the_pipeline(store: Path) -> None:
    dataset = PairedImageDataset(str(store), pipeline=USUAL)
    torch.manual_seed(0)
    together = dataset.__getitems__([0, 1])
    torch.manual_seed(0)
    for one, other in zip(together, [dataset[0], dataset[1]], strict=True):
        assert torch.equal(one["inputs"], other["inputs"])


def test_the_device_loader_yields_the_loaders_batches(store: Path) -> None:
    host = loader(store)
    device = cache_on_gpu(host, CPU, True)
    assert isinstance(device, GPUDataLoader)
    assert len(device) == len(host)
    assert_same_batches(device, host, batches=40)


def test_the_device_loader_goes_on_where_the_sampler_says(store: Path) -> None:
    host = loader(store)
    device = cache_on_gpu(host, CPU, True)
    host.sampler.start, host.sampler.seed = 35, 9
    assert_same_batches(device, host)


def test_ranks_share_the_stream_on_the_device(store: Path, monkeypatch: Any) -> None:
    for rank in (0, 1):
        monkeypatch.setattr(
            "srgan_plugin.hosts.mmengine.datasets.sampler.get_dist_info", lambda r=rank: (r, 2)
        )
        host = loader(store)
        assert_same_batches(cache_on_gpu(host, CPU, True), host)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pipeline": [CROP, TRANSPOSE, HFLIP, PACK]}, "its pipeline is not"),
        ({"collate_fn": pseudo_collate}, "does not use StreamSampler and stack_pairs"),
        ({"sampler": None}, "does not use StreamSampler and stack_pairs"),
    ],
)
def test_what_cannot_live_on_the_device_stays_and_says_why(
    store: Path, changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = loader(store, **changes)
    assert cache_on_gpu(host, CPU, True) is host
    assert reason in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_folder_stays_on_the_host(photographs: Path, caplog: pytest.LogCaptureFixture) -> None:
    host = loader(photographs / "train")
    assert cache_on_gpu(host, CPU, True) is host
    assert "tools/create_store.py" in caplog.text


def test_a_set_too_large_for_the_device_stays_on_the_host(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_loader, "_free_memory", lambda _: 1000)
    host = loader(store)
    assert cache_on_gpu(host, CPU, True) is host
    assert "GiB" in caplog.text


def test_a_device_that_runs_out_of_memory_leaves_the_set_on_the_host(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(gpu_loader, "GPUImagePairs", full)
    host = loader(store)
    assert cache_on_gpu(host, CPU, True) is host
    assert "memory" in caplog.text


def test_auto_leaves_the_cpu_alone_and_false_every_device(store: Path) -> None:
    host = loader(store)
    assert cache_on_gpu(host, CPU, "auto") is host
    assert cache_on_gpu(host, torch.device("cuda"), False) is host
    with pytest.raises(ValueError, match=r"cache_dataset_on_gpu.*'yes'"):
        cache_on_gpu(host, CPU, "yes")  # type: ignore[arg-type]


def test_both_tensors_of_a_batch_are_pinned(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = next(iter(loader(store)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = batch["data_samples"].pin_memory()
    assert torch.equal(pinned.gt_img, batch["data_samples"].gt_img + 1)
    assert pinned.metainfo == batch["data_samples"].metainfo


def test_a_store_that_is_deleted_stays_readable_where_it_is_open(
    store: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "x4"
    create_store(store / "GT.lmdb", copied, layout="raw", workers=1)
    host = loader(copied)
    (copied / "GT.lmdb" / "data.mdb").unlink()
    assert next(iter(host))
