"""SOAP: what rotations of the weights change, Adam for biases, states, and ill-posed problems."""

import contextlib

import pytest
import torch

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import OptimWrapper
from srgan_plugin.hosts.mmengine.engine.soap import SOAP
from srgan_plugin.registry import OPTIMIZERS


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


def run(parameter, gradient, steps, kind=SOAP, **options):
    optimiser = kind([parameter], **options)
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
    back = rotation[0].T @ rotated @ rotation[1]
    torch.testing.assert_close(back, plain, rtol=0, atol=1e-6)
    plain, rotated = (run(*problem(r), 90, torch.optim.Adam, lr=0.01)[0] for r in (None, rotation))
    assert (rotation[0].T @ rotated @ rotation[1] - plain).abs().max() > 0.01


def reference(weight, gradient, steps, lr, frequency):
    """SOAP of one matrix, written out: moments by entry, eigenvectors as columns."""
    mean = torch.zeros_like(weight)
    square, covariances, bases = torch.zeros_like(weight), [0, 0], [None, None]
    for step in range(1, steps + 1):
        g = gradient(weight)
        share = max(0.01, 1 / step)
        for side, product in enumerate((g @ g.T, g.T @ g)):
            covariances[side] = (1 - share) * covariances[side] + share * product
            size = len(product)
            if step in (1, 20):
                shift = 1e-6 * torch.trace(covariances[side]) / size * torch.eye(size).double()
                bases[side] = torch.linalg.eigh(covariances[side] + shift)[1].flip(1)
            elif step % frequency == 0:
                bases[side] = torch.linalg.qr(covariances[side] @ bases[side])[0]
        if step == 20:
            square = torch.zeros_like(weight)
        mean = 0.95 * mean + 0.05 * g
        u, v = bases
        square = 0.99 * square + 0.01 * (u.T @ g @ v) ** 2
        if step > 40:
            m = (u.T @ mean @ v) / (1 - 0.95**step)
            s = square / (1 - 0.99 ** (step - 19))
            weight = weight - lr * u @ (m / (s**0.5 + 1e-3 * s.mean() ** 0.5)) @ v.T
    return weight


@pytest.mark.parametrize("frequency", [1, 7, 10])
def test_a_matrix_takes_the_steps_of_the_formulas(frequency):
    rotation = orthogonal(4, 1), orthogonal(6, 2)
    weight, gradient = problem(rotation)
    expected = reference(weight.detach().clone(), gradient, 75, 0.01, frequency)
    weight, gradient = problem(rotation)
    found, _ = run(weight, gradient, 75, lr=0.01, precondition_frequency=frequency)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_the_first_steps_change_nothing():
    weight, _ = run(*problem(), 40)
    assert torch.equal(weight, problem()[0].detach())
    assert not torch.equal(run(*problem(), 41)[0], weight)


def test_a_bias_takes_the_steps_of_adam():
    mine, theirs = (torch.nn.Parameter(torch.zeros(5)) for _ in range(2))
    gradients = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    soap = SOAP([mine], lr=0.01, betas=(0.9, 0.99))
    adam = torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99))
    for number, gradient in enumerate(gradients):
        for parameter, optimiser in ((mine, soap), (theirs, adam)):
            parameter.grad = gradient.clone()
            optimiser.step()
        if number == 39:  # the first steps of SOAP change nothing
            theirs.data.zero_()
    torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=0)


def test_weight_decay_is_that_of_adamw():
    plain, decayed = (
        run(*problem(), 41, lr=0.1, weight_decay=decay)[0] for decay in (0.0, 0.5)
    )  # the first step that changes the weights is the 41st
    start = problem()[0].detach()
    torch.testing.assert_close(decayed, start * (1 - 0.1 * 0.5) + (plain - start))


@pytest.mark.parametrize("steps", [5, 30, 55])
def test_a_saved_state_continues_with_the_same_steps(tmp_path, steps):
    parameter, gradient = problem()
    _, optimiser = run(parameter, gradient, steps)
    other = torch.nn.Parameter(parameter.detach().clone())
    second = SOAP([other])
    torch.save(optimiser.state_dict(), tmp_path / "state.pth")
    second.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    for _ in range(50):
        parameter.grad = other.grad = gradient(parameter.detach())
        optimiser.step()
        second.step()
        assert torch.equal(parameter, other)


