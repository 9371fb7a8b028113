"""Estimates that heed features: where scores alone mislead, where the features say nothing, and where all must fail."""

from __future__ import annotations

import numpy as np
import pytest

from watchkeeper import adaptation
from watchkeeper.adaptation import ErrorModel, FeatureAware, Rows, counts, effective, estimate, ways, weights
from watchkeeper.stats import confusion, estimation, scores
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

ALPHA = 0.025


def accuracy(of: Scores) -> float | None:
    return confusion.accuracy(Confusion.at(of, 0.5), ALPHA).value


def auc(of: Scores) -> float | None:
    return scores.auc(of, ALPHA).value


def rows(n: int, young: float, seed: int, drifted: bool = False) -> Rows:
    """A model that knows `x` and not who is young: its score is right for the others, twice too high for the young."""
    rng = np.random.default_rng(seed)
    x, is_young = rng.uniform(0.05, 0.95, n), rng.random(n) < young
    chance = np.where(is_young, x / 2, x)
    if drifted:
        chance = 1 - chance
    labels = (rng.random(n) < chance) * 1.0
    return Rows(np.column_stack([x, is_young]), x, labels, (1,))


@pytest.fixture(scope="module")
def reference() -> Rows:
    return rows(12_000, 0.5, 0)


@pytest.fixture(scope="module")
def model(reference: Rows) -> FeatureAware:
    return FeatureAware(reference)


def test_counts_are_those_of_the_labels_and_add_up_by_bin() -> None:
    found = counts(np.array([0.1, 0.1002, 0.7, 1.0]), np.array([1.0, 0.0, 0.5, 1.0]))
    assert found.lower.tolist() == [0.1, 0.7, 0.999]
    assert found.positives.tolist() == [1.0, 0.5, 1.0]
    assert found.negatives.tolist() == [1.0, 0.5, 0.0]


def test_with_the_same_mix_nothing_changes(reference: Rows, model: FeatureAware) -> None:
    now = rows(8000, 0.5, 1)
    found = estimate(accuracy, reference, ways(reference, model, now.features, now.scores), now.scores, 0.5, ALPHA)
    assert found.low is not None
    assert found.high is not None
    assert found.low < (accuracy(counts(now.scores, now.labels)) or 0) < found.high
    assert effective(weights(reference, now.features)) > 0.8


def test_where_the_mix_moves_features_tell_what_scores_do_not(reference: Rows, model: FeatureAware) -> None:
    now = rows(8000, 0.85, 2)
    realised = counts(now.scores, now.labels)
    found = ways(reference, model, now.features, now.scores)
    assert len(found) == 2
    seen = counts(reference.scores, reference.labels)
    for value in (accuracy, auc):
        truth = value(realised)
        assert truth is not None
        heeding = estimate(value, reference, found, now.scores, 0.5, ALPHA, (0, 1))
        assert heeding.value == pytest.approx(truth, abs=0.02)
        assert heeding.low is not None
        assert heeding.high is not None
        assert heeding.low < truth < heeding.high
        assert heeding.detail["spread"] < 0.02
    blind = estimation.estimate(
        accuracy, seen, realised.lower, realised.upper, realised.negatives + realised.positives, 0.5, ALPHA
    )
    assert blind.value is not None
    assert abs(blind.value - (accuracy(realised) or 0)) > 0.02


def test_of_rows_unlike_the_reference_only_the_fitted_way_is_asked(reference: Rows, model: FeatureAware) -> None:
    x = np.random.default_rng(3).uniform(0.93, 0.95, 3000)
    far = np.column_stack([x, np.ones(len(x))])
    assert effective(weights(reference, far)) < adaptation.EFFECTIVE
    assert len(ways(reference, model, far, x)) == 1


def test_features_that_say_nothing_leave_the_scores_estimate() -> None:
    rng = np.random.default_rng(4)
    x, noise = rng.uniform(0.05, 0.95, 6000), rng.normal(size=(6000, 3))
    plain = Rows(noise, x, (rng.random(6000) < x) * 1.0)
    shares = FeatureAware(plain).shares(rng.normal(size=(500, 3)), np.full(500, 0.5))
    assert shares.std() < 0.03


def test_a_drifted_relation_is_not_seen_without_labels_and_told_by_an_audit(
    reference: Rows, model: FeatureAware
) -> None:
    now = rows(6000, 0.5, 5, drifted=True)
    found = estimate(accuracy, reference, ways(reference, model, now.features, now.scores), now.scores, 0.5, ALPHA)
    assert found.low is not None
    assert found.low > (accuracy(counts(now.scores, now.labels)) or 0) + 0.1  # no estimate without labels can know
    shares = model.shares(now.features, now.scores)
    right = np.where(now.scores >= 0.5, shares, 1 - shares)
    was = ((now.scores >= 0.5) == now.labels) * 1.0
    audit = estimation.prediction_powered(right[200:], right[:200], was[:200], ALPHA)
    assert audit.detail["drifted"]
    assert audit.low is not None
    assert audit.high is not None
    assert audit.low < was.mean() < audit.high


def heteroscedastic(n: int, low: float, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(low, 1, n)
    return np.column_stack([x, 10 * x]), rng.normal(0, 1 + 4 * x)


def test_errors_of_a_regression_are_estimated_where_rows_with_large_ones_have_become_frequent() -> None:
    model = ErrorModel(*heteroscedastic(8000, 0.0, 0))
    features, errors = heteroscedastic(4000, 0.6, 1)
    mae, rmse = model.estimate(features, ALPHA)
    truths = float(np.abs(errors).mean()), float((errors**2).mean() ** 0.5)
    for found, truth in zip((mae, rmse), truths, strict=True):
        assert found.value == pytest.approx(truth, rel=0.05)
        assert found.low is not None
        assert found.high is not None
        assert found.low < truth < found.high
    assert (mae.n, mae.n_baseline) == (4000, 8000)
    before = float(np.abs(heteroscedastic(8000, 0.0, 0)[1]).mean())
    assert mae.low is not None
    assert mae.low > before  # seen to be worse without a label
