"""Tables that others keep: the same rows give the same profiles in each database, and nothing is written to them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
import pyarrow.compute as pc
import pytest

from watchkeeper import quarantine
from watchkeeper.errors import ConfigError, DataError, StateError
from watchkeeper.schema import Kind, ModelConfig
from watchkeeper.segments import Segmentation
from watchkeeper.stats.grid import Grid
from watchkeeper.store import questions
from watchkeeper.store.backends import DuckDB
from watchkeeper.store.fitting import table
from watchkeeper.store.log import Log
from watchkeeper.store.privacy import Keys
from watchkeeper.store.sources import Plan
from watchkeeper.store.warehouse import Warehouse
from watchkeeper.windows import DAY, Window

MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
NOW = MIDNIGHT + 10 * DAY
M = "churn"
COLUMNS = {"request_id": "id", "event_time": "made_at", "score": "p", "label": "churned", "age": "Age in years"}
KINDS = {"age": "numeric", "country": "categorical", "born": "datetime"}
GRID = Grid.fit(np.random.default_rng(1).normal(40, 12, 500))
PLANS = (
    Plan("age", Kind.NUMERIC, GRID),
    Plan("country", Kind.CATEGORICAL, None),
    Plan("score", Kind.NUMERIC, Grid.unit(), by_label=True),
    Plan("born", Kind.NUMERIC, Grid.logarithmic(1.0, 1e10)),
)
CLASSES = ("cat", "dog")
ERRORS_GRID = Grid.fit(np.random.default_rng(2).normal(0, 30, 500))
ANSWERS = {"request_id": "id", "event_time": "made_at", "age": "Age in years"}
TABLES = {"binary": "predictions", "multiclass": "answers", "regression": "answers"}
MAPPED = {
    "binary": COLUMNS,
    "multiclass": {**ANSWERS, "prediction": "said", "label": "was", "score:cat": "p_cat"},
    "regression": {**ANSWERS, "prediction": "guess", "label": "truth"},
}
OF_TASK = {
    "binary": PLANS,
    "multiclass": (
        *(plan for plan in PLANS if plan.name != "score"),
        Plan("prediction", Kind.CATEGORICAL, None, by_label=True, known=CLASSES, classes=CLASSES),
        Plan("score:cat", Kind.NUMERIC, Grid.unit(), by_label=True, positive="cat"),
    ),
    "regression": (
        *(plan for plan in PLANS if plan.name != "score"),
        *(Plan(name, Kind.NUMERIC, ERRORS_GRID) for name in ("prediction", "error", "label")),
    ),
}
every_task = pytest.mark.parametrize("task", TABLES)
SEGMENTS = Segmentation(("country",), (("NL",), ("it's",)))
Row = tuple[Any, ...]


def rows(n: int = 400, first: int = 0) -> list[Row]:
    """id, made_at, p, churned, age, country, born, and a column that nobody asked for."""
    rng = np.random.default_rng(first)
    return [
        (
            f"r{first + i}",
            MIDNIGHT + timedelta(minutes=int(rng.integers(0, 3 * 24 * 60))),
            round(float(rng.random()), 3),
            None if rng.random() < 0.4 else int(rng.integers(0, 2)),
            None if rng.random() < 0.1 else float(np.round(rng.normal(40, 15), 2)),
            [None, "NL", "DE", "it's", "遅延"][int(rng.integers(5))],
            None if rng.random() < 0.1 else MIDNIGHT - timedelta(days=int(rng.integers(1, 9000))),
            "x",
        )
        for i in range(n)
    ]


def answers(n: int = 400) -> list[Row]:
    """id, made_at, said, was, p_cat, guess, truth, age, country, born: what models of several classes and regressions
    said, and what it was."""
    found = []
    for i, (id_, at, p, churned, age, country, born, _) in enumerate(rows(n)):
        was = None if churned is None else "" if i % 40 == 0 else ("cat", "dog", "it's a cow")[(i + churned) % 3]
        truth = None if churned is None else round(50 + 30 * p - 20 * churned, 1)
        found.append((id_, at, "cat" if p > 0.4 else "dog", was, p, round(100 * p, 1), truth, age, country, born))
    return found


class Table:
    """A table of somebody else's, that they write to."""

    url: str
    name = "predictions"

    def run(self, sql: str, values: list[Row] | None = None) -> None:
        raise NotImplementedError

    def digest(self) -> str:
        """What tells whether anything of it has changed."""
        raise NotImplementedError

    def add(self, made: list[Row], table: str = "predictions") -> None:
        raise NotImplementedError


