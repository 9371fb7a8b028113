"""Rows that repeat others: how often, and how often chance alone would repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from scipy.special import betaincinv

from watchkeeper.stats.estimates import Estimate, difference, proportion, rate

SPREAD = 1.4
"""The variance of the number of repeats over its mean, at most, where values repeat by chance: of a Poisson number of
copies N, `Var max(N - 1, 0) / E max(N - 1, 0)` is at most 1.36."""


@dataclass(frozen=True)
class Copies:
    """How often values occur: `times[k]` of them k times. `part` is the share of the values that were looked at."""

    times: Mapping[int, int]
    part: float = 1.0

    @cached_property
    def seen(self) -> int:
        """Rows that were looked at."""
        return sum(k * values for k, values in self.times.items())

    @cached_property
    def repeats(self) -> int:
        """Rows looked at whose value an earlier row has."""
        return self.seen - sum(self.times.values())

    @property
    def rows(self) -> float:
        """Rows in all, near enough."""
        return self.seen / self.part


def repeats(now: Copies, alpha: float) -> Estimate:
    """The share of rows that repeat an earlier one. The interval is the exact one of a share, of 1.4 times fewer rows:
    repeats come in bunches.

    >>> repeats(Copies({1: 6, 2: 2}), 0.025).value
    0.2
    """
    if not now.repeats:
        return proportion(0, now.seen, alpha)
    hits, misses = now.repeats / SPREAD, (now.seen - now.repeats) / SPREAD
    low, high = betaincinv(hits, misses + 1, alpha), betaincinv(hits + 1, misses, 1 - alpha)
    return Estimate(now.repeats / now.seen, float(low), float(high), now.seen)


def more_repeats(now: Copies, before: Copies, alpha: float) -> Estimate:
    """By how much the share of rows that repeat an earlier one exceeds what the baseline explains.

    The more rows, the more of them repeat others by chance. With at most as many rows as the baseline has, its own
    share is therefore an upper bound of what is normal. With n rows, more than it has, repeats by chance are at most
    as many as pairs of equal rows: a share of `c (n - 1) / 2`, where c is the share of equal ones among the
    baseline's pairs, whose upper end is that of a Poisson number of repeated values (Garwood 1936). The larger of the
    two is taken.
    """
    current, baseline = repeats(now, alpha), repeats(before, alpha)
    if now.rows > before.rows and baseline.value is not None and baseline.high is not None:
        pairs = sum(values * k * (k - 1) / 2 for k, values in before.times.items()) / before.part
        several = sum(values for k, values in before.times.items() if k > 1)
        most = rate(several, 1.0, alpha).high or 0.0
        certain = pairs * most / several if several else most / before.part
        chance = (now.rows - 1) / max(before.rows * (before.rows - 1), 1.0)
        value, high = min(pairs * chance, 1.0), min(certain * chance, 1.0)
        value, high = max(value, baseline.value), max(high, baseline.high)
        baseline = Estimate(value, baseline.low, high, baseline.n)
    return difference(current, baseline)
