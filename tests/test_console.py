"""What the console shows of a run, and that it shows no more."""

import fcntl
import io
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import numpy as np
import pytest
from mmengine.fileio import FileClient
from mmengine.logging import MMLogger
from tqdm import tqdm

from srgan_plugin.cli.console import needs_attention
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.progress import Progress
from srgan_plugin.errors import PluginWarning
from srgan_plugin.io.writers import write_image

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/srgan_x4c64b16_g1_1000k_div2k.py"
WIDTH = 70


def arguments(photographs: Path, work_dir: Path) -> list[str]:
    """A command line that trains SRGAN for ten iterations and validates twice."""
    options = [
        *("model.generator.mid_channels=4", "model.generator.num_blocks=1"),
        *("model.discriminator.mid_channels=4", "model.discriminator.input_size=32"),
        *("model.perceptual_loss=None", "train_dataloader.dataset.pipeline.0.gt_patch_size=32"),
        *("train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"),
        *("train_dataloader.batch_size=2", f"train_dataloader.dataset.gt={photographs}/train"),
        *("train_cfg.max_iters=10", "train_cfg.val_interval=5"),
    ]
    train = [sys.executable, str(ROOT / "tools/train.py"), str(CONFIG)]
    return [*train, "--work-dir", str(work_dir), "--cfg-options", *options]


