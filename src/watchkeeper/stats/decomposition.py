"""What a change of performance is made of: other inputs, or another relation between inputs and outcomes.

Rows fall into cells: bins of the score, or the values of a feature. A mean loss is the sum over the cells of their
share times their mean loss, so it changes for two reasons. Shares change where the inputs do ("the world moved"); the
loss within a cell changes where what follows from the inputs does ("the rules moved"). The split is Kitagawa's (1955,
"Components of a difference between two rates"), the mean of the two orders in which one may change the one and then
the other, and so each part's Shapley value:

    input    = sum of (share_cur - share_ref) (loss_cur + loss_ref) / 2
    relation = sum of (loss_cur - loss_ref) (share_cur + share_ref) / 2

It sees what the cells tell apart. Rows that differ within a cell count as alike, so a shift of the inputs within cells
counts as relation, and a relation that changed for some of a cell's rows is seen by its mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from watchkeeper.stats.estimates import Estimate
from watchkeeper.stats.grid import Floats

FEW = 2
"""Rows that a cell's own variance of losses is mixed with, of that over all cells: few rows hardly know theirs."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Per cell: rows, the sum of their losses, and the sum of the squares; each of shape (cells,)."""

    rows: Floats
    total: Floats
    squares: Floats

    @classmethod
    def of_rows(cls, cells: np.ndarray[tuple[int], np.dtype[np.int64]], losses: Floats, count: int) -> Losses:
        """From each row's cell, 0 to `count` - 1, and loss."""
        sums = (np.bincount(cells, weights, count).astype(float) for weights in (losses**0, losses, losses**2))
        return cls(*sums)

    @property
    def n(self) -> int:
        return int(self.rows.sum())

    @property
    def variance(self) -> Floats:
        """Of a loss within each cell."""
        within = self.squares - self.total**2 / np.maximum(self.rows, 1)
        pooled = max(float(within.sum()), 0.0) / max(self.n - int(np.count_nonzero(self.rows)), 1)
        return np.asarray((np.maximum(within, 0) + FEW * pooled) / (np.maximum(self.rows - 1, 0) + FEW), dtype=float)


@dataclass(frozen=True, slots=True)
class Split:
    """The change of a mean loss, current minus reference, and its two parts, which add up to it."""

    change: Estimate
    inputs: Estimate
    relation: Estimate


def split(reference: Losses, current: Losses, alpha: float) -> Split:
    """Split the change of a mean loss over the same cells.

    Intervals are normal, by the delta method: shares are multinomial, and the cells' mean losses independent given
    their rows. They ask for some tens of rows in most cells. A cell that one side has no rows in has the other side's
    loss there, for nothing is known of how it changed: what it adds to the change counts as input.

    Args:
        alpha: error on each side.

    Three absent estimates where a side holds no rows.

    >>> before = Losses(np.array([500.0, 500.0]), np.array([50.0, 100.0]), np.array([50.0, 100.0]))
    >>> after = Losses(np.array([250.0, 750.0]), np.array([25.0, 300.0]), np.array([25.0, 300.0]))
    >>> found = split(before, after, 0.025)
    >>> round(found.change.value, 4), round(found.inputs.value, 4), round(found.relation.value, 4)
    (0.175, 0.05, 0.125)
    """
    sides = (reference, current)
    if not reference.n or not current.n:
        nothing = Estimate.absent(current.n, reference.n)
        return Split(nothing, nothing, nothing)
    share = [side.rows / side.n for side in sides]
    own = [side.total / np.maximum(side.rows, 1) for side in sides]
    loss = [np.where(side.rows > 0, own[i], own[1 - i]) for i, side in enumerate(sides)]
    spread = [np.where(side.rows > 0, side.variance / np.maximum(side.rows, 1), 0.0) for side in sides]
    both, moved = (share[0] + share[1]) / 2, share[1] - share[0]
    mean, risen = (loss[0] + loss[1]) / 2, loss[1] - loss[0]
    one_sided = (reference.rows == 0) != (current.rows == 0)
    of_loss = [np.where(one_sided, 0.0, both), np.where(one_sided, moved, moved / 2)]

    def estimate(value: float, variance: float) -> Estimate:
        half = -float(ndtri(alpha)) * variance**0.5
        return Estimate(value, value - half, value + half, current.n, reference.n)

    def of_shares(worth: Floats) -> list[float]:
        return [_multinomial(p, worth) / side.n for p, side in zip(share, sides, strict=True)]

    relation = sum(float((of_loss[0] ** 2 * v).sum()) for v in spread) + sum(of_shares(risen / 2))
    inputs = sum(float((of_loss[1] ** 2 * v).sum()) for v in spread) + sum(of_shares(mean))
    total = sum(
        float((p**2 * v).sum()) + _multinomial(p, worth) / side.n
        for p, v, worth, side in zip(share, spread, loss, sides, strict=True)
    )
    before, after = (float(side.total.sum()) / side.n for side in sides)
    return Split(
        estimate(after - before, total),
        estimate(float((moved * mean).sum()), inputs),
        estimate(float((risen * both).sum()), relation),
    )


def _multinomial(share: Floats, worth: Floats) -> float:
    """The variance of the worth of one row's cell."""
    return max(float((share * worth**2).sum() - (share * worth).sum() ** 2), 0.0)
