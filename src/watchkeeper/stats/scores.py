"""Metrics of a binary classifier over all thresholds as functions of score-by-label counts, written once each.

`Scores` holds, over the same ascending score bins, how many negatives and positives fell into each. The curves and
what is under them follow here, metrics at one threshold in `confusion`, and calibration in `calibration`. A value
differs from the one computed on raw scores by what the bin's width leaves open: at most half the pairs that share a
bin for AUC; for average precision, what the order of the rows that share a bin can change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, stdtrit

from watchkeeper.stats.estimates import Estimate, bounded_mean, on_logit_scale, proportions
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.sequential import Arm

EXTREME = 0.0005
"""No score is taken closer to 0 or 1 than this in a logarithm: half a bin of the usual grid of a thousand."""
FEW_OF_A_CLASS = 20
FEW_MISRANKED = 5


@dataclass(frozen=True)
class Scores:
    """Counts of negatives and positives per score bin; `lower` and `upper` are the bins' ends in [0, 1]."""

    lower: Floats
    upper: Floats
    negatives: Floats
    positives: Floats

    @property
    def middle(self) -> Floats:
        return (self.lower + self.upper) / 2

    @property
    def total(self) -> float:
        """Rows; expected numbers of them need not be whole."""
        return float(self.negatives.sum() + self.positives.sum())

    @property
    def n(self) -> int:
        """The whole number of rows that the total is nearest to."""
        return round(self.total)


def auc(scores: Scores, alpha: float) -> Estimate:
    """Area under the ROC curve with DeLong's interval (DeLong, DeLong and Clarke-Pearson 1988), on the logit scale.

    Pairs that share a bin count one half. Absent unless both labels occur. The quantile is Student's, with the
    smaller class's size less one. With under `FEW_OF_A_CLASS` rows of a class, or so few misranked pairs that
    `FEW_MISRANKED` rows would account for them, DeLong's variance is not to be trusted and Hoeffding's interval
    for U-statistics stands in (`estimates.bounded_mean`): wide, and right.
    """
    positives, negatives = scores.positives, scores.negatives
    n_pos, n_neg = positives.sum(), negatives.sum()
    if not n_pos or not n_neg:
        return Estimate.absent(scores.n)
    below = (np.cumsum(negatives) - negatives / 2) / n_neg  # share of negatives below a positive in this bin
    above = 1 - (np.cumsum(positives) - positives / 2) / n_pos
    value = min(max(float((positives * below).sum() / n_pos), 0.0), 1.0)
    fewer = float(min(n_pos, n_neg))
    if fewer < FEW_OF_A_CLASS or fewer * min(value, 1 - value) < FEW_MISRANKED:
        return Estimate(value, *bounded_mean(value, fewer, alpha), scores.n)
    variance = _variance(below, positives) / (n_pos - 1) + _variance(above, negatives) / (n_neg - 1)
    return Estimate(value, *on_logit_scale(value, variance**0.5, fewer - 1, alpha), scores.n)


