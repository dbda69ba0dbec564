"""SRGAN: a generator and a discriminator, trained in turn."""

from typing import Any, Literal

import torch
from mmengine.model import is_model_wrapper
from torch import Tensor

from srgan_plugin.errors import UserError, check_count, check_option
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
    """SRGAN (Ledig et al. 2016), with the arguments of MMagic's `SRGAN`.

    Args:
        generator: See `SRModel`.
        discriminator: Config of the network, from images (N, 3, H, W) to logits (N, 1). If None,
            only the generator is trained.
        gan_loss: Config of the adversarial loss; its weight scales the generator's loss only. If
            None, only the generator is trained.
        pixel_loss: Config of the loss between SR and GT; None for no such term.
        perceptual_loss: Config of the content (and style) loss; None for no such term. At least one
            of the three losses is needed.
        train_cfg: `disc_steps` (1, at least 1): the generator is updated every `disc_steps` steps;
            `disc_repeat` (1, at least 1): updates of the discriminator in a step;
            `disc_init_steps` (0): steps before the first update of the generator;
            `share_fake_logits` (False): use one pass of the discriminator over the generated batch
            for both objectives, see `train_step`.
        test_cfg: See `SRModel`.
        init_cfg: See `SRModel`.
        data_preprocessor: See `SRModel`.
        ema: See `SRModel`.
        channels_last: See `SRModel`.
        compile: See `SRModel`.

    Raises:
        UserError: `train_cfg` has an unknown key, or a value out of range.
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
                f"model.train_cfg: expected keys among {', '.join(_TRAIN_CFG)}, got "
                f"{', '.join(sorted(unknown))}"
            )
        self.disc_steps = self.train_cfg.get("disc_steps", 1)
        self.disc_init_steps = self.train_cfg.get("disc_init_steps", 0)
        self.disc_repeat = self.train_cfg.get("disc_repeat", 1)
        self.share_fake_logits = self.train_cfg.get("share_fake_logits", False)
        counts = {"disc_steps": self.disc_steps, "disc_repeat": self.disc_repeat}
        check_count(1, **{f"model.train_cfg.{name}": count for name, count in counts.items()})
        check_count(0, **{"model.train_cfg.disc_init_steps": self.disc_init_steps})
        check_option("model.train_cfg.share_fake_logits", self.share_fake_logits, (True, False))
        self.adversarial = self.discriminator is not None and self.gan_loss is not None
        self._set_memory_format(self.discriminator, self.perceptual_loss)
        self._compile(self.discriminator, self.perceptual_loss)
        # Saved (unlike in MMagic), so that a resumed run continues to count.
        self.register_buffer("step_counter", torch.tensor(0))

    def train_step(self, data: Config, optim_wrapper: Any) -> dict[str, Tensor]:
        """Run one step of the generator, then of the discriminator on the same images.

        Both objectives need the discriminator's logits of the generated batch, and its weights do
        not change in between. With `share_fake_logits` they are computed once. The weights after
        the step are the same, except with layers that are random or have a state (dropout, spectral
        normalisation); running statistics are updated twice in a step instead of three times. The
        option has no effect with `disc_repeat` above 1, accumulated gradients or several processes,
        nor in steps that do not update the generator.

        Args:
            data: A batch of the loader.
            optim_wrapper: `OptimWrapperDict` of mmengine with `generator` and, if it is trained,
                `discriminator`.

        Returns:
            Losses by the names in MMagic, mean logits as `out_d_real` and `out_d_fake` (names of
            BasicSR), and the gradient norm of each network, detached; those of the discriminator's
            last update, and none of the generator in steps that do not update it.
        """
        self.untrained = False
        data = self.data_preprocessor(data, True)
        generator = optim_wrapper["generator"]
        discriminator = optim_wrapper["discriminator"] if self.adversarial else None
        lr = self._to_memory_format(data["inputs"], self.generator)
        gt = gt_batch(data["data_samples"])
        update = self._generator_is_updated()
        share = update and self._can_share_fake_logits(generator, discriminator)
        outputs: dict[str, Tensor] = {}
        fake_logits = None
        of_generator = snapshot_bn_stats(self.generator)
        of_discriminator = snapshot_bn_stats(self.discriminator)
        statistics = of_generator + of_discriminator
        for optimizer in (generator if update else None, discriminator):
            keep_bn_stats(statistics, optimizer)
        with torch.set_grad_enabled(update):
            with generator.optim_context(self):
                sr = self.generator(lr)
            if update:
                outputs |= self._generator_step(sr, gt, generator, share)
                fake_logits = outputs.pop("fake_logits", None)
                # A shared pass still needs the discriminator's statistics for its backward pass.
                restore_bn_stats(of_generator if share else statistics, generator)
                self._update_ema(generator)
        if self.adversarial:
            for _ in range(self.disc_repeat):
                outputs |= self._discriminator_step(sr.detach(), gt, discriminator, fake_logits)
                restore_bn_stats(statistics, discriminator)
                if self.disc_repeat > 1:
                    statistics = snapshot_bn_stats(self.generator, self.discriminator)
                    keep_bn_stats(statistics, discriminator)
        if share:
            restore_bn_stats(of_discriminator, generator)
        self.step_counter += 1
        return {name: value.detach() for name, value in outputs.items()}

    @property
    def is_static_step(self) -> bool:
        """Whether the generator is updated in every step."""
        return bool(self.disc_steps == 1 and self.disc_init_steps == 0)

    def _generator_is_updated(self) -> bool:
        if self.is_static_step:
            return True  # reading step_counter would synchronise with the device
        step = int(self.step_counter)
        return bool(step >= self.disc_init_steps and step % self.disc_steps == 0)

    def _can_share_fake_logits(self, *optimizers: Any) -> bool:
        return (
            self.share_fake_logits
            and self.adversarial
            and self.disc_repeat == 1
            and not is_model_wrapper(self.discriminator)
            # Other wrappers have no such attribute, and cannot limit the backward pass.
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
                # Without DDP, because this pass has no gradients of weights to reduce.
                discriminator = unwrap_ddp(self.discriminator)
                trained = [p for p in discriminator.parameters() if p.requires_grad]
                discriminator.requires_grad_(False)
                try:
                    fake_logits = discriminator(self._to_memory_format(sr, discriminator))
                finally:
                    for parameter in trained:
                        parameter.requires_grad_(True)
            losses = generator_objective(
                sr,
                gt,
                pixel=self.pixel_loss,
                perceptual=self.perceptual_loss,
                gan=self.gan_loss if self.adversarial else None,
                fake_logits=fake_logits,
            )
        total = sum(losses.values())
        if share and fake_logits is not None:
            # The discriminator's step runs backward through its part of the graph again, and
            # computes the gradients of its weights.
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
            # Only to the discriminator's weights, because the generator has been updated already.
            parameters = [p for p in self.discriminator.parameters() if p.requires_grad]
            optimizer.update_params(total, backward_kwargs={"inputs": parameters})
        means = {f"out_d_{kind}": logits.mean(dtype=torch.float32) for kind, _, logits in terms}
        return losses | means | gradient_norm("discriminator", optimizer)
