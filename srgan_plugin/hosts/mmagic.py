"""Patch MMagic 1.2 for current torch and numpy, and import it.

A config with an MMagic class (`type='mmagic.PSNR'`) imports this module, and so do MMagic configs
in the tools of this package. `python -m srgan_plugin mmagic train|test …` imports it for MMagic's
tools. Importing it raises `ToolboxError` if MMagic is missing or of an unsupported version.
"""

import functools
import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from mmengine.evaluator import BaseMetric

from srgan_plugin.hosts.mmengine.compat import convert_on_load

from .compat_patches import CompatPatch, Toolbox, is_importable

_FACES = "controlnet_aux.mediapipe_face"


class StubOps(ModuleType):
    """Stub of the compiled ops of mmcv: every name exists, and raises when it is called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("get_compiler_version", "get_compiling_cuda_version"):
            return lambda: "n/a"  # for mmcv's `collect_env`

        def op(*_: object, **__: object) -> NoReturn:
            raise NotImplementedError(
                f"mmcv: expected the compiled op {name}, got mmcv-lite, or an mmcv whose compiled "
                "ops fail to import; use a model without it, or compile the full mmcv"
            )

        return op


def _add_bool8() -> None:
    np.bool8 = np.bool_  # type: ignore[attr-defined]


def _add_ops() -> None:
    module = StubOps("mmcv._ext")
    # Without a loader, mmengine reports correctly that mmcv is not compiled.
    module.__spec__ = ModuleSpec("mmcv._ext", loader=None)
    sys.modules["mmcv._ext"] = module


def _solutions_are_missing() -> bool:
    """Return whether mediapipe has no `solutions`, without importing it (which takes 9 s)."""
    package = find_spec("mediapipe")
    if _FACES in sys.modules or package is None or package.origin is None:
        return False  # controlnet_aux works without mediapipe
    return not Path(package.origin).parent.joinpath("python", "solutions").is_dir()


def _add_face_detector() -> None:
    class MediapipeFaceDetector:
        """Stub of the face detector of controlnet_aux, the only class that needs `solutions`."""

        def __init__(self, *_: object, **__: object) -> None:
            raise NotImplementedError(
                "MediapipeFaceDetector: expected mediapipe.solutions, which 0.10.30 removed; "
                "run: pip install 'mediapipe<0.10.30'"
            )

    sys.modules[_FACES] = module = ModuleType(_FACES)
    module.MediapipeFaceDetector = MediapipeFaceDetector  # type: ignore[attr-defined]


def _base_model() -> Any:
    return importlib.import_module("mmagic.models.base_models").BaseEditModel


def _load_any_layout() -> None:
    initialise = _base_model().__init__

    @functools.wraps(initialise)
    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        convert_on_load(self)

    _base_model().__init__ = build


def _sample_wise_metric() -> Any:
    name = "mmagic.evaluation.metrics.base_sample_wise_metric"
    return importlib.import_module(name).BaseSampleWiseMetric


def _take_size() -> None:
    def evaluate(self: Any, size: int | None = None) -> dict[str, float]:
        measured: dict[str, float] = BaseMetric.evaluate(self, self.size if size is None else size)
        return measured

    _sample_wise_metric().evaluate = evaluate


TOOLBOX = Toolbox(
    name="mmagic",
    oldest="1.2.0",
    below="1.3",
    extra="mmagic",
    probes=("mmagic.models", "mmagic.evaluation", "mmagic.structures"),
    patches=(
        CompatPatch(
            name="numpy.bool8",
            reason="numpy 2 removed it, mmagic.utils reads it",
            missing=lambda: not is_importable("numpy", ["bool8"]),
            apply=_add_bool8,
        ),
        CompatPatch(
            name="mmcv._ext",
            reason="mmcv-lite has no compiled ops, mmagic imports Python around them",
            missing=lambda: not is_importable("mmcv._ext"),
            apply=_add_ops,
        ),
        CompatPatch(
            name="mediapipe.solutions",
            reason="mediapipe 0.10.30 removed it, mmagic.apis imports Python around it",
            missing=_solutions_are_missing,
            apply=_add_face_detector,
        ),
        CompatPatch(
            name="strict checkpoints",
            reason="MMagic's models keep random weights where a checkpoint has other keys",
            missing=lambda: not hasattr(_base_model().__init__, "__wrapped__"),
            apply=_load_any_layout,
        ),
        CompatPatch(
            name="size of metrics",
            reason="the loops here pass the size of the set to a metric, as mmengine's loops do",
            missing=lambda: "size" not in signature(_sample_wise_metric().evaluate).parameters,
            apply=_take_size,
        ),
    ),
)

#: Names of the patches applied in this process.
APPLIED_PATCHES = TOOLBOX.load()
