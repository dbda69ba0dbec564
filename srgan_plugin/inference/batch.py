"""Upscale many image files in sequence; a failed image does not stop the others."""

import errno
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.io.atomic import remove_abandoned
from srgan_plugin.io.image_content import READABLE_SUFFIXES, peek_size, read_image_content
from srgan_plugin.io.image_files import walk_files
from srgan_plugin.io.metadata import Keep
from srgan_plugin.io.writers import (
    WRITABLE_SUFFIXES,
    ImageSpec,
    check_target,
    same_format,
    unwritten_metadata,
    write_strips,
)

from .upscaler import Upscaler

Job = tuple[Path, Path]  # (file to read, file to write)


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of upscaling one file.

    Attributes:
        source: File of the image.
        target: File of the result. If `state` is `"failed"`, it was not written; an older file of
            this name is unchanged.
        state: `"skipped"` if the result existed already.
        error: Reason of a failure.
        unwritten: Parts of the metadata that the format of the result cannot contain.
    """

    source: Path
    target: Path
    state: Literal["done", "skipped", "failed"]
    error: Exception | None = None
    unwritten: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of the files that are written.

    Attributes:
        suffix: Text added to the name of each file in a folder, before its extension.
        format: Extension of the files in a folder, such as `"jpg"`. Default: the extension of the
            input, or PNG for formats that can only be read.
        quality: Quality of JPEG and WebP, 1 to 100.
        metadata: `"keep"` for EXIF, resolution, XMP, texts and comment, `"copyright"` for author
            and copyright only, `"none"` for nothing.
    """

    suffix: str = ""
    format: str | None = None
    quality: int = 95
    metadata: Keep = "keep"

    def check_for_one(self, target: Path) -> None:
        """Check that there are no options for folders if the result is the single file `target`.

        Raises:
            UserError: `suffix` is given, or `format` is not the format of `target`.
        """
        other_format = self.format and not same_format(f".{self.format}", target.suffix)
        if name := "suffix" if self.suffix else "format" if other_format else "":
            raise UserError(
                f"--{name}: expected a folder as OUTPUT, got the file {target}; give the whole "
                "name of the result as OUTPUT"
            )

    def rename(self, path: Path) -> Path:
        """Return the path of the result for an input, both relative to their folders."""
        extension = f".{self.format}" if self.format else path.suffix
        if extension.lower() not in WRITABLE_SUFFIXES:
            extension = ".png"
        return path.with_name(f"{path.stem}{self.suffix}{extension}")

    def rename_all(self, paths: Sequence[Path]) -> list[Path]:
        """Return the path of the result for each input.

        If inputs differ in the extension only, the results contain it in their names: `x.jpg.png`.
        """
        names = {path: self.rename(path) for path in paths}
        while True:  # x.jpg.png is also the result of an input of this name
            counts = Counter(names.values())
            longer = {
                path: self.rename(path.with_name(f"{path.name}{path.suffix}"))
                for path, name in names.items()
                if counts[name] > 1
            }
            if names == (changed := names | longer):
                return [names[path] for path in paths]
            names = changed


DEFAULT_OUTPUT: Final = OutputOptions()


