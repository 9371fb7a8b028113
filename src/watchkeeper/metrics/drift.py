"""Drift: how far the current distribution is from the baseline's, as an effect size with an interval."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from watchkeeper.metrics import metric
from watchkeeper.metrics.quality import BOTH, NUMERIC
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import Kind
from watchkeeper.stats import distances
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Ints
from watchkeeper.stats.sequential import change_start


@metric("population stability index", cause="drift", kinds=BOTH, needs_baseline=True)
def psi(subject: Subject, alpha: float) -> Estimate:
    """PSI over baseline deciles or categories; below 0.1 is usually called stable, above 0.25 a large shift."""
    pair = _pair(subject)
    if pair is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    current, baseline, ordered, *_ = pair
    return distances.psi_estimate(current, baseline, ordered, alpha)


@metric("Jensen-Shannon distance", cause="drift", kinds=BOTH, needs_baseline=True)
def jensen_shannon(subject: Subject, alpha: float) -> Estimate:
    """Jensen-Shannon distance over the same cells as PSI, 0 to 1."""
    pair = _pair(subject)
    if pair is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    current, baseline, ordered, *_ = pair
    return distances.jensen_shannon_estimate(current, baseline, ordered, alpha)


@metric("Kolmogorov-Smirnov distance", cause="drift", kinds=NUMERIC, needs_baseline=True)
def ks(subject: Subject, alpha: float) -> Estimate:
    """The largest distance between the two distribution functions, 0 to 1."""
    pair = _pair(subject)
    if pair is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    current, baseline, *_ = pair
    return distances.ks_estimate(current, baseline, alpha)


@metric("Wasserstein distance", cause="drift", kinds=NUMERIC, needs_baseline=True, unit="standard deviations")
def wasserstein(subject: Subject, alpha: float) -> Estimate:
    """The mean distance that values moved, in standard deviations of the baseline."""
    pair = _pair(subject)
    if pair is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    current, baseline, _, lower, upper = pair
    return distances.wasserstein_estimate(current, baseline, lower, upper, alpha)


def began(subject: Subject) -> datetime | None:
    """When a drift most likely began: the grain from which on the rows look like the current window's more than like
    the baseline's, over the window and as long before it. None where there is nothing to compare."""
    current, baseline = subject.current, subject.baseline
    if current is None or baseline is None or current.grid != baseline.grid or not subject.parts:
        return None
    sides = [baseline, current, *(profile for _, profile in subject.parts)]
    if current.kind is Kind.CATEGORICAL:
        values = sorted({value for side in sides for value in side.values})
        counts = [np.array([side.by_value.get(v, 0) for v in values], dtype=float) for side in sides]
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


def _pair(subject: Subject) -> tuple[Floats, Floats, bool, Floats, Floats] | None:
    """Both sides' present values as counts over the same cells, ascending.

    None unless each side has some, and where the sides lie on different grids.
    """
    current, baseline = subject.current, subject.baseline
    if current is None or baseline is None or current.grid != baseline.grid:
        return None
    if current.kind is Kind.CATEGORICAL:
        values = sorted({*current.values, *baseline.values})
        one, two = current.by_value, baseline.by_value
        first = np.array([one.get(v, 0) for v in values], dtype=float)
        second = np.array([two.get(v, 0) for v in values], dtype=float)
        lower = upper = np.zeros(len(values))
    else:
        if subject.grid is None:
            return None
        bins, first, second = distances.aligned(*current.regular, *baseline.regular)
        lower, upper = subject.grid.spread(bins)
    if not first.sum() or not second.sum():
        return None
    return first, second, current.kind is Kind.NUMERIC, lower, upper
