"""Performance of a classifier into several classes before the labels come, from counts of its probabilities.

Metrics of the confusion matrix are taken of the one that is expected (`stats.estimated_classes`), those over all
thresholds class by class as of a binary classifier (`stats.estimation`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from watchkeeper.events import SAID, SCORES
from watchkeeper.metrics import Compute, metric, multiclass, of_task
from watchkeeper.metrics.expected import held_against
from watchkeeper.profiles import Subject
from watchkeeper.schema import Task
from watchkeeper.stats import classes, confusion, estimated_classes, estimation, scores
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimated_classes import Side
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

OfMatrix = Callable[[Matrix, float], Estimate]
SHARE, CORRELATION = (0.0, 1.0), (-1.0, 1.0)
OF_MATRIX: dict[Compute, tuple[OfMatrix, tuple[float, float]]] = {
    multiclass.accuracy: (classes.accuracy, SHARE),
    multiclass.balanced_accuracy: (classes.balanced_accuracy, SHARE),
    multiclass.macro_precision: (classes.macro_precision, SHARE),
    multiclass.macro_recall: (classes.macro_recall, SHARE),
    multiclass.macro_f1: (classes.macro_f1, SHARE),
    multiclass.micro_precision: (classes.micro_precision, SHARE),
    multiclass.micro_f1: (classes.micro_f1, SHARE),
    multiclass.weighted_precision: (classes.weighted_precision, SHARE),
    multiclass.weighted_f1: (classes.weighted_f1, SHARE),
    multiclass.kappa: (classes.kappa, CORRELATION),
    multiclass.mcc: (classes.mcc, CORRELATION),
}
"""The metrics of the confusion matrix that are estimated, and the least and the greatest value of each."""
BY_CLASS = {
    multiclass.macro_precision: confusion.precision,
    multiclass.macro_recall: confusion.recall,
    multiclass.macro_f1: confusion.f1,
}
"""Those whose detail gives each class's value."""
HEADLINES = (multiclass.accuracy, multiclass.macro_f1, multiclass.balanced_accuracy, multiclass.macro_auc)
"""Those whose estimates are shown beside what is realised, and are held against it once the labels are there."""
ALL_SCORED = 0.99
"""The share of the rows predicted as a class that must have its probability."""


def _register(compute: Compute, estimate: Callable[[Subject, float], Estimate]) -> None:
    """Register what a metric is estimated to be and, of one of the headlines, by how much that was off."""
    realised = of_task(Task.MULTICLASS)[compute.__name__]

    def estimated(subject: Subject, alpha: float) -> Estimate:
        return estimate(subject, alpha)

    def error(subject: Subject, alpha: float) -> Estimate:
        return held_against(estimate(subject.of_labelled, alpha), compute(subject, alpha).value)

    about = partial(
        metric, cause=realised.cause, kinds=tuple(sorted(realised.kinds)), column=realised.column, unit=realised.unit,
        tasks=(Task.MULTICLASS,), beside=(SCORES, SAID), baseline_labels=True,
    )  # fmt: skip
    estimated.__name__ = f"estimated_{realised.name}"
    estimated.__doc__ = (
        f"What {realised.title} will be once the labels are known, from the probabilities of all rows and from how"
        " often such ones came true in the baseline. The interval is the band in which the realised value will lie, if"
        " rows predicted alike with the same probability are as often of the class as they were there. It has no value"
        f" where the baseline has fewer than {estimation.FEW_LABELS} rows of a class, and without the classes'"
        " probabilities."
    )
    about(f"estimated {realised.title}")(estimated)
    if compute not in HEADLINES:
        return
    error.__name__ = f"{realised.name}_estimation_error"
    error.__doc__ = (
        f"How much higher {realised.title} was estimated than it turned out, on the labelled rows: the estimator's own"
        " record. The interval is the band less the realised value, so it holds 0 where the band held. Its detail has"
        " both values, and `held`."
    )
    about(f"error of the estimated {realised.title}", labels=True)(error)


