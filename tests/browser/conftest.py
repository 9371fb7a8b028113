from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))  # the story and the live server are shared

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    fixed = Path("/usr/bin/chromium")
    return str(fixed) if fixed.exists() else next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")  # its event loop runs until it ends, and other tests have loops of their own
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        say = "no Chromium was found; install the system's chromium to run the browser tests"
        if os.environ.get("CI"):
            pytest.fail(say)
        pytest.skip(say)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
