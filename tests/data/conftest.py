"""Small folders of pictures to read, pair and store."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from srgan_plugin.data.resize import make_lr
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.writers import write_image

ROOT = Path(__file__).parents[2]
SIZES = {"a": (48, 64), "b": (40, 40), "c": (72, 36)}


def noise(height: int, width: int, seed: int = 0) -> RGBArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tool(name: str) -> ModuleType:
    """Imports a script of `tools/`."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def gt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gt")
    for seed, (key, size) in enumerate(SIZES.items()):
        write_image(folder / f"{key}.png", noise(*size, seed=seed))
    return folder


@pytest.fixture(scope="session")
def lr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lr")
    for seed, (key, size) in enumerate(SIZES.items()):
        write_image(folder / f"{key}x4.png", make_lr(noise(*size, seed=seed), 4))
    return folder
