"""Profiles: what is kept of a column in a window. Counts that add up; every metric is a function of them."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache
from hashlib import md5
from itertools import accumulate

import numpy as np

from watchkeeper.costs import Costs
from watchkeeper.records import row_id
from watchkeeper.schema import ColumnConfig, Kind
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.distances import aligned
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.grid import NAN, NULL, SENTINEL, Floats, Grid, Ints
from watchkeeper.stats.lags import Correction, Weighed
from watchkeeper.stats.scores import Scores

FORMAT = 3
CATEGORIES = "categories"
KNOWN, STRANGERS = 500, 500
"""How many values a categorical profile counts at most: of its vocabulary, and beside it."""
ENOUGH = 20
"""Rows that make a value of a vocabulary that does not hold all values. Of values with fewer the first data would
choose those that happened to occur there more often than they do."""
ROOM = 6000
"""Bytes that the vocabulary's values may take, and as many that the others may."""
LONGEST, HEAD, TAIL = 100, 80, 16
"""Of a value with more characters than `LONGEST` its first `HEAD` are kept, and of its hash the first `TAIL` digits."""
UNBOUNDED = "g"
"""Beyond the hash of every value."""
OTHER_VALUES = "(other values)"
"""The cell of all values that either side does not count one by one."""


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

    The first `known` of `values` are of the column's vocabulary, which `vocabulary` names (None: of several). The rest
    are strangers: all those whose hash (`hashed`) is below `limit`. Those from there on are not told apart: they are
    `others` rows.
    """

    grid: str
    bins: Ints
    values: tuple[str, ...]
    counts: Ints
    nulls: int
    low: float | None
    high: float | None
    known: int = 0
    vocabulary: str | None = ""
    others: int = 0
    limit: str = UNBOUNDED

    @property
    def kind(self) -> Kind:
        return Kind.CATEGORICAL if self.grid == CATEGORIES else Kind.NUMERIC

    @property
    def n(self) -> int:
        """Rows, missing values included."""
        return self.present + self.nulls

    @property
    def present(self) -> int:
        """Rows of a categorical column that hold a value; of a numeric one all rows."""
        return int(self.counts.sum()) + self.others

    @property
    def regular(self) -> tuple[Ints, Ints]:
        """Bin numbers and counts of the values that lie on the grid: no missing, infinite or sentinel ones."""
        kept = self.bins < NULL
        return self.bins[kept], self.counts[kept]

    @property
    def missing(self) -> int:
        """Rows that are null or not a number."""
        return self.nulls + self.special(NULL, NAN)

    def special(self, *codes: int) -> int:
        """Rows counted under any of the special bin numbers."""
        return sum(int(self.counts[self.bins == code].sum()) for code in codes)

    def sentinels(self, grid: Grid) -> dict[float, int]:
        """How often each sentinel value occurs, for those that do."""
        at = np.flatnonzero(self.bins >= SENTINEL)
        return {grid.sentinels[int(self.bins[i]) - SENTINEL]: int(self.counts[i]) for i in at}

    @property
    def words(self) -> tuple[str, ...]:
        """The values of the vocabulary that occur: all of it, in the profile that it was taken from."""
        return self.values[: self.known]

    @property
    def by_value(self) -> dict[str, int]:
        return dict(zip(self.values, self.counts.tolist(), strict=True))

    def counted(self, value: str, other: Profile) -> bool:
        """Whether the rows of a value are counted exactly, though there be none: `other` is a profile that has it."""
        if not self.others or value in self._known:
            return True
        if value in other._known and self.vocabulary is not None and self.vocabulary == other.vocabulary:
            return True
        return hashed(value) < self.limit

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

    def mean(self, grid: Grid) -> float | None:
        """The mean with each bin's values evenly spread; None without a regular value."""
        bins, counts = self.regular
        if not len(bins):
            return None
        lower, upper = grid.edges(bins)
        return float(((lower + upper) / 2 * (counts / counts.sum())).sum())

    def without(self, part: Profile) -> Profile | None:
        """The profile of the other rows, where `part` is of some of the rows; the inverse of `merge`.

        None where the counts do not tell it: where the part holds the least or the greatest value and not all of them,
        where strangers are folded by their hash, and where it is no part at all.
        """
        if (self.grid, self.vocabulary) != (part.grid, part.vocabulary):
            return None
        nulls, others = self.nulls - part.nulls, self.others - part.others
        cells: tuple[Iterable[int | str], Iterable[int | str]]
        cells = (
            (self.values, part.values) if self.kind is Kind.CATEGORICAL else (self.bins.tolist(), part.bins.tolist())
        )
        counts = dict(zip(cells[0], self.counts.tolist(), strict=True))
        for cell, count in zip(cells[1], part.counts.tolist(), strict=True):
            counts[cell] = counts.get(cell, 0) - count
        if min(nulls, others, *counts.values(), 0) < 0:
            return None
        left = {cell: count for cell, count in counts.items() if count}
        if self.kind is Kind.CATEGORICAL:
            known, folds = frozenset(self.words), self.limit not in (UNBOUNDED, "")
            named = {str(value): count for value, count in left.items()}
            return None if folds else _categorical(named, nulls, known, self.vocabulary, others, self.limit)
        bins = np.asarray([*left], dtype=np.int64)
        finite = bool(((bins < NULL) | (bins >= SENTINEL)).any())
        if finite and part.low is not None and (part.low == self.low or part.high == self.high):
            return None
        ends = (self.low, self.high) if finite else (None, None)
        return Profile(self.grid, bins, (), np.asarray([*left.values()], dtype=np.int64), nulls, *ends)

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
            "known": self.known,
            "vocabulary": self.vocabulary,
            "others": self.others,
            "limit": self.limit,
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
        known=body["known"],
        vocabulary=body["vocabulary"],
        others=body["others"],
        limit=body["limit"],
    )


