"""What the visualizer is shown of a validation."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine.hooks import (
    DiscriminatorMonitorHook,
    RandomInitWarningHook,
    ValidationImagesHook,
    side_by_side,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.usefixtures("fresh_mmengine")
def test_a_validation_shows_lr_sr_and_gt_of_the_first_image_of_each_set(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    cfg = Config.fromfile(ROOT / "configs/msrresnet_x4c64b16_g1_1000k_div2k.py")
    cfg.merge_from_dict(
        {
            "work_dir": str(tmp_path),
            "model.generator.mid_channels": 4,
            "model.generator.num_blocks": 1,
            "visualizer.vis_backends": [{"type": "LocalVisBackend"}],
        }
    )
    cfg.default_hooks.checkpoint = None
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
    Runner.from_cfg(cfg).val()
    names = {path.stem: path for path in (photographs / "Set5/GTmod12").iterdir()}
    (shown,) = tmp_path.rglob("vis_image/Set5_*.png")
    key = shown.stem.removeprefix("Set5_").rsplit("_", 1)[0]
    gt = cv2.imread(str(names[key]))
    lr = cv2.imread(str(photographs / "Set5/LRbicx4" / names[key].name))
    image = cv2.imread(str(shown))
    first, second, third = np.split(image, 3, axis=1)
    assert np.array_equal(first, lr.repeat(4, 0).repeat(4, 1))
    assert np.array_equal(third, gt)
    # Random weights add little to the bilinear skip.
    assert np.abs(second.astype(float) - cv2.resize(lr, gt.shape[1::-1])).mean() < 20


@pytest.mark.parametrize("batches", [[4], [1, 3], [2, 2]])
def test_as_many_images_as_configured_are_shown_of_batches_of_any_size(batches: list[int]) -> None:
    shown: list[str] = []
    dataset = SimpleNamespace(metainfo={"dataset_name": "Set"})
    runner = SimpleNamespace(
        val_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)),
        visualizer=SimpleNamespace(add_image=lambda title, image, step: shown.append(title)),
        iter=1,
    )
    hook = ValidationImagesHook(count=3)
    for _ in range(2):  # validations
        number = 0
        for index, size in enumerate(batches):
            samples = []
            for _ in range(size):
                sample = BaseDataElement(output=BaseDataElement(pred_img=torch.zeros(3, 8, 8)))
                sample.set_metainfo({"key": str(number)})
                samples.append(sample)
                number += 1
            batch = {"inputs": torch.zeros(size, 3, 4, 4)}
            hook.after_val_iter(runner, index, batch, samples)
    assert shown == ["Set_0", "Set_1", "Set_2"] * 2


@pytest.mark.parametrize(("order", "expected"), [("bgr", [9, 0, 5]), (None, [5, 0, 9])])
def test_lr_from_the_loader_of_mmagic_is_shown_in_rgb(
    order: str | None, expected: list[int]
) -> None:
    sample = BaseDataElement(output=BaseDataElement(pred_img=torch.zeros(3, 4, 4)))
    if order:
        sample.set_metainfo({"img_channel_order": order})
    lr = torch.tensor([5.0, 0, 9]).reshape(3, 1, 1).expand(3, 4, 4)
    shown = side_by_side(sample, {"inputs": [torch.zeros(3, 4, 4), lr]}, 1)
    assert shown[:, 0, 0].tolist() == expected


def test_a_warning_of_random_weights_follows_what_was_loaded() -> None:
    said: list[str] = []
    hook = RandomInitWarningHook("Start from MSRResNet.")
    logger = SimpleNamespace(warning=said.append)
    for loaded, cfg, warnings in (
        (True, {}, 0),  # Runner(load_from=FILE) without a config
        (False, {"resume": True}, 1),  # in an empty work dir
        (False, {}, 1),
        (None, {"load_from": "x.pth"}, 0),  # a runner that does not say
        (None, {}, 1),
    ):
        said.clear()
        runner = SimpleNamespace(cfg=cfg, iter=0, logger=logger)
        if loaded is not None:
            runner._has_loaded = loaded
        hook.before_train(runner)
        assert len(said) == warnings, (loaded, cfg)
    assert hasattr(Runner, "load_or_resume")
    assert "_has_loaded" in inspect.getsource(Runner.load_or_resume)


def test_a_history_shorter_than_the_interval_does_not_shorten_the_mean() -> None:
    hook, said = DiscriminatorMonitorHook(interval=1000, max_history=50), []
    hub = MessageHub("history of the discriminator")
    for step in range(1000):
        for kind in ("real", "fake"):
            hub.update_scalar(f"train/loss_d_{kind}", 0.5 if step < 900 else 1e-4)
    runner = SimpleNamespace(message_hub=hub, iter=999, logger=SimpleNamespace(warning=said.append))
    hook.after_train_iter(runner, 999)
    hook.after_train_iter(runner, 999)
    assert said == []
    with pytest.raises(UserError, match="interval: expected an integer of at least 1"):
        DiscriminatorMonitorHook(interval=0)
