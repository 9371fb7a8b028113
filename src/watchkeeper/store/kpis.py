"""KPIs in the log: a table of a model's business values, each of one prediction, and how they meet the predictions.

The table is long, a row a value, so that a KPI that a configuration gains needs no new column. Of the values of a KPI
for one request the latest (by `known_at`) counts; earlier ones are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper.kpis import DELAY, PER_USER, kpi_of
from watchkeeper.store.backends import Backend, quoted, text
from watchkeeper.store.layout import KPI
from watchkeeper.store.sources import SEGMENT, Plan, show

KEY = ("request_id", "name", "known_at")
"""What a row is kept once for."""
SET_ASIDE = "kpi:"
"""What the names begin with under which values of KPIs are set aside; no feature is meant by them."""
_BY = ("version", "grain_start")


def home(model: str) -> str:
    """The table of a model's KPIs."""
    return f"kpis_{model}"


def made(backend: Backend, model: str) -> str:
    """The same, made if there is none: a log of an earlier release has none of a model that is not configured now."""
    backend.create(home(model), {**KPI, "arrival": "BIGINT"}, KEY)
    return home(model)


def parted(rows: pa.Table, declared: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Rows of KPIs that can be stored, and what is set aside: `request_id`, `name` and `value` of those that are no
    finite numbers, and of those whose name is not declared. These are stored too, and count once it is."""
    finite = pc.fill_null(pc.is_finite(rows["value"]), False)
    known = pc.is_in(rows["name"], pa.array(declared, pa.string()))
    other = rows.filter(pc.invert(pc.and_(finite, known)))
    names = [f"{SET_ASIDE}{name}" for name in other["name"].to_pylist()]
    values = [None if value is None else show(value) for value in other["value"].to_pylist()]
    aside = {
        "request_id": other["request_id"],
        "name": pa.array(names, pa.string()),
        "value": pa.array(values, pa.string()),
    }
    return rows.filter(finite), pa.table(aside)


def settle(backend: Backend, model: str, declared: Sequence[str]) -> int:
    """Take what is declared by now, and stored, out of what is set aside; how many values."""
    own, aside = quoted(home(model)), quoted(f"set_aside_{model}")
    return sum(
        backend.run(
            f"DELETE FROM {aside} WHERE name = {text(SET_ASIDE + name)}"
            f" AND request_id IN (SELECT request_id FROM {own} WHERE name = {text(name)})"
        )
        for name in declared
    )


def columns(plans: Iterable[Plan], declared: Sequence[str]) -> tuple[str, ...]:
    """The KPIs that these columns are of."""
    return tuple(dict.fromkeys(name for plan in plans if (name := kpi_of(plan.name, declared))))


def latest(backend: Backend, model: str, names: Sequence[str], until: int | None) -> str:
    """The query that gives the KPIs of the requests that are `chosen`, and when each was known: those that the batches
    up to `until` brought, or the latest of all."""
    match = ", ".join(map(quoted, backend.match))
    same = quoted(next(iter(backend.match)))
    known = "" if until is None else f" AND arrival <= {until}"
    wide = ", ".join(
        f"max({value}) FILTER (WHERE name = {text(name)}) AS {quoted(name + end)}"
        for name in names
        for value, end in (("value", ""), ("known_at", DELAY))
    )
    return (
        f"SELECT {match}, {wide} FROM (SELECT {match}, name, {backend.latest} AS value, max(known_at) AS known_at FROM"
        f" (SELECT {match}, name, value AS label, known_at FROM {quoted(home(model))} WHERE {same} IN"
        f" (SELECT {same} FROM chosen){known} AND name IN ({', '.join(map(text, names))})) AS told"
        f" GROUP BY {match}, name) AS newest GROUP BY {match}"
    )


def shown(names: Iterable[str]) -> list[str]:
    """The columns that follow from KPIs, over a row of predictions called `chosen` and its KPIs, `reached`."""
    found = []
    for name in names:
        delay = f"extract(epoch FROM reached.{quoted(name + DELAY)}) - extract(epoch FROM chosen.event_time)"
        found += [f"reached.{quoted(name)}", f"CAST({delay} AS FLOAT8) AS {quoted(name + DELAY)}"]
    return found


def of_users(plan: Plan, declared: Sequence[str]) -> bool:
    """Whether a column is summarised of users and not of predictions."""
    return plan.name.endswith(PER_USER) and bool(kpi_of(plan.name, declared))


def by_user(source: str, names: Iterable[str], segmented: bool) -> str:
    """The query that gives what KPIs come to for each user in each grain, of the predictions that say whose they are.
    Null where none of the user's predictions has the KPI."""
    by = ", ".join(map(quoted, (*_BY, *([SEGMENT] if segmented else []))))
    sums = ", ".join(f"sum({quoted(name)}) AS {quoted(name + PER_USER)}" for name in names)
    return f"SELECT {by}, {sums} FROM {source} WHERE entity_id IS NOT NULL GROUP BY {by}, entity_id"


def first_values(backend: Backend, model: str, name: str, predictions: str, unit: str, limit: int) -> list[pa.Table]:
    """The earliest values of a KPI, and the earliest sums of a user in a grain, which its grids are made from: tables
    of one column each."""
    match = ", ".join(map(quoted, backend.match))
    own = f"{quoted(home(model))} WHERE name = {text(name)}"
    values = f"SELECT value AS {quoted(name)} FROM {own} ORDER BY arrival LIMIT {limit}"
    sums = (
        f"SELECT sum(k.value) AS {quoted(name + PER_USER)} FROM (SELECT {match}, value FROM {own} ORDER BY arrival"
        f" LIMIT {limit}) k JOIN {quoted(predictions)} p USING ({match}) WHERE entity_id IS NOT NULL"
        f" GROUP BY entity_id, date_trunc('{unit}', event_time)"
    )
    return [backend.arrow(values), backend.arrow(sums)]
