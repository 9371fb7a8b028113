"""Performance with labels, from score-by-label counts."""

from __future__ import annotations

from watchkeeper.metrics import metric
from watchkeeper.profiles import Subject
from watchkeeper.schema import Kind
from watchkeeper.stats import scores
from watchkeeper.stats.estimates import Estimate, proportion

SCORE = (Kind.NUMERIC,)


@metric("accuracy", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def accuracy(subject: Subject, alpha: float) -> Estimate:
    """Share of labelled predictions that were right at the model's threshold."""
    return scores.accuracy(subject.scores, subject.threshold, alpha)


@metric("AUC", cause="performance", kinds=SCORE, column="score", labels=True)
def auc(subject: Subject, alpha: float) -> Estimate:
    """Chance that a positive scores higher than a negative."""
    return scores.auc(subject.scores, alpha)


@metric("log loss", cause="performance", kinds=SCORE, column="score", labels=True, unit="nats")
def log_loss(subject: Subject, alpha: float) -> Estimate:
    """Mean negative log likelihood of the labels."""
    return scores.log_loss(subject.scores, alpha)


@metric("calibration error", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def calibration_error(subject: Subject, alpha: float) -> Estimate:
    """Mean gap between the score and the share of positives, over ten bins of equal mass."""
    return scores.calibration_error(subject.scores, alpha)


@metric("share of positives", cause="performance", kinds=SCORE, column="score", labels=True, unit="share")
def positive_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of labelled predictions whose label is positive."""
    counts = subject.scores
    return proportion(int(counts.positives.sum()), counts.n, alpha)
