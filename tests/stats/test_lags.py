from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from watchkeeper.stats import classes, confusion, scores
from watchkeeper.stats.classes import Matrix
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import Estimate, proportion
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.lags import BANDS, Correction, Known, Weighed, bands, corrected, known_by, side, weighed
from watchkeeper.stats.scores import Scores

LOWER, UPPER = np.array([0.2, 0.8]), np.array([0.3, 0.9])
BAND = bands((LOWER + UPPER) / 2)


def triangle(rows: list[list[float]], band: int = 0) -> Floats:
    counts = np.zeros((len(rows), BANDS, len(rows[0])))
    counts[:, band] = rows
    return counts


def flat(share: float) -> Known:
    """Of all scores the same share is known by age 0, and all by age 1; the share itself is certain."""
    return Known(
        np.zeros(BANDS, dtype=np.int64), np.array([[share, 1.0]]), np.zeros((1, 2)), np.array([1.0]), 1.0, 100.0
    )  # fmt: skip


def recall(alpha: float = 0.025):  # type: ignore[no-untyped-def]
    return lambda counts: confusion.recall(Confusion.at(counts, 0.5), alpha)


def rate(counts: Scores) -> Estimate:
    return proportion(float(counts.positives.sum()), counts.total, 0.025)


def test_the_shares_known_by_each_age_are_those_of_the_chain_ladder_by_hand() -> None:
    """Mature: 10, 40 and 100 of 100 by age 0, 1 and 2. The younger grains say that 20 of 80 and so 30 of 120 are known
    at age 0 of those known at age 1: F(1) = 0.4, F(0) = 0.4 * 30 / 120."""
    known = known_by(triangle([[10, 30, 60], [20, 60, 0], [40, 0, 0]]), np.array([2, 1, 0]))
    assert known is not None
    assert known.share.tolist() == [[pytest.approx(0.1), pytest.approx(0.4), 1.0]]
    greenwood = [0.0, 0.75 / (0.25 * 120), 0.6 / (0.4 * 100)]
    assert known.variance[0].tolist() == pytest.approx(greenwood)
    assert known.by(0.5).tolist() == [pytest.approx(0.25)]


def test_mature_grains_alone_give_the_shares_that_are_seen() -> None:
    rng = np.random.default_rng(3)
    counts = triangle(rng.poisson(20, (30, 6)).tolist())
    known = known_by(counts, np.full(30, 5))
    assert known is not None
    total = counts.sum(axis=(0, 1))
    assert known.share[0] == pytest.approx(np.cumsum(total) / total.sum())


def test_what_was_not_seen_yet_is_not_taken_for_nothing() -> None:
    whole = triangle([[10, 30, 60], [10, 30, 60]])
    cut = known_by(triangle([[10, 30, 60], [10, 30, 0]]), np.array([2, 1]))
    seen = known_by(whole, np.array([2, 1]))
    assert cut is not None
    assert seen is not None
    assert np.array_equal(cut.share, seen.share)


def test_without_a_mature_grain_that_holds_a_label_nothing_is_said() -> None:
    assert known_by(triangle([[10, 30, 0]]), np.array([1])) is None
    assert known_by(triangle([[0, 0, 0], [5, 5, 0]]), np.array([2, 1])) is None


def test_scores_are_told_apart_as_far_as_there_are_labels() -> None:
    counts = triangle([[50, 50, 0]], 2) + triangle([[20, 0, 80]], 12) + triangle([[1, 1, 0]], 19)
    known = known_by(counts, np.array([2]))
    assert known is not None
    assert known.part[[2, 12, 19]].tolist() == [0, 1, 1]
    assert known.share[0].tolist() == pytest.approx([0.5, 1.0, 1.0])
    assert known.mass.tolist() == pytest.approx([100 / 202, 102 / 202])


def test_labels_that_come_in_bursts_are_told_by_the_dispersion() -> None:
    rng = np.random.default_rng(4)
    shares = rng.dirichlet([2, 2, 2, 2], 60)
    bursts = known_by(triangle([rng.multinomial(400, row).tolist() for row in shares]), np.full(60, 3))
    steady = known_by(triangle(rng.multinomial(400, [0.25] * 4, 60).tolist()), np.full(60, 3))
    assert bursts is not None
    assert steady is not None
    assert bursts.dispersion > 20
    assert 1 <= steady.dispersion < 1.5


def test_a_known_label_stands_for_as_many_as_are_not_known() -> None:
    """A quarter of the positives is known, and all negatives: 3 stand for 12, 5 for 20; by hand a recall of 20/32."""
    whole = np.array([[200.0, 60.0]])
    ones = side(flat(0.25), BAND, np.array([[3.0, 5.0]]), [0], whole)
    zeros = side(flat(1.0), BAND, np.array([[180.0, 10.0]]), [0], whole)
    plain = Scores(LOWER, UPPER, np.array([180.0, 10.0]), np.array([3.0, 5.0]))
    correction = Correction(plain, zeros, ones, whole[0], 0.5)
    assert correction.scores.positives.tolist() == [12, 20]
    assert correction.scores.negatives.tolist() == [180, 10]
    assert correction.complete == pytest.approx(198 / 222)
    assert correction.coverage == pytest.approx(222 / 260)
    found = corrected(recall(), correction, 0.025)
    assert found.value == pytest.approx(20 / 32)
    as_known = recall()(plain)
    assert found.low == pytest.approx(as_known.low, abs=0.03), "eight labels say as much as eight labels"
    assert found.high == pytest.approx(as_known.high, abs=0.03)


