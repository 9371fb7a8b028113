"""Events as columns: Arrow streams and Parquet files, checked with Arrow's own operations.

What is wrong with one event is told by its index, and the others are kept. Rows are looked at one by one only where
something is wrong with one of them.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from datetime import UTC, datetime

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from watchkeeper import events
from watchkeeper.errors import DataError, did_you_mean
from watchkeeper.server import parquet
from watchkeeper.server.formats import EXPANDED, MOST_NAMES, MOST_ROWS, SMALLER, TIME, Found
from watchkeeper.server.services import RequestError

_TEXTS: dict[str, str | None] = {"version": "", "variant": "champion", "status": "ok", "entity_id": None}
"""The fields that are words, and what stands for none."""
_NEEDED = {
    events.PREDICTION: ("request_id", "event_time"),
    events.OUTCOME: ("request_id", "label", "known_at"),
    events.KPI: ("request_id", "name", "value", "known_at"),
}


def from_arrow(body: bytes, kind: str) -> Found:
    """An Arrow IPC stream, columns named as the fields of an event and as features."""
    buffer = pa.py_buffer(body)
    try:
        _no_compressed_buffers(buffer)
        with pa.ipc.open_stream(buffer) as stream:
            _columns_are_plain(stream.schema, kind)
            batches: list[pa.RecordBatch] = []
            rows = 0
            for batch in stream:
                rows += batch.num_rows
                _rows_are_few(rows)
                batch.validate(full=True)
                batches.append(batch)
        found = pa.Table.from_batches(batches, stream.schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, struct.error) as problem:
        raise RequestError(
            400, f"the request is no Arrow stream: {problem}", "write it in Arrow's stream format"
        ) from (problem)
    return from_table(found, kind)


def from_parquet(body: bytes, kind: str) -> Found:
    """A Parquet file, columns named as the fields of an event and as features."""
    try:
        about = pq.read_metadata(pa.BufferReader(body))
        _rows_are_few(about.num_rows)
        _size_is_small(sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups)))
        size = 0
        for page in parquet.pages(body, about):
            size += page.expanded
            _size_is_small(size)
            _rows_are_few(page.values)
        _columns_are_plain(about.schema.to_arrow_schema(), kind)
        leaves = [about.schema.column(i) for i in range(about.num_columns)]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]  # not to be expanded unseen
        with pq.ParquetFile(pa.BufferReader(body), metadata=about, read_dictionary=texts) as file:
            batches: list[pa.RecordBatch] = []
            size = 0
            for batch in file.iter_batches(batch_size=65_536, use_threads=False):
                size += batch.nbytes
                _size_is_small(size)
                batch.validate(full=True)
                batches.append(batch)
            found = pa.Table.from_batches(batches, file.schema_arrow)
    except (pa.ArrowException, OSError, ValueError, KeyError) as problem:
        said = f"the request is no Parquet file: {problem}"
        raise RequestError(400, said, "write it as one Parquet file") from problem
    return from_table(found, kind)


def from_table(found: pa.Table, kind: str) -> Found:
    """Columns that somebody sent, checked and in their normal form.

    `found` has been validated. Moments without a zone are in UTC.
    """
    for name in _NEEDED[kind]:
        if name not in found.column_names:
            raise RequestError(400, f'the table has no column "{name}"; every {kind} needs it', "add the column")
    _size_is_small(found.nbytes)
    columns = {name: _decoded(found[name]) for name in found.column_names}
    rejected: dict[int, str] = {}
    columns["request_id"] = _words(columns["request_id"], "request_id")
    _reject(rejected, pc.fill_null(pc.equal(columns["request_id"], ""), True), "request_id is missing")
    moment = "event_time" if kind == events.PREDICTION else "known_at"
    columns[moment] = _moments(columns[moment], moment, rejected)
    if kind == events.OUTCOME:
        _reject(rejected, pc.is_null(columns["label"]), "label is missing; send an outcome only once it is known")
        if "source" in columns:
            columns["source"] = _words(columns["source"], "source")
            other = pc.invert(pc.is_in(columns["source"], pa.array([None, *events.SOURCES])))
            _reject(rejected, other, f"source must be one of {', '.join(events.SOURCES)}")
    elif kind == events.KPI:
        columns["name"] = _words(columns["name"], "name")
        _reject(rejected, pc.fill_null(pc.equal(columns["name"], ""), True), "name is missing; every kpi needs one")
        columns["value"] = _numbers(columns["value"], rejected)
    else:
        for name, otherwise in _TEXTS.items():
            if name in columns:
                columns[name] = _words(columns[name], name)
            elif otherwise is not None:
                columns[name] = pa.repeat(otherwise, found.num_rows)
            if otherwise is not None:
                columns[name] = pc.fill_null(columns[name], otherwise)
        if "context" in columns:
            columns["context"] = _words(columns["context"], "context")
            _context(columns["context"], rejected)
    for name in ("request_id", *(_TEXTS if kind == events.PREDICTION else ("name",))):
        if name in columns:
            length = pc.utf8_length(columns[name])
            long = pc.fill_null(pc.greater(length, events.LONGEST), False)
            _reject(rejected, long, f"{name} has more than {events.LONGEST} characters")
    good = pa.table(columns)
    if rejected:
        keep = np.ones(found.num_rows, bool)
        keep[[*rejected]] = False
        good = good.filter(pa.array(keep))
    return Found(table=good, rejected=rejected)


def _reject(rejected: dict[int, str], which: pa.Array | pa.ChunkedArray, reason: str) -> None:
    if pc.any(which).as_py():
        for index in pc.indices_nonzero(pc.fill_null(which, False)).to_pylist():
            rejected.setdefault(index, reason)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_plain(kind: pa.DataType) -> bool:
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _is_text(held) or (any(is_one(held) for is_one in _PLAIN) and held != pa.month_day_nano_interval())


_PLAIN = (
    pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_temporal,
    pa.types.is_null,
)  # fmt: skip
_OUTSIDE = f"lies outside the years {events.EARLIEST} to {events.LATEST}; check its unit and its zone"


def _columns_are_plain(schema: pa.Schema, kind: str) -> None:
    names = schema.names
    if len(names) > MOST_NAMES:
        raise RequestError(413, f"the table has {len(names):,} columns; one may have {MOST_NAMES:,}", "leave some out")
    for name, times in Counter(names).items():
        if times > 1:
            raise RequestError(400, f'{times} columns of the table are called "{name}"', "rename all but one")
        if not name or (name in events.RESERVED and name not in events.FIELDS[kind]):
            raise RequestError(
                400, f'a column is called "{name}", which no feature can be', "rename it, or leave it out"
            )
        if kind != events.PREDICTION and name not in events.FIELDS[kind]:
            hint = did_you_mean(name, _NEEDED[kind], "its fields are")
            raise RequestError(400, f'an event of the kind {kind} has no field "{name}"', hint)
    for column in schema:
        if not _is_plain(column.type):
            raise RequestError(
                400,
                f'the column "{column.name}" holds {column.type}; only single values can be taken',
                "send the fields of a struct as columns of their own, and texts as strings",
            )


def _rows_are_few(rows: int) -> None:
    if rows > MOST_ROWS:
        raise RequestError(413, f"the request has more than {MOST_ROWS:,} events", SMALLER)


def _size_is_small(size: int) -> None:
    if size > EXPANDED:
        raise RequestError(413, f"the events of the request expand to more than {EXPANDED >> 20} MiB", SMALLER)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a column that was coded by a dictionary, if they are not too many bytes for that."""
    if not pa.types.is_dictionary(column.type):
        return column
    held = column.type.value_type
    if _is_text(held):
        sizes = [
            pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0 for chunk in column.chunks
        ]
        _size_is_small(sum(sizes))
    return column.cast(held)


