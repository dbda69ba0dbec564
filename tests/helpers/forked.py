"""Processes forked from one that has imported torch and mmengine, which takes longer than they."""

import os
import runpy
import socket
import sys
from collections.abc import Mapping
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

PRELOADED = ("mmengine.runner", "srgan_plugin.hosts.mmengine", "srgan_plugin.cli.configs")


def context() -> Any:
    """Return a context of `multiprocessing` and start its server, which imports what runs need."""
    forking = get_context("forkserver")
    # Importing mmengine initialises CUDA, after which a forked process cannot use it.
    forking.set_forkserver_preload(["torch", *(() if torch.cuda.is_available() else PRELOADED)])
    forkserver.ensure_running()
    return forking


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def rank_variables(ranks: int) -> list[dict[str, str]]:
    """Return what torchrun tells each of several processes on one machine."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def start(
    script: Path, *arguments: str, output: Path, cwd: Path, variables: Mapping[str, str]
) -> ForkServerProcess:
    """Start a script in a forked process, as `python SCRIPT ARGUMENTS` would.

    Args:
        script: The script, which runs as `__main__`.
        *arguments: Its command line.
        output: File for what it writes to stdout; stderr goes beside it, to `.err`.
        cwd: Its working directory.
        variables: Environment variables to add to those of this process.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    process: ForkServerProcess = context().Process(
        target=_run, args=(str(script), arguments, str(output), str(cwd), environment)
    )
    process.start()
    return process


def run_ranks(script: Path, *arguments: str, cwd: Path, ranks: int = 2) -> None:
    """Run a script to its end in so many processes, which one does not see as distributed."""
    variables = rank_variables(ranks) if ranks > 1 else [{}]
    outputs = [cwd / f"rank_{rank}.txt" for rank in range(ranks)]
    processes = [
        start(script, *arguments, output=output, cwd=cwd, variables=own)
        for output, own in zip(outputs, variables, strict=True)
    ]
    try:
        for process in processes:
            process.join(300)
    finally:
        for process in processes:
            process.kill()
    said = "".join(p.read_text() for out in outputs for p in (out, out.with_suffix(".err")))
    assert [process.exitcode for process in processes] == [0] * ranks, said


def _run(
    script: str, arguments: tuple[str, ...], output: str, cwd: str, environment: dict[str, str]
) -> None:
    for number, path in ((1, output), (2, str(Path(output).with_suffix(".err")))):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
