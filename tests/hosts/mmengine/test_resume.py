"""A run that was stopped and resumed ends in the checkpoint of an undisturbed one."""

import copy
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim.scheduler import lr_scheduler, momentum_scheduler
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from mmengine.runner import Runner
from resumed_runs import SAVED_AT_STOPS, quick_start, train, train_with_stops
from same_state import assert_same_checkpoint, differences, read_trusted
from small_runs import SMALL_DISCRIMINATOR, small_config
from torch import nn

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import AmpOptimWrapper, OptimWrapper
from srgan_plugin.hosts.mmengine.engine.soap import SOAP

__all__ = ["quick_start"]  # a fixture
pytestmark = pytest.mark.usefixtures("fresh_mmengine", "quick_start")
MSRRESNET = "msrresnet_x4c64b16_g1_1000k_div2k.py"
SRGAN = "srgan_x4c64b16_g1_1000k_div2k.py"

# Milestones, restarts and the ends of warm-ups between and after the stops at 3 and 8 of 16.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "Constant": [{"factor": 0.5, "end": 6}],
    "CosineAnnealing": [{"eta_min": 1e-3}, {"T_max": 5}, {"begin": 4, "eta_min_ratio": 0.1}],
    "Exponential": [{"gamma": 0.9}],
    "Linear": [{"start_factor": 0.1, "end": 5}, {"end_factor": 0.2, "begin": 2}],
    "MultiStep": [{"milestones": [6, 10, 10, 14], "gamma": 0.5}],
    "OneCycle": [{"eta_max": 0.1, "total_steps": 18}, {"eta_max": 0.1, "total_steps": 20}],
    "Poly": [{"power": 2.0, "eta_min": 1e-3}],
    "CosineRestart": [{"periods": [5, 5, 9], "restart_weights": [1, 0.5, 0.2], "eta_min": 1e-3}],
    "Step": [{"step_size": 5, "gamma": 0.5}],
    "ReduceOnPlateau": [{"by_epoch": True, "monitor": "Set5/PSNR", "factor": 0.5, "patience": 0}],
}
SCHEDULES = {
    f"{kind}{part}{number}": {"type": f"mmengine.{kind}{part}", "by_epoch": False, **settings}
    for part in ("LR", "Momentum")
    for kind, variants in SETTINGS.items()
    for number, settings in enumerate(variants)
    if (kind, part) != ("OneCycle", "Momentum")
}
WARM_UP = {"type": "mmengine.LinearLR", "start_factor": 0.1, "end": 4, "by_epoch": False}
CHAINED = {
    "warm_up_and_milestones": [WARM_UP, SCHEDULES["MultiStepLR0"]],
    "warm_up_and_cosine": [WARM_UP, SCHEDULES["CosineAnnealingLR2"]],
    "rate_and_momentum": [SCHEDULES["CosineRestartLR0"], SCHEDULES["LinearMomentum0"]],
}


@MODELS.register_module(force=True)
class OneNetworkPerSchedule(BaseModel):
    """A small network for each schedule, so that one run tries all of them."""

    def __init__(self, names: list[str], **kwargs: Any) -> None:
        super().__init__(data_preprocessor={"type": "srgan_plugin.DataPreprocessor"})
        self.networks = nn.ModuleDict({name: nn.Conv2d(3, 3, 1) for name in names})
        self.last = names[-1]

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        inputs = self.data_preprocessor(data, True)["inputs"][..., :2, :2]
        for name, network in self.networks.items():
            optim_wrapper[f"networks.{name}"].update_params(network(inputs).square().mean())
        return {"loss_pix": inputs.mean()}

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        images = nn.functional.interpolate(self.networks[self.last](inputs), scale_factor=4)
        if not isinstance(data_samples, list):  # MMagic's, where a test before has imported it
            data_samples = data_samples.split()
        for sample, image in zip(data_samples, images * 255, strict=True):
            sample.output = type(sample)(pred_img=image)
        return data_samples


def toy(
    gt: Path, work_dir: Path, iterations: int, schedules: dict[str, Any], **optimizer: Any
) -> Config:
    """A network for each schedule, all trained alike."""
    cfg = small_config(MSRRESNET, gt / "train", work_dir, iterations)
    cfg.model = {"type": "mmengine.OneNetworkPerSchedule", "names": list(schedules)}
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": "Adam", "lr": 0.01} | optimizer}
    cfg.optim_wrapper = {
        "constructor": "MultiOptimWrapperConstructor",
        **{f"networks.{name}": wrapper for name in schedules},
    }
    cfg.param_scheduler = {f"networks.{name}": schedule for name, schedule in schedules.items()}
    return cfg


