"""Mends: applied where something is missing, nowhere else; and what a sick toolbox is answered."""

import subprocess
import sys
from types import ModuleType

import pytest
import torch

from srgan_plugin.__main__ import main
from srgan_plugin.cli import doctor
from srgan_plugin.hosts import compat_patches
from srgan_plugin.hosts.compat_patches import CompatPatch, NotInstalledError, Toolbox, ToolboxError


def toolbox(**changes: object) -> Toolbox:
    """A toolbox that is there, pytest itself, which misses a module that the mend supplies."""
    missing_module = CompatPatch(
        name="a_module",
        reason="nobody wrote it",
        missing=lambda: "a_module" not in sys.modules,
        apply=lambda: sys.modules.update(a_module=ModuleType("a_module")),
    )
    options = {
        "name": "pytest",
        "oldest": "1.0",
        "below": "1000",
        "extra": "mmagic",
        "probes": ("a_module",),
        "patches": (missing_module,),
    }
    return Toolbox(**{**options, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _forget_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "a_module", raising=False)


def test_a_patch_is_applied_when_its_subject_is_missing() -> None:
    box = toolbox()
    assert box.load() == ["a_module"]
    assert box.load() == []


def test_what_is_patched_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = ModuleType("a_module")
    monkeypatch.setitem(sys.modules, "a_module", theirs)
    assert toolbox().load() == []
    assert sys.modules["a_module"] is theirs


def test_a_missing_toolbox_is_answered_with_the_command_that_installs_it() -> None:
    with pytest.raises(NotInstalledError, match=r"no_such.*pip install"):
        toolbox(name="no_such").load()


def test_a_toolbox_that_this_python_cannot_build_is_answered_with_an_older_one() -> None:
    command = r"run: python3\.9 -m pip wheel --no-deps no_such==1.0 && pip install no_such-1.0"
    with pytest.raises(NotInstalledError, match=command):
        toolbox(name="no_such", python_below=(3, 10)).load()


@pytest.mark.parametrize("bounds", [{"oldest": "999.1"}, {"below": "1.1"}])
def test_a_toolbox_of_another_version_is_refused_by_both_versions(bounds: dict[str, str]) -> None:
    with pytest.raises(
        ToolboxError, match=f"{next(iter(bounds.values()))}.*got {pytest.__version__}"
    ):
        toolbox(**bounds).load()


def test_a_half_installed_toolbox_is_answered_with_what_it_misses() -> None:
    with pytest.raises(ToolboxError, match=r"no_such_part.*pip install"):
        toolbox(probes=("no_such_part",)).load()


@pytest.mark.slow
def test_neither_the_package_nor_its_mmengine_host_patches_anything() -> None:
    check = (
        "import sys, numpy, srgan_plugin, srgan_plugin.hosts.mmengine\n"
        "bad = [m for m in ('mmcv._ext', 'torchvision.transforms.functional_tensor')"
        " if m in sys.modules]\n"
        "sys.exit(str(bad) if bad or 'bool8' in vars(numpy) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_missing_compiled_op_fails_at_use_by_its_name(mmagic: ModuleType) -> None:
    from mmcv import ops

    from srgan_plugin.hosts.mmagic import APPLIED_PATCHES

    if "mmcv._ext" not in APPLIED_PATCHES:
        pytest.skip("the compiled ops are really there")
    layer = ops.DeformConv2d(3, 4, 3, padding=1)
    with pytest.raises(NotImplementedError, match="deform_conv_forward"):
        layer(torch.zeros(1, 3, 8, 8), torch.zeros(1, 18, 8, 8))


def test_doctor_says_what_was_patched_and_the_command_for_what_is_missing(
    mmagic: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", "/nowhere")
    main(["doctor"])
    said = capsys.readouterr().out
    assert f"torch {torch.__version__.split('+')[0]}" in said
    for name in ("GPU", "NCCL", "OpenCV", "mmengine", "MMagic", "BasicSR"):
        assert f"\n{name}" in said
    # BasicSR does not install on Python 3.13.
    assert ("functional_tensor" in said) != ("-m pip wheel --no-deps basicsr" in said)
    assert "run: curl -fL --create-dirs -o /nowhere/hub/checkpoints/vgg19" in said


def test_doctor_fails_by_a_line_and_a_command_when_a_toolbox_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = doctor.CheckResult(
        name="BasicSR", state="broken", detail="too old", fix_command="pip install x"
    )
    monkeypatch.setattr(doctor, "CHECKS", (lambda: sick,))
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 1
    assert "BasicSR  broken   too old\n" in capsys.readouterr().out


def test_doctor_finds_opencv_whose_wheels_overwrote_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))  # the folder without its library
    found = doctor.check_opencv()
    assert found.state == "broken"
    assert "opencv-python" in found.detail
    assert found.fix_command.startswith("pip install --force-reinstall")


def test_an_unsafe_torch_is_named_with_its_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for number in ("2.5.1", "2.6.0", "2.10.0"):
        monkeypatch.setattr(torch, "__version__", number)
        states.append(doctor.check_torch().state)
    assert states == ["broken", "warning", "ok"]


def test_a_name_counts_as_missing_though_its_module_is_there() -> None:
    assert compat_patches.is_importable("math", ["pi"])
    assert not compat_patches.is_importable("math", ["tau", "no_such_name"])
    assert not compat_patches.is_importable("no_such_module")
