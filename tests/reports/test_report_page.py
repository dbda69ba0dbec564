"""The report of runs in a browser: controls, keys, hostile names, no external resources."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from chromium import open_page

from srgan_plugin.__main__ import main
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image
from srgan_plugin.reports.html import asset

from .conftest import HOSTILE
from .test_gallery import data_of
from .test_runs import CONFIG, step, write_session

BAD = HOSTILE.replace("/", "∕") + "\u2028"  # a file name has no slash
LINES = [
    step(n, 1 / n, out_d_real=n / 10, out_d_fake=-n / 10, **{"waiting": 0.1, HOSTILE: 1.0})
    for n in range(1, 50)
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """Return a report of two runs and three methods whose names all contain a script."""
    root = tmp_path_factory.mktemp("report")
    runs = [root / BAD, root / "srgan"]
    for run in runs:
        validation = [{f"{HOSTILE}/PSNR": 20 + n, "step": n} for n in (10, 49)]
        log = (
            "2026/01/01 10:00:00 - mmengine - INFO - \n    PyTorch: <img src=x onerror=alert(1)>\n"
        )
        write_session(run, "20260101_100000", [*LINES, *validation], log)
        (run / f"iter_{BAD}.pth").write_bytes(b"weights")
        (run / f"{BAD}.json").write_text(json.dumps({"Set5": {"PSNR": 30.0, HOSTILE: 1.0}}))
    hr, lr = (photographs / "Set5" / name for name in ("GTmod12", "LRbicx4"))
    rng = np.random.default_rng(0)
    for i, path in enumerate(sorted(hr.iterdir())):
        image = read_image(path)
        name = f"{BAD}{i}.png"
        write_image(root / "hr" / name, image)
        write_image(root / "lr" / name, read_image(lr / path.name))
        noisy = image + rng.normal(0, 5 + 20 * i, image.shape)
        write_image(root / "sr" / name, noisy.clip(0, 255).astype(np.uint8))
    images = [f"{name}={root / name}" for name in ("hr", "lr")] + [f"{HOSTILE}={root / 'sr'}"]
    page = root / "report.html"
    main(["report", *map(str, runs), "--title", HOSTILE, "--images", *images, "--out", str(page),
          "--reference", "msrresnet_x4c64b16_1x16_300k_div2k"])  # fmt: skip
    return page


def test_third_party_files_are_unchanged_and_their_licence_is_in_the_page(report: Path) -> None:
    rows = re.findall(r"^\| (\S+) \|.*\| (\w{64}) \|$", asset("SOURCES.md"), re.MULTILINE)
    assert len(rows) == 3
    for name, digest in rows:
        assert hashlib.sha256(asset(name).encode()).hexdigest() == digest
    text = report.read_text(encoding="utf-8")
    assert asset("uplot.js") in text
    assert "Permission is hereby granted" in text


class Markup(HTMLParser):
    """Tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_no_name_is_markup(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    tags = Markup(text).tags
    scripts = [attributes.get("type") for tag, attributes in tags if tag == "script"]
    assert scripts == ["application/json", "application/json", None]
    assert not [tag for tag, _ in tags if tag in ("img", "link", "iframe", "object", "base")]
    links = [a[name] for _, a in tags for name in ("src", "href", "action") if name in a]
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!data:)|@import|\bon\w+=\"", text.partition("<body>")[0])
    assert data_of(report, "curves-data")["runs"] == [BAD, "srgan"]
    assert CONFIG.splitlines()[0] in text


