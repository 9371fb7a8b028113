"""Counting the columns of a table on this machine: numbers stream through their grids, categories are grouped.

The same counts as those of the summarising expression in `sources`, which any engine can run; here numbers do not
pass through a hash table, which makes them about ten times as fast.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from watchkeeper.profiles import Profile, numeric
from watchkeeper.schema import Kind
from watchkeeper.stats.copies import Copies
from watchkeeper.stats.grid import DATE_SENTINELS, INVALID, NULL, SENTINELS, Grid, Ints, Tally, Workspace
from watchkeeper.store.sources import (
    FOLDED,
    SEGMENT,
    Plan,
    apart,
    beside,
    category,
    counts_of_values,
    declared,
    fetch,
    folded,
    united,
    vocabularies,
)

SAMPLE = 50_000
"""Rows that are enough to tell of which kind a column is, and to fit a grid."""
BATCH = 131072
"""Rows that are counted at once; what is held in memory at any time is a few of these."""
ROW = "(row)"
HASHED = 200_000
"""Rows whose copies are counted at most, or near enough."""
FEW = 20_000
"""Different values, of all columns and groups together, that are brought out of the engine as they are."""
GROUP = "group"
"""The column that says which group of rows a row belongs to, numbered from 0."""


def invalid(name: str) -> str:
    """The column that tells where another one held something, but nothing of its type."""
    return f"{name}_invalid"


@ibis.udf.scalar.builtin(name="hash")  # type: ignore[untyped-decorator]
def _hash(one, other) -> int:  # type: ignore[no-untyped-def,empty-body]
    """DuckDB's own 64 bits of two values together."""


