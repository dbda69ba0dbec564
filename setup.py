"""Package metadata; requirements live in `requirements/`, tools' settings in `pyproject.toml`."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
EXTRAS = ("tests", "demo", "mmagic", "basicsr", "export")


def requirements(name):
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith(("#", "-"))]


def version():
    text = (ROOT / "srgan_plugin" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', text).group(1)


class BuildWithConfigs(build_py):
    """Put configs and tools inside the package of a wheel, as `.mim/`, where `mim` looks for them.

    OpenMMLab's own recipe reads `sys.argv` and makes nothing under today's pip.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return  # `config_path()` finds the checkout's folders
        for folder in ("configs", "tools"):
            for path in sorted((ROOT / folder).rglob("*")):
                if path.is_file() and path.suffix in {".py", ".sh", ".yml", ".md"}:
                    target = Path(self.build_lib, "srgan_plugin/.mim", path.relative_to(ROOT))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self.copy_file(str(path), str(target))


setup(
    name="srgan_plugin",
    version=version(),
    description="SRGAN for MMagic, mmengine and BasicSR on today's torch",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["srgan_plugin", "srgan_plugin.*"]),
    install_requires=requirements("runtime"),
    extras_require={
        name: requirements(name)
        for name in EXTRAS
        if (ROOT / "requirements" / f"{name}.txt").exists()
    },
    cmdclass={"build_py": BuildWithConfigs},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
