"""The adversarial loss on logits, and the objectives of generator and discriminator.

The training steps for mmengine and for BasicSR call the two objectives; a further term, such as a
gradient penalty, belongs in them. They accept any loss with the signature of `AdversarialLossFn`,
including those of MMagic and BasicSR. Names of arguments are those of MMagic. Under autocast every
loss gets float32.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import UserError, check_factor, check_option
from srgan_plugin.networks.blocks import at_least_float32

GANType = Literal["vanilla", "lsgan", "l1", "wgan", "wgan_softplus", "hinge"]


def _label_loss(
    distance: Callable[[Tensor, Tensor], Tensor], logits: Tensor, *, label: float, **_: bool
) -> Tensor:
    """Return the distance of logits from one label."""
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
    """Compute the mean adversarial loss of a batch of logits.

    With D = sigmoid(logits) and label 1, 'vanilla' is -log D. For generated images this is eq. 6 of
    the paper with the mean over the batch in place of the sum.

    Args:
        logits: Logits of the discriminator, any shape; half precision is converted to float32.
        target_is_real: Whether the target label is real.
        gan_type: 'vanilla' (cross entropy), 'lsgan' (squares), 'l1', 'wgan' (the plain mean),
            'wgan_softplus' (as in StyleGAN2), 'hinge'.
        is_disc: Whether the loss is that of the discriminator. Only 'hinge' differs: its generator
            loss is the negative mean for either target.
        real_label_val: Label of real images, for 'vanilla', 'lsgan' and 'l1'.
        fake_label_val: Label of generated images, for 'vanilla', 'lsgan' and 'l1'.

    Returns:
        A scalar.

    Raises:
        UserError: `gan_type` is unknown.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import gan_loss
        >>> round(gan_loss(torch.zeros(4, 1), target_is_real=True).item(), 4)  # log(2)
        0.6931
    """
    check_option("gan_type", gan_type, _GAN_LOSSES)
    label = real_label_val if target_is_real else fake_label_val
    return _GAN_LOSSES[gan_type](
        at_least_float32(logits), label=label, real=target_is_real, is_disc=is_disc
    )


class GANLoss(nn.Module):
    """Adversarial loss as a module; see `gan_loss`.

    Args:
        gan_type: See `gan_loss`.
        real_label_val: See `gan_loss`.
        fake_label_val: See `gan_loss`.
        loss_weight: Factor of the generator's loss; that of the discriminator's loss is always 1.

    Raises:
        UserError: `gan_type` is unknown, or `loss_weight` is negative.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import GANLoss
        >>> loss, logits = GANLoss("wgan", loss_weight=0.1), torch.full((4, 1), 2.0)
        >>> round(loss(logits, True).item(), 4), loss(logits, True, is_disc=True).item()
        (-0.2, -2.0)
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
        check_factor(loss_weight=loss_weight)
        self.loss_weight = loss_weight

    def forward(self, input: Tensor, target_is_real: bool, is_disc: bool = False) -> Tensor:
        """Compute the mean loss of logits.

        Args:
            input: Logits of the discriminator, any shape.
            target_is_real: Whether the target label is real.
            is_disc: Whether the loss is that of the discriminator, which is not multiplied by
                `loss_weight`.

        Returns:
            A scalar.
        """
        loss = gan_loss(
            input,
            target_is_real,
            gan_type=self.gan_type,
            is_disc=is_disc,
            real_label_val=self.real_label_val,
            fake_label_val=self.fake_label_val,
        )
        return loss if is_disc else loss * self.loss_weight


# From images (N, C, H, W) and GT of the same shape to a scalar, or to the perceptual and the style
# term, each a scalar or None if it is switched off.
PixelLossFn = Callable[[Tensor, Tensor], Tensor]
PerceptualLossFn = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor | None]]


class AdversarialLossFn(Protocol):
    """Adversarial loss of logits, such as `GANLoss`."""

    def __call__(self, logits: Tensor, target_is_real: bool, /, *, is_disc: bool) -> Tensor:
        """Return a scalar; it includes the weight of the loss only if not `is_disc`."""


def generator_objective(
    pred: Tensor,
    gt: Tensor,
    *,
    pixel: PixelLossFn | None = None,
    perceptual: PerceptualLossFn | None = None,
    gan: AdversarialLossFn | None = None,
    fake_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the terms of the generator's objective (Ledig et al. 2016, eq. 3), to be summed.

    Args:
        pred: Generated RGB, (N, 3, H, W), in the range that the losses expect.
        gt: GT images of the same shape and range.
        pixel: Pixel loss, which applies its own weight; None for no such term.
        perceptual: Perceptual loss, likewise.
        gan: Adversarial loss, likewise; needs `fake_logits`.
        fake_logits: The discriminator's logits of `pred`, through which gradients reach `pred`.

    Returns:
        Weighted scalars by name: those of loss_pix, loss_perceptual, loss_style and loss_gan whose
        loss is given and does not return None, in this order.

    Raises:
        UserError: No term is given, or only one of `gan` and `fake_logits`.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import GANLoss, L1Loss, generator_objective
        >>> pred, gt, logits = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8), torch.zeros(1, 1)
        >>> losses = generator_objective(
        ...     pred, gt, pixel=L1Loss(), gan=GANLoss("wgan"), fake_logits=logits + 0.5
        ... )
        >>> {name: loss.item() for name, loss in losses.items()}
        {'loss_pix': 1.0, 'loss_gan': -0.5}
    """
    if (gan is None) != (fake_logits is None):
        raise UserError("gan, fake_logits: expected both or neither, got only one")
    pred, gt = at_least_float32(pred), at_least_float32(gt)
    content, style = (None, None) if perceptual is None else perceptual(pred, gt)
    losses = {
        "loss_pix": None if pixel is None else pixel(pred, gt),
        "loss_perceptual": content,
        "loss_style": style,
    }
    if gan is not None and fake_logits is not None:
        losses["loss_gan"] = gan(at_least_float32(fake_logits), True, is_disc=False)
    found = {name: loss for name, loss in losses.items() if loss is not None}
    if not found:
        raise UserError(
            "generator losses: expected at least one of pixel, perceptual or gan, got 0"
        )
    return found


def discriminator_objective(
    discriminator: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    gan: AdversarialLossFn,
    *,
    fake_logits: Tensor | None = None,
) -> Iterator[tuple[Literal["real", "fake"], Tensor, Tensor]]:
    """Compute the two terms of the discriminator's objective (Ledig et al. 2016, eq. 2).

    The caller may minimise their sum, or each term before the next one is computed.

    Args:
        discriminator: Maps images (N, 3, H, W) to logits.
        real: Real images, (N, 3, H, W).
        fake: Generated images of the same shape, detached from the generator.
        gan: Adversarial loss.
        fake_logits: Logits of `fake`, if they are already computed. Then the weights must not
            change between the two terms.

    Yields:
        `("real", loss, logits)`, then `("fake", loss, logits)`.

    Example:
        >>> import torch
        >>> from srgan_plugin.losses import GANLoss, discriminator_objective
        >>> real, fake = torch.ones(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
        >>> terms = discriminator_objective(
        ...     lambda images: images.mean((1, 2, 3)), real, fake, GANLoss("hinge")
        ... )
        >>> [(name, loss.item()) for name, loss, logits in terms]
        [('real', 0.0), ('fake', 1.0)]
    """
    logits = discriminator(real)
    yield "real", gan(at_least_float32(logits), True, is_disc=True), logits
    logits = discriminator(fake) if fake_logits is None else fake_logits
    yield "fake", gan(at_least_float32(logits), False, is_disc=True), logits
