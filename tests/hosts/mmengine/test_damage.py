"""Which checkpoint a run resumes from, whatever happened to the files of the one before."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from srgan_plugin.checkpoints import load_checkpoint_file
from srgan_plugin.hosts.mmengine.engine import checkpoint_files
from srgan_plugin.hosts.mmengine.engine.checkpoint_files import (
    checkpoint_name,
    last_checkpoint,
    newest_checkpoint,
    numbered_checkpoints,
    parse_iteration,
)
from srgan_plugin.io.atomic import _WRITING, remove_abandoned, write_bytes


def save(folder: Path, number: int, *, holds: int | None = None, age: float = 0) -> Path:
    """A checkpoint such as a run writes, `age` seconds old."""
    folder.mkdir(exist_ok=True)
    path = folder / f"iter_{number}.pth"
    meta = {"iter": number if holds is None else holds, "epoch": 0}
    hub = {"runtime_info": {"saved_ckpts": [str(folder / f"iter_{n}.pth") for n in (10, 20, 30)]}}
    weights = {"state_dict": {"w": torch.rand(5000)}, "optimizer": {}, "message_hub": hub}
    torch.save({"meta": meta, **weights}, path)
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))
    return path


def run(folder: Path) -> list[Path]:
    """A run's folder: three checkpoints and the name of the newest."""
    paths = [save(folder, number, age=100 - number) for number in (10, 20, 30)]
    (folder / "last_checkpoint").write_text(str(paths[-1]))
    return paths


def flip_in_the_middle(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)


def as_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


