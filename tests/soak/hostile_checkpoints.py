"""Checkpoints made to harm: nothing of them runs; each gets one line, soon, in little memory.

    python tests/soak/hostile_checkpoints.py --count 400 --seed 0

Each file is given to inspect, convert and upscale in a process of its own, forked from this one,
whose imports are done. A tool must end by itself with status 0 or 1, at most one line on standard
error, within 20 s and 1 GB, and without making the file that the payloads would make.
"""

import argparse
import contextlib
import io
import os
import pickle
import random
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import convert_checkpoint  # type: ignore[import-not-found]  # noqa: E402
import cv2  # noqa: E402
import inspect_checkpoint  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402

from srgan_plugin.__main__ import main as srgan_plugin_main  # noqa: E402
from srgan_plugin.networks import MSRResNet, SRResNet  # noqa: E402

SECONDS, BYTES = 20, 10**9


class Run(NamedTuple):
    """How a tool ended."""

    status: int
    said: str
    seconds: float
    peak: int


class Call:
    """Pickles as a call of a function by its name."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def zipped(data: bytes, storages: dict[str, bytes] | None = None, method: int = 0) -> bytes:
    """An archive as `torch.save` writes it, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        for name, content in (storages or {}).items():
            archive.writestr(f"archive/data/{name}", content)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def saved(content: Any, **options: Any) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def weights(network: type[torch.nn.Module] = MSRResNet, **options: Any) -> dict[str, torch.Tensor]:
    """Random weights of a small generator."""
    return network(mid_channels=8, num_blocks=1, **options).state_dict()


def executing(rng: random.Random, marker: Path) -> bytes:
    """A pickle that makes a file when it is run, alone or beside weights."""
    import builtins
    import runpy
    import subprocess

    code = f"open({str(marker)!r}, 'w')"
    call = rng.choice(
        [
            Call(os.system, f"touch {marker}"),
            Call(builtins.exec, code),
            Call(builtins.eval, code),
            Call(subprocess.Popen, ["touch", str(marker)]),
            Call(runpy.run_path, str(marker)),
            Call(getattr, Call(__import__, "os"), "system"),
            Call(open, str(marker), "w"),
            Call(torch.load, str(marker)),
            Call(torch.hub.load_state_dict_from_url, f"file://{marker}"),
        ]
    )
    content = rng.choice([call, {"state_dict": weights(), "meta": call}, {"params": call}])
    protocol = rng.choice([0, 1, 2, 3, 4, 5])
    if rng.random() < 0.3:
        return pickle.dumps(content, protocol)
    if rng.random() < 0.5:
        return saved(content, _use_new_zipfile_serialization=rng.random() < 0.5)
    return zipped(pickle.dumps(content, protocol))


def expanding(rng: random.Random, marker: Path) -> bytes:
    """A few bytes that claim to be gigabytes of weights."""
    state = weights()
    size = rng.choice([8192, 16384, 20000])
    one = torch.zeros(1)
    key = rng.choice(sorted(state))
    shape = state[key].shape
    state[key] = rng.choice(
        [
            one.expand(size, size, 3, 3),
            one.expand(size, *shape[1:]),
            one.expand(0, size),
            one.expand(size * size),
        ]
    )
    if rng.random() < 0.5:
        factor = rng.choice([64, 512, 1250, 4096])
        state = {
            k: one.expand([factor * n if n == 8 else n for n in w.shape]) for k, w in state.items()
        }
    return saved(rng.choice([state, {"state_dict": state}, {"generator": state}]))


def allocating(rng: random.Random, marker: Path) -> bytes:
    """A call that allocates by a number."""
    call = rng.choice(
        [
            Call(bytearray, 6 * 10**9),
            Call(bytes, 6 * 10**9),
            Call(torch.Tensor, 10**9, 6),
            Call(torch.FloatStorage, 2 * 10**9),
            Call(np.zeros, 10**9),
            Call(range, 10**12),
            Call(complex, 1e400),
            Call(torch.Size, [10**18]),
            Call(list, Call(range, 10**10)),
        ]
    )
    return zipped(pickle.dumps({"state_dict": weights_of_numbers(), "meta": call}, 2))


def weights_of_numbers() -> dict[str, float]:
    """Something like weights that needs no storages."""
    return dict.fromkeys(weights(), 0.0)


