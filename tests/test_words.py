"""Words: what people read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from watchkeeper import words
from watchkeeper.schema import MonitorConfig


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("reference", "the reference"),
        ("14d", "the 14 days before"),
        ("previous", "the 6 hours before"),
        ("7d ago", "7 days ago"),
        ("4 x 7d ago", "the last 4 windows that lie 7 days apart"),
    ],
)
def test_a_baseline_is_told_in_words(written: str, told: str) -> None:
    settings = {"name": "drift", "metric": "psi", "above": 0.2, "window": "6h", "baseline": written}
    assert words.baseline(MonitorConfig.model_validate(settings)) == told


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (timedelta(seconds=-5), "under a minute"),
        (timedelta(seconds=59), "under a minute"),
        (timedelta(minutes=5, seconds=59), "5 min"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(days=3, hours=4, minutes=5), "3 d 4 h"),
    ],
)
def test_how_long_something_lasted_is_told_in_two_units(length: timedelta, told: str) -> None:
    start = datetime(2013, 7, 4, tzinfo=UTC)
    assert words.lasted(start, start + length).replace(words.THIN, " ") == told
