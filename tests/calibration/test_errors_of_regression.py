"""Every interval of a regression's metric misses the truth no more often than it says: from a hundred rows to a hundred
thousand, with larger errors in one row of a thousand to one in two, and with the tails that errors have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from misses import hold, missed, seeded
from watchkeeper.stats import errors
from watchkeeper.stats.errors import Binned
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats, Grid

ALPHAS = (0.025, 1e-3)
sizes = pytest.mark.parametrize("n", [100, 1000, 100_000])
Truth = dict[str, float]
OF_ERRORS: dict[str, Callable[[Binned, float], Estimate]] = {
    "bias": errors.bias,
    "mae": errors.mae,
    "mse": errors.mse,
    "rmse": errors.rmse,
    "median_absolute_error": errors.median_absolute_error,
    "pinball_loss": lambda e, alpha: errors.pinball_loss(e, 0.9, alpha),
    "error_quantile": lambda e, alpha: errors.error_quantile(e, 0.1, alpha),
    "absolute_error_quantile": lambda e, alpha: errors.absolute_error_quantile(e, 0.95, alpha),
}


def drawer(quantile: Callable[[Floats], Floats], cdf: Callable[[Floats], Floats]) -> Callable[[Any, int], Binned]:
    """What draws the counts of so many rows on a grid chosen from the distribution."""
    grid = Grid.fit(quantile((np.arange(4000) + 0.5) / 4000), ())
    bins = np.arange(-60, grid.top + 60)
    lower, upper = grid.edges(bins)
    share = np.clip(np.diff(cdf(np.append(lower, upper[-1]))), 0, None)

    def draw(rng: np.random.Generator, n: int) -> Binned:
        counts = rng.multinomial(n, share / share.sum())
        some = counts > 0
        return Binned(lower[some], upper[some], counts[some] * 1.0)

    return draw


def check(
    name: str,
    metric: Callable[..., Estimate],
    counted: tuple[Binned, ...],
    value: float,
    tally: dict[tuple[str, float], Floats],
) -> None:
    for alpha in ALPHAS:
        tally[name, alpha] = tally.get((name, alpha), np.zeros(2)) + missed(metric(*counted, alpha), value)


def hold_all(tally: dict[tuple[str, float], Floats], reps: int) -> None:
    for (name, alpha), ends in tally.items():
        for end, number in zip(("low", "high"), ends, strict=True):
            hold(f"{name}, {end} end", int(number), reps, alpha)


@sizes
@pytest.mark.parametrize("base", [0.001, 0.05, 0.5])
def test_a_metric_of_the_errors_misses_no_more_often_than_alpha(n: int, base: float) -> None:
    """Errors three times as large in a share of the rows, about a bias of a tenth."""
    parts, at = ((1 - base, 1.0), (base, 3.0)), 0.1

    def cdf(x: Floats) -> Floats:
        return sum(w * stats.norm(at, s).cdf(x) for w, s in parts)  # type: ignore[return-value]

    def root(of: Callable[[float], float], q: float) -> float:
        return float(optimize.brentq(lambda x: of(x) - q, -50, 50))

    levels = np.linspace(-15, 15, 40_001)
    draw = drawer(lambda q: np.interp(q, cdf(levels), levels), cdf)
    labels = drawer(stats.norm(0, 10).ppf, stats.norm(0, 10).cdf)
    above = sum(w * (s * stats.norm.pdf(at / s) + at * stats.norm.cdf(at / s)) for w, s in parts)
    square = sum(w * s * s for w, s in parts) + at * at

    def folded(x: float) -> float:
        return float(cdf(np.array(x)) - cdf(np.array(-x)))

    truth = {
        "bias": at,
        "mae": 2 * above - at,
        "mse": square,
        "rmse": square**0.5,
        "median_absolute_error": root(folded, 0.5),
        "pinball_loss": 0.1 * above + 0.9 * (above - at),
        "error_quantile": root(lambda x: float(cdf(np.array(x))), 0.1),
        "absolute_error_quantile": root(folded, 0.95),
    }
    reps, rng, tally = 150, seeded("errors", n, base), {}
    for _ in range(reps):
        e, y = draw(rng, n), labels(rng, n)
        for name, metric in OF_ERRORS.items():
            check(name, metric, (e,), truth[name], tally)
        check("r2", errors.r2, (e, y), 1 - square / 100, tally)
        check(
            "explained_variance",
            errors.explained_variance,
            (e, y),
            1 - (square - at * at) / 100,
            tally,
        )
    hold_all(tally, reps)


@sizes
@pytest.mark.parametrize("shape", ["exponential", "lognormal", "Laplace", "t of 5"])
def test_means_of_heavy_tails_miss_no_more_often_than_alpha(n: int, shape: str) -> None:
    of = {
        "exponential": stats.expon(),
        "lognormal": stats.lognorm(0.8),
        "Laplace": stats.laplace(),
        "t of 5": stats.t(5),
    }[shape]
    draw = drawer(of.ppf, of.cdf)
    size = float(of.expect(abs, epsabs=1e-10))
    reps, rng, tally = 150, seeded("tails", n, shape), {}
    for _ in range(reps):
        e = draw(rng, n)
        check("bias", errors.bias, (e,), float(of.mean()), tally)
        check("mae", errors.mae, (e,), size, tally)
        check("rmse", errors.rmse, (e,), float(of.moment(2)) ** 0.5, tally)
    hold_all(tally, reps)


@sizes
def test_means_of_percentage_errors_miss_no_more_often_than_alpha(n: int) -> None:
    skewed, bounded = stats.lognorm(0.7, scale=0.1), stats.beta(0.5, 4, scale=2)
    of_skewed, of_bounded = drawer(skewed.ppf, skewed.cdf), drawer(bounded.ppf, bounded.cdf)
    reps, rng, tally = 150, seeded("percentages", n), {}
    for _ in range(reps):
        one, two = of_skewed(rng, n), of_bounded(rng, n)
        check("mape", errors.mape, (one,), float(skewed.mean()), tally)
        check("smape", errors.smape, (two,), float(bounded.mean()), tally)
    hold_all(tally, reps)


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0])
def test_r2_holds_however_errors_and_labels_move_together(power: float) -> None:
    """Errors that are larger where the label is far out, where it is not, or neither."""
    rng, reps, tally = seeded("together", power), 150, {}

    def rows(n: int) -> tuple[Floats, Floats]:
        label = rng.normal(0, 1, n)
        return label, rng.normal(0, 0.5, n) * (0.2 + np.abs(label)) ** power

    label, wrong = rows(1_000_000)
    truth = 1 - float((wrong**2).mean() / label.var())
    grids = [Grid.fit(side[:5000], ()) for side in (label, wrong)]
    for _ in range(reps):
        counted = []
        for side, grid in zip(rows(1000), grids, strict=True):
            bins, counts = np.unique(grid.bins(side), return_counts=True)
            counted.append(Binned(*grid.edges(bins), counts * 1.0))
        check("r2", errors.r2, (counted[1], counted[0]), truth, tally)
    hold_all(tally, reps)
