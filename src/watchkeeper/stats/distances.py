"""Distances between two distributions given as counts, each with an interval for the true distance.

Every plain distance is a function of two count vectors over the same cells, current first. The intervals
take both samples' noise into account: on equal distributions the lower end is 0 but for a share `alpha` of
the time. `alpha` is the error on each side. Rows are taken as independent. `noise` in an estimate's detail is
what the plain distance averages on equal distributions at these sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtr, chdtrc, chndtrinc, erf, gammaln, kolmogi, ndtri, rel_entr

from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Ints

LEAST = 5.0
"""Rows that a cell must be expected to have on the smaller side (Cochran 1954)."""
HALF_ROW = 0.5
"""What an empty cell counts as, where a logarithm needs it above zero."""


def shares(counts: Floats) -> Floats:
    out: Floats = counts / counts.sum()
    return out


def ks(current: Floats, baseline: Floats) -> float:
    """Kolmogorov-Smirnov: the largest distance between the two distribution functions, 0 to 1.

    >>> ks(np.array([0.0, 10.0]), np.array([5.0, 5.0]))
    0.5
    """
    return float(np.abs(np.cumsum(shares(current) - shares(baseline))).max())


def psi(current: Floats, baseline: Floats) -> float:
    """Population stability index, the symmetric Kullback-Leibler divergence in nats: `sum (p - q) ln(p / q)`.

    A cell that is empty on one side counts as half a row there.

    >>> round(psi(np.array([60.0, 40.0]), np.array([50.0, 50.0])), 5)
    0.04055
    """
    p, q = shares(_filled(current)), shares(_filled(baseline))
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(current: Floats, baseline: Floats) -> float:
    """Jensen-Shannon distance: the root of the divergence in bits, 0 to 1 (Lin 1991; Endres and Schindelin 2003)."""
    p, q = shares(current), shares(baseline)
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(p > 0, p * np.log2(p / m), 0.0) + np.where(q > 0, q * np.log2(q / m), 0.0)
    return float(max(kl.sum() / 2, 0.0) ** 0.5)


def hellinger(current: Floats, baseline: Floats) -> float:
    """Hellinger distance, `sqrt(sum (sqrt p - sqrt q)^2 / 2)`, 0 to 1.

    >>> hellinger(np.array([10.0, 0.0]), np.array([0.0, 5.0]))
    1.0
    """
    return float((((shares(current) ** 0.5 - shares(baseline) ** 0.5) ** 2).sum() / 2) ** 0.5)


def cramers_v(current: Floats, baseline: Floats) -> float:
    """Cramer's V of the table with one row a side and one column a cell (Cramer 1946), both sides weighing the same.

    `sqrt(sum (p - q)^2 / (2 (p + q)))`, 0 to 1. The weights make it mean the same at all sizes; where the sides are
    equally large it is the usual V.

    >>> cramers_v(np.array([3.0, 1.0]), np.array([1.0, 3.0]))
    0.5
    """
    p, q = shares(current), shares(baseline)
    total = p + q
    return float((((p - q) ** 2 / np.where(total > 0, total, 1)).sum() / 2) ** 0.5)


def total_variation(current: Floats, baseline: Floats) -> float:
    """Total variation distance, 0 to 1: the share of rows that would have to change cell to make the sides equal.

    >>> total_variation(np.array([60.0, 40.0]), np.array([50.0, 50.0])).__round__(9)
    0.1
    """
    return float(np.abs(shares(current) - shares(baseline)).sum() / 2)


def l_infinity(current: Floats, baseline: Floats) -> float:
    """The largest difference of any cell's shares, 0 to 1 (Chebyshev distance).

    >>> l_infinity(np.array([60.0, 40.0, 0.0]), np.array([50.0, 25.0, 25.0]))
    0.25
    """
    return float(np.abs(shares(current) - shares(baseline)).max())


def wasserstein(current: Floats, baseline: Floats, lower: Floats, upper: Floats) -> float:
    """First Wasserstein distance (the area between the distribution functions), in units of the column.

    Args:
        current, baseline: counts, shape (bins,), bins ascending.
        lower, upper: each bin's ends, shape (bins,).

    Within a bin each side is taken as evenly spread; the gap between neighbouring bins is counted in full.
    """
    gap = np.concatenate([[0.0], np.cumsum(shares(current) - shares(baseline))])
    left, right = gap[:-1], gap[1:]
    width = upper - lower
    crossing = left * right < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.where(
            crossing, (left**2 + right**2) / (2 * (np.abs(left) + np.abs(right))), (np.abs(left) + np.abs(right)) / 2
        )
    between = np.append(np.maximum(lower[1:] - upper[:-1], 0.0), 0.0)
    return float((area * width + np.abs(right) * between).sum())


def mass_cells(baseline: Floats, count: int = 10) -> Ints:
    """Which of `count` cells of about equal baseline mass each of the ascending bins falls into."""
    middle = np.cumsum(baseline) - baseline / 2
    cell: Ints = (middle * count / max(baseline.sum(), 1)).astype(np.int64)
    return np.minimum(cell, count - 1)


def _in_mass_cells(current: Floats, baseline: Floats, count: int) -> tuple[Floats, Floats]:
    which = mass_cells(baseline, count)
    return np.bincount(which, current, count).astype(float), np.bincount(which, baseline, count).astype(float)


def rare(current: Floats, baseline: Floats) -> NDArray[np.bool_]:
    """Which categories are too rare to stand alone, see `cells`."""
    n, m = current.sum(), baseline.sum()
    least = _least(current, baseline)
    smaller = current if n < m else baseline
    found: NDArray[np.bool_] = ((current + baseline) * min(n, m) / (n + m) < least) & (smaller < 4 * least)
    return found


def _least(current: Floats, baseline: Floats) -> float:
    return float(LEAST * max(np.count_nonzero(current + baseline) / 10, 1.0) ** 0.25)


def cells(current: Floats, baseline: Floats, ordered: bool, count: int = 10) -> tuple[Floats, Floats]:
    """Gather fine bins into the cells that PSI and Jensen-Shannon are taken over.

    Ordered bins become `count` cells of about equal baseline mass (baseline deciles); categories stay as they
    are. Then a cell whose expected count, were the two equal, is under `LEAST` on the smaller side is pooled with
    the next ones until they reach it together (Cochran 1954): neighbours for ordered cells, other rare categories
    for the rest. The sampling error of a rarer cell has no known form. A category that is rare by expectation
    but has four times as many rows on the smaller side stays: equal distributions do that less than once in ten
    million times. With more than ten cells the least grows with the fourth root of their number: what the
    intervals leave uncorrected falls with the square of the rows a cell, the noise it must hide behind grows
    with the root of the cells.

    Returns the two count vectors over the cells.
    """
    if ordered:
        current, baseline = _in_mass_cells(current, baseline, count)
    present = current + baseline > 0
    current, baseline = current[present], baseline[present]
    n, m = current.sum(), baseline.sum()
    least, expected = _least(current, baseline), (current + baseline) * min(n, m) / (n + m)
    pooled = np.full(len(current), True) if ordered else rare(current, baseline)
    group = np.zeros(len(current), dtype=int)
    group[~pooled] = np.arange((~pooled).sum())
    last = int((~pooled).sum())
    first, gathered = last, 0.0
    joined = []
    for rows in expected[pooled].tolist():
        joined.append(last)
        gathered += rows
        if gathered >= least:
            last, gathered = last + 1, 0.0
    group[pooled] = joined
    if gathered and last > 0:  # what is left over is too rare to stand alone
        joins = last - 1 if last > first else int(group[~pooled][np.argmin(expected[~pooled])])
        group[group == last] = joins
    return np.bincount(group, current).astype(float), np.bincount(group, baseline).astype(float)


def ks_estimate(current: Floats, baseline: Floats, alpha: float) -> Estimate:
    """KS distance with the band of the two-sample Kolmogorov distribution around it.

    The error of the difference of two empirical distribution functions is, uniformly, at most the quantile of
    Kolmogorov's distribution times `sqrt(1/n + 1/m)` (Smirnov 1939; with a finite-sample guarantee for a
    slightly larger constant, Wei and Dudley 2012). On equal distributions the distance averages
    `sqrt(pi/2) ln 2 sqrt(1/n + 1/m)`, given as `noise` in the detail. Both are conservative for discrete columns.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    value = ks(current, baseline)
    error = (1 / n + 1 / m) ** 0.5
    half = float(kolmogi(alpha)) * error
    noise = float((np.pi / 2) ** 0.5 * np.log(2)) * error
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), n, m, {"noise": noise})


