"""Intervals that stay valid however often one looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def difference_of_means(first: Arm, second: Arm, alpha: float, tuned_for: float = 500.0) -> tuple[float, float, float]:
    """First mean minus second, with a confidence sequence: `(value, low, high)`.

    With probability at least `1 - alpha`, the true difference lies within every interval of the whole sequence,
    so stopping at any look is fair. The sequence is asymptotic: it asks for some tens of rows in each arm.
    Arms without rows give an unbounded interval.
    """
    value = first.mean - second.mean
    if first.n < 2 or second.n < 2:
        return value, -np.inf, np.inf
    error = (first.variance / first.n + second.variance / second.n) ** 0.5
    rows = first.n * second.n / (first.n + second.n)
    half = error * mixture_factor(rows, alpha, tuned_for)
    return value, value - half, value + half
