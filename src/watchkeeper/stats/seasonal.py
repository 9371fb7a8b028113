"""What a series lets expect of its next value: its trend and its season are taken off, and what is left is compared.

The values at the same place of each of the last periods are known, such as the same hour of the last weeks. A line
through them is carried on to the present: its slope is the repeated median of Siegel (1982), of each value's median
slope to the others, its height the median of what is left. One of four values may be anything without carrying the line
away, so an incident last week does not become what is expected today.

With values of a year before, the line is drawn through the changes since then instead, so that what comes back each
year (a holiday season) is expected too.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats

CYCLES = 4
"""Periods that the line is drawn through."""
FEWEST, ERRORS = 3, 14
"""Known values that a line needs, and past errors that the size of errors needs."""
_NORMAL = 1.482602218505602
"""The standard deviation of a normal variable over the median of its size."""
_EFFICIENCY = 0.3674
"""How much of a sample the median of sizes makes use of, of a normal one (Rousseeuw and Croux 1993)."""


def expected(values: Floats, period: int) -> Floats:
    """What each value is expected to be from those at the same place in the `CYCLES` periods before it.

    Args:
        values: shape (n,), oldest first, at equal distances; NaN where not known.
        period: values in a period.

    Returns shape (n,); NaN where fewer than `FEWEST` of the earlier values are known.

    A line with any season on it is expected exactly:

    >>> days = np.arange(42.0)
    >>> expected(2 * days + 30 * (days % 7 == 6), 7)[-1], 2 * 41.0 + 30
    (np.float64(112.0), 112.0)
    """
    before = np.full((len(values), CYCLES), np.nan)
    for i in range(1, CYCLES + 1):
        before[i * period :, i - 1] = values[: max(len(values) - i * period, 0)]
    enough = np.isfinite(before).sum(axis=1) >= FEWEST
    out = np.full(len(values), np.nan)
    if enough.any():
        known = before[enough]
        steps = np.arange(CYCLES)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = (known[:, :, None] - known[:, None, :]) / (steps[None, :] - steps[:, None])
        slope = _median(_median(slopes))
        out[enough] = _median(known + slope[:, None] * (steps + 1))
    return out


def _median(values: Floats) -> Floats:
    """The median along the last axis of what is known; NaN where nothing is."""
    ranked = np.sort(np.where(np.isfinite(values), values, np.nan), axis=-1)
    known = np.isfinite(ranked).sum(axis=-1, keepdims=True)
    middle = [np.take_along_axis(ranked, np.maximum(at, 0), -1) for at in ((known - 1) // 2, known // 2)]
    out: Floats = ((middle[0] + middle[1]) / 2)[..., 0]
    return out


def change(values: Floats, period: int, alpha: float, *, ratio: bool, year: Floats | None = None) -> Estimate:
    """How far the last value lies from what was to be expected, as a difference or as a ratio.

    Args:
        values: as in `expected`.
        alpha: error on each side.
        ratio: whether trend, season and errors multiply: logarithms are taken, and what is not above 0 is not known.
        year: the values a year before these, shape (n,), where they are known.

    The interval comes of the errors that the same expectation made of the values before: their size by the median,
    which former incidents do not enlarge, and Student's t for how little that is known. So it holds what the series
    does by itself, which no count of rows knows. It takes the errors of all places in a period for alike; in
    simulations of eight weeks of days it kept `alpha`, also where each error had a correlation of 0.5 with the one
    before. Absent with fewer than `ERRORS` past errors. `n` counts these.

    >>> days = np.arange(60.0)
    >>> noise = np.random.default_rng(1).normal(0, 1, 60)
    >>> e = change(100 + days + 20 * (days % 7 == 6) + noise - 30 * (days == 59), 7, 0.025, ratio=False)
    >>> round(e.low, 1), round(e.value, 1), round(e.high, 1)
    (-35.4, -31.6, -27.8)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        series, earlier = (
            None if one is None else np.where(one > 0, np.log(one), np.nan) if ratio else np.asarray(one, dtype=float)
            for one in (values, year)
        )
    assert series is not None
    if earlier is not None:
        series = series - earlier
    wanted = expected(series, period)
    errors = series - wanted
    past = errors[:-1][np.isfinite(errors[:-1])]
    if not len(errors) or not np.isfinite(errors[-1]) or len(past) < ERRORS:
        return Estimate.absent(len(past))
    half = -float(stdtrit(_EFFICIENCY * len(past), alpha)) * _NORMAL * float(np.median(np.abs(past)))
    value, low, high = (float(errors[-1] + side * half) for side in (0, -1, 1))
    ends = (np.exp([value, low, high]) if ratio else np.array([value, low, high])).tolist()
    if not np.isfinite(ends).all():
        return Estimate.absent(len(past))
    current = float(values[-1])
    detail = {"current": current, "expected": current / ends[0] if ratio else current - ends[0]}
    return Estimate(ends[0], ends[1], ends[2], len(past), detail=detail)
