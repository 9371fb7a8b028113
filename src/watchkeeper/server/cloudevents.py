"""The way in for what inference servers report: CloudEvents, and requests together with their answers.

A CloudEvent comes with its attributes in headers (binary), in JSON (structured), or as one of a list (batched). Their
senders do not read answers, so what cannot be taken is kept among the rejects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from watchkeeper import events, inference
from watchkeeper.cloudevents import ATTRIBUTES, named, read, table
from watchkeeper.errors import DataError
from watchkeeper.server.formats import Found
from watchkeeper.server.ingest import JSON, Body, taking
from watchkeeper.server.services import RequestError, Services, services

ONE, MANY = "application/cloudevents+json", "application/cloudevents-batch+json"
MOST = 10_000
"""Events in one batch."""

router = APIRouter(prefix="/v1", tags=["events"])
_BODY = {"content": {JSON: {"schema": {"type": "object"}}, ONE: {"schema": {"type": "object"}}}}


@router.post("/cloudevents", openapi_extra={"requestBody": _BODY})
async def cloudevents(request: Request) -> dict[str, Any]:
    """Take in CloudEvents of inference servers, of any model: `ce-inferenceservicename` names it.

    Types `org.kubeflow.serving.inference.request` and `.response`, with bodies of the protocols V1 and V2; binary,
    structured (`application/cloudevents+json`) or batched (`application/cloudevents-batch+json`). What cannot be taken
    is told in the answer, and kept among the rejects.
    """
    return await _take_in("", request)


@router.post("/models/{model}/cloudevents", openapi_extra={"requestBody": _BODY})
async def cloudevents_of_a_model(model: str, request: Request) -> dict[str, Any]:
    """Take in CloudEvents of inference servers, all of one model. Answers as for those of any model."""
    services(request).model(model)
    return await _take_in(model, request)


@router.post("/models/{model}/inferences", openapi_extra={"requestBody": _BODY})
async def inferences(model: str, request: Request) -> dict[str, Any]:
    """Take in requests of an inference server together with their answers: `{"id", "time", "request", "response"}`, or
    a list of such, with bodies of the protocols V1 and V2 (Open Inference Protocol)."""
    served, config = services(request), services(request).model(model)
    committer = taking(request)
    async with Body(request, committer) as body:
        sent = _loaded(body)
        tables, rejected = [], {}
        for index, given in enumerate(sent if isinstance(sent, list) else [sent]):
            try:
                if not isinstance(given, Mapping):
                    raise DataError('an inference must be an object {"id", "time", "request", "response"}')
                features = inference.asked(given.get("request"), config)
                answer = inference.answered(given.get("response"), config.inference)
                own = next((given[part]["id"] for part in ("request", "response") if given[part].get("id")), None)
                columns = named(given.get("id") or own, given.get("time"), features, served.clock())
                if len(answer["score"]) != len(columns["request_id"]):
                    raise DataError("the request and the answer are of different numbers of rows")
                variant = {"variant": ["champion"] * len(columns["request_id"])}
                tables.append(table(columns | variant | answer))
            except DataError as problem:
                rejected[index] = str(problem)
        for rows in tables:
            await committer.commit(model, events.PREDICTION, Found(table=rows))
    accepted = len(sent) - len(rejected) if isinstance(sent, list) else 1 - len(rejected)
    return _said(accepted, rejected)


async def _take_in(model: str, request: Request) -> dict[str, Any]:
    served, committer = services(request), taking(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    async with Body(request, committer) as body:
        if kind == MANY:
            sent = _loaded(body)
            if not isinstance(sent, list) or len(sent) > MOST:
                raise RequestError(400, f"a batch must be a list of at most {MOST:,} events", "send smaller ones")
        elif kind == ONE:
            sent = [_loaded(body)]
        else:
            sent = [_binary(request, body)]
        accepted, rejected = 0, {}
        for index, event in enumerate(sent):
            try:
                half = read(event, model, served.config, served.clock())
                await committer.commit(half.model, half.kind, Found(table=half.rows))
                accepted += 1
            except DataError as problem:
                rejected[index] = str(problem)
                await run_in_threadpool(_keep, served, event, model, str(problem))
    return _said(accepted, rejected)


def _said(accepted: int, rejected: Mapping[int, str]) -> dict[str, Any]:
    told = [{"index": index, "reason": reason} for index, reason in rejected.items()]
    return {"accepted": accepted, "rejected": told}


def _binary(request: Request, body: bytes) -> dict[str, Any]:
    """An event whose attributes are headers."""
    found: dict[str, Any] = {
        name.removeprefix("ce-"): value for name, value in request.headers.items() if name.startswith("ce-")
    }
    if not found:
        raise RequestError(
            400,
            "the request is no CloudEvent",
            f"set the headers {', '.join(f'ce-{name}' for name in ATTRIBUTES)}, or send it as {ONE}",
        )
    try:
        return found | {"data": json.loads(body)}
    except (ValueError, RecursionError):
        return found | {"data": body.decode("utf-8", "replace")}


def _loaded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise RequestError(400, f"the request is not JSON: {problem}", "send JSON in UTF-8") from problem


def _keep(served: Services, event: object, model: str, reason: str) -> None:
    if served.inbox is not None:
        kept: Any = {**event, "model": model} if isinstance(event, Mapping) and model else event
        served.inbox.reject("cloudevents", [kept], reason)
