"""The groups of a model on its page: told in a table, light and dark, at a desk and on a phone."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from small_world import NAME, Event, World, config

pytestmark = pytest.mark.browser

live = importlib.import_module("live")
SHOTS = os.environ.get("WATCHKEEPER_SHOTS")
MONITORS = [
    {"name": "four fifths", "metric": "four_fifths", "below": 0.8, "groups": "country", "severity": "P1"},
    {"name": "odds", "metric": "equalised_odds", "above": 0.15, "groups": "country"},
]


def harsh(event: Event) -> None:
    if event["features"]["country"] == "NL":
        event["score"] = round(event["score"] / 2, 4)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    world = World(tmp_path_factory.mktemp("groups"), config(segments=["country"], monitors=MONITORS))
    world.day(0, 1)
    world.day(2, 3, 4, change=harsh)
    for day in (2, 3, 4, 5):
        world.at(day)
    with live.serving(live.application(world.engine)) as address:
        yield address
    world.engine.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("size", "width", "height"), [("desk", 1280, 900), ("phone", 390, 844)])
def test_groups_are_told_in_a_table(browser: Browser, url: str, theme: str, size: str, width: int, height: int) -> None:
    context = browser.new_context(base_url=url, viewport={"width": width, "height": height}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(f"/models/{NAME}#groups")
    groups = page.locator("#groups")
    expect(groups.get_by_role("heading", level=3)).to_have_count(2)
    table = groups.get_by_role("region", name="Groups: four fifths")
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(table.locator("tbody tr").first).to_contain_text("country=NL")
    expect(groups).to_contain_text("Least in country=NL")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    if SHOTS:
        groups.screenshot(path=str(Path(SHOTS) / f"groups-{size}-{theme}.png"))
    context.close()
