"""Intervals agree with scipy and published values, and say so where the rows bound nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, chi2
from scipy.stats import t as student

from watchkeeper.stats.estimates import (
    Estimate,
    bounded_mean,
    difference,
    mean,
    mean_of_counts,
    paired_difference,
    proportion,
    quantile,
    rate,
    ratio,
    standard_deviation_of_counts,
    total_of_counts,
)

alphas = st.sampled_from([0.05, 0.025, 1e-3, 1e-6])


@given(st.integers(0, 300), st.integers(1, 300), alphas)
def test_a_proportion_has_the_exact_interval(hits: int, n: int, alpha: float) -> None:
    hits = min(hits, n)
    found = proportion(hits, n, alpha)
    exact = binomtest(hits, n).proportion_ci(1 - 2 * alpha, method="exact")
    assert found.value == hits / n
    assert found.low == pytest.approx(exact.low, abs=1e-9)
    assert found.high == pytest.approx(exact.high, abs=1e-9)
    assert found.low <= found.value <= found.high


@given(st.integers(0, 10_000), st.floats(0.01, 1000), alphas)
def test_a_rate_has_garwoods_interval(events: int, exposure: float, alpha: float) -> None:
    found = rate(events, exposure, alpha)
    assert found.value == pytest.approx(events / exposure)
    assert found.low == pytest.approx(chi2.ppf(alpha, 2 * events) / 2 / exposure if events else 0, rel=1e-6)
    assert found.high == pytest.approx(chi2.isf(alpha, 2 * events + 2) / 2 / exposure, rel=1e-6)
    assert found.low <= found.value <= found.high


def test_a_mean_has_students_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, 30)
    found = mean(values.sum(), (values**2).sum(), 30, 0.025)
    low, high = student.interval(0.95, 29, values.mean(), values.std(ddof=1) / 30**0.5)
    assert (found.low, found.value, found.high) == pytest.approx((low, values.mean(), high))


def test_no_rows_have_no_mean_and_one_row_bounds_nothing() -> None:
    assert mean(0, 0, 0, 0.05) == Estimate.absent(0)
    assert mean(3, 9, 1, 0.05) == Estimate(3, None, None, 1)
    assert proportion(0, 0, 0.05) == Estimate.absent(0)


@given(st.integers(1, 400), st.sampled_from([0.05, 0.5, 0.95, 0.99]), alphas)
def test_a_quantile_is_bounded_by_the_order_statistics_of_the_exact_binomial(n: int, q: float, alpha: float) -> None:
    values = np.arange(n, dtype=float)
    found = quantile(q, values, values, np.ones(n), alpha)
    ranks = np.arange(1, n + 1)
    below = ranks[binom.cdf(ranks - 1, n, q) <= alpha]  # P(order statistic above the quantile)
    above = ranks[binom.sf(ranks - 1, n, q) <= alpha]
    assert found.low == (below.max() - 1 if len(below) else None)
    assert found.high == (above.min() - 1 if len(above) else None)


def test_a_quantile_lies_within_its_bin() -> None:
    lower, upper = np.array([0.0, 1.0, 10.0]), np.array([1.0, 10.0, 100.0])
    found = quantile(0.5, lower, upper, np.array([100.0, 200.0, 100.0]), 0.05)
    assert found.value == pytest.approx(5.5)
    assert (found.low, found.high) == (1.0, 10.0)
    assert quantile(0.5, lower[:0], upper[:0], np.zeros(0), 0.05) == Estimate.absent(0)


def test_a_hundred_rows_do_not_bound_a_99th_percentile_from_above() -> None:
    values = np.arange(100.0)
    found = quantile(0.99, values, values, np.ones(100), 0.05)
    assert found.high is None
    assert found.low is not None
    assert quantile(0.99, np.arange(1000.0), np.arange(1000.0), np.ones(1000), 0.05).high is not None


def test_a_quantile_of_very_many_rows_is_quick_and_right() -> None:
    found = quantile(0.95, np.arange(100.0), np.arange(100.0) + 1, np.full(100, 1e7), 1e-6)
    assert found.value == pytest.approx(95)
    assert found.low == 94
    assert found.high == 96


@given(st.floats(0, 1), st.integers(1, 1000), alphas)
def test_a_bounded_mean_is_where_the_relative_entropy_runs_out(value: float, n: int, alpha: float) -> None:
    low, high = bounded_mean(value, n, alpha)
    assert 0 <= low <= value <= high <= 1
    exact = binomtest(round(value * n), n).proportion_ci(1 - 2 * alpha, method="exact")
    if value == round(value * n) / n:
        assert low <= exact.low + 1e-9
        assert high >= exact.high - 1e-9


def test_a_bounded_mean_at_the_end_is_a_power_of_alpha() -> None:
    assert bounded_mean(1.0, 30, 0.01)[0] == pytest.approx(0.01 ** (1 / 30))
    assert bounded_mean(0.0, 30, 0.01)[1] == pytest.approx(1 - 0.01 ** (1 / 30))


def test_newcombes_method_ten_from_wilson_intervals() -> None:
    # Newcombe (1998), table II, row (a): 56/70 against 48/80, method 10 without continuity correction.
    sides = []
    for hits, n in ((56, 70), (48, 80)):
        ci = binomtest(hits, n).proportion_ci(0.95, method="wilson")
        sides.append(Estimate(hits / n, ci.low, ci.high, n))
    found = difference(*sides)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)


def test_a_difference_is_the_negative_of_its_reverse() -> None:
    a, b = proportion(30, 100, 0.025), proportion(10, 80, 0.025)
    one, two = difference(a, b), difference(b, a)
    assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
    assert one.detail == {"current": 0.3, "baseline": 0.125}


def test_a_ratio_is_the_inverse_of_its_reverse() -> None:
    a, b = proportion(30, 100, 0.025), proportion(10, 80, 0.025)
    one, two = ratio(a, b), ratio(b, a)
    assert (one.value, one.low, one.high) == pytest.approx((1 / two.value, 1 / two.high, 1 / two.low))


def test_a_change_is_absent_where_a_side_is() -> None:
    some, none = proportion(3, 10, 0.05), Estimate.absent(0)
    for change in (difference, ratio):
        assert change(some, none).value is None
        assert change(none, some).value is None


def test_a_ratio_to_what_may_be_zero_is_absent_and_one_of_zero_is_zero() -> None:
    zero, some = proportion(0, 50, 0.05), proportion(25, 50, 0.05)
    assert ratio(some, zero).value is None
    found = ratio(zero, some)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(zero.high / some.low)
    assert ratio(Estimate(-1.0, -2.0, 0.5, 9), some).value is None


@pytest.mark.parametrize("change", [difference, ratio])
def test_a_change_has_an_end_only_where_both_sides_have_the_ends_it_needs(change) -> None:
    whole, no_low, no_high = Estimate(2, 1, 3, 9), Estimate(2, None, 3, 9), Estimate(2, 1, None, 9)
    assert change(whole, no_high).low is None
    assert change(whole, no_high).high is not None
    assert change(no_high, whole).high is None
    assert change(no_high, whole).low is not None
    assert change(no_low, whole).high is not None
    assert difference(no_low, whole).low is None
    assert difference(whole, no_low).high is None
    assert ratio(whole, no_low).value is None  # the baseline may be zero


@given(st.integers(0, 50), st.integers(0, 50), alphas)
def test_changes_of_proportions_lie_in_their_intervals(a: int, b: int, alpha: float) -> None:
    sides = proportion(a, 50, alpha), proportion(b, 50, alpha)
    for change in (difference(*sides), ratio(*sides)):
        if change.value is not None:
            assert change.low <= change.value + 1e-12
            assert change.value <= change.high + 1e-12


def test_more_detail_leaves_the_estimate_as_it_was() -> None:
    plain = proportion(1, 2, 0.05)
    told = plain.about(a=1).about(b=2)
    assert told.detail == {"a": 1, "b": 2}
    assert plain.detail == {}
    assert told.value == plain.value


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 50)), min_size=1, max_size=20), alphas)
def test_mean_and_standard_deviation_of_counts_are_numpys(pairs: list[tuple[float, int]], alpha: float) -> None:
    values, counts = (np.array(part, dtype=float) for part in zip(*sorted(pairs), strict=True))
    rows = np.repeat(values, counts.astype(int))
    found = mean_of_counts(values, counts, alpha)
    assert found.value == pytest.approx(rows.mean(), rel=1e-9, abs=1e-6)
    if len(rows) == 1:
        assert (found.low, found.high) == (None, None)
        assert standard_deviation_of_counts(values, counts, alpha).value is None
        return
    assert found.low <= found.value <= found.high
    half = float(student.isf(alpha, len(rows) - 1)) * rows.std(ddof=1) / len(rows) ** 0.5
    assert found.low <= found.value - half * (1 - 1e-9) + 1e-6
    assert found.high >= found.value + half * (1 - 1e-9) - 1e-6
    spread = standard_deviation_of_counts(values, counts, alpha)
    assert spread.value == pytest.approx(rows.std(ddof=1), rel=1e-6, abs=1e-6)
    if spread.low is not None:
        assert 0 <= spread.low <= spread.value <= spread.high


def test_a_mean_of_values_without_skewness_has_students_interval() -> None:
    values, counts = np.array([-1.0, 0.0, 1.0]), np.array([20.0, 60.0, 20.0])
    found = mean_of_counts(values, counts, 0.025)
    plain = mean(0.0, 40.0, 100, 0.025)
    assert (found.low, found.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


def test_a_skewed_mean_reaches_further_towards_the_long_tail() -> None:
    values, counts = np.array([0.0, 10.0]), np.array([95.0, 5.0])
    found = mean_of_counts(values, counts, 0.025)
    assert found.high - 0.5 > 1.3 * (0.5 - found.low)


def test_mean_and_deviation_are_in_the_values_units_however_large() -> None:
    values, counts = np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 5.0])
    for estimate in (mean_of_counts, standard_deviation_of_counts):
        plain = estimate(values, counts, 0.01)
        for unit in (1e-150, 1e300):
            found = estimate(values * unit, counts, 0.01)
            assert found.value == pytest.approx(plain.value * unit)
            assert (found.low, found.high) == (pytest.approx(plain.low * unit), pytest.approx(plain.high * unit))


def test_a_standard_deviation_of_few_rows_has_no_interval_and_of_one_value_no_width() -> None:
    some = np.array([1.0, 2.0])
    assert standard_deviation_of_counts(some, np.array([2.0, 2.0]), 0.01).low is None
    constant = standard_deviation_of_counts(np.array([3.0]), np.array([50.0]), 0.01)
    assert (constant.value, constant.low, constant.high) == (0, 0, 0)
    even = standard_deviation_of_counts(some, np.array([50.0, 50.0]), 0.01)
    assert even.low < even.value < even.high


# paired shares


def test_a_paired_difference_of_many_trials_is_walds() -> None:
    n, gained, lost = 1_000_000, 60_000, 20_000
    found = paired_difference(gained, lost, n, 0.025)
    half = 1.959964 * ((gained + lost - (gained - lost) ** 2 / n) / n**2) ** 0.5  # Agresti 2013, section 11.1
    assert found.value == pytest.approx(0.04)
    assert (found.high - found.value, found.value - found.low) == pytest.approx((half, half), rel=0.02)


def test_a_paired_difference_is_the_negative_of_its_reverse() -> None:
    one, two = paired_difference(9, 3, 80, 0.025), paired_difference(3, 9, 80, 0.025)
    assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
    none = paired_difference(0, 0, 80, 0.025)
    assert none.value == 0
    assert none.high == -none.low == pytest.approx(proportion(0, 80, 0.025).high)
    assert paired_difference(0, 0, 0, 0.025) == Estimate.absent(0)


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize(("a", "b"), [(0.02, 0.02), (0.2, 0.2), (0.45, 0.45), (0.3, 0.05), (0.01, 0.5)])
def test_a_paired_difference_misses_as_seldom_as_it_says(n: int, a: float, b: float) -> None:
    alpha, times = 0.025, 20_000
    drawn, often = np.unique(
        np.random.default_rng(5).multinomial(n, [a, b, 1 - a - b], times), axis=0, return_counts=True
    )
    found = [paired_difference(int(gained), int(lost), n, alpha) for gained, lost, _ in drawn]
    below = sum(k for e, k in zip(found, often, strict=True) if e.low > a - b) / times
    above = sum(k for e, k in zip(found, often, strict=True) if e.high < a - b) / times
    assert max(below, above) <= alpha * 1.15


def test_a_paired_difference_sees_more_than_the_two_shares_apart() -> None:
    n = 1000  # 800 right both times: the two shares are 0.85 and 0.81
    paired = paired_difference(50, 10, n, 0.025)
    apart = difference(proportion(850, n, 0.025), proportion(810, n, 0.025))
    assert paired.value == pytest.approx(apart.value)
    assert paired.low > 0.02
    assert apart.low < 0.01


def test_a_total_of_equal_values_is_a_poisson_count() -> None:
    for n in (30, 300, 30_000):
        total, count = total_of_counts(np.array([0.5]), np.array([float(n)]), 0.01), rate(n, 1.0, 0.01)
        assert total.value == n / 2
        assert total.low == pytest.approx(count.low / 2, rel=max(3 / n, 0.01))  # type: ignore[operator]
        assert total.high == pytest.approx(count.high / 2, rel=max(3 / n, 0.01))  # type: ignore[operator]


def test_totals_of_nothing_and_of_nothings() -> None:
    assert total_of_counts(np.zeros(0), np.zeros(0), 0.01).value is None
    assert total_of_counts(np.zeros(1), np.array([5.0]), 0.01) == Estimate(0.0, 0.0, 0.0, 5)


@pytest.mark.parametrize(("rate_of", "most"), [(30, 1.8), (300, 1.6), (3000, 1.4)])
def test_the_interval_of_a_total_holds_it_though_the_values_are_skewed(rate_of: int, most: float) -> None:
    chance = np.random.default_rng(rate_of)
    truth, alpha, runs = rate_of * np.exp(0.5), 0.025, 2000
    below = above = 0
    for n in chance.poisson(rate_of, runs):
        found = total_of_counts(chance.lognormal(0, 1, n), np.ones(n), alpha)
        assert found.low is not None
        assert found.high is not None
        below, above = below + (found.low > truth), above + (found.high < truth)
    assert below <= runs * alpha + 3 * (runs * alpha) ** 0.5
    assert above <= most * runs * alpha


def test_a_total_that_has_doubled_is_noticed() -> None:
    chance = np.random.default_rng(5)
    now, before = (total_of_counts(chance.lognormal(0, 1, n), np.ones(n), 1e-4) for n in (1000, 500))
    change = ratio(now, before)
    assert change.low is not None
    assert change.low > 1.2
