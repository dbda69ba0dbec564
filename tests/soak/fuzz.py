"""Damage images, stores and checkpoints at random, and see that the readers refuse or read them.

    python tests/soak/fuzz.py --minutes 60 --seed 0 [--only images]
    python tests/soak/fuzz.py --seed 0 --case 123456        # one case again

Each case takes a small whole file, damages it (tests/helpers/mutations.py), and gives it to the
public readers, in a process that is forked from this one and limited in CPU time for each case and
in memory. A fault is a crash, a hang, an error that is not a `UserError` of one line with the
file's name, too much memory, anything run, written or unpickled, and content that is not what was
written or not what another reader gets: Pillow, OpenCV, torch. A case follows from its number.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]

import cv2  # noqa: E402
import PIL.Image  # noqa: E402
import torch  # noqa: E402
from fuzz_corpus import Seed, checkpoints, image_files, stores  # noqa: E402
from fuzz_judges import (  # noqa: E402
    FaultError,
    compare_checkpoint,
    compare_image,
    compare_store,
    read_checkpoint,
    read_image_file,
    read_store,
)
from mutations import mutate  # noqa: E402

SECONDS, BYTES = 10, 512 << 20  # CPU time of a case, memory beyond what its process had before
_ADDRESSES = 4 << 30  # that a process may reserve beyond what it has
_WALL = 900  # seconds without a word from a process
_CASES_A_PROCESS = 2000
_RUN = ("os.", "subprocess.", "shutil.", "socket.", "ctypes.", "pty.", "tempfile.", "pickle.")
_READ = ("os.listdir", "os.scandir", "os.walk")


class Kind(NamedTuple):
    """How one kind of file is made, read, and compared with what others say."""

    seeds: list[Seed]
    read: Callable[[Path], dict[str, Any]]
    compare: Callable[[Path, dict[str, Any], Seed], None]


class Watch:
    """Notes what runs code, unpickles or writes while a reader is at work, and prevents it."""

    def __init__(self) -> None:
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            wrong = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        elif event == "exec":
            wrong = getattr(arguments[0], "co_filename", "") == "<string>" and not importing()
        else:
            wrong = event.startswith(_RUN) and event not in _READ
        if wrong:
            self.armed = False  # the traceback may need files
            self.seen.append(f"{event} {arguments!r}"[:200])
            raise FaultError(f"runs or writes: {self.seen[-1]}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done within."""
        self.seen.clear()
        self.armed = True
        try:
            yield
        finally:
            self.armed = False
        if self.seen:
            raise FaultError(f"runs or writes: {self.seen}")


