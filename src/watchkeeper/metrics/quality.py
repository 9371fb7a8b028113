"""Data quality: is the column still what it was agreed to be?"""

from __future__ import annotations

from watchkeeper.metrics import metric
from watchkeeper.profiles import Subject
from watchkeeper.schema import Kind
from watchkeeper.stats.estimates import Estimate, proportion, rate
from watchkeeper.stats.grid import NAN, NEGATIVE_INFINITY, NULL, POSITIVE_INFINITY

NUMERIC = (Kind.NUMERIC, Kind.DURATION, Kind.DATETIME)
BOTH = (*NUMERIC, Kind.CATEGORICAL)


@metric("share of missing values", cause="missing values", kinds=BOTH, unit="share")
def null_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of rows whose value is null or not a number."""
    if subject.current is None:
        return Estimate.absent(0)
    missing = subject.current.nulls + subject.current.special(NULL, NAN)
    return proportion(missing, subject.n, alpha)


@metric("share of values outside the reference range", cause="drift", kinds=NUMERIC, needs_baseline=True, unit="share")
def out_of_range(subject: Subject, alpha: float) -> Estimate:
    """Share of the present values beyond the bins that the baseline's least and greatest values fall into.

    Infinities count; sentinels do not (they are `sentinel_rate`'s). Values beyond all that was seen in training
    are most often the front of a drift, hence the cause.
    """
    if subject.current is None or subject.baseline is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    bins, counts = subject.current.regular
    known, _ = subject.baseline.regular
    infinite = subject.current.special(POSITIVE_INFINITY, NEGATIVE_INFINITY)
    inside = int(counts[(bins >= known[0]) & (bins <= known[-1])].sum()) if len(known) else 0
    present = int(counts.sum()) + infinite
    estimate = proportion(present - inside, present, alpha)
    return estimate.about(low=subject.current.low, high=subject.current.high)


@metric("share of sentinel values", cause="sentinel values", kinds=NUMERIC, unit="share")
def sentinel_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of rows that hold a number that systems write for "unknown" (-999, 9999, ...) and that lies outside
    the reference range. The detail names the values found."""
    if subject.current is None or subject.grid is None:
        return Estimate.absent(0)
    found = subject.current.sentinels(subject.grid)
    estimate = proportion(sum(found.values()), subject.n, alpha)
    return estimate.about(values={f"{value:g}": count for value, count in found.items()})


@metric("share of infinite values", cause="missing values", kinds=NUMERIC, unit="share")
def infinite_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of rows that are plus or minus infinity."""
    if subject.current is None:
        return Estimate.absent(0)
    return proportion(subject.current.special(POSITIVE_INFINITY, NEGATIVE_INFINITY), subject.n, alpha)


@metric(
    "share of values never seen in the baseline",
    cause="new values",
    kinds=(Kind.CATEGORICAL,),
    needs_baseline=True,
    unit="share",
)
def new_category(subject: Subject, alpha: float) -> Estimate:
    """Share of the present values that the baseline does not hold. The detail names the most frequent ones."""
    if subject.current is None or subject.baseline is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    known = set(subject.baseline.values)
    new = {value: count for value, count in subject.current.by_value.items() if value not in known}
    estimate = proportion(sum(new.values()), subject.n - subject.current.nulls, alpha)
    return estimate.about(values=dict(sorted(new.items(), key=lambda item: -item[1])[:10]))


@metric("rows a grain", cause="volume", kinds=BOTH, column="status", any_size=True, unit="rows a grain")
def volume(subject: Subject, alpha: float) -> Estimate:
    """Predictions a grain, with the interval of a Poisson count."""
    if not subject.grains:
        return Estimate.absent(subject.n)
    return rate(subject.n, subject.grains, alpha)
