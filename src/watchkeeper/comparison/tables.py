"""Plain tables: the columns that can be compared, in types that all share, as counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from watchkeeper.errors import DataError, did_you_mean
from watchkeeper.periods import Cut
from watchkeeper.profiles import Profile, merge
from watchkeeper.schema import ColumnConfig, Feature, Kind
from watchkeeper.segments import Segmentation
from watchkeeper.stats.copies import Copies
from watchkeeper.stats.grid import Grid
from watchkeeper.store import sources
from watchkeeper.store.tallies import GROUP, copies, fit_grids, invalid, sample, tally
from watchkeeper.windows import from_unix

FEW_VALUES = 100
"""A column with at most so many different values is never taken for ids or free text."""
TEXT_WORDS = 2
"""Values of many different texts with fewer words than this, on average, are ids."""
MANY = 50_000
"""Of more rows than so many, two columns are looked at first for copies: those whose type tells most rows apart."""

AT = "at"
"""The column of the current data's times, in seconds since 1970."""

_ID = re.compile(r"(^|[_ .-])(id|ids|uuid|guid|key|index|row|no|nr|number)$|[a-z]id$")


@dataclass(frozen=True)
class Side:
    """One of the two tables, and how messages call it."""

    title: str
    table: Any

    def scalars(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Several aggregates in one pass; none of none."""
        return sources.scalars(self.table, wanted) if wanted else {}

    @cached_property
    def rows(self) -> int:
        """How many there are. Raises DataError if none."""
        rows = int(self.scalars({"rows": self.table.count()})["rows"])
        if not rows:
            raise DataError(f"{self.title} has no rows; check how they were chosen")
        return rows

    def sample(self, keys: tuple[str, str] | None = None) -> Side:
        """Enough of its rows, in memory, to tell of which kind a column is; all of few. Raises DataError if none.

        Args:
            keys: two columns that tell its rows apart, where such are known, which makes it faster.
        """
        return Side(self.title, sample(self.table, self.rows, keys))


def infer(
    before: Side, probe: Side, only: Sequence[str] | None
) -> tuple[dict[str, ColumnConfig], dict[str, str], list[str]]:
    """The columns of the reference that can be compared, the others with the reason, and those of texts or whole
    numbers that hold no value twice.

    Args:
        probe: a sample of the reference.
        only: look at no other columns than these.

    Raises DataError where the reference lacks one of them.
    """
    table = before.table
    for name in only or ():
        if name not in table.columns:
            raise DataError(f'the reference has no column "{name}"; {did_you_mean(name, table.columns, "it has")}')
    asked = [name for name in table.columns if only is None or name in only]
    facts = probe.scalars({f"{fact}_{i}": f for i, n in enumerate(asked) for fact, f in _facts(probe.table[n]).items()})
    unique = [name for i, name in enumerate(asked) if 1 < facts[f"present_{i}"] == facts.get(f"different_{i}")]
    seldom = {f"present_{i}": table[name].count() for i, name in enumerate(asked) if not facts[f"present_{i}"]}
    facts |= before.scalars(seldom)
    texts = [i for i, name in enumerate(asked) if table[name].type().is_string() and _many(facts, i)]
    facts |= probe.scalars({f"words_{i}": sources.described(probe.table[asked[i]], "words").mean() for i in texts})
    columns: dict[str, ColumnConfig] = {}
    skipped: dict[str, str] = {}
    for i, name in enumerate(asked):
        kind = sources.kind_of(table[name])
        if kind is None:
            skipped[name] = f"{type_name(table[name])} columns are not compared"
            continue
        if why := _unfit(name, facts, i):
            skipped[name] = why
        else:
            columns[name] = ColumnConfig(kind=Kind.TEXT if i in texts else kind)
    return columns, skipped, unique


def _facts(column: Any) -> dict[str, Any]:
    """What tells categories from texts and ids, as aggregates."""
    facts = {"present": column.count()}
    if column.type().is_string() or column.type().is_integer():
        facts["different"] = column.nunique()
    if column.type().is_integer():
        facts |= {"low": column.min(), "high": column.max()}
    return facts


def _unfit(name: str, facts: Mapping[str, Any], i: int) -> str:
    """Why a column cannot be compared, or nothing."""
    present, different = facts[f"present_{i}"], facts.get(f"different_{i}")
    if not present:
        return "the reference holds no value of it"
    if _many(facts, i) and facts.get(f"words_{i}", TEXT_WORDS) < TEXT_WORDS:
        return f"an id: {different:,} different values in {present:,} rows of the reference"
    if _many(facts, i) and f"low_{i}" in facts and different > 0.9 * present:
        row_numbers = facts[f"high_{i}"] - facts[f"low_{i}"] < 2 * present
        if row_numbers or _ID.search(name.lower()):
            return f"an id: {different:,} different whole numbers in {present:,} rows of the reference"
    return ""


def _many(facts: Mapping[str, Any], i: int) -> bool:
    """Whether a column has too many different values for categories."""
    return bool(facts.get(f"different_{i}", 0) > max(FEW_VALUES, facts[f"present_{i}"] / 2))


def row_copies(side: Side, columns: Sequence[str], rows: int) -> tuple[Copies, tuple[str, str] | None]:
    """How often rows occur, and two columns that tell all rows apart, if that is known: then no others are read."""
    if len(columns) > 2 and rows > MANY:
        one, other = sorted(columns, key=lambda name: _coarseness(side.table[name]))[:2]
        found = copies(side.table, [one, other], rows)
        if not found.repeats:
            return found, (one, other)
    return copies(side.table, columns, rows), None


def _coarseness(column: Any) -> int:
    """How few different values a column of this type has, as types go. To look at its first rows would cost as much as
    the copies do: of a Parquet file each column's first page is decoded for it."""
    kind = column.type()
    return 0 if kind.is_floating() or kind.is_timestamp() else 1 if kind.is_string() else 2


def boolean_columns(side: Side) -> tuple[str, ...]:
    """The columns that are true or false."""
    return tuple(name for name in side.table.columns if side.table[name].type().is_boolean())


def fitted(probe: Side, features: Mapping[str, Feature], booleans: Sequence[str]) -> dict[str, Grid]:
    """The grids of the features that need one, from reference data or a sample of it."""
    if not features:
        return {}
    known = _keyed(features)
    numbers = {key: feature.missing for key, feature in known.items() if feature.kind is not Kind.CATEGORICAL}
    dates = {key for key, feature in known.items() if feature.kind is Kind.DATETIME}
    grids = fit_grids(_typed(probe, known, booleans), numbers, dates)
    return {name: grids[key] for key, name in zip(known, features, strict=True) if key in grids}


def counts(
    side: Side,
    features: Mapping[str, Feature],
    grids: Mapping[str, Grid],
    booleans: Sequence[str],
    reference: Mapping[str, Profile] | None = None,
) -> dict[str, Profile]:
    """The counts of each feature.

    Args:
        booleans: the columns that are true or false in the reference.
        reference: the reference's counts, whose vocabularies are to be used; None where this is the reference.
    """
    known, plans = _planned(features, grids, reference)
    (found,) = _tallied(_typed(side, known, booleans), features, plans)
    return found


def counts_by_period(
    side: Side,
    features: Mapping[str, Feature],
    grids: Mapping[str, Grid],
    booleans: Sequence[str],
    reference: Mapping[str, Profile],
    timestamp: str,
) -> tuple[dict[str, Profile], list[tuple[datetime, dict[str, Profile]]]]:
    """The counts of each feature, and the same period by period; rows without a time are in no period.

    Args:
        booleans, reference: as in `counts`.
        timestamp: the column that says when each row was made.
    """
    known, plans = _planned(features, grids, reference)
    table = _typed(side, {**known, AT: Feature(timestamp, Kind.DATETIME)}, booleans)
    ends = sources.scalars(table, {"low": table[AT].min(), "high": table[AT].max()})
    cut = Cut.over(*(from_unix(ends[end]) for end in ("low", "high")))
    placed = table.mutate(**{GROUP: place(table[AT], cut)})
    named = _tallied(placed, features, plans, cut.count + 1)
    whole = {name: merge(group[name] for group in named) or named[0][name] for name in features}
    parts = zip(cut.starts, named, strict=False)
    return whole, [(start, part) for start, part in parts if any(profile.n for profile in part.values())]


def place(at: Any, cut: Cut) -> Any:
    """The number of the period that each moment is in, in seconds since 1970; that after the last where there is
    none."""
    if cut.seconds:
        found = ((at - cut.offset) / cut.seconds).floor()
    else:
        moment = at.floor().cast("int64").as_timestamp("s")
        found = ((moment.year() * 12 + moment.month() - 1) / cut.months).floor() - cut.first
    return found.cast("int64").coalesce(cut.count)


def segmentation(
    side: Side, features: Mapping[str, Feature], booleans: Sequence[str], columns: tuple[str, ...]
) -> Segmentation:
    """The segments that a reference gives by these columns, which are categorical features of their own names."""
    by = {f"c{i}": features[name] for i, name in enumerate(columns)}
    missing, named_from = {key: f.missing for key, f in by.items()}, max(f.named_from for f in by.values())
    found = sources.segmentation(_typed(side, by, booleans), tuple(by), missing, named_from)
    return Segmentation(columns, found.values)


def counts_by_segment(
    side: Side,
    features: Mapping[str, Feature],
    grids: Mapping[str, Grid],
    booleans: Sequence[str],
    reference: Mapping[str, Profile],
    segments: Segmentation,
) -> dict[str, dict[str, Profile]]:
    """The counts of each feature in each segment, by its name; `features` hold the columns of the segmentation.

    Args:
        booleans, reference: as in `counts`.
    """
    keyed, plans = _planned(features, grids, reference)
    home = {feature.column: key for key, feature in keyed.items() if feature.kind is Kind.CATEGORICAL}
    by = Segmentation(tuple(home[name] for name in segments.columns), segments.values)
    missing = {home[name]: features[name].missing for name in segments.columns}
    table = _typed(side, keyed, booleans)
    known = sources.read(table.get_backend(), sources.numbered(by), "known_segments")
    parted = sources.segmented(table, known, by, missing)
    named = _tallied(parted.rename({GROUP: sources.SEGMENT}), features, plans, len(segments.names))
    return dict(zip(segments.names, named, strict=True))


def check_time(side: Side, name: str) -> None:
    """Refuse a column that does not say when. Raises DataError."""
    table = side.table
    if name not in table.columns:
        raise DataError(
            f'{side.title} has no column "{name}" to take the time from; {did_you_mean(name, table.columns, "it has")}'
        )
    should = f'column "{name}" of {side.title} should say when each row was made'
    if sources.kind_of(table[name]) is not Kind.DATETIME and not table[name].type().is_string():
        raise DataError(
            f"{should} and holds {type_name(table[name])} values; convert it to dates or times, or name another column"
        )
    if first_time(side, name) is None:
        raise DataError(f"{should} and holds no date or time; convert it, or name another column")


def first_time(side: Side, name: str) -> float | None:
    """The earliest moment of a column in seconds since 1970; None where it holds none."""
    when = _typed(side, {AT: Feature(name, Kind.DATETIME)}, ())
    first: float | None = sources.scalars(when, {"first": when[AT].min()})["first"]
    return first


def _keyed(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """The features under plain names: inside the engine any name of a column will do."""
    return {f"c{i}": feature for i, feature in enumerate(features.values())}


def _planned(
    features: Mapping[str, Feature], grids: Mapping[str, Grid], reference: Mapping[str, Profile] | None
) -> tuple[dict[str, Feature], list[sources.Plan]]:
    """The features under plain names, and how each is counted."""
    keyed = _keyed(features)
    words = [None if reference is None else reference[name].words for name in features]
    return keyed, [
        sources.Plan(key, feature.kind, grids.get(name), feature.missing, known=known, named_from=feature.named_from)
        for (key, feature), name, known in zip(keyed.items(), features, words, strict=True)
    ]


def _tallied(
    table: Any, features: Iterable[str], plans: Sequence[sources.Plan], groups: int = 1
) -> list[dict[str, Profile]]:
    """What `tally` counts in each group of rows, under the features' own names; they are in the order of the plans."""
    found = tally(table, plans, groups)
    return [dict(zip(features, (group[plan.name] for plan in plans), strict=True)) for group in found]


def _typed(side: Side, features: Mapping[str, Feature], booleans: Sequence[str]) -> Any:
    """The features in types that both sides share: doubles, or what reads the same as text.

    A value that is not of its feature's type is null there, and told in a column of its own.

    Args:
        booleans: the columns that are true or false in the reference.
    """
    whole = side.scalars({f"{what}_{key}": c for key, f in features.items() for what, c in _wholes(side, f).items()})
    columns = {}
    for key, feature in features.items():
        if feature.kind is not Kind.CATEGORICAL:
            columns[key], odd = sources.measured(side.table, feature)
            if odd is not None:
                columns[invalid(key)] = odd
            continue
        column, most = side.table[feature.column], whole.get(f"most_{key}")
        if not whole.get(f"broken_{key}") and most is not None and most < 2**53:
            column = column.try_cast("int64")  # 3.0 and 3 name one category, and 1 is true
            column = column.cast("boolean") if feature.column in booleans and most <= 1 else column
        columns[key] = column if column.type().is_floating() else column.cast("string")
    return side.table.select(**columns)


def _wholes(side: Side, feature: Feature) -> dict[str, Any]:
    """What must be known of numbers before they can be categories: whether all are whole, and the largest."""
    column = side.table[feature.column]
    if feature.kind is not Kind.CATEGORICAL or not column.type().is_numeric():
        return {}
    number = column.cast("float64").nullif(float("nan"))
    return {"broken": (number % 1.0 != 0).sum(), "most": number.abs().max()}


def type_name(column: Any) -> str:
    return re.split(r"\W", str(column.type()))[0]
