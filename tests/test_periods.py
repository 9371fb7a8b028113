"""Time is cut into whole periods, and a breach's beginning is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from watchkeeper.metrics import METRICS
from watchkeeper.monitors import shown  # noqa: F401  fills the registry
from watchkeeper.periods import MOST_PERIODS, Cut, since, step_of
from watchkeeper.profiles import Profile, Subject, merge
from watchkeeper.stats.grid import Grid
from watchkeeper.testing import profile_of

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("span", "first", "step"),
    [
        (timedelta(0), datetime(2024, 3, 1, 7, 31, tzinfo=UTC), None),
        (timedelta(minutes=59), datetime(2024, 3, 1, 7, 31, tzinfo=UTC), timedelta(minutes=1)),
        (timedelta(hours=9), datetime(2024, 3, 1, 7, 30, tzinfo=UTC), timedelta(minutes=10)),
        (timedelta(hours=48), datetime(2024, 3, 1, 7, tzinfo=UTC), timedelta(hours=1)),
        (10 * DAY, datetime(2024, 3, 1, 6, tzinfo=UTC), timedelta(hours=6)),
        (40 * DAY, datetime(2024, 3, 1, tzinfo=UTC), DAY),
        (300 * DAY, datetime(2024, 2, 26, tzinfo=UTC), 7 * DAY),
        (1500 * DAY, datetime(2024, 3, 1, tzinfo=UTC), 31 * DAY),
        (5000 * DAY, datetime(2024, 1, 1, tzinfo=UTC), 92 * DAY),
        (18_000 * DAY, datetime(2024, 1, 1, tzinfo=UTC), 365 * DAY),
        (100_000 * DAY, datetime(2020, 1, 1, tzinfo=UTC), 3653 * DAY),
    ],
)
def test_periods_begin_at_whole_times(span: timedelta, first: datetime, step: timedelta | None) -> None:
    low = START + timedelta(hours=7, minutes=31)
    cut = Cut.over(low, low + span)
    assert cut.starts[0] == first
    assert cut.starts[-1] <= low + span
    assert 1 <= len(cut.starts) <= MOST_PERIODS
    found = step_of(cut.starts)
    assert found == step or (found and step and abs(found - step) <= 3 * DAY)


def test_weeks_begin_on_mondays() -> None:
    assert {start.weekday() for start in Cut.over(START, START + 200 * DAY).starts} == {0}


def subject(parts: list[Profile], baseline: Profile, grid: Grid | None) -> Subject:
    return Subject(
        merge(parts), baseline, grid, 0.5, 1, 1, {}, {}, tuple((START + i * DAY, p) for i, p in enumerate(parts))
    )


def test_the_beginning_of_each_kind_of_breach_is_found() -> None:
    random = np.random.default_rng(4)
    grid = Grid.fit(random.normal(size=2000))
    baseline = profile_of(random.normal(size=2000).tolist(), grid)
    usual = [random.normal(size=100).tolist() for _ in range(10)]
    moved = [*usual[:6], *([v + 2 for v in day] for day in usual[6:])]
    holes = [*usual[:3], *([None] * 40 + day[:60] for day in usual[3:])]
    marked = [*usual[:8], *([-999.0] * 30 + day[:70] for day in usual[8:])]
    for metric, days, at in (
        ("ks", moved, 6), ("psi", moved, 6), ("out_of_range", moved, 6), ("null_rate", holes, 3),
        ("sentinel_rate", marked, 8),
    ):  # fmt: skip
        found = since(METRICS[metric], subject([profile_of(day, grid) for day in days], baseline, grid))
        assert found == START + at * DAY, metric
    names = [["a", "b"] * 20] * 4 + [["a", "c"] * 20] * 3
    found = since(METRICS["new_category"], subject([profile_of(n) for n in names], profile_of(["a", "b"] * 90), None))
    assert found == START + 4 * DAY


def test_without_periods_there_is_no_beginning() -> None:
    grid = Grid.fit(np.arange(9.0))
    alone = Subject(profile_of([1.0], grid), profile_of([2.0], grid), grid, 0.5, 1, 1, {}, {})
    assert since(METRICS["ks"], alone) is None
    assert step_of((START,)) is None
