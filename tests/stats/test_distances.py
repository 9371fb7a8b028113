"""Distances agree with scipy and with hand-worked cases; their intervals are what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, chi2_contingency, entropy, ks_2samp, wasserstein_distance
from scipy.stats.contingency import association

from watchkeeper.stats.distances import (
    CRAMERS_V,
    HELLINGER,
    JENSEN_SHANNON,
    PSI,
    Divergence,
    aligned,
    cells,
    chi_square_estimate,
    cramers_v,
    hellinger,
    hellinger_estimate,
    jensen_shannon,
    jensen_shannon_estimate,
    ks,
    ks_estimate,
    l_infinity,
    l_infinity_estimate,
    psi,
    psi_estimate,
    shares,
    total_variation,
    total_variation_estimate,
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


OVER_CELLS = {
    "psi": psi_estimate,
    "jensen_shannon": jensen_shannon_estimate,
    "hellinger": hellinger_estimate,
    "chi_square": chi_square_estimate,
    "total_variation": total_variation_estimate,
    "l_infinity": l_infinity_estimate,
}


def all_estimates(a: Floats, b: Floats, alpha: float) -> dict[str, Estimate]:
    at = places(len(a))
    return {
        "ks": ks_estimate(a, b, alpha),
        **{name: estimate(a, b, True, alpha) for name, estimate in OVER_CELLS.items()},
        **{f"{name} of categories": estimate(a, b, False, alpha) for name, estimate in OVER_CELLS.items()},
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
    for distance in (ks, jensen_shannon, hellinger, cramers_v, total_variation, l_infinity):
        assert 0 <= distance(a, b) <= 1 + 1e-12
    assert psi(a, b) >= 0
    for distance in (ks, jensen_shannon, psi, hellinger, cramers_v, total_variation, l_infinity):
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-9)


@given(counts, st.integers(0, 30))
def test_cells_without_rows_change_no_distance_but_psi(pair: tuple[list[int], list[int]], at: int) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    c, d = (np.insert(side, min(at, len(side)), 0) for side in (a, b))
    for distance in (ks, jensen_shannon, hellinger, cramers_v, total_variation, l_infinity):
        assert distance(c, d) == pytest.approx(distance(a, b), abs=1e-12)
    for name, estimate in OVER_CELLS.items():  # PSI's own leaves them out too
        if name != "l_infinity":  # whose confidence is shared among all the cells that it is given
            assert estimate(c, d, False, 0.01) == estimate(a, b, False, 0.01), name


@given(counts, st.floats(0, 1))
def test_mixing_one_side_into_the_other_brings_them_nearer(pair: tuple[list[int], list[int]], part: float) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    mixed = part * shares(a) + (1 - part) * shares(b)
    for distance in (ks, jensen_shannon, hellinger, cramers_v, total_variation, l_infinity):
        assert distance(mixed, b) <= distance(a, b) + 1e-7


@given(counts)
def test_the_distances_of_shares_keep_their_known_order(pair: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    tv, h, v = total_variation(a, b), hellinger(a, b), cramers_v(a, b)
    assert l_infinity(a, b) <= tv + 1e-12
    assert ks(a, b) <= tv + 1e-12
    assert h**2 <= tv + 1e-12  # Le Cam 1986
    assert tv <= h * (2 - h**2) ** 0.5 + 1e-9
    assert tv**2 - 1e-12 <= v**2 <= tv + 1e-12  # Topsoe 2000


@given(counts)
def test_the_chi_square_effect_is_scipys_v_and_the_detail_scipys_test(pair: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(side, dtype=float) for side in pair)
    c, d = cells(a, b, False)
    found = chi_square_estimate(a, b, False, 0.05)
    if len(c) < 2:
        assert (found.value, found.detail["p_value"]) == (0, 1)
        return
    test = chi2_contingency(np.stack([c, d]), correction=False)
    assert found.detail["statistic"] == pytest.approx(test.statistic, abs=1e-9)
    assert found.detail["freedom"] == test.dof
    assert found.detail["p_value"] == pytest.approx(test.pvalue, abs=1e-12)
    same_size = (np.stack([c * d.sum(), d * c.sum()])).astype(int)
    assert found.value == pytest.approx(association(same_size), abs=1e-9)


def test_the_corrected_v_is_bergsmas_where_the_sides_are_equally_large() -> None:
    a, b = np.array([130.0, 170, 200]), np.array([180.0, 160, 160])
    found = chi_square_estimate(a, b, False, 0.05)
    n = a.sum() + b.sum()
    phi = chi2_contingency(np.stack([a, b])).statistic / n - 2 / (n - 1)
    assert found.detail["corrected"] == pytest.approx((max(phi, 0) / (1 - 1 / (n - 1))) ** 0.5, rel=0.01)


def test_hellinger_total_variation_and_the_largest_difference_of_a_table_worked_by_hand() -> None:
    a, b = np.array([9.0, 16, 0]), np.array([16.0, 0, 9])
    assert hellinger(a, b) == pytest.approx(((0.1**2 * 4 + 0.8**2 + 0.6**2) / 2) ** 0.5)
    assert total_variation(a, b) == pytest.approx(0.64)
    assert l_infinity(a, b) == pytest.approx(0.64)


@pytest.mark.parametrize("kind", [PSI, JENSEN_SHANNON, HELLINGER, CRAMERS_V])
def test_a_divergences_slopes_and_expansion_are_those_of_its_value(kind: Divergence) -> None:
    def value(p: Floats, q: Floats) -> float:
        # scaled by a part of no weight, so that shares need not sum to one
        rest = 10 - p.sum(), 10 - q.sum()
        found = kind.of(np.append(p, rest[0]), np.append(q, rest[1])) ** (2 if kind.root else 1)
        return 10 * found

    p, q, step = np.array([1.0, 2.0]), np.array([1.5, 1.2]), 1e-6
    by_p, by_q = kind.slopes(np.append(p, 10 - p.sum()) / 10, np.append(q, 10 - q.sum()) / 10)
    for i in range(2):
        up = np.eye(2)[i] * step
        assert (value(p + up, q) - value(p - up, q)) / 2 / step == pytest.approx(by_p[i] - by_p[2], abs=1e-6)
        assert (value(p, q + up) - value(p, q - up)) / 2 / step == pytest.approx(by_q[i] - by_q[2], abs=1e-6)
    s, u = np.array([0.3, 0.7]), 0.04 * np.array([1.0, -1.0])
    found = kind.of(s + u / 2, s - u / 2) ** (2 if kind.root else 1)
    assert found == pytest.approx(kind.scale * float((u**2 / s + kind.quartic * u**4 / s**3).sum()), rel=1e-5)


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
            *(estimate(a, b, ordered, 0.05) for estimate in OVER_CELLS.values() for ordered in (False, True)),
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
    for distance in (jensen_shannon, hellinger, cramers_v, total_variation, l_infinity):
        assert distance(a, b) == pytest.approx(1)


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


@pytest.mark.parametrize("name", OVER_CELLS)
def test_the_noise_is_what_equal_samples_show_on_average(name: str) -> None:
    rng = np.random.default_rng(3)
    for n, m in ((60, 60), (200, 10_000), (2000, 2000)):
        share = np.full(10, 0.1)
        pairs = [(rng.multinomial(n, share) * 1.0, rng.multinomial(m, share) * 1.0) for _ in range(1500)]
        found = [OVER_CELLS[name](a, b, False, 0.05) for a, b in pairs]
        seen = np.mean([e.value for e in found])
        assert np.mean([e.detail["noise"] for e in found]) == pytest.approx(seen, rel=0.06)


@pytest.mark.parametrize("name", ["hellinger", "chi_square", "total_variation"])
def test_the_noise_of_two_cells_is_that_of_one_normal_error(name: str) -> None:
    rng, share = np.random.default_rng(4), np.array([0.3, 0.7])
    found = [
        OVER_CELLS[name](rng.multinomial(400, share) * 1.0, rng.multinomial(900, share) * 1.0, False, 0.05)
        for _ in range(3000)
    ]
    assert np.mean([e.detail["noise"] for e in found]) == pytest.approx(np.mean([e.value for e in found]), rel=0.05)


def test_the_noise_of_ks_is_the_mean_of_kolmogorovs_distribution() -> None:
    rng, bins = np.random.default_rng(5), 2000
    share = np.full(bins, 1 / bins)
    found = [
        ks_estimate(rng.multinomial(1000, share) * 1.0, rng.multinomial(3000, share) * 1.0, 0.05) for _ in range(800)
    ]
    assert found[0].detail["noise"] == pytest.approx(np.mean([e.value for e in found]), rel=0.05)


SHAPES = {
    "two cells": np.array([0.5, 0.5]),
    "a rare one of two": np.array([0.99, 0.01]),
    "fifty": 1 / np.arange(1.0, 51),
    "a thousand": 1 / np.arange(1.0, 1001),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["hellinger", "chi_square", "total_variation", "l_infinity"])
def test_equal_distributions_have_a_lower_end_above_zero_no_more_often_than_alpha(name: str, shape: str) -> None:
    share = SHAPES[shape] / SHAPES[shape].sum()
    rng = np.random.default_rng(list(SHAPES).index(shape))
    for n, m in ((50, 50), (50, 100_000), (100_000, 50), (2000, 2000), (100_000, 100_000)):
        for alpha, reps in ((0.05, 200), (1e-3, 500)):
            pairs = zip(rng.multinomial(n, share, reps) * 1.0, rng.multinomial(m, share, reps) * 1.0, strict=True)
            misses = sum((OVER_CELLS[name](a, b, False, alpha).low or 0) > 0 for a, b in pairs)
            assert misses <= binom.ppf(0.9999, reps, alpha), (n, m, alpha)


def test_ten_deciles_of_fifty_rows_do_not_alarm_hellinger() -> None:
    # A decile that holds none of fifty rows weighs twice what the noise allows for, hence the half row.
    rng, share, reps = np.random.default_rng(6), np.full(100, 0.01), 4000
    pairs = zip(rng.multinomial(60, share, reps) * 1.0, rng.multinomial(10_000, share, reps) * 1.0, strict=True)
    misses = sum((hellinger_estimate(a, b, True, 1e-3).low or 0) > 0 for a, b in pairs)
    assert misses <= binom.ppf(0.9999, reps, 1e-3)


@pytest.mark.parametrize("n", [60, 2000])
def test_the_interval_of_the_largest_difference_holds_the_truth(n: int) -> None:
    rng, reps, m = np.random.default_rng(n), 600, 10_000
    p, q = np.repeat([2.0, 1.0], [10, 40]) / 60, np.full(50, 0.02)
    p[0] += 0.3
    p /= p.sum()
    truth = l_infinity(p, q)
    pairs = zip(rng.multinomial(n, p, reps) * 1.0, rng.multinomial(m, q, reps) * 1.0, strict=True)
    found = [l_infinity_estimate(a, b, False, 0.05) for a, b in pairs]
    most = binom.ppf(0.9999, reps, 0.05)
    assert sum((e.low or 0) > truth for e in found) <= most
    assert sum((e.high or 0) < truth for e in found) <= most
    assert np.mean([e.detail["cell"] == 0 for e in found]) > 0.99


@pytest.mark.parametrize(
    ("name", "limit", "n"),
    [("hellinger", 0.1, 2000), ("chi_square", 0.1, 2000), ("total_variation", 0.1, 4000), ("l_infinity", 0.05, 2000)],
)
def test_a_category_that_grows_by_a_quarter_of_all_rows_is_seen(name: str, limit: float, n: int) -> None:
    rng, reps = np.random.default_rng(8), 100
    q = np.full(20, 0.05)
    p = 0.75 * q
    p[3] += 0.25
    pairs = zip(rng.multinomial(n, p, reps) * 1.0, rng.multinomial(10_000, q, reps) * 1.0, strict=True)
    assert np.mean([(OVER_CELLS[name](a, b, False, 1e-3).low or 0) > limit for a, b in pairs]) > 0.95


def test_one_of_many_categories_is_seen_best_by_the_largest_difference() -> None:
    rng, reps = np.random.default_rng(9), 100
    q = np.full(500, 1 / 500)
    p = 0.96 * q
    p[7] += 0.04
    pairs = [(rng.multinomial(1000, p) * 1.0, rng.multinomial(10_000, q) * 1.0) for _ in range(reps)]
    seen = {
        name: np.mean([(f(a, b, False, 1e-3).low or 0) > 0.005 for a, b in pairs]) for name, f in OVER_CELLS.items()
    }
    assert seen["l_infinity"] > 0.95
    assert seen["total_variation"] < 0.5


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
