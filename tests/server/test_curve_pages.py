"""The page of a model's curves: two halves of a stretch of time beside the reference, and what it refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

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
    counted = re.findall(r'<td class="n">([\d,]+)</td>', found.text)
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
