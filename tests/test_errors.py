"""A user's mistake is one line; a bug keeps its stack trace, wherever either is raised."""

import errno
import importlib
import math
import multiprocessing
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from srgan_plugin.cli.config_errors import check_schedules
from srgan_plugin.cli.errors import command, explain, one_line
from srgan_plugin.errors import (
    FileError,
    MissingFileError,
    PluginWarning,
    UserError,
    check_count,
)
from srgan_plugin.hosts.mmengine.evaluation.metrics import PSNR
from srgan_plugin.inference import Upscaler
from srgan_plugin.networks import ModifiedVGG, MSRResNet, SRGANDiscriminator, SRResNet
from srgan_plugin.registry import MODELS, OPTIMIZERS

WEIGHT = torch.nn.Parameter(torch.ones(1))
NO_SPACE = OSError(errno.ENOSPC, "No space left on device", "iter_4.pth")


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SRGAN_DEBUG", raising=False)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Classes of a user or of this package, some of them with a bug."""

    class Careful:
        def __init__(self, size: int = 1, names: Sequence[str] | None = None) -> None:
            if size < 0:
                raise UserError(f"size: expected at least 0, got {size}")
            self.size = size + 0

    class Buggy:
        def __init__(self, *, by: str) -> None:
            {
                "itself": lambda: int("x"),
                "torch": lambda: torch.optim.Adam([WEIGHT], lr=-1),
                "numpy": lambda: np.zeros(3) + np.zeros(2),
            }[by]()

    class SmallSGD(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 1e-3) -> None:
            super().__init__(params, lr=lr)

    for kind, registry in ((Careful, MODELS), (Buggy, MODELS), (SmallSGD, OPTIMIZERS)):
        registry.register_module(module=kind, force=True)
    yield
    for kind, registry in ((Careful, MODELS), (Buggy, MODELS), (SmallSGD, OPTIMIZERS)):
        del registry.module_dict[kind.__name__]


def error_of(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("expected an error")


def adam(**options: Any) -> Any:
    return OPTIMIZERS.build({"type": "Adam", "params": [WEIGHT], **options})


def loader(**options: Any) -> Any:
    dataset = torch.utils.data.TensorDataset(torch.ones(2))
    options |= {"dataset": dataset, "sampler": torch.utils.data.SequentialSampler(dataset)}
    return Runner.build_dataloader(ConfigDict(options))


def dumped(**options: Any) -> Any:
    return Runner.from_cfg(Config({"model": {"type": "Careful"}, "work_dir": "run", **options}))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: adam(lr=-1), ["Adam", "lr=-1"]),
        (lambda: adam(lr="fast"), ["Adam", "lr", "a number", "'fast'"]),
        (lambda: adam(betas=3), ["Adam", "betas", "got 3"]),
        (lambda: OPTIMIZERS.build({"type": "SmallSGD", "params": [WEIGHT], "lr": -1}), ["lr=-1"]),
        (lambda: loader(batch_size=0), ["dataloader", "batch_size=0"]),
        (lambda: loader(batch_size=1, num_workers=-1), ["num_workers"]),
        (lambda: loader(batch_sizes=1), ["batch_sizes"]),
        (lambda: dumped(log_level="LOUD"), ["logger", "LOUD"]),
        (
            lambda: Runner.register_default_hooks(object.__new__(Runner), 3),
            ["default_hooks", "'int'"],
        ),
        (lambda: MODELS.build({"type": "Careful", "size": "x"}), ["Careful", "size", "int", "'x'"]),
        (lambda: MODELS.build({"type": "Careful", "size": -3}), ["size", "-3"]),
        (lambda: MODELS.build({"type": "Careful", "sise": 3}), ["Careful", "'sise'", "size"]),
        (lambda: MODELS.build({"type": "Carefull"}), ["'Carefull'", "Careful"]),
    ],
)
def test_a_value_that_is_refused_is_one_line_with_it(
    act: Callable[[], object],
    words: list[str],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    fresh_mmengine: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = explain(error_of(act))
    assert line is not None
    assert "\n" not in line
    assert [word for word in words if word not in line] == []


@pytest.mark.skipif(find_spec("basicsr") is None, reason="needs BasicSR")
def test_images_that_a_toolbox_cannot_compare_are_one_line() -> None:
    importlib.import_module("srgan_plugin.hosts.basicsr")  # makes BasicSR import
    psnr = importlib.import_module("basicsr.metrics").calculate_psnr
    small, large = (np.zeros((side, side, 3)) for side in (4, 16))
    line = explain(error_of(lambda: psnr(large, small, 0)))
    assert line is not None
    assert "(16, 16, 3), (4, 4, 3). GT and LR may be swapped" in line


@pytest.mark.skipif(find_spec("basicsr") is None, reason="needs BasicSR")
def test_a_value_that_basicsr_refuses_is_one_line_with_it() -> None:
    importlib.import_module("srgan_plugin.hosts.basicsr")  # makes BasicSR import
    build_dataloader = importlib.import_module("basicsr.data").build_dataloader
    options = {"phase": "train", "batch_size_per_gpu": 0, "num_worker_per_gpu": 0}
    line = explain(error_of(lambda: build_dataloader([1], options, num_gpu=0)))
    assert line is not None
    assert "batch_size=0" in line
    del options["batch_size_per_gpu"]
    line = explain(error_of(lambda: build_dataloader([1], options, num_gpu=0)))
    assert line is not None
    assert "batch_size_per_gpu" in line


@pytest.mark.parametrize("by", ["itself", "torch", "numpy"])
def test_a_constructor_with_a_bug_keeps_its_stack_trace(by: str) -> None:
    assert explain(error_of(lambda: MODELS.build({"type": "Buggy", "by": by}))) is None


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"padding": "same"}, None),
        ({"kind": "same"}, None),
        ({"anything": "same"}, None),
        ({"rate": "same"}, "rate: expected a number, got 'same'"),
        ({"plain": "same"}, "plain: expected a number, got 'same'"),
        ({"kind": "other"}, "kind: expected .*'same'.*, got 'other'"),
    ],
)
def test_a_string_is_the_cause_only_if_the_annotation_does_not_admit_it(
    value: dict[str, str], line: str | None
) -> None:
    class Padded:
        def __init__(
            self,
            padding: int | str = 0,
            kind: Literal["same", 0] = 0,
            anything: Any = 0,
            rate: float | torch.Tensor = 0.5,
            plain=0,  # type: ignore[no-untyped-def]
        ) -> None:
            raise ValueError("a bug")

    MODELS.register_module(module=Padded, force=True)
    try:
        found = explain(error_of(lambda: MODELS.build({"type": "Padded", **value})))
    finally:
        del MODELS.module_dict["Padded"]
    assert found is None if line is None else re.search(line, found or "")


