"""The repository in docs/downstream.md, run from the wheel and from an editable install."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from srgan_plugin import config_path
from srgan_plugin.checkpoints.hub import BUNDLED_MODELS
from srgan_plugin.hosts.mmengine.datasets.collate import stack_pairs
from srgan_plugin.io.writers import write_image
from srgan_plugin.registry import DATASETS

pytest.importorskip("setuptools", reason="building a wheel needs setuptools")
pytest.importorskip("pip", reason="installing needs pip")

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("srgan_plugin", "configs", "tools", "docs", "requirements")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")
FILE_OF_DOCS = re.compile(r"^## `([\w./]+)`\n\n```python\n(.*?)^```", re.M | re.S)


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SRGAN_DATA")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(python: Path, *arguments: str | Path) -> None:
    options = ("--no-deps", "--no-build-isolation", "--quiet")
    verb, *rest = arguments
    run(sys.executable, "-m", "pip", "--python", python, verb, *options, *rest, cwd=ROOT)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository, so that building leaves nothing in it."""
    copy = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__", ".mim")
    for name in PARTS:
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in (*FILES, "model-index.yml"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def light_environment(folder: Path) -> Path:
    """An environment that sees all that is installed in the running one, but no package of ours."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    outer = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # .pth files out there are not read; one of them gives Python 3.12 the distutils of setuptools.
    distutils = Path(sysconfig.get_path("purelib"), "distutils-precedence.pth").read_text()
    Path(own.strip(), "outer.pth").write_text("\n".join([*sorted(outer), distutils]))
    return python


def wheel_through_sdist(checkout: Path, folder: Path) -> Path:
    build = "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=checkout)
    (sdist,) = folder.glob("*.tar.gz")
    pip(Path(sys.executable), "wheel", sdist, "--wheel-dir", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def repository(folder: Path, photographs: Path) -> Path:
    """The files of docs/downstream.md, and photographs."""
    files = FILE_OF_DOCS.findall((ROOT / "docs" / "downstream.md").read_text())
    assert len(files) == 4
    for name, text in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copytree(photographs / "train", folder / "photographs")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_a_foreign_repository_trains_from(
    kind: str, checkout: Path, photographs: Path, tmp_path: Path
) -> None:
    python = light_environment(tmp_path / "env")
    if kind == "wheel":
        wheel = wheel_through_sdist(checkout, tmp_path)
        assert_the_wheel_is_whole(wheel)
        pip(python, "install", wheel)
        home = tmp_path / "env"
    else:
        pip(python, "install", "--editable", checkout)
        home = checkout
    mine = repository(tmp_path / "mine", photographs)
    where = "import srgan_plugin as s; print(s.__file__, s.config_path('../tools/train.py'))"
    found = [Path(path) for path in run(python, "-c", where, cwd=mine).split()]
    assert all(path.is_relative_to(home) for path in found)
    package = found[0].parent
    assert sorted(p.name for p in (package / ".mim").iterdir()) == [
        *("configs", "model-index.yml", "tools"),
    ]
    assert (package / ".mim/configs").is_symlink() == (kind == "editable")
    assert os.access(package / ".mim/tools/dist_train.sh", os.X_OK)

    run(python, "train.py", "configs/smoke.py", cwd=mine)
    saved = torch.load(mine / "work_dirs/smoke/iter_2.pth", weights_only=False)
    assert saved["meta"]["iter"] == 2
    assert all(torch.isfinite(weight).all() for weight in saved["state_dict"].values())
    log = next((mine / "work_dirs/smoke").glob("*/vis_data/config.py")).read_text()
    assert "CharbonnierLoss" in log


# What only maintainers use.
NOT_IN_MIM = {
    "__pycache__",
    "benchmarks",
    "benchmark.py",
    "gpu_benchmarks.sh",
    "zoo",
    "zoo_cards.py",
    "zoo_report.py",
    "train_zoo.py",
    "release.py",
}


def assert_the_wheel_is_whole(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for folder in ("configs", "tools")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not NOT_IN_MIM & set(path.relative_to(ROOT).parts)
    }
    in_mim = {name for name in names if name.startswith("srgan_plugin/.mim/")}
    assert in_mim == {f"srgan_plugin/.mim/{name}" for name in ours | {"model-index.yml"}}
    bundled = {f"{name}.{kind}" for name in BUNDLED_MODELS for kind in ("safetensors", "md")}
    weights = {f"srgan_plugin/checkpoints/weights/{name}" for name in bundled | {"LICENSE"}}
    assert weights <= names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "srgan_plugin").rglob("*.py")}
    assert {name for name in names if name.endswith(".py") and ".mim" not in name} == {
        name for name in modules if ".mim" not in name
    }


def test_the_dataset_of_the_documents_feeds_a_model(tmp_path: Path) -> None:
    text = (ROOT / "docs/downstream.md").read_text()
    (code,) = re.findall(r"## A dataset of your own.*?```python\n(.*?)^```", text, re.M | re.S)
    namespace: dict[str, object] = {}
    exec(code, namespace)
    try:
        for n in range(2):
            write_image(tmp_path / f"{n}.png", np.full((160, 192, 3), 40 * n, np.uint8))
        (tmp_path / "names.txt").write_text("\n".join(str(tmp_path / f"{n}.png") for n in range(2)))
        cfg = Config.fromfile(config_path("srgan_x4c64b16_g1_1000k_div2k.py"))
        dataset = DATASETS.build(
            {
                "type": "ListedImages",
                "names": str(tmp_path / "names.txt"),
                "pipeline": cfg.train_pipeline,
            }
        )
        batch = stack_pairs([dataset[0], dataset[1]])
        assert batch["inputs"].shape == (2, 3, 32, 32)
        assert batch["data_samples"].gt_img.shape == (2, 3, 128, 128)
        assert batch["data_samples"].gt_img.amax((1, 2, 3)).tolist() == [0, 40]
        assert batch["data_samples"].key == dataset.names
    finally:
        del DATASETS.module_dict["ListedImages"]
