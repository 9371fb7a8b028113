"""Shrunk values are nearer to the truth than plain ones, and their intervals narrower and still right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from watchkeeper.stats.estimates import Estimate, proportions
from watchkeeper.stats.shrinkage import _quantile, shrink_shares, shrink_values

BATTERS = np.array([18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7], dtype=float)
SEASON = np.array(
    [.346, .298, .276, .222, .273, .270, .263, .210, .269, .230, .264, .256, .303, .264, .226, .286, .316, .200]
)  # fmt: skip
"""Efron and Morris (1975, table 1): hits in the first 45 at bats of 18 batters in 1970, and their season's average."""


def read(found: list[Estimate]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.array([getattr(one, part) for one in found]) for part in ("value", "low", "high"))  # type: ignore[return-value]


def test_the_batters_of_efron_and_morris() -> None:
    value, low, high = read(shrink_shares(BATTERS, np.full(18, 45.0), 0.025))
    plain = ((BATTERS / 45 - SEASON) ** 2).sum()
    assert ((value - SEASON) ** 2).sum() < plain / 2.5, "they found 3.5 times less by transformed averages"
    assert ((low <= SEASON) & (high >= SEASON)).sum() >= 16  # of 18, of which 17 are expected
    assert value.mean() == pytest.approx(BATTERS.sum() / 810, abs=0.003)


def test_james_and_stein_is_met_where_the_spread_is_known_well() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(5, 2, 400)
    values = truth + rng.normal(size=400)
    found, *_ = read(shrink_values(values, np.ones(400), [10] * 400, 0.025))
    drawn = (400 - 3) / ((values - values.mean()) ** 2).sum()
    expected = values.mean() + (1 - drawn) * (values - values.mean())
    assert np.polyfit(values, found, 1) == pytest.approx(np.polyfit(values, expected, 1), rel=0.03)


def test_a_small_segment_is_not_shouted() -> None:
    rows = np.array([6.0, *[2000.0] * 9])
    hits = np.array([6.0, *[200.0] * 9])
    value, low, _ = read(shrink_shares(hits, rows, 0.025))
    assert value[0] < 0.5
    assert low[0] < 0.2


def test_few_segments_stay_as_they_are() -> None:
    found = shrink_shares(np.array([3.0, 50.0, 0.0]), np.array([10.0, 100.0, 0.0]), 0.025)
    assert [one.value for one in found] == [0.3, 0.5, None]
    low, _ = proportions(np.array([3.0]), np.array([10.0]), 0.025)
    assert found[0].low == pytest.approx(low[0])
    assert shrink_values(np.array([2.0]), np.array([1.0]), [5], 0.025)[0].value == 2.0
    assert shrink_values(np.zeros(0), np.zeros(0), [], 0.025) == []


def test_quantiles_of_skewed_and_even_distributions_are_those_of_scipy() -> None:
    a, b, at = np.array([0.3, 2.0, 500.0, 1e6]), np.array([40.0, 2.0, 700.0, 3e6]), np.array([1e-3, 0.5, 0.4, 0.25])
    for q in (1e-6, 0.025, 0.5, 0.975):
        found = _quantile(lambda x: beta.cdf(x, a, b), q, np.zeros(4), np.ones(4))
        np.testing.assert_allclose(found, beta.ppf(q, a, b), rtol=1e-7)
        found = _quantile(lambda x: norm.cdf(x, at), q, at - 9, at + 30)
        np.testing.assert_allclose(found, norm.ppf(q, at), atol=1e-8)


def test_values_that_are_known_exactly_stay_as_they_are() -> None:
    values = np.array([1.0, 2.0, 3.0, 40.0])
    value, low, high = read(shrink_values(values, np.full(4, 1e-12), [9] * 4, 0.025))
    for found in (value, low, high):
        np.testing.assert_allclose(found, values, rtol=1e-4)


def test_a_segment_without_rows_is_like_the_others() -> None:
    value, low, high = read(shrink_shares(np.array([0.0, *[100.0] * 6]), np.array([0.0, *[1000.0] * 6]), 0.025))
    assert value[0] == pytest.approx(0.1, abs=0.01)
    assert low[0] < low[1] < high[1] < high[0]
    assert shrink_shares(np.zeros(5), np.zeros(5), 0.025)[0].value is None


def hold(misses: np.ndarray, segments: int) -> None:
    """Errors of 0.05 on either side are at most doubled for one spread, and 1.3 times as many over all."""
    assert (misses <= binom.ppf(0.999, segments, 2 * 0.05)).all(), misses / segments
    assert (misses.sum(axis=0) <= binom.ppf(0.999, 4 * segments, 1.3 * 0.05)).all(), misses / segments


@pytest.mark.parametrize("segments", [5, 20])
def test_shares_miss_hardly_more_often_than_alpha_over_segments(segments: int) -> None:
    rng, misses, number = np.random.default_rng(segments), np.zeros((4, 2)), 150 // segments
    for i, (a, b) in enumerate([(0.5, 9.5), (5, 95), (50, 450), (2000, 2000)]):
        for _ in range(number):
            rows = np.exp(rng.uniform(np.log(10), np.log(5000), segments)).astype(int).astype(float)
            truth = rng.beta(a, b, segments)
            _, low, high = read(shrink_shares(rng.binomial(rows.astype(int), truth).astype(float), rows, 0.05))
            misses[i] += (low > truth).sum(), (high < truth).sum()
    hold(misses, number * segments)


@pytest.mark.parametrize("segments", [5, 20])
def test_values_miss_hardly_more_often_than_alpha_over_segments_and_are_narrower(segments: int) -> None:
    rng, misses, widths, number = np.random.default_rng(segments), np.zeros((4, 2)), np.zeros(4), 1500 // segments
    for i, spread in enumerate([0.0, 0.3, 1.0, 5.0]):
        for _ in range(number):
            errors = np.exp(rng.uniform(-1.5, 1.5, segments))
            truth = 3 + spread * rng.normal(size=segments)
            _, low, high = read(shrink_values(truth + errors * rng.normal(size=segments), errors, [9] * segments, 0.05))
            misses[i] += (low > truth).sum(), (high < truth).sum()
            widths[i] += ((high - low) / (2 * 1.645 * errors)).mean() / number
    hold(misses, number * segments)
    assert (np.diff(widths) > 0).all()
    assert widths[0] < 0.75
