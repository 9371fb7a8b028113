"""Intervals that stay valid however often one looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from watchkeeper.stats.grid import Floats


@dataclass(frozen=True, slots=True)
class Arm:
    """The losses of one arm so far: how many, their mean and variance."""

    n: int
    mean: float
    variance: float


def mixture_factor(n: float, alpha: float, tuned_for: float) -> float:
    """What replaces the normal quantile 1.96 when looks are not counted.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024, theorem 2.2),
    a normal mixture (Robbins 1970): `sqrt(2 (n r + 1) / (n r) * ln(sqrt(n r + 1) / alpha))`, where `r` makes it
    tightest at `tuned_for` rows: `r = (-2 ln alpha + ln(-2 ln alpha + 1)) / tuned_for`.

    Args:
        n: rows so far, above 0.
        alpha: the chance of ever missing the truth, both sides together.
        tuned_for: the number of rows at which the interval should be tightest.

    >>> round(mixture_factor(1000, 0.05, 1000), 3)
    3.035
    """
    r = (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / tuned_for
    return float(np.sqrt(2 * (n * r + 1) / (n * r) * np.log(np.sqrt(n * r + 1) / alpha)))


def stratified_difference(
    strata: Sequence[tuple[Arm, Arm]], alpha: float, tuned_for: float = 500.0
) -> tuple[float | None, float | None, float | None]:
    """First mean minus second, compared stratum by stratum (day by day), with a confidence sequence.

    Strata are weighted by `n m / (n + m)`, which is best for a difference that is the same in all of them; what
    differs between strata cancels, also when the arms' shares change. Variances are pooled over the strata of each
    arm, and neither is taken below that of both arms together: a small arm that has not met a rare large loss yet
    does not know its own. Returns `(value, low, high)`; three None while no stratum holds both arms, and no interval
    while an arm's losses have not varied within a stratum.

    With probability at least `1 - alpha`, the true difference lies within every interval of the whole sequence, so
    stopping at any look is fair. The sequence is asymptotic: it asks for some tens of rows in each arm.

    Args:
        strata: the two arms' losses, one pair a stratum.
        alpha: the chance of ever missing the truth, both sides together.
        tuned_for: the effective number of rows at which the interval should be tightest.
    """
    pairs = [(a, b) for a, b in strata if a.n and b.n]
    if not pairs:
        return None, None, None
    weights = [a.n * b.n / (a.n + b.n) for a, b in pairs]
    size = sum(weights)
    value = sum(w * (a.mean - b.mean) for w, (a, b) in zip(weights, pairs, strict=True)) / size
    arms = list(zip(*pairs, strict=True))
    spreads = [(sum(arm.n * arm.variance for arm in side), sum(arm.n - 1 for arm in side)) for side in arms]
    if not all(freedom for _, freedom in spreads):
        return value, None, None
    first, second = _variances(*spreads)
    if not first:
        return value, None, None
    variance = sum(w * w * (first / a.n + second / b.n) for w, (a, b) in zip(weights, pairs, strict=True)) / size**2
    half = variance**0.5 * mixture_factor(size, alpha, tuned_for)
    return value, value - half, value + half


def _variances(first: tuple[float, int], second: tuple[float, int]) -> tuple[float, float]:
    """Both variances from the sums of squares and the degrees of freedom, neither below the pooled one."""
    pooled = (first[0] + second[0]) / (first[1] + second[1])
    return max(first[0] / first[1], pooled), max(second[0] / second[1], pooled)


def change_start(grains: Sequence[Floats], before: Floats, after: Floats) -> int:
    """In which grain a change from one distribution to another most likely began.

    The maximum-likelihood change time when both distributions are known (Page 1954): the grain from which on the
    sum of `count * ln(after / before)` is largest. A cell that is empty in a distribution counts as half a row.

    Args:
        grains: counts per cell, one array of shape (cells,) for each grain, oldest first; at least one.
        before, after: counts of the two distributions over the same cells.

    Returns the index of the first changed grain.

    >>> old, new = np.array([90.0, 10.0]), np.array([50.0, 50.0])
    >>> change_start([old, old, new, new], before=old, after=new)
    2
    """
    p, q = (np.where(side > 0, side, 0.5) for side in (after, before))
    gain = np.log((p / p.sum()) / (q / q.sum()))
    from_here = np.cumsum([float((counts * gain).sum()) for counts in reversed(grains)])[::-1]
    return int(np.argmax(from_here))
