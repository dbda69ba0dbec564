"""Pictures with detail, and the tools as functions."""

import importlib
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from srgan_plugin.hosts.mends import NotInstalledError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def textured():
    """A random picture with detail of every size, uint8."""

    def make(height, width, seed=0):
        rng = np.random.default_rng(seed)
        layers = (
            cv2.resize(rng.normal(0, 20, (-(-height // n), -(-width // n), 3)), (width, height))
            for n in (1, 2, 4, 8, 16)
        )
        return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def calculate_niqe():
    """BasicSR's, mended and imported, or the test skips because it is not there."""
    try:
        importlib.import_module("srgan_plugin.hosts.basicsr.compat")
    except NotInstalledError as error:
        pytest.skip(str(error))
    return importlib.import_module("basicsr.metrics.niqe").calculate_niqe


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """A script of `tools/` as a module, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SRGAN_DEBUG", raising=False)

    def load(name):
        spec = importlib.util.spec_from_file_location(f"release_{name}", ROOT / f"tools/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
