"""Data quality: is the column still what it was agreed to be?"""

from __future__ import annotations

from collections import Counter

import numpy as np

from watchkeeper.metrics import metric
from watchkeeper.profiles import Profile, Subject, cut
from watchkeeper.schema import ColumnConfig, Kind
from watchkeeper.stats.estimates import Estimate, proportion, rate
from watchkeeper.stats.grid import INVALID, NEGATIVE_INFINITY, POSITIVE_INFINITY, SENTINELS, Grid

NUMERIC = (Kind.NUMERIC, Kind.DURATION, Kind.DATETIME)
BOTH = (*NUMERIC, Kind.CATEGORICAL)
EXPECTED = 10
"""A category counts as vanished if at least so many rows of it would be expected."""


@metric("share of missing values", cause="missing values", kinds=BOTH, unit="share")
def null_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of rows whose value is null or not a number."""
    if subject.current is None:
        return Estimate.absent(0)
    return proportion(subject.current.missing, subject.n, alpha)


@metric("share of values of another type", cause="wrong type", kinds=NUMERIC, unit="share")
def invalid_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of rows whose value cannot be read as the column's type, such as text in a numeric column.

    They are no missing values. In the log, values that do not fit are set aside and count as missing there.
    """
    if subject.current is None:
        return Estimate.absent(0)
    return proportion(subject.current.special(INVALID), subject.n, alpha)


@metric("share of values outside the reference range", cause="drift", kinds=NUMERIC, needs_baseline=True, unit="share")
def out_of_range(subject: Subject, alpha: float) -> Estimate:
    """Share of the present values below `min` or above `max` of the column's contract; where it names none, beyond
    the bins that the baseline's least and greatest values fall into.

    Infinities count; sentinels do not (they are `sentinel_rate`'s). Of the values in a bin that a limit of the
    contract cuts, one at least counts if the least or greatest value is beyond it. Values beyond all that was seen in
    training are most often the front of a drift, hence the cause.
    """
    if subject.current is None or subject.baseline is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    bins, counts = subject.current.regular
    infinite = subject.current.special(POSITIVE_INFINITY, NEGATIVE_INFINITY)
    present = int(counts.sum()) + infinite
    agreed = subject.contract
    if agreed is not None and (agreed.min is not None or agreed.max is not None):
        outside = _beyond(subject, agreed) + infinite
        inside = max(present - outside, 0)
    else:
        known, _ = subject.baseline.regular
        inside = int(counts[(bins >= known[0]) & (bins <= known[-1])].sum()) if len(known) else 0
    estimate = proportion(present - inside, present, alpha)
    return estimate.about(low=subject.current.low, high=subject.current.high)


def _beyond(subject: Subject, agreed: ColumnConfig) -> int:
    """Finite values below `min` or above `max`."""
    profile, grid = subject.current, subject.grid
    if profile is None or grid is None:
        return 0
    bins, counts = profile.regular
    lower, upper = grid.edges(bins)
    outside = 0
    if agreed.min is not None:
        below = (upper <= agreed.min) & (lower < agreed.min)  # a bin's upper end is not in it
        outside += int(counts[below].sum()) or _past(profile.low, agreed.min, -1)
    if agreed.max is not None:
        above = (lower > agreed.max) | ((lower == agreed.max) & (lower < upper) & (grid.discrete | (bins > grid.top)))
        outside += int(counts[above].sum()) or _past(profile.high, agreed.max, 1)
    return outside


def _past(end: float | None, limit: float, sign: int) -> int:
    return int(end is not None and sign * (end - limit) > 0 and end not in SENTINELS)


@metric("share of sentinel values", cause="sentinel values", kinds=NUMERIC, unit="share")
def sentinel_rate(subject: Subject, alpha: float) -> Estimate:
    """Share of rows that hold a number that systems write for "unknown" (-999, 9999, ...) and that lies outside
    the reference range. The detail names the values found."""
    if subject.current is None or subject.grid is None:
        return Estimate.absent(0)
    found = subject.current.sentinels(subject.grid)
    estimate = proportion(sum(found.values()), subject.n, alpha)
    return estimate.about(values={f"{value:.15g}": count for value, count in found.items()})


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
    """Share of the present values that are none of the contract's `categories`; where it names none, that the baseline
    does not hold. Of columns with very many different values those count that surely are new. The detail names the most
    frequent ones that are counted one by one."""
    if subject.current is None or subject.baseline is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    new, unnamed = new_categories(subject)
    estimate = proportion(sum(new.values()) + unnamed, subject.current.present, alpha)
    return estimate.about(values=dict(sorted(new.items(), key=lambda item: -item[1])[:10]))


def known_categories(subject: Subject) -> set[str]:
    """The categories that the contract names, or else the baseline's."""
    if subject.contract is not None and subject.contract.categories is not None:
        return set(map(cut, subject.contract.categories))
    return set(subject.baseline.values) if subject.baseline is not None else set()


