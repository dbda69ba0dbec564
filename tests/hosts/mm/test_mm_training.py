"""Training by the tools, on small pictures: order of samples, steps, checkpoints, resuming."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from srgan_plugin.core import GANLoss, L1Loss, ModifiedVGG, MSRResNet
from srgan_plugin.core.vgg_weights import random_vgg19_state_dict
from srgan_plugin.data.prepare import create_store
from srgan_plugin.hosts.mm.datasets import PairedImageDataset, StreamSampler
from srgan_plugin.registry import MODELS

pytestmark = pytest.mark.usefixtures("fresh_mmengine")
ROOT = Path(__file__).resolve().parents[3]
PIPELINE = [
    {"type": "PairedRandomCrop", "gt_patch_size": 64},
    {"type": "Flip", "direction": "horizontal"},
    {"type": "Flip", "direction": "vertical"},
    {"type": "RandomTransposeHW"},
    {"type": "PackInputs"},
]


def small_config(name: str, gt: Path, work_dir: Path, iterations: int, **options: Any) -> Config:
    """A published config at a size that trains in seconds: 8 features, 2 blocks, GT 64."""
    cfg = Config.fromfile(ROOT / "configs" / name)
    options = {
        "model.generator.mid_channels": 8,
        "model.generator.num_blocks": 2,
        "train_dataloader.dataset.gt": str(gt),
        "train_dataloader.dataset.pipeline.0.gt_patch_size": 64,
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.pin_memory": False,
        "train_cfg.max_iters": iterations,
        "default_hooks.logger.interval": 1,
        "randomness": {"seed": 7},
        "work_dir": str(work_dir),
        **options,
    }
    cfg.merge_from_dict(options)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.save_best = None
    # One process trains several runs here; mmengine wants a name for each.
    cfg.experiment_name = f"{work_dir.name}_{work_dir.parent.name}"
    return cfg


def losses(work_dir: Path, name: str = "loss_pix") -> list[float]:
    """The curve of one loss from the run's log."""
    (log,) = sorted(work_dir.glob("*/vis_data/scalars.json"))[-1:]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def test_folder_png_store_and_raw_store_train_the_same_weights(
    photographs: Path, tmp_path: Path
) -> None:
    sources = {"folder": photographs / "train"}
    for layout in ("raw", "png"):
        sources[layout] = tmp_path / f"{layout}_store"
        create_store(photographs / "train", sources[layout], layout=layout, workers=1)
    weights, curves = {}, {}
    for name, gt in sources.items():
        cfg = small_config(
            "msrresnet_x4c64b16_g1_1000k_div2k.py", gt, tmp_path / name, iterations=6
        )
        runner = Runner.from_cfg(cfg)
        runner.train()
        weights[name] = runner.model.generator.state_dict()
        curves[name] = losses(tmp_path / name)
    assert len(curves["folder"]) == 6
    assert curves["folder"] == curves["raw"] == curves["png"]
    for name in ("raw", "png"):
        for key, value in weights["folder"].items():
            assert torch.equal(value, weights[name][key]), f"{name}: {key}"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_samples_do_not_depend_on_the_number_of_workers(
    photographs: Path, workers: int
) -> None:
    dataset = PairedImageDataset(str(photographs / "train"), pipeline=PIPELINE)
    sampler = StreamSampler(dataset, seed=3)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=3, sampler=sampler, num_workers=workers, collate_fn=list
    )
    batches = iter(loader)
    seen = [sample for _ in range(5) for sample in next(batches)]
    plain = iter(sampler)
    for sample in seen:
        expected = dataset[next(plain)]
        assert torch.equal(sample["inputs"], expected["inputs"])
        assert torch.equal(sample["data_samples"].gt_img, expected["data_samples"].gt_img)


def test_two_ranks_see_each_sample_of_the_stream_once(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = PairedImageDataset(str(photographs / "train"))
    alone = iter(StreamSampler(dataset, seed=1))
    expected = [next(alone).number for _ in range(20)]
    numbers = []
    for rank in (0, 1):
        monkeypatch.setattr("srgan_plugin.hosts.mm.datasets.get_dist_info", lambda r=rank: (r, 2))
        stream = iter(StreamSampler(dataset, seed=1))
        numbers += [next(stream).number for _ in range(10)]
    assert sorted(numbers) == expected


@pytest.mark.parametrize("name", ["msrresnet", "srgan"])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    photographs: Path, tmp_path: Path, name: str
) -> None:
    config = f"{name}_x4c64b16_g1_1000k_div2k.py"
    options: dict[str, Any] = {"default_hooks.checkpoint.interval": 3}
    if name == "srgan":
        options |= {
            "model.discriminator.mid_channels": 4,
            "model.discriminator.input_size": 64,
            "model.perceptual_loss": None,
        }
    gt = photographs / "train"
    whole = Runner.from_cfg(small_config(config, gt, tmp_path / "whole", 6, **options))
    whole.train()
    halves = tmp_path / "halves"
    Runner.from_cfg(small_config(config, gt, halves, 3, **options)).train()
    resumed = Runner.from_cfg(small_config(config, gt, halves, 6, resume=True, **options))
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


