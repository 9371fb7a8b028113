"""How long raw rows stay: old ones are deleted, the oldest beyond a size, and of the rest a sample may be kept.

The sample is of requests, by the MD5 of their ids: a request is kept if its hash, as a fraction of all hashes, lies
below the share. That is independent of anything a row holds, so a sum over the kept rows, each counted 1/share times,
is an unbiased estimate of the sum over all of them (Horvitz and Thompson 1952). The same rows are kept always, and
those of a smaller share are among those of a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import md5

import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper.store import kpis
from watchkeeper.store.backends import quoted
from watchkeeper.store.layout import Deleted
from watchkeeper.store.log import UNITS, Log, moment, tables

Spans = Sequence[tuple[datetime, float]]
"""Up to when which share of the rows was kept, the earliest first; from the last one on all are there."""

_DIGITS = 16


def expire(log: Log, model: str, before: datetime) -> Deleted:
    """Delete the predictions from before a moment with their outcomes and KPIs, and those of no known prediction that
    were known by then."""
    return log.delete(model, f"event_time < {moment(before)}", f"known_at < {moment(before)}")


def thin(log: Log, model: str, before: datetime, share: float) -> Deleted:
    """Keep the sample of this share of the predictions from before a moment, and of the outcomes and KPIs known by
    then."""
    others = f"NOT ({chosen(share)})"
    return log.delete(model, f"event_time < {moment(before)} AND {others}", f"known_at < {moment(before)} AND {others}")


def in_sample(request_id: str, share: float) -> bool:
    """Whether a request is in the sample of this share."""
    return md5(request_id.encode(), usedforsecurity=False).hexdigest()[:_DIGITS] < _bound(share)


def sampled(rows: pa.Table, share: float) -> pa.Table:
    """The rows, which have a `request_id`, that are in the sample of this share."""
    ids = rows.column("request_id").to_pylist()
    return rows.filter(pa.array([in_sample(one, share) for one in ids], pa.bool_()))


def weights(times: pa.ChunkedArray, spans: Spans) -> pa.Array:
    """For how many rows the kept one of each of these times (UTC, without a zone) stands."""
    found = pa.repeat(pa.scalar(1.0), len(times))
    for until, share in sorted(spans, reverse=True):
        early = pc.less(times, pa.scalar(until.astimezone(UTC).replace(tzinfo=None), pa.timestamp("us")))
        found = pc.if_else(early, pa.scalar(1 / share), found)
    return found


def after_thinning(spans: Spans, before: datetime, share: float) -> list[tuple[datetime, float]]:
    """The spans once the rows from before a moment were thinned to a share."""
    found: list[tuple[datetime, float]] = []
    for until in sorted({before, *(until for until, _ in spans)}, reverse=True):
        old = next((kept for end, kept in sorted(spans) if end >= until), 1.0)
        kept = min(old, share if until <= before else 1.0)
        if not found or found[-1][1] != kept:
            found.append((until, kept))
    return found[::-1]


def start_within(log: Log, model: str, size: int, grain: str, length: timedelta) -> datetime | None:
    """The start of the first grain that may stay for the model's rows to take no more bytes than `size`; None if all
    may. Rows are taken to be of the same size."""
    there = log.backend.size([*tables(model), kpis.made(log.backend, model)])
    if there <= size:
        return None
    home = quoted(tables(model)[0])
    unit = UNITS[grain]
    grains = log.backend.rows(
        f"SELECT date_trunc('{unit}', event_time) AS g, count(*) FROM {home} GROUP BY g ORDER BY g DESC"
    )
    room = sum(rows for _, rows in grains) * size / there
    start: datetime | None = None
    for grain_start, rows in grains:
        room -= rows
        if room < 0:
            return start if start is not None else grain_start.replace(tzinfo=UTC) + length
        start = grain_start.replace(tzinfo=UTC)
    return None


def chosen(share: float) -> str:
    """The condition, in SQL, that the requests in the sample of this share fulfil."""
    return f"substr(md5(request_id), 1, {_DIGITS}) < '{_bound(share)}'"


def _bound(share: float) -> str:
    """The hash, by its first 64 bits, below which a share of all hashes lies."""
    return f"{int(share * 16**_DIGITS):0{_DIGITS}x}"
