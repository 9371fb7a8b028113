"""Performance of a classifier into several classes without labels: the confusion matrix that is to be expected.

Of each class two sides are counted: the rows that were predicted as it, by the score that they gave it, and the others,
by the score that they gave it. The reference says how often rows of either side with such a score were of the class
(`estimation.calibrate`). That gives the rows that will turn out right and those that will be missed, class by class.
Each row is of one class, so all that are missed together are those that were predicted wrong: they are scaled to be
(after NannyML's CBPE, which scales the probabilities of each row). Which class was taken for which follows from these
sums, beginning with what the reference shows, by iterative proportional fitting (Deming and Stephan 1940); no metric
here depends on more than the sums.

What it assumes: that of rows predicted alike with the same score the same share is of the class as in the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from watchkeeper.stats import estimation
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimates import Estimate, proportions
from watchkeeper.stats.estimation import Calibration
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

ROUNDS, NEAR = 50, 1e-12
"""Rounds of fitting the matrix to its sums, unless these are met sooner to within this share of the rows."""

Value = Callable[[Matrix], float | None]


@dataclass(frozen=True)
class Side:
    """Rows that were predicted as a class, or all others, by the score of that class: those of the reference, whose
    positives are of the class, and those of now."""

    seen: Scores
    now: Binned


@dataclass(frozen=True)
class Part:
    """How many rows of a side are of the class: how many are expected, the variance of that by the labels to come, how
    far the calibration's error may move it down and up, and how far rows with scores beyond the reference's may."""

    rows: float
    variance: float = 0.0
    error: tuple[float, float] = (0.0, 0.0)
    beyond: tuple[float, float] = (0.0, 0.0)
    outside: float = 0.0


def estimate(
    value: Value, reference: Matrix, predicted: Mapping[str, float], sides: Mapping[str, tuple[Side, Side]],
    alpha: float, within: tuple[float, float] = (0.0, 1.0),
) -> Estimate:  # fmt: skip
    """What a metric will be of rows of which prediction and scores are known, with the band that it will lie in.

    Args:
        value: the metric.
        reference: the confusion matrix of labelled rows, scored by the same model.
        predicted: rows that were predicted as each class now, or as anything else.
        sides: of each class the rows that were predicted as it and the others.
        alpha: error on each side.
        within: the least and the greatest value that the metric can take.

    The band allows for the labels to come, which are independent draws, and for the error of the calibration: the rows
    of each side are moved by their standard deviation, and by what the exact intervals of the calibration's blocks
    leave open, and the squares of what that moves the metric by are added. Rows whose scores lie beyond the reference's
    may turn out any way: the ends reach as far as that could move the metric. `detail` is that of
    `estimation.estimate`.

    Absent without rows, and where the reference has fewer than `estimation.FEW_LABELS` rows of a class or none
    predicted as one that is predicted now.
    """
    n = float(sum(predicted.values()))
    parts = {name: [_part(side, alpha) for side in both] for name, both in sides.items()}
    few = any(reference.support[reference.classes.index(name)] < estimation.FEW_LABELS for name in sides)
    known = [part for both in parts.values() for part in both if part is not None]
    if not n or few or len(known) < 2 * len(sides):
        return Estimate.absent(round(n), reference.n)
    counts = np.array([part.rows for part in known])
    names = [*sides]

    def at(rows: Floats) -> float | None:
        right, missed = dict(zip(names, rows[::2], strict=True)), dict(zip(names, rows[1::2], strict=True))
        return value(_matrix(reference, predicted, right, missed))

    base = at(counts)
    if base is None:
        return Estimate.absent(round(n), reference.n)

    def moved(rows: Floats) -> float:
        found = at(np.maximum(rows, 0.0))
        return 0.0 if found is None else found - base

    z, labels, errors = -float(ndtri(alpha)), np.zeros(2), np.zeros(2)
    for i, part in enumerate(known):
        step = max(part.variance**0.5, 1.0)
        if part.variance or any(part.error):
            one = np.where(np.arange(len(counts)) == i, step, 0.0)
            up, down = moved(counts + one) / step, moved(counts - one) / step
            for total, by in ((labels, (part.variance**0.5,) * 2), (errors, part.error)):
                ends = down * by[0], up * by[1]
                total += np.array([min(*ends, 0.0), max(*ends, 0.0)]) ** 2
    furthest = [moved(counts + np.array([part.beyond[end] for part in known])) for end in (0, 1)]
    reach = np.sqrt(z * z * labels + errors)
    low, high = base - reach[0] + min(0.0, *furthest), base + reach[1] + max(0.0, *furthest)
    detail = {
        "labels": z * float(labels.max()) ** 0.5,
        "calibration": float(errors.max()) ** 0.5,
        "outside": sum(part.outside for part in known[::2]) / n,
    }
    found, low, high = (float(np.clip(end, *within)) for end in (base, low, high))
    return Estimate(found, low, high, round(n), reference.n, detail)


def expected(
    reference: Matrix, predicted: Mapping[str, float], sides: Mapping[str, tuple[Side, Side]], alpha: float
) -> Matrix | None:
    """The confusion matrix that is expected; see `estimate`."""
    parts = {name: [_part(side, alpha) for side in both] for name, both in sides.items()}
    if any(part is None for both in parts.values() for part in both):
        return None
    right, missed = ({name: both[i].rows for name, both in parts.items()} for i in (0, 1))  # type: ignore[union-attr]
    return _matrix(reference, predicted, right, missed)


def _part(side: Side, alpha: float) -> Part | None:
    rows = side.now.counts
    if not rows.sum():
        return Part(0.0)
    calibration = estimation.calibrate(side.seen) or _level(side.seen)
    if calibration is None:
        return None
    share = np.interp(side.now.middle, calibration.middle, calibration.share)
    nearest = np.searchsorted((calibration.middle[1:] + calibration.middle[:-1]) / 2, side.now.middle)
    of_block = np.bincount(calibration.block[nearest], rows, len(calibration.rows))
    low, high = proportions(calibration.positives, calibration.rows, alpha)
    shares = calibration.positives / calibration.rows
    below, above = (float((of_block**2 * (end - shares) ** 2).sum()) ** 0.5 for end in (low, high))
    below_all = (side.now.middle < calibration.middle[0]) & (len(calibration.rows) > 1)
    above_all = (side.now.middle > calibration.middle[-1]) & (len(calibration.rows) > 1)
    fall, rise = -float((rows * share)[below_all].sum()), float((rows * (1 - share))[above_all].sum())
    return Part(
        float((rows * share).sum()), float((rows * share * (1 - share)).sum()), (below, above), (fall, rise),
        float(rows[below_all | above_all].sum()),
    )  # fmt: skip


def _level(seen: Scores) -> Calibration | None:
    """One share for all scores, where one of the labels is too rare to tell more."""
    held = seen.negatives + seen.positives > 0
    if not held.any():
        return None
    rows, positives = float(seen.total), float(seen.positives.sum())
    middle = seen.middle[held]
    block = np.zeros(len(middle), dtype=np.int64)
    share = np.full(len(middle), positives / rows)
    return Calibration(middle, share, block, np.array([positives]), np.array([rows]), 1.0)


def _matrix(
    reference: Matrix, predicted: Mapping[str, float], right: Mapping[str, float], missed: Mapping[str, float]
) -> Matrix:
    """The matrix of rows by class and prediction, whose columns are those that were predicted, whose diagonal is
    `right`, and whose other rows are as near to those that were `missed` as these can be."""
    known = reference.classes
    columns = np.array([predicted.get(name, 0.0) for name in known])
    rest = float(sum(predicted.values()) - columns.sum())
    diagonal = np.minimum([right.get(name, 0.0) for name in known], columns)
    wrong = np.append(columns - diagonal, rest)
    others = reference.support / max(reference.n, 1) * sum(predicted.values())
    lost = np.array([missed.get(name, other) for name, other in zip(known, others, strict=True)])
    lost = lost * (wrong.sum() / lost.sum() if lost.sum() else 0.0)
    cells = np.column_stack([reference.counts * (1 - np.eye(len(known))), reference.outside]) + 0.5
    np.fill_diagonal(cells, 0.0)
    for _ in range(ROUNDS):
        sums = cells.sum(axis=1)
        if np.abs(sums - lost).max() <= NEAR * max(float(lost.sum()), 1.0):
            break
        cells = cells * (lost / np.maximum(sums, 1e-300))[:, None]
        cells = cells * (wrong / np.maximum(cells.sum(axis=0), 1e-300))
    return Matrix(known, cells[:, :-1] + np.diag(diagonal), cells[:, -1])
