import pytest
import torch

from srgan_plugin.losses import GANLoss, L1Loss, discriminator_objective, generator_objective


def perceptual(pred, gt):
    return ((pred - gt) ** 2).sum(), (pred.mean() - gt.mean()) ** 2


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True), torch.rand(2, 3, 4, 4)


def test_the_generator_s_losses_have_mmagic_s_names_and_add_up_to_the_written_out_objective(
    images,
):
    pred, gt = images
    logits = pred.mean(dim=(1, 2, 3), keepdim=True).flatten(1)
    losses = generator_objective(
        pred,
        gt,
        pixel=L1Loss(loss_weight=1e-2),
        perceptual=perceptual,
        gan=GANLoss("vanilla", loss_weight=5e-3),
        fake_logits=logits,
    )
    assert list(losses) == ["loss_pix", "loss_perceptual", "loss_style", "loss_gan"]
    (found,) = torch.autograd.grad(sum(losses.values()), pred)
    error = (pred - gt).detach()
    pixel = 1e-2 * error.sign() / error.numel()
    content = 2 * error
    style = 2 * error.mean() / error.numel()
    adversarial = -5e-3 * (1 - logits.sigmoid()).detach() / len(logits) / pred[0].numel()
    torch.testing.assert_close(found, pixel + content + style + adversarial.view(2, 1, 1, 1))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"pixel": L1Loss()}, ["loss_pix"]),
        ({"perceptual": lambda pred, gt: (pred.sum(), None)}, ["loss_perceptual"]),
        ({"perceptual": lambda pred, gt: (None, pred.sum())}, ["loss_style"]),
        ({"gan": GANLoss("hinge"), "fake_logits": torch.zeros(2, 1)}, ["loss_gan"]),
    ],
)
def test_a_term_that_is_not_there_has_no_name(images, options, names):
    assert list(generator_objective(*images, **options)) == names


def test_the_discriminator_is_pulled_up_on_real_and_down_on_fake_with_full_weight():
    real, fake = (
        torch.tensor([[x], [y]], requires_grad=True) for x, y in ((0.3, -1.0), (2.0, -0.5))
    )
    gan = GANLoss("vanilla", loss_weight=5e-3)
    terms = list(discriminator_objective(lambda images: 2 * images, real, fake, gan))
    assert [kind for kind, _, _ in terms] == ["real", "fake"]
    assert torch.equal(terms[0][2], 2 * real)
    assert torch.equal(terms[1][2], 2 * fake)
    up, down = torch.autograd.grad(sum(loss for _, loss, _ in terms), [real, fake])
    torch.testing.assert_close(up, (2 * real).sigmoid() - 1)
    torch.testing.assert_close(down, (2 * fake).sigmoid())


def test_known_logits_of_generated_images_are_not_computed_again():
    seen = []

    def discriminator(images):
        seen.append(images)
        return images.mean(dim=(1, 2, 3))

    real, fake, known = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2)
    gan = GANLoss("vanilla")
    terms = discriminator_objective(discriminator, real, fake, gan, fake_logits=known)
    assert [logits is known for _, _, logits in terms] == [False, True]
    assert len(seen) == 1
    assert seen[0] is real


def test_a_relabelled_or_foreign_gan_loss_is_called_the_way_the_toolboxes_call_theirs():
    calls = []

    class Foreign:
        def __call__(self, input, target_is_real, is_disc=False):
            calls.append((target_is_real, is_disc))
            return input.mean()

    logits = torch.zeros(2, 1)
    generator_objective(logits, logits, gan=Foreign(), fake_logits=logits)
    list(discriminator_objective(lambda x: x, logits, logits, Foreign()))
    assert calls == [(True, False), (True, True), (False, True)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "generator.*pixel, perceptual or gan"),
        ({"perceptual": lambda pred, gt: (None, None)}, "generator.*loss"),
        ({"gan": GANLoss("vanilla")}, "gan.*fake_logits"),
        ({"pixel": L1Loss(), "fake_logits": torch.zeros(2, 1)}, "gan.*fake_logits"),
    ],
)
def test_an_objective_that_cannot_be_is_refused_in_one_line(images, options, message):
    with pytest.raises(ValueError, match=message):
        generator_objective(*images, **options)
