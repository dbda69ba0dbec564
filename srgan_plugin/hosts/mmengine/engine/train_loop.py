"""Training loop with chunked hook calls and constant-time resume."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any, Literal

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, is_distributed
from mmengine.hooks import ParamSchedulerHook, RuntimeInfoHook
from mmengine.runner import IterBasedTrainLoop
from torch import Tensor
from torch.utils.data import DataLoader

from srgan_plugin.errors import UserError, check_at_least, check_count
from srgan_plugin.hosts.mmengine.datasets.gpu_loader import cache_on_gpu
from srgan_plugin.hosts.mmengine.datasets.sampler import StreamSampler
from srgan_plugin.hosts.mmengine.models.data_preprocessor import gt_batch
from srgan_plugin.inference.upscaler import disable_malloc_trim
from srgan_plugin.registry import LOOPS

from .cuda_graph import CUDAGraphStep, why_not_capturable
from .hooks import IterTimerHook
from .optim_wrapper import OptimWrapper, list_optim_wrappers, list_schedulers
from .resume_hooks import InterruptHook, swaps_weights


def _delay_worker_signals(init: Callable[[int], None] | None, training: Any, worker: int) -> None:
    """Ignore SIGINT, and SIGTERM while the trainer trains, because a step may need the worker.

    Args:
        init: The `worker_init_fn` of the loader, or None.
        training: Value shared with the trainer; false when it needs no workers any more.
        worker: Number of the worker.
    """
    trainer = os.getppid()

    def terminate(number: int, _: FrameType | None) -> None:
        if not training.value or os.getppid() != trainer:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
    if init is not None:
        init(worker)


@LOOPS.register_module()
class SRTrainLoop(IterBasedTrainLoop):
    """mmengine's IterBasedTrainLoop with chunked hook calls and constant-time resume.

    A chunk is the steps between two calls of the hooks. The effects of hooks, schedulers and logs
    do not change: a chunk ends at the `interval` of each hook of mmengine and of this package, and
    after each step if there is another hook. A hook with an attribute `chunk_safe` that is True is
    called once for a chunk, which ends at its `interval`, if it has one. Schedulers step at every
    step, and the losses of every step are logged, fetched from the device at the end of a chunk.

    With a `StreamSampler`, a resumed run starts reading at its iteration; mmengine would read and
    discard all batches before it.

    Args:
        args: See mmengine's `IterBasedTrainLoop`.
        max_steps_per_hook_call: Largest number of steps in a chunk; 1 calls hooks as mmengine does.
        cache_dataset_on_gpu: `"auto"` keeps the training set in GPU memory if it takes at most half
            of what is free, and crops the same batches there; True takes all that is free, and does
            so on the CPU as well; False does not.
        cuda_graph: Capture the step as a CUDA graph and replay it, which avoids launching some
            thousand kernels from the CPU. If that is impossible, the reason is logged and training
            continues without.
        kwargs: See mmengine's `IterBasedTrainLoop`.

    Raises:
        UserError: `max_steps_per_hook_call` or `val_interval` is below 1.
    """

    # Hooks that may be called once for a chunk, but not their subclasses. (mmengine's IterTimerHook
    # would take a chunk for a step.)
    _CHUNK_SAFE_HOOKS = (RuntimeInfoHook, IterTimerHook, ParamSchedulerHook)
    # Packages whose hooks act at multiples of their `interval` after their `save_begin` only. Those
    # of others may count otherwise, or do something at each step.
    _INTERVALS_OF = ("mmengine", "srgan_plugin")
    _MAX_CHUNK_SECONDS = 1.0  # signals are handled between chunks

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader[Any] | dict[str, Any],
        *args: Any,
        max_steps_per_hook_call: int = 100,
        cache_dataset_on_gpu: bool | Literal["auto"] = "auto",
        cuda_graph: bool = False,
        **kwargs: Any,
    ) -> None:
        check_count(1, **{"train_cfg.max_steps_per_hook_call": max_steps_per_hook_call})
        check_at_least(1, **{"train_cfg.val_interval": kwargs.get("val_interval", 1)})
        if isinstance(dataloader, dict) and not dataloader.get("num_workers"):
            # torch refuses persistent workers if there are none.
            dataloader = {**dataloader, "persistent_workers": False}
        by_rank = (runner.cfg.get("randomness") or {}).get("diff_rank_seed", False)
        loader = runner.build_dataloader(dataloader, seed=runner.seed, diff_rank_seed=by_rank)
        # A signal to the process group concerns the trainer, which needs its workers to finish.
        self._training = multiprocessing.RawValue("b", False)
        loader.worker_init_fn = partial(
            _delay_worker_signals, loader.worker_init_fn, self._training
        )
        super().__init__(runner, loader, *args, **kwargs)
        self.dataloader: Any
        self.dataloader_iterator: Iterator[Any]
        self._train_step: Callable[[Any], dict[str, Tensor]]
        self.max_steps_per_hook_call, self.cuda_graph = max_steps_per_hook_call, cuda_graph
        self.cache_dataset_on_gpu = cache_dataset_on_gpu
        # Steps of the last chunk, and seconds of waiting for its data, for IterTimerHook.
        self.steps, self.waited = 1, 0.0
        self._validating = False
        self._between_steps = True  # whether weights, schedulers and hooks are at `_iter`
        self._unlogged: list[dict[str, Tensor]] = []

    def run(self) -> Any:
        """Train from the current iteration to `max_iters`.

        Returns:
            The model.

        Raises:
            UserError: The ranks resume different checkpoints, or the device is out of memory.
            SystemExit: A signal interrupted the training, and its state was saved.
        """
        runner = self.runner
        interrupts = [hook for hook in runner.hooks if isinstance(hook, InterruptHook)]
        self._training.value = True
        try:
            self._begin()
            runner.call_hook("before_train")
            runner.call_hook("before_train_epoch")
            self._run_chunks()
            runner.call_hook("after_train_epoch")
            runner.call_hook("after_train")
        except Exception as error:
            # Workers of a validation may have ended by a signal to the process group. If a step or
            # its hooks failed, the state is inconsistent and not saved.
            interrupted = next((hook for hook in interrupts if hook.received), None)
            consistent = self._between_steps and not (self._validating and swaps_weights(runner))
            if interrupted is not None and consistent and not is_distributed():
                runner.logger.error(f"while stopping: {type(error).__name__}: {error}")
                self._log()
                interrupted.save_and_exit(runner, self._iter)
            raise
        finally:
            for hook in interrupts:
                hook.stop_listening()
            self._training.value = False
            self._end_workers()
            # A graph with operations of NCCL must be deleted before NCCL is shut down.
            if hasattr(self, "_train_step"):
                del self._train_step
        return runner.model

    def _begin(self) -> None:
        iterations = all_gather_object(self._iter)
        if len(set(iterations)) > 1:
            places = ", ".join(f"rank {rank} at {start}" for rank, start in enumerate(iterations))
            raise UserError(
                f"--resume: expected one checkpoint on all ranks, got different checkpoints that "
                f"begin {places}; do all of them see the work dir? Name the file: --resume FILE"
            )
        if not torch.cuda.is_available():
            disable_malloc_trim()
        self._restore_data_position()
        self._prepare_step()

    def _prepare_step(self) -> None:
        """Check non-finite steps on the device, and capture the step if `cuda_graph` is set."""
        runner, wrapper = self.runner, self.runner.optim_wrapper
        self._checked_later = [
            each
            for each in list_optim_wrappers(wrapper)
            if isinstance(each, OptimWrapper) and each.supports_found_inf
        ]
        for optimizer in self._checked_later:
            optimizer.sync_each_step = False
        self._train_step = partial(runner.model.train_step, optim_wrapper=wrapper)
        if not self.cuda_graph:
            return
        schedulers = list_schedulers(runner.param_schedulers)
        if reason := why_not_capturable(runner.model, wrapper, schedulers):
            runner.logger.warning(f"train_cfg.cuda_graph: continuing without, {reason}")
        else:
            self._train_step = CUDAGraphStep(runner.model, wrapper)

    def _end_workers(self) -> None:
        """Delete the references to the loader's workers, which end only then."""
        self.dataloader_iterator = iter(())
        if getattr(self.dataloader, "persistent_workers", False):
            self.dataloader._iterator = None  # torch has no public method for this

    def _run_chunks(self) -> None:
        runner, periods = self.runner, self._hook_periods()
        # Without mmengine's hook nothing steps them; a subclass of it is called at each step.
        self._steps_schedulers = any(type(hook) is ParamSchedulerHook for hook in runner.hooks)
        self._decide_current_val_interval()
        # A checkpoint is saved before the validation of its iteration, during which the run may
        # have been killed.
        if self._iter and runner.message_hub.get_info("last_validated", None) != self._iter:
            # As in an undisturbed run, `iter` during a validation is that of the last step.
            runner.message_hub.update_info("iter", self._iter - 1)
            self._validate_if_due()
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self._run_chunk(self._steps_to_go(periods))
            self._decide_current_val_interval()
            self._validate_if_due()

    def _validate_if_due(self) -> None:
        due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if self.runner.val_loop is not None and self._iter >= self.val_begin and due:
            self._validating = True
            self.runner.val_loop.run()
            self._validating = False

    def _restore_data_position(self) -> None:
        sampler = self.dataloader.sampler
        if not isinstance(sampler, StreamSampler):
            for _ in range(self._iter):
                next(self.dataloader_iterator)
            return
        info = self.runner.message_hub
        loader = cache_on_gpu(
            self.dataloader, torch.device(get_device()), self.cache_dataset_on_gpu
        )
        is_cached, self.dataloader = loader is not self.dataloader, loader
        each = loader.batch_size * sampler.world_size
        stream = {"seed": sampler.seed, "iteration": 0, "sample": 0, "each": each}
        if self._iter:
            # The stream in the checkpoint continues, even if the seed, the batch size or the number
            # of ranks is another one now.
            stream |= info.get_info("stream", {})
            since = self._iter - stream["iteration"]
            sampler.seed, sampler.start = stream["seed"], stream["sample"] + since * stream["each"]
            self.runner.logger.info(f"the data continues at sample {sampler.start} of the stream")
            if each != stream["each"]:
                stream |= {"iteration": self._iter, "sample": sampler.start, "each": each}
        if self._iter or is_cached:
            self.dataloader_iterator = iter(loader)
        info.update_info("stream", stream)

    def _hook_periods(self) -> list[tuple[int, int]]:
        """Return interval and first iteration of every hook that ends chunks."""
        each_step = {"before_train_iter", "after_train_iter"}
        periods = []
        for hook in self.runner.hooks:
            called = each_step & set(hook.get_triggered_stages())
            if not called or type(hook) in self._CHUNK_SAFE_HOOKS:
                continue
            interval, safe = getattr(hook, "interval", None), getattr(hook, "chunk_safe", False)
            known = safe or type(hook).__module__.partition(".")[0] in self._INTERVALS_OF
            if known and isinstance(interval, int) and interval > 0:
                periods.append((interval, int(getattr(hook, "save_begin", 0))))
            elif not safe:
                periods.append((1, 0))
        return periods

    def _steps_to_go(self, periods: Sequence[tuple[int, int]]) -> int:
        now: int = self._iter
        ends = [every - (now - begin) % every for every, begin in periods]
        ends += [self.val_interval - now % self.val_interval, self.max_iters - now]
        # mmengine changes the interval of validation one iteration before a milestone.
        ends += [m - 1 - now for m in self.dynamic_milestones if m - 1 > now]
        return min(*ends, self.max_steps_per_hook_call)

    def _run_chunk(self, steps: int) -> None:
        runner, started = self.runner, time.monotonic()
        self._hooks_were_called()
        self.waited = 0.0
        for self.steps in range(1, steps + 1):
            fetch_started = time.monotonic()
            batch = next(self.dataloader_iterator)
            self.waited += time.monotonic() - fetch_started
            self._between_steps = False
            last = self.steps == steps or time.monotonic() - started > self._MAX_CHUNK_SECONDS
            if last:
                runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=batch)
                self._hooks_were_called()
            else:
                self._log_rates()
            outputs = self._step(batch)
            if last:
                break
            self._unlogged.append(outputs)
            if self._steps_schedulers:
                self._step_schedulers()
            self._iter += 1
            self._between_steps = True
        self._log()
        runner.call_hook(
            "after_train_iter", batch_idx=self._iter, data_batch=batch, outputs=outputs
        )
        self._iter += 1
        self._between_steps = True

    def _hooks_were_called(self) -> None:
        """Make a captured step check settings that hooks may have changed."""
        if isinstance(self._train_step, CUDAGraphStep):
            self._train_step.settings_may_differ = True

    def _step(self, batch: Any) -> dict[str, Tensor]:
        try:
            return self._train_step(batch)
        except torch.OutOfMemoryError as error:
            raise UserError(self._explain_out_of_memory(batch)) from error

    def _explain_out_of_memory(self, batch: Any) -> str:
        """Return what the batches were, and which would take about half of the memory."""
        size, what, smaller = self.dataloader.batch_size, "", []
        if size > 1:
            smaller.append(f"train_dataloader.batch_size={size // 2}")
        if isinstance(batch, Mapping) and batch.get("data_samples"):
            height, width = gt_batch(batch["data_samples"]).shape[-2:]
            what = f" and GT crops of {height}x{width}"
            if crop := int(min(height, width) * 0.7) // 32 * 32:
                smaller.append(f"crops of {crop} (gt_patch_size, and discriminator.input_size)")
        advice = f"; about half of it is enough for {', or for '.join(smaller)}" if smaller else ""
        return f"the device is out of memory with batches of {size}{what}{advice}"

    def _step_schedulers(self) -> None:
        for scheduler in list_schedulers(self.runner.param_schedulers):
            if not scheduler.by_epoch:
                scheduler.step()

    def _log_rates(self) -> None:
        """Log the learning rates of a step, as mmengine's `RuntimeInfoHook` does."""
        for name, rate in self.runner.optim_wrapper.get_lr().items():
            self.runner.message_hub.update_scalar(f"train/{name}", rate[0])

    def _log(self) -> None:
        """Log the losses of all steps, fetched from the device at once, and check the steps."""
        seen, self._unlogged = self._unlogged, []
        values = [(name, value) for step in seen for name, value in step.items()]
        on_device = [v.detach().float().reshape(()) for _, v in values if isinstance(v, Tensor)]
        fetched = iter(torch.stack(on_device).tolist() if on_device else ())
        for name, value in values:
            scalar = next(fetched) if isinstance(value, Tensor) else value
            self.runner.message_hub.update_scalar(f"train/{name}", scalar)
        for optimizer in self._checked_later:
            optimizer.check()