def test_published_values_are_beside_measured_ones(report: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", report.read_text(encoding="utf-8").partition("viewer-data")[0])
    row = re.search(r"Set5\s+PSNR\s+(\S+)\s+(\S+)\s+(\S+)", text)
    assert row
    assert row.groups() == ("30.225", "30.000", "-0.2252")


def text_of(page: Path) -> str:
    html = page.read_text(encoding="utf-8").partition('<script type="application/json"')[0]
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_an_incomplete_test_set_is_named_and_not_compared(tmp_path: Path) -> None:
    sets = {"Set5": {"PSNR": 30.0, "images": 3}, "Set14": {"PSNR": 26.0, "images": 14}}
    for name, content in (("now", sets), ("before", {"Set5": {"PSNR": 29.0}})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    page, model = tmp_path / "page.html", "msrresnet_x4c64b16_1x16_300k_div2k"
    files = [str(tmp_path / f"{name}.json") for name in ("now", "before")]
    main(["report", "--results", *files, "--reference", model, "--out", str(page)])
    text = text_of(page)
    assert "now Set5 3 of 5 30.000" in text
    assert "now Set14 14 26.000" in text
    assert "now Set14 PSNR 26.776 26.000" in text
    assert "now Set5 PSNR" not in text
    assert "Incomplete, so not compared with published values: Set5 (3 of 5 images; now)." in text
    assert "before Set5 PSNR 30.225 29.000" in text
    assert "the number of images is unknown for: before." in text


@pytest.mark.parametrize(("count", "compared"), [(5, True), (4, False), (None, True)])
def test_the_log_states_whether_a_validation_is_complete(
    tmp_path: Path, count: int | None, compared: bool
) -> None:
    log = (
        ""
        if count is None
        else f"2026/01/01 10:00:00 - mmengine - INFO - val set Set5: {count} images\n"
    )
    write_session(
        tmp_path / "run", "20260101_100000", [step(1, 0.1), {"Set5/PSNR": 30.0, "step": 1}], log
    )
    page, model = tmp_path / "page.html", "msrresnet_x4c64b16_1x16_300k_div2k"
    main(["report", str(tmp_path / "run"), "--reference", model, "--out", str(page)])
    text = text_of(page)
    assert ("Set5 PSNR 30.225 30.000" in text) == compared
    assert ("images is unknown for" in text) == (count is None)
    assert ("(4 of 5 images" in text) == (count == 4)


def test_settings_are_compared_within_a_toolbox(tmp_path: Path) -> None:
    for name, rate in (("a", 1), ("b", 2)):
        write_session(tmp_path / name, "20260101_100000", [step(1, 0.1)])
        config = tmp_path / name / "20260101_100000/vis_data/config.py"
        config.write_text(CONFIG + f"rate = {rate}\n")
        (tmp_path / f"{name}2").mkdir()
        (tmp_path / f"{name}2/train_x_20260101_100000.log").write_text("")
        (tmp_path / f"{name}2/x.yml").write_text(f"lr: {rate}{rate}\n")
    page = tmp_path / "page.html"
    runs = [str(tmp_path / name) for name in ("a", "a2", "b", "b2")]
    main(["report", *runs, "--out", str(page)])
    text = text_of(page)
    assert "Settings that differ from a setting a b rate 1 2 " in text
    assert "Settings that differ from a2 setting a2 b2 lr 11 22 " in text


def split(page: Any) -> float:
    return float(page.input_value("[data-part=split]"))


def clip(page: Any) -> str:
    return page.eval_on_selector("[data-part=right-image]", "e => e.style.clipPath")


def shown(page: Any, *parts: str) -> None:
    page.wait_for_function(
        "wanted => document.getElementById('viewer').dataset.shown === wanted", arg="|".join(parts)
    )


def pixels(page: Any, part: str) -> np.ndarray:
    source = page.eval_on_selector(f"[data-part={part}]", "canvas => canvas.toDataURL()")
    content = base64.b64decode(source.partition(",")[2])
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))


