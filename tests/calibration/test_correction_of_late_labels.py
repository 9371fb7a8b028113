"""Intervals of values corrected for labels that are not known yet miss the truth no more often than they say.

Frauds are known after 30 to 90 days, those with low scores last; a share of each day's is known at three ages. The
shares known by each age are estimated from the run-off triangle of each repetition, immature days included.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from scipy import stats

from watchkeeper.stats import confusion, scores
from watchkeeper.stats.confusion import Confusion
from watchkeeper.stats.estimates import Estimate, proportion
from watchkeeper.stats.lags import BANDS, Correction, bands, corrected, known_by, side
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
            sides.append(side(known, MIDDLE, found[-1][None], [age], whole[None]))
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
