"""The scripts for several GPUs: what they start, and that what they start trains."""

import os
import re
import shutil
import stat
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
import torch

from srgan_plugin.cli.configs import read_config
from tests.test_tools import tool

ROOT = Path(__file__).resolve().parent.parent
CONFIG = str(ROOT / "configs/msrresnet_x4c64b16_g1_1000k_div2k.py")
VARIABLES = ("GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK", "SRUN_ARGS", "PORT", "NNODES", "NODE_RANK")


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A folder with an `srun` and an `interpreter` that say what they were started with."""
    for name in ("srun", "interpreter"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "PORT=$MASTER_PORT"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return tmp_path / "bin"


def start(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [ROOT / "tools" / script, *arguments],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def recorded(recorder: Path, script: str, *arguments: str, **variables: str) -> list[str]:
    path = f"{recorder}{os.pathsep}{os.environ['PATH']}"
    python = str(recorder / "interpreter")
    done = start(script, *arguments, PATH=path, PYTHON=python, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_slurm_train_asks_for_the_gpus_and_hands_everything_on(recorder: Path) -> None:
    said = recorded(
        recorder,
        "slurm_train.sh",
        *("short", "sr gan", "a config.py", "work dir", "--amp", "--cfg-options", "a=b c"),
        GPUS="16",
        SRUN_ARGS="--time=1:00 --mem=8G",
        PORT="12345",
    )
    script = said.index(str(ROOT / "tools" / "train.py"))
    assert said[:script] == [
        *("--partition=short", "--job-name=sr gan", "--gres=gpu:8", "--ntasks=16"),
        *("--ntasks-per-node=8", "--cpus-per-task=5", "--kill-on-bad-exit=1"),
        *("--time=1:00", "--mem=8G", str(recorder / "interpreter"), "-u"),
    ]
    assert said[script + 1 :] == [
        *("a config.py", "--work-dir", "work dir", "--amp", "--cfg-options", "a=b c"),
        *("--launcher", "slurm", "PORT=12345"),
    ]


def test_slurm_test_with_less_than_a_machine_asks_for_no_more(recorder: Path) -> None:
    said = recorded(
        recorder, "slurm_test.sh", "p", "j", "c.py", "x.pth", "--out", "r.json", GPUS="2"
    )
    assert {"--gres=gpu:2", "--ntasks=2", "--ntasks-per-node=2"} <= set(said)
    script = said.index(str(ROOT / "tools" / "test.py"))
    assert said[script + 1 : -1] == ["c.py", "x.pth", "--out", "r.json", "--launcher", "slurm"]
    port = int(said[-1].removeprefix("PORT="))
    assert 20_000 <= port < 30_000


def test_several_machines_meet_at_the_usual_variables(recorder: Path) -> None:
    said = recorded(
        recorder,
        "dist_train.sh",
        *("c.py", "8", "--resume"),
        NNODES="2",
        NODE_RANK="1",
        MASTER_ADDR="node0",
        PORT="29501",
    )
    assert said[:-1] == [
        *("-m", "torch.distributed.run", "--nnodes=2", "--node_rank=1", "--master_addr=node0"),
        *("--master_port=29501", "--nproc_per_node=8", str(ROOT / "tools/train.py")),
        *("c.py", "--resume", "--launcher", "pytorch"),
    ]


def test_dist_test_takes_checkpoint_and_gpus_in_mmagics_order(recorder: Path) -> None:
    said = recorded(recorder, "dist_test.sh", "c.py", "x.pth", "4", "--out", "r.json")
    assert said[:-1] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4"),
        *(str(ROOT / "tools/test.py"), "c.py", "x.pth", "--out", "r.json"),
        *("--launcher", "pytorch"),
    ]


def test_torch_waits_for_the_checkpoint_as_long_as_slurm_and_the_documents_say(
    recorder: Path,
) -> None:
    (recorder / "interpreter").write_text('#!/bin/sh\necho "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT"\n')
    waits = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": ""}  # an empty one counts as none
    (seconds,) = recorded(recorder, "dist_train.sh", "c.py", "8", **waits)
    warned = [int(number) for number in re.findall(r"B:TERM@(\d+)", "".join(sbatch_scripts()))]
    assert 30 < int(seconds) < min(warned)
    rows = (ROOT / "docs/cluster.md").read_text().splitlines()
    assert any(
        re.match(rf".*\| {seconds}: .*`TORCH_ELASTIC_SHUTDOWN_TIMEOUT`", row) for row in rows
    )
    assert any(f"| {min(warned)}: `--signal=B:TERM@{min(warned)}`" in row for row in rows)
    waits = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "7"}
    assert recorded(recorder, "dist_train.sh", "c.py", "8", **waits) == ["7"]


@pytest.mark.parametrize("script", ["dist_train", "dist_test", "slurm_train", "slurm_test"])
def test_a_script_without_its_arguments_says_how_it_is_used(script: str) -> None:
    done = start(f"{script}.sh", "one")
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")
    assert "CONFIG" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_number_of_gpus_and_a_machine_without_slurm_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    bash = shutil.which("bash")
    assert bash is not None
    (tmp_path / "bash").symlink_to(bash)
    for script, words, said in (
        ("dist_train.sh", ("c.py", "two"), "GPUS: expected a number from 1, got two"),
        ("dist_test.sh", ("c.py", "x.pth", "0"), "GPUS: expected a number from 1, got 0"),
        ("slurm_train.sh", ("p", "j", "c.py", "w"), "srun is missing"),
    ):
        done = start(script, *words, PATH=str(tmp_path))
        assert done.returncode != 0
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def sbatch_scripts() -> list[str]:
    text = (ROOT / "docs/cluster.md").read_text()
    return re.findall(r"```bash\n(#!.*?)```", text, re.DOTALL)


def with_four_gpus(script: str, column: int) -> str:
    """Change a script as the rows of docs/cluster.md state it."""
    text = (ROOT / "docs/cluster.md").read_text()
    table = text.partition("| | first script | second script |")[2].partition("\n\n")[0]
    cells = "".join(row.split("|")[column] for row in table.splitlines()[2:])
    for old, new in (
        *((rf"{name}=\S+", word) for word, name in re.findall(r"`(([\w-]+)=\S+)`", cells)),
        *((r"(dist_train\.sh \S+) 8", rf"\1 {n}") for n in re.findall(r"CONFIG (\d)`", cells)),
    ):
        assert re.search(old, script), old
        script = re.sub(old, new, script)
    return script


ONE, TWO = sbatch_scripts()
SCRIPTS = {
    "one_machine": ONE,
    "two_machines": TWO,
    "four_gpus": with_four_gpus(ONE, 2),
    "twice_four_gpus": with_four_gpus(TWO, 3),
}


@pytest.mark.usefixtures("fresh_mmengine")
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_an_sbatch_script_of_the_documents_resumes_or_starts_from_weights_with_16_images_a_step(
    script: str, recorder: Path
) -> None:
    for name in ("python", "scontrol"):
        (recorder / name).symlink_to(recorder / "interpreter")
    (recorder / "srun").write_text(
        '#!/bin/sh\nprintf "%s\\n" "CPUS=$SRUN_CPUS_PER_TASK" "$@" last\n'
    )
    asked = dict(re.findall(r"--([\w-]+)=(?:gpu:)?(\d+)", script))
    path = f"{recorder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=os.environ
        | {"PATH": path, "PYTHON": "python", "SLURM_JOB_NODELIST": "node[0-1]"}
        | {"SLURM_CPUS_PER_TASK": asked["cpus-per-task"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said = done.stdout.splitlines()[:-1]
    (train,) = (i for i, word in enumerate(said) if word.endswith("tools/train.py"))
    args = tool("train").parse_args(said[train + 1 :])
    assert args.resume == "auto"
    bare = read_config(ROOT / args.config)
    for option in args.cfg_options:
        reduce(lambda node, key: node[key], option.partition("=")[0].split("."), bare)
    cfg = read_config(ROOT / args.config, args.cfg_options)
    assert (ROOT / "configs" / f"{Path(cfg.load_from).parent.name}.py").is_file()
    gpus = int(asked["gres"])
    assert cfg.train_dataloader.batch_size * gpus * int(asked["nodes"]) == 16
    tasks = int(asked.get("ntasks-per-node") or asked["ntasks"])
    started = [f"--nproc_per_node={gpus}"] if tasks == 1 else [f"CPUS={asked['cpus-per-task']}"]
    assert set(started) <= set(said)
    assert tasks in (1, gpus)
    assert cfg.train_dataloader.num_workers == int(asked["cpus-per-task"]) * tasks // gpus - 1


@pytest.mark.slow
def test_dist_train_trains_with_two_processes(photographs: Path, tmp_path: Path) -> None:
    done = start(
        "dist_train.sh",
        *(CONFIG, "2", "--work-dir", str(tmp_path / "run"), "--auto-scale-lr", "--cfg-options"),
        "model.generator.mid_channels=4",
        "model.generator.num_blocks=1",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "train_dataloader.batch_size=1",
        "train_dataloader.dataset.pipeline.0.gt_patch_size=32",
        f"train_dataloader.dataset.gt={photographs}/train",
        "train_cfg.max_iters=2",
        PYTHON=sys.executable,
        SRGAN_DATA=str(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log = next((tmp_path / "run").glob("*/*.log")).read_text()
    assert "GPU number: 2" in log
    assert "generator MSRResNet" in done.stdout
    assert "Scaling the original LR by 0.125" in log  # two of the published sixteen
    state = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=False)
    assert state["meta"]["iter"] == 2
