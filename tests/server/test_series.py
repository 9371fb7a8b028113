"""The values of a metric over rolling windows, over HTTP and on a model's page."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import fraud_story
import httpx
import pytest

from watchkeeper.engine import Engine
from watchkeeper.metrics.performance import accuracy
from watchkeeper.profiles import Subject, merge
from watchkeeper.stats.grid import Grid
from watchkeeper.windows import DAY, Window

MODEL = "/api/v1/models/checkout-fraud/series"
PAGE = "/models/checkout-fraud"


def asked(http: httpx.Client, **params: Any) -> dict[str, Any]:
    found = http.get(MODEL, params=params)
    assert found.status_code == 200, found.text
    data: dict[str, Any] = found.json()["data"]
    return data


def test_without_a_window_it_is_what_was_stored_of_each_grain(http: httpx.Client) -> None:
    found = asked(http, metric="auc")
    assert (found["window"], found["overlapping"]) == ("1d", False)
    first = found["points"][0]
    assert (first["from"], first["until"]) == ("2024-03-01T00:00:00+00:00", "2024-03-02T00:00:00+00:00")
    assert first["low"] < first["value"] < first["high"]


def test_the_window_of_a_grain_is_that_of_the_grain(http: httpx.Client) -> None:
    assert asked(http, metric="auc", window="1d") == asked(http, metric="auc")


def test_a_rolling_value_is_that_of_the_sum_of_its_days(http: httpx.Client, engine: Engine) -> None:
    found = asked(http, metric="accuracy", window="7d")
    assert found["overlapping"]
    point = next(p for p in found["points"] if p["until"] == "2024-03-21T00:00:00+00:00")
    end = datetime.fromisoformat(point["until"])
    with engine.state.snapshot() as tx:
        kept = tx.profiles("checkout-fraud", Window(end - 7 * DAY, end), column="score", label=["0", "1"])
    sides = {label: merge(p for key, p in kept if key.label == label) for label in ("0", "1")}
    summed = accuracy(Subject(None, None, Grid.unit(), 0.5, 7, 0, {k: p for k, p in sides.items() if p}, {}), 0.025)
    assert len(kept) == 14
    assert (point["value"], point["low"], point["high"]) == (summed.value, summed.low, summed.high)
    assert point["n"] == 7 * fraud_story.ROWS
    assert not point["provisional"]


def test_windows_end_at_each_day_from_the_first_whole_one_to_the_last(http: httpx.Client) -> None:
    of_eta = http.get("/api/v1/models/eta/series", params={"metric": "auc", "window": "30d"}).json()["data"]["points"]
    assert [p["until"][:10] for p in of_eta[:2]] == ["2024-03-31", "2024-04-01"]
    assert of_eta[-1]["until"][:10] == "2024-04-30"
    assert len(of_eta) == fraud_story.DAYS - 29
    assert [p["provisional"] for p in of_eta] == [False] * 30 + [True]


def test_a_longer_window_is_more_certain(http: httpx.Client) -> None:
    reach = []
    for window in ("1d", "7d", "30d"):
        point = asked(http, metric="accuracy", window=window)["points"][-8]
        reach.append(point["high"] - point["low"])
    assert reach[0] > 1.8 * reach[1] > 1.8 * reach[2]


def test_estimates_roll_too_without_waiting_for_labels(http: httpx.Client) -> None:
    found = asked(http, metric="estimated_auc", window="7d", days=5)["points"]
    assert found[-1]["until"][:10] == "2024-04-30"
    assert not found[-1]["provisional"]


def test_only_as_many_days_back_as_are_asked_for(http: httpx.Client) -> None:
    found = asked(http, metric="volume", window="7d", days=10)["points"]
    assert len(found) == 10


@pytest.mark.parametrize(
    ("params", "status", "said"),
    [
        ({"metric": "aucc"}, 404, 'Did you mean "auc"?'),
        ({"metric": "auc", "window": "36h"}, 422, "must be a multiple of the grain 1d"),
        ({"metric": "auc", "window": "12h"}, 422, "must be a multiple of the grain 1d"),
        ({"metric": "auc", "window": "0d"}, 422, "is no duration"),
        ({"metric": "auc", "window": "week"}, 422, "is no duration"),
        ({"metric": "auc", "window": "999999999999d"}, 422, "window"),
        ({"metric": "auc", "window": "367d"}, 422, "366d at most"),
        ({"metric": "auc", "days": 0}, 422, "days"),
        ({"metric": "auc", "segment": "country=XX"}, 404, "no segment"),
    ],
)
def test_a_mistaken_question_is_explained(http: httpx.Client, params: dict[str, Any], status: int, said: str) -> None:
    found = http.get(MODEL, params=params)
    assert found.status_code == status
    assert said.lower() in str(found.json()["error"]).lower()


# The page


def test_a_model_page_offers_rolling_windows(http: httpx.Client) -> None:
    page = http.get(f"{PAGE}?metric=auc").text
    links = re.search(r'aria-label="Window" id="window">(.*?)</div>', page, re.DOTALL)
    assert links is not None
    assert re.findall(r">([^<]+)</a>", links[1]) == ["each day", "last 7 days", "last 30 days"]
    assert '#window" aria-current="true">each day</a>' in links[1]


def test_a_model_page_draws_a_rolling_window_and_says_that_points_overlap(http: httpx.Client) -> None:
    page = http.get(f"{PAGE}?metric=auc&window=7d").text
    assert "AUC of each version, last 7 days (points overlap)" in page
    assert '#window" aria-current="true">last 7 days</a>' in page
    assert "metric=accuracy&amp;drift=psi&amp;days=90&amp;window=7d" in page  # the other choices keep it


def test_a_window_that_is_asked_for_by_hand_is_offered_too(http: httpx.Client) -> None:
    assert '#window" aria-current="true">last 14 days</a>' in http.get(f"{PAGE}?window=14d").text
    assert http.get(f"{PAGE}?window=36h").status_code == 422


def test_a_model_without_data_has_no_rolling_values(http: httpx.Client) -> None:
    assert http.get("/models/search-ranking?window=7d").status_code == 200
    assert http.get("/api/v1/models/search-ranking/series?metric=auc&window=7d").json()["data"]["points"] == []
