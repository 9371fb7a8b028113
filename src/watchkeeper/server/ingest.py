"""The way in for events: predictions, outcomes and KPIs over HTTP, safely on disk before they are acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from watchkeeper import events
from watchkeeper.errors import DataError
from watchkeeper.server import columns, formats
from watchkeeper.server.commit import Committer
from watchkeeper.server.services import RequestError, services

LARGEST = 32 << 20
"""Bytes in one request, as it is sent and as it expands."""
AT_ONCE = 64 << 10
"""Bytes up to which a request is read in the event loop itself; a larger one would hold up the others."""
CODINGS = ("gzip", "zstd")

JSON, LINES = "application/json", "application/x-ndjson"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
READERS: dict[str, Callable[[bytes, str, str], formats.Found]] = {
    JSON: formats.from_json,
    LINES: formats.from_lines,
    ARROW: lambda body, kind, _: columns.from_arrow(body, kind),
    PARQUET: lambda body, kind, _: columns.from_parquet(body, kind),
}
"""How a body is read, by its Content-Type; given the kind of events and the model."""

router = APIRouter(prefix="/v1/models/{model}", tags=["events"])

_EVENT = {
    events.PREDICTION: {
        "type": "object",
        "required": ["request_id", "event_time", "features"],
        "additionalProperties": False,
        "properties": {
            "request_id": {"type": "string", "minLength": 1, "maxLength": events.LONGEST},
            "event_time": {"type": "string", "format": "date-time"},
            "features": {"type": "object"},
            "version": {"type": "string", "maxLength": events.LONGEST},
            "variant": {"type": "string", "minLength": 1, "maxLength": events.LONGEST},
            "entity_id": {"type": ["string", "number", "null"]},
            "status": {"type": "string", "minLength": 1, "maxLength": events.LONGEST},
            "context": {"type": ["object", "string", "null"]},
            **{
                name: {"type": ["number", "string", "boolean", "null"]}
                for name in ("prediction", "score", "latency_ms", *events.RESOURCES)
            },
        },
    },
    events.OUTCOME: {
        "type": "object",
        "required": ["request_id", "label", "known_at"],
        "additionalProperties": False,
        "properties": {
            "request_id": {"type": "string", "minLength": 1, "maxLength": events.LONGEST},
            "label": {"type": ["number", "string", "boolean"]},
            "known_at": {"type": "string", "format": "date-time"},
        },
    },
    events.KPI: {
        "type": "object",
        "required": ["request_id", "name", "value", "known_at"],
        "additionalProperties": False,
        "properties": {
            "request_id": {"type": "string", "minLength": 1, "maxLength": events.LONGEST},
            "name": {"type": "string", "minLength": 1, "maxLength": events.LONGEST},
            "value": {"type": ["number", "boolean"]},
            "known_at": {"type": "string", "format": "date-time"},
        },
    },
}


def _described(kind: str) -> dict[str, Any]:
    one = _EVENT[kind]
    many = {"type": "array", "items": one}
    wrapped = {"type": "object", "required": ["events"], "properties": {"events": many}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {JSON: {"schema": {"anyOf": [one, wrapped, many]}}}
    content |= {LINES: {"schema": {"type": "string"}}, ARROW: binary, PARQUET: binary}
    return {"requestBody": {"required": True, "content": content}}


@router.post("/predictions", openapi_extra=_described(events.PREDICTION))
async def predictions(model: str, request: Request) -> Response:
    """Take in predictions: `{"events": [{"request_id", "event_time", "features", ...}]}`, one such event, a list of
    them, a line each (`application/x-ndjson`), or as columns (`application/vnd.apache.arrow.stream`,
    `application/vnd.apache.parquet`).

    Answers how many were accepted, and which were rejected and why. What was accepted survives a crash. Sending an
    event again does no harm. 429 says when to come back.
    """
    return await _take_in(events.PREDICTION, model, request)


@router.post("/outcomes", openapi_extra=_described(events.OUTCOME))
async def outcomes(model: str, request: Request) -> Response:
    """Take in outcomes: `{"events": [{"request_id", "label", "known_at"}]}`, or in another form that predictions can
    have. Answers as for predictions."""
    return await _take_in(events.OUTCOME, model, request)


@router.post("/kpis", openapi_extra=_described(events.KPI))
async def kpis(model: str, request: Request) -> Response:
    """Take in KPIs, business values that predictions have led to: `{"events": [{"request_id", "name", "value",
    "known_at"}]}`, or in another form that predictions can have. Answers as for predictions. A `name` that the model's
    `kpis` do not have is set aside."""
    return await _take_in(events.KPI, model, request)


class Losses(BaseModel):
    """What a client had to drop since it began, by reason."""

    model_config = ConfigDict(extra="forbid", strict=True)

    client: str
    dropped: dict[str, int]


@router.post("/losses")
async def losses(model: str, told: Losses, request: Request) -> dict[str, bool]:
    """Hear how many events a client dropped since it began, by reason: `{"client": "...", "dropped": {"buffer full":
    3}}`, for the accounts of the model. `client` tells one run of a client from all others. Telling it again does no
    harm."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:  # no form of any page
        raise RequestError(415, "losses are taken as application/json only", "set the header Content-Type")
    services(request).model(model)
    taking(request)
    inbox = services(request).inbox
    try:
        event = events.losses(model, told.client, told.dropped)
    except DataError as problem:
        raise RequestError(422, str(problem), "correct the request") from problem
    if inbox is not None:  # a server that takes events has one
        await run_in_threadpool(inbox.put, [event])
    return {"accepted": True}


async def _take_in(kind: str, model: str, request: Request) -> Response:
    services(request).model(model)
    committer = taking(request)
    sent_as = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    read = READERS.get(sent_as)
    if read is None:
        raise RequestError(
            415,
            f'events are not taken as "{sent_as}"; they are as {", ".join(READERS)}',
            "set the header Content-Type",
        )
    async with Body(request, committer) as body:
        if len(body) <= AT_ONCE:
            found = read(body, kind, model)
        else:
            found = await run_in_threadpool(read, body, kind, model)
        await committer.commit(model, kind, found)
    return Response(msgspec.json.encode(found.answer()), media_type="application/json")


def taking(request: Request) -> Committer:
    """Who writes the events of this server; RequestError where it takes none, or none just now."""
    committer: Committer | None = request.app.state.committer
    if committer is None:
        raise RequestError(503, "this server takes no events", "send them to the server that runs the engine")
    committer.check_backlog()
    return committer


class Body:
    """The body of a request, expanded; its bytes are held against those of all requests until it is left."""

    def __init__(self, request: Request, committer: Committer) -> None:
        self._request, self._committer, self._held = request, committer, 0

    async def __aenter__(self) -> bytes:
        try:
            return await self._read()
        except BaseException:
            self._committer.release(self._held)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._committer.release(self._held)

    def _hold(self, size: int) -> None:
        self._committer.hold(size)
        self._held += size

    async def _read(self) -> bytes:
        coding = self._request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in (*CODINGS, "identity"):
            raise RequestError(415, f'the request is coded as "{coding}"', f"use {' or '.join(CODINGS)}, or nothing")
        parts, size = [], 0
        async for part in self._request.stream():
            size += len(part)
            if size > LARGEST:
                raise RequestError(
                    413, f"the request is larger than {LARGEST >> 20} MiB", "send the events in smaller batches"
                )
            self._hold(len(part))
            parts.append(part)
        body = b"".join(parts)
        if coding == "identity":
            return body
        expanded = await run_in_threadpool(formats.expanded, body, coding, LARGEST)
        self._hold(len(expanded))
        return expanded
