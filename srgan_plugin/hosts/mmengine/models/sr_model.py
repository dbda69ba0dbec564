"""A generator trained with a pixel loss."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any, Literal

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from srgan_plugin.checkpoints.load import adapt_training_state
from srgan_plugin.checkpoints.read_write import NOTE_KEY
from srgan_plugin.errors import UserError, check_option
from srgan_plugin.losses import generator_objective
from srgan_plugin.networks.ema import update_ema
from srgan_plugin.networks.self_ensemble import self_ensemble
from srgan_plugin.registry import MODELS

from .data_preprocessor import gt_batch, state_prediction_order
from .model_utils import (
    Config,
    build,
    compile_forward,
    gradient_norm,
    is_plugin_module,
    keep_bn_stats,
    restore_bn_stats,
    snapshot_bn_stats,
    unwrap_ddp,
)


@MODELS.register_module()
class SRModel(BaseModel):
    """A generator trained with a pixel loss, with the arguments of MMagic's `BaseEditModel`.

    Args:
        generator: Config of the network, from LR in [0, 1], (N, 3, H, W), to SR, (N, 3, sH, sW).
        pixel_loss: Config of the loss between SR and GT; None only for a model that is not trained.
        train_cfg: Settings of the training step; `SRModel` has none, see `SRGAN`.
        test_cfg: `tta=True` averages predictions over flipped and transposed images, which takes
            eight times as long (x8 self-ensemble).
        init_cfg: Initialisation of mmengine.
        data_preprocessor: Config of the preprocessor; the default is `DataPreprocessor`.
        ema: `dict(decay=0.999)` keeps an exponential moving average of the generator, as in
            BasicSR. It is used in validation and test, and saved as `generator_ema`, as in MMagic.
            The optimiser wrappers of this package update it once per step of the optimiser, others
            once per batch.
        channels_last: Whether to compute in torch's channels-last memory format; `"auto"` if it is
            faster: on GPUs and on CPUs with AVX-512. Results differ by rounding. A network of
            another toolbox gets contiguous tensors, because some fail otherwise.
        compile: True or `dict(mode=…)` compiles the trained networks by `torch.compile`, which
            needs a C compiler. A network that cannot be compiled runs uncompiled.

    Raises:
        UserError: A config is not a dict, its `type` or arguments are wrong, or `generator`, `ema`,
            `channels_last` or `compile` has another form.
    """

    def __init__(
        self,
        generator: Config,
        pixel_loss: Config | None = None,
        train_cfg: Config | None = None,
        test_cfg: Config | None = None,
        init_cfg: Config | None = None,
        data_preprocessor: Config | None = None,
        ema: Config | None = None,
        channels_last: bool | Literal["auto"] = False,
        compile: bool | Config = False,
    ) -> None:
        preprocessor = build(data_preprocessor or {"type": "DataPreprocessor"})
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.generator = build(generator)
        if self.generator is None:
            raise UserError(f"model.generator: expected dict(type=…), got {generator!r}")
        self.pixel_loss = build(pixel_loss)
        self.ema_decay = _decay(ema) if ema else None
        self.generator_ema = deepcopy(self.generator).requires_grad_(False) if ema else None
        self.train_cfg, self.test_cfg = train_cfg or {}, test_cfg or {}
        check_option("model.channels_last", channels_last, (True, False, "auto"))
        if not isinstance(compile, bool | dict):
            raise UserError(f"model.compile: expected True, False or dict(mode=…), got {compile!r}")
        # With AVX2 the backward pass is slower in channels_last.
        fast = torch.cuda.is_available() or torch.backends.cpu.get_cpu_capability() == "AVX512"
        self.channels_last = fast if channels_last == "auto" else channels_last
        self.compile_options = {} if compile is True else compile
        self._set_memory_format(self.generator, self.generator_ema)
        self._compile(self.generator)
        self._stepping = False  # whether train_step runs
        # A module passed as `generator` may be trained; Bicubic has no weights.
        has_weights = any(True for _ in self.generator.parameters())
        self.untrained = isinstance(generator, dict) and has_weights
        for network in filter(None, (self.generator, self.generator_ema)):
            network.register_load_state_dict_post_hook(_note_weights)
        # Called by load_from, by resume, and by launchers of other toolboxes.
        self.register_load_state_dict_pre_hook(load_state_dict_pre_hook)

    def forward(
        self,
        inputs: Any,
        data_samples: Any = None,
        mode: Literal["tensor", "predict", "loss"] = "tensor",
    ) -> Any:
        """Run the generator on preprocessed `inputs`.

        Args:
            inputs: LR batch in [0, 1], (N, 3, H, W), or a dict with this as `img`.
            data_samples: Samples returned by the preprocessor.
            mode: `tensor` returns the SR batch, `loss` a dict of losses, `predict` a list of
                elements with `output.pred_img`, (3, H, W) in [0, 255].

        Returns:
            The SR batch, (N, 3, scale H, scale W), the losses or the list of elements, by `mode`.

        Raises:
            UserError: `mode` is unknown, or it is `loss` with `ema` in a wrapper that would not
                update it.
        """
        check_option("mode", mode, ("tensor", "predict", "loss"))
        if isinstance(inputs, dict):  # from MMagic's preprocessor
            inputs = inputs["img"]
        if mode == "predict" and isinstance(images := self._own_sizes(inputs, data_samples), list):
            return self._predict_each(images, data_samples)
        averaged = self.generator_ema if mode != "loss" and not self.training else None
        network = averaged or self.generator
        inputs = self._to_memory_format(inputs, network)
        ensemble = mode == "predict" and self.test_cfg.get("tta")
        sr = self_ensemble(network, inputs) if ensemble else network(inputs)
        if mode == "tensor":
            return sr
        if mode == "loss":
            if self.generator_ema is not None and not self._stepping:
                raise UserError(
                    "model.ema: expected a wrapper for distributed training that updates the "
                    "average, got another one; set model_wrapper_cfg = "
                    "dict(type='MMSeparateDistributedDataParallel')"
                )
            return generator_objective(sr, gt_batch(data_samples), pixel=self.pixel_loss)
        self._warn_of_random_weights(network)
        return self._predictions(sr, data_samples, inputs)

    def train_step(self, data: Config, optim_wrapper: Any) -> dict[str, Tensor]:
        """Run one step of the generator.

        Args:
            data: A batch of the loader.
            optim_wrapper: Optimiser wrapper of the generator.

        Returns:
            Losses and gradient norm by name, detached.
        """
        statistics = snapshot_bn_stats(self.generator)
        keep_bn_stats(statistics, optim_wrapper)
        self.untrained = False
        self._stepping = True
        try:
            losses: dict[str, Tensor] = super().train_step(data, optim_wrapper)
        finally:
            self._stepping = False
        restore_bn_stats(statistics, optim_wrapper)
        self._update_ema(optim_wrapper)
        found = {name: loss.detach() for name, loss in losses.items()}
        return found | gradient_norm("generator", optim_wrapper)

    @property
    def is_static_step(self) -> bool:
        """Whether every step does the same work."""
        return True

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Skip the reduction of gradients over ranks, in all networks, while they accumulate."""
        with ExitStack() as stack:
            for network in filter(is_model_wrapper, self.children()):
                stack.enter_context(network.no_sync())
            yield

    def init_weights(self) -> None:
        """Initialise the weights as in mmengine, and the average as the generator."""
        super().init_weights()
        self.untrained = False  # training begins
        if self.generator_ema is not None:
            self.generator_ema.load_state_dict(unwrap_ddp(self.generator).state_dict())

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the state dict, with the same keys with and without distributed training."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        start = args[1] if len(args) > 1 else kwargs.get("prefix", "")
        for name in [name for name, child in self.named_children() if is_model_wrapper(child)]:
            wrapped = f"{start}{name}.module."
            for key in [key for key in state if key.startswith(wrapped)]:
                state[f"{start}{name}.{key.removeprefix(wrapped)}"] = state.pop(key)
        return state

    def _set_memory_format(self, *networks: nn.Module | None) -> None:
        for network in filter(None, networks):
            if self.channels_last and is_plugin_module(network):
                network.to(memory_format=torch.channels_last)

    def _compile(self, *networks: nn.Module | None) -> None:
        for network in filter(None, networks):
            if self.compile_options is not False:
                compile_forward(network, **self.compile_options)

    def _to_memory_format(self, batch: Tensor, network: nn.Module) -> Tensor:
        """Convert a batch to the memory format of the network."""
        fast = self.channels_last and is_plugin_module(network)
        return batch.contiguous(
            memory_format=torch.channels_last if fast else torch.contiguous_format
        )

    def _update_ema(self, optim_wrapper: Any) -> None:
        if self.generator_ema is not None and self.ema_decay is not None:
            updated = getattr(optim_wrapper, "updated", True)
            update_ema(self.generator_ema, unwrap_ddp(self.generator), self.ema_decay, updated)

    def _warn_of_random_weights(self, network: nn.Module) -> None:
        """Warn once if `network`, which predicts, is one into which no weights were loaded."""
        if self.untrained and not getattr(unwrap_ddp(network), "weights_loaded", False):
            print_log(
                "the generator predicts from RANDOM weights: no checkpoint was loaded; set "
                "load_from (init_cfg is for training only)",
                logger="current",
                level=logging.WARNING,
            )
        self.untrained = False

    def _own_sizes(self, inputs: Tensor, data_samples: Any) -> Any:
        """Return the batch, or a list of images without padding if their sizes differ."""
        # MMagic's preprocessor pads images of different sizes to that of the largest. If padding to
        # a multiple is configured, it is part of what MMagic computes.
        if getattr(self.data_preprocessor, "pad_size_divisor", None) != 1:
            return inputs
        cut = getattr(self.data_preprocessor, "remove_padding", None)
        return cut(inputs, data_samples) if cut else inputs

    def _predict_each(self, images: list[Tensor], samples: list[Any]) -> list[BaseDataElement]:
        """Predict each image without padding, which would change the borders."""
        padding = [sample.metainfo.get("padding_size") for sample in samples]
        for sample in samples:
            sample.set_metainfo({"padding_size": torch.zeros(3)})
        pairs = zip(images, samples, strict=True)
        results = [self.forward(image[None], [one], mode="predict")[0] for image, one in pairs]
        for sample, size in zip(samples, padding, strict=True):  # of the batch, which still has it
            sample.set_metainfo({"padding_size": size})
        return results

    def _predictions(self, sr: Tensor, data_samples: Any, inputs: Tensor) -> list[BaseDataElement]:
        images = self.data_preprocessor.destruct(sr, data_samples)
        if data_samples is None:
            data_samples = [BaseDataElement() for _ in images]
        elif hasattr(data_samples, "split"):  # a stacked MMagic DataSample
            # MMagic's visualizers read the LR image from here.
            data_samples.input = self.data_preprocessor.destruct(inputs, data_samples)
            data_samples = data_samples.split()
        for sample, image in zip(data_samples, images, strict=True):
            sample.output = BaseDataElement(pred_img=image)
            state_prediction_order(sample)
        return list(data_samples)


