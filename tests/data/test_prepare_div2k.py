"""DIV2K from archives or folders to sub-images, stores and lists, in small."""

import os
import resource
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.data.benchmark_sets import find_benchmark, find_div2k_train
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.prepare.div2k import (
    Archive,
    archives,
    check_div2k_images,
    crop_offsets,
    cut_subimages,
    find_div2k_images,
    read_div2k_image,
    unpack,
)
from srgan_plugin.data.prepare.stores import create_div2k_stores
from srgan_plugin.data.resize import make_lr
from srgan_plugin.errors import UserError
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image

from .conftest import tool

SIZES = {1: (492, 972), 2: (720, 480), 801: (480, 492)}


def smooth(height: int, width: int, seed: int) -> RGBArray:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def whole_div2k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs in DIV2K's own folders, the last one of the validation set."""
    root = tmp_path_factory.mktemp("div2k")
    for number, (height, width) in SIZES.items():
        part = "train" if number <= 800 else "valid"
        image = smooth(height, width, seed=number)
        write_image(root / f"DIV2K_{part}_HR" / f"{number:04d}.png", image)
        for scale in (2, 3, 4):
            folder = root / f"DIV2K_{part}_LR_bicubic" / f"X{scale}"
            write_image(folder / f"{number:04d}x{scale}.png", make_lr(image, scale))
    return root