def laughing(rng: random.Random, marker: Path) -> bytes:
    """Nested containers that unfold exponentially, or are nested without end."""
    depth = rng.choice([30, 200, 5000, 100_000])
    kind = rng.choice(["double", "deep", "self", "keys"])
    if kind == "double":
        body = b"]q\x00" + b"(h\x00h\x00tq\x00" * depth
    elif kind == "deep":
        body = b"]" * depth + b"a" * (depth - 1)
    elif kind == "self":
        body = b"]q\x00h\x00a"
    else:
        body = b"}(" + b"".join(b"K%cK\x00" % (n % 256) for n in range(depth)) + b"u"
    return zipped(b"\x80\x02}X\x0a\x00\x00\x00state_dict" + body + b"s.")


def many_blocks(rng: random.Random, marker: Path) -> bytes:
    """Keys of blocks that are not there, or of very many that are."""
    one = torch.zeros(1)
    state: dict[str, torch.Tensor] = weights()
    number = rng.choice([2000, 20_000, 10**9, 10**30])
    name = rng.choice(["trunk_net.{}.conv1.weight", "body.{}.conv1.weight", "{}.0.weight"])
    state[name.format(number)] = one
    if rng.random() < 0.4:
        block = {k.partition(".0.")[2]: w for k, w in state.items() if "trunk_net.0." in k}
        for n in range(rng.choice([500, 3000])):
            state |= {f"trunk_net.{n}.{k}": w for k, w in block.items()}
    if rng.random() < 0.3:
        return safetensors.torch.save({k: w.clone().contiguous() for k, w in state.items()})
    return saved(state)


def wrong_numbers(rng: random.Random, marker: Path) -> bytes:
    """Tensors whose shape, stride, offset, type or place is absurd."""
    buffer = io.BytesIO()
    original = saved(weights())
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        parts = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    data = next(content for name, content in parts.items() if name.endswith("data.pkl"))
    for _ in range(rng.choice([1, 3, 10])):
        small = [at for at, byte in enumerate(data) if byte in b"KM" and at + 3 < len(data)]
        at = rng.choice(small)
        data[at + 1] = rng.choice([0, 1, 127, 128, 255])
        if rng.random() < 0.3:
            data[at : at + 2] = b"J" + struct.pack("<i", rng.choice([-1, 2**31 - 1, -(2**31)]))
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, bytes(content))
    return buffer.getvalue()


def archives(rng: random.Random, marker: Path) -> bytes:
    """Zip bombs, entries twice, entries outside, storages of another size."""
    kind = rng.choice(["bomb", "twice", "outside", "short", "directory"])
    data = saved(weights())
    if kind == "bomb":
        return zipped(b"\x80\x02}.", {"0": bytes(10**8)}, zipfile.ZIP_DEFLATED)
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        names = archive.namelist()
        storage = next(name for name in names if "/data/" in name)
        with contextlib.suppress(UserWarning):
            if kind == "twice":
                archive.writestr(storage, b"\x00" * rng.choice([0, 4, 10**6]))
            elif kind == "outside":
                archive.writestr("../../" + marker.name, b"x")
                archive.writestr(str(marker), b"x")
            elif kind == "short":
                archive.writestr(names[0].replace("data.pkl", "data/99999"), b"")
            else:
                archive.writestr("archive/data/", b"")
    return buffer.getvalue()


def of_safetensors(rng: random.Random, marker: Path) -> bytes:
    """Headers that claim too much."""
    good = safetensors.torch.save(weights())
    kind = rng.choice(["length", "offsets", "shape", "metadata", "deep"])
    if kind == "length":
        return struct.pack("<Q", rng.choice([2**63, 10**12, 10**8, 0, 1])) + good[8:]
    (length,) = struct.unpack_from("<Q", good)
    header = good[8 : 8 + length]
    if kind == "offsets":
        header = header.replace(b'"data_offsets":[0,', b'"data_offsets":[9999999999,', 1)
    elif kind == "shape":
        header = header.replace(b'"shape":[8]', b'"shape":[800000000000]', 1)
    elif kind == "metadata":
        header = b'{"__metadata__":{"srgan_plugin":"' + b"[" * 100_000 + b'"},' + header[1:]
    else:
        header = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    return struct.pack("<Q", len(header)) + header + good[8 + length :]


