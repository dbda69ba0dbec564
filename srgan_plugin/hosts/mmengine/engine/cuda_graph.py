"""Capture a training step as a CUDA graph and replay it, so that kernels are launched at once."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import zip_longest
from typing import Any, Final

import torch
from mmengine.dist import is_distributed
from mmengine.structures import BaseDataElement
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.models.data_preprocessor import gt_batch, stack_images
from srgan_plugin.hosts.mmengine.models.model_utils import unwrap_ddp
from srgan_plugin.hosts.mmengine.models.sr_model import SRModel

from .distributed import MMSeparateDistributedDataParallel
from .optim_wrapper import OptimWrapper, list_optim_wrappers

logger = logging.getLogger(__name__)

Step = Callable[[], Tensor]

# Private torch functions that end a capture; torch 2.6 has the second.
_END_ALLOCATION: Final = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")

#: Steps before the capture, in which cuDNN chooses algorithms and optimisers create their state.
WARM_UP: Final = 3
#: The same with DDP, as required in torch's documentation: it times its first ten steps by events.
DDP_WARM_UP: Final = 11
#: Largest number of captures, if hooks change values in a graph.
MAX_CAPTURES: Final = 4


def capture_cuda_graph(step: Step, stream: Any = None) -> Step:
    """Capture a step as a CUDA graph and return its replay.

    Args:
        step: Function that does not synchronise with the device and uses the same memory each time.
        stream: Stream of the warm-up and of the capture; None for a new one.

    Returns:
        A function that replays the graph and returns a copy of the result.

    Raises:
        RuntimeError: The step cannot be captured; it can still be run without.
        UserError: See `release_failed_capture`.
    """
    graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    pool = torch.cuda.graph_pool_handle()  # a failed graph does not return its pool
    try:
        # A thread of a loader may pin memory during the capture.
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
            result = step()
    except RuntimeError as error:
        torch.cuda.set_stream(current)  # torch does not restore it if ending the capture fails
        # Ending fails because of an earlier error, which is the reason.
        reason = error.__context__ or error
        release_failed_capture(graph, pool, reason)
        raise reason from None
    torch.cuda.empty_cache()  # the graph has separate memory

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


def release_failed_capture(graph: Any, pool: Any, reason: BaseException) -> None:
    """End a failed capture in torch's allocator and release its memory.

    If ending a capture fails, the allocator of torch before 2.12 (pull request 180395) remains in
    the state of a capture, and a later allocation aborts the process.

    Args:
        graph: The failed graph.
        pool: Handle of its memory pool.
        reason: Error of the capture.

    Raises:
        UserError: The capture cannot be ended.
    """
    device = torch.cuda.current_device()
    try:
        names = [name for name in _END_ALLOCATION if hasattr(torch._C, name)] or _END_ALLOCATION
        getattr(torch._C, names[0])(device, pool)
    except (AttributeError, RuntimeError) as error:
        if "not currently recording" in str(error):
            return  # it has ended
        raise UserError(
            f"train_cfg.cuda_graph: capturing the step failed ({_first_line(reason)}), and torch "
            f"{torch.__version__} cannot be used after that ({_first_line(error)}); "
            "set train_cfg.cuda_graph=False"
        ) from reason
    graph.reset()
    with suppress(RuntimeError):  # `reset` has released it
        torch._C._cuda_releasePool(device, pool)


def _settings(name: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the values that are numbers, strings or collections of them, except learning rates."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, bool | int | float | str) and key not in ("lr", "initial_lr"):
            found.append((f"{name}.{key}", value))
        elif isinstance(value, dict | tuple) and not key.startswith("_"):
            found.append((f"{name}.{key}", repr(value)))  # a copy: they change in place
    return found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class CUDAGraphStep:
    """`model.train_step`, replayed from a CUDA graph after the first steps if it can be captured.

    Args:
        model: Model of this package on its device, or its wrapper for distributed training.
        optim_wrapper: Optimiser wrapper of this package.
        capture: Function that captures a step; the default is `capture_cuda_graph`.
    """

    def __init__(
        self, model: Any, optim_wrapper: Any, capture: Callable[[Step], Step] | None = None
    ) -> None:
        self.model, self.optim_wrapper = model, optim_wrapper
        self._train_step: Callable[[Any], dict[str, Tensor]] = partial(
            model.train_step, optim_wrapper=optim_wrapper
        )
        self.usable = True
        self._steps = 0
        self._side_stream = torch.cuda.Stream() if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]
        self._capture = capture or partial(capture_cuda_graph, stream=self._side_stream)
        self._warm_up = WARM_UP
        if isinstance(model, MMSeparateDistributedDataParallel):
            model.rewrap(self._side_stream)
            self._warm_up = DDP_WARM_UP
        self._captures = 0
        self.settings_may_differ = False  # hooks were called
        self._replay: Step | None = None
        self._names: list[str] = []
        self._held: list[tuple[str, Any]] = []  # values in the graph, by name
        self._modules, self._parameters = list(model.modules()), list(model.parameters())
        groups = [g for o in list_optim_wrappers(optim_wrapper) for g in o.optimizer.param_groups]
        device = next(model.parameters()).device
        # A graph contains numbers as constants, so rates that schedulers change must be tensors.
        self._rates = [(group, torch.tensor(0.0, device=device)) for group in groups]
        self._known: list[float | None] = [None] * len(groups)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Run one step and return the losses of `train_step`."""
        lr, gt = stack_images(batch["inputs"]), gt_batch(batch["data_samples"])
        if self._replay is not None and self.settings_may_differ:
            self._drop_if_outdated()
        self._steps += 1
        if self.usable and self._replay is None and self._steps > self._warm_up:
            self._make(lr, gt)
        if self._replay is None or (lr.shape, gt.shape) != (self._lr.shape, self._gt.shape):
            return self._plain(batch)
        self._lr.copy_(lr, non_blocking=True)
        self._gt.copy_(gt, non_blocking=True)
        self._set_rates()
        losses = self._replay()
        return dict(zip(self._names, losses.unbind(), strict=True))

    def _plain(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Run the step on a side stream, as CUDA graph capture requires."""
        side_stream = self._side_stream
        if side_stream is None or not self.usable:
            return self._train_step(batch)
        current = torch.cuda.current_stream()
        side_stream.wait_stream(current)
        with torch.cuda.stream(side_stream):
            losses = self._train_step(batch)
        current.wait_stream(side_stream)
        return losses

    def _make(self, lr: Tensor, gt: Tensor) -> None:
        device = self._rates[0][1].device
        self._lr, self._gt = lr.to(device, copy=True), gt.to(device, copy=True)
        batch = {"inputs": self._lr, "data_samples": BaseDataElement(gt_img=self._gt)}

        def step() -> Tensor:
            with self._tensor_rates():
                losses = self._train_step(batch)
            self._names = list(losses)
            return torch.stack([loss.detach().float() for loss in losses.values()])

        self._held, self._captures = self._held_values(), self._captures + 1
        try:
            self._replay = self._capture(step)
        except RuntimeError as error:  # CUDA's errors, out of memory among them
            reason = _first_line(error)
            logger.warning("train_cfg.cuda_graph: continuing without, capture failed: %s", reason)
            self.usable = False
            for optimizer in list_optim_wrappers(self.optim_wrapper):
                optimizer.optimizer.zero_grad(set_to_none=True)

    def _held_values(self) -> list[tuple[str, Any]]:
        """Return the values that are constants in a graph, and others on which it depends."""
        model: SRModel = unwrap_ddp(self.model)
        found: list[tuple[str, Any]] = [
            ("requires_grad", [p.requires_grad for p in self._parameters]),
            ("the memory of a parameter", [p.data_ptr() for p in self._parameters]),
            ("train() or eval()", [module.training for module in self._modules]),
            ("model.ema", model.ema_decay),
        ]
        for name in ("pixel_loss", "perceptual_loss", "gan_loss"):
            loss = getattr(model, name, None)
            found += _settings(name, vars(loss) if loss is not None else {})
        for wrapper in list_optim_wrappers(self.optim_wrapper):
            found += _settings(wrapper.name, {"clip_grad": wrapper.clip_grad_kwargs})
            for group in wrapper.optimizer.param_groups:
                found += _settings(wrapper.name, group)
        return found

    def _drop_if_outdated(self) -> None:
        """Delete the graph if a value in it has changed, to capture another one."""
        self.settings_may_differ = False
        pairs = zip_longest(self._held_values(), self._held, fillvalue=("a setting", None))
        changed = next((now[0] for now, before in pairs if now != before), None)
        if changed is None:
            return
        self._replay, self._steps = None, 0
        self.usable = self._captures < MAX_CAPTURES
        plan = "capturing again" if self.usable else "continuing without"
        logger.warning("train_cfg.cuda_graph: %s, %s was changed", plan, changed)

    @contextmanager
    def _tensor_rates(self) -> Iterator[None]:
        before = [dict(group) for group, _ in self._rates]
        for group, rate in self._rates:
            group.update(lr=rate, **({"capturable": True} if "capturable" in group else {}))
        try:
            yield
        finally:
            for (group, _), values in zip(self._rates, before, strict=True):
                group.update(values)

    def _set_rates(self) -> None:
        for number, (group, rate) in enumerate(self._rates):
            if self._known[number] != group["lr"]:
                rate.fill_(group["lr"])
                self._known[number] = group["lr"]


def _why_not_distributed(model: Any) -> str | None:
    """Return why a step of several processes cannot be captured, or None."""
    if not isinstance(model, MMSeparateDistributedDataParallel):
        wanted = "MMSeparateDistributedDataParallel"
        return f"{type(model).__name__} is not srgan_plugin's {wanted} (model_wrapper_cfg)"
    if "nccl" not in (backend := torch.distributed.get_backend_config()):
        return f"gradients are exchanged by {backend}, and only NCCL can be captured"
    if any(getattr(child, "find_unused_parameters", False) for child in model.module.children()):
        return "find_unused_parameters looks at each step"
    return None


def why_not_capturable(
    model: Any, optim_wrapper: Any, schedulers: Sequence[Any] = ()
) -> str | None:
    """Return why a step cannot be captured, or None if it can.

    Args:
        model: Model of the run, in a DDP wrapper or not.
        optim_wrapper: Optimiser wrapper, or wrappers by network.
        schedulers: Schedulers of all networks.
    """
    if other := [s.param_name for s in schedulers if s.param_name != "lr"]:
        return (
            f"a scheduler changes {other[0]}, and a captured step can follow the learning rate only"
        )
    if not torch.cuda.is_available():
        return "there is no GPU"
    if is_distributed() and (reason := _why_not_distributed(model)):
        return reason
    model = unwrap_ddp(model)
    if not isinstance(model, SRModel):
        return f"{type(model).__name__} is not a model of srgan_plugin"
    if not model.is_static_step:
        return "the generator is not updated in every step (disc_steps, disc_init_steps)"
    if model.compile_options is not False and model.compile_options.get("mode"):
        return "the modes of model.compile capture the step themselves"
    for optimizer in list_optim_wrappers(optim_wrapper):
        if not (isinstance(optimizer, OptimWrapper) and optimizer.supports_found_inf):
            return "an optimiser is not a fused one in srgan_plugin's OptimWrapper"
        if optimizer.accumulates_over > 1:
            return "gradients are accumulated"
        if getattr(optimizer, "scaler", None) is not None and optimizer.scaler.is_enabled():
            return "float16 changes the scale of its loss after each step"
    return None
