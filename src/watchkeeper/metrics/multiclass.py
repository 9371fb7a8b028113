"""Performance of a classifier into several classes, from counts of its predictions by label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from watchkeeper.costs import by_cell
from watchkeeper.metrics import metric
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import Kind, Task
from watchkeeper.stats import classes, confusion
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.scores import Scores

CLASS = (Kind.CATEGORICAL,)
ONLY = (Task.MULTICLASS,)
SCORES = ("score:",)


def _counts(subject: Subject) -> Matrix:
    return subject.expected if isinstance(subject.expected, Matrix) else matrix(subject.labelled)


def matrix(labelled: dict[str, Profile]) -> Matrix:
    """The predictions by label as a matrix. Its classes are the labels that occur, and the model's classes that were
    predicted; rows without a prediction are left out."""
    counts: dict[tuple[str, str], int] = {}
    known = {*labelled}
    for label, profile in labelled.items():
        known |= {*profile.words}
        counts |= {(label, said): rows for said, rows in profile.by_value.items()}
        if profile.others:
            counts[label, ""] = counts.get((label, ""), 0) + profile.others
    return Matrix.of(counts, sorted(known))


def scores(subject: Subject) -> dict[str, Scores]:
    """Of each class the score that was given for it, where it was the label and where it was not."""
    start = len(SCORES[0])
    return {name[start:]: other.scores for name, other in subject.beside.items() if name.startswith(SCORES[0])}


def _each(found: Matrix, measure: classes.OfCounts, alpha: float) -> dict[str, float | None]:
    return {name: one.value for name, one in classes.per_class(found, measure, alpha).items()}


@metric("accuracy", cause="performance", kinds=CLASS, column="prediction", labels=True, unit="share", tasks=ONLY)
def accuracy(subject: Subject, alpha: float) -> Estimate:
    """Share of labelled predictions that were right. It is the micro and the weighted mean of recall too."""
    return classes.accuracy(_counts(subject), alpha)


@metric(
    "balanced accuracy", cause="performance", kinds=CLASS, column="prediction", labels=True, unit="share", tasks=ONLY
)
def balanced_accuracy(subject: Subject, alpha: float) -> Estimate:
    """Plain mean of the recall of the classes that occur as a label."""
    return classes.balanced_accuracy(_counts(subject), alpha)


@metric("macro precision", cause="performance", kinds=CLASS, column="prediction", labels=True, unit="share", tasks=ONLY)
def macro_precision(subject: Subject, alpha: float) -> Estimate:
    """Plain mean of the classes' precision; its detail gives each class's."""
    found = _counts(subject)
    return classes.macro_precision(found, alpha).about(classes=_each(found, confusion.precision, alpha))


@metric("macro recall", cause="performance", kinds=CLASS, column="prediction", labels=True, unit="share", tasks=ONLY)
def macro_recall(subject: Subject, alpha: float) -> Estimate:
    """Plain mean of the recall of the classes that occur as label or as prediction; its detail gives each class's."""
    found = _counts(subject)
    return classes.macro_recall(found, alpha).about(classes=_each(found, confusion.recall, alpha))


@metric("macro F1", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY)
def macro_f1(subject: Subject, alpha: float) -> Estimate:
    """Plain mean of the classes' F1; its detail gives each class's."""
    found = _counts(subject)
    return classes.macro_f1(found, alpha).about(classes=_each(found, confusion.f1, alpha))


@metric("micro precision", cause="performance", kinds=CLASS, column="prediction", labels=True, unit="share", tasks=ONLY)
def micro_precision(subject: Subject, alpha: float) -> Estimate:
    """Share of the predictions of known classes that were right: accuracy where nothing else is predicted."""
    return classes.micro_precision(_counts(subject), alpha)


@metric("micro F1", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY)
def micro_f1(subject: Subject, alpha: float) -> Estimate:
    """Harmonic mean of accuracy and micro precision: accuracy where only known classes are predicted."""
    return classes.micro_f1(_counts(subject), alpha)


@metric(
    "weighted precision", cause="performance", kinds=CLASS, column="prediction", labels=True, unit="share", tasks=ONLY
)
def weighted_precision(subject: Subject, alpha: float) -> Estimate:
    """Mean of the classes' precision, each weighted by the share of its label."""
    return classes.weighted_precision(_counts(subject), alpha)


@metric("weighted F1", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY)
def weighted_f1(subject: Subject, alpha: float) -> Estimate:
    """Mean of the classes' F1, each weighted by the share of its label."""
    return classes.weighted_f1(_counts(subject), alpha)


@metric("Cohen's kappa", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY)
def kappa(subject: Subject, alpha: float) -> Estimate:
    """Agreement of label and prediction beyond chance (Cohen 1960): 1 at best, 0 for guessing. It has no value where
    all rows are of one class and predicted as it."""
    return classes.kappa(_counts(subject), alpha)


@metric("Matthews correlation", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY)
def mcc(subject: Subject, alpha: float) -> Estimate:
    """Matthews' correlation of several classes (Gorodkin 2004), 1 at best, 0 for guessing. It has no value where all
    labels or all predictions are the same."""
    return classes.mcc(_counts(subject), alpha)


@metric("cost of decisions", cause="performance", kinds=CLASS, column="prediction", labels=True, costs=True, tasks=ONLY)
def decision_cost(subject: Subject, alpha: float) -> Estimate:
    """Mean cost of a prediction by what it was and what it was taken for, from the model's `costs`, in their currency;
    a gain is a negative cost. Rows for which the costs say nothing, whose label or prediction is none of the classes,
    do not count."""
    if not isinstance(subject.costs, dict):
        return Estimate.absent(0)
    found = _counts(subject)
    return classes.decision_cost(found, np.array(by_cell(subject.costs, found.classes), dtype=float), alpha)


def _of_scores(compute: Callable[[dict[str, Scores], float], Estimate], subject: Subject, alpha: float) -> Estimate:
    each = scores(subject)
    return compute(each, alpha) if any(one.n for one in each.values()) else Estimate.absent(0)


@metric("macro AUC", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY, beside=SCORES)
def macro_auc(subject: Subject, alpha: float) -> Estimate:
    """Plain mean of the areas under the ROC curves of each class against the rest. It needs the classes' probabilities,
    and has no value unless each class occurs."""
    return _of_scores(classes.macro_auc, subject, alpha)


@metric("weighted AUC", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY, beside=SCORES)
def weighted_auc(subject: Subject, alpha: float) -> Estimate:
    """Mean of the areas under the ROC curves of each class against the rest, weighted by the share of its label. It
    needs the classes' probabilities, and has no value unless each class occurs."""
    return _of_scores(classes.weighted_auc, subject, alpha)


@metric(
    "log loss",
    cause="performance",
    kinds=CLASS,
    column="prediction",
    labels=True,
    unit="nats",
    tasks=ONLY,
    beside=SCORES,
)
def log_loss(subject: Subject, alpha: float) -> Estimate:
    """Mean negative logarithm of the probability that was given to the class that it was. It needs the classes'
    probabilities."""
    return _of_scores(classes.log_loss, subject, alpha)


@metric("Brier score", cause="performance", kinds=CLASS, column="prediction", labels=True, tasks=ONLY, beside=SCORES)
def brier(subject: Subject, alpha: float) -> Estimate:
    """Mean over the rows of the sum over the classes of the squared difference of probability and label (Brier 1950), 0
    to 2. It needs the classes' probabilities."""
    return _of_scores(classes.brier, subject, alpha)