def sides(subject: Subject) -> dict[str, tuple[Side, Side]]:
    """Of each class the rows that were predicted as it, by its probability, and the others."""
    found = {}
    for column, said in subject.beside.items():
        every = subject.beside.get(f"{SCORES}{column.removeprefix(SAID)}")
        if column.startswith(SAID) and every is not None:
            now, seen = (said.binned, every.binned), (said.baseline_scores, every.baseline_scores)
            rest = Binned(now[1].lower, now[1].upper, _less(now[1].lower, now[1].counts, now[0].lower, now[0].counts))
            others = (
                _less(seen[1].lower, whole, seen[0].lower, part)
                for whole, part in ((seen[1].negatives, seen[0].negatives), (seen[1].positives, seen[0].positives))
            )
            of_others = Side(Scores(seen[1].lower, seen[1].upper, *others), rest)
            found[column.removeprefix(SAID)] = Side(seen[0], now[0]), of_others
    return found


def _less(every: Floats, counts: Floats, some: Floats, part: Floats) -> Floats:
    """What is left of the counts of bins without those of some of the rows."""
    left = counts.copy()
    left[np.searchsorted(every, some)] -= part
    return np.maximum(left, 0.0)


def _of_matrix(compute: Compute, subject: Subject, alpha: float) -> Estimate:
    of, within = OF_MATRIX[compute]
    known, reference, profile = sides(subject), multiclass.matrix(subject.baseline_labelled), subject.current
    if profile is None or not reference.n or not known or not {*known} <= {*reference.classes}:
        return Estimate.absent(subject.n, reference.n)
    predicted: dict[str, float] = {name: float(rows) for name, rows in profile.by_value.items()}
    scored = {name: float(both[0].now.counts.sum()) for name, both in known.items()}
    if any(rows < ALL_SCORED * predicted.get(name, 0.0) for name, rows in scored.items()):
        return Estimate.absent(subject.n, reference.n)
    predicted = {**predicted, **scored, "": float(profile.others)}
    found = estimated_classes.estimate(lambda m: of(m, alpha).value, reference, predicted, known, alpha, within)
    expected = estimated_classes.expected(reference, predicted, known, alpha) if compute in BY_CLASS else None
    if expected is None or found.value is None:
        return found
    each = classes.per_class(expected, BY_CLASS[compute], alpha)
    return found.about(classes={name: one.value for name, one in each.items()})


def _of_auc(weighted: bool, subject: Subject, alpha: float) -> Estimate:
    """The mean over the classes of the areas under their ROC curves, each estimated as of a binary classifier."""
    parts, weights = {}, []
    for column, of in subject.beside.items():
        if column.startswith(SCORES):
            rows, seen = of.binned, of.baseline_scores
            calibration = estimation.calibrate(seen)
            if calibration is None:
                return Estimate.absent(subject.n, seen.n)
            parts[column.removeprefix(SCORES)] = estimation.estimate(
                lambda counts: scores.auc(counts, alpha).value, seen, rows.lower, rows.upper, rows.counts,
                of.threshold, alpha, SHARE,
            )  # fmt: skip
            expected = estimation.expected(calibration, rows.lower, rows.upper, rows.counts)
            weights.append(float(expected.positives.sum()) if weighted else 1.0)
    n = max((part.n for part in parts.values()), default=0)
    if not n or any(part.value is None for part in parts.values()):
        return Estimate.absent(subject.n)
    found = classes.moving_as_one([*parts.values()], np.array(weights), n, alpha if weighted else None)
    before = max(part.n_baseline or 0 for part in parts.values())
    by_class = {name: part.value for name, part in parts.items()}
    return Estimate(found.value, found.low, found.high, n, before, {"AUC by class": by_class})


for _compute in OF_MATRIX:
    _register(_compute, partial(_of_matrix, _compute))
_register(multiclass.macro_auc, partial(_of_auc, False))
_register(multiclass.weighted_auc, partial(_of_auc, True))
