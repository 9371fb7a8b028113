"""Erasing a subject from everything that is stored: rows of the log, rejects, training data, samples, profiles, audit.

A row is the subject's where one of its texts is a name of the subject; where a name has `SHORTEST` characters or more,
also where a text mentions it. Rows are known again elsewhere by their request ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from watchkeeper import records
from watchkeeper.errors import StateError
from watchkeeper.profiles import Profile
from watchkeeper.store import arrivals, halves, kpis
from watchkeeper.store.backends import overwrite, quoted, text
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.layout import Deleted
from watchkeeper.store.log import UNITS, Log, tables
from watchkeeper.store.search import SHORTEST
from watchkeeper.store.state import AUDIT, METADATA, PROFILES, State

ERASED = "(erased)"
"""What stands where a name stood that could not be taken out with all around it."""
_WORDS = re.compile(r"[\w@.+:\-]+")
_NOT_PERSONAL = frozenset({"version", "variant", "status"})
_REQUESTS = "erased_requests"
_CHOSEN = f"request_id IN (SELECT request_id FROM {_REQUESTS})"


@dataclass(frozen=True)
class Traces:
    """What a subject is found by: its names, and the ids of its requests."""

    names: tuple[str, ...]
    requests: frozenset[str] = frozenset()

    @property
    def long(self) -> tuple[str, ...]:
        """The names that are looked for within texts too."""
        return tuple(name for name in self.names if len(name) >= SHORTEST)

    def in_text(self, value: str) -> bool:
        """Whether a text is a name or a request id, or mentions a long name."""
        return value in self.names or value in self.requests or any(name in value for name in self.long)

    def among(self, value: Any) -> bool:
        """Whether any text within a plain value is one of the subject's."""
        if isinstance(value, dict):
            return any(self.among(inner) for pair in value.items() for inner in pair)
        if isinstance(value, list):
            return any(map(self.among, value))
        return isinstance(value, str) and self.in_text(value)

    def without(self, value: Any) -> Any:
        """A plain value without the samples of the subject's requests, and its names and request ids in words."""
        if isinstance(value, dict):
            return {self.without(key): self.without(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.without(inner) for inner in value if not self._is_sample(inner)]
        return self.blotted(value) if isinstance(value, str) else value

    def _is_sample(self, value: Any) -> bool:
        return isinstance(value, dict) and "request_id" in value and self.among(value)

    def blotted(self, value: str) -> str:
        if value in self.names or value in self.requests:
            return ERASED
        for name in self.long:
            value = value.replace(name, ERASED)
        return _WORDS.sub(lambda word: ERASED if word[0] in self.requests else word[0], value)


def requests_of(log: Log, model: str, names: Sequence[str]) -> frozenset[str]:
    """The ids of a subject's requests: rows of predictions and values set aside that hold one of its names."""
    traces = Traces(tuple(names))
    p, o, aside = tables(model)
    k = kpis.made(log.backend, model)
    columns = [
        column for column, kind in log.backend.columns(p).items() if kind == "VARCHAR" and column not in _NOT_PERSONAL
    ]
    found = log.backend.rows(
        f"SELECT request_id FROM {quoted(p)} WHERE {' OR '.join(_holds(c, traces) for c in columns)}"
        f" UNION SELECT request_id FROM {quoted(aside)} WHERE {_holds('value', traces)}"
        f" UNION SELECT request_id FROM {quoted(o)} WHERE {_holds('request_id', traces)}"
        f" UNION SELECT request_id FROM {quoted(k)} WHERE {_holds('request_id', traces)}"
    )
    return frozenset(row[0] for row in found)


def _holds(column: str, traces: Traces) -> str:
    """The condition that a column holds a name: as it is, as a text within JSON, or, if it is long, anywhere."""
    whole = f"{quoted(column)} IN ({', '.join(map(text, traces.names))})"
    within = [part for name in traces.names for part in {json.dumps(name), json.dumps(name, ensure_ascii=False)}]
    parts = [*(within if column in ("context", "value") else ()), *traces.long]
    return " OR ".join([whole, *(f"strpos({quoted(column)}, {text(part)}) > 0" for part in parts)])


def grains_of(log: Log, model: str, grain: str, requests: Iterable[str]) -> list[datetime]:
    """The grains that the predictions of requests lie in."""
    unit = UNITS[grain]
    with log.backend.known(_REQUESTS, _ids(requests)):
        found = log.backend.rows(
            f"SELECT DISTINCT date_trunc('{unit}', event_time) AS g FROM {quoted(tables(model)[0])} WHERE {_CHOSEN}"
            " ORDER BY g"
        )
    return [row[0].replace(tzinfo=UTC) for row in found]


def erase_rows(log: Log, model: str, requests: Iterable[str]) -> Deleted:
    """Delete the predictions, outcomes, KPIs and set-aside values of requests."""
    with log.backend.known(_REQUESTS, _ids(requests)):
        return log.delete(model, _CHOSEN, _CHOSEN)


def _ids(requests: Iterable[str]) -> pa.Table:
    return pa.table({"request_id": pa.array(sorted(requests), pa.string())})


def erase_lines(folder: Path, traces: Traces, model: str | None = None) -> int:
    """Take the lines of JSON out of a folder's files that hold one of the subject's names or request ids; how many.

    Args:
        model: whose events alone are taken out; None for all.
    """
    taken = 0
    for path in sorted(folder.glob("*.ndjson")) if folder.is_dir() else ():
        lines = list(filter(None, path.read_text("utf-8", "replace").split("\n")))
        kept = [line for line in lines if not (_is_of(found := _read(line), model) and traces.among(found))]
        taken += len(lines) - len(kept)
        if not kept:
            path.unlink()
        elif len(kept) < len(lines):
            overwrite(path, "".join(f"{line}\n" for line in kept).encode())
    return taken


def _is_of(found: Any, model: str | None) -> bool:
    """Whether a line may be of a model; one that is torn may be of any."""
    return model is None or not isinstance(found, dict) or found.get("model") == model


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def spooled_requests(folders: Iterable[Path], names: Sequence[str], model: str | None) -> frozenset[str]:
    """The ids of a subject's requests that clients hold in their spools and that the log may not know."""
    traces = Traces(tuple(names))
    events = [_read(line) for folder in folders for line in _lines(folder)]
    return frozenset(
        event["request_id"]
        for event in events
        if isinstance(event, dict)
        and isinstance(event.get("request_id"), str)
        and _is_of(event, model)
        and traces.among(event)
    )


def _lines(folder: Path) -> list[str]:
    return [line for path in folder.glob("*.ndjson") for line in path.read_text("utf-8", "replace").split("\n")]


def erase_training_rows(folder: Path, traces: Traces) -> int:
    """Take the subject's rows out of the training data of a job that has ended; how many."""
    return sum(erase_table(folder / name, traces) for name in ("train.parquet", "holdout.parquet"))


def erase_table(path: Path, traces: Traces) -> int:
    """Take the subject's rows out of a Parquet file, if it is there; how many."""
    if not path.is_file():
        return 0
    rows = pq.read_table(path)
    kept = others(rows, traces)
    if kept.num_rows < rows.num_rows:
        sink = pa.BufferOutputStream()
        pq.write_table(kept, sink)
        overwrite(path, sink.getvalue().to_pybytes())
    return int(rows.num_rows - kept.num_rows)


def erase_waiting(inbox: Inbox, traces: Traces) -> int:
    """Take the subject's halves of predictions out that wait for their other ones; how many."""
    taken = 0
    for path in inbox.waiting():
        if path.name.endswith(halves.FORM):
            batch = arrivals.read(path)
            kept = others(batch.rows, traces)
            if kept.num_rows < batch.rows.num_rows:
                taken += batch.rows.num_rows - kept.num_rows
                arrivals.put(inbox, [replace(batch, rows=kept)], halves.FORM)
                inbox.done(path)
    return taken


def others(rows: pa.Table, traces: Traces) -> pa.Table:
    """The rows of which no text is one of the subject's."""
    own = np.zeros(rows.num_rows, dtype=bool)
    for name in (field.name for field in rows.schema if pa.types.is_string(field.type)):
        encoded = rows.column(name).combine_chunks().dictionary_encode()
        held = pa.array([value is not None and traces.in_text(value) for value in encoded.dictionary.to_pylist()])
        if len(held):
            own |= pc.take(held, encoded.indices).fill_null(False).to_numpy(zero_copy_only=False)
    return rows.filter(pa.array(~own))


# the state


@dataclass
class Scrubbed:
    """How much of the state held the subject: rows of the hops, profiles, entries of the audit record; and the hash of
    its latest entry before, where it had to be sealed anew."""

    rows: int = 0
    profiles: int = 0
    entries: int = 0
    resealed_from: int | None = None
    former_hash: str = ""


def scrub(state: State, traces: Traces, model: str | None) -> Scrubbed:
    """Take a subject out of the state: samples of its requests go, its names and request ids are blotted out.

    Args:
        model: whose rows alone are looked at; None for all, and for the audit record.

    Entries of the audit record that hold it are blotted as well, and the record is sealed anew from the first of them
    on; the former latest hash tells whoever kept it that this is what happened.
    """
    found = Scrubbed()
    with state.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        for table in METADATA.sorted_tables:
            if table not in (PROFILES, AUDIT) and (model is None or "model" in table.columns):
                _scrub_rows(connection, table, traces, model, found)
        _scrub_profiles(connection, traces, model, found)
        if model is None:
            _scrub_audit(connection, traces, found)
    return found


def _scrub_rows(connection: sa.Connection, table: sa.Table, traces: Traces, model: str | None, found: Scrubbed) -> None:
    keys = [column for column in table.columns if column.primary_key]
    texts = [c for c in table.columns if isinstance(c.type, (sa.String, sa.JSON)) and c not in keys]
    if not texts:
        return
    query = sa.select(*keys, *texts)
    query = query if model is None else query.where(table.c.model == model)
    for row in connection.execute(query).mappings().all():
        changed = {
            column.name: after
            for column in texts
            if (before := row[column.name]) is not None and (after := traces.without(before)) != before
        }
        if changed:
            same = [key == row[key.name] for key in keys]
            connection.execute(sa.update(table).where(*same).values(changed))
            found.rows += 1


def _scrub_profiles(connection: sa.Connection, traces: Traces, model: str | None, found: Scrubbed) -> None:
    """The values of profiles and vocabularies that name the subject get another name; the counts stay."""
    query = sa.select(PROFILES.c.id, PROFILES.c.data)
    query = query if model is None else query.where(PROFILES.c.model == model)
    for row in connection.execute(query).all():
        profile = Profile.from_bytes(row.data)
        if own := [value for value in profile.values if traces.in_text(value)]:
            renamed = {value: ERASED if not i else f"{ERASED} {i + 1}" for i, value in enumerate(own)}
            data = replace(profile, values=tuple(renamed.get(value, value) for value in profile.values)).to_bytes()
            connection.execute(sa.update(PROFILES).where(PROFILES.c.id == row.id).values(data=data))
            found.profiles += 1


def _scrub_audit(connection: sa.Connection, traces: Traces, found: Scrubbed) -> None:
    entries = [
        records.AuditEntry(r.seq, r.at, r.actor, r.kind, r.subject, r.payload, r.previous, r.hash)
        for r in connection.execute(sa.select(AUDIT).order_by(AUDIT.c.seq))
    ]
    previous = ""
    for entry in entries:
        clean = replace(
            entry,
            actor=traces.blotted(entry.actor),
            subject=traces.blotted(entry.subject),
            payload=traces.without(entry.payload),
        )
        if clean != entry:
            found.entries += 1
            found.resealed_from = found.resealed_from or entry.seq
            found.former_hash = entries[-1].hash
        if found.resealed_from:
            clean = replace(clean, previous=previous).sealed()
            values = {name: getattr(clean, name) for name in ("actor", "subject", "payload", "previous", "hash")}
            connection.execute(sa.update(AUDIT).where(AUDIT.c.seq == entry.seq).values(values))
        previous = clean.hash


def rewrite_state(state: State) -> None:
    """Have no byte of what was deleted or changed stay in the database's files."""
    if state.engine.dialect.name != "sqlite":
        with state.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in METADATA.sorted_tables:
                connection.exec_driver_sql(f"VACUUM FULL {quoted(table.name)}")
        return
    raw = state.engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((busy, *_),) = cursor.fetchall()
        cursor.close()
    finally:
        raw.close()
    if busy:
        raise StateError("the state could not be rewritten, since somebody reads it; try again")
