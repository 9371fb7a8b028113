"""Gaps between groups: how far apart the extreme ones lie, with intervals that know that they were chosen.

The gap is that between the greatest and the least of the groups' true values, whichever groups they are of. Its
interval has error `alpha` on each side for any number of groups:

- it is at least the difference of any two groups. So its low end is the greatest low end of all ordered pairs, each
  with error `alpha / (groups * (groups - 1))` (Bonferroni);
- it is the difference of one pair, though we do not know of which. So its high end is the greatest high end of all
  pairs, each with error `alpha`: that of the right pair holds, and no other makes it smaller (Berger 1982,
  intersection-union).

The value itself is the observed gap, which chance alone makes greater the more groups there are and the smaller they
are: limits are for the low end. Two shares are compared by recovering variances from their exact intervals (MOVER; Zou
and Donner 2008), of ratios by their logarithms; where one of the two has fewer than `FEW` rows of either kind, by the
ends of the two exact intervals, among which the error is divided.

Groups of fewer than `LEAST` rows are left out and named in the detail, and with fewer than two groups there is no gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import Estimate, proportions
from watchkeeper.stats.grid import Floats

LEAST = 30
"""Rows of a group from which it is compared: with fewer, it could always be an extreme one."""

FEW = 10
"""Counted or other rows of a group from which variances are recovered. Of all pairs of 40 to 300 rows with 3 % to 95 %
the end that a limit is held against then misses no more often than it says at error 0.001, by enumeration."""

TRUE_POSITIVE, FALSE_POSITIVE = "true positive rate", "false positive rate"

Groups = Mapping[str, Confusion]
Shares = Mapping[str, tuple[float, float]]
"""Of each group, by name, how many rows are counted, and of how many."""


def demographic_parity(groups: Groups, alpha: float, least: int = LEAST) -> Estimate:
    """The greatest difference between groups in the share predicted positive (Dwork et al. 2012)."""
    return difference_of_shares(selection(groups), alpha, least)


def four_fifths(groups: Groups, alpha: float, least: int = LEAST) -> Estimate:
    """The least share predicted positive over the greatest; below 0.8 the US guidelines of 1978 see adverse impact.

    Also called the demographic parity ratio, or disparate impact.
    """
    return ratio_of_shares(selection(groups), alpha, least)


def equal_opportunity(groups: Groups, alpha: float, least: int = LEAST) -> Estimate:
    """The greatest difference between groups in the true positive rate (Hardt, Price and Srebro 2016)."""
    return difference_of_shares(true_positive_rates(groups), alpha, least)


def equalised_odds(groups: Groups, alpha: float, least: int = LEAST) -> Estimate:
    """The greatest difference between groups in the true or the false positive rate (Hardt, Price and Srebro 2016)."""
    return odds(true_positive_rates(groups), false_positive_rates(groups), alpha, least)


def predictive_parity(groups: Groups, alpha: float, least: int = LEAST) -> Estimate:
    """The greatest difference between groups in precision (Chouldechova 2017)."""
    return difference_of_shares(precisions(groups), alpha, least)


def selection(groups: Groups) -> Shares:
    return {name: (counts.predicted, counts.n) for name, counts in groups.items()}


def true_positive_rates(groups: Groups) -> Shares:
    return {name: (counts.true_positives, counts.positives) for name, counts in groups.items()}


def false_positive_rates(groups: Groups) -> Shares:
    return {name: (counts.false_positives, counts.negatives) for name, counts in groups.items()}


def precisions(groups: Groups) -> Shares:
    return {name: (counts.true_positives, counts.predicted) for name, counts in groups.items()}


def odds(true_positive: Shares, false_positive: Shares, alpha: float, least: int = LEAST) -> Estimate:
    """The greater of two gaps; the detail's `rate` says which. Absent unless both exist.

    Its low end is the greater one, among which the error is divided; its high end needs no correction.
    """
    both = {TRUE_POSITIVE: true_positive, FALSE_POSITIVE: false_positive}
    lows = {rate: difference_of_shares(shares, alpha / 2, least) for rate, shares in both.items()}
    gaps = {rate: gap.value for rate, gap in lows.items() if gap.value is not None}
    rows = int(sum(of for _, of in (*true_positive.values(), *false_positive.values())))
    if len(gaps) < len(both):
        missing = next(gap for rate, gap in lows.items() if rate not in gaps)
        return replace(missing, n=rows)
    wider = max(gaps, key=lambda rate: gaps[rate])
    low = max(gap.low or 0.0 for gap in lows.values())
    high = max(difference_of_shares(shares, alpha, least).high or 0.0 for shares in both.values())
    return Estimate(gaps[wider], low, max(high, gaps[wider]), rows, detail={"rate": wider, **lows[wider].detail})


def difference_of_shares(shares: Shares, alpha: float, least: int = LEAST) -> Estimate:
    """The greatest difference between the groups' shares.

    >>> found = difference_of_shares({"a": (300, 1000), "b": (200, 1000), "c": (3, 10)}, 0.025)
    >>> round(found.low, 3), round(found.value, 3), round(found.high, 3)
    (0.056, 0.1, 0.138)
    >>> found.detail["left out"]
    {'c': '10 rows, fewer than 30'}
    """
    compared = _compare(shares, least)
    return compared.difference(alpha) if len(compared.values) > 1 else compared.absent()


def ratio_of_shares(shares: Shares, alpha: float, least: int = LEAST) -> Estimate:
    """The least of the groups' shares over the greatest, from 0 to 1; absent where all are zero.

    >>> found = ratio_of_shares({"a": (300, 1000), "b": (200, 1000)}, 0.025)
    >>> round(found.low, 3), round(found.value, 3), round(found.high, 3)
    (0.568, 0.667, 0.798)
    """
    compared = _compare(shares, least)
    if len(compared.values) < 2 or not compared.values.any():
        return compared.absent()
    return compared.ratio(alpha)


def difference_of(measures: Mapping[str, Callable[[float], Estimate]], alpha: float, least: int = LEAST) -> Estimate:
    """The greatest difference between the groups' values of any measure, such as the mean error or the mean absolute
    error.

    Args:
        measures: of each group, by name, its estimate with error `alpha` on each side. The groups share no rows.

    Groups whose estimate has no value or no interval are left out as well.

    >>> from functools import partial
    >>> from watchkeeper.stats.estimates import mean
    >>> found = difference_of({"a": partial(mean, 50, 500, 100), "b": partial(mean, 250, 900, 100)}, 0.025)
    >>> round(found.low, 2), found.value, round(found.high, 2)
    (1.37, 2.0, 2.55)
    """
    first = {name: measure(alpha) for name, measure in measures.items()}
    left_out = {
        name: _too_few(found.n, least) if found.n < least else "no value"
        for name, found in first.items()
        if found.n < least or found.value is None or found.low is None or found.high is None
    }
    kept = [name for name in measures if name not in left_out]

    def ends(error: float) -> tuple[Floats, Floats]:
        found = [measures[name](error) for name in kept]
        return tuple(np.array([getattr(one, end) for one in found], dtype=float) for end in ("low", "high"))  # type: ignore[return-value]

    values = np.array([first[name].value for name in kept], dtype=float)
    rows = sum(found.n for found in first.values())
    compared = _Compared(kept, values, rows, np.zeros(len(kept), dtype=bool), ends, left_out)
    return compared.difference(alpha) if len(kept) > 1 else compared.absent()


@dataclass(frozen=True, slots=True)
class _Compared:
    """The groups that are compared: names, values, which of them rest on few rows, and their intervals by error."""

    names: list[str]
    values: Floats
    rows: int
    few: NDArray[np.bool_]
    ends: Callable[[float], tuple[Floats, Floats]]
    left_out: dict[str, str]

    def difference(self, alpha: float) -> Estimate:
        """The greatest difference: see the module."""
        values, pairs = self.values, self._pairs
        apart = values[:, None] - values

        def reach(error: float, below: bool) -> Floats:
            low, high = self.ends(error)
            one, two = (values - low, high - values) if below else (high - values, values - low)
            return np.hypot(one[:, None], two)

        def box(error: float, below: bool) -> Floats:
            low, high = self.ends(error / 2)
            return low[:, None] - high if below else high[:, None] - low

        single = alpha / int(pairs.sum())
        lows = np.where(self._few, box(single, True), apart - reach(single, True))[pairs]
        highs = np.where(self._few, box(alpha, False), apart + reach(alpha, False))[pairs]
        value = float(np.ptp(values))
        return Estimate(value, max(float(lows.max()), 0.0), max(float(highs.max()), value), self.rows, None, self.about)

    def ratio(self, alpha: float) -> Estimate:
        """The least over the greatest, whose low end needs no correction and whose high end does."""
        values, pairs = self.values, self._pairs
        single = alpha / int(pairs.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = values[:, None] / values

            def reach(error: float, below: bool) -> Floats:
                low, high = self.ends(error)
                one, two = (values / low, high / values) if below else (high / values, values / low)
                return np.exp(np.hypot(np.log(one)[:, None], np.log(two)))

            def box(error: float, below: bool) -> Floats:
                low, high = self.ends(error / 2)
                return low[:, None] / high if below else high[:, None] / low

            lows = np.where(self._few, box(alpha, True), quotient / reach(alpha, True))
            highs = np.where(self._few, box(single, False), quotient * reach(single, False))
        value = float(values.min() / values.max())
        low, high = float(np.nanmin(lows[pairs])), float(np.nanmin(highs[pairs]))
        return Estimate(value, min(low, value), min(max(high, value), 1.0), self.rows, None, self.about)

    def absent(self) -> Estimate:
        return Estimate.absent(self.rows).about(**{"groups": len(self.names), "left out": self.left_out})

    @property
    def about(self) -> dict[str, Any]:
        """Which groups are the extreme ones, how many were compared, and which were not and why."""
        return {
            "highest": self.names[int(self.values.argmax())],
            "lowest": self.names[int(self.values.argmin())],
            "groups": len(self.names),
            "left out": self.left_out,
        }

    @property
    def _pairs(self) -> NDArray[np.bool_]:
        return ~np.eye(len(self.names), dtype=bool)

    @property
    def _few(self) -> NDArray[np.bool_]:
        return self.few[:, None] | self.few


def _compare(shares: Shares, least: int) -> _Compared:
    left_out = {name: _too_few(of, least) for name, (_, of) in shares.items() if of < max(least, 1)}
    kept = [name for name in shares if name not in left_out]
    hits = np.array([shares[name][0] for name in kept], dtype=float)
    rows = np.array([shares[name][1] for name in kept], dtype=float)
    few = np.minimum(hits, rows - hits) < FEW
    every = int(sum(of for _, of in shares.values()))
    return _Compared(kept, hits / rows, every, few, lambda error: proportions(hits, rows, error), left_out)


def _too_few(rows: float, least: int) -> str:
    return f"{rows:g} row{'' if rows == 1 else 's'}, fewer than {max(least, 1)}"
