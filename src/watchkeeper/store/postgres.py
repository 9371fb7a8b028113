"""The log's tables in Postgres: any number of programs may write to them at once.

Rows go in and come out as CSV through COPY, which both sides read and write in C.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from watchkeeper.errors import DataError, StateError
from watchkeeper.store.backends import ROW, Rows, quoted, text

try:
    import psycopg
except ImportError:  # the extra "postgres" is not installed; `Postgres` says so
    psycopg = None  # type: ignore[assignment]

BLOCK = 1 << 25
"""Bytes of an answer that are read at a time; a row must fit in."""
LONGEST, LONGEST_COLUMN = 63, 53
"""Bytes that a table's name may have, and a column's, to which a descriptor adds up to ten: Postgres cuts what is
longer off."""
_WORDS = {"VARCHAR": "text", "DOUBLE": "float8", "INTEGER": "int4", "BIGINT": "int8", "TIMESTAMP": "timestamp"}
_NAMES = {
    "text": "VARCHAR",
    "double precision": "DOUBLE",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "timestamp without time zone": "TIMESTAMP",
}
_ARROW = {
    "bool": pa.bool_(), "int2": pa.int32(), "int4": pa.int32(), "int8": pa.int64(), "float4": pa.float64(),
    "float8": pa.float64(), "numeric": pa.float64(), "timestamp": pa.timestamp("us"), "date": pa.date32(),
}  # fmt: skip
"""What comes out as what; all else is text."""


def secret(url: str) -> str:
    """A database's address without its password."""
    scheme, sign, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{sign}{user.partition(':')[0]}{at}{place}"


@contextmanager
def readable(url: str) -> Iterator[None]:
    """Whatever Postgres refuses to do with a table of others, as a StateError."""
    try:
        yield
    except psycopg.Error as problem:
        raise StateError(f"the events in {secret(url)} cannot be read: {_first_line(problem)}") from problem