def with_validation(cfg: Config, data: Path, every: int) -> Config:
    base = Config.fromfile(Path(__file__).parents[3] / "configs" / MSRRESNET)
    loader = base.val_dataloader[0]
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(data)
    cfg.merge_from_dict({"train_cfg.val_interval": every})
    cfg.val_dataloader, cfg.val_cfg = [loader], base.val_cfg
    cfg.val_evaluator = base.val_evaluator
    cfg.default_hooks.checkpoint.save_best = "auto"
    return cfg


def test_every_scheduler_of_mmengine_is_tried() -> None:
    known = {name for name, kind in PARAM_SCHEDULERS.module_dict.items() if "Param" not in name}
    of_modules = {*lr_scheduler.__dict__, *momentum_scheduler.__dict__}
    assert known & of_modules == {s["type"].removeprefix("mmengine.") for s in SCHEDULES.values()}


@pytest.mark.parametrize(
    ("optimizer", "stops"),
    [({"type": "SGD", "momentum": 0.5}, [8]), ({"type": "Adam"}, [3, 8])],
    ids=["momentum", "betas"],
)
def test_every_schedule_goes_on_after_one_and_two_stops_as_if_there_had_been_none(
    photographs: Path, tmp_path: Path, optimizer: dict[str, Any], stops: list[int]
) -> None:
    every = {name: [schedule] for name, schedule in SCHEDULES.items()} | CHAINED

    def recipe(work_dir: Path) -> Config:
        cfg = toy(photographs, work_dir, 16, every, **optimizer)
        return with_validation(cfg, photographs, every=2)

    whole = train(recipe(tmp_path / "whole"))
    resumed = train_with_stops(recipe, tmp_path / "stopped", stops)
    assert_same_checkpoint(whole, resumed, ignore=SAVED_AT_STOPS)


def schedule_of(checkpoint: Path) -> dict[str, Any]:
    """The part of a checkpoint that schedules move."""
    state = read_trusted(checkpoint)
    rates = {name: each["param_groups"] for name, each in state["optimizer"].items()}
    return {"param_schedulers": state["param_schedulers"], "param_groups": rates}


def resumed(cfg: Config, checkpoint: Path) -> Path:
    cfg.merge_from_dict({"resume": True, "load_from": str(checkpoint)})
    return train(cfg)


def test_schedules_follow_a_run_that_is_made_longer_or_shorter(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    every = {name: [each] for name, each in SCHEDULES.items() if "Plateau" not in name} | CHAINED
    other = {
        "warm_up_and_cosine": [WARM_UP | {"start_factor": 0.5}, CHAINED["warm_up_and_cosine"][1]]
    }

    def config(name: str, iterations: int, **options: Any) -> Config:
        return toy(photographs, tmp_path / name, iterations, every | options)

    long, short = train(config("long", 18)), train(config("short", 12))
    part = train(config("part", 18), stop_at=8)
    capfd.readouterr()
    longer = resumed(config("longer", 18, **other), short)
    assert differences(schedule_of(long), schedule_of(longer)) == []
    said = capfd.readouterr().out
    assert "CosineAnnealingLR of networks.CosineAnnealingLR0 is adapted" in said
    assert "T_max=18 (checkpoint: 12)" in said
    assert "start_factor=0.1 (config: 0.5)" in said
    shorter = resumed(config("shorter", 12), part)
    assert differences(schedule_of(short), schedule_of(shorter)) == []


def test_schedules_by_epoch_follow_a_run_that_is_made_longer(
    photographs: Path, tmp_path: Path
) -> None:
    every: dict[str, Any] = {
        "epochs": [{"type": "mmengine.CosineAnnealingLR", "by_epoch": True}],
        "converted": [
            {"type": "mmengine.PolyLR", "by_epoch": True, "convert_to_iter_based": True},
            {"type": "mmengine.MultiStepLR", "by_epoch": True, "milestones": [1, 3]},
        ],
    }

    def config(name: str, epochs: int) -> Config:
        cfg = toy(photographs, tmp_path / name, 1, every)
        cfg.train_cfg = {"by_epoch": True, "max_epochs": epochs}
        cfg.train_dataloader.sampler = {"type": "mmengine.DefaultSampler", "shuffle": False}
        cfg.train_dataloader.batch_size = 2
        cfg.default_hooks.checkpoint.by_epoch = True
        cfg.default_hooks.checkpoint.interval = 1
        return cfg

    for name, epochs in (("long", 4), ("short", 2)):
        Runner.from_cfg(config(name, epochs)).train()
    cfg = config("longer", 4)
    cfg.merge_from_dict({"resume": True, "load_from": str(tmp_path / "short/epoch_2.pth")})
    Runner.from_cfg(cfg).train()
    expected, longer = (schedule_of(tmp_path / n / "epoch_4.pth") for n in ("long", "longer"))
    assert differences(expected, longer) == []


def test_what_the_config_states_otherwise_is_reported_and_stays_as_it_was(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def config(name: str, milestones: list[int], **optimizer: Any) -> Config:
        every = {"a": [{**SCHEDULES["MultiStepLR0"], "milestones": milestones}]}
        return toy(photographs, tmp_path / name, 12, every, **optimizer)

    whole = train(config("whole", [6, 10]))
    stopped = train(config("stopped", [6, 10]), stop_at=4)
    capfd.readouterr()
    last = resumed(config("stopped", [7], lr=0.02, weight_decay=0.1), stopped)
    said = capfd.readouterr().out
    assert "MultiStepLR" in said
    assert "milestones=" in said
    assert "weight_decay=0 (config: 0.1)" in said
    assert "lr=0.01 (config: 0.02)" in said
    assert "initial_lr" not in said
    assert differences(schedule_of(whole), schedule_of(last)) == []


@pytest.mark.parametrize(
    ("schedule", "part", "words"),
    [
        ([{"type": "mmengine.StepLR", "step_size": 3, "by_epoch": False}], None, "milestones"),
        ([WARM_UP, SCHEDULES["MultiStepLR0"]], None, "(LinearLR, MultiStepLR)"),
        ([SCHEDULES["MultiStepLR0"]], "optimizer", "networks.a"),
    ],
)
def test_a_checkpoint_of_another_schedule_or_without_states_is_not_resumed(
    photographs: Path, tmp_path: Path, schedule: list[Any], part: str | None, words: str
) -> None:
    one = {"a": [SCHEDULES["MultiStepLR0"]]}
    saved = train(toy(photographs, tmp_path / "run", 4, one))
    state = torch.load(saved, weights_only=False)
    state.pop(part, None)
    torch.save(state, saved)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        resumed(toy(photographs, tmp_path / "run", 8, {"a": schedule}), saved)
    assert "load_from" in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "part", "words"),
    [
        ([], None, "param_scheduler"),
        (
            [SCHEDULES["MultiStepLR0"]],
            "param_schedulers",
            "--resume: expected states of schedulers",
        ),
    ],
)
def test_a_resumed_run_without_schedules_on_one_side_goes_on_and_says_so(
    photographs: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    schedule: list[Any],
    part: str | None,
    words: str,
) -> None:
    saved = train(toy(photographs, tmp_path / "run", 4, {"a": [SCHEDULES["MultiStepLR0"]]}))
    state = torch.load(saved, weights_only=False)
    state.pop(part, None)
    torch.save(state, saved)
    capfd.readouterr()
    resumed(toy(photographs, tmp_path / "run", 5, {"a": schedule}), saved)
    assert words in capfd.readouterr().out


def msrresnet_in_float16(data: Path, work_dir: Path) -> Config:
    options = {
        "model.ema": {"decay": 0.9},
        "optim_wrapper.type": "AmpOptimWrapper",
        "optim_wrapper.dtype": "float16",
        "optim_wrapper.accumulative_counts": 3,
        "param_scheduler.periods": [4, 5, 9],
        "param_scheduler.restart_weights": [1, 0.5, 0.25],
        "train_dataloader.dataset.pipeline.0.gt_patch_size": 32,
    }
    cfg = small_config(MSRRESNET, data / "train", work_dir, 12, **options)
    return with_validation(cfg, data, every=4)


def srgan(data: Path, work_dir: Path) -> Config:
    options = SMALL_DISCRIMINATOR | {
        "model.generator.type": "SRResNet",
        "model.ema": {"decay": 0.9},
        "model.train_cfg": {"disc_steps": 2, "disc_init_steps": 3},
    }
    cfg = small_config(SRGAN, data / "train", work_dir, 12, **options)
    cfg.param_scheduler = {
        "generator": CHAINED["warm_up_and_milestones"],
        "discriminator": [SCHEDULES["CosineAnnealingLR0"]],
    }
    return with_validation(cfg, data, every=4)


@pytest.mark.parametrize("recipe", [msrresnet_in_float16, srgan])
def test_every_object_of_a_run_stopped_twice_is_that_of_an_undisturbed_one(
    photographs: Path, tmp_path: Path, recipe: Any
) -> None:
    whole = train(recipe(photographs, tmp_path / "whole"))
    again = train_with_stops(partial(recipe, photographs), tmp_path / "stopped", [4, 7])
    assert_same_checkpoint(whole, again, ignore=SAVED_AT_STOPS)


def test_load_from_brings_weights_and_no_count_of_steps(photographs: Path, tmp_path: Path) -> None:
    saved = train(srgan(photographs, tmp_path / "first"), stop_at=5)
    assert read_trusted(saved)["state_dict"]["step_counter"] == 5
    cfg = srgan(photographs, tmp_path / "second")
    cfg.merge_from_dict({"load_from": str(saved)})
    last = read_trusted(train(cfg, stop_at=3))["state_dict"]
    assert last["step_counter"] == 3
    start = read_trusted(saved)["state_dict"]
    trained = [k for k in start if k.startswith("generator.") and k.endswith("weight")]
    assert all(torch.equal(start[k], last[k]) for k in trained)  # disc_init_steps


def test_counts_of_skipped_steps_go_on() -> None:
    weight = nn.Parameter(torch.ones(2))
    first, second = (OptimWrapper(torch.optim.SGD([weight], lr=0.1)) for _ in range(2))
    for factor in (1.0, float("nan"), float("nan")):
        first.update_params((weight * factor).sum())
    second.load_state_dict(first.state_dict())
    second.update_params((weight * float("nan")).sum())
    assert first.skips == (2, 2)
    assert second.skips == (3, 3)


WRAPPERS: dict[str, Any] = {
    "float32": OptimWrapper,
    "bfloat16": partial(AmpOptimWrapper, dtype="bfloat16"),
    "float16": partial(AmpOptimWrapper, dtype="float16"),
    "float16, other scale": partial(AmpOptimWrapper, dtype="float16", loss_scale=1000.0),
}


@pytest.mark.parametrize("second", WRAPPERS)
@pytest.mark.parametrize("first", WRAPPERS)
def test_a_step_that_is_resumed_in_another_precision_has_the_mean_of_the_gradients(
    first: str, second: str
) -> None:
    gradients = torch.tensor([[1.0, -2.0], [5.0, 4.0]])
    weight = nn.Parameter(torch.zeros(2))

    def wrapper(name: str) -> Any:
        made = WRAPPERS[name](torch.optim.SGD([weight], lr=1.0), accumulative_counts=2)
        made.initialize_count_status(nn.Identity(), 0, 4)
        return made

    before, after = wrapper(first), wrapper(second)
    before.update_params((weight * gradients[0]).sum())
    state = copy.deepcopy(before.state_dict())
    weight.grad = None
    after.load_state_dict(state)
    after.initialize_count_status(nn.Identity(), 1, 4)
    after.update_params((weight * gradients[1]).sum())
    torch.testing.assert_close(weight.detach(), -gradients.mean(0))


def test_lost_gradients_are_announced_only_if_they_are_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        "mmengine.optim.optimizer.optimizer_wrapper.print_log", lambda text, **_: said.append(text)
    )
    weight = nn.Parameter(torch.zeros(2))
    first, second = (
        OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=3) for _ in range(2)
    )
    first.update_params(weight.sum())
    state = first.state_dict()
    second.load_state_dict(state)
    second.initialize_count_status(nn.Identity(), 1, 9)
    assert (said, second.inner_count, second.should_update()) == ([], 1, False)
    del state["accumulated"]
    third = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=3)
    third.load_state_dict(state)
    third.initialize_count_status(nn.Identity(), 1, 9)
    assert "lost" in said[0]


OPTIMIZERS: dict[str, Any] = {
    "Adam": torch.optim.Adam,
    "Adam, amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "Adamax": torch.optim.Adamax,
    "RAdam": torch.optim.RAdam,
    "SGD": torch.optim.SGD,
    "SGD, momentum": partial(torch.optim.SGD, momentum=0.9),
    "RMSprop": torch.optim.RMSprop,
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "ASGD": torch.optim.ASGD,
    "Rprop": torch.optim.Rprop,
    "Adafactor": torch.optim.Adafactor,
    "SOAP": SOAP,
}


@pytest.mark.parametrize("second", OPTIMIZERS)
@pytest.mark.parametrize("first", OPTIMIZERS)
def test_a_state_is_refused_or_the_next_step_works(first: str, second: str) -> None:
    def stepped(name: str) -> Any:
        weight = nn.Parameter(torch.ones(3, 2))
        wrapper = OptimWrapper(OPTIMIZERS[name]([weight], lr=0.01))
        return wrapper, weight

    old, weight = stepped(first)
    old.update_params((weight**2).sum())
    new, weight = stepped(second)
    try:
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    except UserError as error:
        assert "--resume: expected" in str(error)
        assert first.partition(",")[0] != second.partition(",")[0]
        return
    new.update_params((weight**2).sum())
    assert weight.isfinite().all()
