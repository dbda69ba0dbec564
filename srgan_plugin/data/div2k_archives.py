"""DIV2K's official archives: fetching and unpacking them, whole and only where needed."""

import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from srgan_plugin.download import download
from srgan_plugin.files import atomic_path

from .div2k_sources import TRAIN, VALIDATION, picture_path
from .parallel import Progress

OFFICIAL_URL: Final = "http://data.vision.ee.ethz.ch/cvl/DIV2K"


class Archive(NamedTuple):
    """An official archive: its name without `.zip`, and the pictures in it; scale 1 is HR."""

    name: str
    numbers: range
    scale: int

    def pictures(self, root: Path) -> list[Path]:
        """Where its pictures are or belong."""
        return [picture_path(root, number, self.scale) for number in self.numbers]

    def is_unpacked(self, root: Path) -> bool:
        """Whether all its pictures are there; each appears only when it is whole."""
        return all(path.is_file() for path in self.pictures(root))


def archives(scales: Sequence[int]) -> list[Archive]:
    """The archives of the photographs and of the bicubic low-resolution pictures."""
    return [
        Archive(f"DIV2K_{part}_{'HR' if scale == 1 else f'LR_bicubic_X{scale}'}", numbers, scale)
        for part, numbers in (("train", TRAIN), ("valid", VALIDATION))
        for scale in (1, *scales)
    ]


def fetch(
    archive: Archive, root: Path, *, url: str = OFFICIAL_URL, progress: Progress | None = None
) -> Path:
    """Downloads an archive to `root`, going on where an earlier attempt broke off.

    Its size is the server's word; its content is verified when it is unpacked.

    Raises:
        OSError: If the server or the disk fails; see `download`.
    """
    name = f"{archive.name}.zip"
    return download(f"{url.rstrip('/')}/{name}", root / name, progress=progress)


def unpack(archive: Archive, root: Path, *, progress: Progress | None = None) -> None:
    """Unpacks `root/NAME.zip`; pictures that are there already are left alone.

    Args:
        archive: Which.
        root: The folder `DIV2K`.
        progress: Called with the numbers of pictures done and in all.

    Raises:
        ValueError: If a picture is missing in it, or its checksums are wrong.
        OSError: If the disk is full; calling it again goes on.
    """
    file = root / f"{archive.name}.zip"
    targets = archive.pictures(root)
    try:
        with zipfile.ZipFile(file) as packed:
            members = {Path(name).name: name for name in packed.namelist()}
            if missing := [path.name for path in targets if path.name not in members]:
                raise ValueError(
                    f"{file} lacks {len(missing)} of {len(targets)} pictures, {missing[0]} the "
                    f"first: it is not DIV2K's own, fetch it again"
                )
            for done, target in enumerate(targets, start=1):
                if not target.is_file():
                    _unpack_one(packed, members[target.name], target)
                if progress is not None:
                    progress(done, len(targets))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{file} is damaged ({error}): remove it and fetch it again") from None


def _unpack_one(packed: zipfile.ZipFile, member: str, target: Path) -> None:
    # Reading to the end compares the checksum.
    with (
        packed.open(member) as source,
        atomic_path(target) as temporary,
        temporary.open("wb") as copy,
    ):
        shutil.copyfileobj(source, copy)
