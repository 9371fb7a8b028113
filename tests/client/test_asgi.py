"""The middleware on real frameworks, and on a bare ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import thread_time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from listener import inbox
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from watchkeeper.client import Client, PredictionMiddleware, current

Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(tmp_path, model="delays", interval=3600, strict=True) as made:
        yield made


@pytest.fixture
def logged(client: Client, tmp_path: Path) -> Logged:
    def found() -> list[dict[str, Any]]:
        client.flush()
        return inbox(tmp_path)

    return found


def ask(app: Any, *requests: tuple[str, str, Any]) -> list[int]:
    """The codes that requests are answered with, sent all at once."""

    async def story() -> list[int]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as browser:
            answers = await asyncio.gather(*(browser.request(how, where, json=what) for how, where, what in requests))
            return [answer.status_code for answer in answers]

    return asyncio.run(story())


class Flight(BaseModel):
    distance: float
    origin: str = "JFK"


def test_fastapi(client: Client, logged: Logged) -> None:
    app = FastAPI()
    app.add_middleware(PredictionMiddleware, client=client, paths=["/predict", "/v*/predict"], version="7")

    @app.post("/predict")
    def predict(request: Request, flight: Flight) -> float:
        p = request.state.prediction
        p.features, p.score = flight.model_dump(), 0.83
        return 0.83

    @app.post("/v2/predict")
    async def second(flight: Flight) -> str:
        p = current()
        assert p is not None
        p.features, p.score, p.entity_id = {"distance": flight.distance}, 0.5, "e"
        await asyncio.sleep(0.01)
        assert current() is p
        return str(p.entity_id)

    @app.get("/health")
    def health() -> str:
        assert current() is None
        return "ok"

    codes = ask(
        app, ("POST", "/predict", {"distance": 733}), ("POST", "/v2/predict", {"distance": 1}), ("GET", "/health", None)
    )
    assert codes == [200, 200, 200]
    found = {event["score"]: event for event in logged()}
    assert found.keys() == {0.83, 0.5}
    assert found[0.83]["features"] == {"distance": 733.0, "origin": "JFK"}
    assert found[0.5]["entity_id"] == "e"
    for event in found.values():
        assert (event["status"], event["version"]) == ("ok", "7")
        assert event["latency_ms"] > 0
        assert event["memory_mb"] > 10
    assert 0 < found[0.5]["cpu_ms"] < found[0.5]["latency_ms"]
    assert found[0.5]["latency_ms"] >= 10


def test_requests_that_predict_nothing_are_not_logged(client: Client, logged: Logged) -> None:
    app = FastAPI()
    app.add_middleware(PredictionMiddleware, client=client, paths=["/predict"])

    @app.post("/predict")
    def predict(flight: Flight) -> None:
        raise HTTPException(404, "no such flight")

    assert ask(app, ("POST", "/predict", {"distance": "far"}), ("POST", "/predict", {"distance": 1})) == [422, 404]
    assert ask(app, ("GET", "/predict", None)) == [405]
    assert logged() == []


def test_starlette_with_failures(client: Client, logged: Logged) -> None:
    async def predict(request: StarletteRequest) -> JSONResponse:
        how = (await request.json())["how"]
        if how == "raise":
            raise ValueError("no model")
        if how == "timeout":
            raise TimeoutError
        request.state.prediction.features = {"how": how}
        return JSONResponse(None, {"bad gateway": 502, "gateway timeout": 504, "refused": 400}[how])

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    app.add_middleware(PredictionMiddleware, client=client, paths=["/predict"])
    kinds = ["raise", "timeout", "bad gateway", "gateway timeout", "refused"]
    for how, code in zip(kinds, [500, 500, 502, 504, 400], strict=True):
        assert ask(app, ("POST", "/predict", {"how": how})) == [code]
    found = logged()
    assert [event["status"] for event in found] == ["error", "timeout", "error", "timeout", "ok"]
    assert json.loads(found[0]["context"]) == {"error": "ValueError"}
    assert found[0]["features"] == {}


def test_the_whole_answer_counts(client: Client, logged: Logged) -> None:
    async def predict(request: StarletteRequest) -> StreamingResponse:
        request.state.prediction.features = {"x": 1}

        async def parts() -> Any:
            for _ in range(3):
                await asyncio.sleep(0.01)
                end = thread_time() + 0.005
                while thread_time() < end:
                    pass
                yield b"part"

        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/predict", predict)])
    app.add_middleware(PredictionMiddleware, client=client, paths=["/predict"])
    assert ask(app, ("GET", "/predict", None)) == [200]
    assert logged()[0]["latency_ms"] >= 45


def test_a_bare_application_and_other_protocols(client: Client, logged: Logged) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], scope.get("state")))
        if scope["type"] == "http":
            scope["state"]["prediction"].set({"features": {"x": 1}, "score": 0.5})
            end = thread_time() + 0.005
            while thread_time() < end:
                pass
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

    watched = PredictionMiddleware(app, client=client, paths=["/predict"])
    sent = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def story() -> None:
        await watched({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
        await watched({"type": "websocket", "path": "/predict"}, None, send)  # type: ignore[arg-type]
        await watched({"type": "http", "path": "/predict"}, None, send)  # type: ignore[arg-type]

    asyncio.run(story())
    assert [kind for kind, _ in seen] == ["lifespan", "websocket", "http"]
    assert sent == ["http.response.start", "http.response.body"]
    (event,) = logged()
    assert (event["features"], event["score"]) == ({"x": 1}, 0.5)
    assert event["cpu_ms"] >= 5
