"""Metrics of a classifier into several classes, and of one with several labels a row, as functions of counts.

A `Matrix` says how often each class was predicted as which. Values are those of scikit-learn on the rows, to the last
digits; a class that occurs neither as label nor as prediction has no part in a mean over classes, and one that lacks
the share asked for (precision where it was never predicted, recall where it never occurred) takes part with 0, as in
scikit-learn, and with the whole of [0, 1] in the interval. Intervals have error `alpha` on each side.

Shares of a known number of rows have their exact interval (Clopper and Pearson 1934). Means of them over classes
recover their variances from these (MOVER; Zou and Donner 2008). The others have the delta method's interval for the
multinomial cells, on the logit scale, see `_delta`. Where the joint counts of several scores or labels of one row are
not known, parts are put together as if they moved as one: never too narrow, see `moving_as_one`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from watchkeeper.stats import calibration, confusion, scores
from watchkeeper.stats.confusion import FEW_IN_A_CELL, Confusion
from watchkeeper.stats.estimates import Estimate, on_logit_scale, proportion, proportions, ranges
from watchkeeper.stats.grid import Bools, Floats
from watchkeeper.stats.scores import EXTREME, Scores, mean_of_losses

FEW = 20
"""Rows apart from the largest class below which the delta method has no interval."""
FEW_WRONG = 5
"""The same for rows that are predicted wrong, or right."""

OfCounts = Callable[[Confusion, float], Estimate]
OfScores = Callable[[Scores, float], Estimate]


DIVISORS: dict[OfCounts, Callable[[Confusion], float]] = {
    confusion.precision: lambda counts: counts.predicted,
    confusion.recall: lambda counts: counts.positives,
    confusion.f1: lambda counts: (counts.positives + counts.predicted) / 2,
}
"""What a metric of one label is divided by: its weight in the metric of all labels' counts together."""


@dataclass(frozen=True)
class Matrix:
    """How many rows of each class were predicted as which; expected numbers need not be whole.

    Attributes:
        classes: their names.
        counts: row `i`, column `j`: rows of class `i` predicted as class `j`, shape (classes, classes).
        outside: rows of each class predicted as something that is none of the classes, shape (classes,).
    """

    classes: tuple[str, ...]
    counts: Floats
    outside: Floats

    @classmethod
    def of(cls, counted: Mapping[tuple[str, str], int], classes: Sequence[str] | None = None) -> Matrix:
        """The matrix of counts by `(label, prediction)`.

        Args:
            classes: the known classes; without them, all that occur as a label. A label outside them is an error
                (ValueError).

        >>> Matrix.of({("cat", "cat"): 3, ("cat", "dog"): 1, ("dog", "cow"): 2}).outside.tolist()
        [0.0, 2.0]
        """
        known = tuple(sorted({label for label, _ in counted}) if classes is None else classes)
        at = {name: i for i, name in enumerate(known)}
        counts = np.zeros((len(known), len(known) + 1))
        for (label, prediction), rows in counted.items():
            if label not in at:
                raise ValueError(f'the label "{label}" is none of the classes {", ".join(known)}; name all classes')
            counts[at[label], at.get(prediction, len(known))] += rows
        return cls(known, counts[:, :-1], counts[:, -1])

    @cached_property
    def total(self) -> float:
        return float(self.counts.sum() + self.outside.sum())

    @property
    def n(self) -> int:
        """The whole number of rows that the total is nearest to."""
        return round(self.total)

    @cached_property
    def right(self) -> Floats:
        """Rows of each class that were predicted right."""
        return np.diagonal(self.counts).astype(float)

    @cached_property
    def support(self) -> Floats:
        """Rows of each class."""
        rows: Floats = self.counts.sum(axis=1) + self.outside
        return rows

    @cached_property
    def predicted(self) -> Floats:
        """Rows predicted as each class."""
        rows: Floats = self.counts.sum(axis=0)
        return rows

    @cached_property
    def occurs(self) -> Bools:
        """Which classes occur, as label or as prediction."""
        return self.support + self.predicted > 0

    def against_rest(self, name: str) -> Confusion:
        """The four counts of one class against all others together: what every metric of one class is taken of."""
        i = self.classes.index(name)
        hits, misses = self.right[i], self.support[i] - self.right[i]
        alarms = self.predicted[i] - hits
        rest = max(self.total - hits - misses - alarms, 0.0)
        return Confusion(float(hits), float(alarms), float(misses), rest)