def test_a_side_that_is_too_large_stays_in_its_own_basis():
    outputs = orthogonal(4, 1)
    plain, optimiser = run(*problem(), 90, lr=0.01, max_precond_dim=5)
    assert {name for name in optimiser.state_dict()["state"][0] if "basis" in name} == {
        "left_basis"
    }
    rotated, _ = run(*problem((outputs, torch.eye(6).double())), 90, lr=0.01, max_precond_dim=5)
    torch.testing.assert_close(outputs.T @ rotated, plain, rtol=0, atol=1e-6)


def test_a_large_layer_keeps_no_large_covariance_and_an_empty_one_nothing():
    layers = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3000, 9000), (0, 3))]
    for layer in layers:
        layer.grad = torch.ones_like(layer)
    optimiser = SOAP(layers)
    optimiser.step()
    states = optimiser.state_dict()["state"]
    assert list(states) == [0]
    assert max(v.numel() for v in states[0].values() if torch.is_tensor(v)) == 3000 * 9000


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_weights_of_a_type_whose_squares_lose_too_much_are_refused(dtype):
    parameter = torch.nn.Parameter(torch.ones(4, 6, dtype=dtype))
    with pytest.raises(UserError, match=rf"{str(dtype)[6:]}.*AmpOptimWrapper"):
        SOAP([parameter])


def test_options_of_a_group_are_checked_like_those_of_all():
    group = {"params": [torch.nn.Parameter(torch.zeros(2, 2))], "betas": (0.9, 1.0)}
    with pytest.raises(UserError, match="betas: expected decays"):
        SOAP([group])
    optimiser = SOAP([torch.nn.Parameter(torch.zeros(2, 2))])
    with pytest.raises(UserError, match="betas: expected decays"):
        optimiser.add_param_group(group)
    assert len(optimiser.param_groups) == 1


@pytest.mark.parametrize("step", [1, 20])
def test_gradients_that_give_no_eigenvectors_end_in_one_line(step):
    parameter = torch.nn.Parameter(torch.zeros(4, 6))
    optimiser = SOAP([parameter])
    for number in range(1, step + 1):
        parameter.grad = torch.full((4, 6), float("nan") if number == step else 1.0)
        with (
            contextlib.nullcontext() if number < step else pytest.raises(UserError, match="finite")
        ):
            optimiser.step()


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 3, sparse=True)
    optimiser = SOAP(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(UserError, match="sparse"):
        optimiser.step()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1.0),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("betas", (0.9,)),
        ("betas", (0.9, 0.95, 0.99)),
        ("betas", ("a", 0.9)),
        ("betas", 0.9),
        ("lr", float("inf")),
        ("weight_decay", -1),
        ("shampoo_beta", "x"),
        ("shampoo_beta", 1.5),
        ("precondition_frequency", 0),
        ("max_precond_dim", 1.5),
    ],
)
def test_an_argument_out_of_range_is_named(name, value):
    with pytest.raises(UserError, match=f"^{name}: expected"):
        SOAP([torch.nn.Parameter(torch.zeros(2, 2))], **{name: value})


def test_a_config_names_it_and_a_checkpoint_of_adam_is_not_read_as_its_own():
    kind = OPTIMIZERS.get("SOAP")
    assert kind is SOAP
    network = torch.nn.Conv2d(3, 8, 3)
    wrapper = OptimWrapper(kind(network.parameters(), lr=0.01))
    before = network.weight.detach().clone()
    for number in range(42):
        torch.manual_seed(number)
        wrapper.update_params(network(torch.rand(2, 3, 8, 8)).square().mean())
    assert not torch.equal(network.weight, before)
    other = OptimWrapper(SOAP(network.parameters()))
    other.load_state_dict(wrapper.state_dict())
    adam = OptimWrapper(torch.optim.Adam(network.parameters()))
    adam.update_params(network(torch.rand(2, 3, 8, 8)).mean())
    with pytest.raises(UserError, match="optimi"):
        other.load_state_dict(adam.state_dict())


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (3, 8, 3, 3), (5,), ()])
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
