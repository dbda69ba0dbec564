"""Making stores: the function, and the tool as a user calls it."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.prepare import stores
from srgan_plugin.data.prepare.stores import create_div2k_stores, create_store
from srgan_plugin.data.resize import make_lr
from srgan_plugin.errors import FileError, UserError
from srgan_plugin.io.writers import write_image

from .conftest import noise

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("layout", ["raw", "png"])
def test_a_store_is_the_same_to_the_byte_for_any_number_of_workers(
    tmp_path: Path, gt_folder: Path, layout: str
) -> None:
    for workers in (1, 2):
        create_store(gt_folder, tmp_path / str(workers), layout=layout, workers=workers)
    alone = contents(tmp_path / "1")
    assert alone == contents(tmp_path / "2")
    assert sorted(alone) == [
        f"{store}.lmdb/{file}" for store in ("GT", "LRx4") for file in ("data.mdb", "meta_info.txt")
    ]


def test_a_store_holds_cropped_photographs_of_nested_folders_and_their_lr(tmp_path: Path) -> None:
    image = noise(31, 50)
    write_image(tmp_path / "hr" / "a" / "x.png", image)
    seen: list[tuple[int, int]] = []
    create_store(
        tmp_path / "hr",
        tmp_path / "out",
        scale=3,
        workers=1,
        progress=lambda *counts: seen.append(counts),
    )
    pairs = ImagePairs(tmp_path / "out", scale=3)
    assert pairs.keys == ("a/x",)
    assert seen == [(1, 1)]
    np.testing.assert_array_equal(np.asarray(pairs[0].gt), image[:30, :48])
    np.testing.assert_array_equal(np.asarray(pairs[0].lr), make_lr(image[:30, :48], 3))


def test_a_store_can_be_made_of_another_store(tmp_path: Path, gt_folder: Path) -> None:
    create_store(gt_folder, tmp_path / "png", layout="png", workers=1)
    create_store(gt_folder, tmp_path / "raw", workers=1)
    create_store(tmp_path / "png", tmp_path / "again", workers=1)
    assert contents(tmp_path / "again") == contents(tmp_path / "raw")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_image_is_named_and_leaves_nothing_behind(tmp_path: Path, workers: int) -> None:
    for number in range(3):
        write_image(tmp_path / "hr" / f"{number}.png", noise(16, 16))
    broken = tmp_path / "hr" / "1.png"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"1\.png.*truncated"):
        create_store(tmp_path / "hr", tmp_path / "out", workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["hr"]


@pytest.mark.parametrize("workers", [1, 2])
def test_all_bad_images_are_named_before_the_end_and_nothing_is_written(
    tmp_path: Path, workers: int
) -> None:
    for number in range(6):
        write_image(tmp_path / "hr" / f"{number}.png", noise(16, 16))
    (tmp_path / "hr" / "1.png").write_bytes(b"")
    (tmp_path / "hr" / "4.png").write_text("a page")
    named: list[str] = []
    with pytest.raises(UserError, match=r"2 of 6.*nothing was written") as caught:
        create_store(tmp_path / "hr", tmp_path / "out", workers=workers, failed=named.append)
    assert [Path(reason.partition(":")[0]).name for reason in named] == ["1.png", "4.png"]
    assert "an empty file" in named[0]
    assert "4.png" not in str(caught.value)
    with pytest.raises(UserError, match=r"1\.png.*4\.png"):
        create_store(tmp_path / "hr", tmp_path / "out", workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["hr"]


def test_of_very_many_bad_images_the_first_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    for number in range(25):
        (tmp_path / "hr" / f"{number}.png").touch()
    named: list[str] = []
    with pytest.raises(UserError, match="20 or more of 25"):
        create_store(tmp_path / "hr", tmp_path / "out", workers=1, failed=named.append)
    assert len(named) == 20


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_an_error_of_the_system_is_not_taken_for_a_bad_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for name in ("0", "1"):
        write_image(tmp_path / "hr" / f"{name}.png", noise(16, 16))
    path = tmp_path / "hr" / "1.png"
    opened = Path.open

    def refuse(self: Path, *args: object, **kwargs: object) -> object:
        if self == path:
            raise OSError(number, os.strerror(number), str(path))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=r"1\.png") as caught:
        create_store(tmp_path / "hr", tmp_path / "out", workers=1)
    assert caught.value.errno == number
    assert not isinstance(caught.value, UserError)
    assert [entry.name for entry in tmp_path.iterdir()] == ["hr"]


def test_an_image_that_vanishes_is_named_with_the_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0", "1", "2"):
        write_image(tmp_path / "hr" / f"{name}.png", noise(16, 16))
    (tmp_path / "hr" / "0.png").write_bytes(b"")
    pairs = stores.ImagePairs(tmp_path / "hr")
    (tmp_path / "hr" / "2.png").unlink()
    monkeypatch.setattr(stores, "ImagePairs", lambda *_, **__: pairs)
    with pytest.raises(UserError, match=r"2 of 3.*0\.png.*2\.png: .*no such file"):
        create_store(tmp_path / "hr", tmp_path / "out", workers=1)


def test_images_after_a_bad_one_are_checked_and_not_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_image(tmp_path / "hr" / f"{number}.png", noise(16, 16))
    for bad in ("1", "3"):
        (tmp_path / "hr" / f"{bad}.png").write_bytes(b"")
    encoded: list[object] = []
    encode = stores.encode
    monkeypatch.setattr(stores, "encode", lambda *args: encoded.append(args) or encode(*args))
    seen: list[tuple[int, int]] = []
    with pytest.raises(UserError, match="2 of 5"):
        create_store(
            tmp_path / "hr",
            tmp_path / "out",
            workers=1,
            progress=lambda *counts: seen.append(counts),
        )
    assert len(encoded) == 2  # LR and HR of 0.png
    assert seen == [(1, 5), (3, 5), (4, 5), (5, 5)]


def test_all_names_that_stand_for_one_image_are_listed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "hr" / f"{name}.png", noise(16, 16))
        (tmp_path / "hr" / f"{name}.jpg").touch()
    with pytest.raises(UserError, match=r"a\.jpg and a\.png.*b\.jpg and b\.png"):
        create_store(tmp_path / "hr", tmp_path / "out", workers=1)


def test_skipped_files_are_counted_by_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import create_store as create_store_tool

    hr = tmp_path / "hr"
    write_image(hr / "a" / "x.png", noise(16, 16))
    for name in ("a/x.txt", "list.TXT", "README", "y.gif", "a/.hidden.png", ".git/config"):
        (hr / name).parent.mkdir(exist_ok=True)
        (hr / name).touch()
    create_store_tool.main([str(hr), "--out", str(tmp_path / "out"), "--workers", "1"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line[:8] == "skipped "]
    assert str(hr) in line
    kinds = set(line.rpartition(": ")[2].split(", "))
    assert kinds == {"2 .txt", "2 hidden", "1 no suffix", "1 .gif"}


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path: Path, gt_folder: Path) -> None:
    with pytest.raises(FileError, match=r"expected a store.*not a store"):
        create_store(gt_folder, tmp_path, replace=True, workers=1)
    (tmp_path / "x/GT.lmdb").mkdir(parents=True)
    (tmp_path / "x/GT.lmdb/notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"expected a store.*not a store"):
        create_store(gt_folder, tmp_path / "x", replace=True, workers=1)
    assert (tmp_path / "x/GT.lmdb/notes.txt").read_text() == "mine"


def test_a_store_of_more_scales_is_not_replaced_by_one_of_one(
    tmp_path: Path, gt_folder: Path
) -> None:
    create_store(gt_folder, tmp_path / "x", workers=1)
    before = contents(tmp_path / "x")
    with pytest.raises(FileError, match=r"LRx4\.lmdb.*lost"):
        create_store(gt_folder, tmp_path / "x", scale=2, replace=True, workers=1)
    assert contents(tmp_path / "x") == before


def test_an_image_too_small_for_the_scale_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "hr" / "tiny.png", noise(3, 16))
    with pytest.raises(UserError, match=r"tiny\.png.*4x4"):
        create_store(tmp_path / "hr", tmp_path / "out", workers=1)


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "create_store.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )


def test_the_tool_makes_a_store_refuses_to_overwrite_it_and_replaces_it_when_told(
    tmp_path: Path, gt_folder: Path, lr_folder: Path
) -> None:
    out = tmp_path / "store"
    made = tool(gt_folder, "--lr", lr_folder, "--out", out, "--layout", "png", "--workers", "1")
    assert made.returncode == 0, made.stderr
    assert len(ImagePairs(out)) == 3

    again = tool(gt_folder, "--out", out)
    assert again.returncode == 1
    assert again.stderr.strip().endswith("choose another name or remove it")
    assert "Traceback" not in again.stderr
    assert len(again.stderr.splitlines()) == 1

    copied = tool(out, "--out", tmp_path / "copy", "--workers", "1")  # a store is a source, too
    assert copied.returncode == 0, copied.stderr
    assert "3 images" in copied.stdout
    shutil.rmtree(tmp_path / "copy")

    forced = tool(gt_folder, "--out", out, "--force", "--workers", "1")
    assert forced.returncode == 0, forced.stderr
    assert "raw" in (out / "GT.lmdb" / "meta_info.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_the_tool_ends_with_one_line_for_bad_input_and_status_2_for_bad_usage(
    tmp_path: Path,
) -> None:
    missing = tool(tmp_path / "nowhere", "--out", tmp_path / "out")
    assert missing.returncode == 1
    assert len(missing.stderr.splitlines()) == 1
    assert "no such path" in missing.stderr
    for usage in (["x"], ["x", "--out", "y", "--scale", "0"], ["x", "--out", "y", "--layout", "z"]):
        assert tool(*usage).returncode == 2


def test_a_layout_or_a_scale_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    for options, said in (({"layout": "jpeg"}, "layout.*'jpeg'"), ({"scale": 0}, "scale.*got 0")):
        with pytest.raises(UserError, match=said):
            create_store(tmp_path, tmp_path / "out", **options)
    with pytest.raises(UserError, match="sources: expected HR images"):
        create_div2k_stores([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
