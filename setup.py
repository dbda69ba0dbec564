"""Package metadata; requirements live in `requirements/`, tools' settings in `pyproject.toml`."""

import contextlib
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM = ("configs", "tools", "model-index.yml")
# What only maintainers use: timing against the toolboxes, and making the bundled weights.
NOT_IN_MIM = (
    "benchmarks",
    "benchmark.py",
    "gpu_benchmarks.sh",
    "zoo",
    "zoo_cards.py",
    "zoo_report.py",
    "train_zoo.py",
    "release.py",
)
EXTRAS = (
    "tests",
    "demo",
    "mmagic",
    "basicsr",
    "perceptual",
    "export",
    "ncnn",
    "openvino",
    "onnxruntime",
    "keras",
    "spandrel",
    "hub",
    "wandb",
    "study",
    "docs",
)


def requirements(name):
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith(("#", "-"))]


def version():
    text = (ROOT / "srgan_plugin" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', text).group(1)


class BuildWithMim(build_py):
    """Put configs, tools and the model index inside the package, as `.mim/`, where `mim` looks.

    A wheel gets copies, an editable install links to the checkout. OpenMMLab's own recipe reads
    `sys.argv` and makes nothing under current pip.
    """

    def run(self):
        super().run()
        # A build folder that was used before may hold what has been renamed since.
        target = Path(ROOT if self.editable_mode else self.build_lib, "srgan_plugin", ".mim")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM:
            if self.editable_mode:
                # Windows links for developers only; without links `mim` finds no configs.
                with contextlib.suppress(OSError):
                    (target / name).symlink_to(Path("../..", name))
            elif (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns("__pycache__", ".*", *NOT_IN_MIM)
                shutil.copytree(ROOT / name, target / name, ignore=ignore)
            else:
                shutil.copy(ROOT / name, target / name)


#: Where the project is published; the release checklist refuses to build without it.
REPOSITORY = ""
URLS = {
    "Paper": "https://arxiv.org/abs/1609.04802",
    **(
        {
            "Source": REPOSITORY,
            "Issues": f"{REPOSITORY}/issues",
            "Documentation": f"{REPOSITORY}/tree/main/docs",
            "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        }
        if REPOSITORY
        else {}
    ),
}

setup(
    name="srgan_plugin",
    version=version(),
    author="srgan_plugin contributors",
    description="SRGAN for MMagic, mmengine and BasicSR on current torch",
    keywords="super-resolution SRGAN SRResNet MMagic mmengine BasicSR image-restoration PyTorch",
    project_urls=URLS,
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # CC-BY-SA: checkpoints/weights; MIT: uPlot in reports/assets
    license_expression="Apache-2.0 AND CC-BY-SA-4.0 AND MIT",
    license_files=["LICENSE", "srgan_plugin/checkpoints/weights/LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["srgan_plugin", "srgan_plugin.*"]),
    package_data={
        "srgan_plugin": ["py.typed"],
        "srgan_plugin.checkpoints": ["weights/*"],
        "srgan_plugin.reports": ["assets/*"],
    },
    entry_points={"console_scripts": ["srgan-plugin = srgan_plugin.__main__:main"]},
    install_requires=requirements("runtime"),
    extras_require={
        name: requirements(name)
        for name in EXTRAS
        if (ROOT / "requirements" / f"{name}.txt").exists()
    },
    cmdclass={"build_py": BuildWithMim},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
)