def numeric(grid: Grid, counts: dict[int, int], low: float | None, high: float | None) -> Profile:
    """A numeric profile from counts per bin number (special ones included)."""
    bins, tallies = (np.fromiter(side, np.int64, len(counts)) for side in (counts.keys(), counts.values()))
    order = np.argsort(bins)
    kept = order[tallies[order] != 0]
    return Profile(grid.name, bins[kept], (), tallies[kept], 0, _unsigned(low), _unsigned(high))


def categorical(
    counts: Mapping[str, int],
    nulls: int = 0,
    known: Iterable[str] | None = (),
    others: int = 0,
    limit: str = UNBOUNDED,
    named_from: int = 0,
) -> Profile:
    """A categorical profile from counts per value.

    Args:
        known: the column's vocabulary; None to take the values that are most frequent here.
        others: rows whose values are folded already: all strangers whose hash is `limit` or above.
        named_from: if not 0, all strangers are folded, so that values of the vocabulary alone are named, and a
            vocabulary that is taken here holds only values of so many rows (k-anonymity, Sweeney 2002, of rows).
    """
    shown: Counter[str] = Counter()
    for value, count in counts.items():
        if count:
            shown[cut(value)] += count
    words = frozenset(most_frequent(shown, named_from) if known is None else map(cut, known))
    return _categorical(shown, nulls, words, _name(words), others, "" if named_from else limit)


def most_frequent(counts: Mapping[str, int], named_from: int = 0) -> list[str]:
    """The vocabulary that a column's first data give, most frequent first; of equally frequent ones by their hash.

    Args:
        named_from: rows that a value of it has at least.
    """
    counts = {value: count for value, count in counts.items() if count >= named_from}
    if len(counts) <= KNOWN and sum(map(_size, counts)) <= ROOM:
        return sorted(counts)
    enough = [value for value, count in counts.items() if count >= ENOUGH]
    ranked = sorted(enough, key=lambda value: (-counts[value], hashed(value)))
    return ranked[: min(_fitting(ranked), KNOWN)]


def cut(value: str) -> str:
    """A value as it is kept: very long ones by their beginning and their hash."""
    return value if len(value) <= LONGEST else f"{value[:HEAD]}…{hashed(value)[:TAIL]}"


@lru_cache(maxsize=100_000)
def hashed(value: str) -> str:
    """A value's MD5, which every engine has; it orders the strangers. No secret hangs on it."""
    return md5(value.encode(), usedforsecurity=False).hexdigest()


