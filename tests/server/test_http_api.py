"""The JSON interface, and the way in for events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import fraud_story
import httpx
import live
import pytest

from watchkeeper.engine import Engine
from watchkeeper.keeping import Erasure
from watchkeeper.schema import Config
from watchkeeper.server import ingest
from watchkeeper.server.app import create_app
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.state import State


def test_models_come_in_the_order_of_need(http: httpx.Client) -> None:
    data = http.get("/api/v1/models").json()["data"]
    assert [row["name"] for row in data] == ["checkout-fraud", "search-ranking", "eta"]
    assert data[0]["severity"] == "P1"
    assert data[0]["checks"]["sentinel values"]["breach"] == 1
    assert data[0]["predictions_last_day"] == fraud_story.ROWS
    assert data[1]["until"] is None


def test_a_model_names_its_champions_and_its_verdicts(http: httpx.Client) -> None:
    data = http.get("/api/v1/models/checkout-fraud").json()["data"]
    assert [c["version"] for c in data["champions"]] == ["2024-02", "2024-04"]
    assert {v["status"] for v in data["verdicts"]} == {"healthy", "breach"}
    assert all(v["reason_sentence"] for v in data["verdicts"])


def test_incidents_can_be_chosen(http: httpx.Client, ids: fraud_story.Ids) -> None:
    found = http.get("/api/v1/incidents?state=open").json()["data"]
    assert ids.sentinel in [i["id"] for i in found]
    assert {i["state"] for i in found} == {"open"}
    opened = [i["opened_at"] for i in http.get("/api/v1/incidents").json()["data"]]
    assert len(opened) >= 3
    assert opened == sorted(opened, reverse=True)
    assert len(http.get("/api/v1/incidents?limit=1").json()["data"]) == 1
    assert http.get("/api/v1/incidents?model=eta").json()["data"] == []
    assert http.get("/api/v1/incidents?state=odd").status_code == 422


def test_an_incident_carries_its_story(http: httpx.Client, ids: fraud_story.Ids) -> None:
    data = http.get(f"/api/v1/incidents/{ids.drift}").json()["data"]
    assert data["state"] == "resolved"
    assert data["transitions"][0]["reason"] == "first_breach"
    assert data["rollouts"] == [ids.rollout]
    assert len(data["actions"]) == 1


def test_a_rollout_answers_tools_that_ask(http: httpx.Client, ids: fraud_story.Ids) -> None:
    passed = http.get(f"/api/v1/rollouts/{ids.rollout}/verdict").json()["data"]
    assert (passed["ok"], passed["state"]) == (True, "pass")
    assert passed["n"] > 100
    waiting = http.get(f"/api/v1/rollouts/{ids.waiting}/verdict").json()["data"]
    assert (waiting["ok"], waiting["state"], waiting["n"]) == (True, "inconclusive", 0)


def test_a_model_tells_how_its_service_is(http: httpx.Client) -> None:
    found = {(p["metric"], p["column"]): p for p in http.get("/api/v1/models/checkout-fraud").json()["data"]["service"]}
    assert found["availability", "status"]["value"] > 0.98
    assert found["p95", "latency_ms"]["low"] < found["p95", "latency_ms"]["value"]
    assert 0.002 < found["mean_cost", "cost"]["value"] < 0.003
    assert found["total_cost", "cost"]["n"] == found["mean_cost", "cost"]["n"] > 0


def test_errors_have_one_shape(http: httpx.Client) -> None:
    near = http.get("/api/v1/models/etta")
    assert (near.status_code, near.json()) == (
        404,
        {"error": {"message": 'there is no model "etta"', "hint": 'did you mean "eta"?'}},
    )
    for path in ("/api/v1/nothing", "/api/v1/incidents/x", "/api/v1/rollouts/x/verdict", "/v1/models"):
        found = http.get(path)
        assert found.status_code == 404
        assert set(found.json()["error"]) <= {"message", "hint"}
    assert http.delete("/api/v1/models").status_code == 405


def test_it_says_that_it_is_well(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok", "config": fraud_story.CONFIG.version}


def test_the_interface_is_described(http: httpx.Client) -> None:
    paths = http.get("/api/v1/openapi.json").json()["paths"]
    assert "/api/v1/models/{model}" in paths
    assert "/v1/models/{model}/predictions" in paths
    assert "/" not in paths


# The way in


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[Engine, httpx.Client]]:
    engine = Engine(tmp_path / "store", fraud_story.CONFIG, clock=lambda: live.NOW)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield engine, http
    engine.close()


def prediction(name: str) -> dict[str, object]:
    return {
        "request_id": name,
        "event_time": "2024-03-01T10:00:00Z",
        "score": 0.2,
        "features": {"distance": 3.5, "city": "Graz"},
    }


def test_events_reach_the_log(door: tuple[Engine, httpx.Client]) -> None:
    engine, http = door
    sent = http.post("/v1/models/eta/predictions", json={"events": [prediction("a"), prediction("b")]})
    assert (sent.status_code, sent.json()) == (200, {"accepted": 2, "rejected": []})
    outcome = {"request_id": "a", "label": 1, "known_at": "2024-03-02T10:00:00Z"}
    assert http.post("/v1/models/eta/outcomes", json={"events": [outcome]}).json()["accepted"] == 1
    assert len(engine.inbox.waiting()) == 2
    engine.tick()
    assert engine.log.totals("eta")["predictions"] == 2
    assert engine.log.totals("eta")["labelled"] == 1


def test_a_wrong_event_is_named_and_the_others_are_kept(door: tuple[Engine, httpx.Client]) -> None:
    _, http = door
    wrong = [
        prediction("a"),
        {"request_id": "b"},
        7,
        prediction("c") | {"event_time": "noon"},
        prediction("d") | {"model": "other"},
    ]
    found = http.post("/v1/models/eta/predictions", json={"events": wrong}).json()
    assert found["accepted"] == 1
    assert [row["index"] for row in found["rejected"]] == [1, 2, 3, 4]
    assert "event_time is missing" in found["rejected"][0]["reason"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/models/etta/predictions", b'{"events": []}', 404, 'did you mean "eta"?'),
        ("/v1/models/eta/predictions", b"{", 400, "not JSON"),
        ("/v1/models/eta/predictions", b"\xff\xfe", 400, "not JSON"),
        ("/v1/models/eta/predictions", b"7", 400, 'no list "events"'),
        ("/v1/models/eta/predictions", b'{"events": {}}', 400, 'no list "events"'),
        ("/v1/models/eta/predictions", b"{}", 400, 'no list "events"'),
    ],
)
def test_a_wrong_request_is_explained(
    door: tuple[Engine, httpx.Client], path: str, body: bytes, status: int, said: str
) -> None:
    found = door[1].post(path, content=body, headers={"Content-Type": "application/json"})
    assert found.status_code == status
    error = found.json()["error"]
    assert said in f"{error['message']} {error.get('hint')}"


def test_events_of_a_web_page_are_refused(door: tuple[Engine, httpx.Client]) -> None:
    # A page of another site may send text/plain to a server on this machine without asking; JSON it may not.
    found = door[1].post(
        "/v1/models/eta/predictions", content=b'{"events": []}', headers={"Content-Type": "text/plain"}
    )
    assert found.status_code == 415
    assert "application/json" in found.json()["error"]["message"]


def test_json_without_end_is_refused(door: tuple[Engine, httpx.Client]) -> None:
    body = b'{"events": ' + b"[" * 100_000
    found = door[1].post("/v1/models/eta/predictions", content=body, headers={"Content-Type": "application/json"})
    assert found.status_code == 400


def test_too_large_a_request_is_refused(door: tuple[Engine, httpx.Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "LARGEST", 100)
    found = door[1].post("/v1/models/eta/predictions", json={"events": [prediction("a")] * 9})
    assert found.status_code == 413
    assert "smaller batches" in found.json()["error"]["hint"]


def test_no_events_are_no_trouble(door: tuple[Engine, httpx.Client]) -> None:
    engine, http = door
    assert http.post("/v1/models/eta/outcomes", json={"events": []}).json() == {"accepted": 0, "rejected": []}
    assert engine.inbox.waiting() == []


def test_a_disk_that_is_full_is_told(door: tuple[Engine, httpx.Client]) -> None:
    engine, http = door
    engine.inbox.folder.parent.mkdir(parents=True, exist_ok=True)
    engine.inbox.folder.write_text("a file where the folder should be")
    found = http.post("/v1/models/eta/predictions", json={"events": [prediction("a")]})
    assert found.status_code == 503
    assert "cannot be written" in found.json()["error"]["message"]


class Quiet:
    """Operations of a server that only shows."""

    config = Config.model_validate({"models": {"eta": {"columns": {"distance": {"kind": "numeric"}}}}})

    def protect(self, batch: Batch) -> Batch:
        return batch

    def acknowledge(self, incident_id: str, actor: str, note: str) -> None: ...
    def resolve(self, incident_id: str, actor: str, note: str) -> None: ...
    def erase(self, subject: str, model: str | None, actor: str) -> Erasure:
        raise NotImplementedError


def test_without_an_inbox_no_events_are_taken(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    app = create_app(state, clock=lambda: datetime(2024, 1, 1, tzinfo=UTC), operations=Quiet(), keyless=True)
    with live.serving(app) as url:
        found = httpx.post(f"{url}/v1/models/eta/predictions", json={"events": []})
    state.close()
    assert found.status_code == 503
    assert "takes no events" in found.json()["error"]["message"]


def test_a_mistake_of_ours_is_not_shown(tmp_path: Path) -> None:
    class Broken(Quiet):
        @property
        def config(self) -> Config:  # type: ignore[override]
            raise RuntimeError("secret detail")

    app = create_app(
        State(tmp_path / "s.db"), clock=lambda: datetime(2024, 1, 1, tzinfo=UTC), operations=Broken(), keyless=True
    )
    with live.serving(app) as url:
        page, data = httpx.get(url), httpx.get(f"{url}/api/v1/models")
    app.state.services.state.close()
    assert (page.status_code, data.status_code) == (500, 500)
    assert "secret" not in page.text + data.text
    assert data.json()["error"]["message"] == "something went wrong on the server"
    assert "default-src 'self'" in page.headers["content-security-policy"]
