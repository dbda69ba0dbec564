"""Loops on several test sets: sets that do not exist, names of metrics, results of their own."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from srgan_plugin.data.benchmark_sets import IncompleteSetError
from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.hosts.mmengine.engine.multi_loops import MultiTestLoop, MultiValLoop
from srgan_plugin.hosts.mmengine.evaluation.metrics import PSNR

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


class Brightness(BaseMetric):
    """Mean of the predictions, a metric without the argument `prefix`."""

    def __init__(self) -> None:
        super().__init__()

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [float(sample["output"]["pred_img"].mean()) for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"Brightness": sum(results) / len(results)}


class Constants(Dataset[int]):
    """A test set of flat images, the levels of which are given."""

    def __init__(self, name: str, *levels: int) -> None:
        self.metainfo, self.levels = {"dataset_name": name}, levels

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, index: int) -> int:
        return self.levels[index]


class Predicts(nn.Module):
    """GT is one level brighter than the prediction; the level 99 is an error."""

    def val_step(self, levels: Tensor) -> list[dict[str, Any]]:
        assert 99 not in levels, "out of memory"
        images = [torch.full((3, 16, 16), float(level)) for level in levels]
        return [{"gt_img": image + 1, "output": {"pred_img": image}} for image in images]


@pytest.fixture
def loop_of(fresh_mmengine: None) -> Callable[..., MultiValLoop]:
    """Return a function from metrics and test sets to a loop."""

    def build(metrics: list[Any], *sets: Constants) -> MultiValLoop:
        runner: Any = SimpleNamespace(
            model=Predicts(), call_hook=lambda *_, **__: None, build_evaluator=Evaluator
        )
        return MultiValLoop(runner, [DataLoader(one) for one in sets], metrics)

    return build


def test_each_set_keeps_its_values_whatever_a_config_states_as_prefix(
    loop_of: Callable[..., MultiValLoop],
) -> None:
    configs = [{"type": PSNR, "prefix": None}, {"type": PSNR, "prefix": None, "crop_border": 1}]
    sets = Constants("dark", 10, 20), Constants("light", 200)
    measured = loop_of([configs[0], {"type": Brightness}], *sets).run()
    psnr = 20 * math.log10(255)
    expected = {"dark/PSNR": psnr, "dark/Brightness": 15.0}
    expected |= {"light/PSNR": psnr, "light/Brightness": 200.0}
    assert measured == pytest.approx(expected)
    with pytest.raises(ValueError, match="metric name dark/PSNR"):
        loop_of(configs, *sets).run()


def test_a_validation_after_one_that_ended_in_an_error_counts_its_own_images_only(
    loop_of: Callable[..., MultiValLoop],
) -> None:
    images = Constants("set", 10, 20, 99)
    loop = loop_of([{"type": Brightness}], images)
    with pytest.raises(AssertionError, match="out of memory"):
        loop.run()
    images.levels = (30, 40, 50)
    assert loop.run() == {"Brightness": 40.0}


def test_sets_of_one_name_are_counted_by_the_prefixes_of_their_metrics(
    loop_of: Callable[..., MultiValLoop],
) -> None:
    metrics = [[{"type": PSNR, "prefix": "Set5"}], [{"type": PSNR, "prefix": "Set14"}]]
    sets = Constants("same", 10), Constants("same", 20, 30)
    sets[1].metainfo = {"dataset_name": "same", "lr_origin": "given"}
    for evaluator in (metrics, [{"type": "Evaluator", "metrics": one} for one in metrics]):
        loop = loop_of(evaluator, *sets)
        assert loop.image_counts() == {"Set5": 1, "Set14": 2}
        assert loop.notes("lr_origin") == {"Set5": "", "Set14": "given"}
        assert set(loop.run()) == {"Set5/PSNR", "Set14/PSNR"}
    with pytest.raises(UserError, match=r"different prefixes, got 'val' twice; .*prefix"):
        loop_of([{"type": PSNR, "prefix": "val"}], Constants("a", 1), Constants("b", 1))


@pytest.mark.parametrize(
    "evaluator",
    [
        None,
        {"type": "Evaluator", "metrics": None},
        {"type": "MyEvaluator", "metrics": [{"type": "PSNR"}]},
        [[{"type": "PSNR"}], "PSNR"],
    ],
)
def test_an_evaluator_of_another_form_is_refused(
    loop_of: Callable[..., MultiValLoop], evaluator: Any
) -> None:
    with pytest.raises(UserError, match=r"evaluator: expected dict\(type=…\) of metrics"):
        loop_of(evaluator, Constants("a", 1), Constants("b", 1))
