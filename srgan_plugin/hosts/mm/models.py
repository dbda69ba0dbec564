"""The networks, losses and models under their registry names."""

from copy import deepcopy
from typing import Any, Literal

import numpy as np
import torch
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from srgan_plugin import core
from srgan_plugin.data.resize import imresize
from srgan_plugin.registry import MODELS, SCOPE
from srgan_plugin.zoo.layouts import adapt_training_state

from .preprocessor import gt_batch

Config = dict[str, Any]

for _module in (
    core.MSRResNet,
    core.SRResNet,
    core.ModifiedVGG,
    core.SRGANDiscriminator,
    core.L1Loss,
    core.MSELoss,
    core.PerceptualLoss,
    core.GANLoss,
):
    MODELS.register_module(module=_module)


@MODELS.register_module()
class Bicubic(nn.Module):
    """No network: MATLAB's bicubic in floating point, the protocol's own check.

    Args:
        upscale_factor: Output over input size.
    """

    def __init__(self, upscale_factor: int = 4) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale a batch N3HW in [0, 1]; computed in float64 on the CPU."""
        pictures = lr.double().cpu().permute(0, 2, 3, 1).numpy()
        large = np.stack([imresize(picture, self.upscale_factor) for picture in pictures])
        return torch.from_numpy(large).permute(0, 3, 1, 2).to(lr.device)


def build(config: Config | nn.Module | None) -> Any:
    """Build a part of a model; a name without a prefix is looked for in our scope first."""
    if config is None or isinstance(config, nn.Module):
        return config
    return MODELS.build({"_scope_": SCOPE, **config})


def unwrapped(network: Any) -> Any:
    """The network itself, where a wrapper for distributed training is around it."""
    return network.module if is_model_wrapper(network) else network


@MODELS.register_module()
class SRModel(BaseModel):
    """A generator trained with a pixel loss, with the arguments of MMagic's `BaseEditModel`.

    Args:
        generator: Config of the network, LR N3HW in [0, 1] to SR N3(sH)(sW).
        pixel_loss: Config of the loss between SR and GT.
        train_cfg: Settings of the training step; see the subclass.
        test_cfg: Kept for MMagic's configs; unused.
        init_cfg: mmengine's initialisation.
        data_preprocessor: By default our `DataPreprocessor`.
        ema: `dict(decay=0.999)` keeps an exponential moving average of the generator, as BasicSR
            does; it validates and tests, and lies in checkpoints under MMagic's `generator_ema`.
    """

    def __init__(
        self,
        generator: Config,
        pixel_loss: Config | None = None,
        train_cfg: Config | None = None,
        test_cfg: Config | None = None,
        init_cfg: Config | None = None,
        data_preprocessor: Config | None = None,
        ema: Config | None = None,
    ) -> None:
        preprocessor = build(data_preprocessor or {"type": "DataPreprocessor"})
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.generator = build(generator)
        self.pixel_loss = build(pixel_loss)
        self.ema_decay = float(ema["decay"]) if ema else None
        self.generator_ema = deepcopy(self.generator).requires_grad_(False) if ema else None
        self.train_cfg, self.test_cfg = train_cfg or {}, test_cfg or {}
        # Whoever loads a checkpoint (load_from, resume, another toolbox's launcher) comes by here.
        self.register_load_state_dict_pre_hook(_check_generator)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Any = None,
        mode: Literal["tensor", "predict", "loss"] = "tensor",
    ) -> Any:
        """Run the generator on preprocessed `inputs`.

        Args:
            inputs: LR batch N3HW, floats in [0, 1].
            data_samples: What the preprocessor made of the samples.
            mode: `tensor` returns the SR batch, `loss` a dict of losses, `predict` a list of
                elements with `output.pred_img`, 3HW in [0, 255] on the CPU.
        """
        averaged = self.generator_ema if mode != "loss" and not self.training else None
        sr = (averaged or self.generator)(inputs)
        if mode == "tensor":
            return sr
        if mode == "loss":
            return core.generator_objective(sr, gt_batch(data_samples), pixel=self.pixel_loss)
        return self._predictions(sr, data_samples)

    def train_step(self, data: Config, optim_wrapper: Any) -> dict[str, Tensor]:
        """One step of the generator."""
        losses: dict[str, Tensor] = super().train_step(data, optim_wrapper)
        self._average()
        return losses

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As torch's; no key tells whether the networks are wrapped for distributed training."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        start = kwargs.get("prefix", "")
        for name in [name for name, child in self.named_children() if is_model_wrapper(child)]:
            wrapped = f"{start}{name}.module."
            for key in [key for key in state if key.startswith(wrapped)]:
                state[f"{start}{name}.{key.removeprefix(wrapped)}"] = state.pop(key)
        return state

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged generator towards the trained one; counters are copied."""
        if self.generator_ema is None or self.ema_decay is None:
            return
        trained = unwrapped(self.generator).state_dict()
        for key, average in self.generator_ema.state_dict().items():
            if average.is_floating_point():
                average.lerp_(trained[key], 1 - self.ema_decay)
            else:
                average.copy_(trained[key])

    def _predictions(self, sr: Tensor, data_samples: Any) -> list[BaseDataElement]:
        pictures = self.data_preprocessor.destruct(sr, data_samples).cpu()
        if data_samples is None:
            data_samples = [BaseDataElement() for _ in pictures]
        elif hasattr(data_samples, "split"):  # MMagic's stacked DataSample
            data_samples = data_samples.split()
        for sample, picture in zip(data_samples, pictures, strict=True):
            sample.output = BaseDataElement(pred_img=picture)
        return list(data_samples)


