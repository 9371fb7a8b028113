"""Performance without labels, from the scores alone: what the labels to come will say, if the world keeps its rules.

The reference's score-by-label counts say how often a score came true (`calibrate`). Applied to the scores of other rows
they give expected counts of positives and negatives per score bin, ordinary `Scores`, of which every metric of scores
is a function already (confidence-based performance estimation, after Guillory and others 2021 and NannyML's CBPE).

What it assumes: that of rows with the same score the same share is positive as in the reference. It sees that inputs
moved (more rows lie where the model is unsure), never that what makes a row positive has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import chdtrc, ndtri

from watchkeeper.stats.confusion import predicted_positive
from watchkeeper.stats.estimates import Estimate, proportions
from watchkeeper.stats.grid import Floats, Ints
from watchkeeper.stats.scores import Scores

FEW_LABELS = 20
"""Reference rows of a label below which nothing is estimated."""
GROUPS = 6
"""Stretches of scores that the labels to come are varied in, on either side of the threshold."""
MISFIT = 0.001

Value = Callable[[Scores], float | None]


@dataclass(frozen=True)
class Calibration:
    """Share of positives by score: a rising step function, flat within blocks.

    Attributes:
        middle: of the reference's bins, ascending, shape (bins,).
        share: of positives, shape (bins,).
        block: which block each bin is of, shape (bins,).
        positives, rows: of the reference in each block, shape (blocks,).
        misfit: the chance that a reference as far from rising would come of a rising relation, by chi-square over a
            few bins of equal mass.
    """

    middle: Floats
    share: Floats
    block: Ints
    positives: Floats
    rows: Floats
    misfit: float


def calibrate(reference: Scores) -> Calibration | None:
    """The rising function that is nearest to the reference's shares of positives (isotonic regression; Zadrozny and
    Elkan 2002), by pooling adjacent violators. None where a label has fewer than `FEW_LABELS` rows.

    >>> lower, negatives, positives = np.array([0.1, 0.5]), np.array([90.0, 20.0]), np.array([10.0, 80.0])
    >>> calibrate(Scores(lower, lower + 0.1, negatives, positives)).share.tolist()
    [0.1, 0.8]
    """
    if min(reference.negatives.sum(), reference.positives.sum()) < FEW_LABELS:
        return None
    held = reference.negatives + reference.positives > 0
    negatives, positives, middle = reference.negatives[held], reference.positives[held], reference.middle[held]
    rows = negatives + positives
    fitted = isotonic_regression(positives / rows, weights=rows)
    starts = fitted.blocks[:-1]
    share = np.clip(fitted.x, 0.0, 1.0)
    return Calibration(
        middle,
        share,
        np.repeat(np.arange(len(starts)), np.diff(fitted.blocks)),
        np.add.reduceat(positives, starts),
        np.add.reduceat(rows, starts),
        _misfit(Scores(reference.lower[held], reference.upper[held], negatives, positives), share),
    )


def _misfit(reference: Scores, share: Floats) -> float:
    rows = reference.negatives + reference.positives
    groups = np.minimum(((np.cumsum(rows) - rows / 2) * GROUPS / rows.sum()).astype(int), GROUPS - 1)
    seen, fitted, spread = (
        np.bincount(groups, part, GROUPS) for part in (reference.positives, rows * share, rows * share * (1 - share))
    )
    some = spread > 0
    return float(chdtrc(some.sum(), ((seen - fitted)[some] ** 2 / spread[some]).sum()))


def expected(calibration: Calibration, lower: Floats, upper: Floats, rows: Floats) -> Scores:
    """The counts by label that are expected of rows of which only the scores are known.

    Args:
        lower, upper: the ends of the score bins, ascending, shape (bins,).
        rows: in each bin, shape (bins,).

    Between the reference's bins the share is interpolated, beyond them it is that of the last. Fractions of rows.
    """
    share = np.interp((lower + upper) / 2, calibration.middle, calibration.share)
    return Scores(lower, upper, rows * (1 - share), rows * share)


def estimate(
    value: Value, reference: Scores, lower: Floats, upper: Floats, rows: Floats, threshold: float, alpha: float,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:  # fmt: skip
    """What a metric will be of rows of which only the scores are known, with the band that it will lie in.

    Args:
        value: the metric.
        reference: labelled rows, scored by the same model.
        lower, upper, rows: as for `expected`.
        threshold: from which score on a prediction is positive.
        alpha: error on each side.
        within: the least and the greatest value that the metric can take.

    The value is that of the expected counts. Isotonic regression follows the noise of the reference where that rises,
    which flatters the model; by how much shows on the reference itself, where the realised value is known, and is taken
    off. So of the reference's own scores the estimate is the realised value.

    The band allows for the labels to come, which are independent draws (so the counts are Poisson-binomial), and for
    the error of the calibration: groups of labels are moved up and down by their standard deviation, blocks of the
    calibration to the ends of their exact intervals, and the squares of what that moves the metric by are added. What
    was taken off counts as an error of the calibration too. Rows whose scores lie beyond the reference's may be
    anything that rises: the ends reach as far as that could move the metric. `detail` has the parts of both errors in
    the band's half width, `labels` and `calibration`; `outside`, the share of rows beyond the reference's scores; and
    `misfit` where the reference's scores do not rise with the outcome (`Calibration.misfit` under a thousandth).

    Absent without rows, with fewer than `FEW_LABELS` reference rows of a label, or where the metric is.
    """
    n = int(rows.sum())
    calibration = calibrate(reference)
    if calibration is None or not n:
        return Estimate.absent(n, reference.n)
    now = expected(calibration, lower, upper, rows)

    base, known = value(now), value(reference)
    fitted = value(expected(calibration, reference.lower, reference.upper, reference.negatives + reference.positives))
    if base is None or known is None or fitted is None:
        return Estimate.absent(n, reference.n)

    def moved(positives: Floats) -> float:
        found = value(Scores(lower, upper, rows - positives, positives))
        return 0.0 if found is None else found - base

    share = np.clip(now.positives / np.maximum(rows, 1e-12), 0.0, 1.0)
    noise = rows * share * (1 - share)
    group = _groups(noise, predicted_positive(lower, threshold))
    z, below, above = -float(ndtri(alpha)), 0.0, 0.0
    slope = np.zeros(len(rows))
    for one in np.unique(group[noise > 0]):
        here = np.where(group == one, noise, 0.0)
        deviation = float(here.sum()) ** 0.5
        part = min(deviation, 1.0)  # of a deviation, where more could leave fewer than no labels
        step = here / deviation * part
        ends = np.minimum(now.positives + step, rows), np.maximum(now.positives - step, 0.0)
        up, down = (moved(end) / part for end in ends)
        below, above = below + min(z * up, z * down, 0.0) ** 2, above + max(z * up, z * down, 0.0) ** 2
        slope[group == one] = (up - down) / (2 * deviation)
    middle = (lower + upper) / 2
    nearest = np.searchsorted((calibration.middle[1:] + calibration.middle[:-1]) / 2, middle)
    pull = np.bincount(calibration.block[nearest], rows * slope, len(calibration.rows))
    of_block = calibration.positives / calibration.rows
    fall, rise = (pull * (end - of_block) for end in proportions(calibration.positives, calibration.rows, alpha))
    flattery = (z * (known - fitted)) ** 2
    doubt = [float((end(fall, rise) ** 2).sum()) + flattery for end in (np.minimum, np.maximum)]
    beyond = [middle < calibration.middle[0], middle > calibration.middle[-1]]
    furthest = [moved(np.where(out, rows * side, now.positives)) for side, out in enumerate(beyond) if rows[out].any()]
    reach = (below + doubt[0]) ** 0.5 - min(0.0, *furthest, 0.0), (above + doubt[1]) ** 0.5 + max(0.0, *furthest, 0.0)
    found, low, high = (float(np.clip(base + known - fitted + by, *within)) for by in (0.0, -reach[0], reach[1]))
    detail = {
        "labels": max(below, above) ** 0.5,
        "calibration": max(doubt) ** 0.5,
        "outside": float(rows[beyond[0] | beyond[1]].sum()) / n,
    }
    if calibration.misfit < MISFIT:
        detail["misfit"] = calibration.misfit
    return Estimate(found, low, high, n, reference.n, detail)


def _groups(noise: Floats, side: NDArray[np.bool_]) -> Ints:
    """Stretches of bins of about equal variance, numbered, on either side of the threshold."""
    group = np.zeros(len(noise), dtype=np.int64)
    for at, here in enumerate((~side, side)):
        own = noise[here]
        place = (np.cumsum(own) - own / 2) * GROUPS / max(float(own.sum()), 1e-12)
        group[here] = np.minimum(place, GROUPS - 1).astype(np.int64) + GROUPS * at
    return group