DAMAGE: list[Callable[[Path], object]] = [
    flip_in_the_middle,
    without_its_end,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"GIF89a" + bytes(5000)),
    lambda path: path.write_bytes(bytes(path.stat().st_size)),
    as_a_folder,
    lambda path: zipfile.ZipFile(path, "w").writestr("readme", "no checkpoint"),
    lambda path: torch.save([1, 2, 3], path),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_newest_good_checkpoint_is_resumed_and_the_damaged_one_named(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    older, newer, newest = run(tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run") == newest
    assert not caplog.records
    damage(newest)
    assert newest_checkpoint(tmp_path / "run") == newer
    assert str(newest) in caplog.text
    assert str(newer) in caplog.text
    damage(newer)
    assert newest_checkpoint(tmp_path / "run") == older


def test_a_checkpoint_that_may_not_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, newer, newest = run(tmp_path / "run")
    opened = Path.open

    def refuse(path: Path, *args: object, **kwargs: object) -> object:
        if path == newest:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)  # root may read whatever the mode is
    assert newest_checkpoint(tmp_path / "run") == newer
    assert "Permission denied" in caplog.text


def test_a_name_that_says_another_iteration_than_the_content_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, newer, _ = run(tmp_path / "run")
    save(tmp_path / "run", 30, holds=31)
    assert newest_checkpoint(tmp_path / "run") == newer
    assert "got iteration 31" in caplog.text


def test_without_a_good_checkpoint_nothing_starts_anew_in_silence(tmp_path: Path) -> None:
    for path in run(tmp_path / "run"):
        flip_in_the_middle(path)
    with pytest.raises(
        ValueError, match=r"iter_30\.pth.*iter_20\.pth.*iter_10\.pth.*--resume FILE"
    ):
        newest_checkpoint(tmp_path / "run")
    assert newest_checkpoint(tmp_path / "empty") is None


@pytest.mark.parametrize("words", ["", "\0\0\0\0", "/no/such/iter_7.pth", "what?\n"])
def test_a_damaged_name_of_the_newest_costs_nothing(tmp_path: Path, words: str) -> None:
    *_, newest = run(tmp_path / "run")
    (tmp_path / "run/last_checkpoint").write_text(words)
    assert newest_checkpoint(tmp_path / "run") == newest


def test_a_damaged_checkpoint_falls_back_within_its_run_and_its_folder(tmp_path: Path) -> None:
    _, newer, newest = run(tmp_path / "elsewhere")
    save(tmp_path / "elsewhere", 40, age=5000)  # another run's
    work = tmp_path / "work"
    work.mkdir()
    (work / "last_checkpoint").write_text(str(newest))
    assert newest_checkpoint(work) == newest
    flip_in_the_middle(newest)
    assert newest_checkpoint(work) == newer


def test_a_copy_without_its_times_resumes_from_the_newest(tmp_path: Path) -> None:
    run(tmp_path / "run")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("last_checkpoint", "iter_30.pth", "iter_10.pth", "iter_20.pth"):
        shutil.copyfile(tmp_path / "run" / name, copy / name)
    (copy / "iter_20.pth").touch()
    assert newest_checkpoint(copy) == copy / "iter_30.pth"


def test_one_that_was_saved_after_the_name_of_the_newest_is_newer(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run/iter_20.pth").touch()  # which the newest lists
    later = save(tmp_path / "run", 35)
    assert newest_checkpoint(tmp_path / "run") == later
    later.unlink()
    rewound = save(tmp_path / "run", 25)  # by a run that resumed from iteration 20
    assert newest_checkpoint(tmp_path / "run") == rewound


@pytest.mark.parametrize(("damaged", "read"), [(0, (30,)), (1, (30, 20)), (2, (30, 20, 10))])
def test_each_checkpoint_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: int, read: tuple[int, ...]
) -> None:
    paths = run(tmp_path / "run")
    for path in paths[::-1][:damaged]:
        without_its_end(path)
    opened = []

    def counting(path: Path) -> Any:
        opened.append(path.name)
        return load_checkpoint_file(path)

    monkeypatch.setattr(checkpoint_files, "load_checkpoint_file", counting)
    assert newest_checkpoint(tmp_path / "run") == paths[2 - damaged]
    assert opened == [checkpoint_name(number) for number in read]


def test_digits_in_the_name_of_a_metric_are_not_iterations(tmp_path: Path) -> None:
    """The best checkpoint is that of iteration 30, not of 530."""
    work = tmp_path / "run"
    _, newer, newest = run(work)
    best = newest.rename(work / f"best_Set5_PSNR_{newest.name}")
    save(work, 40, age=75)  # of another run, later than iter_20.pth
    (work / "last_checkpoint").write_text(str(best))
    assert newest_checkpoint(work) == best
    flip_in_the_middle(best)
    assert newest_checkpoint(work) == newer


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = """
import os, signal
from pathlib import Path
from srgan_plugin.io.atomic import atomic_path, write_bytes
with atomic_path("other.pth") as path:
    path.write_bytes(b"of no run")
    Path("iter_1.pth").touch()
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    write_bytes(b"half", "iter_2.pth")
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = sorted(p.read_bytes() for p in tmp_path.glob(".writing-*.tmp.pth"))
    assert left == [b"half", b"of no run"]
    alive = next(tmp_path.glob(".writing-*")).with_name(".writing-00000000-deadbeef.tmp.pth")
    alive.write_bytes(b"another machine's")
    before = {p.name for p in tmp_path.iterdir()}
    remove_abandoned(tmp_path)
    gone = before - {p.name for p in tmp_path.iterdir()}
    assert len(gone) == 2
    assert not gone & {alive.name, "iter_1.pth"}
    remove_abandoned(tmp_path / "no such folder")


def test_an_abandoned_file_is_removed_where_only_files_open_for_writing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def flock_of_nfs(file: Any, operation: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    (tmp_path / f".{_WRITING}deadbeef.tmp.pth").write_bytes(b"half")
    remove_abandoned(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_being_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def another_run_starts(file: int) -> None:
        remove_abandoned(tmp_path)
        sync(file)

    monkeypatch.setattr(os, "fsync", another_run_starts)
    write_bytes(b"whole", tmp_path / "iter_2.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["iter_2.pth"]
    assert (tmp_path / "iter_2.pth").read_bytes() == b"whole"


def test_a_file_is_closed_before_it_is_renamed_where_the_system_demands_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def replace_what_nobody_has_open(path: Path, target: Path) -> Path:
        opened = list(Path("/proc/self/fd").iterdir())
        assert path.resolve() not in {link.resolve() for link in opened}
        return replace(path, target)

    monkeypatch.setattr("srgan_plugin.io.atomic.fcntl", None)  # as on Windows
    monkeypatch.setattr(Path, "replace", replace_what_nobody_has_open)
    write_bytes(b"whole", tmp_path / "iter_2.pth")
    remove_abandoned(tmp_path)
    assert (tmp_path / "iter_2.pth").read_bytes() == b"whole"


def test_names_of_checkpoints_are_written_and_read_alike(tmp_path):
    assert parse_iteration(tmp_path / checkpoint_name(20)) == 20
    assert parse_iteration(tmp_path / f"best_Set5_PSNR_{checkpoint_name(20)}") == 20
    for other in ("epoch_3.pth", "iter_3.pth.tmp", "my_iter_3.pth", "iter_x.pth"):
        assert parse_iteration(tmp_path / other) is None
        (tmp_path / other).touch()
    paths = [tmp_path / checkpoint_name(n) for n in (2, 10)]
    for path in paths:
        path.touch()
    assert numbered_checkpoints(tmp_path) == list(zip((2, 10), paths, strict=True))


def test_the_pointer_to_the_last_checkpoint_is_read_without_what_a_crash_left(tmp_path):
    assert last_checkpoint(tmp_path) == ""
    for written, read in (("a/iter_3.pth\n", "a/iter_3.pth"), ("\0\0\0", "")):
        (tmp_path / "last_checkpoint").write_text(written)
        assert last_checkpoint(tmp_path) == read