def average_precision(scores: Scores, alpha: float) -> Estimate:
    """Area under the precision-recall curve as a step function: the mean, over the positives, of the precision at
    their score.

    Rows that share a bin count as tied. Absent unless both labels occur. The interval is on the logit scale (Boyd, Eng
    and Page 2013), with the larger of two variances: the binomial one of the positives, and that of the influence of
    each row by the delta method. The value is biased upward in few positives, since each counts for the precision at
    its own score; the lower end is that of the value with each positive left out there. With few rows of a class
    Hoeffding's interval stands in, as for `auc`.
    """
    if not scores.positives.sum() or not scores.negatives.sum():
        return Estimate.absent(scores.n)
    positives, negatives = scores.positives[::-1], scores.negatives[::-1]
    n_pos, n_neg = positives.sum(), negatives.sum()
    found, alarmed = np.cumsum(positives), np.cumsum(negatives)
    said_yes = np.maximum(found + alarmed, 1)
    precision = found / said_yes
    value = min(float((positives * precision).sum() / n_pos), 1.0)
    without = np.maximum(found - 1, 0) / np.maximum(said_yes - 1, 1)
    centre = min(float((positives * without).sum() / n_pos), value)
    fewer = float(min(n_pos, n_neg))
    if fewer < FEW_OF_A_CLASS or fewer * min(centre, 1 - value) == 0 or fewer * (1 - value) < FEW_MISRANKED:
        low, high = bounded_mean(centre, fewer, alpha)[0], bounded_mean(value, fewer, alpha)[1]
        return Estimate(value, low, high, scores.n)
    gains = positives * alarmed / said_yes**2, positives * found / said_yes**2
    of_positive, of_negative = (np.cumsum(gain[::-1])[::-1] / n_pos for gain in gains)
    influence = (precision - value) / n_pos + of_positive
    variance = float((positives * influence**2 + negatives * of_negative**2).sum())
    low, high = (
        _logit_end(at, max(variance, at * (1 - at) / n_pos), sign * float(stdtrit(fewer - 1, alpha)))
        for at, sign in ((centre, 1), (value, -1))
    )
    return Estimate(value, min(low, value), max(high, value), scores.n)


def _logit_end(at: float, variance: float, quantile: float) -> float:
    return float(expit(np.log(at / (1 - at)) + quantile * variance**0.5 / (at * (1 - at))))


def roc_curve(scores: Scores) -> tuple[Floats, Floats, Floats]:
    """False positive rate, true positive rate and threshold, from none predicted positive to all.

    The thresholds are infinity and the lower ends of the bins, descending; three arrays of shape (bins + 1,). Rates of
    a class that does not occur are zero.
    """
    rates = (
        np.concatenate([[0.0], np.cumsum(side[::-1])]) / max(side.sum(), 1)
        for side in (scores.negatives, scores.positives)
    )
    false, true = rates
    return false, true, np.concatenate([[np.inf], scores.lower[::-1]])


