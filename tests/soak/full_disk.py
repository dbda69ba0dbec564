"""Every writer on a disk that is full, read-only or closed: what was there stays, one line is said.

    python tests/soak/full_disk.py [--writers upscale,store] [--limits]

Each tool writes its file once, and once more when there is no room for it, or no permission. The
second time it must end with status 1 and one line, leave the first file as it was and nothing
beside it. Root gives each tool a disk of its own in memory (tmpfs) and runs it as the user 65534;
others, and root where it cannot mount, limit the size of files instead.
"""

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from hostile_checkpoints import Run, run

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import convert_checkpoint  # type: ignore[import-not-found]  # noqa: E402
import create_store  # type: ignore[import-not-found]  # noqa: E402
import export  # type: ignore[import-not-found]  # noqa: E402
import prepare_benchmarks  # type: ignore[import-not-found]  # noqa: E402
import publish_model  # type: ignore[import-not-found]  # noqa: E402
import test as measure  # type: ignore[import-not-found]  # noqa: E402 - tools/test.py
import train  # type: ignore[import-not-found]  # noqa: E402

# Imported here once, not in each process.
import srgan_plugin.data.prepare.benchmark_sets  # noqa: E402
import srgan_plugin.data.prepare.stores  # noqa: E402
import srgan_plugin.inference.batch  # noqa: E402, F401
from srgan_plugin.__main__ import main as srgan_plugin_main  # noqa: E402
from srgan_plugin.networks import MSRResNet  # noqa: E402

NOBODY = 65534
ROOM = 16 << 20
Writer = tuple[Callable[[list[str]], None], list[str]]


def writers(inputs: Path, disk: Path) -> dict[str, Writer]:
    """Return each tool with arguments that make it write to `disk`."""
    image, photographs, weights = (
        str(inputs / name) for name in ("photographs/a.png", "photographs", "weights.pth")
    )
    upscale = ["upscale", "--model", weights, "--overwrite"]
    store = [photographs, "--out", f"{disk}/store", "--force", "--workers", "1", "--layout"]
    results = [str(ROOT / "configs/bicubic_x4.py"), "none", "--work-dir", f"{inputs}/work"]
    return {
        "upscale png": (srgan_plugin_main, [*upscale, image, f"{disk}/a.png"]),
        "upscale jpg": (srgan_plugin_main, [*upscale, image, f"{disk}/a.jpg"]),
        "upscale webp": (srgan_plugin_main, [*upscale, image, f"{disk}/a.webp"]),
        "upscale tif": (srgan_plugin_main, [*upscale, image, f"{disk}/a.tif"]),
        "upscale folder": (srgan_plugin_main, [*upscale, photographs, f"{disk}/images/"]),
        "store raw": (create_store.main, [*store, "raw"]),
        "store png": (create_store.main, [*store, "png"]),
        "convert pth": (convert_checkpoint.main, [weights, f"{disk}/a.pth", "--to", "mmagic"]),
        "convert safetensors": (
            convert_checkpoint.main,
            [weights, f"{disk}/a.safetensors", "--to", "plugin"],
        ),
        "export onnx": (export.main, [weights, f"{disk}/a.onnx"]),
        "export safetensors": (export.main, [weights, f"{disk}/a.safetensors"]),
        "publish": (publish_model.main, [weights, f"{disk}/a.pth"]),
        "benchmark set": (
            prepare_benchmarks.main,
            [photographs, "--data-root", f"{disk}/data", "--workers", "1"],
        ),
        "results": (measure.main, [*results, "--out", f"{disk}/results.json"]),
        "train": (train.main, [str(inputs / "train.py"), "--work-dir", f"{disk}/run"]),
    }


def make_inputs(folder: Path) -> None:
    """Make two images, as the set Set5, too, weights, and configs."""
    (folder / "photographs").mkdir()
    for name, seed in (("a.png", 0), ("b.png", 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 72, 3), np.uint8)
        cv2.imwrite(str(folder / "photographs" / name), pixels)
    shutil.copytree(folder / "photographs", folder / "Set5")
    torch.save(MSRResNet(mid_channels=16, num_blocks=1).state_dict(), folder / "weights.pth")
    (folder / "train.py").write_text(
        f"_base_ = {str(ROOT / 'configs/msrresnet_x4c64b16_g1_1000k_div2k.py')!r}\n"
        "model = dict(generator=dict(mid_channels=16, num_blocks=1))\n"
        "train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False,\n"
        f"    pin_memory=False, dataset=dict(gt={str(folder / 'photographs')!r}))\n"
        "train_dataloader['dataset']['pipeline'] = [\n"
        "    dict(type='PairedRandomCrop', gt_patch_size=32), dict(type='PackInputs')]\n"
        "train_cfg = dict(max_iters=4)\n"
        "val_dataloader = val_cfg = val_evaluator = None\n"
        "test_dataloader = test_cfg = test_evaluator = None\n"
        "default_hooks = dict(checkpoint=dict(interval=1, save_best=None))\n"
    )


