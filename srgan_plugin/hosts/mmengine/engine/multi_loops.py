"""Loops for validation and test on several test sets."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from mmengine.dist import broadcast, is_distributed
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.registry import METRICS
from mmengine.runner.amp import autocast
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import DataLoader

from srgan_plugin.data.benchmark_sets import IncompleteSetError
from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.inference.upscaler import disable_malloc_trim
from srgan_plugin.registry import LOOPS, known_arguments

Config = dict[str, Any]


class _MultiLoop(BaseLoop):
    """Base class of loops over several test sets; names of metrics are prefixed by the set.

    The prefix is that of the metric or, if its config has none, the name of the set. For a single
    set `prefix=None` means no prefix.

    Args:
        runner: mmengine runner.
        dataloader: A loader or its config, or a list of them. A set with missing files is skipped
            with a warning.
        evaluator: Config of a metric for all sets, or a list of them; or, as in MMagic, a list of
            `dict(type='Evaluator', metrics=[...])` or of lists of metrics, one for each set.
        fp16: Whether to predict in half precision.

    Raises:
        UserError: Two sets have the same prefix, `evaluator` has another form, or the number of
            evaluators is not that of the sets.
    """

    mode: ClassVar[Literal["val", "test"]]

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader[Any] | Config | Sequence[DataLoader[Any] | Config],
        evaluator: Config | Sequence[Config],
        fp16: bool = False,
    ) -> None:
        self._runner = runner
        self.fp16 = fp16
        loaders = list(dataloader) if isinstance(dataloader, Sequence) else [dataloader]
        evaluators = _one_per_set(evaluator, len(loaders))
        self.missing: list[tuple[str, FileNotFoundError]] = []
        self.several = len(loaders) > 1
        self.sets: list[tuple[Any, Evaluator]] = [
            (loader, self._evaluator(metrics, loader))
            for number, (config, metrics) in enumerate(zip(loaders, evaluators, strict=True), 1)
            if (loader := self._loader(config, number)) is not None
        ]
        _check_names(evaluator for _, evaluator in self.sets)
        for name, count in self.image_counts().items():
            print_log(f"{self.mode} set {name}: {count} images", logger="current")
        # The current set, which mmengine's hooks read.
        first: tuple[Any, Any] = self.sets[0] if self.sets else ([], None)
        self.dataloader, self.evaluator = first

    def notes(self, key: str) -> dict[str, str]:
        """Return an entry of the metadata by set, such as `lr_origin`; empty if it has none."""
        return {
            name: (getattr(loader.dataset, "metainfo", None) or {}).get(key, "")
            for name, (loader, _) in self._named_sets()
        }

    def image_counts(self) -> dict[str, int]:
        """Return the number of images of each set."""
        return {name: len(loader.dataset) for name, (loader, _) in self._named_sets()}

    def _named_sets(self) -> Iterator[tuple[str, tuple[Any, Evaluator]]]:
        """Yield each set by its name, or by the prefix of its metrics if others have that name."""
        counts = Counter(dataset_name(loader) for loader, _ in self.sets)
        for loader, evaluator in self.sets:
            name = dataset_name(loader)
            prefixes = [metric.prefix for metric in evaluator.metrics if counts[name] > 1]
            yield next(filter(None, prefixes), name), (loader, evaluator)

    def _loader(self, config: DataLoader[Any] | Config, number: int) -> Any:
        if not isinstance(config, dict):
            return config
        try:
            return self.runner.build_dataloader(config, seed=self.runner.seed)
        except FileNotFoundError as error:
            name = _configured_name(config.get("dataset")) or f"set {number}"
            self.missing.append((name, error))
            print_log(f"skipped: {error}", logger="current", level=logging.WARNING)
            return None

    def _evaluator(self, config: Any, loader: DataLoader[Any]) -> Evaluator:
        metrics = config if isinstance(config, Sequence) else [config]
        evaluator = self.runner.build_evaluator([self._metric(m, loader) for m in metrics])
        if self.several:  # without prefixes, the values of one set would replace those of another
            for metric in evaluator.metrics:
                metric.prefix = metric.prefix or dataset_name(loader)
        evaluator.dataset_meta = getattr(loader.dataset, "metainfo", None)
        return evaluator

    def _metric(self, config: Config, loader: DataLoader[Any]) -> Config:
        """Complete the config of a metric by the arguments that this loop sets."""
        name = dataset_name(loader)
        # Predictions are (3, H, W), for any default of the metric.
        defaults: Config = {"prefix": name, "input_order": "CHW"}
        with METRICS.switch_scope_and_registry(None) as registry:  # as `build_evaluator` does
            kind = config["type"]
            kind = registry.get(kind) if isinstance(kind, str) else kind
        known = known_arguments(kind)[0] if kind else set()  # mmengine refuses an unknown type
        if self.several and config.get("prefix", name) is None:
            config = {key: value for key, value in config.items() if key != "prefix"}
        config = {**{key: value for key, value in defaults.items() if key in known}, **config}
        if self.several and config.get("out_file_path"):  # the sets would overwrite each other's
            path = Path(config["out_file_path"])
            config["out_file_path"] = str(path.with_stem(f"{path.stem}_{name}"))
        return config

    def run(self) -> dict[str, float]:
        """Measure all sets.

        Returns:
            Values by set and metric, such as `{"Set5/PSNR": …}`.
        """
        if not torch.cuda.is_available():
            disable_malloc_trim()
        call_hook, mode = self.runner.call_hook, self.mode
        call_hook(f"before_{mode}")
        call_hook(f"before_{mode}_epoch")
        self.runner.model.eval()
        # Ranks share the images of a set, but their running statistics differ; measure the network
        # that rank 0 saves.
        for buffer in self.runner.model.buffers() if is_distributed() else ():
            broadcast(buffer)
        measured: dict[str, float] = {}
        for loader, evaluator in self.sets:
            self.dataloader, self.evaluator = loader, evaluator
            for metric in evaluator.metrics:
                metric.results.clear()  # of an earlier run that ended in an error
            for index, batch in enumerate(loader):
                self.run_iter(index, batch)
            measured |= evaluator.evaluate(len(loader.dataset))
        call_hook(f"after_{mode}_epoch", metrics=measured)
        call_hook(f"after_{mode}")
        return measured

    @torch.no_grad()
    def run_iter(self, index: int, batch: Any) -> None:
        """Predict and measure one batch."""
        hook_args = {"batch_idx": index, "data_batch": batch}
        self.runner.call_hook(f"before_{self.mode}_iter", **hook_args)
        with autocast(enabled=self.fp16):
            outputs = getattr(self.runner.model, f"{self.mode}_step")(batch)
        self.evaluator.process(data_samples=outputs, data_batch=batch)
        self.runner.call_hook(f"after_{self.mode}_iter", outputs=outputs, **hook_args)


def dataset_name(loader: DataLoader[Any]) -> str:
    """Return the name of a test set: `dataset_name` in its metadata, its folder, or its class."""
    metainfo = getattr(loader.dataset, "metainfo", None) or {}
    folder = Path(metainfo.get("source") or "").name
    return str(metainfo.get("dataset_name") or folder or type(loader.dataset).__name__)


def _configured_name(dataset: Config | Any) -> str:
    """Return the name of a test set that was not built by its config; empty if it has none."""
    given = dataset if isinstance(dataset, dict) else {}
    metainfo = given.get("metainfo") or {}
    folder = Path(given.get("gt") or given.get("data_root") or "").name
    return str(metainfo.get("dataset_name") or given.get("name") or folder)


def _check_names(evaluators: Iterable[Evaluator]) -> None:
    known: set[str] = set()
    for evaluator in evaluators:
        names = {metric.prefix for metric in evaluator.metrics}
        if twice := names & known:
            raise UserError(
                f"test sets: expected metrics of different prefixes, got {twice.pop()!r} twice; "
                "set metainfo=dict(dataset_name='...') of each dataset, or prefix of the metrics"
            )
        known |= names


def _one_per_set(evaluator: Any, sets: int) -> list[Any]:
    """Return the metrics of each set, from a list of evaluators as in MMagic, or one for all."""
    given = list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]
    for_each = [_list_metrics(one) for one in given]
    if any(isinstance(one, list | tuple) or "metrics" in one for one in given):
        if len(given) == 1:
            return for_each * sets
        if len(given) != sets:
            raise UserError(f"evaluator: expected one for each of {sets} sets, got {len(given)}")
        return for_each
    return [given] * sets


def _list_metrics(evaluator: Any) -> Sequence[Config]:
    """Return the configs of metrics in that of an evaluator, in a list, or of a metric itself.

    Raises:
        UserError: `evaluator` has another form.
    """
    metrics: Any = evaluator
    if isinstance(evaluator, Mapping):
        is_evaluator = evaluator.get("type", "Evaluator") in ("Evaluator", Evaluator)
        metrics = evaluator.get("metrics") if is_evaluator else evaluator
    metrics = metrics if isinstance(metrics, list | tuple) else [metrics]
    if not all(isinstance(one, Mapping) and "metrics" not in one for one in metrics):
        raise UserError(
            "evaluator: expected dict(type=…) of metrics, or dict(type='Evaluator', metrics=[…]), "
            f"got {evaluator!r}"
        )
    return list(metrics)


@LOOPS.register_module()
class MultiValLoop(_MultiLoop):
    """Validation on several test sets; skipped in training if none of them exists."""

    mode = "val"

    def run(self) -> dict[str, float]:
        """Measure all sets; return an empty dict if there are none."""
        return super().run() if self.sets else {}


@LOOPS.register_module()
class MultiTestLoop(_MultiLoop):
    """Test on several test sets."""

    mode = "test"

    def run(self) -> dict[str, float]:
        """Measure all sets.

        Raises:
            MissingFileError: None of the sets exists.
        """
        if not self.sets:
            # A warning names each; the likely mistake is a folder that exists.
            names, errors = zip(*self.missing, strict=True)
            likely = min(errors, key=lambda error: not isinstance(error, IncompleteSetError))
            raise MissingFileError(
                f"test sets: expected at least one of {', '.join(names)}, got none: {likely}"
            )
        return super().run()
