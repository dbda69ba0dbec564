"""Loops on several test sets: what is said of sets that do not exist."""

from types import SimpleNamespace
from typing import Any

import pytest

from srgan_plugin.data.benchmark_sets import IncompleteSetError
from srgan_plugin.errors import MissingFileError
from srgan_plugin.hosts.mmengine.engine.multi_loops import MultiTestLoop

SETS: list[Any] = [
    {"name": "Set5", "scale": 2, "data_root": "data"},
    {"name": "Set5", "scale": 4, "data_root": "data"},
    {"name": "Set14", "metainfo": {"dataset_name": "Set14_x2"}},
    {"metainfo": {"dataset_type": "div2k"}, "data_root": "data/DIV2K/"},
    {"gt": "data/mine", "data_root": "data"},
    {},
    "built elsewhere",
]


def test_none_of_the_sets_exists_and_each_is_named_and_the_likely_mistake_is_shown() -> None:
    errors = [MissingFileError(f"no set {number}") for number in range(len(SETS))]
    errors[3] = IncompleteSetError("half a set")

    def build_dataloader(config: dict[str, Any], seed: int) -> None:
        raise errors[SETS.index(config["dataset"])]

    runner: Any = SimpleNamespace(build_dataloader=build_dataloader, seed=0)
    loop = MultiTestLoop(runner, [{"dataset": one} for one in SETS], {"type": "BenchmarkMetric"})
    assert [error for _, error in loop.missing] == errors
    names = "Set5, Set5, Set14_x2, DIV2K, mine, set 6, set 7"
    with pytest.raises(MissingFileError, match=f"{names}, .*half a set"):
        loop.run()
