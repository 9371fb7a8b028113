"""A reader walks through the dashboard in a real browser: every page, light and dark, at a desk and on a phone."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

live = importlib.import_module("live")

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
MODEL = "/models/checkout-fraud"
SHOTS = os.environ.get("WATCHKEEPER_SHOTS")
"""A folder to leave a picture of every page in, for people to look at."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[live.Engine, live.fraud_story.Ids, str]]:
    with (
        live.story(tmp_path_factory.mktemp("store")) as (engine, ids),
        live.serving(live.application(engine)) as url,
    ):
        yield engine, ids, url


@contextmanager
def reading(browser: Browser, url: str, theme: str = "light", size: str = "desk") -> Iterator[Page]:
    """A page of a fresh reader; afterwards: nothing went wrong that a browser would tell."""
    width, height = SIZES[size]
    phone = size == "phone"
    context = browser.new_context(
        base_url=url, viewport={"width": width, "height": height}, color_scheme=theme, has_touch=phone, is_mobile=phone
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    trouble: list[str] = []
    page.on("console", lambda said: trouble.append(f"console {said.type}: {said.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url} {request.failure}"))
    page.on("response", lambda r: trouble.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    yield page
    context.close()
    assert trouble == []
    assert hosts - {urlsplit(url).netloc, ""} == set()


def drawn(page: Page) -> int:
    """Wait until every chart is drawn; how many there are."""
    if page.locator("figure.chart").count():
        page.wait_for_selector("html[data-charts=drawn]")
    charts = page.locator("figure.chart")
    for i in range(charts.count()):
        assert charts.nth(i).locator(".main-svg").count() > 0
        assert charts.nth(i).bounding_box()["width"] > 150  # type: ignore[index]
    return charts.count()


def fits(page: Page) -> None:
    """Nothing sticks out of the page sideways."""
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.evaluate("document.body.scrollWidth - window.innerWidth") <= 0


def paths(ids: live.fraud_story.Ids) -> dict[str, tuple[str, int]]:
    """Every kind of page, and how many charts it has at least."""
    return {
        "fleet": ("/", 0),
        "model": (MODEL, 5),
        "model-without-data": ("/models/search-ranking", 0),
        "curves": (f"{MODEL}/curves", 4),
        "numeric": (f"{MODEL}/columns/amount", 6),
        "discrete": (f"{MODEL}/columns/hour_of_day", 6),
        "categorical": (f"{MODEL}/columns/country", 4),
        "score": (f"{MODEL}/columns/score", 3),
        "incidents": ("/incidents?state=all", 0),
        "incident-open": (f"/incidents/{ids.sentinel}", 2),
        "incident-resolved": (f"/incidents/{ids.missing}", 2),
        "incident-superseded": (f"/incidents/{ids.drift}", 2),
        "rollout": (f"/rollouts/{ids.rollout}", 1),
        "rollout-waiting": (f"/rollouts/{ids.waiting}", 0),
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page(
    browser: Browser, told: tuple[live.Engine, live.fraud_story.Ids, str], theme: str, size: str
) -> None:
    _, ids, url = told
    with reading(browser, url, theme, size) as page:
        for name, (path, least) in paths(ids).items():
            page.goto(path)
            assert drawn(page) >= least, path
            fits(page)
            assert page.locator("h1").count() == 1
            assert page.locator("main").count() == 1
            if SHOTS:
                page.screenshot(path=Path(SHOTS) / f"{name}-{theme}-{size}.png", full_page=True)


def test_colours_follow_the_toggle_and_are_remembered(
    browser: Browser, told: tuple[live.Engine, live.fraud_story.Ids, str]
) -> None:
    _, _, url = told

    def paper(page: Page) -> str:
        return str(page.locator(".card").first.evaluate("e => getComputedStyle(e).backgroundColor"))

    def ink(page: Page) -> str:
        return str(page.locator(".xtick text").first.evaluate("e => getComputedStyle(e).fill"))

    with reading(browser, url) as page:
        page.goto(MODEL)
        drawn(page)
        light = paper(page), ink(page)
        page.get_by_role("button", name="Switch between light and dark").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.wait_for_function(f"getComputedStyle(document.querySelector('.xtick text')).fill !== '{light[1]}'")
        dark = paper(page), ink(page)
        assert dark[0] != light[0]
        page.reload()
        drawn(page)
        assert (paper(page), ink(page)) == dark


def test_a_cell_of_the_drift_map_leads_to_its_column(
    browser: Browser, told: tuple[live.Engine, live.fraud_story.Ids, str]
) -> None:
    _, _, url = told
    with reading(browser, url) as page:
        page.goto(MODEL)
        drawn(page)
        figure = page.locator("figure.chart[data-link]")
        figure.scroll_into_view_if_needed()
        place = figure.locator(".hm image, .heatmaplayer image").first.bounding_box()
        assert place is not None
        with page.expect_navigation():
            page.mouse.click(place["x"] + place["width"] - 4, place["y"] + 6)
        assert re.search(r"/columns/amount\?day=2024-04-2\d&days=7$", page.url)
        drawn(page)


def test_the_keyboard_reaches_everything(browser: Browser, told: tuple[live.Engine, live.fraud_story.Ids, str]) -> None:
    _, _, url = told
    with reading(browser, url) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        seen = []
        for _ in range(page.locator("a, button").count() - 1):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.getAttribute('href') || document.activeElement.type"))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{seen[-1]} does not show its focus"
        assert {"/", "/incidents", "button", MODEL} <= set(seen)
        page.locator(f'a[href="{MODEL}"]').first.focus()
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{MODEL}")
        drawn(page)


@pytest.mark.parametrize("size", SIZES)
def test_acknowledge_and_resolve(browser: Browser, tmp_path: Path, size: str) -> None:
    with (
        live.story(tmp_path / "store") as (engine, ids),
        live.serving(live.application(engine)) as url,
        reading(browser, url, size=size) as page,
    ):
        page.goto("/incidents")
        page.get_by_role("link", name="Sentinel values: account_age_days").click()
        page.wait_for_url(f"**/incidents/{ids.sentinel}")
        drawn(page)
        page.get_by_label("Your name").fill("Ada")
        page.get_by_label("Note").fill("The season has begun.")
        page.get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_role("status")).to_contain_text("Acknowledged", timeout=20_000)
        expect(page.locator("#timeline")).to_contain_text("Incident acknowledged by Ada")
        drawn(page)
        assert state_of(engine, ids.sentinel) == ("acknowledged", "Ada")
        assert page.get_by_label("Your name").input_value() == "Ada"  # remembered
        assert page.get_by_role("button", name="Acknowledge").count() == 0

        page.get_by_role("button", name="Resolve").click()
        expect(page.get_by_role("status")).to_contain_text("Resolved", timeout=20_000)
        drawn(page)
        assert state_of(engine, ids.sentinel)[0] == "resolved"
        assert page.locator("form").count() == 0
        page.goto("/incidents")
        expect(page.locator("h1")).to_have_text("Incidents")
        assert page.locator(f'a[href="/incidents/{ids.sentinel}"]').count() == 0


def state_of(engine: live.Engine, incident: str) -> tuple[str, str]:
    with engine.state.transaction() as tx:
        found = tx.select(live.Incident, id=incident)[0]
    return str(found.state), found.owner


def test_a_column_is_asked_for_by_day(browser: Browser, told: tuple[live.Engine, live.fraud_story.Ids, str]) -> None:
    _, _, url = told
    with reading(browser, url) as page:
        page.goto(f"{MODEL}/columns/account_age_days")
        drawn(page)
        page.get_by_label("Last day (UTC)").fill("2024-03-22")
        page.get_by_label("Days", exact=True).select_option("1")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**day=2024-03-22&days=1")
        drawn(page)
        assert "account_age_days, 2024-03-22 UTC" in page.inner_text("main")
        page.get_by_role("link", name="Earlier").click()
        page.wait_for_url("**day=2024-03-21&days=1")
        drawn(page)


def test_without_scripts_the_numbers_are_there(
    browser: Browser, told: tuple[live.Engine, live.fraud_story.Ids, str]
) -> None:
    _, ids, url = told
    context = browser.new_context(base_url=url, java_script_enabled=False)
    page = context.new_page()
    page.goto(MODEL)
    shown = page.inner_text("main")
    assert "This chart needs JavaScript; the numbers are in the tables of this page." in shown
    assert re.search(r"amount\s+\d\.\d+\s+\d\.\d+ to \d", shown), "the drift of amount as a number"
    page.goto(f"/incidents/{ids.sentinel}")
    assert page.get_by_role("button", name="Acknowledge").is_visible()
    context.close()
