"""Events as JSON: checked by their decoder, which knows their form, and made columns.

Only where something is wrong are they looked at one by one, to say what. What is wrong with one event is told by its
index, and the others are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa

from watchkeeper import events
from watchkeeper.errors import DataError
from watchkeeper.server.services import RequestError
from watchkeeper.store import fitting

EXPANDED = 128 << 20
"""Bytes that the events of one request may have once they are columns."""
MOST_ROWS = 1_000_000
"""Events in one request."""
MOST_NAMES = 2_000
"""Different names of features in one request."""
MOST_TOLD = 1_000
"""Events that one answer says of why they were not taken."""

SMALLER = "send the events in smaller batches"
TIME = pa.timestamp("us", tz="UTC")

Value = int | float | str | bool | None
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=events.LONGEST)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Words = Annotated[str, msgspec.Meta(max_length=events.LONGEST)]
Number = Annotated[float, msgspec.Meta(gt=-events.MOST, lt=events.MOST)]


class Prediction(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A prediction as it is sent, the way most are."""

    request_id: Id
    event_time: Moment
    features: dict[str, Value]
    version: Words = ""
    variant: Id = "champion"
    entity_id: Id | None = None
    prediction: Value = None
    score: Value | dict[str, float] = None
    latency_ms: Value = None
    cpu_ms: Value = None
    memory_mb: Value = None
    gpu_memory_mb: Value = None
    disk_mb: Value = None
    cost: Value = None
    status: Id = "ok"
    context: Any = None
    kind: str = events.PREDICTION
    model: str | None = None


