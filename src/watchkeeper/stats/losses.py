"""How large a regression's mean loss will be, from what is expected of each row, and the band that it will lie in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from watchkeeper.stats.errors import LARGEST, Binned
from watchkeeper.stats.estimates import Estimate


def moments(errors: Binned, power: int) -> tuple[float, float]:
    """The mean and the variance of the absolute errors to a power, each bin's rows at its middle.

    >>> moments(Binned(*(np.array([-2.0, 1.0]),) * 2, np.array([1.0, 1.0])), 1)
    (1.5, 0.25)
    """
    losses = np.abs(np.clip((errors.lower + errors.upper) / 2, -LARGEST, LARGEST)) ** power
    share = errors.counts / errors.counts.sum()
    mean = float((losses * share).sum())
    return mean, float(((losses - mean) ** 2 * share).sum())


def expected(
    guesses: Sequence[float], rows: float, reference: Binned, power: int, alpha: float
) -> Estimate:  # fmt: skip
    """What a mean absolute error (`power` 1) or a root mean squared one (2) will be.

    Args:
        guesses: the mean loss by each of several ways; the estimate is their mean.
        rows: of which the loss was guessed.
        reference: the errors of the reference's rows.
        alpha: error on each side.

    The band is one for the realised value. It allows for the errors to come, whose losses vary about their mean as the
    reference's do, in proportion to the mean; for those of the reference; and for half of what the ways differ by. What
    the guesses explain of the reference's variance is not taken off, so it is rather too wide. `detail` has the
    `spread` of several ways.

    >>> found = expected([1.0], 100, Binned(*(np.array([0.5, 1.5]),) * 2, np.array([50.0, 50.0])), 1, 0.025)
    >>> round(found.low, 3), found.value, round(found.high, 3)
    (0.861, 1.0, 1.139)
    """
    before, variance = moments(reference, power)
    mean = max(float(np.mean(guesses)), 0.0)
    scale = mean / before if before else 1.0
    spread = float(np.ptp(guesses))
    noise = variance * (max(scale, 1.0) ** 2 / reference.n + scale**2 / rows)
    reach = (ndtri(alpha) ** 2 * (noise + spread**2 / 4)) ** 0.5
    low, value, high = (float(end ** (1 / power)) for end in (max(mean - reach, 0.0), mean, mean + reach))
    return Estimate(value, low, high, round(rows), reference.n, {"spread": spread} if len(guesses) > 1 else {})