def notes(rng: random.Random, marker: Path) -> bytes:
    """Notes beside good weights that are not notes."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    value = rng.choice(
        [1e308, -1, 10**400, "x" * 10**6, deep, {"network": "MSRResNet" * 1000}, float("nan"), None]
    )
    key = rng.choice(["srgan_plugin", "cfg", "mmengine_version", "config"])
    text = rng.choice(["(" * 10**5, "model = dict(" * 3000, "a = 9**9**9", "__import__('os')"])
    content = {"state_dict": weights(SRResNet), "meta": {key: rng.choice([value, text])}}
    return saved(content)


def damaged(rng: random.Random, marker: Path) -> bytes:
    """A good file with flipped, lost or repeated bytes."""
    content = bytearray(
        rng.choice(
            [
                saved(weights()),
                saved({"state_dict": weights(SRResNet)}, _use_new_zipfile_serialization=False),
                safetensors.torch.save(weights()),
            ]
        )
    )
    for _ in range(rng.choice([1, 5, 50])):
        content[rng.randrange(min(len(content), 6000))] ^= 1 << rng.randrange(8)
    at = rng.randrange(len(content))
    return bytes(rng.choice([content, content[:at], content[:at] + content[at // 2 :]]))


MAKERS: tuple[Callable[[random.Random, Path], bytes], ...] = (
    executing,
    expanding,
    allocating,
    laughing,
    many_blocks,
    wrong_numbers,
    archives,
    of_safetensors,
    notes,
    damaged,
)


def run(tool: Callable[[], None], log: Path) -> Run:
    """Run a tool in a forked process; a status above 255 is the signal that ended it."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        descriptor = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(descriptor, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        status = 0
        try:
            tool()
        except SystemExit as done:
            status = done.code if isinstance(done.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 99
        sys.stderr.flush()
        os._exit(status)
    usage = None
    while usage is None:
        pid, ended, usage_now = os.wait4(child, os.WNOHANG)
        if pid:
            usage = usage_now
        elif time.monotonic() - start > 3 * SECONDS:
            os.kill(child, 9)
        time.sleep(0.01)
    status = os.waitstatus_to_exitcode(ended)
    said = log.read_text(errors="replace")
    return Run(status, said, time.monotonic() - start, usage.ru_maxrss * 1024)


def faults(done: Run, marker: Path, start_up: int) -> list[str]:
    """Return what was wrong with how a tool ended."""
    lines = [line for line in done.said.splitlines() if "Warning" not in line and line.strip()]
    found = []
    if marker.exists():
        found.append("EXECUTED")
        marker.unlink()
    if done.status not in (0, 1):
        found.append(f"status {done.status}")
    if "Traceback" in done.said or sum(line.startswith("error") for line in lines) > 1:
        found.append("stack trace")
    if done.status == 1 and not lines:
        found.append("no message")
    if done.seconds > SECONDS:
        found.append(f"{done.seconds:.0f} s")
    if done.peak - start_up > BYTES:
        found.append(f"{(done.peak - start_up) / 1e9:.1f} GB")
    return found


def main() -> None:
    """Make the files, run the tools, print each fault and a summary; status 1 if there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the files that found a fault")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ended: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image, marker, log = folder / "in.png", folder / "marker", folder / "log"
        cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
        start_up = run(lambda: None, log).peak
        for number in range(args.count):
            rng = random.Random(f"{args.seed} {number}")
            maker = MAKERS[number % len(MAKERS)]
            file = folder / f"{maker.__name__}_{number}.pth"
            file.write_bytes(maker(rng, marker))
            marker.unlink(missing_ok=True)
            out = folder / "out"
            tools: dict[str, Callable[[], None]] = {
                "inspect": lambda file=file: inspect_checkpoint.main([str(file)]),
                "convert": lambda file=file, out=out: convert_checkpoint.main(
                    [str(file), str(out) + ".pth", "--to", "plugin", "--overwrite"]
                ),
                "upscale": lambda file=file, out=out: srgan_plugin_main(
                    ["upscale", str(image), str(out) + ".png", "--model", str(file), "--overwrite"]
                ),
            }
            for name, tool in tools.items():
                done = run(tool, log)
                ended[f"{maker.__name__}: status {done.status}"] += 1
                if found := faults(done, marker, start_up):
                    wrong += 1
                    last = (done.said.strip().splitlines() or [""])[-1][:200]
                    print(f"{name} {file.name}: {', '.join(found)}: {last}", flush=True)
                    if args.keep:
                        args.keep.mkdir(parents=True, exist_ok=True)
                        (args.keep / file.name).write_bytes(file.read_bytes())
            file.unlink()
    for name, count in sorted(ended.items()):
        print(f"{name:30s} {count}")
    print(f"{args.count} files, three tools each: {wrong} faults")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
