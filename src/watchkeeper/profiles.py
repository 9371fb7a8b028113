"""Profiles: what is kept of a column in a window. Counts that add up; every metric is a function of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache

import numpy as np

from watchkeeper.records import row_id
from watchkeeper.schema import ColumnConfig, Kind
from watchkeeper.stats.distances import aligned
from watchkeeper.stats.grid import NULL, SENTINEL, Floats, Grid, Ints
from watchkeeper.stats.scores import Scores

FORMAT = 2
CATEGORIES = "categories"


@dataclass(frozen=True, slots=True)
class Key:
    """What a profile is of. `start` is the grain's, or None for a version's reference data.

    `label` is the outcome that the rows had, or `ALL`, whether labelled or not.
    """

    model: str
    version: str
    segment: str
    column: str
    label: str
    start: datetime | None

    @property
    def id(self) -> str:
        return _key_id(self)


@lru_cache(maxsize=65536)
def _key_id(key: Key) -> str:
    return row_id("profile", key.model, key.version, key.segment, key.column, key.label, key.start)


@dataclass(frozen=True)
class Profile:
    """Counts of one column: per bin number for a numeric column, per value for a categorical one.

    `grid` names the grid that the bin numbers belong to, or is `CATEGORIES`. Missing values are counted under
    `NULL` (numeric) or in `nulls` (categorical). `low` and `high` are the least and greatest finite value.
    """

    grid: str
    bins: Ints
    values: tuple[str, ...]
    counts: Ints
    nulls: int
    low: float | None
    high: float | None

    @property
    def kind(self) -> Kind:
        return Kind.CATEGORICAL if self.grid == CATEGORIES else Kind.NUMERIC

    @property
    def n(self) -> int:
        """Rows, missing values included."""
        return int(self.counts.sum()) + self.nulls

    @property
    def regular(self) -> tuple[Ints, Ints]:
        """Bin numbers and counts of the values that lie on the grid: no missing, infinite or sentinel ones."""
        kept = self.bins < NULL
        return self.bins[kept], self.counts[kept]

    def special(self, *codes: int) -> int:
        """Rows counted under any of the special bin numbers."""
        return int(self.counts[np.isin(self.bins, codes)].sum())

    def sentinels(self, grid: Grid) -> dict[float, int]:
        """How often each sentinel value occurs, for those that do."""
        at = np.flatnonzero(self.bins >= SENTINEL)
        return {grid.sentinels[int(self.bins[i]) - SENTINEL]: int(self.counts[i]) for i in at}

    @property
    def by_value(self) -> dict[str, int]:
        return dict(zip(self.values, self.counts.tolist(), strict=True))

    def mean(self, grid: Grid) -> float | None:
        """The mean with each bin's values evenly spread; None without a regular value."""
        bins, counts = self.regular
        if not len(bins):
            return None
        lower, upper = grid.edges(bins)
        return float(((lower + upper) / 2 * (counts / counts.sum())).sum())

    def to_bytes(self) -> bytes:
        """A compact form that `from_bytes` reads back; it depends on the content alone."""
        body = {
            "format": FORMAT,
            "grid": self.grid,
            "steps": np.diff(self.bins, prepend=0).tolist(),
            "values": self.values,
            "counts": self.counts.tolist(),
            "nulls": self.nulls,
            "range": [self.low, self.high],
        }
        return zlib.compress(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(), 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        return _decode(data)


@lru_cache(maxsize=8192)
def _decode(data: bytes) -> Profile:
    body = json.loads(zlib.decompress(data))
    if body["format"] != FORMAT:
        raise ValueError(f"a profile of format {body['format']} was found; this release reads format {FORMAT}")
    low, high = body["range"]
    return Profile(
        grid=body["grid"],
        bins=np.cumsum(np.asarray(body["steps"], dtype=np.int64)),
        values=tuple(body["values"]),
        counts=np.asarray(body["counts"], dtype=np.int64),
        nulls=body["nulls"],
        low=low,
        high=high,
    )


def numeric(grid: Grid, counts: dict[int, int], low: float | None, high: float | None) -> Profile:
    """A numeric profile from counts per bin number (special ones included)."""
    bins = np.asarray(sorted(b for b, count in counts.items() if count), dtype=np.int64)
    tallies = np.asarray([counts[int(b)] for b in bins], dtype=np.int64)
    return Profile(grid.name, bins, (), tallies, 0, _unsigned(low), _unsigned(high))


def categorical(counts: dict[str, int], nulls: int = 0) -> Profile:
    """A categorical profile from counts per value."""
    values = tuple(sorted(value for value, count in counts.items() if count))
    tallies = np.asarray([counts[v] for v in values], dtype=np.int64)
    return Profile(CATEGORIES, np.zeros(0, dtype=np.int64), values, tallies, nulls, None, None)


def _unsigned(end: float | None) -> float | None:
    """Zero without its sign: which zero is the lesser would depend on the order of merging."""
    return None if end is None else end + 0.0


def merge(profiles: Iterable[Profile]) -> Profile | None:
    """The profile of all the rows together; None of none. Exact, in any order.

    Raises ValueError where the profiles lie on different grids.
    """
    parts = list(profiles)
    if len(parts) < 2:
        return parts[0] if parts else None
    grids = {p.grid for p in parts}
    if len(grids) > 1:
        raise ValueError(f"profiles on different grids do not mix: {sorted(grids)}")
    lows = [p.low for p in parts if p.low is not None]
    highs = [p.high for p in parts if p.high is not None]
    nulls = sum(p.nulls for p in parts)
    if parts[0].kind is Kind.CATEGORICAL:
        counts: dict[str, int] = {}
        for part in parts:
            for value, count in part.by_value.items():
                counts[value] = counts.get(value, 0) + count
        return categorical(counts, nulls)
    bins, where = np.unique(np.concatenate([p.bins for p in parts]), return_inverse=True)
    tallies = np.zeros(len(bins), dtype=np.int64)
    np.add.at(tallies, where, np.concatenate([p.counts for p in parts]))
    return Profile(parts[0].grid, bins, (), tallies, nulls, min(lows, default=None), max(highs, default=None))


@dataclass(frozen=True)
class Sides:
    """Both sides' present values as counts over the same cells: categories in order of name, or ascending bins.

    `values` names the categories, `bins` the bins; the other is empty.
    """

    current: Floats
    baseline: Floats
    values: tuple[str, ...]
    bins: Ints

    @property
    def ordered(self) -> bool:
        return not self.values


@dataclass(frozen=True)
class Subject:
    """All that a metric may look at: one column's current profile, its baseline, and its place in the model.

    `labelled` are the current profiles of the score by label ("0", "1"), `baseline_labelled` the baseline's.
    `grains` counts the grains that each side covers, for rates per grain. `parts` are the column's profiles grain by
    grain, of the window and of as long before it, for finding when a change began. `contract` is what was agreed about
    the column.
    """

    current: Profile | None
    baseline: Profile | None
    grid: Grid | None
    threshold: float
    grains: int
    baseline_grains: int
    labelled: dict[str, Profile]
    baseline_labelled: dict[str, Profile]
    parts: tuple[tuple[datetime, Profile], ...] = ()
    contract: ColumnConfig | None = None

    @property
    def n(self) -> int:
        return self.current.n if self.current else 0

    @property
    def n_baseline(self) -> int:
        return self.baseline.n if self.baseline else 0

    @cached_property
    def sides(self) -> Sides | None:
        """What every distance is taken of, laid out once for all of them.

        None unless each side has some present values, where the sides lie on different grids, and for bins without
        their grid.
        """
        current, baseline = self.current, self.baseline
        if current is None or baseline is None or current.grid != baseline.grid:
            return None
        if current.kind is Kind.CATEGORICAL:
            values = tuple(sorted({*current.values, *baseline.values}))
            first, second = (
                np.array([side.get(v, 0) for v in values], dtype=float)
                for side in (current.by_value, baseline.by_value)
            )
            sides = Sides(first, second, values, np.zeros(0, dtype=np.int64))
        elif self.grid is None:
            return None
        else:
            bins, first, second = aligned(*current.regular, *baseline.regular)
            sides = Sides(first, second, (), bins)
        return sides if first.sum() and second.sum() else None

    @property
    def of_baseline(self) -> Subject:
        """The baseline in the place of the current data: what a relative limit compares with."""
        return Subject(
            self.baseline, None, self.grid, self.threshold, self.baseline_grains, 0, self.baseline_labelled, {},
            contract=self.contract,
        )  # fmt: skip

    @property
    def scores(self) -> Scores:
        """The score-by-label counts of the labelled rows; none without a grid."""
        if self.grid is None:
            return Scores(*(np.zeros(0) for _ in range(4)))
        sides = {label: self.labelled[label].regular for label in ("0", "1") if label in self.labelled}
        bins = np.unique(np.concatenate([side[0] for side in sides.values()])) if sides else np.zeros(0, dtype=np.int64)
        counts: dict[str, Floats] = {label: np.zeros(len(bins)) for label in ("0", "1")}
        for label, (own, tallies) in sides.items():
            counts[label][np.searchsorted(bins, own)] = tallies
        lower, upper = self.grid.edges(bins)
        return Scores(lower, upper, counts["0"], counts["1"])
