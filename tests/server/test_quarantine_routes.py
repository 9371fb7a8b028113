"""The quarantine over HTTP."""

from __future__ import annotations

from pathlib import Path

import fraud_story
import httpx
import live

from watchkeeper.engine import Engine

EVENT = {"event_time": "2024-03-01T10:00:00Z", "features": {"distance": "far", "city": "Graz"}}


def test_the_quarantine_is_shown_and_replayed(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "store", fraud_story.CONFIG, clock=lambda: live.NOW)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        empty = {name: [] for name in fraud_story.CONFIG.models}
        assert http.get("/api/v1/quarantine").json() == {"data": {"events": [], "values": empty}}
        http.post("/v1/models/eta/predictions", json={"request_id": "a", **EVENT})
        engine.inbox.reject("b", [{"kind": "prophecy"}], "no kind")
        engine.tick()
        found = http.get("/api/v1/quarantine?model=eta").json()["data"]
        assert found["values"] == {"eta": [{"request_id": "a", "column": "distance", "value": "far"}]}
        assert found["events"] == [{"reason": "no kind", "event": {"kind": "prophecy"}}]
        assert http.get("/api/v1/quarantine?model=etta").status_code == 404
        assert http.get("/api/v1/quarantine?limit=0").status_code == 422
        asked = http.post("/api/v1/quarantine/replay")
        assert (asked.status_code, asked.json()) == (202, {"data": {"replay": "with the next tick"}})
        engine.tick()
        with engine.state.snapshot() as tx:
            assert [entry.kind for entry in tx.audit_trail(limit=1)] == ["quarantine"]
    engine.close()


def test_a_page_of_another_site_changes_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "store", fraud_story.CONFIG, clock=lambda: live.NOW)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 202), ("none", 202)):
            found = http.post("/api/v1/quarantine/replay", headers={"sec-fetch-site": site})
            assert found.status_code == status
        assert http.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200, "links may lead here"
    engine.close()