def has_own_mounts() -> bool:
    """Give this process mounts of its own, if it may: they go with it, however it ends."""
    new_namespace = 0x00020000
    return (
        os.geteuid() == 0
        and not ctypes.CDLL(None).unshare(new_namespace)
        and not subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode
    )


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Make a small disk in memory; yield whether that was possible."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=777", "tmpfs", str(folder)]
    mounted = not subprocess.run(mount, check=False, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, logs and locks of runs excepted."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (
            path.is_file()
            and path.suffix not in (".log", ".json", ".py", ".filler")
            and path.name != ".lock"
        )
        or path.name == "results.json"
    }


def fill(folder: Path, room: int) -> None:
    """Leave that many bytes."""
    with (folder / "x.filler").open("wb", 0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        file.truncate(max(file.tell() - room, 0))


def become_nobody() -> None:
    """Give up root's rights, but for reading: Python itself may lie in root's home."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep_capabilities, version_3, read_and_search = 8, 0x20080522, 1 << 2
    libc.prctl(keep_capabilities, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    rights = struct.pack("6I", read_and_search, read_and_search, 0, 0, 0, 0)
    if libc.capset(struct.pack("Ii", version_3, 0), rights):
        raise OSError(ctypes.get_errno(), "capset")


def as_nobody(writer: Writer, limit: int | None) -> Callable[[], None]:
    """Return what runs a tool without root's rights, and with small files where `limit` says so."""

    def tool() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if os.geteuid() == 0:
            become_nobody()
        main, arguments = writer
        main(arguments)

    return tool


def faults(
    done: Run, before: dict[str, bytes], after: dict[str, bytes], *, part: bool, several: bool
) -> list[str]:
    """Return what was wrong.

    Args:
        done: How the tool ended.
        before: The files that were there.
        after: The files that are there.
        part: Whether files that are complete may have been added.
        several: Whether there may be a line for each file, as where files are limited in size: a
            smaller one may fit.
    """
    lines = [line for line in done.said.split("\n") if line.startswith("error: ")]
    found = [] if done.status == 1 else [f"status {done.status}"]
    found += [] if len(lines) == 1 or (several and lines) else [f"{len(lines)} lines"]
    found += ["no file named"] * ("/" not in "".join(lines))
    found += ["stack trace"] * ("Traceback" in done.said)
    found += [f"{name} changed" for name, old in before.items() if after.get(name) != old]
    added = sorted(after.keys() - before.keys())
    found += [f"left {name}" for name in added if not part or ".tmp" in name]
    return found


def spoil(kind: str, folder: Path, mounted: bool) -> None:
    """Take the room or the permission."""
    if kind == "full" and mounted:
        fill(folder, 0)
    elif kind == "nearly full" and mounted:
        fill(folder, 4096)
    elif kind == "read-only" and mounted:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    elif kind in ("no permission", "read-only"):
        for path in [*folder.rglob("*"), folder]:
            if path.is_dir():
                path.chmod(0o555)


def check(name: str, kind: str, inputs: Path, temporary: Path, *, make_disks: bool) -> list[str]:
    """Run a tool twice, the second time without room; return what was wrong."""
    folder = temporary / "disk"
    folder.mkdir()
    folder.chmod(0o777)
    log = temporary / "log"
    try:
        with disk(folder) if make_disks else contextlib.nullcontext(False) as mounted:
            writer = writers(inputs, folder)[name]
            first = run(as_nobody(writer, None), log)
            if first.status:
                return [f"cannot be tried: {first.said[-600:]}"]
            if name == "benchmark set":  # it makes what is missing
                shutil.rmtree(folder / "data/photographs/LRbicx2")
            if name == "train":
                more = ["--resume", "--cfg-options", "train_cfg.max_iters=8"]
                writer = (writer[0], writer[1] + more)
            before = contents(folder)
            spoil(kind, folder, mounted)
            limit = 1000 if "full" in kind and not mounted else None
            done = run(as_nobody(writer, limit), log)
            part = name == "upscale folder"
            part |= name in ("benchmark set", "train") and "full" in kind
            several = name == "upscale folder" and limit is not None
            found = faults(done, before, contents(folder), part=part, several=several)
            return [*found, done.said.strip()[-300:]] if found else []
    finally:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o777)
        shutil.rmtree(folder)


def main() -> None:
    """Try every writer; print each fault and a summary; status 1 if there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--writers", help="names, separated by commas (default: all)")
    parser.add_argument(
        "--limits", action="store_true", help="limit the size of files, also as root"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_disks = not args.limits and has_own_mounts()
    wrong = tried = 0
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        temporary.chmod(0o755)
        inputs = temporary / "inputs"
        inputs.mkdir()
        inputs.chmod(0o777)
        make_inputs(inputs)
        os.environ |= {"HOME": name, "SRGAN_DATA": str(inputs)}
        chosen = args.writers.split(",") if args.writers else writers(inputs, temporary)
        for writer in chosen:
            for kind in ("full", "nearly full", "read-only", "no permission"):
                if kind != "full" and "full" not in kind and os.geteuid() and kind == "read-only":
                    continue  # the same as no permission
                if (writer, kind) == ("results", "nearly full"):
                    continue  # they fit
                found = check(writer, kind, inputs, temporary, make_disks=make_disks)
                tried += 1
                if found:
                    wrong += 1
                    print(f"{writer}, {kind}: {'; '.join(found)}", flush=True)
    print(f"{tried} tries: {wrong} faults")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
