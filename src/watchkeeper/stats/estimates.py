"""An estimate and its interval; intervals for proportions, quantiles, counts and differences.

All intervals are two-sided with error `alpha` on *each* side, since a limit is breached on one side only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import betaincinv, gammaincinv, ndtri

from watchkeeper.stats.grid import Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, the interval that holds the truth, and the number of rows behind it.

    `value` is None where the quantity does not exist for the data at hand; it is never NaN.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_baseline: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def absent(cls, n: int, n_baseline: int | None = None) -> Estimate:
        return cls(None, None, None, n, n_baseline)

    def about(self, **detail: Any) -> Estimate:
        """The same estimate with more detail."""
        return replace(self, detail={**self.detail, **detail})


def proportion(hits: int, n: int, alpha: float) -> Estimate:
    """A share with its exact interval (Clopper and Pearson 1934).

    Args:
        hits: successes, 0 to n.
        n: trials.
        alpha: error on each side.

    >>> e = proportion(3, 100, 0.025)
    >>> round(e.low, 4), round(e.high, 4)
    (0.0062, 0.0852)
    """
    if n == 0:
        return Estimate.absent(0)
    low = float(betaincinv(hits, n - hits + 1, alpha)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - alpha)) if hits < n else 1.0
    return Estimate(hits / n, low, high, n)


def rate(events: int, exposure: float, alpha: float) -> Estimate:
    """Events per unit of exposure with the exact Poisson interval (Garwood 1936).

    >>> e = rate(10, 1.0, 0.025)
    >>> round(e.low, 3), round(e.high, 3)
    (4.795, 18.39)
    """
    low = float(gammaincinv(events, alpha)) / exposure if events else 0.0
    return Estimate(events / exposure, low, float(gammaincinv(events + 1, 1 - alpha)) / exposure, events)


def mean(total: float, squares: float, n: int, alpha: float) -> Estimate:
    """A mean from the sum and the sum of squares, with the normal interval."""
    if n == 0:
        return Estimate.absent(0)
    value = total / n
    variance = max(squares / n - value * value, 0.0) * n / max(n - 1, 1)
    half = -float(ndtri(alpha)) * (variance / n) ** 0.5
    return Estimate(value, value - half, value + half, n)


def quantile(q: float, lower: Floats, upper: Floats, counts: Floats, alpha: float) -> Estimate:
    """A quantile from ordered bins, with the interval of order statistics (Conover 1999, section 3.2).

    Args:
        q: between 0 and 1.
        lower, upper: each bin's ends, ascending, shape (bins,).
        counts: rows per bin, shape (bins,).

    Within a bin values are taken as evenly spread; the value is off by at most the bin's width.
    """
    n = int(counts.sum())
    if n == 0:
        return Estimate.absent(0)
    half = -float(ndtri(alpha)) * (n * q * (1 - q)) ** 0.5
    ranks = np.array([q * n, q * n - half, q * n + half])
    cumulative = np.cumsum(counts)
    at = np.minimum(np.searchsorted(cumulative, np.clip(ranks, 0, n)), len(counts) - 1)
    before = cumulative[at] - counts[at]
    share = np.clip((ranks - before) / np.maximum(counts[at], 1), 0, 1)
    value, low, high = lower[at] + share * (upper[at] - lower[at])
    return Estimate(float(value), float(low), float(high), n)


def difference(current: Estimate, baseline: Estimate) -> Estimate:
    """Current minus baseline, by recovering variances from the two intervals (MOVER; Zou and Donner 2008).

    With Wilson intervals of proportions this is Newcombe's method 10; here the parts may be any estimates.
    """
    parts = _parts(current, baseline)
    if parts is None:
        return Estimate.absent(current.n, baseline.n)
    a, a_low, a_high, b, b_low, b_high = parts
    value = a - b
    low = value - ((a - a_low) ** 2 + (b_high - b) ** 2) ** 0.5
    high = value + ((a_high - a) ** 2 + (b - b_low) ** 2) ** 0.5
    return Estimate(value, low, high, current.n, baseline.n, {"current": a, "baseline": b})


def ratio(current: Estimate, baseline: Estimate) -> Estimate:
    """Current over baseline, for positive quantities: the difference of logarithms by MOVER.

    Absent where the baseline's interval reaches zero. A current value of zero gives a ratio of zero, with the
    upper end from the current upper end over the baseline's value.
    """
    parts = _parts(current, baseline)
    if parts is None or parts[4] <= 0:
        return Estimate.absent(current.n, baseline.n)
    a, a_low, a_high, b, b_low, b_high = parts
    detail = {"current": a, "baseline": b}
    if a <= 0 or a_low <= 0:
        return Estimate(a / b, 0.0, max(a_high, 0.0) / b_low, current.n, baseline.n, detail)
    down = (np.log(a / a_low) ** 2 + np.log(b_high / b) ** 2) ** 0.5
    up = (np.log(a_high / a) ** 2 + np.log(b / b_low) ** 2) ** 0.5
    value = a / b
    return Estimate(value, float(value * np.exp(-down)), float(value * np.exp(up)), current.n, baseline.n, detail)


def _parts(current: Estimate, baseline: Estimate) -> tuple[float, float, float, float, float, float] | None:
    if current.value is None or current.low is None or current.high is None:
        return None
    if baseline.value is None or baseline.low is None or baseline.high is None:
        return None
    return current.value, current.low, current.high, baseline.value, baseline.low, baseline.high
