"""Distances between two distributions given as counts, each with an interval for the true distance.

Every plain distance is a function of two count vectors over the same cells, current first. The intervals
take both samples' noise into account: on equal distributions the lower end is 0 but for a share `alpha` of
the time. `alpha` is the error on each side. Rows are taken as independent.
"""

from __future__ import annotations

import numpy as np
from scipy.special import chdtr, chndtrinc, kolmogi, ndtri

from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Ints

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


def cells(
    current: Floats, baseline: Floats, ordered: bool, count: int = 10, least: float = 5.0
) -> tuple[Floats, Floats]:
    """Gather fine bins into the cells that PSI and Jensen-Shannon are taken over.

    Ordered bins become `count` cells of about equal baseline mass (baseline deciles); categories stay as they
    are. Then a cell whose expected count, were the two equal, is under `least` on the smaller side is pooled with
    the next ones until they reach it together (Cochran 1954): neighbours for ordered cells, other rare categories
    for the rest. The sampling error of a rarer cell has no known form. A category that is rare by expectation
    but has `4 * least` rows on the smaller side stays: equal distributions do that less than once in ten
    million times. With more than ten cells `least` grows with the fourth root of their number: what the
    intervals leave uncorrected falls with the square of the rows a cell, the noise it must hide behind grows
    with the root of the cells.

    Returns the two count vectors over the cells.
    """
    if ordered:
        which = mass_cells(baseline, count)
        current = np.bincount(which, current, count).astype(float)
        baseline = np.bincount(which, baseline, count).astype(float)
    present = current + baseline > 0
    current, baseline = current[present], baseline[present]
    n, m = current.sum(), baseline.sum()
    least *= max(len(current) / 10, 1.0) ** 0.25
    expected = (current + baseline) * min(n, m) / (n + m)
    smaller = current if n < m else baseline
    pooled = np.full(len(current), True) if ordered else (expected < least) & (smaller < 4 * least)
    group = np.zeros(len(current), dtype=int)
    group[~pooled] = np.arange((~pooled).sum())
    last = int((~pooled).sum())
    first, gathered = last, 0.0
    for i in np.flatnonzero(pooled):
        group[i] = last
        gathered += expected[i]
        if gathered >= least:
            last, gathered = last + 1, 0.0
    if gathered and last > 0:  # what is left over is too rare to stand alone
        joins = last - 1 if last > first else int(group[~pooled][np.argmin(expected[~pooled])])
        group[group == last] = joins
    return np.bincount(group, current).astype(float), np.bincount(group, baseline).astype(float)


def ks_estimate(current: Floats, baseline: Floats, alpha: float) -> Estimate:
    """KS distance with the band of the two-sample Kolmogorov distribution around it.

    The error of the difference of two empirical distribution functions is, uniformly, at most the quantile of
    Kolmogorov's distribution times `sqrt(1/n + 1/m)` (Smirnov 1939; with a finite-sample guarantee for a
    slightly larger constant, Wei and Dudley 2012). Conservative for discrete columns.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    value = ks(current, baseline)
    half = float(kolmogi(alpha)) * (1 / n + 1 / m) ** 0.5
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), n, m)


def psi_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """PSI over baseline deciles (or categories) with an interval that allows for its upward bias.

    `value` is the plain index, which on equal distributions averages about `(cells - 1)(1/n + 1/m)`, given as
    `noise` in the detail. The interval is for the index of the true distributions over these cells, which is at
    most the index over finer ones; see `_divergence`.
    """
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    c, b = cells(current, baseline, ordered)
    value = psi(c, b)
    p, q = shares(_filled(c)), shares(_filled(b))
    by_p = np.log(p / q) + 1 - q / p
    by_q = np.log(q / p) + 1 - p / q
    low, high, noise = _divergence(value, 1.0, 1 / 12, p, q, by_p, by_q, n, m, alpha)
    return Estimate(value, low, high, n, m, {"noise": noise, "cells": len(c)})


def jensen_shannon_estimate(current: Floats, baseline: Floats, ordered: bool, alpha: float) -> Estimate:
    """Jensen-Shannon distance over the same cells as PSI, with an interval that allows for its bias."""
    n, m = int(current.sum()), int(baseline.sum())
    if not n or not m:
        return Estimate.absent(n, m)
    c, b = cells(current, baseline, ordered)
    value = jensen_shannon(c, b)
    p, q = shares(_filled(c)), shares(_filled(b))
    by_p, by_q = np.log2(2 * p / (p + q)) / 2, np.log2(2 * q / (p + q)) / 2
    low, high, noise = _divergence(value**2, 1 / (8 * np.log(2)), 1 / 24, p, q, by_p, by_q, n, m, alpha)
    return Estimate(value, low**0.5, min(high**0.5, 1.0), n, m, {"noise": noise**0.5, "cells": len(c)})


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
    value: float,
    scale: float,
    quartic: float,
    p: Floats,
    q: Floats,
    by_p: Floats,
    by_q: Floats,
    n: int,
    m: int,
    alpha: float,
) -> tuple[float, float, float]:
    """The interval for a divergence, and its mean on equal distributions.

    With `u = p - q` and `s = (p + q) / 2` the divergence is `scale * sum (u^2 / s + quartic * u^4 / s^3)` to
    fourth order. With `N = nm / (n + m)`, `N * value / scale` is close to a noncentral chi-square with `cells - 1`
    degrees of freedom and noncentrality `N * truth / scale` (Menendez, Morales, Pardo and Vajda 1995). Inverting
    it in the noncentrality gives the interval. Two corrections make it hold for real samples:

    - Cells of few rows raise the mean and the variance. Poisson moments to fourth order give a cell of share s
      the mean `scale * (a + b + ((a - b)^2 / 4 + 3 quartic (a + b)^2) / s)`, with `a = 1/n` and `b = 1/m`; the
      variance grows by about four times that relative excess. The chi-square is scaled and its degrees of freedom
      are chosen to have this mean and variance (Satterthwaite 1946).
    - Far from equality the first-order (delta method) variance may be larger than that distribution's; N is then
      divided by their ratio. `by_p` and `by_q` are the divergence's partial derivatives.
    """
    size = n * m / (n + m)
    cells = len(p) - 1
    if cells == 0:
        return 0.0, 0.0, 0.0
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
    return min(max(low * scale / effective, 0.0), value), max(high * scale / effective, value), noise


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
