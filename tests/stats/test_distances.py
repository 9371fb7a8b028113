"""Distances agree with scipy and with hand-worked cases; their intervals are what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, ks_2samp, wasserstein_distance

from watchkeeper.stats.distances import (
    aligned,
    cells,
    jensen_shannon,
    jensen_shannon_estimate,
    ks,
    ks_estimate,
    psi,
    psi_estimate,
    shares,
    wasserstein,
    wasserstein_estimate,
)
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats

counts = st.integers(1, 30).flatmap(
    lambda k: st.tuples(*[st.lists(st.integers(0, 500), min_size=k, max_size=k).filter(any) for _ in "ab"])
)


def places(count: int) -> Floats:
    return np.arange(count, dtype=float)


def all_estimates(a: Floats, b: Floats, alpha: float) -> dict[str, Estimate]:
    at = places(len(a))
    return {
        "ks": ks_estimate(a, b, alpha),
        "psi": psi_estimate(a, b, True, alpha),
        "psi of categories": psi_estimate(a, b, False, alpha),
        "jensen_shannon": jensen_shannon_estimate(a, b, True, alpha),
        "jensen_shannon of categories": jensen_shannon_estimate(a, b, False, alpha),
        "wasserstein": wasserstein_estimate(a, b, at, at + 0.5, alpha),
    }


@given(counts)
def test_distances_of_counts_are_scipys(pair: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    at = places(len(a))
    p, q = shares(a), shares(b)
    assert jensen_shannon(a, b) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)
    assert wasserstein(a, b, at, at) == pytest.approx(wasserstein_distance(at, at, a, b), abs=1e-9)
    rows = [np.repeat(at, side.astype(int)) for side in (a, b)]
    assert ks(a, b) == pytest.approx(
        ks_2samp(*(np.repeat(side, 2) for side in rows), method="asymp").statistic, abs=1e-9
    )
    if a.all() and b.all():
        assert psi(a, b) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-9)


@given(counts, st.sampled_from([0.05, 1e-3, 1e-6]))
def test_every_interval_holds_its_value_and_no_side_has_a_distance_to_itself(
    pair: tuple[list[int], list[int]], alpha: float
) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    for name, estimate in all_estimates(a, b, alpha).items():
        assert 0 <= estimate.low <= estimate.value <= estimate.high, name
        assert (estimate.n, estimate.n_baseline) == (a.sum(), b.sum())
    for name, estimate in all_estimates(a, a, alpha).items():
        assert (estimate.value, estimate.low) == (pytest.approx(0, abs=1e-7), 0), name


@given(counts)
def test_distances_within_their_range_and_the_same_both_ways(pair: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    assert 0 <= ks(a, b) <= 1 + 1e-12
    assert 0 <= jensen_shannon(a, b) <= 1 + 1e-12
    assert psi(a, b) >= 0
    for distance in (ks, jensen_shannon, psi):
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-9)


@given(counts)
def test_more_confidence_is_a_wider_interval(pair: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    for name, wide in all_estimates(a, b, 1e-6).items():
        narrow = all_estimates(a, b, 0.05)[name]
        assert wide.low <= narrow.low + 1e-9, name
        assert wide.high >= narrow.high - 1e-9, name


def test_a_side_without_rows_has_no_distance() -> None:
    some, none = np.array([3.0, 4.0]), np.zeros(2)
    for a, b in ((some, none), (none, some), (none, none), (np.zeros(0), np.zeros(0))):
        at = places(len(a))
        for estimate in (
            ks_estimate(a, b, 0.05),
            psi_estimate(a, b, False, 0.05),
            jensen_shannon_estimate(a, b, True, 0.05),
            wasserstein_estimate(a, b, at, at, 0.05),
        ):
            assert estimate.value is None


def test_psi_of_a_published_scorecard_table() -> None:
    # Worked by hand: (.5-.6) ln(.5/.6) + (.5-.4) ln(.5/.4)
    assert psi(np.array([50.0, 50.0]), np.array([60.0, 40.0])) == pytest.approx(0.1 * np.log(1.2) + 0.1 * np.log(1.25))


def test_a_category_that_is_empty_on_one_side_counts_half_a_row_there() -> None:
    p, q = shares(np.array([100.0, 0.5])), shares(np.array([50.0, 50.0]))
    assert psi(np.array([100.0, 0.0]), np.array([50.0, 50.0])) == pytest.approx(((p - q) * np.log(p / q)).sum())


def test_disjoint_distributions_are_as_far_as_can_be() -> None:
    a, b = np.array([100.0, 0.0]), np.array([0.0, 100.0])
    assert ks(a, b) == 1
    assert jensen_shannon(a, b) == pytest.approx(1)


def test_wasserstein_is_the_shift_of_a_shifted_column() -> None:
    rng = np.random.default_rng(1)
    edges = np.linspace(-6, 6, 401)
    x = rng.normal(size=50_000)
    a, b = (np.histogram(values, edges)[0].astype(float) for values in (x + 0.3, x))
    assert wasserstein(a, b, edges[:-1], edges[1:]) == pytest.approx(0.3, abs=1e-3)


def test_wasserstein_within_one_bin_is_the_exact_integral_of_the_gap() -> None:
    # One side has all rows in the left bin, the other half in each: the gap falls from 0 to 1/2 to 0.
    a, b = np.array([10.0, 0.0]), np.array([5.0, 5.0])
    assert wasserstein(a, b, np.array([0.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(0.5)
    # The gap crosses zero within the bin: two triangles.
    a, b = np.array([4.0, 2.0, 4.0]), np.array([2.0, 6.0, 2.0])
    assert wasserstein(a, b, places(3), places(3) + 1) == pytest.approx(0.1 + 2 * (0.2 * 0.5 / 2) + 0.1)


def test_wasserstein_is_in_standard_deviations_whatever_the_unit() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(1, 50, (2, 20)).astype(float)
    plain = wasserstein_estimate(a, b, places(20), places(20) + 1, 0.05)
    for scale in (1e-300, 1e-5, 1e12, 1e299):
        scaled = wasserstein_estimate(a, b, scale * places(20), scale * (places(20) + 1), 0.05)
        assert scaled.value == pytest.approx(plain.value)
        assert scaled.low == pytest.approx(plain.low)


def test_the_noise_of_psi_is_what_equal_samples_show_on_average() -> None:
    rng = np.random.default_rng(3)
    for n, m in ((60, 60), (200, 10_000), (2000, 2000)):
        share = np.full(10, 0.1)
        pairs = [(rng.multinomial(n, share) * 1.0, rng.multinomial(m, share) * 1.0) for _ in range(1500)]
        found = [psi_estimate(a, b, False, 0.05) for a, b in pairs]
        seen = np.mean([e.value for e in found])
        assert np.mean([e.detail["noise"] for e in found]) == pytest.approx(seen, rel=0.06)


def test_ordered_bins_become_baseline_deciles() -> None:
    baseline = np.full(100, 20.0)
    current, gathered = cells(baseline * 2, baseline, True)
    assert gathered.tolist() == [200.0] * 10
    assert current.tolist() == [400.0] * 10


@given(counts, st.booleans())
def test_cells_keep_every_row_and_hold_enough_of_them(pair: tuple[list[int], list[int]], ordered: bool) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    first, second = cells(a, b, ordered)
    assert (first.sum(), second.sum()) == (a.sum(), b.sum())
    n, m = a.sum(), b.sum()
    expected = (first + second) * min(n, m) / (n + m)
    smaller = first if n < m else second
    assert len(first) == 1 or ((expected >= 5) | (smaller >= 20)).all()


def test_rare_categories_are_pooled_in_groups_and_not_all_together() -> None:
    baseline = np.full(50, 200.0)
    current = np.full(50, 2.0)
    first, _ = cells(current, baseline, False)
    assert first.tolist() == [8.0] * 11 + [12.0]


def test_a_category_that_floods_in_stands_alone_however_large_the_baseline() -> None:
    current, baseline = np.array([120.0, 40.0, 40.0]), np.array([6000.0, 4000.0, 0.0])
    assert cells(current, baseline, False)[0].tolist() == [120.0, 40.0, 40.0]


def test_a_distance_far_from_zero_uses_the_normal_limit_without_a_jump() -> None:
    share_a, share_b = np.array([0.5, 0.5]), np.array([0.3, 0.7])
    lows = [psi_estimate(k * share_a, k * share_b, False, 1e-3).low for k in (1e5, 1e6, 1.2e6, 2e6, 1e7)]
    assert all(0 <= b - a < 0.02 for a, b in itertools.pairwise(lows))


def test_aligned_puts_two_sparse_histograms_over_one_set_of_bins() -> None:
    union, first, second = aligned(np.array([1, 5]), np.array([10, 20]), np.array([-3, 5]), np.array([7, 8]))
    assert union.tolist() == [-3, 1, 5]
    assert first.tolist() == [0, 10, 20]
    assert second.tolist() == [7, 0, 8]
