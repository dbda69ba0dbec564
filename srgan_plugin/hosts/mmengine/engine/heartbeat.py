"""End a distributed run when one of its processes has stopped, and say which."""

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

from .distributed import timeout_of

_BEATS = 10  # within a timeout
_SILENT = 8  # so many of our own without one of another rank's: before torch's own timeout is over
_ENDED = b"ended"


@HOOKS.register_module()
class HeartbeatHook(Hook):
    """Ends every process of a run, with status 1, when a rank gives no sign of life any more.

    A rank that is stopped (SIGSTOP, a hung machine, a broken network) otherwise leaves the others
    waiting within a collective operation. The time is `env_cfg.dist_cfg.timeout` in seconds, which
    torch's own operations keep to as well; it is measured in beats, so that a run which is
    suspended as a whole goes on afterwards. Signs of life go through the store at
    `MASTER_ADDR:MASTER_PORT`, on a connection of their own, so that a slow step does not count as
    silence.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def before_run(self, runner: Any) -> None:
        """Begin, where there are several ranks that met by the usual variables."""
        self.rank, self.ranks = get_dist_info()
        met = {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
        if self.ranks == 1 or not met or self._threads:
            return
        self.period = timeout_of(runner.cfg) / _BEATS
        self.silent = [0] * self.ranks
        self.hosts = ["an unknown machine"] * self.ranks
        self.error = ""  # of the last beat, if it failed
        self._over.clear()
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._beat, self._watch)]
        for thread in self._threads:
            thread.start()

    def after_run(self, runner: Any) -> None:
        """End, and say so to the others."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=self.period)
        self._threads = []

    def _beat(self) -> None:
        """Give signs of life, and note those of the others."""
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
                # Silence, which `_watch` counts, unless the next beat comes through.
                store = None
                self.error = f"; {type(error).__name__}: {error}".partition("\n")[0]
            if self._over.wait(self.period):
                break
        with suppress(RuntimeError):  # rank 0 may have gone first
            if store is not None:
                store.set(keys[self.rank], _ENDED.decode())

    def _connect(self) -> TCPStore:
        wait = timedelta(seconds=self.period * _BEATS)
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(*address, is_master=False, wait_for_workers=False, timeout=wait)

    def _watch(self) -> None:
        """Count our own beats since each rank's last; none is seen where the store is silent."""
        while not self._over.wait(self.period):
            for rank in range(self.ranks):
                self.silent[rank] += 1
            if max(self.silent) >= _SILENT:
                sys.stderr.write(f"error: {self._words()}\n")
                sys.stderr.flush()
                os._exit(1)  # the main thread waits within a collective operation

    def _words(self) -> str:
        seconds = f"{self.period * _SILENT:.0f} s"
        end = (
            f"; rank {self.rank} ends (env_cfg.dist_cfg.timeout={self.period * _BEATS:.0f}); "
            "resume from the newest checkpoint by --resume"
        )
        if self.silent[self.rank] >= _SILENT:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            return (
                f"no answer for {seconds} from {where}, where the ranks meet: rank 0, or what "
                f"started it, has stopped{self.error}{end}"
            )
        stopped = [
            f"rank {rank} on {self.hosts[rank]}"
            for rank, count in enumerate(self.silent)
            if count >= _SILENT
        ]
        return f"no sign of life for {seconds} from {', '.join(stopped)}{end}"
