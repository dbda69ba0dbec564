"""Many tensors at once against each of them alone."""

import pytest
import torch
from torch import Tensor

from srgan_plugin.networks.packing import assign_where, copy_tensors, pack, unpack


def tensors(seed: int) -> list[Tensor]:
    """Of every kind that networks have: types, shapes, layouts, slices."""
    torch.manual_seed(seed)
    return [
        torch.rand(4, 3, 3, 3).to(memory_format=torch.channels_last),
        torch.tensor(seed),
        torch.rand(5),
        torch.rand(4, 6, 2, 2)[:, ::2],
        torch.rand(2, 3).double(),
        torch.rand(4, 3, 1, 1),
        torch.tensor(10 + seed),
        torch.rand(()),
    ]


def test_copies_are_equal_laid_out_alike_and_stay_when_the_originals_change() -> None:
    originals, expected = tensors(1), tensors(1)
    found = copy_tensors(originals)
    for tensor in originals:
        tensor.zero_()
    for copy, value in zip(found, expected, strict=True):
        assert copy.dtype == value.dtype
        assert torch.equal(copy, value)
    assert found[0].stride() == expected[0].stride()
    assert copy_tensors([]) == []


@pytest.mark.parametrize("condition", [True, False])
def test_values_are_assigned_where_the_condition_holds(condition: bool) -> None:
    targets, values = tensors(1), tensors(2)
    values[2][1] = torch.nan
    values[4] = values[4].float()  # of another type
    values[0] = values[0].contiguous()  # in another layout
    strides = [target.stride() for target in targets]
    assign_where(torch.tensor(condition), targets, values)
    expected = (
        [v.to(t.dtype) for v, t in zip(values, targets, strict=True)] if condition else tensors(1)
    )
    for target, value in zip(targets, expected, strict=True):
        torch.testing.assert_close(target, value, rtol=0, atol=0, equal_nan=True)
    assert [target.stride() for target in targets] == strides


def test_a_packed_tensor_keeps_the_order_of_memory_and_is_not_copied_twice() -> None:
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    packed = pack([image], [image])
    assert torch.equal(packed, image.permute(0, 2, 3, 1).flatten())
    (back,) = unpack(packed, [image])
    assert torch.equal(back, image)
    assert back.stride() == image.stride()
    assert back.data_ptr() == packed.data_ptr()


def test_tensors_of_several_devices_are_copied_and_assigned() -> None:
    targets = [torch.zeros(2), torch.zeros(2, device="meta"), torch.zeros(3)]
    copies = copy_tensors(targets)
    assert [copy.device.type for copy in copies] == ["cpu", "meta", "cpu"]
    assert_each_is(targets[::2], 0.0)
    assign_where(torch.tensor(True), targets[::2], [torch.ones(2), torch.ones(3)])
    assert_each_is(targets[::2], 1.0)
    assert_each_is(copies[::2], 0.0)


def assert_each_is(tensors: list[Tensor], value: float) -> None:
    assert all(torch.equal(tensor, torch.full_like(tensor, value)) for tensor in tensors)


def test_parameters_are_copied_detached_and_assigned_in_place() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    (copy,) = copy_tensors([parameter])
    assert not copy.requires_grad
    assign_where(torch.tensor(True), [parameter], [torch.ones(2)])
    assert_each_is([parameter.detach()], 1.0)
    assert parameter.requires_grad
    assert parameter.is_leaf


@pytest.mark.parametrize("values", [[torch.ones(3, 2)], []])
def test_values_of_other_shapes_are_not_assigned(values: list[Tensor]) -> None:
    target = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"expected the shapes \[\(2, 3\)\]"):
        assign_where(torch.tensor(True), [target], values)
    assert_each_is([target], 0.0)
