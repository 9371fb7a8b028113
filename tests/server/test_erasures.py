"""Erasing over HTTP: by administrators alone, and never by a page of somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import live
import pytest

from small_world import NAME, World, prediction
from watchkeeper.server import access
from watchkeeper.server.access import Role
from watchkeeper.server.app import create_app

SUBJECT = "ann@example.org"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.engine.close()


def test_an_administrator_erases_a_subject(world: World) -> None:
    engine = world.engine
    key = {
        role: access.create(engine.state, role, role, datetime(2024, 1, 1, tzinfo=UTC), "tests")
        for role in (Role.OPERATOR, Role.ADMIN)
    }
    engine.inbox.put([{**prediction(i, 0), "entity_id": SUBJECT if i < 4 else "b"} for i in range(20)])
    app = create_app(engine.state, clock=engine.clock, operations=engine, inbox=engine.inbox)
    with live.serving(app) as url, httpx.Client(base_url=url, timeout=60) as http:

        def ask(role: Role, **body: object) -> httpx.Response:
            return http.post("/api/v1/erasures", json=body, headers={"authorization": f"Bearer {key[role]}"})

        assert ask(Role.OPERATOR, subject=SUBJECT).status_code == 403
        found = ask(Role.ADMIN, subject=SUBJECT)
        assert found.status_code == 200
        assert found.json()["data"]["complete"] is True
        assert found.json()["data"]["deleted"][NAME]["predictions"] == 4
        assert ask(Role.ADMIN, subject=SUBJECT, model="lons").status_code == 404
        assert ask(Role.ADMIN, subject="").status_code == 422
        assert ask(Role.ADMIN, subject=SUBJECT, modell=NAME).status_code == 422
    assert engine.log.totals(NAME)["predictions"] == 16


def test_a_form_of_another_page_erases_nobody(world: World) -> None:
    with live.serving(live.application(world.engine)) as url:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            body = f'{{"subject": "{SUBJECT}"}}'
            found = httpx.post(f"{url}/api/v1/erasures", content=body, headers={"content-type": kind})
            assert found.status_code in (415, 422)
    with world.engine.state.snapshot() as tx:
        assert not [entry for entry in tx.audit_trail() if entry.kind == "erasure"]
