"""The adversarial loss on logits, and the objectives of generator and discriminator.

A training step of any host calls the two objectives; a further term, such as a gradient penalty,
belongs in them. The losses that they take may be a toolbox's: what counts is how they are called.
Names are MMagic's. Under autocast every loss gets images and logits in float32.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import UserError, check_option
from srgan_plugin.networks.blocks import widened

GANType = Literal["vanilla", "lsgan", "l1", "wgan", "wgan_softplus", "hinge"]


def _label_loss(
    distance: Callable[[Tensor, Tensor], Tensor], logits: Tensor, *, label: float, **_: bool
) -> Tensor:
    """Compare every logit with its label."""
    return distance(logits, torch.full_like(logits, label))


def _hinge(logits: Tensor, *, real: bool, is_disc: bool, label: float) -> Tensor:
    if not is_disc:
        return -logits.mean()
    return F.relu(1 - logits if real else 1 + logits).mean()


_GAN_LOSSES: dict[str, Callable[..., Tensor]] = {
    "vanilla": partial(_label_loss, F.binary_cross_entropy_with_logits),
    "lsgan": partial(_label_loss, F.mse_loss),
    "l1": partial(_label_loss, F.l1_loss),
    "wgan": lambda logits, *, real, **_: -logits.mean() if real else logits.mean(),
    "wgan_softplus": lambda logits, *, real, **_: F.softplus(-logits if real else logits).mean(),
    "hinge": _hinge,
}


def gan_loss(
    logits: Tensor,
    target_is_real: bool,
    *,
    gan_type: GANType = "vanilla",
    is_disc: bool = False,
    real_label_val: float = 1.0,
    fake_label_val: float = 0.0,
) -> Tensor:
    """Mean adversarial loss of a batch of logits.

    With D = sigmoid(logits) and label 1, 'vanilla' is -log D: for the generator's images the
    paper's eq. 6, there summed, here the mean over the batch.

    Args:
        logits: The discriminator's, of any shape; half precision becomes float32 first.
        target_is_real: Whether the target label is real.
        gan_type: 'vanilla' (cross entropy), 'lsgan' (squares), 'l1', 'wgan' (the plain mean),
            'wgan_softplus' (as in StyleGAN2), 'hinge'.
        is_disc: For the discriminator. Matters to 'hinge' alone, whose generator loss is the
            negative mean whatever the target.
        real_label_val: The label of real, for the first three.
        fake_label_val: The label of fake, for the first three.

    Returns:
        A scalar.

    Raises:
        UserError: An unknown `gan_type`.
    """
    check_option("gan_type", gan_type, _GAN_LOSSES)
    label = real_label_val if target_is_real else fake_label_val
    return _GAN_LOSSES[gan_type](widened(logits), label=label, real=target_is_real, is_disc=is_disc)


class GANLoss(nn.Module):
    """`gan_loss` with its options fixed.

    Args:
        gan_type: See `gan_loss`.
        real_label_val: See `gan_loss`.
        fake_label_val: See `gan_loss`.
        loss_weight: Factor of the generator's loss; the discriminator's is always 1.

    Raises:
        UserError: An unknown `gan_type`.
    """

    def __init__(
        self,
        gan_type: GANType,
        real_label_val: float = 1.0,
        fake_label_val: float = 0.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_option("gan_type", gan_type, _GAN_LOSSES)
        self.gan_type = gan_type
        self.real_label_val = real_label_val
        self.fake_label_val = fake_label_val
        self.loss_weight = loss_weight

    def forward(self, input: Tensor, target_is_real: bool, is_disc: bool = False) -> Tensor:
        """Mean loss of logits of any shape, weighted if it is the generator's (not `is_disc`)."""
        loss = gan_loss(
            input,
            target_is_real,
            gan_type=self.gan_type,
            is_disc=is_disc,
            real_label_val=self.real_label_val,
            fake_label_val=self.fake_label_val,
        )
        return loss if is_disc else loss * self.loss_weight


# From (N, C, H, W) images to a scalar, or to the perceptual and the style term, each a scalar or
# None where it is left out.
PixelLossFn = Callable[[Tensor, Tensor], Tensor]
PerceptualLossFn = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor | None]]


class AdversarialLossFn(Protocol):
    """Judges the discriminator's logits."""

    def __call__(self, logits: Tensor, target_is_real: bool, /, *, is_disc: bool) -> Tensor:
        """Give a scalar; weighted for the generator only."""


def generator_objective(
    pred: Tensor,
    gt: Tensor,
    *,
    pixel: PixelLossFn | None = None,
    perceptual: PerceptualLossFn | None = None,
    gan: AdversarialLossFn | None = None,
    fake_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Content plus adversarial loss (Ledig et al. 2016, eq. 3); the objective is their sum.

    Args:
        pred: Generated RGB, (N, 3, H, W), in the range that the losses expect.
        gt: Real images of the same shape and range.
        pixel: Pixel loss.
        perceptual: Perceptual loss.
        gan: Adversarial loss, with `fake_logits`.
        fake_logits: The discriminator's answer to `pred`, through which gradients reach it.

    Returns:
        Weighted scalars under loss_pix, loss_perceptual, loss_style, loss_gan: those that there
        are, in this order.

    Raises:
        UserError: Nothing to minimise, or only one of `gan` and `fake_logits`.
    """
    if (gan is None) != (fake_logits is None):
        raise UserError("the adversarial term wants both gan and fake_logits, got only one")
    pred, gt = widened(pred), widened(gt)
    content, style = perceptual(pred, gt) if perceptual else (None, None)
    losses = {
        "loss_pix": pixel(pred, gt) if pixel else None,
        "loss_perceptual": content,
        "loss_style": style,
    }
    if gan is not None and fake_logits is not None:
        losses["loss_gan"] = gan(widened(fake_logits), True, is_disc=False)
    found = {name: loss for name, loss in losses.items() if loss is not None}
    if not found:
        raise UserError("the generator has no loss: give pixel, perceptual or gan")
    return found


def discriminator_objective(
    discriminator: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    gan: AdversarialLossFn,
    *,
    fake_logits: Tensor | None = None,
) -> Iterator[tuple[Literal["real", "fake"], Tensor, Tensor]]:
    """Distinguish real from generated images (Ledig et al. 2016, eq. 2): the sum of both terms.

    A host may minimise the sum, or each term before the next is computed.

    Args:
        discriminator: Maps images to logits.
        real: Real images, (N, 3, H, W).
        fake: Generated images of the same shape, detached from the generator.
        gan: Adversarial loss.
        fake_logits: The logits of `fake`, where they are known.

    Yields:
        For the real, then for the generated images: which they are, their loss, their logits.
    """
    logits = discriminator(real)
    yield "real", gan(widened(logits), True, is_disc=True), logits
    logits = discriminator(fake) if fake_logits is None else fake_logits
    yield "fake", gan(widened(logits), False, is_disc=True), logits
