"""CloudEvents 1.0 of inference servers, such as KServe's logger sends: a request and its answer, each by itself.

Events are told apart by source, type and id; a request and its answer share their source and id. See
https://github.com/cloudevents/spec.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from watchkeeper import events, inference
from watchkeeper.errors import DataError, did_you_mean
from watchkeeper.schema import Config
from watchkeeper.store import fitting
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.halves import RECEIVED, REQUEST, RESPONSE, SOURCE

PREFIX = "org.kubeflow.serving.inference."
KINDS = {f"{PREFIX}request": REQUEST, f"{PREFIX}response": RESPONSE}
"""What the events that are understood are halves of, by their type."""
ATTRIBUTES = ("specversion", "id", "source", "type")
_TIME = pa.timestamp("us", tz="UTC")


def read(event: object, model: str, config: Config, now: datetime) -> Batch:
    """A half of a prediction: the rows of a request, or of an answer.

    Args:
        model: whose it is; where empty, that of the inference service that the event names.

    Raises DataError, which says why, for an event that cannot be understood.
    """
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
    kind, name = KINDS[event["type"]], model or _model(event, config)
    own_config = config.models[name]
    body = _data(event)
    if kind == REQUEST:
        columns = named(event["id"], event.get("time"), inference.asked(body, own_config), now)
    else:
        columns = named(event["id"], event.get("time"), inference.answered(body, own_config.inference), now)
    rows = len(columns["request_id"])
    if kind == REQUEST:
        columns["variant"] = ["champion"] * rows
    own = {SOURCE: [event["source"]] * rows, RECEIVED: [now] * rows}
    return Batch(name, kind, table(columns | own))


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


def named(request_id: object, at: object, columns: inference.Columns, now: datetime) -> dict[str, list[Any]]:
    """Columns with the ids of the rows and their time."""
    if not isinstance(request_id, str) or not request_id:
        raise DataError("the inference has no id")
    rows = len(next(iter(columns.values()), []))
    if not rows:
        raise DataError("the inference has no rows")
    moment = now if at is None else datetime.fromisoformat(events.moment("time", at))
    return {"request_id": inference.ids(str(events.plain(request_id)), rows), "event_time": [moment] * rows, **columns}


def table(columns: dict[str, list[Any]]) -> pa.Table:
    """Columns of plain values and moments."""
    moments = {name: pa.array(columns.pop(name), _TIME) for name in ("event_time", RECEIVED) if name in columns}
    found = fitting.table(columns)
    for name, values in moments.items():
        found = found.append_column(name, values)
    return found
