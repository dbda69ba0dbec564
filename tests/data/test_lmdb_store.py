"""Stores: what is written can be read by others, is whole or absent, and is read lazily."""

import io
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import lmdb
import numpy as np
import PIL.Image
import pytest
from child_process import read_in_child
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.errors import FileError
from srgan_plugin.io import lmdb_store
from srgan_plugin.io.atomic import atomic_directory
from srgan_plugin.io.lmdb_store import ImageStore, StoreWriter

PICTURES = {
    key: np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), dtype=np.uint8)
    for seed, key in enumerate(["b/0002", "0001", "with space (1)", "é"])
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    for layout in ("raw", "png"):
        with StoreWriter(folder / f"{layout}.lmdb", layout) as writer:
            for key, image in PICTURES.items():
                writer.put(key, image)
    return {layout: folder / f"{layout}.lmdb" for layout in ("raw", "png")}


@pytest.fixture(scope="module", params=["raw", "png"])
def store(request: pytest.FixtureRequest, stores: dict[str, Path]) -> ImageStore:
    return ImageStore(stores[request.param])


def test_a_store_gives_back_what_was_put_into_it(store: ImageStore) -> None:
    assert store.keys == tuple(sorted(PICTURES))
    for key, image in PICTURES.items():
        assert store.shape(key) == store[key].shape == image.shape
        np.testing.assert_array_equal(np.asarray(store[key]), image)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_crop_from_a_store_equals_the_same_crop_of_the_whole_image(
    store: ImageStore, data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(PICTURES)))
    part = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda ends: slice(*sorted(ends)))
    window = data.draw(st.tuples(part, part))
    crop = store[key][window]
    assert crop.flags.c_contiguous and crop.flags.owndata and crop.flags.writeable
    np.testing.assert_array_equal(crop, PICTURES[key][window])


def test_the_raw_layout_is_plain_rgb_bytes_and_the_png_layout_is_basicsrs(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    levels = {"raw": "raw", "png": "1"}
    for layout, original in stores.items():
        # A copy, because LMDB lets a process open the original only once.
        path = shutil.copytree(original, tmp_path / layout)
        lines = (path / "meta_info.txt").read_text(encoding="utf-8").splitlines()
        assert lines[:2] == [
            f"0001.png (21,30,3) {levels[layout]}",
            f"b/0002.png (20,30,3) {levels[layout]}",
        ]
        assert sorted(file.name for file in path.iterdir()) == ["data.mdb", "meta_info.txt"]
        with lmdb.open(str(path), readonly=True, lock=False) as other, other.begin() as reading:
            value = reading.get(b"b/0002")
        if layout == "raw":
            assert value == PICTURES["b/0002"].tobytes()
        else:
            decoded = np.asarray(PIL.Image.open(io.BytesIO(value)))
            np.testing.assert_array_equal(decoded, PICTURES["b/0002"])


def test_a_store_as_basicsr_writes_it_is_read_grey_images_too(tmp_path: Path) -> None:
    grey = PICTURES["0001"][..., 0]
    with lmdb.open(str(tmp_path / "x.lmdb"), map_size=1 << 20) as environment:
        buffer = io.BytesIO()
        PIL.Image.fromarray(grey).save(buffer, "PNG")
        with environment.begin(write=True) as writing:
            writing.put(b"baboon", buffer.getvalue())
    (tmp_path / "x.lmdb" / "meta_info.txt").write_text("baboon.png (21,30,1) 1\n")
    store = ImageStore(tmp_path / "x.lmdb")
    assert store.shape("baboon") == (21, 30, 3)
    np.testing.assert_array_equal(np.asarray(store["baboon"]), grey[..., None].repeat(3, axis=2))


def test_a_store_outgrows_its_first_map_by_itself(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    with StoreWriter(tmp_path / "x.lmdb", "raw") as writer:
        for key in "abcde":
            writer.put(key, large)
    store = ImageStore(tmp_path / "x.lmdb")
    for key in "abcde":
        np.testing.assert_array_equal(store[key][100:103, :], large[100:103])


def test_two_readers_of_one_store_live_side_by_side_and_see_it_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.lmdb"
    for value in (1, 2):
        with (
            atomic_directory(path, replace=True) as folder,
            StoreWriter(folder / "s", "raw") as writer,
        ):
            writer.put("a", np.full((2, 2, 3), value, np.uint8))
        first, second = ImageStore(path / "s"), ImageStore(path / "s")
        assert first["a"][:, :].max() == second["a"][:, :].max() == value


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_that_is_open_is_read_in_a_child_process_too(
    store: ImageStore, method: str
) -> None:
    expected = np.asarray(store["0001"]).tobytes()
    child = multiprocessing.get_context(method).Process(
        target=read_in_child, args=(store, expected)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert np.asarray(store["0001"]).tobytes() == expected


def test_a_pickled_store_holds_no_handle_and_no_image(store: ImageStore) -> None:
    np.asarray(store["0001"])
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    np.testing.assert_array_equal(np.asarray(pickle.loads(packed)["0001"]), PICTURES["0001"])


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError])
def test_a_store_that_fails_half_way_leaves_nothing_behind(
    tmp_path: Path, fault: type[BaseException]
) -> None:
    with pytest.raises(fault), StoreWriter(tmp_path / "x.lmdb", "raw") as writer:
        writer.put("a", PICTURES["0001"])
        raise fault
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_not_visible_before_it_is_whole_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "x.lmdb"
    with StoreWriter(path, "raw") as writer:
        writer.put("a", PICTURES["0001"])
        assert not path.exists()
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(FileError, match=r"x\.lmdb exists already"), StoreWriter(path, "raw"):
        pass
    assert (path / "data.mdb").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_replaced_folder_comes_back_when_its_successor_fails(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ValueError), atomic_directory(path, replace=True) as folder:
        (folder / "new").touch()
        raise ValueError
    assert [file.name for file in path.iterdir()] == ["old"]
    with atomic_directory(path, replace=True) as folder:
        (folder / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from srgan_plugin.io.lmdb_store import StoreWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with StoreWriter(sys.argv[1], "raw") as writer:
        for key in "abcdef":
            writer.put(key, np.zeros((400, 400, 3), np.uint8))
except OSError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_is_an_os_error_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "x.lmdb")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("could not write") and "x.lmdb" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def broken_store(path: Path, line: str, value: bytes | None) -> ImageStore:
    with lmdb.open(str(path), map_size=1 << 20) as environment:
        if value is not None:
            with environment.begin(write=True) as writing:
                writing.put(b"a", value)
    (path / "meta_info.txt").write_text(line)
    return ImageStore(path)


@pytest.mark.parametrize(
    ("line", "value", "message"),
    [
        ("a.png (2,2,3) zstd\n", b"", "of no known layout"),
        ("a.png\n", b"", "of no known layout"),
        ("", b"", "the store holds no picture"),
        ("a.png (2,2,3) raw\n", None, "lists a in meta_info.txt, but does not hold it"),
        ("a.png (2,2,3) raw\n", b"12345", "should have 2x2x3 bytes, but has 5"),
        ("a.png (2,2,3) 1\n", b"12345", "^a of .* is not a picture"),
        ("b.png (2,2,3) 1\n", b"12345", "has no picture a"),
    ],
)
def test_a_damaged_store_is_refused_in_one_line(
    tmp_path: Path, line: str, value: bytes | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        broken_store(tmp_path / "x.lmdb", line, value)["a"][:, :]
    assert "x.lmdb" in str(error.value) and "\n" not in str(error.value)


def test_a_store_whose_copy_broke_off_is_refused_before_it_kills_the_process(
    tmp_path: Path, stores: dict[str, Path]
) -> None:
    shutil.copytree(stores["raw"], tmp_path / "x.lmdb")
    os.truncate(tmp_path / "x.lmdb" / "data.mdb", 4096)
    with pytest.raises(ValueError, match=r"is cut short: its pictures have \d+ bytes"):
        ImageStore(tmp_path / "x.lmdb")


def test_a_terminated_process_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import os, signal; from srgan_plugin.io.atomic import atomic_directory\n"
        f"with atomic_directory({str(tmp_path / 'x')!r}) as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), signal.SIGTERM); signal.pause()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_a_link_keeps_leading_to_the_folder_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "old").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "scratch" / "old")
    with atomic_directory(tmp_path / "link", replace=True) as folder:
        assert folder.parent == tmp_path / "scratch"
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "scratch" / "old").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["old"]


def test_what_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        ImageStore(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not a store of pictures: it has no data\.mdb"):
        ImageStore(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"junk" * 3000)
    with pytest.raises(ValueError, match=r"it has no meta_info\.txt"):
        ImageStore(tmp_path)
    (tmp_path / "meta_info.txt").write_text("a.png (2,2,3) raw\n")
    with pytest.raises(ValueError, match="cannot open the store"):
        ImageStore(tmp_path)["a"][:, :]


def test_a_key_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="too long a name for LMDB"),
        StoreWriter(tmp_path / "x.lmdb", "raw") as writer,
    ):
        writer.put("k" * 512, PICTURES["0001"])


