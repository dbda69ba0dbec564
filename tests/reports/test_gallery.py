"""Comparisons of images: matching by name, metrics, encoding, and `srgan-plugin compare`."""

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from srgan_plugin import upscale
from srgan_plugin.__main__ import main
from srgan_plugin.checkpoints import save_atomically
from srgan_plugin.data.resize import imresize, make_lr
from srgan_plugin.errors import UserError
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image
from srgan_plugin.metrics import Scorer, quantize
from srgan_plugin.networks import MSRResNet
from srgan_plugin.reports import comparison
from srgan_plugin.reports import gallery as gallery_module
from srgan_plugin.reports.gallery import gallery_of_folders, viewer_data
from srgan_plugin.reports.image_sizes import find_scale

Folders = dict[str, Path]


def data_of(page: Path, name: str) -> Any:
    text = page.read_text(encoding="utf-8").split(f'id="{name}">')[1].split("</script>")[0]
    return json.loads(text)


def decoded(source: str) -> np.ndarray:
    content = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.fixture
def folders(photographs: Path, tmp_path: Path) -> Folders:
    hr, sr = photographs / "Set5" / "GTmod12", tmp_path / "sr" / "Set5"
    rng = np.random.default_rng(0)
    for path in hr.iterdir():
        image = read_image(path)
        noisy = image + rng.normal(0, 9, image.shape)
        write_image(sr / path.name, noisy.clip(0, 255).astype(np.uint8))
    return {"GT": hr, "lr": photographs / "Set5" / "LRbicx4", "mine": sr.parent}


def encoded(folders: Folders, **options: Any) -> dict[str, Any]:
    return viewer_data(gallery_of_folders(folders), progress=lambda *_: None, **options)


def test_folders_are_matched_measured_and_shown_in_one_order(folders: Folders) -> None:
    data = encoded(folders)
    assert data["methods"] == ["LR", "bicubic", "mine", "HR"]
    assert data["reference"] == "HR"
    row = data["images"][0]
    truth = read_image(folders["GT"] / f"{row['name']}.png")
    mine = read_image(folders["mine"] / "Set5" / f"{row['name']}.png")
    expected = Scorer(("basicsr", "y"), border=4).score(mine, truth)
    assert {n: row["scores"]["mine"][n] for n in expected} == pytest.approx(expected, abs=1e-5)
    lr = make_lr(truth, 4)
    for method, image in {
        "HR": truth, "mine": mine, "LR": lr, "bicubic": quantize(imresize(lr / 255, 4))
    }.items():  # fmt: skip
        np.testing.assert_array_equal(decoded(row["sources"][method]), image)


def test_names_with_an_additional_ending_are_matched(folders: Folders, tmp_path: Path) -> None:
    for path in (folders["mine"] / "Set5").iterdir():
        write_image(tmp_path / "basicsr" / f"{path.stem}_srgan_x4.png", read_image(path))
    data = encoded({**folders, "basicsr": tmp_path / "basicsr"})
    assert all({"mine", "basicsr"} <= set(row["sources"]) for row in data["images"])


def test_hr_is_cropped_as_test_sets_are(folders: Folders, tmp_path: Path) -> None:
    for path in folders["GT"].iterdir():
        image = np.pad(read_image(path), ((0, 5), (0, 11), (0, 0)))
        write_image(tmp_path / "larger" / path.name, image)
        write_image(tmp_path / "too_large" / path.name, np.pad(image, ((0, 9), (0, 0), (0, 0))))
    same = encoded({**folders, "GT": tmp_path / "larger"})
    assert same["images"] == encoded(folders)["images"]
    assert not same["warnings"]
    other = encoded({**folders, "GT": tmp_path / "too_large"})
    assert not any("PSNR" in row["scores"].get("mine", {}) for row in other["images"])
    assert "HR of 0000 (83x74)" in other["warnings"][0]


