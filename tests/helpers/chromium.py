"""A headless Chromium for tests of pages, by Playwright; tests skip by name without either."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Short pauses of a page are for people.
_IMPATIENT = """{ const wait = setTimeout;
window.setTimeout = (call, ms) => wait(call, ms < 1000 ? 0 : ms); }"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, or a skipped test; one at a time in a process, see `launch`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright, launch(playwright.chromium) as browser:
        yield browser


@contextlib.contextmanager
def launch(browser_type: Any, *flags: str) -> Iterator[Any]:
    """A browser with these flags; `browser_type` is an attribute of one that runs already."""
    browser = browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
    try:
        yield browser
    finally:
        browser.close()


@contextlib.contextmanager
def open_page(browser: Any, file: Path, **context: Any) -> Iterator[Any]:
    """Open a file in a fresh profile; nothing may reach the console or the network."""
    profile = browser.new_context(**context)
    try:
        with watched(profile) as page:
            page.goto(file.as_uri())
            yield page
    finally:
        profile.close()


@contextlib.contextmanager
def watched(profile: Any) -> Iterator[Any]:
    """A tab whose errors, warnings and requests fail the test."""
    page, said, asked = profile.new_page(), [], []
    page.add_init_script(_IMPATIENT)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    page.close()