class PlainSRGANStep:
    """Three steps of SRGAN written out with torch alone: the oracle of the model's train_step."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        self.g, self.d = generator, discriminator
        self.g_adam = torch.optim.Adam(generator.parameters(), lr=1e-3)
        self.d_adam = torch.optim.Adam(discriminator.parameters(), lr=1e-3)

    def __call__(self, lr: torch.Tensor, gt: torch.Tensor) -> None:
        bce = nn.functional.binary_cross_entropy_with_logits
        sr = self.g(lr)
        logits = self.d(sr)
        loss = 1e-2 * (sr - gt).abs().mean() + 5e-3 * bce(logits, torch.ones_like(logits))
        self.g_adam.zero_grad()
        loss.backward()
        self.g_adam.step()
        self.d_adam.zero_grad()
        real, fake = self.d(gt), self.d(sr.detach())
        (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))).backward()
        self.d_adam.step()


def test_the_training_step_of_srgan_equals_one_written_out_with_torch_alone() -> None:
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    torch.manual_seed(0)
    model = MODELS.build(
        {
            "type": "srgan_plugin.SRGAN",
            "generator": {"type": "MSRResNet", "mid_channels": 8, "num_blocks": 1},
            "discriminator": {"type": "ModifiedVGG", "mid_channels": 4, "input_size": 32},
            "pixel_loss": {"type": "L1Loss", "loss_weight": 1e-2},
            "gan_loss": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 5e-3},
        }
    )
    assert isinstance(model.pixel_loss, L1Loss)
    assert isinstance(model.gan_loss, GANLoss)
    generator = MSRResNet(mid_channels=8, num_blocks=1)
    discriminator = ModifiedVGG(mid_channels=4, input_size=32)
    generator.load_state_dict(model.generator.state_dict())
    discriminator.load_state_dict(model.discriminator.state_dict())
    oracle = PlainSRGANStep(generator, discriminator)
    wrappers = OptimWrapperDict(
        generator=OptimWrapper(torch.optim.Adam(model.generator.parameters(), lr=1e-3)),
        discriminator=OptimWrapper(torch.optim.Adam(model.discriminator.parameters(), lr=1e-3)),
    )
    for _ in range(3):
        lr = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        gt = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
        from mmengine.structures import BaseDataElement

        samples = [BaseDataElement(gt_img=image) for image in gt]
        logs = model.train_step({"inputs": list(lr), "data_samples": samples}, wrappers)
        assert list(logs) == ["loss_pix", "loss_gan", "loss_d_real", "loss_d_fake"]
        oracle(lr / 255, gt / 255)
    for mine, plain in ((model.generator, generator), (model.discriminator, discriminator)):
        for (key, value), expected in zip(
            mine.state_dict().items(), plain.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(value, expected, rtol=0, atol=2e-6, msg=key)


def test_srgan_trains_with_vgg_weights_from_a_file_and_keeps_them_out_of_its_checkpoint(
    photographs: Path, tmp_path: Path
) -> None:
    torch.save(random_vgg19_state_dict(), tmp_path / "vgg.pth")
    options = {
        "model.discriminator.mid_channels": 4,
        "model.discriminator.input_size": 64,
        "model.perceptual_loss.pretrained": str(tmp_path / "vgg.pth"),
        "train_dataloader.batch_size": 2,
    }
    cfg = small_config(
        "srgan_x4c64b16_g1_1000k_div2k.py", photographs / "train", tmp_path / "run", 2, **options
    )
    Runner.from_cfg(cfg).train()
    assert len(losses(tmp_path / "run", "loss_perceptual")) == 2
    state = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=False)["state_dict"]
    assert {key.split(".")[0] for key in state} == {"generator", "discriminator", "step_counter"}


def test_srgan_without_a_start_says_so_loudly(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {
        "model.discriminator.mid_channels": 4,
        "model.discriminator.input_size": 64,
        "model.perceptual_loss": None,
    }
    cfg = small_config(
        "srgan_x4c64b16_g1_1000k_div2k.py", photographs / "train", tmp_path / "run", 1, **options
    )
    Runner.from_cfg(cfg).train()
    heard = capfd.readouterr()
    assert "RANDOM weights" in heard.out + heard.err


def test_the_published_hyper_parameters_are_in_the_configs() -> None:
    pixel = Config.fromfile(ROOT / "configs/msrresnet_x4c64b16_g1_1000k_div2k.py")
    assert pixel.model.generator == {
        "type": "MSRResNet",
        "in_channels": 3,
        "out_channels": 3,
        "mid_channels": 64,
        "num_blocks": 16,
        "upscale_factor": 4,
    }
    assert pixel.optim_wrapper.optimizer == {"type": "Adam", "lr": 2e-4, "betas": (0.9, 0.999)}
    assert pixel.param_scheduler.periods == [250_000] * 4
    assert pixel.train_cfg.max_iters == 1_000_000
    assert pixel.train_dataloader.batch_size == 16
    gan = Config.fromfile(ROOT / "configs/srgan_x4c64b16_g1_1000k_div2k.py")
    assert gan.model.pixel_loss.loss_weight == 1e-2
    assert gan.model.gan_loss.loss_weight == 5e-3
    assert gan.model.perceptual_loss.layer_weights == {"conv5_4": 1.0}
    assert gan.optim_wrapper.discriminator.optimizer.lr == 1e-4
    assert gan.param_scheduler.milestones == [50_000, 100_000, 200_000, 300_000]
    assert gan.train_cfg.max_iters == 400_000
