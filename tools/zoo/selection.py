"""Select the checkpoint of a training to bundle, by its log or by NIQE of held-out images."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.errors import MissingFileError
from srgan_plugin.hosts.mmengine.engine.checkpoint_files import (
    numbered_checkpoints,
    parse_iteration,
)
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.atomic import write_text
from srgan_plugin.io.text_files import read_json, read_text
from srgan_plugin.metrics import Scorer
from srgan_plugin.metrics.niqe import niqe, pristine_model

_SPAN: Final = 10  # lines of the log on each side, for a running median


class Log(NamedTuple):
    """Log of a training, including resumed runs.

    Attributes:
        steps: Losses and seconds per iteration, by iteration.
        held_out: Scores of validations, by iteration.
    """

    steps: dict[int, dict[str, float]]
    held_out: dict[int, dict[str, float]]

    @property
    def seconds(self) -> float:
        """Seconds per iteration, as the mean of running medians.

        Pauses and short disturbances do not count; a resumed run at another speed does.
        """
        times = [line["time"] for _, line in sorted(self.steps.items())]
        spans = (times[max(i - _SPAN, 0) : i + _SPAN + 1] for i in range(len(times)))
        return float(np.mean([np.median(span) for span in spans]))


def read_log(run: Path) -> Log:
    """Read all `vis_data/scalars.json` of a run; lines after a resume replace earlier ones.

    Raises:
        MissingFileError: The run has no log.
    """
    files = sorted(run.glob("*/vis_data/scalars.json"))
    if not files:
        raise MissingFileError(f"{run}: expected a log TIMESTAMP/vis_data/scalars.json, got none")
    log = Log({}, {})
    for file in files:
        for line in _complete_lines(file):
            is_step = any(name.startswith("loss") for name in line)
            (log.steps if is_step else log.held_out)[line["step"]] = line
    return log


def _complete_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines written by mmengine, without truncated ones of a killed run."""
    for line in read_text(file, "mmengine's log").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def best_by_psnr(run: Path, last: Path, held_out: Benchmark) -> Path:
    """Return the checkpoint with the best validation, saved by mmengine as `best_…`.

    A run that was killed in its last validation does not repeat it, so its last checkpoint is
    measured here.

    Args:
        run: Work dir of the run.
        last: Last checkpoint of the run.
        held_out: Images of the validation.

    Raises:
        MissingFileError: The run has no `best_…` checkpoint.
    """
    best = max(
        run.glob("best_*_iter_*.pth"), key=lambda path: parse_iteration(path) or 0, default=None
    )
    if best is None:
        raise MissingFileError(f"{run}: expected best_…_iter_….pth, got none; run a validation")
    if parse_iteration(last) in read_log(run).held_out:
        return best
    return max((best, last), key=lambda path: _scores(path, held_out)["PSNR"])


def best_by_niqe(
    run: Path, held_out: Benchmark, say: Callable[[str], None]
) -> tuple[Path, dict[int, dict[str, float]]]:
    """Return the checkpoint of a run with the lowest NIQE on held-out images.

    Scores are saved in `held_out.json` of the run and not computed again.

    Args:
        run: Work dir of the run, with `iter_….pth`.
        held_out: The held-out images.
        say: Called with a line for each checkpoint.

    Returns:
        The checkpoint, and the scores by iteration.

    Raises:
        MissingFileError: The run has no checkpoints.
    """
    checkpoints = numbered_checkpoints(run)
    if not checkpoints:
        raise MissingFileError(f"{run}: expected checkpoints iter_….pth, got none")
    kept = run / "held_out.json"
    known = read_json(kept, "scores of checkpoints") if kept.is_file() else {}
    found = {}
    for iterations, path in checkpoints:
        key = f"{path.name} of {path.stat().st_mtime_ns}"  # a checkpoint may be trained again
        if key not in known:
            known[key] = _scores(path, held_out)
            write_text(json.dumps(known, indent=2) + "\n", kept)
        found[iterations] = known[key]
        say(f"{path.name}: " + ", ".join(f"{k} {v:.3f}" for k, v in known[key].items()))
    return min(checkpoints, key=lambda pair: found[pair[0]]["NIQE"])[1], found


def _scores(checkpoint: Path, held_out: Benchmark) -> dict[str, float]:
    upscale = Upscaler(open_model(str(checkpoint)))
    scorer, pristine = Scorer(["basicsr"], border=4), pristine_model()
    rows: list[dict[str, Any]] = []
    for index in range(len(held_out.pairs)):
        pair = held_out.pairs[index]
        sr = upscale(np.asarray(pair.lr))
        scores = scorer.score(sr, np.asarray(pair.gt))
        rows.append({"PSNR": scores["PSNR"], "NIQE": niqe(sr, pristine, border=4)})
    return {name: float(np.mean([row[name] for row in rows])) for name in ("PSNR", "NIQE")}