@lru_cache(maxsize=1024)
def _name(words: frozenset[str]) -> str:
    """The name of a vocabulary, "" of the empty one."""
    return row_id("vocabulary", *sorted(words)) if words else ""


def _size(value: str) -> int:
    return len(value.encode())


def _fitting(values: Iterable[str]) -> int:
    """How many of the first values have room."""
    return sum(1 for size in accumulate(map(_size, values)) if size <= ROOM)


def _categorical(
    counts: Mapping[str, int], nulls: int, words: frozenset[str], vocabulary: str | None, others: int, limit: str
) -> Profile:
    """The profile that keeps the strangers of the smallest hashes, and folds the rest.

    What is folded depends on the rows together alone: whatever is folded in a part has as many strangers before it
    there, or as little room, as in the whole, so it is folded in the whole too; and the whole's limit, where it is not
    one of a part's, is the hash of a stranger that its parts kept.
    """
    strangers = [value for value in counts if value not in words]
    if limit != UNBOUNDED or len(strangers) > STRANGERS or sum(map(_size, strangers)) > ROOM:
        ranked = sorted((value for value in strangers if hashed(value) < limit), key=hashed)
        kept = ranked[: min(_fitting(ranked), STRANGERS)]
        limit = hashed(ranked[len(kept)]) if len(kept) < len(ranked) else limit
        others += sum(counts[value] for value in strangers) - sum(counts[value] for value in kept)
        strangers = kept
    known = sorted(words & counts.keys())
    values = (*known, *sorted(strangers))
    tallies = np.asarray([counts[v] for v in values], dtype=np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    return Profile(CATEGORIES, nothing, values, tallies, nulls, None, None, len(known), vocabulary, others, limit)


def _unsigned(end: float | None) -> float | None:
    """Zero without its sign: which zero is the lesser would depend on the order of merging."""
    return None if end is None else end + 0.0


def merge(profiles: Iterable[Profile]) -> Profile | None:
    """The profile of all the rows together; None of none. Exact, in any order.

    Of categorical profiles with different vocabularies only those values are told apart that each part counts exactly:
    one that is of a part's vocabulary, and folded in another part, is folded. Their result is exact, but depends on
    which were merged first.

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
        return _merged(parts, nulls)
    bins, where = np.unique(np.concatenate([p.bins for p in parts]), return_inverse=True)
    tallies = np.zeros(len(bins), dtype=np.int64)
    np.add.at(tallies, where, np.concatenate([p.counts for p in parts]))
    return Profile(parts[0].grid, bins, (), tallies, nulls, min(lows, default=None), max(highs, default=None))


def _merged(parts: list[Profile], nulls: int) -> Profile:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.by_value)
    held = {value: part for part in parts for value in part._known}
    names = {part.vocabulary for part in parts}
    vocabulary = names.pop() if len(names) == 1 else None
    words = frozenset(held)
    if vocabulary is None:
        exact = {value: counts[value] for value, of in held.items() if all(p.counted(value, of) for p in parts)}
        words = frozenset(most_frequent(exact))
    others, limit = sum(part.others for part in parts), min(part.limit for part in parts)
    return _categorical(counts, nulls, words, vocabulary, others, limit)


@dataclass(frozen=True)
class Sides:
    """Both sides' present values as counts over the same cells: categories in order of name, or ascending bins.

    `values` names the categories, `OTHER_VALUES` last where there are any; `bins` the bins. One of both is empty.
    """

    current: Floats
    baseline: Floats
    values: tuple[str, ...]
    bins: Ints

    @property
    def ordered(self) -> bool:
        return not self.values


def common(sides: list[Profile]) -> tuple[tuple[str, ...], list[Floats]]:
    """The values that each of some categorical profiles counts exactly, and their counts; all other rows are a cell."""
    held = {value: side for side in sides for value in side.values}
    values = tuple(sorted(value for value, of in held.items() if all(side.counted(value, of) for side in sides)))
    counts = [np.array([own.get(v, 0) for v in values], dtype=float) for own in (side.by_value for side in sides)]
    rest = [side.present - c.sum() for side, c in zip(sides, counts, strict=True)]
    if not any(rest):
        return values, counts
    return (*values, OTHER_VALUES), [np.append(c, r) for c, r in zip(counts, rest, strict=True)]


@dataclass(frozen=True)
class Subject:
    """All that a metric may look at: one column's current profile, its baseline, and its place in the model.

    `labelled` are the current profiles of the column by label ("0" and "1" of a score), `baseline_labelled` the
    baseline's. `beside` are the subjects of other columns that the metric asks for, in the same rows, by name.
    `groups` are the subjects of the segments that are compared, by name.
    `grains` counts the grains that each side covers, for rates per grain. `parts` are the column's profiles grain by
    grain, of the window and of as long before it, for finding when a change began; `labelled_parts` those by label,
    since the champion was crowned, for metrics that run over all of them. `contract` is what was agreed about the
    column, and `costs` what the model's predictions cost by how they turn out. `expected` stand for the labels where
    these are only estimated. A `provisional` subject is of a window whose labels are not all known yet, and its
    `correction` what the known ones say of all, if that can be said. `grain_seconds` is how long a grain lasts. `past`
    are the column's profiles in the window moved back so many window lengths, those of times that are known, for a
    seasonal baseline.
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
    costs: Costs | None = None
    beside: Mapping[str, Subject] = field(default_factory=dict)
    expected: Scores | Matrix | Binned | None = None
    groups: Mapping[str, Subject] = field(default_factory=dict)
    labelled_parts: tuple[tuple[datetime, dict[str, Profile]], ...] = ()
    provisional: bool = False
    correction: Correction | Weighed | None = None
    grain_seconds: float = 0.0
    past: Mapping[int, Profile | None] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long the current side lasts; 0 where it did not come over time."""
        return self.grains * self.grain_seconds

    @property
    def n(self) -> int:
        return self.current.n if self.current else 0

    @property
    def n_baseline(self) -> int:
        return self.baseline.n if self.baseline else 0

    @cached_property
    def binned(self) -> Binned:
        """The current values that lie on the grid, per bin, or the expected ones; none without a grid."""
        if isinstance(self.expected, Binned):
            return self.expected
        if self.current is None or self.grid is None:
            return Binned(*(np.zeros(0) for _ in range(3)))
        bins, counts = self.current.regular
        return Binned(*self.grid.edges(bins), counts.astype(float))

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
            values, (first, second) = common([current, baseline])
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
            self.baseline, None, self.grid, self.threshold, self.baseline_grains, 0, self.baseline_labelled,
            self.baseline_labelled, contract=self.contract, costs=self.costs,
            beside={name: subject.of_baseline for name, subject in self.beside.items()},
            groups={name: subject.of_baseline for name, subject in self.groups.items()},
            grain_seconds=self.grain_seconds,
        )  # fmt: skip

    @property
    def of_labelled(self) -> Subject:
        """The rows whose label is known, as if it were not."""
        known = {name: subject.of_labelled for name, subject in self.beside.items()}
        return replace(self, current=merge(self.labelled.values()), beside=known)

    @cached_property
    def scores(self) -> Scores:
        """The score-by-label counts of the labelled rows, or the expected ones; none without a grid."""
        return self.expected if isinstance(self.expected, Scores) else self._scores(self.labelled)

    @property
    def baseline_scores(self) -> Scores:
        """The score-by-label counts of the baseline's labelled rows; none without a grid."""
        return self._scores(self.baseline_labelled)

    def _scores(self, labelled: dict[str, Profile]) -> Scores:
        if self.grid is None:
            return Scores(*(np.zeros(0) for _ in range(4)))
        sides = {label: labelled[label].regular for label in ("0", "1") if label in labelled}
        bins = np.unique(np.concatenate([side[0] for side in sides.values()])) if sides else np.zeros(0, dtype=np.int64)
        counts: dict[str, Floats] = {label: np.zeros(len(bins)) for label in ("0", "1")}
        for label, (own, tallies) in sides.items():
            counts[label][np.searchsorted(bins, own)] = tallies
        lower, upper = self.grid.edges(bins)
        return Scores(lower, upper, counts["0"], counts["1"])
