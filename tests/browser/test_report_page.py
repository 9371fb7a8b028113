"""The report in a browser: offline, in both themes, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from watchkeeper.comparison import compare

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)><b>bold</b>"


ALL_DRAWN = "document.querySelectorAll('.drawn.js-plotly-plot').length === 3"


def until(page: Page, expression: str) -> None:
    """Wait for a condition; the page's own policy keeps Playwright from watching it from inside."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {expression}")


def scroll_through(page: Page) -> None:
    """Bring every chart into view, so that it is drawn."""
    for section in page.locator("section.column").all():
        section.scroll_into_view_if_needed()
    until(page, ALL_DRAWN)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    sides = [
        pd.DataFrame(
            {"temp": random.normal(15 + shift, 8, 800), "carrier": ["UA", EVIL] * 400, "wet": random.random(800) < 0.2}
        )
        for shift in (0, 6)
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    compare(*sides).save_html(path)
    return path


@pytest.fixture
def opened(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, which must log nothing and ask for nothing but itself."""
    options: dict[str, Any] = getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asking: asked.append(asking.url))
    page.goto(report.as_uri())
    page.wait_for_selector(".drawn .main-svg")
    yield page
    assert said == []
    assert asked == [report.as_uri()]
    context.close()


def test_every_chart_is_drawn(opened: Page) -> None:
    scroll_through(opened)
    assert opened.locator("h3", has_text="temp").count() == 2


def test_a_column_is_found_and_led_to(opened: Page) -> None:
    opened.locator(".overview a").first.click()
    assert opened.evaluate("location.hash") == "#column-0"
    opened.locator("details summary", has_text="Looks").first.click()
    assert opened.locator(".looks").first.is_visible()


def test_names_are_shown_as_they_are(opened: Page) -> None:
    scroll_through(opened)
    assert opened.locator(".drawn text", has_text="<img src=x onerro").count() == 1
    assert opened.locator("main img").count() == 0


@pytest.mark.parametrize("opened", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_charts_follow_the_theme(opened: Page) -> None:
    paper = "getComputedStyle(document.querySelector('.column')).backgroundColor"
    chart = "document.querySelector('.js-plotly-plot')._fullLayout.paper_bgcolor"
    shown = opened.evaluate(f"[{paper}, {chart}]")
    dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert shown == (["rgb(23, 28, 36)", "#171c24"] if dark else ["rgb(255, 255, 255)", "#ffffff"])
    opened.emulate_media(color_scheme="light" if dark else "dark")
    until(opened, f"{chart} === '{'#ffffff' if dark else '#171c24'}'")


@pytest.mark.parametrize("opened", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_a_phone_shows_it_without_scrolling_sideways(opened: Page) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") == 360


def test_a_page_of_paper_holds_a_chart_and_its_table(opened: Page) -> None:
    scroll_through(opened)
    opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    opened.emulate_media(media="print", color_scheme="dark")
    opened.set_viewport_size({"width": 720, "height": 1000})
    widths = "[...document.querySelectorAll('.drawn')].map(div => div._fullLayout?.width)"
    until(opened, f"{widths}.every(width => width === 430)")
    theme = "document.querySelector('.drawn')._fullLayout.paper_bgcolor"
    until(opened, f"{theme} === '#ffffff'")
    assert opened.evaluate("document.documentElement.scrollWidth") == 720


def test_two_hundred_columns_open_quickly_and_can_be_searched(browser: Browser, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    sides = [
        pd.DataFrame({f"feature {i:03}": random.normal(shift * (i < 30), 1, 500) for i in range(200)})
        for shift in (0, 2)
    ]
    compare(*sides).save_html(tmp_path / "wide.html")
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "wide.html").as_uri())
    until(page, "'ready' in document.documentElement.dataset")
    page.wait_for_timeout(300)
    assert page.evaluate("document.querySelectorAll('.js-plotly-plot').length") < 20, "drawn as they come into view"
    page.get_by_label("Find a column").fill("feature 17")
    assert page.locator(".overview tbody tr:visible").count() == 10
    page.locator(".overview a", has_text="feature 171").click()
    until(page, "document.querySelector('section:target')?.querySelector('.js-plotly-plot') != null")
    assert said == []
    context.close()


def test_a_notebook_shows_it_in_both_themes(browser: Browser) -> None:
    random = np.random.default_rng(1)
    sides = [pd.DataFrame({"temp": random.normal(shift, 1, 500)}) for shift in (0, 2)]
    piece = compare(*sides)._repr_html_()
    for background, ink in (("#ffffff", "#000000"), ("#111111", "#eeeeee")):
        page = browser.new_page(java_script_enabled=False)
        page.set_content(f"<body style='background:{background};color:{ink}'>{piece}</body>")
        assert page.locator("svg path").count() == 2
        assert page.locator("tbody tr").count() == 1
        shown = page.evaluate("getComputedStyle(document.querySelector('tbody td')).color")
        assert shown == ("rgb(0, 0, 0)" if ink == "#000000" else "rgb(238, 238, 238)")
        page.close()
