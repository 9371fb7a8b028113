"""A grid is a monotone map of the line onto whole numbers, near enough to the exact distribution."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from watchkeeper.profiles import numeric
from watchkeeper.stats.distances import aligned, cells, ks, psi
from watchkeeper.stats.grid import LARGEST_BIN, MAX_KNOTS, MAX_RATIO, SENTINELS, Floats, Grid, Tally

ROWS = 20_000


def _shapes() -> dict[str, tuple[Floats, Floats]]:
    """Reference and current values of every shape that columns are known to take."""
    rng = np.random.default_rng(7)
    modes = np.repeat([0.0, 1e6], ROWS // 2)
    return {
        "normal": (rng.normal(size=ROWS), rng.normal(0.3, 1, ROWS)),
        "lognormal": (rng.lognormal(0, 2, ROWS), rng.lognormal(0.3, 2, ROWS)),
        "far-apart modes": (modes + rng.normal(size=ROWS), modes + rng.normal(0.4, 1, ROWS)),
        "zero-inflated": (
            np.where(rng.random(ROWS) < 0.7, 0, rng.lognormal(3, 1, ROWS)),
            np.where(rng.random(ROWS) < 0.6, 0, rng.lognormal(3.2, 1, ROWS)),
        ),
        "Cauchy": (rng.standard_cauchy(ROWS), 1.3 * rng.standard_cauchy(ROWS)),
        "Pareto": (rng.pareto(0.5, ROWS), rng.pareto(0.6, ROWS)),
        "few integers": (rng.poisson(3, ROWS) * 1.0, rng.poisson(4, ROWS) * 1.0),
        "many integers": (rng.poisson(300, ROWS) * 1.0, rng.poisson(310, ROWS) * 1.0),
        "constant": (np.full(ROWS, 7.0), np.full(ROWS, 7.0)),
        "another constant": (np.full(ROWS, 7.0), np.full(ROWS, 8.0)),
        "epoch seconds": (1.7e9 + 2.6e6 * rng.random(ROWS), 1.7e9 + 5e4 + 2.6e6 * rng.random(ROWS)),
        "all magnitudes": (10 ** rng.uniform(-300, 300, ROWS), 10 ** rng.uniform(-290, 300, ROWS)),
        "very small": (1e-300 * rng.random(ROWS), 1.1e-300 * rng.random(ROWS)),
        "one row": (np.array([3.0]), rng.normal(3, 1, 100)),
        "fifty rows": (rng.normal(size=50), rng.normal(size=1000)),
        "wholly elsewhere": (rng.random(ROWS), 5 + rng.random(ROWS)),
    }


SHAPES = _shapes()

finite = st.floats(-1e150, 1e150, allow_subnormal=False)
references = st.one_of(
    st.lists(finite, max_size=30),
    st.lists(st.integers(-5, 5).map(float), max_size=30),
    st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).lognormal(0, 3, 300).tolist()),
)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kolmogorov_distance_from_counts_is_the_exact_one_within_half_a_percent(shape: str) -> None:
    reference, current = SHAPES[shape]
    grid = Grid.fit(reference)
    counted = (np.unique(grid.bins(values), return_counts=True) for values in (current, reference))
    _, first, second = aligned(*(array for pair in counted for array in pair))
    assert ks(first, second) == pytest.approx(ks_2samp(current, reference).statistic, abs=0.005)


CONTINUOUS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "normal": lambda chance: chance.normal(15, 8, 60_000),
    "lognormal": lambda chance: chance.lognormal(5, 1, 60_000),
    "uniform": lambda chance: chance.random(60_000),
    "whole numbers": lambda chance: chance.integers(0, 500, 60_000).astype(float),
    "epoch seconds": lambda chance: 1.7e9 + 2e6 * chance.beta(2, 3, 60_000),
    "Cauchy": lambda chance: chance.standard_cauchy(60_000),
}


@pytest.mark.parametrize("shape", CONTINUOUS)
def test_the_stability_index_over_deciles_is_the_direct_one_within_a_percent(shape: str) -> None:
    reference = CONTINUOUS[shape](np.random.default_rng(1))
    middle = np.median(reference)
    current = middle + (reference - middle) * 1.2 + 0.3 * np.subtract(*np.quantile(reference, (0.75, 0.25)))
    grid = Grid.fit(reference)
    counted = (np.unique(grid.bins(values), return_counts=True) for values in (current, reference))
    _, first, second = aligned(*(array for pair in counted for array in pair))
    deciles = np.quantile(reference, np.linspace(0, 1, 11)[1:-1])
    sides = (
        np.bincount(np.searchsorted(deciles, values, side="right"), minlength=10) for values in (current, reference)
    )
    q, p = (side / side.sum() for side in sides)
    direct = float(((q - p) * np.log(q / p)).sum())
    assert direct > 0.02
    assert psi(*cells(first, second, ordered=True)) == pytest.approx(direct, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_counts_of_a_column_take_little_room(shape: str) -> None:
    reference, current = SHAPES[shape]
    grid = Grid.fit(reference)
    for values in (reference, current):
        tally = Tally(grid)
        tally.add(values)
        assert len(numeric(grid, tally.counts(), *tally.ends()).to_bytes()) < 20_000


@pytest.mark.parametrize("shape", [s for s in SHAPES if s != "all magnitudes"])
def test_no_bin_holds_more_of_the_reference_than_promised_beside_its_commonest_value(shape: str) -> None:
    reference, _ = SHAPES[shape]
    grid = Grid.fit(reference)
    bins = grid.bins(reference)
    if len(np.unique(bins)) == len(np.unique(reference)):
        return
    for number, count in zip(*np.unique(bins, return_counts=True), strict=True):
        commonest = np.unique(reference[bins == number], return_counts=True)[1].max()
        assert (count - commonest) / len(reference) <= LARGEST_BIN * 1.01


@pytest.mark.parametrize("shape", SHAPES)
def test_a_grid_is_small(shape: str) -> None:
    grid = Grid.fit(SHAPES[shape][0])
    assert len(grid.knots) <= MAX_KNOTS
    assert list(grid.knots) == sorted(set(grid.knots))
    assert grid.scale > 0


@given(references, st.lists(finite, min_size=1, max_size=30))
def test_bins_grow_with_the_value(reference: list[float], values: list[float]) -> None:
    grid = Grid.fit(np.array(reference))
    regular = np.sort([v for v in values if v not in grid.sentinels])
    bins = grid.bins(regular)
    assert (np.diff(bins) >= 0).all()


@given(references, st.lists(finite, min_size=1, max_size=30))
def test_the_edges_of_a_bin_contain_its_values(reference: list[float], values: list[float]) -> None:
    grid = Grid.fit(np.array(reference))
    regular = np.array([v for v in [*values, *grid.knots] if v not in grid.sentinels])
    with np.errstate(over="ignore"):
        regular = regular[np.abs(regular) / grid.scale < MAX_RATIO / 10]  # farther out, all values share a bin
    lower, upper = grid.edges(grid.bins(regular))
    slack = 1e-9 * (np.abs(regular) + max(abs(k) for k in grid.knots)) + 1e-12 * grid.scale
    assert (lower - slack <= regular).all()
    assert (regular <= upper + slack).all()


@given(references)
def test_neighbouring_bins_share_an_edge(reference: list[float]) -> None:
    grid = Grid.fit(np.array(reference))
    bins = np.arange(-40, grid.top + 40)
    lower, upper = grid.edges(bins)
    assert (lower <= upper).all()
    scale = np.maximum(np.abs(upper[:-1]), np.abs(lower[1:])) + grid.scale
    assert (np.abs(upper[:-1] - lower[1:]) <= 1e-9 * scale).all()


@given(references)
def test_a_grid_survives_its_dictionary_and_json(reference: list[float]) -> None:
    grid = Grid.fit(np.array(reference))
    back = Grid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert back == grid
    assert back.name == grid.name


@given(references, st.randoms(use_true_random=False))
def test_a_grid_does_not_depend_on_the_order_of_its_reference(reference: list[float], random) -> None:
    shuffled = list(reference)
    random.shuffle(shuffled)
    assert Grid.fit(np.array(shuffled)).name == Grid.fit(np.array(reference)).name


def test_a_grid_does_not_depend_on_the_sign_of_zero() -> None:
    assert Grid.fit(np.array([-0.0, 0.0, 1.0, 1.0])).name == Grid.fit(np.array([0.0, 0.0, 1.0, 1.0])).name


def test_a_grid_of_nothing_is_the_knot_zero() -> None:
    for nothing in ([], [np.nan], [np.inf, -np.inf]):
        grid = Grid.fit(np.array(nothing))
        assert grid.knots == (0.0,)
        assert grid.scale == 1.0
        assert grid.bins(np.array([0.0])).tolist() == [0]


def test_values_that_repeat_get_a_bin_each_and_values_that_do_not_share_bins() -> None:
    discrete = Grid.fit(np.array([1.0, 2.0, 4.0] * 5))
    assert discrete.discrete
    assert discrete.knots == (1.0, 2.0, 4.0)
    assert discrete.bins(np.array([1.0, 1.5, 2.0, 3.9, 4.0])).tolist() == [0, 1, 2, 3, 4]
    assert not Grid.fit(np.random.default_rng(1).normal(size=50)).discrete


def test_the_values_of_a_discrete_column_lie_at_its_knots_and_others_between() -> None:
    grid = Grid.fit(np.array([1.0, 2.0, 4.0] * 5))
    lower, upper = grid.edges(np.array([-3, 0, 1, 2, 3, 4, 7]))
    assert lower[1:6].tolist() == [1.0, 1.0, 2.0, 2.0, 4.0]
    assert upper[1:6].tolist() == [1.0, 2.0, 2.0, 4.0, 4.0]
    assert lower[0] < upper[0] < 1.0
    assert 4.0 < lower[6] < upper[6]


def test_whole_numbers_that_became_fractions_are_told_apart_from_them() -> None:
    chance = np.random.default_rng(1)
    reference, current = chance.poisson(3, 5000).astype(float), chance.poisson(3, 5000) * 1.05
    grid = Grid.fit(reference)
    counted = (np.unique(grid.bins(values), return_counts=True) for values in (current, reference))
    _, first, second = aligned(*(array for pair in counted for array in pair))
    assert ks(first, second) == pytest.approx(ks_2samp(current, reference).statistic, abs=1e-12)


def test_every_thousandth_is_an_edge_of_the_unit_grid() -> None:
    grid = Grid.unit()
    thousandths = np.arange(1001) / 1000
    assert grid.bins(thousandths).tolist() == list(range(1001))
    assert grid.edges(np.arange(1001))[0].tolist() == thousandths.tolist()


def test_sentinels_inside_the_reference_range_are_ordinary_values() -> None:
    grid = Grid.fit(np.linspace(-5, 50, 500))
    assert -1.0 not in grid.sentinels
    assert 9.0 not in grid.sentinels
    assert {-999.0, 99.0, 9999.0} <= set(grid.sentinels)
    assert set(grid.sentinels) <= set(SENTINELS)


def test_the_largest_doubles_neither_warn_nor_overflow() -> None:
    largest = np.finfo(float).max
    grid = Grid.fit(np.array([-largest, largest, *np.linspace(-1, 1, 300)]))
    for values in (np.array([largest, -largest]), np.array([5e-324])):
        lower, upper = grid.edges(grid.bins(values))
        assert np.isfinite(lower).all()
        assert np.isfinite(upper).all()


def test_a_name_says_the_content_and_nothing_else() -> None:
    assert Grid.unit().name == Grid.unit(1000).name
    assert Grid.unit().name != Grid.unit(100).name
    assert Grid.unit().name.startswith("grid-")
    assert len(Grid.unit().name) == len("grid-") + 12
