"""The worked examples of CONTRIBUTING.md run as they stand, in a process of their own."""

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
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


def run_script(script: str, inputs: Sequence[str], folder: Path) -> list[str]:
    """Run Python code in a process with `inputs`, and return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\0".join(inputs),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_four_worked_examples_run(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    titles = re.findall(r"^### (.+)", text, re.M)
    assert titles == ["A network", "A loss", "A checkpoint layout", "A metric"]
    assert len(examples) == len(titles)
    lines = run_script(RUNNER, examples, tmp_path)
    assert [line for line in lines if line.startswith("example")] == [
        f"example {number}" for number in range(1, 5)
    ]


# The option that is printed replaces the loss of a config, once the class is in the package.
BUILD = """
import sys
source, option, *configs = sys.stdin.read().split("\\0")
exec(source)
import srgan_plugin.hosts.mmengine
from srgan_plugin.cli.configs import read_config
from srgan_plugin.registry import MODELS
for config in configs:
    loss = MODELS.build(read_config(config, [option]).model.pixel_loss)
    print(type(loss).__name__, loss.loss_weight)
"""


@pytest.mark.slow
def test_the_loss_of_the_example_is_built_by_the_option_that_is_printed(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("### A loss")[2].partition("\n### ")[0]
    source = re.search(r"```python\n(.*?)```", section, re.S)
    command = re.search(r"```bash\n(.*?)```", section, re.S)
    assert source
    assert command
    words = shlex.split(command[1].replace("\\\n", " "))
    names = (f"{network}_x4c64b16_g1_1000k_div2k.py" for network in ("msrresnet", "srgan"))
    configs = [str(ROOT / "configs" / name) for name in names]
    lines = run_script(BUILD, (source[1], words[-1], *configs), tmp_path)
    built = [line for line in lines if line.startswith("Charbonnier")]
    assert built == ["CharbonnierLoss 1.0"] * 2


# As above, by BasicSR's own function, after the check of the options.
BUILD_BY_BASICSR = """
import sys
source, options = sys.stdin.read().split("\\0")
exec(source)
import yaml
import srgan_plugin.hosts.basicsr
from basicsr.losses import build_loss
from basicsr.utils.registry import LOSS_REGISTRY
from srgan_plugin.hosts.basicsr.options import _check_arguments
pixel = yaml.safe_load(options)["train"]["pixel_opt"]
_check_arguments(pixel, LOSS_REGISTRY, "train.pixel_opt")
loss = build_loss(pixel)
print(type(loss).__module__, type(loss).__name__, loss.loss_weight)
"""


@pytest.mark.slow
def test_the_loss_of_the_example_is_built_by_the_yaml_that_is_printed(tmp_path: Path) -> None:
    if importlib.util.find_spec("basicsr") is None:
        pytest.skip("BasicSR is not installed")
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("### A loss")[2].partition("\n### ")[0]
    (source,) = re.findall(r"```python\n(.*?)```", section, re.S)
    (options,) = re.findall(r"```yaml\n(.*?)```", section, re.S)
    lines = run_script(BUILD_BY_BASICSR, (source, options), tmp_path)
    assert "__main__ CharbonnierLoss 1.0" in lines


def test_the_files_that_the_examples_name_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`(srgan_plugin/[\w/]+(?:\.py|/))`", text))
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []
