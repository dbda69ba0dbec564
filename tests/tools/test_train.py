"""What `tools/train.py` decides before a run: precision, and the checkpoint to start from."""

import pytest
import torch
from mmengine.config import Config

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.inference import precision
from srgan_plugin.networks import MSRResNet


@pytest.fixture
def train(tool, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    return tool("train")


def set_speedup(monkeypatch, factor):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda _: factor)


@pytest.mark.parametrize(
    ("launcher", "variables", "measures"),
    [
        ("none", {}, True),
        ("none", {"SLURM_NTASKS": "4"}, True),  # a single process in an allocation
        ("pytorch", {"WORLD_SIZE": "1"}, True),
        ("pytorch", {"WORLD_SIZE": "2"}, False),
        ("slurm", {"SLURM_NTASKS": "1"}, True),
        ("slurm", {"SLURM_NTASKS": "2"}, False),
    ],
)
def test_several_processes_do_not_decide_by_a_measurement_of_each(
    train, monkeypatch, launcher, variables, measures
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    decisions = set()
    for factor in (1.2, 1.3):
        set_speedup(monkeypatch, factor)
        decisions.add(train.auto_enables_amp(launcher))
    assert decisions == ({False, True} if measures else {True})


SINGLE = {"optimizer": {"type": "Adam"}}
AMP = {**SINGLE, "type": "AmpOptimWrapper"}


@pytest.mark.parametrize(
    ("wrapper", "named"),
    [
        (SINGLE, "training in float32,"),
        ({**SINGLE, "type": "OptimWrapper"}, "training in float32,"),
        (AMP, "training in bfloat16,"),
        ({**AMP, "dtype": "float16"}, "training in float16,"),
        (
            {"constructor": "X", "generator": SINGLE, "discriminator": {**AMP, "dtype": "float16"}},
            "training in float16 and float32,",
        ),
    ],
)
def test_auto_names_the_precision_of_the_config_where_it_does_not_change_it(
    train, monkeypatch, capfd, wrapper, named
):
    set_speedup(monkeypatch, 1.0)
    cfg, before = Config({"optim_wrapper": wrapper}), Config({"optim_wrapper": wrapper}).to_dict()
    train.set_precision(cfg.optim_wrapper, "auto", "none")
    assert cfg.to_dict() == before
    assert named in capfd.readouterr().err


@pytest.mark.parametrize(
    ("amp", "dtype"), [("auto", "float16"), ("float16", "float16"), ("bfloat16", "bfloat16")]
)
def test_auto_keeps_the_dtype_of_the_config_and_a_named_one_replaces_it(
    train, monkeypatch, capfd, amp, dtype
):
    set_speedup(monkeypatch, 2.0)
    cfg = Config({"optim_wrapper": {**AMP, "dtype": "float16"}})
    train.set_precision(cfg.optim_wrapper, amp, "none")
    assert cfg.optim_wrapper.dtype == dtype
    assert capfd.readouterr().err == ""


def config(**settings):
    model = {"generator": {"type": "MSRResNet"}}
    return Config({"work_dir": "run", "train_cfg": {"max_iters": 2}, "model": model, **settings})


@pytest.mark.parametrize(
    ("settings", "resume", "name"),
    [
        ({}, "no.pth", "--resume"),
        ({"load_from": "other.pth"}, "no.pth", "--resume"),
        ({"load_from": "no.pth"}, None, "load_from"),
        ({"load_from": "no.pth"}, "auto", "load_from"),  # the work dir has no checkpoint
        ({"load_from": "no.pth", "resume": True}, None, "load_from"),
    ],
)
def test_a_missing_checkpoint_is_named_by_where_the_user_gave_it(train, settings, resume, name):
    with pytest.raises(MissingFileError, match=rf"^{name}: no\.pth: "):
        train.set_start_checkpoint(config(**settings), resume)


@pytest.mark.parametrize("meta", [{}, {"iter": 3, "epoch": 1}])
@pytest.mark.parametrize(
    ("settings", "resume", "name", "hint"),
    [
        ({}, "x.pth", "--resume", "--cfg-options load_from=x.pth"),
        ({"load_from": "x.pth", "resume": True}, None, "resume=True", "remove resume=True"),
    ],
)
def test_a_checkpoint_that_cannot_be_resumed_is_refused_by_the_flag_or_the_setting(
    train, settings, resume, name, hint, meta
):
    state = MSRResNet(mid_channels=4, num_blocks=1).state_dict()
    torch.save({"state_dict": state, "meta": meta, "optimizer": {}}, "x.pth")
    with pytest.raises(UserError, match=f"^{name}: .*{hint}"):
        train.set_start_checkpoint(config(**settings), resume)


@pytest.mark.parametrize(
    ("settings", "resume", "name"),
    [({}, "x.pth", "--resume"), ({"load_from": "x.pth", "resume": True}, None, "resume=True")],
)
def test_a_complete_training_is_noted_by_the_flag_or_the_setting(
    train, capfd, settings, resume, name
):
    saved = {"state_dict": {}, "meta": {"iter": 2}, "optimizer": {}, "message_hub": {}}
    torch.save(saved, "x.pth")
    train.set_start_checkpoint(config(**settings), resume)
    assert f"{name}: the training is complete" in capfd.readouterr().err
