"""Two processes by gloo on the CPU against one: the same training, the same measures."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import free_port, run_ranks
from mmengine.runner import Runner
from same_state import differences, read_trusted
from small_runs import small_config

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def two_nodes(*arguments: str, cwd: Path) -> str:
    """Run a script in a process on each of two nodes; return what they said."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1"]
    line += ["--nnodes=2", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    outputs = [cwd / f"node_{node}.txt" for node in range(2)]
    agents: list[subprocess.Popen[bytes]] = []
    deadline = time.monotonic() + 300
    try:
        for node, output in enumerate(outputs):
            with output.open("w") as file:
                agent = subprocess.Popen(
                    [*line, f"--node_rank={node}", *arguments],
                    cwd=cwd,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            agents.append(agent)
        while None in (codes := [agent.poll() for agent in agents]) and not any(codes):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    finally:
        for agent in agents:
            agent.terminate()  # an agent ends the process of its node
        for agent in agents:
            try:
                agent.wait(60)
            except subprocess.TimeoutExpired:
                agent.kill()
    said = "".join(output.read_text() for output in outputs)
    assert codes == [0, 0], said
    return said


@pytest.mark.slow
def test_one_and_two_processes_move_the_weights_of_srgan_alike_and_name_them_alike(
    tmp_path: Path,
) -> None:
    run_ranks(HERE / "one_step.py", str(tmp_path / "two.pth"), cwd=tmp_path)
    two, accumulated = torch.load(tmp_path / "two.pth", weights_only=True)
    spec = importlib.util.spec_from_file_location("one_step", HERE / "one_step.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    one = module.step()
    # Of batches whose gradients are only accumulated, nothing is exchanged.
    exchanges = [int(state.pop("exchanges")) for state in (one, two, accumulated)]
    assert exchanges[0] == 0
    assert exchanges[1] == exchanges[2] > 0
    del accumulated["step_counter"]  # counts batches
    for state in (two, accumulated):
        assert set(state) <= set(one)
        for key, value in state.items():
            torch.testing.assert_close(value, one[key], rtol=0, atol=1e-5, msg=key)


@pytest.mark.slow
def test_two_nodes_train_srgan_and_validate_and_their_checkpoint_measures_the_same_anywhere(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    options = [
        "model.generator.mid_channels=8",
        "model.generator.num_blocks=1",
        "model.discriminator.mid_channels=4",
        "model.discriminator.input_size=32",
        "model.perceptual_loss=None",
        "model.ema.decay=0.9",
        "train_dataloader.dataset.pipeline.0.gt_patch_size=32",
        f"train_dataloader.dataset.gt={photographs}/train",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_dataloader.batch_size=2",
        "train_cfg.max_iters=4",
        "train_cfg.val_interval=4",
        "default_hooks.checkpoint.interval=4",
    ]
    config = str(ROOT / "configs/srgan_x4c64b16_g1_1000k_div2k.py")
    shared = ["--launcher", "pytorch", "--cfg-options", *options]
    train = [str(ROOT / "tools/train.py"), config, "--work-dir", str(tmp_path / "run"), *shared]
    assert "Set14 PSNR" in two_nodes(*train, cwd=tmp_path)
    tool, test = ROOT / "tools/test.py", [config, str(tmp_path / "run/iter_4.pth"), "--out"]
    run_ranks(tool, *test, "two.json", *shared, cwd=tmp_path)
    run_ranks(tool, *test, "one.json", "--cfg-options", *options, cwd=tmp_path, ranks=1)
    two, one = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("two", "one"))
    assert set(one) == {"Set5", "Set14"}
    for name, scores in one.items():
        assert two[name] == pytest.approx(scores, abs=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_mmengine")
def test_a_run_goes_on_with_another_number_of_processes_on_the_same_samples(
    photographs: Path, tmp_path: Path
) -> None:
    name, gt = "msrresnet_x4c64b16_g1_1000k_div2k.py", photographs / "train"
    shared: dict[str, Any] = {
        "model.generator.mid_channels": 4,
        "model.generator.num_blocks": 1,
        "train_dataloader.dataset.pipeline.0.gt_patch_size": 32,
        "default_hooks.checkpoint.interval": 3,
        "param_scheduler.periods": [4, 8],
        "param_scheduler.restart_weights": [1, 0.5],
    }

    def alone(work: str, **options: Any) -> Path:
        options = shared | {"train_dataloader.batch_size": 4} | options
        Runner.from_cfg(small_config(name, gt, tmp_path / work, 6, **options)).train()
        return tmp_path / work / "iter_6.pth"

    def by_two(work: str, *words: str) -> Path:
        cfg = small_config(name, gt, tmp_path / work, 6, **shared)
        cfg.train_dataloader.batch_size = 2
        cfg.dump(tmp_path / f"{work}.py")
        line = [str(tmp_path / f"{work}.py"), "--launcher", "pytorch"]
        line += ["--work-dir", str(tmp_path / work), *words]
        run_ranks(ROOT / "tools/train.py", *line, cwd=tmp_path)
        return tmp_path / work / "iter_6.pth"

    whole, two = alone("whole"), by_two("two")
    more = by_two("more", "--resume", str(whole.with_name("iter_3.pth")))
    options = {"resume": True, "load_from": str(two.with_name("iter_3.pth"))}
    fewer = alone("fewer", **options)
    expected = read_trusted(whole)
    for path in (two, more, fewer):
        state = read_trusted(path)
        for part in ("state_dict", "param_schedulers"):
            assert differences(expected[part], state[part], atol=1e-6) == [], path
    ours, theirs = (read_trusted(p)["message_hub"]["log_scalars"] for p in (whole, fewer))
    curves = [c["train/loss_pix"].data[0] for c in (ours, theirs)]
    assert curves[0][3:] == pytest.approx(curves[1][3:], abs=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("version", "pauses"),
    [((3, 11, 7), True), ((3, 11, 10), False), ((3, 10, 14), True), ((3, 12, 0), False)],
)
def test_another_thread_runs_before_a_fork_where_python_could_hang_in_it(
    version: tuple[int, ...], pauses: bool
) -> None:
    script = f"""
import os, sys, threading
from srgan_plugin.hosts.mmengine.engine import distributed
distributed._PAUSE = 2
distributed.pause_before_forks({version})
distributed.pause_before_forks({version})
sys.setswitchinterval(100)
go, done = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (go.wait(), done.set()), daemon=True)
thread.start()
go.set()
pid = os.fork()
if not pid:
    os._exit(done.is_set())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=120, check=False)
    assert ended.returncode == int(pauses)
