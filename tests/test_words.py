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


@pytest.mark.parametrize(
    ("value", "metric", "told"),
    [
        (1186.4, "kpi_sum", "1,186\u202fEUR"),
        (0.063, "kpi_coverage", "6.3\u202f%"),
        (43200.0, "kpi_delay", "12\u202fh"),
        (None, "kpi_sum", words.NONE),
    ],
)
def test_a_kpi_is_told_in_its_unit(value: float | None, metric: str, told: str) -> None:
    assert words.of_kpi(value, metric, "EUR") == told


def test_a_kpi_without_a_unit_is_a_number_and_without_ends_nothing() -> None:
    assert words.of_kpi(2.5, "kpi_mean", "") == "2.50"
    assert words.interval_of_kpi(1.0, 2.0, "kpi_mean", "h") == "1\u202fh to 2\u202fh"
    assert words.interval_of_kpi(None, None, "kpi_mean", "h") == words.NONE
