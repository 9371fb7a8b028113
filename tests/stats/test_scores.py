"""Metrics of score-by-label counts agree with scikit-learn on raw scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.stats.scores import Scores, accuracy, auc, calibration_error, log_loss, log_loss_arm

GRID = Grid.unit()


def scores_of(said: Floats, labels: Floats) -> Scores:
    bins = GRID.bins(said)
    union = np.unique(bins)
    at = np.searchsorted(union, bins)
    lower, upper = GRID.edges(union)
    sides = (np.bincount(at[labels == label], minlength=len(union)).astype(float) for label in (0, 1))
    return Scores(lower, upper, *sides)


def sample(n: int, seed: int, sharp: float = 1.0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    said = rng.beta(sharp, sharp, n)
    return said, (rng.random(n) < said).astype(float)


EMPTY = Scores(*(np.zeros(0) for _ in range(4)))
estimates = pytest.mark.parametrize(
    "estimate",
    [lambda s, a: accuracy(s, 0.5, a), auc, log_loss, calibration_error],
    ids=["accuracy", "auc", "log_loss", "calibration_error"],
)
labelled = st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.2, 0.5, 0.9995, 1.0]), st.booleans()), max_size=60)


@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_are_scikit_learns(seed: int) -> None:
    said, labels = sample(3000, seed)
    s = scores_of(said, labels)
    assert accuracy(s, 0.3, 0.05).value == pytest.approx(accuracy_score(labels, said >= 0.3))
    assert auc(s, 0.05).value == pytest.approx(roc_auc_score(labels, said), abs=5e-4)
    assert log_loss(s, 0.05).value == pytest.approx(sklearn_log_loss(labels, said), abs=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_scores_at_bin_middles_give_scikit_learns_values_exactly(seed: int) -> None:
    said, labels = sample(1000, seed)
    said = (np.floor(said * 1000) + 0.5) / 1000
    s = scores_of(said, labels)
    assert auc(s, 0.05).value == pytest.approx(roc_auc_score(labels, said), abs=1e-12)
    assert log_loss(s, 0.05).value == pytest.approx(sklearn_log_loss(labels, said), abs=1e-12)


def test_every_thousandth_is_a_threshold_that_splits_exactly() -> None:
    said = np.arange(1001) / 1000
    s = scores_of(said, np.ones(1001))
    for i in range(0, 1001, 7):
        assert accuracy(s, i / 1000, 0.05).value == pytest.approx((1001 - i) / 1001)


def test_delongs_interval_of_a_hand_worked_case() -> None:
    # Six positives and four negatives, repeated ten times: placements by hand, variance over n - 1 each side.
    positives, negatives = np.array([0.3, 0.4, 0.6, 0.7, 0.8, 0.9]), np.array([0.1, 0.2, 0.35, 0.65])
    positives, negatives = np.repeat(positives, 10), np.repeat(negatives, 10)
    wins = (positives[:, None] > negatives).astype(float)
    variance = wins.mean(1).var(ddof=1) / 60 + wins.mean(0).var(ddof=1) / 40
    said = np.concatenate([positives, negatives])
    found = auc(scores_of(said, np.repeat([1.0, 0.0], [60, 40])), 0.025)
    value = wins.mean()
    assert found.value == pytest.approx(value)
    logit, half = np.log(value / (1 - value)), 2.0227 * variance**0.5 / (value * (1 - value))  # Student's, 39 rows
    assert found.low == pytest.approx(1 / (1 + np.exp(half - logit)), abs=1e-4)
    assert found.high == pytest.approx(1 / (1 + np.exp(-half - logit)), abs=1e-4)


def test_scores_that_say_nothing_have_an_auc_of_a_half() -> None:
    assert auc(scores_of(np.full(10, 0.4), np.repeat([0.0, 1.0], 5)), 0.05).value == 0.5


def test_a_perfect_ranking_of_few_rows_is_not_certain() -> None:
    found = auc(scores_of(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0])), 0.05)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.05**0.5)


def test_a_ranking_with_one_positive_bounds_next_to_nothing() -> None:
    said, labels = np.linspace(0, 1, 100), np.zeros(100)
    labels[70] = 1
    found = auc(scores_of(said, labels), 0.01)
    assert found.low < 0.1


def test_a_loss_that_never_varied_still_has_the_variance_that_its_scores_imply() -> None:
    s = scores_of(np.full(60, 0.05), np.zeros(60))
    found = log_loss(s, 0.001)
    assert found.value == pytest.approx(-np.log(0.9495), abs=1e-3)
    assert found.high > found.value + 0.1
    assert log_loss_arm(s).variance > 0.3


def test_a_certain_score_that_was_wrong_costs_a_finite_loss() -> None:
    found = log_loss(scores_of(np.array([1.0, 0.0]), np.array([0.0, 1.0])), 0.05)
    assert found.value == pytest.approx(-np.log(0.0005))


def test_an_arm_is_the_loss_itself() -> None:
    s = scores_of(*sample(500, 1))
    arm = log_loss_arm(s)
    assert (arm.n, arm.mean) == (500, log_loss(s, 0.05).value)
    assert log_loss_arm(EMPTY).n == 0


def test_calibration_is_the_mean_gap_over_ten_bins() -> None:
    said = np.repeat(np.arange(10) / 10 + 0.0505, 100)
    was = np.tile(np.arange(100) < 25, 10).astype(float)
    expected = np.abs(np.arange(10) / 10 + 0.0505 - 0.25).mean()
    assert calibration_error(scores_of(said, was), 0.05).value == pytest.approx(expected)


def test_a_calibrated_model_shows_about_its_noise() -> None:
    found = [calibration_error(scores_of(*sample(1000, seed)), 0.05) for seed in range(200)]
    seen = np.mean([e.value for e in found])
    assert seen == pytest.approx(np.mean([e.detail["noise"] for e in found]), rel=0.1)
    assert sum(e.low > 0 for e in found) <= 10


@estimates
@given(labelled, st.sampled_from([0.05, 1e-3, 1e-9]))
def test_an_interval_holds_its_value(estimate, rows: list[tuple[float, bool]], alpha: float) -> None:
    s = scores_of(np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows]))
    found = estimate(s, alpha)
    if found.value is None:
        assert len({label for _, label in rows}) < 2
    else:
        assert found.low <= found.value
        assert found.high is None or found.value <= found.high


@estimates
def test_no_rows_have_no_value(estimate) -> None:
    assert estimate(EMPTY, 0.05).value is None


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_label_alone_has_no_auc(label: float) -> None:
    assert auc(scores_of(np.array([0.2, 0.8]), np.full(2, label)), 0.05).value is None
