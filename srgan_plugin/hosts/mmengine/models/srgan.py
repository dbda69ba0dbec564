"""SRGAN: a generator and a discriminator, trained in turn."""

from typing import Any, Literal

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.losses import discriminator_objective, generator_objective
from srgan_plugin.registry import MODELS

from .data_preprocessor import gt_batch
from .model_utils import (
    Config,
    build,
    gradient_norm,
    keep_bn_stats,
    restore_bn_stats,
    snapshot_bn_stats,
    unwrap_ddp,
)
from .sr_model import SRModel

_TRAIN_CFG = ("disc_steps", "disc_repeat", "disc_init_steps", "share_fake_logits")


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
        test_cfg: As in `SRModel`.
        init_cfg: mmengine's initialisation.
        data_preprocessor: As in `SRModel`.
        ema: As in `SRModel`.
        channels_last: As in `SRModel`.
        compile: As in `SRModel`.
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
        channels_last: bool | Literal["auto"] = False,
        compile: bool | Config = False,
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
            compile,
        )
        self.discriminator = build(discriminator)
        self.gan_loss = build(gan_loss)
        self.perceptual_loss = build(perceptual_loss)
        if unknown := set(self.train_cfg) - set(_TRAIN_CFG):
            raise UserError(
                f"model.train_cfg: {', '.join(sorted(unknown))} is unknown; "
                f"there are {', '.join(_TRAIN_CFG)}"
            )
        self.disc_steps = self.train_cfg.get("disc_steps", 1)
        self.disc_init_steps = self.train_cfg.get("disc_init_steps", 0)
        self.disc_repeat = self.train_cfg.get("disc_repeat", 1)
        self.share_fake_logits = self.train_cfg.get("share_fake_logits", False)
        self.adversarial = self.discriminator is not None and self.gan_loss is not None
        self._set_memory_format(self.discriminator, self.perceptual_loss)
        self._compile(self.discriminator, self.perceptual_loss)
        # Saved, unlike MMagic's: a resumed run goes on counting.
        self.register_buffer("step_counter", torch.tensor(0))

    def train_step(self, data: Config, optim_wrapper: Any) -> dict[str, Tensor]:
        """One step of the generator, then of the discriminator on the same images.

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
        self.untrained = False
        data = self.data_preprocessor(data, True)
        generator = optim_wrapper["generator"]
        discriminator = optim_wrapper["discriminator"] if self.adversarial else None
        lr = self._to_memory_format(data["inputs"], self.generator)
        gt = gt_batch(data["data_samples"])
        moves = self._generator_is_updated()
        share = moves and self._can_share_fake_logits(generator, discriminator)
        seen: dict[str, Tensor] = {}
        fake_logits = None
        own, others = snapshot_bn_stats(self.generator), snapshot_bn_stats(self.discriminator)
        statistics = own + others
        for optimizer in (generator if moves else None, discriminator):
            keep_bn_stats(statistics, optimizer)
        with torch.set_grad_enabled(moves):
            with generator.optim_context(self):
                sr = self.generator(lr)
            if moves:
                seen |= self._generator_step(sr, gt, generator, share)
                fake_logits = seen.pop("fake_logits", None)
                # The discriminator still differentiates the shared pass, which its own belong to.
                restore_bn_stats(own if share else statistics, generator)
                self._update_ema(generator)
        if self.adversarial:
            for _ in range(self.disc_repeat):
                seen |= self._discriminator_step(sr.detach(), gt, discriminator, fake_logits)
                restore_bn_stats(statistics, discriminator)
                if self.disc_repeat > 1:
                    statistics = snapshot_bn_stats(self.generator, self.discriminator)
                    keep_bn_stats(statistics, discriminator)
        if share:
            restore_bn_stats(others, generator)
        self.step_counter += 1
        return {name: value.detach() for name, value in seen.items()}

    @property
    def is_static_step(self) -> bool:
        """Whether the generator moves at every step."""
        return bool(self.disc_steps == 1 and self.disc_init_steps == 0)

    def _generator_is_updated(self) -> bool:
        if self.is_static_step:
            return True  # without asking the device how many steps there were
        step = int(self.step_counter)
        return bool(step >= self.disc_init_steps and step % self.disc_steps == 0)

    def _can_share_fake_logits(self, *optimizers: Any) -> bool:
        return (
            self.share_fake_logits
            and self.adversarial
            and self.disc_repeat == 1
            and not is_model_wrapper(self.discriminator)
            # Only our wrapper says so, and only ours stops its backward pass where it has to.
            and all(getattr(o, "accumulates_over", 0) == 1 for o in optimizers)
        )

    def _discriminate(self, images: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(self._to_memory_format(images, self.discriminator))
        return logits

    def _generator_step(
        self, sr: Tensor, gt: Tensor, optimizer: Any, share: bool
    ) -> dict[str, Tensor]:
        fake_logits: Tensor | None = None
        with optimizer.optim_context(self):
            if self.adversarial and share:
                fake_logits = self._discriminate(sr)
            elif self.adversarial:
                # Without the wrapper: this pass leaves no gradients to exchange.
                judge = unwrap_ddp(self.discriminator)
                trained = [p for p in judge.parameters() if p.requires_grad]
                judge.requires_grad_(False)
                fake_logits = judge(self._to_memory_format(sr, judge))
                for parameter in trained:
                    parameter.requires_grad_(True)
            losses = generator_objective(
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
            parameters = [p for p in self.generator.parameters() if p.requires_grad]
            optimizer.update_params(
                total, backward_kwargs={"inputs": parameters, "retain_graph": True}
            )
            losses["fake_logits"] = fake_logits
        else:
            optimizer.update_params(total)
        return losses | gradient_norm("generator", optimizer)

    def _discriminator_step(
        self, sr: Tensor, gt: Tensor, optimizer: Any, fake_logits: Tensor | None
    ) -> dict[str, Tensor]:
        with optimizer.optim_context(self):
            terms = list(
                discriminator_objective(
                    self._discriminate, gt, sr, self.gan_loss, fake_logits=fake_logits
                )
            )
        losses = {f"loss_d_{kind}": loss for kind, loss, _ in terms}
        total = sum(losses.values())
        if fake_logits is None:
            optimizer.update_params(total)
        else:
            # No further than to the discriminator's weights: the generator has moved already.
            parameters = [p for p in self.discriminator.parameters() if p.requires_grad]
            optimizer.update_params(total, backward_kwargs={"inputs": parameters})
        means = {f"out_d_{kind}": logits.mean(dtype=torch.float32) for kind, _, logits in terms}
        return losses | means | gradient_norm("discriminator", optimizer)
