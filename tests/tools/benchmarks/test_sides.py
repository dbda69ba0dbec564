"""Both sides of a benchmark read the same photographs and train the same networks."""

import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import forked
import numpy as np
import pytest
import torch
from benchmarks.files import GT_SUB, LIST, LR_SUB, BenchmarkFiles
from benchmarks.loaders import loader_sides
from benchmarks.timing import interleave

from benchmarks import loaders, testing, training
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.resize import make_lr
from srgan_plugin.hosts.compat_patches import NotInstalledError
from srgan_plugin.io.images import read_image

CPU = torch.device("cpu")
TOOL = Path(__file__).parents[3] / "tools" / "benchmark.py"
SMALL = {"model.generator.mid_channels": 8, "model.generator.num_blocks": 1}


def noise(height: int, width: int, seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3))
    return cv2.resize(coarse.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.fixture(scope="module", autouse=True)
def _forked_sides() -> Iterator[None]:
    """Fork the processes of all sides from one that has imported what each would import."""
    forking = forked.context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders, "get_context", lambda _: forking)
        yield


@pytest.fixture
def benchmark_tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the tool sets it; set back afterwards
    return runpy.run_path(str(TOOL))["main"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkFiles:
    source = tmp_path_factory.mktemp("source")
    for seed, size in enumerate([(480, 480), (488, 960), (400, 400)]):
        cv2.imwrite(str(source / f"{seed}.png"), noise(*size, seed))
    return BenchmarkFiles(source, tmp_path_factory.mktemp("files"), photographs=8)


def test_every_layout_has_the_same_images(files: BenchmarkFiles) -> None:
    store = ImagePairs(files.store)
    assert store.keys == ("0", "1")  # the third is smaller than a sub-image
    names = [line.split()[0] for line in (files.div2k / LIST).read_text().splitlines()]
    assert names == ["0_s001.png", *(f"1_s00{number}.png" for number in (1, 2, 3, 4))]
    whole = {pair.key: np.asarray(pair.gt) for pair in store}
    last = read_image(files.div2k / GT_SUB / names[-1])
    np.testing.assert_array_equal(last, whole["1"][-480:, -480:])
    small = read_image(files.div2k / LR_SUB / names[-1])
    np.testing.assert_array_equal(small, make_lr(whole["1"], 4)[-120:, -120:])
    lmdb = ImagePairs(files.lmdb)
    assert [f"{key}.png" for key in lmdb.keys] == names
    np.testing.assert_array_equal(np.asarray(lmdb[4].gt), last)


def test_files_that_are_there_are_used_again(files: BenchmarkFiles, tmp_path: Path) -> None:
    assert BenchmarkFiles(tmp_path / "gone", files.folder, photographs=1).store == files.store


def test_photographs_smaller_than_a_sub_image_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "small.png"), noise(96, 96, 0))
    with pytest.raises(ValueError, match="480x480"):
        BenchmarkFiles(tmp_path, tmp_path / "out", photographs=1)


@pytest.mark.slow
@pytest.mark.parametrize("against", [None, "mmagic", "basicsr"])
def test_loaders_are_timed_side_by_side(files: BenchmarkFiles, against: Any) -> None:
    try:
        sides = loader_sides(files, against, device=CPU, workers=0, seconds=0.1)
        results = interleave(sides, rounds=2)
    except NotInstalledError as error:
        pytest.skip(str(error))
    assert [result.name for result in results] == ["srgan_plugin", *([against] if against else [])]
    for result in results:
        assert all(one.images == 16 * one.steps > 0 for one in result.rounds)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["baseline", "no-hooks", "mmagic"])
def test_training_runs_are_timed_side_by_side(files: BenchmarkFiles, other: Any) -> None:
    try:
        sides = training.train_sides(
            files,
            "msrresnet",
            other=other,
            workers=0,
            warm_up=1,
            steps=2,
            changes=SMALL,
        )
        results = interleave(sides, rounds=1)
    except NotInstalledError as error:
        pytest.skip(str(error))
    for result in results:
        summary = result.summary(1e12)
        assert summary["ms_per_step"] > 1
        if result.name != "no-hooks":  # nobody tells
            assert 0 < summary["waiting_for_data"] < 1
    assert results[1].name == other


@pytest.mark.slow
def test_test_runs_are_timed_side_by_side(
    photographs: Path, tmp_path: Path, fresh_mmengine: None
) -> None:
    try:
        sides = testing.test_sides(
            photographs, tmp_path, against_mmagic=True, workers=0, changes=SMALL
        )
        results = interleave(sides, rounds=1)
    except NotInstalledError as error:
        pytest.skip(str(error))
    assert [result.name for result in results] == ["srgan_plugin", "mmagic"]


def test_the_tool_prints_a_table_and_writes_the_numbers(
    files: BenchmarkFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str], benchmark_tool: Any
) -> None:
    out = tmp_path / "loader.json"
    options = ["--files", str(files.folder), "--rounds", "1", "--seconds", "0.1", "--out", str(out)]
    benchmark_tool(["loader", "--data", str(tmp_path), *options])
    numbers = json.loads(out.read_text())
    assert numbers["ratio"] is None
    assert numbers["what"] == "loader"
    assert numbers["sides"][0]["images_per_s"] > 0
    assert "| srgan_plugin |" in capsys.readouterr().out


def test_the_tool_refuses_what_it_cannot_measure(benchmark_tool: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        benchmark_tool(["train", "--against", "basicsr"])
    assert stop.value.code == 2
    assert "got basicsr" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit) as stop:
            benchmark_tool(["loader", "--device", "cuda"])
        assert stop.value.code == 1
        assert "expected a GPU, got none" in capsys.readouterr().err
