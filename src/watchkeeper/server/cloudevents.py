"""CloudEvents 1.0 from inference servers, such as KServe's logger sends: a request and its answer, each by itself.

An event comes with its attributes in headers (binary), in JSON (structured), or as one of a list (batched); see
https://github.com/cloudevents/spec. Events are told apart by source, type and id; a request and its answer share their
source and id. Senders of events do not read answers, so what cannot be taken is kept among the rejects.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from watchkeeper import events
from watchkeeper.errors import DataError, did_you_mean
from watchkeeper.schema import Config
from watchkeeper.server import inference
from watchkeeper.server.formats import TIME, Found
from watchkeeper.server.ingest import JSON, Body, taking
from watchkeeper.server.services import RequestError, Services, services
from watchkeeper.store import log
from watchkeeper.store.halves import RECEIVED, REQUEST, RESPONSE, SOURCE

ONE, MANY = "application/cloudevents+json", "application/cloudevents-batch+json"
PREFIX = "org.kubeflow.serving.inference."
KINDS = {f"{PREFIX}request": REQUEST, f"{PREFIX}response": RESPONSE}
ATTRIBUTES = ("specversion", "id", "source", "type")
MOST = 10_000
"""Events in one batch."""

router = APIRouter(prefix="/v1", tags=["events"])
_BODY = {"content": {JSON: {"schema": {"type": "object"}}, ONE: {"schema": {"type": "object"}}}}


@dataclass(frozen=True, slots=True)
class Half:
    """One event, read: rows of a request or of an answer."""

    model: str
    kind: str
    table: pa.Table


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
                columns = _named(given.get("id") or own, given.get("time"), features, served)
                if len(answer["score"]) != len(columns["request_id"]):
                    raise DataError("the request and the answer are of different numbers of rows")
                variant = {"variant": ["champion"] * len(columns["request_id"])}
                tables.append(_table(columns | variant | answer))
            except DataError as problem:
                rejected[index] = str(problem)
        for table in tables:
            await committer.commit(model, events.PREDICTION, Found(table=table))
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
                half = _read(event, model, served)
                await committer.commit(half.model, half.kind, Found(table=half.table))
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


def _read(event: object, model: str, served: Services) -> Half:
    if not isinstance(event, Mapping):
        raise DataError("a CloudEvent must be a JSON object")
    for name in ATTRIBUTES:
        if not isinstance(event.get(name), str) or not event[name]:
            raise DataError(f'the CloudEvent has no attribute "{name}"')
    if event["specversion"] != "1.0":
        raise DataError(f'the CloudEvent is of version "{event["specversion"]}"; 1.0 is understood')
    if event["type"] not in KINDS:
        raise DataError(f'events of type "{event["type"]}" are not understood; {" and ".join(KINDS)} are')
    if len(event["source"]) > 4 * events.LONGEST:
        raise DataError(f"the source of the CloudEvent has {len(event['source'])} characters")
    kind, name = KINDS[event["type"]], model or _model(event, served.config)
    config = served.config.models[name]
    body = _data(event)
    if kind == REQUEST:
        columns = _named(event["id"], event.get("time"), inference.asked(body, config), served)
    else:
        columns = _named(event["id"], event.get("time"), inference.answered(body, config.inference), served)
    rows = len(columns["request_id"])
    if kind == REQUEST:
        columns["variant"] = ["champion"] * rows
    own = {SOURCE: [event["source"]] * rows, RECEIVED: [served.clock()] * rows}
    return Half(name, kind, _table(columns | own))


def _data(event: Mapping[str, Any]) -> object:
    if "data_base64" not in event:
        return event.get("data")
    try:
        return json.loads(base64.b64decode(str(event["data_base64"]), validate=True))
    except (ValueError, binascii.Error, RecursionError) as problem:
        raise DataError(f"data_base64 of the CloudEvent holds no JSON: {problem}") from problem


def _model(event: Mapping[str, Any], config: Config) -> str:
    """The model of an event that was sent to no model: the one of its inference service."""
    service = event.get("inferenceservicename")
    if not isinstance(service, str) or not service:
        raise DataError(
            'the CloudEvent has no attribute "inferenceservicename"; send it to /v1/models/MODEL/cloudevents instead'
        )
    services_of = {(model.inference.service or name): name for name, model in config.models.items()}
    if service not in services_of:
        raise DataError(
            f'no model is run by the inference service "{service}"; {did_you_mean(service, services_of)} Name it in the'
            " configuration of its model, as inference: {service: ...}"
        )
    return services_of[service]


def _named(request_id: object, at: object, columns: inference.Columns, served: Services) -> dict[str, list[Any]]:
    """Columns with the ids of the rows and their time."""
    if not isinstance(request_id, str) or not request_id:
        raise DataError("the inference has no id")
    rows = len(next(iter(columns.values()), []))
    if not rows:
        raise DataError("the inference has no rows")
    moment = served.clock() if at is None else datetime.fromisoformat(events.moment("time", at))
    return {"request_id": inference.ids(str(events.plain(request_id)), rows), "event_time": [moment] * rows, **columns}


def _table(columns: dict[str, list[Any]]) -> pa.Table:
    moments = {name: pa.array(columns.pop(name), TIME) for name in ("event_time", RECEIVED) if name in columns}
    table = log.table(columns)
    for name, values in moments.items():
        table = table.append_column(name, values)
    return table


def _keep(served: Services, event: object, model: str, reason: str) -> None:
    if served.inbox is not None:
        kept: Any = {**event, "model": model} if isinstance(event, Mapping) and model else event
        served.inbox.reject("cloudevents", [kept], reason)
