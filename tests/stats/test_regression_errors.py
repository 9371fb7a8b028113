"""Metrics of a regression differ from scikit-learn's by no more than they say, on data of every kind, and their
quantiles, means and ends are absent where they mean nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from watchkeeper.stats import errors
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Grid

NOTHING = Binned(*(np.zeros(0) for _ in range(3)))


def binned(values: Floats, grid: Grid | None = None) -> Binned:
    """Counts on the grid that the values' first half gives."""
    grid = grid or Grid.fit(values[: max(len(values) // 2, 1)], ())
    bins, counts = np.unique(grid.bins(values), return_counts=True)
    return Binned(*grid.edges(bins), counts.astype(float))


def exact(values: Floats) -> Binned:
    """Each value as a bin of its own."""
    own, counts = np.unique(values, return_counts=True)
    return Binned(own, own, counts.astype(float))


OF_ERRORS: dict[str, Callable[[Binned, float], Estimate]] = {
    "bias": errors.bias,
    "MAE": errors.mae,
    "MSE": errors.mse,
    "RMSE": errors.rmse,
    "median absolute error": errors.median_absolute_error,
    "pinball loss": lambda e, alpha: errors.pinball_loss(e, 0.9, alpha),
    "error quantile": lambda e, alpha: errors.error_quantile(e, 0.1, alpha),
    "absolute error quantile": lambda e, alpha: errors.absolute_error_quantile(e, 0.95, alpha),
}
OF_BOTH = {"R2": errors.r2, "explained variance": errors.explained_variance}


def of_scikit_learn(labels: Floats, said: Floats) -> dict[str, float]:
    return {
        "bias": float((said - labels).mean()),
        "MAE": float(sklearn.mean_absolute_error(labels, said)),
        "MSE": float(sklearn.mean_squared_error(labels, said)),
        "RMSE": float(sklearn.root_mean_squared_error(labels, said)),
        "median absolute error": float(sklearn.median_absolute_error(labels, said)),
        "pinball loss": float(sklearn.mean_pinball_loss(labels, said, alpha=0.9)),
        "error quantile": float(np.quantile(said - labels, 0.1)),
        "absolute error quantile": float(np.quantile(np.abs(said - labels), 0.95)),
        "R2": float(sklearn.r2_score(labels, said)),
        "explained variance": float(sklearn.explained_variance_score(labels, said)),
    }


def close(found: Estimate, expected: float, scale: float) -> None:
    assert found.value is not None
    assert abs(found.value - expected) <= found.detail["grid error"] * (1 + 1e-9) + 1e-12 * scale


SHAPES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "heavy": lambda rng, n: rng.standard_cauchy(n),
    "skewed": lambda rng, n: rng.lognormal(0, 2, n),
    "constant": lambda rng, n: np.full(n, 4.25),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.normal(0, 5, n)),
    "whole": lambda rng, n: rng.poisson(3, n).astype(float),
    "far apart": lambda rng, n: rng.choice([-1e6, 0.001, 1e6], n) + rng.normal(0, 1, n),
    "tiny": lambda rng, n: rng.normal(0, 1e-9, n),
    "large": lambda rng, n: rng.normal(0, 1e12, n),
}


@given(st.sampled_from(sorted(SHAPES)), st.sampled_from(sorted(SHAPES)), st.integers(2, 400), st.integers(0, 2**32 - 1))
def test_a_metric_is_scikit_learns_within_its_grid_error(of_errors: str, of_labels: str, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = SHAPES[of_labels](rng, n)
    said = labels + SHAPES[of_errors](rng, n)
    wrong = said - labels
    expected = of_scikit_learn(labels, said)
    scale = max(1.0, float(np.abs(wrong).max())) ** 2
    for name, metric in OF_ERRORS.items():
        close(metric(binned(wrong), 0.05), expected[name], scale)
    for name, of_both in OF_BOTH.items():
        found = of_both(binned(wrong), binned(labels), 0.05)
        if found.value is not None and "grid error" in found.detail:
            close(found, expected[name], max(scale / float(labels.var() or 1.0), abs(expected[name])))


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=2, max_size=60))
def test_of_values_that_are_counted_one_by_one_a_metric_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, said = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    expected = of_scikit_learn(labels, said)
    for name, metric in OF_ERRORS.items():
        assert metric(exact(said - labels), 0.05).value == pytest.approx(expected[name], abs=1e-12)
    for name, of_both in OF_BOTH.items():
        found = of_both(exact(said - labels), exact(labels), 0.05).value
        if np.ptp(labels) == 0:
            assert found is None
        else:
            assert found == pytest.approx(expected[name], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_percentage_errors_are_scikit_learns_on_the_rows_that_have_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(2000) < 0.1, 0.0, rng.lognormal(1, 1, 2000))
    said = labels * rng.normal(1, 0.2, 2000)
    has = labels != 0
    expected = sklearn.mean_absolute_percentage_error(labels[has], said[has])
    close(errors.mape(binned(np.abs(said - labels)[has] / np.abs(labels[has])), 0.05), float(expected), 1.0)
    symmetric = 2 * np.abs(said - labels)[has] / (np.abs(labels) + np.abs(said))[has]
    found = errors.smape(binned(symmetric), 0.05)
    close(found, float(symmetric.mean()), 1.0)
    assert found.high is not None
    assert found.high <= 2


