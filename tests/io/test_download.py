"""Downloads against a server on loopback that breaks off, forgets and lies as real ones do."""

import contextlib
import hashlib
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from srgan_plugin.errors import UserError
from srgan_plugin.io.download import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at any path but /missing; notes from where each answer began."""

    def __init__(self, *, ranges: bool = True, cut: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.cut = ranges, cut
        self.shift = 0  # of the part that is sent against the one asked for
        self.stall = 0.0  # seconds, in the middle of each 300 kB
        self.offsets: list[int] = []

    def url(self, path: str = "file.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        start = int(wanted[len("bytes=") : -1]) if wanted and self.server.ranges else 0
        start += self.server.shift * bool(start)
        self.server.offsets.append(start)
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            last = len(CONTENT) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(CONTENT)}")
        self.end_headers()
        stop = start + self.server.cut if self.server.cut else len(CONTENT)
        if self.server.stall:
            self.wfile.write(CONTENT[start : start + 300_000])
            time.sleep(self.server.stall)
            start += 300_000
        with contextlib.suppress(ConnectionError):  # it hung up meanwhile
            self.wfile.write(CONTENT[start:stop])

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on the size of files: the full disk that any user can have."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_whole_verified_and_reported(tmp_path: Path, server: Server) -> None:
    seen: list[tuple[int, int]] = []
    target = download(
        server.url(),
        tmp_path / "deep" / "file.bin",
        sha256_prefix=DIGEST[:8],
        progress=lambda *counts: seen.append(counts),
    )
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["file.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_there_is_not_fetched_again(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    download(server.url(), tmp_path / "file.bin", sha256_prefix=DIGEST)
    assert server.offsets == []


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path, server: Server) -> None:
    server.cut = 1_200_000
    assert download(server.url(), tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.offsets == [0, 1_200_000, 2_400_000]


def test_a_later_call_goes_on_from_the_part_file(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1_000_001])
    assert download(server.url(), tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.offsets == [1_000_001]
    assert left(tmp_path) == ["file.bin"]


def test_a_part_file_that_is_whole_already_is_taken(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(server.url(), tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_begins_again(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    assert download(server.url(), tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("shift", [-1000, 1000])
def test_a_part_that_begins_elsewhere_is_not_appended(
    tmp_path: Path, server: Server, shift: int
) -> None:
    server.shift = shift
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1_000_001])
    assert download(server.url(), tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.offsets == [1_000_001 + shift, 0]


def test_a_server_that_always_sends_another_part_is_given_up_with_a_line(
    tmp_path: Path, server: Server
) -> None:
    server.shift, server.cut = 1000, 1_200_000
    with pytest.raises(OSError, match=r"/file\.bin.*bytes 1201000-"):
        download(server.url(), tmp_path / "file.bin")


def test_a_line_that_stalls_after_less_than_a_chunk_gets_on(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srgan_plugin.io.download._TIMEOUT", 0.1)
    server.stall = 0.3
    assert download(server.url(), tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.offsets == list(range(0, 3_000_000, 300_000))


def test_a_server_that_always_breaks_off_is_given_up_with_a_line(
    tmp_path: Path, server: Server
) -> None:
    server.ranges, server.cut = False, 1000
    with pytest.raises(OSError, match=r"/file\.bin.*1000 bytes") as failure:
        download(server.url(), tmp_path / "file.bin")
    assert "\n" not in str(failure.value)
    assert left(tmp_path) == ["file.bin.part"]


def test_a_file_that_is_not_there_and_a_server_that_is_not_are_one_line(
    tmp_path: Path, server: Server
) -> None:
    with pytest.raises(OSError, match=r"/missing.*404.*/a"):
        download(server.url("missing"), tmp_path / "a")
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1/x.*refused"):
        download("http://127.0.0.1:1/x", tmp_path / "b")
    with pytest.raises(ValueError, match=r"https://.*ftp://example\.org/x"):
        download("ftp://example.org/x", tmp_path / "c")


@pytest.mark.parametrize(
    "url",
    ["http://[::1/x", "http://[x]/x", "http:///x", "http://h:99999/x", "http://a..b/x",
     "https://h/\xe9.pth", "ftp://h/x", "s3://bucket/x"],
)  # fmt: skip
def test_what_is_not_a_url_is_refused_by_name(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"expected an http.*, got ") as caught:
        download(url, tmp_path / "x")
    assert repr(url) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_what_has_arrived_for_the_next_call(
    tmp_path: Path, server: Server
) -> None:
    with files_of_at_most(2_000_000), pytest.raises(OSError, match="2000000 bytes"):
        download(server.url(), tmp_path / "file.bin")
    assert download(server.url(), tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.offsets[-1] == 2_000_000


def test_a_file_of_another_hash_is_refused_and_does_not_get_the_name(
    tmp_path: Path, server: Server
) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match=f"0123abcd.*{DIGEST[:8]}"):
            download(server.url(), tmp_path / "file.bin", sha256_prefix="0123abcd")
        assert not (tmp_path / "file.bin").exists()
    assert server.offsets == [0, 0]


def test_of_several_that_ask_at_once_one_fetches(tmp_path: Path, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(download, server.url(), tmp_path / "file.bin") for _ in range(4)]
    assert {job.result() for job in jobs} == {tmp_path / "file.bin"}
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.offsets == [0]
    assert left(tmp_path) == ["file.bin"]