def per_class(matrix: Matrix, measure: OfCounts, alpha: float) -> dict[str, Estimate]:
    """A metric of each class against the rest: `confusion.precision`, `recall`, `f1`, `share_of_class`.

    >>> two = Matrix(("cat", "dog"), np.array([[8.0, 2.0], [1.0, 9.0]]), np.zeros(2))
    >>> {name: round(found.value, 3) for name, found in per_class(two, confusion.precision, 0.025).items()}
    {'cat': 0.889, 'dog': 0.818}
    """
    return {name: measure(matrix.against_rest(name), alpha) for name in matrix.classes}


def share_of_class(counts: Confusion, alpha: float) -> Estimate:
    """Support of a class as a share of all rows; its number of rows is in the detail."""
    return proportion(counts.positives, counts.n, alpha).about(support=counts.positives)


def accuracy(matrix: Matrix, alpha: float) -> Estimate:
    """Share of rows predicted right; the micro and the weighted mean of recall too."""
    return proportion(float(matrix.right.sum()), matrix.total, alpha)


def micro_precision(matrix: Matrix, alpha: float) -> Estimate:
    """Share of the predictions of known classes that are right: accuracy where nothing else is predicted."""
    known = float(matrix.predicted.sum())
    return proportion(float(matrix.right.sum()), known, alpha) if known else Estimate.absent(matrix.n)


def micro_f1(matrix: Matrix, alpha: float) -> Estimate:
    """Harmonic mean of accuracy and micro precision: accuracy where only known classes are predicted.

    `2 a k / (1 + k)`, with `k` the share of predictions of known classes and `a` how many of these are right, whose
    estimates are independent: by recovering variances.
    """
    known, right = float(matrix.predicted.sum()), float(matrix.right.sum())
    if not matrix.outside.any() or not known:
        return accuracy(matrix, alpha)

    def at(rights: float, share: float) -> float:
        return 2 * rights * share / (1 + share)

    a, k = right / known, known / matrix.total
    (a_low, k_low), (a_high, k_high) = proportions(np.array([right, known]), np.array([known, matrix.total]), alpha)
    value = at(a, k)
    low = value - np.hypot(value - at(a_low, k), value - at(a, k_low))
    high = value + np.hypot(at(a_high, k) - value, at(a, k_high) - value)
    return Estimate(value, float(max(low, 0.0)), float(min(high, 1.0)), matrix.n)


def macro_precision(matrix: Matrix, alpha: float) -> Estimate:
    """Plain mean of the classes' precision."""
    return _mean_of_shares(matrix, matrix.predicted, matrix.occurs.astype(float), alpha)


def macro_recall(matrix: Matrix, alpha: float) -> Estimate:
    """Plain mean of the recall of the classes that occur as label or as prediction."""
    return _mean_of_shares(matrix, matrix.support, matrix.occurs.astype(float), alpha)


def balanced_accuracy(matrix: Matrix, alpha: float) -> Estimate:
    """Plain mean of the recall of the classes that occur as a label."""
    return _mean_of_shares(matrix, matrix.support, (matrix.support > 0).astype(float), alpha)


def macro_f1(matrix: Matrix, alpha: float) -> Estimate:
    """Plain mean of the classes' F1.

    Variances are recovered from the exact intervals of Jaccard's index of each class, with the correlations that the
    delta method gives: a row of one class predicted as another lowers the F1 of both.
    """
    if not matrix.total:
        return Estimate.absent(0)
    return _mean_of_f1(matrix, matrix.occurs.astype(float), alpha)


def weighted_precision(matrix: Matrix, alpha: float) -> Estimate:
    """Mean of the classes' precision, each weighted by the share of its label."""
    if not matrix.total:
        return Estimate.absent(0)
    said = np.maximum(matrix.predicted, 1)
    each, weight = matrix.right / said, matrix.support / said
    moved = np.diag(weight) - (weight * each)[None, :] + each[:, None]
    drawn = _delta(float(matrix.support @ each) / matrix.total, _with_outside(moved, each), matrix, alpha, 0.0)
    return _wider(drawn, _mean_of_shares(matrix, matrix.predicted, matrix.support, alpha))


