"""The self-ensemble against its definition."""

import pytest
import torch

from srgan_plugin.networks.self_ensemble import SYMMETRIES, self_ensemble


def network(lr: torch.Tensor) -> torch.Tensor:
    """Return another image for each orientation of the input."""
    rows = torch.arange(lr.shape[-2], dtype=torch.float64)[:, None] / 40
    return (lr.double() * 0.7 + rows.to(lr.device) * 0.1 + 0.1).to(lr.dtype)


@pytest.mark.parametrize(
    ("dtype", "levels"),
    [(torch.float64, 1e-9), (torch.float32, 1e-3), (torch.float16, 0.1), (torch.bfloat16, 0.8)],
)
def test_the_mean_of_low_precision_is_as_exact_as_its_terms(
    dtype: torch.dtype, levels: float
) -> None:
    lr = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    terms = [s.undo(network(s.apply(lr.double()))) for s in SYMMETRIES]
    mean = self_ensemble(network, lr.to(dtype))
    assert mean.dtype == torch.promote_types(dtype, torch.float32)
    assert 255 * (mean.double() - torch.stack(terms).mean(0)).abs().max() < levels


def test_a_network_may_write_each_result_to_the_same_memory() -> None:
    buffer = torch.empty(1, 3, 12, 12)
    lr = torch.rand(1, 3, 12, 12)
    mean = self_ensemble(lambda image: buffer.copy_(network(image)), lr)
    torch.testing.assert_close(mean, self_ensemble(network, lr))
