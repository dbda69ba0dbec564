"""A training step recorded once and replayed, so that nobody launches its kernels one by one."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import torch
from mmengine.dist import is_distributed
from mmengine.structures import BaseDataElement
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.models.data_preprocessor import gt_batch, stacked
from srgan_plugin.hosts.mmengine.models.sr_model import SRModel

from .optim_wrapper import OptimWrapper, iter_optim_wrappers

logger = logging.getLogger(__name__)

Step = Callable[[], Tensor]

#: Steps before the recording: cuDNN chooses its algorithms, optimisers make their state.
WARM_UP: Final = 3


def capture_cuda_graph(step: Step) -> Step:
    """Capture a step as a CUDA graph and return its replay.

    Args:
        step: Does not wait for the device, and finds everything at the same place each time.

    Returns:
        A function that replays it and returns a copy of its result.

    Raises:
        RuntimeError: The step cannot be captured; it can be run without.
        UserError: As `release_failed_capture`.
    """
    graph, usual = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    pool = torch.cuda.graph_pool_handle()  # a graph that failed does not say which it had
    try:
        # A loader's thread may pin memory meanwhile.
        with torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
            result = step()
    except RuntimeError as error:
        torch.cuda.set_stream(usual)  # torch leaves another one where ending the capture fails
        # Ending it fails because something failed before: that is the reason.
        reason = error.__context__ or error
        release_failed_capture(graph, pool, reason)
        raise reason from None
    torch.cuda.empty_cache()  # the recording has memory of its own

    def replay() -> Tensor:
        graph.replay()
        return result.clone()

    return replay


def release_failed_capture(graph: Any, pool: Any, reason: BaseException) -> None:
    """Tell the allocator that a capture which failed is over, and return its memory.

    Where ending a capture fails, torch before 2.12 (pull request 180395) leaves its allocator in a
    state in which the capture still runs, and a later allocation ends the process.

    Args:
        graph: The graph that was captured.
        pool: The handle of its memory pool.
        reason: Why it failed.

    Raises:
        UserError: The allocator cannot be told.
    """
    device = torch.cuda.current_device()
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
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


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class CUDAGraphStep:
    """`model.train_step`; after the first steps as a recording, if one can be made.

    Args:
        model: Of this package, on its device.
        optim_wrapper: What the model is trained by, of this package.
        capture: Makes the recording.
    """

    def __init__(
        self,
        model: SRModel,
        optim_wrapper: Any,
        capture: Callable[[Step], Step] = capture_cuda_graph,
    ) -> None:
        self.model, self.optim_wrapper, self._capture = model, optim_wrapper, capture
        self.usable = True
        self._steps = 0
        self._beside = torch.cuda.Stream() if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]
        self._replay: Step | None = None
        self._names: list[str] = []
        groups = [g for o in iter_optim_wrappers(optim_wrapper) for g in o.optimizer.param_groups]
        device = next(model.parameters()).device
        # A recording holds numbers as they were; what schedulers change has to be a tensor in it.
        self._rates = [(group, torch.tensor(0.0, device=device)) for group in groups]
        self._known: list[float | None] = [None] * len(groups)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Run one step; return what `train_step` returns."""
        lr, gt = stacked(batch["inputs"]), gt_batch(batch["data_samples"])
        self._steps += 1
        if self.usable and self._replay is None and self._steps > WARM_UP:
            self._make(lr, gt)
        if self._replay is None or (lr.shape, gt.shape) != (self._lr.shape, self._gt.shape):
            return self._plain(batch)
        self._lr.copy_(lr, non_blocking=True)
        self._gt.copy_(gt, non_blocking=True)
        self._set_rates()
        losses = self._replay()
        return dict(zip(self._names, losses.unbind(), strict=True))

    def _plain(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Beside the usual stream, where what is recorded later must not have been before."""
        beside = self._beside
        if beside is None or not self.usable:
            return self.model.train_step(batch, self.optim_wrapper)
        usual = torch.cuda.current_stream()
        beside.wait_stream(usual)
        with torch.cuda.stream(beside):
            losses = self.model.train_step(batch, self.optim_wrapper)
        usual.wait_stream(beside)
        return losses

    def _make(self, lr: Tensor, gt: Tensor) -> None:
        device = self._rates[0][1].device
        self._lr, self._gt = lr.to(device, copy=True), gt.to(device, copy=True)
        batch = {"inputs": self._lr, "data_samples": BaseDataElement(gt_img=self._gt)}

        def step() -> Tensor:
            with self._tensor_rates():
                losses = self.model.train_step(batch, self.optim_wrapper)
            self._names = list(losses)
            return torch.stack([loss.detach().float() for loss in losses.values()])

        try:
            self._replay = self._capture(step)
        except RuntimeError as error:  # CUDA's errors, out of memory among them
            reason = _first_line(error)
            logger.warning("train_cfg.cuda_graph: going on without, recording failed: %s", reason)
            self.usable = False
            for optimizer in iter_optim_wrappers(self.optim_wrapper):
                optimizer.optimizer.zero_grad(set_to_none=True)

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


def why_not_capturable(
    model: Any, optim_wrapper: Any, schedulers: Sequence[Any] = ()
) -> str | None:
    """Why a step cannot be recorded, in words; None if it can."""
    if other := [s.param_name for s in schedulers if s.param_name != "lr"]:
        return f"a scheduler moves {other[0]}, and a recording can follow the learning rate only"
    if not torch.cuda.is_available():
        return "there is no GPU"
    if is_distributed():
        return "several processes train together"
    if not isinstance(model, SRModel):
        return f"{type(model).__name__} is not a model of srgan_plugin"
    if not model.is_static_step:
        return "the generator does not move at every step (disc_steps, disc_init_steps)"
    if model.compile_options is not False and model.compile_options.get("mode"):
        return "the modes of model.compile record by themselves"
    for optimizer in iter_optim_wrappers(optim_wrapper):
        if not (isinstance(optimizer, OptimWrapper) and optimizer.supports_found_inf):
            return "an optimiser is not a fused one in srgan_plugin's OptimWrapper"
        if optimizer.accumulates_over > 1:
            return "gradients are accumulated"
        if getattr(optimizer, "scaler", None) is not None and optimizer.scaler.is_enabled():
            return "float16 scales its loss anew after each step"
    return None
