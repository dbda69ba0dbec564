"""`mos make`: the page has every version of every image, bit for bit, and no method name."""

import base64
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from srgan_plugin.__main__ import main
from srgan_plugin.data.resize import imresize
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image
from srgan_plugin.reports.html import json_element
from srgan_plugin.reports.mos_study import seal, study_id, unseal

from .conftest import HOSTILE, Made
from .rater_files import data_of


def images_of(page: Path) -> dict[str, np.ndarray]:
    found = re.findall(r'id="image-(\w+)">([^<]*)<', page.read_text(encoding="utf-8"))
    decoded = {code: PIL.Image.open(io.BytesIO(base64.b64decode(text))) for code, text in found}
    return {code: np.array(image.convert("RGB")) for code, image in decoded.items()}


def test_the_page_has_every_version_bit_for_bit(made: Made) -> None:
    shown, key = images_of(made.page), unseal(data_of(made.page)["key"])
    assert key["methods"] == ["nearest", "HR", "bicubic", "Mild", HOSTILE]
    assert len(key["items"]) == 2 * 5
    assert set(key["items"]) < set(shown)
    for code, (method, image) in key["items"].items():
        lr = cv2.cvtColor(cv2.imread(str(made.lr / f"{image}.png")), cv2.COLOR_BGR2RGB)
        size = (lr.shape[1] * 4, lr.shape[0] * 4)
        if method == "nearest":
            expected = cv2.resize(lr, size, interpolation=cv2.INTER_NEAREST)
        elif method == "bicubic":
            expected = np.round(np.clip(imresize(lr / 255, 4), 0, 1) * 255)
        else:
            folder = made.hr if method == "HR" else made.folders[method]
            expected = cv2.imread(str(folder / f"{image}.png"))[..., ::-1]
        assert np.array_equal(shown[code], expected), (method, image)


def test_calibration_shows_nearest_neighbour_as_1_and_hr_as_5(made: Made) -> None:
    shown = images_of(made.page)
    (low, one), (high, five) = data_of(made.page)["calibration"]
    assert (one, five) == (1, 5)
    blocks = shown[low]
    assert np.array_equal(blocks, blocks[::4, ::4].repeat(4, 0).repeat(4, 1))
    assert any(np.array_equal(shown[high], read_image(path)) for path in made.hr.iterdir())


def test_the_page_has_no_method_name_and_no_link(made: Made) -> None:
    text = made.page.read_text(encoding="utf-8")
    names = {
        "Mild",
        "alert(1)",
        "mild_folder",
        "strong",
        "bicubic",
        "nearest",
        "GTmod12",
        "0000.png",
    }
    without_images = re.sub(r'id="image-\w+">[^<]*<', "", text)
    assert not [name for name in names if name in without_images]
    assert not re.search(r"https?://|src=|href=|url\(|@import", without_images.replace(".src", ""))


def test_the_order_of_images_in_the_file_does_not_reveal_methods(made: Made) -> None:
    data = data_of(made.page)
    codes = [code for code, _ in data["items"]]
    assert codes == sorted(codes)
    assert list(images_of(made.page)) == sorted(images_of(made.page))
    key = unseal(data["key"])
    assert [key["items"][code][0] for code in codes] != sorted(
        key["items"][code][0] for code in codes
    )


def test_the_seed_determines_the_page(made: Made, tmp_path: Path) -> None:
    options = ("--bicubic", "--repeats", "2", "--calibration-images", "1")
    main(made.command(*options, out=tmp_path / "same.html"))
    main(made.command(*options, "--seed", "1", out=tmp_path / "other.html"))
    assert (tmp_path / "same.html").read_bytes() == made.page.read_bytes()
    assert data_of(tmp_path / "other.html")["id"] != data_of(made.page)["id"]


