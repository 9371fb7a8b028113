"""Tables in, counts out: reading any source, and the one summarising expression, written in Ibis."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import duckdb
import ibis
import ibis.backends.duckdb
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
from ibis.expr.operations import DatabaseTable, InMemoryTable
from narwhals.exceptions import NarwhalsError

from watchkeeper import profiles
from watchkeeper.costs import OTHER_CLASSES
from watchkeeper.errors import DataError
from watchkeeper.profiles import UNBOUNDED, Profile, categorical, merge, numeric
from watchkeeper.records import ALL
from watchkeeper.schema import AGE, Feature, Kind
from watchkeeper.segments import MOST, Segmentation, freeze
from watchkeeper.stats.grid import (
    MAX_RATIO,
    NAN,
    NEGATIVE_INFINITY,
    NULL,
    POSITIVE_INFINITY,
    SENTINEL,
    TAIL_STEPS,
    Grid,
)

UNLABELLED = "(none)"
"""The label, in the summarising expression, of rows without one."""
SEGMENT = "(segment)"
"""The column, in the summarising expression, that numbers the segment of each row, as `Segmentation.names` does."""
FOLDED = 0
"""The bin, in the summarising expression, of the rows of values that are folded; null for other categories."""
VIEW = "parquet"
"""What views of Parquet files are named for."""
GUESSED = 20_000
"""Rows of a CSV that its types are guessed from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one column is summarised. `by_label` splits its counts by the outcome as well.

    The outcomes are whole numbers; or `classes`, all others being `OTHER_CLASSES`; or, of the probability of a class,
    whether they are that class, `positive`.
    `known` is the vocabulary of a categorical one; None to take the values that are most frequent in these rows.
    `named_from` is how many rows must share a value for it to be named; see `profiles.categorical`.
    """

    name: str
    kind: Kind
    grid: Grid | None
    missing: tuple[float | str, ...] = ()
    by_label: bool = False
    known: tuple[str, ...] | None = ()
    named_from: int = 0
    classes: tuple[str, ...] = ()
    positive: str | None = None

    def label(self, label: ir.Column) -> ir.Column:
        """The outcome of each row by which the column is split; null where it has none. Whole numbers stay such, which
        are grouped faster than words."""
        if self.positive is not None:
            return ibis.cases((label.isnull(), ibis.null("int64")), (label == self.positive, 1), else_=0)
        if self.classes:
            return ibis.cases((label.isnull() | label.isin(self.classes), label), else_=OTHER_CLASSES)
        return label.cast("int64")

    def value(self, column: ir.Column) -> ir.Column:
        """What is counted of a column: doubles or words, null where there is none."""
        return declared(_double(column) if self.kind is Kind.NUMERIC else category(column), self.missing)


@dataclass(frozen=True, slots=True)
class Part:
    """The profile of one column of one version in one grain under one label (`ALL` or an outcome), in a segment or in
    all rows."""

    column: str
    version: str
    label: str
    start: datetime | None
    profile: Profile
    segment: str = ALL


_ours: WeakValueDictionary[int, ibis.backends.duckdb.Backend] = WeakValueDictionary()
"""The connections that `connect` made, by their identity: two in memory would be equal."""


def connect(other: ibis.backends.duckdb.Backend | None = None) -> ibis.backends.duckdb.Backend:
    """A DuckDB in memory; or one more connection to that of another one, which takes a tenth of the time."""
    made = ibis.duckdb.connect() if other is None else ibis.duckdb.from_connection(other.con.cursor())
    _ours[id(made)] = made
    return made


def is_ours(table: ir.Table) -> bool:
    """Whether a table is read through a connection that `connect` made, and not through one of the caller's."""
    backend = table.get_backend()
    return _ours.get(id(backend)) is backend


def apart(table: ir.Table, name: str) -> ir.Table:
    """A table kept in memory, to be asked while the connection that it came through is busy."""
    if not is_ours(table):
        return read(connect(), fetch(table), name)
    backend, unique = table.get_backend(), ibis.util.gen_name(name)
    backend.con.execute(f"CREATE TABLE {unique} AS {backend.compile(table)}")  # Arrow's way in would import pandas
    return DatabaseTable(unique, schema=table.schema(), source=connect(backend)).to_expr()  # asking for types is slow


