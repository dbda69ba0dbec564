"""Patches that make a toolbox import with current torch and numpy.

A patch is applied only if the symbol is missing; one that exists, in the package or by another
patch, is not changed.
"""

import importlib
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from srgan_plugin.errors import UserError

logger = logging.getLogger(__name__)


class ToolboxError(ImportError, UserError):
    """Error in the installation of a toolbox; one line that ends with the command to fix it."""


class NotInstalledError(ToolboxError):
    """Error for a toolbox that is not installed."""


@dataclass(frozen=True, kw_only=True)
class CompatPatch:
    """A patch for a symbol missing upstream.

    Attributes:
        name: Name of the symbol.
        reason: Reason for which it is missing, for the log.
        missing: Function that returns whether it is missing in this process.
        apply: Function that adds it.
    """

    name: str
    reason: str
    missing: Callable[[], bool]
    apply: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Toolbox:
    """A toolbox: its supported versions and the patches for them.

    Attributes:
        name: Name of the package.
        oldest: Oldest supported version.
        below: First version that is not supported.
        extra: Extra of this package that installs it.
        python_below: First version of Python on which pip cannot build it from source.
        probes: Modules that can be imported if it works.
        patches: Patches in the order of their application.
    """

    name: str
    oldest: str
    below: str
    extra: str
    probes: tuple[str, ...]
    patches: tuple[CompatPatch, ...]
    python_below: tuple[int, int] = (4, 0)

    @property
    def install(self) -> str:
        """Command that installs a supported version."""
        if sys.version_info >= self.python_below:
            older = ".".join(map(str, (self.python_below[0], self.python_below[1] - 1)))
            wheel = f"{self.name}-{self.oldest}-py3-none-any.whl"
            return (
                f"python{older} -m pip wheel --no-deps {self.name}=={self.oldest} && "
                f"pip install {wheel}"
            )
        return f'pip install "srgan_plugin[{self.extra}]"'

    def check_version(self) -> str:
        """Return the installed version.

        Raises:
            NotInstalledError: The toolbox is not installed.
            ToolboxError: The version of the toolbox is not supported.
        """
        try:
            found = version(self.name)
        except PackageNotFoundError:
            raise NotInstalledError(
                f"{self.name}: expected an installed package, got none; run: {self.install}"
            ) from None
        if not _numbers(self.oldest) <= _numbers(found) < _numbers(self.below):
            raise ToolboxError(
                f"{self.name}: expected a version from {self.oldest} to below {self.below}, "
                f"got {found}; run: {self.install}"
            )
        return found

    def load(self) -> list[str]:
        """Apply the necessary patches and import the toolbox.

        Returns:
            The names of the patches that were applied.

        Raises:
            ToolboxError: The toolbox is not installed, its version is not supported, or its import
                fails.
        """
        self.check_version()
        applied = []
        try:
            for patch in self.patches:
                if not patch.missing():
                    continue
                patch.apply()
                applied.append(patch.name)
                logger.info("%s: patched %s (%s)", self.name, patch.name, patch.reason)
            for module in self.probes:
                importlib.import_module(module)
        except (ImportError, AttributeError, AssertionError) as error:
            cause = " ".join(str(error).split())
            raise ToolboxError(
                f"{self.name}: expected to import, got {type(error).__name__}: {cause}; "
                f"run: {self.install}"
            ) from error
        return applied


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def is_importable(module: str, names: Sequence[str] = ()) -> bool:
    """Return whether a module can be imported and has these names."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return False
    return all(hasattr(found, name) for name in names)
