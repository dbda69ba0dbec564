"""What every room's tests share: where the project and the optional real data lie."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Real photographs and oracles, where a checkout has them beside it; see `shared_data`.
SHARED = Path(os.environ.get("SRGAN_SHARED", ROOT.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs, benchmark sets and oracles; a test that needs it skips without."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the benchmark data, which is not at {SHARED} (set SRGAN_SHARED)")
    return SHARED
