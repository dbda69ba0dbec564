"""A rank that has stopped ends the others, by its name."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from srgan_plugin.hosts.mm.distributed import join_process_group, timeout_of
from srgan_plugin.hosts.mm.others import lose_nothing

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def start(seconds: float, steps: int, ranks: int = 2) -> list["subprocess.Popen[str]"]:
    """Start ranks that meet at rank 0, and wait until they work together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "beating.py"), str(seconds), str(steps)],
            env=os.environ | shared | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.read(1) == "."
    return processes


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_is_named_and_the_other_ends_with_a_status(stopped: int) -> None:
    processes = start(4, 10**9)
    other = processes[1 - stopped]
    try:
        time.sleep(1)
        os.kill(processes[stopped].pid, signal.SIGSTOP)
        since = time.monotonic()
        _, said = other.communicate(timeout=30)
        assert time.monotonic() - since < 8
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert other.returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert f"rank {stopped}" in line
    assert "dist_cfg.timeout=4" in line
    assert "Traceback" not in said


def test_ranks_that_live_longer_than_the_timeout_and_end_are_left_alone() -> None:
    for process in start(0.4, 2000):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "error" not in said


def test_a_run_that_was_suspended_as_a_whole_goes_on() -> None:
    processes = start(1, 3000)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in processes:
            os.kill(process.pid, number)
        time.sleep(3 * (number == signal.SIGSTOP))
    for process in processes:
        _, said = process.communicate(timeout=60)
        # Torch's own operations keep to the clock; the heartbeat must not have ended the run.
        assert "no sign of life" not in said, said


@pytest.mark.parametrize("seconds", [0, -1, "600", True])
def test_a_timeout_that_is_no_time_is_named(seconds: object) -> None:
    cfg = {"env_cfg": {"dist_cfg": {"timeout": seconds}}}
    with pytest.raises(ValueError, match=r"env_cfg\.dist_cfg\.timeout: expected a number of sec"):
        join_process_group("none", cfg)


def test_configs_of_ours_and_of_mmagic_beat_with_the_timeout_that_they_say() -> None:
    cfg = Config.fromfile(ROOT / "configs/srgan_x4c64b16_g1_1000k_div2k.py")
    assert cfg.default_hooks.heartbeat.type == "HeartbeatHook"
    assert timeout_of(cfg) == 600
    theirs = Config({"default_scope": "mmagic", "env_cfg": {"dist_cfg": {"backend": "nccl"}}})
    lose_nothing(theirs)
    assert theirs.default_hooks.heartbeat.type == "srgan_plugin.HeartbeatHook"
    assert timeout_of(theirs) == 600
