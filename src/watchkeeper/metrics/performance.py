"""Performance with labels, from score-by-label counts."""

from __future__ import annotations

from watchkeeper.costs import CostsConfig
from watchkeeper.metrics import metric
from watchkeeper.profiles import Subject
from watchkeeper.schema import Kind
from watchkeeper.stats import calibration, confusion, scores
from watchkeeper.stats.confusion import Confusion, Costs
from watchkeeper.stats.estimates import Estimate, proportion

SCORE = (Kind.NUMERIC,)


def _counts(subject: Subject) -> Confusion:
    return Confusion.at(subject.scores, subject.threshold)


@metric("accuracy", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def accuracy(subject: Subject, alpha: float) -> Estimate:
    """Share of labelled predictions that were right at the model's threshold, `(TP + TN) / n`."""
    return confusion.accuracy(_counts(subject), alpha)


@metric("precision", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def precision(subject: Subject, alpha: float) -> Estimate:
    """Share of the positive predictions at the model's threshold that were right, `TP / (TP + FP)`. Without positive
    predictions it has no value."""
    return confusion.precision(_counts(subject), alpha)


@metric("recall", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def recall(subject: Subject, alpha: float) -> Estimate:
    """Share of the positives that were predicted at the model's threshold, `TP / (TP + FN)`. Without positives it has
    no value."""
    return confusion.recall(_counts(subject), alpha)


@metric("specificity", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def specificity(subject: Subject, alpha: float) -> Estimate:
    """Share of the negatives that were predicted negative at the model's threshold, `TN / (TN + FP)`. Without negatives
    it has no value."""
    return confusion.specificity(_counts(subject), alpha)


@metric("false positive rate", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def false_positive_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of the negatives that were predicted positive at the model's threshold, `FP / (FP + TN)`. Without negatives
    it has no value."""
    return confusion.false_positive_rate(_counts(subject), alpha)


@metric("false negative rate", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def false_negative_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of the positives that were missed at the model's threshold, `FN / (FN + TP)`. Without positives it has no
    value."""
    return confusion.false_negative_rate(_counts(subject), alpha)


@metric("F1", cause="performance", kinds=SCORE, column="score", labels=True)
def f1(subject: Subject, alpha: float) -> Estimate:
    """Harmonic mean of precision and recall at the model's threshold, `2 TP / (2 TP + FP + FN)`. It has no value where
    all are true negatives."""
    return confusion.f1(_counts(subject), alpha)


@metric("balanced accuracy", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def balanced_accuracy(subject: Subject, alpha: float) -> Estimate:
    """Mean of recall and specificity at the model's threshold: 0.5 for guessing. It has no value unless both labels
    occur."""
    return confusion.balanced_accuracy(_counts(subject), alpha)


@metric("Matthews correlation", cause="performance", kinds=SCORE, column="score", labels=True)
def mcc(subject: Subject, alpha: float) -> Estimate:
    """Correlation of prediction and label at the model's threshold (Matthews 1975), from -1 to 1. It has no value where
    all labels or all predictions are the same."""
    return confusion.mcc(_counts(subject), alpha)


@metric("lift", cause="performance", kinds=SCORE, column="score", labels=True)
def lift(subject: Subject, alpha: float) -> Estimate:
    """How many times more frequent positives are among the positive predictions than among all, precision over base
    rate. Without positives or positive predictions it has no value."""
    return confusion.lift(_counts(subject), alpha)


@metric("cost of decisions", cause="performance", kinds=SCORE, column="score", labels=True, costs=True)
def decision_cost(subject: Subject, alpha: float) -> Estimate:
    """Mean cost of a prediction by how it turned out, from the model's `costs`, in their currency; a gain is a negative
    cost. It is not what making a prediction costs, which is the event's own `cost`."""
    if not isinstance(subject.costs, CostsConfig):
        return Estimate.absent(subject.scores.n)
    costs = subject.costs
    each = Costs(costs.true_positive, costs.false_positive, costs.false_negative, costs.true_negative)
    return confusion.decision_cost(_counts(subject), each, alpha)


@metric("share predicted positive", cause="performance", kinds=SCORE, column="score", unit="share")
def predicted_positive_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of all scores, labelled or not, that are at or above the model's threshold."""
    every = subject.binned
    yes = confusion.predicted_positive(every.lower, subject.threshold)
    return proportion(int(every.counts[yes].sum()), every.n, alpha)


@metric("AUC", cause="performance", kinds=SCORE, column="score", labels=True)
def auc(subject: Subject, alpha: float) -> Estimate:
    """Chance that a positive scores higher than a negative."""
    return scores.auc(subject.scores, alpha)


@metric("average precision", cause="performance", kinds=SCORE, column="score", labels=True)
def average_precision(subject: Subject, alpha: float) -> Estimate:
    """Area under the precision-recall curve: mean precision at the scores of the positives. The base rate for
    guessing. It has no value unless both labels occur."""
    return scores.average_precision(subject.scores, alpha)


@metric("log loss", cause="performance", kinds=SCORE, column="score", labels=True, unit="nats")
def log_loss(subject: Subject, alpha: float) -> Estimate:
    """Mean negative log likelihood of the labels."""
    return scores.log_loss(subject.scores, alpha)


@metric("Brier score", cause="performance", kinds=SCORE, column="score", labels=True)
def brier(subject: Subject, alpha: float) -> Estimate:
    """Mean squared difference of score and label. Its detail is Murphy's decomposition into reliability, resolution and
    uncertainty, and the skill."""
    return calibration.brier(subject.scores, alpha)


@metric("calibration error", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def calibration_error(subject: Subject, alpha: float) -> Estimate:
    """Mean gap between the score and the share of positives, over ten bins of equal mass."""
    return calibration.calibration_error(subject.scores, alpha)


@metric("mean absolute calibration error", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def mean_absolute_calibration_error(subject: Subject, alpha: float) -> Estimate:
    """Plain mean of the gaps between the score and the share of positives, over those of ten equally wide bins that
    hold rows. It heeds rare high scores as much as frequent low ones."""
    return calibration.mean_absolute_calibration_error(subject.scores, alpha)


@metric("share of positives", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def positive_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of labelled predictions whose label is positive."""
    counts = subject.scores
    positives = float(counts.positives.sum())
    return proportion(positives, positives + float(counts.negatives.sum()), alpha)
