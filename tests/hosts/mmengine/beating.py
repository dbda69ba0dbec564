"""A rank that gives signs of life and works with the others; `test_heartbeat.py` starts it."""

import sys
from types import SimpleNamespace

import torch
from mmengine.config import ConfigDict

from srgan_plugin.hosts.mmengine.engine.distributed import join_process_group
from srgan_plugin.hosts.mmengine.engine.heartbeat import HeartbeatHook

if __name__ == "__main__":
    seconds, steps = float(sys.argv[1]), int(sys.argv[2])
    # Ranks start seconds apart on a busy machine; only the heartbeat is to be short of patience.
    join_process_group("pytorch", ConfigDict(env_cfg={"dist_cfg": {"timeout": max(seconds, 30)}}))
    cfg = ConfigDict(env_cfg={"dist_cfg": {"timeout": seconds}})
    hook = HeartbeatHook()
    hook.before_run(SimpleNamespace(cfg=cfg))
    for _ in range(steps):
        torch.distributed.all_reduce(torch.ones(1))
        sys.stdout.write(".")
        sys.stdout.flush()
    hook.after_run(None)
