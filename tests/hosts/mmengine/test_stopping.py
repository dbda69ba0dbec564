"""A run that is told to stop, fails, or is killed: what its files and its process are left with."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from same_state import assert_same_checkpoint, read_trusted
from small_runs import ROOT, small_config

from srgan_plugin.hosts.mmengine.engine import checkpoint_hook
from srgan_plugin.hosts.mmengine.engine.checkpoint_files import newest_checkpoint
from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import CheckpointHook
from srgan_plugin.hosts.mmengine.engine.multi_loops import MultiValLoop
from srgan_plugin.hosts.mmengine.engine.resume_hooks import InterruptHook

pytestmark = pytest.mark.usefixtures("fresh_mmengine")
MSRRESNET = "msrresnet_x4c64b16_g1_1000k_div2k.py"
TINY = {
    "model.generator.mid_channels": 4,
    "model.generator.num_blocks": 1,
    "train_dataloader.batch_size": 2,
    "train_dataloader.dataset.pipeline.0.gt_patch_size": 32,
    "visualizer": None,
}
STOP = signal.SIGTERM


def tiny(photographs: Path, work: Path, iterations: int, **options: Any) -> Config:
    return small_config(MSRRESNET, photographs / "train", work, iterations, **TINY, **options)


def with_validation(cfg: Config) -> Config:
    whole = Config.fromfile(ROOT / "configs" / MSRRESNET)
    for part in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg[part] = whole[part]
    return cfg


class At(Hook):
    """Calls a function after the step of one number, before or after the checkpoint of it."""

    def __init__(self, number: int, do: Callable[[Runner], object]) -> None:
        self.number, self.do = number, do

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.number:
            self.do(runner)


def tell(_: object = None) -> None:
    os.kill(os.getpid(), STOP)


def steps_in(path: Path) -> tuple[int, int, int, int]:
    """How many steps made a checkpoint: by its note, the optimiser, schedulers, and the log."""
    state = read_trusted(path)
    (adam,) = {int(each["step"]) for each in state["optimizer"]["state"].values()}
    (scheduler,) = state["param_schedulers"]
    logged = len(state["message_hub"]["log_scalars"]["train/loss_pix"].data[0])
    return state["meta"]["iter"], adam, scheduler["last_step"], logged


def assert_names_and_contents_agree(work: Path) -> None:
    for path in work.glob("*.pth"):
        assert steps_in(path) == (int(path.stem.rpartition("_")[2]),) * 4, path


def test_a_save_that_fails_while_a_signal_is_pending_gives_no_file_a_wrong_name(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "run"
    runner = Runner.from_cfg(tiny(photographs, work, 9, **{"default_hooks.checkpoint.interval": 2}))
    put = checkpoint_hook.AtomicBackend.put

    def full(self: Any, obj: bytes, filepath: str) -> None:
        if "iter_4" in str(filepath):
            tell()
            raise OSError(28, "No space left on device", str(filepath))
        put(self, obj, filepath)

    monkeypatch.setattr(checkpoint_hook.AtomicBackend, "put", full)
    before = signal.getsignal(STOP)
    with pytest.raises(OSError, match="No space"):
        runner.train()
    assert [path.name for path in work.glob("*.pth")] == ["iter_2.pth"]
    assert_names_and_contents_agree(work)
    assert newest_checkpoint(work) == work / "iter_2.pth"
    assert runner.message_hub.get_info("last_ckpt") == str(work / "iter_2.pth")
    assert signal.getsignal(STOP) is before


@pytest.mark.parametrize("max_steps", [1, 100])
def test_a_batch_that_is_lost_while_a_signal_is_pending_costs_no_step(
    photographs: Path, tmp_path: Path, max_steps: int
) -> None:
    work = tmp_path / "run"
    runner = Runner.from_cfg(
        tiny(photographs, work, 9, **{"train_cfg.max_steps_per_hook_call": max_steps})
    )
    batches = runner.build_train_loop(runner._train_loop)
    runner._train_loop = batches
    whole = batches._restore_data_position

    def seek() -> None:
        whole()
        rest = batches.dataloader_iterator

        def three() -> Any:
            for _ in range(3):
                yield next(rest)
            tell()
            raise RuntimeError("DataLoader worker is killed by signal")

        batches.dataloader_iterator = three()

    batches._restore_data_position = seek
    with pytest.raises(SystemExit) as stop:
        runner.train()
    assert stop.value.code == 128 + STOP
    assert [path.name for path in work.glob("*.pth")] == ["iter_3.pth"]
    assert_names_and_contents_agree(work)


def test_a_second_signal_does_what_it_did_before_the_run() -> None:
    heard: list[int] = []
    before = signal.signal(STOP, lambda number, _: heard.append(number))
    hook = InterruptHook()
    try:
        hook.before_train(None)
        tell()
        assert (heard, hook.received) == ([], STOP)
        tell()
        assert heard == [STOP]
    finally:
        hook.stop_listening()
        signal.signal(STOP, before)


@pytest.mark.parametrize("stage", ["before_train", "before_train_iter", "after_train"])
def test_a_failed_run_leaves_signals_to_whoever_had_them(
    photographs: Path, tmp_path: Path, stage: str
) -> None:
    runner = Runner.from_cfg(tiny(photographs, tmp_path / "run", 2))

    def fail(*_: Any, **__: Any) -> None:
        raise LookupError(stage)

    hook = Hook()
    setattr(hook, stage, fail)
    runner.register_hook(hook, priority="LOWEST")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(LookupError, match=stage):
        runner.train()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_in_another_thread_trains(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # mmengine keeps this lock where a constructor failed, as one may have in an earlier test.
    monkeypatch.setattr("mmengine.utils.manager._lock", threading.RLock())
    runner = Runner.from_cfg(tiny(photographs, tmp_path / "run", 2))
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join()
    assert (tmp_path / "run/iter_2.pth").is_file()


class Killed(BaseException):
    """What a kill is within one process: nothing handles it."""


@pytest.mark.slow
@pytest.mark.parametrize("by_signal", [False, True])
def test_a_validation_that_was_cut_short_is_made_up_for_by_the_resumed_run(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_signal: bool
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    options: dict[str, Any] = {
        "default_hooks.checkpoint.interval": 2,
        "default_hooks.checkpoint.max_keep_ckpts": 2,
    }

    def config(work: Path, **more: Any) -> Config:
        cfg = with_validation(tiny(photographs, work, 6, **options, **more))
        cfg.default_hooks.checkpoint.save_best = "auto"
        cfg.train_cfg.val_interval = 2
        return cfg

    Runner.from_cfg(config(tmp_path / "whole")).train()
    work = tmp_path / "run"
    measure = MultiValLoop.run_iter

    def stop(self: Any, index: int, batch: Any) -> None:
        if self.runner.iter == 4 and index == 1:
            if not by_signal:
                raise Killed
            tell()
        measure(self, index, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MultiValLoop, "run_iter", stop)
        with pytest.raises((Killed, SystemExit)):
            Runner.from_cfg(config(work)).train()
    assert newest_checkpoint(work) == work / "iter_4.pth"
    Runner.from_cfg(config(work, resume=True, load_from=str(work / "iter_4.pth"))).train()
    assert {p.name for p in work.glob("*.pth")} == {
        p.name for p in (tmp_path / "whole").glob("*.pth")
    }
    assert_same_checkpoint(tmp_path / "whole/iter_6.pth", work / "iter_6.pth")


@pytest.mark.parametrize("way", ["tool", "relative", "mmengine"])
def test_runs_that_are_killed_before_they_remove_what_is_too_old_leave_nothing_behind(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    work = tmp_path / "run"
    options: dict[str, Any] = {
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.checkpoint.max_keep_ckpts": 2,
    }

    def killed(self: Any) -> None:
        if len(self.saved) > 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointHook, "_remove_old", killed)
        with pytest.raises(Killed):
            Runner.from_cfg(tiny(photographs, work, 9, **options)).train()
    assert len(list(work.glob("iter_*.pth"))) == 3
    for until in (4, 5):
        options |= {"resume": True}
        if way != "mmengine":
            monkeypatch.chdir(tmp_path)
            options["load_from"] = str(newest_checkpoint(work if way == "tool" else Path("run")))
        Runner.from_cfg(tiny(photographs, work, until, **options)).train()
        assert {p.name for p in work.glob("*.pth")} == {
            f"iter_{until - 1}.pth",
            f"iter_{until}.pth",
        }


def run_with_best(
    cfg: Config, scores: dict[int, dict[str, float]]
) -> tuple[Runner, CheckpointHook]:
    """Train; after some steps as if a validation had given these scores."""
    runner = Runner.from_cfg(cfg)

    class Validate(Hook):
        def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
            if score := scores.get(runner.iter + 1):
                runner.train_loop._iter += 1
                saves.after_val_epoch(runner, score)
                runner.train_loop._iter -= 1

    runner.register_hook(Validate(), priority="LOWEST")
    saves = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    runner.train()
    return runner, saves


@pytest.mark.parametrize(
    ("save_best", "rule", "score", "name"),
    [
        ("SSIM", "greater", {"PSNR": 29.0, "SSIM": 0.8}, "best_SSIM_iter_4.pth"),
        ("PSNR", "less", {"PSNR": 29.0, "SSIM": 0.8}, "best_PSNR_iter_4.pth"),
        ("auto", "greater", {"Set14/PSNR": 25.0}, "best_Set14_PSNR_iter_4.pth"),
        (["SSIM", "PSNR"], "greater", {"PSNR": 29.0, "SSIM": 0.8}, "best_SSIM_iter_4.pth"),
    ],
)
@pytest.mark.parametrize("by_mmengine", [False, True])
def test_a_best_score_of_another_metric_does_not_stand_in_the_way(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_best: Any,
    rule: str,
    score: dict[str, float],
    name: str,
    by_mmengine: bool,
) -> None:
    work, options = tmp_path / "run", {"default_hooks.checkpoint.interval": 1}
    if by_mmengine and rule == "less":
        pytest.skip("a checkpoint of mmengine's hook does not say by which rule")
    with monkeypatch.context() as patch:
        if by_mmengine:
            patch.setattr(CheckpointHook, "_forget_other_metrics", lambda *_: None)
        cfg = tiny(photographs, work, 2, **options)
        cfg.default_hooks.checkpoint |= {"save_best": "PSNR", "rule": "greater"}
        run_with_best(cfg, {2: {"PSNR": 28.0, "SSIM": 0.9}})
    assert (work / "best_PSNR_iter_2.pth").is_file()
    more = {"resume": True, "load_from": str(work / "iter_2.pth")}
    cfg = tiny(photographs, work, 5, **options, **more)
    cfg.default_hooks.checkpoint |= {"save_best": save_best, "rule": rule}
    run_with_best(cfg, {4: score})
    assert (work / name).is_file()
    assert (work / "best_PSNR_iter_2.pth").is_file()  # the best by another metric stays the best


def test_a_best_score_of_the_same_metric_still_stands(photographs: Path, tmp_path: Path) -> None:
    work = tmp_path / "run"
    for until, score in ((2, 28.0), (4, 27.0), (6, 29.0)):
        options = {"resume": until > 2, "default_hooks.checkpoint.interval": 2}
        cfg = tiny(photographs, work, until, **options)
        cfg.default_hooks.checkpoint |= {"save_best": "PSNR", "rule": "greater"}
        run_with_best(cfg, {until: {"PSNR": score}})
        best = {p.name for p in work.glob("best_*.pth")}
        assert best == {f"best_PSNR_iter_{6 if until == 6 else 2}.pth"}


@pytest.mark.slow
def test_two_ranks_agree_on_a_signal_that_one_of_them_got(tmp_path: Path) -> None:
    code = """
