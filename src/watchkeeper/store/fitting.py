"""Columns of any kind as the log stores them: what does not fit its column's type is noted, never lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from watchkeeper.store.sources import show

_ARROW = {"VARCHAR": pa.string(), "DOUBLE": pa.float64(), "INTEGER": pa.int32(), "TIMESTAMP": pa.timestamp("us")}


def fitted(rows: pa.Table, name: str, kind: str, aside: list[tuple[int, str, str]]) -> pa.Array | pa.ChunkedArray:
    """A column in its declared type; what does not fit becomes null and is noted in `aside`."""
    wanted = _ARROW[kind]
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, wanted)
    column = rows.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz="UTC" if column.type.tz else None), safe=False)
        column = column.cast(pa.timestamp("us"))
    if column.type == wanted:
        return column
    if pa.types.is_boolean(column.type) and kind == "DOUBLE":
        column = column.cast(pa.int8())
    try:
        return column.cast(wanted)
    except pa.ArrowException:
        return pa.array([_value(v, i, name, kind, aside) for i, v in enumerate(column.to_pylist())], wanted)


def _value(value: Any, row: int, name: str, kind: str, aside: list[tuple[int, str, str]]) -> Any:
    try:
        if value is None or kind == "VARCHAR":
            return None if value is None else show(value)
        if kind == "TIMESTAMP":
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
            return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        number = value.total_seconds() if isinstance(value, timedelta) else float(value)
        if kind == "INTEGER" and number != int(number):
            raise ValueError(value)
        return int(number) if kind == "INTEGER" else number
    except (ValueError, TypeError, OverflowError):
        aside.append((row, name, str(value)))
        return None


def possible(labels: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Which labels can be one: 0 and 1 of whole numbers, words that say something, numbers that are finite."""
    if pa.types.is_floating(labels.type):
        return pc.is_finite(labels)
    if pa.types.is_string(labels.type):
        return pc.invert(pc.is_in(labels, pa.array(["", "NaN", "nan"])))
    return pc.is_in(labels, pa.array([0, 1], pa.int32()))


def table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Columns of plain values as an Arrow table; a column of mixed types becomes text."""
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else show(value) for value in values], pa.string())
