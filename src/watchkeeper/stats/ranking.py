"""Metrics of a ranking, query by query, and their means over queries with intervals.

The rows are sorted once, by query and by falling score (`Ranking.of`); every metric is then a few passes over them,
with no loop over queries. Rows of one query that have the same score come in no order: every metric is its mean over
all their orders (McSherry and Najork 2008), which for NDCG is what scikit-learn gives. A row is relevant where its
relevance is above zero; NDCG alone heeds how much.

Queries are taken as independent, and rows of one query are not: intervals are over queries, whose number is `n`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from watchkeeper.stats.estimates import Estimate, bounded_mean, mean_of_counts, on_logit_scale, proportion
from watchkeeper.stats.grid import Bools, Floats, Ints

FEW = 20
"""Queries' worth of hits, or of misses, below which the exact bound for any distribution is taken for a mean."""


@dataclass(frozen=True)
class Ranking:
    """Rows in order of query and falling score.

    Attributes:
        queries: the distinct queries, ascending, shape (queries,).
        starts: the first row of each, shape (queries,).
        query: the number of each row's query, shape (rows,).
        relevance: shape (rows,).
        tied: the number of each row's run of equal scores within one query, shape (rows,).
    """

    queries: NDArray[Any]
    starts: Ints
    query: Ints
    relevance: Floats
    tied: Ints

    @classmethod
    def of(cls, queries: NDArray[Any], scores: Floats, relevance: Floats) -> Ranking:
        """Sort rows.

        Args:
            queries: the query of each row, anything that sorts, shape (rows,).
            scores: by which rows are ranked, higher first, shape (rows,).
            relevance: zero or above, shape (rows,); for clicks 1 and 0.

        ValueError where the lengths differ, where a score is NaN, or where a relevance is negative or not finite.
        """
        if not len(queries) == len(scores) == len(relevance):
            found = f"{len(queries)} queries, {len(scores)} scores and {len(relevance)} relevances"
            raise ValueError(f"a ranking needs one of each for every row; found {found}")
        if np.isnan(scores).any():
            raise ValueError("a row whose score is not a number has no rank; leave such rows out")
        if not (np.isfinite(relevance) & (relevance >= 0)).all():
            raise ValueError("relevance is a finite number, zero or above; leave out or mend the rows where it is not")
        names, number = np.unique(queries, return_inverse=True)
        order = np.lexsort((-scores, number))
        query, by_score = number[order], scores[order]
        starts = np.searchsorted(query, np.arange(len(names)))
        new = np.ones(len(order), dtype=bool)
        new[1:] = (by_score[1:] != by_score[:-1]) | (query[1:] != query[:-1])
        return cls(names, starts, query, relevance[order].astype(float), np.cumsum(new) - 1)

    @cached_property
    def sizes(self) -> Ints:
        """Rows of each query."""
        return np.diff(self.starts, append=len(self.query))

    @cached_property
    def rank(self) -> Floats:
        """The rank of each row within its query from 1, ties in any order."""
        return (np.arange(len(self.query)) - self.starts[self.query] + 1).astype(float)

    @cached_property
    def relevant(self) -> Floats:
        """The relevant rows of each query."""
        return self.per_query((self.relevance > 0).astype(float))

    def per_query(self, values: Floats) -> Floats:
        """The sum of rows' values over each query."""
        total: Floats = np.bincount(self.query, values, len(self.queries)).astype(float)
        return total

    def over_ties(self, values: Floats) -> Floats:
        """The mean of rows' values over each run of equal scores, for each of its rows."""
        return (np.bincount(self.tied, values) / np.bincount(self.tied))[self.tied]


@dataclass(frozen=True)
class PerQuery:
    """A metric's values in [0, 1], of the queries that have one; `without` have none."""

    queries: NDArray[Any]
    values: Floats
    without: int


