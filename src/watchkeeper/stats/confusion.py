"""Metrics of a binary classifier at a threshold, each a function of its four counts, written once.

At a threshold that is an edge of the score's grid (every thousandth, for probabilities) the counts are those of the
raw scores, and so is every value. A metric is absent where its denominator is zero. Intervals have error `alpha` on
each side. Shares of a known number of rows have their exact interval (Clopper and Pearson 1934). The others are
functions of three independent shares (the base rate, and the true and the false positive rate), see `_of_shares`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from watchkeeper.stats.estimates import Estimate, proportion
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

FEW_IN_A_CELL = 50
LEAST = 1e-12
"""Shares are taken this far from 0 and 1 where they stand in a denominator."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many rows were predicted positive or negative, rightly or wrongly; expected numbers need not be whole."""

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float

    @classmethod
    def at(cls, scores: Scores, threshold: float) -> Confusion:
        """The counts where a score at or above `threshold` is a positive prediction."""
        yes = predicted_positive(scores.lower, threshold)
        hits, alarms = scores.positives[yes].sum(), scores.negatives[yes].sum()
        misses, passed = scores.positives.sum() - hits, scores.negatives.sum() - alarms
        return cls(float(hits), float(alarms), float(misses), float(passed))

    @property
    def positives(self) -> float:
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> float:
        return self.false_positives + self.true_negatives

    @property
    def predicted(self) -> float:
        """Rows predicted positive."""
        return self.true_positives + self.false_positives

    @property
    def total(self) -> float:
        return self.positives + self.negatives

    @property
    def n(self) -> int:
        """The whole number of rows that the total is nearest to."""
        return round(self.total)


def predicted_positive(lower: Floats, threshold: float) -> NDArray[np.bool_]:
    """Of score bins that begin at `lower`, which are predicted positive."""
    return lower >= threshold - 1e-9  # a threshold that is an edge may differ in its last digit


def accuracy(counts: Confusion, alpha: float) -> Estimate:
    """`(TP + TN) / n`, the share of rows predicted right."""
    return _share(counts.true_positives + counts.true_negatives, counts.total, counts, alpha)


def precision(counts: Confusion, alpha: float) -> Estimate:
    """`TP / (TP + FP)`, the share of positive predictions that are right; absent without positive predictions."""
    return _share(counts.true_positives, counts.predicted, counts, alpha)


def recall(counts: Confusion, alpha: float) -> Estimate:
    """`TP / (TP + FN)`, the share of positives that are found, or true positive rate; absent without positives."""
    return _share(counts.true_positives, counts.positives, counts, alpha)


def specificity(counts: Confusion, alpha: float) -> Estimate:
    """`TN / (TN + FP)`, the share of negatives that are left alone; absent without negatives."""
    return _share(counts.true_negatives, counts.negatives, counts, alpha)


def false_positive_rate(counts: Confusion, alpha: float) -> Estimate:
    """`FP / (FP + TN)`, the share of negatives that are predicted positive; absent without negatives.

    >>> found = false_positive_rate(Confusion(5, 0, 1, 494), 0.025)
    >>> found.value, round(found.high, 4), found.n
    (0.0, 0.0074, 494)
    """
    return _share(counts.false_positives, counts.negatives, counts, alpha)


def false_negative_rate(counts: Confusion, alpha: float) -> Estimate:
    """`FN / (FN + TP)`, the share of positives that are missed; absent without positives."""
    return _share(counts.false_negatives, counts.positives, counts, alpha)


def f1(counts: Confusion, alpha: float) -> Estimate:
    """`2 TP / (2 TP + FP + FN)`, the harmonic mean of precision and recall; absent where all are true negatives.

    With J the share of true positives among all rows that are not true negatives (Jaccard's index), it is
    `2 J / (1 + J)`: J's exact interval becomes one of F1.

    >>> found = f1(Confusion(8, 1, 2, 0), 0.025)
    >>> round(found.low, 3), round(found.value, 3), round(found.high, 3)
    (0.561, 0.842, 0.969)
    """
    rows = counts.true_positives + counts.false_positives + counts.false_negatives
    jaccard = _share(counts.true_positives, rows, counts, alpha)
    if jaccard.value is None or jaccard.low is None or jaccard.high is None:
        return jaccard
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Estimate(value, low, high, jaccard.n)


def balanced_accuracy(counts: Confusion, alpha: float) -> Estimate:
    """The mean of recall and specificity; absent unless both labels occur."""
    if not counts.positives or not counts.negatives:
        return Estimate.absent(counts.n)
    value = (counts.true_positives / counts.positives + counts.true_negatives / counts.negatives) / 2
    return _of_shares(value, lambda rate, found, alarmed: (found + 1 - alarmed) / 2, counts, alpha)


