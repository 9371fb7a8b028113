"""Columns of known distribution, counted and judged as `compare` does it, without the cost of two tables a time.

`agree` holds this short way to `watchkeeper.compare` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import watchkeeper
from watchkeeper.comparison import looks
from watchkeeper.comparison.findings import Look
from watchkeeper.comparison.tables import FEW_VALUES
from watchkeeper.monitors import Watch
from watchkeeper.profiles import Profile, Subject, categorical, numeric
from watchkeeper.schema import Kind
from watchkeeper.stats.grid import Grid

BUDGET = 0.05
"""The probability of any breach that `compare` allows itself where it is told no other."""
Values = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, int], Values]


def _categories(shares: Sequence[float] | Values) -> Draw:
    p = np.asarray(shares) / np.sum(shares)
    ends = np.cumsum(p)[:-1]
    return lambda random, n: np.searchsorted(ends, random.random(n))


SHAPES: dict[str, tuple[Kind, Draw]] = {
    "normal": (Kind.NUMERIC, lambda random, n: random.normal(size=n)),
    "lognormal": (Kind.NUMERIC, lambda random, n: random.lognormal(0, 1, n)),
    "Cauchy": (Kind.NUMERIC, lambda random, n: random.standard_cauchy(n)),
    "Poisson(4)": (Kind.NUMERIC, lambda random, n: random.poisson(4, n).astype(float)),
    "2 categories": (Kind.CATEGORICAL, _categories([0.7, 0.3])),
    "10 categories": (Kind.CATEGORICAL, _categories(np.ones(10))),
    "100 categories": (Kind.CATEGORICAL, _categories(np.ones(100))),
    "100 categories, Zipf": (Kind.CATEGORICAL, _categories(1 / np.arange(1.0, 101))),
    "1000 categories": (Kind.CATEGORICAL, _categories(np.ones(1000))),
    "1000 categories, Zipf": (Kind.CATEGORICAL, _categories(1 / np.arange(1.0, 1001))),
}


@dataclass(frozen=True)
class Reference:
    """One column of a reference table, counted. `judged` is false for what `compare` leaves out as an id."""

    kind: Kind
    grid: Grid | None
    profile: Profile
    judged: bool

    @classmethod
    def of(cls, kind: Kind, values: Values) -> Reference:
        if kind is Kind.CATEGORICAL:
            profile = _categories_of(values, None)
            return cls(kind, None, profile, len(profile.values) <= max(FEW_VALUES, len(values) / 2))
        grid = Grid.fit(values)
        return cls(kind, grid, _numbers_of(values, grid), True)

    def against(self, values: Values) -> Subject:
        """The counts of both sides, with these values as the current ones."""
        known = self.profile.words
        now = _categories_of(values, known) if self.grid is None else _numbers_of(values, self.grid)
        return Subject(now, self.profile, self.grid, 0.5, 1, 1, {}, {})


def _numbers_of(values: Values, grid: Grid) -> Profile:
    bins, counts = np.unique(grid.bins(values), return_counts=True)
    finite = values[np.isfinite(values)]
    ends = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    return numeric(grid, dict(zip(bins.tolist(), counts.tolist(), strict=True)), *ends)


def _categories_of(values: Values, known: Iterable[str] | None) -> Profile:
    codes, counts = np.unique(values, return_counts=True)
    found = {f"category{c}": n for c, n in zip(codes.tolist(), counts.tolist(), strict=True)}
    return categorical(found, known=known)


def _watches(kind: Kind) -> Sequence[Watch]:
    """What `compare` looks at in a column of this kind."""
    values = [0.5, 1.5, 2.5] if kind is Kind.NUMERIC else ["a", "b", "b"]
    return watchkeeper.profile(pa.table({"x": values})).watches


WATCHES = {kind: _watches(kind) for kind in (Kind.NUMERIC, Kind.CATEGORICAL)}


def judged(reference: Reference, subject: Subject, columns: int) -> list[Look]:
    """The looks at one of so many columns of the same kind, which share the false alarms with one for copied rows."""
    watches = WATCHES[reference.kind]
    share = BUDGET * len(watches) / (columns * len(watches) + 1)
    return looks(watches, {"": {"x": subject}}, "", share, raise_limits=True) if reference.judged else []


def breaches(reference: Reference, subject: Subject, columns: int) -> set[str]:
    """The metrics in breach."""
    return {look.metric for look in judged(reference, subject, columns) if look.breach}


def agree(seed: int) -> None:
    """Hold the short way to `watchkeeper.compare`: the same looks at columns of the same tables, with the same outcome.

    Raises AssertionError, which names the first that differs.
    """
    random = np.random.default_rng(seed)
    for name, (kind, draw) in SHAPES.items():
        before, after = ([draw(random, n) for _ in range(2)] for n in (5000, 300))
        after[0] = after[0] + (0.6 if kind is Kind.NUMERIC else after[0] % 2)  # one changes, the other does not
        tables = [
            pa.table({f"x{i}": side if kind is Kind.NUMERIC else _texts(side) for i, side in enumerate(sides)})
            for sides in (before, after)
        ]
        points = watchkeeper.compare(*tables).points
        found = {(look.column, look.metric): look for look in points if look.metric != "duplicate_rate"}
        ours = {}
        for i in range(2):
            reference = Reference.of(kind, before[i])
            for look in judged(reference, reference.against(after[i]), 2):
                ours[f"x{i}", look.metric] = look
        assert found.keys() == ours.keys(), f"{name}: compare looks at {found.keys()}, the short way at {ours.keys()}"
        for key, look in found.items():
            same = look.breach == ours[key].breach and _close(look.value, ours[key].value)
            assert same, f"{name}: compare finds {look}, the short way {ours[key]}"


def _texts(codes: Values) -> list[str]:
    return [f"category{code}" for code in codes.tolist()]


def _close(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) < 0.01 * max(1, abs(one)))
