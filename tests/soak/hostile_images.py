"""Images made to harm, and what only has an image's name: one line each, and the others are done.

    python tests/soak/hostile_images.py --count 120 --seed 0

Each file lies in a folder beside a good image. `upscale FOLDER` gets a dozen of them at a time and
must do the good ones; `create_store` and `prepare_benchmarks` get one at a time and must refuse it
by name or take it. Each tool runs in a forked process and must end by itself with status 0 or 1,
without a stack trace or a leftover, within 20 s and 1 GB.
"""

import argparse
import io
import os
import random
import shutil
import socket
import struct
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import torch
from hostile_checkpoints import BYTES, SECONDS, Run, run

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import create_store  # type: ignore[import-not-found]  # noqa: E402
import prepare_benchmarks  # type: ignore[import-not-found]  # noqa: E402

# Imported here once, not in each process.
import srgan_plugin.data.prepare.benchmark_sets  # noqa: E402
import srgan_plugin.data.prepare.stores  # noqa: E402
import srgan_plugin.inference.batch  # noqa: E402, F401
from srgan_plugin.__main__ import main as srgan_plugin_main  # noqa: E402
from srgan_plugin.networks import MSRResNet  # noqa: E402

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".bmp": "BMP"}


def photograph(seed: int = 0, size: int = 36) -> PIL.Image.Image:
    """Return smooth noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return PIL.Image.fromarray(pixels).resize((size, size), PIL.Image.Resampling.BICUBIC)


def encoded(image: PIL.Image.Image, suffix: str, **options: Any) -> bytes:
    """Return an image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, FORMATS[suffix], **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Each maker puts one thing into a folder, and returns whether a tool must refuse it: True, or None
# where the tool may take it.
Maker = Callable[[random.Random, Path, str], bool | None]


