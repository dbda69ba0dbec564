"""Patch BasicSR 1.4.2 for current torch and torchvision, and import it.

Importing this module raises `ToolboxError` if BasicSR is missing or of an unsupported version.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from srgan_plugin.checkpoints.read_write import load_checkpoint_file
from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.hosts.compat_patches import CompatPatch, Toolbox, is_importable

_REMOVED = "torchvision.transforms.functional_tensor"


def _add_functional_tensor() -> None:
    from torchvision.transforms.functional import rgb_to_grayscale

    module = sys.modules.setdefault(_REMOVED, ModuleType(_REMOVED))
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]


TOOLBOX = Toolbox(
    name="basicsr",
    oldest="1.4.2",
    below="1.5",
    extra="basicsr",
    python_below=(3, 13),
    probes=("basicsr",),
    patches=(
        CompatPatch(
            name=_REMOVED,
            reason="torchvision 0.17 removed it, basicsr.data.degradations imports it",
            missing=lambda: not is_importable(_REMOVED, ["rgb_to_grayscale"]),
            apply=_add_functional_tensor,
        ),
    ),
)

#: Names of the patches applied in this process.
APPLIED_PATCHES = TOOLBOX.load()


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Read the training state to resume, as BasicSR does, but also without a GPU.

    Args:
        opt: BasicSR's options. Changed in place: `path.resume_state` (with `auto_resume`) and, if
            there is a state, `path.pretrain_network_*` and `path.param_key_*`, as BasicSR does.

    Returns:
        {"iter", "epoch", "optimizers", "schedulers": their states}; None to start from iteration 0.

    Raises:
        MissingFileError: The weights of a network are not in the folder of the run.
        UserError: The file is not a training state.
    """
    from basicsr.utils import check_resume

    if opt["auto_resume"]:
        folder = Path(opt["root_path"], "experiments", opt["name"], "training_states")
        numbered = (path for path in folder.glob("*.state") if path.stem.isdecimal())
        saved = sorted(numbered, key=lambda path: int(path.stem))
        opt["path"]["resume_state"] = str(saved[-1]) if saved else None
    if not (path := opt["path"].get("resume_state")):
        return None
    state = load_checkpoint_file(path)
    if not {"iter", "epoch", "optimizers", "schedulers"} <= state.keys():
        raise UserError(
            f"path.resume_state: {path}: expected a training state (N.state), got another file; "
            "name weights as path.pretrain_network_g"
        )
    check_resume(opt, state["iter"])
    for network in (key for key in opt if key.startswith("network_") and opt[key]):
        weights = opt["path"].get(f"pretrain_{network}")
        if weights and not Path(weights).is_file():
            raise MissingFileError(
                f"path.resume_state: {path}: expected {weights}, got no such file; keep the name "
                "of the run"
            )
    return state


def build_dataloader(dataset: Any, dataset_opt: dict[str, Any], **options: Any) -> Any:
    """Build a loader as BasicSR does; refuse a training set without a complete batch.

    Args:
        dataset: Dataset.
        dataset_opt: Options of the dataset.
        options: See BasicSR's `build_dataloader`.

    Returns:
        The loader.

    Raises:
        UserError: A training set has no complete batch; BasicSR would end as if it had trained.
    """
    from basicsr import data

    loader = data.build_dataloader(dataset, dataset_opt, **options)
    if not len(loader) and dataset_opt["phase"] == "train":
        raise UserError(
            f"datasets.train.batch_size_per_gpu: expected at most the {len(loader.sampler)} "
            f"samples of an epoch, got {loader.batch_size} for the GPUs of this process; set a "
            "higher dataset_enlarge_ratio"
        )
    return loader