def weighted_f1(matrix: Matrix, alpha: float) -> Estimate:
    """Mean of the classes' F1, each weighted by the share of its label."""
    if not matrix.total:
        return Estimate.absent(0)
    sums = np.maximum(matrix.support + matrix.predicted, 1)
    each, weight = 2 * matrix.right / sums, matrix.support / sums
    of_label = each - weight * each
    moved = np.diag(2 * weight) + of_label[:, None] - (weight * each)[None, :]
    drawn = _delta(float(matrix.support @ each) / matrix.total, _with_outside(moved, of_label), matrix, alpha, 0.0)
    return _wider(drawn, _mean_of_f1(matrix, matrix.support, alpha))


def kappa(matrix: Matrix, alpha: float) -> Estimate:
    """Cohen's kappa (1960): agreement of label and prediction beyond chance, 1 at best, 0 for guessing.

    `(p - e) / (1 - e)` with `p` the accuracy and `e` what it would be were both independent. Absent where all rows are
    of one class and predicted as it. Its gradient is that of Fleiss, Cohen and Everitt (1969).

    >>> two = Matrix(("yes", "no"), np.array([[20.0, 5.0], [10.0, 15.0]]), np.zeros(2))
    >>> round(kappa(two, 0.025).value, 3)
    0.4
    """
    n = matrix.total
    if not n:
        return Estimate.absent(0)
    label, said = matrix.support / n, matrix.predicted / n
    agreed, chance = float(matrix.right.sum()) / n, float(label @ said)
    if chance == 1:
        return Estimate.absent(matrix.n)
    of_chance = (1 - agreed) / (1 - chance) ** 2
    moved = np.eye(len(label)) / (1 - chance) - of_chance * (said[:, None] + label[None, :])
    value = (agreed - chance) / (1 - chance)
    return _beyond_chance(value, _with_outside(moved, -of_chance * said), matrix, alpha)


def mcc(matrix: Matrix, alpha: float) -> Estimate:
    """Matthews' correlation coefficient of several classes (Gorodkin 2004, R_K), 1 at best, 0 for guessing.

    Predictions outside the known classes are one class more. Absent where all labels or all predictions are the same.
    """
    n = matrix.total
    if not n:
        return Estimate.absent(0)
    label, said = matrix.support / n, matrix.predicted / n
    strange = float(matrix.outside.sum()) / n
    spread = 1 - float(label @ label), 1 - float(said @ said) - strange**2
    if min(spread) <= 1e-15:
        return Estimate.absent(matrix.n)
    root = (spread[0] * spread[1]) ** 0.5
    value = (float(matrix.right.sum()) / n - float(label @ said)) / root
    of_label = label * value / spread[0] - said / root
    of_said = said * value / spread[1] - label / root
    moved = np.eye(len(label)) / root + of_label[:, None] + of_said[None, :]
    outside = of_label + strange * value / spread[1]
    return _beyond_chance(value, _with_outside(moved, outside), matrix, alpha)


def decision_cost(matrix: Matrix, costs: Floats, alpha: float) -> Estimate:
    """Mean cost of a prediction, by its label and by what was predicted.

    Args:
        costs: of each cell, the last column those of predictions outside the classes, shape (classes, classes + 1);
            NaN where none is known: such rows do not count.

    The variance is the delta method's for the multinomial cells, `sum(share * (cost - mean)^2) / n`, which is exact for
    a linear function. Its parts are recovered from the exact Poisson intervals (Garwood 1936) of the rows of each cost
    (MOVER; Zou and Donner 2008), so that mistakes that were not seen, or seldom, widen the interval by what they cost.
    Cells of the same cost are counted together.

    >>> two = Matrix(("fraud", "pass"), np.array([[40.0, 2.0], [30.0, 900.0]]), np.zeros(2))
    >>> found = decision_cost(two, np.array([[0.0, 120.0, 0.0], [5.0, 0.0, 0.0]]), 0.025)
    >>> round(found.low, 2), round(found.value, 2), round(found.high, 2)
    (0.14, 0.4, 1.11)
    """
    cells = np.concatenate([matrix.counts, matrix.outside[:, None]], axis=1)
    known = ~np.isnan(costs)
    values, which = np.unique(costs[known], return_inverse=True)
    rows: Floats = np.bincount(which, cells[known], len(values)).astype(float)
    n = float(rows.sum())
    if not n:
        return Estimate.absent(0)
    mean = float(rows @ values) / n
    away, least, most = values - mean, *ranges(rows, alpha)
    down = np.where(away > 0, away * (rows - least), away * (rows - most)) / n
    up = np.where(away > 0, away * (most - rows), away * (least - rows)) / n
    few = rows < FEW_IN_A_CELL
    low, high = mean - _reach(down, few), mean + _reach(up, few)
    return Estimate(mean, max(low, float(values[0])), min(high, float(values[-1])), round(n))