def test_pairing_two_encoded_stores_decodes_nothing(tmp_path: Path) -> None:
    for name, (height, width) in (("gt", (84, 120)), ("lr", (21, 30))):
        store = broken_store(tmp_path / name, f"a.png ({height},{width},3) 1\n", b"no picture")
        assert store["a"].shape == (height, width, 3)
    pairs = ImagePairs(tmp_path / "gt", tmp_path / "lr")
    with pytest.raises(ValueError, match=r"a of .*gt"):
        np.asarray(pairs[0].gt)


def test_an_encoded_image_of_another_size_than_listed_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "x", "png") as writer:
        writer.put("a", PICTURES["0001"])
    (tmp_path / "x" / "meta_info.txt").write_text("a.png (8,8,3) 1\n")
    with pytest.raises(ValueError, match=r"21x30, but meta_info.txt says 8x8: make the store"):
        np.asarray(ImageStore(tmp_path / "x")["a"])


def test_threads_may_open_and_read_one_store_at_once(stores: dict[str, Path]) -> None:
    def read(store: ImageStore, key: str) -> np.ndarray:
        together.wait()
        return np.asarray(store[key])

    threads = 8
    together = Barrier(threads)
    keys = [*PICTURES] * (threads // len(PICTURES))
    with ThreadPoolExecutor(threads) as pool:
        for round_ in range(30):
            one, other = (ImageStore(stores["raw" if round_ % 2 else "png"]) for _ in range(2))
            sources = [one, other] * (threads // 2)
            for key, image in zip(keys, pool.map(read, sources, keys), strict=True):
                np.testing.assert_array_equal(image, PICTURES[key])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_reads_though_a_thread_held_the_lock_when_it_was_forked(
    store: ImageStore,
) -> None:
    with lmdb_store._Lock.one_at_a_time:
        child = multiprocessing.get_context("fork").Process(
            target=read_in_child, args=(store, PICTURES["0001"].tobytes())
        )
        child.start()
    child.join(60)
    assert child.exitcode == 0