def precision_recall_curve(scores: Scores) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and threshold, from all predicted positive to none.

    The thresholds are the lower ends of the bins, ascending, shape (bins,). Precision and recall have one value more,
    1 and 0, where none are predicted positive. Recall is 1 where there are no positives, as scikit-learn has it.
    """
    found = np.cumsum(scores.positives[::-1])[::-1]
    alarmed = np.cumsum(scores.negatives[::-1])[::-1]
    recall = found / found[0] if len(found) and found[0] else np.ones(len(found))
    return np.append(found / np.maximum(found + alarmed, 1), 1.0), np.append(recall, 0.0), scores.lower


@dataclass(frozen=True)
class Curve:
    """A curve over the thresholds, and for each of them the intervals of both its coordinates, all of one shape."""

    x: Floats
    y: Floats
    x_low: Floats
    x_high: Floats
    y_low: Floats
    y_high: Floats
    threshold: Floats


def roc_band(scores: Scores, alpha: float) -> Curve | None:
    """The ROC curve with the exact intervals of both rates at each threshold; None unless both labels occur.

    The error `alpha` on each side is divided between the two rates, whose estimates are independent: at a threshold,
    the true point lies in the rectangle of both intervals. So a true curve's point runs above `(x_high, y_low)` and
    below `(x_low, y_high)`, pointwise, not everywhere at once.
    """
    negatives, positives = float(scores.negatives.sum()), float(scores.positives.sum())
    if not negatives or not positives:
        return None
    false, true, threshold = roc_curve(scores)
    x_low, x_high = proportions(false * negatives, np.full(len(false), negatives), alpha / 2)
    y_low, y_high = proportions(true * positives, np.full(len(true), positives), alpha / 2)
    return Curve(false, true, x_low, x_high, y_low, y_high, threshold)


def precision_recall_band(scores: Scores, alpha: float) -> Curve | None:
    """The precision-recall curve, recall as `x`, with the exact intervals of both at each threshold that predicts some
    row positive, as in `roc_band`; None without positives."""
    positives = float(scores.positives.sum())
    if not positives:
        return None
    found, alarmed = (np.cumsum(side[::-1])[::-1] for side in (scores.positives, scores.negatives))
    some = found + alarmed > 0
    found, said_yes, threshold = found[some], (found + alarmed)[some], scores.lower[some]
    x_low, x_high = proportions(found, np.full(len(found), positives), alpha / 2)
    y_low, y_high = proportions(found, said_yes, alpha / 2)
    return Curve(found / positives, found / said_yes, x_low, x_high, y_low, y_high, threshold)


def log_loss(scores: Scores, alpha: float) -> Estimate:
    """Mean negative log likelihood in nats, each score taken at the middle of its bin. See `mean_loss`."""
    said = np.clip(scores.middle, EXTREME, 1 - EXTREME)
    return mean_loss(scores, said, _log_losses(said), -float(np.log(EXTREME)), alpha)


def mean_loss(scores: Scores, said: Floats, losses: Floats, most: float, alpha: float) -> Estimate:
    """A mean of losses between 0 and `most`.

    Student's t interval; the upper end allows for the losses' skewness (Johnson 1978). Variance and skewness are
    not taken below what the scores themselves imply: a sample in which no rare label occurred shows neither. With
    under `FEW_OF_A_CLASS` rows of a class, whose losses may be large, Hoeffding's interval stands in: wide, and right.

    Args:
        said, losses: as for `loss_moments`.
    """
    n = scores.n
    if n == 0:
        return Estimate.absent(0)
    value, variance, third = loss_moments(scores, said, losses)
    few = min(scores.negatives.sum(), scores.positives.sum()) < FEW_OF_A_CLASS
    return mean_of_losses(value, variance, third, most, n, alpha, few=bool(few))


def mean_of_losses(
    value: float, variance: float, third: float, most: float, n: int, alpha: float, *, few: bool
) -> Estimate:
    """The interval that `mean_loss` speaks of, from the losses' mean, variance and third central moment.

    Args:
        few: whether some label has so few rows that Hoeffding's interval stands in.
    """
    if few:
        share = min(max(value / most, 0.0), 1.0)
        low, high = (most * end for end in bounded_mean(share, n, alpha))
    else:
        t = -float(stdtrit(n - 1, alpha))
        half = t * (variance / (n - 1)) ** 0.5
        skew = third / variance * (1 + 2 * t * t) / (6 * n) if variance > 0 else 0.0
        low, high = max(value - half, 0.0), min(value + half + max(skew, 0.0), most)
    return Estimate(value, min(low, value), max(high, value), n)


def log_loss_arm(scores: Scores) -> Arm:
    """Log loss as one arm of a comparison."""
    if scores.n == 0:
        return Arm(0, 0.0, 0.0)
    said = np.clip(scores.middle, EXTREME, 1 - EXTREME)
    value, variance, _ = loss_moments(scores, said, _log_losses(said))
    return Arm(scores.n, value, variance)


def _log_losses(said: Floats) -> Floats:
    return np.stack([-np.log1p(-said), -np.log(said)])


def loss_moments(scores: Scores, said: Floats, losses: Floats) -> tuple[float, float, float]:
    """Mean of the losses, and the larger of their sample's and their implied second and third central moment.

    Args:
        said: the bins' scores, shape (bins,).
        losses: of a negative and of a positive in each bin, shape (2, bins).
    """
    seen = np.stack([scores.negatives, scores.positives]) / scores.total
    rows = seen.sum(axis=0)
    implied = np.stack([rows * (1 - said), rows * said])
    value = float((seen * losses).sum())
    around = losses - value, losses - (implied * losses).sum()
    second, third = (max(float((w * x**k).sum()) for w, x in zip((seen, implied), around, strict=True)) for k in (2, 3))
    return value, second, third


def _variance(values: Floats, counts: Floats) -> float:
    n = counts.sum()
    centre = (values * counts).sum() / n
    return float(((values - centre) ** 2 * counts).sum() / n)
