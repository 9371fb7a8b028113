"""Metrics of a regression from counts of its errors on grids, written once each.

`Binned` holds how many rows fell into each bin of some quantity of a labelled row: the signed error (prediction minus
label), the percentage error `|error| / |label|`, the symmetric percentage error `2 |error| / (|label| + |prediction|)`,
or the label. Within a bin values are taken as evenly spread. What the bins leave open is known: every estimate's
detail gives it as `grid error`, the furthest that the value may lie from scikit-learn's on the same rows, and its
interval is that much wider on each side.

Intervals have error `alpha` on each side. Those of means are asymptotic and allow for skewness
(`estimates.mean_of_counts`) and for heavy tails: the next row lies beyond the largest so far with probability
`1 / (n + 1)`, so each end is that of the sample with one row more like its most extreme one. They hold for errors with
a finite variance of which the sample shows the tail: of large errors that are too rare to have occurred no sample tells
(Bahadur and Savage 1956). Where one row makes up more than `HEAVY` of the variance the mean has no bound on that side,
and the end is None. Quantiles, the median absolute error among them, have exact intervals whatever the tails are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from watchkeeper.stats import estimates
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats

HEAVY = 0.5
LARGEST = 1e140
"""No error is taken as larger than this in a square."""
FEW = 10
"""Rows below which no mean has an interval."""

Part = Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]
"""Of the ends of bins, a function's mean over each, and its least and greatest value there."""


@dataclass(frozen=True)
class Binned:
    """Counts of a quantity per bin; `lower` and `upper` are the bins' ends, ascending, all of shape (bins,)."""

    lower: Floats
    upper: Floats
    counts: Floats

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def middle(self) -> Floats:
        between: Floats = self.lower / 2 + self.upper / 2
        return between

    @property
    def folded(self) -> Binned:
        """The bins of the absolute value, in the order of these; they may overlap."""
        lowest = np.maximum(np.maximum(self.lower, -self.upper), 0.0)
        return Binned(lowest, np.maximum(np.abs(self.lower), np.abs(self.upper)), self.counts)


def bias(errors: Binned, alpha: float) -> Estimate:
    """Mean error, prediction minus label: above zero where predictions are too high."""
    return _mean(errors, _itself, alpha)


def mae(errors: Binned, alpha: float) -> Estimate:
    """Mean absolute error.

    >>> found = mae(Binned(*(np.array([-2.0, 0.0, 1.0]),) * 2, np.array([25.0, 50.0, 25.0])), 0.025)
    >>> round(found.low, 3), found.value, round(found.high, 3)
    (0.578, 0.75, 0.934)
    """
    return _mean(errors, _pinball(0.5, 2.0), alpha)


def mse(errors: Binned, alpha: float) -> Estimate:
    """Mean squared error."""
    return _mean(errors, _square, alpha)


def rmse(errors: Binned, alpha: float) -> Estimate:
    """Root of the mean squared error; its interval is the root of that one's."""
    found = mse(errors, alpha)
    if found.value is None:
        return found
    root = found.value**0.5
    open_ = float(found.detail["grid error"])
    nearest = max(found.value - open_, 0.0) ** 0.5
    low, high = (None if end is None else max(end, 0.0) ** 0.5 for end in (found.low, found.high))
    coarse = max(root - nearest, (found.value + open_) ** 0.5 - root)
    return Estimate(root, low, high, found.n, None, {"grid error": coarse})


def mape(percentage_errors: Binned, alpha: float) -> Estimate:
    """Mean of `|error| / |label|`, as a share: 0.1 is ten percent. Rows whose label is zero have none, and do not
    count; scikit-learn divides by 2.2e-16 there."""
    return _mean(percentage_errors, _itself, alpha)


