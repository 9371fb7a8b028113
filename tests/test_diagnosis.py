"""Diagnosis: what an incident's signals say, in words, and what to do about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from watchkeeper.diagnosis import SAMPLES, SPOILT, TREE, explain, sample_order
from watchkeeper.incidents import gather
from watchkeeper.metrics import METRICS
from watchkeeper.monitors import BUILT_IN
from watchkeeper.records import Incident, Point, Reason, Severity, Status, Verdict
from watchkeeper.windows import DAY, Window

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOURLY = Window(NOON - timedelta(hours=24), NOON)


def verdict(column: str, value: float, cause: str = "drift", metric: str = "psi", **other: Any) -> Verdict:
    settings = {
        "model": "churn", "monitor": "watch", "segment": "", "severity": Severity.P2, "window": HOURLY,
        "status": Status.BREACH, "reason": Reason.OUTSIDE_LIMIT, "low": value, "high": value, "limit": 0.2,
        "direction": "above", "n": 100, "config": "config-1", "because": (f"point-{column}",), **other,
    }  # fmt: skip
    return Verdict(id=f"verdict-{column}", column=column, value=value, cause=cause, metric=metric, **settings)


def point(of: Verdict, **detail: Any) -> Point:
    return Point(
        of.because[0], of.model, "", "", of.column, of.metric, of.monitor, of.window, of.value, of.low, of.high,
        0.999, of.n, None, None, detail, of.config, (),
    )  # fmt: skip


def incident(*verdicts: Verdict) -> Incident:
    return gather(verdicts, [], NOON, DAY, 3 * DAY)[0][0]


def test_the_evidence_ranks_the_columns_by_how_far_they_are_beyond_their_limit() -> None:
    verdicts = [verdict("age", 0.3), verdict("income", 0.9), verdict("country", 0.5)]
    found = explain(incident(*verdicts), {v.id: point(v, current=1) for v in verdicts})
    assert [c["column"] for c in found["columns"]] == ["income", "country", "age"]
    assert found["columns"][0] == {
        "column": "income", "segment": "", "metric": "psi", "since": (NOON - DAY).isoformat(), "value": 0.9,
        "limit": 0.2, "detail": {"current": 1},
    }  # fmt: skip


def test_the_summary_says_the_three_strongest_in_words() -> None:
    verdicts = [verdict(f"x{i}", 0.3 + i / 10) for i in range(5)]
    summary = explain(incident(*verdicts), {})["summary"]
    assert summary.startswith("x4: population stability index 0.7, limit 0.2, since 2024-02-29 12:00 UTC. x3: ")
    assert summary.count("population stability index") == 3


def test_the_most_frequent_of_the_values_found_is_named() -> None:
    one = verdict("age", 0.1, "sentinel values", "sentinel_rate", limit=0.005)
    found = explain(incident(one), {one.id: point(one, values={"-1": 2, "-999": 40, "9999": 3})})
    assert "most often -999." in found["summary"]
    empty = explain(incident(one), {one.id: point(one, values={})})
    assert "most often" not in empty["summary"]


def test_a_signal_whose_point_is_gone_is_told_without_detail() -> None:
    assert explain(incident(verdict("age", 0.3)), {})["columns"][0]["detail"] == {}


@pytest.mark.parametrize("cause", sorted({m.cause for m in METRICS.values()}))
def test_every_cause_has_a_branch_and_a_recommendation(cause: str) -> None:
    assert BUILT_IN
    found = explain(incident(verdict("age", 0.3, cause)), {})
    assert (found["tree"], found["recommendation"]) == TREE[cause]
    assert found["tree"] in {"data", "model", "infrastructure"}


def test_a_strangers_cause_is_left_to_the_reader() -> None:
    found = explain(incident(verdict("age", 0.3, "courtesy")), {})
    assert (found["tree"], found["recommendation"]) == ("model", "Look at the evidence and decide.")


def test_what_spoils_data_is_known_by_cause() -> None:
    assert set(SPOILT) <= set(TREE)


@pytest.mark.parametrize(
    ("metric", "cause", "order"),
    [
        ("sentinel_rate", "sentinel values", "extreme"),
        ("null_rate", "missing values", "missing"),
        ("error_rate", "service", "failed"),
        ("p95", "service", "slowest"),
        ("auc", "performance", "loss"),
        ("psi", "drift", "extreme"),
        ("volume", "volume", "extreme"),
    ],
)
def test_samples_are_those_that_show_the_trouble_best(metric: str, cause: str, order: str) -> None:
    assert sample_order(metric, cause) == order


def test_samples_are_ordered_for_metrics_that_exist() -> None:
    assert set(SAMPLES) <= set(METRICS)


def test_a_segment_is_named_and_hundreds_of_them_are_not_detailed() -> None:
    many = [replace(verdict("age", 0.3 + i / 1000), id=f"verdict-{i}", segment=f"country=C{i:03}") for i in range(200)]
    found = explain(incident(*many), {})
    assert found["summary"].startswith("age in country=C199: population stability index 0.499")
    assert [c["segment"] for c in found["columns"]] == [f"country=C{i:03}" for i in range(199, 149, -1)]


def part(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


@pytest.mark.parametrize(
    ("relation", "inputs", "words"),
    [
        (part(0.033, 0.01), part(0.008, 0.01), "The relation between inputs and outcomes changed: of +4.1 points in"),
        (part(0.0, 0.01), part(0.041, 0.01), "The inputs changed: of"),
        (part(0.0, 0.01), part(-0.041, 0.01), "The inputs changed: of"),
        (
            part(0.02, 0.01),
            part(0.021, 0.01),
            "relation between inputs and outcomes changed and the inputs changed: of",
        ),
        (part(0.02, 0.03), part(0.021, 0.03), "What changed cannot be told apart from chance: of"),
    ],
)
def test_a_loss_of_performance_is_said_to_come_of_the_rules_or_of_the_world(
    relation: dict[str, float], inputs: dict[str, float], words: str
) -> None:
    one = verdict("score", 0.12, "performance", "accuracy")
    parts = {"of": "errors", "change": part(0.041, 0.01), "inputs": inputs, "relation": relation}
    found = explain(incident(one), {one.id: point(one, parts=parts)})
    assert words in found["summary"]


def test_what_each_part_adds_is_said_with_its_interval() -> None:
    one = verdict("score", 0.12, "performance", "log_loss")
    parts = {"of": "log_loss", "change": part(0.12, 0.01), "inputs": part(0.02, 0.03), "relation": part(0.1, 0.02)}
    found = explain(incident(one), {one.id: point(one, parts=parts)})
    assert found["summary"].endswith(
        "of +0.12 in log loss, +0.1 (+0.08 to +0.12) came of the relation and +0.02 (-0.01 to +0.05) of the inputs."
    )
    assert found["columns"][0]["detail"]["parts"] == parts
