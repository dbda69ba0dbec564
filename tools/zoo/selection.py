"""Which checkpoint of a training ships: by its log, and by how natural held-out images look."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.errors import MissingFileError
from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import iteration_of, numbered_checkpoints
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.atomic import write_text
from srgan_plugin.io.text_files import read_json, read_text
from srgan_plugin.metrics import Scorer
from srgan_plugin.metrics.niqe import niqe, pristine_model

_SPAN: Final = 10  # lines of the log to each side, for a running median


class Log(NamedTuple):
    """The log of a training, of all its goes.

    Attributes:
        steps: what was logged while it trained, by iteration: losses and seconds per iteration.
        held_out: its validations, by iteration.
    """

    steps: dict[int, dict[str, float]]
    held_out: dict[int, dict[str, float]]

    @property
    def seconds(self) -> float:
        """For an iteration: the mean of running medians.

        Pauses and disturbances do not count; a go at another speed does.
        """
        times = [line["time"] for _, line in sorted(self.steps.items())]
        spans = (times[max(i - _SPAN, 0) : i + _SPAN + 1] for i in range(len(times)))
        return float(np.mean([np.median(span) for span in spans]))


def read_log(run: Path) -> Log:
    """Read every `vis_data/scalars.json` of a run; lines after a resume replace earlier ones.

    Raises:
        FileNotFoundError: There is none.
    """
    files = sorted(run.glob("*/vis_data/scalars.json"))
    if not files:
        raise MissingFileError(f"{run} has no log: expected TIMESTAMP/vis_data/scalars.json")
    log = Log({}, {})
    for file in files:
        for line in _complete_lines(file):
            learned = any(name.startswith("loss") for name in line)
            (log.steps if learned else log.held_out)[line["step"]] = line
    return log


def _complete_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that mmengine appended, without one that a kill truncated."""
    for line in read_text(file, "mmengine's log").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def best_by_psnr(run: Path, last: Path, held_out: Benchmark) -> Path:
    """Return the checkpoint that validated best, which mmengine keeps as `best_…`.

    A run that was killed in its last validation does not repeat it: its last checkpoint is measured
    here.

    Args:
        run: Its folder.
        last: Its last checkpoint.
        held_out: The images that it validates on.

    Raises:
        FileNotFoundError: There is none.
    """
    best = max(
        run.glob("best_*_iter_*.pth"), key=lambda path: iteration_of(path) or 0, default=None
    )
    if best is None:
        raise MissingFileError(f"{run} has no best_…_iter_….pth: it has not been validated yet")
    if iteration_of(last) in read_log(run).held_out:
        return best
    return max((best, last), key=lambda path: _measures(path, held_out)["PSNR"])


def best_by_niqe(
    run: Path, held_out: Benchmark, say: Callable[[str], None]
) -> tuple[Path, dict[int, dict[str, float]]]:
    """Measures all checkpoints of a run on held-out images and takes the one of the lowest NIQE.

    What was measured is kept in `held_out.json` of the run and not measured again.

    Args:
        run: Its folder, with `iter_….pth`.
        held_out: The images.
        say: Is told each result.

    Returns:
        The checkpoint, and the measures by iteration.

    Raises:
        FileNotFoundError: There are no checkpoints.
    """
    checkpoints = numbered_checkpoints(run)
    if not checkpoints:
        raise MissingFileError(f"{run} has no iter_….pth to choose from")
    kept = run / "held_out.json"
    known = read_json(kept, "scores of checkpoints") if kept.is_file() else {}
    found = {}
    for iterations, path in checkpoints:
        key = f"{path.name} of {path.stat().st_mtime_ns}"  # one trained anew is measured anew
        if key not in known:
            known[key] = _measures(path, held_out)
            write_text(json.dumps(known, indent=2) + "\n", kept)
        found[iterations] = known[key]
        say(f"{path.name}: " + ", ".join(f"{k} {v:.3f}" for k, v in known[key].items()))
    return min(checkpoints, key=lambda pair: found[pair[0]]["NIQE"])[1], found


def _measures(checkpoint: Path, held_out: Benchmark) -> dict[str, float]:
    upscale = Upscaler(open_model(str(checkpoint)))
    scorer = Scorer(["basicsr"], border=4)
    rows: list[dict[str, Any]] = []
    for index in range(len(held_out.pairs)):
        pair = held_out.pairs[index]
        sr = upscale(np.asarray(pair.lr))
        scores = scorer.score(sr, np.asarray(pair.gt))
        rows.append({"PSNR": scores["PSNR"], "NIQE": niqe(sr, pristine_model(), border=4)})
    return {name: float(np.mean([row[name] for row in rows])) for name in ("PSNR", "NIQE")}
