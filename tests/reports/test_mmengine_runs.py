"""Runs that mmengine's own runner wrote; each logged value is the iteration at which it was."""

import contextlib
import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from srgan_plugin.errors import PluginWarning
from srgan_plugin.reports.mmengine_configs import literal_config
from srgan_plugin.reports.runs import read_run

pytest.importorskip("mmengine")

from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

Session = Callable[..., Path]


class Counter(BaseModel):
    """A network whose loss and prediction are the number of its steps."""

    def __init__(self, added: int = 0, losses_of_validations: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))
        self.added, self.losses_of_validations = added, losses_of_validations

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "loss") -> Any:
        if mode == "loss":
            self.steps += 1
            return {"loss_pix": self.steps + self.added + 0 * self.weight}
        found: list[Any] = [{"steps": float(self.steps + self.added)}]
        if self.losses_of_validations:
            found.append(BaseDataElement(loss={"loss_pix": torch.ones(())}))
        return found


class Steps(BaseMetric):
    """A metric whose value is the number of steps before the validation."""

    default_prefix = "Set5"

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results.append(data_samples[0]["steps"])

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"PSNR": results[-1]}


class Stop(Hook):
    """End a session as if its process were killed."""

    priority = "LOWEST"

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == self.at:
            raise InterruptedError