@dataclass(frozen=True, slots=True)
class Divergence:
    """An f-divergence, or a distance whose square is one, and what its interval needs to know.

    With `u = p - q` and `s = (p + q) / 2` the divergence is `scale * sum (u^2 / s + quartic * u^4 / s^3)` to fourth
    order.

    Attributes:
        of: the divergence, or the distance, of two count vectors.
        slopes: the divergence's partial derivatives by p and by q, at shares above zero.
        root: whether `of` is the root of the divergence, which then is at most 1.
        fills: whether the interval rests on empty cells being half a row, where they weigh far more than the fourth
            order says.
    """

    of: Callable[[Floats, Floats], float]
    slopes: Callable[[Floats, Floats], tuple[Floats, Floats]]
    scale: float
    quartic: float
    root: bool = True
    fills: bool = False


PSI = Divergence(psi, lambda p, q: (np.log(p / q) + 1 - q / p, np.log(q / p) + 1 - p / q), 1.0, 1 / 12, root=False)
JENSEN_SHANNON = Divergence(
    jensen_shannon,
    lambda p, q: (np.log2(2 * p / (p + q)) / 2, np.log2(2 * q / (p + q)) / 2),
    1 / (8 * float(np.log(2))),
    1 / 24,
)
HELLINGER = Divergence(
    hellinger, lambda p, q: (-((q / p) ** 0.5) / 2, -((p / q) ** 0.5) / 2), 1 / 8, 1 / 16, fills=True
)
CRAMERS_V = Divergence(
    cramers_v,
    lambda p, q: ((p - q) * (p + 3 * q) / (2 * (p + q) ** 2), (q - p) * (q + 3 * p) / (2 * (p + q) ** 2)),
    1 / 4,
    0.0,
)