def plan_jobs(
    inputs: Sequence[str], output: str, options: OutputOptions = DEFAULT_OUTPUT
) -> list[Job]:
    """Return the files to read and the file to write for each.

    Args:
        inputs: Files, folders, which are searched recursively, or patterns such as `"**/*.png"`.
        output: A file for a single input file. Otherwise, or if it ends with a slash, a folder,
            in which the results have the names of the inputs (see `OutputOptions.rename_all`).
            Files in it are never inputs, even if the folder is inside an input folder or matches a
            pattern.
        options: Options that change names and formats in a folder.

    Returns:
        (file to read, file to write) for each image, sorted within each input, each pair once.

    Raises:
        MissingFileError: An input does not exist, or a pattern matches nothing.
        UserError: `output` is a file instead of a folder or the reverse, an input contains no
            image, two results would have the same name, or a result would overwrite an input.
    """
    target = Path(output)
    folder = output.endswith(("/", os.sep))
    source = Path(inputs[0]) if len(inputs) == 1 and not folder else None
    if source and source.exists() and not source.is_dir():
        check_target(target, (1, 1, 1))
        options.check_for_one(target)
        jobs = [(source, target)]
    else:
        if target.exists() and not target.is_dir():
            raise UserError(f"OUTPUT: expected a folder for several images, got the file {target}")
        found = [pair for name in inputs for pair in find_images(name, target)]
        if not (target.exists() or folder) and _is_image(target):
            raise UserError(
                f"OUTPUT: expected a folder for several images, got {target}, which is named like "
                "a file; end the name of a folder with a slash"
            )
        images = [path for source, path in found if not source.is_dir()]
        names = dict(zip(images, options.rename_all(images), strict=True))
        jobs = [(source, target / names.get(path, path)) for source, path in found]
    jobs = list(dict.fromkeys(jobs))  # inputs may overlap, such as a folder and a file in it
    _check_targets(jobs)
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
    """Upscale files lazily, each when its result is requested; existing results are skipped.

    Args:
        upscaler: Upscaler of the images.
        jobs: (file to read, file to write) for each image; see `plan_jobs`.
        progress: Called with the number of completed input pixels, and the total number.
        started: Called with the path of each image before it is read.
        options: Options of the files that are written.
        overwrite: Replace results that exist, instead of skipping them.

    Yields:
        The result of each job, in order. An image that cannot be read, or whose result is too large
        for its format, yields a failed result and raises no error.

    Raises:
        OSError: A result cannot be written because the disk is full or read-only, or without
            permission; the remaining ones would likely fail as well.
    """
    for folder in {target.parent for _, target in jobs}:
        remove_abandoned(folder)  # temporary files of killed runs
    skipped = [target.is_file() and not overwrite for _, target in jobs]
    areas = [0 if skip else _pixels(job[0]) for job, skip in zip(jobs, skipped, strict=True)]
    total, before = sum(areas), 0
    for (source, target), area, skip in zip(jobs, areas, skipped, strict=True):

        def show(done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        if skip:
            yield JobResult(source=source, target=target, state="skipped")
            continue
        if started is not None:
            started(source)
        try:
            unwritten = _upscale_file(upscaler, source, target, options, show)
        except (OSError, UserError, MemoryError) as error:
            if _stops_batch(error, source):
                raise
            yield JobResult(source=source, target=target, state="failed", error=error)
        else:
            yield JobResult(source=source, target=target, state="done", unwritten=unwritten)
        show(area)
        before += area


def _stops_batch(error: Exception, source: Path) -> bool:
    """Return whether an error of one image is likely that of all: of the disk or a permission."""
    unwritable = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    about_source = getattr(error, "filename", None) == str(source)
    return isinstance(error, OSError) and error.errno in unwritable and not about_source


def _upscale_file(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    options: OutputOptions,
    progress: Callable[[int], None],
) -> list[str]:
    """Upscale a file; return the parts of its metadata that the result cannot contain."""
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
    return unwritten_metadata(target.suffix, spec)


def find_images(name: str, output: Path) -> list[tuple[Path, Path]]:
    """Return the images of an input, each with its path relative to that input.

    Args:
        name: A file, a folder, which is searched recursively, or a pattern such as `"**/*.png"`.
        output: Folder or file of the results; files in it are not inputs.

    Returns:
        Sorted pairs. A folder that cannot be read is among them, to be reported as a failure.

    Raises:
        MissingFileError: The file does not exist, or the pattern matches nothing.
        UserError: The folder contains no image.
    """
    path = Path(name)
    if path.is_dir():
        unreadable: list[OSError] = []
        walk = walk_files(path, onerror=unreadable.append)
        paths = [file for file in walk if _is_input(file, path, output)]
        paths += [Path(error.filename) for error in unreadable]
        if not paths:
            raise UserError(f"{name}: expected files in {', '.join(READABLE_SUFFIXES)}, got none")
        return sorted((file, file.relative_to(path)) for file in paths)
    if path.is_file():
        return [(path, Path(path.name))]
    # Path.glob does not accept absolute patterns.
    matches = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207
    files = [file for file in matches if not file.is_dir() and _is_image(file)]
    # If all files are in OUTPUT, it is the folder of the inputs, which `_check_targets` refuses.
    paths = [file for file in files if not _is_result(file, output)] or files
    if not paths:
        raise MissingFileError(f"{name}: expected an image, a folder or a pattern, got none")
    return sorted((file, Path(file.name)) for file in paths)


def ignored_files(inputs: Sequence[str], output: str) -> list[Path]:
    """Return the sorted files in input folders that `plan_jobs` skips, which are not images."""
    folders = [Path(name) for name in inputs if Path(name).is_dir()]
    files = {file for folder in folders for file in walk_files(folder) if not _is_image(file)}
    return sorted(file for file in files if not _is_result(file, Path(output)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in READABLE_SUFFIXES


def _is_input(file: Path, folder: Path, output: Path) -> bool:
    """Return whether a file found in an input folder is an image, and not one of the results."""
    inside = _real(folder) in _real(output).parents
    return _is_image(file) and not (inside and _is_result(file, output))


def _is_result(file: Path, output: Path) -> bool:
    real = _real(file)
    return _real(output) in (real, *real.parents)


def _real(path: Path) -> Path:
    """Resolve links; `Path.resolve` raises for a link to itself."""
    return Path(os.path.realpath(path))


def _check_targets(jobs: Sequence[Job]) -> None:
    """Raise `UserError` if results would overwrite an input or each other."""
    sources = {_real(source) for source, _ in jobs}
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        # Two names of one file on a file system that ignores case, or by a hard link.
        same = target.exists() and source.exists() and target.samefile(source)
        if same or _real(target) in sources:
            raise UserError(f"OUTPUT: expected another file, got {target}, which is an input")
        if (other := taken.setdefault(_real(target), source)) != source:
            raise UserError(
                f"{other} and {source}: expected results of different names, got {target} for "
                "both; upscale them into two folders"
            )


def _pixels(path: Path) -> int:
    """Return the number of pixels, for the progress bar; 0 for a file that cannot be read."""
    try:
        height, width = peek_size(path)
    except (OSError, UserError, MemoryError):
        return 0
    return height * width
