"""A rank that gives signs of life and works with the others; `test_heartbeat.py` starts it."""

import sys
import time
from types import SimpleNamespace

import torch
from mmengine.config import ConfigDict

from srgan_plugin.hosts.mmengine.engine.distributed import join_process_group
from srgan_plugin.hosts.mmengine.engine.heartbeat import HeartbeatHook

if __name__ == "__main__":
    seconds, duration = float(sys.argv[1]), float(sys.argv[2])
    # Ranks start seconds apart on a busy machine; only the heartbeat is to be short of patience.
    join_process_group("pytorch", ConfigDict(env_cfg={"dist_cfg": {"timeout": max(seconds, 30)}}))
    cfg = ConfigDict(env_cfg={"dist_cfg": {"timeout": seconds}})
    hook = HeartbeatHook()
    hook.before_run(SimpleNamespace(cfg=cfg))
    end, over = time.monotonic() + duration, torch.zeros(1)
    while not over:
        over.fill_(time.monotonic() > end)
        torch.distributed.all_reduce(over)
        sys.stdout.write(".")
        sys.stdout.flush()
    hook.after_run(None)
