"""KPIs: what predictions have led to, for each prediction and for each user.

Of each prediction a KPI has the latest value that is known, or none. Sums and means are exact up to the width of the
bins that values are counted in. A user is an `entity_id`, and is counted once in each grain: what a user comes to in a
grain is one value, so the values of a grain are independent of each other however much one user's predictions have in
common. In a window of several grains the same users may come again. All intervals of users therefore count each of
them in each grain but one row for all grains, which is right if all of them come back unchanged, and too wide
otherwise: the variance of a sum of g values is at most g times the sum of their variances (Cauchy-Schwarz).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watchkeeper.kpis import DELAY, PER_USER
from watchkeeper.metrics import metric
from watchkeeper.metrics.quality import NUMERIC
from watchkeeper.profiles import Subject
from watchkeeper.stats.estimates import Estimate, mean_of_counts, proportion, quantile, total_of_counts
from watchkeeper.stats.grid import Floats
from watchkeeper.summaries import middles, spans


@metric("mean of a KPI", cause="business", kinds=NUMERIC, kpi="")
def kpi_mean(subject: Subject, alpha: float) -> Estimate:
    """Mean of a KPI over the predictions that have one, in its unit."""
    if subject.current is None or subject.grid is None:
        return Estimate.absent(0)
    return mean_of_counts(*middles(subject.current, subject.grid), alpha)


@metric("KPI per prediction", cause="business", kinds=NUMERIC, kpi="")
def kpi_per_prediction(subject: Subject, alpha: float) -> Estimate:
    """A KPI per prediction: its sum over the number of all predictions, in its unit. Those that have none count as
    0."""
    values, counts = _with_nothing(subject)
    return mean_of_counts(values, counts, alpha) if values.any() else _nothing(counts)


@metric("sum of a KPI", cause="business", kinds=NUMERIC, unit="a grain", kpi="")
def kpi_sum(subject: Subject, alpha: float) -> Estimate:
    """The sum of a KPI, a grain, in its unit. The interval is of such sums: how many predictions there are, and what
    each comes to, is chance."""
    if subject.current is None or subject.grid is None or not subject.grains:
        return Estimate.absent(0)
    values, counts = _with_nothing(subject)
    whole = total_of_counts(values, counts, alpha) if values.any() else _nothing(counts)
    value, low, high = (None if end is None else end / subject.grains for end in (whole.value, whole.low, whole.high))
    return replace(whole, value=value, low=low, high=high)


@metric("share of predictions with a KPI", cause="business", kinds=NUMERIC, unit="share", kpi="")
def kpi_coverage(subject: Subject, alpha: float) -> Estimate:
    """Share of the predictions that have the KPI: of a KPI that is logged when something happens, such as a purchase,
    how often it does."""
    if subject.current is None:
        return Estimate.absent(0)
    return proportion(subject.n - subject.current.missing, subject.n, alpha)


@metric("median delay of a KPI", cause="business", kinds=NUMERIC, unit="s", kpi=DELAY)
def kpi_delay(subject: Subject, alpha: float) -> Estimate:
    """The median time from a prediction until its KPI was known, in seconds, over the predictions that have one; of
    several values that of the latest."""
    if subject.current is None or subject.grid is None:
        return Estimate.absent(0)
    lower, upper, counts = spans(subject.current, subject.grid)
    return quantile(0.5, lower, upper, counts.astype(float), alpha)


@metric("KPI per user", cause="business", kinds=NUMERIC, kpi=PER_USER)
def kpi_per_user(subject: Subject, alpha: float) -> Estimate:
    """A KPI per user: its sum over the number of users, in its unit; those who have none count as 0. In a window of
    several grains each user counts once in each grain that they come in, so it is the mean of a user and grain.

    The interval is that of a ratio of two sums over users, which vary together: the delta method, for which users, not
    predictions, are the unit (Deng, Knoblich and Lu 2018, Applying the delta method in metric analytics). Where each
    user adds one to the sum below it is that of the mean of what users come to.
    """
    values, counts = _with_nothing(subject)
    users = int(counts.sum())
    if not users or not subject.grains:
        return Estimate.absent(users)
    plain = mean_of_counts(values, counts, alpha) if values.any() else _nothing(counts)
    if subject.grains == 1 or plain.low is None or plain.high is None or plain.value is None:
        return plain
    apart = mean_of_counts(values, counts / subject.grains, alpha)
    return replace(apart, value=plain.value, n=users)


@metric("share of users with a KPI", cause="business", kinds=NUMERIC, unit="share", kpi=PER_USER)
def kpi_user_share(subject: Subject, alpha: float) -> Estimate:
    """Share of the users of whose predictions any has the KPI; users are counted as for `kpi_per_user`."""
    if subject.current is None or not subject.grains:
        return Estimate.absent(0)
    some = subject.n - subject.current.missing
    plain = proportion(some, subject.n, alpha)
    if subject.grains == 1:
        return plain
    return replace(proportion(some / subject.grains, subject.n / subject.grains, alpha), value=plain.value, n=plain.n)


def _nothing(counts: Floats) -> Estimate:
    """What is said of rows of which none comes to anything: 0, without ends, for how much one could come to is not
    known. `kpi_coverage` bounds how many do."""
    n = int(counts.sum())
    return Estimate(0.0, None, None, n) if n else Estimate.absent(0)


def _with_nothing(subject: Subject) -> tuple[Floats, Floats]:
    """The values of a profile and how often each occurs, where rows without one count as 0."""
    if subject.current is None or subject.grid is None:
        return np.zeros(0), np.zeros(0)
    values, counts = middles(subject.current, subject.grid)
    return np.append(values, 0.0), np.append(counts, float(subject.current.missing))
