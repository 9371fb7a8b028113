"""Intervals of values corrected for labels that are not known yet miss the truth no more often than they say.

Frauds are known after 30 to 90 days, those with low scores last; a share of each day's is known at three ages. The
shares known by each age are estimated from the run-off triangle of each repetition, immature days included.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from watchkeeper.stats import classes, confusion, errors, scores
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import Estimate, proportion
from watchkeeper.stats.grid import Floats
from watchkeeper.stats.lags import (
    BANDS,
    Correction,
    Weighed,
    bands,
    bands_of_errors,
    corrected,
    known_by,
    side,
    weighed,
)
from watchkeeper.stats.scores import Scores

AT = np.unique(np.concatenate([np.arange(0, 20, 2), np.arange(20, 1000, 25)]))
LOWER, UPPER = AT / 1000, np.append(AT[1:], 1000) / 1000
MIDDLE = (LOWER + UPPER) / 2
OF_POSITIVES = MIDDLE**1.2 * (1.05 - MIDDLE) ** 0.3 * (UPPER - LOWER) ** 0.5
OF_NEGATIVES = ((1 - MIDDLE) ** 12 + 1e-4) * (UPPER - LOWER)
LAGS, GRAINS, REPS, ALPHA = 13, 60, 150, 0.025


def lags_of(mean: float) -> np.ndarray:
    weights = np.exp(-0.5 * ((np.arange(LAGS) - mean) / 2.5) ** 2)
    return weights / weights.sum()


LATE = np.stack([lags_of(9 - 0.36 * band) for band in range(BANDS)])
SOON = np.stack([lags_of(3)] * BANDS)


def at_threshold(name: str, counts: Scores) -> Estimate:
    return getattr(confusion, name)(Confusion.at(counts, 0.5), ALPHA)  # type: ignore[no-any-return]


METRICS = {
    **{
        name: lambda counts, name=name: at_threshold(name, counts) for name in ("recall", "precision", "accuracy", "f1")
    },
    "positive_rate": lambda counts: proportion(float(counts.positives.sum()), counts.total, ALPHA),
    "auc": lambda counts: scores.auc(counts, ALPHA),
    "log_loss": lambda counts: scores.log_loss(counts, ALPHA),
}


@pytest.mark.parametrize("timeout", [False, True], ids=["both labels", "by timeout"])
@pytest.mark.parametrize(
    ("positives", "negatives", "age"), [(60, 3000, 3), (60, 3000, 8), (20, 2000, 6), (600, 600, 5)]
)
def test_a_corrected_metric_misses_no_more_often_than_alpha_on_either_side(
    positives: int, negatives: int, age: int, timeout: bool
) -> None:
    rng = np.random.default_rng(zlib.crc32(repr((positives, negatives, age, timeout)).encode()))
    kinds = [
        (number, shape / shape.sum(), by_lag)
        for number, shape, by_lag in ((negatives, OF_NEGATIVES, SOON), (positives, OF_POSITIVES, LATE))
    ]
    seen = np.minimum(np.arange(GRAINS)[::-1], LAGS - 1)
    truth = {name: of(Scores(LOWER, UPPER, *(n * p * 1e6 for n, p, _ in kinds))).value for name, of in METRICS.items()}
    misses = {name: np.zeros(2, dtype=int) for name in METRICS}
    told = 0
    for _ in range(REPS):
        every = [rng.poisson(n * p).astype(float) for n, p, _ in kinds]
        whole, sides, found = sum(every), [], []
        for (n, p, by_lag), rows in zip(kinds, every, strict=True):
            mass = np.bincount(bands(MIDDLE), p, BANDS)
            known = known_by(rng.poisson(n * mass[:, None] * by_lag, (GRAINS, BANDS, LAGS)).astype(float), seen)
            assert known is not None
            chance = np.minimum(by_lag[bands(MIDDLE), : age + 1].sum(axis=1), 1)
            found.append(rng.binomial(rows.astype(int), chance).astype(float))
            sides.append(side(known, bands(MIDDLE), found[-1][None], [age], whole[None]))
        if sides[1] is None or sides[0] is None:
            continue
        told += 1
        correction = Correction(Scores(LOWER, UPPER, *found), None if timeout else sides[0], sides[1], whole, 0.5)
        for name, of in METRICS.items():
            estimate, right = corrected(of, correction, 0.025), truth[name]
            assert right is not None
            misses[name] += (
                estimate.low is not None and estimate.low > right + 1e-9,
                estimate.high is not None and estimate.high < right - 1e-9,
            )
    assert told > 0.8 * REPS
    most = stats.binom.ppf(0.9999, told, ALPHA)
    assert {name: missed.tolist() for name, missed in misses.items() if max(missed) > most} == {}


# of several classes, and of errors

CLASSES = ("a", "b", "c")
PREDICTED = np.array([[0.7, 0.2, 0.1, 0.0], [0.05, 0.9, 0.05, 0.0], [0.02, 0.08, 0.88, 0.02]])
SLOW = {"a": (9.0, 11.0), "b": (3.0, 3.0), "c": (4.0, 7.0)}
"""The mean lag of each class where it was predicted right, and where it was not."""
OF_MATRIX = ("accuracy", "macro_f1", "macro_precision", "balanced_accuracy", "kappa")
COSTS = np.array([[0.0, 10.0, 30.0, 30.0], [2.0, 0.0, 2.0, 2.0], [1.0, 1.0, 0.0, 1.0]])


def of_matrix(name: str, matrix: classes.Matrix) -> Estimate:
    if name == "decision_cost":
        return classes.decision_cost(matrix, COSTS, ALPHA)
    return getattr(classes, name)(matrix, ALPHA)  # type: ignore[no-any-return]


def matrix_of(counts: Sequence[Floats]) -> classes.Matrix:
    stacked = np.stack(counts)
    return classes.Matrix(CLASSES, stacked[:, :3], stacked[:, 3])


def ends_missed(estimate: Estimate, right: float) -> tuple[bool, bool]:
    return (
        estimate.low is not None and estimate.low > right + 1e-9,
        estimate.high is not None and estimate.high < right - 1e-9,
    )


def hold(misses: dict[str, np.ndarray], told: int) -> None:
    assert told > 0.8 * REPS
    most = stats.binom.ppf(0.9999, told, ALPHA)
    assert {name: missed.tolist() for name, missed in misses.items() if max(missed) > most} == {}


@pytest.mark.parametrize(("rows", "age"), [((200, 1500, 800), 7), ((200, 1500, 800), 9), ((80, 400, 300), 8)])
def test_a_corrected_metric_of_several_classes_misses_no_more_often_than_alpha(rows: tuple[int, ...], age: int) -> None:
    """One class is known late, and wrong predictions later than right ones: what is known flatters the model."""
    rng = np.random.default_rng(zlib.crc32(repr((rows, age)).encode()))
    seen = np.minimum(np.arange(GRAINS)[::-1], LAGS - 1)
    names, cells = (*OF_MATRIX, "decision_cost"), np.array(rows)[:, None] * PREDICTED
    truth = {name: of_matrix(name, matrix_of(cells * 1e6)).value or 0.0 for name in names}
    misses, flattered, told = {name: np.zeros(2, dtype=int) for name in names}, 0, 0
    for _ in range(REPS):
        every = rng.poisson(cells)
        whole = every.sum(axis=0)[None].astype(float)
        sides, found = [], []
        for i, name in enumerate(CLASSES):
            right = (np.arange(4) == i).astype(np.int64)
            by_lag = np.stack([lags_of(mean) for mean in reversed(SLOW[name])])
            triangle = np.zeros((GRAINS, BANDS, LAGS))
            mass = np.bincount(right, cells[i], 2)
            triangle[:, :2] = rng.poisson(mass[:, None] * by_lag, (GRAINS, 2, LAGS))
            known = known_by(triangle, seen)
            assert known is not None
            found.append(rng.binomial(every[i], np.minimum(by_lag[right, : age + 1].sum(axis=1), 1)).astype(float))
            sides.append((side(known, right, found[-1][None], [age], whole), right))
        kept = tuple(one for one, _ in sides if one is not None)
        if len(kept) < len(CLASSES):
            continue
        told += 1
        given = Weighed(kept, tuple(right for _, right in sides), matrix_of, float(whole.sum()))
        for name in names:
            misses[name] += ends_missed(weighed(lambda matrix, name=name: of_matrix(name, matrix), given), truth[name])
        flattered += ends_missed(of_matrix("accuracy", matrix_of(found)), truth["accuracy"])[0]
    hold(misses, told)
    assert flattered > 0.5 * told


OF_ERRORS = ("bias", "mae", "rmse", "median_absolute_error")


@pytest.mark.parametrize(("rows", "age"), [(3000, 5), (3000, 8), (400, 6)])
def test_a_corrected_metric_of_errors_misses_no_more_often_than_alpha(rows: int, age: int) -> None:
    """What takes longer than was said is known later: the more, the later."""
    rng = np.random.default_rng(zlib.crc32(repr(("errors", rows, age)).encode()))
    edges = np.linspace(-6, 6, 121)
    middle = (edges[:-1] + edges[1:]) / 2
    share = np.exp(-0.5 * ((middle + 0.2) / 1.2) ** 2)
    share /= share.sum()
    band, seen = bands_of_errors(middle, 1.2), np.minimum(np.arange(GRAINS)[::-1], LAGS - 1)
    by_lag = np.stack([lags_of(6 - 0.25 * b) for b in band])
    of_band = np.stack([(rows * share[:, None] * by_lag)[band == b].sum(axis=0) for b in range(BANDS)])

    def of(name: str, counts: errors.Binned) -> Estimate:
        return getattr(errors, name)(counts, ALPHA)  # type: ignore[no-any-return]

    def binned(counts: Sequence[Floats]) -> errors.Binned:
        return errors.Binned(edges[:-1], edges[1:], counts[0])

    truth = {name: of(name, binned([rows * share * 1e6])).value or 0.0 for name in OF_ERRORS}
    misses, biased, told = {name: np.zeros(2, dtype=int) for name in OF_ERRORS}, 0, 0
    for _ in range(REPS):
        every = rng.poisson(rows * share)
        known = known_by(rng.poisson(of_band, (GRAINS, BANDS, LAGS)).astype(float), seen)
        assert known is not None
        found = rng.binomial(every, np.minimum(by_lag[:, : age + 1].sum(axis=1), 1)).astype(float)
        one = side(known, band, found[None], [age], every.sum() * found[None] / found.sum())
        if one is None:
            continue
        told += 1
        given = Weighed((one,), (band,), binned, float(every.sum()))
        for name in OF_ERRORS:
            misses[name] += ends_missed(weighed(lambda counts, name=name: of(name, counts), given), truth[name])
        biased += ends_missed(of("bias", binned([found])), truth["bias"])[0]
    hold(misses, told)
    assert age > 5 or biased > 0.5 * told
