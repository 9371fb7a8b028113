"""Service: is the model answering, how fast, and what does that take?"""

from __future__ import annotations

from collections.abc import Callable

from watchkeeper.metrics import metric
from watchkeeper.metrics.quality import NUMERIC
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import Kind
from watchkeeper.stats.estimates import Estimate, mean_of_counts, proportion, quantile, rate
from watchkeeper.summaries import middles

STATUS = (Kind.CATEGORICAL,)


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


@metric("mean use", cause="service", kinds=NUMERIC)
def mean_use(subject: Subject, alpha: float) -> Estimate:
    """The mean of the column over the predictions that have it: of what a prediction took, such as `cpu_ms`,
    `memory_mb`, `gpu_memory_mb` or `disk_mb`, in the column's unit."""
    if subject.current is None or subject.grid is None:
        return Estimate.absent(0)
    return mean_of_counts(*middles(subject.current, subject.grid), alpha)


@metric("error rate", cause="service", kinds=STATUS, column="status", unit="share")
def error_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of predictions whose status is not "ok"."""
    return _share(subject, lambda profile: profile.n - profile.by_value.get("ok", 0), alpha)


@metric("timeout rate", cause="service", kinds=STATUS, column="status", unit="share")
def timeout_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of predictions whose status is "timeout"."""
    return _share(subject, lambda profile: profile.by_value.get("timeout", 0), alpha)


@metric("availability", cause="service", kinds=STATUS, column="status", unit="share")
def availability(subject: Subject, alpha: float) -> Estimate:
    """Share of the predictions that were waited for whose status is "ok": those that the caller gave up, with the
    status "cancelled", count on neither side."""
    if subject.current is None:
        return Estimate.absent(0)
    statuses = subject.current.by_value
    return proportion(statuses.get("ok", 0), subject.n - statuses.get("cancelled", 0), alpha)


@metric("fallback rate", cause="service", kinds=STATUS, column="variant", unit="share")
def fallback_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of predictions that were answered by the variant "fallback" and not by a model."""
    return _share(subject, lambda profile: profile.by_value.get("fallback", 0), alpha)


@metric("rows a second", cause="volume", kinds=STATUS, column="status", any_size=True, unit="rows a second")
def throughput(subject: Subject, alpha: float) -> Estimate:
    """Predictions a second, on average over the window, with the interval of a Poisson count."""
    if not subject.seconds:
        return Estimate.absent(subject.n)
    return rate(subject.n, subject.seconds, alpha)


def _share(subject: Subject, hits: Callable[[Profile], int], alpha: float) -> Estimate:
    if subject.current is None:
        return Estimate.absent(0)
    return proportion(hits(subject.current), subject.n, alpha)


def _quantile(subject: Subject, q: float, alpha: float) -> Estimate:
    values = subject.binned
    return quantile(q, values.lower, values.upper, values.counts, alpha)
