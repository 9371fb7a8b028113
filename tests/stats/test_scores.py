"""Metrics of score-by-label counts agree with scikit-learn on raw scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import precision_recall_curve as sklearn_precision_recall_curve
from sklearn.metrics import roc_curve as sklearn_roc_curve

from misses import hold
from scored_rows import EMPTY, sample, scores_of
from watchkeeper.stats.scores import (
    auc,
    average_precision,
    log_loss,
    log_loss_arm,
    precision_recall_band,
    precision_recall_curve,
    roc_band,
    roc_curve,
)

estimates = pytest.mark.parametrize(
    "estimate",
    [auc, average_precision, log_loss],
    ids=["auc", "average_precision", "log_loss"],
)
labelled = st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.2, 0.5, 0.9995, 1.0]), st.booleans()), max_size=60)


@pytest.mark.parametrize("seed", range(5))
def test_the_metrics_are_scikit_learns(seed: int) -> None:
    said, labels = sample(3000, seed)
    s = scores_of(said, labels)
    assert auc(s, 0.05).value == pytest.approx(roc_auc_score(labels, said), abs=5e-4)
    assert log_loss(s, 0.05).value == pytest.approx(sklearn_log_loss(labels, said), abs=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_scores_at_bin_middles_give_scikit_learns_values_exactly(seed: int) -> None:
    said, labels = sample(1000, seed)
    said = (np.floor(said * 1000) + 0.5) / 1000
    s = scores_of(said, labels)
    assert auc(s, 0.05).value == pytest.approx(roc_auc_score(labels, said), abs=1e-12)
    assert log_loss(s, 0.05).value == pytest.approx(sklearn_log_loss(labels, said), abs=1e-12)
    assert average_precision(s, 0.05).value == pytest.approx(average_precision_score(labels, said), abs=1e-12)


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


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_differs_from_the_raw_scores_by_what_the_order_within_bins_can_change(seed: int) -> None:
    said, labels = sample(2000, seed, 0.3)
    s = scores_of(said, labels)
    found, alarmed = np.cumsum(s.positives[::-1]), np.cumsum(s.negatives[::-1])
    positives, negatives = s.positives[::-1], s.negatives[::-1]
    worst = (found - positives + 1) / (found - positives + 1 + alarmed)  # the bin's negatives first
    best = found / (found + alarmed - negatives).clip(1)  # and last
    low, high = (float((positives * end).sum() / positives.sum()) for end in (worst, best))
    assert low <= average_precision_score(labels, said) <= high
    assert low <= average_precision(s, 0.05).value <= high
    assert high - low < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_curves_are_scikit_learns_at_the_bins_edges(seed: int) -> None:
    said, labels = sample(1500, seed, 0.3)
    said = np.floor(said * 1000) / 1000
    s = scores_of(said + 0.0005, labels)
    for found, expected in (
        (roc_curve(s), sklearn_roc_curve(labels, said, drop_intermediate=False)),
        (precision_recall_curve(s), sklearn_precision_recall_curve(labels, said)),
    ):
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-12)


def test_the_curves_of_one_label_and_of_no_rows_have_no_nans() -> None:
    for s in (EMPTY, *(scores_of(np.array([0.2, 0.8]), np.full(2, label)) for label in (0.0, 1.0))):
        false, true, thresholds = roc_curve(s)
        assert (false[0], true[0], thresholds[0]) == (0, 0, np.inf)
        precision, recall, _ = precision_recall_curve(s)
        assert (precision[-1], recall[-1]) == (1, 0)
        for curve in (false, true, precision, recall):
            assert np.isfinite(curve).all()


def test_average_precision_of_few_positives_is_hardly_bounded() -> None:
    said, labels = np.linspace(0, 1, 100), np.zeros(100)
    labels[[70, 99]] = 1
    found = average_precision(scores_of(said, labels), 0.01)
    assert found.value == pytest.approx((1 + 2 / 30) / 2)
    assert found.low == 0
    assert found.high > 0.95


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
@pytest.mark.parametrize("estimate", [auc, average_precision])
def test_one_label_alone_has_no_ranking(estimate, label: float) -> None:
    assert estimate(scores_of(np.array([0.2, 0.8]), np.full(2, label)), 0.05).value is None


@pytest.mark.parametrize("seed", range(3))
def test_bands_are_about_scikit_learns_curves(seed: int) -> None:
    said, labels = sample(2000, seed)
    s = scores_of(said, labels)
    middles = np.floor(said * 1000)
    roc, pr = roc_band(s, 0.025), precision_recall_band(s, 0.025)
    assert roc is not None
    assert pr is not None
    false, true, _ = sklearn_roc_curve(labels, middles, drop_intermediate=False)
    assert roc.x == pytest.approx(false)
    assert roc.y == pytest.approx(true)
    precision, recall, _ = sklearn_precision_recall_curve(labels, middles)
    assert pr.x == pytest.approx(recall[:-1])
    assert pr.y == pytest.approx(precision[:-1])
    for curve in (roc, pr):
        for low, value, high in ((curve.x_low, curve.x, curve.x_high), (curve.y_low, curve.y, curve.y_high)):
            assert (low <= value).all()
            assert (value <= high).all()


def test_a_band_holds_the_true_point_of_a_threshold_as_often_as_it_says() -> None:
    """At the threshold 0.7, of scores that are even on [0, 1] and calibrated."""
    true = 0.3 * 0.85 / 0.5
    truth = {"roc": (0.3 * 0.15 / 0.5, true), "pr": (true, 0.85)}
    for n in (100, 1000):
        misses, reps = dict.fromkeys(truth, 0), 400
        for seed in range(reps):
            said, labels = sample(n, seed)
            s = scores_of(np.floor(said * 10) / 10, labels)
            for name, curve in (("roc", roc_band(s, 0.025)), ("pr", precision_recall_band(s, 0.025))):
                assert curve is not None
                at, (x, y) = int(np.argmin(np.abs(curve.threshold - 0.7))), truth[name]
                inside = curve.x_low[at] <= x <= curve.x_high[at] and curve.y_low[at] <= y <= curve.y_high[at]
                misses[name] += not inside
        for name, number in misses.items():
            hold(f"{name} of {n} rows", number, reps, 0.05)


def test_a_band_without_both_labels_is_none() -> None:
    assert roc_band(EMPTY, 0.05) is None
    assert precision_recall_band(EMPTY, 0.05) is None
    assert roc_band(scores_of(np.array([0.2, 0.4]), np.ones(2)), 0.05) is None