@pytest.mark.parametrize(
    "bug",
    [
        ValueError("a bug"),
        TypeError("a bug"),
        KeyError("a bug"),
        RuntimeError("a bug"),
        AssertionError("a bug"),
        OSError("without a number"),
        UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "a bug"),
        ModuleNotFoundError("No module named 'lpips'", name="lpips"),
        ImportError("cannot import name 'x' from 'numpy'", name="numpy"),
        AttributeError("a bug", obj=3),
    ],
)
def test_any_other_error_keeps_its_stack_trace(bug: Exception) -> None:
    @command
    def main() -> None:
        raise bug

    with pytest.raises(type(bug)):
        main()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("tile: expected at least 16 pixels,\ngot 3"), "pixels, got 3"),
        (MissingFileError("a.png does not exist"), "a.png"),
        (NO_SPACE, "iter_4.pth"),
        (PermissionError(errno.EACCES, "Permission denied", "run"), "run"),
        (MemoryError(), "MemoryError"),
        (ImportError("Please install petrel_client"), "petrel_client"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_1(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @command
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert len(said.splitlines()) == 1


def test_what_a_file_is_cited_with_neither_commands_the_terminal_nor_fills_it() -> None:
    line = one_line(UserError("x.pth: its keys are \x1b]0;title\x07\x00é " + 10**6 * "k"))
    assert line.isprintable()
    assert r"\x1b]0;title\x07\x00é" in line
    assert line.startswith("x.pth")
    assert len(line) < 3000


def test_a_full_disk_is_one_line_with_the_file_that_was_written(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        with path.open("w") as file:
            file.write("x")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space") as caught:
        write(tmp_path / "config.py")
    line = explain(caught.value)
    assert line is not None
    assert str(tmp_path / "config.py") in line
    assert "No space" in line


def test_a_run_s_workers_end_before_the_process_does() -> None:
    """Else torch's handler of signals adds a stack trace when the process ends."""
    alive = []

    class Run:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            alive.remove(self.itself is self)

    @command
    def main() -> None:
        run = Run()
        alive.append(True)
        raise UserError(f"an error while {type(run)} lives")

    with pytest.raises(SystemExit):
        main()
    assert not alive


def test_debugging_shows_the_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRGAN_DEBUG", "1")

    @command
    def main() -> None:
        raise UserError("tile")

    with pytest.raises(UserError):
        main()


def test_an_interrupt_is_status_130() -> None:
    @command
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 130


class Raising(Dataset[int]):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("0003.png is truncated"), "0003.png is truncated"),
        (FileError("0003.png cannot be read"), "0003.png cannot be read"),
        (NO_SPACE, "[Errno 28] No space left on device: 'iter_4.pth'"),
        (ValueError("a bug"), None),
        (OSError("a bug"), None),
    ],
)
def test_a_workers_error_is_told_like_any_other(error: Exception, line: str | None) -> None:
    found = error_of(lambda: list(DataLoader(Raising(error), num_workers=1)))
    assert isinstance(found, type(error))
    assert explain(found) == line
    for worker in multiprocessing.active_children():  # the loader would wait five seconds for it
        worker.terminate()
        worker.join()


