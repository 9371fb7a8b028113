"""Confidence sequences: the formula, its tuning, and what few rows give."""

from __future__ import annotations

import numpy as np
import pytest

from watchkeeper.stats.sequential import Arm, mixture_factor, stratified_difference


def test_the_factor_is_the_published_formula() -> None:
    # Robbins' mixture with r chosen for 1000 rows, worked by hand.
    r = (-2 * np.log(0.05) + np.log(-2 * np.log(0.05) + 1)) / 1000
    assert mixture_factor(250, 0.05, 1000) == pytest.approx(
        np.sqrt(2 * (250 * r + 1) / (250 * r) * np.log(np.sqrt(250 * r + 1) / 0.05))
    )


@pytest.mark.parametrize("alpha", [0.05, 1e-3])
@pytest.mark.parametrize("tuned", [100, 500, 5000])
def test_the_interval_is_tightest_about_where_it_is_tuned(alpha: float, tuned: int) -> None:
    rows = np.array([tuned / 4, tuned, 4 * tuned])
    factors = [mixture_factor(n, alpha, tuned) for n in rows]
    assert min(factors) == factors[1]


def test_looking_often_costs_a_wider_interval_than_looking_once() -> None:
    assert mixture_factor(500, 0.05, 500) > 1.96


def test_a_difference_is_the_negative_of_its_reverse() -> None:
    a, b = Arm(100, 0.3, 0.2), Arm(400, 0.5, 0.3)
    value, low, high = stratified_difference([(a, b)], 0.05)
    assert value == pytest.approx(-0.2)
    assert low is not None
    assert high is not None
    assert stratified_difference([(b, a)], 0.05) == pytest.approx((-value, -high, -low))
    assert low < value < high


@pytest.mark.parametrize("arm", [Arm(0, 0.0, 0.0), Arm(1, 0.5, 0.0)])
def test_an_arm_without_two_rows_bounds_nothing(arm: Arm) -> None:
    other = Arm(100, 0.3, 0.2)
    assert stratified_difference([(arm, other)], 0.05)[1:] == (None, None)
    assert stratified_difference([(other, arm)], 0.05)[1:] == (None, None)


def test_losses_that_have_not_varied_bound_nothing() -> None:
    value, low, high = stratified_difference([(Arm(20, 0.0, 0.0), Arm(20, 0.1, 0.0))], 0.05)
    assert value == pytest.approx(-0.1)
    assert (low, high) == (None, None)


def test_one_stratum_is_the_plain_difference_and_its_error_times_the_factor() -> None:
    a, b = Arm(300, 0.3, 0.2), Arm(400, 0.5, 0.2)
    value, low, high = stratified_difference([(a, b)], 0.05, tuned_for=200)
    pooled = 0.2 * 700 / 698
    error = np.sqrt(max(0.2 * 300 / 299, pooled) / 300 + max(0.2 * 400 / 399, pooled) / 400)
    half = error * mixture_factor(300 * 400 / 700, 0.05, 200)
    assert (value, low, high) == pytest.approx((-0.2, -0.2 - half, -0.2 + half))


def test_strata_without_both_arms_do_not_count() -> None:
    pair = Arm(300, 0.3, 0.2), Arm(400, 0.5, 0.3)
    alone = [(Arm(50, 9.0, 1.0), Arm(0, 0.0, 0.0)), (Arm(0, 0.0, 0.0), Arm(50, 9.0, 1.0))]
    assert stratified_difference([pair, *alone], 0.05) == stratified_difference([pair], 0.05)
    assert stratified_difference(alone, 0.05) == (None, None, None)


def test_what_differs_between_days_cancels() -> None:
    # The arms' shares change as the level of the loss does: plainly compared, the candidate looks better.
    strata = [(Arm(10, 1.0, 0.1), Arm(990, 1.0, 0.1)), (Arm(990, 0.2, 0.1), Arm(10, 0.2, 0.1))]
    value, low, high = stratified_difference(strata, 0.05)
    assert value == pytest.approx(0)
    assert low < 0 < high


def test_single_rows_a_stratum_show_no_variance() -> None:
    strata = [(Arm(1, 0.2, 0.0), Arm(1, 0.4, 0.0))] * 30
    assert stratified_difference(strata, 0.05)[1:] == (None, None)
