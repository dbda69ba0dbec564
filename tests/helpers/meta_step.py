"""The captured training step on the `meta` device: what it would ask of a GPU, without one.

Tensors on `meta` have shapes, types and strides but no values, so a full-size step takes a fraction
of a second, and whatever needs a value fails. Three things of CUDA are put in their place: foreach
and fused kernels take `meta` tensors, autocast casts them by CUDA's lists, and fused Adam, which
has no `meta` kernel, does nothing.

What counts as a kernel: an operator that torch dispatches, below autograd and autocast, with these
exceptions.

- Views, allocations without a fill, and questions about types are none.
- A foreach or fused operator is as many as torch launches: one for each 320 chunks of 65,536
  elements, and for at most 110, 64, 48, 36 or 30 tensors, as it takes 1 to 5 lists; one for each
  tensor where the lists differ in strides or, other than for a copy, in type. A norm is one more.
- A concatenation is one for each 128 tensors.
- A convolution is one, and one more for each operand that is copied because its layout is not the
  one that the convolution computes in. (The addition of the bias is not counted.)
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from srgan_plugin.hosts.mmengine.engine import cuda_graph
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import list_optim_wrappers
from srgan_plugin.losses import perceptual
from srgan_plugin.networks import blocks, discriminators, vgg

NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "promote_types", "_unsafe_view"}
#: Of what the operands are copied where they are in another layout: how many arguments these are,
#: the last two of them the input and the weight.
CONVOLUTIONS = {"convolution": 2, "convolution_backward": 3}
HOST_READS = {"_local_scalar_dense", "is_nonzero", "item", "nonzero", "masked_select"}
MAX_TENSORS = (110, 64, 48, 36, 30)  # of 1 to 5 lists in one launch
MAX_CAT = 128  # tensors that one launch concatenates
CHUNK, MAX_CHUNKS = 65536, 320


def _laid_out(image: Tensor, layout: torch.memory_format) -> Tensor:
    """Return a tensor of the strides that cuDNN would give it; kernels for `meta` give others."""
    return image.contiguous(memory_format=layout) if image.ndim == 4 else image


class NotCapturableError(AssertionError):
    """The step does what a CUDA graph cannot hold."""


def launches(lists: Sequence[Sequence[Tensor]]) -> int:
    """Return how many kernels torch's `multi_tensor_apply` launches for lists of tensors."""
    count = tensors = chunks = 0
    most = MAX_TENSORS[len(lists) - 1]
    for tensor in lists[0]:
        tensors += 1
        for _ in range(-(-tensor.numel() // CHUNK)):
            chunks += 1
            if chunks == MAX_CHUNKS:
                count, tensors, chunks = count + 1, 1, 0
        if tensors == most:
            count, tensors, chunks = count + 1, 0, 0
    return count + bool(tensors and chunks)


def multi_tensor_kernels(name: str, lists: Sequence[Sequence[Tensor]]) -> int:
    """Return how many kernels a foreach or fused operator is."""
    for tensors in zip(*lists, strict=True):
        types = {tensor.dtype for tensor in tensors}
        strides = {tensor.stride() for tensor in tensors}
        if len(strides) > 1 or (len(types) > 1 and "copy" not in name):
            return len(lists[0])
    return launches(lists) + ("norm" in name)


def conv_layout(image: Tensor, weight: Tensor) -> torch.memory_format:
    """Return the layout that cuDNN computes a convolution in."""
    fast = any(
        not each.is_contiguous() and each.is_contiguous(memory_format=torch.channels_last)
        for each in (image, weight)
    )
    return torch.channels_last if fast else torch.contiguous_format


class KernelCounter(TorchDispatchMode):
    """Count kernels, and refuse operators that need the host."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        self._check_host(name, args, kwargs)
        if name.startswith("_fused_adam"):
            self._check_strides(args[:4])
            self.kernels[name] += multi_tensor_kernels(name, args[:4])
            return None
        with torch._C.DisableTorchFunction():  # an operator on `meta` is itself written in Python
            result = func(*args, **kwargs)
        if name == "cat":
            self.kernels[name] += (len(args[0]) - 1) // MAX_CAT  # and one, below
        if name in CONVOLUTIONS:
            operands = args[: CONVOLUTIONS[name]]
            layout = conv_layout(*operands[-2:])
            self.kernels["copies of another layout"] += sum(
                not each.is_contiguous(memory_format=layout) for each in operands
            )
            result = tree_map_only(Tensor, partial(_laid_out, layout=layout), result)
        self.kernels[name] += self._kernels(func, name, args, result)
        return result

    @staticmethod
    def _kernels(func: Any, name: str, args: Any, result: Any) -> int:
        returns = [each.alias_info for each in func._schema.returns]
        is_view = bool(returns) and all(alias and not alias.is_write for alias in returns)
        if is_view or name in NO_KERNEL or name.startswith("profiler::"):
            return 0
        tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)]
        if tensors and all(tensor.device.type == "cpu" for tensor in tensors):
            return 0
        if name.startswith("_foreach"):
            lists = [arg for arg in args if isinstance(arg, list | tuple)]
            lists = [each for each in lists if each and isinstance(each[0], Tensor)]
            made = [] if name.endswith("_") or "norm" in name else [result]
            return multi_tensor_kernels(name, lists + made)
        return 1

    @staticmethod
    def _check_host(name: str, args: Any, kwargs: Any) -> None:
        if name in HOST_READS:
            raise NotCapturableError(f"{name} waits for a value of the device")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_host = [tensor for tensor in tensors if tensor.device.type == "cpu"]
        target = kwargs.get("device")
        moves_to_host = target is not None and torch.device(target).type == "cpu"
        if moves_to_host and len(on_host) < len(tensors):
            raise NotCapturableError(f"{name} copies from the device to the host")
        if target is not None and not moves_to_host and on_host:
            raise NotCapturableError(f"{name} copies from the host to the device")
        mixed = 0 < len(on_host) < len(tensors)
        if mixed and (name == "copy_" or any(tensor.ndim for tensor in on_host)):
            shapes = [tuple(tensor.shape) for tensor in on_host]
            raise NotCapturableError(f"{name} takes tensors of the host: {shapes}")

    @staticmethod
    def _check_strides(lists: Sequence[Sequence[Tensor]]) -> None:
        for number, tensors in enumerate(zip(*lists, strict=True)):
            if len({tensor.stride() for tensor in tensors}) > 1:
                strides = [tensor.stride() for tensor in tensors]
                raise NotCapturableError(
                    f"parameter {number}, its gradient and its moments differ in strides: {strides}"
                )


class HostReads(TorchFunctionMode):
    """Refuse what reaches the host without an operator: `item`, `tolist`, `torch.tensor`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        tensors = [arg for arg in tree_leaves((args, kwargs)) if isinstance(arg, Tensor)]
        on_device = any(tensor.device.type != "cpu" for tensor in tensors)
        if on_device and name in {"tolist", "numpy", "__bool__", "__float__", "__int__", "item"}:
            raise NotCapturableError(f"{name} waits for a value of the device")
        made_there = torch.device(kwargs.get("device") or "cpu").type != "cpu"
        if name in {"tensor", "as_tensor", "from_numpy"} and made_there and not on_device:
            raise NotCapturableError(f"torch.{name} copies from the host to the device")
        return func(*args, **kwargs)


class MetaAutocast(TorchFunctionMode):
    """Cast `meta` tensors, which autocast leaves alone, where autocast of CPU or CUDA is on.

    Args:
        device: The device whose tensors are cast.
    """

    # CUDA's lists, as far as the package calls them.
    LOWER = frozenset({"conv2d", "linear", "matmul", "mm", "bmm", "addmm", "prelu"})
    WIDER = frozenset({"mse_loss", "l1_loss", "binary_cross_entropy_with_logits", "softplus"})

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        on = _autocast_device()
        if on is None:
            self.cache.clear()
        elif name in self.LOWER:
            dtype = torch.get_autocast_dtype(on)
            args = [self._cast(arg, dtype) for arg in args]
            kwargs = {key: self._cast(value, dtype) for key, value in kwargs.items()}
        elif name in self.WIDER:
            args = [self._cast(arg, torch.float32) for arg in args]
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        skipped = not isinstance(value, Tensor) or not value.is_floating_point()
        if skipped or value.device.type != self.device or value.dtype in (dtype, torch.float64):
            return value
        if not (value.requires_grad and value.is_leaf and value.dtype == torch.float32):
            return value.to(dtype)
        if id(value) not in self.cache:
            self.cache[id(value)] = (value, value.to(dtype))
        return self.cache[id(value)][1]


@contextmanager
def like_cuda() -> Iterator[None]:
    """Let torch and the package treat `meta` tensors as they treat those of CUDA."""
    with pytest.MonkeyPatch.context() as patch:
        foreach = torch.utils._foreach_utils
        patch.setattr(foreach, "_get_foreach_kernels_supported_devices", lambda: ["cuda", "meta"])
        adam = import_module("torch.optim.adam")
        patch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
        for module in (blocks, discriminators, perceptual, vgg):
            patch.setattr(module, "autocast_disabled", _autocast_disabled, raising=False)
        patch.setattr(vgg, "autocast_dtype", _autocast_dtype)
        patch.setattr(cuda_graph, "WARM_UP", 1)
        with MetaAutocast():
            yield


def _autocast_device() -> str | None:
    return next((kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)), None)


def _autocast_disabled(_: Tensor) -> Any:
    return torch.autocast(_autocast_device() or "cpu", enabled=False)


def _autocast_dtype(_: Tensor) -> torch.dtype | None:
    on = _autocast_device()
    return torch.get_autocast_dtype(on) if on else None


def capture_on_meta(
    model: Any, optim_wrapper: Any, batch: dict[str, Any], *modes: AbstractContextManager[Any]
) -> Counter[str]:
    """Run one step, then the step that is captured, and return the kernels of that one.

    Args:
        model: On `meta`.
        optim_wrapper: Of the package, with fused optimisers.
        batch: On `meta`.
        modes: What is on during the step that is captured.

    Raises:
        NotCapturableError: The step needs the host, or moments have strides of their own.
    """
    counter = KernelCounter()

    def capture(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        try:
            with ExitStack() as stack:
                for mode in (counter, HostReads(), *modes):
                    stack.enter_context(mode)
                result = step()
        except RuntimeError as error:  # CUDAGraphStep goes on without capture then
            raise NotCapturableError(str(error)) from error
        return result.clone

    with like_cuda():
        step = cuda_graph.CUDAGraphStep(model, optim_wrapper, capture)
        step(batch)
        step(batch)
    for wrapper in list_optim_wrappers(optim_wrapper):
        for parameter, state in wrapper.optimizer.state.items():
            for name, value in state.items():
                if value.ndim and value.stride() != parameter.stride():
                    raise NotCapturableError(
                        f"{name} has strides {value.stride()}, its parameter others"
                    )
    return +counter.kernels
