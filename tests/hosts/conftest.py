"""The toolboxes as fixtures: mended and imported, or the test skips because they are not there."""

import importlib
import logging
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from srgan_plugin.hosts.mends import NotInstalledError


def _adapter(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except NotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mmagic() -> ModuleType:
    """MMagic, mended and imported."""
    _adapter("srgan_plugin.hosts.mm.mmagic")
    return importlib.import_module("mmagic")


@pytest.fixture(scope="session")
def basicsr() -> ModuleType:
    """BasicSR, mended and imported, with our parts in its registries."""
    _adapter("srgan_plugin.hosts.basicsr")
    return importlib.import_module("basicsr")


@pytest.fixture
def quiet_basicsr(basicsr: ModuleType) -> Iterator[None]:
    """Forget BasicSR's logger afterwards: it writes into the folder of the run that made it."""
    from basicsr.utils import logger

    yield
    logging.getLogger("basicsr").handlers.clear()
    logger.initialized_logger.clear()


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)
