"""Pictures with detail, and what measures how natural they look."""

import importlib

import cv2
import numpy as np
import pytest

from srgan_plugin.hosts.compat_patches import NotInstalledError


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