def new_categories(subject: Subject) -> tuple[dict[str, int], int]:
    """The rows of each category that surely is none of the known ones, and those of such ones that have no name."""
    current, baseline = subject.current, subject.baseline
    if current is None or baseline is None:
        return {}, 0
    known = known_categories(subject)
    agreed = subject.contract is not None and subject.contract.categories is not None
    new = {v: count for v, count in current.by_value.items() if v not in known}
    if baseline.others and not agreed:
        return {v: count for v, count in new.items() if baseline.counted(v, current)}, 0
    return new, current.others if all(current.counted(v, baseline) for v in known) else 0


@metric(
    "share of the baseline in categories that vanished",
    cause="drift",
    kinds=(Kind.CATEGORICAL,),
    needs_baseline=True,
    unit="share",
)
def vanished_category(subject: Subject, alpha: float) -> Estimate:
    """Share of the baseline's present values whose category the current data no longer hold, of those categories that
    would be expected ten times. One that may be among the values that are not counted one by one is not taken as gone.

    The interval is for the share that these categories lost. A category without a row in n has at most the share
    `1 - (alpha / 2K)^(1/n)`, and had at least the lower end of its exact interval in the baseline; with K categories
    in all each end takes `alpha / 2K` (Bonferroni 1936), so it holds for whichever vanished. The detail names them.
    """
    if subject.current is None or subject.baseline is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    baseline, now = subject.baseline.by_value, set(subject.current.values)
    now |= {value for value in baseline if not subject.current.counted(value, subject.baseline)}
    n, m = subject.current.present, subject.baseline.present
    if not n or not m:
        return Estimate.absent(n, m)
    gone = {value: count for value, count in baseline.items() if value not in now and count * n >= EXPECTED * m}
    each = alpha / (2 * max(len(baseline), 1))
    most_now = -float(np.expm1(np.log(each) / n))
    absent = Counter(count for value, count in baseline.items() if value not in now)
    bounds = {count: proportion(count, m, each) for count in absent}
    low = sum(max((bounds[count].low or 0.0) - most_now, 0.0) for count in gone.values())
    high = sum((bounds[count].high or 0.0) * times for count, times in absent.items())
    value = sum(gone.values()) / m
    named = dict(sorted(gone.items(), key=lambda item: -item[1])[:10])
    return Estimate(value, min(low, value), max(min(high, 1.0), value), n, m, {"values": named})


@metric("share of the variety that is gone", cause="constant value", kinds=BOTH, needs_baseline=True, unit="share")
def constant(subject: Subject, alpha: float) -> Estimate:
    """How far the column got stuck at one value: 1 less the ratio of the share of all *other* values than the most
    frequent one to that share in the baseline. 1 if there are no others left, 0 if they are as frequent as ever, or if
    the baseline holds no others.

    Each share has its exact interval, with half of alpha. A value of a numeric column is a bin, or, outside the bins
    of the reference, all values only if they are equal. The detail names the value.
    """
    if subject.current is None or subject.baseline is None:
        return Estimate.absent(subject.n, subject.n_baseline)
    most, n, name = _most_frequent(subject.current, subject.grid)
    most_before, m, _ = _most_frequent(subject.baseline, subject.grid)
    if not n or not m:
        return Estimate.absent(n, m)
    others, others_before = proportion(n - most, n, alpha / 2), proportion(m - most_before, m, alpha / 2)

    def gone(share: float | None, of: float | None) -> float:
        return min(max(1 - (share or 0.0) / of, 0.0), 1.0) if of else 0.0

    value = gone(others.value, others_before.value)
    low, high = gone(others.high, others_before.low), gone(others.low, others_before.high)
    return Estimate(value, min(low, value), max(high, value), n, m, {"most_frequent": name, "share": most / n})


def _most_frequent(profile: Profile, grid: Grid | None) -> tuple[int, int, str]:
    """The most frequent value's rows, of how many present ones, and its name."""
    if profile.kind is Kind.CATEGORICAL:
        if not len(profile.counts):
            return 0, 0, ""
        return int(profile.counts.max()), profile.present, profile.values[int(profile.counts.argmax())]
    bins, counts = profile.regular
    if grid is None or not len(bins):
        return 0, 0, ""
    at = int(counts.argmax())
    single = profile.low == profile.high
    most = int(counts[at]) if single or 0 <= bins[at] <= grid.top else 0
    lower, upper = grid.edges(bins[at : at + 1])
    middle = profile.low if single else float(lower[0] / 2 + upper[0] / 2)
    return most, int(counts.sum()), f"{middle:{'.15g' if single or lower[0] == upper[0] else '.6g'}}"


@metric("rows a grain", cause="volume", kinds=BOTH, column="status", any_size=True, unit="rows a grain")
def volume(subject: Subject, alpha: float) -> Estimate:
    """Predictions a grain, with the interval of a Poisson count."""
    if not subject.grains:
        return Estimate.absent(subject.n)
    return rate(subject.n, subject.grains, alpha)
