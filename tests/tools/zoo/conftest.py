"""Images with detail."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def textured():
    """A random image with detail of every size, uint8."""

    def make(height, width, seed=0):
        rng = np.random.default_rng(seed)
        layers = (
            cv2.resize(rng.normal(0, 20, (-(-height // n), -(-width // n), 3)), (width, height))
            for n in (1, 2, 4, 8, 16)
        )
        return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)

    return make
