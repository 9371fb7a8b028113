"""Counts of labelled rows: of all, of each segment and of each stretch of time, each read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from watchkeeper.comparison.tables import place
from watchkeeper.costs import Costs
from watchkeeper.errors import ConfigError, DataError
from watchkeeper.evaluation.rows import AT, BINARY, MULTICLASS, Rows
from watchkeeper.events import SAID, score_of
from watchkeeper.periods import Cut
from watchkeeper.profiles import Profile, Subject, merge
from watchkeeper.records import ALL
from watchkeeper.schema import ERRORS, Kind
from watchkeeper.segments import Segmentation
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.grid import Grid
from watchkeeper.store import sources
from watchkeeper.store.labelled import with_derived
from watchkeeper.store.sources import SEGMENT, UNLABELLED, Plan
from watchkeeper.store.tallies import GROUP, fit_grids, sample, tally
from watchkeeper.windows import Window, from_unix, show_duration

MOST_PERIODS = 1000
MOST_TALLIED = 200
"""Parts whose numbers are streamed, each of which takes all bins in memory; of more the engine groups them."""
NEVER = Window(from_unix(0), from_unix(1))
"""Rows without a time."""

Place = tuple[str, Window]
"""A segment, or all rows, in a stretch of time, or `NEVER` for all of it."""


@dataclass(frozen=True)
class Split:
    """The table with the number of each row's part in `SEGMENT`, and what these parts are; None for rows in none."""

    table: Any
    parts: tuple[Place | None, ...]


def splits(rows: Rows, segments: Sequence[tuple[str, ...]], every: timedelta | None) -> list[Split]:
    """The table as it is, or parted by each of the segments and by time."""
    found = [_by_segments(rows, columns) for columns in segments]
    if rows.timed:
        found.append(_by_time(rows, every))
    return found


def _by_segments(rows: Rows, columns: tuple[str, ...]) -> Split:
    keys = tuple(f"s{rows.by.index(name)}" for name in columns)
    found = sources.segmentation(rows.table, keys, {})
    known = sources.read(rows.table.get_backend(), sources.numbered(found), "known_segments")
    names = Segmentation(columns, found.values).names
    return Split(sources.segmented(rows.table, known, found, {}), tuple((name, NEVER) for name in names))


