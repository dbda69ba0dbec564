"""What every room's tests share: where the project and the optional real data lie."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from quick_configs import format_once

from srgan_plugin.data.resize import make_lr
from srgan_plugin.hosts.compat_patches import NotInstalledError
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image

ROOT = Path(__file__).resolve().parent.parent
# Real photographs and oracles, where a checkout has them beside it; see `shared_data`.
SHARED = Path(os.environ.get("SRGAN_SHARED", ROOT.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs, benchmark sets and oracles; a test that needs them skips without."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the benchmark data, which is not at {SHARED} (set SRGAN_SHARED)")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _describe_runs_once() -> Iterator[None]:
    """Compute once what mmengine's log says of the config, six times, and of the machine.

    Either takes longer than a small training.
    """
    config = sys.modules.get("mmengine.config.config")
    runner = sys.modules.get("mmengine.runner.runner")
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(config, "FormatCode"):  # onedl-mmengine formats by another name
            patch.setattr(config, "FormatCode", format_once(config.FormatCode))
        if runner is not None:
            patch.setattr(runner, "collect_env", cache(runner.collect_env))
        yield


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random RGB picture, uint8: something that a network can learn on."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def forget_mmengine() -> None:
    """Forget mmengine's globals of the run before, its logger with a closed stream among them."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    for kind in (MessageHub, MMLogger, DefaultScope, Visualizer):
        kind._instance_dict.clear()


@pytest.fixture
def fresh_mmengine() -> None:
    """Forget mmengine's globals of the run before."""
    forget_mmengine()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root: `train` with six pictures, and the benchmark sets Set5 and Set14 in small."""
    root = tmp_path_factory.mktemp("data")
    sizes = {"train": [(96, 128), (100, 84), (144, 96), (96, 96), (120, 101), (97, 112)]}
    sizes |= {"Set5": [(60, 72), (48, 60)], "Set14": [(72, 48)]}
    for folder, shapes in sizes.items():
        where = root / folder / ("" if folder == "train" else "GTmod12")
        where.mkdir(parents=True)
        for i, (height, width) in enumerate(shapes):
            cv2.imwrite(str(where / f"{i:04d}.png"), image(height, width, seed=i))
    for folder in ("Set5", "Set14"):
        (root / folder / "LRbicx4").mkdir()
        for path in (root / folder / "GTmod12").iterdir():
            write_image(root / folder / "LRbicx4" / path.name, make_lr(read_image(path), 4))
    return root


@pytest.fixture(scope="session")
def calculate_niqe() -> Callable[..., float]:
    """BasicSR's function; a test that needs it skips without BasicSR."""
    try:
        importlib.import_module("srgan_plugin.hosts.basicsr.compat")
    except NotInstalledError as error:
        pytest.skip(str(error))
    function: Callable[..., float] = importlib.import_module("basicsr.metrics.niqe").calculate_niqe
    return function


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """A script of `tools/` as a module, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SRGAN_DEBUG", raising=False)

    def load(name):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / f"tools/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
