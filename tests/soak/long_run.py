"""Train SRGAN for many small steps: memory, open files and speed must stay as they were.

    python tests/soak/long_run.py --steps 20000

One training with loader workers, an average of the weights, validations and checkpoints. Its own
memory (not the files it maps, whose pages other programs share), its open files and its log are
read while it runs; each quarter of the run but the first is compared with the second.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/soak"), str(ROOT)]

from kill_and_resume import COMMON, NETWORKS, make_data  # noqa: E402

MEMORY, SPEED = 0.02, 0.10  # how much they may grow, as a share


class Sample(NamedTuple):
    """What a training takes at one moment, with all its processes."""

    step: int
    memory: int
    files: int


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def sample(pid: int, step: int) -> Sample | None:
    """Measure a training now; None if a process ended meanwhile."""
    memory = files = 0
    try:
        for member in family(pid):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            memory += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
            files += sum(1 for _ in Path(f"/proc/{member}/fd").iterdir())
    except (OSError, ProcessLookupError):
        return None
    return Sample(step, memory * 1024, files)


def read_log(folder: Path) -> list[tuple[int, float]]:
    """Return (step, seconds for a step) of every complete line of the training's log."""
    found = []
    for log in folder.glob("*/vis_data/scalars.json"):
        for line in log.read_text().splitlines():
            entry = json.loads(line) if line.endswith("}") else {}
            if "time" in entry and "loss_pix" in entry:
                found.append((entry["step"], entry["time"]))
    return found


def main() -> None:
    """Train, watch, print each quarter's figures; status 1 if one has grown too much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=1.0, help="between two measurements")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_data(folder / "data")
        base = str(ROOT / "configs/srgan_x4c64b16_g1_1000k_div2k.py")
        text = (COMMON + NETWORKS["srgan"]).format(
            base=base, gt=str(folder / "data/train"), iterations=args.steps
        )
        every = max(args.steps // 40, 1)
        options = [
            f"train_cfg.val_interval={every}",
            f"default_hooks.checkpoint.interval={every}",
            f"default_hooks.logger.interval={max(every // 5, 1)}",
            f"train_cfg.max_steps_per_hook_call={max(every // 5, 1)}",
        ]
        (folder / "config.py").write_text(text)
        command = [sys.executable, str(ROOT / "tools/train.py"), str(folder / "config.py")]
        work = folder / "run"
        with (folder / "log.txt").open("w") as log:
            training = subprocess.Popen(
                [*command, "--work-dir", str(work), "--cfg-options", *options],
                stdout=log,
                stderr=log,
                env=os.environ | {"SRGAN_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"},
            )
            samples = []
            while training.poll() is None:
                time.sleep(args.seconds)
                steps = read_log(work)
                if steps and (now := sample(training.pid, steps[-1][0])):
                    samples.append(now)
        if training.returncode:
            sys.stderr.write((folder / "log.txt").read_text()[-3000:])
            raise SystemExit(training.returncode)
        report(samples, read_log(work), args.steps)


def report(samples: list[Sample], log: list[tuple[int, float]], steps: int) -> None:
    """Print the medians of each quarter, and exit with 1 where the last two exceed the second."""
    rows = []
    for quarter in range(4):
        first, last = quarter * steps / 4, (quarter + 1) * steps / 4
        inside = [s for s in samples if first < s.step <= last]
        rows.append(
            (
                statistics.median(s.memory for s in inside),
                statistics.median(s.files for s in inside),
                statistics.median(seconds for step, seconds in log if first < step <= last),
            )
        )
        memory, files, seconds = rows[-1]
        print(
            f"quarter {quarter + 1}: {memory / 1e6:8.1f} MB {files:5.0f} files "
            f"{1000 * seconds:8.2f} ms a step ({len(inside)} samples)"
        )
    grown = [max(rows[2][column], rows[3][column]) / rows[1][column] - 1 for column in range(3)]
    print(f"grown by {grown[0]:+.1%} memory, {grown[1]:+.1%} files, {grown[2]:+.1%} time")
    if grown[0] > MEMORY or grown[1] > 0 or grown[2] > SPEED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
