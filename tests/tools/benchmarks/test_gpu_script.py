"""`tools/gpu_benchmarks.sh`, line by line, with a Python that writes down what it is asked for."""

import os
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "gpu_benchmarks.sh"
TOOL = runpy.run_path(str(SCRIPT.with_name("benchmark.py")))["parse_args"]
ROWS = [
    "gpu_loader",
    "gpu_train_msrresnet_mmagic",
    "gpu_train_srgan_mmagic",
    "gpu_test_mmagic",
    "gpu_train_msrresnet_no_hooks",
    "gpu_train_msrresnet_baseline",
    "gpu_upscale_480x270",
    "gpu_upscale_960x540",
]

# `-m venv` and what is installed and checked there are real, the rest is written down: the
# arguments, after the folder and the seconds that `timeout` gives.
PYTHON = f"""#!/bin/bash
printf '%s\\t%s\\t%s\\n' "$PWD" "${{LIMIT:-}}" "${{*@Q}}" >> "$LOG"
case "$*" in
"-m venv "*)
    {shlex.quote(sys.executable)} "$@" && mv "${{@: -1}}/bin/python" "${{@: -1}}/bin/real" &&
        cp "$0" "${{@: -1}}/bin/python" ;;
-) exec {shlex.quote(sys.executable)} "$@" ;;
"-m pip "* | "-c import cv2"*) exec "$(dirname "$0")/real" "$@" ;;
*"--against no-hooks"*) exit 1 ;;
esac
"""
TIMEOUT = """#!/bin/bash
LIMIT=$3 exec "${@:4}"
"""


def wheel(folder: Path, name: str, body: str = "") -> None:
    """A wheel of one module `NAME_module`, which is named as the file says."""
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{name}_module.py", body)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def run(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run the script in a folder; also return what Python was asked for."""
    log = folder / "log"
    stubs = folder / "stubs"
    stubs.mkdir()
    executable(stubs / "python", PYTHON)
    executable(stubs / "timeout", TIMEOUT)
    environment = {
        **os.environ,
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "PYTHON": "stubs/python",  # also relative
        "LOG": str(log),
    }
    command = ["bash", str(SCRIPT), *arguments]
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True
    )
    lines = log.read_text().splitlines() if log.exists() else []
    return done, [line.split("\t") for line in lines]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_every_row_is_run_from_another_folder_with_what_is_there(tmp_path: Path) -> None:
    wheels = tmp_path / "whe els"
    wheels.mkdir()
    for name in ("torch", "nvidia_nothing", "opencv_python", "opencv_python_headless", "other"):
        wheel(wheels, name)
    done, calls = run(tmp_path, "whe els", "photographs", "benchmarks", "o/ut")
    assert done.returncode == 1
    assert "gpu_train_msrresnet_no_hooks was not measured" in done.stderr

    asked = [shlex.split(words) for _, _, words in calls]
    (installed,) = [words for words in asked if words[:2] == ["-m", "pip"]]
    names = [Path(word).name.split("-")[0] for word in installed if word.endswith(".whl")]
    assert names == ["other", "opencv_python_headless"]

    (files,) = [words for words in asked if words[:2] == ["tools/benchmark.py", "files"]]
    rows = [words for words in asked if "--out" in words]
    assert asked.index(files) < asked.index(rows[0])
    assert [Path(words[words.index("--out") + 1]).stem for words in rows] == ROWS
    for words in (files, *rows):
        options = dict(pairwise(words))
        assert options["--files"] == files[files.index("--files") + 1]
        if "--data" in words:
            test = words[1] == "test"
            assert options["--data"] == str(tmp_path / ("benchmarks" if test else "photographs"))
        if "--out" in words:
            assert Path(options["--out"]).parent == tmp_path / "o/ut"
        assert TOOL(words[1:]).what == words[1]
    limits = [int(limit) for _, limit, words in calls if "--out" in words]
    assert all(limit > 40 for limit in limits)
    assert {folder for folder, _, words in calls if "benchmark.py" in words} == {
        str(SCRIPT.parents[1])
    }
    (tests,) = [words for words in asked if "-q" in words and "pytest" in words]
    assert tests[tests.index("-c") + 1] == "/dev/null"
    assert (SCRIPT.parents[1] / tests[-1]).is_file()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_without_its_arguments_the_script_says_how_to_call_it(tmp_path: Path) -> None:
    done, calls = run(tmp_path, "wheels")
    assert (done.returncode, calls) == (2, [])
    assert "tools/gpu_benchmarks.sh WHEELS PHOTOGRAPHS BENCHMARKS OUT" in done.stderr
