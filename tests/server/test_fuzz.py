"""Hostile requests: whatever is sent is answered, never with a 500, and nothing is written outside of the store."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import fraud_story
import httpx
import live
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from watchkeeper.cloudevents import KINDS
from watchkeeper.engine import Engine
from watchkeeper.server import cloudevents, ingest

FORMS = [ingest.JSON, ingest.LINES, ingest.ARROW, ingest.PARQUET, cloudevents.ONE, cloudevents.MANY, "text/csv", ""]
ADDRESSES = [
    "/v1/models/eta/predictions",
    "/v1/models/eta/outcomes",
    "/v1/models/eta/kpis",
    "/v1/models/eta/cloudevents",
    "/v1/models/eta/inferences",
    "/v1/cloudevents",
]
SQL = ["'; DROP TABLE predictions_eta; --", '"; DELETE FROM "predictions_eta', "' OR 1=1 --", "\x00", "%s", "{0}"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("fuzz") / "store", fraud_story.CONFIG, clock=lambda: live.NOW)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with live.serving(live.application(engine)) as url:
        yield url


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def described(url: str) -> Any:
    return schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")


seeded = settings(
    max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck]
)  # fmt: skip


def test_no_request_that_the_description_allows_or_forbids_is_a_mistake_of_ours(described: Any) -> None:
    asked = []
    for operation in (found.ok() for found in described.exclude(path="/api/v1/erasures").get_all_operations()):
        for mode in GenerationMode:

            @seeded
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                case.call_and_validate(timeout=60, checks=[not_a_server_error])

            try:
                ask()
            except Unsatisfiable:
                continue  # nothing about this one can be wrong
        asked.append(operation.label)
    assert "POST /v1/models/{model}/predictions" in asked
    assert "GET /api/v1/models" in asked


bodies = (
    st.binary(max_size=200)
    | st.sampled_from(
        [
            b"", b"{", b"[" * 50_000, b'{"a":' * 50_000, b"null", b"[null]", b'{"events": null}', b"NaN", b"[NaN]",
            b"\xff\xfe\x00", b'"\xed\xa0\x80"', b"1e999", b"9" * 10_000, b"-0", b"PAR1", b"ARROW1", b"\xef\xbb\xbf{}",
            gzip.compress(bytes(1 << 20)),
        ]
    )
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(
    body=bodies,
    kind=st.sampled_from(FORMS),
    coding=st.sampled_from(["", "gzip", "zstd", "br", "identity"]),
    path=st.sampled_from(ADDRESSES),
    headers=st.dictionaries(st.sampled_from(["ce-id", "ce-type", "ce-source", "ce-specversion"]),
                            st.sampled_from(["1.0", "", "x" * 5000, *KINDS])),
)  # fmt: skip
def test_no_bytes_are_a_mistake_of_ours(
    http: httpx.Client, body: bytes, kind: str, coding: str, path: str, headers: dict[str, str]
) -> None:
    given = {"content-type": kind, **({"content-encoding": coding} if coding else {}), **headers}
    assert http.post(path, content=body, headers=given).status_code < 500


texts = st.text(max_size=8) | st.sampled_from(SQL)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
rows = st.fixed_dictionaries(
    {"request_id": texts, "event_time": st.just("2024-03-01T10:00:00Z"),
     "features": st.dictionaries(st.sampled_from(["distance", "city"]) | texts, values, max_size=4)},
    optional=dict.fromkeys(
        ("entity_id", "version", "variant", "status", "score", "prediction", "context", "latency_ms", "cost"), values
    ),
)  # fmt: skip


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(sent=st.lists(rows, min_size=1, max_size=3))
def test_whatever_stands_in_an_event_it_is_taken_or_refused(http: httpx.Client, engine: Engine, sent: Any) -> None:
    answer = http.post("/v1/models/eta/predictions", content=json.dumps({"events": sent}),
                       headers={"content-type": ingest.JSON})  # fmt: skip
    assert answer.status_code == 200
    found = answer.json()
    assert found["accepted"] + len(found["rejected"]) == len(sent)


def test_what_was_taken_reaches_the_log(http: httpx.Client, engine: Engine) -> None:
    """After all of the above."""
    engine.tick()
    assert engine.inbox.waiting() == [] or all("half" in path.name for path in engine.inbox.waiting())
    before = engine.log.totals("eta")["predictions"]
    sql = [{"request_id": f"sql-{i}", "event_time": "2024-03-01T10:00:00Z", "entity_id": text, "version": text,
            "status": text, "features": {"city": text, text: text, "distance": text}}
           for i, text in enumerate(SQL)]  # fmt: skip
    answer = http.post("/v1/models/eta/predictions", json=sql).json()
    assert answer["accepted"] == len(SQL), answer
    engine.tick()
    assert engine.log.totals("eta")["predictions"] == before + len(SQL)
    found = engine.log.backend.rows(
        "SELECT city FROM \"predictions_eta\" WHERE request_id LIKE 'sql-%' ORDER BY request_id"
    )
    assert [row[0] for row in found] == SQL


def test_large_strings_are_taken_or_refused_in_good_time(http: httpx.Client) -> None:
    event = {"request_id": "large", "event_time": "2024-03-01T10:00:00Z", "features": {"city": "x" * 10_000_000}}
    assert http.post("/v1/models/eta/predictions", json=event).json()["accepted"] == 1
    long = {**event, "features": {"n" * 10_000_000: 1}}
    assert http.post("/v1/models/eta/predictions", json=long).status_code in (200, 413)
    for name in ("request_id", "version", "status"):
        found = http.post("/v1/models/eta/predictions", json={**event, "features": {}, name: "x" * 10_000_000})
        assert found.json()["accepted"] == 0
        assert len(found.text) < 10_000
    assert http.post("/v1/models/eta/predictions", json=[event] * 4).status_code == 413


def test_nothing_was_written_outside_of_the_store(engine: Engine) -> None:
    """After all of the above."""
    assert [path.name for path in engine.store.parent.iterdir()] == ["store"]
    known = {"state.db", "log.duckdb", "inbox", "rejected", "registry", "jobs", "engine.lock"}
    assert {path.name.removesuffix("-wal").removesuffix("-shm").removesuffix(".wal") for path in
            engine.store.iterdir()} <= known  # fmt: skip
