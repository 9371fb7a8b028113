"""Weak segments: values of one to three columns whose rows have a higher loss than all others.

All crossings of up to three columns are searched, with ordered columns cut at quantiles and any stretch of neighbouring
cells taken together (of three columns, of cells twice as wide): of so many segments some look bad by chance. So one
part of the rows is searched, and what is found there is confirmed on the others, which the search has not seen. Of `k`
candidates each is held to `alpha / k` (Bonferroni), so that with probability `1 - alpha` every segment that is returned
is truly worse than the rest by more than `margin`.

The search takes the segment with the strongest evidence, leaves out those of its columns that add nothing, puts its
rows aside and goes on: what is bad only for the rows that it shares with a segment found before is not found again
(sequential covering). Evidence is the score statistic's `z ** 2 / 2` less the logarithm of the number of segments of as
many columns, as many as there were to choose from (Kulldorff 1997, on scan statistics; Sagadeeva and Boehm 2021,
SliceLine, on the same search by another score).

Rows are taken as independent: where one user has many, a segment may be that user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from watchkeeper.stats.estimates import Estimate, difference, mean_of_counts, proportion
from watchkeeper.stats.grid import Floats, Ints

DEPTH = 3
SEARCHED = 200_000
"""Rows that are searched at most; all others confirm."""
CANDIDATES, KEPT, OF_ONE = 20, 300, 5
"""Segments that are confirmed at most, that the search keeps in mind, and of one crossing."""
FEWEST = 30
"""Rows of a segment in either part, at least."""
CELLS, WORDS = 8, 20
"""Cells of an ordered column at most, and values of a categorical one."""
OTHER, MISSING = "(other)", "(missing)"
SURE = 4.0
"""Standard errors by which a segment is worse than what one of its columns leaves out, or the column is dropped. Among
all columns there were hundreds of ways to leave out rows that are better by chance."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A column cut into cells: `cells` has that of each row, from 0 on.

    The first `ordered` cells are neighbours, of which stretches may be taken together; `edges` lie between them. The
    others are named by `words`.
    """

    name: str
    cells: Ints
    ordered: int = 0
    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        return self.ordered + len(self.words)

    def text(self, first: int, last: int) -> str:
        """What a condition says: `age < 25`, `25 ≤ age < 40`, `country = NL`."""
        if first >= self.ordered:
            return f"{self.name} = {self.words[first - self.ordered]}"
        low = f"{self.edges[first - 1]:.4g}" if first else ""
        high = f"{self.edges[last]:.4g}" if last < self.ordered - 1 else ""
        if not low and not high:
            return f"{self.name} = (present)"
        if not low or not high:
            return f"{self.name} < {high}" if high else f"{self.name} ≥ {low}"
        return f"{low} ≤ {self.name} < {high}"


def cut_numbers(name: str, values: Floats) -> Cut:
    """A numeric column, cut at its octiles, or between its values where there are no more than eight.

    Args:
        values: NaN where missing, which is a cell of its own.
    """
    missing = np.isnan(values)
    present = values[~missing]
    distinct = np.unique(present[:SEARCHED])
    if len(distinct) > CELLS:
        edges = np.unique(np.quantile(present[:SEARCHED], np.arange(1, CELLS) / CELLS))
        edges = edges[edges > distinct[0]]
    else:
        edges = distinct[1:]
    cells = np.searchsorted(edges, values, side="right")
    cells[missing] = len(edges) + 1
    return Cut(name, cells.astype(np.int16), len(edges) + 1, tuple(edges.tolist()), (MISSING,) if missing.any() else ())


def cut_words(name: str, codes: Ints, words: Sequence[str], least: int) -> Cut:
    """A categorical column; values of fewer rows than `least`, and beyond the twenty most frequent, are one cell.

    Args:
        codes: of each row the place of its value in `words`, or -1 where it is missing.
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(words))
    kept = [int(i) for i in np.argsort(-counts, kind="stable")[:WORDS] if counts[i] >= least]
    cell_of = np.full(len(words) + 1, len(kept))
    cell_of[kept] = np.arange(len(kept))
    cell_of[-1] = len(kept) + 1
    named = tuple(words[i] for i in kept)
    return Cut(name, cell_of[codes].astype(np.int16), words=(*named, OTHER, MISSING))


@dataclass(frozen=True, slots=True)
class Condition:
    """A column's cells from `first` to `last`, both included."""

    column: int
    first: int
    last: int


Bools = NDArray[np.bool_]
Conditions = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class WeakSegment:
    """A segment that is worse than the rest.

    Attributes:
        conditions: what its rows have in common.
        n: rows, of both parts.
        loss, rest: the mean loss of its rows and of all that are neither in it nor in a stronger segment, in the part
            that confirms.
        worse: their difference. The intervals of all segments hold together with probability `1 - alpha`.
        lost: how much lower the mean loss of all rows would be if these were like the rest.
        sure: what is lost at least; segments are ranked by it.
    """

    conditions: Conditions
    n: int
    loss: Estimate
    rest: Estimate
    worse: Estimate
    lost: float
    sure: float

    def text(self, columns: Sequence[Cut]) -> str:
        """What its rows have in common, in words."""
        return " and ".join(columns[c.column].text(c.first, c.last) for c in self.conditions)


