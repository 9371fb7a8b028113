"""State: every row of the hops beside the raw events, in SQL, with an audit chain.

Rows of `records` go in and come out as they are. Rows that change carry a `revision`; `change` writes a new one
only if nobody else did first. Everything that belongs together is written in one transaction.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite

from watchkeeper import records
from watchkeeper.errors import ConflictError, StateError
from watchkeeper.profiles import Key, Profile
from watchkeeper.segments import Segmentation
from watchkeeper.stats.grid import Grid
from watchkeeper.store.sources import Part
from watchkeeper.windows import Window

Row = TypeVar("Row")
READS = "only_reads"
"""The execution option of connections that write nothing."""
SERIAL = "SELECT pg_advisory_xact_lock(hashtext('watchkeeper state'), hashtext(current_schema()))"
"""What a transaction that may write waits for on Postgres, where several could otherwise run at once."""
PATIENCE = 30
"""Seconds that a transaction waits for another one."""
Json = sa.JSON()
Count = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TRIES = 50
"""How often a connection asks to be the one that sets up a new SQLite file."""


class Instant(sa.TypeDecorator[datetime]):
    """A moment in UTC, time-zone aware on this side of the database."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


METADATA = sa.MetaData()


@cache
def _hints(row: type) -> dict[str, Any]:
    return get_type_hints(row)


def _table(name: str, row: type) -> sa.Table:
    """The table of a record class: a column for each field, two for a window, JSON for what is nested."""
    types: dict[Any, sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]] = {
        str: sa.String, int: Count, float: sa.Float, datetime: Instant,
    }  # fmt: skip
    columns: list[sa.Column[Any]] = []
    for field, hint in _hints(row).items():
        if hint is Window:
            columns += [sa.Column(f"{field}_{end}", Instant, nullable=False) for end in ("start", "end")]
            continue
        plain = next((t for t in types if hint == t or hint == (t | None)), None)
        kind = types[plain] if plain else sa.String if isinstance(hint, type) and issubclass(hint, StrEnum) else Json
        nullable = plain is not None and hint != plain
        columns.append(sa.Column(field, kind, primary_key=field == "id", nullable=nullable))
    return sa.Table(name, METADATA, *columns)


TABLES: dict[type, sa.Table] = {
    records.Point: _table("points", records.Point),
    records.Verdict: _table("verdicts", records.Verdict),
    records.Incident: _table("incidents", records.Incident),
    records.Transition: _table("transitions", records.Transition),
    records.Delivery: _table("deliveries", records.Delivery),
    records.Action: _table("actions", records.Action),
    records.Rollout: _table("rollouts", records.Rollout),
}
KINDS: dict[str, type] = {cls.__name__.lower(): cls for cls in TABLES}
"""The first word of an id to the class of its rows."""
API_KEYS = _table("api_keys", records.ApiKey)
_HINTS = {cls: get_type_hints(cls) for cls in (*TABLES, records.ApiKey, records.AuditEntry)}

