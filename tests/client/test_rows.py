"""Many predictions at once, in whatever form, arrive as the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from listener import Server, ids, inbox

from watchkeeper.client import Client, rows
from watchkeeper.errors import DataError, MissingExtraError

AT = datetime(2013, 7, 4, 15, tzinfo=UTC)
COLUMNS = {"request_id": ["a", "b"], "distance": [1.5, 2.5], "origin": ["JFK", None], "score": [0.25, 0.5]}

every_form = pytest.mark.parametrize(
    "made",
    [
        lambda: COLUMNS,
        lambda: {**COLUMNS, "distance": np.array([1.5, 2.5]), "request_id": ("a", "b")},
        lambda: {**COLUMNS, "distance": pd.Series([1.5, 2.5]), "score": pl.Series([0.25, 0.5])},
        lambda: [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)],
        lambda: pa.table(COLUMNS),
        lambda: pa.RecordBatch.from_pydict(COLUMNS),
        lambda: pl.DataFrame(COLUMNS),
        lambda: pd.DataFrame(COLUMNS),
    ],
    ids=["lists", "numpy", "series", "mappings", "arrow", "batch", "polars", "pandas"],
)  # fmt: skip


def known(event: dict[str, Any]) -> dict[str, Any]:
    flat = {**event, **event.get("features", {})}
    return {name: flat[name] for name in (*COLUMNS, "version", "variant", "status")}


EXPECTED = [
    {"request_id": "a", "distance": 1.5, "origin": "JFK", "score": 0.25, "version": "3", "variant": "shadow",
     "status": "ok"},
    {"request_id": "b", "distance": 2.5, "origin": None, "score": 0.5, "version": "3", "variant": "shadow",
     "status": "ok"},
]  # fmt: skip


@every_form
def test_into_a_folder(tmp_path: Path, made: Callable[[], Any]) -> None:
    with Client(tmp_path, model="delays", version="3") as client:
        assert client.log_many(made(), event_time=AT, variant="shadow") == ["a", "b"]
    found = inbox(tmp_path)
    assert [known(event) for event in found] == EXPECTED
    assert {event["event_time"] for event in found} == {"2013-07-04T15:00:00+00:00"}
    assert client.stats.delivered == 2


@every_form
def test_to_a_server_as_arrow(server: Server, made: Callable[[], Any]) -> None:
    with Client(server.url, model="delays", version="3") as client:
        client.log_many(made(), event_time=AT, variant="shadow")
    assert [known(row) for row in server.kept] == EXPECTED
    assert {row["event_time"] for row in server.kept} == {AT}
    ((path, headers, _),) = server.posts
    assert (path, headers["Content-Type"]) == ("/v1/models/delays/predictions", "application/vnd.apache.arrow.stream")


@every_form
def test_to_a_server_that_takes_no_arrow(server: Server, made: Callable[[], Any]) -> None:
    server.arrow = False
    with Client(server.url, model="delays", version="3", interval=3600) as client:
        client.log_many(made(), variant="shadow")
        client.flush()
        client.log_many(made(), variant="shadow")
    assert [known(event) for event in server.kept] == EXPECTED * 2
    assert [code for _, _, code in server.posts] == [415, 200, 200]


@pytest.fixture
def no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rows, "find_spec", lambda name: None)
    rows.arrow.cache_clear()
    yield
    rows.arrow.cache_clear()


@pytest.mark.usefixtures("no_pyarrow")
def test_without_pyarrow(server: Server) -> None:
    with Client(server.url, model="delays", version="3", strict=True) as client:
        client.log_many(COLUMNS, variant="shadow")
        with pytest.raises(MissingExtraError, match="needs pyarrow"):
            client.log_many(pl.DataFrame(COLUMNS))
    assert [known(event) for event in server.kept] == EXPECTED


def test_values_of_several_types_go_one_by_one_and_the_good_rows_arrive(server: Server) -> None:
    with Client(server.url, model="delays") as client:
        client.log_many(
            {
                "x": [1, "two", 3.0, None],
                "event_time": [AT, AT, "soon", "2013-07-04T15:00:00Z"],
                "score": [math.nan] * 4,
            }
        )
    assert [event["features"] for event in server.kept] == [{"x": 1}, {"x": "two"}, {"x": None}]
    assert {event["score"] for event in server.kept} == {"NaN"}
    assert client.stats.dropped == {"invalid": 1}


def test_a_table_that_the_server_refuses_loses_only_its_wrong_rows(server: Server) -> None:
    server.refuse = lambda events: 400 if 1303 in [e.get("i") or e["features"]["i"] for e in events] else 200
    with Client(server.url, model="delays") as client:
        made = client.log_many({"i": range(1, 2001)})
    wanted = made[:1302] + made[1303:]
    assert ids(server.kept) == wanted
    assert client.stats.dropped == {"refused": 1}
    assert len(server.posts) < 60


def test_a_large_table_goes_in_parts(server: Server) -> None:
    with Client(server.url, model="delays") as client:
        made = client.log_many({"i": np.arange(50_000)})
    assert ids(server.kept) == made
    assert len(server.posts) == 3


def test_order_is_kept_between_single_events_and_tables(tmp_path: Path) -> None:
    with Client(tmp_path, model="delays", interval=3600) as client:
        made = [client.log({})]
        made += client.log_many({"x": [1, 2]})
        made.append(client.log({}))
        client.label_many(made, [0, 1, 0, 1], AT)
    assert ids(inbox(tmp_path)) == made * 2
    labels = [event for event in inbox(tmp_path) if event["kind"] == "outcome"]
    assert [label["label"] for label in labels] == [0, 1, 0, 1]
    assert {label["known_at"] for label in labels} == {"2013-07-04T15:00:00+00:00"}


def test_labels_to_a_server(server: Server) -> None:
    with Client(server.url, model="delays") as client:
        client.label_many(["a", "b"], np.array([0, 1]))
    assert [(row["request_id"], row["label"]) for row in server.kept] == [("a", 0), ("b", 1)]
    assert [path for path, _, _ in server.posts] == ["/v1/models/delays/outcomes"]


def test_moments_of_a_table_without_a_zone_are_in_utc(tmp_path: Path) -> None:
    for unit in ("ns", "us"):
        with Client(tmp_path / unit, model="delays") as client:
            client.log_many({"event_time": np.array(["2013-07-04T15:00:00"], f"datetime64[{unit}]")})
        assert [event["event_time"] for event in inbox(tmp_path / unit)] == ["2013-07-04T15:00:00+00:00"]


def test_what_is_changed_after_logging_is_logged_as_it_was(tmp_path: Path) -> None:
    listed, array = [1, 2], np.array([3.0, 4.0])
    with Client(tmp_path, model="delays", interval=3600) as client:
        client.log_many({"listed": listed, "array": array})
        listed[0] = array[0] = 9
    assert inbox(tmp_path)[0]["features"] == {"listed": 1, "array": 3.0}


def test_nothing_is_nothing(tmp_path: Path) -> None:
    with Client(tmp_path, model="delays", strict=True) as client:
        assert client.log_many([]) == client.log_many({}) == client.log_many({"x": []}) == []
        client.label_many([], [])
    assert not (tmp_path / "inbox").exists()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("words", "rows must be columns"),
        ([{}, 3], "rows must be columns"),
        ({"x": [1], "y": [1, 2]}, "must have the same length, found {'x': 1, 'y': 2}"),
        ({"x": "words"}, 'column "x" must be a sequence of values, found str'),
        ({"x": {1: 2}}, 'column "x" must be a sequence of values, found dict'),
        ({"x": np.zeros((2, 2))}, 'column "x" must have one dimension, found 2'),
        ({3: [1]}, "columns must have names that are strings, found 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_rows(wrong: Any, text: str) -> None:
    with pytest.raises(DataError) as caught:
        rows.columns_of(wrong)
    assert text in str(caught.value)


def test_more_tables_than_the_buffer_may_hold_are_dropped_whole(server: Server, tmp_path: Path) -> None:
    client = Client(server.url, model="delays", interval=3600, buffer=10)
    client._sender._sending.acquire()
    made = client.log_many({"x": range(500)})
    client.log_many({"x": range(7)})
    client._sender._sending.release()
    assert client.stats.dropped == {"buffer full": 7}
    assert client.flush()
    assert ids(server.kept) == made
    assert client.log_many({"x": range(7)})
    client.close()
    assert (len(server.kept), client.stats.logged) == (507, 514)


@pytest.mark.parametrize("names", ["refund", ["refund", "claimed"]], ids=["of all", "of each"])
def test_kpis_of_many_predictions(tmp_path: Path, names: Any) -> None:
    with Client(tmp_path, model="delays") as client:
        client.kpi_many(["a", "b"], names, np.array([1.5, 2.0]), AT)
        client.kpi_many(["c", "d"], "refund", [1, "much"], AT)
    found = [(e["kind"], e["request_id"], e["name"], e["value"], e["known_at"]) for e in inbox(tmp_path)]
    at = "2013-07-04T15:00:00+00:00"
    assert found == [
        ("kpi", "a", "refund", 1.5, at),
        ("kpi", "b", "refund" if names == "refund" else "claimed", 2.0, at),
        ("kpi", "c", "refund", 1, at),
    ]
    assert client.stats.dropped == {"invalid": 1}


def test_kpis_that_are_no_rows_are_told_if_strict(tmp_path: Path) -> None:
    with Client(tmp_path, model="delays", strict=True) as client:
        with pytest.raises(DataError, match="same length"):
            client.kpi_many(["a", "b"], "refund", [1.0])
        with pytest.raises(DataError, match="found 'much'"):
            client.kpi_many(["a"], "refund", ["much"])
    with Client(tmp_path, model="delays") as client:
        client.kpi_many(["a", "b"], "refund", [1.0])
    assert client.stats.dropped == {"invalid": 2}
