"""Fixtures: small networks with large weights, and tools that must fail."""

import pytest
import torch


@pytest.fixture(scope="session")
def rough():
    """Return a function that makes networks whose weights are large enough to change images."""

    def make(cls, seed=0, **options):
        torch.manual_seed(seed)
        network = cls(**options).eval()
        with torch.no_grad():
            for tensor in network.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_((torch.rand_like(tensor) - 0.5) * 0.1)
        return network

    return make


@pytest.fixture
def fails(tool, capfd):
    """Return a function that runs a tool that must fail, and returns its one line."""

    def run(name, *arguments, status=1):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            tool(name).main(list(map(str, arguments)))
        said = capfd.readouterr().err
        assert stop.value.code == status, said
        assert said.count("error: ") == 1
        assert "Traceback" not in said
        return said.strip().splitlines()[-1]

    return run