def _decay(ema: Config) -> float:
    decay = ema["decay"] if isinstance(ema, dict) and set(ema) == {"decay"} else None
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
        raise UserError(f"model.ema: expected dict(decay=…) with 0 <= decay < 1, got {ema!r}")
    return float(decay)


def load_state_dict_pre_hook(
    model: nn.Module, state_dict: Config, prefix: str, local_metadata: Config, *_: Any, **__: Any
) -> None:
    """Convert weights of any known layout before the model loads them (a torch pre-hook).

    Args:
        model: The model that loads the weights.
        state_dict: State dict that contains the model's; changed in place.
        prefix: Prefix of the model's keys.
        local_metadata: Metadata of the state dict, with the checkpoint's `meta` added by
            `hosts.mmengine.compat`.

    Raises:
        UserError: Weights of the generator are missing or of another network.
    """
    meta = local_metadata.get(NOTE_KEY)  # set in `compat`
    if other := adapt_training_state(state_dict, model, prefix=prefix, meta=meta):
        print_log(
            "the saved discriminator does not fit and is skipped; the current weights stay, which "
            f"are RANDOM at the start of a run: {other}",
            logger="current",
            level=logging.WARNING,
        )


def _note_weights(network: Any, _: Any) -> None:
    """Mark a network as loaded (a torch post-hook)."""
    network.weights_loaded = True
