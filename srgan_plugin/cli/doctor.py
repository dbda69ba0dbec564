"""`srgan-plugin doctor`: check the installation, and print the commands that fix problems."""

import importlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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


# Security holes of torch below 2.N: (N, state, problem).
_TORCH_HOLES: tuple[tuple[int, State, str], ...] = (
    (6, "broken", "can be tricked into running checkpoints (CVE-2025-32434)"),
    (10, "warning", "works, but has a hole in weights_only (CVE-2026-24747)"),
)


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Result of one check.

    Attributes:
        name: Name of the package or device.
        state: `"absent"` if an optional package or device is missing, `"broken"` if it exists but
            does not work.
        detail: Version or reason, in one line.
        fix_command: Shell command that fixes a problem; empty if there is none.
    """

    name: str
    state: State
    detail: str
    fix_command: str = ""


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that this package can use."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """Return the name of the processor; empty if the system does not provide it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


def check_torch() -> CheckResult:
    """Check that torch loads untrusted checkpoints safely."""
    import torch

    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    for minor_needed, state, problem in _TORCH_HOLES:
        if (major, minor) < (2, minor_needed):
            return CheckResult(
                name="torch",
                state=state,
                detail=f"{torch.__version__} {problem}",
                fix_command=f'pip install --upgrade "torch>=2.{minor_needed}"',
            )
    return CheckResult(name="torch", state="ok", detail=torch.__version__)


def check_gpu() -> CheckResult:
    """Check for a CUDA GPU."""
    import torch

    if torch.cuda.is_available():
        return CheckResult(name="GPU", state="ok", detail=torch.cuda.get_device_name())
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return CheckResult(
        name="GPU", state="absent", detail=f"none is visible ({built}): all runs on CPU"
    )


def check_nccl() -> CheckResult:
    """Check for NCCL, which training on several GPUs needs."""
    from torch import distributed

    if distributed.is_available() and distributed.is_nccl_available():
        return CheckResult(name="NCCL", state="ok", detail="several GPUs can train together")
    return CheckResult(
        name="NCCL",
        state="absent",
        detail="this torch has none: train on one GPU, or set env_cfg.dist_cfg.backend=gloo",
    )


def check_opencv() -> CheckResult:
    """Check that OpenCV reads a PNG that it wrote, as its wheels overwrite each other's files."""
    try:
        import cv2
        import numpy as np

        image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        decoded = cv2.imdecode(cv2.imencode(".png", image)[1], cv2.IMREAD_COLOR)
        if decoded is not None and (decoded == image).all():
            return CheckResult(name="OpenCV", state="ok", detail=f"{cv2.__version__} reads PNG")
        problem = "does not read the PNG that it wrote"
    except (ImportError, AttributeError) as error:
        problem = f"does not import ({error})"
    wheels = [name for name in versions() if name.startswith("opencv")]
    return CheckResult(
        name="OpenCV",
        state="broken",
        detail=f"{problem}; installed: {', '.join(wheels) or 'no wheel'}",
        fix_command="pip install --force-reinstall --no-deps opencv-python",
    )


def check_vgg() -> CheckResult:
    """Check for the weights of VGG-19, which the content loss needs."""
    from srgan_plugin.networks.vgg import URL, torchvision_file

    path = torchvision_file()
    if path.is_file():
        return CheckResult(name="VGG-19", state="ok", detail=str(path))
    return CheckResult(
        name="VGG-19",
        state="absent",
        detail="SRGAN's content loss will download its weights on first use",
        fix_command=f"curl -fL --create-dirs -o {path} {URL}",
    )


def check_mmengine() -> CheckResult:
    """Check that mmengine and the classes of this package for it can be imported."""
    try:
        importlib.import_module("srgan_plugin.hosts.mmengine")
    except ImportError as error:
        return CheckResult(
            name="mmengine",
            state="broken",
            detail=f"does not import ({' '.join(str(error).split())})",
            fix_command='pip install "mmengine>=0.10.7" "setuptools<82"',
        )
    return CheckResult(
        name="mmengine", state="ok", detail=importlib.import_module("mmengine").__version__
    )


def check_toolbox(name: str, adapter: str) -> CheckResult:
    """Check that a toolbox can be imported with the patches of this package.

    Args:
        name: Name of the toolbox.
        adapter: Module of this package that patches and imports it.

    Returns:
        The version and the patches of the toolbox, or the reason why it cannot be imported.
    """
    from srgan_plugin.hosts.compat_patches import NotInstalledError

    try:
        module = importlib.import_module(adapter)
    except ImportError as error:
        detail, _, fix_command = " ".join(str(error).split()).partition("; run: ")
        state: State = "absent" if isinstance(error, NotInstalledError) else "broken"
        return CheckResult(name=name, state=state, detail=detail, fix_command=fix_command)
    patches = [
        f"{patch.name} {'patched' if patch.name in module.APPLIED_PATCHES else 'present'}"
        for patch in module.TOOLBOX.patches
    ]
    detail = f"{module.TOOLBOX.check_version()}, {', '.join(patches)}"
    return CheckResult(name=name, state="ok", detail=detail)


CHECKS: tuple[Callable[[], CheckResult], ...] = (
    check_torch,
    check_gpu,
    check_nccl,
    check_opencv,
    check_vgg,
    check_mmengine,
    partial(check_toolbox, "MMagic", "srgan_plugin.hosts.mmagic"),
    partial(check_toolbox, "BasicSR", "srgan_plugin.hosts.basicsr.compat"),
)


def report(results: list[CheckResult]) -> str:
    """Return a table of the results, each with the command that fixes it in the next line."""
    lines = []
    for result in results:
        lines.append(f"{result.name:<9}{result.state:<9}{result.detail}")
        if result.fix_command:
            lines.append(f"{'':<18}run: {result.fix_command}")
    return "\n".join(lines)
