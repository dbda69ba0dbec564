"""Stores: what is written can be read by others, is whole or absent, and is read lazily."""

import io
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import zlib
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
from srgan_plugin.errors import FileError, UserError
from srgan_plugin.io.atomic import atomic_directory, write_text
from srgan_plugin.io.lmdb_store import ImageStore
from srgan_plugin.io.lmdb_writer import StoreWriter
from srgan_plugin.io.writers import encode_png

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
    assert crop.flags.c_contiguous
    assert crop.flags.owndata
    assert crop.flags.writeable
    np.testing.assert_array_equal(crop, PICTURES[key][window])


def test_the_raw_layout_is_plain_rgb_bytes_and_the_png_layout_is_basicsrs(
    stores: dict[str, Path],
) -> None:
    levels = {"raw": "raw", "png": "1"}
    for layout, original in stores.items():
        path = original
        with lmdb.open(str(path), readonly=True, lock=False) as other, other.begin() as reading:
            values = {key.decode(): value for key, value in reading.cursor()}
        lines = (path / "meta_info.txt").read_text(encoding="utf-8").splitlines()
        assert lines[:2] == [
            f"0001.png (21,30,3) {levels[layout]} crc32={zlib.crc32(values['0001']):08x}",
            f"b/0002.png (20,30,3) {levels[layout]} crc32={zlib.crc32(values['b/0002']):08x}",
        ]
        assert sorted(file.name for file in path.iterdir()) == ["data.mdb", "meta_info.txt"]
        value = values["b/0002"]
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
    with pytest.raises(FileError, match=r"x\.lmdb.*exists already"), StoreWriter(path, "raw"):
        pass
    assert (path / "data.mdb").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_replaced_folder_comes_back_when_its_successor_fails(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(LookupError), atomic_directory(path, replace=True) as folder:
        (folder / "new").touch()
        raise LookupError
    assert [file.name for file in path.iterdir()] == ["old"]
    with atomic_directory(path, replace=True) as folder:
        (folder / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from srgan_plugin.io.lmdb_writer import StoreWriter
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
    assert "x.lmdb: expected to write a store" in done.stderr
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
        ("a.png (2,2,3) zstd\n", b"", r"meta_info.txt.*a\.png \(2,2,3\) zstd"),
        ("a.png\n", b"", r"meta_info.txt.*'a\.png'"),
        ("", None, "expected images, got none"),
        ("", b"12345", "meta_info.txt.* a "),
        ("a.png (2,2,3) raw\n", None, "expected a of meta_info.txt in data.mdb"),
        ("a.png (2,2,3) raw\n", b"12345", "2x2x3 bytes, got 5"),
        ("a.png (2,2,3) raw crc32=00000000\n", b"123456789012", "^a of .*CRC-32"),
        ("a.png (2,2,3) 1\n", b"12345", "^a of .*PNG"),
        ("b.png (2,2,3) 1\n", b"12345", "expected b of meta_info.txt in data.mdb"),
        pytest.param(
            "a.png (8,8,3) 1\n",
            encode_png(PICTURES["0001"]),
            r"8x8 .*meta_info.txt.*21x30",
            id="another size",
        ),
        pytest.param(f"a.png ({'9' * 5000},8,3) raw\n", b"", "meta_info.txt", id="digits"),
    ],
)
def test_a_damaged_store_is_refused_in_one_line(
    tmp_path: Path, line: str, value: bytes | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        broken_store(tmp_path / "x.lmdb", line, value)["a"][:, :]
    assert "x.lmdb" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def larger_store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stores whose tree has branches, with values on pages of their own and within the tree's."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("larger")
    for layout in ("raw", "png"):
        with StoreWriter(folder / layout, layout) as writer:
            for number in range(120):
                size = (4, 5, 3) if number % 2 else (40, 44, 3)
                name = f"{number:03}_of_a_rather_long_name_that_fills_the_pages_of_the_tree" * 3
                writer.put(name, rng.integers(0, 256, size, np.uint8))
    return {layout: folder / layout for layout in ("raw", "png")}


def images_of(path: Path) -> dict[str, bytes]:
    store = ImageStore(path)
    return {key: np.asarray(store[key]).tobytes() for key in store.keys}


@pytest.mark.parametrize("layout", ["raw", "png"])
@pytest.mark.parametrize("fault", ["cut", "flip", "meta_info.txt"])
def test_a_damaged_file_is_refused_by_name_or_harmless(
    larger_store: dict[str, Path], tmp_path: Path, layout: str, fault: str
) -> None:
    path = larger_store[layout]
    expected, refused = images_of(path), 0
    name = fault if fault == "meta_info.txt" else "data.mdb"
    rng, content = np.random.default_rng(2), (path / name).read_bytes()
    copy = tmp_path / "x.lmdb"
    shutil.copytree(path, copy)
    for position in rng.integers(0, len(content), 60):
        damaged = bytearray(content)
        if fault == "cut":
            del damaged[position:]
        else:
            damaged[position] ^= 1 << int(rng.integers(8))
        (copy / name).write_bytes(damaged)
        try:
            assert images_of(copy) == expected
        except UserError as error:
            assert "x.lmdb" in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30 or fault == "flip"


@pytest.mark.parametrize("layout", ["raw", "png"])
def test_lines_lost_from_the_list_are_missed(
    stores: dict[str, Path], tmp_path: Path, layout: str
) -> None:
    path = shutil.copytree(stores[layout], tmp_path / "x.lmdb")
    lines = (path / "meta_info.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (path / "meta_info.txt").write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.lmdb.*0001"):
        ImageStore(path)


ANY_NAME = st.text(
    st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: len(name.encode()) < 512)


@settings(max_examples=30, deadline=None)
@given(names=st.sets(ANY_NAME, min_size=1, max_size=5))
def test_any_name_of_one_line_is_kept(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    path = tmp_path_factory.mktemp("names") / "x.lmdb"
    with StoreWriter(path, "raw") as writer:
        for name in names:
            writer.put(name, PICTURES["0001"])
    assert images_of(path) == dict.fromkeys(names, PICTURES["0001"].tobytes())


@pytest.mark.parametrize(
    ("name", "message"), [("a\nb", r"'a\\nb'"), ("k" * 512, "kkk.*511"), ("\udcff", "UTF-8")]
)
def test_a_name_that_a_store_cannot_keep_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    with (
        pytest.raises(UserError, match=message),
        StoreWriter(tmp_path / "x.lmdb", "raw") as writer,
    ):
        writer.put(name, PICTURES["0001"])


def test_a_store_that_was_replaced_is_not_read_by_a_process_that_opens_it_later(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    path = shutil.copytree(stores["raw"], tmp_path / "x.lmdb")
    store = ImageStore(path)
    sent = pickle.dumps(store)
    with atomic_directory(path, replace=True) as folder:
        shutil.copytree(stores["raw"], folder, dirs_exist_ok=True)
    np.testing.assert_array_equal(np.asarray(store["0001"]), PICTURES["0001"])  # still mapped
    with pytest.raises(UserError, match=r"x\.lmdb.*replaced"):
        np.asarray(pickle.loads(sent)["0001"])


def test_a_smaller_store_in_the_place_of_an_open_one_is_not_called_shortened(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    path = shutil.copytree(stores["raw"], tmp_path / "x.lmdb")
    store = ImageStore(path)
    with StoreWriter(tmp_path / "small.lmdb", "raw") as writer:
        writer.put("0001", PICTURES["0001"][:4, :4])
    with atomic_directory(path, replace=True) as folder:
        shutil.copytree(tmp_path / "small.lmdb", folder, dirs_exist_ok=True)
    store.check_length()
    np.testing.assert_array_equal(np.asarray(store["0001"]), PICTURES["0001"])


def test_a_store_is_found_from_another_folder_and_named_if_it_is_gone(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(stores["raw"], tmp_path / "x.lmdb")
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(ImageStore("x.lmdb"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(np.asarray(pickle.loads(sent)["0001"]), PICTURES["0001"])
    (tmp_path / "x.lmdb/data.mdb").unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.lmdb/data\.mdb: expected the store"):
        np.asarray(pickle.loads(sent)["0001"])


def test_a_line_that_is_in_the_list_twice_is_named(stores: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(stores["raw"], tmp_path / "x.lmdb")
    text = (path / "meta_info.txt").read_text(encoding="utf-8")
    (path / "meta_info.txt").write_text(text + text.splitlines()[0], encoding="utf-8")
    with pytest.raises(UserError, match="expected one line for each key, got two for 0001"):
        ImageStore(path)


def test_a_store_that_became_shorter_while_open_is_named(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    path = shutil.copytree(stores["raw"], tmp_path / "x.lmdb")
    store = ImageStore(path)
    store.check_length()
    size = (path / "data.mdb").stat().st_size
    os.truncate(path / "data.mdb", size - 4096)
    with pytest.raises(UserError, match=rf"x\.lmdb.*{size}.*{size - 4096}"):
        store.check_length()


def test_a_terminated_process_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import os, signal; from srgan_plugin.io.atomic import atomic_directory, write_text\n"
        f"with atomic_directory({str(tmp_path / 'x')!r}) as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), signal.SIGTERM); signal.pause()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 143
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from srgan_plugin.io.atomic import atomic_directory, write_text
rename, count = Path.rename, int(sys.argv[2])

def rename_or_die(self, target):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

Path.rename = rename_or_die
with atomic_directory(sys.argv[1], replace=True) as folder:
    (folder / "new").touch()
"""


@pytest.mark.parametrize("renamings", [1, 2])  # the first gives the temporary folder its name
def test_what_a_killed_writer_replaced_or_left_is_restored_or_removed_by_the_next(
    tmp_path: Path, renamings: int
) -> None:
    path = tmp_path / "x[1]"
    path.mkdir()
    (path / "old").touch()
    command = [sys.executable, "-c", KILLED, str(path), str(renamings)]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(FileError, match=r"x\[1\]"), atomic_directory(path):
        pass
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_being_written_is_not_removed_by_another_writer(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "a") as folder, atomic_directory(tmp_path / "b"):
        (folder / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a" / "file").exists()


def test_a_file_behind_a_link_is_written_and_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    write_text("new", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="pipe"):
        write_text("new", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


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
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageStore(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"data\.mdb"):
        ImageStore(tmp_path)
    (tmp_path / "data.mdb").touch()
    with pytest.raises(UserError, match=r"meta_info\.txt"):
        ImageStore(tmp_path)
    (tmp_path / "meta_info.txt").write_text("a.png (2,2,3) raw\n")
    for content in (b"", b"j", b"junk" * 3000):
        (tmp_path / "data.mdb").write_bytes(content)
        with pytest.raises(UserError, match=r"data\.mdb"):
            ImageStore(tmp_path)


def test_pairing_two_encoded_stores_decodes_nothing(tmp_path: Path) -> None:
    for name, (height, width) in (("gt", (84, 120)), ("lr", (21, 30))):
        store = broken_store(tmp_path / name, f"a.png ({height},{width},3) 1\n", b"no picture")
        assert store["a"].shape == (height, width, 3)
    pairs = ImagePairs(tmp_path / "gt", tmp_path / "lr")
    with pytest.raises(ValueError, match=r"a of .*gt"):
        np.asarray(pairs[0].gt)


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