def macro_auc(each: Mapping[str, Scores], alpha: float) -> Estimate:
    """Plain mean of the areas under the ROC curves of each class against the rest; absent unless each class occurs.

    Args:
        each: of every class the score that was given for it, as counts where it was the label (`positives`), and where
            it was not (`negatives`).
    """
    return _mean_auc(each, np.ones(len(each)), alpha, counted=False)


def weighted_auc(each: Mapping[str, Scores], alpha: float) -> Estimate:
    """The same, each class weighted by its share of the labels."""
    return _mean_auc(each, np.array([float(s.positives.sum()) for s in each.values()]), alpha, counted=True)


def _mean_auc(each: Mapping[str, Scores], weights: Floats, alpha: float, *, counted: bool) -> Estimate:
    n = max((s.n for s in each.values()), default=0)
    parts = [scores.auc(s, alpha) for s in each.values()]
    if not parts or any(part.value is None for part in parts):
        return Estimate.absent(n)
    return moving_as_one(parts, weights, n, alpha if counted else None).about(
        **{"AUC by class": {k: p.value for k, p in zip(each, parts, strict=True)}}
    )


def log_loss(each: Mapping[str, Scores], alpha: float) -> Estimate:
    """Mean negative logarithm of the score of the class that it was, in nats.

    Args:
        each: as for `macro_auc`. Scores are taken at the middle of their bin, and no nearer than `EXTREME` to zero.

    A row has one label, so the positives of all classes together are the rows. See `scores.mean_of_losses`.
    """
    said = np.concatenate([np.clip(s.middle, EXTREME, 1 - EXTREME) for s in each.values()] or [np.zeros(0)])
    hits = np.concatenate([s.positives for s in each.values()] or [np.zeros(0)])
    n = int(hits.sum())
    if not n:
        return Estimate.absent(0)
    rows = np.concatenate([s.positives + s.negatives for s in each.values()])
    losses, seen, implied = -np.log(said), hits / n, rows * said
    implied = implied / implied.sum()
    value = float(seen @ losses)
    around = (seen, losses - value), (implied, losses - float(implied @ losses))
    second, third = (max(float(weight @ away**k) for weight, away in around) for k in (2, 3))
    few = min(float(s.positives.sum()) for s in each.values()) < scores.FEW_OF_A_CLASS
    return mean_of_losses(value, second, third, -float(np.log(EXTREME)), n, alpha, few=few)


def brier(each: Mapping[str, Scores], alpha: float) -> Estimate:
    """Mean over the rows of the sum over the classes of the squared difference of score and label (Brier 1950), 0 to 2.

    Args:
        each: as for `macro_auc`.
    """
    n = max((s.n for s in each.values()), default=0)
    parts = [calibration.brier(s, alpha) for s in each.values()]
    if not n or any(part.value is None for part in parts):
        return Estimate.absent(n)
    found = moving_as_one(parts, np.ones(len(parts)), n)
    value, low, high = (None if x is None else x * len(parts) for x in (found.value, found.low, found.high))
    return Estimate(value, low, high, n)


def classwise_calibration_error(each: Mapping[str, Scores], alpha: float) -> Estimate:
    """Plain mean over the classes of each one's `calibration.calibration_error` (Kull, Perello-Nieto, Kängsepp, Silva
    Filho, Song and Flach 2019). The detail holds the mean of the debiased values, and each class's value.

    Args:
        each: as for `macro_auc`.
    """
    n = max((s.n for s in each.values()), default=0)
    parts = {name: calibration.calibration_error(s, alpha) for name, s in each.items()}
    if not n or any(part.value is None for part in parts.values()):
        return Estimate.absent(n)
    debiased = float(np.mean([part.detail["debiased"] for part in parts.values()]))
    by_class = {name: part.value for name, part in parts.items()}
    found = moving_as_one(list(parts.values()), np.ones(len(parts)), n)
    return found.about(debiased=debiased, **{"error by class": by_class})


def label_macro(measure: OfCounts, each: Sequence[Confusion], alpha: float) -> Estimate:
    """Plain mean over the labels of a classifier with several labels a row.

    Args:
        measure: `confusion.precision`, `recall` or `f1`.
        each: the counts of every label; each holds all rows.

    >>> found = label_macro(confusion.recall, [Confusion(30, 5, 10, 55), Confusion(10, 5, 10, 75)], 0.025)
    >>> found.value
    0.625
    """
    return _mean_of_labels(measure, each, [1.0 for _ in each], alpha, counted=False)


