"""Calibration from score-by-label counts: scikit-learn's curve and Brier score, and decompositions that add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from scored_rows import EMPTY, sample, scores_of
from watchkeeper.stats.calibration import (
    brier,
    by_mass,
    by_width,
    calibration_error,
    mean_absolute_calibration_error,
)

ESTIMATES = (calibration_error, mean_absolute_calibration_error, brier)
estimates = pytest.mark.parametrize("estimate", ESTIMATES)
labelled = st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.2, 0.5, 0.9995, 1.0]), st.booleans()), max_size=60)


@pytest.mark.parametrize("seed", range(3))
def test_brier_and_the_curve_are_scikit_learns(seed: int) -> None:
    raw, labels = sample(3000, seed)
    middles = (np.floor(raw * 1000) + 0.5) / 1000
    s = scores_of(raw, labels)
    assert brier(s, 0.05).value == pytest.approx(brier_score_loss(labels, middles), abs=1e-12)
    assert brier(s, 0.05).value == pytest.approx(brier_score_loss(labels, raw), abs=1e-3)
    was, said = calibration_curve(labels, middles, n_bins=10)
    curve = by_width(s, 0.05)
    assert curve.was == pytest.approx(was, abs=1e-12)
    assert curve.said == pytest.approx(said, abs=1e-12)
    assert (curve.low < curve.was).all()
    assert (curve.was < curve.high).all()


def test_bins_of_equal_mass_hold_about_as_many_rows_each() -> None:
    curve = by_mass(scores_of(*sample(10_000, 1)), 0.05)
    assert curve.rows == pytest.approx(np.full(10, 1000), rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_of_the_brier_score_add_up(seed: int) -> None:
    said, labels = sample(400, seed, 0.4)
    middles = (np.minimum(np.floor(said * 1000), 999) + 0.5) / 1000
    s = scores_of(said, labels)
    found, curve = brier(s, 0.05), by_mass(s, 0.05)
    assert found.value == pytest.approx(
        found.detail["reliability"] - found.detail["resolution"] + found.detail["uncertainty"] + found.detail["within"]
    )
    ends = np.cumsum(curve.rows).astype(int)
    order = np.argsort(middles, kind="stable")
    parts = zip(np.split(middles[order], ends[:-1]), np.split(labels[order], ends[:-1]), strict=True)
    within = sum(((f - f.mean()) ** 2).sum() - 2 * ((y - y.mean()) * (f - f.mean())).sum() for f, y in parts) / 400
    assert found.detail["within"] == pytest.approx(within, abs=1e-12)
    base = labels.mean()
    assert found.detail["uncertainty"] == pytest.approx(base * (1 - base) * 400 / 399)
    assert found.detail["skill"] == pytest.approx(1 - found.value / (base * (1 - base)))


def test_the_parts_of_a_calibrated_models_brier_score_are_unbiased() -> None:
    found = [brier(scores_of(*sample(300, seed)), 0.05).detail for seed in range(300)]
    for part, truth in (("reliability", 0.0), ("resolution", (1 - 0.01) / 12), ("uncertainty", 0.25)):
        values = [detail[part] for detail in found]
        assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / 300**0.5 + 1e-4), part


def test_calibration_is_the_mean_gap_over_ten_bins() -> None:
    said = np.repeat(np.arange(10) / 10 + 0.0505, 100)
    was = np.tile(np.arange(100) < 25, 10).astype(float)
    expected = np.abs(np.arange(10) / 10 + 0.0505 - 0.25).mean()
    for estimate in (calibration_error, mean_absolute_calibration_error):
        assert estimate(scores_of(said, was), 0.05).value == pytest.approx(expected)


def test_each_bin_that_holds_rows_counts_the_same_in_the_mean_absolute_error() -> None:
    s = scores_of(np.repeat([0.0505, 0.9505], [900, 100]), np.zeros(1000))
    assert calibration_error(s, 0.05).value == pytest.approx(0.9 * 0.0505 + 0.1 * 0.9505)
    assert mean_absolute_calibration_error(s, 0.05).value == pytest.approx((0.0505 + 0.9505) / 2)


def test_a_calibrated_model_shows_about_its_noise() -> None:
    found = [calibration_error(scores_of(*sample(1000, seed)), 0.05) for seed in range(200)]
    seen = np.mean([e.value for e in found])
    assert seen == pytest.approx(np.mean([e.detail["noise"] for e in found]), rel=0.1)
    assert sum(e.low > 0 for e in found) <= 10
    debiased = np.mean([e.detail["debiased"] for e in found])
    assert debiased == pytest.approx((2 - 2**0.5) * seen, rel=0.1), "normal gaps, of which their own noise is taken off"


def test_the_debiased_error_is_nearer_to_the_truth() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        said = rng.random(500)
        found.append(calibration_error(scores_of(said, (rng.random(500) < 0.1 + 0.6 * said) * 1.0), 0.05))
    truth = 0.125  # the integral of |0.1 - 0.4 s|
    plain, debiased = (
        np.mean([each(e) for e in found]) for each in (lambda e: e.value, lambda e: e.detail["debiased"])
    )
    squares = np.mean([e.detail["root_mean_square"] ** 2 for e in found])
    assert abs(debiased - truth) < abs(plain - truth) / 2
    assert squares == pytest.approx(np.mean((0.1 - 0.4 * (np.arange(10) / 10 + 0.05)) ** 2), rel=0.05)


def test_a_miscalibrated_model_is_seen() -> None:
    rng = np.random.default_rng(2)
    said = rng.random(20_000)
    s = scores_of(said, (rng.random(20_000) < 0.1 + 0.6 * said) * 1.0)
    for estimate in (calibration_error, mean_absolute_calibration_error):
        found = estimate(s, 1e-3)
        assert found.low > 0.1
        assert found.high < 0.16


@estimates
@given(labelled, st.sampled_from([0.05, 1e-3, 1e-9]))
def test_an_interval_holds_its_value(estimate, rows: list[tuple[float, bool]], alpha: float) -> None:
    found = estimate(scores_of(np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows])), alpha)
    if rows:
        assert 0 <= found.low <= found.value <= found.high <= 1
    else:
        assert found.value is None


@estimates
def test_no_rows_have_no_value(estimate) -> None:
    assert estimate(EMPTY, 0.05).value is None
