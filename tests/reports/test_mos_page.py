"""The page of a study in a browser: what a rater sees, and what is stored and saved."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from chromium import launch, open_page, watched

from srgan_plugin.__main__ import main
from srgan_plugin.reports.mos_ratings import read_ratings
from srgan_plugin.reports.mos_study import unseal

from .conftest import HOSTILE, Made
from .rater_files import data_of, rater_file
from .test_mos_make import images_of

EXAMPLES = 2
TRIALS = 12


def start(page: Any, rater: str = "Ann", *, until: int | None = None) -> None:
    page.fill("#rater", rater)
    page.keyboard.press("Enter")
    for score in (1, 5)[:until]:
        press(page, score)


def press(page: Any, key: int | str) -> None:
    page.wait_for_selector("#image:visible")
    page.keyboard.press(str(key))  # which hides it at once


def order_of(page: Any, rater: str = "Ann") -> list[str]:
    name = next(n for n in page.evaluate("Object.keys(localStorage)") if n.endswith(f"/{rater}"))
    return json.loads(page.evaluate("name => localStorage[name]", name))["order"]


def rate(page: Any, score: Callable[[str], int], codes: list[str]) -> None:
    """Press a key for each image as soon as it is shown."""
    page.evaluate(
        """async (scores) => {
          for (const score of scores) {
            while (document.getElementById("image").hidden)
              await new Promise(requestAnimationFrame);
            document.dispatchEvent(new KeyboardEvent("keydown", { key: String(score) }));
          }
        }""",
        [score(code) for code in codes],
    )


def saved(page: Any, target: Path, button: str = "#end .save") -> dict[str, Any]:
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(target)
    return json.loads(target.read_text(encoding="utf-8"))


def test_the_saved_file_has_the_scores_that_were_pressed(
    browser: Any, made: Made, tmp_path: Path
) -> None:
    data = data_of(made.page)
    scenes, key = dict(data["items"]), unseal(data["key"])
    score = {code: 1 + index % 5 for index, code in enumerate(scenes)}.__getitem__
    with open_page(browser, made.page) as page:
        start(page)
        page.click("#begin")
        rate(page, score, order := order_of(page))
        page.wait_for_selector("#end:visible")
        file = saved(page, tmp_path / "ann.json")
    assert file["rater"] == "Ann"
    assert file["study"] == data["id"]
    assert unseal(file["key"]) == key
    assert [entry["rating"] for entry in file["ratings"]] == [score(code) for code in order]
    assert file["order"] == order
    assert sorted(order) == sorted([*scenes, *data["repeats"]])
    assert all(entry["magnification"] == 1 and entry["seconds"] >= 0 for entry in file["ratings"])
    assert file["started"] < file["finished"]
    ratings = read_ratings([tmp_path / "ann.json"])
    cells = {tuple(cell): score(code) for code, cell in key["items"].items()}
    expected = [[cells[method, i] for i in ratings.images] for method in ratings.methods]
    assert ratings.scores.tolist() == [expected]
    for code in data["repeats"]:  # not directly after one another
        first, second = (index for index, other in enumerate(order) if other == code)
        assert second - first > 1


def test_each_rater_gets_a_random_order_without_repeating_a_scene(browser: Any, made: Made) -> None:
    data = data_of(made.page)
    with open_page(browser, made.page) as page:
        orders = []
        for rater in ("Ann", "Bob", "Cem"):
            start(page, rater, until=0)
            orders.append(order_of(page, rater))
            page.reload()
    assert len(set(map(tuple, orders))) == 3
    scenes = dict(data["items"])
    for order in orders:
        # Two scenes alternate until one of them is exhausted.
        seen = [scenes[code] for code in order]
        remaining = [len(set(seen[i:])) for i in range(len(seen))]
        assert all(
            a != b for a, b, more in zip(seen, seen[1:], remaining[1:], strict=False) if more > 1
        )


def test_a_rater_can_resume_after_closing_the_browser(
    browser: Any, made: Made, tmp_path: Path
) -> None:
    with open_page(browser, made.page) as page:
        start(page)
        page.click("#begin")
        order = order_of(page)
        rate(page, lambda code: 2, order[:4])
        page.wait_for_selector("#image:visible")
        saved(page, tmp_path / "part.json", "#rate .save")
        with watched(page.context) as again:  # the same profile
            again.goto(made.page.as_uri())
            start(again, until=0)
            assert "4 of 12" in again.inner_text("#known")
            again.click("#resume")
            again.click("#begin")
            assert again.inner_text("#place") == "Image 5 of 12"
            assert order_of(again) == order
    with open_page(browser, made.page) as page:  # another computer
        page.set_input_files("#file", tmp_path / "part.json")
        page.wait_for_selector("#ready:visible")
        assert "Welcome back, Ann" in page.inner_text("#ready")
        page.click("#begin")
        rate(page, lambda code: 5, order[4:])
        file = saved(page, tmp_path / "whole.json")
    assert file["order"] == order
    assert [entry["rating"] for entry in file["ratings"]] == [2] * 4 + [5] * (TRIALS - 4)


def test_a_rater_can_go_back_and_change_a_score(browser: Any, made: Made) -> None:
    with open_page(browser, made.page) as page:
        start(page)
        page.click("#begin")
        press(page, 3)
        press(page, "Backspace")
        page.wait_for_selector("#image:visible")
        assert page.get_attribute("[aria-pressed=true]", "data-score") == "3"
        page.click("[data-score='4']")
        page.wait_for_selector("#image:visible")
        assert page.inner_text("#place") == "Image 2 of 12"
        page.click("#back")
        page.wait_for_selector("#image:visible")
        assert page.get_attribute("[aria-pressed=true]", "data-score") == "4"


def test_an_example_accepts_only_its_score_and_a_held_key_counts_once(
    browser: Any, made: Made
) -> None:
    with open_page(browser, made.page) as page:
        start(page, until=0)
        page.wait_for_selector("#image:visible")
        page.keyboard.press("4")
        assert page.inner_text("#place") == "Example 1 of 2"
        assert "gets 1, bad" in page.inner_text("#hint")
        press(page, 1)
        press(page, 5)
        page.click("#begin")
        page.wait_for_selector("#image:visible")
        page.keyboard.down("3")
        for _ in range(5):
            page.keyboard.down("3")  # key repeat
        page.wait_for_selector("#image:visible")
        page.keyboard.down("3")
        assert page.inner_text("#place") == "Image 2 of 12"


# A flag of the browser, because the ratio that Playwright emulates is rounded differently.
@pytest.mark.parametrize("ratio", [1, 1.25, 2.625])
def test_image_pixels_cover_whole_device_pixels(browser: Any, made: Made, ratio: float) -> None:
    flags = f"--force-device-scale-factor={ratio}", "--window-size=640,701"
    with (
        launch(browser.browser_type, *flags) as sharp,
        open_page(sharp, made.page, no_viewport=True) as page,
    ):
        start(page, until=0)
        page.wait_for_selector("#image:visible")
        screen = np.array(PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        corner = page.evaluate(
            "(() => { const b = document.getElementById('image').getBoundingClientRect();"
            "return [b.top * devicePixelRatio, b.left * devicePixelRatio]; })()"
        )
    times = int(ratio)
    expected = images_of(made.page)[data_of(made.page)["calibration"][0][0]]
    expected = expected.repeat(times, 0).repeat(times, 1)
    top, left = map(round, corner)
    shown = screen[top : top + expected.shape[0], left : left + expected.shape[1]]
    assert np.array_equal(shown, expected)
    surround = screen[top - 20, left + 5], screen[top + 5, left - 20]
    assert all((pixel == 0x77).all() for pixel in surround)


def test_only_the_image_scrolls_if_it_is_larger_than_the_window(browser: Any, made: Made) -> None:
    with open_page(browser, made.page, viewport={"width": 400, "height": 240}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        start(page, until=0)
        page.wait_for_selector("#image:visible")
        page.evaluate("document.getElementById('image').style.height = '900px'")
        assert page.evaluate("document.getElementById('stage').scrollHeight") >= 900
        assert page.evaluate("document.documentElement.scrollHeight") <= 240
        assert page.locator("[data-score='5']").bounding_box()["y"] < 240


WRONG = {
    "not JSON": "{",
    "not scores": "[1]",
    "another study": '{"format": "srgan_plugin.mos", "study": "x"}',
    "damaged": None,
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_file_is_refused_with_a_message(
    browser: Any, made: Made, tmp_path: Path, case: str
) -> None:
    study = data_of(made.page)["id"]
    text = WRONG[case] or json.dumps(
        {"format": "srgan_plugin.mos", "study": study, "order": [], "ratings": [], "rater": "x"}
    )
    (tmp_path / "file.json").write_text(text, encoding="utf-8")
    with open_page(browser, made.page) as page:
        page.set_input_files("#file", tmp_path / "file.json")
        page.wait_for_selector("#problem:visible")
        assert page.is_visible("#start")


def test_the_name_of_a_rater_is_not_markup(browser: Any, made: Made, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    with open_page(browser, made.page) as page:
        start(page, name)
        page.click("#begin")
        press(page, 3)
        page.reload()
        start(page, name, until=0)
        assert name in page.inner_text("#known")
        page.click("#resume")
        assert name in page.inner_text("#ready")
        assert page.locator("img").count() == 1


def test_the_page_of_scores_has_no_script(browser: Any, made: Made, tmp_path: Path) -> None:
    pytest.importorskip("krippendorff", reason="needs krippendorff")
    pytest.importorskip("scipy", reason="needs SciPy")
    for name in (HOSTILE, "Bob"):
        (tmp_path / f"{len(name)}.json").write_text(
            json.dumps(rater_file(made.page, name, lambda m, i: 1))
        )
    files, page_file = map(str, tmp_path.glob("*.json")), tmp_path / "scores.html"
    main(["mos", "score", *files, "--out", str(page_file), "--resamples", "100"])
    with open_page(browser, page_file, viewport={"width": 400, "height": 800}) as page:
        assert page.locator("script").count() == 0
        assert HOSTILE in page.inner_text("main")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
