"""Fixtures: the page of a small study with two images, two methods and bicubic; a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from chromium import chromium

from srgan_plugin.__main__ import main
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image

HOSTILE = "\"'</script><script>alert(1)</script>"


class Made(NamedTuple):
    page: Path
    folders: dict[str, Path]
    hr: Path
    lr: Path

    def command(self, *more: str, out: Path | None = None) -> list[str]:
        named = [f"{name}={folder}" for name, folder in self.folders.items()]
        paths = ["--hr", str(self.hr), "--lr", str(self.lr), "--out", str(out or self.page)]
        return ["mos", "make", *named, *paths, *more]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Made:
    root = tmp_path_factory.mktemp("study")
    hr = photographs / "Set5" / "GTmod12"
    folders = {"Mild": root / "mild_folder", HOSTILE: root / "<b>strong"}
    for (name, folder), amount in zip(folders.items(), (8, 40), strict=True):
        for path in sorted(hr.iterdir()):
            rng, image = np.random.default_rng(amount), read_image(path).astype(int)
            noisy = image + rng.integers(-amount, amount + 1, image.shape)
            write_image(folder / path.name, np.clip(noisy, 0, 255).astype(np.uint8))
        assert name
    study = Made(root / "study.html", folders, hr, photographs / "Set5" / "LRbicx4")
    main(study.command("--bicubic", "--repeats", "2", "--calibration-images", "1"))
    return study


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running