PROFILES = sa.Table(
    "profiles",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("segment", sa.String, nullable=False),
    sa.Column("column", sa.String, nullable=False),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("start", Instant, nullable=True),
    sa.Column("n", Count, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
KNOWN = "known"
"""The key of a vocabulary in the table of grids."""
GRIDS = sa.Table(
    "grids",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("column", sa.String, primary_key=True),
    sa.Column("data", Json, nullable=False),
)
CONFIGS = sa.Table(
    "configs",
    METADATA,
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("author", sa.String, nullable=False),
    sa.Column("body", Json, nullable=False),
)
CHAMPIONS = sa.Table(
    "champions",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("since", Instant, primary_key=True),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("because", sa.String, nullable=False),
)
SEGMENTS = sa.Table(
    "segments",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("data", Json, nullable=False),
)
CURSORS = sa.Table(
    "cursors",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
COUNTS = sa.Table(
    "counts",
    METADATA,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
)
AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False, index=True),
    sa.Column("payload", Json, nullable=False),
    sa.Column("previous", sa.String, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
)
sa.Index("profiles_by_start", PROFILES.c.model, PROFILES.c.start)
for _cls, _name in ((records.Point, "window_end"), (records.Verdict, "window_end"), (records.Transition, "subject")):
    sa.Index(f"{TABLES[_cls].name}_by_{_name}", TABLES[_cls].c.model, TABLES[_cls].c[_name])
sa.Index("deliveries_by_transition", TABLES[records.Delivery].c.transition)


class State:
    """The state database, in SQLite or Postgres.

    Args:
        url: a path to an SQLite file, or an address as SQLAlchemy or Postgres has it.
    """

    def __init__(self, url: str | Path) -> None:
        if isinstance(url, Path):
            url.parent.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{url}"
        self.engine = _engine(url)
        self.name = self.engine.url.render_as_string(hide_password=True)
        if self._in_postgres:
            sa.event.listen(self.engine, "begin", _begin_postgres)
        else:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        self._migrate()

    @property
    def _in_postgres(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    def _migrate(self) -> None:
        setup = AlembicConfig()
        setup.set_main_option("script_location", "watchkeeper.store:migrations")
        scripts = ScriptDirectory.from_config(setup)
        try:
            with self.engine.begin() as connection:
                present = MigrationContext.configure(connection).get_current_revision()
                known = {script.revision for script in scripts.walk_revisions()}
                if present is not None and present not in known:
                    raise StateError(
                        f"the state database is at revision {present}, which this release does not know;"
                        " it was written by a newer watchkeeper: upgrade to that one"
                    )
                if present != scripts.get_current_head():
                    setup.attributes["connection"] = connection
                    command.upgrade(setup, "head")
        except StateError:
            self.close()
            raise
        except sa.exc.DatabaseError as problem:
            self.close()
            raise StateError(f"the state database {self.name} cannot be opened: {_said(problem)}") from problem

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction: all of it is written or none. It holds the lock of those who write from its start.

        Raises StateError where the database is locked for too long, or gone.
        """
        with self._usable(), self.engine.begin() as connection:
            yield Transaction(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Transaction]:
        """A transaction that only reads: it sees one moment, and holds no writer up. StateError as above."""
        options: dict[str, Any] = {READS: True}
        if self._in_postgres:
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._usable(), self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.OperationalError as problem:
            raise StateError(f"the state database {self.name} cannot be used now: {_said(problem)}") from problem


class Transaction:
    """What can be read and written within one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    # rows of records

    def put(self, rows: Iterable[Any]) -> None:
        """Insert rows; those whose id is there already are replaced."""
        by_class: dict[type, list[dict[str, Any]]] = {}
        for row in rows:
            by_class.setdefault(type(row), []).append(_flat(row))
        for cls, values in by_class.items():
            self._replace(TABLES[cls], values)

    def change(self, row: Any) -> Any:
        """Write the changed form of a row that carries a `revision`; returns it with the next revision.

        Raises ConflictError if somebody else changed it since it was read.
        """
        newer = dataclasses.replace(row, revision=row.revision + 1)
        table = TABLES[type(row)]
        done = self._connection.execute(
            sa.update(table).where(table.c.id == row.id, table.c.revision == row.revision).values(_flat(newer))
        )
        if done.rowcount != 1:
            raise ConflictError(f"{row.id} was changed by somebody else; read it again and decide anew")
        return newer

    def get(self, cls: type[Row], row_id: str) -> Row:
        """The row with this id; StateError if there is none."""
        found = self.select(cls, id=row_id)
        if not found:
            raise StateError(f"there is no {cls.__name__.lower()} {row_id}")
        return found[0]

    def select(
        self,
        cls: type[Row],
        *where: sa.ColumnElement[bool],
        order: str = "",
        limit: int | None = None,
        **equal: object,
    ) -> list[Row]:
        """Rows whose columns equal `equal` (or are among its list) and that fulfil `where`.

        Args:
            order: a column name to sort by, with a leading "-" for descending.
        """
        table = TABLES[cls]
        query = sa.select(table).where(*where)
        for name, value in equal.items():
            column = table.c[name]
            query = query.where(column.in_(value) if isinstance(value, (list, tuple, set)) else column == value)
        if order:
            column = table.c[order.lstrip("-")]
            query = query.order_by(column.desc() if order.startswith("-") else column)
        return [_row(cls, found) for found in self._connection.execute(query.limit(limit)).mappings()]

    # profiles, grids, vocabularies and segments

    def put_profiles(
        self, model: str, parts: Iterable[Part], starts: Sequence[datetime] = (), columns: Sequence[str] = ()
    ) -> None:
        """Store profiles; all that the grains `starts` had of `columns` is replaced."""
        if starts:
            stale = (PROFILES.c.model == model, PROFILES.c.start.in_(starts), PROFILES.c.column.in_(columns))
            self._connection.execute(sa.delete(PROFILES).where(*stale))
        keys = [(Key(model, p.version, p.segment, p.column, p.label, p.start), p.profile) for p in parts]
        values = [
            {**dataclasses.asdict(key), "id": key.id, "n": profile.n, "data": profile.to_bytes()}
            for key, profile in keys
        ]
        if values:
            self._replace(PROFILES, values)

    def profiles(
        self, model: str, window: Window | None, segment: str | Sequence[str] | None = records.ALL, **equal: object
    ) -> list[tuple[Key, Profile]]:
        """The profiles of the grains in a window, or the reference ones for None.

        Args:
            segment: those of all rows, unless another segment is named, or several; None for every segment's and all
                rows'.
        """
        if segment is not None:
            equal["segment"] = segment
        query = sa.select(PROFILES).where(PROFILES.c.model == model)
        if window is None:
            query = query.where(PROFILES.c.start.is_(None))
        else:
            query = query.where(PROFILES.c.start >= window.start, PROFILES.c.start < window.end)
        for name, value in equal.items():
            column = PROFILES.c[name]
            query = query.where(column.in_(value) if isinstance(value, (list, tuple, set)) else column == value)
        return [
            (Key(r.model, r.version, r.segment, r.column, r.label, r.start), Profile.from_bytes(r.data))
            for r in self._connection.execute(query)
        ]

    def profile_keys(self, ids: Sequence[str]) -> list[tuple[Key, int]]:
        """What profiles are of, and their rows, without their counts."""
        columns = [c for c in PROFILES.columns if c.name != "data"]
        query = sa.select(*columns).where(PROFILES.c.id.in_(ids)).order_by(PROFILES.c.start)
        return [
            (Key(r.model, r.version, r.segment, r.column, r.label, r.start), r.n)
            for r in self._connection.execute(query)
        ]

    def span(self, model: str) -> tuple[datetime, datetime] | None:
        """The first and the last grain start that has a profile."""
        low, high = self._connection.execute(
            sa.select(sa.func.min(PROFILES.c.start, type_=Instant), sa.func.max(PROFILES.c.start, type_=Instant)).where(
                PROFILES.c.model == model
            )
        ).one()
        return None if low is None else (low, high)

    def put_grids(self, model: str, grids: dict[str, Grid]) -> None:
        """Store the grids of columns that have none yet; a grid, once there, stays."""
        there = self.grids(model)
        values = [{"model": model, "column": c, "data": g.to_dict()} for c, g in grids.items() if c not in there]
        if values:
            self._connection.execute(sa.insert(GRIDS), values)

    def grids(self, model: str) -> dict[str, Grid]:
        return {column: Grid.from_dict(data) for column, data in self._frozen(model).items() if KNOWN not in data}

    def put_vocabularies(self, model: str, vocabularies: dict[str, tuple[str, ...]]) -> None:
        """Store the vocabularies of columns that have none yet; a vocabulary, once there, stays."""
        there = self._frozen(model)
        values = [
            {"model": model, "column": column, "data": {KNOWN: known}}
            for column, known in vocabularies.items()
            if column not in there
        ]
        if values:
            self._connection.execute(sa.insert(GRIDS), values)

    def vocabularies(self, model: str) -> dict[str, tuple[str, ...]]:
        return {column: tuple(data[KNOWN]) for column, data in self._frozen(model).items() if KNOWN in data}

    def _frozen(self, model: str) -> dict[str, dict[str, Any]]:
        """What was taken once from the first data of each column."""
        return {
            row.column: row.data for row in self._connection.execute(sa.select(GRIDS).where(GRIDS.c.model == model))
        }

    def put_segmentations(self, model: str, segmentations: Iterable[Segmentation]) -> None:
        """Store the values of segmentations that have none yet; once there, they stay."""
        there = {one.key for one in self.segmentations(model)}
        values = [
            {"model": model, "key": one.key, "data": {"columns": one.columns, "values": one.values}}
            for one in segmentations
            if one.key not in there
        ]
        if values:
            self._connection.execute(sa.insert(SEGMENTS), values)

    def segmentations(self, model: str) -> list[Segmentation]:
        """Every segmentation that the model has or had, by its key."""
        query = sa.select(SEGMENTS.c.data).where(SEGMENTS.c.model == model).order_by(SEGMENTS.c.key)
        return [
            Segmentation(tuple(row.data["columns"]), tuple(map(tuple, row.data["values"])))
            for row in self._connection.execute(query)
        ]

    # configuration, champions, cursors

    def put_config(self, version: str, body: dict[str, Any], at: datetime, author: str) -> bool:
        """Keep a configuration; False if this very one is kept already."""
        if self.config(version) is not None:
            return False
        self._connection.execute(sa.insert(CONFIGS).values(version=version, at=at, author=author, body=body))
        return True

    def config(self, version: str) -> dict[str, Any] | None:
        """A kept configuration with its `at` and `author`, or None."""
        found = self._connection.execute(sa.select(CONFIGS).where(CONFIGS.c.version == version)).mappings().first()
        return dict(found) if found else None

    def configs(self) -> list[dict[str, Any]]:
        """All kept configurations, each with its `version`, `at`, `author` and `body`, oldest first."""
        query = sa.select(CONFIGS).order_by(CONFIGS.c.at, CONFIGS.c.version)
        return [dict(found) for found in self._connection.execute(query).mappings()]

    def crown(self, model: str, version: str, since: datetime, because: str) -> None:
        """Note that a version is the champion from a moment on."""
        self._replace(CHAMPIONS, [{"model": model, "version": version, "since": since, "because": because}])

    def champions(self, model: str) -> list[tuple[datetime, str]]:
        """Who was champion since when, oldest first."""
        query = sa.select(CHAMPIONS.c.since, CHAMPIONS.c.version).where(CHAMPIONS.c.model == model)
        return [(row.since, row.version) for row in self._connection.execute(query.order_by(CHAMPIONS.c.since))]

    def cursor(self, model: str, name: str) -> str | None:
        query = sa.select(CURSORS.c.value).where(CURSORS.c.model == model, CURSORS.c.name == name)
        return self._connection.execute(query).scalar()

    def set_cursor(self, model: str, name: str, value: str) -> None:
        self._replace(CURSORS, [{"model": model, "name": name, "value": value}])

    # keys

    def put_key(self, key: records.ApiKey) -> None:
        self._connection.execute(sa.insert(API_KEYS).values(_flat(key)))

    def revoke_key(self, key_id: str, at: datetime) -> bool:
        """End a key; False if there is none of this id that is in use."""
        mine = (API_KEYS.c.id == key_id, API_KEYS.c.revoked_at.is_(None))
        return self._connection.execute(sa.update(API_KEYS).where(*mine).values(revoked_at=at)).rowcount == 1

    def api_keys(self) -> list[records.ApiKey]:
        """All keys that were ever made, oldest first."""
        query = sa.select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id)
        return [_row(records.ApiKey, found) for found in self._connection.execute(query).mappings()]

    # counts

    def add_counts(self, model: str, counts: Mapping[str, int]) -> None:
        """Add to what was counted of a model before."""
        self.put_counts(model, {name: n + self.counts(model).get(name, 0) for name, n in counts.items()})

    def put_counts(self, model: str, counts: Mapping[str, int]) -> None:
        """Set what is counted of a model."""
        values = [{"model": model, "name": name, "n": n} for name, n in counts.items()]
        if values:
            self._replace(COUNTS, values)

    def counts(self, model: str) -> dict[str, int]:
        query = sa.select(COUNTS.c.name, COUNTS.c.n).where(COUNTS.c.model == model)
        return {row.name: row.n for row in self._connection.execute(query)}

    # audit

    def audit(self, at: datetime, actor: str, kind: str, subject: str, payload: dict[str, Any]) -> None:
        """Append to the tamper-evident record."""
        last = self._connection.execute(
            sa.select(AUDIT.c.seq, AUDIT.c.hash).order_by(AUDIT.c.seq.desc()).limit(1)
        ).first()
        plain = json.loads(json.dumps(payload, default=str))
        entry = records.AuditEntry(
            last.seq + 1 if last else 1, at, actor, kind, subject, plain, last.hash if last else ""
        )
        self._connection.execute(sa.insert(AUDIT).values(_flat(entry.sealed())))

    def audit_trail(self, subject: str | None = None, limit: int | None = None) -> list[records.AuditEntry]:
        """Entries, newest first; of one subject, where given."""
        query = sa.select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(limit)
        if subject is not None:
            query = query.where(AUDIT.c.subject == subject)
        return [_row(records.AuditEntry, found) for found in self._connection.execute(query).mappings()]

    def _replace(self, table: sa.Table, values: list[dict[str, Any]]) -> None:
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        from_values = dialect.insert(table)
        keys = [column.name for column in table.primary_key]
        rest = {c.name: from_values.excluded[c.name] for c in table.columns if c.name not in keys}
        self._connection.execute(from_values.on_conflict_do_update(index_elements=keys, set_=rest), values)


def verify(entries: Sequence[records.AuditEntry]) -> records.AuditEntry | None:
    """The first entry (oldest first) whose hash or link to the one before does not hold; None if all do.

    That the newest entries were cut off, or the whole record written anew, cannot be seen from the entries alone:
    checkpoints show it (`audit`).
    """
    previous = ""
    for seq, entry in enumerate(sorted(entries, key=lambda e: e.seq), start=1):
        if entry.seq != seq or entry.previous != previous or entry.sealed().hash != entry.hash:
            return entry
        previous = entry.hash
    return None


def _engine(url: str) -> sa.Engine:
    try:
        found = sa.make_url(url)
        if found.get_backend_name() == "postgresql":
            found = found.set(drivername="postgresql+psycopg")
            return sa.create_engine(found, pool_pre_ping=True, connect_args={"connect_timeout": PATIENCE})
        if found.get_backend_name() == "sqlite":
            return sa.create_engine(found, connect_args={"timeout": PATIENCE})
    except sa.exc.ArgumentError:
        raise StateError(f'"{url}" is no address of a database; write it as postgresql://user@host/database') from None
    except ModuleNotFoundError as problem:
        raise StateError('state in Postgres needs psycopg: pip install "watchkeeper[postgres]"') from problem
    raise StateError(
        f"state is kept in SQLite or in Postgres, not in {found.get_backend_name()}; write the address as"
        " postgresql://user@host/database"
    )


def _said(problem: sa.exc.DBAPIError) -> str:
    """What the database says was wrong, in its first line."""
    return next(iter(str(problem.orig).splitlines()), "")


def _begin_postgres(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get(READS):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
        connection.exec_driver_sql(SERIAL)


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(READS) else "BEGIN IMMEDIATE")


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN IMMEDIATE opens transactions
    for attempt in range(TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # several open a new file at once; this statement alone does not wait
            if attempt == TRIES - 1:
                raise
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    connection.execute("PRAGMA synchronous=NORMAL")


def _flat(row: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Window):
            out[f"{field.name}_start"], out[f"{field.name}_end"] = value.start, value.end
        else:
            out[field.name] = list(value) if isinstance(value, tuple) else value
    return out


def _row(cls: type[Row], found: Any) -> Row:
    values: dict[str, Any] = {}
    for field, hint in _HINTS[cls].items():
        if hint is Window:
            values[field] = Window(found[f"{field}_start"], found[f"{field}_end"])
            continue
        value = found[field]
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            value = hint(value)
        values[field] = tuple(value) if isinstance(value, list) else value
    return cls(**values)