def sample(table: ir.Table, rows: int, keys: tuple[str, str] | None = None) -> ir.Table:
    """About `SAMPLE` rows of a table that has `rows`, spread evenly over it and the same ones each time, in memory.

    Row i is taken where the fraction of i times the golden ratio lies below the wanted share: a sequence that is
    equidistributed (Weyl 1916) over the whole table, over any stretch of it and over any period in it. Rows can only
    be numbered one after the other; where columns tell them apart, all threads can choose by a hash of these.

    Args:
        keys: two columns whose values, together, hardly any two rows share, where such are known.
    """
    if rows <= SAMPLE:
        return table
    if keys:
        one, other = keys
        return apart(table.filter(_hash(table[one], table[other]) % (rows // SAMPLE) == 0), "sample")
    numbered = table.mutate(**{ROW: ibis.row_number()})
    fraction = numbered[ROW] * round(2**32 * (5**0.5 - 1) / 2) % 2**32
    return apart(numbered.filter(fraction * rows < SAMPLE * 2**32).drop(ROW), "sample")


def sample_of_parts(table: ir.Table, most: int) -> ir.Table:
    """About `most` rows of each of the parts that the column `SEGMENT` numbers, all of few, chosen as by `sample`."""
    of_part = ibis.window(group_by=SEGMENT)
    numbered = table.mutate(**{ROW: ibis.row_number().over(of_part), "(rows)": table.count().over(of_part)})
    fraction = numbered[ROW] * round(2**32 * (5**0.5 - 1) / 2) % 2**32
    few = numbered["(rows)"] <= most
    return numbered.filter(few | (fraction * numbered["(rows)"] < most * 2**32)).drop(ROW, "(rows)")


def fit_grids(
    table: ir.Table,
    columns: Mapping[str, Sequence[float | str]],
    dates: Container[str] = (),
    ordinary: Container[str] = (),
) -> dict[str, Grid]:
    """A grid for each of these numeric columns, from reference data or a random sample of it.

    Args:
        columns: name to the values that stand for "unknown" and must not shape the grid.
        dates: those of the columns that hold moments, in seconds since 1970.
        ordinary: those of the columns in which no value stands for "unknown".
    """
    if not columns:
        return {}
    values = fetch(table.select(**{name: _number(table[name], missing) for name, missing in columns.items()}))
    known = [_array(values.column(name).combine_chunks().drop_null()) for name in columns]
    unlikely = [() if name in ordinary else DATE_SENTINELS if name in dates else SENTINELS for name in columns]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(columns, pool.map(Grid.fit, known, unlikely), strict=True))


def tally(table: ir.Table, plans: Sequence[Plan], groups: int = 1) -> list[dict[str, Profile]]:
    """The profile of each column in each group of rows.

    Args:
        table: a column for each plan; a whole number below `groups` in `GROUP` where there are several; and true in
            the column called `invalid(name)`, if there is one, where a value was not of its column's type.
    """
    of_numbers, of_words = ([p for p in plans if p.grid is not None], [p for p in plans if p.kind is Kind.CATEGORICAL])
    other = beside(table) if of_numbers and of_words else None
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(_categorical, other, of_words, groups) if other is not None else None
        numbers = _numeric(table, of_numbers, groups)
        categories = ahead.result() if ahead else _categorical(table, of_words, groups)
    return [{**number, **category} for number, category in zip(numbers, categories, strict=True)]


def _numeric(table: ir.Table, plans: Sequence[Plan], groups: int) -> list[dict[str, Profile]]:
    if not plans:
        return [{} for _ in range(groups)]
    tallies = {plan.name: Tally(plan.grid, groups) for plan in plans if plan.grid is not None}
    wanted = {plan.name: _number(table[plan.name], plan.missing) for plan in plans}
    wanted |= {flag: table[flag] for name in tallies if (flag := invalid(name)) in table.columns}
    if groups > 1:
        wanted[GROUP] = table[GROUP].cast("int64")
    own = _Own()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _stream(table.select(**wanted)):
            group = _array(batch.column(GROUP)) if groups > 1 else None
            flags = {name: batch.column(invalid(name)) for name in tallies if invalid(name) in wanted}
            columns = [batch.column(name) for name in tallies]
            list(
                pool.map(_count, tallies.values(), columns, map(flags.get, tallies), repeat(group), repeat(own))
            )  # raises too
    return [
        {p.name: numeric(p.grid, tallies[p.name].counts(g), *tallies[p.name].ends(g)) for p in plans if p.grid}
        for g in range(groups)
    ]


class _Own(threading.local):
    """What each counting thread has of its own."""

    def __init__(self) -> None:
        self.room = Workspace(BATCH)


def _count(counts: Tally, column: pa.Array, flagged: pa.Array | None, group: Ints | None, own: _Own) -> None:
    if not column.null_count:
        counts.add(_array(column), group, own.room)
        return
    there = _array(column.is_valid())
    counts.add(_array(column.drop_null()), None if group is None else group[there], own.room)
    wrong = _array(flagged) if flagged is not None else np.zeros_like(there)
    for code, which in ((INVALID, wrong), (NULL, ~there & ~wrong)):
        for of, rows in enumerate(np.bincount(np.zeros(which.sum(), int) if group is None else group[which]).tolist()):
            counts.add_special(code, rows, of)


def _array(column: pa.Array) -> NDArray[Any]:
    """A column without nulls as it lies in memory; Arrow's own way to NumPy would import pandas first."""
    return np.from_dlpack(column.cast("uint8")).view(bool) if column.type == "bool" else np.from_dlpack(column)


def _categorical(table: ir.Table, plans: Sequence[Plan], groups: int) -> list[dict[str, Profile]]:
    if not plans:
        return [{} for _ in range(groups)]
    group = table[GROUP].cast("int64") if groups > 1 else ibis.literal(0)
    counted = []
    for plan in plans:
        shown = table.select(group=group, value=declared(category(table[plan.name]), plan.missing))
        rows = shown.group_by(["group", "value"]).agg(n=shown.count())
        counted.append(rows.select("group", "value", "n", column=ibis.literal(plan.name)))
    found: list[dict[str, list[tuple[str | None, bool, int]]]] = [{p.name: [] for p in plans} for _ in range(groups)]
    kept = _folded(united(counted), plans).select(["column", "group", "value", "bin", "n"])
    for name, of, value, bin_, n in zip(*(column.to_pylist() for column in kept.columns), strict=True):
        found[of][name].append((value, bin_ == FOLDED, n))
    return [{plan.name: counts_of_values(one[plan.name], plan) for plan in plans} for one in found]


def _folded(counted: ir.Table, plans: Sequence[Plan]) -> pa.Table:
    """The counts as `folded` gives them; few enough are not folded, which takes as long as a small table does."""
    connection, names = counted.get_backend(), (ibis.util.gen_name("counted"), ibis.util.gen_name("known"))
    # into a table first, which is run to its end: a result that streams can block a union for ever
    connection.con.execute(f"CREATE TEMP TABLE {names[0]} AS {connection.compile(counted)}")
    try:
        ((rows,),) = connection.con.execute(f"SELECT count(*) FROM {names[0]}").fetchall()
        if rows <= FEW:
            return connection.con.execute(f"SELECT *, NULL::BIGINT AS bin FROM {names[0]}").to_arrow_table()
        connection.con.register(names[1], vocabularies(plans))
        known = connection.table(names[1])
        return fetch(folded(connection.table(names[0]), ["column", "group"], plans, known))
    finally:
        connection.con.execute(f"DROP TABLE {names[0]}")
        connection.con.unregister(names[1])


def copies(table: ir.Table, columns: Sequence[str], rows: int) -> Copies:
    """How often each row of these columns occurs; null where there is a single column is no value.

    Rows are told apart by a hash of 64 bits. Of tables with more than `HASHED` rows a part is looked at: all copies of
    a row, or none.

    Args:
        rows: how many the table has.
    """
    connection = table.get_backend()
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    parts = -(-rows // HASHED)
    there = f"{names} IS NOT NULL" if len(columns) == 1 else "true"
    hashed = f"SELECT hash({names}) AS hashed FROM ({connection.compile(table.select(*columns))}) WHERE {there}"
    found = connection.con.sql(
        "SELECT k, count(*) AS times FROM"
        f" (SELECT count(*) AS k FROM ({hashed}) WHERE hashed % {parts} = 0 GROUP BY hashed) GROUP BY k"
    ).to_arrow_table()
    return Copies(dict(zip(*(column.to_pylist() for column in found.columns), strict=True)), 1 / parts)


def _number(column: ir.Column, missing: Sequence[float | str]) -> ir.Column:
    return declared(column.cast("float64"), missing)


def _stream(table: ir.Table) -> Iterator[pa.RecordBatch]:
    """The rows of a table, batch by batch; the next one is read while one is counted."""
    connection = table.get_backend()
    reader = connection.con.sql(connection.compile(table)).to_arrow_reader(BATCH)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(next, reader, None)
        while (batch := coming.result()) is not None:
            coming = ahead.submit(next, reader, None)
            yield batch
