"""A table of predictions that lies somewhere already, read where it is: nothing is ever written to it.

`ReadOnly` is a backend that gives the log's queries a view of the table under the names that the log's own tables have,
so whatever the log can answer of its tables, it can answer of this one.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from watchkeeper.errors import ConfigError, DataError, StateError, did_you_mean
from watchkeeper.schema import ModelConfig
from watchkeeper.settings import EventsConfig
from watchkeeper.store.backends import BATCH, MEMORY, Rows, quoted, text
from watchkeeper.store.fitting import fitted, table
from watchkeeper.store.layout import EVENT, SHAPES, TYPES, Appended, News
from watchkeeper.store.log import UNITS, Log, moment, tables
from watchkeeper.store.postgres import Postgres, readable
from watchkeeper.tasks import label_type, logged
from watchkeeper.windows import GRAINS, floor

NO_FILE = "there is no file {} to read events from; check the path"
NOTHING_ASIDE = (
    "SELECT CAST(NULL AS text) AS request_id, CAST(NULL AS text) AS name, CAST(NULL AS text) AS value, 0 AS arrival"
    " WHERE 1 = 0"
)
"""Values that do not fit are those of whoever keeps the table."""
LABEL = "(label)"
"""The column of the view that holds the label of a row."""
_SQL = {"VARCHAR": "text", "DOUBLE": "float8", "INTEGER": "int4", "TIMESTAMP": "timestamp"}
_FITS = {
    "VARCHAR": ("text", "number", "fraction", "truth"),
    "DOUBLE": ("number", "fraction", "truth"),
    "INTEGER": ("number", "fraction", "truth"),
    "TIMESTAMP": ("moment", "zoned"),
}
"""What sorts of a table's columns can be read as what."""
_WORDS = {"VARCHAR": "text", "DOUBLE": "numbers", "INTEGER": "whole numbers", "TIMESTAMP": "timestamps"}
_SORTS = (
    ("zoned", r"timestamp with time zone|timestamptz"),
    ("moment", r"timestamp.*|date|datetime"),
    ("truth", r"bool(ean)?"),
    ("fraction", r"double.*|float.*|real|decimal.*|numeric.*"),
    ("number", r"u?(tiny|small|big|huge)?int.*|int[248]"),
    ("text", r"varchar.*|text|char.*|bpchar|enum.*|uuid|name"),
)
_POSSIBLE = {
    "INTEGER": f"{quoted(LABEL)} IN (0, 1)",
    "VARCHAR": f"{quoted(LABEL)} NOT IN ('', 'NaN', 'nan')",
    "DOUBLE": f"abs({quoted(LABEL)}) < CAST('Infinity' AS float8)",
}
"""Which labels can be one, as in a log (`fitting.possible`); NaN is beyond infinity."""
_NUMBER = {
    "duckdb": "CAST('0x' || substr(md5({0}), 1, 8) AS int8)",
    "postgres": "CAST(CAST('x' || substr(md5({0}), 1, 8) AS bit(32)) AS int8)",
}
"""A whole number that stands for a text, so that the sum of those of a grain tells whether one has changed."""
Views = dict[str, tuple[str, bool]]
"""Queries by name, each with whether it is to be worked out once."""


class Place(Protocol):
    """A database that is only read."""

    dialect: str
    latest: str

    def rows(self, sql: str) -> Rows: ...

    def arrow(self, sql: str) -> pa.Table: ...

    def stream(self, sql: str) -> Any: ...

    def sorts(self, table: str) -> dict[str, str]:
        """The columns of a table, as it is named in SQL, with the sort of what they hold."""
        ...

    def close(self) -> None: ...


