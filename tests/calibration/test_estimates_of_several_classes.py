"""Bands of the estimated performance of several classes hold the realised value as often as they say, while rows
predicted alike with the same score are as often of the class; of rare classes and moved scores too."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from scipy import stats

from predicted_classes import ALPHA, MEASURES, drawn, matrix, of

REPS = 40


@pytest.mark.parametrize(
    ("sizes", "before", "after"),
    [
        ((3000, 1000), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        ((20_000, 5000), (1.0, 1.0, 1.0), (2.0, 1.0, 1.0)),
        ((20_000, 20_000), (1.0, 1.0, 1.0), (3.0, 3.0, 1.0)),
        ((3000, 10_000), (0.5, 0.5, 0.05), (0.5, 0.5, 0.2)),
    ],
)
def test_the_band_holds_the_realised_value(
    sizes: tuple[int, int], before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(zlib.crc32(repr((sizes, after)).encode()))
    misses = {measure.__name__: 0 for measure in MEASURES}
    for _ in range(REPS):
        reference, (score, label) = drawn(sizes[0], before, rng), drawn(sizes[1], after, rng)
        realised = matrix(label, score.argmax(axis=1))
        for measure in MEASURES:
            found, real = of(measure, reference, score), measure(realised, ALPHA).value
            assert found.low is not None
            assert found.high is not None
            assert real is not None
            misses[measure.__name__] += not found.low <= real <= found.high
    most = stats.binom.ppf(0.9999, REPS, 0.05)
    assert max(misses.values()) <= most, f"a band at 95 % missed more than {most:.0f} of {REPS} times: {misses}"
