"""Where the log's tables live: what differs between the databases, and nothing else.

The log writes its SQL once, in words that every one of them understands. A backend runs it, brings Arrow tables in and
out, keeps rows once per key, and says how two programs that write at once are kept apart.
"""

from __future__ import annotations

import os
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
"""What DuckDB may take of the machine's memory, by itself four fifths of it. With half as much, rows that
came fast to a log of some millions could not be inserted any more."""
CHECKPOINT = "256MB"
"""How large DuckDB's write-ahead log may grow, by itself 16 MB: small batches are then stored in fewer, larger pieces,
at three quarters of the processor time."""
BATCH = 20_000
"""Rows of an answer that are in memory at a time."""
Rows = list[tuple[Any, ...]]


class Backend(Protocol):
    """A database for the log.

    Attributes:
        dialect: what Ibis calls its SQL.
        match: the columns that rows of one request share, and no others do, with their types; the first of them alone
            tells it at the least cost, and hardly ever wrongly.
        latest: the label of a request's latest outcome that has one, as an aggregate.
    """

    dialect: str
    match: Mapping[str, str]
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

    def kept(self, name: str, sql: str) -> AbstractContextManager[None]:
        """A context in which what the query gives now can be read by this name."""
        ...

    def known(self, name: str, table: pa.Table) -> AbstractContextManager[None]:
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

    def size(self, tables: Sequence[str]) -> int:
        """Bytes that these tables take on the disk."""
        ...

    def waste(self) -> float:
        """The share of the disk it takes that `rewrite` would give back; 0 where the database sees to that itself."""
        ...

    def rewrite(self, tables: Sequence[str]) -> None:
        """Write these tables anew, so that no byte of what was deleted stays in them.

        A crash leaves what was or what is to be, whole.
        """
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
    bits of hash, which are stored in eight bytes and looked through in some ten nanoseconds a row; where they are
    equal, the key itself is compared.

    When a checkpoint fails, as on a disk that is full, DuckDB refuses whatever comes then. The file is opened anew at
    the next use, with all that was committed.

    Args:
        memory: what it may take of the machine's, mostly for parts of the file that are kept at hand; a query that
            needs more goes by way of the disk.
    """

    dialect = "duckdb"
    match: Mapping[str, str] = {HASH: "uint64", "request_id": "string"}
    latest = "arg_max(label, known_at)"

    def __init__(self, path: Path, memory: str = MEMORY) -> None:
        self._path, self._memory = path, memory
        self._fresh = path.with_name(f"{path.name}.fresh")
        self.readers = Readers()
        self._failed = False
        self._connection = self._connect()
        self._forget_fresh()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(str(self._path))
        except (duckdb.Error, OSError) as problem:
            raise StateError(
                f"the event log {self._path} cannot be opened: {str(problem).splitlines()[0]}. Only one process may"
                " hold it; if another one does, stop that one or write through its server"
            ) from problem
        connection.execute(f"SET memory_limit = '{self._memory}'")
        connection.execute(f"SET checkpoint_threshold = '{CHECKPOINT}'")
        return connection

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The connection, anew where it has failed for good. Raises StateError where the file cannot be used now."""
        self._mend()
        try:
            yield self._connection
        except (duckdb.FatalException, duckdb.IOException, duckdb.TransactionException) as problem:
            self._failed = self._failed or isinstance(problem, duckdb.FatalException)
            raise StateError(
                f"the event log {self._path} cannot be used now: {str(problem).splitlines()[0]}; check that its disk"
                " has space"
            ) from problem

    def _mend(self) -> None:
        if self._failed:
            with self.readers.none():
                if self._failed:  # nobody else has done it meanwhile
                    self._connection.close()
                    self._connection = self._connect()
                    self._failed = False

    def close(self) -> None:
        self._connection.close()

    def run(self, sql: str) -> int:
        with self._open() as connection:
            found = connection.execute(sql).fetchall()
        return int(found[0][0]) if found and isinstance(found[0][0], int) else 0

    def rows(self, sql: str) -> Rows:
        with self._open() as connection:
            found: Rows = connection.execute(sql).fetchall()
        return found

    def arrow(self, sql: str) -> pa.Table:
        with self._open() as connection:
            # as a relation, which is run to its end: a result that streams can block a union for ever
            return connection.sql(sql).to_arrow_table()

    @contextmanager
    def stream(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        self._mend()
        with self.readers.one_more(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            yield cursor.to_arrow_reader(BATCH)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.run("BEGIN")
        try:
            yield
        except BaseException:
            if not self._failed:
                self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    @contextmanager
    def kept(self, name: str, sql: str) -> Iterator[None]:
        self.run(f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS {sql}")
        yield
        self.run(f"DROP TABLE temp.{quoted(name)}")  # not after an error, which the transaction does not survive

    @contextmanager
    def known(self, name: str, table: pa.Table) -> Iterator[None]:
        with self._open() as connection:
            connection.register(name, table)
        try:
            yield
        finally:
            if not self._failed:
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
        fresh = f"SELECT min({quoted(ROW)}) AS first, {keys}, {_hash(key)} AS {hashed} FROM incoming GROUP BY {keys}"
        counted = rows.append_column(ROW, pa.array(np.arange(rows.num_rows)))
        with self.known("incoming", counted), self.kept("fresh", fresh):
            like = f"{home} t WHERE {hashed} IN (SELECT {hashed} FROM fresh)"
            if self.rows(f"SELECT 1 FROM {like} LIMIT 1"):
                self.run(
                    f"DELETE FROM fresh f WHERE EXISTS (SELECT 1 FROM (FROM {like}) t"
                    f" WHERE t.{hashed} = f.{hashed} AND {same})"
                )
            (count,) = self.rows("SELECT count(*) FROM fresh")[0]
            some = "" if count == rows.num_rows else f" WHERE {quoted(ROW)} IN (SELECT first FROM fresh)"
            return self.run(f"INSERT INTO {home} ({names}, {hashed}) SELECT {names}, {_hash(key)} FROM incoming{some}")

    def size(self, tables: Sequence[str]) -> int:
        self.run("CHECKPOINT")
        blocks = " UNION ".join(
            f"SELECT unnest(list_append(additional_block_ids, block_id)) AS b FROM pragma_storage_info({text(table)})"
            " WHERE persistent"
            for table in tables
        )
        found = self.rows(f"SELECT (SELECT count(DISTINCT b) FROM ({blocks}) WHERE b >= 0), {_BLOCK}")
        return int(found[0][0] * found[0][1])

    def waste(self) -> float:
        self.run("CHECKPOINT")
        ((total, free),) = self.rows(
            "SELECT total_blocks, free_blocks FROM pragma_database_size() WHERE database_name = current_database()"
        )
        stored = self.rows("SELECT table_name, estimated_size FROM duckdb_tables() WHERE NOT temporary")
        rows = sum(count for _, count in stored)
        there = sum(self.rows(f"SELECT count(*) FROM {quoted(name)}")[0][0] for name, _ in stored)
        return max(free / total if total else 0.0, 1 - there / rows if rows else 0.0)

    def rewrite(self, tables: Sequence[str]) -> None:
        """All tables are copied into a new file, in their order, which then takes the place of the old one.

        It takes as much space again while it is made. Those who read are waited for.
        """
        with self.readers.none():
            self._rewrite()

    def _rewrite(self) -> None:
        self._forget_fresh()
        self.run("CHECKPOINT")  # leaves nothing to the log of changes, whose name both files share
        self.run(f"ATTACH {text(str(self._fresh))} AS anew")
        try:
            ((own,),) = self.rows("SELECT current_database()")
            self.run(f"COPY FROM DATABASE {quoted(own)} TO anew")
        finally:
            self.run("DETACH anew")
        sync(self._fresh)
        self._connection.close()
        try:
            with duckdb.connect(str(self._path), read_only=True):  # still keeps other programs out
                self._fresh.replace(self._path)
                sync(self._path.parent)
        finally:
            self._connection = self._connect()

    def _forget_fresh(self) -> None:
        """Remove what a rewriting that was interrupted has left."""
        for path in (self._fresh, self._fresh.with_name(f"{self._fresh.name}.wal")):
            path.unlink(missing_ok=True)


_BLOCK = "(SELECT block_size FROM pragma_database_size() WHERE database_name = current_database())"


def sync(path: Path) -> None:
    """Have a file, or what a folder lists, on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def overwrite(path: Path, data: bytes) -> None:
    """Put new content into a file, at one stroke; it is on the disk when this returns."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync(path.parent)


def _hash(key: Sequence[str]) -> str:
    return f"md5_number_lower({quoted(key[0])})"
