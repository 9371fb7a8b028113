"""Performance before the labels come: every metric of scores, taken on the counts by label that are expected.

Nothing is computed anew here: `estimated_auc` is `auc` of the expected counts (`stats.estimation`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watchkeeper.metrics import Compute, metric, of_task, performance
from watchkeeper.profiles import Subject
from watchkeeper.schema import Task
from watchkeeper.stats import estimation
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.scores import Scores

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


def _register(compute: Compute, within: tuple[float, float]) -> None:
    realised = of_task(Task.BINARY)[compute.__name__]

    def estimated(subject: Subject, alpha: float) -> Estimate:
        return _estimated(compute, within, subject, alpha)

    estimated.__name__ = f"estimated_{realised.name}"
    estimated.__doc__ = (
        f"What {realised.title} will be once the labels are known, from the scores of all rows and from how often such"
        " scores came true in the baseline. The interval is the band in which the realised value will lie, if rows with"
        " the same score are as often positive as they were there. It has no value where the baseline has fewer than"
        f" {estimation.FEW_LABELS} rows of either label."
    )
    metric(
        f"estimated {realised.title}", cause=realised.cause, kinds=tuple(sorted(realised.kinds)),
        column=realised.column, unit=realised.unit, costs=realised.costs, baseline_labels=True,
    )(estimated)  # fmt: skip


def _estimated(compute: Compute, within: tuple[float, float], subject: Subject, alpha: float) -> Estimate:
    reference = subject.baseline_scores
    if subject.current is None or subject.grid is None or not reference.n:
        return Estimate.absent(0, reference.n)
    bins, counts = subject.current.regular
    lower, upper = subject.grid.edges(bins)

    def value(scores: Scores) -> float | None:
        return compute(replace(subject, expected=scores), alpha).value

    return estimation.estimate(value, reference, lower, upper, counts.astype(float), subject.threshold, alpha, within)


for _compute, _within in ESTIMATED.items():
    _register(_compute, _within)
