"""Business: what predictions cost to make."""

from __future__ import annotations

from dataclasses import replace

from watchkeeper.metrics import metric
from watchkeeper.metrics.quality import NUMERIC
from watchkeeper.profiles import Subject
from watchkeeper.stats.estimates import Estimate, mean_of_counts, total_of_counts
from watchkeeper.summaries import middles


@metric("cost of a prediction", cause="business", kinds=NUMERIC, column="cost")
def mean_cost(subject: Subject, alpha: float) -> Estimate:
    """Mean of what making a prediction cost, over those that say their `cost`, in their currency. What their decisions
    cost is `decision_cost`."""
    if subject.current is None or subject.grid is None:
        return Estimate.absent(0)
    return mean_of_counts(*middles(subject.current, subject.grid), alpha)


@metric("cost of predictions", cause="business", kinds=NUMERIC, column="cost", unit="a grain")
def total_cost(subject: Subject, alpha: float) -> Estimate:
    """What making predictions cost, a grain: the sum of `cost` over the window's grains, exact up to the width of the
    grid's bins, 1.3 %. The interval is of such sums: how many predictions there are, and what each costs, is chance."""
    if subject.current is None or subject.grid is None or not subject.grains:
        return Estimate.absent(0)
    whole = total_of_counts(*middles(subject.current, subject.grid), alpha)
    value, low, high = (None if end is None else end / subject.grains for end in (whole.value, whole.low, whole.high))
    return replace(whole, value=value, low=low, high=high)
