"""The default policy finds what it should, under the right name, and keeps quiet on unchanged data.

One column of a table is simulated; the error of its looks is that of a table with 25 columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from watchkeeper.comparison import looks
from watchkeeper.comparison.baselines import default_model
from watchkeeper.comparison.findings import Look
from watchkeeper.monitors import Watch, plan
from watchkeeper.profiles import Profile, Subject
from watchkeeper.schema import ColumnConfig, Kind
from watchkeeper.stats.grid import Floats, Grid
from watchkeeper.testing import profile_of

Draw = Callable[[np.random.Generator, int], Any]
BUDGET = 0.05
RUNS = 200


def watches(kind: Kind, columns: int) -> tuple[list[Watch], float]:
    """The looks at one column, and their part of the budget of a table, half of whose columns are categorical."""
    kinds = [kind, *(Kind.CATEGORICAL if i % 2 else Kind.NUMERIC for i in range(columns - 1))]
    every = plan(default_model({f"c{i}": ColumnConfig(kind=one) for i, one in enumerate(kinds)}))
    own = [watch for watch in every if watch.column == "c0"]
    return own, BUDGET * len(own) / len(every)


def side(values: Any, grid: Grid | None) -> Profile:
    return profile_of([None if isinstance(v, float) and np.isnan(v) else v for v in values], grid)


def taken(before: Any, after: Any, columns: int = 25) -> list[Look]:
    numbers = isinstance(before, np.ndarray) and before.dtype == float
    grid = Grid.fit(before) if numbers else None
    own, budget = watches(Kind.NUMERIC if numbers else Kind.CATEGORICAL, columns)
    sides = [side(values.tolist() if isinstance(values, np.ndarray) else values, grid) for values in (after, before)]
    subject = Subject(sides[0], sides[1], grid, 0.5, 1, 1, {}, {})
    return looks(own, {"": {"c0": subject}}, "", budget, raise_limits=True)


def breached(found: list[Look]) -> set[str]:
    return {look.metric for look in found if look.breach}


def seeded(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def normal(random: np.random.Generator, n: int) -> Floats:
    return random.normal(15, 8, n)


def carriers(random: np.random.Generator, n: int) -> Any:
    return random.choice(["UA", "B6", "EV", "DL", "AA"], n, p=[0.3, 0.25, 0.2, 0.15, 0.1])


def some(random: np.random.Generator, values: Any, share: float, other: Any) -> Any:
    return np.where(random.random(len(values)) < share, other, values)


DRIFT = {"wasserstein", "psi", "ks", "jensen_shannon"}
BURSTS: dict[str, tuple[str, Draw, Callable[[np.random.Generator, Any], Any]]] = {
    "nulls": ("null_rate", normal, lambda random, v: some(random, v, 0.1, np.nan)),
    "a sentinel": ("sentinel_rate", normal, lambda random, v: some(random, v, 0.05, -999.0)),
    "a new category": ("new_category", carriers, lambda random, v: some(random, v, 0.03, "ZZ")),
    "a vanished category": ("vanished_category", carriers, lambda random, v: v[v != "AA"]),
    "a stuck column": ("constant", normal, lambda random, v: np.full(len(v), v[0])),
    "a stuck category": ("constant", carriers, lambda random, v: np.full(len(v), "UA")),
    "another case": ("encoding_change", carriers, lambda random, v: some(random, v, 0.05, "ua")),
    "a prefix": ("encoding_change", carriers, lambda random, v: np.char.add("us-", v)),
    "infinities": ("infinite_rate", normal, lambda random, v: some(random, v, 0.03, np.inf)),
    "times 1000": ("unit_change", normal, lambda random, v: v * 1000),
    "divided by 1000": ("unit_change", normal, lambda random, v: v / 1000),
    "percent": ("unit_change", lambda random, n: random.random(n), lambda random, v: v * 100),
    "seconds": ("unit_change", lambda random, n: random.lognormal(3, 1, n), lambda random, v: v * 60),
    "milliseconds of few values": (
        "unit_change", lambda random, n: random.poisson(3, n).astype(float), lambda random, v: v * 1000,
    ),
    "fahrenheit": ("unit_change", normal, lambda random, v: v * 1.8 + 32),
    "kelvin": ("unit_change", normal, lambda random, v: v + 273.15),
    "the other sign": ("unit_change", lambda random, n: random.lognormal(0, 1, n), lambda random, v: -v),
    "pounds": ("unit_change", lambda random, n: random.normal(70, 12, n), lambda random, v: v * 2.20462),
    "times 1000, narrow": ("unit_change", lambda random, n: random.normal(100, 1, n), lambda random, v: v * 1000),
}  # fmt: skip


@pytest.mark.parametrize("fault", BURSTS)
def test_a_fault_in_500_rows_is_found_under_its_own_name(fault: str) -> None:
    metric, draw, change = BURSTS[fault]
    random = seeded(fault)
    references = [draw(random, 10_000) for _ in range(4)]
    hits = sum(metric in breached(taken(references[i % 4], change(random, draw(random, 500)))) for i in range(RUNS))
    assert hits >= 0.99 * RUNS


SHIFTS: dict[str, tuple[int, float, Draw, Draw]] = {
    "half a standard deviation": (1_000, 0.95, normal, lambda random, n: normal(random, n) + 4),
    "a third of a standard deviation": (10_000, 0.95, normal, lambda random, n: normal(random, n) + 2.4),
    "a share of 10 to 25 percent": (
        2_000,
        0.95,
        lambda random, n: random.choice(["a", "b", "c"], n, p=[0.1, 0.5, 0.4]),
        lambda random, n: random.choice(["a", "b", "c"], n, p=[0.25, 0.5 * 5 / 6, 0.4 * 5 / 6]),
    ),
    "twice the variance": (2_000, 0.95, normal, lambda random, n: random.normal(15, 8 * 2**0.5, n)),
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_drift_is_found(shift: str) -> None:
    rows, power, before, after = SHIFTS[shift]
    random = seeded(shift)
    references, runs = [before(random, 10_000) for _ in range(4)], RUNS if rows < 5000 else 60
    found = [breached(taken(references[i % 4], after(random, rows))) for i in range(runs)]
    assert np.mean([bool(names & DRIFT) for names in found]) >= power
    assert np.mean(["unit_change" in names for names in found]) <= 0.01


@pytest.mark.parametrize("place", [0, 1], ids=["in the reference", "in the current data"])
def test_one_huge_value_changes_no_verdict(place: int) -> None:
    random = seeded("outlier")
    for shift in (0.0, 4.0):
        sides = [normal(random, 10_000), normal(random, 1_000) + shift]
        plain = breached(taken(*sides))
        sides[place][0] = 1e6
        assert bool(breached(taken(*sides))) == bool(plain) == bool(shift)


MOVES: dict[str, tuple[Draw, Callable[[Any], Any]]] = {
    "symmetric, sign changed": (lambda random, n: random.normal(0, 1, n), lambda v: -v),
    "a shift of one": (normal, lambda v: v + 8),
    "a shift of three": (normal, lambda v: v + 24),
    "a shift of thirty": (normal, lambda v: v + 240),
    "a far shift of a narrow column": (lambda random, n: random.normal(100, 1, n), lambda v: v + 9900),
    "a shift of a skewed column": (lambda random, n: random.exponential(1, n), lambda v: v + 1),
    "twice as wide": (normal, lambda v: 15 + 2 * (v - 15)),
    "counts": (lambda random, n: random.poisson(3, n).astype(float), lambda v: v + 4),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("rows", [100, 500, 5000])
def test_a_plain_move_is_no_change_of_unit(move: str, rows: int) -> None:
    draw, change = MOVES[move]
    random = seeded(move, rows)
    reference = draw(random, 10_000)
    found = [breached(taken(reference, change(draw(random, rows)))) for _ in range(20)]
    assert not any("unit_change" in names for names in found)


def categories(count: int, power: float) -> Draw:
    p = 1 / np.arange(1, count + 1) ** power
    return lambda random, n: np.char.add("v", random.choice(count, n, p=p / p.sum()).astype(str))


NULL: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(size=n),
    "lognormal": lambda random, n: random.lognormal(3, 1.5, n),
    "Cauchy": lambda random, n: random.standard_cauchy(n),
    "integers": lambda random, n: random.integers(0, 100, n).astype(float),
    "rare integers": lambda random, n: random.geometric(0.3, n).astype(float),
    "a flag": lambda random, n: (random.random(n) < 0.02) * 1.0,
    "2 categories": categories(2, 3.0),
    "20 categories": categories(20, 1.0),
    "1000 categories": categories(1000, 1.0),
    "1000 equal categories": categories(1000, 0.0),
}


@pytest.mark.parametrize("shape", NULL)
@pytest.mark.parametrize("columns", [1, 25, 200])
def test_unchanged_data_stay_within_the_budget(shape: str, columns: int) -> None:
    """All columns of a table alike: its chance of any breach is at most the sum of theirs."""
    draw, random, alarms, runs = NULL[shape], seeded("null", shape), 0, 0
    _, budget = watches(Kind.NUMERIC if draw(random, 2).dtype == float else Kind.CATEGORICAL, columns)
    for m, n, times in ((500, 50, 60), (500, 5_000, 20), (10_000, 500, 12), (5_000, 50_000, 2), (100_000, 1_000, 1)):
        for _ in range(times):
            alarms += bool(breached(taken(draw(random, m), draw(random, n), columns)))
            runs += 1
    assert alarms <= binom.ppf(0.9999, runs, budget), f"{alarms} of {runs}"
