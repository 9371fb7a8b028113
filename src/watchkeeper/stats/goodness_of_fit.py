"""The Cramer-von Mises and Anderson-Darling distances: squared gaps between two distribution functions, integrated.

Counts are over ascending bins, current first. A bin's rows are taken as tied: each function has there the middle
of its step. The gaps are weighed by the distribution of both sides together, each side weighing the same, so that a
distance means the same at all sizes; the tests' statistics in the detail weigh every row the same.

As every distribution function in between is a mean of its bin, tied rows only lessen a distance's noise: the
intervals, made for continuous columns, are conservative for discrete ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial.chebyshev import chebgauss

from watchkeeper.stats.distances import shares
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats

LARGEST_CRAMER_VON_MISES = 1 / 3
LARGEST_ANDERSON_DARLING = float(8 * np.log(2) - 4)
"""What the distances reach where all of one side lies below all of the other."""


def cramer_von_mises(current: Floats, baseline: Floats) -> float:
    """Cramer-von Mises distance: the mean of `(F - G)^2` over the rows of both sides, 0 to 1/3 (Anderson 1962).

    >>> round(cramer_von_mises(np.array([1.0, 1.0]), np.array([1.0, 0.0])), 4)
    0.0625
    """
    steps = _steps(current, baseline)
    return float((steps.mass(0.5) * steps.gap**2).sum())


def anderson_darling(current: Floats, baseline: Floats) -> float:
    """Anderson-Darling distance: the mean of `(F - G)^2 / (H (1 - H))` over the rows of both sides, H being their
    distribution function, 0 to 1.545 (Pettitt 1976). It sees the tails that Cramer-von Mises passes over.

    >>> round(anderson_darling(np.array([1.0, 1.0]), np.array([1.0, 0.0])), 4)
    0.3429
    """
    steps = _steps(current, baseline)
    return float((steps.mass(0.5) * steps.gap**2 / steps.spread(0.5)).sum())


def cramer_von_mises_estimate(current: Floats, baseline: Floats, alpha: float) -> Estimate:
    """Cramer-von Mises distance with an interval.

    Its root is a norm of the gap between the functions, so by the triangle inequality it is off by at most the norm of
    the error, which has the test's limit distribution (Anderson and Darling 1952) times `1/n + 1/m`; more where the
    sides differ and the rows lie where their functions are noisiest. On equal distributions the distance averages
    `(1/n + 1/m) / 6`, less with ties, given as `noise` in the detail; there too are the test's `statistic` and its
    `p_value`, conservative with ties.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    steps, error, rows = _steps(current, baseline), 1 / n + 1 / m, n + m
    gaps, mass = steps.gap**2, steps.mass(n / rows)
    value = cramer_von_mises(current, baseline)
    noise = float((mass * (steps.spread(n / rows) - mass / 4)).sum()) * error
    excess = 6 * float((steps.mass(0.5) * steps.variance(n, m)).sum()) / error
    low, high = _within(value, cramer_von_mises_quantile(alpha) * error * max(excess, 1.0))
    # without ties the sum over the ends of the steps is that over their middles and this
    statistic = float((mass * gaps).sum()) / error + 1 / (4 * rows)
    return Estimate(
        value, low, max(min(high, LARGEST_CRAMER_VON_MISES), value), n, m,
        {"noise": noise, "statistic": statistic, "p_value": cramer_von_mises_tail(_standardised(statistic, n, m))},
    )  # fmt: skip


def anderson_darling_estimate(current: Floats, baseline: Floats, alpha: float) -> Estimate:
    """Anderson-Darling distance with an interval, see `cramer_von_mises_estimate`.

    On equal distributions the distance averages `1/n + 1/m`, less with ties. The detail holds the test's `statistic`
    with the middles of ties (Scholz and Stephens 1987, equation 7) and a `p_value` that is conservative with ties.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    steps, error, rows = _steps(current, baseline), 1 / n + 1 / m, n + m
    gaps, mass, spread = steps.gap**2, steps.mass(n / rows), steps.spread(n / rows)
    weight = steps.mass(0.5) / steps.spread(0.5)
    value = anderson_darling(current, baseline)
    tied = spread - mass / 4
    noise = float((mass * tied / spread).sum()) * error
    excess = float((weight * steps.variance(n, m)).sum()) / error
    low, high = _within(value, anderson_darling_quantile(alpha) * error * max(excess, 1.0))
    standing = tied > 0  # none where all rows are in one bin
    statistic = float((mass * gaps)[standing] @ (1 / tied[standing])) * (rows - 1) / rows / error
    return Estimate(
        value, low, max(min(high, LARGEST_ANDERSON_DARLING), value), n, m,
        {
            "noise": noise,
            "statistic": statistic,
            "p_value": anderson_darling_tail(float((mass * gaps / spread).sum()) / error),
        },
    )  # fmt: skip


def cramer_von_mises_tail(x: float) -> float:
    """The chance that `sum Z_k^2 / (pi k)^2` exceeds x, the limit of the test's statistic (Smirnov 1936).

    >>> round(cramer_von_mises_tail(0.46136), 4)
    0.05
    """
    return _tail(x, lambda k: (np.pi * k) ** 2, lambda y: -np.sin(np.sqrt(y)) / np.sqrt(y))


def anderson_darling_tail(x: float) -> float:
    """The chance that `sum Z_k^2 / (k (k + 1))` exceeds x, the limit of the test's statistic (Anderson and Darling
    1952).

    >>> round(anderson_darling_tail(2.492), 4)
    0.05
    """
    return _tail(x, lambda k: k * (k + 1), lambda y: np.cos(np.pi / 2 * np.sqrt(1 + 4 * y)) / (np.pi * y))


@lru_cache(maxsize=256)
def cramer_von_mises_quantile(alpha: float) -> float:
    """What the test's statistic exceeds with probability alpha, in the limit."""
    return _quantile(cramer_von_mises_tail, alpha)


