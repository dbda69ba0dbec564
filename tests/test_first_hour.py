"""The commands of docs/first-hour.md run in their order, on small images and for few steps."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import cv2
import pytest

from tests.conftest import ROOT, forget_mmengine, image

# What the page takes many steps for takes two here; the images are smaller than its crops.
SMALLER = (("=200", "=2"), ("iter_200", "iter_2"), ("interval=100", "interval=2"))
OPTIONS = (
    "train_dataloader.num_workers=0 train_dataloader.dataset.pipeline.0.gt_patch_size=32 "
    "train_cfg.max_iters=2 train_dataloader.batch_size=2"
)
WRITTEN = (
    *("photo_x4.png", "texture.png", "sheet.png", "data/photographs/GT.lmdb/data.mdb"),
    *("work_dirs/mine/iter_2.pth", "work_dirs/published/iter_2.pth", "mine.png", "report.html"),
)


def commands() -> list[str]:
    """Return the page's commands, but for installing and what other tests run."""
    text = (ROOT / "docs/first-hour.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    lines = re.sub(r"\\\n\s*", "", "".join(blocks)).splitlines()
    return [line for line in lines if re.match(r"(python tools/|srgan-plugin (?!doctor))", line)]


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for old, new in SMALLER:
        line = line.replace(old, new)
    words = shlex.split(line, comments=True)
    if words[:2] == ["python", "tools/train.py"]:
        words += OPTIONS.split()
    script = words[1] if words[0] == "python" else "srgan_plugin/__main__.py"
    arguments = words[2:] if words[0] == "python" else words[1:]
    forget_mmengine()
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    runpy.run_path(str(ROOT / script), run_name="__main__")


def test_the_first_hour_runs_from_one_photo_to_a_report(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SRGAN_DATA", raising=False)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    cv2.imwrite("photo.jpg", image(48, 64), [cv2.IMWRITE_JPEG_QUALITY, 95])
    shutil.copytree(photographs / "train", "photographs")
    for name in ("Set5", "Set14"):
        shutil.copytree(photographs / name, f"data/{name}")
    lines = commands()
    assert len(lines) >= 7
    for line in lines:
        run(line, monkeypatch)
    assert [name for name in WRITTEN if not Path(name).is_file()] == []
    assert cv2.imread("photo_x4.png").shape == (4 * 48, 4 * 64, 3)
    printed = capsys.readouterr().out
    assert re.search(r"Set5.*\d\d\.\d+", printed)
