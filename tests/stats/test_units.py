"""Changes of unit: what undoing a formula leaves, and which formula is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from watchkeeper.stats.distances import aligned, ks_estimate
from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.stats.units import FORMULAS, Formula, Shape, undone, unit_change

GRID = Grid.fit(np.random.default_rng(0).normal(15, 8, 5000))


def shape(values: Floats, grid: Grid) -> Shape:
    bins, counts = np.unique(grid.bins(values), return_counts=True)
    lower, upper = grid.edges(bins)
    inner = grid.discrete & (bins > 0) & (bins < grid.top) & (lower < upper)
    return Shape(lower, upper, counts.astype(float), inner, float(values.min()), float(values.max()))


def plain_grid(values: Floats) -> Grid:
    return replace(Grid.fit(values), sentinels=())


def found(before: Floats, after: Floats, alpha: float = 1e-3) -> tuple[float, float | None, str]:
    grid = plain_grid(before)
    sides = [np.unique(grid.bins(side), return_counts=True) for side in (after, before)]
    _, now, then = aligned(*sides[0], *sides[1])
    estimate, formula = unit_change(shape(after, grid), shape(before, grid), ks_estimate(now, then, alpha / 2), alpha)
    assert estimate.value is not None
    return estimate.value, estimate.low, formula.words if formula else ""


def test_nothing_is_left_of_a_change_that_is_undone() -> None:
    random = np.random.default_rng(1)
    before, after = random.normal(15, 8, 5000), random.normal(15, 8, 2000)
    grid = Grid.fit(before)
    for formula in FORMULAS:
        now = shape(formula.factor * after + formula.offset, grid)
        exact = ks_2samp(after, before).statistic
        assert undone(formula, now, shape(before, grid)) <= exact + 0.006, formula


def test_what_is_left_is_the_distance_of_the_raw_values() -> None:
    random = np.random.default_rng(2)
    before, after = random.normal(15, 8, 5000), random.normal(25, 8, 2000)
    plain = Formula("as it is", 1.0)
    left = undone(plain, shape(after, GRID), shape(before, GRID))
    assert left == pytest.approx(ks_2samp(after, before).statistic, abs=0.005)
    flipped = undone(Formula("", -1.0), shape(after, GRID), shape(before, GRID))
    assert flipped == pytest.approx(ks_2samp(-after, before).statistic, abs=0.005)


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.words)
def test_every_formula_is_found_in_a_column_far_from_zero(formula: Formula) -> None:
    random = np.random.default_rng(3)
    before, after = random.normal(60, 4, 5000), random.normal(60, 4, 1000)
    value, low, said = found(before, formula.factor * after + formula.offset)
    assert said == formula.words
    assert value > 0.9
    assert low is not None
    assert low > 0.5


def test_whole_numbers_keep_their_steps() -> None:
    random = np.random.default_rng(4)
    before, after = random.poisson(4, 5000) * 1.0, random.poisson(4, 1000) * 1.0
    assert found(before, after * 10)[2] == "multiplied by 10"
    assert found(before, -after)[2] == "with the sign changed"
    assert found(before, after / 1000)[2] == "divided by 1,000"


def test_the_same_data_have_no_other_unit() -> None:
    random = np.random.default_rng(5)
    assert found(random.normal(0, 1, 5000), -random.normal(0, 1, 1000)) == (0.0, 0.0, "")


def test_few_rows_are_not_enough_to_be_sure() -> None:
    random = np.random.default_rng(6)
    value, low, said = found(random.lognormal(0, 1, 5000), random.lognormal(0, 1, 20) * 60)
    assert (value > 0.8, low, said) == (True, 0.0, "multiplied by 60")