def test_the_grid_error_is_small_on_data_like_the_first() -> None:
    rng = np.random.default_rng(7)
    grid = Grid.fit(rng.normal(0, 3, 20_000), ())
    e = binned(rng.normal(0, 3, 50_000), grid)
    for name, metric in OF_ERRORS.items():
        assert metric(e, 0.05).detail["grid error"] < (0.035 if name != "MSE" else 0.1), name


@pytest.mark.parametrize("name", OF_ERRORS)
def test_no_rows_have_no_metric(name: str) -> None:
    assert OF_ERRORS[name](NOTHING, 0.05) == Estimate.absent(0)


@pytest.mark.parametrize("name", OF_BOTH)
def test_labels_that_are_all_the_same_leave_nothing_to_explain(name: str) -> None:
    same = exact(np.full(50, 3.0))
    assert OF_BOTH[name](exact(np.arange(50.0)), same, 0.05) == Estimate.absent(50)
    assert OF_BOTH[name](NOTHING, NOTHING, 0.05) == Estimate.absent(0)
    assert OF_BOTH[name](exact(np.arange(50.0)), NOTHING, 0.05) == Estimate.absent(50)


def test_few_rows_bound_no_mean() -> None:
    for n in (1, 9):
        found = errors.mae(exact(np.arange(float(n))), 0.05)
        assert (found.low, found.high) == (None, None)
    assert errors.mae(exact(np.arange(10.0)), 0.05).high is not None


def test_one_row_that_makes_up_the_variance_leaves_that_side_open() -> None:
    e = exact(np.append(np.arange(99.0), 1e6))
    for metric in (errors.bias, errors.mae, errors.mse, errors.rmse):
        found = metric(e, 0.05)
        assert found.high is None
        assert found.low is not None
        assert found.low <= found.value  # type: ignore[operator]
    assert errors.bias(exact(np.append(np.arange(99.0), -1e6)), 0.05).low is None
    assert errors.median_absolute_error(e, 0.05).high is not None


def test_a_perfect_prediction_has_no_error() -> None:
    e, labels = exact(np.zeros(100)), exact(np.arange(100.0))
    for name, metric in OF_ERRORS.items():
        assert metric(e, 0.05).value == 0, name
    assert errors.r2(e, labels, 0.05).value == 1
    assert errors.explained_variance(e, labels, 0.05).value == 1


def test_a_constant_bias_costs_r2_and_no_explained_variance() -> None:
    labels = exact(np.arange(100.0))
    e = exact(np.full(100, 10.0))
    assert errors.explained_variance(e, labels, 0.05).value == 1
    assert errors.r2(e, labels, 0.05).value == pytest.approx(1 - 100 / np.arange(100.0).var())


def test_the_pinball_loss_of_the_median_is_half_the_mean_absolute_error() -> None:
    e = binned(np.random.default_rng(1).normal(1, 2, 500))
    one, two = errors.pinball_loss(e, 0.5, 0.05), errors.mae(e, 0.05)
    assert one.value == pytest.approx(two.value / 2)  # type: ignore[operator]
    assert one.high == pytest.approx(two.high / 2)  # type: ignore[operator]


def test_larger_errors_are_seen() -> None:
    rng = np.random.default_rng(9)
    grid = Grid.fit(rng.normal(0, 1, 5000), ())
    limits = {"bias": 0.05, "MAE": 0.9, "RMSE": 1.13, "MSE": 1.3, "median absolute error": 0.75, "pinball loss": 0.34}
    seen = dict.fromkeys(limits, 0)
    for _ in range(100):
        e = binned(rng.normal(0.2, 1.25, 2000), grid)
        for name, limit in limits.items():
            seen[name] += (OF_ERRORS[name](e, 1e-3).low or 0) > limit
    assert min(seen.values()) > 80, seen
