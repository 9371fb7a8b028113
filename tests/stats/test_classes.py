"""Metrics of several classes and of several labels agree with scikit-learn on rows, and are absent where they mean
nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from scored_rows import EMPTY, scores_of
from watchkeeper.stats import classes, confusion
from watchkeeper.stats.calibration import calibration_error
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.scores import Scores

NAMES = (
    "accuracy", "micro_precision", "micro_f1", "macro_precision", "macro_recall", "macro_f1", "weighted_precision",
    "weighted_f1", "balanced_accuracy", "kappa", "mcc",
)  # fmt: skip
METRICS: dict[str, Callable[[Matrix, float], Estimate]] = {name: getattr(classes, name) for name in NAMES}
every_metric = pytest.mark.parametrize("name", NAMES)
LABELS, PREDICTIONS = ("ash", "beech", "cedar", "date"), ("ash", "beech", "cedar", "date", "elm")
rows = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(PREDICTIONS)), min_size=1, max_size=60)
ALL_RIGHT = Matrix(("a", "b"), np.diag([40.0, 60.0]), np.zeros(2))
MEASURES = {"precision": confusion.precision, "recall": confusion.recall, "f1": confusion.f1}


def of_scikit_learn(name: str, labels: list[str], said: list[str]) -> float | None:
    occurring = sorted((set(labels) | set(said)) & set(LABELS))
    average, _, score = name.partition("_")
    if average in ("micro", "macro", "weighted"):
        known = {"labels": occurring, "zero_division": 0}
        return float(getattr(sklearn, f"{score}_score")(labels, said, average=average, **known))
    if name == "accuracy":
        return float(sklearn.accuracy_score(labels, said))
    if name == "balanced_accuracy":
        present = sorted(set(labels))
        return float(sklearn.recall_score(labels, said, average="macro", labels=present, zero_division=0))
    if name == "kappa":
        alone = len(set(labels) | set(said)) == 1
        return None if alone else float(sklearn.cohen_kappa_score(labels, said))
    alone = len(set(labels)) == 1 or len(set(said)) == 1
    return None if alone else float(sklearn.matthews_corrcoef(labels, said))


def test_the_cost_of_decisions_is_the_mean_over_the_rows() -> None:
    matrix = Matrix(("a", "b"), np.array([[60.0, 5.0], [3.0, 30.0]]), np.array([2.0, 0.0]))
    costs = np.array([[0.0, 10.0, 50.0], [4.0, -1.0, np.nan]])
    found = classes.decision_cost(matrix, costs, 0.025)
    assert found.value == pytest.approx((5 * 10 + 3 * 4 - 30 + 2 * 50) / 100)
    assert found.n == 100


def test_the_cost_of_decisions_of_many_rows_has_the_interval_of_the_delta_method() -> None:
    counts, costs = np.array([[6e6, 5e5], [3e5, 3e6]]), np.array([[0.0, 10.0, 0.0], [4.0, -1.0, 0.0]])
    found = classes.decision_cost(Matrix(("a", "b"), counts, np.zeros(2)), costs, 0.025)
    share, cost = counts.ravel() / counts.sum(), costs[:, :2].ravel()
    error = (share @ (cost - share @ cost) ** 2 / counts.sum()) ** 0.5
    assert found.low == pytest.approx(share @ cost - 1.96 * error, abs=0.01 * error)
    assert found.high == pytest.approx(share @ cost + 1.96 * error, abs=0.01 * error)


def test_a_mistake_that_was_not_seen_yet_widens_the_interval_by_what_it_costs() -> None:
    matrix = Matrix(("a", "b"), np.diag([50.0, 50.0]), np.zeros(2))
    cheap, dear = (
        classes.decision_cost(matrix, np.array([[0.0, cost, 0.0], [1.0, 0.0, 0.0]]), 0.025) for cost in (2.0, 200.0)
    )
    assert cheap.value == dear.value == 0.0
    assert cheap.high < 0.15
    assert 5 < dear.high < 10  # the rule of three: up to 3.7 of a hundred rows


def test_rows_whose_cost_is_not_known_do_not_count() -> None:
    matrix = Matrix(("a",), np.array([[5.0]]), np.array([5.0]))
    assert classes.decision_cost(matrix, np.array([[2.0, np.nan]]), 0.025).n == 5
    assert classes.decision_cost(matrix, np.full((1, 2), np.nan), 0.025) == Estimate.absent(0)
    assert classes.decision_cost(Matrix((), np.zeros((0, 0)), np.zeros(0)), np.zeros((0, 1)), 0.025).value is None


@every_metric
@given(pairs=rows)
def test_a_metric_of_the_matrix_is_scikit_learns(name: str, pairs: list[tuple[str, str]]) -> None:
    labels, said = [label for label, _ in pairs], [prediction for _, prediction in pairs]
    found = METRICS[name](Matrix.of(Counter(pairs), LABELS), 0.05)
    expected = of_scikit_learn(name, labels, said)
    if name == "micro_precision" and not set(said) & set(LABELS):
        expected = None
    assert (found.value is None) == (expected is None)
    if expected is not None:
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.low is None or found.low <= found.value + 1e-12
        assert found.high is None or found.high >= found.value - 1e-12


@given(pairs=rows)
def test_a_class_against_the_rest_is_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    labels, said = [label for label, _ in pairs], [prediction for _, prediction in pairs]
    matrix = Matrix.of(Counter(pairs), LABELS)
    of_each = sklearn.precision_recall_fscore_support(labels, said, labels=LABELS, zero_division=np.nan)
    for measure, expected in zip(MEASURES.values(), of_each, strict=False):
        for found, value in zip(classes.per_class(matrix, measure, 0.05).values(), expected, strict=True):
            assert (found.value is None) == bool(np.isnan(value))
            assert found.value is None or found.value == pytest.approx(value, abs=1e-12)
    support = classes.per_class(matrix, classes.share_of_class, 0.05)
    assert [found.detail["support"] for found in support.values()] == of_each[3].tolist()


def test_two_classes_have_the_values_of_a_binary_classifier() -> None:
    counts = Confusion(800, 300, 200, 8700)
    matrix = Matrix(("1", "0"), np.array([[800.0, 200.0], [300.0, 8700.0]]), np.zeros(2))
    for name in ("accuracy", "balanced_accuracy", "mcc"):
        one, two = METRICS[name](matrix, 0.05), getattr(confusion, name)(counts, 0.05)
        assert one.value == pytest.approx(two.value)
        assert one.low == pytest.approx(two.low, abs=0.005)
        assert one.high == pytest.approx(two.high, abs=0.005)


def test_kappa_is_that_of_fleiss_cohen_and_everitt() -> None:
    """Their example of 1969, table 1: kappa 0.429, with a large-sample variance of 0.002885."""
    share = np.array([[0.53, 0.05, 0.02], [0.11, 0.14, 0.05], [0.01, 0.06, 0.03]])
    found = classes.kappa(Matrix(("a", "b", "c"), share * 200, np.zeros(3)), 0.025)
    assert found.value == pytest.approx(0.429, abs=5e-4)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(0.002885**0.5, rel=0.05)


@every_metric
def test_no_rows_have_no_metric(name: str) -> None:
    assert METRICS[name](Matrix(("a", "b"), np.zeros((2, 2)), np.zeros(2)), 0.05) == Estimate.absent(0)
    assert METRICS[name](Matrix.of({}), 0.05) == Estimate.absent(0)


@every_metric
def test_all_right_is_one_with_a_lower_end(name: str) -> None:
    found = METRICS[name](ALL_RIGHT, 0.05)
    assert found.value == pytest.approx(1.0)
    assert found.high == pytest.approx(1.0)
    assert found.low is not None
    assert 0.8 < found.low < 1


@every_metric
def test_the_order_of_the_classes_does_not_matter(name: str) -> None:
    counts = np.random.default_rng(3).integers(0, 40, (4, 5)) * 1.0
    order = [2, 0, 3, 1]
    one = METRICS[name](Matrix(LABELS, counts[:, :4], counts[:, 4]), 0.05)
    turned = counts[np.ix_(order, [*order, 4])]
    two = METRICS[name](Matrix(tuple(LABELS[i] for i in order), turned[:, :4], turned[:, 4]), 0.05)
    assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high))


def test_a_label_outside_the_classes_is_an_error() -> None:
    with pytest.raises(ValueError, match='"elm" is none of the classes ash, beech'):
        Matrix.of({("elm", "ash"): 1}, LABELS)


def test_a_worse_classifier_is_seen() -> None:
    limits = dict.fromkeys(NAMES, 0.6) | {"macro_recall": 0.57, "balanced_accuracy": 0.57, "macro_f1": 0.57}
    limits |= {"kappa": 0.37, "mcc": 0.38, "weighted_precision": 0.65}
    share = np.array([[0.05, 0.05, 0.0], [0.05, 0.15, 0.1], [0.03, 0.22, 0.35]])
    drawn = np.random.default_rng(4).multinomial(5000, share.ravel(), 100).reshape(-1, 3, 3) * 1.0
    for name, metric in METRICS.items():
        seen = [
            (metric(Matrix(("a", "b", "c"), counts, np.zeros(3)), 1e-3).high or 1) < limits[name] for counts in drawn
        ]
        assert np.mean(seen) > 0.9, name


# Scores of each class


def scored(n: int, seed: int, sharp: float = 3.0) -> tuple[Floats, Floats]:
    """Scores of three classes, in the middle of thousandths, and the class that each row is of."""
    rng = np.random.default_rng(seed)
    said = rng.dirichlet([sharp, sharp / 2, sharp / 4], n)
    label = (rng.random((n, 1)) > np.cumsum(said, axis=1)).sum(axis=1).clip(0, 2)
    return (np.minimum(np.floor(said * 1000), 999) + 0.5) / 1000, label


def each_class(said: Floats, label: Floats) -> dict[str, Scores]:
    return {str(k): scores_of(said[:, k], (label == k).astype(float)) for k in range(said.shape[1])}


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_the_scores_are_scikit_learns(seed: int) -> None:
    said, label = scored(800, seed)
    each, ones = each_class(said, label), np.eye(3)[label]
    for average, found in (("macro", classes.macro_auc(each, 0.05)), ("weighted", classes.weighted_auc(each, 0.05))):
        assert found.value == pytest.approx(sklearn.roc_auc_score(ones, said, average=average), abs=1e-12)
        assert found.low is not None
        assert found.high is not None
        assert 0.5 < found.low < found.value < found.high < 1  # type: ignore[operator]
        assert len(found.detail["AUC by class"]) == 3
    chosen = np.clip(said[np.arange(800), label], 0.0005, 0.9995)
    assert classes.log_loss(each, 0.05).value == pytest.approx(-np.log(chosen).mean(), abs=1e-12)
    assert classes.brier(each, 0.05).value == pytest.approx(((ones - said) ** 2).sum(axis=1).mean(), abs=1e-12)


def test_classwise_calibration_is_the_mean_over_the_classes() -> None:
    said, label = scored(2000, 5)
    each = each_class(said, label)
    found = classes.classwise_calibration_error(each, 0.05)
    parts = [calibration_error(s, 0.05) for s in each.values()]
    assert found.value == pytest.approx(np.mean([part.value for part in parts]))
    assert found.detail["debiased"] == pytest.approx(np.mean([part.detail["debiased"] for part in parts]))
    assert found.low == pytest.approx(0, abs=0.003)
    shifted = classes.classwise_calibration_error(each_class(said, 2 - label), 0.001)
    assert shifted.low is not None
    assert shifted.low > 0.1
    assert classes.classwise_calibration_error({"a": EMPTY}, 0.05) == Estimate.absent(0)


def test_a_class_that_does_not_occur_leaves_no_mean_auc() -> None:
    said, label = scored(50, 1)
    each = each_class(said, np.minimum(label, 1))
    assert classes.macro_auc(each, 0.05) == Estimate.absent(50)
    assert classes.weighted_auc(each, 0.05) == Estimate.absent(50)


@pytest.mark.parametrize("metric", [classes.macro_auc, classes.weighted_auc, classes.log_loss, classes.brier])
def test_no_scores_have_no_metric(metric: Callable[[dict[str, Scores], float], Estimate]) -> None:
    assert metric({}, 0.05) == Estimate.absent(0)
    assert metric({"a": EMPTY, "b": EMPTY}, 0.05) == Estimate.absent(0)


# Several labels a row


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_metrics_of_several_labels_are_scikit_learns(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    label, said = (rng.random((n, 4)) < rng.random(4) for _ in range(2))
    each = [
        Confusion(*(int(part.sum()) for part in (y & p, ~y & p, y & ~p, ~y & ~p)))
        for y, p in zip(label.T, said.T, strict=True)
    ]
    here = np.flatnonzero((label | said).any(axis=0)).tolist()
    for name, measure in MEASURES.items():
        for average, found in (
            ("macro", classes.label_macro(measure, each, 0.05)),
            ("weighted", classes.label_weighted(measure, each, 0.05)),
            ("micro", classes.label_micro(measure, each, 0.05)),
        ):
            if found.value is not None:
                score = getattr(sklearn, f"{name}_score")
                expected = score(label, said, average=average, labels=here, zero_division=0)
                assert found.value == pytest.approx(expected, abs=1e-12)
    assert classes.hamming_loss(each, 0.05).value == pytest.approx(sklearn.hamming_loss(label, said), abs=1e-12)
    all_right = int((label == said).all(axis=1).sum())
    expected = sklearn.accuracy_score(label, said)
    assert classes.subset_accuracy(all_right, n, 0.05).value == pytest.approx(expected, abs=1e-12)


def test_labels_that_never_occur_have_no_part() -> None:
    nothing, something = Confusion(0, 0, 0, 50), Confusion(10, 0, 10, 30)
    assert classes.label_macro(confusion.recall, [nothing, something], 0.05).value == 0.5
    for average in (classes.label_macro, classes.label_weighted, classes.label_micro):
        assert average(confusion.recall, [nothing, nothing], 0.05) == Estimate.absent(50)
        assert average(confusion.recall, [], 0.05) == Estimate.absent(0)
    assert classes.hamming_loss([], 0.05) == Estimate.absent(0)
