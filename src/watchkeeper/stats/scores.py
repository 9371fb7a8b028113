"""Metrics of a binary classifier as functions of score-by-label counts, written once each.

`Scores` holds, over the same ascending score bins, how many negatives and positives fell into each. Every
metric at every threshold, the curves, calibration and losses follow. A value differs from the one computed on
raw scores by what the bin's width leaves open: nothing for accuracy at a threshold that is an edge, at most
half the pairs that share a bin for AUC, at most half a bin's width for calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from watchkeeper.stats.estimates import Estimate, mean, proportion
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.sequential import Arm


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
    said_yes = scores.lower >= threshold
    right = scores.positives[said_yes].sum() + scores.negatives[~said_yes].sum()
    return proportion(int(right), scores.n, alpha)


def auc(scores: Scores, alpha: float) -> Estimate:
    """Area under the ROC curve with DeLong's interval (DeLong, DeLong and Clarke-Pearson 1988), on the logit scale.

    Pairs that share a bin count one half. Absent unless both labels occur.
    """
    positives, negatives = scores.positives, scores.negatives
    n_pos, n_neg = positives.sum(), negatives.sum()
    if not n_pos or not n_neg:
        return Estimate.absent(scores.n)
    below = (np.cumsum(negatives) - negatives / 2) / n_neg  # share of negatives below a positive in this bin
    above = 1 - (np.cumsum(positives) - positives / 2) / n_pos
    value = float((positives * below).sum() / n_pos)
    variance = _variance(below, positives) / max(n_pos - 1, 1) + _variance(above, negatives) / max(n_neg - 1, 1)
    if not 0 < value < 1:
        half = 1 - alpha ** (1 / min(n_pos, n_neg))
        return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), scores.n)
    logit, half = np.log(value / (1 - value)), -ndtri(alpha) * variance**0.5 / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-(logit + s * half)))) for s in (-1, 1))
    return Estimate(value, low, high, scores.n)


def log_loss(scores: Scores, alpha: float) -> Estimate:
    """Mean negative log likelihood in nats, each score taken at the middle of its bin; normal interval."""
    loss_pos, loss_neg = -np.log(scores.middle), -np.log1p(-scores.middle)
    total = (scores.positives * loss_pos).sum() + (scores.negatives * loss_neg).sum()
    squares = (scores.positives * loss_pos**2).sum() + (scores.negatives * loss_neg**2).sum()
    return mean(float(total), float(squares), scores.n, alpha)


def log_loss_arm(scores: Scores) -> Arm:
    """Log loss as one arm of a comparison."""
    loss = log_loss(scores, 0.5)
    if loss.value is None:
        return Arm(0, 0.0, 0.0)
    loss_pos, loss_neg = -np.log(scores.middle), -np.log1p(-scores.middle)
    squares = (scores.positives * loss_pos**2).sum() + (scores.negatives * loss_neg**2).sum()
    return Arm(scores.n, loss.value, max(float(squares) / scores.n - loss.value**2, 0.0))


def calibration_error(scores: Scores, alpha: float, bins: int = 10) -> Estimate:
    """Expected calibration error over bins of equal mass: `sum share |mean score - share of positives|`.

    The plain sum of absolute gaps is biased upward (Kumar, Liang and Ma 2019); its mean for a calibrated model,
    `sum share sqrt(2/pi) se`, is given as `noise` and is taken off the lower end. The standard error treats the
    bins as independent and each gap's error as binomial.
    """
    n = scores.n
    if n == 0:
        return Estimate.absent(0)
    both = scores.negatives + scores.positives
    which = np.minimum(((np.cumsum(both) - both / 2) * bins / n).astype(int), bins - 1)
    rows = np.bincount(which, both, bins)
    kept = rows > 0
    rows = rows[kept]
    said = np.bincount(which, both * scores.middle, bins)[kept] / rows
    was = np.bincount(which, scores.positives, bins)[kept] / rows
    share = rows / n
    error = np.sqrt(said * (1 - said) / rows)
    value = float((share * np.abs(said - was)).sum())
    noise = float((share * error).sum() * np.sqrt(2 / np.pi))
    half = -float(ndtri(alpha)) * float((share**2 * error**2).sum()) ** 0.5
    return Estimate(value, max(value - noise - half, 0.0), min(value + half, 1.0), n, None, {"noise": noise})


def _variance(values: Floats, counts: Floats) -> float:
    n = counts.sum()
    centre = (values * counts).sum() / n
    return float(((values - centre) ** 2 * counts).sum() / n)