def half(right: Floats) -> Weighed:
    """Half of each class is known, and the share itself is certain."""
    known, band = flat(0.5), np.zeros(2, dtype=np.int64)
    whole = np.array([[80.0, 20.0]])
    sides = [side(known, band, counts[None], [0], whole) for counts in right]
    assert all(sides)
    kept = tuple(one for one in sides if one is not None)
    return Weighed(
        kept, (band, band), lambda counts: Matrix(("a", "b"), np.stack(counts), np.zeros(2)), float(whole.sum())
    )


def test_a_known_class_stands_for_as_many_as_are_not_known() -> None:
    """Half is known of each class: by hand the same accuracy of twice as many, with the interval of the half."""
    counts = np.array([[30.0, 2.0], [3.0, 15.0]])
    given = half(counts)
    found = weighed(lambda matrix: classes.accuracy(matrix, 0.025), given)
    assert found.value == pytest.approx(45 / 50)
    assert (given.complete, given.coverage, found.n) == (pytest.approx(0.5), pytest.approx(1.0), 50)
    alone = proportion(45, 50, 0.025)
    assert found.low is not None
    assert found.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert found.low == pytest.approx(alone.low, abs=0.02)
    assert found.high == pytest.approx(alone.high, abs=0.02)


def test_once_all_classes_are_known_the_value_is_the_plain_one() -> None:
    band, whole = np.zeros(2, dtype=np.int64), np.array([[33.0, 17.0]])
    counts = np.array([[30.0, 2.0], [3.0, 15.0]])
    sides = [side(flat(0.5), band, row[None], [1], whole) for row in counts]
    given = Weighed(
        tuple(one for one in sides if one is not None),
        (band, band),
        lambda cells: Matrix(("a", "b"), np.stack(cells), np.zeros(2)),
        50.0,
    )
    plain = classes.kappa(Matrix(("a", "b"), counts, np.zeros(2)), 0.025)
    found = weighed(lambda matrix: classes.kappa(matrix, 0.025), given)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_a_metric_without_a_value_has_none_corrected() -> None:
    found = weighed(lambda matrix: Estimate.absent(0), half(np.array([[30.0, 2.0], [3.0, 15.0]])))
    assert found == Estimate.absent(50)


def test_once_all_are_known_the_corrected_value_is_the_plain_one() -> None:
    whole = np.array([[200.0, 60.0]])
    plain = Scores(LOWER, UPPER, np.array([180.0, 10.0]), np.array([20.0, 50.0]))
    zeros, ones = (side(flat(0.3), BAND, counts[None], [1], whole) for counts in (plain.negatives, plain.positives))
    correction = Correction(plain, zeros, ones, whole[0], 0.5)
    for metric in (recall(), rate, lambda counts: scores.auc(counts, 0.025)):
        assert corrected(metric, correction, 0.025) == replace(metric(plain), n=plain.n)


def test_where_rows_without_a_label_are_negatives_they_are_what_the_positives_leave() -> None:
    whole = np.array([[200.0, 8.0]])
    ones = side(flat(0.5), BAND, np.array([[5.0, 6.0]]), [0], whole)
    plain = Scores(LOWER, UPPER, np.zeros(2), np.array([5.0, 6.0]))
    counts = Correction(plain, None, ones, whole[0], 0.5).scores
    assert counts.positives.tolist() == [10, 8], "no more positives than rows"
    assert counts.negatives.tolist() == [190, 0]


def test_where_hardly_a_label_can_be_known_nothing_is_said() -> None:
    whole = np.array([[200.0, 60.0]])
    assert side(flat(0.01), BAND, np.array([[1.0, 0.0]]), [0], whole) is None
    late = Known(
        (np.arange(BANDS) >= 10).astype(np.int64), np.array([[0.0, 1.0], [0.9, 1.0]]), np.zeros((2, 2)),
        np.array([0.3, 0.7]), 1.0, 100.0,
    )  # fmt: skip
    assert side(late, BAND, np.array([[0.0, 9.0]]), [0], whole) is None, "the low scores' labels come later"
    assert side(late, BAND, np.array([[9.0, 9.0]]), [1], whole) is not None


def test_not_knowing_a_single_positive_is_no_certainty() -> None:
    whole = np.array([[2000.0, 60.0]])
    plain = Scores(LOWER, UPPER, np.array([1900.0, 50.0]), np.zeros(2))
    zeros, ones = (
        side(flat(1.0), BAND, plain.negatives[None], [0], whole),
        side(flat(0.2), BAND, np.zeros((1, 2)), [0], whole),
    )
    found = corrected(rate, Correction(plain, zeros, ones, whole[0], 0.5), 0.025)
    known = rate(plain)
    assert found.value == 0
    assert known.high is not None
    assert found.high == pytest.approx(known.high / 0.2, rel=0.15)


def test_the_uncertainty_of_the_shares_themselves_widens_the_interval() -> None:
    whole = np.array([[2000.0, 600.0]])
    plain = Scores(LOWER, UPPER, np.array([1500.0, 100.0]), np.array([60.0, 90.0]))
    zeros = side(flat(1.0), BAND, plain.negatives[None], [0], whole)
    widths = []
    for variance in (0.0, 0.04):
        unsure = Known(flat(0.5).part, flat(0.5).share, np.array([[0.0, variance]]), np.array([1.0]), 1.0, 100.0)
        ones = side(unsure, BAND, plain.positives[None], [0], whole)
        found = corrected(rate, Correction(plain, zeros, ones, whole[0], 0.5), 0.025)
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[1] > 1.8 * widths[0]
