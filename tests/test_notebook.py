"""The notebook of the documentation, its cells run in order."""

import json
from pathlib import Path

import pytest

from srgan_plugin.networks import MSRResNet
from tests.conftest import ROOT

pytest.importorskip("skimage", reason="needs the photographs of scikit-image")
NOTEBOOK = ROOT / "docs/quickstart.ipynb"


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_mmengine")
def test_the_notebook_runs_and_the_networks_beat_bicubic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for number, source in enumerate(sources, 1):
        exec(compile(source, f"{NOTEBOOK.name}, code cell {number}", "exec"), names)
    scores = names["scores"]
    assert isinstance(scores, dict)
    psnr = {name: values["PSNR"] for name, values in scores.items()}
    assert min(psnr["msrresnet"], psnr["trained"]) > psnr["bicubic"] + 0.5
    assert isinstance(names["network"], MSRResNet)


def test_the_notebook_is_stored_without_outputs_and_its_links_exist() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        for target in "".join(cell["source"]).split("](")[1:]:
            if cell["cell_type"] == "markdown":
                assert (NOTEBOOK.parent / target.partition(")")[0]).exists()
