"""Patch BasicSR 1.4.2 for current torch and torchvision, and import it."""

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
        opt: BasicSR's options; `path.resume_state` and the paths of the networks are set.

    Returns:
        Iteration, epoch, optimisers and schedulers; None to start from the beginning.

    Raises:
        UserError: The file is not a training state, or its networks are not in the run's folder.
    """
    from basicsr.utils import check_resume

    if opt["auto_resume"]:
        folder = Path(opt["root_path"], "experiments", opt["name"], "training_states")
        saved = sorted(folder.glob("*.state"), key=lambda path: float(path.stem))
        opt["path"]["resume_state"] = str(saved[-1]) if saved else None
    if not (path := opt["path"].get("resume_state")):
        return None
    state = load_checkpoint_file(path)
    if not {"iter", "epoch", "optimizers"} <= state.keys():
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
    """Build a loader as BasicSR does, which has at least one batch.

    Args:
        dataset: Dataset.
        dataset_opt: Its options.
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
            f"samples of an epoch, got {loader.batch_size}; set a higher dataset_enlarge_ratio"
        )
    return loader
