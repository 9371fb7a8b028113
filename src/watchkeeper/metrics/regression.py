"""Performance of a regression, from counts of its errors."""

from __future__ import annotations

import numpy as np

from watchkeeper.metrics import metric
from watchkeeper.profiles import Subject
from watchkeeper.schema import ERRORS, Kind, Task
from watchkeeper.stats import errors
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimates import Estimate

NUMBER = (Kind.NUMERIC,)
ONLY = (Task.REGRESSION,)
ERROR, PERCENTAGE_ERROR, SYMMETRIC_ERROR = ERRORS
LABEL = ("label",)


def _labels(subject: Subject) -> Binned:
    labels = subject.beside.get("label")
    return labels.binned if labels else Binned(*(np.zeros(0) for _ in range(3)))


@metric("bias", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def bias(subject: Subject, alpha: float) -> Estimate:
    """Mean error, prediction less label: above zero where predictions are too high."""
    return errors.bias(subject.binned, alpha)


@metric("mean absolute error", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def mae(subject: Subject, alpha: float) -> Estimate:
    """Mean absolute error (MAE)."""
    return errors.mae(subject.binned, alpha)


@metric("root mean squared error", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def rmse(subject: Subject, alpha: float) -> Estimate:
    """Root of the mean squared error (RMSE)."""
    return errors.rmse(subject.binned, alpha)


@metric("median absolute error", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def median_absolute_error(subject: Subject, alpha: float) -> Estimate:
    """Median of the absolute errors, with an exact interval whatever the errors' distribution."""
    return errors.median_absolute_error(subject.binned, alpha)


@metric("90th percentile of absolute errors", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def absolute_error_p90(subject: Subject, alpha: float) -> Estimate:
    """The absolute error that nine of ten predictions do not exceed."""
    return errors.absolute_error_quantile(subject.binned, 0.9, alpha)


@metric("5th percentile of errors", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def error_p05(subject: Subject, alpha: float) -> Estimate:
    """The signed error that one prediction in twenty lies below."""
    return errors.error_quantile(subject.binned, 0.05, alpha)


@metric("95th percentile of errors", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def error_p95(subject: Subject, alpha: float) -> Estimate:
    """The signed error that one prediction in twenty lies above."""
    return errors.error_quantile(subject.binned, 0.95, alpha)


@metric("R squared", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY, beside=LABEL)
def r2(subject: Subject, alpha: float) -> Estimate:
    """Share of the labels' variance that predictions take away, `1 - MSE / variance`: 0 for the mean label, and below
    for worse. It has no value where all labels are the same."""
    return errors.r2(subject.binned, _labels(subject), alpha)


@metric("explained variance", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY, beside=LABEL)
def explained_variance(subject: Subject, alpha: float) -> Estimate:
    """R squared with the errors' variance in the place of their mean square: a constant bias does not count."""
    return errors.explained_variance(subject.binned, _labels(subject), alpha)


@metric("quantile loss at 10%", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def quantile_loss_10(subject: Subject, alpha: float) -> Estimate:
    """Mean quantile loss of predictions that are to be the 10th percentile of the label (Koenker and Bassett 1978)."""
    return errors.pinball_loss(subject.binned, 0.1, alpha)


@metric("quantile loss at 90%", cause="performance", kinds=NUMBER, column=ERROR, labels=True, tasks=ONLY)
def quantile_loss_90(subject: Subject, alpha: float) -> Estimate:
    """Mean quantile loss of predictions that are to be the 90th percentile of the label (Koenker and Bassett 1978)."""
    return errors.pinball_loss(subject.binned, 0.9, alpha)


@metric(
    "mean percentage error",
    cause="performance",
    kinds=NUMBER,
    column=PERCENTAGE_ERROR,
    labels=True,
    unit="share",
    tasks=ONLY,
)
def mape(subject: Subject, alpha: float) -> Estimate:
    """Mean of `|error| / |label|` (MAPE): 0.1 is ten percent. Rows whose label is zero do not count."""
    return errors.mape(subject.binned, alpha)


@metric(
    "symmetric percentage error",
    cause="performance",
    kinds=NUMBER,
    column=SYMMETRIC_ERROR,
    labels=True,
    unit="share",
    tasks=ONLY,
)
def smape(subject: Subject, alpha: float) -> Estimate:
    """Mean of `2 |error| / (|label| + |prediction|)` (sMAPE), from 0 to 2. Where both are zero it is 0."""
    return errors.smape(subject.binned, alpha)


@metric("mean label", cause="performance", kinds=NUMBER, column="label", labels=True, tasks=ONLY)
def mean_label(subject: Subject, alpha: float) -> Estimate:
    """Mean of the labels."""
    return errors.bias(subject.binned, alpha)
