"""Whole test runs of ours and of MMagic's, by each one's own runner and config."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.runner import Runner

from srgan_plugin.core import MSRResNet

from .loaders import mmagic_config, our_config
from .measuring import Round, wait
from .training import FAST, Config, runner_of

TEST_SETS = ("Set5", "Set14")


def test_sides(
    root: Path, folder: Path, *, against_mmagic: bool, workers: int, changes: Config | None = None
) -> dict[str, Callable[[], Round]]:
    """What `alternate` wants: each side tests the same weights on Set5 and Set14.

    Args:
        root: The data root with the test sets.
        folder: Where the weights go.
        against_mmagic: The other side is MMagic; else there is none.
        workers: Processes that read, on both sides.
        changes: Settings of both configs to change.
    """
    weights = folder / "generator.pth"
    cfgs = {"srgan_plugin": our_config("msrresnet")}
    cfgs["srgan_plugin"].merge_from_dict(FAST["msrresnet"])
    cfgs["srgan_plugin"].test_cfg.fp16 = torch.cuda.is_available()
    cfgs["srgan_plugin"].test_dataloader = cfgs["srgan_plugin"].test_dataloader[: len(TEST_SETS)]
    if against_mmagic:
        cfg = cfgs["mmagic"] = mmagic_config("msrresnet")
        cfg.custom_hooks = []  # it would write pictures, which ours does not
        cfg.test_dataloader = cfg.test_dataloader[: len(TEST_SETS)]
        cfg.test_evaluator = cfg.test_evaluator[: len(TEST_SETS)]
    runners = {}
    for name, cfg in cfgs.items():
        cfg.merge_from_dict(changes or {})
        if not weights.exists():
            _save_generator(cfg.model.generator, weights)
        for loader, test_set in zip(cfg.test_dataloader, TEST_SETS, strict=True):
            loader.update(num_workers=workers, persistent_workers=workers > 0)
            loader.dataset.data_root = str(root / test_set if name == "mmagic" else root)
        for part in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
            cfg[part] = None
        for part in ("val_dataloader", "val_cfg", "val_evaluator"):
            cfg[part] = None
        cfg.load_from = str(weights)
        runners[name] = runner_of(cfg, str(folder / name))
        runners[name].test()  # builds and loads everything

    def test(runner: Runner) -> Round:
        start = time.perf_counter()
        runner.test_loop.run()
        wait(next(runner.model.parameters()).device)
        pictures = 5 + 14
        return Round(time.perf_counter() - start, pictures, pictures)

    return {name: partial(test, runner) for name, runner in runners.items()}


def _save_generator(cfg: Config, path: Path) -> None:
    """Random weights of the generator of a config, in the layout of both sides' checkpoints."""
    torch.manual_seed(0)
    network = MSRResNet(**{key: value for key, value in cfg.items() if key != "type"})
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"generator.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "meta": {}}, path)
