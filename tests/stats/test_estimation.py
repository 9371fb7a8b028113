"""Expected counts and what is estimated from them: by hand, against realised values, beyond the reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from watchkeeper.stats import confusion, scores
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimation import calibrate, estimate, expected, prediction_powered
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

ALPHA = 0.025
LOWER = np.arange(100) / 100
UPPER = LOWER + 0.01
MIDDLE = LOWER + 0.005


def accuracy(counts: Scores) -> float | None:
    return confusion.accuracy(Confusion.at(counts, 0.5), ALPHA).value


def precision(counts: Scores) -> float | None:
    return confusion.precision(Confusion.at(counts, 0.5), ALPHA).value


def auc(counts: Scores) -> float | None:
    return scores.auc(counts, ALPHA).value


def counts(rows: Floats, positives: Floats) -> Scores:
    held = rows > 0
    return Scores(LOWER[held], UPPER[held], (rows - positives)[held] * 1.0, positives[held] * 1.0)


def drawn(share: Floats, p: Floats, n: int, rng: np.random.Generator) -> Scores:
    rows = rng.multinomial(n, share / share.sum())
    return counts(rows, rng.binomial(rows, p))


def test_calibration_is_the_isotonic_regression_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    seen = drawn(stats.beta(1, 3).pdf(MIDDLE), MIDDLE**1.5, 3000, rng)
    found = calibrate(seen)
    assert found is not None
    rows = seen.negatives + seen.positives
    theirs = IsotonicRegression().fit(seen.middle, seen.positives / rows, sample_weight=rows)
    np.testing.assert_allclose(found.share, theirs.predict(seen.middle), atol=1e-12)
    assert found.positives.sum() == seen.positives.sum()
    assert found.rows.sum() == seen.n
    assert all(a <= b for a, b in pairwise(found.share))
    assert found.misfit > 0.01


def test_expected_counts_worked_by_hand() -> None:
    """One in ten of the low scores is positive in the reference, eight in ten of the high ones."""
    reference = Scores(np.array([0.2, 0.7]), np.array([0.3, 0.8]), np.array([900.0, 20.0]), np.array([100.0, 80.0]))
    calibration = calibrate(reference)
    assert calibration is not None
    lower, upper = np.array([0.2, 0.45, 0.7]), np.array([0.3, 0.55, 0.8])
    found = expected(calibration, lower, upper, np.array([50.0, 10.0, 200.0]))
    np.testing.assert_allclose(found.positives, [5.0, 4.5, 160.0])  # half way between, 0.45
    np.testing.assert_allclose(found.negatives, [45.0, 5.5, 40.0])
    right = estimate(accuracy, reference, lower[::2], upper[::2], np.array([50.0, 200.0]), 0.5, ALPHA)
    assert right.value == pytest.approx((45 + 160) / 250)
    sure = estimate(precision, reference, lower[::2], upper[::2], np.array([50.0, 200.0]), 0.5, ALPHA)
    assert sure.value == pytest.approx(0.8)
    assert sure.low is not None
    assert sure.high is not None
    spread = (0.8 * 0.2 / 200 + 0.8 * 0.2 / 100) ** 0.5  # of 200 labels to come, and of the 100 that the share is from
    assert (sure.high - sure.low) / 2 == pytest.approx(1.96 * spread, rel=0.1)


def test_of_the_reference_itself_the_estimate_is_the_realised_value() -> None:
    seen = drawn(np.ones(100), 0.1 + 0.8 * MIDDLE, 800, np.random.default_rng(1))
    for value in (accuracy, auc, precision):
        found = estimate(value, seen, seen.lower, seen.upper, seen.negatives + seen.positives, 0.5, ALPHA)
        assert found.value == pytest.approx(value(seen), abs=1e-12)


def test_without_enough_labels_nothing_is_estimated() -> None:
    few = counts(np.full(100, 10.0), np.where(MIDDLE > 0.8, 0.95, 0.0))
    assert 0 < few.positives.sum() < 20
    assert calibrate(few) is None
    found = estimate(accuracy, few, LOWER, UPPER, np.full(100, 5.0), 0.5, ALPHA)
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 500)


def test_rows_beyond_the_references_scores_widen_the_band_by_what_they_may_be() -> None:
    rng = np.random.default_rng(2)
    reference = drawn(np.where(MIDDLE < 0.8, 1.0, 0.0), MIDDLE, 20_000, rng)
    inside = np.where(MIDDLE < 0.8, 10.0, 0.0)
    within, beyond = (
        estimate(accuracy, reference, LOWER, UPPER, rows, 0.5, ALPHA) for rows in (inside, np.full(100, 10.0))
    )
    assert within.detail["outside"] == 0
    assert beyond.detail["outside"] == pytest.approx(0.2)
    assert beyond.high is not None
    assert beyond.value is not None
    assert beyond.high - beyond.value > 0.2 * 0.2  # all of them positive, where eight in ten are just below


def test_a_score_that_does_not_rise_with_the_outcome_is_told() -> None:
    rng = np.random.default_rng(3)
    upside_down = drawn(np.ones(100), 0.9 - 0.8 * MIDDLE, 5000, rng)
    found = estimate(auc, upside_down, LOWER, UPPER, np.full(100, 10.0), 0.5, ALPHA)
    assert found.detail["misfit"] < 1e-6
    upright = drawn(np.ones(100), 0.1 + 0.8 * MIDDLE, 5000, rng)
    assert "misfit" not in estimate(auc, upright, LOWER, UPPER, np.full(100, 10.0), 0.5, ALPHA).detail


def test_a_moved_score_moves_the_estimate_to_the_truth() -> None:
    """A model that is unsure more often is right less often, which is known before any label: 0.80 becomes 0.65."""
    rng = np.random.default_rng(4)
    sure, unsure = np.abs(MIDDLE - 0.5), np.where(np.abs(MIDDLE - 0.5) < 0.3, 1.0, 0.0)
    reference = drawn(sure, MIDDLE, 50_000, rng)
    rows = np.round(unsure * 1000)
    found = estimate(accuracy, reference, LOWER, UPPER, rows, 0.5, ALPHA)
    truth = float((rows * np.maximum(MIDDLE, 1 - MIDDLE)).sum() / rows.sum())
    assert found.low is not None
    assert found.high is not None
    assert found.low < truth < found.high
    assert found.high < (accuracy(reference) or 0) - 0.1


def test_prediction_powered_worked_by_hand() -> None:
    guessed, audited, actual = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.3, 0.5, 0.7]), np.array([0.0, 0.0, 1.0])
    found = prediction_powered(guessed, audited, actual, ALPHA)
    apart = np.var([*guessed, *audited], ddof=1)
    weight = min(np.cov(actual, audited)[0, 1] / (apart * (1 + 3 / 4)), 1.0)
    assert found.detail["weight"] == pytest.approx(weight)
    assert found.value == pytest.approx(actual.mean() + weight * (guessed.mean() - audited.mean()))
    assert found.detail["gap"] == pytest.approx(-1 / 6)
    assert prediction_powered(guessed, audited[:1], actual[:1], ALPHA).value is None
    sure = prediction_powered(guessed, audited, np.ones(3), ALPHA)
    assert (sure.low, sure.high) == (None, None)  # three of a kind bound nothing


@pytest.mark.parametrize("bias", [0.0, 0.15], ids=["calibrated guesses", "guesses of another world"])
def test_a_small_audit_holds_the_truth_whatever_the_guesses_are_worth(bias: float) -> None:
    rng = np.random.default_rng(6)
    misses, narrower, told, reps, truth = 0, 0, 0, 500, _mean_of_beta(bias)
    for _ in range(reps):
        chance = rng.beta(4, 1, 2200)
        actual = (rng.random(2200) < np.clip(chance - bias, 0, 1)) * 1.0
        found = prediction_powered(chance[200:], chance[:200], actual[:200], ALPHA)
        assert found.low is not None
        assert found.high is not None
        misses += not found.low <= truth <= found.high
        alone = 1.96 * (actual[:200].var(ddof=1) / 200) ** 0.5
        narrower += (found.high - found.low) / 2 < alone
        told += found.detail["drifted"]
    assert misses <= stats.binom.ppf(0.9999, reps, 0.05)
    assert narrower / reps > 0.8
    if bias:
        assert told / reps > 0.95
    else:
        assert told <= stats.binom.ppf(0.9999, reps, 0.05)


def _mean_of_beta(bias: float) -> float:
    at = (np.arange(100_000) + 0.5) / 100_000
    return float(np.mean(np.clip(stats.beta(4, 1).ppf(at) - bias, 0, 1)))
