"""What a toolbox lacks beside today's torch and numpy: named, mended where missing, or explained.

A mend adds what its toolbox looks for and what is really missing; whatever is there, from upstream
or from somebody else's mend, is left alone.
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
    """A toolbox is of another version or half installed; one line that ends in the remedy."""


class NotInstalledError(ToolboxError):
    """A toolbox is not there."""


@dataclass(frozen=True, kw_only=True)
class CompatPatch:
    """One thing that a toolbox misses.

    Attributes:
        name: What is missing.
        reason: Why it is.
        missing: Whether it is, in this process.
        apply: Puts it there.
    """

    name: str
    reason: str
    missing: Callable[[], bool]
    apply: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Toolbox:
    """A host: the versions that were tried, and what makes them work.

    Attributes:
        name: Of its package.
        oldest: The oldest version that works.
        below: The first version that is not known to.
        extra: Ours that installs it.
        python_below: The first Python on which pip cannot build it from its source distribution.
        probes: Modules that import once it works.
        patches: In the order in which they are looked at and applied.
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
        """The command that installs it as it is needed."""
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
            NotInstalledError: It is not installed.
            ToolboxError: It is of a version that does not work.
        """
        try:
            found = version(self.name)
        except PackageNotFoundError:
            raise NotInstalledError(f"{self.name} is not installed; run: {self.install}") from None
        if not _numbers(self.oldest) <= _numbers(found) < _numbers(self.below):
            raise ToolboxError(
                f"{self.name}: expected a version from {self.oldest} to below {self.below}, "
                f"got {found}; run: {self.install}"
            )
        return found

    def load(self) -> list[str]:
        """Apply the mends that are needed, and import the toolbox.

        Returns:
            The names of the mends that were applied.

        Raises:
            ToolboxError: It is missing, of another version, or does not import even so.
        """
        self.check_version()
        applied = []
        try:
            for patch in self.patches:
                if not patch.missing():
                    continue
                patch.apply()
                applied.append(patch.name)
                logger.info("%s: mended %s (%s)", self.name, patch.name, patch.reason)
            for module in self.probes:
                importlib.import_module(module)
        except (ImportError, AttributeError, AssertionError) as error:
            cause = " ".join(str(error).split())
            raise ToolboxError(
                f"{self.name} is installed but does not import ({type(error).__name__}: {cause}); "
                f"run: {self.install}"
            ) from error
        return applied


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def is_importable(module: str, names: Sequence[str] = ()) -> bool:
    """Whether a module imports and has the names."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return False
    return all(hasattr(found, name) for name in names)
