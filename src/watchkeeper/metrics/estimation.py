"""Performance before the labels come: every metric of scores, taken on the counts by label that are expected.

Nothing is computed anew here: `estimated_auc` is `auc` of the expected counts (`stats.estimation`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from watchkeeper.metrics import Compute, metric, of_task, performance
from watchkeeper.metrics.expected import CLASSIFIED, held_against, ways
from watchkeeper.profiles import Subject
from watchkeeper.schema import Task
from watchkeeper.stats import estimation
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.estimation import Value

ALPHA = 0.025
"""Error of intervals that are not looked at."""
SHARE, ANY = (0.0, 1.0), (-np.inf, np.inf)
ESTIMATED = {
    performance.accuracy: SHARE,
    performance.precision: SHARE,
    performance.recall: SHARE,
    performance.specificity: SHARE,
    performance.false_positive_rate: SHARE,
    performance.false_negative_rate: SHARE,
    performance.f1: SHARE,
    performance.balanced_accuracy: SHARE,
    performance.mcc: (-1.0, 1.0),
    performance.decision_cost: ANY,
    performance.auc: SHARE,
    performance.average_precision: SHARE,
    performance.log_loss: (0.0, np.inf),
    performance.brier: SHARE,
    performance.positive_rate: SHARE,
}
"""The metrics that are estimated, and the least and the greatest value of each."""
HEADLINES = (
    performance.accuracy,
    performance.precision,
    performance.recall,
    performance.f1,
    performance.auc,
    performance.log_loss,
)
"""Those whose estimates are shown beside what is realised, and are held against it once the labels are there."""


def _register(compute: Compute, within: tuple[float, float]) -> None:
    """Register what a metric is estimated to be and, of one of the headlines, by how much that was off."""
    realised = of_task(Task.BINARY)[compute.__name__]

    def estimated(subject: Subject, alpha: float) -> Estimate:
        return _of_rows(compute, within, subject, subject.binned, alpha)

    def error(subject: Subject, alpha: float) -> Estimate:
        return _error(compute, within, subject, alpha)

    about = partial(
        metric, cause=realised.cause, kinds=tuple(sorted(realised.kinds)), column=realised.column, unit=realised.unit,
        baseline_labels=True, beside=CLASSIFIED,
    )  # fmt: skip
    estimated.__name__ = f"estimated_{realised.name}"
    estimated.__doc__ = (
        f"What {realised.title} will be once the labels are known, from the scores of all rows and from how often such"
        " scores came true in the baseline. The interval is the band in which the realised value will lie, if rows with"
        " the same score are as often positive as they were there; with `estimation: features`, rows with such features"
        " and the same score. It has no value where the baseline has fewer than"
        f" {estimation.FEW_LABELS} rows of either label."
    )
    about(f"estimated {realised.title}", costs=realised.costs)(estimated)
    if compute not in HEADLINES:
        return
    error.__name__ = f"{realised.name}_estimation_error"
    error.__doc__ = (
        f"How much higher {realised.title} was estimated than it turned out, on the labelled rows: the estimator's own"
        " record. The interval is the band less the realised value, so it holds 0 where the band held; where it does"
        " not, the relation of score and outcome is not that of the baseline any more. Its detail has both values, and"
        " `held`."
    )
    about(f"error of the estimated {realised.title}", labels=True)(error)


def value_of(compute: Compute, subject: Subject) -> Value:
    """A metric's value as a function of score-by-label counts, that may be expected ones."""
    return lambda scores: compute(replace(subject, expected=scores), ALPHA).value


def _of_rows(compute: Compute, within: tuple[float, float], subject: Subject, rows: Binned, alpha: float) -> Estimate:
    """A metric of rows of which only the scores are known."""
    reference = subject.baseline_scores
    if not reference.n:
        return Estimate.absent(rows.n, 0)

    known, told, sampled = ways(subject, rows)
    found = estimation.estimate(
        value_of(compute, subject), reference, rows.lower, rows.upper, rows.counts, subject.threshold, alpha, within,
        known, sampled,
    )  # fmt: skip
    return found.about(**told) if found.value is not None else found


def _error(compute: Compute, within: tuple[float, float], subject: Subject, alpha: float) -> Estimate:
    seen, real = subject.scores, compute(subject, alpha).value
    rows = Binned(seen.lower, seen.upper, seen.negatives + seen.positives)
    return held_against(_of_rows(compute, within, subject, rows, alpha), real)


for _compute, _within in ESTIMATED.items():
    _register(_compute, _within)