LOADER = {
    "dataset": [{"inputs": torch.zeros(1)}] * 100,
    "batch_size": 1,
    "sampler": {"type": "InfiniteSampler", "shuffle": False},
}
VAL_LOADER = {"dataset": LOADER["dataset"][:1], "batch_size": 1}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Return a function that runs a session in `run/TIMESTAMP`; it returns that folder."""
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)  # seconds
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # for mmengine's own checkpoints
    names = (f"2026010{day}_100000" for day in range(1, 9))

    def run(
        *,
        logger: dict[str, Any] | None = None,
        loop: dict[str, Any] | None = None,
        network: dict[str, Any] | None = None,
        hooks: Sequence[Hook] = (),
        **settings: Any,
    ) -> Path:
        name, work = next(names), tmp_path / "run"
        config: dict[str, Any] = {
            "train_cfg": {"by_epoch": False, "max_iters": 20, "val_interval": 5, **(loop or {})},
            "val_cfg": {},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
            "default_hooks": {
                "logger": {"type": "LoggerHook", "interval": 10, **(logger or {})},
                "checkpoint": {"type": "CheckpointHook", "interval": 10, "by_epoch": False},
            },
            "log_processor": {"by_epoch": False, "window_size": 1},
            **settings,
        }
        sampler = {"type": "DefaultSampler", "shuffle": False}
        runner = Runner(
            Counter(**network or {}),
            work_dir=str(work),
            train_dataloader=dict(LOADER),
            val_dataloader={**VAL_LOADER, "sampler": sampler},
            val_evaluator=[Steps()],
            custom_hooks=list(hooks),
            experiment_name=f"{tmp_path.name}_{name}",
            cfg=Config(config, filename="msrresnet.py", cfg_text="never run"),
            **copy.deepcopy(config),
        )
        with contextlib.suppress(InterruptedError):
            runner.train()
        return (work / runner.timestamp).rename(work / name)

    return run


def its_iterations(curve: dict[int, float]) -> bool:
    """Return whether each value of a curve is the iteration at which it is drawn."""
    return curve == {int(value): value for value in curve.values()}


@pytest.mark.parametrize(
    ("logger", "loop", "expected"),
    [
        ({"interval": 20}, {}, [5, 10, 15, 20]),
        ({}, {"val_interval": 3}, [3, 6, 9, 12, 15, 18, 20]),
        ({}, {"val_interval": 4, "val_begin": 5}, [8, 12, 16, 20]),
        ({}, {"val_interval": 5, "dynamic_intervals": [(12, 3)]}, [5, 10, 12, 15, 18, 20]),
        ({"log_metric_by_epoch": False}, {"val_interval": 8}, [8, 16, 20]),
    ],
)
def test_validations_are_at_the_iterations_at_which_mmengine_ran_them(
    session: Session, logger: dict[str, Any], loop: dict[str, Any], expected: list[int]
) -> None:
    curve = read_run(session(logger=logger, loop=loop).parent).curves["Set5/PSNR"]
    assert its_iterations(curve)
    assert list(curve) == expected


def test_names_with_the_mode_in_front_are_those_without(session: Session) -> None:
    processor = {"by_epoch": False, "window_size": 1, "log_with_hierarchy": True}
    curves = read_run(session(log_processor=processor).parent).curves
    assert list(curves["loss_pix"]) == list(curves["lr"]) == list(curves["it/s"]) == [10, 20]
    assert list(curves["Set5/PSNR"]) == [5, 10, 15, 20]
    assert not [name for name in curves if name.startswith(("train/", "val/"))]


def test_a_resumed_session_replaces_all_after_the_iteration_from_which_it_was_resumed(
    session: Session,
) -> None:
    session(logger={"interval": 2}, hooks=[Stop(at=17)])
    folder = session(network={"added": 1000}, resume=True).parent
    run = read_run(folder)
    losses = run.curves["loss_pix"]
    assert losses == {2: 2, 4: 4, 6: 6, 8: 8, 10: 10, 20: 1020}
    assert run.curves["Set5/PSNR"] == {5: 5, 10: 10, 15: 1015, 20: 1020}
    assert "weights at the start" not in run.info
    alone = read_run(folder / "20260102_100000/vis_data/scalars.json")
    assert alone.curves["Set5/PSNR"] == {15: 1015, 20: 1020}
    assert "weights at the start" not in alone.info


def test_a_session_that_restarts_the_training_replaces_all_of_it(session: Session) -> None:
    session(logger={"interval": 2}, hooks=[Stop(at=7)])
    run = read_run(session(network={"added": 1000}).parent)
    assert run.curves["loss_pix"] == {10: 1010, 20: 1020}
    assert run.curves["Set5/PSNR"] == {5: 1005, 10: 1010, 15: 1015, 20: 1020}
    assert "resumed" not in run.info


def test_sessions_whose_text_logs_are_missing_continue_each_other(session: Session) -> None:
    session(hooks=[Stop(at=17)])
    folder = session(resume=True)
    for file in folder.glob("*.log"):
        file.unlink()
    run = read_run(folder.parent)
    assert run.curves["loss_pix"] == {10: 10, 20: 20}
    assert its_iterations(run.curves["Set5/PSNR"])
    assert run.info["seed"].isdigit()  # of the first session
    assert run.info["resumed"] == "once"


def test_a_validation_with_losses_is_no_training(session: Session) -> None:
    curves = read_run(session(network={"losses_of_validations": True}).parent).curves
    assert its_iterations(curves["Set5/PSNR"])
    assert list(curves["it/s"]) == [10, 20]


def test_the_config_of_one_session_has_the_name_of_the_file_in_the_folder_of_the_run(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = session(loop={"max_iters": 10}) / "vis_data"
    assert read_run(data.parents[1]).config_name == "msrresnet.py"
    (text_log,) = data.parent.glob("*.log")
    monkeypatch.chdir(data)
    for path in (data / "scalars.json", text_log, Path("scalars.json")):
        run = read_run(path)
        assert run.config_name == "msrresnet.py"
        assert run.name == "run/20260101_100000"
        assert run.info["seed"].isdigit()


CONFIGS = [
    {"perceptual_loss": {"layer_weights": {"34": 1.0, "22": 0.5}}},
    {
        "optim_wrapper": {
            "paramwise_cfg": {"custom_keys": {"generator.conv_last": {"lr_mult": 0.1}}}
        }
    },
    {"clip_grad": {"max_norm": float("inf"), "lowest": -float("inf")}},
    {"stages": {1: "a", 2: [{"b.c": (1, (2, [{"d-e": None}]))}]}, "words": "x'\n\"y", "no": {}},
    {"milestones": [[1, 2], [3, 4]], "flags": (True, False), "betas": (0.9, -1e-8)},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_is_read_as_it_was_before_mmengine_dumped_it(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    Config(config).dump(tmp_path / "config.py")
    text = (tmp_path / "config.py").read_text()
    assert literal_config(text, tmp_path / "config.py") == as_lists(config)
    if "inf" not in text:  # mmengine cannot load this
        loaded = Config.fromfile(tmp_path / "config.py").to_dict()
        assert literal_config(text, tmp_path / "config.py") == as_lists(loaded)


def as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    "code", ["a = dict(open)", "a = dict(**b)", "a = {**b}", "import os", "a.b = 1", "a = -'x'"]
)
def test_a_config_with_other_code_is_named_and_the_curves_are_read(
    session: Session, code: str
) -> None:
    config = session() / "vis_data/config.py"
    config.write_text(f"{config.read_text()}\n{code}\n")
    with pytest.warns(PluginWarning, match=f"{re.escape(str(config))}: expected a config"):
        run = read_run(config.parents[2])
    assert run.config == {}
    assert run.config_text.endswith(f"{code}\n")
    assert list(run.curves["loss_pix"]) == [10, 20]