import os, signal, sys, torch
from types import SimpleNamespace
from srgan_plugin.hosts.mmengine.engine.resume_hooks import InterruptHook
rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
hook, ended = InterruptHook(interval=10), []
runner = SimpleNamespace(iter=0, logger=None)
hook.save_and_exit = lambda runner, iterations: sys.exit(f"{iterations} {hook.received}")
hook.before_train(runner)
for runner.iter in range(100):
    torch.distributed.barrier()
    if rank == 1 and runner.iter == 13:
        os.kill(os.getpid(), signal.SIGTERM)
    hook.after_train_iter(runner, 0)
"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | shared | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:  # after the same iteration, though one was not told
        assert f"20 {STOP.value}" in rank.communicate(timeout=60)[1].splitlines()


@pytest.mark.slow
def test_a_run_survives_a_step_far_longer_than_a_workers_patience(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time, torch
from functools import partial
from multiprocessing import RawValue
from srgan_plugin.hosts.mmengine.engine.train_loop import _delay_worker_signals

class Numbers(torch.utils.data.Dataset):
    def __len__(self): return 100
    def __getitem__(self, number): return number

training = RawValue("b", True)
loader = torch.utils.data.DataLoader(
    Numbers(), num_workers=2, worker_init_fn=partial(_delay_worker_signals, None, training))
signal.signal(signal.SIGTERM, lambda *_: None)
batches = iter(loader)
next(batches), next(batches)  # both workers are at work
os.killpg(0, signal.SIGTERM)
time.sleep(6.5)  # a slow step
count = sum(1 for _ in batches)
held = iter(loader)  # as the traceback of a failed run holds it: nothing tells its workers to end
next(held), next(held)
training.value = False
sys.exit(count != 98)
"""
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, start_new_session=True, timeout=60
    )
