"""Where the log's tables live: what differs between the databases, and nothing else.

The log writes its SQL once, in words that every one of them understands. A backend runs it, brings Arrow tables in and
out, keeps rows once per key, and says how two programs that write at once are kept apart.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa

from watchkeeper.errors import StateError

HASH = "(hash)"
"""The column that holds the hash of a row's first key column, where a backend has no index of keys."""
ROW = "(row)"
"""The column that numbers the rows of an incoming table."""
MEMORY = "1GB"
"""What DuckDB may take of the machine's memory, by itself four fifths of it."""
BATCH = 20_000
"""Rows of an answer that are in memory at a time."""
Rows = list[tuple[Any, ...]]


class Backend(Protocol):
    """A database for the log.

    Attributes:
        dialect: what Ibis calls its SQL.
        same: the columns that tell, at the least cost, that two rows are of one request; two requests may share them,
            though hardly ever do.
        latest: the label of a request's latest outcome that has one, as an aggregate.
    """

    dialect: str
    same: str
    latest: str

    def run(self, sql: str) -> int:
        """Run a statement; how many rows it changed."""
        ...

    def rows(self, sql: str) -> Rows: ...

    def arrow(self, sql: str) -> pa.Table: ...

    def stream(self, sql: str) -> AbstractContextManager[pa.RecordBatchReader]:
        """What a query gives, batch by batch, so that it may be larger than memory.

        It sees the log as it is when it begins and disturbs no one who writes. Any thread may ask, whatever the others
        do; one thread at a time may read the answer.
        """
        ...

    def transaction(self) -> Any:
        """A context in which all is written or nothing, while no other writes."""
        ...

    def keep(self, name: str, sql: str) -> None:
        """What a query gives, as a temporary table of this name, in place of the one before."""
        ...

    def known(self, name: str, table: pa.Table) -> Any:
        """A context in which the table can be read by this name."""
        ...

    def columns(self, table: str) -> dict[str, str]:
        """The columns of a table with their types, in the words of `create`; none if there is no such table."""
        ...

    def create(self, table: str, columns: Mapping[str, str], key: Sequence[str]) -> None:
        """Create a table unless it is there. Its types are VARCHAR, DOUBLE, INTEGER, BIGINT and TIMESTAMP.

        Args:
            key: the columns that a row is kept once for.
        """
        ...

    def add_column(self, table: str, name: str, kind: str) -> None: ...

    def insert(self, table: str, rows: pa.Table, key: Sequence[str]) -> int:
        """Insert the rows whose key is not there yet; of those that share one the first. How many were inserted."""
        ...

    def close(self) -> None: ...


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"


class Readers:
    """Those who read while another writes. The file can be exchanged only when there are none."""

    def __init__(self) -> None:
        self._changed, self._count = threading.Condition(), 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextmanager
    def none(self) -> Iterator[None]:
        """Wait until all have ended; new ones wait until this ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)
            yield


class DuckDB:
    """One file, held by one process.

    There is no index of keys: one of texts grows out of memory and slows down every insert. Instead each row has 64
    bits of hash, which are stored in eight bytes and looked through at about a nanosecond a row; where they are equal,
    the key itself is compared.

    Args:
        memory: what it may take of the machine's, mostly for parts of the file that are kept at hand; a query that
            needs more goes by way of the disk.
    """

    dialect = "duckdb"
    same = quoted(HASH)
    latest = "arg_max(label, known_at)"

    def __init__(self, path: Path, memory: str = MEMORY) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = duckdb.connect(str(path))
        except (duckdb.Error, OSError) as problem:
            raise StateError(
                f"the event log {path} cannot be opened: {str(problem).splitlines()[0]}. Only one process may hold it;"
                " if another one does, stop that one or write through its server"
            ) from problem
        self._connection.execute(f"SET memory_limit = '{memory}'")
        self.readers = Readers()

    def close(self) -> None:
        self._connection.close()

    def run(self, sql: str) -> int:
        found = self._connection.execute(sql).fetchall()
        return int(found[0][0]) if found and isinstance(found[0][0], int) else 0

    def rows(self, sql: str) -> Rows:
        found: Rows = self._connection.execute(sql).fetchall()
        return found

    def arrow(self, sql: str) -> pa.Table:
        # as a relation, which is run to its end: a result that streams can block a union for ever
        return self._connection.sql(sql).to_arrow_table()

    @contextmanager
    def stream(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        with self.readers.one_more(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            yield cursor.to_arrow_reader(BATCH)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def keep(self, name: str, sql: str) -> None:
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS {sql}")

    @contextmanager
    def known(self, name: str, table: pa.Table) -> Iterator[None]:
        self._connection.register(name, table)
        try:
            yield
        finally:
            self._connection.unregister(name)

    def columns(self, table: str) -> dict[str, str]:
        return dict(
            self.rows(  # without a parameter, for which DuckDB would import pandas where there is one
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_catalog = current_database() AND table_schema = 'main'"
                f" AND table_name = {text(table)} ORDER BY ordinal_position"
            )
        )

    def create(self, table: str, columns: Mapping[str, str], key: Sequence[str]) -> None:
        there = self.columns(table)
        listed = ", ".join(f"{quoted(name)} {kind}" for name, kind in {**columns, HASH: "UBIGINT"}.items())
        if not there:
            self.run(f"CREATE TABLE {quoted(table)} ({listed})")
        elif HASH not in there:  # a log of an earlier release, whose tables had a primary key
            old = quoted(f"{table} (old)")
            self.run(f"ALTER TABLE {quoted(table)} RENAME TO {old}")
            self.run(f"CREATE TABLE {quoted(table)} AS SELECT *, {_hash(key)} AS {quoted(HASH)} FROM {old}")
            self.run(f"DROP TABLE {old}")

    def add_column(self, table: str, name: str, kind: str) -> None:
        self.run(f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(name)} {kind}")

    def insert(self, table: str, rows: pa.Table, key: Sequence[str]) -> int:
        home, names = quoted(table), ", ".join(map(quoted, rows.column_names))
        keys, same = ", ".join(map(quoted, key)), " AND ".join(f"t.{quoted(k)} = f.{quoted(k)}" for k in key)
        hashed = quoted(HASH)
        with self.known("incoming", rows.append_column(ROW, pa.array(np.arange(rows.num_rows)))):
            self.keep(
                "fresh",
                f"SELECT min({quoted(ROW)}) AS first, {keys}, {_hash(key)} AS {hashed} FROM incoming GROUP BY {keys}",
            )
            like = f"{home} t WHERE {hashed} IN (SELECT {hashed} FROM fresh)"
            if self.rows(f"SELECT 1 FROM {like} LIMIT 1"):
                self.run(
                    f"DELETE FROM fresh f WHERE EXISTS (SELECT 1 FROM (FROM {like}) t"
                    f" WHERE t.{hashed} = f.{hashed} AND {same})"
                )
            (count,) = self.rows("SELECT count(*) FROM fresh")[0]
            some = "" if count == rows.num_rows else f" WHERE {quoted(ROW)} IN (SELECT first FROM fresh)"
            return self.run(f"INSERT INTO {home} ({names}, {hashed}) SELECT {names}, {_hash(key)} FROM incoming{some}")


def _hash(key: Sequence[str]) -> str:
    return f"md5_number_lower({quoted(key[0])})"