def smape(symmetric_errors: Binned, alpha: float) -> Estimate:
    """Mean of `2 |error| / (|label| + |prediction|)`, from 0 to 2. Rows where both are zero have none."""
    found = _mean(symmetric_errors, _itself, alpha)
    if found.value is None or found.high is None or found.low is None:
        return found
    value = min(found.value, 2.0)
    return Estimate(value, min(max(found.low, 0.0), value), min(found.high, 2.0), found.n, None, found.detail)


def pinball_loss(errors: Binned, q: float, alpha: float) -> Estimate:
    """Mean quantile loss of predictions that are to be the quantile `q` of the label (Koenker and Bassett 1978):
    `q` times what they lie below it, `1 - q` times what they lie above it."""
    return _mean(errors, _pinball(q), alpha)


def median_absolute_error(errors: Binned, alpha: float) -> Estimate:
    """Median of the absolute errors."""
    return _quantile(errors.folded, 0.5, alpha)


def absolute_error_quantile(errors: Binned, q: float, alpha: float) -> Estimate:
    """The absolute error that a share `q` of the rows does not exceed."""
    return _quantile(errors.folded, q, alpha)


def error_quantile(errors: Binned, q: float, alpha: float) -> Estimate:
    """The signed error that a share `q` of the rows does not exceed."""
    return _quantile(errors, q, alpha)


def r2(errors: Binned, labels: Binned, alpha: float) -> Estimate:
    """Coefficient of determination: the share of the labels' variance that predictions take away, `1 - MSE / variance`.

    It is 0 for the mean label, and below for worse. Absent where all labels are the same. How squared errors and
    squared labels of one row move together is not known from their counts; the interval is right whatever it is.
    """
    squares = mse(errors, alpha)
    ends = squares.low, squares.high
    return _one_less_ratio(squares.value, ends, float(squares.detail.get("grid error", 0.0)), labels, errors.n, alpha)


def explained_variance(errors: Binned, labels: Binned, alpha: float) -> Estimate:
    """The same with the errors' variance in the place of their mean square: a constant bias does not count."""
    found, open_ = _spread(errors, alpha)
    if found.value is None:
        return Estimate.absent(errors.n)
    ends = None if found.low is None else found.low**2, None if found.high is None else found.high**2
    moved = (found.value + open_) ** 2 - found.value**2
    return _one_less_ratio(found.value**2, ends, moved, labels, errors.n, alpha)


def _one_less_ratio(
    of_errors: float | None,
    ends: tuple[float | None, float | None],
    open_: float,
    labels: Binned,
    n: int,
    alpha: float,
) -> Estimate:
    spread, coarse = _spread(labels, alpha)
    if of_errors is None or not spread.value:
        return Estimate.absent(n)
    value = 1 - of_errors / spread.value**2
    low = None if ends[1] is None or not spread.low else min(1 - ends[1] / spread.low**2, value)
    high = None if ends[0] is None or spread.high is None else max(1 - max(ends[0], 0.0) / spread.high**2, value)
    nearest = max(spread.value - coarse, 0.0)
    worst = (of_errors + open_) / nearest**2 - of_errors / spread.value**2 if nearest else float("inf")
    best = of_errors / spread.value**2 - max(of_errors - open_, 0.0) / (spread.value + coarse) ** 2
    found = Estimate(value, low, high, n)
    return found.about(**{"grid error": max(worst, best)}) if nearest else found


def _spread(binned: Binned, alpha: float) -> tuple[Estimate, float]:
    """The standard deviation, with the rows' number as divisor, its interval, and what the bins leave open of it.

    Moving each value by at most half its bin's width moves the standard deviation by at most the root of the mean of
    the squares of these (triangle inequality).
    """
    if not binned.n:
        return Estimate.absent(0), 0.0
    lower, upper = (np.clip(end, -LARGEST, LARGEST) for end in (binned.lower, binned.upper))
    half = (upper - lower) / 2
    coarse = float(np.sqrt((half**2 * binned.counts).sum() / binned.n))
    found = estimates.standard_deviation_of_counts((lower + upper) / 2, binned.counts, alpha)
    if found.value is None:
        return Estimate.absent(binned.n), 0.0
    shrunk = ((binned.n - 1) / binned.n) ** 0.5
    low = None if found.low is None else max(found.low - coarse, 0.0)
    high = None if found.high is None else found.high + coarse
    return Estimate(found.value * shrunk, low, high, binned.n), coarse