def mcc(counts: Confusion, alpha: float) -> Estimate:
    """Matthews' correlation coefficient (1975), the correlation of prediction and label.

    `(TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN))`; absent where one of the four sums is zero.
    """
    sums = counts.positives * counts.negatives * counts.predicted * (counts.total - counts.predicted)
    if not sums:
        return Estimate.absent(counts.n)
    right = counts.true_positives * counts.true_negatives
    wrong = counts.false_positives * counts.false_negatives
    return _of_shares((right - wrong) / float(np.sqrt(float(sums))), _correlation, counts, alpha)


def lift(counts: Confusion, alpha: float) -> Estimate:
    """Precision over the base rate: how many times more frequent positives are where they are predicted.

    `TP n / ((TP + FP) (TP + FN))`; absent without positives or without positive predictions.
    """
    if not counts.positives or not counts.predicted:
        return Estimate.absent(counts.n)
    value = counts.true_positives * counts.total / (counts.predicted * counts.positives)
    return _of_shares(value, lambda rate, found, alarmed: found / (rate * found + (1 - rate) * alarmed), counts, alpha)


@dataclass(frozen=True, slots=True)
class Costs:
    """What one prediction costs by how it turns out, in any currency; a gain is a negative cost."""

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float


def decision_cost(counts: Confusion, costs: Costs, alpha: float) -> Estimate:
    """Mean cost of a prediction, `sum(count * cost) / n`, in the currency of `costs`.

    >>> found = decision_cost(Confusion(400, 300, 200, 9100), Costs(0, 5, 120, 0), 0.025)
    >>> round(found.low, 2), found.value, round(found.high, 2)
    (2.18, 2.55, 2.94)
    """
    if not counts.total:
        return Estimate.absent(0)

    def cost(rate: float, found: float, alarmed: float) -> float:
        of_positive = found * costs.true_positive + (1 - found) * costs.false_negative
        return rate * of_positive + (1 - rate) * (alarmed * costs.false_positive + (1 - alarmed) * costs.true_negative)

    total = (
        counts.true_positives * costs.true_positive
        + counts.false_positives * costs.false_positive
        + counts.false_negatives * costs.false_negative
        + counts.true_negatives * costs.true_negative
    )
    return _of_shares(total / counts.total, cost, counts, alpha)


def _share(hits: float, rows: float, counts: Confusion, alpha: float) -> Estimate:
    return proportion(hits, rows, alpha) if rows else Estimate.absent(counts.n)


def _correlation(rate: float, found: float, alarmed: float) -> float:
    predicted = rate * found + (1 - rate) * alarmed
    return (found - alarmed) * float(np.sqrt(rate * (1 - rate) / (predicted * (1 - predicted))))


def _of_shares(value: float, of: Callable[[float, float, float], float], counts: Confusion, alpha: float) -> Estimate:
    """A function of the base rate, the true and the false positive rate, whose estimates are independent.

    Where some cell has fewer than `FEW_IN_A_CELL` rows the interval is that of the function over the box of the
    shares' exact intervals, among which the error is divided (Newcombe 2011, propagating imprecision): never too
    narrow. Otherwise the shares' exact intervals are combined by recovering variances (MOVER; Zou and Donner 2008):
    the root of the squares of what each share alone moves the function by.

    Args:
        value: what the function is at the shares that were seen.
        of: monotone in each rate, and in the base rate too, or greatest where Matthews' coefficient is.
    """
    parts = ((counts.positives, counts.total), (counts.true_positives, counts.positives),
             (counts.false_positives, counts.negatives))  # fmt: skip
    cells = counts.true_positives, counts.false_positives, counts.false_negatives, counts.true_negatives
    few = min(cells) < FEW_IN_A_CELL
    ends = [_ends(hits, rows, alpha / 4 if few else alpha / 2) for hits, rows in parts]
    if few:
        reached = [of(*corner) for corner in product(*ends)]
        reached += [of(rate, t, f) for t, f in product(*ends[1:]) if ends[0][0] < (rate := _turn(t, f)) < ends[0][1]]
        return Estimate(value, min(value, *reached), max(value, *reached), counts.n)
    seen = [hits / rows for hits, rows in parts]
    moved = [[of(*[*seen[:i], end, *seen[i + 1 :]]) - of(*seen) for end in ends[i]] for i in range(3)]
    low = sum(min(0.0, *by) ** 2 for by in moved) ** 0.5
    high = sum(max(0.0, *by) ** 2 for by in moved) ** 0.5
    return Estimate(value, value - low, value + high, counts.n)


def _ends(hits: float, rows: float, alpha: float) -> tuple[float, float]:
    found = proportion(hits, rows, alpha)
    return _inside(found.low or 0.0), _inside(1.0 if found.high is None else found.high)


def _inside(share: float) -> float:
    return min(max(share, LEAST), 1 - LEAST)


def _turn(found: float, alarmed: float) -> float:
    """The base rate at which Matthews' coefficient is furthest from zero, given both rates."""
    first, second = (float(np.sqrt(rate * (1 - rate))) for rate in (alarmed, found))
    return first / (first + second)