def _words(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = column.type
    if not (_is_text(kind) or pa.types.is_null(kind) or name == "entity_id"):
        raise RequestError(400, f'the column "{name}" holds {kind}; it must hold strings', "cast it")
    return column.cast(pa.string())


def _numbers(column: pa.ChunkedArray, rejected: dict[int, str]) -> pa.ChunkedArray | pa.Array:
    """The values of KPIs; those that are missing, not finite or too large are rejected."""
    kind = column.type
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if not any(is_one(kind) for is_one in kinds):
        raise RequestError(400, f'the column "value" holds {kind}; it must hold numbers', "cast it")
    numbers = (column.cast(pa.int8()) if pa.types.is_boolean(kind) else column).cast(pa.float64(), safe=False)
    _reject(rejected, pc.is_null(numbers), "value is missing; send a KPI only once it is known")
    small = pc.and_(pc.is_finite(numbers), pc.less(pc.abs(numbers), events.MOST))
    _reject(rejected, pc.invert(small), f"value must be a finite number smaller than {events.MOST:g}")
    return numbers


def _moments(column: pa.ChunkedArray, name: str, rejected: dict[int, str]) -> pa.ChunkedArray | pa.Array:
    """Moments in UTC; those that cannot be read or lie outside of the years are rejected."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        first, last = (pa.scalar(at if kind.tz else at.replace(tzinfo=None), kind) for at in (_FIRST, _LAST))
        moments = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(TIME)  # what overflows is out of the years
        out = pc.or_(pc.less(column, first), pc.greater_equal(column, last))
    elif _is_text(kind):
        try:
            moments = column.cast(pa.string()).cast(TIME)
        except pa.ArrowInvalid:
            return _read_moments(column.to_pylist(), name, rejected)
        out = pc.or_(pc.less(moments, pa.scalar(_FIRST, TIME)), pc.greater_equal(moments, pa.scalar(_LAST, TIME)))
    else:
        raise RequestError(
            400, f'the column "{name}" holds {kind}; it must hold timestamps', "cast it to timestamps in UTC"
        )
    _reject(rejected, pc.is_null(moments), f"{name} is missing")
    _reject(rejected, out, f"{name} {_OUTSIDE}")
    return moments


_FIRST, _LAST = datetime(events.EARLIEST, 1, 1, tzinfo=UTC), datetime(events.LATEST + 1, 1, 1, tzinfo=UTC)


def _read_moments(values: list[str | None], name: str, rejected: dict[int, str]) -> pa.Array:
    found: list[datetime | None] = []
    for index, value in enumerate(values):
        try:
            if value is None:
                raise DataError(f"{name} is missing")
            found.append(datetime.fromisoformat(events.moment(name, value)))
        except DataError as problem:
            rejected.setdefault(index, str(problem))
            found.append(None)
    return pa.array(found, TIME)


def _context(column: pa.ChunkedArray, rejected: dict[int, str]) -> None:
    """Reject what is not JSON: all at once, and one by one where some are not."""
    if column.null_count == len(column):
        return
    given = column.to_pylist()
    try:
        # a line each: no JSON text goes on across a line's end within a string, so none can lean on the next
        together = msgspec.json.decode("[" + ",\n".join(text for text in given if text is not None) + "]")
        if len(together) == len(given) - column.null_count:
            return
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        pass
    for index, text in enumerate(given):
        if text is not None:
            try:
                json.loads(text)
            except (ValueError, RecursionError) as problem:
                rejected.setdefault(index, f"context must be a JSON object or a string of JSON: {problem}")


# Arrow's own compression

_MESSAGE_HEADER, _BATCH_COMPRESSION, _DICTIONARY_DATA = 2, 3, 1
"""The places of fields in the tables of Arrow's flatbuffers."""


def _no_compressed_buffers(body: pa.Buffer) -> None:
    """Refuse a stream whose buffers are compressed each by itself: what they expand to is only known when it is done.

    A message begins with a flatbuffer of `Message`, in which a `RecordBatch` says how its buffers are compressed; see
    https://arrow.apache.org/docs/format/Columnar.html.
    """
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type not in ("record batch", "dictionary"):
            continue
        head = message.metadata.to_pybytes()
        found = _followed(head, struct.unpack_from("<I", head, 0)[0], _MESSAGE_HEADER)
        if message.type == "dictionary" and found is not None:
            found = _followed(head, found, _DICTIONARY_DATA)
        if found is not None and _field(head, found, _BATCH_COMPRESSION) is not None:
            raise RequestError(
                400,
                "the buffers of the Arrow stream are compressed",
                "write it without compression; compress the request as a whole, with Content-Encoding: zstd",
            )


def _field(head: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table stands; None if it is left out."""
    fields = table - struct.unpack_from("<i", head, table)[0]
    size = struct.unpack_from("<H", head, fields)[0]
    if 4 + 2 * number >= size:
        return None
    offset = struct.unpack_from("<H", head, fields + 4 + 2 * number)[0]
    return table + offset if offset else None


def _followed(head: bytes, table: int, number: int) -> int | None:
    at = _field(head, table, number)
    return None if at is None else at + struct.unpack_from("<I", head, at)[0]