def test_crop_shows_the_centre_and_max_images_samples(made: Made, tmp_path: Path) -> None:
    main(made.command("--crop", "32", "--max-images", "1", out=tmp_path / "out.html"))
    key, shown = unseal(data_of(tmp_path / "out.html")["key"]), images_of(tmp_path / "out.html")
    assert len(key["images"]) == 1
    assert {image.shape for image in shown.values()} == {(32, 32, 3)}
    code = next(code for code, (method, _) in key["items"].items() if method == "HR")
    whole = read_image(made.hr / f"{key['images'][0]}.png")
    top, left = ((side - 32) // 2 // 4 * 4 for side in whole.shape[:2])
    assert np.array_equal(shown[code], whole[top : top + 32, left : left + 32])


def test_calibration_images_can_come_from_another_folder(
    made: Made, photographs: Path, tmp_path: Path
) -> None:
    folder = photographs / "Set14" / "GTmod12"
    main(made.command("--calibration", str(folder), out=tmp_path / "out.html"))
    shown = images_of(tmp_path / "out.html")
    high = [
        shown[code] for code, score in data_of(tmp_path / "out.html")["calibration"] if score == 5
    ]
    wanted = [read_image(path) for path in sorted(folder.iterdir())]
    assert all(np.array_equal(*both) for both in zip(high, wanted, strict=True))


REFUSED = {
    "page too large": (["--max-mb", "0.01"], "--crop"),
    "name of an anchor": (["HR=somewhere"], "HR"),
    "an empty name": ([" =somewhere"], "expected a name before '=', got ' '"),
    "a name twice": (["Mild=somewhere"], "Mild twice"),
    "missing folder": (["More=missing_folder"], "missing_folder"),
    "not a page": (["--out", "study.txt"], ".html"),
    "too small a crop": (["--crop", "1"], "--crop"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused_in_one_line(
    case: str, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, named = REFUSED[case]
    command = made.command(out=tmp_path / "out.html")
    extra = arguments if arguments[0].startswith("-") else []
    command[2:2] = [] if extra else arguments
    with pytest.raises(SystemExit) as ended:
        main([*command, *extra])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 1
    assert error.startswith("error: ")
    assert named in error
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    ("rows", "named"),
    [(None, ["0001"]), (32, ["0000.png (32x72 instead of 60x72)", "0001.png (32x60"])],
)
def test_missing_images_and_images_of_the_wrong_size_are_named(
    made: Made,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: int | None,
    named: list[str],
) -> None:
    for path in sorted(made.hr.iterdir())[: 1 if rows is None else 2]:
        write_image(tmp_path / "more" / path.name, read_image(path)[:rows])
    command = made.command(out=tmp_path / "out.html")
    command.insert(2, f"More={tmp_path / 'more'}")
    with pytest.raises(SystemExit):
        main(command)
    error = capsys.readouterr().err
    assert all(name in error for name in named)
    assert "more" in error


@pytest.mark.parametrize("ending", ["x4", "_SRGAN"])
def test_names_of_a_method_may_have_an_additional_ending(
    made: Made, tmp_path: Path, ending: str
) -> None:
    for path in made.folders["Mild"].iterdir():
        write_image(tmp_path / "more" / f"{path.stem}{ending}.png", read_image(path))
    same = Made(made.page, {**made.folders, "Mild": tmp_path / "more"}, made.hr, made.lr)
    options = ("--bicubic", "--repeats", "2", "--calibration-images", "1")
    main(same.command(*options, out=tmp_path / "same.html"))
    assert (tmp_path / "same.html").read_bytes() == made.page.read_bytes()


def test_a_key_survives_encoding_and_determines_the_study_id() -> None:
    key = {"methods": [HOSTILE, "é"], "items": {}}
    assert unseal(seal(key)) == key
    assert HOSTILE not in seal(key)
    assert study_id(key) == study_id(dict(reversed(key.items()))) != study_id({**key, "items": 1})


def test_json_in_a_page_cannot_end_its_element() -> None:
    element = json_element("x", {"name": "</script><script>alert(1)</script>&\u2028"})
    assert element.count("<") == 2
    assert "\u2028" not in element
    assert json.loads(element.partition(">")[2].rpartition("<")[0])["name"].endswith("\u2028")
