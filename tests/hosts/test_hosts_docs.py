"""Every command of the two migration guides runs, on small pictures and small networks."""

import logging
import re
import runpy
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import pytest
import torch
import yaml

from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.data.prepare import div2k
from srgan_plugin.data.resize import make_lr
from srgan_plugin.networks import MSRResNet
from tests.conftest import ROOT, image

GUIDES = ("from-mmagic.md", "from-basicsr.md")
GENERATOR = "model.generator.mid_channels=8 model.generator.num_blocks=1"
NETWORK = "num_gpu=0 network_g:num_feat=8 network_g:num_block=1"
TRAINING = (
    f"{NETWORK} datasets:train:dataroot_gt=data/train datasets:train:gt_size=64 "
    "datasets:train:num_worker_per_gpu=0 datasets:train:batch_size_per_gpu=2 train:total_iter=1"
)
MAKES_DATA = "Make sub-images and LMDB"
# What makes each command small, appended to it.
SMALL = {
    "python -m srgan_plugin doctor": "",
    "python -m srgan_plugin mmagic test": f"--cfg-options {GENERATOR} custom_hooks=None",
    "python tools/test.py": GENERATOR,
    "python tools/basicsr_train.py -opt configs/basicsr/train_msrresnet_x4.yml": (
        f"--force_yml {TRAINING}"
    ),
    "python tools/basicsr_train.py -opt configs/basicsr/train_srgan_x4.yml": (
        f"--force_yml {TRAINING} path:pretrain_network_g=~ network_d:num_feat=4 "
        "network_d:input_size=64 train:perceptual_opt:pretrained=VGG"
    ),
    "python tools/basicsr_test.py": NETWORK,
}


def section(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def commands() -> Iterator[tuple[str, str]]:
    for guide in GUIDES:
        text = (ROOT / "docs" / guide).read_text()
        text = text.replace(section(text, MAKES_DATA), "")  # tested below
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
            for line in block.splitlines():
                if line.startswith("python "):
                    yield guide, line


@pytest.fixture
def home(
    mmagic: ModuleType,
    photographs: Path,
    random_vgg: Path,
    fresh_mmengine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """A checkout with data in place; returns what the placeholders of the guides stand for."""
    for folder in ("configs", "tools"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    data = tmp_path / "data"
    data.mkdir()
    for folder in ("train", "Set5", "Set14"):
        (data / folder).symlink_to(photographs / folder)
    # MMagic's own test wants validation pictures of DIV2K as well.
    for folder, source in (("DIV2K_train_HR_sub", "GTmod12"), ("X4_sub", "LRbicx4")):
        parent = data / "DIV2K" / ("DIV2K_train_LR_bicubic" if folder == "X4_sub" else "")
        parent.mkdir(parents=True, exist_ok=True)
        (parent / folder).symlink_to(photographs / "Set5" / source)
    (data / "DIV2K/meta_info_DIV2K100sub_GT.txt").write_text("0000.png (60,72,3)\n")
    torch.manual_seed(0)
    network = MSRResNet(mid_channels=8, num_blocks=1)
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    arch_options = {"activate_after_shuffle": True}  # as BasicSR's networks
    convert(tmp_path / "bare.pth", tmp_path / "basicsr.pth", to="basicsr", arguments=arch_options)
    state = {f"generator.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "mm.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SRGAN_DATA", raising=False)
    mim = Path(mmagic.__file__).parent / ".mim"
    return {"MMAGIC": str(mim), "VGG": str(random_vgg), "CHECKPOINT": "mm.pth"}


@pytest.mark.slow
@pytest.mark.parametrize(("guide", "line"), list(commands()))
def test_a_command_of_the_guides_runs(
    home: dict[str, str],
    guide: str,
    line: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (small,) = (words for start, words in SMALL.items() if line.startswith(start))
    if guide == "from-basicsr.md":
        request.getfixturevalue("quiet_basicsr")
        home["CHECKPOINT"] = "basicsr.pth"
    line = f"{line} {small}"
    for placeholder, value in home.items():
        line = re.sub(rf"\b{placeholder}\b", value, line)
    _, *words = shlex.split(line)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    try:
        if words[0] == "-m":
            monkeypatch.setattr(sys, "argv", words[1:])
            runpy.run_module(words[1], run_name="__main__", alter_sys=False)
        else:
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")
    finally:
        logging.getLogger("basicsr").handlers.clear()
    heard = capsys.readouterr()
    assert "error: " not in heard.err
    proof = {"doctor": "BasicSR", "basicsr": "psnr: ", "test": "PSNR"}
    assert next(word for key, word in proof.items() if key in line) in heard.out + heard.err


def run_tool(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, *words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    runpy.run_path(str(ROOT / words[0]), run_name="__main__")


@pytest.mark.slow
def test_basicsr_reads_the_data_that_its_guide_makes_of_archives(
    basicsr: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basicsr.data import build_dataset

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SRGAN_DATA", raising=False)
    monkeypatch.setattr(div2k, "TRAIN", range(1, 3))
    hr = {f"{number:04d}": image(480, 492, seed=number) for number in div2k.TRAIN}
    for name, files in (
        ("HR", {f"{key}.png": pixels for key, pixels in hr.items()}),
        ("LR_bicubic_X4", {f"{key}x4.png": make_lr(pixels, 4) for key, pixels in hr.items()}),
    ):
        path = tmp_path / f"data/DIV2K/DIV2K_train_{name}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for file, pixels in files.items():
                archive.writestr(file, cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    text = section((ROOT / "docs/from-basicsr.md").read_text(), MAKES_DATA)
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        for line in block.replace("\\\n", "").splitlines():
            run_tool(line, monkeypatch)
    settings = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    assert [each["datasets"]["train"]["io_backend"]["type"] for each in settings] == [
        "lmdb",
        "disk",
    ]
    more = {"phase": "train", "scale": 4, "gt_size": 480, "use_hflip": False, "use_rot": False}
    for each in settings:
        opt = each["datasets"]["train"] | more
        theirs = build_dataset(opt | {"io_backend": dict(opt["io_backend"])})
        ours = build_dataset(opt | {"type": f"{opt['type']}_srgan_plugin"})
        assert len(theirs) == len(ours) == 2 * 2  # 492 pixels: two pieces
        for a, b in zip(theirs, ours, strict=True):
            assert torch.equal(a["gt"], b["gt"])
            assert torch.equal(a["lq"], b["lq"])
    first = torch.from_numpy(hr["0001"][:, :480].transpose(2, 0, 1).copy()) / 255
    assert torch.equal(ours[0]["gt"], first)


def test_a_prefix_in_type_imports_this_package_and_leaves_mmagics_class_as_it_is(
    mmagic: ModuleType,
) -> None:
    script = """
import sys
from mmengine.registry import MODELS
settings = dict(type='srgan_plugin.MSRResNet', mid_channels=4, num_blocks=1)
assert not any(name.startswith('srgan_plugin') for name in sys.modules)
assert type(MODELS.build(settings)).__module__ == 'srgan_plugin.networks.generators'
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    from mmagic.registry import MODELS

    own = MODELS.build({"type": "srgan_plugin.MSRResNet", "mid_channels": 4, "num_blocks": 1})
    assert isinstance(own, MSRResNet)
    assert MODELS.get("MSRResNet").__module__.startswith("mmagic.")
