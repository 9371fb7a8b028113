"""Rows as Arrow. The only part of the client that needs pyarrow; it is loaded when a table is logged."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def columns(found: Any) -> dict[str, Any]:
    """The columns of a table that hands over Arrow data, each as one chunked array."""
    table = pa.table(found)
    return dict(zip(table.column_names, table.columns, strict=True))


def stream(columns: dict[str, Any], fields: dict[str, Any], length: int) -> bytes | None:
    """Columns as an Arrow IPC stream, with fields that hold for every row as further columns; None if the values of a
    column are not of one type that Arrow knows."""
    try:
        constant = {name: pa.repeat(value, length) for name, value in fields.items() if name not in columns}
        table = pa.table({**constant, **{name: _array(values) for name, values in columns.items()}})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    except Exception:  # noqa: BLE001 (a value of any type may fail in any way; the rows go one by one then)
        return None
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _array(values: Any) -> Any:
    return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
