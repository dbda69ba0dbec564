"""The mutation tool spoils what it says, draws the same again, and tells caught from survived."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("mutate.py")


@pytest.fixture(scope="module")
def mutate() -> Any:
    spec = importlib.util.spec_from_file_location("mutate", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "spoilt"),
    [
        ("a < b", {"a <= b"}),
        ("a is None", {"a is not None"}),
        ("a - b * c", {"a + b * c", "a - b / c"}),
        ("a and (not b)", {"a or not b", "not not b"}),
        ("x = 1.5 if a else -b", {"x = 3.0 if a else -b", "x = 1.5 if not a else -b"}),
        ("x[a:b]", {"x[a + 1:b]", "x[a:b + 1]"}),
        ("range(n)", {"range(n + 1)"}),
        ("max(a, b)", {"min(a, b)"}),
        ("f(a, b)", {"f(b, a)"}),
        ("def f(a: Literal[1]=2) -> int:\n    return a", {"=3)", "return None"}),
        ("raise ValueError(f'{a + 1}', 1 < 2)", set()),
        ("x: Annotated[int, 3] = True", {"= False"}),
        ("def __repr__(self):\n    return 1 + 2", set()),
        ("def f():\n    '''Return 1 + 2.'''", set()),
    ],
)
def test_each_fault_is_made_once_and_only_in_code_that_runs(
    mutate: Any, tmp_path: Path, source: str, spoilt: set[str]
) -> None:
    path = tmp_path / "x.py"
    path.write_text(source)
    names = [name for name, _, _ in mutate.mutants(path, "m")]
    made = [next(s for n, _, s in mutate.mutants(path, "m") if n == name)() for name in names]
    assert len(set(names)) == len(names) == len(set(made))
    assert all(any(part in one for one in made) for part in spoilt), made
    assert bool(made) == bool(spoilt)


def test_a_seed_draws_the_same_mutants_again_as_many_of_each_package(mutate: Any) -> None:
    root = FILE.parents[1]
    packages = sorted(
        p.name for p in (root / mutate.NAME).iterdir() if (p / "__init__.py").exists()
    )
    drawn = [mutate.draw(root, packages[:3], 7, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert sorted(sum(one["of"] == p for one in drawn[0]) for p in packages[:3]) == [2, 2, 3]


def test_a_mutant_is_found_again_under_its_new_name(mutate: Any) -> None:
    names = {"a.b": "c", "a.b:f": "d:g"}
    found = [mutate.renamed(old, names) for old in ("a.b:f:not:0", "a.b:ff:not:0", "a.bb:f:not:0")]
    assert found == ["d:g:not:0", "c:ff:not:0", "a.bb:f:not:0"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="code has no qualified name in Python 3.10")
def test_what_a_test_notices_is_caught_and_the_rest_survives(tmp_path: Path) -> None:
    package, tests = tmp_path / "srgan_plugin" / "networks", tmp_path / "tests" / "networks"
    package.mkdir(parents=True)
    tests.mkdir(parents=True)
    source = "def seen(a, b, out):\n    out.append(a < b)\n\n\ndef unseen(a, b):\n    a += b\n"
    (package / "x.py").write_text(source)
    (tests / "test_x.py").write_text(
        "from srgan_plugin.networks import x\n\n\ndef test_order():\n    out = []\n"
        "    x.seen(1, 1, out)\n    assert out == [False]\n\n\n"
        "def test_nothing():\n    x.unseen(1, 2)\n"
    )
    shutil.copy(FILE, tmp_path / "tests")
    options = ["--packages", "networks", "--tests", "tests/networks"]
    subprocess.run([sys.executable, "tests/mutate.py", *options], cwd=tmp_path, check=True)
    found = json.loads((tmp_path / "mutants.json").read_text())
    results = {
        x["mutant"].removeprefix("srgan_plugin.networks.x:"): (x["result"], x["by"]) for x in found
    }
    assert results == {
        "seen:compare:0": ("caught", "tests/networks/test_x.py::test_order"),
        "unseen:arithmetic:0": ("survived", None),
    }
    assert (package / "x.py").read_text() == source
