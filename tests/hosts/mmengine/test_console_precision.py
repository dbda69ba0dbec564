"""What the console says that a training computes in."""

import pytest
import torch
from mmengine.optim import AmpOptimWrapper as HostAmpOptimWrapper
from mmengine.optim import OptimWrapper as HostOptimWrapper
from mmengine.optim import OptimWrapperDict

from srgan_plugin.cli.mmengine_console import _describe_precision
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import AmpOptimWrapper


def adam() -> torch.optim.Optimizer:
    return torch.optim.Adam(torch.nn.Linear(1, 1).parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_console_names_the_precision_of_each_optim_wrapper(dtype: str) -> None:
    ours = AmpOptimWrapper(adam(), dtype=dtype)
    assert _describe_precision(ours) == dtype
    assert _describe_precision(OptimWrapperDict(generator=ours, discriminator=ours)) == dtype


def test_the_console_names_what_autocast_takes_where_no_precision_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _describe_precision(AmpOptimWrapper(adam())) == "bfloat16"
    wrapper = HostAmpOptimWrapper.__new__(HostAmpOptimWrapper)  # its __init__ asks for a GPU
    wrapper.cast_dtype = None
    assert _describe_precision(wrapper) == "bfloat16"
    wrapper.cast_dtype = torch.float16
    assert _describe_precision(wrapper) == "float16"
    assert _describe_precision(HostOptimWrapper(adam())) == "float32"