@lru_cache(maxsize=256)
def anderson_darling_quantile(alpha: float) -> float:
    """What the test's statistic exceeds with probability alpha, in the limit."""
    return _quantile(anderson_darling_tail, alpha)


class _Steps(NamedTuple):
    """Two distribution functions in the middle of each of their common steps, per bin that holds rows.

    `p`, `q` are the bins' shares, `f`, `g` the functions and `not_f`, `not_g` what lies above; a `weight` is the
    current side's in a mixture of both.
    """

    p: Floats
    q: Floats
    f: Floats
    g: Floats
    not_f: Floats
    not_g: Floats

    @property
    def gap(self) -> Floats:
        return self.f - self.g

    def mass(self, weight: float) -> Floats:
        """The mixture's share of each bin."""
        return weight * self.p + (1 - weight) * self.q

    def spread(self, weight: float) -> Floats:
        """`H (1 - H)` for the mixture H."""
        return (weight * self.f + (1 - weight) * self.g) * (weight * self.not_f + (1 - weight) * self.not_g)

    def variance(self, n: int, m: int) -> Floats:
        """The variance of the gap, by each side's own counts of n and m rows."""
        return (
            np.maximum(self.f * self.not_f - self.p / 4, 0.0) / n
            + np.maximum(self.g * self.not_g - self.q / 4, 0.0) / m
        )


def _steps(current: Floats, baseline: Floats) -> _Steps:
    held = current + baseline > 0
    p, q = shares(current[held]), shares(baseline[held])
    return _Steps(p, q, _up_to(p), _up_to(q), _up_to(p[::-1])[::-1], _up_to(q[::-1])[::-1])


def _up_to(mass: Floats) -> Floats:
    out: Floats = np.cumsum(mass) - mass / 2
    return out


def _within(value: float, error: float) -> tuple[float, float]:
    """The ends of a squared norm whose root is off by at most the root of `error`."""
    root, half = value**0.5, error**0.5
    return max(root - half, 0.0) ** 2, (root + half) ** 2


def _standardised(statistic: float, n: int, m: int) -> float:
    """The statistic of few rows with the mean and variance of the limit (Anderson 1962)."""
    rows, pairs = n + m, n * m
    mean = (1 + 1 / rows) / 6
    variance = (rows + 1) * (4 * pairs * rows - 3 * (n**2 + m**2) - 2 * pairs) / (45 * rows**2 * 4 * pairs)
    return float(1 / 6 + (statistic - mean) / (45 * variance) ** 0.5) if variance > 0 else statistic


def _tail(x: float, reciprocal: Callable[[Floats], Floats], negated: Callable[[Floats], Floats]) -> float:
    """The chance that a sum of squared normals with falling weights exceeds x, by Smirnov's formula.

    `reciprocal(k)` is one over the k-th weight, and `negated(y)` minus the product of `1 - y * weight`. The formula is
    an alternating sum of integrals between every other pair of reciprocals, with inverse roots at both ends, for which
    Gauss and Chebyshev's rule is made.
    """
    if x <= 0:
        return 1.0
    nodes, _ = chebgauss(40)
    odd = np.arange(1.0, 40.0, 2)[:, None]
    left, right = reciprocal(odd), reciprocal(odd + 1)
    y = (left + right) / 2 + (right - left) / 2 * nodes
    sign = np.where(odd % 4 == 1, 1, -1)
    terms = sign * np.exp(-x * y / 2) / y * np.sqrt((y - left) * (right - y) / np.abs(negated(y)))
    return float(np.clip(terms.sum() / len(nodes), 0.0, 1.0))


def _quantile(tail: Callable[[float], float], alpha: float) -> float:
    low, high = 0.02, 1.0
    while tail(high) > alpha:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > alpha else (low, middle)
    return high
