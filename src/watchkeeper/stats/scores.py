"""Metrics of a binary classifier as functions of score-by-label counts, written once each.

`Scores` holds, over the same ascending score bins, how many negatives and positives fell into each. Every
metric at every threshold, the curves, calibration and losses follow. A value differs from the one computed on
raw scores by what the bin's width leaves open: nothing for accuracy at a threshold that is an edge, at most
half the pairs that share a bin for AUC, at most half a bin's width for calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from watchkeeper.stats.estimates import Estimate, bounded_mean, proportion
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
    def n(self) -> int:
        return int(self.negatives.sum() + self.positives.sum())


def accuracy(scores: Scores, threshold: float, alpha: float) -> Estimate:
    """Share of rows whose score is at or above the threshold exactly when their label is positive."""
    said_yes = scores.lower >= threshold - 1e-9  # a threshold that is an edge may differ in its last digit
    right = scores.positives[said_yes].sum() + scores.negatives[~said_yes].sum()
    return proportion(int(right), scores.n, alpha)


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
    logit, half = np.log(value / (1 - value)), -stdtrit(fewer - 1, alpha) * variance**0.5 / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-(logit + s * half)))) for s in (-1, 1))
    return Estimate(value, low, high, scores.n)


def log_loss(scores: Scores, alpha: float) -> Estimate:
    """Mean negative log likelihood in nats, each score taken at the middle of its bin.

    Student's t interval; the upper end allows for the losses' skewness (Johnson 1978). Variance and skewness are
    not taken below what the scores themselves imply: a sample in which no rare label occurred shows neither. The
    interval is asymptotic: for rare labels it asks for some tens of the rare ones.
    """
    n = scores.n
    if n == 0:
        return Estimate.absent(0)
    value, variance, third = _log_loss_moments(scores)
    if n == 1:
        return Estimate(value, 0.0, None, n)
    t = -float(stdtrit(n - 1, alpha))
    half = t * (variance / (n - 1)) ** 0.5
    skew = third / variance * (1 + 2 * t * t) / (6 * n) if variance > 0 else 0.0
    return Estimate(value, max(value - half, 0.0), value + half + max(skew, 0.0), n)


def log_loss_arm(scores: Scores) -> Arm:
    """Log loss as one arm of a comparison."""
    if scores.n == 0:
        return Arm(0, 0.0, 0.0)
    value, variance, _ = _log_loss_moments(scores)
    return Arm(scores.n, value, variance)


def _log_loss_moments(scores: Scores) -> tuple[float, float, float]:
    """Mean of the losses, and the larger of their sample's and their implied second and third central moment."""
    said = np.clip(scores.middle, EXTREME, 1 - EXTREME)
    losses = np.stack([-np.log1p(-said), -np.log(said)])
    seen = np.stack([scores.negatives, scores.positives]) / scores.n
    rows = seen.sum(axis=0)
    implied = np.stack([rows * (1 - said), rows * said])
    value = float((seen * losses).sum())
    around = losses - value, losses - (implied * losses).sum()
    second, third = (max(float((w * x**k).sum()) for w, x in zip((seen, implied), around, strict=True)) for k in (2, 3))
    return value, second, third


def calibration_error(scores: Scores, alpha: float, bins: int = 10) -> Estimate:
    """Expected calibration error over bins of equal mass: `sum share |mean score - share of positives|`.

    The plain sum of absolute gaps is biased upward (Kumar, Liang and Ma 2019); its mean for a calibrated model,
    `sum share sqrt(2/pi) se`, is given as `noise` and is taken off the lower end, with half the width of a score
    bin, which the counts leave open. The standard error treats the bins as independent and each gap's error as
    binomial, at the share of positives that was said or seen, whichever is more variable.
    """
    n = scores.n
    if n == 0:
        return Estimate.absent(0)
    both = scores.negatives + scores.positives
    which = np.minimum(((np.cumsum(both) - both / 2) * bins / n).astype(int), bins - 1)
    rows = np.bincount(which, both, bins)
    kept = rows > 0
    rows = rows[kept]
    said = np.clip(np.bincount(which, both * scores.middle, bins)[kept] / rows, 0.0, 1.0)
    was = np.bincount(which, scores.positives, bins)[kept] / rows
    share = rows / n
    error = np.sqrt(np.maximum(said * (1 - said), was * (1 - was)) / rows)
    value = float((share * np.abs(said - was)).sum())
    noise = float((share * error).sum() * np.sqrt(2 / np.pi))
    coarse = float((both * (scores.upper - scores.lower)).sum()) / (2 * n)
    half = -float(ndtri(alpha)) * float((share**2 * error**2).sum()) ** 0.5
    low, high = max(value - noise - coarse - half, 0.0), min(value + coarse + half, 1.0)
    return Estimate(value, low, max(high, value), n, None, {"noise": noise})


def _variance(values: Floats, counts: Floats) -> float:
    n = counts.sum()
    centre = (values * counts).sum() / n
    return float(((values - centre) ** 2 * counts).sum() / n)
