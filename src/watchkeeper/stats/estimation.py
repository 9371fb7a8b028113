"""Performance without labels, from the scores alone: what the labels to come will say, if the world keeps its rules.

The reference's score-by-label counts say how often a score came true (`calibrate`). Applied to the scores of other rows
they give expected counts of positives and negatives per score bin, ordinary `Scores`, of which every metric of scores
is a function already (confidence-based performance estimation, after Guillory and others 2021 and NannyML's CBPE).

What it assumes: that of rows with the same score the same share is positive as in the reference. It sees that inputs
moved (more rows lie where the model is unsure), never that what makes a row positive has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import chdtrc, ndtri, stdtrit

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


@dataclass(frozen=True)
class Way:
    """One way of estimating: the counts by label that it expects of the rows now, over the bins that these are given
    in; what was `seen` of the reference's rows; and what it had expected of those. The reference's rows may be
    weighted, in both alike."""

    now: Scores
    seen: Scores
    fitted: Scores


def estimate(
    value: Value, reference: Scores, lower: Floats, upper: Floats, rows: Floats, threshold: float, alpha: float,
    within: tuple[float, float] = (-np.inf, np.inf), ways: Sequence[Way] = (), sampled: float = 1.0,
) -> Estimate:  # fmt: skip
    """What a metric will be of rows of which only the scores are known, with the band that it will lie in.

    Args:
        value: the metric.
        reference: labelled rows, scored by the same model.
        lower, upper, rows: as for `expected`.
        threshold: from which score on a prediction is positive.
        alpha: error on each side.
        within: the least and the greatest value that the metric can take.
        ways: those that know more than the scores; the estimate is then their mean. Without any, that of the scores.
        sampled: the share of the rows, drawn at random, that the ways looked at. The band is then that of so many rows,
            which is never too narrow: a row's label and its chance together vary less than a label of even chances.

    The value is that of the expected counts. Isotonic regression follows the noise of the reference where that rises,
    which flatters the model; by how much shows on the reference itself, where the realised value is known, and is taken
    off. So of the reference's own scores the estimate is the realised value.

    The band allows for the labels to come, which are independent draws (so the counts are Poisson-binomial), and for
    the error of the calibration: groups of labels are moved up and down by their standard deviation, blocks of the
    calibration to the ends of their exact intervals, and the squares of what that moves the metric by are added. What
    was taken off counts as an error of the calibration too, and so does half of what the ways differ by. Rows whose
    scores lie beyond the reference's may be anything that rises: the ends reach as far as that could move the metric.

    `detail` has the parts of both errors in the band's half width, `labels` and `calibration`; `outside`, the share of
    rows beyond the reference's scores; `spread`, what the ways differ by; and `misfit` where the reference's scores do
    not rise with the outcome (`Calibration.misfit` under a thousandth).

    Absent without rows, with fewer than `FEW_LABELS` reference rows of a label, or where the metric is.
    """
    n = int(rows.sum())
    calibration = calibrate(reference)
    if calibration is None or not n:
        return Estimate.absent(n, reference.n)
    before = expected(calibration, reference.lower, reference.upper, reference.negatives + reference.positives)
    ways = ways or [Way(expected(calibration, lower, upper, rows), reference, before)]
    positives = np.mean([way.now.positives for way in ways], axis=0)
    base, taken = value(Scores(lower, upper, rows - positives, positives)), [_corrected(value, way) for way in ways]
    known = [both for both in taken if both is not None]
    if base is None or not known:
        return Estimate.absent(n, reference.n)

    def moved(positives: Floats) -> float:
        found = value(Scores(lower, upper, rows - positives, positives))
        return 0.0 if found is None else found - base

    z, middle = -float(ndtri(alpha)), (lower + upper) / 2
    below, above, slope = _labels_to_come(moved, positives, rows, predicted_positive(lower, threshold))
    below, above = below / sampled, above / sampled
    nearest = np.searchsorted((calibration.middle[1:] + calibration.middle[:-1]) / 2, middle)
    pull = np.bincount(calibration.block[nearest], rows * slope, len(calibration.rows))
    of_block = calibration.positives / calibration.rows
    fall, rise = (pull * (end - of_block) for end in proportions(calibration.positives, calibration.rows, alpha))
    estimates = [found for found, _ in known]
    spread = max(estimates) - min(estimates)
    unsure = z * z * (float(np.mean([flattery for _, flattery in known])) ** 2 + spread**2 / 4)
    doubt = [float((end(fall, rise) ** 2).sum()) + unsure for end in (np.minimum, np.maximum)]
    beyond = [middle < calibration.middle[0], middle > calibration.middle[-1]]
    furthest = [moved(np.where(out, rows * side, positives)) for side, out in enumerate(beyond) if rows[out].any()]
    reach = (
        -((z * z * below + doubt[0]) ** 0.5) + min(0.0, *furthest, 0.0),
        (z * z * above + doubt[1]) ** 0.5 + max(0.0, *furthest, 0.0),
    )
    found, low, high = (float(np.clip(np.mean(estimates) + by, *within)) for by in (0.0, *reach))
    detail = {
        "labels": z * max(below, above) ** 0.5,
        "calibration": max(doubt) ** 0.5,
        "outside": float(rows[beyond[0] | beyond[1]].sum()) / n,
    }
    if len(known) > 1:
        detail["spread"] = spread
    if calibration.misfit < MISFIT:
        detail["misfit"] = calibration.misfit
    return Estimate(found, low, high, n, reference.n, detail)


def _corrected(value: Value, way: Way) -> tuple[float, float] | None:
    """What a way estimates, and the flattery that was taken off."""
    now, seen, fitted = value(way.now), value(way.seen), value(way.fitted)
    return None if now is None or seen is None or fitted is None else (now + seen - fitted, seen - fitted)


def _labels_to_come(
    moved: Callable[[Floats], float], positives: Floats, rows: Floats, side: NDArray[np.bool_]
) -> tuple[float, float, Floats]:
    """The variance of a metric by the labels to come, downwards and upwards, and what one more positive in each bin
    moves it by."""
    share = np.clip(positives / np.maximum(rows, 1e-12), 0.0, 1.0)
    noise = rows * share * (1 - share)
    group, slope, below, above = _groups(noise, side), np.zeros(len(rows)), 0.0, 0.0
    for one in np.unique(group[noise > 0]):
        here = np.where(group == one, noise, 0.0)
        deviation = float(here.sum()) ** 0.5
        part = min(deviation, 1.0)  # of a deviation, where more could leave fewer than no labels
        step = here / deviation * part
        ends = np.minimum(positives + step, rows), np.maximum(positives - step, 0.0)
        up, down = (moved(end) / part for end in ends)
        below, above = below + min(up, down, 0.0) ** 2, above + max(up, down, 0.0) ** 2
        slope[group == one] = (up - down) / (2 * deviation)
    return below, above, slope


def prediction_powered(guessed: Floats, audited: Floats, actual: Floats, alpha: float) -> Estimate:
    """The mean of what is known of a few audited rows and guessed for all: prediction-powered inference (Angelopoulos
    and others 2023), which needs no assumption about the guesses.

    Args:
        guessed: what is guessed for rows that were not audited, shape (rows,): the chance that a prediction is right,
            or the error that is expected of it.
        audited, actual: what was guessed for the rows of a random sample, and what turned out, shape (sample,).
        alpha: error on each side.

    `mean(actual) + weight (mean(guessed) - mean(audited))`, with the weight of least variance (power tuning;
    Angelopoulos, Duchi and Zrnic 2023), between 0 and 1: guesses that say nothing do no harm. Student's t with the
    sample's size less one. `detail` has the `weight`; `gap`, the mean of actual less guessed in the sample; and
    `drifted` if that is further from zero than chance explains at `alpha`: then the relation is not that of the
    reference any more. Absent with fewer than 2 audited rows; without ends where all of fewer than `FEW_LABELS` turned
    out the same.

    >>> guessed, audited = np.full(1000, 0.8), np.full(100, 0.8)
    >>> e = prediction_powered(guessed, audited, np.repeat([1.0, 0.0], [60, 40]), 0.025)
    >>> round(e.low, 3), e.value, round(e.high, 3), e.detail["drifted"]
    (0.502, 0.6, 0.698, True)
    """
    n, others = len(actual), len(guessed)
    if n < 2:
        return Estimate.absent(n)
    apart = float(np.var(np.concatenate([guessed, audited]), ddof=1))
    together = float(np.cov(actual, audited)[0, 1])
    weight = float(np.clip(together / (apart * (1 + n / others)), 0.0, 1.0)) if apart and others else 0.0
    rest = actual - weight * audited
    variance = float(np.var(rest, ddof=1)) / n + (weight**2 * apart / others if others else 0.0)
    found = float(rest.mean()) + (weight * float(guessed.mean()) if others else 0.0)
    t = -float(stdtrit(n - 1, alpha))
    gaps = actual - audited
    gap, noise = float(gaps.mean()), (float(np.var(gaps, ddof=1)) / n) ** 0.5
    detail = {"weight": weight, "gap": gap, "drifted": bool(abs(gap) > t * noise)}
    if n < FEW_LABELS and not np.ptp(actual):
        return Estimate(found, None, None, n, None, detail)
    return Estimate(found, found - t * variance**0.5, found + t * variance**0.5, n, None, detail)


def _groups(noise: Floats, side: NDArray[np.bool_]) -> Ints:
    """Stretches of bins of about equal variance, numbered, on either side of the threshold."""
    group = np.zeros(len(noise), dtype=np.int64)
    for at, here in enumerate((~side, side)):
        own = noise[here]
        place = (np.cumsum(own) - own / 2) * GROUPS / max(float(own.sum()), 1e-12)
        group[here] = np.minimum(place, GROUPS - 1).astype(np.int64) + GROUPS * at
    return group
