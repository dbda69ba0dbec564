"""SIGKILL trainings at random moments; the last checkpoint must equal an undisturbed run's.

    python tests/soak/kill_and_resume.py --kills 60 --seed 0

Each kind of network and of kill (the process alone, or its whole group with the loader's workers)
gets its share. This process imports everything once and forks each training, which makes a start
cheap; the kills are real. A moment is drawn from the whole life of a process, start-up included.
The schedules have a warm-up, milestones and restarts inside the run, checkpoints come every few
steps, validation saves the best. Every object of the last checkpoint is compared but for clock
readings (`same_state.py`), and so are the names of all files that a run leaves.
"""

import argparse
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers"), str(ROOT / "tools")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import train  # type: ignore[import-not-found]  # noqa: E402 - tools/train.py
from mmengine.config import Config, config  # noqa: E402
from mmengine.hooks import LoggerHook  # noqa: E402, F401 - children find it imported
from quick_configs import format_once  # noqa: E402
from same_state import assert_same_checkpoint  # noqa: E402

from srgan_plugin.data.resize import make_lr  # noqa: E402
from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import CheckpointHook  # noqa: E402
from srgan_plugin.hosts.mmengine.engine.multi_loops import MultiValLoop  # noqa: E402
from srgan_plugin.hosts.mmengine.engine.train_loop import SRTrainLoop  # noqa: E402
from srgan_plugin.io.images import read_image  # noqa: E402
from srgan_plugin.io.writers import write_image  # noqa: E402

PHASES = ("start-up", "step", "save", "validation")
COMMON = """
_base_ = {base!r}
train_dataloader = dict(batch_size=2, num_workers=2, pin_memory=False, dataset=dict(gt={gt!r}))
train_dataloader['dataset']['pipeline'] = [
    dict(type='PairedRandomCrop', gt_patch_size=32), dict(type='Flip', direction='horizontal'),
    dict(type='RandomTransposeHW'), dict(type='PackInputs')]
train_cfg = dict(max_iters={iterations}, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=2), logger=dict(interval=10))
randomness = dict(seed=7)
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
warm_up = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8)
"""
NETWORKS = {
    "msrresnet": """
model = dict(generator=dict(mid_channels=4, num_blocks=1), ema=dict(decay=0.9))
param_scheduler = [warm_up, dict(type='CosineRestartLR', by_epoch=False, eta_min=1e-7,
    periods=[{iterations} // 3] * 3, restart_weights=[1, 0.5, 0.5])]
""",
    "srgan": """
model = dict(generator=dict(mid_channels=4, num_blocks=1), ema=dict(decay=0.9),
    discriminator=dict(mid_channels=4, input_size=32), perceptual_loss=None)
param_scheduler = [warm_up, dict(type='MultiStepLR', by_epoch=False, gamma=0.5,
    milestones=[{iterations} // 4, {iterations} // 2, {iterations} * 3 // 4])]
""",
}


class Kind(NamedTuple):
    """What is trained, and what is killed."""

    network: str
    group: bool

    def __str__(self) -> str:
        return f"{self.network}, {'group' if self.group else 'process'}"


def make_data(root: Path) -> None:
    """Write training images and a validation set, smooth and small."""
    rng = np.random.default_rng(0)
    for folder, count in (("train", 4), ("Set5/GTmod12", 2)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            image = cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC)
            write_image(root / folder / f"{number}.png", image)
    (root / "Set5/LRbicx4").mkdir()
    for path in (root / "Set5/GTmod12").iterdir():
        write_image(root / "Set5/LRbicx4" / path.name, make_lr(read_image(path), 4))


def write_config(root: Path, network: str, iterations: int) -> str:
    """Write the config of a network's training; return its name."""
    path = root / f"{network}.py"
    base = str(ROOT / f"configs/{network}_x4c64b16_g1_1000k_div2k.py")
    text = (COMMON + NETWORKS[network]).format(
        base=base, gt=str(root / "data/train"), iterations=iterations
    )
    path.write_text(text)
    Config.fromfile(path)
    return str(path)