def divergence_estimate(kind: Divergence, current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """A divergence over baseline deciles (or categories) with an interval that allows for its upward bias.

    `value` is the plain one. The interval is for that of the true distributions over these cells, which is at most
    the one over finer cells; see `_divergence`.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    return _over(kind, *cells(current, baseline, ordered), alpha)


def _over(kind: Divergence, c: Floats, b: Floats, alpha: float) -> Estimate:
    """A divergence's estimate over these cells."""
    n, m = int(c.sum()), int(b.sum())
    value = kind.of(c, b)
    if not kind.root:
        low, high, noise, _ = _divergence(kind, value, c, b, alpha)
        return Estimate(value, low, high, n, m, {"noise": noise, "cells": len(c)})
    held = kind.of(_filled(c), _filled(b)) if kind.fills else value
    low, high, noise, freedom = _divergence(kind, held**2, c, b, alpha)
    # the mean of the root of a chi-square
    root = float(np.exp(gammaln((freedom + 1) / 2) - gammaln(freedom / 2))) * (2 * noise / freedom) ** 0.5
    return Estimate(
        value, min(low**0.5, value), max(min(high**0.5, 1.0), value), n, m, {"noise": root, "cells": len(c)}
    )


def psi_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """PSI over baseline deciles (or categories) with its interval, see `divergence_estimate`.

    On equal distributions it averages about `(cells - 1)(1/n + 1/m)`, a little more where cells hold few rows.
    """
    return divergence_estimate(PSI, current, baseline, ordered, alpha)


def jensen_shannon_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """Jensen-Shannon distance over the same cells as PSI, see `divergence_estimate`.

    On equal distributions it averages about `sqrt((cells - 3/2)(1/n + 1/m) / (8 ln 2))`.
    """
    return divergence_estimate(JENSEN_SHANNON, current, baseline, ordered, alpha)


def hellinger_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """Hellinger distance over the same cells as PSI, see `divergence_estimate`.

    On equal distributions it averages about `sqrt((cells - 3/2)(1/n + 1/m) / 8)`.
    """
    return divergence_estimate(HELLINGER, current, baseline, ordered, alpha)


def chi_square_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """The effect size of the chi-square test of homogeneity: Cramer's V over the same cells as PSI.

    The interval inverts the noncentral chi-square (Smithson 2003), see `divergence_estimate`. On equal distributions V
    averages about `sqrt((cells - 3/2)(1/n + 1/m) / 4)`. The detail holds `corrected`, V less its bias (Bergsma 2013),
    and the test of the same cells: `statistic`, `freedom` and `p_value` (Pearson 1900).
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    c, b = cells(current, baseline, ordered)
    estimate, freedom = _over(CRAMERS_V, c, b, alpha), len(c) - 1
    v = estimate.value or 0.0
    statistic = float((n * m * (c / n - b / m) ** 2 / (c + b)).sum())
    bias = freedom * (1 / n + 1 / m) / 4
    return estimate.about(
        corrected=max(v**2 - bias, 0.0) ** 0.5,
        statistic=statistic,
        freedom=freedom,
        p_value=float(chdtrc(freedom, statistic)) if freedom else 1.0,
    )


def total_variation_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """Total variation distance over the same cells as PSI, with an interval.

    It is the largest difference of any set of cells, so it is off by at most the largest error of any set. That
    averages half the sum of the cells' mean absolute errors, `sqrt(2/pi) sd` each, which the lower end takes off; on
    equal distributions it is the `noise`. For normal errors it exceeds its mean by no more than one set's error, of the
    set with the largest (Tsirelson, Ibragimov and Sudakov 1976; its median is below its mean, Kwapien 1994); a term for
    the skewness of few rows is added (Cornish and Fisher 1938). Where the bound that holds at any size is nearer, that
    is taken (McDiarmid 1989). Conservative: where few of many cells changed the lower end is well below.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    c, b = cells(current, baseline, ordered)
    value = total_variation(c, b)
    p, q, both = shares(c), shares(b), shares(c + b)
    spread = both * (1 - both)
    own = np.maximum(p * (1 - p), spread) / n + np.maximum(q * (1 - q), spread) / m
    bias, noise = (float(np.sqrt(variance / (2 * np.pi)).sum()) for variance in (own, spread * (1 / n + 1 / m)))
    # the variance of a set's share is largest for the set nearest to half of the rows
    widest = [s.max() * (1 - s.max()) if s.max() > 0.5 else 0.25 for s in (p, q, both)]
    variance = max(widest[0], widest[2]) / n + max(widest[1], widest[2]) / m
    z = -float(ndtri(alpha))
    skewed = max(z**2 - 1, 0.0) / 6 / min(n, m)
    half = min(z * variance**0.5 + skewed, (-float(np.log(alpha)) / 2 * (1 / n + 1 / m)) ** 0.5)
    return Estimate(
        value, max(value - bias - half, 0.0), min(value + half, 1.0), n, m, {"noise": noise, "cells": len(c)}
    )


def l_infinity_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """The largest difference of any category's shares (of ordered bins: of any baseline decile's), with an interval.

    Every cell has an interval for its difference that takes its part of `alpha` (Bonferroni 1936), so rare categories
    stand alone here. Each share's bounds are Chernoff's (1952), right at any size, and the two are put together by
    MOVER (Zou and Donner 2008). The distance is at least the furthest lower end, and at most the furthest upper end.
    The detail holds the `cell` that differs most, by its place among the cells, and the `noise`: the mean of the
    largest of as many normal errors.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    if ordered:
        current, baseline = _in_mass_cells(current, baseline, 10)
    p, q = shares(current), shares(baseline)
    gap = p - q
    at = int(np.abs(gap).argmax())
    log_error = -float(np.log(alpha / 2 / len(gap)))
    (p_low, p_high), (q_low, q_high) = _share_bounds(current, log_error), _share_bounds(baseline, log_error)
    least, most = gap - np.hypot(p - p_low, q_high - q), gap + np.hypot(p_high - p, q - q_low)
    low, high = max(least.max(), -most.min(), 0.0), max(most.max(), -least.min())
    both = shares(current + baseline)
    noise = _largest_of_normals(np.sqrt(both * (1 - both) * (1 / n + 1 / m)))
    return Estimate(
        l_infinity(current, baseline), float(low), float(min(high, 1.0)), n, m,
        {"noise": noise, "cells": int((both > 0).sum()), "cell": at},
    )  # fmt: skip


def _share_bounds(counts: Floats, log_error: float) -> tuple[Floats, Floats]:
    """Each cell's least and greatest true share, each end with error `exp(-log_error)` (Chernoff 1952)."""
    seen, where = np.unique(counts, return_inverse=True)
    n = counts.sum()
    ends = _share_at_least(np.concatenate([seen, n - seen]) / n, log_error / n)
    return ends[: len(seen)][where], 1 - ends[len(seen) :][where]


def _share_at_least(share: Floats, rate: float) -> Floats:
    """The least true share whose relative entropy from the seen one is at most `rate`, or a little less.

    Newton's method on a convex function, from outside: however many steps, the answer is not above the true one.
    """
    seen = np.where(share > 0, share, 1.0)
    nearest = np.sqrt(np.minimum(seen, 0.25) * 2 * rate)
    guess = np.clip(np.maximum(seen - nearest, seen * np.exp(-1 - rate / seen)), 1e-300, 1 - 1e-16)
    for _ in range(5):
        excess = rel_entr(seen, guess) + rel_entr(1 - seen, 1 - guess) - rate
        step = np.maximum(excess, 0.0) * guess * (1 - guess) / np.maximum(seen - guess, 1e-300)
        guess = np.clip(guess + step, 0, seen)
    return np.where(share > 0, guess, 0.0)


def _largest_of_normals(sd: Floats) -> float:
    """The mean of the largest absolute value of `len(sd)` normal errors that sum to zero, taken as one fewer
    independent ones: right for two, close for many."""
    sd = sd[sd > 0]
    if len(sd) < 2:
        return 0.0
    sizes, times = np.unique(sd, return_counts=True)
    reach = float(sizes[-1]) * (2 * np.log(2 * len(sd)) + 9) ** 0.5
    at = (np.arange(24) + 0.5) * (reach / 24)
    within = np.log(erf(at[:, None] / (sizes * 2**0.5))) @ times * (1 - 1 / len(sd))
    return float((1 - np.exp(within)).mean() * reach)


def wasserstein_estimate(current: Floats, baseline: Floats, lower: Floats, upper: Floats, alpha: float) -> Estimate:
    """Wasserstein distance in units of the baseline's standard deviation, with an interval.

    On equal distributions the distance averages the integral of `sqrt(2/pi) sd(F_n - G_m)`, which the lower end
    takes off. A dual potential of the distance is 1-Lipschitz (Villani 2003, theorem 1.14), so the standard error
    is at most that of a difference of means, which both ends use. Each side's variance is not taken below that
    of both together: a small sample that missed a rare large value does not know its own. The baseline's standard
    deviation is taken as given.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    largest = max(float(np.abs(lower).max()), float(np.abs(upper).max())) or 1.0
    lower, upper = lower / largest, upper / largest  # squares of very large values would overflow
    middle = (lower + upper) / 2
    sd_current, sd_baseline, sd_both = _sd(middle, current), _sd(middle, baseline), _sd(middle, current + baseline)
    unit = sd_baseline or sd_current or sd_both or float((upper - lower).max()) or 1.0
    value = wasserstein(current, baseline, lower, upper)
    both = np.cumsum(current + baseline) / (n + m)
    reach = np.append(lower[1:], upper[-1]) - lower
    bias = float((np.sqrt(2 / np.pi * both * (1 - np.minimum(both, 1)) * (1 / n + 1 / m)) * reach).sum())
    error = (max(sd_current, sd_both) ** 2 / n + max(sd_baseline, sd_both) ** 2 / m) ** 0.5
    half = -float(ndtri(alpha)) * error
    return Estimate(
        value / unit, max(value - bias - half, 0.0) / unit, (value + half) / unit, n, m, {"noise": bias / unit}
    )


def _divergence(
    kind: Divergence, value: float, current: Floats, baseline: Floats, alpha: float
) -> tuple[float, float, float, float]:
    """The interval for a divergence, its mean on equal distributions, and that mean's degrees of freedom.

    With `N = nm / (n + m)`, `N * value / scale` is close to a noncentral chi-square with `cells - 1` degrees of
    freedom and noncentrality `N * truth / scale` (Menendez, Morales, Pardo and Vajda 1995). Inverting it in the
    noncentrality gives the interval. Two corrections make it hold for real samples:

    - Cells of few rows raise the mean and the variance. Poisson moments to fourth order give a cell of share s
      the mean `scale * (a + b + ((a - b)^2 / 4 + 3 quartic (a + b)^2) / s)`, with `a = 1/n` and `b = 1/m`; the
      variance grows by about four times that relative excess. The chi-square is scaled and its degrees of freedom
      are chosen to have this mean and variance (Satterthwaite 1946).
    - Far from equality the first-order (delta method) variance may be larger than that distribution's; N is then
      divided by their ratio.
    """
    n, m = int(current.sum()), int(baseline.sum())
    p, q = shares(_filled(current)), shares(_filled(baseline))
    by_p, by_q = kind.slopes(p, q)
    scale, quartic = kind.scale, kind.quartic
    size = n * m / (n + m)
    cells = len(p) - 1
    if cells == 0:
        return 0.0, 0.0, 0.0, 1.0
    few = float((((1 / n - 1 / m) ** 2 / 4 + 3 * quartic * (1 / n + 1 / m) ** 2) * 2 / (p + q)).sum()) * size / cells
    noise = scale * cells / size * (1 + few)
    freedom, inflation = cells * (1 + few) ** 2 / (1 + 4 * few), (1 + 4 * few) / (1 + few)
    slope = ((p * by_p**2).sum() - (p * by_p).sum() ** 2) / n + ((q * by_q**2).sum() - (q * by_q).sum() ** 2) / m
    if value > noise:
        inflation = max(inflation, slope * size / (4 * scale * value))
    effective = size / inflation
    statistic = effective * value / scale
    if statistic > 1e5:  # the distribution is normal by then, and its exact inversion slow
        half = -float(ndtri(alpha)) * 2 * statistic**0.5
        low, high = statistic - freedom - half, statistic - freedom + half
    else:
        low = float(chndtrinc(statistic, freedom, 1 - alpha)) if chdtr(freedom, statistic) > 1 - alpha else 0.0
        high = float(chndtrinc(statistic, freedom, alpha)) if chdtr(freedom, statistic) > alpha else 0.0
    return min(max(low * scale / effective, 0.0), value), max(high * scale / effective, value), noise, freedom


def _filled(counts: Floats) -> Floats:
    return np.where(counts > 0, counts, HALF_ROW)


def _sd(values: Floats, counts: Floats) -> float:
    n = counts.sum()
    centre = (values * counts).sum() / n
    return float((((values - centre) ** 2 * counts).sum() / n) ** 0.5)


def aligned(bins: Ints, counts: Ints, other_bins: Ints, other_counts: Ints) -> tuple[Ints, Floats, Floats]:
    """Two sparse histograms on one grid as dense counts over the union of their bins, ascending."""
    union = np.union1d(bins, other_bins)
    first, second = np.zeros(len(union)), np.zeros(len(union))
    first[np.searchsorted(union, bins)] = counts
    second[np.searchsorted(union, other_bins)] = other_counts
    return union, first, second
