"""A column in a few figures, read from its counts: extremes, quantiles, mean, deviation, missing values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from watchkeeper.profiles import Profile, common
from watchkeeper.stats.grid import Floats, Grid, Ints

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""The quantiles that are told of a column."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """One side of a numeric column. All but `missing` are of its regular values, and None where there are none.

    Attributes:
        missing: the share of all rows without a value; None without rows.
        quantiles: at `LEVELS`.
    """

    missing: float | None
    low: float | None
    quantiles: tuple[float, ...] | None
    high: float | None
    mean: float | None
    deviation: float | None

    @property
    def spread(self) -> float:
        """How far apart the values lie: what decides with how many digits they are told."""
        if self.quantiles is None or self.low is None or self.high is None:
            return 0.0
        return (self.quantiles[-1] - self.quantiles[0]) or (self.high - self.low)


def numbers(profile: Profile, grid: Grid) -> Numbers:
    """The figures of a numeric profile; the values of a bin are taken as evenly spread over it."""
    lower, upper, counts = spans(profile, grid)
    if not len(counts):
        return Numbers(missing_share(profile), None, None, None, None, None)
    reach = float(np.abs([lower, upper]).max()) or 1.0  # squares of very large values would overflow
    low, high, weight = lower / reach, upper / reach, counts / counts.sum()
    mean = float(((low + high) / 2 * weight).sum())
    variance = float(((((low + high) / 2 - mean) ** 2 + (high - low) ** 2 / 12) * weight).sum())
    return Numbers(
        missing=missing_share(profile),
        low=float(lower[0]) if profile.low is None else profile.low,
        quantiles=tuple(_quantiles(lower, upper, counts, LEVELS).tolist()),
        high=float(upper[-1]) if profile.high is None else profile.high,
        mean=mean * reach,
        deviation=variance**0.5 * reach,
    )


def quantiles(profile: Profile, grid: Grid, levels: Sequence[float]) -> Floats:
    """The values below which these shares of the regular ones lie, shape (levels,); NaN without any.

    The inverse of the distribution function, linear within a bin.
    """
    return _quantiles(*spans(profile, grid), levels)


def _quantiles(lower: Floats, upper: Floats, counts: Ints, levels: Sequence[float]) -> Floats:
    if not len(counts):
        return np.full(len(levels), np.nan)
    cumulative = np.cumsum(counts)
    wanted = np.asarray(levels) * cumulative[-1]
    at = np.minimum(np.searchsorted(cumulative, wanted), len(counts) - 1)
    part = np.clip((wanted - (cumulative[at] - counts[at])) / counts[at], 0.0, 1.0)
    return np.asarray(lower[at] + part * (upper[at] - lower[at]), dtype=np.float64)


def missing_share(profile: Profile) -> float | None:
    """The share of the rows that are null or not a number; None without rows."""
    return profile.missing / profile.n if profile.n else None


def spans(profile: Profile, grid: Grid) -> tuple[Floats, Floats, Ints]:
    """The ends and counts of a profile's bins; no bin reaches beyond the least or the greatest value."""
    bins, counts = profile.regular
    lower, upper = (ends.copy() for ends in grid.edges(bins))
    if len(bins) and profile.low is not None:
        lower[0] = min(max(lower[0], profile.low), upper[0])
    if len(bins) and profile.high is not None:
        upper[-1] = max(min(upper[-1], profile.high), lower[-1])
    return lower, upper, counts


def middles(profile: Profile, grid: Grid) -> tuple[Floats, Floats]:
    """The middle of each bin of a profile, as `spans` ends it, and its counts."""
    lower, upper, counts = spans(profile, grid)
    return lower / 2 + upper / 2, counts.astype(float)


def shares(profiles: Sequence[Profile | None]) -> list[dict[str, float]]:
    """The share of the present values that each category has, where it has any; the values that not all of the
    profiles count one by one are `OTHER_VALUES`."""
    values, counts = common([profile for profile in profiles if profile is not None])
    sides = iter(counts)
    found = []
    for profile in profiles:
        own = next(sides) if profile is not None else np.zeros(len(values))
        found.append({v: c / own.sum() for v, c in zip(values, own.tolist(), strict=True) if c})
    return found