def ndcg(ranking: Ranking, k: int | None = None) -> PerQuery:
    """Normalised discounted cumulative gain of the first `k` rows (Järvelin and Kekäläinen 2002), linear in relevance.

    scikit-learn's `ndcg_score`, save that queries without a relevant row have none here, and 0 there.

    >>> found = ndcg(Ranking.of(np.zeros(3), np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0])))
    >>> found.values.round(4).tolist()
    [0.6199]
    """
    discount = _discount(ranking, k)
    gained = ranking.per_query(ranking.over_ties(ranking.relevance) * discount)
    best = np.lexsort((-ranking.relevance, ranking.query))
    ideal = ranking.per_query(ranking.relevance[best] * discount)
    return _of(ranking, gained / np.where(ideal > 0, ideal, 1.0), ranking.relevant > 0)


def average_precision(ranking: Ranking, k: int | None = None) -> PerQuery:
    """Mean, over the relevant rows, of the precision at their rank; those below `k` count as 0. With `k` the mean is
    over as many relevant rows as could be among the first `k`. Queries without a relevant row have none.

    Its mean over queries is MAP.
    """
    hit = (ranking.relevance > 0).astype(float)
    rows, hits = (np.bincount(ranking.tied, part)[ranking.tied] for part in (np.ones(len(hit)), hit))
    first = np.flatnonzero(np.diff(ranking.tied, prepend=-1))
    above = (np.cumsum(hit) - hit)[first][ranking.tied] - (np.cumsum(hit) - hit)[ranking.starts][ranking.query]
    within = (np.arange(len(hit)) - first[ranking.tied]).astype(float)
    expected = above + 1 + within * (hits - 1) / np.maximum(rows - 1, 1)
    gained = np.where(_among(ranking, k), hits / rows * expected / ranking.rank, 0.0)
    possible = ranking.relevant if k is None else np.minimum(ranking.relevant, k)
    return _of(ranking, ranking.per_query(gained) / np.maximum(possible, 1), ranking.relevant > 0)


def reciprocal_rank(ranking: Ranking, k: int | None = None) -> PerQuery:
    """One over the rank of the first relevant row; 0 where none is among the first `k`. Its mean is MRR."""
    chance, rank = _first_relevant(ranking)
    gained = np.where(_among(ranking, k), chance / rank, 0.0)
    return _of(ranking, ranking.per_query(gained))


def hit_rate(ranking: Ranking, k: int) -> PerQuery:
    """Whether some relevant row is among the first `k`; between ties the chance that one is."""
    chance, _ = _first_relevant(ranking)
    return _of(ranking, np.minimum(ranking.per_query(np.where(_among(ranking, k), chance, 0.0)), 1.0))


def precision(ranking: Ranking, k: int) -> PerQuery:
    """Relevant rows among the first `k`, over `k`, also where the query has fewer rows."""
    return _of(ranking, _found(ranking, k) / k)


def recall(ranking: Ranking, k: int) -> PerQuery:
    """The share of a query's relevant rows that is among the first `k`; queries without a relevant row have none."""
    return _of(ranking, _found(ranking, k) / np.maximum(ranking.relevant, 1), ranking.relevant > 0)


def click_through_rate(ranking: Ranking, k: int, alpha: float) -> Estimate:
    """Clicks on the first `k` rows of all queries over how many rows that were, relevance being 1 where clicked.

    See `ratio_of_sums`.
    """
    return ratio_of_sums(_found(ranking, k), np.minimum(ranking.sizes, k).astype(float), alpha)


def ratio_of_sums(hits: Floats, rows: Floats, alpha: float) -> Estimate:
    """The share of rows that are hits, where rows of one query go together.

    The delta method's interval, on the logit scale, with queries as units. Where fewer than `FEW` queries have a hit,
    or a row that is none, it follows from `bounded_mean` of hits a query.

    Args:
        hits, rows: of each query, shape (queries,).
    """
    n = len(rows)
    if not n:
        return Estimate.absent(0)
    value = float(hits.sum() / rows.sum())
    if min((hits > 0).sum(), (hits < rows).sum()) < FEW:
        most, mean = float(rows.max()), float(rows.mean())
        ends = (end * most / mean for end in bounded_mean(min(value * mean / most, 1.0), n, alpha))
        low, high = (min(end, 1.0) for end in ends)
        return Estimate(value, min(low, value), max(high, value), n)
    error = float(((hits - value * rows) ** 2).sum() * n / (n - 1)) ** 0.5 / float(rows.sum())
    return Estimate(value, *on_logit_scale(value, error, n - 1, alpha), n)


