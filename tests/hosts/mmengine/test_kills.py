"""SIGKILLs at random moments, the short form of `make soak`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "soak/kill_and_resume.py"


@pytest.mark.slow
def test_killed_trainings_end_with_every_object_of_an_undisturbed_one() -> None:
    options = ["--kills=3", "--seed=3", "--iterations=14", "--lives=2", "--networks", "srgan"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^3 kills in \d+ runs", done.stdout, re.MULTILINE)
