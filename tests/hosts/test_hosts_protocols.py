"""Each protocol gives what its own project's code, or an independent implementation, gives.

`tests/soak/protocols.py` does the same on the whole of Set5 and Set14.
"""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.metrics import PROTOCOLS, Scorer
from tests.conftest import SHARED
from tests.helpers.protocols import METHODS, ORACLES, openmmlab_2020

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module", params=METHODS)
def predictions(request: pytest.FixtureRequest, photographs: Path) -> list[Pair]:
    """Unrounded predictions and GT: two images of Set5 where it is, else of a small set."""
    root = SHARED / "benchmark" if SHARED.is_dir() else photographs
    pairs = find_benchmark("Set5", root, 4).pairs
    chosen = sorted((pairs[i] for i in range(len(pairs))), key=lambda pair: pair.gt.shape)[:2]
    upscale = METHODS[request.param]
    return [(upscale(np.asarray(pair.lr)), np.asarray(pair.gt)) for pair in chosen]


def test_every_protocol_has_an_oracle() -> None:
    assert ORACLES.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_measures_what_its_own_code_measures(
    protocol: str, predictions: list[Pair], mmagic: ModuleType, basicsr: ModuleType
) -> None:
    scorer = Scorer([protocol])
    for pred, gt in predictions:
        expected = ORACLES[protocol](pred, gt)
        assert scorer.score(pred, gt) == pytest.approx(expected, abs=1e-4)
        levels = (pred * 255.0).astype(np.float64)
        chw = [torch.from_numpy(x).permute(2, 0, 1) for x in (levels, gt)]
        on_device = scorer.score_tensor(*chw).tolist()
        assert dict(zip(scorer.metrics, on_device, strict=True)) == pytest.approx(
            expected, abs=1e-4
        )


def test_protocols_together_measure_what_each_measures_alone(predictions: list[Pair]) -> None:
    pred, gt = predictions[0]
    together = Scorer(PROTOCOLS).score(pred, gt)
    alone = {k: v for name in PROTOCOLS for k, v in Scorer([name]).score(pred, gt).items()}
    assert together == alone


@pytest.mark.parametrize("border", [0, 1, 4])
def test_openmmlab_took_blue_for_rgb_only_where_it_cropped_a_border(
    border: int, predictions: list[Pair]
) -> None:
    scorer = Scorer(["openmmlab-2020"], border=border)
    assert ("blue only" in scorer.describe()) == (border > 0)
    for pred, gt in predictions:
        expected = openmmlab_2020(pred, gt, border)
        assert scorer.score(pred, gt) == pytest.approx(expected, abs=1e-4)
