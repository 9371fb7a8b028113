"""Whether scores are probabilities: functions of score-by-label counts, written once each.

Of several classes, the score of the predicted one with "it was right" as its label is calibrated like any other (the
top label; Guo, Pleiss, Sun and Weinberger 2017); for each class by itself see `classes.classwise_calibration_error`.
Each score is taken at the middle of its bin, so a mean score differs from the raw one's by at most half a bin's width,
and a Brier score by at most a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from watchkeeper.stats.estimates import Estimate, proportions
from watchkeeper.stats.grid import Floats, Ints
from watchkeeper.stats.scores import Scores, mean_loss

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """The reliability curve: per bin that holds rows, the mean score and the share of positives with its interval.

    `coarse` is half the mean width of the score bins there, which is what the counts leave open of `said`.
    """

    rows: Floats
    said: Floats
    was: Floats
    low: Floats
    high: Floats
    coarse: Floats


def by_mass(scores: Scores, alpha: float, bins: int = BINS) -> Reliability:
    """The reliability curve over bins that hold about as many rows each."""
    both = scores.negatives + scores.positives
    which = ((np.cumsum(both) - both / 2) * bins / max(scores.total, 1)).astype(np.int64)
    return _reliability(scores, np.minimum(which, bins - 1), alpha, bins)


def by_width(scores: Scores, alpha: float, bins: int = BINS) -> Reliability:
    """The reliability curve over equally wide bins of [0, 1]: scikit-learn's `calibration_curve`."""
    which = np.clip(np.floor(np.clip(scores.middle, 0.0, 1.0) * bins + 1e-9), 0, bins - 1)
    return _reliability(scores, which.astype(np.int64), alpha, bins)


def _reliability(scores: Scores, which: Ints, alpha: float, bins: int) -> Reliability:
    both = scores.negatives + scores.positives
    counted = np.bincount(which, both, bins)
    kept = counted > 0
    rows: Floats = counted[kept].astype(float)
    said, coarse = (
        np.bincount(which, both * part, bins)[kept] / rows
        for part in (scores.middle, (scores.upper - scores.lower) / 2)
    )
    hits: Floats = np.bincount(which, scores.positives, bins)[kept].astype(float)
    return Reliability(rows, np.clip(said, 0.0, 1.0), hits / rows, *proportions(hits, rows, alpha), coarse)


def calibration_error(scores: Scores, alpha: float, bins: int = BINS) -> Estimate:
    """Expected calibration error over bins of equal mass: `sum share |mean score - share of positives|`.

    See `_mean_gap` for the interval and the detail.
    """
    if not scores.n:
        return Estimate.absent(0)
    curve = by_mass(scores, alpha, bins)
    return _mean_gap(curve, curve.rows / scores.total, scores.n, alpha)


def mean_absolute_calibration_error(scores: Scores, alpha: float, bins: int = BINS) -> Estimate:
    """Average calibration error (Neumann, Zisserman and Vedaldi 2018): the plain mean of
    `|mean score - share of positives|` over those of `bins` equally wide bins of [0, 1] that hold rows.

    Unlike the expected error it heeds rare high scores as much as frequent low ones. The interval is for the bins that
    hold rows in this sample. See `_mean_gap`.
    """
    if not scores.n:
        return Estimate.absent(0)
    curve = by_width(scores, alpha, bins)
    return _mean_gap(curve, np.full(len(curve.rows), 1 / len(curve.rows)), scores.n, alpha)


def _mean_gap(curve: Reliability, weights: Floats, n: int, alpha: float) -> Estimate:
    """A weighted mean of the gaps between score and share of positives.

    The plain mean of absolute gaps is biased upward (Kumar, Liang and Ma 2019); its mean for a calibrated model,
    `sum weight sqrt(2/pi) se`, is given as `noise` and is taken off the lower end. `debiased` is the value less its
    bias where it stands, each gap taken as normal, and `root_mean_square` the root of the debiased mean of squared
    gaps, both zero at least. The ends reach as far as the root of the squares of the bins' reaches: the normal one at
    the share of positives that was said or seen, whichever varies more, or that of the exact interval, whichever is
    further. Half the width of a score bin, which the counts leave open, is added.
    """
    gap = curve.said - curve.was
    variance = curve.was * (1 - curve.was)
    error = np.sqrt(np.maximum(curve.said * (1 - curve.said), variance) / curve.rows)
    value, noise = float(weights @ np.abs(gap)), float(weights @ error) * (2 / np.pi) ** 0.5
    below, above = curve.was - curve.low, curve.high - curve.was
    normal, coarse = -float(ndtri(alpha)) * error, float(weights @ curve.coarse)
    narrower, wider = np.where(gap < 0, below, above), np.where(gap < 0, above, below)
    reach = [float(((weights * np.maximum(normal, exact)) ** 2).sum()) ** 0.5 for exact in (narrower, wider)]
    own = np.maximum(error, 1e-12)
    folded = own * (2 / np.pi) ** 0.5 * np.exp(-((gap / own) ** 2) / 2) + gap * (1 - 2 * ndtr(-gap / own))
    squares = float(weights @ (gap**2 - variance / np.maximum(curve.rows - 1, 1)))
    detail = {
        "noise": noise,
        "debiased": max(2 * value - float(weights @ folded), 0.0),
        "root_mean_square": max(squares, 0.0) ** 0.5,
    }
    low, high = max(value - noise - coarse - reach[0], 0.0), min(value + coarse + reach[1], 1.0)
    return Estimate(value, low, max(high, value), n, None, detail)


def brier(scores: Scores, alpha: float) -> Estimate:
    """Mean squared difference of score and label (Brier 1950), 0 at best.

    See `scores.mean_loss` for the interval. The detail is Murphy's decomposition (1973) over ten bins of equal mass,
    `reliability - resolution + uncertainty + within`, the first three corrected for bias (Ferro and Fricker 2012) and
    the last what scores differ within bins (Stephenson, Coelho and Jolliffe 2008); and `skill`, the share of the
    uncertainty that the scores take away, where both labels occur.
    """
    said = np.clip(scores.middle, 0.0, 1.0)
    found = mean_loss(scores, said, np.stack([said**2, (1 - said) ** 2]), 1.0, alpha)
    return found if found.value is None else found.about(**_decomposition(scores, found.value, alpha))


def _decomposition(scores: Scores, value: float, alpha: float) -> dict[str, float]:
    n, curve = scores.total, by_mass(scores, alpha)
    share, base = curve.rows / n, float(scores.positives.sum()) / n
    reliability = float(share @ (curve.said - curve.was) ** 2)
    resolution, uncertainty = float(share @ (curve.was - base) ** 2), base * (1 - base)
    within = value - (reliability - resolution + uncertainty)
    of_bins = float(share @ (curve.was * (1 - curve.was) / np.maximum(curve.rows - 1, 1)))
    of_all = uncertainty / max(n - 1, 1)
    detail = {
        "reliability": reliability - of_bins,
        "resolution": resolution - of_bins + of_all,
        "uncertainty": uncertainty + of_all,
        "within": within,
    }
    return {**detail, "skill": 1 - value / uncertainty} if uncertainty else detail
