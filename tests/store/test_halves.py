"""Halves of predictions: joined in any order, once, and nothing that has no other half is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pyarrow as pa

from watchkeeper import events
from watchkeeper.store import halves
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.halves import RECEIVED, REQUEST, RESPONSE, SOURCE

NOW = datetime(2024, 3, 1, tzinfo=UTC)
LATE = NOW - timedelta(minutes=10)
TIME = pa.timestamp("us", tz="UTC")


def half(kind: str, names: str, at: datetime = NOW, source: str = "a", **columns: list[object]) -> Batch:
    own = columns or ({"x": [1.0] * len(names)} if kind == REQUEST else {"score": [ord(n) / 1000 for n in names]})
    if kind == RESPONSE:
        own = {"score": [None] * len(names), "prediction": [None] * len(names), "version": ["1"] * len(names), **own}
        own["status"] = ["ok"] * len(names)
    later = at + timedelta(milliseconds=5 if kind == RESPONSE else 0)
    rows = pa.table(
        {
            "request_id": list(names),
            "event_time": pa.array([later] * len(names), TIME),
            SOURCE: [source] * len(names),
            RECEIVED: pa.array([at] * len(names), TIME),
            **own,
        }
    )
    return Batch("loans", kind, rows)


def ids(batches: tuple[Batch, ...]) -> list[str]:
    return sorted(name for batch in batches for name in batch.rows["request_id"].to_pylist())


def test_halves_are_joined_in_any_order() -> None:
    for some in permutations([half(REQUEST, "ab"), half(RESPONSE, "b"), half(RESPONSE, "a")]):
        found = halves.join(some, LATE)
        [whole] = found.whole
        assert whole.kind == events.PREDICTION
        rows = {row["request_id"]: row for row in whole.rows.to_pylist()}
        assert rows["a"] == {
            "request_id": "a", "event_time": NOW, "x": 1.0, "score": 0.097, "prediction": None, "status": "ok",
            "version": "1",
            "latency_ms": 5.0,
        }  # fmt: skip
        assert rows["b"]["score"] == 0.098
        assert (found.waiting, found.orphans) == ((), ())


def test_a_half_waits_for_the_other_one() -> None:
    found = halves.join([half(REQUEST, "ab"), half(RESPONSE, "bc")], LATE)
    assert (ids(found.whole), ids(found.waiting), ids(found.orphans)) == (["b"], ["a", "c"], [])
    later = halves.join([*found.waiting, half(RESPONSE, "a"), half(REQUEST, "c")], LATE)
    assert (ids(later.whole), later.waiting) == (["a", "c"], ())
    assert not halves.join([half(REQUEST, "a"), half(RESPONSE, "b")], LATE).changed
    assert halves.join([half(REQUEST, "a"), half(REQUEST, "b")], LATE).changed, "many small files become one"


def test_halves_reported_twice_count_once() -> None:
    some = [half(REQUEST, "a"), half(REQUEST, "a"), half(RESPONSE, "ab"), half(RESPONSE, "ab")]
    found = halves.join(some, LATE)
    assert (ids(found.whole), ids(found.waiting)) == (["a"], ["b"])


def test_the_same_id_of_two_sources_is_two_events() -> None:
    found = halves.join([half(REQUEST, "a", source="x"), half(RESPONSE, "a", source="y")], LATE)
    assert (found.whole, ids(found.waiting)) == ((), ["a", "a"])


def test_what_waited_too_long_is_not_forgotten() -> None:
    old = LATE - timedelta(seconds=1)
    found = halves.join([half(REQUEST, "a", old), half(REQUEST, "b"), half(RESPONSE, "c", old)], LATE)
    assert [batch.rows["status"].to_pylist() for batch in found.whole] == [[halves.UNANSWERED]]
    assert (ids(found.whole), ids(found.waiting), ids(found.orphans)) == (["a"], ["b"], ["c"])


def test_requests_of_other_features_are_kept_apart() -> None:
    found = halves.join([half(REQUEST, "a", x=[1.0]), half(REQUEST, "b", y=["w"]), half(RESPONSE, "ab")], LATE)
    assert ids(found.whole) == ["a", "b"]
    assert len(found.whole) == 2