class Postgres:
    """A log in the first schema of the connection's search path.

    Who writes holds an advisory lock until the end of its transaction, so that arrivals are numbered in the order in
    which they become visible.
    """

    dialect = "postgres"
    match: Mapping[str, str] = {"request_id": "string"}
    latest = "(array_agg(label ORDER BY known_at DESC) FILTER (WHERE label IS NOT NULL))[1]"

    def __init__(self, url: str) -> None:
        if psycopg is None:
            raise StateError('events in Postgres need psycopg: pip install "watchkeeper[postgres]"')
        self.url = url
        self._connection = self._connect()

    def _connect(self) -> psycopg.Connection:
        try:
            return psycopg.connect(self.url, autocommit=True)
        except psycopg.Error as problem:
            raise StateError(
                f"the event log {secret(self.url)} cannot be opened: {_first_line(problem)}; check the address, the"
                " rights, and that the server runs"
            ) from problem

    @contextmanager
    def _open(self) -> Iterator[psycopg.Connection]:
        """The connection, anew where it was lost."""
        if self._connection.closed:
            self._connection = self._connect()
        try:
            yield self._connection
        except psycopg.OperationalError as problem:
            raise StateError(
                f"the event log {secret(self.url)} cannot be used now: {_first_line(problem)}; try again later"
            ) from problem

    def close(self) -> None:
        self._connection.close()

    def run(self, sql: str) -> int:
        with self._open() as connection:
            return max(connection.execute(sql).rowcount, 0)

    def rows(self, sql: str) -> Rows:
        with self._open() as connection:
            return connection.execute(sql).fetchall()

    def arrow(self, sql: str) -> pa.Table:
        with self._open() as connection, _answer(connection, sql) as answer:
            return answer.read_all()

    @contextmanager
    def stream(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        with self._connect() as connection, _answer(connection, sql) as answer:
            yield answer

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._open() as connection, connection.transaction():
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtext('watchkeeper events'), hashtext(current_schema()))"
            )
            yield

    @contextmanager
    def kept(self, name: str, sql: str) -> Iterator[None]:
        self.run(f"DROP TABLE IF EXISTS pg_temp.{quoted(name)}")
        self.run(f"CREATE TEMP TABLE {quoted(name)} AS {sql}")
        yield
        self.run(f"DROP TABLE pg_temp.{quoted(name)}")

    @contextmanager
    def known(self, name: str, table: pa.Table) -> Iterator[None]:
        listed = ", ".join(f"{quoted(field.name)} {_kind(field.type)}" for field in table.schema)
        self.run(f"DROP TABLE IF EXISTS pg_temp.{quoted(name)}")
        self.run(f"CREATE TEMP TABLE {quoted(name)} ({listed})")
        with self._open() as connection, connection.cursor() as cursor:
            lines = io.BytesIO()
            csv.write_csv(_without_nul(table), lines, csv.WriteOptions(include_header=False))
            with cursor.copy(f"COPY {quoted(name)} FROM STDIN (FORMAT csv)") as copy:
                copy.write(lines.getbuffer())
        yield
        self.run(f"DROP TABLE pg_temp.{quoted(name)}")

    def columns(self, table: str) -> dict[str, str]:
        with self._open() as connection:
            found = connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_schema = current_schema() AND table_name = %s ORDER BY ordinal_position",
                [table],
            ).fetchall()
        return {name: _NAMES.get(kind, kind) for name, kind in found}

    def create(self, table: str, columns: Mapping[str, str], key: Sequence[str]) -> None:
        if self.columns(table):
            return
        _short_enough(table, LONGEST)
        for name in columns:
            _short_enough(name, LONGEST_COLUMN)
        listed = ", ".join(f"{quoted(name)} {_WORDS[kind]}" for name, kind in columns.items())
        keys = ", ".join(map(quoted, key))
        self.run(f"CREATE TABLE {quoted(table)} ({listed}, PRIMARY KEY ({keys}))")
        for name in ("arrival", "event_time"):
            if name in columns:
                self.run(f"CREATE INDEX ON {quoted(table)} ({name})")

    def add_column(self, table: str, name: str, kind: str) -> None:
        _short_enough(name, LONGEST_COLUMN)
        self.run(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {_WORDS[kind]}")

    def insert(self, table: str, rows: pa.Table, key: Sequence[str]) -> int:
        names = ", ".join(map(quoted, rows.column_names))
        try:
            with self.known("incoming", rows.append_column(ROW, pa.array(np.arange(rows.num_rows)))):
                return self.run(
                    f"INSERT INTO {quoted(table)} ({names}) SELECT {names} FROM incoming ORDER BY {quoted(ROW)}"
                    " ON CONFLICT DO NOTHING"
                )
        except psycopg.DataError as problem:
            raise DataError(f"Postgres cannot hold one of the values: {_first_line(problem)}; mend it") from problem

    def size(self, tables: Sequence[str]) -> int:
        names = ", ".join(text(quoted(table)) for table in tables)
        ((found,),) = self.rows(f"SELECT sum(pg_total_relation_size(t::regclass)) FROM unnest(ARRAY[{names}]) AS t")
        return int(found or 0)

    def waste(self) -> float:
        """None: autovacuum gives what was deleted to new rows."""
        return 0.0

    def rewrite(self, tables: Sequence[str]) -> None:
        """What Postgres keeps beside the tables, its log of changes and its backups, goes with their own time."""
        for table in tables:
            self.run(f"VACUUM FULL {quoted(table)}")


@contextmanager
def _answer(connection: psycopg.Connection, sql: str) -> Iterator[pa.RecordBatchReader]:
    """What a query gives, batch by batch."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({sql}) AS q LIMIT 0")
        types = [connection.adapters.types.get(column.type_code) for column in cursor.description or ()]
        names = [column.name for column in cursor.description or ()]
        kinds = [_ARROW.get(kind.name if kind else "", pa.string()) for kind in types]
        schema = pa.schema([*zip(names, kinds, strict=True)])
        with cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)") as copy:
            lines = _Lines(copy)
            if lines.ended:
                yield pa.RecordBatchReader.from_batches(schema, [])
                return
            with csv.open_csv(
                pa.PythonFile(lines, mode="r"),
                csv.ReadOptions(column_names=names, block_size=BLOCK, use_threads=False),
                csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                csv.ConvertOptions(
                    column_types=schema,
                    null_values=[""],
                    true_values=["t"],
                    false_values=["f"],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ) as reader:
                yield reader


class _Lines(io.RawIOBase):
    """The bytes that a COPY sends, as a file."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy
        self._rest = memoryview(copy.read())

    @property
    def ended(self) -> bool:
        return not self._rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At least `size` bytes where there are as many, so that no block ends early."""
        parts, length = [], 0
        while self._rest and (size < 0 or length < size):
            part = self._rest if size < 0 else self._rest[: size - length]
            parts.append(part)
            length += len(part)
            self._rest = self._rest[len(part) :] or memoryview(self._copy.read())
        return b"".join(parts)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "timestamp"
    words = {pa.float64(): "float8", pa.float32(): "float4", pa.int32(): "int4", pa.bool_(): "bool"}
    return words.get(kind) or ("int8" if pa.types.is_integer(kind) else "text")


def _without_nul(table: pa.Table) -> pa.Table:
    """The table with the character that Postgres has no place for as the one that stands for such."""
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and pc.any(pc.match_substring(table.column(i), "\0")).as_py():
            table = table.set_column(i, field, pc.replace_substring(table.column(i), "\0", "\ufffd"))
    return table


def _short_enough(name: str, most: int) -> None:
    if len(name.encode()) > most:
        raise StateError(
            f'"{name}" has {len(name.encode())} bytes, and in Postgres there may be {most}; give it a shorter name'
        )


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__).removesuffix(".")