def beside(table: ir.Table) -> ir.Table | None:
    """The same table through a cursor of its own, to be read while its connection is busy; None where it is made of
    something else than Parquet files, which that connection alone may know."""
    backend = table.get_backend()
    if not is_ours(table) or not all(t.name.startswith(f"ibis_{VIEW}_") for t in table.op().find(DatabaseTable)):
        return None
    view = ibis.util.gen_name(VIEW)
    backend.con.execute(f"CREATE VIEW {view} AS {backend.compile(table)}")
    return DatabaseTable(view, schema=table.schema(), source=connect(backend)).to_expr()


def read(connection: ibis.BaseBackend, data: Any, name: str) -> ir.Table:
    """Any source as an Ibis table on this connection.

    Args:
        data: a path to CSV or Parquet (a file, a folder or a glob), a pandas or Polars data frame, an Arrow
            table, a DuckDB relation, an Ibis table, or whatever else narwhals knows. An Ibis table in DuckDB stays
            on its own connection; those of other engines, and DuckDB relations, are fetched whole.
        name: what to call it in messages and in the engine.

    Raises DataError where there is nothing to read or it cannot be read.
    """
    if isinstance(data, (str, Path)):
        return _read_path(connection, Path(data), name)
    if isinstance(data, ir.Table) and _is_here(data):
        return data
    arrow = data if isinstance(data, pa.Table) else _arrow(data, name)
    if not arrow.num_columns:
        raise DataError(f"{name} has no columns; check how it was made")
    seen: dict[str, str] = {}
    for column in arrow.column_names:
        if (other := seen.get(column.lower())) is not None:
            raise DataError(
                f'{name} has two columns, "{other}" and "{column}", whose names do not differ but in case; rename one'
            )
        seen[column.lower()] = column
    plain = [_plain_field(arrow, i) for i in range(arrow.num_columns)]
    try:
        connection.con.register(name, pa.table(dict(zip(arrow.column_names, plain, strict=True))))
        return connection.table(name)
    except duckdb.Error as problem:
        raise DataError(f"{name} cannot be read: {str(problem).splitlines()[0]}") from problem


def _is_here(table: ir.Table) -> bool:
    """Whether a table lies in a DuckDB that can be asked for it by name."""
    return isinstance(ibis.get_backend(table), ibis.backends.duckdb.Backend) and not table.op().find(InMemoryTable)


def _arrow(data: Any, name: str) -> pa.Table:
    if isinstance(data, ir.Table):
        return data.to_pyarrow()
    if isinstance(data, duckdb.DuckDBPyRelation):
        return data.to_arrow_table()
    try:
        frame = nw.from_native(data)
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        try:
            return frame.to_arrow().select(range(len(frame.columns)))  # without the index that pandas adds
        except pa.ArrowException:
            return pa.table({column: _of_one_type(frame[column]) for column in frame.columns})
    except (pa.ArrowException, NarwhalsError) as problem:
        found = "; ".join(" ".join(str(part).split()) for part in problem.args)
        raise DataError(f"{name} cannot be read: {found}. Give each column one type and a name of its own") from problem
    except TypeError as problem:
        raise DataError(
            f"{name} is a {type(data).__name__}, which cannot be read; give a path, a pandas or Polars data frame,"
            " an Arrow table, a DuckDB relation or an Ibis table"
        ) from problem


def _of_one_type(column: nw.Series[Any]) -> pa.Array | pa.ChunkedArray:
    """A column; as text if its values are of several types."""
    try:
        return column.to_arrow()
    except pa.ArrowException:
        missing = column.is_null().to_list()
        return pa.array([None if null else str(v) for v, null in zip(column.to_list(), missing, strict=True)])


