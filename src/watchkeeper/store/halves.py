"""Halves of predictions: what a model was asked and what it answered, when they come apart.

An inference server reports a request and its answer by themselves, in either order and to any worker. Each half waits
in the inbox, as durable as whole events are, until the other has come or too much time has passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper import events
from watchkeeper.store.arrivals import Batch, together

REQUEST, RESPONSE = KINDS = ("request", "response")
FORM = ".half.arrow"
"""How the names of the files end that hold halves."""
SOURCE, RECEIVED = "(source)", "(received)"
"""The columns that halves have beside those of a prediction: who reported them, and when they came here."""
ANSWER = ("score", "prediction", "status", "version")
"""The fields of a prediction that its second half holds."""
UNANSWERED = "unanswered"
"""The status of a prediction whose answer never came."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of the halves of one model: whole predictions, those that go on waiting, and answers to nothing."""

    whole: tuple[Batch, ...]
    waiting: tuple[Batch, ...]
    orphans: tuple[Batch, ...]
    changed: bool


def join(halves: Sequence[Batch], late: datetime) -> Joined:
    """Join the halves of one model by who reported them and their id.

    A request that came before `late` and has no answer becomes a prediction without one, an answer an orphan. A half
    that was reported twice counts once.
    """
    model = halves[0].model
    answers = [_once(group) for group in _alike(halves, RESPONSE)]
    answer = answers[0] if answers else None
    whole, waiting = [], []
    met: list[pa.Array] = []
    for rows in map(_once, _alike(halves, REQUEST)):
        found = pc.index_in(_keys(rows), value_set=_keys(answer)) if answer else pa.nulls(rows.num_rows, pa.int32())
        asked = rows.filter(pc.is_valid(found))
        if asked.num_rows and answer is not None:
            whole.append(Batch(model, events.PREDICTION, _completed(asked, answer.take(pc.drop_null(found)))))
            met.append(_keys(asked))
        alone = rows.filter(pc.is_null(found))
        lost, rest = _parted(alone, late)
        if lost.num_rows:
            given = _stripped(lost)
            for name, value in (("status", UNANSWERED), ("version", "")):
                given = given.append_column(name, pa.array([value] * lost.num_rows))
            whole.append(Batch(model, events.PREDICTION, given))
        if rest.num_rows:
            waiting.append(Batch(model, REQUEST, rest))
    orphans = []
    if answer is not None:
        taken = pa.concat_arrays(met) if met else pa.array([], pa.string())
        lost, rest = _parted(answer.filter(pc.invert(pc.is_in(_keys(answer), value_set=taken))), late)
        if lost.num_rows:
            orphans.append(Batch(model, events.PREDICTION, _stripped(lost)))
        if rest.num_rows:
            waiting.append(Batch(model, RESPONSE, rest))
    return Joined(tuple(whole), tuple(waiting), tuple(orphans), bool(whole or orphans) or len(waiting) < len(halves))


def _alike(halves: Iterable[Batch], kind: str) -> list[pa.Table]:
    """The halves of one kind, those of the same columns as one table."""
    groups: dict[object, list[pa.Table]] = {}
    for half in halves:
        if half.kind == kind:
            groups.setdefault(half.shape, []).append(half.rows)
    return [together(group) for group in groups.values()]


def _keys(rows: pa.Table) -> pa.Array:
    keys = pc.binary_join_element_wise(rows[SOURCE], rows["request_id"], "\0")
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


def _once(rows: pa.Table) -> pa.Table:
    keys = _keys(rows)
    first = pc.index_in(pc.unique(keys), value_set=keys)
    return rows if len(first) == rows.num_rows else rows.take(first)


def _parted(rows: pa.Table, late: datetime) -> tuple[pa.Table, pa.Table]:
    old = pc.less(rows[RECEIVED], pa.scalar(late, rows.schema.field(RECEIVED).type))
    return rows.filter(old), rows.filter(pc.invert(old))


def _completed(asked: pa.Table, answered: pa.Table) -> pa.Table:
    took = pc.subtract(pc.cast(answered["event_time"], pa.int64()), pc.cast(asked["event_time"], pa.int64()))
    latency = pc.if_else(pc.greater(took, 0), pc.divide(took.cast(pa.float64()), 1000.0), None)
    rows = _stripped(asked)
    for name in ANSWER:
        rows = rows.append_column(name, answered[name])
    return rows.append_column("latency_ms", latency)


def _stripped(rows: pa.Table) -> pa.Table:
    return rows.drop_columns([SOURCE, RECEIVED])
