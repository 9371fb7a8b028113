"""Metrics of KPIs: known answers, how often their intervals hold the truth, and what they can tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from watchkeeper.metrics import kpis
from watchkeeper.profiles import Profile, Subject, numeric
from watchkeeper.stats.estimates import Estimate, difference
from watchkeeper.stats.grid import NULL, Floats, Grid

ALPHA = 0.025
MONEY = Grid.fit(np.random.default_rng(0).lognormal(3, 1, 50_000))
WHOLE = Grid.fit(np.repeat(np.arange(-20.0, 41.0), 2))


def counted(values: Floats, grid: Grid = MONEY) -> Profile:
    """The profile of values; NaN where a row has none."""
    there = values[~np.isnan(values)]
    bins, counts = np.unique(grid.bins(there), return_counts=True)
    of = {**dict(zip(bins.tolist(), counts.tolist(), strict=True)), NULL: len(values) - len(there)}
    return numeric(grid, of, float(there.min()) if len(there) else None, float(there.max()) if len(there) else None)


def subject(values: Any, grid: Grid = MONEY, grains: int = 1) -> Subject:
    return Subject(counted(np.asarray(values, dtype=float), grid), None, grid, 0.5, grains, 0, {}, {})


def measured(metric: str, values: Any, grid: Grid = MONEY, grains: int = 1, alpha: float = ALPHA) -> Estimate:
    return getattr(kpis, metric)(subject(values, grid, grains), alpha)


def ends(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


# known answers

VALUES = np.array([*np.arange(-10.0, 11.0), *np.arange(-10.0, 11.0)])


def test_a_mean_of_those_that_have_one_has_students_interval() -> None:
    found = measured("kpi_mean", [*VALUES, *[np.nan] * 30], WHOLE)
    assert (found.value, found.n) == (pytest.approx(0, abs=1e-12), len(VALUES))
    wanted = stats.t.interval(0.95, len(VALUES) - 1, 0.0, stats.sem(VALUES))
    assert ends(found) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", ["kpi_per_prediction", "kpi_per_user"])
def test_those_that_have_none_count_as_nothing(metric: str) -> None:
    found = measured(metric, [*VALUES, *[np.nan] * 30], WHOLE)
    whole = np.append(VALUES, np.zeros(30))
    assert (found.value, found.n) == (pytest.approx(0, abs=1e-12), len(whole))
    assert ends(found) == pytest.approx(stats.t.interval(0.95, len(whole) - 1, 0.0, stats.sem(whole)))


def test_the_delta_method_for_a_ratio_of_sums_over_users_is_the_interval_of_their_mean() -> None:
    rng = np.random.default_rng(1)
    sums, ones = rng.integers(-20, 21, 4000).astype(float), np.ones(4000)
    ratio, n = sums.sum() / ones.sum(), len(sums)
    covariance = np.cov(sums, ones)
    variance = (covariance[0, 0] - 2 * ratio * covariance[0, 1] + ratio**2 * covariance[1, 1]) / (n * ones.mean() ** 2)
    reach = stats.t.ppf(0.975, n - 1) * variance**0.5
    found = measured("kpi_per_user", sums, WHOLE)
    assert found.value == pytest.approx(ratio)
    assert ends(found) == pytest.approx((ratio - reach, ratio + reach), abs=0.02 * reach)


def test_a_sum_is_a_grain_s_and_has_the_interval_of_a_compound_poisson_sum() -> None:
    found = measured("kpi_sum", [*[10.0] * 200, *[-10.0] * 200, *[np.nan] * 100], WHOLE, grains=4)
    reach = stats.norm.ppf(0.975) * (400 * 10.0**2) ** 0.5 / 4
    assert (found.value, found.n) == (0.0, 500)
    assert ends(found) == pytest.approx((-reach, reach))


@pytest.mark.parametrize("metric", ["kpi_coverage", "kpi_user_share"])
def test_a_share_has_its_exact_interval(metric: str) -> None:
    found = measured(metric, [1.0] * 7 + [np.nan] * 93, WHOLE)
    wanted = stats.binomtest(7, 100).proportion_ci(0.95, method="exact")
    assert (found.value, found.n) == (0.07, 100)
    assert ends(found) == pytest.approx((wanted.low, wanted.high))


def test_the_delay_is_the_median_of_the_predictions_that_have_one() -> None:
    grid = Grid.logarithmic(1.0, 32_000_000.0)
    seconds = np.random.default_rng(2).exponential(86_400, 1001)
    found = measured("kpi_delay", [*seconds, np.nan], grid)
    assert found.value == pytest.approx(np.median(seconds), rel=0.02)
    low, high = ends(found)
    order = np.sort(seconds)
    assert (low, high) == pytest.approx((order[469], order[531]), rel=0.03), "ranks of the binomial"


def test_sums_of_continuous_values_are_exact_up_to_the_width_of_the_bins() -> None:
    values = np.random.default_rng(3).lognormal(3, 1, 20_000)
    assert measured("kpi_sum", values).value == pytest.approx(values.sum(), rel=0.002)
    few = np.random.default_rng(4).lognormal(6, 1, 20)  # far beyond what the grid was made from
    assert measured("kpi_sum", few).value == pytest.approx(few.sum(), rel=0.013)


NAMES = ("kpi_mean", "kpi_per_prediction", "kpi_sum", "kpi_coverage", "kpi_delay", "kpi_per_user", "kpi_user_share")


@pytest.mark.parametrize("metric", NAMES)
def test_nothing_is_said_of_nothing(metric: str) -> None:
    nothing = replace(subject([1.0]), current=None)
    assert getattr(kpis, metric)(nothing, ALPHA) == Estimate.absent(0)


@pytest.mark.parametrize("metric", NAMES)
def test_rows_of_which_none_has_a_value_bound_a_share_and_no_more(metric: str) -> None:
    found = measured(metric, [np.nan] * 50)
    if metric in ("kpi_coverage", "kpi_user_share"):
        assert ends(found) == pytest.approx((0.0, 1 - ALPHA ** (1 / 50)))
    else:
        assert (found.value in (None, 0.0), found.low, found.high) == (True, None, None)


# how often intervals hold the truth

ROUNDS = 1000


def missed(metric: str, truth: float, rounds: list[Any], grid: Grid = MONEY, grains: int = 1) -> float:
    """The share of the rounds in which the interval of both sides, 95 % together, does not hold the truth."""
    found = [ends(measured(metric, values, grid, grains)) for values in rounds]
    return float(np.mean([not low <= truth <= high for low, high in found]))


def purchases(rng: np.random.Generator, users: int, share: float = 0.3, skew: float = 0.8) -> Floats:
    """What users spend: most nothing, others a skewed sum."""
    spent = rng.lognormal(3, skew, users)
    return np.where(rng.random(users) < share, spent, np.nan)


MEAN = 0.3 * float(np.exp(3 + 0.8**2 / 2))


@pytest.mark.parametrize("users", [500, 5000])
def test_intervals_hold_the_truth_as_often_as_they_say(users: int) -> None:
    rng = np.random.default_rng(5)
    rounds = [purchases(rng, users) for _ in range(ROUNDS)]
    for metric in ("kpi_per_user", "kpi_per_prediction"):
        assert missed(metric, MEAN, rounds) < 0.07
    assert missed("kpi_mean", MEAN / 0.3, rounds) < 0.07
    assert missed("kpi_coverage", 0.3, rounds) < 0.06
    assert missed("kpi_user_share", 0.3, rounds) < 0.06


def test_sums_hold_the_truth_when_traffic_is_chance_too() -> None:
    rng = np.random.default_rng(6)
    rounds = [purchases(rng, int(n)) for n in rng.poisson(800, ROUNDS)]
    assert missed("kpi_sum", 800 * MEAN, rounds) < 0.07


def test_users_whose_predictions_are_alike_are_the_unit_and_not_their_predictions() -> None:
    """Each user has ten predictions that all come to about the same: the interval of predictions that takes them as
    independent misses the truth most of the time, that of users does not."""
    rng = np.random.default_rng(7)
    by_user, by_prediction = [], []
    for _ in range(400):
        level = rng.gamma(2.0, 5.0, 300)
        each = level[:, None] * rng.uniform(0.9, 1.1, (300, 10))
        by_user.append(each.sum(axis=1))
        by_prediction.append(each.ravel())
    assert missed("kpi_per_prediction", 10.0, by_prediction) > 0.4
    assert missed("kpi_per_user", 100.0, by_user) < 0.075


@pytest.mark.parametrize(("alike", "least", "most"), [(True, 0.02, 0.075), (False, 0.0, 0.001)])
def test_users_who_come_back_in_each_grain_do_not_narrow_the_interval(alike: bool, least: float, most: float) -> None:
    """Seven grains of the same users: with all of them unchanged the interval is right, with others each time it is
    too wide."""
    rng = np.random.default_rng(8)
    rounds = [
        np.tile(purchases(rng, 500), 7) if alike else np.concatenate([purchases(rng, 500) for _ in range(7)])
        for _ in range(600)
    ]
    assert least <= missed("kpi_per_user", MEAN, rounds, grains=7) <= most
    assert missed("kpi_user_share", 0.3, rounds, grains=7) <= 0.06


# what they can tell


def test_a_fall_by_a_fifth_is_seen_in_some_thousand_users_and_no_change_is_none() -> None:
    """At the confidence of a look once a day that may be wrong half a time in 30 days."""
    rng, alpha = np.random.default_rng(9), 0.5 / 30
    found = {0.0: 0, 0.2: 0}
    for fall in found:
        for _ in range(300):
            now = measured("kpi_per_user", (1 - fall) * purchases(rng, 4000), alpha=alpha)
            before = measured("kpi_per_user", purchases(rng, 28_000), alpha=alpha)
            change = difference(now, before)
            found[fall] += change.high is not None and change.high < 0
    assert found[0.0] / 300 <= 2 * alpha
    assert found[0.2] / 300 >= 0.9
