"""The shape of an event: what the client writes, the server accepts and the engine takes out of the inbox.

An event is a plain dict that JSON can carry. A prediction, an outcome of it, and a KPI that came of it:

    {"kind": "prediction", "model": "delays", "request_id": "6f1c", "event_time": "2013-07-04T15:00:00+00:00",
     "version": "2", "variant": "champion", "entity_id": null, "prediction": 1, "score": 0.83, "latency_ms": 4.2,
     "cpu_ms": 3.9, "memory_mb": null, "gpu_memory_mb": null, "disk_mb": null, "cost": null, "status": "ok",
     "context": null, "features": {"distance": 733, "origin": "JFK"}}
    {"kind": "outcome", "model": "delays", "request_id": "6f1c", "label": 0, "known_at": "2013-07-05T08:00:00+00:00"}
    {"kind": "kpi", "model": "delays", "request_id": "6f1c", "name": "refund", "value": 12.5,
     "known_at": "2013-07-09T08:00:00+00:00"}

Only the form is checked here. A value that does not fit its column (a word where a number belongs) is a matter for
the log, which sets it aside. Standard library only: this runs in other people's serving processes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from watchkeeper.errors import DataError, did_you_mean

Event = dict[str, Any]

PREDICTION = "prediction"
OUTCOME = "outcome"
KPI = "kpi"

RESOURCES = ("cpu_ms", "memory_mb", "gpu_memory_mb", "disk_mb", "cost")
"""What a prediction used: processor time, memory of the process and of the GPU, reading and writing, and money."""

_PREDICTION = (
    "request_id",
    "event_time",
    "version",
    "variant",
    "entity_id",
    "prediction",
    "score",
    "latency_ms",
    *RESOURCES,
    "status",
    "context",
)
_OUTCOME = ("request_id", "label", "known_at", "source")
_KPI = ("request_id", "name", "value", "known_at")

SOURCES = ("explicit", "implicit", "delayed")
"""How a label is known: somebody said so (a rating, a correction), somebody acted so (a click, a skip), or time told
(a loan that was not paid back after 90 days)."""

FIELDS: dict[str, tuple[str, ...]] = {
    PREDICTION: ("kind", "model", *_PREDICTION, "features"),
    OUTCOME: ("kind", "model", *_OUTCOME),
    KPI: ("kind", "model", *_KPI),
}
"""The keys of each kind of event, in the order they are written."""

_NEEDED = {
    PREDICTION: ("model", "request_id", "event_time", "features"),
    OUTCOME: ("model", "request_id", "label", "known_at"),
    KPI: ("model", *_KPI),
}
"""The keys that no event of a kind can be without."""

RESERVED = frozenset(
    {*_PREDICTION, "arrival", "label", "grain_start", "recorded_at", "label_delay", "arrival_lag", "(hash)", "(label)"}
)
"""Names that a feature cannot bear, since they have a meaning of their own."""

_BESIDE = ("kind", "model", "features")

LOSSES = "losses"
DROPPED = ("invalid", "refused", "buffer full", "spool full", "undelivered", "closed")
"""Why a client drops events."""
_CLIENT = re.compile(r"[0-9A-Za-z_-]{1,64}")

SCORES = "score:"
"""What the names of the columns begin with that hold the probability of each class; the class follows. A `score` that
maps classes to probabilities is kept in such columns, among the features."""

EXPECTED = "expected:"
"""What the names of the columns begin with that hold what is expected of rows whose labels are not known."""

SAID = "said:"
"""What the names of the columns begin with that hold the probability of a class where it was predicted."""

EARLIEST, LATEST = 1971, 2200
"""Years that an event can be of; a time outside them is a mistake of unit or zone."""

MOST = 1e15
"""No value of a KPI is as large: beyond it whole numbers cannot be told apart."""

LONGEST = 256
"""Characters in a request id, an entity id, a version, a variant or a status."""


def prediction(
    model: str,
    features: Mapping[str, object],
    *,
    request_id: str,
    event_time: datetime | str,
    version: str = "",
    variant: str = "champion",
    entity_id: object = None,
    prediction: object = None,
    score: object = None,
    latency_ms: object = None,
    cpu_ms: object = None,
    memory_mb: object = None,
    gpu_memory_mb: object = None,
    disk_mb: object = None,
    cost: object = None,
    status: str = "ok",
    context: Mapping[str, object] | str | None = None,
) -> Event:
    """The event of one prediction.

    Args:
        features: name to value, as the model saw them. Values that JSON does not have are written as it can:
            see `plain`.
        score: of a binary classifier, how likely the positive answer is; of a multi-class one, a mapping of each class
            to its probability.
        event_time: when the prediction was asked for, with a time zone.
        context: anything else worth keeping with it; never monitored. A string is taken as JSON already.

    Raises DataError, which names the field, for anything that has not this form.
    """
    if not isinstance(features, Mapping):
        raise DataError(f"features must map names to values, found a {type(features).__name__}")
    if isinstance(score, Mapping):
        features, score = {**features, **{score_of(known): share for known, share in score.items()}}, None
    return {
        "kind": PREDICTION,
        "model": _text("model", model),
        "request_id": _text("request_id", request_id),
        "event_time": moment("event_time", event_time),
        "version": _text("version", version, empty=True),
        "variant": _text("variant", variant),
        "entity_id": None if entity_id is None else _text("entity_id", str(plain(entity_id))),
        "prediction": plain(prediction),
        "score": plain(score),
        "latency_ms": plain(latency_ms),
        "cpu_ms": plain(cpu_ms),
        "memory_mb": plain(memory_mb),
        "gpu_memory_mb": plain(gpu_memory_mb),
        "disk_mb": plain(disk_mb),
        "cost": plain(cost),
        "status": _text("status", status),
        "context": _context(context),
        "features": {_feature(name): plain(value) for name, value in features.items()},
    }


def score_of(known: object) -> str:
    """The column that holds the probability of a class.

    >>> score_of("cat"), score_of(3), score_of(True)
    ('score:cat', 'score:3', 'score:true')
    """
    word = plain(known)
    return f"{SCORES}{str(word).lower() if isinstance(word, bool) else word}"


def outcome(
    model: str, request_id: str, label: object, *, known_at: datetime | str, source: str | None = None
) -> Event:
    """The event of what a prediction should have been.

    Args:
        known_at: when the label became known, with a time zone. Of several labels for one request the one that
            became known last counts.
        source: how it is known, one of `SOURCES`, where that is to be told.

    Raises DataError, which names the field, for anything that has not this form.
    """
    value = plain(label)
    if value is None:
        raise DataError("label is missing; send an outcome only once it is known")
    if source is not None and source not in SOURCES:
        raise DataError(f"source must be one of {', '.join(SOURCES)}, found {_found(source)}")
    return {
        "kind": OUTCOME,
        "model": _text("model", model),
        "request_id": _text("request_id", request_id),
        "label": value,
        "known_at": moment("known_at", known_at),
        **({} if source is None else {"source": source}),
    }


def kpi(model: str, request_id: str, name: str, value: object, *, known_at: datetime | str) -> Event:
    """The event of a business value that belongs to a prediction.

    Args:
        name: of the KPI, as in the model's configuration.
        value: a finite number; a truth value is 1 or 0.
        known_at: when it became known, with a time zone. Of several values of a KPI for one request the one that
            became known last counts.

    Raises DataError, which names the field, for anything that has not this form.
    """
    number = plain(value)
    number = int(number) if isinstance(number, bool) else number
    if not isinstance(number, (int, float)):
        raise DataError(f"value must be a finite number, found {_found(value)}; send a KPI only once it is known")
    if abs(number) >= MOST:
        raise DataError(f"value must be smaller than {MOST:g}, found {_found(value)}")
    return {
        "kind": KPI,
        "model": _text("model", model),
        "request_id": _text("request_id", request_id),
        "name": _text("name", name),
        "value": number,
        "known_at": moment("known_at", known_at),
    }


def losses(model: str, client: str, dropped: Mapping[str, int]) -> Event:
    """What a client tells of the events that it had to give up.

    Args:
        client: what tells this run of a client from all others, up to 64 letters and digits.
        dropped: how many so far, by reason, one of `DROPPED`. Since it is all of them, to tell it again does no harm.

    Raises DataError, which names the field, for anything that has not this form.
    """
    if not isinstance(client, str) or not _CLIENT.fullmatch(client):
        raise DataError(f"client must be up to 64 letters, digits, - and _, found {_found(client)}")
    if not isinstance(dropped, Mapping):
        raise DataError(f"dropped must map reasons to numbers, found a {type(dropped).__name__}")
    for reason, count in dropped.items():
        if reason not in DROPPED:
            raise DataError(f"events are dropped for one of {', '.join(DROPPED)}, found {_found(reason)}")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**53:
            raise DataError(f'the number dropped for "{reason}" must be a whole number, found {_found(count)}')
    return {"kind": LOSSES, "model": _text("model", model), "client": client, "dropped": dict(dropped)}


def read_losses(found: Mapping[str, Any]) -> Event:
    """Losses that somebody sent, checked. Raises DataError, which names the field, for anything that is none."""
    if set(found) != {"kind", "model", "client", "dropped"}:
        raise DataError(f"losses have the fields kind, model, client and dropped, found {_found(sorted(found))}")
    return losses(found["model"], found["client"], found["dropped"])


def read(found: object, *, kind: str = "", model: str = "") -> Event:
    """An event that somebody sent, checked and in its normal form; keys that may be left out are filled in.

    Args:
        kind, model: what the event must be, where the address it came to says so already; the event itself may
            then leave them out.

    Raises DataError, which names the field, for anything that has not the form.
    """
    if not isinstance(found, Mapping):
        raise DataError(f"an event must be a JSON object, found a {type(found).__name__}")
    given = {str(name): value for name, value in found.items()}
    for name, wanted in (("kind", kind), ("model", model)):
        if wanted and given.setdefault(name, wanted) != wanted:
            raise DataError(f'{name} is "{given[name]}", but the event was sent as one of "{wanted}"')
    kind = given.pop("kind", "")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise DataError(f'kind must be "{PREDICTION}", "{OUTCOME}" or "{KPI}", found {_found(kind)}')
    for name in given:
        if name not in FIELDS[kind]:
            raise DataError(f'a {kind} has no field "{name}"; {did_you_mean(name, FIELDS[kind], "its fields are")}')
    for name in _NEEDED[kind]:
        if given.get(name) is None:
            raise DataError(f"{name} is missing; every {kind} needs one")
    for name, value in given.items():
        single = name not in ("features", "context") and not (name == "score" and isinstance(value, Mapping))
        if single and isinstance(value, (Mapping, list)):
            raise DataError(f"{name} must be a single value, found a {type(value).__name__}")
    if kind == KPI:
        return kpi(given["model"], given["request_id"], given["name"], given["value"], known_at=given["known_at"])
    if kind == OUTCOME:
        known_at, source = given["known_at"], given.get("source")
        return outcome(given["model"], given["request_id"], given["label"], known_at=known_at, source=source)
    for name in ("version", "variant", "status"):
        if name in given and given[name] is None:
            del given[name]
    return prediction(given.pop("model"), given.pop("features"), **given)


def columns(found: Sequence[Event]) -> dict[str, list[Any]]:
    """Events of one kind as columns, features beside the other fields; what an event lacks is None.

    `kind` and `model`, the same in all, are left out; a feature may bear these names.
    """
    rows = [{name: event[name] for name in event if name not in _BESIDE} | event.get("features", {}) for event in found]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def plain(value: object) -> Any:
    """A single value as JSON can carry it.

    Numbers, strings and truth values stay; NumPy scalars become Python's own. NaN and infinities, which JSON does
    not have, become the strings "NaN", "Infinity" and "-Infinity", which the log reads as numbers again in a numeric
    column. Moments become ISO 8601, in UTC if their time zone is known, and durations seconds. pandas' NA and NaT
    become null. Anything else becomes its `str`: kept, but set aside unless its column holds words.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, datetime):
        return (value if value.utcoffset() is None else value.astimezone(UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return plain(float(value))
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") in "biuf" and getattr(value, "size", 0) == 1:
        return plain(value.item())  # type: ignore[attr-defined]
    return plain(str(value))


def _deep(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _deep(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_deep(inner) for inner in value]
    return plain(value)


def _context(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return json.dumps(_deep(value), separators=(",", ":"))
    if isinstance(value, str):
        try:
            json.loads(value)
        except json.JSONDecodeError as problem:
            raise DataError(f"context must be a JSON object or a string of JSON: {problem}") from problem
        return str(plain(value))
    raise DataError(f"context must be a JSON object or a string of JSON, found a {type(value).__name__}")


def _feature(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise DataError(f"features must have names that are strings, found {_found(name)}")
    if name in RESERVED:
        raise DataError(f'features has "{name}", a name with a meaning of its own; rename that feature')
    return str(plain(name))


def _text(field: str, value: object, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise DataError(f"{field} must be a string{'' if empty else ' that is not empty'}, found {_found(value)}")
    if len(value) > LONGEST:
        raise DataError(f"{field} has {len(value)} characters; it may have {LONGEST}")
    return str(plain(value))


def moment(field: str, value: object) -> str:
    """A moment as an event has it: ISO 8601 in UTC. DataError, which names the field, if it is none."""
    found = value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise DataError(
                f'{field} "{found}" is no time; write ISO 8601 with a zone, such as 2013-07-04T15:00:00Z'
            ) from None
    if not isinstance(value, datetime):
        raise DataError(f"{field} must be a time, found {_found(found)}")
    if value.utcoffset() is None:
        raise DataError(
            f"{field} {found} has no time zone, so it names no moment; use datetime.now(UTC) or write +00:00"
        )
    try:
        at = value.astimezone(UTC)
    except OverflowError:
        at = None
    if at is None or not EARLIEST <= at.year <= LATEST:
        raise DataError(f"{field} {found} lies outside the years {EARLIEST} to {LATEST}; check its unit and its zone")
    return at.isoformat()


def _found(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
