"""Service: is the model answering, and how fast?"""

from __future__ import annotations

from watchkeeper.metrics import metric
from watchkeeper.metrics.quality import NUMERIC
from watchkeeper.profiles import Subject
from watchkeeper.schema import Kind
from watchkeeper.stats.estimates import Estimate, proportion, quantile


@metric("median", cause="service", kinds=NUMERIC)
def p50(subject: Subject, alpha: float) -> Estimate:
    """The median of the column; of `latency_ms`, in milliseconds."""
    return _quantile(subject, 0.5, alpha)


@metric("95th percentile", cause="service", kinds=NUMERIC)
def p95(subject: Subject, alpha: float) -> Estimate:
    """The 95th percentile of the column; of `latency_ms`, in milliseconds."""
    return _quantile(subject, 0.95, alpha)


@metric("99th percentile", cause="service", kinds=NUMERIC)
def p99(subject: Subject, alpha: float) -> Estimate:
    """The 99th percentile of the column; of `latency_ms`, in milliseconds."""
    return _quantile(subject, 0.99, alpha)


@metric("error rate", cause="service", kinds=(Kind.CATEGORICAL,), column="status", unit="share")
def error_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of predictions whose status is not "ok"."""
    if subject.current is None:
        return Estimate.absent(0)
    ok = subject.current.by_value.get("ok", 0)
    return proportion(subject.n - ok, subject.n, alpha)


def _quantile(subject: Subject, q: float, alpha: float) -> Estimate:
    if subject.current is None or subject.grid is None:
        return Estimate.absent(0)
    bins, counts = subject.current.regular
    lower, upper = subject.grid.edges(bins)
    return quantile(q, lower, upper, counts.astype(float), alpha)
