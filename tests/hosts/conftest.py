"""The toolboxes as fixtures: mended and imported, or the test skips because they are not there."""

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from basicsr_runs import Run, forget_logger
from torchvision.models import vgg

from srgan_plugin.hosts.compat_patches import NotInstalledError
from srgan_plugin.networks.vgg import random_vgg19_state_dict
from tests.conftest import ROOT


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


@pytest.fixture
def run(
    basicsr: ModuleType,
    quiet_basicsr: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a tool in an empty folder on options that are written there; returns what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tool"])

    def call(tool: str, opt: dict[str, Any], *words: str) -> str:
        Path("opt.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
        spec = importlib.util.spec_from_file_location(tool, ROOT / "tools" / f"{tool}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        forget_logger()
        try:
            module.main(["-opt", "opt.yml", "--verbose", *words])
        finally:
            forget_logger()
        heard = capsys.readouterr()
        return heard.out + heard.err

    return call


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
