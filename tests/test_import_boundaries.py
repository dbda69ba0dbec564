"""Who may import whom: the walls between the rooms, and what a tool costs to start."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "srgan_plugin"
TOOLS = PACKAGE.parent / "tools"
TOOLBOXES = ("mmengine", "mmcv", "mmagic", "basicsr")
# What each room may import of ours; `files` and `errors` of the standard library kind are open.
ALLOWED = {
    "core": set(),
    "data": set(),
    "evaluation": {"core", "data"},
    "zoo": {"core"},
    "inference": {"core", "zoo"},
    "release": {"data", "evaluation", "inference", "hosts", "zoo"},
    "benchmarks": {"core", "data", "evaluation", "hosts", "inference", "config_path", "registry"},
    "hosts/basicsr": {"core", "data", "evaluation", "zoo"},
    "hosts/mm": {"config_arguments", "core", "data", "evaluation", "zoo", "registry"},
}
OPEN = {"cpu_memory", "files", "download"}


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, relative ones resolved."""
    here = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return names


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    allowed = ALLOWED[room] | OPEN | {room.split("/")[0]}
    for path in sorted((PACKAGE / room).glob("*.py")):
        for name in imports_of(path):
            if name.startswith("srgan_plugin."):
                assert name.split(".")[1] in allowed, f"{path} imports {name}"


def test_every_room_has_its_rule() -> None:
    rooms = {str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    assert rooms - {".", "hosts"} == set(ALLOWED)


@pytest.mark.parametrize("room", ["core", "data", "evaluation", "zoo", "inference"])
def test_a_host_free_room_loads_no_toolbox(room: str) -> None:
    modules = [f"srgan_plugin.{room}"] + [
        f"srgan_plugin.{room}.{path.stem}"
        for path in (PACKAGE / room).glob("*.py")
        if path.stem != "__init__"
    ]
    check = (
        f"import sys, {', '.join(modules)}\n"
        f"found = [name for name in {TOOLBOXES} if name in sys.modules]\n"
        "raise SystemExit(', '.join(found) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_mmengine_host_loads_neither_mmagic_nor_basicsr() -> None:
    check = (
        "import sys, srgan_plugin.hosts.mm\n"
        "sys.exit(any(name in sys.modules for name in ('mmagic', 'basicsr')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_importing_the_package_loads_nothing_heavy() -> None:
    check = (
        "import sys, srgan_plugin; "
        "raise SystemExit(any(m in sys.modules for m in ('torch', 'numpy', 'cv2', 'mmengine')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("tool", sorted(str(p.relative_to(TOOLS)) for p in TOOLS.rglob("*.py")))
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
