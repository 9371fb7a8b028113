"""What a series lets expect: exact on what it is made for, no more false alarms than stated, and changes are seen."""

from __future__ import annotations

import numpy as np
import pytest

from watchkeeper.stats.grid import Floats
from watchkeeper.stats.seasonal import ERRORS, change, expected

DAYS = np.arange(57.0)
WEEK = np.array([0.0, 3, 5, 4, 6, -9, -12])


def series(chance: np.random.Generator, correlation: float = 0.0, tails: float = 0.0) -> Floats:
    """Eight weeks of days with a trend, a season and noise that may be correlated or have heavy tails."""
    noise = chance.standard_t(tails, len(DAYS) + 30) if tails else chance.normal(0, 1, len(DAYS) + 30)
    for i in range(1, len(noise)):
        noise[i] += correlation * noise[i - 1]
    return np.asarray(100 + 0.4 * DAYS + np.tile(WEEK, 9)[: len(DAYS)] + noise[30:])


def test_trend_and_season_are_expected_exactly() -> None:
    values = 100 + 0.4 * DAYS + np.tile(WEEK, 9)[: len(DAYS)]
    found = expected(values, 7)
    assert np.isnan(found[:21]).all()
    np.testing.assert_allclose(found[21:], values[21:], rtol=1e-12)
    np.testing.assert_allclose(expected(values[::-1], 7)[21:], values[::-1][21:], rtol=1e-12)


def test_an_incident_last_week_is_not_expected_today() -> None:
    values = 100 + 0.4 * DAYS
    for back in (7, 14, 21, 28):
        wild = values.copy()
        wild[-1 - back] = 1e9
        assert expected(wild, 7)[-1] == pytest.approx(values[-1], abs=3)


def test_gaps_are_passed_over_up_to_one_in_four() -> None:
    values = 2 * DAYS
    values[-8] = np.nan
    assert expected(values, 7)[-1] == pytest.approx(2 * DAYS[-1])
    values[-15] = np.nan
    assert np.isnan(expected(values, 7)[-1])


def test_too_little_to_tell_by() -> None:
    values = 100 + DAYS
    known = 21 + ERRORS
    assert change(values[:known], 7, 0.01, ratio=False).value is None
    assert change(values[: known + 1], 7, 0.01, ratio=False).value == pytest.approx(0)
    assert change(np.full(57, np.nan), 7, 0.01, ratio=False).value is None
    assert change(np.zeros(57), 7, 0.01, ratio=True).value is None
    assert change(np.zeros(0), 7, 0.01, ratio=True).value is None


def test_ratios_are_of_what_multiplies() -> None:
    values = np.exp(DAYS / 50) * np.tile([1, 2, 3, 1, 1, 0.5, 0.2], 9)[: len(DAYS)]
    values[-1] *= 0.6
    found = change(values, 7, 0.01, ratio=True)
    assert found.value == pytest.approx(0.6)
    assert found.detail["expected"] == pytest.approx(values[-1] / 0.6)


def test_what_comes_back_each_year_is_expected() -> None:
    holiday = np.where((DAYS > 40) & (DAYS < 57), 30.0, 0.0)
    last_year, now = 80 + 0.1 * DAYS + holiday, 100 + 0.4 * DAYS + holiday
    found = change(now, 7, 0.01, ratio=False, year=last_year)
    assert found.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("correlation", "tails", "yearly"), [(0.0, 0.0, False), (0.5, 0.0, False), (0.0, 0.0, True), (0.0, 4.0, False)]
)
def test_no_more_false_alarms_than_stated(correlation: float, tails: float, yearly: bool) -> None:
    chance, alpha, runs = np.random.default_rng(11), 0.025, 1500
    above = below = 0
    for _ in range(runs):
        year = series(chance, correlation, tails) if yearly else None
        found = change(series(chance, correlation, tails), 7, alpha, ratio=False, year=year)
        assert found.low is not None
        assert found.high is not None
        above, below = above + (found.low > 0), below + (found.high < 0)
    allowed = 1.3 if tails else 1.0  # of heavy tails the median size of errors says less
    assert max(above, below) <= allowed * runs * alpha + 3 * (runs * alpha) ** 0.5


def test_a_change_of_six_deviations_is_found() -> None:
    chance, found = np.random.default_rng(12), 0
    for _ in range(200):
        values = series(chance)
        values[-1] -= 9
        high = change(values, 7, 0.001, ratio=False).high
        found += high is not None and high < 0
    assert found >= 160
