"""The confusion matrix to be expected of several classes: by hand, against realised values, beyond the reference."""

from __future__ import annotations

import numpy as np
import pytest

from predicted_classes import ALPHA, MEASURES, NAMES, drawn, matrix, of
from watchkeeper.stats import classes
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimated_classes import Side, estimate, expected
from watchkeeper.stats.scores import Scores


def test_the_matrix_worked_by_hand() -> None:
    """Of rows predicted as a class 8, 6 and 9 of ten are it; of the others those that are depend on the score."""
    counts = np.array([[80.0, 30.0, 0.0], [15.0, 60.0, 10.0], [5.0, 10.0, 90.0]])
    reference = Matrix(NAMES, counts, np.zeros(3))

    def side(rows: float, hits: float, later: float) -> Side:
        at = np.array([0.5]), np.array([0.6])
        return Side(Scores(*at, np.array([rows - hits]), np.array([hits])), Binned(*at, np.array([later])))

    known = {
        "bird": (side(100, 80, 200), side(200, 30, 200)),
        "cat": (side(100, 60, 100), side(200, 25, 300)),
        "dog": (side(100, 90, 100), side(200, 15, 300)),
    }
    later = {"bird": 200.0, "cat": 100.0, "dog": 100.0}
    found = expected(reference, later, known, ALPHA)
    assert found is not None
    np.testing.assert_allclose(found.right, [160, 60, 90])
    np.testing.assert_allclose(found.predicted, [200, 100, 100])
    missed = np.array([30.0, 37.5, 22.5])  # which is 90, as many as were predicted wrong: nothing is scaled
    np.testing.assert_allclose(found.support - found.right, missed, rtol=1e-3)
    accuracy = estimate(lambda m: classes.accuracy(m, ALPHA).value, reference, later, known, ALPHA)
    assert accuracy.value == pytest.approx(310 / 400)
    noise = sum(n * p * (1 - p) * (1 + n / 100) for n, p in ((200, 0.8), (100, 0.6), (100, 0.9)))
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert (accuracy.high - accuracy.low) / 2 == pytest.approx(1.96 * noise**0.5 / 400, rel=0.1)


def test_of_the_reference_itself_the_estimate_is_the_realised_value() -> None:
    before = drawn(3000, (1, 1, 0.5), np.random.default_rng(1))
    realised = matrix(before[1], before[0].argmax(axis=1))
    for measure in MEASURES:
        assert of(measure, before, before[0]).value == pytest.approx(measure(realised, ALPHA).value, abs=1e-9)


def test_a_model_that_is_less_sure_is_seen_before_its_labels() -> None:
    rng = np.random.default_rng(2)
    before, (score, label) = drawn(30_000, (0.4, 0.4, 0.4), rng), drawn(20_000, (2, 2, 1), rng)
    realised = matrix(label, score.argmax(axis=1))
    for measure in MEASURES:
        found, truth, old = (
            of(measure, before, score), measure(realised, ALPHA).value, of(measure, before, before[0]).value
        )  # fmt: skip
        assert truth is not None
        assert old is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < truth < found.high < old


def test_labels_outside_the_classes_and_predictions_of_none_keep_their_share() -> None:
    counts = np.array([[80.0, 10.0], [10.0, 90.0], [10.0, 0.0]])
    reference = Matrix(("(other)", "cat", "dog"), np.column_stack([np.zeros(3), counts[[2, 0, 1]]]), np.zeros(3))

    def side(rows: float, hits: float) -> Side:
        at = np.array([0.5]), np.array([0.6])
        return Side(Scores(*at, np.array([rows - hits]), np.array([hits])), Binned(*at, np.array([rows])))

    known = {"cat": (side(100, 80), side(100, 10)), "dog": (side(100, 90), side(100, 10))}
    found = expected(reference, {"cat": 100.0, "dog": 100.0}, known, ALPHA)
    assert found is not None
    np.testing.assert_allclose(found.support, [10, 90, 100], rtol=0.05)
    assert found.n == 200
    strange = expected(reference, {"cat": 100.0, "dog": 100.0, "cow": 50.0}, known, ALPHA)
    assert strange is not None
    assert strange.outside.sum() == pytest.approx(50)


def test_rows_beyond_the_references_scores_widen_the_band() -> None:
    rng = np.random.default_rng(3)
    score, label = drawn(20_000, (4, 4, 4), rng)
    near = score.max(axis=1) < 0.7
    before, later = (score[near], label[near]), drawn(3000, (0.5, 0.5, 0.5), rng)[0]
    inside, beyond = of(classes.accuracy, before, before[0][:3000]), of(classes.accuracy, before, later)
    assert inside.detail["outside"] == 0
    assert beyond.detail["outside"] > 0.3
    assert beyond.low is not None
    assert beyond.high is not None
    assert inside.low is not None
    assert inside.high is not None
    assert beyond.high - beyond.low > 3 * (inside.high - inside.low)


def test_without_enough_labels_of_a_class_or_without_rows_there_is_no_value() -> None:
    rng = np.random.default_rng(4)
    rare, plenty = drawn(300, (5, 5, 0.02), rng), drawn(3000, (1, 1, 1), rng)
    assert (rare[1] == 2).sum() < 20
    assert of(classes.accuracy, rare, plenty[0]).value is None
    assert of(classes.accuracy, plenty, plenty[0][:0]).value is None
