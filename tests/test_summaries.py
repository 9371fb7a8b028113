"""Quantiles, mean and deviation from counts, against those of the raw values."""

from __future__ import annotations

import numpy as np
import pytest

from watchkeeper.stats.grid import Grid
from watchkeeper.summaries import LEVELS, missing_share, numbers, quantiles, shares
from watchkeeper.testing import profile_of

RANDOM = np.random.default_rng(3)
SHAPES = {
    "normal": RANDOM.normal(10, 3, 5000),
    "lognormal": RANDOM.lognormal(2, 1.5, 5000),
    "two modes": np.concatenate([RANDOM.normal(0, 1, 2500), RANDOM.normal(1e6, 1, 2500)]),
    "whole": RANDOM.integers(0, 24, 5000).astype(float),
    "constant": np.full(50, 7.0),
    "tiny": RANDOM.normal(1e-3, 1e-9, 3000),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_figures_are_those_of_the_values(shape: str) -> None:
    values = SHAPES[shape]
    grid = Grid.fit(values)
    found = numbers(profile_of(values.tolist(), grid), grid)
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.missing == 0
    assert found.mean == pytest.approx(values.mean(), rel=0.01, abs=0.01 * values.std())
    assert found.deviation == pytest.approx(values.std(), rel=0.02, abs=1e-15)
    assert found.quantiles is not None
    for level, told in zip(LEVELS, found.quantiles, strict=True):
        share = (values <= told).mean()
        below = (values < told).mean()
        assert below - 0.006 <= level <= share + 0.006, "the quantile leaves its share of the values below it"


def test_values_beyond_the_reference_are_seen() -> None:
    grid = Grid.fit(SHAPES["normal"])
    far = RANDOM.normal(200, 3, 4000)
    found = numbers(profile_of(far.tolist(), grid), grid)
    assert found.mean == pytest.approx(200, rel=0.1)
    assert found.low == far.min()


def test_nothing_has_no_figures() -> None:
    grid = Grid.fit(np.arange(5.0))
    empty = numbers(profile_of([], grid), grid)
    assert (empty.missing, empty.low, empty.quantiles, empty.mean, empty.spread) == (None, None, None, None, 0)
    nulls = numbers(profile_of([None, None], grid), grid)
    assert (nulls.missing, nulls.deviation) == (1, None)
    assert np.isnan(quantiles(profile_of([], grid), grid, [0.5])).all()


def test_missing_and_categories_are_shares() -> None:
    profile = profile_of(["a", "a", "b", None])
    assert missing_share(profile) == 0.25
    assert shares([profile]) == [{"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}]
    assert shares([profile_of([]), None]) == [{}, {}]


def test_huge_values_do_not_overflow() -> None:
    values = [1e300, -1e300, 0.0, 5.0]
    grid = Grid.fit(np.array(values))
    found = numbers(profile_of(values, grid), grid)
    assert found.deviation is not None
    assert np.isfinite(found.deviation)
