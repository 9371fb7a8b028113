"""Cramer-von Mises and Anderson-Darling agree with scipy and with published quantiles; their intervals hold."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.goodness_of_fit import (
    LARGEST_ANDERSON_DARLING,
    anderson_darling,
    anderson_darling_estimate,
    anderson_darling_quantile,
    anderson_darling_tail,
    cramer_von_mises,
    cramer_von_mises_estimate,
    cramer_von_mises_quantile,
    cramer_von_mises_tail,
)
from watchkeeper.stats.grid import Floats

counts = st.integers(1, 30).flatmap(
    lambda k: st.tuples(*[st.lists(st.integers(0, 500), min_size=k, max_size=k).filter(any) for _ in "ab"])
)
DISTANCES = (cramer_von_mises, anderson_darling)
ESTIMATES = {"cramer_von_mises": cramer_von_mises_estimate, "anderson_darling": anderson_darling_estimate}


def samples(n: int, m: int, shift: float, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Two samples and their counts, a bin for each value."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(shift, 1, n), rng.normal(0, 1, m)
    values = np.concatenate([x, y])
    order = np.argsort(values)
    first = (np.arange(n + m) < n)[order].astype(float)
    return x, y, first, 1 - first


@pytest.mark.parametrize(("x", "p"), [(0.34730, 0.10), (0.46136, 0.05), (0.74346, 0.01), (1.16786, 0.001)])
def test_the_limit_of_cramer_von_mises_has_its_published_quantiles(x: float, p: float) -> None:
    # Csorgo and Faraway 1996, table 1
    assert cramer_von_mises_tail(x) == pytest.approx(p, rel=2e-4)
    assert cramer_von_mises_quantile(p) == pytest.approx(x, abs=2e-5)


@pytest.mark.parametrize(("x", "p"), [(1.9329578, 0.10), (2.492367, 0.05), (3.878125, 0.01)])
def test_the_limit_of_anderson_darling_has_its_published_quantiles(x: float, p: float) -> None:
    # Marsaglia and Marsaglia 2004, who correct the 3.857 of Anderson and Darling 1954
    assert anderson_darling_tail(x) == pytest.approx(p, rel=1e-5)
    assert anderson_darling_quantile(p) == pytest.approx(x, abs=1e-5)


def test_the_limits_are_those_of_their_sums_of_squares_of_normals() -> None:
    rng, k = np.random.default_rng(1), np.arange(1.0, 200)
    squares = rng.normal(size=(20_000, len(k))) ** 2
    for weights, tail in ((1 / (np.pi * k) ** 2, cramer_von_mises_tail), (1 / (k * (k + 1)), anderson_darling_tail)):
        drawn = squares @ weights
        for q in (0.05, 0.5, 0.9, 0.99):
            assert tail(float(np.quantile(drawn, q))) == pytest.approx(1 - q, abs=0.01)


def test_far_tails_fall_as_their_largest_weight_says() -> None:
    for quantile, weight in ((cramer_von_mises_quantile, 1 / np.pi**2), (anderson_darling_quantile, 0.5)):
        quantiles = [quantile(10.0**-k) for k in range(2, 13)]
        steps = [b - a for a, b in itertools.pairwise(quantiles)]
        assert steps[-1] == pytest.approx(2 * weight * np.log(10), rel=0.05)
    assert (cramer_von_mises_tail(0), anderson_darling_tail(0)) == (1, 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_cramer_von_mises_test_is_scipys(seed: int) -> None:
    x, y, first, second = samples(40 + 50 * seed, 300, 0.1 * seed, seed)
    found = cramer_von_mises_estimate(first, second, 0.05)
    test = stats.cramervonmises_2samp(x, y, method="asymptotic")
    assert found.detail["statistic"] == pytest.approx(test.statistic, abs=1e-9)
    assert found.detail["p_value"] == pytest.approx(test.pvalue, abs=1e-6)


def test_the_anderson_darling_statistic_is_scipys_with_ties_and_without() -> None:
    # Scipy's is standardised by a mean of 1 and a deviation that depends on the sizes alone.
    rng = np.random.default_rng(2)
    ours, scipys, ours_p, scipys_p = [], [], [], []
    for shift in (0.0, 0.2, 0.35, 0.6):
        for digits in (0, 8):
            x, y = np.round(rng.normal(shift, 1, 80), digits), np.round(rng.normal(0, 1, 200), digits)
            values = np.union1d(x, y)
            sides = [np.array([(side == v).sum() for v in values], dtype=float) for side in (x, y)]
            found = anderson_darling_estimate(*sides, 0.05)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scipy warns where its table ends
                test = stats.anderson_ksamp([x, y])
            ours.append(found.detail["statistic"] - 1)
            scipys.append(test.statistic)
            if digits and 0.001 < test.pvalue < 0.25:
                ours_p.append(found.detail["p_value"])
                scipys_p.append(test.pvalue)
    np.testing.assert_allclose(np.array(ours) / np.array(scipys), ours[0] / scipys[0], rtol=1e-9)
    np.testing.assert_allclose(ours_p, scipys_p, rtol=0.15)


def test_sides_that_do_not_overlap_are_as_far_as_can_be() -> None:
    first = np.repeat([1.0, 0.0], 5000)
    assert cramer_von_mises(first, 1 - first) == pytest.approx(1 / 3, abs=1e-4)
    assert anderson_darling(first, 1 - first) == pytest.approx(LARGEST_ANDERSON_DARLING, abs=1e-3)


def test_a_shift_of_normals_has_the_distance_of_the_integral() -> None:
    at = np.linspace(-7, 7, 20_001)
    f, g = stats.norm(0.5).cdf(at), stats.norm.cdf(at)
    h = (f + g) / 2
    gap, rows = (f - g) ** 2, np.diff(h)
    assert cramer_von_mises(np.diff(f), np.diff(g)) == pytest.approx((gap[1:] * rows).sum(), rel=1e-3)
    assert anderson_darling(np.diff(f), np.diff(g)) == pytest.approx((gap / (h * (1 - h)))[1:] @ rows, rel=1e-3)


@given(counts)
def test_a_distance_is_within_its_range_the_same_both_ways_and_from_either_end(
    pair: tuple[list[int], list[int]],
) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    for distance, most in zip(DISTANCES, (1 / 3, LARGEST_ANDERSON_DARLING), strict=True):
        assert 0 <= distance(a, b) <= most + 1e-12
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-9)
        assert distance(a, b) == pytest.approx(distance(a[::-1], b[::-1]), abs=1e-9)
        assert distance(a, a) == 0
        c, d = (np.insert(side, len(side) // 2, 0) for side in (a, b))
        assert distance(c, d) == pytest.approx(distance(a, b), abs=1e-12)


@given(counts, st.sampled_from([0.05, 1e-3, 1e-6]))
def test_an_interval_holds_its_value_and_grows_with_confidence(pair: tuple[list[int], list[int]], alpha: float) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    for estimate in ESTIMATES.values():
        found, wider = estimate(a, b, alpha), estimate(a, b, alpha / 10)
        assert found.value is not None
        assert 0 <= (wider.low or 0) <= (found.low or 0) <= found.value <= (found.high or 0) <= (wider.high or 0)
        assert 0 <= found.detail["p_value"] <= 1
        assert np.isfinite(found.detail["statistic"])
        same = estimate(a, a, alpha)
        assert (same.value, same.low) == (0, 0)


@pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=list(ESTIMATES))
def test_a_side_without_rows_has_no_distance(estimate: Callable[[Floats, Floats, float], Estimate]) -> None:
    some, none = np.array([3.0, 4.0]), np.zeros(2)
    for a, b in ((some, none), (none, some), (none, none), (np.zeros(0), np.zeros(0))):
        assert estimate(a, b, 0.05).value is None


SHAPES = {
    "a thousand bins": np.full(1000, 0.001),
    "twelve values": np.arange(1.0, 13) / 78,
    "two values": np.array([0.5, 0.5]),
    "nearly one value": np.array([0.98, 0.01, 0.01]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ESTIMATES)
def test_equal_distributions_have_a_lower_end_above_zero_no_more_often_than_alpha(name: str, shape: str) -> None:
    share, rng = SHAPES[shape], np.random.default_rng(list(SHAPES).index(shape))
    for n, m in ((50, 50), (50, 100_000), (100_000, 50), (2000, 2000), (100_000, 100_000)):
        for alpha, reps in ((0.05, 200), (1e-3, 600)):
            pairs = zip(rng.multinomial(n, share, reps) * 1.0, rng.multinomial(m, share, reps) * 1.0, strict=True)
            misses = sum((ESTIMATES[name](a, b, alpha).low or 0) > 0 for a, b in pairs)
            assert misses <= stats.binom.ppf(0.9999, reps, alpha), (n, m, alpha)


@pytest.mark.parametrize("name", ESTIMATES)
def test_the_noise_is_what_equal_samples_show_on_average(name: str) -> None:
    rng = np.random.default_rng(3)
    for share in (SHAPES["a thousand bins"], SHAPES["twelve values"]):
        for n, m in ((60, 60), (200, 10_000), (2000, 2000)):
            pairs = zip(rng.multinomial(n, share, 1200) * 1.0, rng.multinomial(m, share, 1200) * 1.0, strict=True)
            found = [ESTIMATES[name](a, b, 0.05) for a, b in pairs]
            seen = np.mean([e.value for e in found])
            assert np.mean([e.detail["noise"] for e in found]) == pytest.approx(seen, rel=0.08)


@pytest.mark.parametrize("name", ESTIMATES)
def test_an_interval_holds_the_distance_of_different_distributions(name: str) -> None:
    at = np.linspace(-6, 6, 401)
    reps, alpha = 300, 0.05
    q = np.diff(stats.norm.cdf(at))
    for i, changed in enumerate((stats.norm(0.3), stats.norm(1, 0.3), stats.norm(0, 2))):
        p = np.diff(changed.cdf(at))
        p /= p.sum()
        truth = (cramer_von_mises if name == "cramer_von_mises" else anderson_darling)(p, q)
        rng = np.random.default_rng(i)
        for n, m in ((60, 60), (60, 10_000), (2000, 2000), (10_000, 60)):
            pairs = zip(rng.multinomial(n, p, reps) * 1.0, rng.multinomial(m, q / q.sum(), reps) * 1.0, strict=True)
            found = [ESTIMATES[name](a, b, alpha) for a, b in pairs]
            most = stats.binom.ppf(0.9999, reps, alpha)
            assert sum((e.low or 0) > truth for e in found) <= most, (i, n, m)
            assert sum((e.high or 0) < truth for e in found) <= most, (i, n, m)


@pytest.mark.parametrize(("name", "limit"), [("cramer_von_mises", 0.002), ("anderson_darling", 0.01)])
def test_a_shift_of_three_tenths_of_a_standard_deviation_is_seen(name: str, limit: float) -> None:
    at = np.linspace(-6, 6, 301)
    p, q = np.diff(stats.norm(0.3).cdf(at)), np.diff(stats.norm.cdf(at))
    rng = np.random.default_rng(4)
    pairs = zip(rng.multinomial(2000, p / p.sum(), 100), rng.multinomial(10_000, q / q.sum(), 100), strict=True)
    assert np.mean([(ESTIMATES[name](a * 1.0, b * 1.0, 1e-3).low or 0) > limit for a, b in pairs]) > 0.95


def test_anderson_darling_sees_the_tails_that_cramer_von_mises_passes_over() -> None:
    at = np.linspace(-8, 8, 401)
    q = np.diff(stats.norm.cdf(at))
    q /= q.sum()
    p = 0.94 * q + 0.06 * np.roll(q, 100)
    rng = np.random.default_rng(5)
    pairs = [(rng.multinomial(1500, p) * 1.0, rng.multinomial(10_000, q) * 1.0) for _ in range(100)]
    seen = {name: np.mean([(f(a, b, 1e-3).low or 0) > 0 for a, b in pairs]) for name, f in ESTIMATES.items()}
    assert seen["anderson_darling"] > seen["cramer_von_mises"] + 0.1
