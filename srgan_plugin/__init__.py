"""SRGAN (Ledig et al. 2016) for MMagic, mmengine and BasicSR on current torch.

`networks`, `losses`, `io`, `data`, `metrics`, `checkpoints` and `inference` need neither toolbox;
`hosts` has the adapters for mmengine/MMagic and for BasicSR. Importing this package does not import
torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_plugin.errors import MissingFileError

if TYPE_CHECKING:
    from srgan_plugin.inference import upscale

__all__ = ["__version__", "config_path", "upscale"]
__version__ = "0.1.0"


def config_path(name: str = "") -> str:
    """Return the path of a config of this package, for `_base_` in a config of another repository.

    Args:
        name: File name relative to the configs folder, such as
            `"srgan_x4c64b16_g1_1000k_div2k.py"`; empty for the folder itself.

    Raises:
        MissingFileError: The config does not exist; the message lists the existing ones.
    """
    package = Path(__file__).resolve().parent
    # In a wheel the configs are inside the package, in a checkout beside it.
    roots = [package / ".mim" / "configs", package.parent / "configs"]
    for root in roots:
        if root.is_dir() and (root / name).exists():
            return str((root / name).resolve())
    known = sorted({path.name for root in roots for path in root.glob("*.py")})
    raise MissingFileError(f"config {name!r}: expected one of {', '.join(known)}, got no such file")


def __getattr__(name: str) -> Any:
    """Import `upscale`, and torch with it, on first access."""
    if name != "upscale":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from srgan_plugin.inference import upscale

    return upscale
