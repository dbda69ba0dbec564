"""The toolboxes as fixtures: mended and imported, or the test skips because they are not there."""

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torchvision.models import vgg

from srgan_plugin.hosts.compat_patches import NotInstalledError
from srgan_plugin.networks.vgg import random_vgg19_state_dict


def _adapter(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except NotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mmagic() -> ModuleType:
    """MMagic, mended and imported."""
    _adapter("srgan_plugin.hosts.mmagic")
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


@pytest.fixture(scope="session")
def _vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(random_vgg19_state_dict(), path)
    return path


@pytest.fixture
def random_vgg(monkeypatch: pytest.MonkeyPatch, _vgg_file: Path) -> Path:
    """Random VGG weights in a file; the toolboxes get them where they would download theirs."""

    def vgg19(pretrained: bool) -> SimpleNamespace:
        features = vgg.make_layers(vgg.cfgs["E"])
        state = torch.load(_vgg_file, weights_only=True)
        features.load_state_dict({k.removeprefix("features."): w for k, w in state.items()})
        return SimpleNamespace(features=features)

    monkeypatch.setattr(vgg, "vgg19", vgg19)
    return _vgg_file


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)
