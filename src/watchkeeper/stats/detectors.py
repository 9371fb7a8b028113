"""Has the risk risen above what is known of the reference? Detectors for a stream of losses, and since when.

The null is that the mean loss, given all that went before, is at most `risk`: an upper bound of the reference's risk.
A bet on the alternative `q > risk` multiplies its stake at each row by `1 + (q - risk) (loss - risk) / (risk (1 -
risk))`, at most 1 on average under the null. It is the likelihood ratio of `q` to `risk` where losses are 0 or 1, and
valid for any losses in [0, 1]. The e-detector (Shin, Ramdas and Rinaldo 2024, "E-detectors: a nonparametric framework
for sequential change detection", their e-SR) is the mean over the bets of `M_t = (M_{t-1} + 1) L_t`; raising the alarm
when it reaches `run_length` makes false alarms at least so many steps apart on average, whatever the dependence.

It speaks of the risk only. That a risk stays level while errors move from some rows to others is not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from watchkeeper.stats.grid import Floats, Ints

ODDS = 2.0 ** np.array([0.125, 0.25, 0.5, 1.0, 2.0, 4.0])
"""The bets' alternatives, as multiples of the odds of a loss."""
Gains = Callable[[int, int], Floats]
"""The gains of the steps from one to before another."""
BLOCK = 64, 4096
"""Steps taken at once, at the least and at the most: after an alarm the rest of its block is looked at again."""
FINER = 2.0 ** np.arange(0.125, 6.0, 0.125)
"""The alternatives among which the change date's likelihood is greatest, as multiples of the odds."""
SLACK = 3.5
"""What is added to the likelihood drop of a change date's interval, since the risk after the change is estimated and
the rows end with the alarm: found by simulation, see `tests/stats/test_detectors.py`."""


def alternatives(risk: Floats | float, odds: Floats = ODDS) -> Floats:
    """The risks that are bet on, shape (bets, *risk's)."""
    known = np.asarray(risk, dtype=float)
    return np.asarray(expit(logit(known) + np.log(odds).reshape(-1, *(1,) * known.ndim)), dtype=float)


def gains_of_rows(losses: Floats, risk: float) -> Floats:
    """The logarithm of what each bet's stake is multiplied by at each row, shape (bets, rows).

    Args:
        losses: in [0, 1], shape (rows,).
        risk: between 0 and 1, both excluded.
    """
    stakes = (alternatives(risk) - risk) / (risk * (1 - risk))
    return np.log1p(np.multiply.outer(stakes, losses - risk))


def gains_of_grains(rows: Floats, lost: Floats, risk: Floats | float, odds: Floats = ODDS) -> Floats:
    """The same for grains of rows whose order is not known, shape (bets, grains).

    A grain multiplies the stake by the product over its rows, which their order does not change, so it is at most 1 on
    average as well. Each row's factor is taken as the geometric mean of those of a full loss and of none, weighted by
    its loss: the factor itself for losses of 0 or 1, less for those between, since the logarithm is concave. Hence
    sums are enough. A risk that differs from row to row may be given by its mean over the grain: a product of factors
    `1 + stake * (risk of the row - mean risk)` is at most 1.

    Args:
        rows, lost: how many rows each grain holds and the sum of their losses, shape (grains,).
        risk: one for all, or one for each grain; between 0 and 1, both excluded.
    """
    bet = alternatives(risk, odds)
    won, missed = np.log(bet / risk), np.log((1 - bet) / (1 - np.asarray(risk)))
    if bet.ndim == 1:
        won, missed = won[:, None], missed[:, None]
    return np.asarray(lost * won + (rows - lost) * missed, dtype=float)


def wealth(gains: Floats, before: Floats) -> Floats:
    """The logarithm of each bet's `M_t` after each step, shape (bets, steps).

    Args:
        gains: shape (bets, steps).
        before: the logarithm of `M_0`, shape (bets,); minus infinity at the start.
    """
    level = np.cumsum(gains, axis=1)
    starts = np.concatenate([before[:, None], gains - level], axis=1)
    return np.asarray(level + np.logaddexp.accumulate(starts, axis=1)[:, 1:], dtype=float)


def log_mean(logs: Floats) -> Floats:
    """The logarithm of the mean over the first axis of what the logarithms are given of."""
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(len(logs)), dtype=float)


