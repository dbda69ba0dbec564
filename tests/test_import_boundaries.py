"""Which package may import which, and what importing a package or starting a tool loads."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srgan_plugin.io.writers import write_image

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, TOOLS = ROOT / "srgan_plugin", ROOT / "tools"
TOOLBOXES = ("mmengine", "mmcv", "mmagic", "basicsr")
PLAIN = {"networks", "losses", "io", "data", "metrics", "checkpoints", "inference", "reports"}
# What the modules of each folder may import of this package; "." is the package's root.
ALLOWED = {
    "networks": set(),
    "losses": {"networks"},
    "io": set(),
    "data": {"io"},
    "data/prepare": {"io", "data"},
    "metrics": {"io", "data"},
    "checkpoints": {"networks", "io", "__version__"},
    "inference": {"networks", "checkpoints", "io", "data.resize"},
    "reports": {"metrics", "inference", "io", "data"},
    "hosts": {"hosts.compat_patches"},
    "hosts/basicsr": {*PLAIN, "hosts.basicsr", "hosts.compat_patches"},
    "hosts/mmengine": {*PLAIN, "hosts.mmengine", "registry"},
    "cli": {*PLAIN, "hosts", "registry", "cli", "config_path", "__version__"},
    ".": {
        *("inference", "cli", "hosts", "config_path", "upscale", "__version__"),
        *("checkpoints", "networks"),  # the module for spandrel
    },
}
OPEN = "errors"  # every package may import it


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, relative ones resolved."""
    here = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def rule_of(path: Path) -> str:
    """The longest folder of `ALLOWED` that a module lies in."""
    folder = path.parent.relative_to(PACKAGE)
    return next(str(f) for f in (folder, *folder.parents) if str(f) in ALLOWED)


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_a_package_imports_only_what_it_may(folder: str) -> None:
    allowed = ALLOWED[folder] | {OPEN, folder.replace("/", ".")}
    for path in sorted(PACKAGE.rglob("*.py")):
        if ".mim" in path.parts or rule_of(path) != folder:
            continue
        for name in imports_of(path):
            inner = name.partition("srgan_plugin.")[2] if name.startswith("srgan_plugin.") else ""
            fits = any(f"{inner}.".startswith(f"{other}.") for other in allowed)
            assert fits or not inner, f"{path} imports {name}"


def test_every_package_has_its_rule() -> None:
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert folders - {".mim"} == {name.split("/")[0] for name in ALLOWED} - {"."}


def test_the_command_line_is_imported_by_nothing_but_the_package_s_entry_and_tools() -> None:
    importers = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.startswith("srgan_plugin.cli") for name in imports_of(path))
    }
    assert importers <= {"__main__.py", "cli", ".mim"}


LOAD_EACH = """
import importlib, json, multiprocessing, sys, traceback
import cv2, torch  # which take longer than the rest

def load(modules):
    try:
        for name in modules:
            importlib.import_module(name)
    except Exception:
        return traceback.format_exc()
    return ", ".join(name for name in sys.argv[1:] if name in sys.modules)

assert load([]) == "", "torch loads a toolbox"
packages = json.load(sys.stdin)
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(dict(zip(packages, pool.map(load, packages.values(), chunksize=1)))))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, str]:
    """The toolboxes that importing all of a package loads, each in a process of its own."""
    packages = {
        folder: [
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for path in (PACKAGE / folder).rglob("*.py")
        ]
        for folder in sorted(PLAIN)
    }
    assert all(packages.values())
    result = subprocess.run(
        [sys.executable, "-c", LOAD_EACH, *TOOLBOXES],
        input=json.dumps(packages),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("folder", sorted(PLAIN))
def test_a_package_without_a_host_loads_no_toolbox(folder: str, loaded: dict[str, str]) -> None:
    assert loaded[folder] == ""


def test_the_mmengine_host_loads_neither_mmagic_nor_basicsr() -> None:
    check = (
        "import sys, srgan_plugin.hosts.mmengine\n"
        "sys.exit(any(name in sys.modules for name in ('mmagic', 'basicsr')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_importing_the_package_loads_nothing_heavy() -> None:
    check = (
        "import sys, srgan_plugin; "
        "raise SystemExit(any(m in sys.modules for m in ('torch', 'numpy', 'cv2', 'mmengine')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


SCRIPTS = sorted(
    str(path.relative_to(TOOLS))
    for path in TOOLS.rglob("*.py")
    if path.parent.name not in ("benchmarks", "zoo")
)


@pytest.mark.parametrize("tool", SCRIPTS)
def test_the_help_of_a_tool_loads_nothing_heavy(tool: str) -> None:
    check = (
        "import runpy, sys\n"
        f"sys.argv = [{tool!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(TOOLS / tool)!r}, run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'cv2', 'mmengine')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "usage:" in result.stdout


def test_upscaling_and_comparing_load_no_toolbox_no_store_and_no_logger(tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", np.zeros((8, 8, 3), np.uint8))
    heavy = [*TOOLBOXES, "lmdb", "tensorboard", "matplotlib"]
    check = (
        "import sys; from srgan_plugin.__main__ import main\n"
        "main(['upscale', 'in.png', 'out.png'])\n"
        "main(['compare', 'in.png', '--models', 'bicubic', '--out', 'sheet.png'])\n"
        f"sys.exit(', '.join(name for name in {heavy} if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