def smallest(rows: int) -> int:
    """Rows of the smallest segment that is looked for among so many: one in 200, and a hundred at least."""
    return max(100, rows // 200)


def weak_segments(
    columns: Sequence[Cut], loss: Floats, alpha: float = 0.05, margin: float | None = None, least: int | None = None
) -> list[WeakSegment]:
    """The segments whose mean loss is higher than the rest's by more than a margin, those that cost most first.

    Args:
        columns: each as long as the loss.
        loss: of each row, such as the squared error, or 1 where the prediction was wrong; finite.
        alpha: the probability of any segment that is no worse than the rest by the margin.
        margin: in units of the loss; a tenth of the mean loss, if not given.
        least: rows of a segment; see `smallest`, if not given.
    """
    rows = len(loss)
    if rows < 2 * FEWEST or not columns:
        return []
    margin = float(loss.mean()) / 10 if margin is None else margin
    least = smallest(rows) if least is None else least
    order = np.random.default_rng(0).permutation(rows)
    searched, others = np.split(order, [min(rows // 2, SEARCHED)])
    found = _search(columns, searched, loss, margin, least * len(searched) / rows)
    return _confirm(columns, others, searched, loss, found, margin, alpha)


def within(columns: Sequence[Cut], conditions: Conditions, rows: Ints | None = None) -> Bools:
    """Which rows meet all conditions: of all rows, or of some."""
    inside = np.ones(len(columns[0].cells) if rows is None else len(rows), dtype=bool)
    for condition in conditions:
        cells = columns[condition.column].cells if rows is None else columns[condition.column].cells[rows]
        inside &= (cells >= condition.first) & (cells <= condition.last)
    return inside


def _search(columns: Sequence[Cut], rows: Ints, loss: Floats, margin: float, least: float) -> list[Conditions]:
    """The candidates, the strongest first."""
    rows = rows[np.argsort(-loss[rows], kind="stable")]  # so that the rows with any loss come first
    columns = [replace(column, cells=column.cells[rows]) for column in columns]
    own, size = loss[rows], max(least, FEWEST)
    scanned = _scan(columns, own, margin, size)
    inside = [within(columns, conditions) for _, conditions in scanned]
    price = np.array([cost for cost, _ in scanned])
    n = np.array([mask.sum() for mask in inside], dtype=float)
    total = np.array([own[mask].sum() for mask in inside])
    left = np.ones(len(rows), dtype=bool)
    chosen: list[Conditions] = []
    for _ in range(2 * CANDIDATES if scanned else 0):
        strength = _evidence(n, total, _Whole.of(own[left]), margin, size) - price
        best = int(strength.argmax())
        if strength[best] <= 0 or len(chosen) == CANDIDATES:
            break
        conditions = _simplest(columns, own, left, scanned[best][1])
        if conditions and conditions not in chosen:
            chosen.append(conditions)
        taken = np.flatnonzero((within(columns, conditions) if conditions else inside[best]) & left)
        left[taken] = False
        gone = own[taken]
        n -= [mask[taken].sum() for mask in inside]
        total -= [gone[mask[taken]].sum() for mask in inside]
    return chosen


def _scan(columns: Sequence[Cut], own: Floats, margin: float, size: float) -> list[tuple[float, Conditions]]:
    """The segments that stand out most, each with the logarithm of how many of as many columns there are."""
    cells = [column.cells.astype(np.intp) for column in columns]
    fine, coarse = ([_stretches(column, step) for column in columns] for step in (1, 2))
    of_depth = {1: fine, 2: fine, 3: coarse}
    usable = [i for i, (first, _) in enumerate(fine) if len(first)]
    crossings = [crossed for depth in of_depth for crossed in combinations(usable, depth)]
    many = dict.fromkeys(of_depth, 0.0)
    for crossed in crossings:
        many[len(crossed)] += float(np.prod([len(of_depth[len(crossed)][i][0]) for i in crossed], dtype=float))
    with_loss = int((own != 0).sum())
    equal = bool((own[:with_loss] == 1).all())
    whole, found = _Whole.of(own), list[tuple[float, float, Conditions]]()
    pair: tuple[tuple[int, ...], Ints] = (), cells[0]
    for crossed in crossings:
        stretches = of_depth[len(crossed)]
        if len(crossed) == DEPTH:
            if pair[0] != crossed[:-1]:
                pair = crossed[:-1], _codes(columns, cells, crossed[:-1])
            code = pair[1] * columns[crossed[-1]].number + cells[crossed[-1]]
        else:
            code = _codes(columns, cells, crossed)
        shape = tuple(columns[i].number for i in crossed)
        number = int(np.prod(shape))
        sums = np.bincount(code[:with_loss], None if equal else own[:with_loss], number).reshape(shape).astype(float)
        counts = np.bincount(code, None, number).reshape(shape).astype(float)
        for axis, i in enumerate(crossed):
            counts, sums = (_joined(cube, axis, *stretches[i]) for cube in (counts, sums))
        evidence = _evidence(counts.ravel(), sums.ravel(), whole, margin, size)
        price = float(np.log(many[len(crossed)]))
        tops = np.argpartition(-evidence, OF_ONE)[:OF_ONE] if len(evidence) > OF_ONE else np.arange(len(evidence))
        for top in tops[evidence[tops] > price]:
            at = np.unravel_index(top, counts.shape)
            where = zip(crossed, at, strict=True)
            conditions = tuple(Condition(i, int(stretches[i][0][k]), int(stretches[i][1][k])) for i, k in where)
            found.append((float(evidence[top]) - price, price, conditions))
    found.sort(key=lambda one: -one[0])
    return [(price, conditions) for _, price, conditions in found[:KEPT]]


def _codes(columns: Sequence[Cut], cells: Sequence[Ints], crossed: Sequence[int]) -> Ints:
    code = cells[crossed[0]]
    for i in crossed[1:]:
        code = code * columns[i].number + cells[i]
    return code


def _stretches(column: Cut, step: int) -> tuple[Ints, Ints]:
    """The first and the last cell of all that a condition on the column may say; never all cells.

    Args:
        step: how many neighbouring cells are always taken together.
    """
    starts = range(0, column.ordered, step)
    joined = [(i, min(j + step, column.ordered) - 1) for i in starts for j in starts if j >= i]
    every = [*joined, *((i, i) for i in range(column.ordered, column.number))]
    pairs = np.array([ends for ends in every if ends != (0, column.number - 1)], dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _joined(cube: Floats, axis: int, first: Ints, last: Ints) -> Floats:
    """Sums over stretches of one axis instead of its cells."""
    up_to = np.insert(np.cumsum(cube, axis=axis), 0, 0.0, axis=axis)
    return np.asarray(up_to.take(last + 1, axis=axis) - up_to.take(first, axis=axis))


@dataclass(frozen=True, slots=True)
class _Whole:
    """The rows that are looked at: how many, their summed loss and its standard deviation."""

    rows: int
    total: float
    sd: float

    @classmethod
    def of(cls, loss: Floats) -> _Whole:
        return cls(len(loss), float(loss.sum()), float(loss.std()) if len(loss) else 0.0)


def _evidence(n: Floats, total: Floats, whole: _Whole, margin: float, size: float) -> Floats:
    """Half the square of the score statistic that segments are worse than all other rows by more than the margin.

    Args:
        n, total: rows and summed loss of segments.
    """
    if not whole.sd:
        return np.full(len(n), -np.inf)
    fits = (n >= size) & (n < whole.rows)
    inner = np.where(fits, n, 1.0)
    outer = np.where(fits, whole.rows - n, 1.0)
    z = (total / inner - (whole.total - total) / outer - margin) / (whole.sd * np.sqrt(1 / inner + 1 / outer))
    return np.where(fits & (z > 0), z**2 / 2, -np.inf)


def _simplest(columns: Sequence[Cut], own: Floats, left: Bools, conditions: Conditions) -> Conditions:
    """The segment without the columns that add nothing: those whose rows that they leave out are about as bad."""
    inside = within(columns, conditions) & left
    for one in conditions:
        fewer = tuple(other for other in conditions if other != one)
        wider = within(columns, fewer) & left
        added, kept = own[wider & ~inside], own[inside]
        if not len(added) or not len(kept):
            return _simplest(columns, own, left, fewer)
        error = (kept.var() / len(kept) + max(added.var(), kept.var() / 2) / len(added)) ** 0.5
        if kept.mean() - added.mean() <= SURE * error:
            return _simplest(columns, own, left, fewer)
    return conditions


def _confirm(
    columns: Sequence[Cut],
    others: Ints,
    searched: Ints,
    loss: Floats,
    found: Sequence[Conditions],
    margin: float,
    alpha: float,
) -> list[WeakSegment]:
    """Those of the candidates that are worse in rows that the search has not seen."""
    own, before = loss[others], np.zeros(len(others), dtype=bool)
    confirmed = []
    for conditions in found:
        inside = within(columns, conditions, others)
        fresh, rest = own[inside & ~before], own[~inside & ~before]
        if len(fresh) < FEWEST or len(rest) < FEWEST:
            continue
        worse = difference(_mean(fresh, alpha / len(found)), _mean(rest, alpha / len(found)))
        if worse.value is None or worse.low is None or worse.low <= margin:
            continue
        before |= inside
        share = len(fresh) / len(others)
        n = int(inside.sum() + within(columns, conditions, searched).sum())
        mean = _mean(own[inside], alpha / len(found))
        confirmed.append(
            WeakSegment(
                conditions, n, mean, _mean(rest, alpha / len(found)), worse, worse.value * share, worse.low * share
            )
        )
    return sorted(confirmed, key=lambda segment: -segment.sure)


def _mean(loss: Floats, alpha: float) -> Estimate:
    ones = int((loss == 1).sum())
    if ones + int((loss == 0).sum()) == len(loss):
        return proportion(ones, len(loss), alpha)
    return mean_of_counts(loss, np.ones(len(loss)), alpha)