@dataclass(frozen=True, slots=True)
class Detector:
    """An e-detector where it stands: enough to go on from.

    Attributes:
        risk: the upper bound of the reference's risk, between 0 and 1, both excluded.
        run_length: the mean number of steps between false alarms, at least; a step is a row or a grain.
        cool_down: steps after an alarm that are passed over; then it starts anew. The time that a retrained model or
            the rest of a gradual change takes.
        rest: how many of those are still to come.
        logs: the logarithm of each bet's wealth.

    >>> calm, alarms = Detector(risk=0.1, run_length=1e4).follow(np.zeros(1000))
    >>> alarms.tolist()
    []
    >>> calm.follow(np.ones(10))[1].tolist()
    [5]
    """

    risk: float
    run_length: float
    cool_down: int = 0
    rest: int = 0
    logs: tuple[float, ...] = (-np.inf,) * len(ODDS)

    def __post_init__(self) -> None:
        if not 0 < self.risk < 1:
            raise ValueError(f"the reference's risk must lie between 0 and 1, and is {self.risk}; give an upper bound")
        if not self.run_length > 1:
            raise ValueError(f"a run length must be above 1, and is {self.run_length}")

    @property
    def log_e(self) -> float:
        """The logarithm of the e-detector."""
        return float(log_mean(np.array(self.logs)))

    def follow(self, losses: Floats) -> tuple[Detector, Ints]:
        """Take in rows one after the other; where it stands then, and the numbers of the rows it raised an alarm at.

        Args:
            losses: in [0, 1], oldest first, shape (rows,). ValueError for others.
        """
        if losses.size and not (losses.min() >= 0 and losses.max() <= 1):
            raise ValueError("losses must lie in [0, 1]; divide them by the largest that can be")
        return self._follow(lambda start, end: gains_of_rows(losses[start:end], self.risk), len(losses))

    def follow_grains(self, rows: Floats, lost: Floats) -> tuple[Detector, Ints]:
        """The same for grains; see `gains_of_grains`. Steps are grains."""
        gains = gains_of_grains(rows, lost, self.risk)
        return self._follow(lambda start, end: gains[:, start:end], len(rows))

    def _follow(self, gains: Gains, steps: int) -> tuple[Detector, Ints]:
        limit, logs, alarms = np.log(self.run_length), np.array(self.logs), []
        at, rest, block = 0, self.rest, BLOCK[0]
        while at < steps:
            skipped = min(rest, steps - at)
            at, rest = at + skipped, rest - skipped
            end = min(at + block, steps)
            path = wealth(gains(at, end), logs)
            raised = np.flatnonzero(log_mean(path) >= limit)
            if len(raised):
                at += int(raised[0])
                alarms.append(at)
                at, rest, logs = at + 1, self.cool_down, np.full(len(logs), -np.inf)
                block = BLOCK[0]
            elif end > at:
                at, logs, block = end, path[:, -1], min(2 * block, BLOCK[1])
        return replace(self, rest=rest, logs=tuple(map(float, logs))), np.array(alarms, dtype=np.int64)


def standing(gains: Floats, run_length: float) -> Floats:
    """The logarithm of the e-detector after the last step, where no bet's wealth may pass what raises the alarm.

    For a detector that is asked at every step and told of no alarm: the first time it reaches `run_length` is that of
    the plain one. Held there it falls again as soon as the risk does, instead of after as long as the risk was raised,
    and it is the lower, the higher the risk of the null, at all times.

    Args:
        gains: shape (bets, ..., steps).
        run_length: as for `Detector`.

    Returns shape (...).
    """
    most = np.log(run_length * len(gains))
    logs = np.full(gains.shape[:-1], -np.inf)
    for step in np.moveaxis(gains, -1, 0):
        logs = np.minimum(np.logaddexp(logs, 0.0) + step, most)
    return log_mean(logs)


def merged(alarms: Ints, window: float) -> Ints:
    """The alarms that open an episode: those with none in the `window` steps before them.

    >>> merged(np.array([5, 8, 12, 40]), 5).tolist()
    [5, 40]
    """
    return alarms[np.diff(alarms, prepend=-np.inf) > window]


def changed(rows: Floats, lost: Floats, risk: Floats | float, alpha: float) -> tuple[int, int, int]:
    """In which grain the risk rose: the most likely one, and the first and the last of the interval.

    The maximum of the likelihood over the change date and the odds after it, for a known risk before; the interval
    holds the dates whose logarithmic likelihood is not more than `-ln(1 - sqrt(1 - 2 alpha)) + SLACK` lower. The first
    part is that of known small changes (Siegmund 1988, "Confidence sets in change-point problems": the larger of two
    exponential variables). It is meant for after an alarm; where there was no change it means nothing.

    Args:
        rows, lost: as for `gains_of_grains`, from the detector's start to the alarm; for rows one by one, `rows` is 1.
        risk: the reference's most likely risk, not its upper bound.
        alpha: error on each side.

    >>> changed(np.full(6, 100.0), np.array([10.0, 9.0, 11.0, 30.0, 28.0, 31.0]), 0.1, 0.025)
    (3, 3, 3)
    """
    gains = gains_of_grains(rows, lost, risk, FINER)
    since = np.cumsum(gains[:, ::-1], axis=1)[:, ::-1].max(axis=0)
    likely = np.flatnonzero(since >= since.max() + np.log1p(-((1 - 2 * alpha) ** 0.5)) - SLACK)
    return int(np.argmax(since)), int(likely[0]), int(likely[-1])
