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


def _ours(network: nn.Module) -> bool:
    return type(unwrapped(network)).__module__.startswith("srgan_plugin.")


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
        channels_last: Compute in torch's channels-last memory format, which is faster on GPUs with
            tensor cores and on CPUs. Results differ by rounding; a part of another toolbox gets
            contiguous tensors, because some fail otherwise.
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
        channels_last: bool = False,
    ) -> None:
        preprocessor = build(data_preprocessor or {"type": "DataPreprocessor"})
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.generator = build(generator)
        self.pixel_loss = build(pixel_loss)
        self.ema_decay = float(ema["decay"]) if ema else None
        self.generator_ema = deepcopy(self.generator).requires_grad_(False) if ema else None
        self.train_cfg, self.test_cfg = train_cfg or {}, test_cfg or {}
        self.channels_last = channels_last
        self._lay_out(self.generator, self.generator_ema)
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
        network = averaged or self.generator
        sr = network(self._suited(inputs, network))
        if mode == "tensor":
            return sr
        if mode == "loss":
            return core.generator_objective(sr, gt_batch(data_samples), pixel=self.pixel_loss)
        return self._predictions(sr, data_samples)

    def train_step(self, data: Config, optim_wrapper: Any) -> dict[str, Tensor]:
        """One step of the generator."""
        losses: dict[str, Tensor] = super().train_step(data, optim_wrapper)
        self._average()
        return losses | _gradient_norm("generator", optim_wrapper)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As torch's; no key tells whether the networks are wrapped for distributed training."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        start = kwargs.get("prefix", "")
        for name in [name for name, child in self.named_children() if is_model_wrapper(child)]:
            wrapped = f"{start}{name}.module."
            for key in [key for key in state if key.startswith(wrapped)]:
                state[f"{start}{name}.{key.removeprefix(wrapped)}"] = state.pop(key)
        return state

    def _lay_out(self, *networks: nn.Module | None) -> None:
        for network in filter(None, networks):
            if self.channels_last and _ours(network):
                network.to(memory_format=torch.channels_last)

    def _suited(self, batch: Tensor, network: nn.Module) -> Tensor:
        """The batch in the memory format that the network computes in."""
        fast = self.channels_last and _ours(network)
        return batch.contiguous(
            memory_format=torch.channels_last if fast else torch.contiguous_format
        )

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
            moves (0); `share_fake_logits`: use one pass of the discriminator over the generated
            batch for both objectives, see `train_step` (False).
        test_cfg: Kept for MMagic's configs; unused.
        init_cfg: mmengine's initialisation.
        data_preprocessor: As in `SRModel`.
        ema: As in `SRModel`.
        channels_last: As in `SRModel`.
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
        channels_last: bool = False,
    ) -> None:
        super().__init__(
            generator,
            pixel_loss,
            train_cfg,
            test_cfg,
            init_cfg,
            data_preprocessor,
            ema,
            channels_last,
        )
        self.discriminator = build(discriminator)
        self.gan_loss = build(gan_loss)
        self.perceptual_loss = build(perceptual_loss)
        self.disc_steps = self.train_cfg.get("disc_steps", 1)
        self.disc_init_steps = self.train_cfg.get("disc_init_steps", 0)
        self.disc_repeat = self.train_cfg.get("disc_repeat", 1)
        self.share_fake_logits = self.train_cfg.get("share_fake_logits", False)
        self.adversarial = self.discriminator is not None and self.gan_loss is not None
        self._lay_out(self.discriminator, self.perceptual_loss)
        # Saved, unlike MMagic's: a resumed run goes on counting.
        self.register_buffer("step_counter", torch.tensor(0))

    def train_step(self, data: Config, optim_wrapper: Any) -> dict[str, Tensor]:
        """One step of the generator, then of the discriminator on the same pictures.

        The discriminator judges the generated batch twice: for the generator, and again for its own
        objective. Nothing moves its weights in between, so with `share_fake_logits` the first
        answer serves both, with the same weights after the step; its running statistics move twice
        per step instead of three times. Off where one discriminator pass per generator pass is not
        all there is: repeated or delayed steps, accumulated gradients, several processes.

        Args:
            data: A batch of the loader.
            optim_wrapper: mmengine's `OptimWrapperDict` with `generator` and `discriminator`.

        Returns:
            The losses by MMagic's names, BasicSR's `out_d_real` and `out_d_fake` (the mean logits),
            and each network's gradient norm, detached.
        """
        data = self.data_preprocessor(data, True)
        generator = optim_wrapper["generator"]
        discriminator = optim_wrapper["discriminator"] if self.adversarial else None
        lr = self._suited(data["inputs"], self.generator)
        gt = gt_batch(data["data_samples"])
        moves = self._generator_moves()
        share = moves and self._may_share(generator, discriminator)
        seen: dict[str, Tensor] = {}
        fake_logits = None
        with torch.set_grad_enabled(moves):
            with generator.optim_context(self):
                sr = self.generator(lr)
            if moves:
                seen |= self._generator_step(sr, gt, generator, share)
                fake_logits = seen.pop("fake_logits", None)
                self._average()
        if self.adversarial:
            for _ in range(self.disc_repeat):
                seen |= self._discriminator_step(sr.detach(), gt, discriminator, fake_logits)
        self.step_counter += 1
        return {name: value.detach() for name, value in seen.items()}

    def _generator_moves(self) -> bool:
        if self.disc_steps == 1 and self.disc_init_steps == 0:
            return True  # without asking the device how many steps there were
        step = int(self.step_counter)
        return bool(step >= self.disc_init_steps and step % self.disc_steps == 0)

    def _may_share(self, *optimizers: Any) -> bool:
        return (
            self.share_fake_logits
            and self.adversarial
            and self.disc_repeat == 1
            and not is_model_wrapper(self.discriminator)
            and all(getattr(o, "accumulates_over", 1) == 1 for o in optimizers)
        )

    def _judged(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(self._suited(pictures, self.discriminator))
        return logits

    def _generator_step(
        self, sr: Tensor, gt: Tensor, optimizer: Any, share: bool
    ) -> dict[str, Tensor]:
        fake_logits: Tensor | None = None
        with optimizer.optim_context(self):
            if self.adversarial and share:
                fake_logits = self._judged(sr)
            elif self.adversarial:
                # Without the wrapper: this pass leaves no gradients to exchange.
                judge = unwrapped(self.discriminator).requires_grad_(False)
                fake_logits = judge(self._suited(sr, judge))
                judge.requires_grad_(True)
            losses = core.generator_objective(
                sr,
                gt,
                pixel=self.pixel_loss,
                perceptual=self.perceptual_loss,
                gan=self.gan_loss,
                fake_logits=fake_logits,
            )
        total = sum(losses.values())
        if share and fake_logits is not None:
            # The discriminator's part of the graph is needed once more, and its weights get their
            # gradients then.
            parameters = list(self.generator.parameters())
            optimizer.update_params(
                total, backward_kwargs={"inputs": parameters, "retain_graph": True}
            )
            losses["fake_logits"] = fake_logits
        else:
            optimizer.update_params(total)
        return losses | _gradient_norm("generator", optimizer)

    def _discriminator_step(
        self, sr: Tensor, gt: Tensor, optimizer: Any, fake_logits: Tensor | None
    ) -> dict[str, Tensor]:
        with optimizer.optim_context(self):
            real = self._judged(gt)
            fake = self._judged(sr) if fake_logits is None else fake_logits
            losses = core.discriminator_objective(real, fake, self.gan_loss)
        total = sum(losses.values())
        if fake_logits is None:
            optimizer.update_params(total)
        else:
            # No further than to the discriminator's weights: the generator has moved already.
            parameters = list(self.discriminator.parameters())
            optimizer.update_params(total, backward_kwargs={"inputs": parameters})
        seen = {"out_d_real": real.mean(), "out_d_fake": fake.mean()}
        return losses | seen | _gradient_norm("discriminator", optimizer)


def _gradient_norm(name: str, optimizer: Any) -> dict[str, Tensor]:
    """What our wrapper measured at its last step; another toolbox's measures nothing."""
    norm = getattr(optimizer, "gradient_norm", None)
    return {} if norm is None else {f"grad_norm_{name}": norm}