class Training:
    """A training in a forked process and a group of its own, and what it is at."""

    def __init__(self, config: str, folder: Path) -> None:
        self.at = mmap.mmap(-1, 1)  # shared with the child
        self.status: int | None = None
        folder.mkdir(exist_ok=True)
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._train(config, folder)

    def _train(self, config: str, folder: Path) -> None:
        status = 1
        try:
            os.setsid()
            os.chdir(folder)
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            with self._watched():
                train.main([config, "--work-dir", "run", "--resume"])
            status = 0
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(status)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note in shared memory whether the process steps, saves, or validates."""
        for owner, name, phase in (
            (SRTrainLoop, "_run_chunks", "step"),
            (CheckpointHook, "save", "save"),
            (MultiValLoop, "run", "validation"),
        ):
            setattr(owner, name, self._noting(getattr(owner, name), phase))
        yield

    def _noting(self, method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            before = self.at[0]
            self.at[0] = PHASES.index(phase)
            try:
                return method(*args, **kwargs)
            finally:
                self.at[0] = before

        return noting

    @property
    def phase(self) -> str:
        """What the process is at, or was at when it died."""
        return PHASES[self.at[0]]

    def runs(self) -> bool:
        """Whether the process lives."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is None

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait for something to be true, or for the process to end."""
        while self.runs() and not until():
            time.sleep(0.001)

    def kill(self, *, group: bool) -> None:
        """Kill the process, or all of its group."""
        (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        self.wait(lambda: False)


class Soak:
    """Undisturbed runs, and how the others are killed."""

    def __init__(self, root: Path, iterations: int, seed: int) -> None:
        self.root, self.iterations = root, iterations
        self.random = random.Random(seed)
        self.lives: dict[str, tuple[float, float]] = {}  # seconds of start-up and of the rest
        self.fell: Counter[tuple[Kind, str]] = Counter()
        self.folders = 0
        make_data(root / "data")
        os.environ["SRGAN_DATA"] = str(root / "data")

    def undisturbed(self, network: str) -> None:
        """Train without a kill."""
        training = Training(write_config(self.root, network, self.iterations), self.root / network)
        training.wait(lambda: training.phase != "start-up")
        start_up = time.monotonic() - training.started
        training.wait(lambda: False)
        self.expect(training.status == 0, f"{network} failed undisturbed", self.root / network)
        self.lives[network] = (start_up, time.monotonic() - training.started - start_up)

    def disturbed(self, kind: Kind, kills: int, lives: float) -> None:
        """Kill so many times in all, on average so many per run; compare each run that ends."""
        start_up, rest = self.lives[kind.network]
        folder = self.next_folder()
        while True:
            training = Training(str(self.root / f"{kind.network}.py"), folder)
            if kills:
                self.live(training, start_up, 2 * rest / lives)
            else:
                training.wait(lambda: False)
            if not training.runs():
                self.expect(training.status == 0, f"{kind} failed to resume", folder)
                self.compare(kind, folder)
                if not kills:
                    return
                folder = self.next_folder()
                continue
            training.kill(group=kind.group)
            kills -= 1
            self.fell[kind, training.phase] += 1

    def live(self, training: Training, start_up: float, longest: float) -> None:
        """Let a process live until the moment at which it is killed."""
        if self.random.random() < 0.2:
            time.sleep(self.random.uniform(0, start_up))
            return
        training.wait(lambda: training.phase != "start-up")
        end = time.monotonic() + self.random.uniform(0, longest)
        training.wait(lambda: time.monotonic() > end)

    def next_folder(self) -> Path:
        """Return the folder of another run."""
        self.folders += 1
        return self.root / f"run_{self.folders}"

    def compare(self, kind: Kind, folder: Path) -> None:
        """Fail unless a run left the same files, and the same state, as the undisturbed one."""
        whole = self.root / kind.network / "run"
        names = [
            {p.name for p in work.iterdir() if p.is_file() and p.suffix != ".log"}
            for work in (whole, folder / "run")
        ]
        self.expect(names[0] == names[1], f"{kind}: files differ, {names[0] ^ names[1]}", folder)
        last = f"iter_{self.iterations}.pth"
        assert_same_checkpoint(whole / last, folder / "run" / last)
        shutil.rmtree(folder)
        print(f"{kind}: as if undisturbed after {self.fell.total()} kills in all", flush=True)

    def expect(self, condition: bool, words: str, folder: Path) -> None:
        """Raise an error with the end of a run's log unless a condition holds."""
        if not condition:
            log = (folder / "log.txt").read_text(errors="replace").splitlines()
            raise AssertionError("\n".join([words, *log[-30:]]))

    def report(self) -> str:
        """Return a table: how many kills fell where."""
        kinds = sorted({kind for kind, _ in self.fell})
        lines = [f"{'kills in':24}" + "".join(f"{phase:>12}" for phase in PHASES)]
        for kind in kinds:
            counts = [self.fell[kind, phase] for phase in PHASES]
            lines.append(f"{kind!s:24}" + "".join(f"{count:12}" for count in counts))
        lines.append(f"{self.fell.total()} kills in {self.folders} runs, each as if undisturbed")
        return "\n".join(lines)


def main() -> None:
    """Kill, resume, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--lives", type=float, default=8, help="kills per run, on average")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--folder", type=Path, help="keep the runs there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(config, "FormatCode"):  # onedl-mmengine formats by another name
        config.FormatCode = format_once(config.FormatCode)
    kinds = [Kind(network, group) for network in args.networks for group in (False, True)]
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        soak = Soak(args.folder or Path(temporary), args.iterations, args.seed)
        for network in args.networks:
            soak.undisturbed(network)
        for number, kind in enumerate(kinds):
            share = args.kills // len(kinds) + (number < args.kills % len(kinds))
            soak.disturbed(kind, share, args.lives)
    print(soak.report())


if __name__ == "__main__":
    main()
