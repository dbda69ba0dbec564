"""What works on this machine, what had to be mended for it, and the command for what does not."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

State = Literal["ok", "warning", "absent", "broken"]

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "mmengine",
    "onedl-mmengine",
    "mmcv-lite",
    "mmcv",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "lmdb",
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        name: What was looked at.
        state: `absent` is something optional that is not there, `broken` something that is there
            and does not work.
        detail: One line.
        remedy: The command that mends it; empty if nothing is to be done.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def versions() -> dict[str, str]:
    """Return the versions of the packages that matter and are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_torch() -> Finding:
    """Find torch safe enough to load checkpoints."""
    import torch

    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) < (2, 6):
        return Finding(
            name="torch",
            state="broken",
            detail=f"{torch.__version__} can be tricked into running checkpoints (CVE-2025-32434)",
            remedy='pip install --upgrade "torch>=2.6"',
        )
    if (major, minor) < (2, 10):
        return Finding(
            name="torch",
            state="warning",
            detail=f"{torch.__version__} works, but has a hole in weights_only (CVE-2026-24747)",
            remedy='pip install --upgrade "torch>=2.10"',
        )
    return Finding(name="torch", state="ok", detail=torch.__version__)


def check_gpu() -> Finding:
    """Find a GPU."""
    import torch

    if torch.cuda.is_available():
        return Finding(name="GPU", state="ok", detail=torch.cuda.get_device_name())
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return Finding(name="GPU", state="absent", detail=f"none is visible ({built}): all runs on CPU")


def check_nccl() -> Finding:
    """Find NCCL, with which several GPUs train."""
    from torch import distributed

    if distributed.is_available() and distributed.is_nccl_available():
        return Finding(name="NCCL", state="ok", detail="several GPUs can train together")
    return Finding(
        name="NCCL",
        state="absent",
        detail="this torch has none: train on one GPU, or set env_cfg.dist_cfg.backend=gloo",
    )


def check_opencv() -> Finding:
    """Write and read a PNG: wheels of OpenCV overwrite each other's files."""
    try:
        import cv2
        import numpy as np

        picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        decoded = cv2.imdecode(cv2.imencode(".png", picture)[1], cv2.IMREAD_COLOR)
        if decoded is not None and (decoded == picture).all():
            return Finding(name="OpenCV", state="ok", detail=f"{cv2.__version__} reads PNG")
        problem = "does not read the PNG that it wrote"
    except (ImportError, AttributeError) as error:
        problem = f"does not import ({error})"
    wheels = [name for name in versions() if name.startswith("opencv")]
    return Finding(
        name="OpenCV",
        state="broken",
        detail=f"{problem}; installed: {', '.join(wheels) or 'no wheel'}",
        remedy="pip install --force-reinstall --no-deps opencv-python",
    )


def check_vgg() -> Finding:
    """Find VGG-19's weights, which the content loss needs."""
    from srgan_plugin.networks.vgg import URL, torchvision_file

    path = torchvision_file()
    if path.is_file():
        return Finding(name="VGG-19", state="ok", detail=str(path))
    return Finding(
        name="VGG-19",
        state="absent",
        detail="SRGAN's content loss will download its weights on first use",
        remedy=f"curl -fL --create-dirs -o {path} {URL}",
    )


def check_mmengine() -> Finding:
    """Find mmengine and our part of it."""
    try:
        importlib.import_module("srgan_plugin.hosts.mmengine")
    except ImportError as error:
        return Finding(
            name="mmengine",
            state="broken",
            detail=f"does not import ({' '.join(str(error).split())})",
            remedy='pip install "mmengine>=0.10.7" "setuptools<82"',
        )
    return Finding(
        name="mmengine", state="ok", detail=importlib.import_module("mmengine").__version__
    )


def _check_toolbox(name: str, adapter: str) -> Finding:
    from srgan_plugin.hosts.compat_patches import NotInstalledError

    try:
        module = importlib.import_module(adapter)
    except ImportError as error:
        detail, _, remedy = " ".join(str(error).split()).partition("; run: ")
        state: State = "absent" if isinstance(error, NotInstalledError) else "broken"
        return Finding(name=name, state=state, detail=detail, remedy=remedy)
    patches = [
        f"{patch.name} {'mended' if patch.name in module.APPLIED_PATCHES else 'there'}"
        for patch in module.TOOLBOX.patches
    ]
    detail = f"{module.TOOLBOX.check_version()}, {', '.join(patches)}"
    return Finding(name=name, state="ok", detail=detail)


def check_mmagic() -> Finding:
    """Mend and import MMagic."""
    return _check_toolbox("MMagic", "srgan_plugin.hosts.mmagic")


def check_basicsr() -> Finding:
    """Mend and import BasicSR."""
    return _check_toolbox("BasicSR", "srgan_plugin.hosts.basicsr.compat")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_torch,
    check_gpu,
    check_nccl,
    check_opencv,
    check_vgg,
    check_mmengine,
    check_mmagic,
    check_basicsr,
)


def report(findings: list[Finding]) -> str:
    """Lay the findings out for people, remedies under what they are for."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.name:<9}{finding.state:<9}{finding.detail}")
        if finding.remedy:
            lines.append(f"{'':<18}run: {finding.remedy}")
    return "\n".join(lines)