def on_a_terminal(line: list[str], cwd: Path, environment: dict[str, str], status: int = 0) -> str:
    """Run a command on a terminal of `WIDTH` columns and return all that it wrote there."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    with subprocess.Popen(line, cwd=cwd, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux's way to say that nobody writes any more
                break
            if not part:
                break
            seen += part
    os.close(ours)
    assert process.returncode == status, seen.decode()
    return seen.decode()


@pytest.fixture
def environment(photographs: Path) -> dict[str, str]:
    return {**os.environ, "SRGAN_DATA": str(photographs)}


def test_a_training_of_ten_iterations_writes_few_lines_and_logs_the_config_in_its_file(
    photographs: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    line = arguments(photographs, tmp_path / "run")
    done = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    )
    lines = (done.stdout + done.stderr).splitlines()
    before = next(i for i, text in enumerate(lines) if text.startswith("validation at 5"))
    assert before <= 25
    assert len(lines) <= 40
    shown = "\n".join(lines)
    for word in ("MSRResNet", "ModifiedVGG", f"{photographs}/train", "float32", "RANDOM", "PSNR"):
        assert word in shown
    assert "Warning" not in shown
    assert "deprecated" not in shown
    log = next((tmp_path / "run").glob("*/*.log")).read_text()
    assert "mid_channels=4" in log
    assert "System environment" in log
    assert "Iter(val)" in log


def test_verbose_shows_the_whole_log_on_the_console(
    photographs: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    line = [*arguments(photographs, tmp_path / "run"), "train_cfg.max_iters=1", "--verbose"]
    done = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    )
    assert "mid_channels=4" in done.stdout
    assert "System environment" in done.stdout


def test_on_a_terminal_a_bar_shows_losses_and_psnr_and_no_line_is_wider(
    photographs: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    seen = on_a_terminal(arguments(photographs, Path("run")), tmp_path, environment)
    updates = [text for line in seen.split("\n") for text in line.split("\r")]
    assert [text for text in updates if len(text.rstrip()) > WIDTH] == []
    assert any("10/10" in text and "PSNR=" in text for text in updates)


def test_on_a_terminal_errors_and_warnings_are_broken_into_lines_elsewhere_they_are_one(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    code = (
        "import contextlib, io, logging, sys\n"
        "from srgan_plugin.cli.console import log_to_file\n"
        "from srgan_plugin.cli.errors import command\n"
        "from srgan_plugin.errors import UserError\n"
        "logger = logging.getLogger('x')\n"
        "logger.addHandler(logging.StreamHandler(sys.stdout))\n"
        "log_to_file(logger)\n"
        "def main():\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"  # as while a checkpoint is loaded
        "        logger.warning('word ' * 30)\n"
        "    raise UserError('more ' * 30)\n"
        "command(main)()\n"
    )
    line = [sys.executable, "-c", code]
    seen = on_a_terminal(line, tmp_path, environment, status=1)
    assert max(map(len, seen.replace("\r", "\n").splitlines())) <= WIDTH
    assert seen.count("word") == seen.count("more") == 30
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert len(done.stdout.splitlines()) == len(done.stderr.splitlines()) == 1


def test_on_a_terminal_the_line_for_a_file_that_fails_stands_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "broken image.png").write_bytes(b"no image")
    network = tmp_path / "x.pth"
    save = (
        "import torch; from srgan_plugin.networks import MSRResNet; "
        f"torch.save(MSRResNet(mid_channels=4, num_blocks=1).state_dict(), {str(network)!r})"
    )
    subprocess.run([sys.executable, "-c", save], check=True, cwd=ROOT)
    write_image(folder / "a.png", np.zeros((64, 64, 3), np.uint8))
    line = [sys.executable, "-m", "srgan_plugin", "upscale", "in", "out", "--model", network.name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seen = on_a_terminal(line, tmp_path, environment, status=1)
    updates = [text.rstrip() for part in seen.split("\n") for text in part.split("\r")]
    assert [text for text in updates if len(text) > WIDTH] == []
    (error,) = [text for text in updates if "error: " in text]
    assert error.startswith("error: ")


def test_without_a_terminal_progress_is_a_line_every_thirty_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    of_somebody_else = tqdm(total=1)
    progress = Progress("upscale", 10)
    capsys.readouterr()
    for done in range(1, 10):
        now += 10
        progress.show(image=f"{done}.png")
        progress(done, 10)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    of_somebody_else.close()
    assert [line.split(",")[0] for line in lines] == [
        f"upscale: {done}/10 image" for done in (3, 6, 9)
    ]
    assert all("left" in line and ".png" in line for line in lines)


def test_without_a_terminal_work_of_seconds_writes_no_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress("upscale", 2)
    progress(2, 2)
    progress.close()
    assert capsys.readouterr().err == ""


def test_deprecations_are_shown_except_those_that_mmengine_logs_of_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmengine.logging.logger.MMLogger._instance_dict", {})
    logged: list[logging.LogRecord] = []
    logger = MMLogger.get_instance("deprecations", logger_name="deprecations")
    logger.addFilter(lambda record: bool(logged.append(record)))
    MMLogger._instance_dict["mmengine"] = logger
    monkeypatch.setattr(FileClient, "_instances", {})  # a second one has one warning
    FileClient("disk")  # of mmengine, with two warnings
    assert [needs_attention(record) for record in logged] == [False, False]
    logger.warning("key `watch` is deprecated; use `discriminator_monitor`")
    assert needs_attention(logged[-1])

    @command
    def main(argv: list[str]) -> None:
        warnings.warn("`watch` is deprecated; use `x`", PluginWarning, stacklevel=2)

    main([])
    assert capsys.readouterr().err.startswith("WARNING: `watch` is deprecated; use ")


def test_a_display_that_is_switched_off_ends_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("srgan_plugin.cli.progress.terminal_width", lambda _: 80)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    progress = Progress("upscale", 2)
    progress.advance()
    progress.close()


def test_without_a_total_no_time_is_said_to_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr("srgan_plugin.cli.progress._SECONDS_BETWEEN_LINES", 0)
    progress = Progress("x", None, "px")
    progress.advance(2_000_000)
    assert "left" not in log.getvalue()
    progress(3_000_000, 4_000_000)
    progress.close()
    assert "3.00M/4.00Mpx" in log.getvalue().splitlines()[-1]
    assert "left" in log.getvalue().splitlines()[-1]