def special(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """What is no file: opening it may wait for ever."""
    path = folder / f"{stem}.png"
    kind = rng.choice(["pipe", "zero", "random", "socket", "pagemap", "linked pipe", "tty"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "linked pipe":
        os.mkfifo(folder / f"{stem}.pipe")
        path.symlink_to(f"{stem}.pipe")
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(folder)
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.chdir(here)
    else:
        path.symlink_to(
            {"zero": "/dev/zero", "random": "/dev/urandom", "tty": "/dev/ptmx"}.get(
                kind, "/proc/self/pagemap"
            )
        )
    return True


def links(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """Links to themselves, to nothing, round in circles."""
    path = folder / f"{stem}.png"
    kind = rng.choice(["itself", "nothing", "circle", "up", "pair"])
    if kind == "itself":
        path.symlink_to(path.name)
    elif kind == "nothing":
        path.symlink_to("nowhere.png")
    elif kind == "circle":
        (folder / f"{stem}.a").symlink_to(f"{stem}.b")
        (folder / f"{stem}.b").symlink_to(f"{stem}.a")
        path.symlink_to(f"{stem}.a")
    elif kind == "up":
        (folder / f"{stem}_up").symlink_to("..")
        return None
    else:
        for one, other in ("ab", "ba"):
            (folder / f"{stem}_{one}").mkdir()
            (folder / f"{stem}_{one}" / "link").symlink_to(f"../{stem}_{other}")
        return None
    return True


def claims(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """A few bytes whose header claims a huge image."""
    suffix = rng.choice([".png", ".jpg", ".webp", ".tif", ".bmp"])
    width, height = rng.choice([(12_000, 12_000), (65_000, 60_000), (2**31 - 1, 1), (2**31, 2)])
    content = bytearray(encoded(photograph(), suffix))
    if suffix == ".png":
        header = struct.pack(">II", width, height) + content[24:29]
        content[8:33] = chunk(b"IHDR", header)
    elif suffix == ".jpg":
        at = content.index(b"\xff\xc0") + 5
        struct.pack_into(">HH", content, at, min(height, 65_500), min(width, 65_500))
    elif suffix == ".webp":
        side = 16_383
        # With one colour alone it would be whole.
        image = rng.choice([photograph(size=8), PIL.Image.new("RGB", (8, 8))])
        content = bytearray(encoded(image, suffix, lossless=rng.random() < 0.5))
        if content[12:16] == b"VP8L":
            struct.pack_into("<I", content, 21, (side - 1) << 14 | (side - 1))
        else:
            struct.pack_into("<HH", content, 26, side, side)
    elif suffix == ".tif":
        for tag, value in ((256, width), (257, height)):
            place = content.index(struct.pack("<HH", tag, 4), 8)
            struct.pack_into("<I", content, place + 8, value)
    else:
        struct.pack_into("<ii", content, 18, min(width, 2**31 - 1), height)
    (folder / f"{stem}{suffix}").write_bytes(content)
    return True


def kinds(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """Animations, pages, colours that are not RGB, one colour that means transparency."""
    image, other = photograph(1), photograph(2)
    lab = PIL.ImageCms.profileToProfile(
        image,
        PIL.ImageCms.createProfile("sRGB"),
        PIL.ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    suffix, content = rng.choice(
        [
            (suffix, encoded(image, suffix, save_all=True, append_images=[other]))
            for suffix in (".png", ".webp", ".tif")
        ]
        + [
            (".jpg", encoded(image.convert("CMYK"), ".jpg")),
            (".tif", encoded(image.convert("CMYK"), ".tif")),
            (".tif", encoded(lab, ".tif")),
            (".tif", encoded(image.convert("YCbCr"), ".tif")),
            (".tif", encoded(image.convert("F"), ".tif")),
        ]
    )
    (folder / f"{stem}{suffix}").write_bytes(content)
    return True


def cut(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """A JPEG file that ends in its pixels, closed as if it were whole."""
    options = rng.choice(
        [{"quality": 90}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}]
    )
    content = encoded(photograph(rng.randrange(99), 90), ".jpg", **options)
    start = content.index(b"\xff\xda") + 14
    at = rng.randrange(start, len(content) - 3)
    content = content[:at].rstrip(b"\xff") + b"\xff\xd9"
    (folder / f"{stem}.jpg").write_bytes(content)
    return True


def names(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """Good images of bad names."""
    name = rng.choice(
        [
            b"\xff\xfe",
            b"\n",
            "\N{LINE SEPARATOR}".encode(),
            b" ",
            b"-rf",
            b"%s{0}",
            b"*?[",
            b"x" * 200,
        ]
    )
    path = os.fsencode(folder) + b"/" + stem.encode() + name + b".png"
    with open(path, "wb") as file:  # noqa: PTH123 - of bytes that are no text
        file.write(encoded(photograph(), ".png"))
    return None


def damaged(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """A good file with flipped bits, lost bytes, or a part twice."""
    suffix = rng.choice(list(FORMATS))
    content = bytearray(encoded(photograph(rng.randrange(99)), suffix))
    for _ in range(rng.choice([1, 4, 40])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    at = rng.randrange(len(content))
    content = rng.choice([content, content[:at], content[:at] + content[at // 2 :]])
    (folder / f"{stem}{suffix}").write_bytes(content)
    return None


def no_images(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """Nothing, text, another format, an endless hole, a folder."""
    path = folder / f"{stem}.png"
    kind = rng.choice(["empty", "text", "gif", "hole", "zip"])
    path.write_bytes({"text": b"<svg/>", "gif": b"GIF89a" + bytes(99), "zip": b"PK"}.get(kind, b""))
    if kind == "hole":
        os.truncate(path, 2**42)
    return True


def bombs(rng: random.Random, folder: Path, stem: str) -> bool | None:
    """Text and profiles that unpack to 200 MB, very many chunks, directories in circles."""
    kind = rng.choice(["text", "profile", "chunks", "circle", "tags"])
    content, suffix = encoded(photograph(), ".png"), ".png"
    if kind in ("text", "profile"):
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(bytes(10**7)) for _ in range(20)) + packer.flush()
        one = chunk(b"zTXt" if kind == "text" else b"iCCP", b"x\0\0" + packed)
    elif kind == "chunks":
        one = chunk(b"tEXt", b"k\0v") * 100_000
    else:
        content, suffix, one = encoded(photograph(), ".tif"), ".tif", b""
        (place,) = struct.unpack_from("<I", content, 4)
        (count,) = struct.unpack_from("<H", content, place)
        end = place + 2 + 12 * count
        if kind == "circle":
            content = content[:end] + struct.pack("<I", place) + content[end + 4 :]
        else:
            content = content[:place] + struct.pack("<H", 65_535) + content[place + 2 :]
    if one:
        content = content[:33] + one + content[33:]
    (folder / f"{stem}{suffix}").write_bytes(content)
    return None


MAKERS: tuple[Maker, ...] = (
    special,
    links,
    claims,
    kinds,
    cut,
    names,
    damaged,
    no_images,
    bombs,
)


def said(done: Run) -> int:
    """Return the number of errors that a tool told."""
    return sum(line.startswith("error: ") for line in done.said.split("\n"))


def faults(done: Run, start_up: int, harmful: list[str]) -> list[str]:
    """Return what was wrong with how a tool ended; `harmful`: stems that it must name."""
    lines = [line for line in done.said.split("\n") if line.startswith("error: ")]
    found = [f"{stem} not refused" for stem in harmful if not any(stem in line for line in lines)]
    if done.status not in (0, 1):
        found.append(f"status {done.status}")
    if "Traceback" in done.said:
        found.append("stack trace")
    if (done.status == 1) != bool(lines):
        found.append("no message")
    if done.seconds > SECONDS:
        found.append(f"{done.seconds:.0f} s")
    if done.peak - start_up > BYTES:
        found.append(f"{(done.peak - start_up) / 1e9:.1f} GB")
    return found


class Soak:
    """Runs tools in a folder, and counts how they end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.ended: Counter[str] = Counter()
        self.wrong = 0
        self.slowest, self.largest = 0.0, 0
        self.start_up = run(lambda: None, self.log).peak

    def check(
        self, what: str, main: Callable[[list[str]], None], arguments: list[str], harmful: list[str]
    ) -> Run:
        """Run a tool, print what was wrong, and remove what it made."""
        done = run(lambda: main(arguments), self.log)
        found = faults(done, self.start_up, harmful)
        found += [f"left {path.name}" for path in self.folder.glob("**/.*.tmp*")]
        self.slowest = max(self.slowest, done.seconds)
        self.largest = max(self.largest, done.peak - self.start_up)
        self.fault(what, done, *found)
        return done

    def fault(self, what: str, done: Run, *found: str) -> None:
        """Count and print faults."""
        if found:
            self.wrong += 1
            last = (done.said.strip().splitlines() or [""])[-1][:300]
            print(f"{what}: {', '.join(found)}: {last}", flush=True)


def batch(soak: Soak, seed: int, numbers: range) -> None:
    """Give each file to the tools that make data, and all of them to `upscale`."""
    good = encoded(photograph(), ".png")
    alone, together, out = (soak.folder / name for name in ("alone", "together", "out"))
    together.mkdir()
    goods = ("0_good.png", "z_good.png")
    for name in goods:
        (together / name).write_bytes(good)
    harmful = []
    for number in numbers:
        maker = MAKERS[number % len(MAKERS)]
        stem = f"{maker.__name__}_{number}"
        alone.mkdir()
        (alone / "good.png").write_bytes(good)
        for folder in (alone, together):
            must = bool(maker(random.Random(f"{seed} {number}"), folder, stem))
        for tool, option in ((create_store, "--out"), (prepare_benchmarks, "--data-root")):
            name = tool.__name__
            arguments = [str(alone), option, str(out), "--workers", "1"]
            done = soak.check(f"{name} {stem}", tool.main, arguments, [stem] * must)
            soak.ended[f"{name} {maker.__name__}: status {done.status}"] += 1
            if said(done) > 1:
                soak.fault(f"{name} {stem}", done, "more than one line")
            shutil.rmtree(out, ignore_errors=True)
        # `upscale` takes no BMP files.
        harmful += [stem] * (must and not (alone / f"{stem}.bmp").exists())
        shutil.rmtree(alone)
    what = f"upscale {numbers}"
    arguments = ["upscale", str(together), str(out), "--model", str(soak.folder / "weights.pth")]
    done = soak.check(what, srgan_plugin_main, arguments, harmful)
    soak.ended["upscale: batches"] += 1
    soak.ended["upscale: lines"] += said(done)
    soak.ended["upscale: files that must fail"] += len(harmful)
    if not all((out / name).is_file() for name in goods) or said(done) > len(numbers):
        soak.fault(what, done, "BATCH LOST")
    shutil.rmtree(together)
    shutil.rmtree(out, ignore_errors=True)


def main() -> None:
    """Make the files, run the tools, print each fault and a summary; status 1 if there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        soak = Soak(Path(temporary))
        weights = MSRResNet(mid_channels=4, num_blocks=1).state_dict()
        torch.save(weights, soak.folder / "weights.pth")
        for first in range(0, args.count, 12):
            batch(soak, args.seed, range(first, min(first + 12, args.count)))
    for name, count in sorted(soak.ended.items()):
        print(f"{name:50s} {count}")
    print(f"slowest {soak.slowest:.1f} s, largest {soak.largest / 1e6:.0f} MB beyond start-up")
    print(f"{args.count} files, three tools each: {soak.wrong} faults")
    if soak.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
