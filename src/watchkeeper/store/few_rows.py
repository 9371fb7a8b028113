"""Few rows, counted in memory: what `sources.summary` gives of them.

To plan a query of a hundred steps takes an engine longer than to run it over the thousand rows of a tick. So few rows
are brought as they are, in the types that are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from watchkeeper.records import ALL
from watchkeeper.stats.grid import NULL
from watchkeeper.store.sources import SEGMENT, UNLABELLED, Plan

FEW = 20_000
"""Up to how many rows are few: of more the engine's plan is made up for by its threads."""


def shown(table: ir.Table, plans: Sequence[Plan]) -> ir.Table:
    """What is counted of each row: `version`, `grain_start`, `segment` where there are any; and of plan i the value in
    `v{i}` and the label, if it is split by that, in `l{i}`.

    Args:
        table: as for `summary`.
    """
    columns = {"version": table["version"].fill_null(ALL), "grain_start": table["grain_start"]}
    if SEGMENT in table.columns:
        columns["segment"] = table[SEGMENT]
    for i, plan in enumerate(plans):
        columns[f"v{i}"] = plan.value(table[plan.name])
        if plan.by_label and "label" in table.columns:
            columns[f"l{i}"] = plan.label(table["label"]).cast("string").fill_null(UNLABELLED)
    return table.select(**columns)


def counts(rows: pa.Table, plans: Sequence[Plan]) -> pa.Table:
    """The rows of `summary` from those of `shown`; categories are not folded, which few need not be."""
    keys = [name for name in ("version", "grain_start", "segment") if name in rows.column_names]
    parts = [_counted(rows, keys, plan, i) for i, plan in enumerate(plans)]
    return pa.concat_tables(parts)


def _counted(rows: pa.Table, keys: Sequence[str], plan: Plan, i: int) -> pa.Table:
    by = [*keys, *([f"l{i}"] if f"l{i}" in rows.column_names else [])]
    column = rows.column(f"v{i}").combine_chunks()
    empty = _array(column.is_null())
    numbers = np.zeros(rows.num_rows)
    if plan.grid is not None:
        numbers = _array(column.cast("float64").fill_null(0.0))
        cells = np.where(empty, NULL, plan.grid.bins(numbers))
    else:
        column = column.cast("string").dictionary_encode()
        cells = np.where(empty, -1, _array(column.indices.fill_null(0)))
    codes = [_array(rows.column(name).combine_chunks().dictionary_encode().indices.fill_null(-1)) for name in by]
    order = np.lexsort((cells, *codes))
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for each in (cells, *codes):
        new[1:] |= np.diff(each[order]) != 0
    starts = np.flatnonzero(new)
    first = pa.array(order[starts])
    found: dict[str, Any] = {name: rows.column(name).take(first) for name in keys}
    found["column"] = pa.repeat(plan.name, len(starts))
    found["label"] = rows.column(by[-1]).take(first) if len(by) > len(keys) else pa.repeat(UNLABELLED, len(starts))
    found["n"] = np.diff(starts, append=len(order))
    words, number = plan.grid is None, cells[order[starts]]
    found["bin"] = pa.array(number, pa.int64(), mask=np.full(len(starts), words))
    found["value"] = column.take(first).cast("string") if words else pa.nulls(len(starts), pa.string())
    for end, pick in (("low", np.minimum), ("high", np.maximum)):
        found[end] = pick.reduceat(numbers[order], starts) if len(starts) else numbers
    return pa.table(found)


def _array(column: pa.Array) -> np.ndarray[Any, Any]:
    """A column without nulls as it lies in memory."""
    return np.from_dlpack(column.cast("uint8")).view(bool) if column.type == "bool" else np.from_dlpack(column)
