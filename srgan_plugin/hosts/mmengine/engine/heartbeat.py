"""End a distributed run when one of its processes has stopped, and name it."""

import itertools
import os
import platform
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from srgan_plugin.registry import HOOKS

from .distributed import get_timeout

_BEATS = 10  # heartbeats per timeout
# Waits of this rank, each of a period, after which a rank without a heartbeat counts as lost; fewer
# than _BEATS, to end before torch's timeout.
_SILENT = 8
_ENDED = b"ended"


@HOOKS.register_module()
class HeartbeatHook(Hook):
    """End every process of a run with status 1 when a rank stops sending heartbeats.

    Without this hook, a rank that is stopped (SIGSTOP, a hung machine, a broken network) leaves the
    others waiting in a collective operation. It ends after 0.7 to 0.9 of
    `env_cfg.dist_cfg.timeout`, in seconds, or of 600 if the config has none (`get_timeout`). The
    time is counted in waits, so a run of which all processes are suspended continues afterwards.
    Heartbeats use the store of torchrun, or else of rank 0, at `MASTER_ADDR:MASTER_PORT` in a
    thread with a separate connection, so a slow step does not stop them.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def before_run(self, runner: Any) -> None:
        """Start the heartbeat if there are several ranks and the environment has their store."""
        self.rank, self.ranks = get_dist_info()
        has_store = {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
        if self.ranks == 1 or not has_store or self._threads:
            return
        self.period = get_timeout(runner.cfg) / _BEATS
        self.silent = [0] * self.ranks
        self.hosts = ["an unknown machine"] * self.ranks
        self.error = ""  # error of the last heartbeat; empty if it succeeded
        self._over.clear()
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()

    def after_run(self, runner: Any) -> None:
        """Stop the heartbeat, and mark this rank as ended in the store."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=self.period)
        self._threads = []

    def _beat(self) -> None:
        """Send heartbeats, and receive those of the other ranks."""
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        keys = [f"srgan_plugin/heartbeat/{attempt}/{rank}" for rank in range(self.ranks)]
        seen = [b""] * self.ranks
        store = None
        for number in itertools.count():
            try:
                store = store or self._connect()
                store.set(keys[self.rank], f"{number} {platform.node()}")
                for rank, key in enumerate(keys):
                    beat = store.get(key) if store.check([key]) else b""
                    if beat != seen[rank] or beat == _ENDED:
                        seen[rank], self.silent[rank] = beat, 0
                        self.hosts[rank] = beat.decode().partition(" ")[2]
                self.error = ""
            except Exception as error:
                # `_watch` counts this as silence until the next beat.
                store = None
                self.error = f"; {type(error).__name__}: {error}".partition("\n")[0]
            if self._over.wait(self.period):
                break
        with suppress(RuntimeError):  # rank 0 may have ended first
            if store is not None:
                store.set(keys[self.rank], _ENDED.decode())

    def _connect(self) -> TCPStore:
        wait = timedelta(seconds=self.period * _BEATS)
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(*address, is_master=False, wait_for_workers=False, timeout=wait)

    def _watch(self) -> None:
        """Count waits since the last heartbeat of each rank, also of this one for a lost store."""
        while not self._over.wait(self.period):
            for rank in range(self.ranks):
                self.silent[rank] += 1
            if max(self.silent) >= _SILENT:
                sys.stderr.write(f"error: {self._message()}\n")
                sys.stderr.flush()
                os._exit(1)  # the main thread waits in a collective operation

    def _message(self) -> str:
        seconds = f"{self.period * _SILENT:.0f} s"
        end = (
            f"; rank {self.rank} ends (env_cfg.dist_cfg.timeout={self.period * _BEATS:.0f}); "
            "resume from the newest checkpoint by --resume"
        )
        if self.silent[self.rank] >= _SILENT:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            return (
                f"no response for {seconds} from the store at {where}: rank 0, or its launcher, "
                f"has stopped{self.error}{end}"
            )
        stopped = [
            f"rank {rank} on {self.hosts[rank]}"
            for rank, count in enumerate(self.silent)
            if count >= _SILENT
        ]
        return f"no heartbeat for {seconds} from {', '.join(stopped)}{end}"
