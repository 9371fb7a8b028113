"""Periods: the stretches of time that a table's rows are cut into, and since when one of its limits is breached.

All times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np

from watchkeeper.metrics import Metric
from watchkeeper.metrics.drift import began
from watchkeeper.profiles import Profile, Subject
from watchkeeper.stats.sequential import change_start
from watchkeeper.windows import from_unix

MOST_PERIODS = 60
LENGTHS = (60, 600, 3600, 21_600, 86_400, 604_800)
"""Seconds that a period may have; longer ones are months, quarters, years and tens of years."""
MONTHS = (1, 3, 12, 120)
_MONDAY = 4 * 86_400
"""The first Monday after the start of 1970, in seconds; days and hours fall on whole ones from there as well."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Time cut into periods of so many `seconds`, or else of so many `months`.

    `first` numbers the first of the `count` periods: seconds are counted from a Monday in 1970, months from year 0.
    """

    first: int
    count: int
    seconds: int = 0
    months: int = 0

    @classmethod
    def over(cls, low: datetime, high: datetime) -> Cut:
        """The shortest periods of which at most `MOST_PERIODS` hold both moments and all between."""
        for seconds in LENGTHS:
            first, last = (int((at.timestamp() - _MONDAY) // seconds) for at in (low, high))
            if last - first < MOST_PERIODS:
                return cls(first, last - first + 1, seconds=seconds)
        for months in MONTHS:
            first, last = ((at.year * 12 + at.month - 1) // months for at in (low, high))
            if last - first < MOST_PERIODS:
                break
        return cls(first, last - first + 1, months=months)

    @property
    def offset(self) -> float:
        """From when on seconds are counted, in seconds since 1970."""
        return float(_MONDAY + self.first * self.seconds)

    @property
    def starts(self) -> tuple[datetime, ...]:
        if self.seconds:
            begin = from_unix(self.offset)
            return tuple(begin + i * timedelta(seconds=self.seconds) for i in range(self.count))
        numbers = [(self.first + i) * self.months for i in range(self.count)]
        return tuple(datetime(max(n // 12, 1), n % 12 + 1, 1, tzinfo=UTC) for n in numbers)


def share_of(metric: Metric, subject: Subject, profile: Profile) -> float | None:
    """A share such as that of missing values, of some of the subject's rows alone."""
    part = replace(subject, current=profile, parts=())
    return metric.compute(part, 0.01).value


def since(metric: Metric, subject: Subject) -> datetime | None:
    """The start of the period from which on a breached metric most likely shows what it does.

    For a share, the period from which on the rows have it as the current data have it rather than as the baseline;
    for a distance, that of `drift.began`. None where the rows are not cut by time.
    """
    if not subject.parts or subject.baseline is None or subject.current is None:
        return None
    if metric.unit != "share":
        return began(subject)
    sides = []
    for profile in (subject.baseline, subject.current, *(part for _, part in subject.parts)):
        value = share_of(metric, subject, profile) or 0.0
        sides.append(np.array([value * profile.n, (1 - value) * profile.n]))
    return subject.parts[change_start(sides[2:], before=sides[0], after=sides[1])][0]


def step_of(starts: tuple[datetime, ...]) -> timedelta | None:
    """The usual length of a period, given where each starts; None of fewer than two."""
    steps = sorted(b - a for a, b in pairwise(starts))
    return steps[len(steps) // 2] if steps else None
