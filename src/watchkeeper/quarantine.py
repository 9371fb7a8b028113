"""The quarantine: what came in and did not fit, kept beside why, and taken in once the configuration has changed.

Events that could not be taken lie in the store's `rejected/` folder. Values that did not fit their column, and those
of columns that the configuration does not name, lie in the log, beside the predictions that they belong to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from watchkeeper import cloudevents, events
from watchkeeper.errors import DataError
from watchkeeper.schema import Config
from watchkeeper.store import arrivals, kpis, privacy
from watchkeeper.store.arrivals import Batch
from watchkeeper.store.backends import overwrite, quoted, text
from watchkeeper.store.halves import FORM
from watchkeeper.store.inbox import Inbox
from watchkeeper.store.log import UNITS, Log, tables
from watchkeeper.store.privacy import Keys

REPLAY = "replay"
"""The cursor, of no model, that asks the engine to take in what fits now."""
_FILLED = "filled"


def rejects(folder: Path, limit: int) -> Iterator[dict[str, Any]]:
    """Events that could not be taken, each as `{"reason", "event"}`, the newest files first."""
    for path in sorted(folder.glob("*.ndjson"), reverse=True) if folder.is_dir() else ():
        for line in path.read_text(encoding="utf-8").splitlines():
            if limit <= 0:
                return
            limit -= 1
            yield json.loads(line)


def values(log: Log, model: str, limit: int) -> list[dict[str, Any]]:
    """Values that were set aside: `request_id`, `column` and `value`, the newest first. Any thread may ask."""
    aside = quoted(tables(model)[2])
    query = (
        f"SELECT request_id, name AS {quoted('column')}, value FROM {aside} ORDER BY arrival DESC, request_id, name"
        f" LIMIT {limit}"
    )
    with log.backend.stream(query) as found:
        rows: list[dict[str, Any]] = found.read_all().to_pylist()
    return rows


def replay_events(inbox: Inbox, config: Config, now: datetime, protect: Callable[[Batch], Batch]) -> int:
    """Put the rejects that can be understood now back into the inbox; how many. The others stay as they are.

    They are in the inbox before they leave the rejects, so one that is interrupted is done again and does no harm.
    """
    taken = 0
    for path in sorted(inbox.rejects.glob("*.ndjson")) if inbox.rejects.is_dir() else ():
        whole, halves, rest = [], [], []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                event = json.loads(line)["event"]
                if isinstance(event, dict) and "specversion" in event:
                    named = event.get("model")
                    model = named if isinstance(named, str) and named in config.models else ""
                    halves.append(protect(cloudevents.read(event, model, config, now)))
                else:
                    whole.append(_known(events.read(event), config))
            except DataError:
                rest.append(line)
        if not whole and not halves:
            continue
        inbox.put(whole)
        arrivals.put(inbox, halves, FORM)
        taken += len(whole) + len(halves)
        _rewrite(path, rest)
    return taken


def _known(event: events.Event, config: Config) -> events.Event:
    if event["model"] not in config.models:
        raise DataError(f'there is no model "{event["model"]}" in the configuration')
    return event


def _rewrite(path: Path, lines: list[str]) -> None:
    if not lines:
        path.unlink()
        return
    overwrite(path, "".join(f"{line}\n" for line in lines).encode())


def replay_values(log: Log, model: str, config: Config, keys: Keys, told: Callable[[Iterable[datetime]], None]) -> int:
    """Give the values that fit their column now to their predictions; how many.

    A value is only given to a prediction that has none in this column. Those of KPIs that are declared now were stored
    all along.

    Args:
        told: is told the grains of these predictions, before and after.
    """
    predictions, _, aside = tables(model)
    run, there = log.backend, log.backend.columns(predictions)
    given = kpis.settle(run, model, [*config.models[model].kpis])
    unit = UNITS[config.models[model].grain]
    for name in config.models[model].stored:
        found = run.arrow(f"SELECT request_id, value FROM {quoted(aside)} WHERE name = {text(name)}")
        hidden = privacy.protect(pa.table({name: found["value"]}), config.models[model], keys)
        fitting = _fitting(pa.table({"request_id": found["request_id"], "value": hidden[name]}), there[name])
        if not fitting.num_rows:
            continue
        chosen = f"p.request_id = f.request_id AND p.{quoted(name)} IS NULL"
        with run.known(_FILLED, fitting), run.transaction():
            touched = run.rows(
                f"SELECT DISTINCT date_trunc('{unit}', p.event_time) FROM {quoted(predictions)} p"
                f" JOIN {_FILLED} f ON {chosen}"
            )
            grains = {row[0].replace(tzinfo=UTC) for row in touched}
            told(grains)
            run.run(
                f"UPDATE {quoted(predictions)} AS p SET {quoted(name)} = f.value FROM {_FILLED} AS f WHERE {chosen}"
            )
            given += run.run(
                f"DELETE FROM {quoted(aside)} WHERE name = {text(name)}"
                f" AND request_id IN (SELECT request_id FROM {_FILLED})"
            )
        told(grains)
    return given


def _fitting(found: pa.Table, kind: str) -> pa.Table:
    """The rows whose value can be read as what the column holds."""
    rows = []
    for request_id, value in zip(found["request_id"].to_pylist(), found["value"].to_pylist(), strict=True):
        try:
            if kind == "VARCHAR":
                rows.append((request_id, value))
            elif kind == "TIMESTAMP":
                moment = datetime.fromisoformat(value)
                rows.append((request_id, moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment))
            else:
                rows.append((request_id, float(value)))
        except (ValueError, OverflowError):
            continue
    types = {"VARCHAR": pa.string(), "TIMESTAMP": pa.timestamp("us")}
    return pa.table(
        {
            "request_id": pa.array([row[0] for row in rows], pa.string()),
            "value": pa.array([row[1] for row in rows], types.get(kind, pa.float64())),
        }
    )
