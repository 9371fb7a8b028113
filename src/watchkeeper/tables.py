"""Two plain tables: the columns that can be compared, in types that both share, as counts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow.compute as pc

from watchkeeper.errors import DataError
from watchkeeper.monitors import MODEL_COLUMNS
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import ColumnConfig, Kind, ModelConfig
from watchkeeper.store import sources

FEW_VALUES = 100
"""A text column with at most so many different values is never taken for ids."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two tables, and how messages call it."""

    title: str
    table: Any

    def scalars(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Several aggregates in one pass; none of none."""
        return sources.scalars(self.table, wanted) if wanted else {}

    @property
    def rows(self) -> int:
        """How many there are. Raises DataError if none."""
        rows = int(self.scalars({"rows": self.table.count()})["rows"])
        if not rows:
            raise DataError(f"{self.title} has no rows")
        return rows


def infer(before: Side, only: Sequence[str] | None) -> tuple[dict[str, ColumnConfig], dict[str, str]]:
    """The columns of the reference that can be compared, and the others with the reason.

    Args:
        only: look at no other columns than these.

    Raises DataError where the reference lacks one of them.
    """
    table = before.table
    for name in only or ():
        if name not in table.columns:
            raise DataError(f'the reference has no column "{name}"; {near(name, table.columns)}')
    asked = [name for name in table.columns if only is None or name in only]
    wanted = {f"present_{i}": table[name].count() for i, name in enumerate(asked)}
    texts = {i: table[name] for i, name in enumerate(asked) if table[name].type().is_string()}
    facts = before.scalars(wanted | {f"different_{i}": column.nunique() for i, column in texts.items()})
    columns, skipped = {}, {}
    for i, name in enumerate(asked):
        kind, present, different = sources.kind_of(table[name]), facts[f"present_{i}"], facts.get(f"different_{i}", 0)
        if kind is None:
            skipped[name] = f"{type_name(table[name])} columns are not compared"
        elif not present:
            skipped[name] = "the reference holds no value of it"
        elif different > max(FEW_VALUES, present / 2):
            skipped[name] = f"an id or free text: {different:,} different values in {present:,} rows of the reference"
        else:
            columns[name] = ColumnConfig(kind=kind)
    return columns, skipped


def count(before: Side, after: Side, model: ModelConfig, names: Sequence[str]) -> dict[str, Subject]:
    """The counts of each column on both sides. Inside the engine columns are called c0, c1, ...: any name will do."""
    known = {**model.columns, **{name: ColumnConfig(kind=kind) for name, kind in MODEL_COLUMNS.items()}}
    settings = {f"c{i}": known[name] for i, name in enumerate(names)}
    truths = [name for name in names if before.table[name].type().is_boolean()]
    first = Side(before.title, _fitted(before, names, known, truths, "the configuration"))
    second = Side(after.title, _fitted(after, names, known, truths, before.title))
    numeric = {key: column.missing for key, column in settings.items() if column.kind is Kind.NUMERIC}
    grids = sources.fit_grids(first.table, numeric)
    plans = [sources.Plan(key, column.kind, grids.get(key), column.missing) for key, column in settings.items()]
    now, then = _summarised((second.table, first.table), plans)
    return {
        name: Subject(now[key], then[key], grids.get(key), model.threshold, 1, 1, {}, {})
        for key, name in zip(settings, names, strict=True)
    }


def _summarised(tables: Sequence[Any], plans: Sequence[sources.Plan]) -> Iterator[dict[str, Profile]]:
    """The profiles of tables that have the same columns; the query is compiled once for all of them."""
    connection = tables[0].get_backend()
    query = ""
    for table in tables:
        connection.create_view("side", table, overwrite=True)
        query = query or connection.compile(sources.summary(connection.table("side"), plans))
        # as a relation, which is run to its end: execute() streams, and its full buffer can block a union for ever
        counts = connection.con.sql(query).to_arrow_table()
        yield {part.column: part.profile for part in sources.collect(counts, plans)}


def _fitted(
    side: Side, names: Sequence[str], known: Mapping[str, ColumnConfig], truths: Sequence[str], model: str
) -> Any:
    """The columns in types that both sides share: numbers, or what reads the same as text.

    Args:
        truths: the columns that are true or false in the reference.
        model: what says of a column that it is numeric, for messages.
    """
    checks: dict[str, Any] = {}
    for i, name in enumerate(names):
        checks |= {f"{what}_{i}": check for what, check in _checks(side.table[name], known[name]).items()}
    facts = side.scalars(checks)
    columns = {}
    for i, name in enumerate(names):
        column, settings = side.table[name], known[name]
        kind, broken, most = column.type(), facts.get(f"broken_{i}"), facts.get(f"most_{i}")
        if settings.kind is Kind.NUMERIC and kind.is_string():
            if broken:
                _refuse(side, name, settings, model)
            column = _text(column, settings).try_cast("float64")
        elif settings.kind is Kind.NUMERIC and not kind.is_numeric() and not kind.is_boolean():
            raise DataError(
                f'column "{name}" is numeric in {model} and {type_name(column)} in {side.title};'
                " convert it, or leave it out"
            )
        elif settings.kind is Kind.CATEGORICAL and not broken and most is not None and most < 2**53:
            column = column.try_cast("int64")  # 3.0 and 3 name one category, and 1 is true
            column = column.cast("boolean") if name in truths and most <= 1 else column
        columns[f"c{i}"] = column.cast("float64" if settings.kind is Kind.NUMERIC else "string")
    return side.table.select(**columns)


def _checks(column: Any, settings: ColumnConfig) -> dict[str, Any]:
    """What must be known of a column's values before its type can be changed."""
    if settings.kind is Kind.NUMERIC and column.type().is_string():
        text = _text(column, settings)
        return {"broken": (text.notnull() & text.try_cast("float64").isnull()).sum()}
    if settings.kind is Kind.CATEGORICAL and column.type().is_numeric():
        return {"broken": (column != column.round()).sum(), "most": column.abs().max()}
    return {}


def _text(column: Any, settings: ColumnConfig) -> Any:
    """A text column without what stands for a missing number: blanks, and what the configuration names."""
    text = column.strip().nullif("")
    for value in settings.missing:
        text = text.nullif(str(value)) if isinstance(value, str) else text
    return text


def _refuse(side: Side, name: str, settings: ColumnConfig, model: str) -> NoReturn:
    """Say which value of a numeric column is no number."""
    text = _text(side.table[name], settings)
    found = side.table.select(value=side.table[name], wrong=text.notnull() & text.try_cast("float64").isnull())
    rows = found.to_pyarrow()
    first = pc.index(rows.column("wrong"), True).as_py()
    value = rows.column("value")[first].as_py()
    raise DataError(
        f'column "{name}" is numeric in {model} and text in {side.title}; first value that is no number:'
        f' "{value}" in row {first + 1}'
    )


def type_name(column: Any) -> str:
    return re.split(r"\W", str(column.type()))[0]


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def near(name: str, known: Iterable[str]) -> str:
    known = [*known]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'did you mean "{near[0]}"?' if near else f"it has {listed(known)}"
