"""The way in for events: predictions and outcomes over HTTP, safely on disk before they are acknowledged."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from watchkeeper import events
from watchkeeper.errors import DataError
from watchkeeper.server.services import RequestError, Services, services

LARGEST = 32 * 1024 * 1024
"""Bytes in one request."""

router = APIRouter(prefix="/v1/models/{model}", tags=["events"])
Served = Annotated[Services, Depends(services)]


@router.post("/predictions")
async def predictions(model: str, request: Request, served: Served) -> dict[str, Any]:
    """Take in predictions: `{"events": [{"request_id", "event_time", "features", ...}]}`.

    Answers how many were accepted, and which were rejected and why. What was accepted survives a crash. Sending an
    event again does no harm.
    """
    return await _take_in(events.PREDICTION, model, request, served)


@router.post("/outcomes")
async def outcomes(model: str, request: Request, served: Served) -> dict[str, Any]:
    """Take in outcomes: `{"events": [{"request_id", "label", "known_at"}]}`. Answers as for predictions."""
    return await _take_in(events.OUTCOME, model, request, served)


async def _take_in(kind: str, model: str, request: Request, served: Services) -> dict[str, Any]:
    served.model(model)
    if served.inbox is None:
        raise RequestError(503, "this server takes no events", "send them to the server that runs the engine")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RequestError(415, "events are taken as application/json only", "set the header Content-Type")
    found = _events(await _body(request))
    accepted, rejected = [], []
    for index, event in enumerate(found):
        try:
            accepted.append(events.read(event, kind=kind, model=model))
        except DataError as problem:
            rejected.append({"index": index, "reason": str(problem)})
    await run_in_threadpool(served.inbox.put, accepted)
    return {"accepted": len(accepted), "rejected": rejected}


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise RequestError(
                413, f"the request is larger than {LARGEST >> 20} MiB", "send the events in smaller batches"
            )
        parts.append(part)
    return b"".join(parts)


def _events(body: bytes) -> list[Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as problem:  # JSON that is broken, not UTF-8, or nested without end
        raise RequestError(400, f"the request is not JSON: {problem}", 'send {"events": [...]}') from problem
    if not isinstance(found, dict) or not isinstance(found.get("events"), list):
        raise RequestError(400, 'the request has no list "events"', 'send {"events": [...]}')
    return list(found["events"])
