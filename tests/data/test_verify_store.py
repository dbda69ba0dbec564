"""`tools/verify_store.py` names what is damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import verify_store

from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.io.lmdb_store import ImageStore
from srgan_plugin.io.writers import write_image


@pytest.fixture(params=["raw", "png"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in "abc":
        image = rng.integers(0, 256, (48, 48, 3), np.uint8)
        write_image(tmp_path / "images" / f"{name}.png", image)
    create_store(tmp_path / "images", tmp_path / "out", layout=request.param, workers=1)
    return tmp_path / "out"


def damage(store: Path, key: str) -> None:
    value = ImageStore(store)._entries[key].value
    with (store / "data.mdb").open("r+b") as file:
        file.seek(value.offset + value.size // 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 16]))


def test_sound_stores_pass_with_status_0(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (stores, stores / "GT.lmdb"):
        verify_store.main([str(path)])
    said = capsys.readouterr()
    assert said.out.count("0 of 3 images") == 3
    assert "checksum" in said.out
    assert not said.err


def test_damaged_images_are_named_with_status_1(
    stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(stores / "GT.lmdb", "b")
    damage(stores / "LRx4.lmdb", "c")
    with pytest.raises(SystemExit) as status:
        verify_store.main([str(stores), "--workers", "2"])
    said = capsys.readouterr()
    assert status.value.code == 1
    first, second = said.err.splitlines()
    assert f"b of {stores / 'GT.lmdb'}" in first
    assert f"c of {stores / 'LRx4.lmdb'}" in second
    assert said.out.count("1 of 3 images") == 2


def test_one_store_that_cannot_be_opened_does_not_hide_the_others(
    stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stores / "GT.lmdb" / "data.mdb").write_bytes(b"")
    damage(stores / "LRx4.lmdb", "c")
    with pytest.raises(SystemExit):
        verify_store.main([str(stores)])
    said = capsys.readouterr()
    assert "GT.lmdb" in said.err
    assert "c of" in said.err


def test_a_store_without_checksums_says_so_and_is_decoded(
    stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = stores / "GT.lmdb"
    shutil.rmtree(stores / "LRx4.lmdb")
    lines = (store / "meta_info.txt").read_text().splitlines()
    (store / "meta_info.txt").write_text("".join(f"{line[:-15]}\n" for line in lines))
    verify_store.main([str(store)])
    assert "no checksums" in capsys.readouterr().out
    if "raw" not in lines[0]:
        damage(store, "a")
        with pytest.raises(SystemExit):
            verify_store.main([str(store)])
        assert "a of" in capsys.readouterr().err


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as status:
        verify_store.main([str(folder)])
    assert status.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(("gone", "named"), [("LRx4.lmdb", "LRx"), ("GT.lmdb", "GT.lmdb")])
def test_a_folder_without_one_of_its_parts_is_refused(
    stores: Path, capsys: pytest.CaptureFixture[str], gone: str, named: str
) -> None:
    shutil.rmtree(stores / gone)
    assert named in refused(stores, capsys)


@pytest.mark.parametrize("file", ["data.mdb", "meta_info.txt"])
def test_a_part_without_one_of_its_files_is_refused(
    stores: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    (stores / "LRx4.lmdb" / file).unlink()
    assert file in refused(stores, capsys)


def test_parts_of_two_different_stores_are_refused(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images" / "c.png").unlink()
    create_store(tmp_path / "images", tmp_path / "other", workers=1)
    shutil.rmtree(stores / "LRx4.lmdb")
    shutil.move(tmp_path / "other" / "LRx4.lmdb", stores)
    line = refused(stores, capsys)
    assert "pairs" in line
    assert "c of" in line


def test_a_folder_that_is_not_a_store_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as status:
        verify_store.main([str(tmp_path)])
    assert status.value.code == 1
    assert str(tmp_path) in capsys.readouterr().err
