"""A rank that has stopped ends the others, by its name."""

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import forked
import pytest
import torch
from mmengine.config import Config
from torch.distributed import DistNetworkError

from srgan_plugin.hosts.mmengine.compat import enable_safe_checkpointing
from srgan_plugin.hosts.mmengine.engine import distributed, heartbeat
from srgan_plugin.hosts.mmengine.engine.distributed import get_timeout, join_process_group

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Rank:
    """A rank in a process of its own, and what it says.

    Args:
        folder: Folder for what it says.
        seconds: Timeout of the heartbeat.
        duration: Seconds for which it works.
        variables: Its place among the ranks.
    """

    def __init__(
        self, folder: Path, seconds: float, duration: float, variables: dict[str, str]
    ) -> None:
        self.output = folder / f"rank_{variables['RANK']}.txt"
        words = (str(seconds), str(duration))
        script = HERE / "beating.py"
        self.process = forked.start(
            script, *words, output=self.output, cwd=folder, variables=variables
        )

    def wait_until_it_works(self) -> None:
        while not (self.output.exists() and self.output.stat().st_size):
            assert self.process.is_alive(), self.errors()
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, seconds: float) -> str:
        """Wait for its end; return its errors."""
        self.process.join(seconds)
        assert not self.process.is_alive()
        return self.errors()

    def errors(self) -> str:
        return self.output.with_suffix(".err").read_text()


def start(folder: Path, seconds: float, duration: float) -> list[Rank]:
    """Start two ranks that meet at rank 0, and wait until they work together.

    Args:
        folder: Folder for what they say.
        seconds: Timeout of the heartbeat.
        duration: Seconds for which they work.
    """
    ranks = [Rank(folder, seconds, duration, own) for own in forked.rank_variables(2)]
    for rank in ranks:
        rank.wait_until_it_works()
    return ranks


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_is_named_and_the_other_ends_with_a_status(
    stopped: int, tmp_path: Path
) -> None:
    ranks = start(tmp_path, 3, 10**9)
    other = ranks[1 - stopped]
    try:
        time.sleep(1)
        ranks[stopped].signal(signal.SIGSTOP)
        since = time.monotonic()
        said = other.wait(30)
        assert time.monotonic() - since < 8
    finally:
        for rank in ranks:
            rank.process.kill()
            rank.process.join()
    assert other.process.exitcode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert f"rank {stopped}" in line
    assert "dist_cfg.timeout=3" in line
    assert "Traceback" not in said


@pytest.mark.slow
def test_ranks_that_live_longer_than_the_timeout_and_end_are_left_alone(tmp_path: Path) -> None:
    since = time.monotonic()
    for rank in start(tmp_path, 3, 4):
        said = rank.wait(60)
        assert rank.process.exitcode == 0, said
        assert "error" not in said
    assert time.monotonic() - since > 3


@pytest.mark.slow
def test_a_run_that_was_suspended_as_a_whole_goes_on(tmp_path: Path) -> None:
    ranks = start(tmp_path, 4, 7)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for rank in ranks:
            rank.signal(number)
        time.sleep(6 * (number == signal.SIGSTOP))
    for rank in ranks:
        said = rank.wait(60)
        # Torch's own operations keep to the clock; the heartbeat must not have ended the run.
        assert "no heartbeat" not in said, said


class Store:
    """A store in which another rank beats, and whose operations fail as told."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        self.fails, self.calls = fails, 0

    def set(self, key: str, value: str) -> None:
        self.calls += 1
        if self.fails(self.calls):
            raise DistNetworkError("Connection reset by peer\nException raised from recv")

    def check(self, keys: list[str]) -> bool:
        return True

    def get(self, key: str) -> bytes:
        return f"{self.calls} machine".encode()


@pytest.mark.parametrize("always", [False, True])
def test_a_beat_that_fails_is_followed_by_others_and_named_where_all_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], always: bool
) -> None:
    store, hook = Store(lambda call: always or call == 3), heartbeat.HeartbeatHook()
    monkeypatch.setattr(heartbeat, "TCPStore", lambda *_, **__: store)
    monkeypatch.setattr(heartbeat, "get_dist_info", lambda: (0, 2))
    monkeypatch.setattr(os, "_exit", lambda _: hook._over.set())
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    hook.before_run(SimpleNamespace(cfg={"env_cfg": {"dist_cfg": {"timeout": 0.5}}}))
    assert hook._over.wait(10 if always else 1) == always
    hook.after_run(None)
    said = capsys.readouterr().err
    assert ("DistNetworkError: Connection reset by peer;" in said) == always
    assert "recv" not in said


@pytest.mark.parametrize("seconds", [0, -1, "600", True])
def test_a_timeout_that_is_no_time_is_named(seconds: object) -> None:
    cfg = {"env_cfg": {"dist_cfg": {"timeout": seconds}}}
    with pytest.raises(ValueError, match=rf"env_cfg\.dist_cfg\.timeout.*{seconds}"):
        join_process_group("none", cfg)


@pytest.mark.parametrize("seconds", [None, 45])
def test_torch_is_given_a_timeout_only_where_the_config_has_one(
    monkeypatch: pytest.MonkeyPatch, seconds: int | None
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    given: dict[str, object] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda _, **kw: given.update(kw))
    paused: list[str] = []
    monkeypatch.setattr(distributed, "pause_before_forks", lambda: paused.append("before forks"))
    join_process_group("pytorch", {"env_cfg": {"dist_cfg": {"timeout": seconds}}})
    assert paused == ["before forks"]
    assert given == {"timeout": None if seconds is None else timedelta(seconds=seconds)}


def test_configs_of_ours_and_of_mmagic_beat_with_the_timeout_that_they_say() -> None:
    cfg = Config.fromfile(ROOT / "configs/srgan_x4c64b16_g1_1000k_div2k.py")
    assert cfg.default_hooks.heartbeat.type == "HeartbeatHook"
    assert get_timeout(cfg) == 600
    theirs = Config({"default_scope": "mmagic", "env_cfg": {"dist_cfg": {"backend": "nccl"}}})
    enable_safe_checkpointing(theirs)
    assert theirs.default_hooks.heartbeat.type == "srgan_plugin.HeartbeatHook"
    assert get_timeout(theirs) == 600