def _mean(binned: Binned, of: Part, alpha: float) -> Estimate:
    n = binned.n
    if n == 0:
        return Estimate.absent(0)
    mean, least, most = of(binned.lower, binned.upper)
    open_ = float((np.maximum(mean - least, most - mean) * (binned.counts / n)).sum())
    value = float((mean * (binned.counts / n)).sum())
    away = mean - value
    unit = float(np.abs(away).max()) or 1.0
    heavy = (away / unit) ** 2 > HEAVY * float(((away / unit) ** 2 * binned.counts).sum())
    low = high = None
    if n >= FEW and not (heavy & (away < 0)).any():
        end = estimates.mean_of_counts(mean, binned.counts + (np.arange(len(mean)) == mean.argmin()), alpha).low
        low = None if end is None else max(min(end, value) - open_, 0.0 if (least >= 0).all() else -np.inf)
    if n >= FEW and not (heavy & (away > 0)).any():
        end = estimates.mean_of_counts(mean, binned.counts + (np.arange(len(mean)) == mean.argmax()), alpha).high
        high = None if end is None else max(end, value) + open_
    return Estimate(value, low, high, n, None, {"grid error": open_})


def _itself(lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats]:
    return (lower + upper) / 2, lower, upper


def _square(lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats]:
    lower, upper = (np.clip(end, -LARGEST, LARGEST) for end in (lower, upper))
    ends = lower**2, upper**2
    least = np.where((lower < 0) & (upper > 0), 0.0, np.minimum(*ends))
    return (ends[0] + lower * upper + ends[1]) / 3, least, np.maximum(*ends)


def _pinball(q: float, times: float = 1.0) -> Part:
    """The loss of an error: `times * q` for each unit that it lies below zero, `times * (1 - q)` above."""

    def of(lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats]:
        def loss(error: Floats) -> Floats:
            return times * np.where(error < 0, -q * error, (1 - q) * error)

        around = (lower < 0) & (upper > 0)
        width = np.where(around, upper - lower, 1.0)
        below, above = (np.where(around, end, 0.0) / width for end in (lower, upper))  # squares of others may overflow
        inside = times * (q * below * lower + (1 - q) * above * upper) / 2
        ends = loss(lower), loss(upper)
        mean = np.where(around, inside, (ends[0] + ends[1]) / 2)
        return mean, np.where(around, 0.0, np.minimum(*ends)), np.maximum(*ends)

    return of


def _quantile(binned: Binned, q: float, alpha: float) -> Estimate:
    """A quantile, interpolated between order statistics as NumPy does, of bins that may overlap.

    The rows' order statistics lie between those of their bins' lower and of their upper ends. So do the quantile and
    the ends of its interval (see `estimates.quantile`).
    """
    if not binned.n:
        return Estimate.absent(0)
    found = []
    for ends in (binned.lower, binned.upper):
        order = np.argsort(ends, kind="stable")
        values, counts = ends[order], binned.counts[order]
        cumulative, at = np.cumsum(counts), q * (binned.n - 1)
        below, above = (values[np.searchsorted(cumulative, rank, "right")] for rank in (np.floor(at), np.ceil(at)))
        between = float(below + (above - below) * (at - np.floor(at)))
        found.append((between, estimates.quantile(q, values, values, counts, alpha)))
    (least, lower), (most, upper) = found
    low = None if lower.low is None else min(lower.low, least)
    high = None if upper.high is None else max(upper.high, most)
    value = (least + most) / 2
    return Estimate(value, low, high, binned.n, None, {"grid error": (most - least) / 2})
