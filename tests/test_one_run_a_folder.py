"""A folder belongs to one run at a time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srgan_plugin.io.atomic import claim_folder

CLAIM = (
    "import sys, time; from srgan_plugin.io.atomic import claim_folder; "
    "held = claim_folder(sys.argv[1]); print('held', flush=True); time.sleep(60)"
)


def test_a_second_run_is_refused_by_the_name_of_the_first_until_it_ends(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    folder = tmp_path / "run"
    line = [sys.executable, "-c", CLAIM, str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"run.*{first.pid}.*--work-dir"):
            claim_folder(folder)
        first.send_signal(signal.SIGKILL)
    with claim_folder(folder) as held:
        held.seek(0)
        assert f"process {os.getpid()} " in held.read()


def test_workers_that_outlive_a_run_hold_nothing(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    code = (
        "import os, sys, time\n"
        "from srgan_plugin.io.atomic import claim_folder\n"
        "held = claim_folder(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    time.sleep(20)\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=15)
    before = time.monotonic()
    claim_folder(tmp_path).close()
    assert time.monotonic() - before < 1