def label_weighted(measure: OfCounts, each: Sequence[Confusion], alpha: float) -> Estimate:
    """The same, each label weighted by its positives."""
    return _mean_of_labels(measure, each, [float(counts.positives) for counts in each], alpha, counted=True)


def label_micro(measure: OfCounts, each: Sequence[Confusion], alpha: float) -> Estimate:
    """The metric of all labels' counts together: their mean, each weighted by what its own is divided by."""
    return _mean_of_labels(measure, each, [DIVISORS[measure](counts) for counts in each], alpha, counted=True)


def hamming_loss(each: Sequence[Confusion], alpha: float) -> Estimate:
    """Share of all rows' labels that were predicted wrong; `each` holds the counts of every label."""
    found = label_macro(confusion.accuracy, each, alpha)
    if found.value is None or found.low is None or found.high is None:
        return found
    return Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.n)


def subset_accuracy(all_right: int, n: int, alpha: float) -> Estimate:
    """Share of rows whose labels were all predicted right."""
    return proportion(all_right, n, alpha)


def _mean_of_labels(
    measure: OfCounts, each: Sequence[Confusion], weights: list[float], alpha: float, *, counted: bool
) -> Estimate:
    n = max((counts.n for counts in each), default=0)
    found = [measure(counts, alpha) for counts in each]
    some = [i for i, counts in enumerate(each) if counts.positives + counts.predicted]
    if measure is confusion.accuracy:
        some = [i for i, counts in enumerate(each) if counts.n]
    if not sum(weights[i] for i in some):
        return Estimate.absent(n)
    parts = [found[i] if found[i].value is not None else Estimate(0.0, 0.0, 1.0, 0) for i in some]
    return moving_as_one(parts, np.array([weights[i] for i in some]), n, alpha if counted else None)


def moving_as_one(parts: Sequence[Estimate], weights: Floats, n: int, alpha: float | None = None) -> Estimate:
    """A weighted mean of estimates from the same rows, of which it is not known how they move together.

    The ends are the means of the ends, as if all parts moved as one: none spread further together. None where an end of
    a part is.

    Args:
        alpha: given where the weights are rows of the `n` too, and so are estimates: what the ends of each one's exact
            interval move the mean by is added.
    """
    share = weights / weights.sum()
    each = np.array([part.value or 0.0 for part in parts])
    value, moved = float(share @ each), 0.0
    if alpha is not None:
        low, high = proportions(weights, np.full(len(weights), float(n)), alpha)
        reach = np.maximum(weights / n - low, high - weights / n) * n / weights.sum()
        moved = float(np.abs(each - value) @ reach)

    def mean(ends: Sequence[float | None]) -> float | None:
        known = [end for end in ends if end is not None]
        return float(share @ np.array(known)) if len(known) == len(ends) else None

    least, most = mean([part.low for part in parts]), mean([part.high for part in parts])
    return Estimate(
        value,
        None if least is None else max(least - moved, 0.0),
        None if most is None else min(most + moved, 1.0),
        n,
    )


def _mean_of_shares(matrix: Matrix, rows: Floats, weights: Floats, alpha: float) -> Estimate:
    """A weighted mean over the classes of the share that was right of each one's `rows`, which are independent."""
    if not weights.sum():
        return Estimate.absent(matrix.n)
    each = matrix.right / np.maximum(rows, 1)
    few = np.minimum(matrix.right, rows - matrix.right) < FEW_IN_A_CELL
    ends = proportions(matrix.right, rows, alpha)
    return _recovered(each, ends, few, np.eye(len(rows)), weights, matrix.n)


def _mean_of_f1(matrix: Matrix, weights: Floats, alpha: float) -> Estimate:
    """A weighted mean of the classes' F1.

    Each has the interval that the exact one of Jaccard's index gives (see `confusion.f1`), and the correlations are the
    delta method's: a row of one class predicted as another lowers the F1 of both.
    """
    right, sums = matrix.right, np.maximum(matrix.support + matrix.predicted, 1)
    each = 2 * right / sums
    low, high = (2 * end / (1 + end) for end in proportions(right, sums - right, alpha))
    shared = np.outer(each / sums, each / sums) * (matrix.counts + matrix.counts.T)
    own = 4 * right / sums**2 * (1 - each) ** 2 + (each / sums) ** 2 * (sums - 2 * right)
    together = np.minimum(shared / np.sqrt(np.outer(own, own) + 1e-300), 1.0)
    np.fill_diagonal(together, 1.0)
    few = np.minimum(right, sums - 2 * right) < FEW_IN_A_CELL
    return _recovered(each, (low, high), few, together, weights, matrix.n)


