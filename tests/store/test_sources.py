"""Sources: any table that people have is read, or refused in words; and its columns become profiles."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from watchkeeper.errors import DataError
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import Grid
from watchkeeper.store.sources import (
    Plan,
    beside,
    collect,
    connect,
    kind_of,
    read,
    scalars,
    show,
    summarise,
    summary,
)
from watchkeeper.testing import profile_of

ROWS: dict[str, list[Any]] = {"age": [30.5, 41.0, None], "country": ["NL", "DE", None], "calls": [1, 2, 3]}


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS)


def csv(path: Path, separator: str = ",") -> Path:
    frame().to_csv(path, index=False, sep=separator)
    return path


def parquet(path: Path) -> Path:
    pq.write_table(pa.table(ROWS), path)
    return path


def folder(path: Path, write: Callable[[Path], Path], ending: str) -> Path:
    for part in ("a", "b"):
        (path / part).mkdir(parents=True)
        write(path / part / f"rows.{ending}")
    return path


def of_ibis(connection: Any) -> Any:
    connection.raw_sql("CREATE TABLE mine (age DOUBLE, country VARCHAR, calls INTEGER)")
    connection.raw_sql("INSERT INTO mine VALUES (30.5, 'NL', 1), (41.0, 'DE', 2), (NULL, NULL, 3)")
    return connection.table("mine")


ONCE: dict[str, Callable[[Path], Any]] = {
    "pandas": lambda path: frame(),
    "pandas with an index": lambda path: frame().set_index(pd.Index([7, 8, 9])),
    "pandas with categories": lambda path: frame().astype({"country": "category"}),
    "pandas with its own types": lambda path: frame().convert_dtypes(),
    "polars": lambda path: pl.DataFrame(ROWS),
    "polars with categories": lambda path: pl.DataFrame(ROWS).cast({"country": pl.Categorical}),
    "polars, lazy": lambda path: pl.LazyFrame(ROWS),
    "DuckDB": lambda path: duckdb.connect().from_arrow(pa.table(ROWS)),
    "Ibis in DuckDB": lambda path: of_ibis(ibis.duckdb.connect()),
    "Ibis in memory": lambda path: ibis.memtable(pa.table(ROWS)),
    "Ibis in SQLite": lambda path: of_ibis(ibis.sqlite.connect(path / "mine.sqlite")),
    "Arrow": lambda path: pa.table(ROWS),
    "Arrow in chunks": lambda path: pa.concat_tables([pa.table(ROWS).slice(0, 1), pa.table(ROWS).slice(1)]),
    "Arrow with dictionaries": lambda path: pa.table(
        {**ROWS, "country": pa.array(ROWS["country"]).dictionary_encode()}
    ),
    "CSV": lambda path: csv(path / "rows.csv"),
    "CSV, as text": lambda path: str(csv(path / "rows.csv")),
    "CSV, zipped": lambda path: csv(path / "rows.csv.gz"),
    "CSV with tabs": lambda path: csv(path / "rows.tsv", "\t"),
    "CSV with semicolons": lambda path: csv(path / "rows.txt", ";"),
    "Parquet": lambda path: parquet(path / "rows.parquet"),
    "Parquet, shortened": lambda path: parquet(path / "rows.pq"),
}
TWICE: dict[str, Callable[[Path], Any]] = {
    "a folder of CSV": lambda path: folder(path / "f", csv, "csv"),
    "a folder of Parquet": lambda path: folder(path / "f", parquet, "parquet"),
    "a pattern of CSV": lambda path: f"{folder(path / 'f', csv, 'csv')}/*/*.csv",
    "a pattern of Parquet": lambda path: f"{folder(path / 'f', parquet, 'parquet')}/*/*.parquet",
}


@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")  # of Ibis, where it reads SQLite
@pytest.mark.parametrize("source", [*ONCE, *TWICE])
def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path, source: str) -> None:
    times = 1 if source in ONCE else 2
    table = read(connect(), (ONCE | TWICE)[source](tmp_path), "rows")
    assert table.columns == ("age", "country", "calls")
    assert [kind_of(table[name]) for name in table.columns] == [Kind.NUMERIC, Kind.CATEGORICAL, Kind.NUMERIC]
    found = table.to_pyarrow().to_pydict()
    assert sorted(found["age"], key=repr) == sorted(ROWS["age"] * times, key=repr)
    assert sorted(found["country"], key=repr) == sorted(ROWS["country"] * times, key=repr)
    assert sorted(found["calls"]) == sorted(ROWS["calls"] * times)


def test_two_sources_live_on_one_connection() -> None:
    connection = connect()
    one = read(connection, pa.table({"x": [1]}), "the first")
    two = read(connection, pa.table({"x": [2, 3]}), 'the "second"')
    assert [scalars(t, {"n": t.count()})["n"] for t in (one, two)] == [1, 2]


REFUSED: list[tuple[str, Callable[[Path], Any], str]] = [
    ("nothing there", lambda path: path / "none.csv", "there is no file .*none.csv"),
    ("an empty file", lambda path: write(path / "rows.csv", ""), "is empty: it has no header and no rows"),
    ("an empty folder", lambda path: path, "holds no .parquet and no .csv file"),
    ("a pattern of nothing", lambda path: path / "*.csv", r"there is no file that fits .*\*\.csv; check the path"),
    ("another kind of file", lambda path: write(path / "rows.xlsx", "PK"), "is neither .csv nor .parquet"),
    ("no Parquet inside", lambda path: write(path / "rows.parquet", "words"), "cannot be read as parquet"),
    ("ragged rows", lambda path: write(path / "rows.csv", "a,b\n1,2\n1,2,3\n4,5\n"), "rows.csv"),
    ("a list", lambda path: [1, 2, 3], "rows is a list, which cannot be read; give a path, a pandas or Polars"),
    ("a dictionary", lambda path: {"x": [1]}, "rows is a dict, which cannot be read"),
    ("no columns", lambda path: pa.table({}), "rows has no columns"),
    ("names that differ in case", lambda path: pa.table({"Age": [1], "age": [2]}), 'two columns, "Age" and "age"'),
    ("one name twice", lambda path: pa.table([[1], [2]], names=["x", "x"]), 'two columns, "x" and "x"'),
]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(("source", "make", "complaint"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_cannot_be_read_is_refused_in_words(
    tmp_path: Path, source: str, make: Callable[[Path], Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        read(connect(), make(tmp_path), "rows")


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    table = read(connect(), write(tmp_path / "rows.csv", "age,country\n"), "rows")
    assert table.columns == ("age", "country")
    assert scalars(table, {"n": table.count()}) == {"n": 0}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1], pa.int8()), Kind.NUMERIC),
        (pa.array([1], pa.uint64()), Kind.NUMERIC),
        (pa.array([1.0], pa.float32()), Kind.NUMERIC),
        (pa.array([Decimal("1.25")]), Kind.NUMERIC),
        (pa.array([True]), Kind.CATEGORICAL),
        (pa.array(["a"], pa.large_string()), Kind.CATEGORICAL),
        (pa.array([None], pa.null()), Kind.CATEGORICAL),
        (pa.array([date(2024, 3, 1)]), Kind.DATETIME),
        (pa.array([datetime(2024, 3, 1, tzinfo=UTC)]), Kind.DATETIME),
        (pa.array([1], pa.duration("us")), Kind.DURATION),
        (pa.array([1], pa.time64("us")), Kind.DURATION),
        (pa.array([[1]]), None),
        (pa.array([b"a"]), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_type_says_how_its_column_is_summarised(values: pa.Array, kind: Kind | None) -> None:
    assert kind_of(read(connect(), pa.table({"x": values}), "rows").x) is kind


# summaries of whole tables


def test_a_table_without_a_time_is_one_profile_a_column() -> None:
    table = read(connect(), pa.table({**ROWS, "label": [1, None, 0]}), "rows")
    plans = [Plan("age", Kind.NUMERIC, Grid.unit(), by_label=True), Plan("country", Kind.CATEGORICAL, None)]
    parts = summarise(table, iter(plans))
    found = {(p.column, p.label): (p.version, p.start, p.profile.to_bytes()) for p in parts}
    assert found == {
        ("age", ""): ("", None, profile_of(ROWS["age"], Grid.unit()).to_bytes()),
        ("age", "1"): ("", None, profile_of([30.5], Grid.unit()).to_bytes()),
        ("age", "0"): ("", None, profile_of([None], Grid.unit()).to_bytes()),
        ("country", ""): ("", None, profile_of(ROWS["country"]).to_bytes()),
    }


def test_a_table_without_rows_has_no_profiles() -> None:
    table = read(connect(), pa.table({"x": pa.array([], pa.float64())}), "rows")
    assert summarise(table, [Plan("x", Kind.NUMERIC, Grid.unit())]) == []


def categories(values: Any, missing: tuple[float | str, ...] = ()) -> dict[str | None, int]:
    table = read(connect(), pa.table({"x": values}), "rows")
    (part,) = summarise(table, [Plan("x", Kind.CATEGORICAL, None, missing)])
    return {**part.profile.by_value, **({None: part.profile.nulls} if part.profile.nulls else {})}


def test_a_number_is_the_same_category_in_every_type() -> None:
    assert categories(pa.array([3, 3, 4])) == {"3": 2, "4": 1}
    assert categories(pa.array([3.0, 3.0, 4.5, None])) == {"3": 2, "4.5": 1, None: 1}
    assert categories(pa.array([3.0, 4.0], pa.float32())) == {"3": 1, "4": 1}
    assert categories(pa.array([True, False, True])) == {"true": 2, "false": 1}
    assert categories(pa.array(["3", "3.0"])) == {"3": 1, "3.0": 1}


def test_a_number_that_is_none_is_no_category() -> None:
    assert categories(pa.array([float("nan"), 1e300, float("inf")])) == {"1e+300": 1, "inf": 1, None: 1}


def test_declared_values_are_missing_in_every_type() -> None:
    assert categories(pa.array(["-999", "??", "a"]), (-999.0, "??")) == {"a": 1, None: 2}
    assert categories(pa.array([-999, 1]), (-999.0, "??")) == {"1": 1, None: 1}
    assert categories(pa.array([0.5, 1]), (0.5,)) == {"1": 1, None: 1}
    assert categories(pa.array(["9999999"]), (9999999.0,)) == {None: 1}


@pytest.mark.parametrize(
    ("value", "word"),
    [(True, "true"), (1, "1"), (1.0, "1"), (-0.0, "0"), (1.5, "1.5"), (2.0**53, "9007199254740992.0"), ("1.0", "1.0")],
)
def test_a_value_is_shown_as_the_category_it_is(value: object, word: str) -> None:
    assert show(value) == word


def test_counts_of_nothing_are_no_parts() -> None:
    table = read(connect(), pa.table({"x": pa.array([], pa.string())}), "rows")
    plans = [Plan("x", Kind.CATEGORICAL, None)]
    assert collect(summary(table, plans).to_pyarrow(), plans) == []


def test_parquet_files_are_read_through_two_cursors_at_once(tmp_path: Path) -> None:
    table = read(connect(), parquet(tmp_path / "it's.parquet"), "rows")
    other = beside(table.select("age", "calls"))
    assert other is not None
    assert other.get_backend() is not table.get_backend()
    assert other.to_pyarrow().to_pylist() == table.select("age", "calls").to_pyarrow().to_pylist()
    assert beside(read(connect(), pa.table(ROWS), "rows")) is None
    assert beside(read(ibis.duckdb.connect(), tmp_path / "it's.parquet", "rows")) is None