class Fuzzer:
    """Runs cases by their numbers in forked processes, and counts how they end.

    Args:
        folder: For the files of the cases.
        seed: Of all cases.
        only: The kinds of files.
        keep: Where files that found a fault are put.
    """

    def __init__(self, folder: Path, seed: int, only: tuple[str, ...], keep: Path) -> None:
        self.folder, self.seed, self.only, self.keep = folder, seed, only, keep
        self.kinds = {
            "images": Kind(image_files(), read_image_file, compare_image),
            "stores": Kind(stores(folder / "stores"), read_store, compare_store),
            "checkpoints": Kind(checkpoints(), read_checkpoint, compare_checkpoint),
        }
        self.ended: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.slowest = self.largest = 0.0
        self.watch = Watch()

    def kind_of(self, case: int) -> str:
        """Return which kind of file a case damages."""
        return list(self.kinds)[case % len(self.kinds)]

    def write(self, seed: Seed, content: dict[str, bytes]) -> Path:
        """Write a file, or the files of a store."""
        path = self.folder / f"case_{seed.name}"
        if seed.name.endswith(".lmdb"):
            path.mkdir(exist_ok=True)
        for name, data in content.items():
            (path / name if path.is_dir() else path).write_bytes(data)
        return path

    def make(self, case: int) -> tuple[Seed, Path]:
        """Write the damaged file or store of a case."""
        rng = random.Random(f"{self.seed} {case}")
        seeds = self.kinds[self.kind_of(case)].seeds
        seed, other = rng.choice(seeds), rng.choice(seeds)
        names = sorted(seed.files)  # a store's data.mdb, then its meta_info.txt
        chosen = set(names) if rng.random() < 0.05 else {names[-1 if rng.random() < 0.25 else 0]}
        content = {
            name: mutate(rng, data, rng.choice(list(other.files.values())))
            if name in chosen
            else data
            for name, data in seed.files.items()
        }
        return seed, self.write(seed, content)

    def try_whole_files(self) -> None:
        """Read what the cases damage, and raise a fault if anything is found to be wrong."""
        for name in self.only:
            kind = self.kinds[name]
            for seed in kind.seeds:
                path = self.write(seed, seed.files)
                kind.read(path)  # imports what it needs
                with self.watch.watching() if "call" not in seed.name else contextlib.nullcontext():
                    found = kind.read(path)
                kind.compare(path, found, seed)

    def run(self, first: int, more: Callable[[int], bool]) -> int:
        """Run cases from a number on while `more` says so; return the number after the last."""
        while more(first):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(reading)
                self._work(first, more, writing)
                os._exit(0)
            os.close(writing)
            first = self._follow(child, reading, first)
        return first

    def _work(self, first: int, more: Callable[[int], bool], writing: int) -> None:
        """Run cases in this process, and write a line when each begins, is read, and is done."""
        limit_process()
        case = first
        while more(case) and case < first + _CASES_A_PROCESS:
            if self.kind_of(case) in self.only:
                try:
                    done = self._one(case, lambda stage, n=case: tell(writing, case=n, stage=stage))
                except BaseException:  # of this program
                    tell(writing, case=case, stage="broken", why=traceback.format_exc())
                    return
                tell(writing, case=case, stage="done", **done)
            case += 1
        tell(writing, case=case, stage="end")

    def _one(self, case: int, stage: Callable[[str], None]) -> dict[str, Any]:
        """Run a case; return how it ended: outcome, CPU time, memory."""
        kind = self.kinds[self.kind_of(case)]
        seed, path = self.make(case)
        stage("start")
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        outcome, found = "", None
        start, before = time.process_time(), reset_peak()
        try:
            with self.watch.watching():
                found = kind.read(path)
        except FaultError as error:
            outcome = f"FAULT {error}"
        except BaseException as error:
            outcome = f"FAULT {type(error).__name__}: {error}\n{traceback.format_exc()}"
        seconds, taken = time.process_time() - start, peak() - before
        if taken > BYTES:
            outcome = outcome or f"FAULT {taken / 1e6:.0f} MB"
        stage("compare")
        signal.setitimer(signal.ITIMER_PROF, 6 * SECONDS)
        if found is not None and not outcome:
            nothing = all(value is None for value in found.values())
            outcome = "refused" if nothing else "read"
            try:
                kind.compare(path, found, seed)
            except FaultError as error:
                outcome = f"FAULT {error}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        return {"outcome": outcome, "seconds": seconds, "bytes": taken}

    def _follow(self, child: int, reading: int, first: int) -> int:
        """Count what a process tells, and how it ended; return the number of the next case."""
        told = {"case": first - 1, "stage": "none"}
        with os.fdopen(reading) as lines:
            while select.select([lines], [], [], _WALL)[0] and (line := lines.readline()):
                told = json.loads(line)
                if told["stage"] == "done":
                    self._count(**told)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if told["stage"] == "end":
            return int(told["case"])
        if told["stage"] == "start":
            name = {-signal.SIGPROF: f"hang, {SECONDS} s", -signal.SIGKILL: "hang, asleep"}
            outcome = f"FAULT {name.get(status, f'crash {status}')}"
            self._count(told["case"], outcome=outcome, seconds=SECONDS, bytes=0)
        elif told["stage"] == "compare":  # another reader's crash
            self.ended["others crashed"] += 1
        else:
            raise SystemExit(f"a process ended with {status}: {told}")
        return int(told["case"]) + 1

    def _count(
        self, case: int, outcome: str, seconds: float, bytes: int, stage: str = "done"
    ) -> None:
        kind = self.kind_of(case)
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, bytes)
        self.ended[f"{kind} {'FAULTS' if outcome.startswith('FAULT') else outcome}"] += 1
        if not outcome.startswith("FAULT"):
            return
        seed, path = self.make(case)
        line = outcome.splitlines()[0].replace(str(path), "").partition("message:")[0]
        same = re.sub(r"[\d.]+", "#", f"{kind} {path.suffix} {line}")
        self.faults[same] += 1
        if self.faults[same] > 3:
            return
        print(f"--seed {self.seed} --case {case} ({seed.name}): {outcome[:3000]}", flush=True)
        kept = self.keep / f"{self.seed}_{case}_{seed.name}"
        self.keep.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, kept)


def importing() -> bool:
    """Whether a module is being imported, which may make its named tuples by code."""
    frame = sys._getframe()
    while frame.f_back and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame.f_back is not None


def limit_process() -> None:
    """Limit the addresses of this process, and silence what the libraries say."""
    status = Path("/proc/self/status").read_text()
    now = 1024 * int(re.search(r"VmSize:\s+(\d+)", status)[1])  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (now + _ADDRESSES, now + _ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def tell(writing: int, **said: Any) -> None:
    """Write a line for the process that follows."""
    os.write(writing, (json.dumps(said) + "\n").encode())


def reset_peak() -> int:
    """Forget how much memory this process once had; return what it has, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Return the most memory that this process had since `reset_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def main() -> None:
    """Run cases, print each new fault and a summary; status 1 if there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--count", type=int, help="end after that many cases, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="run this one alone")
    parser.add_argument("--only", choices=("images", "stores", "checkpoints"))
    keep = Path(tempfile.gettempdir(), "fuzz_faults")
    parser.add_argument("--keep", type=Path, default=keep, help="a folder for their files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    PIL.Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("ignore")
    logging.disable()
    start = time.monotonic()
    first, last = (0, args.count) if args.case is None else (args.case, args.case + 1)
    until = start + 60 * args.minutes

    def more(case: int) -> bool:
        return time.monotonic() < until and (last is None or case < last)

    with tempfile.TemporaryDirectory() as temporary:
        only = (args.only,) if args.only else ("images", "stores", "checkpoints")
        fuzzer = Fuzzer(Path(temporary), args.seed, only, args.keep)
        fuzzer.try_whole_files()
        fuzzer.run(first, more)
    taken, cases = time.monotonic() - start, sum(fuzzer.ended.values())
    for name, count in sorted(fuzzer.ended.items()):
        print(f"{name:30s} {count}")
    for name, count in fuzzer.faults.most_common():
        print(f"{count:6d} x {name}")
    print(f"slowest {fuzzer.slowest:.1f} s of CPU, largest {fuzzer.largest / 1e6:.0f} MB")
    faults = sum(fuzzer.faults.values())
    print(f"{cases} cases in {taken / 60:.1f} min, {cases / taken:.0f} a second: {faults} faults")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