class InDuckDB(Table):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "theirs.duckdb"
        self.url = f"duckdb:///{self.path}"
        self.run(
            'CREATE TABLE predictions (id VARCHAR, made_at TIMESTAMP, p DOUBLE, churned INTEGER, "Age in years" DOUBLE,'
            " country VARCHAR, born TIMESTAMP, more VARCHAR)"
        )
        self.run(
            "CREATE TABLE answers (id VARCHAR, made_at TIMESTAMP, said VARCHAR, was VARCHAR, p_cat DOUBLE,"
            ' guess DOUBLE, truth DOUBLE, "Age in years" DOUBLE, country VARCHAR, born TIMESTAMP)'
        )

    def run(self, sql: str, values: list[Row] | None = None) -> None:
        with duckdb.connect(str(self.path)) as connection:
            if values is None:
                connection.execute(sql)
            else:
                connection.executemany(sql, values)

    def add(self, made: list[Row], table: str = "predictions") -> None:
        plain = [tuple(v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in row) for row in made]
        self.run(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in made[0])})", plain)

    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


class InSQLite(Table):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "theirs.db"
        self.url = f"sqlite:///{self.path}"
        self.run('CREATE TABLE predictions (id, made_at TEXT, p REAL, churned, "Age in years", country, born, more)')
        self.run(
            'CREATE TABLE answers (id, made_at TEXT, said, was, p_cat, guess, truth, "Age in years", country, born)'
        )

    def run(self, sql: str, values: list[Row] | None = None) -> None:
        with sqlite3.connect(self.path) as connection:
            if values is None:
                connection.execute(sql)
            else:
                connection.executemany(sql, values)
        connection.close()

    def add(self, made: list[Row], table: str = "predictions") -> None:
        plain = [tuple(v.isoformat(sep=" ") if isinstance(v, datetime) else v for v in row) for row in made]
        self.run(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in made[0])})", plain)

    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


class InPostgres(Table):
    def __init__(self, url: str) -> None:
        self.url = url
        self.run(
            "CREATE TABLE predictions (id text, made_at timestamptz, p numeric, churned boolean, "
            '"Age in years" real, country text, born date, more text)'
        )
        self.run(
            "CREATE TABLE answers (id text, made_at timestamptz, said text, was text, p_cat float8, guess numeric,"
            ' truth numeric, "Age in years" real, country text, born date)'
        )

    def run(self, sql: str, values: list[Row] | None = None) -> None:
        with psycopg.connect(self.url) as connection:
            if values is None:
                connection.execute(sql)
            else:
                connection.cursor().executemany(sql, values)

    def add(self, made: list[Row], table: str = "predictions") -> None:
        if table == "predictions":
            made = [(*row[:3], None if row[3] is None else bool(row[3]), *row[4:]) for row in made]
        self.run(f"INSERT INTO {table} VALUES ({', '.join('%s' for _ in made[0])})", made)

    def digest(self) -> str:
        with psycopg.connect(self.url) as connection:
            found = connection.execute(
                "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM predictions t"
            ).fetchall()
            tables = connection.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()"
            ).fetchall()
        return f"{found}{tables}"