def _by_time(rows: Rows, every: timedelta | None) -> Split:
    ends = sources.scalars(rows.table, {"low": rows.table[AT].min(), "high": rows.table[AT].max()})
    low, high = (from_unix(ends[end]) for end in ("low", "high"))
    cut = Cut.over(low, high)
    if every is not None:
        seconds = int(every.total_seconds())
        start = Cut(0, 1, seconds=seconds).offset
        first, last = (int((at.timestamp() - start) // seconds) for at in (low, high))
        cut = Cut(first, last - first + 1, seconds=seconds)
        if cut.count > MOST_PERIODS:
            raise ConfigError(
                f"every {show_duration(every)} makes {cut.count:,} stretches of time of these rows; there may be"
                f" {MOST_PERIODS:,}, so choose longer ones"
            )
    starts = cut.starts
    last_end = starts[-1] + (starts[-1] - starts[-2] if len(starts) > 1 else timedelta(seconds=cut.seconds or 86_400))
    parts: list[Place | None] = [
        (ALL, Window(start, end)) for start, end in zip(starts, (*starts[1:], last_end), strict=True)
    ]
    return Split(rows.table.mutate(**{SEGMENT: place(rows.table[AT], cut)}), (*parts, None))


# of one label a row


def plans(rows: Rows, before: Sequence[Plan] | None = None) -> list[Plan]:
    """How the columns of a task are counted.

    Args:
        before: how those of labelled rows of the same model are, for errors of which there are none here.
    """
    if rows.task == BINARY:
        return [Plan("score", Kind.NUMERIC, Grid.unit(), by_label=True)]
    if rows.task == MULTICLASS:
        return [
            Plan("prediction", Kind.CATEGORICAL, None, by_label=True, known=rows.classes, classes=rows.classes),
            *(
                Plan(name, Kind.NUMERIC, Grid.unit(), by_label=True, positive=known)
                for known in rows.scored
                for name in (score_of(known), f"{SAID}{known}")
            ),
        ]
    wanted = (*ERRORS, "label")
    both = rows.table["label"].notnull() & rows.table["prediction"].notnull()
    labelled = rows.table.filter(both).select("label", "prediction")
    there = sources.scalars(labelled, {"rows": labelled.count()})["rows"]
    if not there and before is not None:
        return [*before]
    if not there:
        raise DataError("no row has both a prediction and a label; check the join of predictions and outcomes")
    probe = with_derived(sample(labelled, there), wanted)
    grids = fit_grids(probe, dict.fromkeys(wanted, ()), ordinary=wanted)
    return [Plan(name, Kind.NUMERIC, grids[name]) for name in wanted]


def subjects(
    rows: Rows, parted: Sequence[Split], known: list[Plan], threshold: float, costs: Costs | None
) -> dict[Place, dict[str, Subject]]:
    """What metrics are taken of, by column, in all rows and in each part that has any.

    Args:
        known: the `plans` of the rows.
    """
    profiles: dict[Place, dict[str, dict[str, Profile]]] = {}
    for split in parted or [Split(rows.table, ((ALL, NEVER),))]:
        found = _counted(split, known, rows.task)
        if (ALL, NEVER) not in profiles:
            profiles[ALL, NEVER] = _merged(found)
        profiles |= {part: own for part, own in zip(split.parts, found, strict=True) if part is not None and own}
    return {
        part: {plan.name: _subject(plan, own[plan.name], threshold, costs) for plan in known if plan.name in own}
        for part, own in profiles.items()
    }


def _counted(split: Split, known: list[Plan], task: str) -> list[dict[str, dict[str, Profile]]]:
    """The counts of each part, by column and label."""
    if task != MULTICLASS and len(split.parts) <= MOST_TALLIED:
        return _tallied(split, known, task)
    table = with_derived(split.table, {plan.name for plan in known})
    words = sources.read(table.get_backend(), sources.vocabularies(known), "vocabularies")
    names = [str(i) for i in range(len(split.parts))]
    found: list[dict[str, dict[str, Profile]]] = [{} for _ in names]
    counts = sources.fetch(sources.summary(table, known, words))
    for part in sources.collect(counts, known, names if SEGMENT in table.columns else ("0",)):
        found[int(part.segment)].setdefault(part.column, {})[part.label] = part.profile
    return found


def _tallied(split: Split, known: list[Plan], task: str) -> list[dict[str, dict[str, Profile]]]:
    """The same of numbers alone: streamed through their grids, which takes a third of the time."""
    table = with_derived(split.table, {plan.name for plan in known})
    labels = ("0", "1", UNLABELLED) if task == BINARY else (ALL,)
    number = table[SEGMENT].cast("int64") if SEGMENT in table.columns else sources.text("0").cast("int64")
    label = table["label"].coalesce(labels.index(UNLABELLED)) if task == BINARY else 0
    table = table.mutate(**{GROUP: number * len(labels) + label})
    counted = tally(table, known, len(split.parts) * len(labels))
    found: list[dict[str, dict[str, Profile]]] = []
    for i in range(len(split.parts)):
        by_label = dict(zip(labels, counted[i * len(labels) :], strict=False))
        own = {p.name: {label: of[p.name] for label, of in by_label.items() if of[p.name].n} for p in known}
        found.append({name: _with_whole(profiles) for name, profiles in own.items() if profiles})
    return found


def _with_whole(by_label: Mapping[str, Profile]) -> dict[str, Profile]:
    whole = merge(by_label.values())
    assert whole is not None
    return {label: profile for label, profile in by_label.items() if label != UNLABELLED} | {ALL: whole}


def _merged(parts: Iterable[Mapping[str, Mapping[str, Profile]]]) -> dict[str, dict[str, Profile]]:
    gathered: dict[str, dict[str, list[Profile]]] = {}
    for part in parts:
        for column, by_label in part.items():
            for label, profile in by_label.items():
                gathered.setdefault(column, {}).setdefault(label, []).append(profile)
    return {
        column: {label: whole for label, own in by_label.items() if (whole := merge(own)) is not None}
        for column, by_label in gathered.items()
    }


def _subject(plan: Plan, own: Mapping[str, Profile], threshold: float, costs: Costs | None) -> Subject:
    labelled = {label: profile for label, profile in own.items() if label != ALL}
    return Subject(own.get(ALL), None, plan.grid, threshold, 1, 0, labelled, {}, costs=costs)


# of several labels a row, and of rankings


@dataclass(frozen=True)
class Labels:
    """Rows with several labels each: how many there are, how many have labels, how many of these were predicted all
    right, and the four counts of every label."""

    rows: int
    labelled: int
    right: int
    each: dict[str, Confusion]


def labels(rows: Rows, parted: Sequence[Split]) -> dict[Place, Labels]:
    """The counts of every label, in all rows and in each part."""
    whole = Split(rows.table.mutate(**{SEGMENT: sources.text("0").cast("int64")}), ((ALL, NEVER),))
    found: dict[Place, Labels] = {}
    for split in (whole, *parted):
        at = split.table[SEGMENT].cast("int64")
        table = split.table.select(
            part=at, label=split.table["label"], prediction=split.table["prediction"].fill_null(sources.no_words())
        )
        there = table.filter(table["label"].notnull())
        both = there.mutate(both=there["label"].intersect(there["prediction"]))
        exact = (both["both"].length() == both["label"].length()) & (
            both["label"].length() == both["prediction"].length()
        )
        sizes = {
            row["part"]: row for row in _rows(table.group_by("part").agg(n=table.count(), m=table["label"].count()))
        }
        right = {row["part"]: row["n"] for row in _rows(both.group_by("part").agg(n=exact.sum()))}
        counts = {name: _spread(both, name) for name in ("label", "prediction", "both")}
        for i, part in enumerate(split.parts):
            if part is None or i not in sizes:
                continue
            n = sizes[i]["m"]
            each = {}
            for name in rows.classes:
                was, said, hit = (counts[kind].get((i, name), 0) for kind in ("label", "prediction", "both"))
                each[name] = Confusion(hit, said - hit, was - hit, n - was - said + hit)
            found[part] = Labels(sizes[i]["n"], n, int(right.get(i, 0) or 0), each)
    return found


def _spread(table: Any, name: str) -> dict[tuple[int, str], int]:
    spread = table.select("part", value=table[name].unnest())
    return {
        (row["part"], row["value"]): row["n"] for row in _rows(spread.group_by(["part", "value"]).agg(n=spread.count()))
    }


def _rows(table: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sources.fetch(table).to_pylist()
    return found


@dataclass(frozen=True)
class Ranked:
    """Rows of queries as arrays."""

    query: np.ndarray[Any, Any]
    score: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]


def ranked(rows: Rows, parted: Sequence[Split]) -> dict[Place, Ranked]:
    """The rows of rankings, in memory, of all and of each part."""
    whole = Split(rows.table.mutate(**{SEGMENT: sources.text("0").cast("int64")}), ((ALL, NEVER),))
    found: dict[Place, Ranked] = {}
    for split in (whole, *parted):
        table = sources.fetch(split.table.select(SEGMENT, "query", "score", "label"))
        codes = table.column("query").combine_chunks().dictionary_encode().indices
        query, at = _array(codes), _array(table.column(SEGMENT))
        score, label = _array(table.column("score")), _array(table.column("label"))
        for i, part in enumerate(split.parts):
            own = at == i
            if part is not None and own.any():
                found[part] = Ranked(query[own], score[own], label[own])
    return found


def _array(column: pa.Array | pa.ChunkedArray) -> np.ndarray[Any, Any]:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array: np.ndarray[Any, Any] = np.from_dlpack(whole)
    return array
