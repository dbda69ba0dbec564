"""The two objectives of SRGAN, each written once, for any host's training step to call.

The losses may be ours or a toolbox's: what counts is how they are called. Names are MMagic's.
Under autocast a loss gets images and logits in float32, a toolbox's loss as well.
"""

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.networks.blocks import widened

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