class Outcome(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An outcome as it is sent, the way most are."""

    request_id: Id
    label: int | float | str | bool
    known_at: Moment
    kind: str = events.OUTCOME
    model: str | None = None
    source: Literal["explicit", "implicit", "delayed"] | None = None


class Kpi(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A KPI as it is sent, the way most are."""

    request_id: Id
    name: Id
    value: Number
    known_at: Moment
    kind: str = events.KPI
    model: str | None = None


class Predictions(msgspec.Struct, forbid_unknown_fields=True):
    events: list[Prediction]


class Outcomes(msgspec.Struct, forbid_unknown_fields=True):
    events: list[Outcome]


class Kpis(msgspec.Struct, forbid_unknown_fields=True):
    events: list[Kpi]


Row = Prediction | Outcome | Kpi


@dataclass(slots=True)
class Found:
    """The events of one request: those that are right, as rows or as columns, and of the others why not."""

    rows: list[Any] = field(default_factory=list)
    table: pa.Table | None = None
    names: tuple[str, ...] = ()
    rejected: dict[int, str] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        return len(self.rows) if self.table is None else self.table.num_rows

    def answer(self) -> dict[str, Any]:
        """What the sender is told."""
        told = sorted(self.rejected.items())
        said: dict[str, Any] = {
            "accepted": self.accepted,
            "rejected": [{"index": index, "reason": reason} for index, reason in told[:MOST_TOLD]],
        }
        return said if len(told) <= MOST_TOLD else said | {"rejected_beside": len(told) - MOST_TOLD}


# JSON

_TYPES: dict[str, tuple[Any, Any]] = {
    events.PREDICTION: (Prediction, Predictions),
    events.OUTCOME: (Outcome, Outcomes),
    events.KPI: (Kpi, Kpis),
}
_ONE, _MANY, _LIST = (
    {kind: msgspec.json.Decoder(shape(*types)) for kind, types in _TYPES.items()}
    for shape in (lambda one, _: one, lambda _, many: many, lambda one, _: list[one])  # type: ignore[valid-type]
)
"""How one event, `{"events": [...]}` and a list are read, by the kind of event."""
_ASK = 'send one event, {"events": [...]} or a list of events'


def from_json(body: bytes, kind: str, model: str) -> Found:
    """One event, `{"events": [...]}`, or a list of events."""
    start = body[:64].lstrip()
    try:
        if start.startswith(b"["):
            rows = _LIST[kind].decode(body)
        elif start[1:].lstrip().startswith(b'"events"'):
            rows = _MANY[kind].decode(body).events
        else:
            rows = [_ONE[kind].decode(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _one_by_one(_loaded(body), kind, model)
    return _checked(rows, kind, model)


def from_lines(body: bytes, kind: str, model: str) -> Found:
    """One event a line."""
    try:
        return _checked(_ONE[kind].decode_lines(body), kind, model)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lines: list[Any] = []
        for line in filter(None, map(bytes.strip, body.split(b"\n"))):
            try:
                lines.append(json.loads(line))
            except (ValueError, RecursionError) as problem:
                lines.append(_Unreadable(f"not JSON: {problem}"))
        return _one_by_one(lines, kind, model)


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str


def _loaded(body: bytes) -> list[Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as problem:  # JSON that is broken, not UTF-8, or nested without end
        raise RequestError(400, f"the request is not JSON: {problem}", _ASK) from problem
    if isinstance(found, dict):
        found = found.get("events", [found] if "request_id" in found else None)
    if not isinstance(found, list):
        raise RequestError(400, 'the request has no list "events"', _ASK)
    return found


def _checked(rows: list[Any], kind: str, model: str) -> Found:
    """Events that their decoder took, unless one of them needs another look."""
    if all(
        row.kind == kind
        and (row.model is None or row.model == model)
        and _sound(row.event_time if isinstance(row, Prediction) else row.known_at)
        for row in rows
    ):
        if kind != events.PREDICTION:
            return _found(rows, kind, ())
        names = rows[0].features.keys() if rows else ()
        plain = all(
            row.features.keys() == names and row.context is None and not isinstance(row.score, dict) for row in rows
        )
        if plain and _nameable(names):
            return _found(rows, kind, tuple(names))
    return _one_by_one([msgspec.to_builtins(row, builtin_types=(datetime,)) for row in rows], kind, model)


def _sound(moment: datetime) -> bool:
    return events.EARLIEST < moment.year < events.LATEST  # years on the edge are looked at again, in UTC


def _nameable(names: Iterable[str]) -> bool:
    return events.RESERVED.isdisjoint(names) and "" not in names


def _one_by_one(found: list[Any], kind: str, model: str) -> Found:
    rows: list[Row] = []
    rejected = {}
    for index, event in enumerate(found):
        try:
            if isinstance(event, _Unreadable):
                raise DataError(event.reason)
            if isinstance(event, dict) and event.get("model", "") is None:
                del event["model"]
            rows.append(_row(events.read(event, kind=kind, model=model)))
        except DataError as problem:
            rejected[index] = str(problem)
    names = dict.fromkeys(name for row in rows if isinstance(row, Prediction) for name in row.features)
    done = _found(rows, kind, tuple(names))
    done.rejected = rejected
    return done


def _row(event: events.Event) -> Row:
    if event["kind"] != events.PREDICTION:
        made = Outcome if event["kind"] == events.OUTCOME else Kpi
        return made(**event | {"known_at": datetime.fromisoformat(event["known_at"])})
    return Prediction(**event | {"event_time": datetime.fromisoformat(event["event_time"])})


def _found(rows: list[Any], kind: str, names: tuple[str, ...]) -> Found:
    if len(rows) > MOST_ROWS:
        raise RequestError(413, f"the request has {len(rows):,} events; one may have {MOST_ROWS:,}", SMALLER)
    if len(names) > MOST_NAMES:
        raise RequestError(
            413,
            f"the request has features of {len(names):,} different names; one may have {MOST_NAMES:,}",
            "check that no values stand where names belong",
        )
    return Found(rows, names=names)


_PLAIN = tuple(
    name for name in events.FIELDS[events.PREDICTION] if name not in ("kind", "model", "event_time", "features")
)


def table(kind: str, rows: Sequence[Any], names: tuple[str, ...]) -> pa.Table:
    """Rows of JSON as columns: the fields, and the features `names`."""
    if kind != events.PREDICTION:
        fields = [name for name in events.FIELDS[kind] if name not in ("kind", "model", "known_at")]
        columns = fitting.table({name: [getattr(row, name) for row in rows] for name in fields})
        return columns.append_column("known_at", pa.array([row.known_at for row in rows], TIME))
    features = [row.features for row in rows]
    columns = fitting.table(
        {name: [getattr(row, name) for row in rows] for name in _PLAIN}
        | {name: [given.get(name) for given in features] for name in names}
    )
    return columns.append_column("event_time", pa.array([row.event_time for row in rows], TIME))


# compressed requests

PIECE = 1 << 20


def expanded(body: bytes, coding: str, most: int) -> bytes:
    """A body without its Content-Encoding, `gzip` or `zstd`; 413 once it gets larger than `most` bytes."""
    parts, size = [], 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), coding) as stream:
            while part := stream.read(PIECE):
                size += len(part)
                if size > most:
                    raise RequestError(413, f"the request expands to more than {most >> 20} MiB", SMALLER)
                parts.append(part)
    except (pa.ArrowException, OSError) as problem:
        raise RequestError(
            400, f"the request cannot be expanded as {coding}: {problem}", "check Content-Encoding"
        ) from (problem)
    return b"".join(parts)