def test_file_errors_are_what_other_code_expects_them_to_be() -> None:
    assert issubclass(UserError, ValueError)
    assert issubclass(FileError, UserError)
    assert issubclass(FileError, OSError)
    assert issubclass(MissingFileError, FileError)
    assert issubclass(MissingFileError, FileNotFoundError)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [([], []), (["--verbose"], ["of Pillow", "of torch"])],
)
def test_warnings_of_other_libraries_are_shown_with_verbose_alone_and_ours_as_a_line(
    arguments: list[str], shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str]) -> None:
        warnings.warn("of Pillow", UserWarning, stacklevel=1)
        warnings.warn("of torch", FutureWarning, stacklevel=1)
        warnings.warn("ours", PluginWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as found:
        command(main)(arguments)
    assert [str(warning.message) for warning in found] == shown
    assert capsys.readouterr().err == "WARNING: ours\n"
    with pytest.warns(FutureWarning, match="after it"):
        warnings.warn("after it", FutureWarning, stacklevel=1)


def test_a_download_that_failed_is_one_line_with_the_place_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    @command
    def main() -> None:  # as the VGG-19 of MMagic and BasicSR does; nothing listens on port 9
        torch.hub.load_state_dict_from_url("http://127.0.0.1:9/vgg.pth")

    with pytest.raises(SystemExit):
        main()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: http://127.0.0.1:9/vgg.pth: could not be downloaded")
    assert line.endswith(f"put the file at {tmp_path}/checkpoints/vgg.pth")


def test_an_error_raised_while_an_interrupt_is_handled_is_an_interrupt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @command
    def main() -> None:  # as mmengine does while it formats a config
        try:
            raise KeyboardInterrupt
        except BaseException as error:
            raise SyntaxError("failed to format the config file") from error

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_weights_of_another_network_and_a_missing_extra_are_one_line_each() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.nn.Linear(2, 3).load_state_dict(torch.nn.Linear(4, 3).state_dict())
    line = explain(found.value)
    assert line is not None
    assert "size mismatch for weight" in line
    assert "\n" not in line
    missing = ModuleNotFoundError("No module named 'wandb'", name="wandb")
    assert explain(missing) == 'wandb: missing; run: pip install "srgan_plugin[wandb]"'


@pytest.mark.parametrize("value", [1, np.int64(1), np.uint8(200), 10**30])
def test_integers_of_any_type_are_counts(value: object) -> None:
    check_count(1, num_blocks=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, np.float32(4), True, "4", None, math.nan])
@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("num_blocks", lambda value: MSRResNet(mid_channels=4, num_blocks=value)),
        ("mid_channels", lambda value: MSRResNet(mid_channels=value, num_blocks=1)),
        ("num_blocks", lambda value: SRResNet(mid_channels=4, num_blocks=value)),
        ("in_channels", lambda value: SRResNet(in_channels=value, mid_channels=4, num_blocks=1)),
        ("mid_channels", lambda value: SRGANDiscriminator(mid_channels=value, input_size=16)),
        ("num_stages", lambda value: ModifiedVGG(mid_channels=4, num_stages=value)),
        ("tile", lambda value: Upscaler("srgan", tile=value)),
        ("crop_border", lambda value: PSNR(crop_border=-1 if value == 0 else value)),
    ],
)
def test_a_count_that_is_no_integer_or_too_small_is_refused_by_its_name(
    name: str, act: Callable[[object], object], value: object
) -> None:
    error = error_of(lambda: act(value))
    assert isinstance(error, UserError)
    assert re.match(rf"{name}: expected an integer of at least -?\d+, got ", str(error))
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("schedule", "setting"),
    [
        ({"type": "CosineRestartLR", "periods": [9], "eta_min": "abc"}, "CosineRestartLR: eta_min"),
        ([{"type": "LinearLR", "end": 9}, {"type": "StepLR", "step_size": "x"}], "step_size"),
        ({"generator": {"type": "MultiStepLR", "milestones": [3], "gamma": "x"}}, "gamma"),
        ({"type": "MultiStepLR", "milestones": [3, "x"]}, "milestones"),
    ],
)
def test_a_schedule_whose_setting_has_the_wrong_type_is_refused(
    schedule: object, setting: str
) -> None:
    with pytest.raises(UserError, match=rf"^param_scheduler: .*{setting}: expected .*, got "):
        check_schedules(schedule)


def test_a_schedule_whose_settings_have_the_right_types_is_not_refused() -> None:
    check_schedules(None)
    check_schedules({"type": "CosineAnnealingLR", "T_max": 10, "eta_min": 0, "by_epoch": False})
    check_schedules([{"type": "MultiStepLR", "milestones": [1, 2], "end": 1_000}])
