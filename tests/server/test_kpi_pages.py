"""KPIs on a model's page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import live
import pytest
from test_dashboard import text

from test_kpis import Shop
from watchkeeper.windows import HOUR


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    for day in range(3):
        shop.day(day)
        shop.revenue(day)
        shop.clicks(day)
    shop.at(3 + 2 / 24)
    with live.serving(live.application(shop.engine)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
    shop.engine.close()


def test_each_kpi_has_its_charts_and_its_last_values_in_its_unit(http: httpx.Client) -> None:
    html = http.get("/models/shop").text
    shown = text(html)
    for name in ("revenue", "clicks"):
        for title in (f"{name} in 1 day", f"{name} per prediction and per user", f"How many have {name}"):
            assert title in shown
    assert "Sum of a grain 1,200 EUR" in shown
    assert "Per user 20 EUR" in shown
    assert "60 users 2024-01-01" in shown, "of the day whose two days are over"
    assert "Median time until it is known 12 h" in shown
    assert "once 2 d are over" in shown


def test_a_column_of_a_kpi_has_a_page(http: httpx.Client) -> None:
    for column in ("revenue", "revenue delay", "revenue per user"):
        found = http.get(f"/models/shop/columns/{column}")
        assert found.status_code == 200
        assert "numeric column of shop" in text(found.text)


def test_a_model_without_kpis_has_no_such_section(tmp_path: Path) -> None:
    shop = Shop(tmp_path, kpis={})
    shop.day(0)
    shop.at(1 + 1 / 24)
    with live.serving(live.application(shop.engine)) as url:
        html = httpx.get(f"{url}/models/shop", timeout=30).text
    shop.engine.close()
    assert 'id="business"' not in html


def test_kpis_that_are_not_due_yet_are_left_out(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.day(0)
    shop.tell(0, "clicks", [(i, 1.0) for i in range(120)], HOUR)
    shop.at(1)
    shop.at(2)
    with live.serving(live.application(shop.engine)) as url:
        shown = text(httpx.get(f"{url}/models/shop", timeout=30).text)
    shop.engine.close()
    assert "Last value of clicks" in shown
    assert "Last value of revenue" not in shown
