"""Time test runs of this package and of MMagic, by the runner and config of each."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from srgan_plugin.networks import MSRResNet

from .loaders import mmagic_config, plugin_config
from .timing import Measurement, run_in_subprocess, wait
from .training import Config, build_runner

TEST_SETS = ("Set5", "Set14")
WEIGHTS = "generator.pth"


def test_sides(
    root: Path, folder: Path, *, against_mmagic: bool, workers: int, changes: Config | None = None
) -> dict[str, Callable[[], Measurement]]:
    """Return the sides for `interleave`: each tests the same weights on Set5 and Set14.

    Each round runs in a new process.

    Args:
        root: Data root with the test sets.
        folder: Folder to write the weights to.
        against_mmagic: Whether there is another side, MMagic.
        workers: Reading processes of each side.
        changes: Settings of both configs to change.
    """
    cfg = plugin_config("msrresnet")
    cfg.merge_from_dict(changes or {})
    _save_generator(cfg.model.generator, folder / WEIGHTS)
    names = ("srgan_plugin", "mmagic") if against_mmagic else ("srgan_plugin",)
    return {
        name: partial(run_in_subprocess, _test, name, root, folder, workers, changes or {})
        for name in names
    }


def _test(name: str, root: Path, folder: Path, workers: int, changes: Config) -> Measurement:
    if name == "mmagic":
        cfg = mmagic_config("msrresnet")
        cfg.custom_hooks = []  # a hook would write images, which the other side does not
        cfg.test_evaluator = cfg.test_evaluator[: len(TEST_SETS)]
    else:
        cfg = plugin_config("msrresnet")
        cfg.model.channels_last = True  # also the faster format for a forward pass with AVX2
        cfg.test_cfg.fp16 = torch.cuda.is_available()
    cfg.merge_from_dict(changes)
    cfg.test_dataloader = cfg.test_dataloader[: len(TEST_SETS)]
    for loader, test_set in zip(cfg.test_dataloader, TEST_SETS, strict=True):
        loader.update(num_workers=workers, persistent_workers=workers > 0)
        loader.dataset.data_root = str(root / test_set if name == "mmagic" else root)
    for part in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[part] = None
    for part in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg[part] = None
    cfg.load_from = str(folder / WEIGHTS)
    runner = build_runner(cfg, str(folder / name))
    runner.test()  # builds and loads everything
    start = time.perf_counter()
    runner.test_loop.run()
    wait(next(runner.model.parameters()).device)
    seconds, loop = time.perf_counter() - start, runner.test_loop
    # MultiTestLoop skips a missing set.
    loaders = loop.dataloaders if name == "mmagic" else [loader for loader, _ in loop.sets]
    images = sum(len(loader.dataset) for loader in loaders)
    return Measurement(seconds, images, images)


def _save_generator(cfg: Config, path: Path) -> None:
    """Save random weights of the generator of a config, in the layout of both sides."""
    torch.manual_seed(0)
    network = MSRResNet(**{key: value for key, value in cfg.items() if key != "type"})
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"generator.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "meta": {}}, path)
