"""How often intervals miss the truth, held to what they promise."""

from __future__ import annotations

import zlib

import numpy as np
from scipy import stats

from watchkeeper.stats.estimates import Estimate


def seeded(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def hold(name: str, misses: int, reps: int, alpha: float) -> None:
    """A right interval exceeds this bound less than once in ten thousand runs of one case."""
    most = stats.binom.ppf(0.9999, reps, alpha)
    assert misses <= most, f"{name} missed {misses} of {reps} times at alpha {alpha}; at most {most:.0f} are fair"


def missed(estimate: Estimate, truth: float) -> tuple[bool, bool]:
    """Whether the low end is above the truth, and whether the high end is below."""
    low, high = estimate.low, estimate.high
    return low is not None and low > truth + 1e-9, high is not None and high < truth - 1e-9
