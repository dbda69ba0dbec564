"""Many image files enlarged, one after the other; what goes wrong with one stops no other."""

import errno
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.io.atomic import remove_abandoned
from srgan_plugin.io.image_content import READABLE_SUFFIXES, peek_size, read_image_content
from srgan_plugin.io.image_files import walk_files
from srgan_plugin.io.metadata import Keep
from srgan_plugin.io.writers import WRITABLE_SUFFIXES, ImageSpec, check_target, write_strips

from .upscaler import Upscaler

Job = tuple[Path, Path]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of an image.

    Attributes:
        source: The image's file.
        target: Where its enlargement is, or would be.
        state: `"skipped"` if it was there already.
        error: Why it failed.
    """

    source: Path
    target: Path
    state: Literal["done", "skipped", "failed"]
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How results are written.

    Attributes:
        suffix: Stands in a file's name before its format, in a folder.
        format: The format of the files in a folder, such as "jpg"; by default the input's, or PNG
            where that is not written.
        quality: Of JPEG and WebP, 1 to 100.
        metadata: Whether EXIF and resolution are kept, of them author and copyright alone, or
            nothing.
    """

    suffix: str = ""
    format: str | None = None
    quality: int = 95
    metadata: Keep = "keep"

    def check_for_one(self, target: Path) -> None:
        """Refuse options that the name of a single result already decides.

        Raises:
            UserError: One of them is given.
        """
        for name, value in (("suffix", self.suffix), ("format", self.format)):
            if value and target.suffix.lower() != f".{value}":
                raise UserError(
                    f"--{name}: expected a folder as OUTPUT, got the file {target}; name the file "
                    "as it shall be called"
                )

    def rename(self, below: Path) -> Path:
        """Return the result's name for an input's."""
        given = f".{self.format}" if self.format else below.suffix
        written = given if given.lower() in WRITABLE_SUFFIXES else ".png"
        return below.with_name(f"{below.stem}{self.suffix}{written}")


DEFAULT_OUTPUT: Final = OutputOptions()


def plan_jobs(
    inputs: Sequence[str], output: str, options: OutputOptions = DEFAULT_OUTPUT
) -> list[Job]:
    """Tells which files are to be read, and where each enlargement goes.

    Args:
        inputs: Files, folders (with the folders below them), or patterns such as `"**/*.png"`.
        output: One file for one file. Otherwise, or with a slash at its end, a folder, which gets
            the names and formats of the inputs; where it lies in an input folder, or a pattern
            meets it, files in it are no inputs.
        options: What changes the names and formats in a folder.

    Returns:
        (file to read, file to write) for every image, sorted within each input.

    Raises:
        FileNotFoundError: An input is not there, or a pattern matches nothing.
        ValueError: `output` is a folder where a file is wanted or the reverse, there is no image,
            two results would have one name, or a result would overwrite an input.
    """
    target = Path(output)
    folder = output.endswith(("/", os.sep))
    if len(inputs) == 1 and Path(inputs[0]).is_file() and not folder:
        source = Path(inputs[0])
        check_target(target, (1, 1, 1))
        options.check_for_one(target)
        jobs = [(source, target)]
    else:
        if target.exists() and not target.is_dir():
            raise UserError(f"expected a folder for several images, but {target} is a file")
        found = [pair for name in inputs for pair in find_images(name, target)]
        if not (target.exists() or folder) and _is_image(target):
            raise UserError(
                f"expected a folder for several images, but {target} sounds like a file: name a "
                "folder, or close it with a slash"
            )
        jobs = [(source, target / options.rename(below)) for source, below in found]
    _check_apart(jobs)
    return jobs