def test_an_image_of_another_size_is_shown_and_named_but_not_measured(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(folders["GT"].iterdir())
    write_image(tmp_path / "large" / first.name, read_image(first).repeat(2, 0).repeat(2, 1))
    write_image(tmp_path / "large" / second.name, read_image(second))
    data = encoded({"other": folders["GT"], **folders, "large": tmp_path / "large"})
    odd, fit = data["images"]
    assert odd["odd"] == ["large"]
    assert fit["odd"] == []
    assert (odd["height"], odd["width"]) == read_image(first).shape[:2]
    assert "large" not in odd["scores"]
    assert fit["scores"]["large"]["SSIM"] == 1
    assert decoded(odd["sources"]["large"]).shape[0] == 2 * odd["height"]
    (warning,) = data["warnings"]
    assert "large of 0000 (144x120)" in warning
    assert "0001" not in warning
    tie = encoded({"large": tmp_path / "large", "a": folders["mine"], "HR": folders["GT"]})
    assert tie["images"][0]["odd"] == ["large"]  # equally frequent sizes: HR decides
    pairs = [f"a={folders['GT']}", f"large={tmp_path / 'large'}"]
    with pytest.raises(SystemExit):
        main(["compare", *pairs, "--out", str(tmp_path / "sheet.png")])
    assert "0000: expected images of one size" in capsys.readouterr().err


def test_grey_and_16_bit_images_are_shown_and_missing_ones_are_named(
    folders: Folders, tmp_path: Path
) -> None:
    _, second = sorted((folders["mine"] / "Set5").iterdir())
    colours = cv2.imread(str(second))
    for name, image in {
        "grey": cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY), "deep": colours.astype(np.uint16) * 256
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / second.name), image)
    data = encoded({**folders, "grey": tmp_path / "grey", "deep": tmp_path / "deep"})
    assert data["methods"] == ["LR", "bicubic", "mine", "grey", "deep", "HR"]
    assert data["warnings"] == ["Missing: grey of 0000, deep of 0000."]
    sources = data["images"][1]["sources"]
    rounded = np.rint(read_image(second) * 256.0 / 257)
    np.testing.assert_array_equal(decoded(sources["deep"]), rounded)
    assert np.ptp(decoded(sources["grey"]), axis=2).max() == 0


def test_folders_are_matched_if_each_has_an_ending(folders: Folders, tmp_path: Path) -> None:
    for ending in ("_SRGAN", "_rlt", ""):
        for path in (folders["mine"] / "Set5").iterdir():
            write_image(tmp_path / f"m{ending}" / f"{path.stem}{ending}.png", read_image(path))
    data = encoded({name: tmp_path / name for name in ("m_SRGAN", "m_rlt", "m")})
    assert [row["name"] for row in data["images"]] == ["0000", "0001"]
    assert all(len(row["sources"]) == 3 for row in data["images"])


