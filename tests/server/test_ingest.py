"""Events over HTTP, in every form they can have, up to the log."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fraud_story
import httpx
import live
import pyarrow as pa
import pytest
from test_columns import parquet, stream

from watchkeeper.client import Client
from watchkeeper.engine import Engine
from watchkeeper.schema import Config
from watchkeeper.server import commit, ingest

AT = datetime(2024, 3, 1, 10, tzinfo=UTC)
Door = tuple[Engine, httpx.Client]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    engine = Engine(tmp_path / "store", fraud_story.CONFIG, clock=lambda: live.NOW)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield engine, http
    engine.close()


def event(name: str) -> dict[str, Any]:
    return {
        "request_id": name,
        "event_time": AT.isoformat(),
        "score": 0.2,
        "features": {"distance": 3.5, "city": "Graz"},
    }


def events_of(*names: str) -> pa.Table:
    return pa.table(
        {
            "request_id": list(names),
            "event_time": pa.array([AT] * len(names), pa.timestamp("us", tz="UTC")),
            "score": [0.2] * len(names),
            "distance": [3.5] * len(names),
            "city": ["Graz"] * len(names),
        }
    )


def post(http: httpx.Client, body: bytes, kind: str = ingest.JSON, **headers: str) -> httpx.Response:
    given = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return http.post("/v1/models/eta/predictions", content=body, headers=given)


FORMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "one": (ingest.JSON, lambda: json.dumps(event("a")).encode()),
    "events": (ingest.JSON, lambda: json.dumps({"events": [event("a"), event("b")]}).encode()),
    "list": (ingest.JSON, lambda: json.dumps([event("a"), event("b")]).encode()),
    "lines": (ingest.LINES, lambda: b"\n".join(json.dumps(event(name)).encode() for name in "ab")),
    "arrow": (ingest.ARROW, lambda: stream(events_of("a", "b"))),
    "parquet": (ingest.PARQUET, lambda: parquet(events_of("a", "b"))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
def test_events_in_any_form_reach_the_log_once(door: Door, form: str, coding: str) -> None:
    engine, http = door
    kind, write = FORMS[form]
    code: dict[str, Callable[[bytes], bytes]] = {
        "identity": bytes,
        "gzip": gzip.compress,
        "zstd": lambda body: pa.compress(body, "zstd", asbytes=True),
    }
    n = 1 if form == "one" else 2
    for _ in range(2):
        answer = post(http, code[coding](write()), kind, content_encoding=coding)
        assert (answer.status_code, answer.json()) == (200, {"accepted": n, "rejected": []})
    assert {path.suffix for path in engine.inbox.waiting()} == {".arrow"}
    engine.tick()
    assert engine.log.totals("eta") == {"predictions": n, "labelled": 0, "orphans": 0, "set_aside": 0}
    assert engine.inbox.waiting() == []


def test_a_value_that_does_not_fit_is_set_aside_whatever_form_it_came_in(door: Door) -> None:
    engine, http = door
    wrong = event("a") | {"features": {"distance": "far", "city": "Graz", "unheard of": 1}}
    assert post(http, json.dumps(wrong).encode()).json()["accepted"] == 1
    columns = events_of("b").drop_columns(["distance"]).append_column("distance", pa.array(["far"]))
    assert post(http, stream(columns.append_column("unheard of", pa.array([1]))), ingest.ARROW).json()["accepted"] == 1
    engine.tick()
    assert engine.log.totals("eta")["set_aside"] == 4
    assert engine.log.totals("eta")["predictions"] == 2


def test_small_requests_of_many_connections_reach_the_log_together(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, http = door
    with ThreadPoolExecutor(16) as pool:
        sent = list(pool.map(lambda i: post(http, json.dumps(event(f"r{i}")).encode()).status_code, range(200)))
    assert sent == [200] * 200
    appended, real = [], engine.log.append
    monkeypatch.setattr(
        engine.log, "append", lambda model, rows, now: appended.append(rows.num_rows) or real(model, rows, now)
    )
    engine.tick()
    assert appended == [200]
    assert engine.log.totals("eta")["predictions"] == 200


@pytest.mark.parametrize(
    ("kind", "coding", "body", "status", "said"),
    [
        (ingest.JSON, "br", b"{}", 415, "use gzip or zstd"),
        (ingest.JSON, "gzip, gzip", b"{}", 415, "use gzip or zstd"),
        (ingest.JSON, "gzip", b"{}", 400, "cannot be expanded as gzip"),
        (ingest.JSON, "zstd", b"{}", 400, "cannot be expanded as zstd"),
        (ingest.ARROW, "identity", b"{}", 400, "no Arrow stream"),
        (ingest.PARQUET, "identity", b"{}", 400, "no Parquet file"),
        ("text/csv", "identity", b"a,b", 415, "application/json"),
        ("", "identity", b"", 415, "application/json"),
    ],
)
def test_a_body_that_cannot_be_read_is_explained(
    door: Door, kind: str, coding: str, body: bytes, status: int, said: str
) -> None:
    found = post(door[1], body, kind, content_encoding=coding)
    assert found.status_code == status
    assert said in found.text


def test_a_bomb_is_refused_and_its_bytes_are_given_back(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    _, http = door
    bomb = gzip.compress(bytes(200 << 20))
    assert len(bomb) < 1 << 20
    for _ in range(3):
        assert post(http, bomb, content_encoding="gzip").status_code == 413
    monkeypatch.setattr(commit, "MOST_HELD", 1000)
    assert post(http, json.dumps(event("a")).encode()).status_code == 200
    busy = post(http, json.dumps([event("a")] * 20).encode())
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert post(http, json.dumps(event("a")).encode()).status_code == 200


def test_an_engine_that_is_behind_is_told(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MOST_FILES", 0)
    found = post(door[1], json.dumps(event("a")).encode())
    assert (found.status_code, found.headers["retry-after"]) == (429, "10")
    assert "wait for the engine" in found.json()["error"]["message"]


@pytest.mark.parametrize("name", ["../eta", "..%2Feta", "%2e%2e", "eta%00", "eta;DROP TABLE x", "%ff", "a" * 3000])
def test_tricks_in_a_name_lead_nowhere(door: Door, name: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = door[1].post(f"/v1/models/{name}/predictions", json=event("a"))
    assert found.status_code in (404, 405)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_batch_that_was_damaged_is_kept_and_the_others_go_on(door: Door) -> None:
    engine, http = door
    post(http, json.dumps(event("a")).encode())
    [path] = engine.inbox.waiting()
    path.write_bytes(path.read_bytes()[:100])
    post(http, json.dumps(event("b")).encode())
    engine.tick()
    assert engine.log.totals("eta")["predictions"] == 1
    assert engine.inbox.rejected() == 1
    assert [kept.name for kept in engine.inbox.rejects.glob("*.arrow")] == [path.name]


def test_a_model_that_was_taken_out_of_the_configuration_keeps_its_events(door: Door, tmp_path: Path) -> None:
    engine, http = door
    post(http, stream(events_of("a", "b")), ingest.ARROW)
    models = {name: model for name, model in engine.config.models.items() if name != "eta"}
    engine.config = engine.recorder.config = engine.config.model_copy(update={"models": models})
    engine.tick()
    assert engine.inbox.rejected() == 2
    kept = [json.loads(line) for path in engine.inbox.rejects.iterdir() for line in path.read_text().splitlines()]
    assert {(one["reason"], one["event"]["request_id"]) for one in kept} == {
        ('there is no model "eta" in the configuration', name) for name in "ab"
    }


def test_what_is_sensitive_is_protected_before_it_waits(tmp_path: Path) -> None:
    columns = {"distance": {"kind": "numeric"}, "city": {"kind": "categorical", "sensitive": "mask"}}
    settings = Config.model_validate({"models": {"eta": {"columns": columns}}})
    engine = Engine(tmp_path / "store", settings, clock=lambda: live.NOW)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        for body, kind in ((json.dumps(event("a")).encode(), ingest.JSON), (stream(events_of("b")), ingest.ARROW)):
            assert post(http, body, kind).json()["accepted"] == 1
        assert len(engine.inbox.waiting()) == 2
        assert not any(b"Graz" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        engine.tick()
    assert engine.log.totals("eta")["predictions"] == 2
    engine.close()


# KPIs


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Door]:
    model = {"columns": {"distance": {"kind": "numeric"}}, "kpis": {"revenue": {"unit": "EUR"}}}
    config = Config.model_validate({"models": {"eta": model}})
    engine = Engine(tmp_path / "store", config, clock=lambda: live.NOW)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield engine, http
    engine.close()


def kpi(name: str, value: Any = 12.5, of: str = "revenue") -> dict[str, Any]:
    return {"request_id": name, "name": of, "value": value, "known_at": AT.isoformat()}


def test_kpis_come_in_every_form_and_are_kept_once(shop: Door) -> None:
    engine, http = shop
    table = pa.Table.from_pylist([{**kpi(name), "known_at": AT} for name in "fg"])
    bodies = [
        (json.dumps(kpi("a")).encode(), ingest.JSON, 1),
        (json.dumps([kpi("b"), kpi("c")]).encode(), ingest.JSON, 2),
        (json.dumps({"events": [kpi("d")]}).encode(), ingest.JSON, 1),
        (json.dumps(kpi("e")).encode() + b"\n", ingest.LINES, 1),
        (stream(table), ingest.ARROW, 2),
        (parquet(table), ingest.PARQUET, 2),
    ]
    for body, form, n in bodies * 2:
        answer = http.post("/v1/models/eta/kpis", content=body, headers={"content-type": form})
        assert (answer.status_code, answer.json()) == (200, {"accepted": n, "rejected": []})
    engine.tick()
    found = engine.log.backend.rows("SELECT request_id, name, value FROM kpis_eta ORDER BY request_id")
    assert found == [(name, "revenue", 12.5) for name in "abcdefg"]


def test_a_kpi_that_the_model_does_not_declare_is_in_the_quarantine(shop: Door) -> None:
    engine, http = shop
    answer = http.post("/v1/models/eta/kpis", json=[kpi("a"), kpi("b", of="revenu"), kpi("c", value="much")])
    assert answer.json()["accepted"] == 2
    assert answer.json()["rejected"][0]["index"] == 2
    engine.tick()
    values = http.get("/api/v1/quarantine").json()["data"]["values"]["eta"]
    assert [(one["request_id"], one["column"], one["value"]) for one in values] == [("b", "kpi:revenu", "12.5")]


def test_the_client_s_kpis_reach_the_log_through_the_server(shop: Door) -> None:
    engine, http = shop
    with Client(str(http.base_url), model="eta", strict=True) as client:
        client.kpi("a", "revenue", 3)
        client.kpi_many(["b", "c"], "revenue", [1.5, 2.5])
    engine.tick()
    assert engine.log.backend.rows("SELECT value FROM kpis_eta ORDER BY request_id") == [(3.0,), (1.5,), (2.5,)]