def upscale_files(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    progress: Callable[[int, int], None] | None = None,
    *,
    started: Callable[[Path], None] | None = None,
    options: OutputOptions = DEFAULT_OUTPUT,
    overwrite: bool = False,
) -> Iterator[JobResult]:
    """Enlarges files, one for each outcome that is asked for; what is there already is skipped.

    Args:
        upscaler: What enlarges.
        jobs: See `plan_jobs`.
        progress: Called with the number of pixels of the images that are done, and of all.
        started: Called with each file before it is read.
        options: How results are written.
        overwrite: Make what is there anew.

    Yields:
        What became of each image, in order. An input that is bad, and a result that its format
        cannot hold, are outcomes; they raise nothing.

    Raises:
        OSError: The disk is full or read-only, or the folder of the results may not be written.
    """
    for folder in {target.parent for _, target in jobs}:
        remove_abandoned(folder)
    there = [target.is_file() and not overwrite for _, target in jobs]
    areas = [0 if skip else _pixels(job[0]) for job, skip in zip(jobs, there, strict=True)]
    total, before = sum(areas), 0
    for (source, target), area, skip in zip(jobs, areas, there, strict=True):

        def show(done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        if skip:
            yield JobResult(source=source, target=target, state="skipped")
            continue
        if started is not None:
            started(source)
        try:
            _upscale_file(upscaler, source, target, options, show)
        except (OSError, UserError, MemoryError) as error:
            if _ends_all(error, source):
                raise
            yield JobResult(source=source, target=target, state="failed", error=error)
        else:
            yield JobResult(source=source, target=target, state="done")
        show(area)
        before += area


def _ends_all(error: Exception, source: Path) -> bool:
    """Whether an error is about the place where all results go, not about one image."""
    closed = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    about_source = getattr(error, "filename", None) == str(source)
    return isinstance(error, OSError) and error.errno in closed and not about_source


def _upscale_file(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    options: OutputOptions,
    progress: Callable[[int], None],
) -> None:
    image = read_image_content(source)
    height, width, channels = image.pixels.shape
    spec = ImageSpec(
        shape=(*upscaler.result_size(height, width), channels),
        dtype=image.pixels.dtype,
        icc_profile=image.icc_profile,
        metadata=image.metadata.limited_to(options.metadata),
        quality=options.quality,
    )
    write_strips(target, upscaler.strips(image.pixels, progress), spec)


def find_images(name: str, output: Path) -> list[tuple[Path, Path]]:
    """Return the images that an input names, and their names below the output folder.

    Args:
        name: A file, a folder (with the folders below it), or a pattern such as `"**/*.png"`.
        output: The folder or file of results, which are no inputs.

    Raises:
        MissingFileError: There is no such file, or a pattern matches nothing.
        UserError: A folder holds no image.
    """
    path = Path(name)
    if path.is_dir():
        closed: list[OSError] = []  # folders; their turn tells why
        walk = walk_files(path, onerror=closed.append)
        paths = [file for file in walk if _is_input(file, path, output)]
        paths += [Path(error.filename) for error in closed]
        found = [(file, file.relative_to(path)) for file in paths]
        if not found:
            raise UserError(
                f"{name} holds no image: expected files in {', '.join(READABLE_SUFFIXES)}"
            )
        return sorted(found)
    if path.is_file():
        return [(path, Path(path.name))]
    # Path.glob takes no absolute pattern.
    matches = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207
    files = [file for file in matches if not file.is_dir() and _is_image(file)]
    # Where nothing else is found, OUTPUT is the folder of the inputs, which is refused later.
    paths = [file for file in files if not _is_result(file, output)] or files
    found = [(file, Path(file.name)) for file in paths]
    if not found:
        raise MissingFileError(f"expected an image, a folder or a pattern, but {name} is none")
    return sorted(found)


def ignored_files(inputs: Sequence[str], output: str) -> list[Path]:
    """Return the files in folders among the inputs that `plan_jobs` leaves out, sorted."""
    folders = [Path(name) for name in inputs if Path(name).is_dir()]
    files = {file for folder in folders for file in walk_files(folder) if not _is_image(file)}
    return sorted(file for file in files if not _is_result(file, Path(output)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in READABLE_SUFFIXES


def _is_input(file: Path, folder: Path, output: Path) -> bool:
    """Whether a file found in a folder is an image, and no result of ours."""
    inside = _real(folder) in _real(output).parents
    return _is_image(file) and not (inside and _is_result(file, output))


def _is_result(file: Path, output: Path) -> bool:
    real = _real(file)
    return _real(output) in (real, *real.parents)


def _real(path: Path) -> Path:
    """Resolve links; `Path.resolve` raises on those that lead to themselves."""
    return Path(os.path.realpath(path))


def _check_apart(jobs: Sequence[Job]) -> None:
    sources = {_real(source) for source, _ in jobs}
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        if _real(target) in sources or _are_same(target, source):
            raise UserError(f"{target} is an input: results never overwrite one, name another")
        if (other := taken.setdefault(_real(target), source)) != source:
            raise UserError(f"{other} and {source} would both become {target}: do one at a time")


def _are_same(target: Path, source: Path) -> bool:
    return target.exists() and source.exists() and target.samefile(source)


def _pixels(path: Path) -> int:
    """For the progress bar; what is wrong with a file is told when its turn comes."""
    try:
        height, width = peek_size(path)
    except (OSError, UserError):
        return 0
    return height * width