def test_compare_shows_named_folders_without_upscaling(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = ["--out", str(tmp_path / "page.html")]
    outputs, truth = str(folders["mine"] / "Set5"), str(folders["GT"])
    main(["compare", f"mine={outputs}", "--hr", truth, *page])
    data = data_of(tmp_path / "page.html", "viewer-data")
    assert data == json.loads(json.dumps(encoded({"mine": Path(outputs), "HR": folders["GT"]})))
    for arguments, words in (
        ([outputs, truth], f"compare Set5={outputs} GTmod12={truth}"),
        ([f"mine={outputs}", truth], "got no NAME"),
        ([f"mine={outputs}", f"mine={truth}"], "mine twice"),
        ([f"mine={outputs}", "--models", "srgan"], "no --models"),
        ([f"mine={outputs}", "--crop", "0"], "--crop: expected a number of at least 1"),
        ([f"mine={outputs}", "--device", "cuda"], "no --models, --crop, --scale, --tta, --device"),
    ):
        with pytest.raises(SystemExit):
            main(["compare", *arguments, *page])
        assert words in capsys.readouterr().err


def test_folders_without_common_names_are_refused(folders: Folders, tmp_path: Path) -> None:
    write_image(tmp_path / "others" / "x.png", np.zeros((60, 72, 3), np.uint8))
    with pytest.raises(UserError, match=r"others: expected images with the names of"):
        encoded({**folders, "other": tmp_path / "others"})
    for name in ("a", "b"):
        write_image(tmp_path / "twice" / name / "0000.png", np.zeros((60, 72, 3), np.uint8))
    with pytest.raises(UserError, match="several named 0000"):
        encoded({**folders, "other": tmp_path / "twice"})


def test_without_hr_psnr_and_ssim_are_not_measured(folders: Folders) -> None:
    data = encoded({"a": folders["mine"], "b": folders["GT"]})
    assert data["reference"] is None
    assert all(not row["scores"] for row in data["images"])


def test_the_infinite_psnr_of_equal_images_is_null(folders: Folders) -> None:
    data = encoded({"HR": folders["GT"], "same": folders["GT"]})
    assert data["metrics"][0] == "PSNR"
    assert "PSNR and SSIM" in data["note"]
    assert all(row["scores"]["same"]["PSNR"] is None for row in data["images"])


def test_the_quality_is_reduced_until_the_images_fit(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossless = encoded(folders)
    assert "without loss" in lossless["note"]
    size = sum(len(s) for row in lossless["images"] for s in row["sources"].values())
    monkeypatch.setattr(gallery_module, "_BUDGET", size * 3 // 4 // 2)
    smaller = encoded(folders)
    assert sum(len(s) for row in smaller["images"] for s in row["sources"].values()) < size * 0.75
    assert "WebP of quality" in smaller["note"]
    assert [row["scores"] for row in smaller["images"]] == [
        row["scores"] for row in lossless["images"]
    ]
    assert "quality 50" in encoded(folders, quality=50)["note"]
    assert encoded(folders, quality=100)["images"] == lossless["images"]


def test_compare_writes_a_page_and_a_sheet(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, sheet = tmp_path / "page.html", tmp_path / "sheet.png"
    hr = ["--hr", str(folders["GT"])]
    main(["compare", str(folders["lr"]), *hr, "--models", "bicubic,srgan", "--out", str(page)])
    assert "page.html: 0." in capsys.readouterr().out
    data = data_of(page, "viewer-data")
    assert data["methods"] == ["LR", "bicubic", "SRGAN", "HR"]
    assert all(row["scores"]["SRGAN"]["PSNR"] > 10 for row in data["images"])
    one = str(folders["lr"] / "0000.png")
    main(["compare", one, "--models", "bicubic", "--crop", "8", "--out", str(sheet)])
    assert read_image(sheet).shape == (2 * 28 + 32 + 96, 2 * 100, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.png"], "none.png"),
        (["=folder"], "NAME=FOLDER"),
        (["--models", ",", "IMAGE"], "--models: expected"),
        (["--out", "x.jpg", "IMAGE"], "--out: expected a name"),
        (["--hr", "EMPTY", "IMAGE"], "expected images"),
        (["--quality", "80", "--out", "x.png", "IMAGE"], "--quality: expected a page"),
        (["--models", "none.pth", "IMAGE"], "none.pth"),
    ],
)
def test_compare_refuses_bad_arguments_in_one_line(
    arguments: list[str],
    words: str,
    folders: Folders,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    places = {"IMAGE": str(folders["lr"] / "0000.png")}
    with pytest.raises(SystemExit):
        main(["compare", *(places.get(a, a) for a in arguments)])
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def phone_images(folder: Path) -> np.ndarray:
    """Write images in the formats of phones and scanners, and return the pixels of one."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rgb = np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn right to view
    PIL.Image.fromarray(rgb).save(folder / "Süd 1.png", exif=exif)
    PIL.Image.fromarray(rgb).convert("P").save(folder / "alt.gif")
    PIL.Image.fromarray(np.dstack([rgb, np.full((24, 32), 51, np.uint8)])).save(folder / "a.png")
    PIL.Image.fromarray(rgb[..., 0]).save(folder / "grau.png")
    PIL.Image.fromarray(rgb[..., 0]).save(folder / "grau.jpg")
    PIL.Image.fromarray(rgb).convert("CMYK").save(folder / "druck.jpg")
    (folder / "notes.txt").write_text("x")
    return rgb


def test_compare_reads_the_formats_of_upscale_and_names_files_that_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, page = tmp_path / "Urlaub ü", tmp_path / "Urlaub ü" / "page.html"
    rgb = phone_images(folder)
    for _ in range(2):  # the second time the result is in the folder of the inputs
        with pytest.raises(SystemExit) as ended:
            main(["compare", str(folder), "--models", "bicubic", "--out", str(page)])
        assert ended.value.code == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert "got CMYK" in lines[0]
    rows = {row["name"]: row["sources"] for row in data_of(page, "viewer-data")["images"]}
    assert list(rows) == ["Süd 1", "a", "alt", "grau.jpg", "grau.png"]
    np.testing.assert_array_equal(decoded(rows["Süd 1"]["LR"]), np.rot90(rgb, -1))
    over_white = np.rint(rgb * 0.2 + 255 * 0.8)
    np.testing.assert_array_equal(decoded(rows["a"]["LR"]), over_white)
    grey = np.repeat(rgb[..., :1], 3, axis=2)
    np.testing.assert_array_equal(decoded(rows["grau.png"]["LR"]), grey)
    sheet = folder / "sheet.png"
    for _ in range(2):
        with pytest.raises(SystemExit):
            main(["compare", str(folder), "--models", "bicubic", "--out", str(sheet)])
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert read_image(sheet).shape[0] > 5 * 2 * 28


def test_compare_applies_scale_and_self_ensemble_as_upscale_does(
    folders: Folders, tmp_path: Path
) -> None:
    page, one = tmp_path / "page.html", folders["lr"] / "0000.png"
    pattern = [str(folders["lr"] / "*0.png"), "--models", "bicubic,msrresnet"]
    main(["compare", *pattern, "--scale", "2.5", "--tta", "--out", str(page)])
    (row,) = data_of(page, "viewer-data")["images"]
    assert list(row["sources"]) == ["LR", "bicubic", "MSRResNet, tta"]
    lr = read_image(one)
    expected = {
        "MSRResNet, tta": upscale(lr, scale=2.5, tta=True),
        "bicubic": quantize(imresize(lr / 255, output_size=upscale(lr, scale=2.5).shape[:2])),
    }
    for label, image in expected.items():
        np.testing.assert_array_equal(decoded(row["sources"][label]), image)
    sheet = tmp_path / "sheet.png"
    main(["compare", str(one), "--models", "bicubic", "--scale", "1.5", "--out", str(sheet)])
    assert read_image(sheet).shape[1] >= 2 * lr.shape[1] * 1.5


def test_compare_matches_hr_despite_an_ending_and_crops_it(
    folders: Folders, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    for path in folders["GT"].iterdir():
        image = np.pad(read_image(path), ((0, 3), (0, 2), (0, 0)))
        write_image(tmp_path / "HR" / path.name, image)
        lr = read_image(folders["lr"] / path.name)
        write_image(tmp_path / "X4" / f"{path.stem}x4.png", lr)
    arguments = ["--models", "bicubic", "--out", str(page)]
    main(["compare", str(tmp_path / "X4"), "--hr", str(tmp_path / "HR"), *arguments])
    found = data_of(page, "viewer-data")["images"]
    main(["compare", str(folders["lr"]), "--hr", str(folders["GT"]), *arguments])
    assert found == data_of(page, "viewer-data")["images"]
    assert all(row["scores"]["bicubic"]["PSNR"] > 10 for row in found)


@pytest.mark.parametrize("tta", [False, True])
def test_no_model_takes_the_place_of_another_of_its_name(
    folders: Folders, tmp_path: Path, tta: bool
) -> None:
    network = MSRResNet(mid_channels=8, num_blocks=1)
    files = [tmp_path / name for name in ("a/net.pth", "b/net.pth", "MSRResNet.pth", "bicubic.pth")]
    for file in files:
        save_atomically(network.state_dict(), file)
    models = ",".join(["bicubic", *map(str, files), "msrresnet"])
    page = tmp_path / "page.html"
    options = ["--models", models, "--crop", "8", "--out", str(page), *["--tta"] * tta]
    main(["compare", str(folders["lr"] / "0000.png"), *options])
    (row,) = data_of(page, "viewer-data")["images"]
    assert len(row["sources"]) == 2 + len(files) + 1  # LR and bicubic
    assert len(set(row["sources"])) == len(row["sources"])


def test_bicubic_of_hr_of_another_scale_than_the_first_is_named(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, scale in (("a", 4), ("b", 2)):
        write_image(tmp_path / "lr" / f"{name}.png", np.zeros((24, 30, 3), np.uint8))
        write_image(
            tmp_path / "hr" / f"{name}.png", np.zeros((24 * scale, 30 * scale, 3), np.uint8)
        )
    sheet = tmp_path / "sheet.png"
    arguments = [str(tmp_path / "lr"), "--hr", str(tmp_path / "hr"), "--models", "bicubic"]
    with pytest.raises(SystemExit):
        main(["compare", *arguments, "--out", str(sheet)])
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.png: expected an HR image of 96x120" in line
    assert sheet.is_file()


def test_an_image_that_does_not_fit_into_memory_does_not_end_the_comparison(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    plain = comparison.upscale_bicubic

    def full(lr: np.ndarray, scale: float) -> np.ndarray:
        monkeypatch.setattr(comparison, "upscale_bicubic", plain)
        raise MemoryError("out of memory")

    monkeypatch.setattr(comparison, "upscale_bicubic", full)
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit):
        main(["compare", str(folders["lr"]), "--models", "bicubic", "--out", str(page)])
    assert "0000.png: out of memory" in capsys.readouterr().err
    assert len(data_of(page, "viewer-data")["images"]) == len(list(folders["lr"].iterdir())) - 1


@pytest.mark.parametrize("factor", [2, 8])
@pytest.mark.parametrize("crop", [[], ["--crop", "8"]])
def test_hr_of_another_size_is_named_before_it_is_cropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: int, crop: list[str]
) -> None:
    write_image(tmp_path / "lr/a.png", np.zeros((24, 30, 3), np.uint8))
    write_image(tmp_path / "hr/a.png", np.zeros((24 * factor, 30 * factor, 3), np.uint8))
    arguments = [str(tmp_path / "lr"), "--hr", str(tmp_path / "hr"), "--models", "msrresnet"]
    with pytest.raises(SystemExit):
        main(["compare", *arguments, *crop, "--out", str(tmp_path / "sheet.png")])
    assert "a.png: expected an HR image of 96x120 (height x width)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["LR", "HR"])
def test_a_sheet_may_be_of_lr_or_of_hr_alone(folders: Folders, tmp_path: Path, name: str) -> None:
    folder = folders["lr" if name == "LR" else "GT"]
    main(["compare", f"{name}={folder}", "--out", str(tmp_path / "sheet.png")])
    assert (tmp_path / "sheet.png").is_file()


def test_rows_of_a_sheet_begin_with_the_name_of_their_image(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[str]] = []
    monkeypatch.setattr(comparison, "sheet", lambda labelled: rows.extend(map(list, labelled)))
    comparison.comparison_sheet(gallery_of_folders({"mine": folders["mine"]}))
    assert [row[0] for row in rows[::2]] == [
        f"{path.stem}: mine" for path in sorted((folders["mine"] / "Set5").iterdir())
    ]


def test_a_bicubic_image_that_its_folder_lacks_is_missing_and_not_computed(
    folders: Folders, tmp_path: Path
) -> None:
    first, _ = sorted(folders["GT"].iterdir())
    write_image(tmp_path / "cubic" / first.name, read_image(first))
    data = encoded({**folders, "Bicubic": tmp_path / "cubic"})
    assert data["warnings"] == ["Missing: bicubic of 0001."]
    assert ["bicubic" in row["sources"] for row in data["images"]] == [True, False]
    assert "imresize" not in data["note"]


@pytest.mark.parametrize("pair", [("GT", "HR"), ("LR", "lq"), ("bicubic", "Bicubic")])
def test_two_folders_with_names_of_one_method_are_refused(
    folders: Folders, pair: tuple[str, str]
) -> None:
    one, other = folders["GT"], folders["mine"]
    with pytest.raises(UserError, match="expected one folder of") as caught:
        gallery_of_folders({pair[0]: one, "mine": other, pair[1]: other})
    assert all(f"{name}=" in str(caught.value) for name in pair)


def test_compare_refuses_a_second_folder_of_hr(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"GT={folders['GT']}", f"mine={folders['mine']}", "--hr", str(folders["GT"])]
    with pytest.raises(SystemExit):
        main(["compare", *names, "--out", str(tmp_path / "page.html")])
    assert "GT=" in capsys.readouterr().err


@pytest.mark.parametrize("quality", [None, 80])
@pytest.mark.parametrize("shape", [(12, 16384, 3), (16384, 12, 3)])
def test_an_image_larger_than_webp_allows_is_named_in_one_line(
    tmp_path: Path, shape: tuple[int, int, int], quality: int | None
) -> None:
    write_image(tmp_path / "a" / "wide.png", np.zeros(shape, np.uint8))
    fits = tuple(min(side, 16383) for side in shape)
    write_image(tmp_path / "b" / "wide.png", np.zeros(fits, np.uint8))
    with pytest.raises(UserError, match=r"^a of wide: expected at most 16383 .*16384"):
        encoded({"a": tmp_path / "a"}, quality=quality)
    assert encoded({"b": tmp_path / "b"}, quality=quality)["images"][0]["sources"]["b"]


def test_an_image_too_small_for_psnr_is_shown_and_named(folders: Folders, tmp_path: Path) -> None:
    for method in ("HR", "mine"):  # 11 pixels for SSIM, and a border of 4 on each side
        for name, side in (("small", 18), ("large", 19)):
            image = np.random.default_rng(0).integers(0, 256, (side, 30, 3), np.uint8)
            write_image(tmp_path / method / f"{name}.png", image)
    data = encoded({"mine": tmp_path / "mine", "HR": tmp_path / "HR"})
    scores = {row["name"]: row["scores"] for row in data["images"]}
    assert scores["small"] == {}
    assert scores["large"]["mine"]["SSIM"] == 1
    (warning,) = data["warnings"]
    assert "under 19 pixels: small." in warning


@pytest.mark.parametrize("scale", [1.2, 2.5, 3])
def test_folders_of_any_scale_are_compared_with_bicubic_of_their_size(
    tmp_path: Path, scale: float
) -> None:
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (67, 71), "b": (80, 60)}.items():
        size = round(scale * height), round(scale * width)
        lr = rng.integers(0, 256, (height, width, 3), np.uint8)
        for method, image in {
            "LR": lr,
            "mine": quantize(imresize(lr / 255, output_size=size)),
        }.items():
            write_image(tmp_path / method / f"{name}.png", image)
        write_image(tmp_path / "HR" / f"{name}.png", rng.integers(0, 256, (*size, 3), np.uint8))
    data = encoded({name: tmp_path / name for name in ("LR", "mine", "HR")})
    assert data["warnings"] == []
    assert f"imresize of LR, x{scale:g}" in data["note"]
    for row in data["images"]:
        assert row["sources"]["bicubic"] == row["sources"]["mine"]
        assert row["scores"]["bicubic"]["PSNR"] == row["scores"]["mine"]["PSNR"]
    page = tmp_path / "page.html"
    names = [str(tmp_path / "LR"), "--hr", str(tmp_path / "HR"), "--models", "bicubic"]
    main(["compare", *names, "--out", str(page)])
    upscaled = data_of(page, "viewer-data")["images"]
    assert [r["sources"]["bicubic"] for r in upscaled] == [
        r["sources"]["bicubic"] for r in data["images"]
    ]


@pytest.mark.parametrize(
    ("small", "large", "is_hr", "expected"),
    [
        ((18, 15), (83, 71), True, 4),  # HR not yet cropped to a multiple of 12
        ((19, 15), (73, 57), False, 4),  # LR was rounded up
        ((19, 30), (48, 75), False, 2.5),
        ((12, 12), (54, 54), True, 4),  # 48 and 6 pixels more, not x4.5
        ((20, 20), (91, 85), True, 4),  # cropped to other multiples
        ((100, 60), (150, 90), True, 1.5),
        ((20, 20), (30, 30), True, 1.5),  # and not x1 and ten pixels more
        ((20, 20), (50, 50), True, 2.5),
        ((100, 100), (50, 50), True, 0.5),
        ((100, 100), (10, 10), True, 0),
        ((100, 60), (137, 200), False, 1),  # not one scale
    ],
)
def test_the_scale_is_the_simplest_with_which_the_sizes_agree(
    small: tuple[int, int], large: tuple[int, int], is_hr: bool, expected: float
) -> None:
    assert find_scale(small, large, is_hr=is_hr) == expected


def test_an_image_that_no_method_has_is_named(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folders["GT"], tmp_path / "hr")
    write_image(tmp_path / "hr/more.png", np.zeros((60, 72, 3), np.uint8))
    outputs = folders["mine"] / "Set5"
    page = ["--out", str(tmp_path / "page.html")]
    main(["compare", f"mine={outputs}", "--hr", str(tmp_path / "hr"), *page])
    assert "WARNING: not shown, because only LR or HR have them: more" in capsys.readouterr().err