def _check_generator(model: nn.Module, state_dict: Config, prefix: str, *_: Any, **__: Any) -> None:
    adapt_training_state(state_dict, model, prefix=prefix)


@MODELS.register_module()
class SRGAN(SRModel):
    """Ledig et al. 2016: a generator and a discriminator, trained in turn.

    Arguments and meaning are those of MMagic's `SRGAN`.

    Args:
        generator: As in `SRModel`.
        discriminator: Config of the network, N3HW to logits N1; without it only the generator
            trains.
        gan_loss: Config of the adversarial loss; its weight counts for the generator only.
        pixel_loss: Config of the loss between SR and GT.
        perceptual_loss: Config of the content (and style) loss.
        train_cfg: `disc_steps`: the generator moves every so many steps (1); `disc_repeat`: updates
            of the discriminator per step (1); `disc_init_steps`: steps before the generator
            moves (0).
        test_cfg: Kept for MMagic's configs; unused.
        init_cfg: mmengine's initialisation.
        data_preprocessor: As in `SRModel`.
        ema: As in `SRModel`.
    """

    def __init__(
        self,
        generator: Config,
        discriminator: Config | None = None,
        gan_loss: Config | None = None,
        pixel_loss: Config | None = None,
        perceptual_loss: Config | None = None,
        train_cfg: Config | None = None,
        test_cfg: Config | None = None,
        init_cfg: Config | None = None,
        data_preprocessor: Config | None = None,
        ema: Config | None = None,
    ) -> None:
        super().__init__(
            generator, pixel_loss, train_cfg, test_cfg, init_cfg, data_preprocessor, ema
        )
        self.discriminator = build(discriminator)
        self.gan_loss = build(gan_loss)
        self.perceptual_loss = build(perceptual_loss)
        self.disc_steps = self.train_cfg.get("disc_steps", 1)
        self.disc_init_steps = self.train_cfg.get("disc_init_steps", 0)
        self.disc_repeat = self.train_cfg.get("disc_repeat", 1)
        self.adversarial = self.discriminator is not None and self.gan_loss is not None
        # Saved, unlike MMagic's: a resumed run goes on counting.
        self.register_buffer("step_counter", torch.tensor(0))

    def train_step(self, data: Config, optim_wrapper: Any) -> dict[str, Tensor]:
        """One step of the generator, then of the discriminator on the same pictures.

        Args:
            data: A batch of the loader.
            optim_wrapper: mmengine's `OptimWrapperDict` with `generator` and `discriminator`.

        Returns:
            The losses by MMagic's names, and BasicSR's `out_d_real` and `out_d_fake` (the mean
            logits), detached.
        """
        data = self.data_preprocessor(data, True)
        lr, gt = data["inputs"], gt_batch(data["data_samples"])
        step = int(self.step_counter)
        generator_moves = step >= self.disc_init_steps and step % self.disc_steps == 0
        losses: dict[str, Tensor] = {}
        with torch.set_grad_enabled(generator_moves):
            with optim_wrapper["generator"].optim_context(self):
                sr = self.generator(lr)
            if generator_moves:
                losses |= self._generator_step(sr, gt, optim_wrapper["generator"])
                self._average()
        if self.adversarial:
            for _ in range(self.disc_repeat):
                losses |= self._discriminator_step(sr.detach(), gt, optim_wrapper["discriminator"])
        self.step_counter += 1
        return losses

    def _generator_step(self, sr: Tensor, gt: Tensor, optimizer: Any) -> dict[str, Tensor]:
        with optimizer.optim_context(self):
            fake_logits = None
            if self.adversarial:
                # Without the wrapper: this pass leaves no gradients to exchange.
                judge = unwrapped(self.discriminator).requires_grad_(False)
                fake_logits = judge(sr)
                judge.requires_grad_(True)
            losses = core.generator_objective(
                sr,
                gt,
                pixel=self.pixel_loss,
                perceptual=self.perceptual_loss,
                gan=self.gan_loss,
                fake_logits=fake_logits,
            )
        optimizer.update_params(sum(losses.values()))
        return {name: loss.detach() for name, loss in losses.items()}

    def _discriminator_step(self, sr: Tensor, gt: Tensor, optimizer: Any) -> dict[str, Tensor]:
        with optimizer.optim_context(self):
            real, fake = self.discriminator(gt), self.discriminator(sr)
            losses = core.discriminator_objective(real, fake, self.gan_loss)
        optimizer.update_params(sum(losses.values()))
        seen = {**losses, "out_d_real": real.mean(), "out_d_fake": fake.mean()}
        return {name: value.detach() for name, value in seen.items()}
