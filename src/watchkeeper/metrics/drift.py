"""Drift: how far the current distribution is from the baseline's, as an effect size with an interval.

Every distance's detail holds `noise`: what it averages on equal distributions of these sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np

from watchkeeper.metrics import metric
from watchkeeper.metrics.quality import BOTH, NUMERIC
from watchkeeper.profiles import OTHER_VALUES, Profile, Sides, Subject, common, hashed
from watchkeeper.schema import Kind
from watchkeeper.stats import distances, estimates, goodness_of_fit
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Ints
from watchkeeper.stats.sequential import change_start


@metric("population stability index", cause="drift", kinds=BOTH, needs_baseline=True)
def psi(subject: Subject, alpha: float) -> Estimate:
    """PSI over baseline deciles or categories; below 0.1 is usually called stable, above 0.25 a large shift.

    On equal distributions it averages about (cells - 1)(1/n + 1/m) for n and m rows: 0.09 for ten cells and 200 rows a
    side."""
    return _over_cells(subject, distances.psi_estimate, alpha)


@metric("Jensen-Shannon distance", cause="drift", kinds=BOTH, needs_baseline=True)
def jensen_shannon(subject: Subject, alpha: float) -> Estimate:
    """Jensen-Shannon distance over the same cells as PSI, 0 to 1. On equal distributions it averages about
    sqrt((cells - 3/2)(1/n + 1/m) / 5.5): 0.12 for ten cells and 200 rows a side."""
    return _over_cells(subject, distances.jensen_shannon_estimate, alpha)


@metric("Hellinger distance", cause="drift", kinds=BOTH, needs_baseline=True)
def hellinger(subject: Subject, alpha: float) -> Estimate:
    """Hellinger distance over the same cells as PSI, 0 to 1. On equal distributions it averages about
    sqrt((cells - 3/2)(1/n + 1/m) / 8): 0.10 for ten cells and 200 rows a side."""
    return _over_cells(subject, distances.hellinger_estimate, alpha)


@metric("total variation distance", cause="drift", kinds=BOTH, needs_baseline=True)
def total_variation(subject: Subject, alpha: float) -> Estimate:
    """The share of rows that would have to change their cell to make both sides equal, 0 to 1, over the same cells as
    PSI. On equal distributions it averages about 0.4 sqrt((cells - 1)(1/n + 1/m)): 0.12 for ten cells and 200 rows a
    side. Its interval is wide where there are many cells; Hellinger distance and PSI see more in few rows."""
    return _over_cells(subject, distances.total_variation_estimate, alpha)


@metric("largest change of a share", cause="drift", kinds=BOTH, needs_baseline=True)
def l_infinity(subject: Subject, alpha: float) -> Estimate:
    """The largest difference of any category's share, or of any baseline decile's, 0 to 1: good where one of many
    categories changes. The detail names the category. On equal distributions of ten equal cells it averages about
    0.55 sqrt(1/n + 1/m): 0.06 for 200 rows a side."""
    estimate = _over_cells(subject, distances.l_infinity_estimate, alpha)
    if subject.sides is None or subject.sides.ordered:
        return estimate
    return estimate.about(category=subject.sides.values[estimate.detail["cell"]])


@metric("chi-square effect size (Cramer's V)", cause="drift", kinds=BOTH, needs_baseline=True)
def chi_square(subject: Subject, alpha: float) -> Estimate:
    """Cramer's V of the table of side by cell, 0 to 1, over the same cells as PSI; 0.1 is usually called small, 0.3
    medium, 0.5 large. Both sides weigh the same, so it means the same at all sizes, which the test's p-value does not.
    The detail holds that too, with the statistic and V corrected for its bias. On equal distributions V averages about
    sqrt((cells - 3/2)(1/n + 1/m)) / 2: 0.15 for ten cells and 200 rows a side."""
    return _over_cells(subject, distances.chi_square_estimate, alpha)


@metric("Kolmogorov-Smirnov distance", cause="drift", kinds=NUMERIC, needs_baseline=True)
def ks(subject: Subject, alpha: float) -> Estimate:
    """The largest distance between the two distribution functions, 0 to 1. On equal distributions it averages about
    0.87 sqrt(1/n + 1/m): 0.09 for 200 rows a side."""
    return _over_bins(subject, distances.ks_estimate, alpha)


@metric("Cramer-von Mises distance", cause="drift", kinds=NUMERIC, needs_baseline=True)
def cramer_von_mises(subject: Subject, alpha: float) -> Estimate:
    """The mean squared distance between the two distribution functions, 0 to 1/3; sees changes that are spread out. The
    detail holds the test's statistic and p-value. On equal distributions it averages (1/n + 1/m) / 6: 0.0017 for 200
    rows a side."""
    return _over_bins(subject, goodness_of_fit.cramer_von_mises_estimate, alpha)


@metric("Anderson-Darling distance", cause="drift", kinds=NUMERIC, needs_baseline=True)
def anderson_darling(subject: Subject, alpha: float) -> Estimate:
    """Cramer-von Mises distance with more weight on the tails, 0 to 1.545. The detail holds the test's statistic and
    p-value. On equal distributions it averages 1/n + 1/m: 0.01 for 200 rows a side."""
    return _over_bins(subject, goodness_of_fit.anderson_darling_estimate, alpha)


@metric("Wasserstein distance", cause="drift", kinds=NUMERIC, needs_baseline=True, unit="standard deviations")
def wasserstein(subject: Subject, alpha: float) -> Estimate:
    """The mean distance that values moved, in standard deviations of the baseline. On equal bell curves it averages
    about 1.25 sqrt(1/n + 1/m): 0.13 for 200 rows a side; with long tails more."""
    sides = subject.sides
    if sides is None or subject.grid is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    ends = subject.grid.edges(sides.bins)
    return distances.wasserstein_estimate(sides.current, sides.baseline, *ends, alpha)


@metric("mean", cause="drift", kinds=NUMERIC)
def mean(subject: Subject, alpha: float) -> Estimate:
    """The mean of the column's regular values. Its interval allows for skewness; of values with very heavy tails, whose
    mean a few rows decide, no interval from the sample is sure. For a monitor relative to the baseline, or to chart."""
    values = subject.binned
    return estimates.mean_of_counts(values.middle, values.counts, alpha)


@metric("standard deviation", cause="drift", kinds=NUMERIC)
def standard_deviation(subject: Subject, alpha: float) -> Estimate:
    """The standard deviation of the column's regular values. Its interval allows for the kurtosis that the sample
    shows, which is less than the true one where the tails are heavy. For a monitor relative to the baseline, or to
    chart."""
    values = subject.binned
    return estimates.standard_deviation_of_counts(values.middle, values.counts, alpha)


def began(subject: Subject) -> datetime | None:
    """When a drift most likely began: the grain from which on the rows look like the current window's more than like
    the baseline's, over the window and as long before it. None where there is nothing to compare."""
    current, baseline = subject.current, subject.baseline
    if current is None or baseline is None or current.grid != baseline.grid or not subject.parts:
        return None
    sides = [baseline, current, *(profile for _, profile in subject.parts)]
    if current.kind is Kind.CATEGORICAL:
        counts = common(sides)[1]
    else:
        bins, _, before = distances.aligned(*current.regular, *baseline.regular)
        if not len(bins):
            return None
        cell = distances.mass_cells(before)
        counts = [_in_cells(side, bins, cell) for side in sides]
    if not counts[0].sum() or not counts[1].sum():
        return None
    return subject.parts[change_start(counts[2:], before=counts[0], after=counts[1])][0]


