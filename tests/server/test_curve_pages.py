"""The page of a model's curves: two halves of a stretch of time beside the reference, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import live
import numpy as np
import pytest

from watchkeeper import events
from watchkeeper.engine import Engine
from watchkeeper.schema import Config

PAGE = "/models/checkout-fraud/curves"


def drawn(html: str) -> list[dict[str, Any]]:
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    return [json.loads(block) for block in blocks]


def test_the_curves_of_two_halves_and_of_the_reference_are_drawn_with_bands(http: httpx.Client) -> None:
    found = http.get(PAGE)
    assert found.status_code == 200
    roc, precision_recall, reliability, confusion = drawn(found.text)
    for figure in (roc, precision_recall, reliability):
        lines = [trace for trace in figure["data"] if trace.get("fill") != "toself"]
        assert len(lines) == len(figure["data"]) / 2 == len({trace["name"] for trace in lines})
        assert len(lines) >= 2
    assert roc["data"][1]["x"][0] == roc["data"][1]["y"][0] == 0
    assert roc["data"][1]["x"][-1] == roc["data"][1]["y"][-1] == 100
    first = found.text.split("</table>")[0]
    counted = re.findall(r'<td class="n">([\d,]+)</td>', first)
    assert sum(int(rows.replace(",", "")) for row in confusion["data"][0]["text"] for rows in row) > 0
    assert len(counted) == 2 * len([t for t in roc["data"] if t.get("fill") != "toself"])


def test_the_models_page_links_to_its_curves(http: httpx.Client) -> None:
    assert f'href="{PAGE}"' in http.get("/models/checkout-fraud").text


def test_a_model_without_labels_says_so(http: httpx.Client) -> None:
    shown = http.get("/models/search-ranking/curves").text
    assert "No stretch of time here has labels of both kinds" in shown
    assert "No labelled predictions yet" in shown


def test_what_is_no_number_of_days_is_refused(http: httpx.Client) -> None:
    assert http.get(f"{PAGE}?days=1").status_code == 422
    assert http.get(f"{PAGE}?days=367").status_code == 422
    assert http.get("/models/nobody/curves").status_code == 404


PETS = {"task": "multiclass", "classes": ["bird", "cat", "dog"], "columns": {"weight": {"kind": "numeric"}}}
PRICES = {"task": "regression", "columns": {"size": {"kind": "numeric"}}}
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def other_tasks(tmp_path: Path) -> Iterator[httpx.Client]:
    """A server that keeps a multi-class model, whose second most likely class is sometimes the label, and a regression
    without data."""
    engine = Engine(
        tmp_path,
        Config.model_validate({"models": {"pets": PETS, "prices": PRICES}}),
        clock=lambda: START + timedelta(days=1),
    )
    rng = np.random.default_rng(6)
    for i in range(200):
        scores = dict(zip(PETS["classes"], rng.dirichlet([1.0, 1.0, 1.0]).tolist(), strict=True))
        ranked = sorted(scores, key=lambda name: -scores[name])
        made = events.prediction(
            "pets", {"weight": 1.0}, request_id=str(i), event_time=START + timedelta(minutes=i), version="v1",
            prediction=ranked[0], score=scores,
        )  # fmt: skip
        told = events.outcome("pets", str(i), ranked[i % 5 == 0], known_at=START + timedelta(hours=12))
        engine.inbox.put([made, told])
    engine.tick()
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
    engine.close()


def test_each_class_has_its_curve_against_the_rest(other_tasks: httpx.Client) -> None:
    found = other_tasks.get("/models/pets/curves")
    assert found.status_code == 200
    roc, _, _, confusion = drawn(found.text)
    assert {trace["name"] for trace in roc["data"]} == {"bird", "cat", "dog"}
    cells = np.array([[int(rows) for rows in row] for row in confusion["data"][0]["text"]])
    assert cells.shape == (3, 3)
    assert (cells.sum(), np.trace(cells)) == (200, 160)
    assert "Each class against all others" in found.text
    table = found.text.split('aria-label="Confusion matrix"')[1].split("</table>")[0]
    assert [int(rows) for rows in re.findall(r'<td class="n">(\d+)</td>', table)] == cells.ravel().tolist()
    assert 'aria-label="Reliability"' in found.text
    assert 'href="/models/pets/curves"' in other_tasks.get("/models/pets").text


def test_a_regression_has_no_curves(other_tasks: httpx.Client) -> None:
    found = other_tasks.get("/models/prices/curves")
    assert found.status_code == 404
    assert "is no classifier, so it has no curves" in found.text
    assert "/curves" not in other_tasks.get("/models/prices").text