def test_the_divider_moves_by_mouse_keys_and_its_slider(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        stage = page.locator("[data-part=stage]")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        page.mouse.move(box["x"] + 10, box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
        page.mouse.up()
        assert split(page) == pytest.approx(25, abs=0.5)
        stage.focus()
        page.keyboard.press("ArrowRight")
        assert split(page) == pytest.approx(27, abs=0.5)
        page.focus("[data-part=split]")
        page.keyboard.press("End")
        assert split(page) == 100
        assert clip(page) == "inset(0px 0px 0px 100%)"


def test_keys_choose_images_methods_and_the_error_map(browser: Any, report: Path) -> None:
    # The second image has more noise: worst first.
    worst, best = f"{BAD}1", f"{BAD}0"
    with open_page(browser, report) as page:
        shown(page, worst, "bicubic", HOSTILE)
        page.focus("[data-part=stage]")
        page.keyboard.press("ArrowDown")
        shown(page, best, "bicubic", HOSTILE)
        page.keyboard.press("4")
        shown(page, best, "bicubic", "HR")
        page.keyboard.press("Shift+Digit1")
        shown(page, best, "LR", "HR")
        page.keyboard.press("x")
        shown(page, best, "HR", "LR")
        truth = read_image(report.parent / "hr" / f"{best}.png")
        np.testing.assert_array_equal(pixels(page, "left-image"), truth)
        page.keyboard.press("e")
        page.wait_for_function(
            "document.querySelector('[data-part=left-tag]').textContent.startsWith('Error')"
        )
        left = pixels(page, "left-image").reshape(-1, 3)
        assert np.unique(left, axis=0).tolist() == [[0, 0, 4]]  # HR against itself
        assert len(np.unique(pixels(page, "right-image").reshape(-1, 3), axis=0)) > 10
        page.keyboard.down(" ")
        assert clip(page) == "inset(0px 0px 0px 100%)"
        page.keyboard.up(" ")
        assert clip(page) == "inset(0px 0px 0px 50%)"


def test_the_magnifier_shows_the_same_place_of_all_methods(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        lenses = page.locator("[data-part=lenses] li")
        assert lenses.all_inner_texts() == ["LR", "bicubic", HOSTILE, "HR"]
        page.focus("[data-part=stage]")
        frame = "document.querySelector('[data-part=frame]').style.left"
        page.keyboard.press("Shift+ArrowLeft")
        before = page.evaluate(frame)
        for _ in range(30):
            page.keyboard.press("Shift+ArrowRight")
        assert page.evaluate(frame) != before
        page.keyboard.press("+")
        assert page.inner_text("[data-part=zoom-value]") == "×5"


def test_images_equal_to_hr_have_an_infinite_psnr_and_rank_first(
    browser: Any, tmp_path: Path, photographs: Path
) -> None:
    hr = photographs / "Set5" / "GTmod12"
    for i, path in enumerate(sorted(hr.iterdir())):
        write_image(tmp_path / "sr" / path.name, read_image(path) ^ np.uint8(i))
    page_file = tmp_path / "page.html"
    images = [f"HR={hr}", f"same={tmp_path / 'sr'}"]
    main(["report", "--images", *images, "--out", str(page_file)])
    with open_page(browser, page_file) as page:
        shown(page, "0001", "same", "HR")  # left and right are different methods
        assert page.locator("[data-part=strip] small").all_inner_texts()[1] == "∞"
        assert "∞" in page.inner_text("[data-part=scores] tbody")  # the mean over both images


def test_means_are_over_the_images_that_every_method_has(
    browser: Any, tmp_path: Path, photographs: Path
) -> None:
    hr = photographs / "Set5" / "GTmod12"
    for i, path in enumerate(sorted(hr.iterdir())):
        write_image(tmp_path / "both" / path.name, read_image(path) ^ np.uint8(4 + 4 * i))
    write_image(tmp_path / "one" / path.name, read_image(path) ^ np.uint8(1))
    page_file = tmp_path / "page.html"
    images = [f"{name}={tmp_path / name}" for name in ("both", "one")]
    main(["compare", *images, "--hr", str(hr), "--out", str(page_file)])
    with open_page(browser, page_file) as page:
        shown(page, "0001", "both", "one")
        assert "Missing: one of 0000" in page.inner_text("[data-part=warnings]")
        table = page.locator("[data-part=scores]")
        assert "over 1 of 2 images" in table.locator("caption").inner_text()
        cells = table.locator("tbody tr").first.locator("td").all_inner_texts()
        half = len(cells) // 2
        assert cells[:half] == cells[half:]  # the mean over the one image that both have
        page.focus("[data-part=stage]")
        page.keyboard.press("ArrowDown")
        shown(page, "0000", "both", "one")
        assert page.inner_text("[data-part=right-tag]") == "one: no such image"


def test_curves_are_smoothed_hidden_and_read_by_keyboard(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        figure = page.locator("#curves figure", has_text="pixel loss")
        assert BAD in figure.get_attribute("aria-label")
        figure.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.activeElement.textContent.includes('at 1')")
        plots = page.locator("#curves .uplot")
        before = plots.count()
        page.fill("#curves [data-part=smoothing]", "0.9")
        page.check("#curves [data-part=log]")
        assert plots.count() == before
        for box in page.locator("#curves [data-part=runs] input").all():
            box.uncheck()
        assert plots.count() == 0


# Controls lower than 24 pixels, the minimum of WCAG 2.2; a label counts as its control.
SMALL_TARGETS = """[...document.querySelectorAll("a, button, select, summary, input")]
  .map((e) => e.closest("label") ?? e)
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 24)
  .map((e) => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_content_is_wider_than_the_window(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 900}
    with open_page(browser, report, viewport=size, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(SMALL_TARGETS) == []
        colours = page.evaluate(
            "['color', 'backgroundColor'].map(n => getComputedStyle(document.body)[n])"
        )
        light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
        assert (light[0] > light[1]) == (scheme == "dark")
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