def _in_cells(profile: Profile, bins: Ints, cell: Ints) -> Floats:
    """A profile's counts per cell, given the cells of some ascending bins; a bin between them joins the next one's."""
    own, tallies = profile.regular
    at = cell[np.minimum(np.searchsorted(bins, own), len(bins) - 1)]
    return np.bincount(at, tallies, int(cell[-1]) + 1).astype(float)


def _over_cells(
    subject: Subject, estimate: Callable[[Floats, Floats, bool, float], Estimate], alpha: float
) -> Estimate:
    sides = subject.sides
    if sides is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    return estimate(*_with_rest(sides, subject), sides.ordered, alpha)


def _with_rest(sides: Sides, subject: Subject) -> tuple[Floats, Floats]:
    """Both sides' counts, with the rare ones of the values that the rest is made of counted to it.

    The rest are values of large hash. Those of them that the baseline has are told apart for that reason alone, so the
    baseline has fewer rows of the rest than equal distributions have; with the rare ones it is an honest cell.
    """
    current, baseline = sides.current, sides.baseline
    if not sides.values or sides.values[-1] != OTHER_VALUES:
        return current, baseline
    limit = min(side.limit for side in (subject.current, subject.baseline) if side is not None)
    joins = distances.rare(current, baseline)
    joins[-1] = False
    joins[joins] = [hashed(sides.values[i]) >= limit for i in np.flatnonzero(joins)]
    counts = []
    for side in (current, baseline):
        whole = np.where(joins, 0.0, side)
        whole[-1] += side[joins].sum()
        counts.append(whole)
    return counts[0], counts[1]


def _over_bins(subject: Subject, estimate: Callable[[Floats, Floats, float], Estimate], alpha: float) -> Estimate:
    sides = subject.sides
    if sides is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    return estimate(sides.current, sides.baseline, alpha)