class DuckDBFile:
    """A DuckDB file that others write to: it is opened for each question, so that it is not held meanwhile."""

    dialect = "duckdb"
    latest = "max(label)"

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.is_file():
            raise StateError(NO_FILE.format(self.path))
        try:
            connection = duckdb.connect(str(self.path), read_only=True, config={"memory_limit": MEMORY})
        except duckdb.Error as problem:
            raise StateError(
                f"{self.path} cannot be read now: {str(problem).splitlines()[0]}; whoever writes to a DuckDB file keeps"
                " others out meanwhile"
            ) from problem
        with connection:
            yield connection

    def rows(self, sql: str) -> Rows:
        with self._open() as connection, _told():
            found: Rows = connection.execute(sql).fetchall()
            return found

    def arrow(self, sql: str) -> pa.Table:
        with self._open() as connection, _told():
            return connection.sql(sql).to_arrow_table()

    @contextmanager
    def stream(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        with self._open() as connection:
            with _told():
                connection.execute(sql)
            yield connection.to_arrow_reader(BATCH)

    def sorts(self, table: str) -> dict[str, str]:
        with self._open() as connection, _told():
            found = connection.sql(f"SELECT * FROM {table} LIMIT 0")
            return {name: _sort(str(kind)) for name, kind in zip(found.columns, found.types, strict=True)}

    def close(self) -> None:
        """Nothing is open between questions."""


class SQLiteFile(DuckDBFile):
    """An SQLite file. Its table is read whole into memory whenever the file has changed, as typed columns."""

    def __init__(self, path: Path, table: str, columns: Mapping[str, str], kinds: Mapping[str, str]) -> None:
        super().__init__(path)
        self._table, self._mapping, self._kinds = table, columns, kinds
        self._memory = duckdb.connect(config={"memory_limit": MEMORY})
        self._seen: tuple[tuple[int, int], ...] = ()

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.is_file():
            raise StateError(NO_FILE.format(self.path))
        files = [self.path, self.path.with_name(f"{self.path.name}-wal")]
        stamp = tuple((s.st_mtime_ns, s.st_size) for file in files if file.exists() for s in [file.stat()])
        if stamp != self._seen:
            self._copy()
            self._seen = stamp
        with self._memory.cursor() as cursor:
            yield cursor

    def _copy(self) -> None:
        there = self._there()
        chosen = {name: source for name, source in self._mapping.items() if source in there}
        listed = ", ".join(f"{quoted(name)} {self._kinds[name]}" for name in chosen)
        self._memory.execute(f"CREATE OR REPLACE TABLE copied ({listed})")
        with self._connected() as connection:
            cursor = connection.execute(f"SELECT {', '.join(map(quoted, chosen.values()))} FROM {self._table}")
            while rows := cursor.fetchmany(BATCH):
                batch = table(dict(zip(chosen, zip(*rows, strict=True), strict=True)))
                typed = pa.table({name: fitted(batch, name, self._kinds[name], []) for name in chosen})
                self._memory.register("batch", typed)
                self._memory.execute("INSERT INTO copied SELECT * FROM batch")
                self._memory.unregister("batch")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                yield connection
        except sqlite3.Error as problem:
            raise StateError(f"{self.path} cannot be read: {problem}; check the path and the table") from problem

    def _there(self) -> list[str]:
        if not self.path.is_file():
            raise StateError(NO_FILE.format(self.path))
        with self._connected() as connection:
            return [column[0] for column in connection.execute(f"SELECT * FROM {self._table} LIMIT 0").description]

    def sorts(self, table: str) -> dict[str, str]:
        if table != "copied":  # types are a matter of each value in SQLite
            return dict.fromkeys(self._there(), "any")
        return super().sorts(table)

    def close(self) -> None:
        self._memory.close()


class PostgresTable(Postgres):
    """A Postgres whose session can do nothing but read."""

    latest = "max(label)"

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with readable(self.url), super()._open() as connection:
            yield connection

    def _connect(self) -> Any:
        connection = super()._connect()
        connection.execute("SET default_transaction_read_only = on")
        return connection

    def sorts(self, table: str) -> dict[str, str]:
        with self._open() as connection:
            described = connection.execute(f"SELECT * FROM {table} LIMIT 0").description or ()
            types = {column.name: connection.adapters.types.get(column.type_code) for column in described}
        return {name: _sort(kind.name if kind else "") for name, kind in types.items()}


class ReadOnly:
    """The views of one table, for the log: what it keeps and knows for a while are views as well."""

    match: Mapping[str, str] = {"request_id": "string"}

    def __init__(self, place: Place) -> None:
        self.place, self.dialect, self.latest = place, place.dialect, place.latest
        self.views: Views = {}
        self._known: Views = {}

    def _whole(self, sql: str) -> str:
        """The query with the views that it needs before it."""
        return _with({**self.views, **self._known}, sql)

    def rows(self, sql: str) -> Rows:
        return self.place.rows(self._whole(sql))

    def arrow(self, sql: str) -> pa.Table:
        return self.place.arrow(self._whole(sql))

    def stream(self, sql: str) -> Any:
        return self.place.stream(self._whole(sql))

    @contextmanager
    def kept(self, name: str, sql: str) -> Iterator[None]:
        self.views[name] = (_with(self._known, sql), True)
        try:
            yield
        finally:
            del self.views[name]

    @contextmanager
    def known(self, name: str, table: pa.Table) -> Iterator[None]:
        self._known[name] = (_values(table), True)
        try:
            yield
        finally:
            del self._known[name]

    def close(self) -> None:
        self.place.close()

    # what only a log of its own does

    def run(self, sql: str) -> int:
        raise DataError("nothing is written to a table that lies in a warehouse")

    transaction = columns = create = add_column = insert = size = waste = rewrite = run


class Warehouse(Log):
    """The predictions of one model, in a table that belongs to others, with their labels in a column of it.

    What is new is found by counting: at each tick the rows and labels of each grain from `look_back` before the latest
    on are counted, and the grains whose counts differ from the last time are summarised again.
    """

    def __init__(self, model: str, config: ModelConfig, settings: EventsConfig) -> None:
        self.look_back, self.name = settings.look_back, settings.table
        self.place = f"models.{model}.events"
        fields, label = {**EVENT, **logged(config)}, label_type(config)
        wanted = {**fields, **{name: TYPES.get(c.kind, "VARCHAR") for name, c in config.stored.items()}}
        wanted |= {"label": label, "known_at": "TIMESTAMP"}
        mapping = {name: settings.columns.get(name, name) for name in wanted}
        place = _place(_address(settings.url, model), settings.table, mapping, wanted)
        super().__init__(ReadOnly(place))  # type: ignore[arg-type]
        self.views: Views = self.backend.views  # type: ignore[attr-defined]
        try:
            there = place.sorts(settings.table)
            self._check(there, mapping, wanted, {*config.stored, *settings.columns})
            if isinstance(place, SQLiteFile):
                there, source = place.sorts("copied"), "copied"
                mapping = {name: name for name in wanted}
            else:
                source = settings.table
            shown = ", ".join(
                f"{_read(place.dialect, mapping[name], there.get(mapping[name]), kind)}"
                f" AS {quoted(LABEL if name == 'label' else name)}"
                for name, kind in wanted.items()
            )
            self.views[tables(model)[0]] = (
                f"SELECT * FROM (SELECT {shown} FROM {source}) AS t WHERE event_time IS NOT NULL",
                False,
            )
            self.views[tables(model)[1]] = (
                f"SELECT request_id, {quoted(LABEL)} AS label, coalesce(known_at, event_time) AS known_at"
                f" FROM {quoted(tables(model)[0])} WHERE {_POSSIBLE[label]}",
                False,
            )
            self.views[tables(model)[2]] = (NOTHING_ASIDE, False)
        except BaseException:
            self.close()
            raise
        self._fields[model], self._label[model] = fields, label
        self._features[model] = {name: wanted[name] for name in config.stored}
        self._watched[model] = config.features

    def _check(
        self, there: Mapping[str, str], mapping: Mapping[str, str], wanted: Mapping[str, str], needed: set[str]
    ) -> None:
        """Raises ConfigError for a column that is not there, or holds something else than what is wanted."""
        for name in sorted({"request_id", "event_time", *needed}):
            if mapping[name] not in there:
                raise ConfigError(
                    f'{self.place}: the table {self.name} has no column "{mapping[name]}" for {name};'
                    f" {did_you_mean(mapping[name], there, 'its columns are')}",
                    (),
                )
        for name, source in mapping.items():
            sort = there.get(source, "any")
            if sort != "any" and sort not in _FITS[wanted[name]]:
                raise ConfigError(
                    f'{self.place}: {name} wants {_WORDS[wanted[name]]}, and the column "{source}" of {self.name} holds'
                    " something else; map another column, or make a view that casts it",
                    (),
                )

    @property
    def _carried(self) -> Mapping[str, str]:
        return {"request_id": "string", LABEL: SHAPES[self._kind], "known_at": "timestamp"}

    @property
    def _kind(self) -> str:
        """The type of the labels of the one model."""
        return next(iter(self._label.values()))

    def _latest(self, model: str, until: int | None = None) -> str:
        label = quoted(LABEL)
        return (
            f"SELECT request_id, max({label}) AS label, max(coalesce(known_at, event_time)) AS known_at FROM chosen"
            f" WHERE {_POSSIBLE[self._kind]} GROUP BY request_id"
        )

    def open_model(self, model: str, config: ModelConfig) -> None:
        """The table is as it is."""

    def append(self, model: str, rows: pa.Table, at: datetime | None = None) -> Appended:
        raise DataError(f'the events of model "{model}" are read from {self.name}; nothing can be logged of it here')

    append_outcomes = append_kpis = append

    def news(self, model: str, cursor: str | None, grain: str, now: datetime) -> News:
        known: dict[str, list[int]] = json.loads(cursor or "{}")
        length = GRAINS[grain]
        since = None
        if known:
            since = floor(min(datetime.fromisoformat(max(known)), now), length) - self.look_back
        found = self._counts_of(model, grain, since)
        before = {at: counts for at, counts in known.items() if since is None or at >= since.isoformat()}
        changed = [at for at in {*found, *before} if found.get(at) != before.get(at)]
        by_rows = [at for at in changed if found.get(at, [0])[0] != before.get(at, [0])[0]]
        latest = max([*found, *known], default="")
        if latest:
            last = floor(min(datetime.fromisoformat(latest), now), length) - self.look_back
            found = {at: counts for at, counts in found.items() if at >= last.isoformat()}
        told = json.dumps(found, sort_keys=True) if found or not known else str(cursor)
        moments = [sorted(map(datetime.fromisoformat, grains)) for grains in (by_rows, {*changed} - {*by_rows})]
        return News(told, bool(latest), moments[0], moments[1])

    def touched(self, model: str, after: int, grain: str) -> tuple[list[datetime], list[datetime]]:
        """All the grains that there are, whatever `after` is: rows of others have no order of arrival."""
        return sorted(map(datetime.fromisoformat, self._counts_of(model, grain, None))), []

    def _counts_of(self, model: str, grain: str, since: datetime | None) -> dict[str, list[int]]:
        """Rows, labels and the sum of the labels, or of what stands for them, by the start of the grain."""
        label = f"CASE WHEN {_POSSIBLE[self._kind]} THEN {quoted(LABEL)} END"
        number = label if self._kind == "INTEGER" else _NUMBER[self.backend.dialect].format(f"CAST({label} AS text)")
        rows = self.backend.rows(
            f"SELECT date_trunc('{UNITS[grain]}', event_time) AS s, count(*), count({label}), sum({number})"
            f" FROM {quoted(tables(model)[0])}"
            + (f" WHERE event_time >= {moment(since)}" if since else "")
            + " GROUP BY s"
        )
        return {at.replace(tzinfo=UTC).isoformat(): [int(n or 0) for n in counts] for at, *counts in rows}


def _with(views: Views, sql: str) -> str:
    """A query with those of the views before it that it needs, or that they need of one another."""
    needed: list[str] = []
    seen = sql
    for name, (view, once) in reversed(views.items()):
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", seen):
            needed.append(f"{quoted(name)} AS {'' if once else 'NOT '}MATERIALIZED ({view})")
            seen += view
    if not needed:
        return sql
    rest = sql.removeprefix("WITH ")
    return f"WITH {', '.join(reversed(needed))}{' ' if rest == sql else ', '}{rest}"


def _address(written: str, model: str) -> str:
    if not written.startswith("env:"):
        return written
    name = written.removeprefix("env:")
    if not os.environ.get(name):
        raise ConfigError(
            f"the environment variable {name}, which should hold the address of the events of {model}, is not set",
            ("models", model, "events", "url"),
        )
    return os.environ[name]


def _place(url: str, table: str, mapping: Mapping[str, str], kinds: Mapping[str, str]) -> Any:
    scheme, _, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        return PostgresTable(url)
    path = Path(rest.removeprefix("/"))
    if scheme == "duckdb":
        return DuckDBFile(path)
    if scheme == "sqlite":
        return SQLiteFile(path, table, mapping, kinds)
    raise ConfigError(
        f"events are read from duckdb:///file, sqlite:///file or postgresql://user@host/database, not from {scheme}", ()
    )


def _sort(kind: str) -> str:
    return next((sort for sort, pattern in _SORTS if re.fullmatch(pattern, kind.lower())), "other")


def _read(dialect: str, column: str, sort: str | None, kind: str) -> str:
    """A column of the table as the type that the log has for it; nulls where it has no such column."""
    if sort is None:
        return f"CAST(NULL AS {_SQL[kind]})"
    value = quoted(column)
    if sort == "zoned":
        return f"({value} AT TIME ZONE 'UTC')"
    if sort == "truth" and kind != "VARCHAR":
        value = f"CAST({value} AS int4)"
    if sort == "fraction" and kind == "VARCHAR":
        number = f"CAST({value} AS float8)"
        whole = f"{number} = floor({number}) AND abs({number}) < {2**53}"
        return f"CASE WHEN {whole} THEN CAST(CAST({value} AS int8) AS text) ELSE CAST({number} AS text) END"
    return f"CAST({value} AS {_SQL[kind]})"


def _values(table: pa.Table) -> str:
    """A small table as a query."""
    kinds = ["int8" if pa.types.is_integer(field.type) else "text" for field in table.schema]
    names = ", ".join(map(quoted, table.column_names))
    nothing = ", ".join(f"CAST(NULL AS {kind})" for kind in kinds)
    rows = ", ".join(f"({', '.join(map(_literal, row.values()))})" for row in table.to_pylist())
    first = f"SELECT {nothing} WHERE FALSE"
    return f"SELECT * FROM ({first}{f' UNION ALL VALUES {rows}' if rows else ''}) AS t ({names})"


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return text(value) if isinstance(value, str) else str(value)


@contextmanager
def _told() -> Iterator[None]:
    """What DuckDB says of a table that it cannot read, in our words."""
    try:
        yield
    except duckdb.Error as problem:
        raise StateError(f"the events cannot be read: {str(problem).splitlines()[0]}") from problem
