"""Keep the start of a training, choose a checkpoint of it, and bundle its weights."""

import os
import shutil
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine.checkpoint_files import (
    checkpoint_name,
    numbered_checkpoints,
    parse_iteration,
)
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.io.download import sha256

from .finishing import add_detail, best_of_means, finish
from .selection import best_by_niqe, best_by_psnr, read_log
from .training_summary import curves, recipe, validations

#: File in the run of the weights that were bundled.
RESULT: Final = "bundled.safetensors"


class Training(NamedTuple):
    """Training of a network.

    Attributes:
        name: Name of the network.
        config: File name of the config.
        work: Work dir of all trainings.
        further: Option that trains the bundled network further; None for the first stage.
        copies: Name of the copies of the photographs that it is on; None for the photographs or
            their pieces.
    """

    name: str
    config: str
    work: Path
    further: str | None = None
    copies: str | None = None

    @property
    def is_averaged(self) -> bool:
        """Whether the best of its weights, those of its start, and means of them is bundled.

        This is so for the options that make copies of the photographs.
        """
        return self.further is not None and self.copies == self.further

    @property
    def run(self) -> Path:
        """Work dir of this training, which also has its start and its result."""
        return self.work / Path(self.config).stem


def keep_start(training: Training, start: Path) -> Path:
    """Copy the weights that a training starts from into its run.

    The file `start` may be replaced by the result of the training.

    Returns:
        The copy.

    Raises:
        UserError: The run was trained from other weights.
    """
    kept, result = training.run / f"start{start.suffix}", training.run / RESULT
    began = any(training.run.glob("*.pth")) or any(training.run.glob("*/vis_data"))
    if not kept.is_file() and not began:
        training.run.mkdir(parents=True, exist_ok=True)
        with atomic_path(kept) as temporary:
            shutil.copyfile(start, temporary)
    if not kept.is_file():
        raise UserError(
            f"{kept}: expected the weights that the run was trained from, got no file; move "
            f"{training.run} to train again"
        )
    if sha256(start) not in [sha256(path) for path in (kept, result) if path.is_file()]:
        raise UserError(
            f"{training.run}: expected a run trained from {start}, got one from other weights; "
            "move it to train again"
        )
    return kept


def choose(
    training: Training, held_out: Path, iterations: int
) -> tuple[Path, str, dict[int, dict[str, float]]]:
    """Choose the checkpoint by the held-out photographs, or the last of `photo` and for means.

    Args:
        training: Completed training.
        held_out: Folder of held-out photographs.
        iterations: Iterations of the complete training.

    Returns:
        The checkpoint, the criterion, and the scores by iteration.
    """
    benchmark = find_benchmark(held_out.name, held_out.parent)
    if training.is_averaged or training.name == "photo":
        last = training.run / checkpoint_name(iterations)
        return last, "being the last", validations(read_log(training.run))
    if training.name == "msrresnet":
        best = best_by_psnr(training.run, training.run / checkpoint_name(iterations), benchmark)
        return best, "PSNR on the held-out photographs", validations(read_log(training.run))
    chosen, scores = best_by_niqe(training.run, benchmark, print)
    return chosen, "NIQE on the held-out photographs", scores


def bundle(
    training: Training, config: Any, start: Path, weights: Path, *, cpu: bool
) -> tuple[Path, dict[str, Any]]:
    """Choose the checkpoint of a training, finish it if need be, and bundle its weights.

    Args:
        training: Completed training.
        config: Its config.
        start: Weights that it started from, for the average or interpolation with them.
        weights: Folder of the bundled weights.
        cpu: Whether it was trained on a CPU.

    Returns:
        The chosen checkpoint and a summary of the training.
    """
    iterations, data = config.train_cfg.max_iters, training.work / "data"
    chosen, chosen_by, scores = choose(training, data / "HeldOut", iterations)
    log = read_log(training.run)
    source, summary = chosen, recipe(config)
    if training.name == "srgan":
        source = training.run / "finished.pth"
        summary |= finish(start, chosen, source, find_benchmark("photographs", data))
    if training.name == "photo" and not training.further:
        source = training.run / "finished.pth"
        summary |= add_detail(start, weights / "srgan.safetensors", chosen, source)
    if training.name == "photo" and training.further == "distill":
        clean = sha256(weights / "msrresnet.safetensors")[:8]
        summary["targets"] = (
            "outputs of the start for LR degraded as in the stage before, and of MSRResNet (file "
            f"{clean}) for a share of {config.target_degradation.clean_ratio:g} that is clean"
        )
    if training.is_averaged:
        source = training.run / "averaged.pth"
        held_out = find_benchmark("HeldOut", data)
        checkpoints = [path for _, path in numbered_checkpoints(training.run)]
        summary |= best_of_means(start, checkpoints, source, held_out)
    result = training.run / RESULT
    print("\n".join(convert(source, result, to="plugin", half=True).report()))
    shown = curves(log, scores)
    target = weights / f"{training.name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(result, temporary)
    return chosen, {
        "config": training.config,
        "gpu_config": f"zoo_{training.name}_x4c64b16.py",
        "cpu": cpu,
        "device": device(cpu=cpu),
        "seconds": round(log.seconds, 3),
        "hours": round(log.seconds * iterations / 3600, 2),
        "iterations": iterations,
        "chosen": parse_iteration(chosen),
        "chosen_by": chosen_by,
        "recipe": summary,
        "curves": shown,
        **({"start_sha256": sha256(start)} if start.parent == training.run else {}),
    }


def device(*, cpu: bool) -> str:
    """Return the name of the device of the training."""
    if cpu or not torch.cuda.is_available():
        return f"{os.cpu_count()} CPU cores"
    return f"one {torch.cuda.get_device_name()}"
