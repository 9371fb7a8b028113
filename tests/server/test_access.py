"""Who may do what: no route is open by mistake, keys are never kept, and roles have their rights alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fraud_story
import httpx
import live
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from watchkeeper.engine import Engine
from watchkeeper.errors import ConflictError, StateError
from watchkeeper.server import access
from watchkeeper.server.access import Right, Role, right_for
from watchkeeper.server.app import create_app

NOW = datetime(2024, 1, 1, tzinfo=UTC)
RIGHTS = {
    Role.WRITER: {Right.WRITE},
    Role.READER: {Right.READ},
    Role.OPERATOR: {Right.READ, Right.WRITE, Right.OPERATE},
    Role.ADMIN: {Right.READ, Right.WRITE, Right.OPERATE, Right.ADMINISTER},
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("guarded"), fraud_story.CONFIG, clock=lambda: live.NOW)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def keys(engine: Engine) -> dict[Role, str]:
    return {role: access.create(engine.state, f"the {role}", role, NOW, "tests") for role in Role}


@pytest.fixture(scope="module")
def guarded(engine: Engine) -> FastAPI:
    """As on an address that other machines reach."""
    return create_app(engine.state, clock=engine.clock, operations=engine, inbox=engine.inbox)


@pytest.fixture(scope="module")
def http(guarded: FastAPI, keys: dict[Role, str]) -> Iterator[httpx.Client]:
    with live.serving(guarded) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def requests(app: FastAPI) -> list[tuple[str, str]]:
    """Every request that some route of the application answers."""
    found, routes = [], [*app.routes]
    for route in routes:
        if hasattr(route, "original_router"):  # newer releases of FastAPI keep routers whole
            routes += route.original_router.routes
            continue
        assert isinstance(route, (APIRoute, Route)), f"{route} is of a kind that this test does not know"
        path = re.sub(r"{[^}]*}", "x", route.path)
        found += [(method, path) for method in sorted(route.methods or {"GET"})]
    return found


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_every_route_is_closed_without_a_key_and_to_keys_without_the_right(
    guarded: FastAPI, http: httpx.Client, keys: dict[Role, str]
) -> None:
    walked = requests(guarded)
    assert ("POST", "/v1/models/x/predictions") in walked
    assert ("GET", "/api/v1/openapi.json") in walked
    opened = []
    for method, path in walked:
        right = right_for(method, path)
        if right is None:
            opened.append(path)
            continue
        assert http.request(method, path).status_code == 401, (method, path)
        assert http.request(method, path, headers=bearer("wk_0_0")).status_code == 401, (method, path)
        for role, key in keys.items():
            answer = http.request(method, path, headers=bearer(key))
            refused = answer.status_code in (401, 403) and "form" not in answer.text
            assert refused == (right not in RIGHTS[role]), (method, path, role)
    assert set(opened) == {"/healthz", "/static/x/x"}


def test_addresses_of_nobody_are_closed_too(http: httpx.Client) -> None:
    for path in ("/nothing", "/api/v1/nothing", "/v1/x", "//healthz", "/healthz/", "/STATIC/x", "/static"):
        assert http.get(path).status_code == 401, path
    assert http.request("PROPFIND", "/").status_code == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_for_administrators(method: str) -> None:
    assert right_for(method, "/healthz") is Right.ADMINISTER


def test_a_browser_may_send_the_key_as_its_password(http: httpx.Client, keys: dict[Role, str]) -> None:
    page = http.get("/")
    assert page.status_code == 401
    assert page.headers["www-authenticate"].startswith("Basic realm=")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "needs an API key" in page.text
    assert http.get("/", auth=("anybody", keys[Role.READER])).status_code == 200
    assert http.get("/", auth=(keys[Role.READER], "")).status_code == 401
    data = http.get("/api/v1/models")
    assert data.headers["www-authenticate"] == "Bearer"
    assert "watchkeeper keys create" in data.json()["error"]["hint"]


@pytest.mark.parametrize("sent", ["", "Bearer", "Basic !!", "Basic /w==", "Basic", "Digest x", "Bearer \xe9"])
def test_odd_headers_are_no_key(http: httpx.Client, sent: str) -> None:
    assert http.get("/", headers=[(b"authorization", sent.encode("latin-1"))]).status_code == 401


def test_a_weak_key_is_told_which_one_is_needed(http: httpx.Client, keys: dict[Role, str]) -> None:
    found = http.get("/api/v1/models", headers=bearer(keys[Role.WRITER]))
    assert found.status_code == 403
    assert found.json()["error"] == {
        "message": 'the key "the writer" is a writer\'s and may not read here',
        "hint": "use a key of role reader or operator or admin",
    }


def test_a_form_needs_its_token_beside_the_key(http: httpx.Client, keys: dict[Role, str]) -> None:
    found = http.post("/incidents/x/resolve", headers=bearer(keys[Role.OPERATOR]), data={"actor": "a"})
    assert found.status_code == 403
    assert "did not come from a page" in found.text


def test_keys_are_kept_as_hashes_alone(engine: Engine, keys: dict[Role, str]) -> None:
    stored = b"".join(path.read_bytes() for path in engine.store.glob("state.db*"))
    for key in keys.values():
        assert len(key.split("_", 2)[2]) >= 43, "256 bits"
        assert key.encode() not in stored
        assert key.split("_", 2)[2].encode() not in stored


def test_a_key_opens_only_as_it_was_made(engine: Engine, keys: dict[Role, str]) -> None:
    with engine.state.snapshot() as tx:
        known = tx.api_keys()
    key = keys[Role.ADMIN]
    found = access.holder(known, key)
    assert found is not None
    assert found.role == "admin"
    other = keys[Role.WRITER]
    for wrong in (key[:-1], key + "x", key.upper(), "", "wk", "wk__", f"wk_{found.id}_", found.hash,
                  f"wk_{found.id}_{other.split('_', 2)[2]}"):  # fmt: skip
        assert access.holder(known, wrong) is None, wrong


def test_a_revoked_key_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tmp_path, fraud_story.CONFIG, clock=lambda: live.NOW)
    monkeypatch.setattr(access, "REMEMBERED", 0.0)
    with live.serving(live.application(engine)) as url, httpx.Client(base_url=url, timeout=30) as http:
        assert http.get("/").status_code == 200, "as long as no key was made, this machine needs none"
        key = access.create(engine.state, "ci", Role.READER, NOW, "tests")
        assert http.get("/").status_code == 401
        assert http.get("/", headers=bearer(key)).status_code == 200
        with pytest.raises(ConflictError, match='a key "ci" already'):
            access.create(engine.state, "ci", Role.ADMIN, NOW, "tests")
        with pytest.raises(StateError, match='did you mean "ci"'):
            access.revoke(engine.state, "cj", NOW, "tests")
        assert access.revoke(engine.state, "ci", NOW + timedelta(days=1), "tests").role == "reader"
        assert http.get("/", headers=bearer(key)).status_code == 401
        assert http.get("/").status_code == 401, "that the last key was revoked opens nothing"
        access.create(engine.state, "ci", Role.READER, NOW, "tests")
    with engine.state.snapshot() as tx:
        done = [entry.payload["done"] for entry in reversed(tx.audit_trail()) if entry.kind == "key"]
    assert done == ["created", "revoked", "created"]
    engine.close()