def _plain_field(table: pa.Table, i: int) -> pa.ChunkedArray:
    column = table.column(i)
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _read_path(connection: ibis.BaseBackend, path: Path, name: str) -> ir.Table:
    pattern = any(sign in str(path) for sign in "*?[")
    if pattern and not any(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
        raise DataError(f"there is no file that fits {path}; check the path (found nothing there)")
    if not pattern and not path.exists():
        raise DataError(f"there is no file {path}; check the path (found nothing there)")
    if path.is_dir():
        kinds = [kind for kind in ("parquet", "csv") if any(path.rglob(f"*.{kind}"))]
        if not kinds:
            raise DataError(f"the folder {path} holds no .parquet and no .csv file; name the one that does")
        target, kind = str(path / "**" / f"*.{kinds[0]}"), kinds[0]
    else:
        target = str(path)
        kind = "parquet" if target.endswith((".parquet", ".pq")) else "csv"
        if kind == "csv" and not target.endswith((".csv", ".csv.gz", ".tsv", ".txt")):
            raise DataError(f"{path} is neither .csv nor .parquet; convert it or rename it to what it is")
        if not pattern and path.stat().st_size == 0:
            raise DataError(f"{path} is empty: it has no header and no rows; check how it was written")
    try:
        return _viewed(connection, target) if kind == "parquet" else _parsed(connection, target, name)
    except duckdb.Error as problem:
        raise DataError(f"{path} cannot be read as {kind}: {_said(problem)}") from problem


def _viewed(connection: ibis.BaseBackend, target: str) -> ir.Table:
    """Parquet files as a view, which other cursors of the same database know as well."""
    view, files = ibis.util.gen_name(VIEW), target.replace("'", "''")
    connection.con.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet('{files}')")
    return connection.table(view)


def _parsed(connection: ibis.BaseBackend, target: str, name: str) -> ir.Table:
    """A CSV as a table in memory, so that text is parsed once and not at each query.

    Types are guessed from the first rows, and from all of them where that guess proves wrong further down.
    """
    try:
        table = _load(connection, target, name, GUESSED)
        texts = [column for column in table.columns if table[column].type().is_string()]
        filled = scalars(table, {"rows": table.count()} | {f"c{i}": table[c].count() for i, c in enumerate(texts)})
        if filled["rows"] > GUESSED:
            head = table.limit(GUESSED)
            seen = scalars(head, {f"c{i}": head[c].count() for i, c in enumerate(texts)}) if texts else {}
            if any(filled[key] and not count for key, count in seen.items()):
                table = _load(connection, target, name, -1)
    except duckdb.Error:
        table = _load(connection, target, name, -1)
    return table


def _load(connection: ibis.BaseBackend, target: str, name: str, rows: int) -> ir.Table:
    table = connection.read_csv(target, sample_size=rows, skip=0)
    if len(table.columns) == 1 and any(sign in table.columns[0] for sign in ",;\t|"):
        raise DataError(
            f'{target} was read as a single column called "{table.columns[0]}": not all of its rows have the same'
            " number of fields; mend them"
        )
    return connection.create_table(ibis.util.gen_name(name), table, temp=True)


def _said(problem: duckdb.Error) -> str:
    """What the engine says was wrong, and the next thing that it says of it."""
    first, *rest = (line.strip() for line in str(problem).splitlines() if line.strip())
    return " ".join([first, *[line for line in rest if not line.startswith(("Original Line", "LINE ", "^"))][:1]])


def scalars(table: ir.Table, expressions: Mapping[str, ir.Scalar]) -> dict[str, Any]:
    """Several aggregates of a table in one pass."""
    wanted = table.aggregate(**expressions)
    row: dict[str, Any] = fetch(wanted).cast(wanted.schema().to_pyarrow()).to_pylist()[0]
    return row


def fetch(table: ir.Table) -> pa.Table:
    """A table of a DuckDB connection in memory: as a relation, which is run to its end, since what `execute` gives
    streams, and its full buffer can block a union for ever."""
    connection = table.get_backend()
    return connection.con.sql(connection.compile(table)).to_arrow_table()


def kind_of(column: ir.Column) -> Kind | None:
    """What a column of this type holds; None for types that are not summarised (lists, structs, ...)."""
    kind = column.type()
    if kind.is_boolean() or kind.is_string():
        return Kind.CATEGORICAL
    if kind.is_timestamp() or kind.is_date():
        return Kind.DATETIME
    if kind.is_interval() or kind.is_time():
        return Kind.DURATION
    return Kind.NUMERIC if kind.is_numeric() else None


def measured(table: ir.Table, feature: Feature) -> tuple[ir.Column, ir.Column | None]:
    """A feature as doubles: numbers, descriptors, moments in seconds since 1970, durations and times of day in seconds.

    Also whether a row held something of another type, which is null then; None where that cannot be.
    """
    column, wanted = table[feature.column], feature.kind
    kind = column.type()
    if feature.descriptor == AGE:
        return _seconds(table["event_time"]) - _seconds(column), None
    if feature.descriptor:
        return described(column, feature.descriptor), None
    if kind.is_string():
        text = column.strip().nullif("")
        for value in feature.missing:
            text = text.nullif(str(value)) if isinstance(value, str) else text
        value = text.try_cast(_TYPES[wanted])
        return value if wanted is Kind.NUMERIC else _seconds(value), text.notnull() & value.isnull()
    if wanted is not Kind.DATETIME and (kind.is_numeric() or kind.is_boolean()):
        return _double(column), None
    if wanted is kind_of(column):
        return _seconds(column), None
    return ibis.null("float64"), column.notnull()


def _double(column: ir.Column) -> ir.FloatingColumn:
    return (column.cast("int32") if column.type().is_boolean() else column).cast("float64")


_TYPES = {Kind.NUMERIC: "float64", Kind.DATETIME: "timestamp", Kind.DURATION: "time"}


def _seconds(column: ir.Column) -> ir.FloatingColumn:
    if column.type().is_interval():
        return _interval_seconds(column)
    if column.type().is_time():
        return (column.hour() * 3600 + column.minute() * 60 + column.second()).cast("float64")
    return column.cast("timestamp").epoch_seconds().cast("float64")


@ibis.udf.scalar.builtin(name="epoch", signature=((dt.Interval("us"),), dt.float64))
def _interval_seconds(duration):  # type: ignore[no-untyped-def]
    """Seconds of an interval, in DuckDB's word for it."""


def typed(table: ir.Table, features: Mapping[str, Feature]) -> ir.Table:
    """The table with its moments, durations and texts as the numbers that are summarised of them."""
    plain = (Kind.NUMERIC, Kind.CATEGORICAL)
    others = {name: f for name, f in features.items() if f.descriptor or f.kind not in plain}
    timed = "event_time" in table.columns
    here = {name: f for name, f in others.items() if f.column in table.columns and (timed or f.descriptor != AGE)}
    return table.mutate(**{name: measured(table, feature)[0] for name, feature in here.items()}) if here else table


def described(column: ir.Column, descriptor: str) -> ir.FloatingColumn:
    """A number that tells of a text, as `schema.DESCRIPTORS` names them."""
    text = column.cast("string")
    if descriptor == "words":
        stripped = text.strip()
        return ibis.ifelse(stripped == "", 0, stripped.re_split(r"\s+").length()).cast("float64")
    length = text.length().cast("float64")
    if descriptor == "length":
        return length
    others = {"non_ascii": r"[\x00-\x7F]", "digits": r"[^0-9]"}[descriptor]
    return text.re_replace(others, "").length() / length.nullif(0.0)


def text(value: str) -> ir.StringScalar:
    """A constant."""
    return ibis.literal(value)


def nothing(kind: str) -> ir.Scalar:
    """The lack of a value of this type."""
    return ibis.null(kind)


def no_words() -> ir.ArrayScalar:
    """An empty list of texts."""
    return ibis.literal([], type="array<string>")


def declared(value: ir.Column, missing: Sequence[float | str]) -> ir.Column:
    """The column without the values that stand for "unknown"."""
    unknown = [show(m) for m in missing] if value.type().is_string() else [m for m in missing if not isinstance(m, str)]
    return ibis.ifelse(value.isin(unknown), ibis.null(value.type()), value) if unknown else value


def show(value: object) -> str:
    """A single value as a category: 3.0 and 3 name the same one, and so do `true` and True."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def category(column: ir.Column) -> ir.StringColumn:
    """A column's values as categories, in the same words as `show`; null where there is none."""
    if not column.type().is_floating():
        return column.cast("string")
    number = column.cast("float64")
    whole = ibis.ifelse(number.isnan() | (number.abs() >= float(2**53)), ibis.null("float64"), number).cast("int64")
    words = ibis.ifelse(whole.cast("float64") == number, whole.cast("string"), number.cast("string"))
    return ibis.ifelse(number.isnan(), ibis.null("string"), words)


def bin_number(value: ir.FloatingColumn, grid: Grid) -> ir.IntegerColumn:
    """The bin of each value: `Grid`'s map as comparisons and plain arithmetic, any SQL engine can do it."""
    ends, steps = grid.knots, grid.steps
    knots = [_exact(knot) for knot in ends]

    def inside(first: int, last: int) -> ir.IntegerColumn:
        if last - first > 1:
            half = (first + last) // 2
            return ibis.ifelse(value < knots[half], inside(first, half), inside(half, last))
        if grid.discrete:
            return ibis.ifelse(value > knots[first], first * steps + 1, first * steps).cast("int64")
        return _whole((value - knots[first]) * _exact(steps / (ends[last] - ends[first]))) + first * steps

    def beyond(end: float, sign: int) -> ir.IntegerColumn:
        far = _far(sign * end, grid.scale)  # what lies farther would overflow, which some engines take as an error
        distance = value - _exact(end) if sign > 0 else _exact(end) - value
        ratio = (distance / _exact(grid.scale)).clip(upper=MAX_RATIO)
        too_far = value > _exact(far) if sign > 0 else value < _exact(-far)
        return ibis.ifelse(too_far, _LAST, _whole((ratio + 1.0).ln() * float(TAIL_STEPS)))

    sentinels = [(value == s, ibis.literal(SENTINEL + i, "int64")) for i, s in enumerate(grid.sentinels)]
    return ibis.cases(
        (value.isnull(), ibis.literal(NULL, "int64")),
        ((value >= knots[0]) & (value < knots[-1]), inside(0, len(knots) - 1) if len(knots) > 1 else 0),
        (value == knots[-1], ibis.literal(grid.top, "int64")),
        (value.isnan(), ibis.literal(NAN, "int64")),
        (value == float("inf"), ibis.literal(POSITIVE_INFINITY, "int64")),
        (value == float("-inf"), ibis.literal(NEGATIVE_INFINITY, "int64")),
        *sentinels,
        (value > knots[-1], beyond(ends[-1], 1) + grid.top + 1),
        else_=-1 - beyond(ends[0], -1),
    )


_LAST = int(np.floor(TAIL_STEPS * np.log1p(MAX_RATIO)))
"""How many bins beyond an outer knot the farthest values fall."""


def _far(end: float, scale: float) -> float:
    """The value above this outer knot up to which a distance in scales is a number, and beyond which it is more than
    `MAX_RATIO`."""
    most = sys.float_info.max
    reach = MAX_RATIO * scale * (1 + 1e-9)
    return min(end + reach, most) if reach < most else most + min(end, 0.0)


def _exact(number: float) -> ir.FloatingScalar:
    """A constant that reaches the engine to the last bit: DuckDB reads a plain one as a decimal, and rounds it."""
    return ibis.literal(repr(number)).cast("float64")


def _whole(value: ir.FloatingColumn) -> ir.IntegerColumn:
    return value.floor().cast("int64")


def summary(table: ir.Table, plans: Iterable[Plan], known: ir.Table | None = None) -> ir.Table:
    """The summarising expression: counts per column, version, grain, label and bin (or value).

    Args:
        table: the rows; `version`, `grain_start`, `label` and `SEGMENT` are used where present.
        plans: the columns to summarise.
        known: what `vocabularies` gives, as a table of the same engine, where it is not to be put there here.

    Returns rows of `column, version, grain_start, label, bin, value, n, low, high`, and `segment` where there are any.
    """
    plans = list(plans)
    keys = {}  # what rows are counted by, beside the bin; the rest is constant and costs nothing
    if "version" in table.columns:
        keys["version"] = table["version"].fill_null(ALL)
    if "grain_start" in table.columns:
        keys["grain_start"] = table["grain_start"]
    if SEGMENT in table.columns:
        keys["segment"] = table[SEGMENT]
    numbers = [_counted(table, plan, keys) for plan in plans if plan.kind is Kind.NUMERIC]
    words = [_counted(table, plan, keys) for plan in plans if plan.kind is Kind.CATEGORICAL]
    if words:
        groups = ["column", "version", "grain_start", "label", *(["segment"] if "segment" in keys else [])]
        numbers.append(
            folded(united(words), groups, plans, known).mutate(low=ibis.null("float64"), high=ibis.null("float64"))
        )
    return united([part.select(*_COUNTS, *(["segment"] if "segment" in keys else [])) for part in numbers])


_COUNTS = ("column", "version", "grain_start", "label", "bin", "value", "n", "low", "high")


def united(parts: Sequence[ir.Table]) -> ir.Table:
    """The rows of all the tables."""
    return ibis.union(*parts) if len(parts) > 1 else parts[0]


@ibis.udf.scalar.builtin(name="md5", signature=((dt.string,), dt.string))
def _md5(text):  # type: ignore[no-untyped-def]
    """`profiles.hashed`, in every engine's word for it."""


def vocabularies(plans: Iterable[Plan]) -> pa.Table:
    """The vocabularies of the columns, a value a row."""
    rows = [(plan.name, value) for plan in plans for value in plan.known or ()]
    columns = list(zip(*rows, strict=True)) or [(), ()]
    return pa.table({"known of": pa.array(columns[0], pa.string()), "known value": pa.array(columns[1], pa.string())})


def folded(counted: ir.Table, groups: Sequence[str], plans: Sequence[Plan], known: ir.Table | None = None) -> ir.Table:
    """The counts that a categorical profile may keep, and the rest of each group as one row.

    The engine folds, so that a column of any number of different values sends no more than some hundreds of them.

    Args:
        counted: rows of `column`, other groups, `value` and `n`.
        known: what `vocabularies` gives, as a table of the same engine, where it is not to be put there here.

    Returns these rows, with a `bin`: null, or `FOLDED` for the rest, whose `value` is then the smallest of the hashes
    that its values have.
    """
    long = counted.value.length() > profiles.LONGEST
    short = counted.value.substr(0, profiles.HEAD) + "…" + _md5(counted.value).substr(0, profiles.TAIL)
    shown = counted.mutate(value=ibis.ifelse(long, short, counted.value))
    if any(plan.known for plan in plans):
        words = ibis.memtable(vocabularies(plans)) if known is None else known
        shown = shown.left_join(words, [shown.column == words["known of"], shown.value == words["known value"]])
        shown = shown.mutate(kept=shown.value.isnull() | shown["known value"].notnull())
    else:
        shown = shown.mutate(kept=shown.value.isnull())
    shown = shown.mutate(hashed=_md5(shown.value))
    near = ibis.row_number().over(group_by=groups, order_by=shown.hashed) < profiles.KNOWN + profiles.STRANGERS
    kept = shown.kept | near
    if own := [plan.name for plan in plans if plan.kind is Kind.CATEGORICAL and plan.known is None]:
        rank = ibis.row_number().over(group_by=groups, order_by=[shown.n.desc(), shown.hashed])
        kept |= shown.column.isin(own) & (rank < profiles.KNOWN)
    shown = shown.mutate(kept=kept)
    rows = shown.mutate(
        value=ibis.ifelse(shown.kept, shown.value, ibis.null("string")),
        bin=ibis.ifelse(shown.kept, ibis.null("int64"), FOLDED),
        hashed=ibis.ifelse(shown.kept, ibis.null("string"), shown.hashed),
    )
    whole = rows.n.cast("float64").sum().cast("int64")  # DuckDB sums whole numbers as ones of 128 bits, unseen by Ibis
    rest = rows.group_by([*groups, "value", "bin"]).agg(n=whole, hashed=rows.hashed.min())
    return rest.select(*groups, "bin", "n", value=rest.value.coalesce(rest.hashed))


def _counted(table: ir.Table, plan: Plan, keys: Mapping[str, ir.Column]) -> ir.Table:
    value, keys = plan.value(table[plan.name]), dict(keys)
    if plan.by_label and "label" in table.columns:
        keys["label"] = plan.label(table["label"])
    if plan.kind is Kind.NUMERIC:
        assert plan.grid is not None
        shown = table.select(**keys, bin=bin_number(value, plan.grid), number=value)
        counted = shown.group_by([*keys, "bin"]).agg(n=shown.count(), low=shown.number.min(), high=shown.number.max())
    else:
        shown = table.select(**keys, value=value)
        counted = shown.group_by([*keys, "value"]).agg(n=shown.count())
    constants = {
        "version": ibis.literal(ALL), "grain_start": ibis.null("timestamp"), "label": ibis.literal(UNLABELLED),
        "bin": ibis.null("int64"), "value": ibis.null("string"),
        "low": ibis.null("float64"), "high": ibis.null("float64"),
    }  # fmt: skip
    parted = ("segment",) if "segment" in keys else ()
    names = ("version", "grain_start", "label", "bin", "value", "n", "low", "high", *parted)
    there = {name: counted[name] if name in counted.columns else constants[name] for name in names}
    there["label"] = there["label"].cast("string").fill_null(UNLABELLED)
    return counted.select(column=ibis.literal(plan.name), **there)


def collect(counts: pa.Table, plans: Iterable[Plan], segments: Sequence[str] = (ALL,)) -> list[Part]:
    """The rows of `summary` as profiles; columns split by label also come whole.

    Args:
        segments: the names of the segments by their numbers, where there are any.
    """
    by_name = {plan.name: plan for plan in plans}
    names = ["column", "version", "grain_start", "label", *(["segment"] if "segment" in counts.column_names else [])]
    codes = {name: counts.column(name).combine_chunks().dictionary_encode() for name in names}
    group = np.zeros(counts.num_rows, dtype=np.int64)
    for code in codes.values():
        group = group * (len(code.dictionary) + 1) + code.indices.fill_null(len(code.dictionary)).to_numpy()
    order = np.argsort(group, kind="stable")
    fields = {name: counts.column(name).to_numpy() for name in ("bin", "value", "n", "low", "high")}
    wholes: dict[tuple[str, str, datetime | None, str], list[Profile]] = {}
    parts = []
    for at in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else ():
        column, version, start, label, *parted = (codes[name][int(at[0])].as_py() for name in names)
        segment = segments[parted[0] if parted else 0]
        start = start.replace(tzinfo=UTC) if start else None
        profile = _profile({name: field[at] for name, field in fields.items()}, by_name[column])
        wholes.setdefault((column, version, start, segment), []).append(profile)
        if label != UNLABELLED:
            parts.append(Part(column, version, label, start, profile, segment))
    for (column, version, start, segment), own in wholes.items():
        whole = merge(own)
        assert whole is not None
        parts.append(Part(column, version, ALL, start, whole, segment))
    return parts


def added(parts: Iterable[Part]) -> list[Part]:
    """Parts of the same sort of rows as one."""
    alike: dict[tuple[object, ...], list[Part]] = defaultdict(list)
    for part in parts:
        alike[part.column, part.version, part.label, part.start, part.segment].append(part)
    return [replace(some[0], profile=p) for some in alike.values() if (p := merge(part.profile for part in some))]


def _profile(rows: dict[str, np.ndarray[Any, Any]], plan: Plan) -> Profile:
    tallies = rows["n"].tolist()
    if plan.grid is None:
        return counts_of_values(zip(rows["value"].tolist(), rows["bin"] == FOLDED, tallies, strict=True), plan)
    bins = rows["bin"].astype(np.int64)
    finite = (bins < NULL) | (bins >= SENTINEL)
    low, high = (
        float(pick(rows[side][finite])) if finite.any() else None for side, pick in (("low", np.min), ("high", np.max))
    )
    return numeric(plan.grid, dict(zip(bins.tolist(), tallies, strict=True)), low, high)


def counts_of_values(rows: Iterable[tuple[str | None, bool, int]], plan: Plan) -> Profile:
    """The profile from what `folded` gives of a group: the value, whether it is the rest, and how many rows."""
    values: dict[str, int] = {}
    nulls, others, limit = 0, 0, UNBOUNDED
    for value, rest, n in rows:
        if rest:
            others, limit = n, value or ""
        elif value is None:
            nulls = n
        else:
            values[value] = values.get(value, 0) + n
    return categorical(values, nulls, plan.known, others, limit, plan.named_from)


def summarise(table: ir.Table, plans: Iterable[Plan]) -> list[Part]:
    """Profiles of a whole table, such as reference data."""
    plans = list(plans)
    return collect(summary(table, plans).to_pyarrow(), plans)


# Segments

Missing = Mapping[str, tuple[float | str, ...]]
"""Columns to the values that stand for "unknown" in them."""


def segmentation(table: ir.Table, columns: tuple[str, ...], missing: Missing, named_from: int = 0) -> Segmentation:
    """The segments by these columns that a reference table gives; each has `named_from` rows there at least."""
    parts = _categories(table, columns, missing)
    shown = table.select(**parts).drop_null()
    counted = shown.group_by([*parts]).agg(n=shown.count())
    counted = counted.filter(counted["n"] >= named_from)
    ranked = counted.order_by([counted["n"].desc(), *parts]).limit(MOST).to_pyarrow().to_pylist()
    return freeze(columns, [(tuple(row[part] for part in parts), row["n"]) for row in ranked])


def segmented(table: ir.Table, known: ir.Table, segments: Segmentation, missing: Missing) -> ir.Table:
    """The table with the number of each row's segment in `SEGMENT`.

    Args:
        known: what `numbered` gives, as a table of the same engine.
    """
    parts = _categories(table, segments.columns, missing)
    shown = table.mutate(**parts)
    joined = shown.left_join(known, [shown[part] == known[f"{part} known"] for part in parts])
    lacking = reduce(or_, (joined[part].isnull() for part in parts))
    rest = len(segments.values)
    number = ibis.ifelse(lacking, rest + 1, joined["segment known"].fill_null(rest))
    return joined.select(*table.columns, **{SEGMENT: number})


def numbered(segments: Segmentation) -> pa.Table:
    """The values of a segmentation, each part in a column of its own, with the numbers of their segments."""
    parts = [pa.array([value[i] for value in segments.values], pa.string()) for i in range(len(segments.columns))]
    columns = {f"{_part(i)} known": part for i, part in enumerate(parts)}
    return pa.table({**columns, "segment known": pa.array(range(len(segments.values)), pa.int64())})


def _categories(table: ir.Table, columns: tuple[str, ...], missing: Missing) -> dict[str, ir.StringColumn]:
    return {_part(i): declared(category(table[name]), missing.get(name, ())) for i, name in enumerate(columns)}


def _part(i: int) -> str:
    return f"(part {i})"


def summarise_segments(table: ir.Table, plans: Iterable[Plan], segments: Segmentation, missing: Missing) -> list[Part]:
    """Profiles of each segment of a whole table."""
    plans = list(plans)
    parted = segmented(table, ibis.memtable(numbered(segments)), segments, missing)
    return collect(summary(parted, plans).to_pyarrow(), plans, segments.names)
