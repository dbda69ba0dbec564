"""The worked examples of CONTRIBUTING.md run as they stand, in a process of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# One process for all of them: importing takes most of the time.
RUNNER = """
import sys
for number, source in enumerate(sys.stdin.read().split("\\0"), 1):
    exec(compile(source, f"CONTRIBUTING.md, example {number}", "exec"), {"__name__": "example"})
    print("example", number)
"""


@pytest.mark.slow
def test_the_four_worked_examples_run(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    titles = re.findall(r"^### (.+)", text, re.M)
    assert titles == ["A network", "A loss", "A checkpoint layout", "A metric"]
    assert len(examples) == len(titles)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input="\0".join(examples),
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("example")] == [
        f"example {number}" for number in range(1, 5)
    ]


def test_the_files_that_the_examples_name_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`(srgan_plugin/[\w/]+(?:\.py|/))`", text))
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []
