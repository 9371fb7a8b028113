"""Metrics at a threshold agree with scikit-learn on raw scores, and are absent where they mean nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sklearn

from scored_rows import EMPTY, sample, scores_of
from watchkeeper.stats import confusion
from watchkeeper.stats.confusion import Confusion, Costs, decision_cost
from watchkeeper.stats.estimates import Estimate

COSTS = Costs(true_positive=-1, false_positive=5, false_negative=120, true_negative=0.5)
ESTIMATES: dict[str, Callable[[Confusion, float], Estimate]] = {
    **{
        name: getattr(confusion, name)
        for name in (
            "accuracy", "precision", "recall", "specificity", "false_positive_rate", "false_negative_rate", "f1",
            "balanced_accuracy", "mcc", "lift",
        )
    },
    "decision_cost": lambda counts, alpha: decision_cost(counts, COSTS, alpha),
}  # fmt: skip
NEEDS: dict[str, Callable[[Confusion], int]] = {
    "accuracy": lambda c: c.n,
    "precision": lambda c: c.predicted,
    "recall": lambda c: c.positives,
    "specificity": lambda c: c.negatives,
    "false_positive_rate": lambda c: c.negatives,
    "false_negative_rate": lambda c: c.positives,
    "f1": lambda c: c.n - c.true_negatives,
    "balanced_accuracy": lambda c: c.positives * c.negatives,
    "mcc": lambda c: c.positives * c.negatives * c.predicted * (c.n - c.predicted),
    "lift": lambda c: c.positives * c.predicted,
    "decision_cost": lambda c: c.n,
}
"""What a metric divides by: it is absent where this is zero."""
every_estimate = pytest.mark.parametrize("name", ESTIMATES)
counted = st.builds(Confusion, *(st.one_of(st.integers(0, 4), st.integers(0, 5000)) for _ in range(4)))


def of_scikit_learn(name: str, labels: np.ndarray, said: np.ndarray) -> float:
    negated = 1 - labels, 1 - said
    match name:
        case "specificity":
            return sklearn.recall_score(*negated)
        case "false_positive_rate":
            return 1 - sklearn.recall_score(*negated)
        case "false_negative_rate":
            return 1 - sklearn.recall_score(labels, said)
        case "mcc":
            return sklearn.matthews_corrcoef(labels, said)
        case "lift":
            return sklearn.precision_score(labels, said) / labels.mean()
        case "decision_cost":
            costs = np.array([[COSTS.true_negative, COSTS.false_positive], [COSTS.false_negative, COSTS.true_positive]])
            return float((sklearn.confusion_matrix(labels, said) * costs).sum() / len(labels))
    return getattr(sklearn, f"{name}_score")(labels, said)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.877])
@pytest.mark.parametrize("seed", range(3))
@every_estimate
def test_a_metric_is_scikit_learns(name: str, seed: int, threshold: float) -> None:
    said, labels = sample(2000, seed)
    found = ESTIMATES[name](Confusion.at(scores_of(said, labels), threshold), 0.05)
    assert found.value == pytest.approx(of_scikit_learn(name, labels, (said >= threshold) * 1.0), abs=1e-12)


def test_every_thousandth_is_a_threshold_that_splits_exactly() -> None:
    s = scores_of(np.arange(1001) / 1000, np.ones(1001))
    for i in range(0, 1001, 7):
        assert Confusion.at(s, i / 1000) == Confusion(1001 - i, 0, i, 0)


@every_estimate
@given(counted)
def test_a_metric_is_absent_exactly_where_its_denominator_is_zero(name: str, counts: Confusion) -> None:
    found = ESTIMATES[name](counts, 0.05)
    assert (found.value is None) == (not NEEDS[name](counts))
    if found.value is None:
        assert found.n == counts.n, "rows arrived, and yet there is no value"


@every_estimate
@given(counted, st.sampled_from([0.05, 1e-3, 1e-9]))
def test_an_interval_holds_its_value_and_grows_with_confidence(name: str, counts: Confusion, alpha: float) -> None:
    found, wider = (ESTIMATES[name](counts, a) for a in (alpha, alpha / 10))
    if found.value is not None:
        assert wider.low - 1e-9 <= found.low <= found.value <= found.high <= wider.high + 1e-9


@every_estimate
@given(counted)
def test_no_value_is_beyond_the_metrics_domain(name: str, counts: Confusion) -> None:
    found = ESTIMATES[name](counts, 1e-3)
    if found.value is None:
        return
    least, most = {"mcc": (-1, 1), "lift": (0, np.inf), "decision_cost": (-1, 120)}.get(name, (0, 1))
    assert least - 1e-9 <= found.value <= most + 1e-9


def test_shares_have_their_exact_intervals() -> None:
    counts = Confusion(30, 10, 20, 400)
    for estimate, hits, rows in (
        (confusion.precision, 30, 40),
        (confusion.recall, 30, 50),
        (confusion.specificity, 400, 410),
        (confusion.false_positive_rate, 10, 410),
        (confusion.false_negative_rate, 20, 50),
        (confusion.accuracy, 430, 460),
    ):
        found, exact = estimate(counts, 0.025), binomtest(hits, rows).proportion_ci(0.95)
        assert (found.low, found.high, found.n) == pytest.approx((exact.low, exact.high, rows))


def test_the_interval_of_f1_is_that_of_jaccards_index() -> None:
    found, exact = confusion.f1(Confusion(30, 10, 20, 400), 0.025), binomtest(30, 60).proportion_ci(0.95)
    assert found.low == pytest.approx(2 * exact.low / (1 + exact.low))
    assert found.high == pytest.approx(2 * exact.high / (1 + exact.high))


@pytest.mark.parametrize("name", ["balanced_accuracy", "mcc", "lift", "decision_cost"])
def test_an_interval_of_many_rows_is_little_wider_than_the_bootstraps(name: str) -> None:
    counts = Confusion(4000, 3000, 1000, 42_000)
    rows = np.array([counts.true_positives, counts.false_positives, counts.false_negatives, counts.true_negatives])
    drawn = np.random.default_rng(1).multinomial(50_000, rows / 50_000, 2000)
    values = [ESTIMATES[name](Confusion(*map(int, row)), 0.05).value for row in drawn]
    found = ESTIMATES[name](counts, 0.05)
    low, high = np.quantile(values, [0.05, 0.95])
    assert high - low < (found.high - found.low) * 1.02
    assert found.high - found.low < 1.3 * (high - low)


def test_few_rows_in_a_cell_widen_the_interval_to_the_whole_box() -> None:
    found = confusion.mcc(Confusion(3, 0, 0, 97), 0.025)
    assert found.value == pytest.approx(1, abs=1e-9)
    assert found.low < 0.6
    missed = decision_cost(Confusion(0, 0, 0, 100), COSTS, 0.025)
    assert missed.value == 0.5
    assert missed.high > 120 * 0.03, "what was not seen in a hundred rows may be one in thirty"


def test_the_bounds_of_matthews_coefficient_are_those_of_a_fine_search() -> None:
    counts = Confusion(20, 45, 3, 60)
    found = confusion.mcc(counts, 0.05)
    parts = (counts.positives, counts.n), (counts.true_positives, counts.positives), (45, counts.negatives)
    shares = [np.linspace(*binomtest(h, n).proportion_ci(1 - 0.05 / 2), 40) for h, n in parts]
    rate, t, f = np.meshgrid(*shares, indexing="ij")
    said = rate * t + (1 - rate) * f
    values = (t - f) * np.sqrt(rate * (1 - rate) / (said * (1 - said)))
    assert found.low == pytest.approx(values.min(), abs=1e-3)
    assert found.high == pytest.approx(values.max(), abs=1e-3)
    assert found.low <= values.min() + 1e-12
    assert found.high >= values.max() - 1e-12


@every_estimate
def test_no_rows_have_no_value(name: str) -> None:
    assert ESTIMATES[name](Confusion.at(EMPTY, 0.5), 0.05) == Estimate.absent(0)