@pytest.fixture
def div2k(whole_div2k: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, of links."""
    for path in whole_div2k.rglob("*.png"):
        copy = tmp_path / "DIV2K" / path.relative_to(whole_div2k)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, copy)
    return tmp_path / "DIV2K"


def test_a_jpeg_cut_in_its_pixels_is_refused_whatever_its_name(div2k: Path) -> None:
    path = div2k / "DIV2K_train_HR" / "0001.png"
    ok, whole = cv2.imencode(".jpg", smooth(*SIZES[1], seed=1))
    assert ok
    path.unlink()
    path.write_bytes(whole.tobytes()[:-40] + b"\xff\xd9")
    with pytest.raises(UserError, match=r"0001\.png.*before its last pixel"):
        read_div2k_image(find_div2k_images(div2k, [1], [4])[0])


def cut_by_basicsrs_rule(image: RGBArray, crop: int, step: int) -> list[RGBArray]:
    """`extract_subimages.py` of BasicSR with thresh_size 0, spelled out."""
    height, width = image.shape[:2]
    rows = list(np.arange(0, height - crop + 1, step))
    if height - (rows[-1] + crop) > 0:
        rows.append(height - crop)
    columns = list(np.arange(0, width - crop + 1, step))
    if width - (columns[-1] + crop) > 0:
        columns.append(width - crop)
    return [image[y : y + crop, x : x + crop] for y in rows for x in columns]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*_s*.png")}


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 200), crop=st.integers(1, 60), step=st.integers(1, 60))
def test_crops_begin_at_every_step_and_the_last_one_ends_at_the_edge(
    size: int, crop: int, step: int
) -> None:
    if size < crop:
        with pytest.raises(UserError, match=rf"\b{crop}\b.*\b{size}\b"):
            crop_offsets(size, crop, step)
        return
    found = crop_offsets(size, crop, step)
    line = np.repeat(np.arange(size, dtype=np.uint32)[:, None], size, axis=1)
    expected = cut_by_basicsrs_rule(line, crop, step)
    assert found == sorted({int(piece[0, 0]) for piece in expected})
    assert found[-1] + crop == size


@pytest.mark.parametrize("workers", [1, 2])
def test_subimages_names_and_list_are_those_of_basicsr(div2k: Path, workers: int) -> None:
    sources = find_div2k_images(div2k, [1, 2], [2, 3, 4])
    seen: list[tuple[int, int]] = []
    pieces = cut_subimages(
        sources, div2k, "list.txt", workers=workers, progress=lambda *counts: seen.append(counts)
    )
    names = [f"0001_s{n:03d}.png" for n in range(1, 9)] + ["0002_s001.png", "0002_s002.png"]
    assert pieces == len(names)
    assert seen == [(1, 2), (2, 2)]
    assert (div2k / "list.txt").read_text().splitlines() == [f"{n} (480,480,3)" for n in names]
    folders = {1: "DIV2K_train_HR", 2: "DIV2K_train_LR_bicubic/X2"}
    folders |= {scale: f"DIV2K_train_LR_bicubic/X{scale}" for scale in (3, 4)}
    for scale, folder in folders.items():
        suffix = "" if scale == 1 else f"x{scale}"
        wholes = [read_image(div2k / folder / f"{key}{suffix}.png") for key in ("0001", "0002")]
        expected = [
            p for whole in wholes for p in cut_by_basicsrs_rule(whole, 480 // scale, 240 // scale)
        ]
        there = sorted((div2k / f"{folder}_sub").iterdir())
        assert [path.name for path in there] == names
        for path, piece in zip(there, expected, strict=True):
            np.testing.assert_array_equal(read_image(path), piece)


def test_cutting_again_touches_only_images_of_which_something_is_missing(div2k: Path) -> None:
    sources = find_div2k_images(div2k, [1, 2], [4])
    cut_subimages(sources, div2k, "list.txt", workers=1)
    before = stamps(div2k)
    gone = div2k / "DIV2K_train_HR_sub" / "0001_s003.png"
    pixels = {path: read_image(path) for path in before if path.name.startswith("0001_s")}
    gone.unlink()
    other = div2k / "DIV2K_train_HR_sub" / "0001_s001.png"  # as another tool cuts it
    write_image(other, np.zeros((480, 480, 3), np.uint8))
    cut_subimages(sources, div2k, "list.txt", workers=1)
    changed = {path for path, stamp in stamps(div2k).items() if stamp != before[path]}
    assert changed == set(pixels)
    for path, expected in pixels.items():
        np.testing.assert_array_equal(read_image(path), expected)


def test_a_truncated_piece_is_cut_again(div2k: Path) -> None:
    sources = find_div2k_images(div2k, [2], [4])
    cut_subimages(sources, div2k, "list.txt", workers=1)
    broken = div2k / "DIV2K_train_LR_bicubic" / "X4_sub" / "0002_s001.png"
    expected = read_image(broken)
    broken.write_bytes(broken.read_bytes()[:-1])
    cut_subimages(sources, div2k, "list.txt", workers=1)
    np.testing.assert_array_equal(read_image(broken), expected)


def test_the_merged_layout_is_read_and_made_and_never_trained_on_without_its_list(
    div2k: Path,
) -> None:
    for kind in ("HR/0801.png", "LR_bicubic/X4/0801x4.png"):
        (div2k / f"DIV2K_valid_{kind}").rename(div2k / f"DIV2K_train_{kind}")
    cut_subimages(
        find_div2k_images(div2k, [801], [4]), div2k, "meta_info_DIV2K100sub_GT.txt", workers=1
    )
    pairs = find_benchmark("DIV2Ksub", div2k.parent).pairs
    assert pairs.keys == ("0801_s001", "0801_s002")
    with pytest.raises(UserError, match=r"DIV2K_train_HR_sub.*meta_info.*--layout subimages"):
        find_div2k_train(div2k.parent, 4)
    name = "meta_info_DIV2K800sub_GT.txt"
    cut_subimages(find_div2k_images(div2k, [1, 2], [4]), div2k, name, workers=1)
    gt, lr, ann_file = find_div2k_train(div2k.parent, 4)
    keys = ImagePairs(gt, lr, ann_file=ann_file).keys
    assert len(keys) == 10
    assert not any(key.startswith("08") for key in keys)


def test_stores_of_several_scales_share_the_photographs_and_can_be_added_later(
    div2k: Path,
) -> None:
    folder = div2k / "train"
    create_div2k_stores(find_div2k_images(div2k, [1, 2], [4]), folder, workers=1)
    first = (folder / "GT.lmdb" / "data.mdb").stat().st_mtime_ns
    create_div2k_stores(find_div2k_images(div2k, [1, 2], [2, 4]), folder, workers=2)
    assert (folder / "GT.lmdb" / "data.mdb").stat().st_mtime_ns == first
    for scale in (2, 4):
        gt, lr, ann_file = find_div2k_train(div2k.parent, scale)
        assert Path(gt) == folder / "GT.lmdb"
        assert ann_file == ""
        pairs = ImagePairs(gt, lr, scale=scale)
        assert pairs.keys == ("0001", "0002")
        for pair, seed in zip(pairs, (1, 2), strict=True):
            photograph = smooth(*SIZES[seed], seed=seed)
            np.testing.assert_array_equal(np.asarray(pair.gt), photograph)
            np.testing.assert_array_equal(np.asarray(pair.lr), make_lr(photograph, scale))


def test_each_image_is_decoded_once(div2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(path: Path) -> RGBArray:
        read.append(Path(path).name)
        return read_image(path)

    monkeypatch.setattr("srgan_plugin.data.prepare.div2k.read_source_image", noted)
    cut_subimages(find_div2k_images(div2k, [1, 2], [2, 4]), div2k, "list.txt", workers=1)
    every = ["0001.png", "0001x2.png", "0001x4.png", "0002.png", "0002x2.png", "0002x4.png"]
    assert sorted(read) == every


def test_a_low_resolution_image_of_another_photograph_or_size_is_refused(div2k: Path) -> None:
    (source,) = find_div2k_images(div2k, [1], [4])
    lr = div2k / "DIV2K_train_LR_bicubic" / "X4" / "0001x4.png"
    lr.unlink()
    write_image(lr, make_lr(smooth(*SIZES[1], seed=5), 4))
    with pytest.raises(UserError, match=r"0001x4\.png.*0001\.png"):
        read_div2k_image(source)
    write_image(lr, smooth(123, 200, seed=1))
    with pytest.raises(UserError, match=r"4 times.*123x200.*got 492x972"):
        read_div2k_image(source)


def test_missing_images_are_counted_and_a_small_one_is_named(div2k: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"0003\.png: .*all 8 .*got 4;"):
        find_div2k_images(div2k, [1, 2, 3, 4], [4])
    write_image(div2k / "DIV2K_train_HR" / "0003.png", smooth(400, 600, 3))
    write_image(div2k / "DIV2K_train_LR_bicubic" / "X4" / "0003x4.png", smooth(100, 150, 3))
    with pytest.raises(UserError, match=r"0003\.png.*480.*400"):
        cut_subimages(find_div2k_images(div2k, [3], [4]), div2k, "list.txt", workers=1)
    assert not (div2k / "list.txt").exists()


def test_a_full_disk_is_named_and_the_next_call_goes_on(div2k: Path) -> None:
    sources = find_div2k_images(div2k, [1, 2], [4])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"0001_s001\.png"):
            cut_subimages(sources, div2k, "list.txt", workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not stamps(div2k)
    assert not (div2k / "list.txt").exists()
    assert not list((div2k / "DIV2K_train_HR_sub").iterdir())
    assert cut_subimages(sources, div2k, "list.txt", workers=1) == 10


def test_whole_images_are_checked_and_listed(div2k: Path) -> None:
    check_div2k_images(find_div2k_images(div2k, [1, 2], [3]), div2k / "list.txt", workers=1)
    assert (div2k / "list.txt").read_text() == "0001.png (492,972,3)\n0002.png (720,480,3)\n"


def packed(div2k: Path, kind: str, name: str) -> Path:
    """An archive of one of the folders, as the official ones are laid out."""
    file = div2k / f"{name}.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted((div2k / kind).iterdir()):
            archive.write(path, path.relative_to(div2k))
    return file


def test_an_archive_is_unpacked_whole_and_what_is_there_is_left_alone(div2k: Path) -> None:
    archive = Archive("DIV2K_train_HR", range(1, 3), 1)
    packed(div2k, archive.name, archive.name)
    first, second = archive.images(div2k)
    expected = second.read_bytes()
    second.unlink()
    stamp = first.stat().st_mtime_ns
    assert not archive.is_unpacked(div2k)
    unpack(archive, div2k)
    assert archive.is_unpacked(div2k)
    assert second.read_bytes() == expected
    assert first.stat().st_mtime_ns == stamp
    second.write_bytes(expected[:-9])  # as an interrupted unzip leaves it
    unpack(archive, div2k)
    assert second.read_bytes() == expected


def test_a_damaged_or_foreign_archive_is_named_and_leaves_no_half_image(div2k: Path) -> None:
    archive = Archive("DIV2K_train_HR", range(1, 3), 1)
    file = packed(div2k, archive.name, archive.name)
    whole = file.read_bytes()
    for path in archive.images(div2k):
        path.unlink()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for content in (bytes(damaged), whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"DIV2K_train_HR\.zip.*damaged"):
            unpack(archive, div2k)
        assert not archive.is_unpacked(div2k)
        assert not list((div2k / archive.name).glob(".*"))
    file.write_bytes(whole)
    with pytest.raises(UserError, match=r"expected 3 .*got 2; 0003\.png is missing"):
        unpack(archive._replace(numbers=range(1, 4)), div2k)


@pytest.mark.parametrize(("position", "value", "word"), [(8, 1, "encrypted"), (10, 9, "method")])
def test_an_archive_that_python_cannot_decompress_is_refused_in_one_line(
    div2k: Path, position: int, value: int, word: str
) -> None:
    archive = Archive("DIV2K_train_HR", range(1, 3), 1)
    file = packed(div2k, archive.name, archive.name)
    for path in archive.images(div2k):
        path.unlink()
    content = bytearray(file.read_bytes())
    for start, offset in ((b"PK\1\2", position), (b"PK\3\4", position - 2)):
        content[content.index(start) + offset] = value  # Deflate64 is method 9
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{file}: expected .*{word}.*; remove it"):
        unpack(archive, div2k)


def test_no_images_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images: expected at least one, got none"):
        cut_subimages([], tmp_path, "list.txt")


def test_the_official_archives_have_their_published_names() -> None:
    assert [archive.name for archive in archives([4])] == [
        "DIV2K_train_HR",
        "DIV2K_train_LR_bicubic_X4",
        "DIV2K_valid_HR",
        "DIV2K_valid_LR_bicubic_X4",
    ]


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server with archives of 900 tiny pictures under the official names."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    hr = cv2.imencode(".png", np.full((24, 24, 3), 90, np.uint8))[1].tobytes()
    lr = cv2.imencode(".png", np.full((6, 6, 3), 90, np.uint8))[1].tobytes()
    for archive in archives([4]):
        with zipfile.ZipFile(folder / f"{archive.name}.zip", "w") as file:
            for path in archive.images(Path()):
                file.writestr(path.as_posix(), hr if archive.scale == 1 else lr)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_the_tool_fetches_checks_and_stores_everything_by_one_command(
    mirror: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data-root", str(tmp_path / "data"), "--workers", "1"]
    prepare = tool("prepare_div2k").main
    prepare([*arguments, "--download", "--url", mirror])
    assert "ready:" in capfd.readouterr().out
    gt, lr, _ = find_div2k_train(tmp_path / "data", 4)
    assert len(ImagePairs(gt, lr)) == 800
    assert len(list((tmp_path / "data/DIV2K/DIV2K_valid_HR").iterdir())) == 100
    prepare([*arguments, "--layout", "whole"])
    listed = (tmp_path / "data/DIV2K/meta_info_DIV2K800_GT.txt").read_text().splitlines()
    assert len(listed) == 800
    assert listed[-1] == "0800.png (24,24,3)"


def test_the_tool_fails_by_one_line_without_images_and_by_status_2_on_bad_usage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare = tool("prepare_div2k").main
    with pytest.raises(SystemExit) as stop:
        prepare(["--data-root", str(tmp_path)])
    said = capfd.readouterr().err
    assert stop.value.code == 1
    assert "0001.png: " in said
    assert "expected all 1600 images of DIV2K, got 0" in said
    assert said.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        prepare(["--data-root", str(tmp_path), "--scale", "4", "5"])
    assert stop.value.code == 1
    assert capfd.readouterr().err == "error: --scale: expected one of 2, 3, 4, got 5\n"
    for usage in (["--merged"], ["--workers", "0"]):
        with pytest.raises(SystemExit) as stop:
            prepare(usage)
        assert stop.value.code == 2
