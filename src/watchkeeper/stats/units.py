"""Changes of unit: which plain formula turns the shape of one histogram into that of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from watchkeeper.stats.distances import ks_estimate
from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats

FITS = 0.05
"""A Kolmogorov-Smirnov distance up to which two shapes count as one, however many rows there are."""
CRITICAL = 1.95
"""The 99.9% quantile of Kolmogorov's distribution: chance alone brings a larger distance once in a thousand times."""
NO_WORSE = 0.1
"""A simpler formula is taken if its distance is at most this share of the critical one above the best."""


@dataclass(frozen=True, slots=True)
class Formula:
    """`now = factor * before + offset`, in words."""

    words: str
    factor: float
    offset: float = 0.0


def _formulas() -> Iterator[Formula]:
    for power, said in ((3, "1,000"), (2, "100"), (1, "10"), (6, "1,000,000"), (9, "1,000,000,000"), (4, "10,000"),
                        (5, "100,000")):  # fmt: skip
        percent = " (percent instead of shares, or cents)" if power == 2 else ""
        yield Formula(f"multiplied by {said}{percent}", 10.0**power)
        percent = " (shares instead of percent, or from cents)" if power == 2 else ""
        yield Formula(f"divided by {said}{percent}", 10.0**-power)
    yield Formula("with the sign changed", -1.0)
    for factor, said in ((60.0, "60"), (3600.0, "3,600")):
        yield Formula(f"multiplied by {said}", factor)
        yield Formula(f"divided by {said}", 1 / factor)
    yield Formula("in degrees Fahrenheit instead of Celsius", 1.8, 32.0)
    yield Formula("in degrees Celsius instead of Fahrenheit", 1 / 1.8, -32 / 1.8)
    yield Formula("in kelvins instead of degrees Celsius", 1.0, 273.15)
    yield Formula("in degrees Celsius instead of kelvins", 1.0, -273.15)
    for one, other, factor in (
        ("miles", "kilometres", 1.609344), ("kilograms", "pounds", 2.20462262), ("inches", "centimetres", 2.54),
    ):  # fmt: skip
        yield Formula(f"in {other} instead of {one}", factor)
        yield Formula(f"in {one} instead of {other}", 1 / factor)


FORMULAS = tuple(_formulas())
"""Every formula that is tried, simplest first."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A histogram whose bins cover `[lower, upper)`, or the single value of both, ascending.

    Attributes:
        lower, upper, counts: shape (bins,).
        inner: whether a bin's lower end is not in it, as between two single values; shape (bins,).
        low, high: the least and the greatest value, where known.
    """

    lower: Floats
    upper: Floats
    counts: Floats
    inner: NDArray[np.bool_]
    low: float | None = None
    high: float | None = None


def unit_change(current: Shape, baseline: Shape, plain: Estimate, alpha: float) -> tuple[Estimate, Formula | None]:
    """How much of the distance between two shapes a change of unit takes away, and which one.

    Args:
        plain: the Kolmogorov-Smirnov distance as it stands, with error `alpha / 2`.

    A formula fits if undoing it leaves a distance that chance could bring. The value is the distance less what the
    best fitting formula leaves of it, or 0 if none fits. Both distances have a Kolmogorov band, the second with its
    part of `alpha / 2` for each formula (Bonferroni 1936); the lower end is the least of the first less the most of
    the second. A bin far outside the baseline's range is wide: there the distance is known at the bins' ends alone.
    """
    n, m = plain.n, plain.n_baseline or 0
    if plain.value is None or plain.low is None or plain.high is None:
        return Estimate.absent(n, m), None
    critical = CRITICAL * (1 / n + 1 / m) ** 0.5
    fitting = max(FITS, critical)
    most = Estimate(0.0, 0.0, plain.high, n, m)
    if plain.value <= fitting:
        return most, None
    left = [undone(formula, current, baseline) for formula in FORMULAS]
    best = min(left)
    if best > fitting or best >= plain.value:
        return most, None
    at = next(i for i, distance in enumerate(left) if distance <= best + NO_WORSE * critical)
    band = ks_estimate(np.array([n, 0.0]), np.array([m, 0.0]), alpha / (2 * len(FORMULAS))).high or 0.0
    value = max(plain.value - left[at], 0.0)
    low = max(plain.low - left[at] - band, 0.0)
    return Estimate(value, min(low, value), max(plain.high, value), n, m), FORMULAS[at]


def undone(formula: Formula, current: Shape, baseline: Shape) -> float:
    """The Kolmogorov-Smirnov distance that is left between the shapes once the formula is undone, at the ends of the
    current bins: never more than that of all values."""
    lower, upper = current.lower.copy(), current.upper.copy()
    closed = upper == lower
    if current.high is not None and current.high < upper[-1]:
        upper[-1], closed[-1] = max(current.high, lower[-1]), True
    if current.low is not None and current.low > lower[0]:
        lower[0] = min(current.low, upper[0])
    with np.errstate(over="ignore"):
        lower, upper = (lower - formula.offset) / formula.factor, (upper - formula.offset) / formula.factor
    share = current.counts / current.counts.sum()
    before, after = _distribution(baseline)
    if formula.factor > 0:
        through = np.cumsum(share)
        at_upper = np.where(closed, after(upper), before(upper))
        at_lower = np.where(current.inner, after(lower), before(lower))
        gaps = (through - at_upper, through - share - at_lower)
    else:  # a bin (l, u] now: its left end belongs to it where the old right end did
        through = np.cumsum(share[::-1])[::-1]
        at_upper = np.where(closed, before(upper), after(upper))
        at_lower = np.where(current.inner, before(lower), after(lower))
        gaps = (through - at_lower, through - share - at_upper)
    return float(max(np.abs(gap).max() for gap in gaps))


def _distribution(shape: Shape) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    """The distribution function just before and just after given places."""
    ends = np.cumsum(shape.counts) / shape.counts.sum()
    x = np.column_stack([shape.lower, shape.upper]).ravel()
    y = np.column_stack([np.concatenate([[0.0], ends[:-1]]), ends]).ravel()
    tolerance = 1e-9 * max(float(np.abs(x).max()), 1e-300)

    def at(places: Floats, side: Literal["left", "right"]) -> Floats:
        i = np.searchsorted(x, places, side=side)
        j = np.clip(i, 1, len(x) - 1)
        width = x[j] - x[j - 1]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            part = np.where(width > 0, (places - x[j - 1]) / width, 0.0)
        inner = y[j - 1] + np.clip(part, 0, 1) * (y[j] - y[j - 1])
        out: Floats = np.where(i == 0, 0.0, np.where(i == len(x), 1.0, inner))
        return out

    return (lambda places: at(places - tolerance, "left")), (lambda places: at(places + tolerance, "right"))