def mean(found: PerQuery, alpha: float) -> Estimate:
    """The mean over the queries that have a value, with an interval; the detail says how many have none.

    Exact (Clopper and Pearson 1934) where every value is 0 or 1. Else `estimates.mean_of_counts`, and with fewer than
    `FEW` queries' worth of hits or of misses the bound that holds for any values in [0, 1], `bounded_mean`.

    >>> some = Ranking.of(np.repeat([1, 2], 2), np.array([2.0, 1.0, 2.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0]))
    >>> mean(reciprocal_rank(some), 0.025).value
    0.75
    """
    n = len(found.values)
    detail: dict[str, Any] = {"queries without a value": found.without} if found.without else {}
    if not n:
        return Estimate.absent(0)
    value = float(found.values.mean())
    if ((found.values == 0) | (found.values == 1)).all():
        return proportion(int(found.values.sum()), n, alpha).about(**detail)
    if n * min(value, 1 - value) < FEW:
        return Estimate(value, *bounded_mean(value, n, alpha), n, None, detail)
    whole = mean_of_counts(found.values, np.ones(n), alpha)
    low, high = whole.low, whole.high
    return Estimate(
        value, None if low is None else max(low, 0.0), None if high is None else min(high, 1.0), n, None, detail
    )


def _of(ranking: Ranking, values: Floats, has: Bools | None = None) -> PerQuery:
    if has is None:
        return PerQuery(ranking.queries, values, 0)
    return PerQuery(ranking.queries[has], values[has], int((~has).sum()))


def _among(ranking: Ranking, k: int | None) -> Bools:
    """Which rows are among the first `k` of their query."""
    if k is not None and k < 1:
        raise ValueError(f"k is how many of the first rows count, 1 or more; found {k}")
    return np.ones(len(ranking.rank), dtype=bool) if k is None else ranking.rank <= k


def _discount(ranking: Ranking, k: int | None) -> Floats:
    return np.where(_among(ranking, k), 1 / np.log2(ranking.rank + 1), 0.0)


def _found(ranking: Ranking, k: int) -> Floats:
    """The relevant rows among the first `k` of each query, ties in their mean."""
    hit = (ranking.relevance > 0).astype(float)
    return ranking.per_query(np.where(_among(ranking, k), ranking.over_ties(hit), 0.0))


def _first_relevant(ranking: Ranking) -> tuple[Floats, Floats]:
    """Of each row the chance that it holds the first relevant row of its query, over the orders of ties, and its rank.

    In a run of `t` rows, `r` of them relevant, the first relevant one is the `j`-th with chance
    `C(t - j, r - 1) / C(t, r)`.
    """
    hit = (ranking.relevance > 0).astype(float)
    first = np.flatnonzero(np.diff(ranking.tied, prepend=-1))
    rows, hits = (np.bincount(ranking.tied, part).astype(float) for part in (np.ones(len(hit)), hit))
    before = np.cumsum(hit) - hit
    none_above = before[first] == before[ranking.starts][ranking.query[first]]
    at = np.flatnonzero((none_above & (hits > 0))[ranking.tied])
    run = ranking.tied[at]
    j = at - first[run] + 1.0
    t, r = rows[run], hits[run]
    possible = t - j >= r - 1
    left = np.where(possible, t - j, r - 1)
    chance = np.zeros(len(hit))
    chance[at] = np.where(possible, np.exp(_choose(left, r - 1) - _choose(t, r)), 0.0)
    return chance, ranking.rank


def _choose(of: Floats, some: Floats) -> Floats:
    """The logarithm of the binomial coefficient."""
    out: Floats = gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1)
    return out