@pytest.fixture(params=["duckdb", "sqlite", "postgres"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    if request.param == "postgres":
        return InPostgres(request.getfixturevalue("new_postgres")())
    return InDuckDB(tmp_path) if request.param == "duckdb" else InSQLite(tmp_path)


def model(theirs: str, task: str = "binary", **settings: Any) -> ModelConfig:
    described = {"url": theirs, "table": TABLES[task], "columns": MAPPED[task]} | settings
    columns = {name: {"kind": kind} for name, kind in KINDS.items()}
    classes = CLASSES if task == "multiclass" else ()
    return ModelConfig.model_validate({"task": task, "classes": classes, "columns": columns, "events": described})


Opened = Callable[..., Warehouse]


@pytest.fixture
def opened(theirs: Table) -> Iterator[Opened]:
    made: list[Warehouse] = []

    def new(task: str = "binary", **settings: Any) -> Warehouse:
        config = model(theirs.url, task, **settings)
        assert config.events is not None
        made.append(Warehouse(M, config, config.events))
        return made[-1]

    yield new
    for one in made:
        one.close()


FIELDS = {
    "binary": ("request_id", "event_time", "score", "label", "age", "country", "born", ""),
    "multiclass": ("request_id", "event_time", "prediction", "label", "score:cat", "", "", "age", "country", "born"),
    "regression": ("request_id", "event_time", "", "", "", "prediction", "label", "age", "country", "born"),
}
"""What each column of the rows is to a model of a task."""


@pytest.fixture
def own(tmp_path: Path, task: str) -> Iterator[Log]:
    """A log of our own with the same rows."""
    log = Log(DuckDB(tmp_path / "log.duckdb"))
    log.open_model(M, model("duckdb:///none", task))
    made = rows() if task == "binary" else answers()
    columns = dict(zip(FIELDS[task], map(list, zip(*made, strict=True)), strict=True))
    log.append(M, table({name: values for name, values in columns.items() if name not in ("label", "")}))
    told = table({"request_id": columns["request_id"], "label": columns["label"], "known_at": columns["event_time"]})
    log.append_outcomes(M, told.filter(pc.is_valid(told.column("label"))))
    yield log
    log.close()


@every_task
def test_what_is_read_of_a_table_is_what_a_log_of_its_rows_holds(
    theirs: Table, opened: Opened, own: Log, task: str
) -> None:
    theirs.add(rows())
    theirs.add(answers(), "answers")
    before = theirs.digest()
    warehouse = opened(task)
    days = [MIDNIGHT + i * DAY for i in range(3)]

    def counted(log: Log) -> dict[tuple[Any, ...], bytes]:
        parts = log.profiles(M, OF_TASK[task], days, "1d", [SEGMENTS])
        return {(p.column, p.version, p.label, p.start, p.segment): p.profile.to_bytes() for p in parts}

    exact = counted(own)
    found = counted(warehouse)
    assert {column for column, *_ in exact} >= {plan.name for plan in OF_TASK[task]}
    if isinstance(theirs, InPostgres):  # its ages have 24 bits
        exact, found = ({key: v for key, v in some.items() if key[0] != "age"} for some in (exact, found))
    assert found == exact
    window = Window(MIDNIGHT, MIDNIGHT + 2 * DAY)
    by = [("prediction", "ascending"), ("label", "ascending")]
    assert warehouse.first_labelled(M).sort_by(by).equals(own.first_labelled(M).sort_by(by))
    mine, other = own.labelled(M, window), warehouse.labelled(M, window)
    assert other.column_names == mine.column_names
    for name in ("request_id", "event_time", "score", "label", "country", "born"):
        assert other.column(name).to_pylist() == mine.column(name).to_pylist()
    assert warehouse.extent(M) == own.extent(M)
    assert warehouse.versions(M) == []
    for order in ("extreme", "missing", "loss"):
        for within in (None, (SEGMENTS, "country=NL")):
            ours = own.samples(M, window, order, "country", within=within)
            assert warehouse.samples(M, window, order, "country", within=within) == ours
    assert warehouse.first_rows(M, "country", limit=50).num_rows == 50
    assert theirs.digest() == before, "nothing was written"


def test_a_table_is_asked_like_a_log(theirs: Table, opened: Opened) -> None:
    theirs.add(rows())
    asked = questions.read(model(theirs.url), Keys(), NOW, where=("country = NL", "label is known"), limit=5)
    with opened().answer(M, asked) as answer:
        found = answer.read_all().to_pylist()
    assert len(found) == 5
    assert {row["country"] for row in found} == {"NL"}
    by_id = {row[0]: row for row in rows()}
    assert [row["label"] for row in found] == [by_id[row["request_id"]][3] for row in found]


@pytest.mark.parametrize(
    ("task", "column", "values"),
    [("multiclass", "was", ("'cat'", "'dog'")), ("regression", "truth", ("1.5", "-1.5"))],
)
def test_a_label_of_any_task_that_is_corrected_is_news(
    theirs: Table, opened: Opened, task: str, column: str, values: tuple[str, str]
) -> None:
    warehouse = opened(task)
    theirs.add([("a", MIDNIGHT, "cat", None, 0.5, 1.0, None, 1.0, "NL", None)], "answers")
    cursor = warehouse.news(M, None, "1d", NOW).cursor
    for value in (*values, values[0]):
        theirs.run(f"UPDATE answers SET {column} = {value}")
        found = warehouse.news(M, cursor, "1d", NOW)
        assert (found.by_rows, found.by_labels) == ([], [MIDNIGHT])
        cursor = found.cursor
        assert warehouse.news(M, cursor, "1d", NOW).by_labels == []


def test_nothing_is_set_aside_of_it(theirs: Table, opened: Opened) -> None:
    theirs.add(rows(5))
    assert quarantine.values(opened(), M, 10) == []
    assert opened().totals(M)["predictions"] == 5


def test_the_news_are_the_grains_whose_rows_or_labels_have_changed(theirs: Table, opened: Opened) -> None:
    warehouse = opened(look_back="3d")
    none = warehouse.news(M, None, "1d", NOW)
    assert (none.some, none.by_rows, none.by_labels) == (False, [], [])
    theirs.add([("a", MIDNIGHT, 0.5, None, 1.0, "NL", None, ""), ("b", MIDNIGHT + DAY, 0.5, None, 1.0, "NL", None, "")])
    first = warehouse.news(M, none.cursor, "1d", NOW)
    assert (first.some, first.by_rows, first.by_labels) == (True, [MIDNIGHT, MIDNIGHT + DAY], [])
    again = warehouse.news(M, first.cursor, "1d", NOW)
    assert again.cursor == first.cursor
    assert again.by_rows == again.by_labels == []
    yes = "true" if isinstance(theirs, InPostgres) else "1"
    theirs.run(f"UPDATE predictions SET churned = {yes} WHERE id = 'a'")
    labelled = warehouse.news(M, first.cursor, "1d", NOW)
    assert (labelled.by_rows, labelled.by_labels) == ([], [MIDNIGHT])
    no = "false" if isinstance(theirs, InPostgres) else "0"
    theirs.run(f"UPDATE predictions SET churned = {no} WHERE id = 'a'")
    assert warehouse.news(M, labelled.cursor, "1d", NOW).by_labels == [MIDNIGHT], "a label that is corrected"
    theirs.add([("c", MIDNIGHT - DAY, 0.5, None, 1.0, "NL", None, "")])
    late = warehouse.news(M, labelled.cursor, "1d", NOW)
    assert late.by_rows == [MIDNIGHT - DAY]
    theirs.add([("d", MIDNIGHT - 5 * DAY, 0.5, None, 1.0, "NL", None, "")])
    assert warehouse.news(M, late.cursor, "1d", NOW).by_rows == [], "later than what is looked back to"
    theirs.run("DELETE FROM predictions WHERE id = 'b'")
    assert warehouse.news(M, late.cursor, "1d", NOW).by_rows == [MIDNIGHT + DAY]


def test_a_row_of_the_future_does_not_hide_those_of_today(theirs: Table, opened: Opened) -> None:
    warehouse = opened()
    theirs.add([("a", NOW + 900 * DAY, 0.5, None, 1.0, "NL", None, "")])
    first = warehouse.news(M, None, "1d", NOW)
    theirs.add([("b", NOW - DAY, 0.5, None, 1.0, "NL", None, "")])
    assert warehouse.news(M, first.cursor, "1d", NOW).by_rows == [NOW - DAY]


def test_nothing_can_be_logged_of_it(theirs: Table, opened: Opened) -> None:
    warehouse = opened()
    with pytest.raises(DataError, match="read from predictions; nothing can be logged"):
        warehouse.append(M, table({"request_id": ["a"], "event_time": [MIDNIGHT]}))
    with pytest.raises(DataError, match="nothing can be logged"):
        warehouse.append_outcomes(M, table({"request_id": ["a"]}))
    with pytest.raises(DataError, match="nothing is written"):
        warehouse.backend.run("DELETE FROM predictions")


def test_the_session_in_postgres_could_not_write_if_it_wanted(new_postgres: Callable[[], str]) -> None:
    theirs = InPostgres(new_postgres())
    config = model(theirs.url)
    assert config.events is not None
    warehouse = Warehouse(M, config, config.events)
    with pytest.raises(StateError, match="read-only transaction"):
        warehouse.backend.place.rows("DELETE FROM predictions")  # type: ignore[attr-defined]
    warehouse.close()


def test_a_column_that_is_not_there_is_told_with_the_nearest(theirs: Table, opened: Opened) -> None:
    with pytest.raises(ConfigError, match='has no column "chured" for label; did you mean "churned"'):
        opened(columns={**COLUMNS, "label": "chured"})
    with pytest.raises(ConfigError, match='has no column "age" for age'):
        opened(columns={name: column for name, column in COLUMNS.items() if name != "age"})


def test_a_column_of_another_type_is_told(new_postgres: Callable[[], str], tmp_path: Path) -> None:
    for theirs in (InPostgres(new_postgres()), InDuckDB(tmp_path)):
        config = model(theirs.url, columns={**COLUMNS, "age": "country"})
        assert config.events is not None
        with pytest.raises(ConfigError, match=r'age wants numbers, and the column "country" of predictions holds'):
            Warehouse(M, config, config.events)


def test_a_table_that_cannot_be_read_is_told(theirs: Table, opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="nothing_here"):
        opened(table="nothing_here")
    with pytest.raises(StateError, match="there is no file"):
        opened(url=f"duckdb:///{tmp_path}/none.duckdb")
    with pytest.raises(StateError, match="there is no file"):
        opened(url=f"sqlite:///{tmp_path}/none.db")


def test_a_file_that_another_writes_to_is_read_later(tmp_path: Path) -> None:
    theirs = InDuckDB(tmp_path)
    config = model(theirs.url)
    assert config.events is not None
    warehouse = Warehouse(M, config, config.events)
    theirs.path.write_bytes(b"half of a file")
    with pytest.raises(StateError, match="cannot be read now"):
        warehouse.extent(M)
    warehouse.close()


def test_a_value_of_another_type_is_missing_in_sqlite(tmp_path: Path) -> None:
    theirs = InSQLite(tmp_path)
    theirs.run("INSERT INTO predictions VALUES ('a', '2024-03-01 12:00:00', 'high', 'yes', 'old', 7, 3, '')")
    theirs.run("INSERT INTO predictions VALUES ('b', 'noon', 0.5, 1, 40, 'NL', '', '')")
    config = model(theirs.url)
    assert config.events is not None
    warehouse = Warehouse(M, config, config.events)
    assert warehouse.extent(M) == (MIDNIGHT + DAY / 2, 1), "a row without a time is left out"
    assert warehouse.first_rows(M).to_pydict() == {
        "event_time": [datetime(2024, 3, 1, 12)],  # noqa: DTZ001  as the log has it
        "age": [None],
        "country": ["7"],
        "born": [None],
    }
    warehouse.close()
