"""SOAP: what rotations of the weights change, Adam for biases, states, and ill-posed problems."""

import copy

import pytest
import torch

from srgan_plugin.hosts.mmengine.engine.soap import SOAP


def problem(rotation=None, seed=0):
    """Return a weight (4, 6) and its noisy gradients, both rotated on request."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 6, generator=generator, dtype=torch.double)
    target = torch.randn(4, 6, generator=generator, dtype=torch.double)
    scales = torch.logspace(0, -2, 6, dtype=torch.double) * torch.linspace(1, 3, 4)[:, None]
    left, right = rotation or (torch.eye(4).double(), torch.eye(6).double())

    def gradient(now):
        inside = left.T @ now @ right
        noise = 0.1 * torch.randn(4, 6, generator=generator, dtype=torch.double)
        return left @ (scales * (inside - target + noise)) @ right.T

    return torch.nn.Parameter(left @ weight @ right.T), gradient


def run(parameter, gradient, steps, **options):
    optimiser = SOAP([parameter], **options)
    for _ in range(steps):
        parameter.grad = gradient(parameter.detach())
        optimiser.step()
    return parameter.detach(), optimiser


def orthogonal(size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.double))[0]


def test_rotated_weights_take_the_rotated_steps_unlike_adams():
    rotation = orthogonal(4, 1), orthogonal(6, 2)
    plain, _ = run(*problem(), 90, lr=0.01)
    rotated, _ = run(*problem(rotation), 90, lr=0.01)
    moved = (plain - problem()[0].detach()).abs().max()
    assert moved > 0.1
    torch.testing.assert_close(rotation[0].T @ rotated @ rotation[1], plain, rtol=0, atol=1e-6)


def test_the_first_steps_change_nothing():
    weight, _ = run(*problem(), 39)
    assert torch.equal(weight, problem()[0].detach())
    assert not torch.equal(run(*problem(), 40)[0], weight)


def test_a_bias_takes_the_steps_of_adam():
    mine, theirs = (torch.nn.Parameter(torch.zeros(5)) for _ in range(2))
    gradients = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    soap = SOAP([mine], lr=0.01, betas=(0.9, 0.99))
    adam = torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99))
    for number, gradient in enumerate(gradients):
        for parameter, optimiser in ((mine, soap), (theirs, adam)):
            parameter.grad = gradient.clone()
            optimiser.step()
        if number == 38:  # the first steps of SOAP change nothing
            theirs.data.zero_()
    torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=0)


def test_a_saved_state_continues_with_the_same_steps():
    parameter, gradient = problem()
    _, optimiser = run(parameter, gradient, 55)
    other = torch.nn.Parameter(parameter.detach().clone())
    second = SOAP([other])
    second.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for _ in range(20):
        parameter.grad = other.grad = gradient(parameter.detach())
        optimiser.step()
        second.step()
        assert torch.equal(parameter, other)


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (3, 8, 3, 3), (5,)])
def test_parameters_of_all_shapes_go_down(shape):
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(shape))
    before = parameter.detach().square().sum()
    optimiser = SOAP([parameter], lr=0.03)
    for _ in range(160):
        loss = optimiser.step(lambda: _half_square(parameter, optimiser))
    assert loss < before / 4


def _half_square(parameter, optimiser):
    optimiser.zero_grad()
    loss = parameter.square().sum() / 2
    loss.backward()
    return loss.item()