def _recovered(
    each: Floats, ends: tuple[Floats, Floats], few: Bools, together: Floats, weights: Floats, n: int
) -> Estimate:
    """A weighted mean whose variance is recovered from its parts' intervals (MOVER; Zou and Donner 2008).

    Far ends of few rows do not add up like normal ones: the reach of those parts is made larger, up to what it were
    did up to four of them move as one.

    Args:
        few: which parts have few rows, shape (parts,).
        together: their correlations, shape (parts, parts).
    """
    share = weights / weights.sum()
    value = float(share @ each)
    below, above = (_reach(share * away, few, together) for away in (each - ends[0], ends[1] - each))
    return Estimate(value, max(value - below, 0.0), min(value + above, 1.0), n)


def _reach(parts: Floats, few: Bools, together: Floats | None = None) -> float:
    """How far the end of a sum lies from it, of how far those of its parts lie from them; see `_recovered`."""
    squares = float(parts @ parts if together is None else parts @ together @ parts)
    of_few = np.where(few, parts, 0.0)
    alone = float(np.sqrt((of_few**2).sum()))
    linear = min(2 * alone, float(of_few.sum()))
    return float(np.sqrt(max(squares, 0.0) + linear**2 - alone**2))


def _wider(first: Estimate, second: Estimate) -> Estimate:
    """An estimate with the outer ends of two intervals; of the second alone where the first has none."""
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return second
    return Estimate(first.value, min(first.low, second.low), max(first.high, second.high), first.n)


def _beyond_chance(value: float, moved: Floats, matrix: Matrix, alpha: float) -> Estimate:
    """The interval of kappa or Matthews' coefficient.

    Both are about `1 - wrong / spread`, with `wrong` the share of rows predicted wrong and `spread` what it would be by
    chance. Where few rows are wrong, the ends follow from the exact interval of that share and from those of the
    largest class's share of the labels and of the predictions, among which the error is divided.
    """
    n = matrix.total
    wrong = n - float(matrix.right.sum())
    if wrong >= FEW_WRONG:
        return _delta(value, moved, matrix, alpha, -1.0)
    rate = proportion(wrong, n, alpha / 2)
    spreads = []
    for rows in (matrix.support, np.append(matrix.predicted, matrix.outside.sum())):
        share = rows / n
        largest = np.array([rows.max()])
        ends = np.concatenate(proportions(largest, np.array([n]), alpha / 4))
        seen, least = (float((2 * m * (1 - m)).min()) for m in (largest / n, ends))
        spreads.append((1 - float(share @ share)) * least / seen if seen else 0.0)
    low = 1 - (rate.high or 0.0) / max(min(spreads), 1e-12)
    return Estimate(value, min(max(low, -1.0), value), max(1 - (rate.low or 0.0), value), matrix.n)


def _with_outside(moved: Floats, outside: Floats) -> Floats:
    return np.concatenate([moved, outside[:, None]], axis=1)


def _delta(value: float, moved: Floats, matrix: Matrix, alpha: float, least: float) -> Estimate:
    """The delta method's interval of a function of the cells' shares, on the logit scale of `[least, 1]`.

    Args:
        moved: by how much the function moves with the share of each cell, shape (classes, classes + 1), the last
            column that of the predictions outside.
    """
    n = matrix.total
    share = np.concatenate([matrix.counts, matrix.outside[:, None]], axis=1) / n
    centre = float((share * moved).sum())
    variance = float((share * (moved - centre) ** 2).sum()) / max(n - 1, 1)
    inside = (value - least) / (1 - least)
    apart = n - float(matrix.support.max())
    wrong = n - float(matrix.right.sum())
    if apart < FEW or min(wrong, n - wrong) < FEW_WRONG or not 0 < inside < 1:
        return Estimate(value, None, None, matrix.n)
    low, high = on_logit_scale(value, variance**0.5, n - 1, alpha, least)
    return Estimate(value, min(low, value), max(high, value), matrix.n)
